"""Vessels as round tubes, and how long each X-ray runs in each: exact, by geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.phantom.centrelines import Centrelines

_NEAREST_MM = 50  # from the source: nothing nearer is a patient
_THICKER = 1.01  # times: of children as thick as one another the first continues its parent, whatever rounding says
_MITRE = 1.5  # reach of a tube's shadow in radii: half as much again for mitred corners and oblique rays


@dataclass(frozen=True)
class Chords:
    """Sparse matrix of E entries: pixel `pixel[e]` sees `length_mm[e]` of tube `tube[e]`.

    Attributes
    ----------
    pixel : (E,) int32
        Row times columns plus column.
    tube : (E,) int32
    length_mm : (E,) float32
    """

    pixel: np.ndarray
    tube: np.ndarray
    length_mm: np.ndarray

    def image(self, per_tube: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Sum over tubes of length times `per_tube` (M,): (rows, columns) float32."""
        out = np.zeros(rows * columns, np.float32)
        _accumulate(self.pixel, self.tube, self.length_mm, per_tube.astype(np.float32), out)
        return out.reshape(rows, columns)


@dataclass(frozen=True)
class Tubes:
    """Round tubes cut by a plane at each end, where neighbours meet, so that no point lies in two of them.

    Attributes
    ----------
    start_mm, end_mm : (M, 3)
    start_normal, end_normal : (M, 3)
        Cutting planes; a point is inside where it lies after the first and before the second.
    radius_mm : (M,)
    node : (M,)
        Index of the node of `Centrelines` at the tube's end.
    """

    start_mm: np.ndarray
    end_mm: np.ndarray
    start_normal: np.ndarray
    end_normal: np.ndarray
    radius_mm: np.ndarray
    node: np.ndarray


def tubes(vessels: Centrelines, chosen: np.ndarray) -> Tubes:
    """Tubes of the chosen nodes (N,) bool. The first mm of a side branch that lie inside its parent are left out."""
    points, parent, radius = vessels.points_mm, vessels.parent, vessels.radius_mm
    has_parent = parent >= 0
    axis = np.where(has_parent[:, None], points - points[parent], 0.0)
    length = np.linalg.norm(axis, axis=1)
    axis = axis / np.maximum(length, 1e-9)[:, None]
    main, inside = _topology(points, parent, radius)
    continues = has_parent & (main[parent] == np.arange(len(parent))) & (parent[parent] >= 0)
    start_normal = np.where(continues[:, None], axis + axis[parent], axis)
    end_normal = np.where((main >= 0)[:, None], axis + axis[main], axis)
    # Contrast counts once where vessels overlap, as blood does.
    keep = has_parent & chosen & (length > 1e-6) & ~inside
    n = np.flatnonzero(keep)
    return Tubes(
        points[parent[n]],
        points[n],
        _unit(start_normal[n]),
        _unit(end_normal[n]),
        (radius[n] + radius[parent[n]]) / 2,
        n,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))


