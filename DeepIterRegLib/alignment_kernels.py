"""CPU kernels of search and alignment: images of the points, alone or with their six pose derivatives in one pass."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

_FAST = {"cache": True, "fastmath": True, "nogil": True}
_MIN_DEPTH_MM = 1.0
CHANNELS = 8  # image, three rotations, three translations, one unused so that a pixel fills a vector register


@nb.njit(**_FAST)
def _splat_with_derivatives(points, weights, camera, centre, lever_mm, intrinsics, image):  # type: ignore[no-untyped-def]
    """Channel 0: line integrals; 1-3: per (rotation about the camera axes through `centre`) x lever; 4-6: per mm."""
    rows, columns, _ = image.shape
    fu, fv, cx, cy = intrinsics
    ff = fu * fv
    c = camera
    xc, yc, zc = centre
    il = np.float32(1.0) / lever_mm
    du = np.zeros(8, np.float32)
    dv = np.zeros(8, np.float32)
    da = np.zeros(8, np.float32)
    for i in range(points.shape[0]):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        z = c[2, 0] * px + c[2, 1] * py + c[2, 2] * pz + c[2, 3]
        if z < _MIN_DEPTH_MM:
            continue
        x = c[0, 0] * px + c[0, 1] * py + c[0, 2] * pz + c[0, 3]
        y = c[1, 0] * px + c[1, 1] * py + c[1, 2] * pz + c[1, 3]
        iz = np.float32(1.0) / z
        u = fu * x * iz + cx
        v = fv * y * iz + cy
        if u < 0 or v < 0 or u >= columns - 1 or v >= rows - 1:
            continue
        r2 = x * x + y * y + z * z
        a = weights[i] * ff * iz * iz * iz * math.sqrt(r2)
        j = int(u)
        k = int(v)
        fj = u - j
        fk = v - k
        # Derivatives of column, row and amplitude with respect to camera coordinates.
        ux, uz = fu * iz, -fu * x * iz * iz
        vy, vz = fv * iz, -fv * y * iz * iz
        ar = a / r2
        ax, ay, az = ar * x, ar * y, ar * z - 3 * a * iz
        rx, ry, rz = (x - xc) * il, (y - yc) * il, (z - zc) * il
        # Rotation about x moves the point by (0, -rz, ry), about y by (rz, 0, -rx), about z by (-ry, rx, 0).
        du[1], du[2], du[3] = uz * ry, ux * rz - uz * rx, -ux * ry
        dv[1], dv[2], dv[3] = vz * ry - vy * rz, -vz * rx, vy * rx
        da[1], da[2], da[3] = az * ry - ay * rz, ax * rz - az * rx, ay * rx - ax * ry
        du[4], du[5], du[6] = ux, np.float32(0), uz
        dv[4], dv[5], dv[6] = np.float32(0), vy, vz
        da[0] = a
        da[4], da[5], da[6] = ax, ay, az
        w00, w01, w10, w11 = (1 - fk) * (1 - fj), (1 - fk) * fj, fk * (1 - fj), fk * fj
        p00, p01, p10, p11 = image[k, j], image[k, j + 1], image[k + 1, j], image[k + 1, j + 1]
        for n in range(8):
            bu = a * du[n]
            bv = a * dv[n]
            p00[n] += da[n] * w00 - bu * (1 - fk) - bv * (1 - fj)
            p01[n] += da[n] * w01 + bu * (1 - fk) - bv * fj
            p10[n] += da[n] * w10 - bu * fk + bv * (1 - fj)
            p11[n] += da[n] * w11 + bu * fk + bv * fj


@nb.njit(**_FAST)
def _blur(image, scratch, taps):  # type: ignore[no-untyped-def]
    """Separable symmetric filter over rows and columns of (rows, columns, 8); taps[0] is the centre. Zero outside."""
    rows, columns, n = image.shape
    radius = taps.shape[0] - 1
    flat = image.reshape(rows, columns * n)
    out = scratch.reshape(rows, columns * n)
    width = columns * n
    for k in range(rows):
        row = out[k]
        src = flat[k]
        for i in range(width):
            row[i] = taps[0] * src[i]
        for t in range(1, radius + 1):
            w = taps[t]
            if k - t >= 0:
                src = flat[k - t]
                for i in range(width):
                    row[i] += w * src[i]
            if k + t < rows:
                src = flat[k + t]
                for i in range(width):
                    row[i] += w * src[i]
    for k in range(rows):
        row = flat[k]
        src = out[k]
        for i in range(width):
            row[i] = taps[0] * src[i]
        for t in range(1, radius + 1):
            w = taps[t]
            s = t * n
            for i in range(width - s):
                row[i] += w * src[i + s]
            for i in range(s, width):
                row[i] += w * src[i - s]


@nb.njit(parallel=True, **_FAST)
def products(  # type: ignore[no-untyped-def]
    points, weights, cameras, centres, lever_mm, intrinsics, target, valid, taps, saturation_mm, work, out
):
    """Inner products from which score, gradient and Gauss-Newton matrix follow.

    cameras (B, 3, 4), centres (B, 3) camera mm, target and valid (rows, columns) float32, work
    (T, 2, rows, columns, 8), out (B, 9, 7): rows 0-6 Gram matrix of image and derivatives over the valid
    pixels, row 7 their sums, row 8 their products with the target.
    """
    n_poses = cameras.shape[0]
    n_jobs = work.shape[0]
    rows, columns = target.shape
    for job in nb.prange(n_jobs):
        image = work[job, 0]
        scratch = work[job, 1]
        for b in range(job, n_poses, n_jobs):
            image[:] = 0
            _splat_with_derivatives(points, weights, cameras[b], centres[b], lever_mm, intrinsics, image)
            _blur(image, scratch, taps)
            gram = np.zeros((7, 8), np.float64)
            sums = np.zeros(8, np.float64)
            cross = np.zeros(8, np.float64)
            line_g = np.zeros((7, 8), np.float32)
            for k in range(rows):
                line_g[:] = 0
                for j in range(columns):
                    if valid[k, j] == 0:
                        continue
                    p = image[k, j]
                    if p[0] == 0:
                        continue
                    f = p[0] / (1 + p[0] / saturation_mm)
                    slope = 1 / (1 + p[0] / saturation_mm) ** 2
                    p[0] = f
                    for n in range(1, 7):
                        p[n] *= slope
                    t = target[k, j]
                    for m in range(7):
                        pm = p[m]
                        for n in range(8):
                            line_g[m, n] += pm * p[n]
                    for n in range(7):
                        sums[n] += p[n]
                        cross[n] += p[n] * t
                for m in range(7):
                    for n in range(7):
                        gram[m, n] += line_g[m, n]
            for m in range(7):
                for n in range(7):
                    out[b, m, n] = gram[m, n]
                out[b, 7, m] = sums[m]
                out[b, 8, m] = cross[m]


@nb.njit(parallel=True, **_FAST)
def images_and_sums(points, weights, cameras, intrinsics, taps, saturation_mm, images, sums):  # type: ignore[no-untyped-def]
    """Blurred, saturated images of the points for B poses, and running sums of them and of their squares.

    images (B, at least rows, at least columns), zero outside rows x columns, and sums (B, 2, rows + 1, columns + 1), zero
    in the first row and column, are overwritten.
    """
    fu, fv, cx, cy = intrinsics
    ff = fu * fv
    radius = taps.shape[0] - 1
    rows, columns = sums.shape[2] - 1, sums.shape[3] - 1
    for b in nb.prange(cameras.shape[0]):
        c = cameras[b]
        image = images[b]
        other = np.empty((rows, columns), np.float32)
        image[:] = 0
        for i in range(points.shape[0]):
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            z = c[2, 0] * px + c[2, 1] * py + c[2, 2] * pz + c[2, 3]
            if z < _MIN_DEPTH_MM:
                continue
            x = c[0, 0] * px + c[0, 1] * py + c[0, 2] * pz + c[0, 3]
            y = c[1, 0] * px + c[1, 1] * py + c[1, 2] * pz + c[1, 3]
            iz = np.float32(1.0) / z
            u = fu * x * iz + cx
            v = fv * y * iz + cy
            if u < 0 or v < 0 or u >= columns - 1 or v >= rows - 1:
                continue
            a = weights[i] * ff * iz * iz * iz * math.sqrt(x * x + y * y + z * z)
            j = int(u)
            k = int(v)
            fj = u - j
            fk = v - k
            image[k, j] += a * (1 - fk) * (1 - fj)
            image[k, j + 1] += a * (1 - fk) * fj
            image[k + 1, j] += a * fk * (1 - fj)
            image[k + 1, j + 1] += a * fk * fj
        for k in range(rows):
            for j in range(columns):
                other[k, j] = taps[0] * image[k, j]
            for t in range(1, radius + 1):
                w = taps[t]
                if k >= t:
                    for j in range(columns):
                        other[k, j] += w * image[k - t, j]
                if k + t < rows:
                    for j in range(columns):
                        other[k, j] += w * image[k + t, j]
        one, two = sums[b, 0], sums[b, 1]
        for k in range(rows):
            for j in range(columns):
                image[k, j] = taps[0] * other[k, j]
            for t in range(1, radius + 1):
                w = taps[t]
                for j in range(columns - t):
                    image[k, j] += w * other[k, j + t]
                for j in range(t, columns):
                    image[k, j] += w * other[k, j - t]
            line = 0.0
            line_of_squares = 0.0
            for j in range(columns):
                f = image[k, j] / (1 + image[k, j] / saturation_mm)
                image[k, j] = f
                line += f
                line_of_squares += f * f
                one[k + 1, j + 1] = one[k, j + 1] + line
                two[k + 1, j + 1] = two[k, j + 1] + line_of_squares


@nb.njit(**_FAST)
def _box_sum(sums, box, k, j):  # type: ignore[no-untyped-def]
    r0, r1, c0, c1 = box[0] + k, box[1] + k, box[2] + j, box[3] + j
    return sums[r1, c1] - sums[r0, c1] - sums[r1, c0] + sums[r0, c0]


@nb.njit(parallel=True, **_FAST)
def summits(products, sums, box, size, score, shift):  # type: ignore[no-untyped-def]
    """Strongest local maxima of the normalised cross-correlation over shifts.

    products (B, >= size, >= size): sums over the window of image x target, overwritten; sums as from `images_and_sums`;
    box: first and past-last row and column of the window that count; score (B, K) and shift (B, K, 2) as (column, row) from
    the first shift are overwritten, strongest first.
    """
    n_peaks = score.shape[1]
    n_pixels = (box[1] - box[0]) * (box[3] - box[2])
    for b in nb.prange(products.shape[0]):
        w = products[b]
        variance = np.empty((size, size), np.float32)
        top = np.float32(0)
        for k in range(size):
            for j in range(size):
                mean = _box_sum(sums[b, 0], box, k, j)
                variance[k, j] = _box_sum(sums[b, 1], box, k, j) - mean * mean / n_pixels
                top = max(top, variance[k, j])
        # A window that holds next to nothing must not win by dividing by next to nothing.
        floor = np.float32(0.05) * top + np.float32(1e-20)
        for k in range(size):
            for j in range(size):
                w[k, j] /= math.sqrt(max(variance[k, j], np.float32(0)) + floor)
        for n in range(n_peaks):
            score[b, n] = -2
            shift[b, n, 0] = shift[b, n, 1] = size // 2
        for k in range(size):
            for j in range(size):
                s = w[k, j]
                if s <= score[b, n_peaks - 1]:
                    continue
                highest = True
                for kk in range(max(0, k - 2), min(size, k + 3)):
                    for jj in range(max(0, j - 2), min(size, j + 3)):
                        if w[kk, jj] > s:
                            highest = False
                if not highest:
                    continue
                n = n_peaks - 1
                while n > 0 and score[b, n - 1] < s:
                    score[b, n] = score[b, n - 1]
                    shift[b, n, 0], shift[b, n, 1] = shift[b, n - 1, 0], shift[b, n - 1, 1]
                    n -= 1
                score[b, n] = s
                shift[b, n, 0], shift[b, n, 1] = j, k
