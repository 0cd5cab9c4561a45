"""CPU kernels of the skull: gradients of the skull's shadow, alone or with their six pose derivatives in one pass."""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.registration.kernels.vessels import ONE, WIDTH, blur
from DeepIterRegLib.rendering.splat_kernels import (
    FAST,
    MIN_DEPTH_MM,
    add_bilinear,
    add_bilinear_slopes,
    line_integral,
    to_pixel,
)

_NO_GRADIENT = np.float32(1e-12)  # shorter, and its direction is rounding


# `first, last` as in `kernels.vessels`.
@njit(**FAST)
def block_means(first, last, voxels, start, factors, low, high, out):  # type: ignore[no-untyped-def]
    """Mean of min(voxels, high) - low, at least 0, over blocks of `factors` (3,) voxels from `start` (3,) on.

    voxels (k, j, i), out (K, J, I) float32.
    """
    sk, sj, si = start
    fk, fj, fi = factors
    part = np.float32(1.0 / (fk * fj * fi))
    for k in range(first, last):
        for j in range(out.shape[1]):
            out[k, j] = 0
            for kk in range(sk + k * fk, sk + (k + 1) * fk):
                for jj in range(sj + j * fj, sj + (j + 1) * fj):
                    for i in range(out.shape[2]):
                        total = np.float32(0)
                        for ii in range(si + i * fi, si + (i + 1) * fi):
                            value = np.float32(voxels[kk, jj, ii])
                            total += max(min(value, high) - low, np.float32(0))
                        out[k, j, i] += total * part


@njit(**FAST)
def _splat_with_derivatives(points, weights, camera, centre, lever_mm, intrinsics, image):  # type: ignore[no-untyped-def]
    """Splat into image (rows, columns, WIDTH): value, change per rotation about the camera axes through `centre` x lever, per mm.

    points (N, 3), weights (N,), camera (3, 4), centre (3,) camera mm; as the vessels' in `kernels.vessels`, but without
    directions.
    """
    rows, columns, _ = image.shape
    fu, fv = intrinsics[0], intrinsics[1]
    ff = fu * fv
    xc, yc, zc = centre
    il = np.float32(1.0) / lever_mm
    du, dv, df = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    sx, sy, sz = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    sx[4] = sy[5] = sz[6] = np.float32(1)
    for i in range(points.shape[0]):
        x, y, z, iz, u, v = to_pixel(camera, intrinsics, points[i, 0], points[i, 1], points[i, 2])
        if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= columns - 1 or v >= rows - 1:
            continue
        r2 = x * x + y * y + z * z
        a = weights[i] * ff * iz * iz * iz * math.sqrt(r2)
        rx, ry, rz = (x - xc) * il, (y - yc) * il, (z - zc) * il
        sy[1], sz[1] = -rz, ry
        sx[2], sz[2] = rz, -rx
        sx[3], sy[3] = -ry, rx
        ar = a / r2
        ax, ay, az = ar * x, ar * y, ar * z - 3 * a * iz
        df[0] = a
        for m in range(1, 7):
            du[m] = a * fu * iz * (sx[m] - x * iz * sz[m])
            dv[m] = a * fv * iz * (sy[m] - y * iz * sz[m])
            df[m] = ax * sx[m] + ay * sy[m] + az * sz[m]
        add_bilinear_slopes(image, u, v, df, du, dv)


