"""A folder that runs arrive in: what has become whole there, what has not, what came twice, what is gone; looked at, never written.

A file is looked at when neither its size nor its times have changed for a moment, and taken when it is whole by the lengths in it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from DeepIterRegLib.cases.folder_watch import Stamp, Watch, files_in, stamp_of
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.images.dicom.arrivals import Arrival, Reason, Refusal, look_at

_AT_ONCE = (Reason.NOT_RUN,)  # what no more bytes could change
_RARER = 2.0  # a file that does not become whole is looked at again after so many times as long as it has rested
_PIECE = 1 << 20


@dataclass(frozen=True)
class Arrived:
    """A run that was not there before, whole."""

    arrival: Arrival


@dataclass(frozen=True)
class Again:
    """A run that arrived before, in another file, or in the same with other content.

    Attributes
    ----------
    arrival
        Of the file that came now.
    first
        Where the run lies already; the same path where its content has changed.
    identical
        Whether both are the same bytes.
    """

    arrival: Arrival
    first: Path
    identical: bool


@dataclass(frozen=True)
class Moved:
    """A run that arrived before is at another path now, or back at its own; `before` is where it was last."""

    arrival: Arrival
    before: Path


@dataclass(frozen=True)
class Refused:
    """A file that is no run, or that has stayed cut or unreadable for long.

    It is told once a file, and taken if it becomes whole.
    """

    refusal: Refusal


@dataclass(frozen=True)
class Gone:
    """No file holds the run any more; `path` was the last."""

    path: Path
    run_id: str


@dataclass(frozen=True)
class Reach:
    """Whether the folder itself can be looked into: told when that changes. While it cannot, nothing counts as gone."""

    reached: bool


Event = Arrived | Again | Moved | Refused | Gone | Reach


@dataclass(frozen=True)
class IncomingSettings:
    """When a file is looked at.

    Attributes
    ----------
    settle_s
        A file is looked at when it has not changed for so long: copies write more often than that.
    patience_s
        A file that is cut or unreadable is told when it has not changed for so long: networks pause for less.
    poll_s
        How often the folder is looked through.
    """

    settle_s: float = 1.0
    patience_s: float = 20.0
    poll_s: float = 1.0


@dataclass
class _File:
    """What is known of a file.

    Attributes
    ----------
    stamp
    since
        When it was first seen like this, s of the clock.
    due
        When it is to be looked at; infinity where all is known.
    told
        Whether it was told as refused.
    run_id
        Of the run that it was taken for; empty where it was not.
    absent_since
        When it was first not there; None while it is.
    """

    stamp: Stamp
    since: float
    due: float
    told: bool = False
    run_id: str = ""
    absent_since: float | None = None


@dataclass
class _Run:
    """Where a run lies: the path that was told last, and every file that holds it, with a hash of its bytes."""

    at: Path
    places: dict[Path, tuple[Arrival, str]] = field(default_factory=dict)


class Incoming:
    """The runs that arrive in a folder and the folders in it; links are not followed.

    Parameters
    ----------
    folder
    salt
        Of the session, as `look_at` takes it.
    settings
    known
        `run_id` of runs that are no news, as after an interruption.
    clock
        Seconds that rise.
    wait
        Waits for up to so many seconds; without it the system wakes too, where it tells of changes.

    Raises
    ------
    InputError
        The folder does not exist or is none.
    """

    def __init__(
        self,
        folder: Path,
        salt: str,
        settings: IncomingSettings = IncomingSettings(),
        known: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        if not folder.is_dir():
            found = "is not a folder" if exists(folder) else "does not exist"
            raise InputError(f"{name_of(folder)} {found}; give the folder that the runs arrive in.")
        self._folder, self._salt, self._settings = folder.resolve(), salt, settings
        self._known, self._clock = frozenset(known), clock
        self._watch = Watch(self._folder) if wait is None else None
        self._wait = wait or (self._watch.wait if self._watch else time.sleep)
        self._files: dict[Path, _File] = {}
        self._runs: dict[str, _Run] = {}
        self._shut: set[Path] = set()
        self._reached = True

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is left running."""
        if self._watch is not None:
            self._watch.close()

    def next(self, timeout_s: float) -> list[Event]:
        """What has happened since the last call; waits up to `timeout_s` for something, then none.

        Runs come first, in the order in which they were acquired, then files that are none, then what is gone.
        """
        end = self._clock() + timeout_s
        while True:
            events = self._look_through(self._clock())
            now = self._clock()
            if events or now >= end:
                return events
            due = min(self._dues(), default=math.inf)
            self._wait(min(end - now, self._settings.poll_s, max(0.0, due - now)))

    def _dues(self) -> Iterator[float]:
        """When files are to be looked at, or count as gone."""
        for file in self._files.values():
            yield file.due if file.absent_since is None else file.absent_since + self._settings.settle_s

    # -- one look through the folder -------------------------------------------------------------------

    def _look_through(self, now: float) -> list[Event]:
        shut: dict[Path, OSError] = {}
        found = dict(files_in(self._folder, shut))
        reached = self._folder not in shut
        events: list[Event] = [Reach(reached)] if reached != self._reached else []
        self._reached = reached
        if not reached:
            return events
        looked = [look_at(path, self._salt) for path in self._rested(found, now)]
        for run in sorted((one for one in looked if isinstance(one, Arrival)), key=lambda run: run.order):
            events += self._taken(run, found, now)
        for refusal in (one for one in looked if isinstance(one, Refusal)):
            events += self._refused(refusal, now)
        return [*events, *self._closed_folders(shut), *self._gone(found, shut, now)]

    def _rested(self, found: Mapping[Path, Stamp], now: float) -> list[Path]:
        """Files to be looked at now; those that are new or have changed are to rest first."""
        for path, stamp in found.items():
            file = self._files.get(path)
            if file is None:
                self._files[path] = _File(stamp, now, now + self._settings.settle_s)
            elif file.stamp != stamp:
                file.stamp = stamp
                self._let_rest(file, now)
            self._files[path].absent_since = None
        return [path for path in found if self._files[path].due <= now]

    def _let_rest(self, file: _File, now: float) -> None:
        file.since, file.due = now, now + self._settings.settle_s

    def _taken(self, run: Arrival, found: Mapping[Path, Stamp], now: float) -> list[Event]:
        """What it means that a file is a whole run."""
        file = self._files[run.path]
        try:
            digest = _digest(run.path)
            still = stamp_of(run.path) == file.stamp
        except OSError:
            still = False
        if not still:  # it changed while it was looked at
            self._let_rest(file, now)
            return []
        before, file.run_id = file.run_id, run.run_id
        file.due, file.told = math.inf, False
        other = self._left(before, run.path) if before not in ("", run.run_id) else []
        return [*other, *self._news(run, digest, found)]

    def _news(self, run: Arrival, digest: str, found: Mapping[Path, Stamp]) -> list[Event]:
        known = self._runs.get(run.run_id)
        if known is None:
            self._runs[run.run_id] = _Run(run.path, {run.path: (run, digest)})
            return [] if run.run_id in self._known else [Arrived(run)]
        held = known.places.get(run.path)
        others = [path for path in known.places if path != run.path and path in found]
        known.places[run.path] = (run, digest)
        if held is not None:
            return [] if held[1] == digest else [Again(run, run.path, False)]
        if others:
            first = known.at if known.at in others else others[0]
            return [Again(run, first, known.places[first][1] == digest)]
        before, known.at = known.at, run.path
        known.places = {run.path: (run, digest)}
        return [Moved(run, before)]

    def _refused(self, refusal: Refusal, now: float) -> list[Event]:
        """Told at once, or where it stays so; looked at again, as what hinders it may not show in its size and times."""
        file = self._files.get(refusal.path)
        if file is None:
            return []
        rested, patience = now - file.since, self._settings.patience_s
        final = refusal.reason in _AT_ONCE
        file.due = math.inf if final else now + (patience - rested if rested < patience else _RARER * rested)
        if file.told or not (final or rested >= patience):
            return []
        file.told = True
        before, file.run_id = file.run_id, ""
        return [*self._left(before, refusal.path), Refused(refusal)]

    def _closed_folders(self, shut: Mapping[Path, OSError]) -> list[Event]:
        closed = {folder for folder, error in shut.items() if not isinstance(error, FileNotFoundError)}
        new, self._shut = sorted(closed - self._shut), closed
        return [
            Refused(
                Refusal(
                    one, Reason.UNREADABLE, f"The folder {name_of(one)} cannot be looked into: {shut[one].strerror}."
                )
            )
            for one in new
        ]

    # -- what is gone ----------------------------------------------------------------------------------

    def _gone(self, found: Mapping[Path, Stamp], shut: Mapping[Path, OSError], now: float) -> list[Event]:
        """Files that have not been there for a moment; one that was renamed has its new name by then."""
        events: list[Event] = []
        for path in sorted(set(self._files) - set(found)):
            file = self._files[path]
            if any(folder in path.parents for folder in shut):
                continue
            if file.absent_since is None:
                file.absent_since = now
            if now - file.absent_since >= self._settings.settle_s:
                del self._files[path]
                events += self._left(file.run_id, path)
        return events

    def _left(self, run_id: str, path: Path) -> list[Event]:
        """A file holds a run no more: it is gone, or another file has it too."""
        run = self._runs.get(run_id)
        if run is None or run.places.pop(path, None) is None:
            return []
        if not run.places:
            return [Gone(path, run_id)]
        if run.at != path:
            return []
        run.at, (arrival, _) = next(iter(run.places.items()))
        return [Moved(arrival, path)]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
