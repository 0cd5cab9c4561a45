"""Large vessels followed through bone: cheapest paths of even, vessel-like HU between the vessels found in brain and neck."""

from __future__ import annotations

import heapq
import math

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.common.threads import in_parts

_UNEVEN = 0.12  # of the contrast: deviation within 3 x 3 x 3 voxels that costs as much as the step itself
_OFF_LEVEL = 0.15  # of the contrast: difference to the vessel's HU that costs as much
_MAX_COST = 1.8  # mean cost of a bridge per mm; the middle of a vessel has 1.1 to 1.6
_DEAREST = 30.0  # cost of a step: so that single voxels of a plaque can be crossed
# Share of the contrast: darker is partial volume with brain or fat; brighter, of a voxel, is bone. What is filled around a path stays
# nearer to the vessel's level than what a path may cross.
_DARKEST, _BRIGHTEST, _BRIGHTEST_FILLED = 0.6, 1.5, 1.35
_SHORTEST_MM = 4.0  # less is a gap within one vessel, which the fill closes
_LONGEST_MM = 90.0  # through the skull base, with all bends of the siphon
_REACH_MM = 60.0  # the skull base is searched this far around the vessels of the neck
_END_MM = 6.0  # ends nearer to one another belong to one vessel
_RADIUS_MM = 3.0  # of the widest vessel that is filled around a path: a carotid in its canal has 2.5


def bridges(
    hu: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    brain_hu: float,
    vessel_hu: float,
    spacing_mm: float,
) -> np.ndarray:
    """Vessels that join `upper` to `lower` where bone hides their edges, such as the carotids in the skull base.

    In its canal a vessel is darker than bone and no tube filter sees it; but its HU is that of the vessel on both sides, and
    even, as no marrow is.

    Parameters
    ----------
    hu : (z, y, x) int16
        Isotropic.
    upper, lower : (z, y, x) bool
        Vessels found in brain and neck.
    vessel_hu
        HU of the vessels to follow.

    Returns
    -------
    (z, y, x) bool
    """
    out = np.zeros(hu.shape, dtype=bool)
    if not upper.any() or not lower.any():
        return out
    box = _box(lower, round(_REACH_MM / spacing_mm))
    hu, upper, lower = (np.ascontiguousarray(a[box]) for a in (hu, upper, lower))
    centre = np.zeros(hu.shape, dtype=bool)
    for path in _paths(hu, upper, lower, brain_hu, vessel_hu, spacing_mm):
        centre.ravel()[path] = True
    # what is as bright as the vessel, joined to a path and near it
    contrast = vessel_hu - brain_hu
    low, high = brain_hu + _DARKEST * contrast, brain_hu + _BRIGHTEST_FILLED * contrast
    # As float32, for which it is compiled already.
    out[box] = grown(centre, hu.astype(np.float32), np.float32(low), np.float32(high), round(_RADIUS_MM / spacing_mm))
    return out


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    box = ndimage.find_objects(mask.view(np.int8))[0]
    z, y, x = (slice(max(0, s.start - margin), s.stop + margin) for s in box)
    return z, y, x


def _paths(
    hu: np.ndarray, upper: np.ndarray, lower: np.ndarray, brain_hu: float, vessel_hu: float, spacing_mm: float
) -> list[np.ndarray]:
    """Flat indices of each path from an end of `lower` to `upper` that looks like a vessel all along."""
    cost = np.zeros(hu.shape, dtype=np.float32)
    in_parts(_cost, len(hu), hu, np.float32(brain_hu), np.float32(vessel_hu), cost)
    reach, parent = _front(cost, upper, lower, np.float32(_MAX_COST * _LONGEST_MM / spacing_mm))
    ends = np.flatnonzero(lower)
    ends = ends[np.isfinite(reach[ends])]
    ends = ends[np.argsort(reach[ends])]
    where = np.stack(np.unravel_index(ends, hu.shape), axis=1) * spacing_mm
    paths, unseen = [], np.ones(len(ends), dtype=bool)
    while unseen.any():
        n = int(np.argmax(unseen))
        unseen &= np.linalg.norm(where - where[n], axis=1) > _END_MM
        path = _trace(parent, ends[n])
        points = np.stack(np.unravel_index(path, hu.shape), axis=1) * spacing_mm
        length_mm = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
        if _SHORTEST_MM <= length_mm <= _LONGEST_MM and reach[ends[n]] * spacing_mm <= _MAX_COST * length_mm:
            paths.append(path)
    return paths


