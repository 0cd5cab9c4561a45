"""How many threads this process and its workers may use; on the ground floor, as it is settled before numba or torch are imported."""

from __future__ import annotations

import os
import sys

# Read by the libraries when they start their threads.
THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
MOST_THREADS = 512  # more is a slip of the finger


def limit_threads(count: int) -> None:
    """So many for this process, and for all of its workers together. What is imported already keeps its own."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))


def threads_allowed() -> int:
    """Of `limit_threads`, or one for each core that this process may use."""
    limited = os.environ.get(THREAD_VARIABLES[0], "")
    if limited.isdecimal():
        return max(1, int(limited))
    # A job of a queue, or a container, may use fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
