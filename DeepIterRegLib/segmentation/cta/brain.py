"""Where the brain lies in a CTA, and how bright brain, veins and arteries are."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.segmentation.cta.grid import POOL, no_head_reason
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation


def brain_cavity(hu: np.ndarray, spacing_mm: float, settings: CtaSegmentation) -> tuple[np.ndarray, np.ndarray]:
    """Where the brain is, in coarse cells (`POOL` working voxels).

    Returns
    -------
    kind : uint8
        0 elsewhere, 1 the brain's cavity, 2 the part of it away from bone, 3 its rim, where sinuses, bone and marrow mix,
        4 soft tissue of the neck.
    enclosed : bool
        The part away from bone with its large arteries.
    """
    mean, bone_fraction = _pool(hu, settings.bone_hu)
    cell = POOL * spacing_mm
    free = (mean > -20) & (bone_fraction <= 0.1)
    depth = ndimage.distance_transform_edt(np.pad(free, 1), sampling=cell)[1:-1, 1:-1, 1:-1]
    core = _largest_component(depth > 17)
    # 4 mm closes the gaps of the skull base; 40 mm reach ends the flood that leaves by the foramen magnum
    inner = depth > 4
    faces, edges = ndimage.generate_binary_structure(3, 1), ndimage.generate_binary_structure(3, 2)
    cavity = core
    for _ in range(round(40 / cell)):
        cavity = ndimage.binary_dilation(cavity, faces, mask=inner)
    soft = free & (mean < 140)  # marrow, sinuses and the largest arteries are brighter
    cavity = ndimage.binary_dilation(cavity, edges, iterations=math.ceil(5 / cell), mask=soft)
    volume_ml = cavity.sum() * cell**3 / 1000
    if volume_ml < 300:
        tissue = float(np.median(mean[mean > -300])) if (mean > -300).any() else math.nan
        found = f"the largest space inside bone has {volume_ml:.0f} mL (a skull has 1000 mL and more; tissue is at {tissue:.0f} HU)"
        raise InputError(no_head_reason(found))
    kind = cavity.astype(np.uint8)
    kind[
        ndimage.binary_dilation(cavity, edges, iterations=math.ceil(settings.rim_mm / cell))
        & ~cavity
        & (mean > -200)
        & (bone_fraction < 0.95)
    ] = 3
    depth = ndimage.distance_transform_edt(np.pad(soft, 1), sampling=cell)[1:-1, 1:-1, 1:-1]
    deep = cavity & (depth > settings.near_bone_mm)
    kind[deep] = 2
    # below the brain, in soft tissue: the arteries and veins of the neck
    levels = np.flatnonzero(core.any(axis=(1, 2)))
    neck = (kind == 0) & (mean > -100) & (bone_fraction == 0)
    neck[levels[0] + round(0.25 * len(levels)) :] = False
    # the spinal canal's rim is neck too: there the vertebral arteries run beside bone
    spine = (kind == 3) & (mean > -100) & (bone_fraction < 0.3)
    spine[max(0, levels[0] - round(17 / cell)) :] = False
    kind[neck | spine] = 4
    # large arteries make holes in the deep part; filled, it tells how bright they are
    enclosed = ndimage.binary_closing(deep, edges, iterations=2) & ~ndimage.binary_dilation(bone_fraction > 0, edges)
    return kind, enclosed


@njit(parallel=True, cache=True, nogil=True)
def _pool(hu, bone_hu):  # type: ignore[no-untyped-def]
    """Mean and share of bone in cells of 4 x 4 x 4 voxels."""
    nz, ny, nx = hu.shape[0] // 4, hu.shape[1] // 4, hu.shape[2] // 4
    mean = np.empty((nz, ny, nx), dtype=np.float32)
    bone = np.empty((nz, ny, nx), dtype=np.float32)
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                total, count = 0.0, 0
                for a in range(4):
                    for b in range(4):
                        for c in range(4):
                            v = hu[4 * z + a, 4 * y + b, 4 * x + c]
                            total += v
                            if v >= bone_hu:
                                count += 1
                mean[z, y, x] = total / 64
                bone[z, y, x] = count / 64
    return mean, bone


def brain_and_vessel_hu(hu: np.ndarray, deep: np.ndarray) -> tuple[float, float]:
    """Median of the brain, and HU of its well-filled vessels (the top few mL)."""
    z, y, x = (n // POOL for n in hu.shape)
    cells = hu.reshape(z, POOL, y, POOL, x, POOL).transpose(0, 2, 4, 1, 3, 5)[deep]
    if not cells.size:
        raise InputError(no_head_reason("nothing lies deep inside the skull"))
    brain = float(np.median(cells))
    if not -30 <= brain <= 120:
        raise InputError(
            Message(
                f"The inside of the skull is at {brain:.0f} in the CTA; brain is at 20 to 60 HU. The values are not HU "
                "(an offset of 1024 is common)",
                advice="Export the series with its rescale intercept, or use a vessel mask.",
                give=("cta_mask",),
            )
        )
    return brain, float(np.percentile(cells, 99.95))


def vein_and_artery_hu(hu: np.ndarray, enclosed: np.ndarray, brain_hu: float, vessel_hu: float) -> tuple[float, float]:
    """HU of large veins and arteries, seen where a vessel of the brain is wide enough to be even; `vessel_hu` where none is."""
    counts = np.cumsum(_even_hu(hu, enclosed, np.float32(brain_hu)).sum(axis=0))
    if counts[-1] < 50:
        return vessel_hu, vessel_hu
    # most of what is even lies in veins; arteries are brighter
    vein_hu, artery_hu = np.searchsorted(counts, np.array([0.5, 0.98]) * counts[-1])
    return float(vein_hu), max(vessel_hu, float(artery_hu))


@njit(parallel=True, cache=True, nogil=True)
def _even_hu(hu, enclosed, brain_hu):  # type: ignore[no-untyped-def]
    """Histogram (z, HU) of the means of 3 x 3 x 3 voxels deep in the brain that are bright and alike."""
    nz, ny, nx = hu.shape
    counts = np.zeros((nz, 1000), dtype=np.int64)
    for z in prange(1, nz - 1):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                v = hu[z, y, x]
                if v < brain_hu + 100 or v > 800 or not enclosed[z // 4, y // 4, x // 4]:
                    continue
                total, low, high = 0.0, v, v
                for a in range(z - 1, z + 2):
                    for b in range(y - 1, y + 2):
                        for c in range(x - 1, x + 2):
                            w = hu[a, b, c]
                            total += w
                            low, high = min(low, w), max(high, w)
                if low > brain_hu + 100 and high - low < 0.5 * (total / 27 - brain_hu):
                    counts[z, int(total / 27)] += 1
    return counts


def _largest_component(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
