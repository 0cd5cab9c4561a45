"""Images on another grid: cubic interpolation under an affine motion."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, parallel=True, nogil=True)
def resample_affine(
    image: np.ndarray, field: np.ndarray, usable: np.ndarray, fill: np.ndarray, out: np.ndarray
) -> None:
    """out[r, c] = image at field @ (r, c, 1), by Catmull-Rom interpolation; `fill` where that is not usable.

    Parameters
    ----------
    image, fill, out : (row, column) float32
        `out` is overwritten and is neither of the others.
    field : (2, 3) float64
        Row and column in `image` of a row and column in `out`.
    usable : (row, column) bool
        Pixels of `image` to interpolate about; those within two pixels of values that must not count are not.
    """
    rows, columns = image.shape
    for r in numba.prange(out.shape[0]):
        for c in range(out.shape[1]):
            y = field[0, 0] * r + field[0, 1] * c + field[0, 2]
            x = field[1, 0] * r + field[1, 1] * c + field[1, 2]
            if y < 0 or x < 0 or y > rows - 1 or x > columns - 1 or not usable[int(y + 0.5), int(x + 0.5)]:
                out[r, c] = fill[r, c]
                continue
            top, left = math.floor(y), math.floor(x)
            t, s = y - top, x - left
            wy = (
                ((2 - t) * t - 1) * t / 2,
                ((3 * t - 5) * t * t + 2) / 2,
                ((4 - 3 * t) * t + 1) * t / 2,
                (t - 1) * t * t / 2,
            )
            wx = (
                ((2 - s) * s - 1) * s / 2,
                ((3 * s - 5) * s * s + 2) / 2,
                ((4 - 3 * s) * s + 1) * s / 2,
                (s - 1) * s * s / 2,
            )
            value = 0.0
            for i in range(4):
                row = min(max(top + i - 1, 0), rows - 1)
                part = 0.0
                for j in range(4):
                    part += wx[j] * image[row, min(max(left + j - 1, 0), columns - 1)]
                value += wy[i] * part
            out[r, c] = value
