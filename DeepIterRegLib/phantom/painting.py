"""Shapes blended into a grid of HU, each over what was there: a head is painted from the outside inwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from DeepIterRegLib.common.compiler import njit

_NOWHERE_MM = 1e3  # edge of a box larger than any head
# Voxels along the edge of a cell that shares one value: of a surface's noise, of bone's texture.
_ROUGH_STEP, _GRAIN_STEP = 4, 2
_ROUGH_SIGMA, _GRAIN_SIGMA = 3.0, 1.0  # cells: skulls are uneven over some cm, trabecular bone over some mm


@dataclass(frozen=True)
class Painter:
    """A grid of HU with what shapes are painted with.

    Attributes
    ----------
    hu : (x, y, z) float32
        Painted on in place.
    origin_mm : (3,)
        Position of element (0, 0, 0).
    spacing_mm
    rough, grain : (x, y, z) float32
        Noise of deviation 1 on grids 4 and 2 times coarser: what displaces surfaces, and what makes bone uneven.
    """

    hu: np.ndarray
    origin_mm: np.ndarray
    spacing_mm: float
    rough: np.ndarray
    grain: np.ndarray

    def ellipsoid(
        self,
        centre_mm: ArrayLike,
        axes_mm: ArrayLike,
        value: float,
        noise_mm: float = 0.0,
        low_mm: ArrayLike | None = None,
        high_mm: ArrayLike | None = None,
    ) -> None:
        """Half axes (3,) about a centre (3,), cut to the box between two corners (3,), in the frame of the grid.

        Its surface is displaced by about `noise_mm`.
        """
        low = np.full(3, -_NOWHERE_MM) if low_mm is None else np.array(low_mm, dtype=np.float64)
        high = np.full(3, _NOWHERE_MM) if high_mm is None else np.array(high_mm, dtype=np.float64)
        centre, axes = np.array(centre_mm, dtype=np.float64), np.array(axes_mm, dtype=np.float64)
        _blend_ellipsoid(self.hu, self.origin_mm, self.spacing_mm, centre, axes, value, self.rough, noise_mm, low, high)

    def rod(
        self, start_mm: ArrayLike, end_mm: ArrayLike, radius_mm: float, value: float, noise_hu: float = 0.0
    ) -> None:
        """Round ends about two points (3,); uneven by about `noise_hu` inside."""
        start, end = np.array(start_mm, dtype=np.float64), np.array(end_mm, dtype=np.float64)
        _blend_rod(self.hu, self.origin_mm, self.spacing_mm, start, end, radius_mm, value, self.grain, noise_hu)

    def box(self, low_mm: np.ndarray, high_mm: np.ndarray, value: float) -> None:
        """Between two corners (3,)."""
        self.ellipsoid((low_mm + high_mm) / 2, np.full(3, _NOWHERE_MM), value, 0.0, low_mm, high_mm)


def textured(hu: np.ndarray, origin_mm: np.ndarray, spacing_mm: float, rng: np.random.Generator) -> Painter:
    """For bone and tissue on a grid (x, y, z) float32 whose first element lies at (3,)."""
    rough = _texture(tuple(n // _ROUGH_STEP + 1 for n in hu.shape), rng, _ROUGH_SIGMA)
    grain = _texture(tuple(n // _GRAIN_STEP + 1 for n in hu.shape), rng, _GRAIN_SIGMA)
    return Painter(hu, origin_mm, spacing_mm, rough, grain)


def even(hu: np.ndarray, origin_mm: np.ndarray, spacing_mm: float) -> Painter:
    """For things of metal and plastic on a grid (x, y, z) float32 whose first element lies at (3,)."""
    flat = np.zeros(np.array(hu.shape) // _GRAIN_STEP + 1, np.float32)
    return Painter(hu, origin_mm, spacing_mm, flat, flat)


def _texture(shape: tuple[int, ...], rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Smooth noise of deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap")
    return noise / noise.std()


@njit(cache=True)
def _blend_ellipsoid(
    hu: np.ndarray,
    origin: np.ndarray,
    spacing: float,
    centre: np.ndarray,
    axes: np.ndarray,
    value: float,
    noise: np.ndarray,
    noise_mm: float,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Blend `value` into an ellipsoid cut to the box low..high; its surface is displaced by noise times noise_mm."""
    first = np.empty(3, np.int64)
    last = np.empty(3, np.int64)
    for a in range(3):
        reach = axes[a] + 2 * spacing + 3 * noise_mm
        first[a] = max(0, int((max(centre[a] - reach, low[a] - spacing) - origin[a]) / spacing))
        last[a] = min(hu.shape[a] - 1, int((min(centre[a] + reach, high[a] + spacing) - origin[a]) / spacing) + 1)
    for i in range(first[0], last[0] + 1):
        x = origin[0] + spacing * i
        for j in range(first[1], last[1] + 1):
            y = origin[1] + spacing * j
            for k in range(first[2], last[2] + 1):
                z = origin[2] + spacing * k
                # Distance to an ellipsoid to first order: exact on its surface, which is where it counts.
                px, py, pz = (x - centre[0]) / axes[0], (y - centre[1]) / axes[1], (z - centre[2]) / axes[2]
                k0 = np.sqrt(px * px + py * py + pz * pz)
                gx, gy, gz = px / axes[0], py / axes[1], pz / axes[2]
                k1 = np.sqrt(gx * gx + gy * gy + gz * gz)
                distance = k0 * (k0 - 1) / k1 if k1 > 1e-9 else -axes[0]
                if noise_mm > 0 and abs(distance) < 4 * noise_mm + spacing:
                    distance += noise_mm * noise[i // _ROUGH_STEP, j // _ROUGH_STEP, k // _ROUGH_STEP]
                distance = max(distance, low[0] - x, x - high[0], low[1] - y, y - high[1], low[2] - z, z - high[2])
                cover = 0.5 - distance / spacing
                if cover >= 1:
                    hu[i, j, k] = value
                elif cover > 0:
                    hu[i, j, k] += cover * (value - hu[i, j, k])


@njit(cache=True)
def _blend_rod(
    hu: np.ndarray,
    origin: np.ndarray,
    spacing: float,
    start: np.ndarray,
    end: np.ndarray,
    radius: float,
    value: float,
    noise: np.ndarray,
    noise_hu: float,
) -> None:
    """Blend `value` (+ noise times noise_hu) into a rod with round ends."""
    first = np.empty(3, np.int64)
    last = np.empty(3, np.int64)
    for a in range(3):
        first[a] = max(0, int((min(start[a], end[a]) - radius - spacing - origin[a]) / spacing))
        last[a] = min(hu.shape[a] - 1, int((max(start[a], end[a]) + radius + spacing - origin[a]) / spacing) + 1)
    along = end - start
    squared = max((along**2).sum(), 1e-9)
    for i in range(first[0], last[0] + 1):
        x = origin[0] + spacing * i - start[0]
        for j in range(first[1], last[1] + 1):
            y = origin[1] + spacing * j - start[1]
            for k in range(first[2], last[2] + 1):
                z = origin[2] + spacing * k - start[2]
                t = min(1.0, max(0.0, (x * along[0] + y * along[1] + z * along[2]) / squared))
                dx, dy, dz = x - t * along[0], y - t * along[1], z - t * along[2]
                cover = min(1.0, 0.5 - (np.sqrt(dx * dx + dy * dy + dz * dz) - radius) / spacing)
                if cover > 0:
                    local = value + noise_hu * noise[i // _GRAIN_STEP, j // _GRAIN_STEP, k // _GRAIN_STEP]
                    hu[i, j, k] += cover * (local - hu[i, j, k])