@njit(**FAST)
def gradient_products(  # type: ignore[no-untyped-def]
    first, last, points, weights, cameras, centres, lever_mm, intrinsics, target, valid, taps, knee, work, flat, out
):
    """Inner products from which score, gradient and Gauss-Newton matrix follow.

    points (N, 3), weights (N,), cameras (B, 3, 4), centres (B, 3) camera mm, intrinsics (4,), taps (radius + 1,), target (2,
    rows, columns) and valid (rows, columns) float32, work (T, 2, rows, columns, WIDTH), flat (T, 2, rows,
    columns * WIDTH) the same memory, out (B, 8, 7): rows 0-6 Gram matrix
    over the valid pixels of both components of the compressed gradient and its derivatives, row 7 their products with the
    target.
    """
    n_jobs = work.shape[0]
    rows, columns = valid.shape
    half = np.float32(0.5)
    for job in range(first, last):
        image = work[job, 0]
        d = np.zeros((2, WIDTH), np.float32)
        for b in range(job, cameras.shape[0], n_jobs):
            image[:] = 0
            _splat_with_derivatives(points, weights, cameras[b], centres[b], lever_mm, intrinsics, image)
            blur(flat[job, 0], flat[job, 1], taps, work.shape[4])
            gram = np.zeros((WIDTH, WIDTH), np.float64)
            cross = np.zeros(WIDTH, np.float64)
            for k in range(1, rows - 1):
                g = np.zeros((WIDTH, WIDTH), np.float32)
                t = np.zeros(WIDTH, np.float32)
                for j in range(1, columns - 1):
                    if valid[k, j] == 0:
                        continue
                    left, right, up, down = image[k, j - 1], image[k, j + 1], image[k - 1, j], image[k + 1, j]
                    x, y = half * (right[0] - left[0]), half * (down[0] - up[0])
                    length = math.sqrt(x * x + y * y)
                    if length < _NO_GRADIENT:
                        continue
                    slope = 1 / (1 + length / knee)
                    curvature = (
                        slope * slope / (knee * length)
                    )  # minus the change of the slope with the length, over it
                    for m in range(WIDTH):
                        dx, dy = half * (right[m] - left[m]), half * (down[m] - up[m])
                        along = (x * dx + y * dy) * curvature
                        d[0, m] = slope * dx - x * along
                        d[1, m] = slope * dy - y * along
                    d[0, 0], d[1, 0] = slope * x, slope * y
                    for n in range(2):
                        q = d[n]
                        for m in range(WIDTH - 1):
                            for n2 in range(WIDTH):
                                g[m, n2] += q[m] * q[n2]
                        for m in range(WIDTH):
                            t[m] += q[m] * target[n, k, j]
                for m in range(WIDTH - 1):
                    for n2 in range(WIDTH - 1):
                        gram[m, n2] += g[m, n2]
                    cross[m] += t[m]
            for m in range(7):
                for n in range(7):
                    out[b, m, n] = gram[m, n]
                out[b, 7, m] = cross[m]


@njit(**FAST)
def compressed_gradient(image, knee, across, down):  # type: ignore[no-untyped-def]
    """Central differences of image (rows, columns) over columns and rows, shortened to length / (1 + length / knee).

    across, down (rows, columns) are overwritten but for the rim, which stays.
    """
    rows, columns = image.shape
    half = np.float32(0.5)
    for k in range(1, rows - 1):
        for j in range(1, columns - 1):
            x, y = half * (image[k, j + 1] - image[k, j - 1]), half * (image[k + 1, j] - image[k - 1, j])
            slope = 1 / (1 + math.sqrt(x * x + y * y) / knee)
            across[k, j], down[k, j] = slope * x, slope * y


@njit(**FAST)
def gradient_images(first, last, points, weights, cameras, intrinsics, taps, knee, images, sums):  # type: ignore[no-untyped-def]
    """Compressed gradients of the blurred splat for B poses, with what their norms need.

    points (N, 3), weights (N,), cameras (B, 3, 4), intrinsics (4,), taps (radius + 1,).
    images (B, 2, at least rows, at least columns), zero outside rows x columns, and sums (B, 2, rows + 1, columns + 1), the
    second running sums of squares, zero in the first row and column, are overwritten; the first of sums stays as it is.
    """
    rows, columns = sums.shape[2] - 1, sums.shape[3] - 1
    ff = intrinsics[0] * intrinsics[1]
    for b in range(first, last):
        c = cameras[b]
        image, scratch = np.zeros((rows, columns), np.float32), np.empty((rows, columns), np.float32)
        for i in range(points.shape[0]):
            x, y, z, iz, u, v = to_pixel(c, intrinsics, points[i, 0], points[i, 1], points[i, 2])
            if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= columns - 1 or v >= rows - 1:
                continue
            add_bilinear(image, u, v, line_integral(weights[i], ff, x, y, z, iz))
        blur(image, scratch, taps, ONE)
        images[b] = 0
        across, down = images[b, 0], images[b, 1]
        compressed_gradient(image, knee, across, down)
        total = sums[b, 1]
        for k in range(rows):
            line = 0.0
            for j in range(columns):
                line += across[k, j] ** 2 + down[k, j] ** 2
                total[k + 1, j + 1] = total[k, j + 1] + line
