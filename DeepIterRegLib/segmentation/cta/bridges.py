"""Large vessels followed through bone: cheapest paths of even, vessel-like HU between the vessels found in brain and neck."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.common.threads import in_parts

UNEVEN = 0.12  # of the contrast: deviation within 3 x 3 x 3 voxels that costs as much as the step itself
OFF_LEVEL = 0.15  # of the contrast: difference to the vessel's HU that costs as much
_MAX_COST = 1.8  # mean cost of a bridge per mm; the middle of a vessel has 1.1 to 1.6
DEAREST = 30.0  # cost of a step: so that single voxels of a plaque can be crossed
# Share of the contrast: darker is partial volume with brain or fat; brighter, of a voxel, is bone. What is filled around a path stays
# nearer to the vessel's level than what a path may cross.
DARKEST, BRIGHTEST, _BRIGHTEST_FILLED = 0.6, 1.5, 1.35
_SHORTEST_MM = 4.0  # less is a gap within one vessel, which the fill closes
_LONGEST_MM = 90.0  # through the skull base, with all bends of the siphon
_REACH_MM = 60.0  # the skull base is searched this far around the vessels of the neck
_END_MM = 6.0  # ends nearer to one another belong to one vessel
_PLANES = 32  # looked at together
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
    lines = [np.asarray(lower.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    box = surroundings(lines, lower.shape, spacing_mm)
    hu = hu[box]
    nodes = _nodes(hu, upper[box], lower[box], brain_hu, vessel_hu)
    centre = np.zeros(hu.shape, dtype=bool)
    for path in paths_between(nodes, hu.shape, spacing_mm):
        centre.ravel()[path] = True
    low, high = vessel_range(brain_hu, vessel_hu)
    within = hu > low
    within &= hu < high
    out[box] = grown(centre, within, fill_steps(spacing_mm))
    return out


def surroundings(lines: Sequence[np.ndarray], shape: tuple[int, ...], spacing_mm: float) -> tuple[slice, slice, slice]:
    """The box of a volume of that shape that is searched for paths; three `lines` (n,) bool say where along z, y, x there are ends."""
    margin = round(_REACH_MM / spacing_mm)
    hits = [np.flatnonzero(line) for line in lines]
    z, y, x = (
        slice(max(0, int(hit[0]) - margin), min(count, int(hit[-1]) + 1 + margin))
        for hit, count in zip(hits, shape, strict=True)
    )
    return z, y, x


def vessel_range(brain_hu: float, vessel_hu: float) -> tuple[int, int]:
    """HU between which is filled what is joined to a path and near it: what is as bright as the vessel. Whole, as those of voxels are."""
    contrast = vessel_hu - brain_hu
    return math.floor(brain_hu + DARKEST * contrast), math.ceil(brain_hu + _BRIGHTEST_FILLED * contrast)


def fill_steps(spacing_mm: float) -> int:
    """Voxels about a path that are filled."""
    return round(_RADIUS_MM / spacing_mm)


class Nodes(NamedTuple):
    """Voxels of a volume that a path may touch.

    Attributes
    ----------
    at : (N,) int32
        Flat indices, rising.
    cost : (N,) float32
        Of a step into each; 0 where none can be.
    upper, lower : (N,) bool
        Which belong to the vessels of brain and neck.
    """

    at: np.ndarray
    cost: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


def _nodes(hu: np.ndarray, upper: np.ndarray, lower: np.ndarray, brain_hu: float, vessel_hu: float) -> Nodes:
    """The voxels of volumes (z, y, x) that a path may touch. Some planes at a time: all costs take twice the memory of the volume."""
    parts = []
    for first in range(0, len(hu), _PLANES):
        # A cost looks at the neighbours.
        before, last = max(first - 1, 0), min(first + _PLANES, len(hu))
        seen = np.ascontiguousarray(hu[before : last + 1])
        around = np.zeros(seen.shape, dtype=np.float32)
        in_parts(_cost, len(seen), seen, np.float32(brain_hu), np.float32(vessel_hu), around)
        cost = around[first - before : last - before]
        inside = (cost > 0) | upper[first:last] | lower[first:last]
        at = (np.flatnonzero(inside) + first * hu[0].size).astype(np.int32)
        parts.append((at, cost[inside], upper[first:last][inside], lower[first:last][inside]))
    return Nodes(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def paths_between(nodes: Nodes, shape: tuple[int, ...], spacing_mm: float) -> list[np.ndarray]:
    """Flat indices of each path from an end of the lower vessels to the upper ones that looks like a vessel all along.

    `shape` is that of the volume (z, y, x).
    """
    at, cost, upper, lower = nodes
    reach, parent = _front(at, cost, upper, lower, *shape, np.float32(_MAX_COST * _LONGEST_MM / spacing_mm))
    ends = np.flatnonzero(lower)
    ends = ends[np.isfinite(reach[ends])]
    ends = ends[np.argsort(reach[ends])]
    where = np.stack(np.unravel_index(at[ends], shape), axis=1) * spacing_mm
    paths, unseen = [], np.ones(len(ends), dtype=bool)
    while unseen.any():
        n = int(np.argmax(unseen))
        unseen &= np.linalg.norm(where - where[n], axis=1) > _END_MM
        path = at[_trace(parent, int(ends[n]))]
        points = np.stack(np.unravel_index(path, shape), axis=1) * spacing_mm
        length_mm = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
        if _SHORTEST_MM <= length_mm <= _LONGEST_MM and reach[ends[n]] * spacing_mm <= _MAX_COST * length_mm:
            paths.append(path)
    return paths


def _trace(parent: np.ndarray, end: int) -> np.ndarray:
    path = [end]
    while (before := int(parent[path[-1]])) >= 0:
        path.append(before)
    return np.array(path)


@njit(cache=True, nogil=True)
def grown(mask, within, steps):  # type: ignore[no-untyped-def]
    """A mask (z, y, x) bool, lengthened by `steps` face neighbours as far as these lie `within` (z, y, x) bool."""
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
                if 0 <= a < nz and 0 <= b < ny and 0 <= c < nx and not out[a, b, c] and within[a, b, c]:
                    out[a, b, c] = True
                    reached.append((a, b, c))
        front = reached
    return out


@njit(cache=True, nogil=True)
def _cost(first, last, hu, brain_hu, vessel_hu, out):  # type: ignore[no-untyped-def]
    """Cost of a step, 1 in a vessel; 0, as it was, where none can be. Of the planes first:last, as `in_parts` shares them out."""
    nz, ny, nx = hu.shape
    contrast = vessel_hu - brain_hu
    low, high = brain_hu + DARKEST * contrast, brain_hu + BRIGHTEST * contrast
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
                uneven = math.sqrt(max(squares / 27 - mean * mean, 0.0)) / (UNEVEN * contrast)
                off = (0.5 * (mean + v) - vessel_hu) / (OFF_LEVEL * contrast)
                out[z, y, x] = min(1 + uneven * uneven + off * off, DEAREST)


@njit(cache=True, nogil=True)
def _front(nodes, steps, source, sink, nz, ny, nx, far):  # type: ignore[no-untyped-def]
    """Cheapest way, in voxels, from sources over steps into the first sink, and the node before on it (-1); by node (N,)."""
    # The node at a voxel: so many from the first of its row on, counted from 1. Half the memory of a number for each voxel.
    number, row = np.zeros(nz * ny * nx, dtype=np.uint16), np.zeros(nz * ny, dtype=np.int32)
    for i in range(len(nodes)):
        line = nodes[i] // nx
        if i == 0 or line != nodes[i - 1] // nx:
            row[line] = i - 1
        number[nodes[i]] = i - row[line]
    reach = np.full(len(nodes), np.inf, dtype=np.float32)
    parent = np.full(len(nodes), -1, dtype=np.int32)
    heap = [(np.float32(0.0), np.int64(0))]
    heap.pop()
    for i in range(len(nodes)):
        if not source[i]:
            continue
        n = int(nodes[i])
        reach[i] = 0.0
        for m in (n - 1, n + 1, n - nx, n + nx, n - ny * nx, n + ny * nx):
            if m < 0 or m >= number.size or number[m] == 0:
                continue
            j = row[m // nx] + number[m]
            if not source[j] and (steps[j] > 0 or sink[j]):
                heap.append((np.float32(0.0), np.int64(i)))
                break
    while len(heap):
        d, here = heapq.heappop(heap)
        if d > reach[here] or d > far or sink[here]:
            continue
        n = int(nodes[here])
        z, y, x = n // (ny * nx), n // nx % ny, n % nx
        for a in range(max(z - 1, 0), min(z + 2, nz)):
            for b in range(max(y - 1, 0), min(y + 2, ny)):
                for c in range(max(x - 1, 0), min(x + 2, nx)):
                    of_row = number[(a * ny + b) * nx + c]
                    if of_row == 0:
                        continue
                    j = row[a * ny + b] + of_row
                    if source[j] or not (steps[j] > 0 or sink[j]):
                        continue
                    step = math.sqrt((a - z) ** 2 + (b - y) ** 2 + (c - x) ** 2)
                    then = np.float32(d + step * max(steps[j], np.float32(1.0)))
                    if then < reach[j]:
                        reach[j] = then
                        parent[j] = here
                        heapq.heappush(heap, (then, np.int64(j)))
    return reach, parent
