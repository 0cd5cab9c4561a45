"""The CTA's vessels as points with weight and direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.vessels.kernels import (
    main_axes,
)


def vessel_points(mask: Volume) -> Points:
    """Vessel points of a mask: every voxel, about their centroid, weighing less in thicker vessels.

    By volume a sinus outweighs a hundred arteries of which the run shows far more; divided by its
    radius, every vessel's shadow is about as dark, as in a mask of the DSA.
    """
    indices = mask.set_voxels
    if len(indices) < 100:
        raise InputError(
            f"The CTA's vessel mask has {len(indices)} voxels set; at least 100 are needed: check the mask or its threshold."
        )
    positions = mask.to_ras(indices)
    origin = positions.mean(axis=0)
    positions = (positions - origin).astype(np.float32)
    radius_mm = local_radius_mm(positions, mask.voxel_volume_mm3)
    weights = (mask.voxel_volume_mm3 / radius_mm).astype(np.float32)
    return Points(positions, weights, tangents(positions), origin)


@dataclass(frozen=True)
class Points:
    """Vessel points of the CTA.

    Attributes
    ----------
    positions : (N, 3) float32
        RAS mm relative to `origin_mm`.
    weights : (N,) float32
        mm^3 times value.
    tangents : (N, 3) float32
        Direction of the vessel, of which the square of the length, 0 to 1, says how sure it is; see `tangents`.
    origin_mm : (3,)
        RAS mm of the CTA; rotations turn about it.
    """

    positions: np.ndarray
    weights: np.ndarray
    tangents: np.ndarray
    origin_mm: np.ndarray

    def subset(self, n: int, rng: np.random.Generator) -> Points:
        """About n points drawn with probability in proportion to weight, so that all weigh the same."""
        if n >= len(self.weights):
            return self
        cumulative = np.cumsum(self.weights, dtype=np.float64)
        draws = (np.arange(n) + rng.random(n)) * (cumulative[-1] / n)
        chosen = np.minimum(np.searchsorted(cumulative, draws), len(self.weights) - 1)
        weights = np.full(n, cumulative[-1] / n, dtype=np.float32)
        return Points(self.positions[chosen], weights, self.tangents[chosen], self.origin_mm)


def local_radius_mm(positions_mm: np.ndarray, voxel_volume_mm3: float, cell_mm: float = 2.5) -> np.ndarray:
    """Radius (N,) of a straight tube with as much volume as the vessels have in 3 x 3 x 3 cells around each point."""
    volume_mm3 = sums_around(positions_mm, cell_mm)(None) * voxel_volume_mm3
    radius: np.ndarray = np.sqrt(volume_mm3 / (3 * cell_mm * np.pi))
    return np.maximum(radius, 0.5)


def tangents(positions_mm: np.ndarray, cell_mm: float = 2.0) -> np.ndarray:
    """Direction of the vessel at each of the points (N, 3) that fill it, for `Points`.

    Main axis of the points in 3 x 3 x 3 cells around; the square of its length is by how much the spread along
    exceeds the larger one across, relative to the former.
    """
    x = positions_mm.astype(np.float64)
    around = sums_around(x, cell_mm)
    count = around(None)
    mean = np.stack([around(x[:, i]) / count for i in range(3)], axis=1)
    spread = np.empty((len(x), 6))
    for n, (i, j) in enumerate(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))):
        spread[:, n] = around(x[:, i] * x[:, j]) / count - mean[:, i] * mean[:, j]
    axes = np.empty((len(x), 3), np.float32)
    main_axes(spread, axes)
    return axes


def sums_around(positions_mm: np.ndarray, cell_mm: float) -> Callable[[np.ndarray | None], np.ndarray]:
    """A function that sums values (N,) of the points (N, 3) over the 3 x 3 x 3 cells around each, (N,); None counts them."""
    cells = np.floor((positions_mm - positions_mm.min(axis=0)) / cell_mm).astype(np.int64) + 1
    shape = tuple(cells.max(axis=0) + 2)
    flat = np.ravel_multi_index(tuple(cells.T), shape)

    def around(values: np.ndarray | None) -> np.ndarray:
        total = np.bincount(flat, values, minlength=int(np.prod(shape))).astype(np.float64).reshape(shape)
        sums: np.ndarray = 27 * ndimage.uniform_filter(total, 3, mode="constant").ravel()[flat]
        return sums

    return around
