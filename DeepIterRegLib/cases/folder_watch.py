"""The files of a folder as they stand, without links, and a wait that ends early when the system says that something changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Files that are still being written, or that a program keeps for itself; they count from when they are renamed.
_PARTIAL = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".download", "~")
_HIDDEN = (".", "~")
_GATHERED_MS = 200  # changes within so long wake once
_LOOK_MS = 500  # how often the watching thread looks whether it is to end


@dataclass(frozen=True)
class Stamp:
    """What shows that a file has changed, without a look into it."""

    size: int
    modified_ns: int
    changed_ns: int


def stamp_of(path: Path) -> Stamp:
    """Of the file itself, not of what a link leads to.

    Raises
    ------
    OSError
    """
    found = path.lstat()
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def files_in(folder: Path, shut: dict[Path, OSError]) -> Iterator[tuple[Path, Stamp]]:
    """Every regular file in a folder and the folders in it, by name; links, hidden and partial names are passed over.

    Parameters
    ----------
    folder
    shut
        Gets the folders that cannot be looked into, and why.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        shut[folder] = error
        return
    for entry in entries:
        if entry.name.startswith(_HIDDEN) or entry.name.lower().endswith(_PARTIAL):
            continue
        path = folder / entry.name
        with suppress(OSError):  # it went while it was looked at
            if _is_folder(entry):
                yield from files_in(path, shut)
            elif entry.is_file(follow_symlinks=False):
                yield path, stamp_of(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder and no way out of this one: Windows has junctions beside links."""
    leads_away = entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction())
    return not leads_away and entry.is_dir(follow_symlinks=False)


class Watch:
    """Wakes who waits when something changes in a folder itself, where `watchfiles` is installed and the system tells of it.

    Folders in it, and network folders, tell nothing: who waits looks through them from time to time. `watchfiles` would follow
    links out of the folder if it was to watch what is below.
    """

    def __init__(self, folder: Path) -> None:
        self._changed, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        try:
            import watchfiles  # noqa: F401  without it, waiting is all
        except ImportError:
            return
        self._thread = threading.Thread(target=self._listen, args=(folder,), daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until something changes, or so long."""
        if self._thread is None:
            time.sleep(seconds)
        elif self._changed.wait(seconds):
            self._changed.clear()

    def close(self) -> None:
        """The thread has ended afterwards."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _listen(self, folder: Path) -> None:
        from watchfiles import watch

        with suppress(Exception):  # of the system: no more watches, a folder that went; waiting goes on without it
            for _ in watch(
                folder,
                watch_filter=None,
                debounce=_GATHERED_MS,
                step=_GATHERED_MS // 4,
                stop_event=self._stop,
                rust_timeout=_LOOK_MS,
                raise_interrupt=False,
                recursive=False,
            ):
                self._changed.set()
