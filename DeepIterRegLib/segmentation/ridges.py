"""Lines in images: the ridge filter, and Gaussian kernels."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

_REACH = 3.5  # sigmas: beyond it less than a thousandth of the kernel is left


def ridge_strength(image: np.ndarray, sigmas_px: tuple[float, ...]) -> np.ndarray:
    """Ridge strength (row, column) float32 >= 0 of an image (row, column) float32, bright lines.

    The largest over the scales of minus the lowest Hessian eigenvalue times sigma squared, which makes scales comparable
    (Lindeberg 1998). Half of the other eigenvalue is taken away, so that blobs count less than lines.
    """
    best = np.zeros_like(image)
    for sigma in sigmas_px:
        g, d1, d2 = gaussian_kernel(sigma), gaussian_kernel(sigma, 1), gaussian_kernel(sigma, 2)
        rr, cc, rc = separable(image, d2, g), separable(image, g, d2), separable(image, d1, d1)
        mean, spread = (rr + cc) / 2, np.sqrt(((rr - cc) / 2) ** 2 + rc**2)
        across, along = spread - mean, mean + spread
        np.maximum(best, np.float32(sigma**2) * (across - np.abs(along) / 2), out=best)
    return best


def gaussian_kernel(sigma: float, order: int = 0) -> np.ndarray:
    """A Gaussian (n,) of sum 1, or its first or second derivative, sampled as far as it counts."""
    radius = math.ceil(_REACH * sigma)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    g = np.exp(-0.5 * (x / sigma) ** 2)
    g /= g.sum()
    if order == 1:
        return np.asarray(x / sigma**2 * g)
    if order == 2:
        g2 = (x**2 / sigma**4 - 1 / sigma**2) * g
        return np.asarray(g2 - g2.mean())  # sampled, it would answer to an even image
    return g


def separable(image: np.ndarray, down: np.ndarray, along: np.ndarray) -> np.ndarray:
    """An image (row, column) float32 correlated with one kernel (a,) down the columns and one (b,) along the rows; edges repeated."""
    half = ndimage.correlate1d(image, down, axis=0, output=np.float32, mode="nearest")
    return np.asarray(ndimage.correlate1d(half, along, axis=1, output=np.float32, mode="nearest"))


def enlarged(image: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    """An image (row, column) with `factor` x `factor` pixels for each of its own, between whose centres it is linear.

    Of these the first (rows, columns) = `shape`, float32; at least one of them each way belongs to the last pixel.
    """
    for axis, count in ((1, shape[1]), (0, shape[0])):
        # The outer half of the first and the last pixel has no neighbour to go to.
        place = np.clip((np.arange(count) + 0.5) / factor - 0.5, 0, image.shape[axis] - 1)
        low = place.astype(np.intp)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = (place - low).astype(np.float32)
        share = share if axis == 1 else share[:, None]
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return np.asarray(image, dtype=np.float32)
