"""One job in one thread: its progress in a queue, a way to cancel, its end as a value. No Qt, no MRML."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.common.progress import Progress, ProgressEvent, ShouldStop

T = TypeVar("T")


@dataclass(frozen=True)
class Finished(Generic[T]):
    """The job returned."""

    result: T


@dataclass(frozen=True)
class Failed:
    """The job raised; `Cancelled` means that it was asked to end."""

    error: BaseException

    @property
    def cancelled(self) -> bool:
        return isinstance(self.error, Cancelled)


Job = Callable[[Progress, ShouldStop], T]


class Worker(Generic[T]):
    """Runs `job(progress, shouldStop)` at once in a thread of its own.

    The main thread calls `events` from a timer. After the one `Finished` or `Failed` nothing follows.
    """

    def __init__(self, job: Job[T]) -> None:
        self._events: queue.SimpleQueue[ProgressEvent | Finished[T] | Failed] = queue.SimpleQueue()
        self._stop = threading.Event()
        # A daemon: a job that hangs must not keep Slicer from closing.
        self._thread = threading.Thread(target=self._run, args=(job,), name="DeepIterReg", daemon=True)
        self._thread.start()

    def events(self) -> list[ProgressEvent | Finished[T] | Failed]:
        """What happened since the last call, in order; never waits. Of progress within one step only scores and the newest are given."""
        news: list[ProgressEvent | Finished[T] | Failed] = []
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return news
            before = news[-1] if news else None
            if isinstance(event, ProgressEvent) and isinstance(before, ProgressEvent) and event.step == before.step:
                # The plot shows every score; of the bar only the last place is seen.
                news = news if before.score is not None else news[:-1]
            news.append(event)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def cancelling(self) -> bool:
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ask the job to end; it does at its next look. May be called at any time, more than once."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; False if it has not come in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self, job: Job[T]) -> None:
        end: Finished[T] | Failed
        try:
            end = Finished(job(Progress(self._tell), self._stop.is_set))
        # BaseException: whatever ends the job, the panel must hear of it, or it waits for ever.
        except BaseException as error:
            end = Failed(error)
        self._events.put(end)

    def _tell(self, event: ProgressEvent) -> None:
        if self._stop.is_set():
            # Work that only tells its progress, and never asks, is ended here.
            raise Cancelled
        self._events.put(event)
