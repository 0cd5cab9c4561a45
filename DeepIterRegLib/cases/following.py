"""A session under way: what is done, what the page shows, and what is told of each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from DeepIterRegLib.cases.case import Outcome, ReadCta
from DeepIterRegLib.cases.folder_watch import Stamp
from DeepIterRegLib.cases.session_folder import (
    SESSION,
    KeptRun,
    Session,
)
from DeepIterRegLib.cases.session_rows import counted_from
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Face, Message
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.user_input import is_file
from DeepIterRegLib.images.dicom.arrivals import Arrival
from DeepIterRegLib.registration.scene import Head
from DeepIterRegLib.registration.session import Together
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.results.session_page.page import (
    RunRow,
    SessionState,
    write_state,
)

_UNREACHED = "The folder that runs arrive in cannot be reached. It is looked for again."
WORDS_FACE = Face(lambda option: option.replace("_", " "))


@dataclass(frozen=True)
class Told:
    """What happened to a run, for whoever waits.

    Attributes
    ----------
    row
        On the page.
    seconds
        Since its last byte, where that is known.
    outcome
        For whoever shows it himself; None where it was not registered.
    together
        Where all runs together see the head in each of them now, by their names.
    """

    row: RunRow
    seconds: float | None = None
    outcome: Outcome | None = None
    together: Mapping[str, Together] = field(default_factory=dict)


@dataclass
class Following:
    """A session under way: what is done, and what the page shows."""

    folder: Path
    head: Head
    cta: ReadCta
    session: Session
    settings: RegistrationSettings
    kept: list[KeptRun]
    on_state: Callable[[SessionState], None]
    wants: Callable[[str], bool]
    rows: dict[str, RunRow] = field(default_factory=dict)
    others: list[RunRow] = field(default_factory=list)
    together: dict[str, Together] = field(default_factory=dict)
    arrivals: dict[str, Arrival] = field(default_factory=dict)  # by the names of the runs
    # What was handed over and could not be read at the last look.
    doubted: dict[Path, Stamp] = field(default_factory=dict)
    first: datetime | None = None
    status: str = ""
    reached: bool = True  # whether the folder that runs arrive in could be looked into

    def check(self) -> None:
        """A folder that was taken away is not made anew in parts: what is in it then would be no session.

        Raises
        ------
        InputError
        """
        if not is_file(self.folder / SESSION):
            found = f"{name_of(self.folder, 'out')} is no more there, or it cannot be reached"
            raise InputError(Message(found, at="out", advice="Once it is there again, the session goes on with it."))

    def wait(self) -> None:
        """Have the page show that runs are waited for, or why none comes."""
        self.show("Waiting for runs." if self.reached else _UNREACHED)

    def show(self, status: str = "", ended: bool = False) -> None:
        """Have the page show what is known now.

        Raises
        ------
        InputError
            The session's folder is gone, or it cannot be written.
        """
        self.check()
        self.status = status or self.status
        kept = sorted(self.kept, key=lambda one: one.order)
        first_s = next((one.since_first_s for one in kept if one.since_first_s is not None), 0.0)
        ordered = [counted_from(self.rows[one.name], first_s) for one in kept]
        going_on = [row for name, row in self.rows.items() if name not in {one.name for one in kept}]
        show_page(self.folder, self.on_state, SessionState(self.status, (*self.others, *ordered, *going_on), ended))


def show_page(folder: Path, on_state: Callable[[SessionState], None], state: SessionState) -> None:
    """Have the page of a session, and whoever else looks, show a state."""
    write_state(folder, state)
    on_state(state)


def aside(following: Following, row: RunRow) -> Told:
    """A row of something that is no run of the session."""
    following.others.append(row)
    return Told(row)


def kept_as(following: Following, run_id: str) -> KeptRun | None:
    """The run of that hash, if it was done before."""
    return next((kept for kept in following.kept if kept.run_id == run_id), None)
