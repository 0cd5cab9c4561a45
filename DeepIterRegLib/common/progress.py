"""How far long work has come, as data; and whether it should stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial

# Asked often by long work; True ends it with `errors.Cancelled`.
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class ProgressEvent:
    """How far a job has come.

    Attributes
    ----------
    step
        What is being done. Whoever shows it has the words for it.
    done
        Fraction of this step, 0..1.
    overall
        Fraction of the whole job, 0..1: never less than before.
    score
        Best score of the step so far, where there is a new one.
    """

    step: Enum
    done: float
    overall: float
    score: float | None = None


class Progress:
    """One fraction for a whole job, made of its steps and the seconds that each is expected to take.

    Work calls it often: `progress(step, done)`. Steps are members of one enumeration in the order in which they come: when
    one is reported, those before it are over, whether they were done or left out, or go on `beside` it.

    Parameters
    ----------
    listener
        Told every report as a `ProgressEvent`; what it raises ends the work. None: nobody listens.
    """

    def __init__(self, listener: Callable[[ProgressEvent], None] | None = None) -> None:
        self._listener = listener
        self._seconds: dict[Enum, float] = {}
        self._done: dict[Enum, float] = {}
        self._beside: dict[Enum, float] = {}  # as told by other threads
        self._rest = 1.0  # of the bar

    def expect(self, seconds: Mapping[Enum, float]) -> None:
        """Say what steps will take; others stay as they were. When more is known, say it again.

        The fraction does not move by that: what is left of the bar is shared out anew.
        """
        self._seconds.update(seconds)

    def __call__(self, step: Enum, done: float, score: float | None = None, /) -> None:
        """Tell that a step has come so far, 0..1, with its best score where there is a new one."""
        before_s = self._seconds_left()
        for other in type(step):
            if other is step:
                break
            if other not in self._beside:
                self._done[other] = 1.0
        # A step may report less than before, and the bar must not go back.
        for other, so_far in [*self._beside.items(), (step, done)]:
            self._done[other] = max(self._done.get(other, 0.0), min(so_far, 1.0))
        if before_s > 0:
            # A product and not a sum: whatever is expected anew, what is left of the bar only shrinks.
            self._rest *= self._seconds_left() / before_s
        if self._listener is not None:
            self._listener(ProgressEvent(step, done, 1.0 - self._rest, score))

    def of(self, step: Enum) -> Callable[..., None]:
        """`progress(step, ...)`, for work that knows only its own fraction and score."""
        return partial(self, step)

    def beside(self, step: Enum) -> Callable[[float], None]:
        """`progress(step, ...)`, for work that another thread may do: it only notes how far it has come, and the listener hears of it by
        the next report of this thread. So a listener is always told by one thread, which it may end.
        """
        here = threading.get_ident()
        self._beside[step] = 0.0

        def tell(done: float) -> None:
            if threading.get_ident() == here:
                self(step, done)
            else:
                self._beside[step] = done

        return tell

    def look_at(self, step: Enum) -> None:
        """Report a step that goes on `beside`, as far as it has come."""
        self(step, self._beside.get(step, 0.0))

    def _seconds_left(self) -> float:
        return sum(seconds * (1.0 - self._done.get(step, 0.0)) for step, seconds in self._seconds.items())


def between(tell: Callable[[float], None], begun: float, ended: float) -> Callable[[float], None]:
    """What a part of some work tells, 0..1 of itself, as the whole's progress from `begun` to `ended`."""
    return lambda done: tell(begun + (ended - begun) * done)
