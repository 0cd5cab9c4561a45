"""Vessels of an angiogram in 3D whose values are no HU, by brightness alone."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.images.angiographic import brightness
from DeepIterRegLib.images.volume import Volume

_MIN_ML = 1.0  # less is no injected territory


def segment_by_brightness(volume: Volume, min_component_mm3: float = 40.0) -> Volume:
    """Pieces that reach half the way from tissue to well-filled vessels, with what is faint about them.

    Returns
    -------
    Volume
        Bool on the grid of `volume`.

    Raises
    ------
    InputError
        Hardly anything is so bright.
    """
    seen = brightness(volume)
    faint = volume.voxels > seen.faint
    labels, count = ndimage.label(faint, np.ones((3, 3, 3)))
    inside = np.flatnonzero(faint)
    piece = labels.ravel()[inside]
    del labels, faint
    size = np.bincount(piece, minlength=count + 1)
    sure = np.bincount(piece[volume.voxels.ravel()[inside] > seen.sure], minlength=count + 1)
    keep = (size * volume.voxel_volume_mm3 >= min_component_mm3) & (sure > 0)
    mask = np.zeros(volume.voxels.shape, dtype=bool)
    mask.ravel()[inside[keep[piece]]] = True
    found_ml = float(mask.sum()) * volume.voxel_volume_mm3 / 1000
    if found_ml < _MIN_ML:
        raise InputError(
            Message(
                f"Only {found_ml:.1f} mL of the CTA are as bright as vessels (tissue is at {seen.tissue:.4g}, the brightest at "
                f"{seen.vessels:.4g}). It may show no contrast",
                advice="The filled rotational volume or the MR angiogram is needed, or a vessel mask.",
                give=("cta_mask",),
            )
        )
    return volume.with_voxels(mask)
