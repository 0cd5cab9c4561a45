"""The steps of `segment_dsa` on the CPU that look at all frames; those on a card, `dsa_tensors`, have the same names.

What goes from step to step stays where it was made: arrays here, tensors there. Single images come back.
"""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.images.blocks import binned
from DeepIterRegLib.segmentation.bolus import follow_bolus, noise_of
from DeepIterRegLib.segmentation.ridges import enlarged, gaussian_kernel, ridge_strength, separable

__all__ = [
    "at_most",
    "contrast_of",
    "follow_bolus",
    "host",
    "is_even",
    "largest",
    "minip_of",
    "noise_of",
    "ridge_strength",
    "shrunk",
]

FLICKER_FRAMES = 5  # from so many on flicker of single frames is removed
LONG_FRAMES = 8  # in shorter runs the last frame alone may show the veins
BACKGROUND_CELLS, BACKGROUND_SIGMA = 4, 1.5  # cells of background along its width, and their blur
LEAST_SEEN = np.float32(1e-3)  # of a cell of background
EVEN = 1e-7  # of the largest value: rounding of an even image


def minip_of(frames: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """MinIP (row, column) float32 of the median of three successive frames (t, row, column), its median over the valid image taken away."""
    t = len(frames)
    if t < FLICKER_FRAMES:
        lowest = frames.min(axis=0)
    else:
        lowest = frames[0].copy()
        for n in range(t - 2):
            a, b, c = frames[n], frames[n + 1], frames[n + 2]
            np.minimum(lowest, np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)), out=lowest)
        np.minimum(lowest, frames[-1], out=lowest) if t < LONG_FRAMES else None
    lowest = lowest.astype(np.float32)
    lowest -= np.median(lowest[valid])
    lowest[~valid] = 0
    return lowest


def shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of images (t, row, column), float32; the last rows and columns are repeated to fill a block."""
    if factor == 1:
        return np.ascontiguousarray(images, dtype=np.float32)
    t, rows, columns = images.shape
    small = np.empty((t, -(-rows // factor), -(-columns // factor)), dtype=np.float32)
    padding = ((0, -rows % factor), (0, -columns % factor))
    for image, mean in zip(images, small, strict=True):
        full = np.pad(image.astype(np.float32), padding, mode="edge") if any(padding[0] + padding[1]) else image
        mean[...] = binned(full, factor)
    return small


def at_most(images: np.ndarray, groups: list[slice]) -> np.ndarray:
    """Means (n, row, column) of groups of successive images (t, row, column); vessels fill slowly."""
    return images if len(groups) == len(images) else np.stack([images[group].mean(axis=0) for group in groups])


def contrast_of(frames: np.ndarray, valid: np.ndarray, background_px: float) -> np.ndarray:
    """Contrast positive, with everything wider than vessels taken away frame by frame."""
    step = max(1, round(background_px / BACKGROUND_CELLS))
    blur = gaussian_kernel(BACKGROUND_SIGMA)
    weight = valid.astype(np.float32)
    padding = ((0, -valid.shape[0] % step), (0, -valid.shape[1] % step))
    filled = binned(np.pad(np.ones_like(weight), padding), step)  # less in the last row and column of cells

    def smooth(image: np.ndarray) -> np.ndarray:
        return separable(binned(np.pad(image, padding), step) / filled, blur, blur)

    seen = np.maximum(smooth(weight), LEAST_SEEN)
    contrast = np.empty_like(frames)
    for frame, left in zip(frames, contrast, strict=True):
        image = -frame * weight
        np.subtract(image, enlarged(smooth(image) / seen, step, valid.shape), out=left)
        left *= weight
    return contrast


def largest(contrast: np.ndarray) -> np.ndarray:
    """The largest size (row, column) of the contrast (t, row, column) of either sign."""
    return np.maximum(contrast.max(axis=0), -contrast.min(axis=0))


def is_even(contrast: np.ndarray, images: np.ndarray, inside: np.ndarray) -> bool:
    """Whether contrast (t, row, column) inside (row, column) is no more than what rounding leaves of images (t, row, column)."""
    return float(contrast[:, inside].std()) <= EVEN * max(1.0, float(np.abs(images).max()))


def host(image: np.ndarray) -> np.ndarray:
    """An image (...) of a step as an array."""
    return image