def _trace(parent: np.ndarray, end: int) -> np.ndarray:
    path = [end]
    while parent[path[-1]] >= 0:
        path.append(parent[path[-1]])
    return np.array(path)


@njit(cache=True, nogil=True)
def grown(mask, image, low, high, steps):  # type: ignore[no-untyped-def]
    """A mask (z, y, x) bool, lengthened by `steps` face neighbours as far as `image` (z, y, x) lies in low..high."""
    nz, ny, nx = mask.shape
    out = mask.copy()
    front = [(0, 0, 0)]
    front.pop()
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if mask[z, y, x]:
                    front.append((z, y, x))
    for _ in range(steps):
        if not len(front):
            break
        reached = [(0, 0, 0)]
        reached.pop()
        for z, y, x in front:
            for a, b, c in ((z - 1, y, x), (z + 1, y, x), (z, y - 1, x), (z, y + 1, x), (z, y, x - 1), (z, y, x + 1)):
                if 0 <= a < nz and 0 <= b < ny and 0 <= c < nx and not out[a, b, c] and low < image[a, b, c] < high:
                    out[a, b, c] = True
                    reached.append((a, b, c))
        front = reached
    return out


@njit(cache=True, nogil=True)
def _cost(first, last, hu, brain_hu, vessel_hu, out):  # type: ignore[no-untyped-def]
    """Cost of a step, 1 in a vessel; 0, as it was, where none can be. Of the planes first:last, as `in_parts` shares them out."""
    nz, ny, nx = hu.shape
    contrast = vessel_hu - brain_hu
    low, high = brain_hu + _DARKEST * contrast, brain_hu + _BRIGHTEST * contrast
    for z in range(max(first, 1), min(last, nz - 1)):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                v = hu[z, y, x]
                if v < low or v > high:
                    continue
                total, squares = 0.0, 0.0
                for a in range(z - 1, z + 2):
                    for b in range(y - 1, y + 2):
                        for c in range(x - 1, x + 2):
                            w = float(hu[a, b, c])
                            total += w
                            squares += w * w
                mean = total / 27
                uneven = math.sqrt(max(squares / 27 - mean * mean, 0.0)) / (_UNEVEN * contrast)
                off = (0.5 * (mean + v) - vessel_hu) / (_OFF_LEVEL * contrast)
                out[z, y, x] = min(1 + uneven * uneven + off * off, _DEAREST)


@njit(cache=True, nogil=True)
def _front(cost, upper, lower, far):  # type: ignore[no-untyped-def]
    """Cheapest way (flat, in voxels) from `upper` over `cost` into the first voxel of `lower`, and each voxel's way back."""
    nz, ny, nx = cost.shape
    steps = cost.ravel()
    source, sink = upper.ravel(), lower.ravel()
    reach = np.full(steps.size, np.inf, dtype=np.float32)
    parent = np.full(steps.size, -1, dtype=np.int32)
    heap = [(np.float32(0.0), np.int64(0))]
    heap.pop()
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                n = (z * ny + y) * nx + x
                if not source[n]:
                    continue
                reach[n] = 0.0
                for m in (n - 1, n + 1, n - nx, n + nx, n - ny * nx, n + ny * nx):
                    if 0 <= m < steps.size and not source[m] and (steps[m] > 0 or sink[m]):
                        heap.append((np.float32(0.0), np.int64(n)))
                        break
    while len(heap):
        d, n = heapq.heappop(heap)
        if d > reach[n] or d > far or sink[n]:
            continue
        z, y, x = n // (ny * nx), n // nx % ny, n % nx
        for a in range(max(z - 1, 0), min(z + 2, nz)):
            for b in range(max(y - 1, 0), min(y + 2, ny)):
                for c in range(max(x - 1, 0), min(x + 2, nx)):
                    m = (a * ny + b) * nx + c
                    if source[m] or not (steps[m] > 0 or sink[m]):
                        continue
                    step = math.sqrt((a - z) ** 2 + (b - y) ** 2 + (c - x) ** 2)
                    then = np.float32(d + step * max(steps[m], np.float32(1.0)))
                    if then < reach[m]:
                        reach[m] = then
                        parent[m] = n
                        heapq.heappush(heap, (then, np.int64(m)))
    return reach, parent
