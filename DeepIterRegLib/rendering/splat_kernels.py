"""CPU kernels of the splat projector: points to detector pixels, and the pose derivative, without a tape.

Camera coordinates X = (x, y, z) are mm along the column, row and beam axes from the source. A point
of weight m (value x mm^3) meets the detector at column = fu x / z + cx, row = fv y / z + cy and adds the
line integral  a = m fu fv |X| / z^3  there: its content over the pixel's cross-section at that depth, along the
slanted ray. It is shared among the four nearest pixels bilinearly.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

FAST = {"cache": True, "fastmath": True, "nogil": True}
MIN_DEPTH_MM = np.float32(1.0)
BLOCK = 256  # points whose places are computed before they are added


@nb.njit(**FAST)
def to_pixel(c, intrinsics, px, py, pz):  # type: ignore[no-untyped-def]
    """Camera coordinates x, y, z, 1/z and pixel column, row of a point; c (3, 4). Behind MIN_DEPTH_MM the pixel means nothing."""
    fu, fv, cx, cy = intrinsics
    x = c[0, 0] * px + c[0, 1] * py + c[0, 2] * pz + c[0, 3]
    y = c[1, 0] * px + c[1, 1] * py + c[1, 2] * pz + c[1, 3]
    z = c[2, 0] * px + c[2, 1] * py + c[2, 2] * pz + c[2, 3]
    iz = np.float32(1.0) / max(z, MIN_DEPTH_MM)
    return x, y, z, iz, fu * x * iz + cx, fv * y * iz + cy


@nb.njit(**FAST)
def _cell(u, v, rows, columns):  # type: ignore[no-untyped-def]
    """The four pixels around (u, v): columns j, j1 and rows k, k1 held inside the image, fractions, and 0 for what lies outside."""
    one, zero = np.float32(1), np.float32(0)
    left, top = np.floor(u), np.floor(v)
    j, k = np.int32(left), np.int32(top)
    in_left, in_right = (one if j >= 0 else zero), (one if j + 1 < columns else zero)
    in_top, in_bottom = (one if k >= 0 else zero), (one if k + 1 < rows else zero)
    last_j, last_k = np.int32(columns - 1), np.int32(rows - 1)
    j1, k1 = min(max(j + np.int32(1), np.int32(0)), last_j), min(max(k + np.int32(1), np.int32(0)), last_k)
    j, k = min(max(j, np.int32(0)), last_j), min(max(k, np.int32(0)), last_k)
    return j, j1, k, k1, u - left, v - top, in_left, in_right, in_top, in_bottom


@nb.njit(parallel=True, **FAST)
def splat_forward(points, weights, cameras, intrinsics, partial):  # type: ignore[no-untyped-def]
    """Splat N points for B poses into `partial`.

    points (3, N), weights (N,), cameras (B, 3, 4) CTA mm to camera mm, intrinsics (fu, fv, cx, cy),
    partial (B, P, rows, columns) zeroed; the P partial images, one for each share of the points, are to be summed.
    """
    n_poses, n_parts, rows, columns = partial.shape
    n = points.shape[1]
    fu, fv = intrinsics[0], intrinsics[1]
    ff = fu * fv
    one, zero = np.float32(1), np.float32(0)
    across = np.int32(columns)
    for job in nb.prange(n_poses * n_parts):
        b = job // n_parts
        part = job - b * n_parts
        image = partial[b, part].reshape(-1)
        c = cameras[b]
        # Where and how much first, without a branch, so that the compiler computes many points at once; then the adding.
        at, share = np.empty((4, BLOCK), np.int32), np.empty((4, BLOCK), np.float32)
        last = (part + 1) * n // n_parts
        for begin in range(part * n // n_parts, last, BLOCK):
            count = min(BLOCK, last - begin)
            for i in range(count):
                px, py, pz = points[0, begin + i], points[1, begin + i], points[2, begin + i]
                x, y, z, iz, u, v = to_pixel(c, intrinsics, px, py, pz)
                seen = (z >= MIN_DEPTH_MM) & (u > -1) & (v > -1) & (u < columns) & (v < rows)
                a = weights[begin + i] * ff * iz * iz * iz * math.sqrt(x * x + y * y + z * z) if seen else zero
                j, j1, k, k1, fj, fk, in_left, in_right, in_top, in_bottom = _cell(
                    u if seen else zero, v if seen else zero, rows, columns
                )
                w0, w1 = a * (one - fk) * in_top, a * fk * in_bottom
                v0, v1 = (one - fj) * in_left, fj * in_right
                at[0, i], at[1, i], at[2, i], at[3, i] = (
                    k * across + j,
                    k * across + j1,
                    k1 * across + j,
                    k1 * across + j1,
                )
                share[0, i], share[1, i], share[2, i], share[3, i] = w0 * v0, w0 * v1, w1 * v0, w1 * v1
            for i in range(count):
                image[at[0, i]] += share[0, i]
                image[at[1, i]] += share[1, i]
                image[at[2, i]] += share[2, i]
                image[at[3, i]] += share[3, i]


@nb.njit(parallel=True, **FAST)
def splat_backward(points, weights, cameras, intrinsics, gradient, partial):  # type: ignore[no-untyped-def]
    """Gradient of a loss with respect to `cameras`, given its gradient (B, rows, columns) with respect to the images.

    points (3, N); partial (B, P, 3, 4) is overwritten; to be summed over P.
    """
    n_poses, n_parts = partial.shape[:2]
    rows, columns = gradient.shape[1:]
    n = points.shape[1]
    fu, fv = intrinsics[0], intrinsics[1]
    ff = fu * fv
    one, zero, three = np.float32(1), np.float32(0), np.float32(3)
    across = np.int32(columns)
    for job in nb.prange(n_poses * n_parts):
        b = job // n_parts
        part = job - b * n_parts
        g = gradient[b].reshape(-1)
        c = cameras[b]
        total = np.zeros((3, 4), np.float64)
        last = (part + 1) * n // n_parts
        for begin in range(part * n // n_parts, last, BLOCK):
            # Sums of a block in single precision are exact enough; those of all points would not be.
            sxx = sxy = sxz = sx1 = zero
            syx = syy = syz = sy1 = zero
            szx = szy = szz = sz1 = zero
            for i in range(begin, min(begin + BLOCK, last)):
                px, py, pz = points[0, i], points[1, i], points[2, i]
                x, y, z, iz, u, v = to_pixel(c, intrinsics, px, py, pz)
                seen = (z >= MIN_DEPTH_MM) & (u > -1) & (v > -1) & (u < columns) & (v < rows)
                m = weights[i] * ff * iz * iz * iz if seen else zero
                j, j1, k, k1, fj, fk, in_left, in_right, in_top, in_bottom = _cell(
                    u if seen else zero, v if seen else zero, rows, columns
                )
                g00, g01 = g[k * across + j] * in_top * in_left, g[k * across + j1] * in_top * in_right
                g10, g11 = g[k1 * across + j] * in_bottom * in_left, g[k1 * across + j1] * in_bottom * in_right
                r = math.sqrt(x * x + y * y + z * z)
                a = m * r
                value = (one - fk) * ((one - fj) * g00 + fj * g01) + fk * ((one - fj) * g10 + fj * g11)
                along_u = a * fu * iz * ((one - fk) * (g01 - g00) + fk * (g11 - g10))
                along_v = a * fv * iz * ((one - fj) * (g10 - g00) + fj * (g11 - g01))
                vm = value * m / r
                dx = along_u + vm * x
                dy = along_v + vm * y
                dz = vm * z - three * value * a * iz - (along_u * x + along_v * y) * iz
                sxx += dx * px
                sxy += dx * py
                sxz += dx * pz
                sx1 += dx
                syx += dy * px
                syy += dy * py
                syz += dy * pz
                sy1 += dy
                szx += dz * px
                szy += dz * py
                szz += dz * pz
                sz1 += dz
            for row, sums in enumerate(((sxx, sxy, sxz, sx1), (syx, syy, syz, sy1), (szx, szy, szz, sz1))):
                for column in range(4):
                    total[row, column] += sums[column]
        partial[b, part] = total
