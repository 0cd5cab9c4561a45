"""Draws vessels of one territory on one side of the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from DeepIterRegLib.phantom.centrelines import LEFT_ICA, RIGHT_ICA, Sketch, grow, lay

Course = Sequence[Sequence[float] | np.ndarray]  # points (x, y, z) that a vessel runs through


@dataclass(frozen=True)
class Side:
    """One half of the head.

    Attributes
    ----------
    name
        As the names of its segments begin.
    sign
        -1 left, +1 right: x grows to the right.
    territory
        Of its internal carotid.
    """

    name: str
    sign: float
    territory: int


SIDES = (Side("left", -1.0, LEFT_ICA), Side("right", 1.0, RIGHT_ICA))


@dataclass(frozen=True)
class Pen:
    """Lays vessels into a sketch. Courses are (N, 3), canonical frame in mm, but with x counted outwards from the midline.

    So one course serves both sides. `sign` is -1 on the left, +1 on the right; in the midline it does not matter.
    """

    sketch: Sketch
    rng: np.random.Generator
    territory: int
    sign: float = 1.0

    def lay(
        self,
        parent: int,
        course_mm: Course,
        radii_mm: tuple[float, float],
        segment: str,
        wander_mm: float = 1.0,
    ) -> np.ndarray:
        """As `centrelines.lay`, on this side: indices (M,) of the new nodes."""
        mirrored = np.array(course_mm, dtype=np.float64) * (self.sign, 1.0, 1.0)
        return lay(self.sketch, self.rng, parent, list(mirrored), radii_mm, self.territory, segment, wander_mm)

    def join(self, parent: int, node: int, radii_mm: tuple[float, float], segment: str) -> np.ndarray:
        """A straight tube from one node to another: indices (M,) of the new nodes."""
        there = self.sketch.points[node]
        return lay(self.sketch, self.rng, parent, [there], radii_mm, self.territory, segment, 0.0)

    def grow(
        self,
        roots: np.ndarray,
        surface_mm: np.ndarray,
        tips: int,
        tip_radius_mm: float,
        segment: str,
        roughness: float = 0.6,
    ) -> np.ndarray:
        """As `centrelines.grow` from nodes (R,) over points (N, 3), canonical frame: indices (M,) of the new nodes."""
        return grow(self.sketch, self.rng, roots, surface_mm, tips, tip_radius_mm, self.territory, segment, roughness)

    def outwards(self, point_mm: ArrayLike) -> np.ndarray:
        """A point (3,) of the canonical frame as courses have it: x outwards from the midline, and back."""
        return np.asarray(point_mm, dtype=np.float64) * (self.sign, 1.0, 1.0)