@njit(cache=True)
def _topology(points: np.ndarray, parent: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Main child of each node (-1 at tips), and whether a node lies in the lumen that its branch leaves."""
    count = len(parent)
    main = np.full(count, -1, np.int64)
    for n in range(count):
        p = parent[n]
        if p >= 0 and (main[p] < 0 or radius[n] > radius[main[p]] * _THICKER):
            main[p] = n
    origin = np.full(count, -1, np.int64)
    inside = np.zeros(count, np.bool_)
    for n in range(count):
        p = parent[n]
        if p < 0:
            continue
        if main[p] != n:
            origin[n] = p
        elif inside[p]:
            origin[n] = origin[p]
        if origin[n] >= 0:
            distance = np.sqrt(((points[n] - points[origin[n]]) ** 2).sum())
            inside[n] = distance < radius[origin[n]]
    return main, inside


@njit(cache=True)
def chord_mm(
    source: np.ndarray,
    direction: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    start_normal: np.ndarray,
    end_normal: np.ndarray,
    radius: float,
) -> float:
    """Length in mm of a ray inside one tube: quadratic of the cylinder, then the two planes.

    Source, unit direction, ends and normals are (3,), in one frame, mm.
    """
    ax, ay, az = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    length = np.sqrt(ax * ax + ay * ay + az * az)
    ax, ay, az = ax / length, ay / length, az / length
    ox, oy, oz = source[0] - start[0], source[1] - start[1], source[2] - start[2]
    da = direction[0] * ax + direction[1] * ay + direction[2] * az
    oa = ox * ax + oy * ay + oz * az
    dx, dy, dz = direction[0] - da * ax, direction[1] - da * ay, direction[2] - da * az
    px, py, pz = ox - oa * ax, oy - oa * ay, oz - oa * az
    a = dx * dx + dy * dy + dz * dz
    b = dx * px + dy * py + dz * pz
    c = px * px + py * py + pz * pz - radius * radius
    near, far = -1e12, 1e12
    if a > 1e-14:  # else the ray runs along the tube
        root = b * b - a * c
        if root <= 0:
            return 0.0
        root = np.sqrt(root)
        near, far = (-b - root) / a, (-b + root) / a
    elif c > 0:
        return 0.0
    slope = direction[0] * start_normal[0] + direction[1] * start_normal[1] + direction[2] * start_normal[2]
    offset = ox * start_normal[0] + oy * start_normal[1] + oz * start_normal[2]
    if abs(slope) < 1e-12:
        if offset < 0:
            return 0.0
    elif slope > 0:
        near = max(near, -offset / slope)
    else:
        far = min(far, -offset / slope)
    ex, ey, ez = source[0] - end[0], source[1] - end[1], source[2] - end[2]
    slope = direction[0] * end_normal[0] + direction[1] * end_normal[1] + direction[2] * end_normal[2]
    offset = ex * end_normal[0] + ey * end_normal[1] + ez * end_normal[2]
    if abs(slope) < 1e-12:
        if offset > 0:
            return 0.0
    elif slope > 0:
        far = min(far, -offset / slope)
    else:
        near = max(near, -offset / slope)
    return max(0.0, far - near)


@njit(cache=True)
def _chords(
    start: np.ndarray,
    end: np.ndarray,
    start_normal: np.ndarray,
    end_normal: np.ndarray,
    radius: np.ndarray,
    projection: np.ndarray,
    magnified_px: float,
    source: np.ndarray,
    corner: np.ndarray,
    step_u: np.ndarray,
    step_v: np.ndarray,
    rows: int,
    columns: int,
    pixel: np.ndarray,
    tube: np.ndarray,
    length: np.ndarray,
) -> int:
    """Fill the sparse entries; called with empty arrays it only counts the upper bound."""
    filled = 0
    counting = len(pixel) == 0
    u0, v0, u1, v1 = 0.0, 0.0, 0.0, 0.0
    direction = np.empty(3)
    for n in range(len(start)):
        low_u, high_u, low_v, high_v = 1e9, -1e9, 1e9, -1e9
        largest = 0.0
        for e in range(2):
            p = start[n] if e == 0 else end[n]
            w = projection[2, 0] * p[0] + projection[2, 1] * p[1] + projection[2, 2] * p[2] + projection[2, 3]
            if w < _NEAREST_MM:
                low_u, high_u = 1e9, -1e9
                break
            u = (projection[0, 0] * p[0] + projection[0, 1] * p[1] + projection[0, 2] * p[2] + projection[0, 3]) / w
            v = (projection[1, 0] * p[0] + projection[1, 1] * p[1] + projection[1, 2] * p[2] + projection[1, 3]) / w
            reach = _MITRE * radius[n] * magnified_px / w + 1
            largest = max(largest, reach)
            if e == 0:
                u0, v0 = u, v
            else:
                u1, v1 = u, v
            low_u, high_u = min(low_u, u - reach), max(high_u, u + reach)
            low_v, high_v = min(low_v, v - reach), max(high_v, v + reach)
        if low_u > high_u:
            continue
        c0, c1 = max(0, int(np.ceil(low_u))), min(columns - 1, int(np.floor(high_u)))
        r0, r1 = max(0, int(np.ceil(low_v))), min(rows - 1, int(np.floor(high_v)))
        if c0 > c1 or r0 > r1:
            continue
        if counting:
            filled += (c1 - c0 + 1) * (r1 - r0 + 1)
            continue
        du, dv = u1 - u0, v1 - v0
        span = max(du * du + dv * dv, 1e-9)
        for r in range(r0, r1 + 1):
            for c in range(c0, c1 + 1):
                # Pixels away from the tube's shadow need no chord.
                t = min(1.0, max(0.0, ((c - u0) * du + (r - v0) * dv) / span))
                if (c - u0 - t * du) ** 2 + (r - v0 - t * dv) ** 2 > largest * largest:
                    continue
                total = 0.0
                for a in range(3):
                    direction[a] = corner[a] + c * step_u[a] + r * step_v[a] - source[a]
                    total += direction[a] * direction[a]
                norm = 1 / np.sqrt(total)
                for a in range(3):
                    direction[a] *= norm
                chord = chord_mm(source, direction, start[n], end[n], start_normal[n], end_normal[n], radius[n])
                if chord > 0:
                    pixel[filled] = r * columns + c
                    tube[filled] = n
                    length[filled] = chord
                    filled += 1
    return filled


@njit(cache=True)
def _accumulate(pixel: np.ndarray, tube: np.ndarray, length: np.ndarray, per_tube: np.ndarray, out: np.ndarray) -> None:
    for e in range(len(pixel)):
        out[pixel[e]] += length[e] * per_tube[tube[e]]


def tube_chords(shapes: Tubes, carm: CArm, cta_to_carm: np.ndarray) -> Chords:
    """Which pixel sees how much of which tube at a pose (4, 4), exact along the ray through each pixel's centre."""
    start, end = pose.transform(cta_to_carm, shapes.start_mm), pose.transform(cta_to_carm, shapes.end_mm)
    rotation = cta_to_carm[:3, :3]
    normals = [np.ascontiguousarray(n @ rotation.T) for n in (shapes.start_normal, shapes.end_normal)]
    corner = carm.pixel_positions(np.zeros(2))
    step_u = carm.pixel_positions(np.array([1.0, 0.0])) - corner
    step_v = carm.pixel_positions(np.array([0.0, 1.0])) - corner
    magnified_px = carm.sid_mm / min(carm.pixel_spacing_mm)
    source = np.array(carm.source_mm)
    # Twice through the same kernel: to count how many entries there may be, then to fill them.
    fixed = (
        start,
        end,
        *normals,
        shapes.radius_mm,
        carm.projection_matrix,
        magnified_px,
        source,
        corner,
        step_u,
        step_v,
        carm.rows,
        carm.columns,
    )
    bound = _chords(*fixed, np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    pixel, tube, length = np.empty(bound, np.int32), np.empty(bound, np.int32), np.empty(bound, np.float32)
    filled = _chords(*fixed, pixel, tube, length) if bound else 0
    return Chords(pixel[:filled].copy(), tube[:filled].copy(), length[:filled].copy())
