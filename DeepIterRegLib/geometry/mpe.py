"""Mean projection error: how far apart two poses put the same points on the detector."""

from __future__ import annotations

import itertools

import numpy as np

from DeepIterRegLib.geometry.arrays import Array, like, namespace
from DeepIterRegLib.geometry.carm import CArm

CUBE_SIDE_MM = 100.0
SUCCESS_MM = 5.0  # paper A: registered when the MPE is below


def cube_corners(centre_mm: Array, side_mm: float = CUBE_SIDE_MM) -> Array:
    """The 8 corners (8, 3) of a cube about `centre_mm` (3,)."""
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * side_mm
    return like(corners, centre_mm) + centre_mm


def mpe_px(carm: CArm, pose: Array, reference: Array, centre_cta_mm: Array) -> Array:
    """MPE (...) in px of the grid of `carm` between poses (..., 4, 4) and a reference (A eq. 13)."""
    return _mean_distance(carm, pose, reference, centre_cta_mm, (1.0, 1.0))


def mpe_mm(carm: CArm, pose: Array, reference: Array, centre_cta_mm: Array) -> Array:
    """MPE (...) in mm on the detector, px times pixel spacing; below 5 mm counts as registered."""
    row_spacing, column_spacing = carm.pixel_spacing_mm
    return _mean_distance(carm, pose, reference, centre_cta_mm, (column_spacing, row_spacing))


def _mean_distance(
    carm: CArm, pose: Array, reference: Array, centre_cta_mm: Array, scale: tuple[float, float]
) -> Array:
    corners = cube_corners(like(centre_cta_mm, pose))
    xp = namespace(pose)
    difference = (carm.project(corners, pose) - carm.project(corners, like(reference, pose))) * like(scale, pose)
    return xp.mean(xp.sqrt(xp.sum(difference**2, axis=-1)), axis=-1)
