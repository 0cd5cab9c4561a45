"""One pool of threads: a kernel's loop shared out among them, and jobs that go on beside whoever started them.

A loop, since numba's parallel loops take two to four times as long to compile, and run no faster.

Whoever waits for work that no thread has begun does it. So a full pool holds nobody up, and with one thread all is done in turn.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from types import TracebackType
from typing import Any, Generic, TypeVar

import numba

from DeepIterRegLib.common.errors import Cancelled

T = TypeVar("T")
_LOOK_S = 0.05  # how often who waits looks round


def in_parts(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call ``kernel(first, last, *arguments)`` so that the parts make up ``range(count)``: one part for each of numba's threads.

    The kernel is compiled, releases the GIL, and writes what belongs to its part alone. So nothing depends on the number of threads.
    """
    parts = min(numba.get_num_threads(), count)
    if parts == 0:
        return
    (here, *others) = pairwise(count * part // parts for part in range(parts + 1))
    waiting = [(part, held := [arguments], _pool().submit(_do_part, kernel, part, held)) for part in others]
    kernel(*here, *arguments)
    for part, held, one in waiting:
        if one.cancel():
            # What is cancelled stays in the pool's queue as long as all threads are at work, and would keep its arrays there.
            held.clear()
            kernel(*part, *arguments)
        else:
            one.result()


def _do_part(kernel: Callable[..., None], part: tuple[int, int], held: list[tuple[Any, ...]]) -> None:
    kernel(*part, *held.pop())


class Job(Generic[T]):
    """Work of a `Beside`: a thread does it, or who asks for the result before a thread has begun."""

    def __init__(self, work: Callable[[], T], ended: threading.Event, after: Job[Any] | None = None) -> None:
        # With its context, which says what a file is called in messages.
        self._context, self._work = contextvars.copy_context(), work
        self._ended, self._after = ended, after
        self._begun = threading.Lock()
        self._future: Future[T] = Future()
        if numba.get_num_threads() > 1:
            if after is None:
                _pool().submit(self._do)
            else:
                after._future.add_done_callback(lambda _: None if ended.is_set() else _pool().submit(self._do))

    def result(self, look: Callable[[], None] = lambda: None) -> T:
        """What the work returned or raised; `look` is called now and then as long as it takes. What that raises ends the waiting.

        Raises
        ------
        Cancelled
            The jobs were ended before this one.
        """
        self._wait(look)
        return self._future.result()

    def end(self) -> None:
        """Wait for the work, or let nobody begin it."""
        if not self._begun.acquire(blocking=False):
            wait([self._future])

    def _wait(self, look: Callable[[], None]) -> None:
        if self._after is not None:
            self._after._wait(look)
        self._do()
        while not self._future.done():
            if self._ended.is_set():
                raise Cancelled
            look()
            wait([self._future], _LOOK_S)

    def _do(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        context, work = self._context, self._work
        # Work often knows the jobs beside it, this one too: all that it holds would stay until the garbage is looked through.
        del self._context, self._work
        self._after = None
        try:
            result = context.run(work)
        except BaseException as error:  # whatever it is belongs to who asks for the result
            self._future.set_exception(error)
        else:
            self._future.set_result(result)


class Beside:
    """Jobs beside the one who enters this. On leaving, those not begun are left out, and the others are waited for.

    Work that takes long asks `stop_if_ended` now and then.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._jobs: list[Job[Any]] = []

    def start(self, work: Callable[[], T], after: Job[Any] | None = None) -> Job[T]:
        """Begin work in a thread, when another job is done if one is named; with one thread it waits until its result is asked for."""
        job = Job(work, self._ended, after)
        self._jobs.append(job)
        return job

    def stop_if_ended(self) -> None:
        """Raise `Cancelled` in work that nobody waits for any more."""
        if self._ended.is_set():
            raise Cancelled

    def __enter__(self) -> Beside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        for job in self._jobs:
            job.end()
        self._jobs.clear()


def at_once(*works: Callable[[], T]) -> list[T]:
    """What each returns: the first is done here, the others in threads."""
    with Beside() as beside:
        others = [beside.start(work) for work in works[1:]]
        return [*(work() for work in works[:1]), *(job.result() for job in others)]


@cache
def _pool() -> ThreadPoolExecutor:
    """One for the process. Its threads end with it."""
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="DeepIterReg")


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    # A child has none of its parent's threads, and would wait for them for ever.
    os.register_at_fork(after_in_child=_pool.cache_clear)
