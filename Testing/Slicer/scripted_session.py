"""A session that does what a test says, in place of the library's."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from DeepIterRegLib.cases.following import Told
from DeepIterRegLib.cases.session_folder import SESSION
from DeepIterRegLib.registration.session import Together
from DeepIterRegLib.results.session_page.page import RunRow, SessionState


class Script:
    """In place of `cases.follow.follow`: does what the test says, in the worker's thread, until it is asked to stop."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.rows: list[RunRow] = []
        self.jobs: list[Any] = []
        self.progress: Any = None
        self.wanted: list[bool] = []  # whether a first run would be told again, at each start
        self._asked: queue.SimpleQueue[Callable[..., None]] = queue.SimpleQueue()

    def follow(
        self, job: Any, out: Path, progress: Any, tell: Any, should_stop: Any, on_state: Any, wants: Any
    ) -> list[Any]:
        out.mkdir(parents=True, exist_ok=True)
        (out / SESSION).write_text("{}")
        self.jobs.append(job)
        self.progress = progress
        self.wanted.append(wants("01"))
        on_state(SessionState("The CTA is being made ready."))
        on_state(SessionState("Waiting for runs.", tuple(self.rows)))
        while not should_stop():
            try:
                self._asked.get(timeout=0.01)(tell, on_state)
            except queue.Empty:
                continue
        on_state(SessionState("The session has ended.", tuple(self.rows), True))
        return []

    def row(self, row: RunRow) -> None:
        """A line of the list that is no run to be shown."""

        def do(tell: Any, on_state: Any) -> None:
            self.rows.append(row)
            on_state(SessionState("Waiting for runs.", tuple(self.rows)))

        self._asked.put(do)

    def manyRows(self, row: RunRow, count: int) -> None:
        """Lines one after another, faster than the panel looks."""

        def do(tell: Any, on_state: Any) -> None:
            for _ in range(count):
                self.rows.append(row)
                on_state(SessionState("Waiting for runs.", tuple(self.rows)))

        self._asked.put(do)

    def arrives(self, title: str = "AP, LAO 1.0°, CRA 2.0°", state: str = "accepted", **places: Together) -> str:
        """A run comes and is registered; `places` are where all runs are seen then. Its name."""
        name = f"{1 + sum(bool(row.name) for row in self.rows):02d}"
        row = RunRow(name, title, state, ("99 % likely to be right.",), 75.0 * (int(name) - 1), 1, None, 1.25)
        registration = replace(self.outcome.registration, input_hashes={"cta": "c", "dsa": name})
        self.rows.append(row)

        def do(tell: Any, on_state: Any) -> None:
            on_state(SessionState("Waiting for runs.", tuple(self.rows)))
            tell(Told(row, 1.0, replace(self.outcome, registration=registration), places))

        self._asked.put(do)
        return name

    def again(self, name: str, registration: Any) -> None:
        """A run is registered anew."""
        row = next(row for row in self.rows if row.name == name)
        found = replace(registration, input_hashes={"cta": "c", "dsa": name})
        self._asked.put(lambda tell, on_state: tell(Told(row, None, replace(self.outcome, registration=found))))

    def progresses(self, step: Any, done: float) -> None:
        """A step of making the CTA ready, heard of late."""
        self._asked.put(lambda tell, on_state: self.progress(step, done))

    def fails(self, error: Exception) -> None:
        def do(tell: Any, on_state: Any) -> None:
            raise error

        self._asked.put(do)
