"""What a mutator makes of a file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Kind = str  # flip: as many bytes as before; size: other bytes; cut: the end is missing; header: what a field says


@dataclass(frozen=True)
class Damage:
    """Damaged bytes.

    Attributes
    ----------
    content
    kind
        ``flip`` as many bytes as before, ``size`` bytes more or fewer within, ``cut`` the end is missing, ``header`` a field says
        something else (check sums made right again).
    at
        First byte that differs.
    what
        The mutator, and what it changed.
    """

    content: bytes
    kind: Kind
    at: int
    what: str


Mutator = Callable[[bytes, random.Random], Damage | None]


def written(data: bytes, at: int, new: bytes, what: str) -> Damage:
    """Other bytes over those from there on."""
    return Damage(data[:at] + new + data[at + len(new) :], "flip", at, f"{what} at {at}")
