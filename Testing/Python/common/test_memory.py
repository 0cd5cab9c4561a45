"""Memory that is free again."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from DeepIterRegLib.common.memory import give_back

_PIECE, _COUNT = 100_000, 3000  # bytes: below what the C library maps apart


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give it back by themselves")
def test_what_was_freed_between_what_is_in_use_goes_back() -> None:
    process = psutil.Process()
    pieces = [np.ones(_PIECE, np.uint8) for _ in range(_COUNT)]
    # The last of a heap is in use, so that the C library keeps all before it.
    kept = pieces[-1]
    del pieces
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > 0.5 * _PIECE * _COUNT
    assert kept.all()
