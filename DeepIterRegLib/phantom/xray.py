"""Line integrals along X-rays, exact in the tubes and finely sampled in the head; apart from the renderers that register."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.phantom.centrelines import Centrelines

WATER_PER_MM = 0.0205  # about 60 keV effective
BONE_GAIN = 1.35  # bone attenuates more than its HU at CT energy says


@dataclass(frozen=True)
class Chords:
    """Sparse matrix: pixel `pixel[e]` sees `length_mm[e]` of tube `tube[e]`."""

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
        if p >= 0 and (main[p] < 0 or radius[n] > radius[main[p]] * 1.01):
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
    """Length of a ray (unit direction) inside one tube: quadratic of the cylinder, then the two planes."""
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
    if a > 1e-14:
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
            if w < 50:
                low_u, high_u = 1e9, -1e9
                break
            u = (projection[0, 0] * p[0] + projection[0, 1] * p[1] + projection[0, 2] * p[2] + projection[0, 3]) / w
            v = (projection[1, 0] * p[0] + projection[1, 1] * p[1] + projection[1, 2] * p[2] + projection[1, 3]) / w
            reach = 1.5 * radius[n] * magnified_px / w + 1  # half as much again for mitred corners and oblique rays
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
    """Which pixel sees how much of which tube, exact along the ray through each pixel's centre."""
    start, end = pose.transform(cta_to_carm, shapes.start_mm), pose.transform(cta_to_carm, shapes.end_mm)
    rotation = cta_to_carm[:3, :3]
    normals = [np.ascontiguousarray(n @ rotation.T) for n in (shapes.start_normal, shapes.end_normal)]
    corner = carm.pixel_positions(np.zeros(2))
    step_u = carm.pixel_positions(np.array([1.0, 0.0])) - corner
    step_v = carm.pixel_positions(np.array([0.0, 1.0])) - corner
    magnified_px = carm.sid_mm / min(carm.pixel_spacing_mm)
    source = np.array(carm.source_mm)
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


def attenuation_per_mm(hu: np.ndarray) -> np.ndarray:
    """Linear attenuation of HU at angiographic energy, float32."""
    return (WATER_PER_MM * np.maximum(0.0, 1.0 + (hu + (BONE_GAIN - 1) * np.maximum(hu - 100, 0)) / 1000)).astype(
        np.float32
    )


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
    """Trilinear samples along each ray, clipped to the grid."""
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
    values: np.ndarray, carm_to_index: np.ndarray, carm: CArm, step_mm: float = 1.2, longest_px: int = 384
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
    """Bilinear on the same area: pixel edges coincide."""
    return (
        image
        if image.shape == (rows, columns)
        else _bilinear(np.ascontiguousarray(image, dtype=np.float32), rows, columns)
    )


def blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Normal blur; large ones on a coarser grid."""
    if sigma_px <= 0:
        return image
    return np.asarray(ndimage.gaussian_filter(image, sigma_px, mode="nearest", truncate=3.0))
