"""A loop shared out among threads of our own: numba's parallel loops take two to four times as long to compile, run no faster."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba


def in_parts(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call ``kernel(first, last, *arguments)`` so that the parts make up ``range(count)``: one part for each of numba's threads.

    The kernel is compiled, releases the GIL, and writes what belongs to its part alone. So nothing depends on the number of threads.
    """
    parts = min(numba.get_num_threads(), count)
    if parts == 0:
        return
    (here, *others) = pairwise(count * part // parts for part in range(parts + 1))
    waiting = [_pool().submit(kernel, first, last, *arguments) for first, last in others]
    kernel(*here, *arguments)
    for one in waiting:
        one.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """One for the process. Its threads end with it, and never wait for one another."""
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="DeepIterReg kernel")


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    # A child has none of its parent's threads, and would wait for them for ever.
    os.register_at_fork(after_in_child=_pool.cache_clear)
