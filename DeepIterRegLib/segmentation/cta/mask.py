"""A mask that a person supplied, laid on the grid of the CTA."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume


def as_cta_mask(mask: Volume, cta: Volume) -> Volume:
    """A mask supplied by a person, checked against its CTA, as bool.

    Raises
    ------
    InputError
        Another grid than the CTA's, or empty.
    """
    if not mask.same_grid(cta):
        raise InputError(
            f"The vessel mask stands on another grid than the CTA: {_describe_grid(mask)} against {_describe_grid(cta)}. Resample the mask "
            "to the CTA (Slicer: Resample Scalar/Vector/DWI Volume with nearest neighbour; SimpleITK: Resample(mask, cta, "
            "interpolator=sitkNearestNeighbor)) and give it again."
        )
    voxels = np.nan_to_num(mask.voxels) != 0 if mask.voxels.dtype.kind == "f" else mask.voxels != 0
    if not voxels.any():
        raise InputError(
            "The vessel mask is empty: no voxel differs from 0. Give a mask with vessels, or none to have the CTA segmented."
        )
    return mask.with_voxels(voxels)


def _describe_grid(volume: Volume) -> str:
    k, j, i = volume.voxels.shape
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing_mm)
    origin = ", ".join(f"{o:.1f}" for o in volume.affine[:3, 3])
    return f"{i} x {j} x {k} voxels of {spacing} mm from ({origin}) mm RAS"
