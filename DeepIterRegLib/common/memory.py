"""Memory that is free again, given back to the system: the C library of Linux keeps it, other systems give it back by themselves."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Parameters of `mallopt`, and what they are set to.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8
# What is larger has a place of its own, and leaves no gap; images of 1024 x 1024 (float32) are taken from what is kept.
_APART_BYTES = 2**23
_KEPT_BYTES = 2**28  # free at the end, until `give_back`: else each case would have them made anew several times
# The same for a process that is started with these variables: from its first thread on, whose memory `hold_steady` comes too late for.
STEADY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(_APART_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES),
}


def hold_steady() -> None:
    """Have a process need less: what was freed else lies in pieces between what is in use, and grows with the same work done again.

    A batch of coarse phantoms grew from 0.58 to 0.90 GB within 200 cases. So, with `give_back` after each, and with nothing that waits for
    the garbage collector, it stays as it is (`Testing/Robustness/results/flat.md`). One registration with a large CTA needs a sixth
    less. For processes that are ours, as it holds for all of their memory.
    """
    if (set_to := _of_library("mallopt")) is not None:
        set_to(_ARENAS, 1)
        set_to(_MMAP_THRESHOLD, _APART_BYTES)
        set_to(_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back() -> None:
    """Give free memory back, after work that needed much of it; some ms."""
    if (trim := _of_library("malloc_trim")) is not None:
        trim(0)


def _of_library(name: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
