"""Images on another grid: cubic interpolation under a smooth displacement of second order. Compiled code."""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit


def terms(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """1, y, x, y^2, xy, x^2 (n, 6) of places (n, 2) row, column; y and x are -1..1 along the longer side, 0 in the middle."""
    half = max(shape) / 2
    y, x = (places[:, 0] - (shape[0] - 1) / 2) / half, (places[:, 1] - (shape[1] - 1) / 2) / half
    return np.column_stack([np.ones(len(places)), y, x, y * y, y * x, x * x])


def displacements(field: np.ndarray, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Row and column displacements (n, 2) in px at places (n, 2) by a field (2, 6) of coefficients of `terms`."""
    return np.asarray(terms(places, shape) @ field.T)


# Cubic, not linear: linear interpolation blurs a frame by how far it was shifted, and bone blurred unlike its mask stays after subtraction.
@njit(cache=True, nogil=True, fastmath=True)
def _catmull_rom(t):  # type: ignore[no-untyped-def]
    """Weights of the four neighbours at a share t, 0..1, of the way from the second to the third."""
    half, two, three, four, five = np.float32(0.5), np.float32(2), np.float32(3), np.float32(4), np.float32(5)
    one = np.float32(1)
    return (
        ((two - t) * t - one) * t * half,
        ((three * t - five) * t * t + two) * half,
        ((four - three * t) * t + one) * t * half,
        (t - one) * t * t * half,
    )


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _second_order(f, v, u):  # type: ignore[no-untyped-def]
    """A displacement along one axis: coefficients (6,) of `terms` at y, x."""
    return f[0] + f[1] * v + f[2] * u + (f[3] * v + f[4] * u) * v + f[5] * u * u


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _origin(field, r, c, rows, columns):  # type: ignore[no-untyped-def]
    """Row and column that lie, displaced, at r, c: `displacements` written out, as arrays of it would be six times the image."""
    half = max(rows, columns) / 2
    v, u = (r - (rows - 1) / 2) / half, (c - (columns - 1) / 2) / half
    return r + _second_order(field[0], v, u), c + _second_order(field[1], v, u)


@njit(cache=True, nogil=True, fastmath=True, inline="always")
def _interpolated(image, y, x):  # type: ignore[no-untyped-def]
    """Catmull-Rom interpolation of an image at y, x, which lie in it."""
    rows, columns = image.shape
    top, left = math.floor(y), math.floor(x)
    t, s = np.float32(y - top), np.float32(x - left)
    wy, wx = _catmull_rom(t), _catmull_rom(s)
    value = np.float32(0)
    if 1 <= top < rows - 2 and 1 <= left < columns - 2:
        for i in range(4):
            line = image[top + i - 1]
            value += wy[i] * (
                wx[0] * line[left - 1] + wx[1] * line[left] + wx[2] * line[left + 1] + wx[3] * line[left + 2]
            )
    else:  # what lies outside is as at the edge
        for i in range(4):
            row = min(max(top + i - 1, 0), rows - 1)
            for j in range(4):
                value += wy[i] * wx[j] * image[row, min(max(left + j - 1, 0), columns - 1)]
    return value


@njit(cache=True, nogil=True, fastmath=True)
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
    for r in range(rows):
        for c in range(columns):
            y, x = _origin(field, r, c, rows, columns)
            if y < 0 or x < 0 or y > rows - 1 or x > columns - 1 or not usable[int(y + 0.5), int(x + 0.5)]:
                out[r, c] = fill[r, c]
            else:
                out[r, c] = _interpolated(image, y, x)


@njit(cache=True, nogil=True, fastmath=True)
def residue(image: np.ndarray, field: np.ndarray, reference: np.ndarray, most: float, step: int) -> float:
    """Mean of |image at p + displacement(p) - reference at p|, `most` at most, over each `step`-th row.

    Where an image ends there is nothing to compare, and the difference is 0.

    Parameters
    ----------
    image, reference : (row, column) float32
    field : (2, 6) float64
        See `displacements`.
    """
    rows, columns = image.shape
    total, count = np.float32(0), 0
    for r in range(0, rows, step):
        for c in range(columns):
            y, x = _origin(field, r, c, rows, columns)
            count += 1
            if y >= 0 and x >= 0 and y <= rows - 1 and x <= columns - 1:
                total += min(abs(_interpolated(image, y, x) - reference[r, c]), np.float32(most))
    return float(total) / max(count, 1)
