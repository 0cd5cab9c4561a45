"""A picture on the detector as a volume of one slice, standing where the detector stood."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume


def detector_image(image: np.ndarray, carm: CArm) -> Volume:
    """An image (row, column) as a volume of one slice that stands where the detector stood, C-arm RAS mm."""
    return Volume(np.ascontiguousarray(image)[None], detector_affine(carm))


def detector_affine(carm: CArm) -> np.ndarray:
    """Pixel (column, row, 0, 1) of the detector to C-arm RAS mm (4, 4)."""
    row_spacing, column_spacing = carm.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.array(carm.column_axis) * column_spacing
    affine[:3, 1] = np.array(carm.row_axis) * row_spacing
    # Not the beam: of a mirrored image it would make a left-handed volume.
    affine[:3, 2] = np.cross(carm.column_axis, carm.row_axis)
    affine[:3, 3] = carm.pixel_positions(np.zeros((1, 2)))[0]
    return affine
