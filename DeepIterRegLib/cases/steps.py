"""The steps of one case: one after the other, or beside the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from DeepIterRegLib.common.errors import Cancelled, InputError, notes_of
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.registration.steps import Step

T = TypeVar("T")


class Steps:
    """Steps of a job: announced, timed and cancellable. What is wrong with each is kept until `raise_problems` says it all."""

    def __init__(self, on_progress: Progress, should_stop: ShouldStop | None, said: list[str]) -> None:
        self._on_progress, self._should_stop, self._said = on_progress, should_stop, said
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._problems: list[str] = []

    @contextmanager
    def step(self, step: Step, number: int = 1, count: int = 1) -> Iterator[None]:
        """Do one, or one of several parts of one; its key names its seconds, with a number from the second part on."""
        self._stop_if_asked()
        self._on_progress(step, (number - 1) / count)
        before = time.perf_counter()
        with self._gathered():
            yield
        self._seconds[step.key if number == 1 else f"{step.key}_{number}"] = time.perf_counter() - before
        # Also told after a problem: the steps that follow are taken, and the bar must not stand.
        self._on_progress(step, number / count)

    def beside(self, beside: Beside, step: Step, work: Callable[[Callable[[float], None]], T]) -> Callable[[], T]:
        """The work of a job beside the others; it is given what it tells its progress to, and its own time is kept."""
        noted = self._on_progress.beside(step)

        def tell(done: float) -> None:
            beside.stop_if_ended()
            noted(done)

        def timed() -> T:
            before = time.perf_counter()
            result = work(tell)
            self._seconds[step.key] = time.perf_counter() - before
            return result

        return timed

    @contextmanager
    def waiting(self, step: Step) -> Iterator[Callable[[], None]]:
        """Wait for one that went on beside the others; gives what `Job.result` calls as long as it takes."""

        def look() -> None:
            self._stop_if_asked()
            self._on_progress.look_at(step)

        look()
        with self._gathered():
            yield look
        self._on_progress(step, 1.0)

    def wait_for(self, step: Step, goes_on: Callable[[], bool], helping: Callable[[], Iterator[None]]) -> None:
        """Wait for what a process does meanwhile, and help it piece by piece; no step if it is done already."""
        if not goes_on():
            return
        with self.step(step):
            for _ in helping():
                self._stop_if_asked()
                self._on_progress(step, 0.0)

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        """Only what a person can mend is gathered. A cancel or a fault of the code ends the work at once."""
        try:
            yield
        except InputError as error:
            self._problems.extend(error.problems)
            self._said.extend(notes_of(error))

    def say(self, notes: Iterable[str]) -> None:
        """Keep what was noted of the inputs, in the order in which it is told."""
        self._said.extend(notes)

    def raise_problems(self) -> None:
        """To be called before what the steps made is used."""
        if self._problems:
            raise InputError(self._problems)
        self._stop_if_asked()

    def seconds_with(self, others: dict[str, float]) -> dict[str, float]:
        """Those of the steps and of other parts, with the total since the start."""
        return {**self._seconds, **others, "total": time.perf_counter() - self._started}

    def _stop_if_asked(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise Cancelled
