"""The steps of `segment_vessels` on the CPU; those on a card, `tensors`, have the same names.

What goes from step to step stays where it was made: arrays here, tensors there. Lists of voxels and what is asked of them come back.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from DeepIterRegLib.segmentation.cta.brain import (
    CAVITY,
    DEEP,
    NECK,
    brain_and_vessel_hu,
    pooled,
    vein_and_artery_hu,
)
from DeepIterRegLib.segmentation.cta.bridges import bridges, grown
from DeepIterRegLib.segmentation.cta.grid import (
    POOL,
    WorkingGrid,
    bounding_box,
    draw_on_source_grid,
    resample_trilinear,
)
from DeepIterRegLib.segmentation.cta.tubes import (
    bright_voxels,
    gaussian_blur,
    open_directions,
    painted_as_brain,
    tube_response,
)

Structure = Literal["faces", "edges"]

__all__ = [
    "brain_and_neck_pieces",
    "brain_and_vessel_hu",
    "bridges",
    "bright_voxels",
    "closed",
    "counts",
    "depth_mm",
    "dilated",
    "drawn",
    "gaussian_blur",
    "grown",
    "host",
    "largest_piece",
    "marked",
    "openness",
    "painted_as_brain",
    "pieces",
    "pooled",
    "resampled",
    "tubes",
    "values_at",
    "vein_and_artery_hu",
]


def host(values: np.ndarray) -> np.ndarray:
    """Values (...) of a step as an array."""
    return values


def resampled(voxels: np.ndarray, grid: WorkingGrid) -> np.ndarray:
    """HU (z, y, x) int16 on a grid, trilinear, of voxels (k, j, i) int16."""
    return resample_trilinear(voxels, grid.to_source, grid.shape)


# Which neighbours of a cell count: those that share a face, or an edge at least.
_STRUCTURES: dict[Structure, np.ndarray] = {
    "faces": ndimage.generate_binary_structure(3, 1),
    "edges": ndimage.generate_binary_structure(3, 2),
}


def depth_mm(mask: np.ndarray, cell_mm: float, most_mm: float) -> np.ndarray:
    """How far each cell (Z, Y, X) of a mask is from the next that is none of it, or from outside; exact up to `most_mm`."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=cell_mm)
    return np.asarray(depth[1:-1, 1:-1, 1:-1])


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask (Z, Y, X) whose cells share faces."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return np.asarray(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))


def dilated(mask: np.ndarray, structure: Structure, steps: int, within: np.ndarray | None = None) -> np.ndarray:
    """A mask (Z, Y, X) with what neighbours it, so many steps far, of that `within` which is asked for."""
    if not steps:
        return mask
    return np.asarray(ndimage.binary_dilation(mask, _STRUCTURES[structure], steps, mask=within))


def closed(mask: np.ndarray, structure: Structure, steps: int) -> np.ndarray:
    """A mask (Z, Y, X) with its narrow gaps closed."""
    return np.asarray(ndimage.binary_closing(mask, _STRUCTURES[structure], steps))


def values_at(image: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values (N,) of an image (z, y, x) at indices (N, 3)."""
    return np.asarray(image[tuple(index.T)])


def tubes(smooth: np.ndarray, index: np.ndarray, scale: float, brain_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """Response and roundness (N,) float32, as `tube_response` tells them, of voxels (N, 3) of an image (z, y, x) at one scale."""
    response = np.zeros(len(index), dtype=np.float32)
    return response, tube_response(smooth, index, np.float32(scale), np.float32(brain_hu), response)


def openness(
    hu: np.ndarray,
    index: np.ndarray,
    zone: np.ndarray,
    soft_hu: float,
    artery_hu: float,
    bone_hu: float,
    reach: int,
) -> np.ndarray:
    """As `open_directions` tells it, (N,) float32, of voxels (N, 3); 1 deep in the brain."""
    share = np.ones(len(index), dtype=np.float32)
    open_directions(hu, index, zone, soft_hu, artery_hu, bone_hu, reach, share)
    return share


def pieces(flat: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """The number (N,), from 1, of the piece that each of these voxels belongs to; flat indices (N,) of a volume like `hu` (z, y, x)."""
    labels, _ = ndimage.label(marked(flat, hu), np.ones((3, 3, 3)))
    return np.asarray(labels.ravel()[flat])


def marked(flat: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """A mask (z, y, x) bool, like `hu`, with these voxels set; flat indices (N,)."""
    mask = np.zeros(hu.shape, dtype=bool)
    mask.ravel()[flat] = True
    return mask


def brain_and_neck_pieces(
    mask: np.ndarray, zone: np.ndarray, wide: int, min_voxels: float
) -> tuple[np.ndarray, np.ndarray]:
    """A mask (z, y, x) cut where the neck begins: the pieces that reach into the brain's cavity, and the large ones of the neck.

    `zone` (Z, Y, X) gives the kind of coarse cells; from slice `wide` of theirs on, the cavity is the brain's own.
    """
    z, y, x = np.nonzero(mask)
    kind = zone[z // POOL, y // POOL, x // POOL]
    brain = np.zeros(mask.shape, dtype=bool)
    brain[z, y, x] = ((kind == CAVITY) | (kind == DEEP)) & (z // POOL >= wide)
    open_to_brain = np.zeros(mask.shape, dtype=bool)
    open_to_brain[z, y, x] = kind != NECK
    upper = grown(brain, open_to_brain, sum(mask.shape))
    lower = mask & ~upper
    if lower.any():
        box = bounding_box(lower, margin=0)
        lower[box] = _large_components(lower[box], min_voxels)
    return upper, lower


def counts(mask: np.ndarray, enclosed: np.ndarray) -> tuple[int, int]:
    """Voxels of a mask (z, y, x) in coarse cells (Z, Y, X) bool, and all of them."""
    inside = np.repeat(np.repeat(np.repeat(enclosed, POOL, 0), POOL, 1), POOL, 2)
    return int((mask & inside).sum()), int(mask.sum())


def drawn(
    voxels: np.ndarray, grid: WorkingGrid, hu: np.ndarray, mask: np.ndarray, brain_hu: float, bone_hu: float
) -> np.ndarray:
    """As `draw_on_source_grid`, an array (k, j, i) bool, of voxels (k, j, i) int16."""
    return draw_on_source_grid(voxels, grid, hu, mask, brain_hu, bone_hu)


def _large_components(mask: np.ndarray, min_voxels: float) -> np.ndarray:
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(labels.ravel()) >= min_voxels
    keep[0] = False
    return keep[labels]
