"""Images on another grid: cubic interpolation under a smooth displacement of second order."""

from __future__ import annotations

import math

import numba
import numpy as np


def terms(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """1, y, x, y^2, xy, x^2 (n, 6) of places (n, 2) row, column; y and x are -1..1 along the longer side, 0 in the middle."""
    half = max(shape) / 2
    y, x = (places[:, 0] - (shape[0] - 1) / 2) / half, (places[:, 1] - (shape[1] - 1) / 2) / half
    return np.column_stack([np.ones(len(places)), y, x, y * y, y * x, x * x])


def displacements(field: np.ndarray, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Row and column displacements (n, 2) in px at places (n, 2) by a field (2, 6) of coefficients of `terms`."""
    return np.asarray(terms(places, shape) @ field.T)


@numba.njit(cache=True, nogil=True)
def resample(image: np.ndarray, field: np.ndarray, usable: np.ndarray, fill: np.ndarray, out: np.ndarray) -> None:
    """out[p] = image at p + displacement(p), by Catmull-Rom interpolation; `fill` where that is not usable.

    Parameters
    ----------
    image, fill, out : (row, column) float32
        `out` is overwritten and is neither of the others.
    field : (2, 6) float64
        See `displacements`.
    usable : (row, column) bool
        Pixels of `image` to interpolate about; those within two pixels of values that must not count are not.
    """
    rows, columns = image.shape
    half = max(rows, columns) / 2
    for r in range(rows):
        v = (r - (rows - 1) / 2) / half
        for c in range(columns):
            u = (c - (columns - 1) / 2) / half
            y = (
                r
                + field[0, 0]
                + field[0, 1] * v
                + field[0, 2] * u
                + (field[0, 3] * v + field[0, 4] * u) * v
                + field[0, 5] * u * u
            )
            x = (
                c
                + field[1, 0]
                + field[1, 1] * v
                + field[1, 2] * u
                + (field[1, 3] * v + field[1, 4] * u) * v
                + field[1, 5] * u * u
            )
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
