"""The skull as points with weights, thin enough to splat in a millisecond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.compute import block_means
from DeepIterRegLib.registration.vessels.points import Points

# Contrast in arteries hardly exceeds the first; the second is dense bone: teeth and metal count no more than it does.
LOWEST_HU, HIGHEST_HU = 250.0, 1600.0
_FADE_MM = 8.0  # the scan's end must not make an edge of its own
_MIN_HU = 20.0  # mean excess of a block that counts
_FEWEST = 500


def skull_points(cta: Volume, spacing_mm: float) -> Points:
    """Blocks of about `spacing_mm` that hold bone, each weighing its mean HU above `LOWEST_HU` / 1000 times its volume (mm^3).

    Only the largest connected piece: headrest and tubes are none of it. Weights fade towards the ends of the scan, where the
    head is cut. Bone has no direction; `tangents` are 0.

    Raises
    ------
    InputError
        Next to no bone: not a CT in HU, or not of a head.
    """
    spacing = np.linalg.norm(cta.affine[:3, :3], axis=0)[::-1]  # k, j, i
    factors = np.maximum(np.round(spacing_mm / spacing), 1).astype(np.int64)
    start = cta.first_of_every(factors)
    shape = (np.array(cta.voxels.shape) - start) // factors
    if shape.min() < 2:
        raise InputError("The CTA is too thin for its bone to be used.")
    density = np.empty(tuple(shape), np.float32)
    block_means(
        np.ascontiguousarray(cta.voxels),
        (int(start[0]), int(start[1]), int(start[2])),
        (int(factors[0]), int(factors[1]), int(factors[2])),
        np.float32(LOWEST_HU),
        np.float32(HIGHEST_HU),
        density,
    )
    for axis, (count, factor, step) in enumerate(zip(shape, factors, spacing, strict=True)):
        place = (np.arange(count) + 0.5) * factor * step
        ramp = np.clip(np.minimum(place, place[::-1]) / _FADE_MM, 0, 1).astype(np.float32)
        density *= ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    blocks = np.argwhere(_largest_piece(density > _MIN_HU))
    if len(blocks) < _FEWEST:
        raise InputError(
            f"The CTA has next to no bone ({len(blocks)} blocks of {spacing_mm:g} mm above {LOWEST_HU:g} HU)."
        )
    positions = cta.to_ras(start + blocks * factors + (factors - 1) / 2)
    weights = density[tuple(blocks.T)] / 1000 * cta.voxel_volume_mm3 * float(factors.prod())
    origin = np.average(positions, axis=0, weights=weights)
    centred = (positions - origin).astype(np.float32)
    return Points(centred, weights.astype(np.float32), np.zeros_like(centred), origin)


def _largest_piece(bone: np.ndarray) -> np.ndarray:
    pieces, _ = ndimage.label(bone, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((pieces == sizes.argmax()) & bone)


def about(points: Points, origin_mm: np.ndarray) -> Points:
    """The same points with another origin (3,), about which poses turn."""
    return replace(
        points, positions=(points.positions + (points.origin_mm - origin_mm)).astype(np.float32), origin_mm=origin_mm
    )
