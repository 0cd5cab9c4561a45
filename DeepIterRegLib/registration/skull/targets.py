"""The mask frame as an image to compare with: the gradient of the skull's shadow, at a working resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.registration.vessels.targets import gaussian_taps, resize_area

# What is slower than this is taken out of the mask frame. Of 3, 6, 12 px and nothing, 3 px set the truth best apart from the
# best wrong pose: gradient correlation 0.31 to 0.53 against 0.26 to 0.33, without 0.18 to 0.44 against 0.27 to 0.32.
_DETAIL_PX = 3.0
_WHOLLY_VALID = (
    0.99  # share of a coarse pixel that must be valid: a shutter's edge within it would be an edge of its own
)


@dataclass(frozen=True)
class SkullTarget:
    """The mask frame at one resolution.

    Attributes
    ----------
    image : (2, rows, columns) float32
        Compressed gradient, across and down, of unit norm; zero where not valid.
    valid : (rows, columns) float32, 1 or 0
    carm
        View on this grid.
    taps : (radius + 1,) float32
        Half of the Gaussian that the moving image is blurred with, centre first.
    """

    image: np.ndarray
    valid: np.ndarray
    carm: CArm
    taps: np.ndarray


def mask_frame(angiogram: Angiogram) -> np.ndarray:
    """The skull's shadow (row, column): the logarithm of the frame before contrast arrives.

    Raises
    ------
    InputError
        The run came subtracted.
    """
    if angiogram.unsubtracted is None:
        raise InputError("The run has no unsubtracted mask frame (it came subtracted): the skull cannot be seen in it.")
    return angiogram.unsubtracted


def make_skull_target(
    shadow: np.ndarray, valid: np.ndarray, carm: CArm, rows: int, sigma_px: float, knee: float
) -> SkullTarget:
    """Target of a mask frame on a coarser grid; shutters' edges are kept away from.

    Parameters
    ----------
    shadow : (row, column)
        As from `mask_frame`, on the grid of `carm`.
    valid : (row, column) bool
        Where it counts.
    carm
    rows
        Of the working grid.
    sigma_px
        Blur, px of the working grid.
    knee
        As in `SkullSettings`.
    """
    coarse = carm.working_grid(rows)
    seen = resize_area(valid.astype(np.float32), rows, coarse.columns)
    taps = gaussian_taps(sigma_px)
    full = np.concatenate([taps[:0:-1], taps])
    image = resize_area(np.where(valid, shadow, 0).astype(np.float32), rows, coarse.columns)
    # Blurred over the valid pixels only (normalised convolution): what is not seen must not darken what is.
    blurred, weight = image, seen
    for axis in (0, 1):
        blurred = ndimage.convolve1d(blurred, full, axis, mode="constant")
        weight = ndimage.convolve1d(weight, full, axis, mode="constant")
    blurred = blurred / np.maximum(weight, 1e-6)
    inside = np.pad(seen > _WHOLLY_VALID, 1)
    # Two sigma and the central difference's pixel: nearer to the rim the blur knows one side only.
    inside = ndimage.binary_erosion(inside, iterations=int(np.ceil(2 * sigma_px)) + 1)[1:-1, 1:-1]
    # The head is a lens of soft tissue: its slow slope is no bone.
    share = np.maximum(ndimage.gaussian_filter(inside.astype(np.float32), _DETAIL_PX), 1e-3)
    blurred = blurred - ndimage.gaussian_filter(np.where(inside, blurred, 0), _DETAIL_PX) / share
    down, across = np.gradient(blurred)
    mean = float(np.hypot(across, down)[inside].mean()) if inside.any() else 1.0
    length = np.hypot(across, down)
    gradient = np.stack([across, down]) / (1 + length / max(knee * mean, 1e-12)) * inside
    gradient /= max(float(np.linalg.norm(gradient)), 1e-12)
    return SkullTarget(
        np.ascontiguousarray(gradient, dtype=np.float32), np.ascontiguousarray(inside, dtype=np.float32), coarse, taps
    )
