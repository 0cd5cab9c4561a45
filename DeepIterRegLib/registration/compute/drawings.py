"""What is drawn and compared, and what a backend must be able to do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from DeepIterRegLib.geometry import CArm

if TYPE_CHECKING:
    from DeepIterRegLib.registration.skull.targets import SkullTarget
    from DeepIterRegLib.registration.vessels.points import Points
    from DeepIterRegLib.registration.vessels.targets import Target


@dataclass(frozen=True)
class VesselDrawing:
    """Vessels blurred, saturated and weighted as a target was made: amount, and amount times cosine and sine of twice the angle.

    Attributes
    ----------
    points
    taps : (radius + 1,) float32
        Half of the Gaussian that the image is blurred with, centre first.
    saturation_mm
    direction_scale
        What the two channels of direction are multiplied by.
    """

    points: Points
    taps: np.ndarray
    saturation_mm: float
    direction_scale: float


@dataclass(frozen=True)
class SkullDrawing:
    """Gradient of the skull's blurred shadow, across and down, shortened by a knee.

    Attributes
    ----------
    points
    taps : (radius + 1,) float32
    knee_mm
        Length of a gradient that is halved.
    """

    points: Points
    taps: np.ndarray
    knee_mm: np.float32


@dataclass(frozen=True)
class SeenDetail:
    """Where an image is looked at, and what there is taken away as slow.

    Attributes
    ----------
    pixels : (N,) int64
        Counted row by row.
    near : (rows, columns) float32
        What a sum over those of them within `taps` is divided by.
    taps : (radius + 1,) float32
        Half of the Gaussian beyond which an image is slow, centre first.
    """

    pixels: np.ndarray
    near: np.ndarray
    taps: np.ndarray


Drawing = VesselDrawing | SkullDrawing


@dataclass(frozen=True)
class Window:
    """Where a target is looked for, and how what lies under it is weighed.

    Attributes
    ----------
    image : (channels, rows, columns) float32
        The target.
    wide
        The view's grid with a margin all round, on which is drawn.
    margin
        Largest shift, px: `wide` has twice as many rows more than the target.
    box : (4,) int64
        First and past-last row and column of the target that count.
    norm_power
        Power of the norm by which products are divided.
    apart
        The product is the length of the vector of the channels' products and not their sum: the target's direction is not known.
    """

    image: np.ndarray
    wide: CArm
    margin: int
    box: np.ndarray
    norm_power: float
    apart: bool = False

    @property
    def shifts(self) -> int:
        """Shifts along each axis."""
        return 2 * self.margin + 1


class ShiftScores(Protocol):
    """Normalised correlations of drawings with a target, for all shifts of a window at once."""

    @property
    def batch(self) -> int:
        """Poses at a time, at most."""

    def best(self, cameras: np.ndarray, peaks: int) -> tuple[np.ndarray, np.ndarray]:
        """Strongest local maxima for cameras (B, 3, 4): scores (B, peaks) float32 and shifts (B, peaks, 2) int64, strongest first.

        A shift is (column, row) from the window's first.
        """

    def maps(self, cameras: np.ndarray) -> np.ndarray:
        """Scores (B, S, S) float32 of all shifts, by row and column, for cameras (B, 3, 4)."""


class Backend(Protocol):
    """What search and refinement ask of the hardware."""

    def shrunk(
        self, images: np.ndarray, part: np.ndarray | None, shape: tuple[int, int], taps: np.ndarray
    ) -> np.ndarray:
        """As `compute.shrunk`, (C, *shape), of images (C, r, c) and a part (r, c)."""

    def vessel_products(
        self,
        points: Points,
        cameras: np.ndarray,
        centres: np.ndarray,
        lever_mm: float,
        target: Target,
        saturation_mm: float,
    ) -> np.ndarray:
        """As `compute.vessel_products`, (B, 9, 7), for cameras (B, 3, 4) and centres (B, 3)."""

    def skull_products(
        self,
        points: Points,
        cameras: np.ndarray,
        centres: np.ndarray,
        lever_mm: float,
        target: SkullTarget,
        knee_mm: np.float32,
    ) -> np.ndarray:
        """As `compute.skull_products`, (B, 8, 7), for cameras (B, 3, 4) and centres (B, 3)."""

    def shift_scores(self, drawing: Drawing, window: Window) -> ShiftScores:
        """As `compute.shift_scores`."""
