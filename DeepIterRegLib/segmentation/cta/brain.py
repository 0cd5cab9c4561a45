"""Where the brain lies in a CTA, and how bright brain, veins and arteries are."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.images.cta_checks import MIN_BRAIN_CM3, no_brain, require_hu
from DeepIterRegLib.segmentation.cta.grid import HIGHEST_HU, POOL
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation

# Kinds of coarse cells.
CAVITY, DEEP, RIM, NECK = 1, 2, 3, 4

# "Measured" below: on phantoms 0 and 11, whose vessels are known.
# A free cell is neither air nor fat, and at most a tenth of it is bone: brain, vessels, muscle.
_FREE_HU, _FREE_BONE = -20, 0.1
# A ball of this radius fits into the brain's cavity, but neither through the foramen magnum (half width about 15 mm) nor into orbit or
# sinus. Measured: the largest piece at 17 mm is brain alone (470 and 550 mL), at 11 mm it still reaches down the neck.
_CORE_MM = 17
_INNER_MM, _REACH_MM = 4, 40  # closes the gaps of the skull base; ends the flood that leaves by the foramen magnum
_SOFT_HU = 140  # marrow, sinuses and the largest arteries are brighter
_TO_BONE_MM = 5  # from what is `_INNER_MM` away from bone back to it, with a cell to spare
_RIM_HU, _RIM_BONE = -200, 0.95  # no air cells of the mastoid, nothing that is all bone
_NECK_HU = -100  # fat of the neck belongs to it, air does not
_NECK_LEVEL = 0.25  # of the core's height, from its lower end: below it soft tissue outside the cavity is neck
_SPINE_BONE = 0.3  # of a cell beside the spinal canal
_HOLE_STEPS = 2  # cells that close over the largest arteries
TOP_PERCENT = 99.95  # the brightest half mL of a litre: arteries wide enough not to be dimmed by partial volume
EVEN_HU, BRIGHTEST_HU = 100, 800  # above brain: no grey matter; a vessel, not bone or metal
UNEVEN = 0.5  # of the contrast, between the darkest and the brightest of 27 voxels: an edge has more
_MIN_EVEN = 50  # voxels, fewer than a cm of a wide vessel
_VEIN_SHARE, _ARTERY_SHARE = 0.5, 0.98  # most of what is even lies in veins; arteries are brighter


def pooled(hu: np.ndarray, bone_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean HU and share of bone (Z, Y, X) float32 in coarse cells, `POOL` voxels wide, of HU (z, y, x) int16 on the working grid."""
    shape = tuple(n // POOL for n in hu.shape)
    mean, bone_fraction = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
    in_parts(_pool, len(mean), hu, bone_hu, mean, bone_fraction)
    return mean, bone_fraction


def brain_cavity(
    by: ModuleType, mean: Any, bone_fraction: Any, spacing_mm: float, settings: CtaSegmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Where the brain is, in coarse cells.

    Parameters
    ----------
    by
        Whose steps are taken.
    mean, bone_fraction : (Z, Y, X) float32
        As its `pooled` gives them, of a working grid whose axes run along RAS.
    spacing_mm, settings

    Returns
    -------
    kind : (Z, Y, X) uint8
        Of each coarse cell: 0 elsewhere, `CAVITY` the brain's cavity, `DEEP` the part of it away from bone, `RIM` its rim, where
        sinuses, bone and marrow mix, `NECK` soft tissue of the neck.
    enclosed : (Z, Y, X) bool
        The part away from bone with its large arteries.

    Raises
    ------
    InputError
        No cavity as large as a brain, by the measure of `cta_checks`.
    """
    cell = POOL * spacing_mm
    free = (mean > _FREE_HU) & (bone_fraction <= _FREE_BONE)
    depth = by.depth_mm(free, cell, _CORE_MM)
    core = by.largest_piece(depth > _CORE_MM)
    cavity = by.dilated(core, "faces", round(_REACH_MM / cell), depth > _INNER_MM)
    soft = free & (mean < _SOFT_HU)
    cavity = by.dilated(cavity, "edges", math.ceil(_TO_BONE_MM / cell), soft)
    volume_cm3 = int(cavity.sum()) * cell**3 / 1000
    if volume_cm3 < MIN_BRAIN_CM3:
        raise no_brain(volume_cm3)
    rim = by.dilated(cavity, "edges", math.ceil(settings.rim_mm / cell)) & ~cavity
    rim &= (mean > _RIM_HU) & (bone_fraction < _RIM_BONE)
    deep = cavity & (by.depth_mm(soft, cell, settings.near_bone_mm) > settings.near_bone_mm)
    # large arteries make holes in the deep part; filled, it tells how bright they are
    closed = by.closed(deep, "edges", _HOLE_STEPS)
    enclosed = by.host(closed & ~by.dilated(bone_fraction > 0, "edges", 1))
    cavity, rim, deep, core, mean, bone_fraction = (by.host(a) for a in (cavity, rim, deep, core, mean, bone_fraction))
    kind = np.where(cavity, CAVITY, 0).astype(np.uint8)
    kind[rim] = RIM
    kind[deep] = DEEP
    kind[_neck(mean, bone_fraction, kind, core, cell)] = NECK
    return kind, enclosed


def _neck(
    mean: np.ndarray, bone_fraction: np.ndarray, kind: np.ndarray, core: np.ndarray, cell_mm: float
) -> np.ndarray:
    """Coarse cells (Z, Y, X) bool below the brain, in soft tissue: the arteries and veins of the neck."""
    levels = np.flatnonzero(core.any(axis=(1, 2)))
    neck = (kind == 0) & (mean > _NECK_HU) & (bone_fraction == 0)
    neck[levels[0] + round(_NECK_LEVEL * len(levels)) :] = False
    # the spinal canal's rim is neck too: there the vertebral arteries run beside bone
    spine = (kind == RIM) & (mean > _NECK_HU) & (bone_fraction < _SPINE_BONE)
    spine[max(0, levels[0] - round(_CORE_MM / cell_mm)) :] = False
    return np.asarray(neck | spine)


# Of kernels that begin with `first, last`: the part first:last of their loop, as `in_parts` shares it out.
@njit(cache=True, nogil=True)
def _pool(first, last, hu, bone_hu, mean, bone):  # type: ignore[no-untyped-def]
    """Mean (Z, Y, X) and share of bone in coarse cells of HU (z, y, x)."""
    ny, nx = mean.shape[1:]
    for z in range(first, last):
        for y in range(ny):
            for x in range(nx):
                total, count = 0.0, 0
                for a in range(POOL):
                    for b in range(POOL):
                        for c in range(POOL):
                            v = hu[POOL * z + a, POOL * y + b, POOL * x + c]
                            total += v
                            if v >= bone_hu:
                                count += 1
                mean[z, y, x] = total / POOL**3
                bone[z, y, x] = count / POOL**3


def brain_and_vessel_hu(hu: np.ndarray, deep: np.ndarray) -> tuple[float, float]:
    """Median of the brain, and HU of its well-filled vessels (the brightest half mL).

    Parameters
    ----------
    hu : (z, y, x) int16
        On the working grid.
    deep : (Z, Y, X) bool
        Coarse cells of the brain away from bone.

    Raises
    ------
    InputError
        There are none, or values that are not HU.
    """
    z, y, x = (n // POOL for n in hu.shape)
    cells = hu.reshape(z, POOL, y, POOL, x, POOL).transpose(0, 2, 4, 1, 3, 5)[deep]
    if not cells.size:
        raise no_brain(0.0)
    brain_hu = float(np.median(cells))
    require_hu(brain_hu)
    return brain_hu, float(np.percentile(cells, TOP_PERCENT))


def vein_and_artery_hu(hu: np.ndarray, enclosed: np.ndarray, brain_hu: float, vessel_hu: float) -> tuple[float, float]:
    """HU of large veins and arteries, seen where a vessel of the brain is wide enough to be even; `vessel_hu` where none is.

    `hu` (z, y, x) int16 is on the working grid, `enclosed` (Z, Y, X) bool of coarse cells.
    """
    found = np.zeros((len(hu), HIGHEST_HU + 1), dtype=np.int64)
    in_parts(_even_hu, len(hu), hu, enclosed, np.float32(brain_hu), found)
    return levels_of_even(found.sum(axis=0), vessel_hu)


def levels_of_even(histogram: np.ndarray, vessel_hu: float) -> tuple[float, float]:
    """HU of veins and arteries from how many even places there are of each HU, from 0; `vessel_hu` where there are hardly any."""
    counts = np.cumsum(histogram)
    if counts[-1] < _MIN_EVEN:
        return vessel_hu, vessel_hu
    vein_hu, artery_hu = np.searchsorted(counts, np.array([_VEIN_SHARE, _ARTERY_SHARE]) * counts[-1])
    return float(vein_hu), max(vessel_hu, float(artery_hu))


@njit(cache=True, nogil=True)
def _even_hu(first, last, hu, enclosed, brain_hu, counts):  # type: ignore[no-untyped-def]
    """Histogram (z, HU) of the means of 3 x 3 x 3 voxels deep in the brain that are bright and alike."""
    nz, ny, nx = hu.shape
    for z in range(max(first, 1), min(last, nz - 1)):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                v = hu[z, y, x]
                if v < brain_hu + EVEN_HU or v > BRIGHTEST_HU or not enclosed[z // POOL, y // POOL, x // POOL]:
                    continue
                total, low, high = 0.0, v, v
                for a in range(z - 1, z + 2):
                    for b in range(y - 1, y + 2):
                        for c in range(x - 1, x + 2):
                            w = hu[a, b, c]
                            total += w
                            low, high = min(low, w), max(high, w)
                if low > brain_hu + EVEN_HU and high - low < UNEVEN * (total / 27 - brain_hu):
                    counts[z, int(total / 27)] += 1
