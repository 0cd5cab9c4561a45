"""CPU kernels of the skull: the shadow's gradients, alone or with their six pose derivatives in one pass; its own six derivatives."""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.registration.kernels.slopes import (
    POINTS,
    WIDTH,
    add_points,
    add_products,
    amount_slopes,
    blur,
    motion,
    note_point,
    write_products,
)
from DeepIterRegLib.rendering.splat_kernels import (
    FAST,
    MIN_DEPTH_MM,
    add_inside,
    line_integral,
    to_pixel,
)

_ONE = np.int64(1)  # of a type, not a constant, for each of which numba would compile a callee anew
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
    il = np.float32(1) / lever_mm
    right, bottom = np.float32(columns - 1), np.float32(rows - 1)
    places, lanes = np.empty(POINTS, np.int64), np.zeros((POINTS, 1 + 3, WIDTH), np.float32)
    for begin in range(0, points.shape[0], POINTS):
        n = 0
        for i in range(begin, min(begin + POINTS, points.shape[0])):
            x, y, z, iz, u, v = to_pixel(camera, intrinsics, points[i, 0], points[i, 1], points[i, 2])
            if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= right or v >= bottom:
                continue
            rx, ry, rz = (x - centre[0]) * il, (y - centre[1]) * il, (z - centre[2]) * il
            du, dv = motion(x, y, z, iz, fu, fv, rx, ry, rz)
            d = amount_slopes(ff * weights[i], x, y, z, iz, rx, ry, rz)
            note_point(places, lanes, n, image, u, v, (d,), du, dv)
            n += 1
        add_points(places, lanes, n, image, _ONE)


@njit(**FAST)
def _shortened(image, target, k, valid, knee, planes, fixed):  # type: ignore[no-untyped-def]
    """Shortened gradients of row k that count, as planes (WIDTH, ...) with the target's in fixed; how many they are.

    image (rows, columns, WIDTH), target (2, rows, columns), valid (rows, columns).
    """
    half = np.float32(0.5)
    count = 0
    for j in range(1, valid.shape[1] - 1):
        if valid[k, j] == 0:
            continue
        left, right, up, down = image[k, j - 1], image[k, j + 1], image[k - 1, j], image[k + 1, j]
        x, y = half * (right[0] - left[0]), half * (down[0] - up[0])
        length = math.sqrt(x * x + y * y)
        if length < _NO_GRADIENT:
            continue
        slope = 1 / (1 + length / knee)
        curvature = slope * slope / (knee * length)  # minus the change of the slope with the length, over it
        planes[0, count], planes[0, count + 1] = slope * x, slope * y
        for m in range(1, WIDTH - 1):
            dx, dy = half * (right[m] - left[m]), half * (down[m] - up[m])
            along = (x * dx + y * dy) * curvature
            planes[m, count] = slope * dx - x * along
            planes[m, count + 1] = slope * dy - y * along
        fixed[count], fixed[count + 1] = target[0, k, j], target[1, k, j]
        count += 2
    return count


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
    planes, fixed = np.empty((WIDTH, 2 * columns), np.float32), np.empty(2 * columns, np.float32)
    for job in range(first, last):
        image = work[job, 0]
        for b in range(job, cameras.shape[0], n_jobs):
            image[:] = 0
            _splat_with_derivatives(points, weights, cameras[b], centres[b], lever_mm, intrinsics, image)
            blur(flat[job, 0], flat[job, 1], taps, work.shape[4])
            gram = np.zeros((WIDTH, WIDTH), np.float64)
            cross = np.zeros(WIDTH, np.float64)
            for k in range(1, rows - 1):
                count = _shortened(image, target, k, valid, knee, planes, fixed)
                add_products(planes, fixed, count, gram, cross)
            write_products(gram, out[b])
            for m in range(WIDTH - 1):
                out[b, 7, m] = cross[m]


@njit(**FAST)
def changes_of_shadow(  # type: ignore[no-untyped-def]
    first, last, points, weights, cameras, centres, lever_mm, intrinsics, taps, pixels, near, slow_taps, work, flat, out
):
    """How the parameters of `slopes.motion` change the blurred shadow, less what is slow in that, at some pixels.

    Arguments as of `gradient_products`, but for: pixels (N,) int64, counted row by row; near (rows, columns) float32, by what a sum over
    those of them within slow_taps is divided; work (T, 2, rows, columns, WIDTH) and flat (T, 2, rows, columns * WIDTH), the same memory;
    out (B, N, 6).
    """
    n_jobs, rows, columns, n = work.shape[0], work.shape[2], work.shape[3], work.shape[4]
    scratch = np.empty((rows, columns * n), np.float32)
    for job in range(first, last):
        image, slow = work[job, 0], work[job, 1]
        for b in range(job, cameras.shape[0], n_jobs):
            image[:] = 0
            _splat_with_derivatives(points, weights, cameras[b], centres[b], lever_mm, intrinsics, image)
            blur(flat[job, 0], scratch, taps, n)
            slow[:] = 0
            for i in range(pixels.shape[0]):
                k, j = pixels[i] // columns, pixels[i] % columns
                for m in range(n):
                    slow[k, j, m] = image[k, j, m]
            blur(flat[job, 1], scratch, slow_taps, n)
            for i in range(pixels.shape[0]):
                k, j = pixels[i] // columns, pixels[i] % columns
                share = 1 / near[k, j]
                for m in range(6):  # the shadow itself comes first
                    out[b, i, m] = image[k, j, m + 1] - share * slow[k, j, m + 1]


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
    right, bottom = np.float32(columns - 1), np.float32(rows - 1)
    for b in range(first, last):
        c = cameras[b]
        image, scratch = np.zeros((rows, columns), np.float32), np.empty((rows, columns), np.float32)
        for i in range(points.shape[0]):
            x, y, z, iz, u, v = to_pixel(c, intrinsics, points[i, 0], points[i, 1], points[i, 2])
            if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= right or v >= bottom:
                continue
            add_inside(image, u, v, line_integral(weights[i], ff, x, y, z, iz))
        blur(image, scratch, taps, _ONE)
        images[b] = 0
        across, down = images[b, 0], images[b, 1]
        compressed_gradient(image, knee, across, down)
        total = sums[b, 1]
        for k in range(rows):
            line = 0.0
            for j in range(columns):
                line += across[k, j] ** 2 + down[k, j] ** 2
                total[k + 1, j + 1] = total[k, j + 1] + line
