"""Mean projection error: how far apart two poses put the same points on the detector."""

from __future__ import annotations

import itertools

import numpy as np

from DeepIterRegLib.geometry.arrays import Array, like, namespace
from DeepIterRegLib.geometry.carm import CArm

# Paper A projects 8 evenly spaced points and does not say which: the corners of a cube about as large as what a run shows.
CUBE_SIDE_MM = 100.0
SUCCESS_MM = 5.0  # paper A: registered when the MPE is below


def cube_corners(centre_mm: Array, side_mm: float = CUBE_SIDE_MM) -> Array:
    """The 8 corners (8, 3) of a cube about `centre_mm` (3,), its edges along the axes; mm, in the frame of the centre."""
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * side_mm
    return like(corners, centre_mm) + centre_mm


def mpe_mm(carm: CArm, pose: Array, reference: Array, centre_cta_mm: Array) -> Array:
    """Mean projection error between poses and a reference: over a cube's corners, how far apart both put them (A eq. 13).

    Paper A gives it in px of one detector; in mm on the detector it compares over detectors.

    Parameters
    ----------
    carm
        The view.
    pose, reference : (..., 4, 4)
        ``cta_to_carm``; leading axes broadcast.
    centre_cta_mm : (3,)
        Of the cube, RAS mm of the CTA: the head's centre.

    Returns
    -------
    (...) mm on the detector; below `SUCCESS_MM` counts as registered. Not-a-number where a corner lies behind the source.
    """
    row_mm, column_mm = carm.pixel_spacing_mm
    corners = cube_corners(like(centre_cta_mm, pose))
    xp = namespace(pose)
    apart_px = carm.project(corners, pose) - carm.project(corners, like(reference, pose))
    return xp.mean(xp.sqrt(xp.sum((apart_px * like((column_mm, row_mm), pose)) ** 2, axis=-1)), axis=-1)
