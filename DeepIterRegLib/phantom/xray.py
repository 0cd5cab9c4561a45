"""What X-rays meet in the head and on the detector: attenuation, line integrals through the grid, blur.

Apart from the renderers that register, so that an error in one does not hide in the other.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.geometry import CArm

WATER_PER_MM = 0.0205  # at 60 keV, about the mean energy behind a head (NIST XCOM: 0.206 per cm)
# Bone attenuates more at angiographic energy than its HU at CT energy say; above this it counts as bone.
BONE_GAIN, _SOFT_END_HU = 1.35, 100
_STEP_MM = 1.2  # between samples of a ray: about the spacing of the head's grid
_LONGEST_PX = 384  # side of the image that is cast: bone's shadow is smooth at that size


def attenuation_per_mm(hu: np.ndarray) -> np.ndarray:
    """Linear attenuation (x, y, z) per mm, float32, of HU (x, y, z) at angiographic energy."""
    harder = hu + (BONE_GAIN - 1) * np.maximum(hu - _SOFT_END_HU, 0)
    return (WATER_PER_MM * np.maximum(0.0, 1.0 + harder / 1000)).astype(np.float32)


@njit(cache=True, fastmath=True)
def _march(
    values: np.ndarray,
    to_index: np.ndarray,
    source: np.ndarray,
    corner: np.ndarray,
    step_u: np.ndarray,
    step_v: np.ndarray,
    rows: int,
    columns: int,
    step_mm: float,
) -> np.ndarray:
    """Integral (row, column) of trilinear samples along each ray, clipped to the grid."""
    out = np.zeros((rows, columns), np.float32)
    start = np.empty(3)
    target = np.empty(3)
    move = np.empty(3)
    for a in range(3):
        start[a] = to_index[a, 0] * source[0] + to_index[a, 1] * source[1] + to_index[a, 2] * source[2] + to_index[a, 3]
    for r in range(rows):
        for c in range(columns):
            squared = 0.0
            for a in range(3):
                target[a] = corner[a] + c * step_u[a] + r * step_v[a] - source[a]
                squared += target[a] * target[a]
            norm = 1 / np.sqrt(squared)
            near, far = 0.0, 1e9
            for a in range(3):
                move[a] = (to_index[a, 0] * target[0] + to_index[a, 1] * target[1] + to_index[a, 2] * target[2]) * norm
                high = values.shape[a] - 1.001
                if abs(move[a]) < 1e-12:
                    if start[a] < 0 or start[a] > high:
                        far = -1.0
                else:
                    t0, t1 = -start[a] / move[a], (high - start[a]) / move[a]
                    near, far = max(near, min(t0, t1)), min(far, max(t0, t1))
            if far <= near:
                continue
            count = max(1, int(np.ceil((far - near) / step_mm)))
            step = (far - near) / count
            x, y, z = (
                start[0] + (near + 0.5 * step) * move[0],
                start[1] + (near + 0.5 * step) * move[1],
                start[2] + (near + 0.5 * step) * move[2],
            )
            sx, sy, sz = step * move[0], step * move[1], step * move[2]
            total = np.float32(0)
            for _ in range(count):
                i, j, k = np.int32(x), np.int32(y), np.int32(z)
                fx, fy, fz = np.float32(x - i), np.float32(y - j), np.float32(z - k)
                v00 = values[i, j, k] + fz * (values[i, j, k + 1] - values[i, j, k])
                v01 = values[i, j + 1, k] + fz * (values[i, j + 1, k + 1] - values[i, j + 1, k])
                v10 = values[i + 1, j, k] + fz * (values[i + 1, j, k + 1] - values[i + 1, j, k])
                v11 = values[i + 1, j + 1, k] + fz * (values[i + 1, j + 1, k + 1] - values[i + 1, j + 1, k])
                v0 = v00 + fy * (v01 - v00)
                total += v0 + fx * (v10 + fy * (v11 - v10) - v0)
                x += sx
                y += sy
                z += sz
            out[r, c] = total * step
    return out


def line_integrals(
    values: np.ndarray, carm_to_index: np.ndarray, carm: CArm, step_mm: float = _STEP_MM, longest_px: int = _LONGEST_PX
) -> np.ndarray:
    """Integral of `values` (x, y, z; per mm) along each pixel's ray: (rows, columns) float32.

    `carm_to_index` (4, 4) maps C-arm RAS mm to indices of `values`. Rays are cast on a grid of at most
    `longest_px` and interpolated to the detector.
    """
    fraction = min(1.0, longest_px / max(carm.rows, carm.columns))
    coarse = carm.resampled(round(carm.rows * fraction), round(carm.columns * fraction))
    corner = coarse.pixel_positions(np.zeros(2))
    step_u = coarse.pixel_positions(np.array([1.0, 0.0])) - corner
    step_v = coarse.pixel_positions(np.array([0.0, 1.0])) - corner
    image = _march(
        values,
        np.ascontiguousarray(carm_to_index[:3]),
        np.array(carm.source_mm),
        corner,
        step_u,
        step_v,
        coarse.rows,
        coarse.columns,
        step_mm,
    )
    return upsampled(image, carm.rows, carm.columns)


@njit(cache=True)
def _bilinear(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    out = np.empty((rows, columns), np.float32)
    for r in range(rows):
        y = min(max((r + 0.5) * image.shape[0] / rows - 0.5, 0.0), image.shape[0] - 1.001)
        i = int(y)
        fy = y - i
        for c in range(columns):
            x = min(max((c + 0.5) * image.shape[1] / columns - 0.5, 0.0), image.shape[1] - 1.001)
            j = int(x)
            fx = x - j
            out[r, c] = (1 - fy) * ((1 - fx) * image[i, j] + fx * image[i, j + 1]) + fy * (
                (1 - fx) * image[i + 1, j] + fx * image[i + 1, j + 1]
            )
    return out


def upsampled(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """An image (row, column) at another size, (rows, columns), bilinear, on the same area: pixel edges coincide."""
    return (
        image
        if image.shape == (rows, columns)
        else _bilinear(np.ascontiguousarray(image, dtype=np.float32), rows, columns)
    )


def blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """An image (row, column) under a normal blur; the edge is repeated."""
    if sigma_px <= 0:
        return image
    return np.asarray(ndimage.gaussian_filter(image, sigma_px, mode="nearest", truncate=3.0))
