"""Gradient correlation of the skull's shadow with a mask frame (Penney et al. 1998, IEEE TMI 17:586): equations and exhaustive pass.

Each arrow of the gradient is shortened so that the strongest edges do not decide alone. Scatter, soft tissue and the heel
effect are slow and leave no gradient; polarity is known, so an arrow's sign counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.skull.settings import SkullSettings
from DeepIterRegLib.registration.skull.targets import SkullTarget
from DeepIterRegLib.registration.vessels.exhaustive import ShiftCorrelator, exhaustive_pass
from DeepIterRegLib.registration.vessels.least_squares import (
    LEVER_MM,
    Equations,
    camera_matrices,
    correlation_equations,
    image_norms,
)
from DeepIterRegLib.registration.vessels.points import Points

_LINEAR = np.float32(1e9)  # a knee so far away that no gradient is shortened


def gradient_equations(points: Points, target: SkullTarget, knee: float) -> Equations:
    """Gradient correlation of the skull with a mask frame, by the twist of `vessels.least_squares.move` with the target's C-arm.

    Parameters
    ----------
    points
        As from `skull_points`.
    target
    knee
        As in `SkullSettings`.

    Returns
    -------
    Poses (B, 4, 4) to score (B,), gradient (B, 6) and Gauss-Newton matrix of its negative (B, 6, 6).
    """
    carm = target.carm
    knee_mm = knee_of(points, carm, target.taps, knee)

    def equations(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cameras, centres = camera_matrices(poses, points.origin_mm, carm)
        out = compute.skull_products(points, cameras, centres, LEVER_MM, target, knee_mm)
        gram, cross = out[:, :7], out[:, 7]
        return correlation_equations(gram, cross / image_norms(gram)[:, None])

    return equations


def exhaustive(
    points: Points,
    target: SkullTarget,
    start: np.ndarray,
    centre_cta_mm: np.ndarray,
    settings: SkullSettings,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (K, 4, 4) and scores (K,), best first: all rotations and depths of the grid, the best shifts of each.

    Parameters
    ----------
    points, target
        Of `SkullSettings.coarse`.
    start : (4, 4)
        ``cta_to_carm`` at the centre of the box.
    centre_cta_mm : (3,)
        RAS mm of the CTA, about which the box turns the head.
    settings
    should_stop

    Raises
    ------
    InputError
        Next to nothing of the mask frame is valid.
    Cancelled
    """
    if not target.valid.any():
        raise InputError("Too little of the mask frame is visible for the skull to be found in it.")
    knee_mm = knee_of(points, target.carm, target.taps, settings.knee)
    drawing = compute.SkullDrawing(points, target.taps, knee_mm)
    correlate = ShiftCorrelator(target.image, target.valid, target.carm, settings.translation_mm, 1.0, drawing)
    return exhaustive_pass(
        correlate, points.origin_mm, start, centre_cta_mm, settings, settings.candidates, should_stop=should_stop
    )


def knee_of(points: Points, carm: CArm, taps: np.ndarray, knee: float) -> np.float32:
    """`knee` times the mean gradient of the skull's shadow, the skull upright at the isocentre: the same for all poses."""
    cameras, _ = camera_matrices(pose.radiological(points.origin_mm)[None], points.origin_mm, carm)
    images = np.zeros((1, 2, carm.rows, carm.columns), np.float32)
    sums = np.zeros((1, 2, carm.rows + 1, carm.columns + 1))
    compute.draw_skull(compute.SkullDrawing(points, taps, _LINEAR), cameras, carm, images, sums)
    return np.float32(max(knee * float(np.hypot(images[0, 0], images[0, 1]).mean()), 1e-9))
