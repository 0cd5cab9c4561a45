"""The learning rate of one cycle, by steps or by the time that is left."""

from __future__ import annotations

import math
from collections.abc import Callable

WARM = 0.1  # share of the training in which the rate rises
FIRST, LAST = 1 / 25, 1 / 250_000  # of the largest rate, as in torch's OneCycleLR


def one_cycle(progress: float) -> float:
    """Factor on the largest learning rate at `progress`, 0 to 1, of a training: up and down along cosines."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < WARM:
        return _cosine(FIRST, 1.0, progress / WARM)
    return _cosine(1.0, LAST, (progress - WARM) / (1 - WARM))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def cycle_by_time(steps: int, limit_s: float, elapsed_s: Callable[[], float]) -> Callable[[int], float]:
    """`one_cycle` of a step's number, for a training that ends after so many steps or seconds, whichever comes first."""
    return lambda step: one_cycle(max(step / max(steps, 1), elapsed_s() / limit_s))
