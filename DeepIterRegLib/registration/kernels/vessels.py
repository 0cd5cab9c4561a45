"""CPU kernels of search and alignment: images of the points, alone or with their six pose derivatives in one pass."""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.rendering.splat_kernels import (
    FAST,
    MIN_DEPTH_MM,
    add_bilinear,
    add_bilinear_slopes,
    line_integral,
    to_pixel,
)

ONE = np.int64(1)  # of a type, not a constant, for each of which numba would compile a callee anew
CHANNELS = 3  # amount of vessel, and it times cosine and sine of twice its angle
WIDTH = 8  # of each channel: value, three rotations, three translations, one unused so that it fills a vector register
_ROUND = 1e-12  # spread, mm2, below which points have no main axis: they are one point
# Of the largest variance over all shifts, added to each: a window that holds next to nothing must not win by dividing by
# next to nothing.
_VARIANCE_FLOOR = np.float32(0.05)
_PEAK_RADIUS_PX = 2  # a local maximum is the highest of 5 x 5 shifts: a match is blurred over about as many


# Of kernels that begin with `first, last`: the part first:last of their loop, as `common.threads.in_parts` shares it out.
@njit(**FAST)
def area_means(first, last, image, out):  # type: ignore[no-untyped-def]
    """Means of image (rows, columns) over each pixel of another grid out, both float32; each value is read about once."""
    down, across = image.shape[0] / out.shape[0], image.shape[1] / out.shape[1]
    for r in range(first, last):
        top, bottom = r * down, min((r + 1) * down, image.shape[0])
        line = np.zeros(image.shape[1], np.float32)
        for k in range(int(top), min(int(math.ceil(bottom)), image.shape[0])):
            share = np.float32((min(bottom, k + 1) - max(top, k)) / down)
            for j in range(image.shape[1]):
                line[j] += share * image[k, j]
        for c in range(out.shape[1]):
            left, right = c * across, min((c + 1) * across, image.shape[1])
            total = np.float32(0)
            for j in range(int(left), min(int(math.ceil(right)), image.shape[1])):
                total += np.float32((min(right, j + 1) - max(left, j)) / across) * line[j]
            out[r, c] = total


@njit(**FAST)
def main_axes(first, last, spread, out):  # type: ignore[no-untyped-def]
    """Main axis of symmetric matrices spread (N, 6: xx, xy, xz, yy, yz, zz), float64, as out (N, 3) float32.

    The square of its length is by how much the largest eigenvalue exceeds the second, relative to the largest. Eigenvalues in
    closed form; the axis is the largest column of the product of the matrix less each of the two others.
    """
    for n in range(first, last):
        xx, xy, xz, yy, yz, zz = spread[n]
        mean = (xx + yy + zz) / 3
        a, b, c = xx - mean, yy - mean, zz - mean
        size = math.sqrt((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6)
        if size < _ROUND:
            out[n] = 0
            continue
        determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
        angle = math.acos(min(1.0, max(-1.0, determinant / (2 * size * size * size)))) / 3
        largest = 2 * size * math.cos(angle)
        third = 2 * size * math.cos(angle + 2 * math.pi / 3)
        second = -largest - third
        p, q, r = a - second, b - second, c - second
        s, t, u = a - third, b - third, c - third
        best = 0.0
        for column in range(3):
            if column == 0:
                h, i, j = s, xy, xz
            elif column == 1:
                h, i, j = xy, t, yz
            else:
                h, i, j = xz, yz, u
            x, y, z = p * h + xy * i + xz * j, xy * h + q * i + yz * j, xz * h + yz * i + r * j
            length = math.sqrt(x * x + y * y + z * z)
            if length > best:
                best, ax, ay, az = length, x, y, z
        sure = min(1.0, max(0.0, (largest - second) / max(largest + mean, 1e-6)))
        scale = math.sqrt(sure) / best if best > 0 else 0.0
        out[n, 0], out[n, 1], out[n, 2] = ax * scale, ay * scale, az * scale


@njit(**FAST)
def _splat_with_derivatives(  # type: ignore[no-untyped-def]
    points, tangents, weights, camera, centre, lever_mm, intrinsics, direction_weight, image
):
    """Splat into image (rows, columns, CHANNELS * WIDTH) values and their pose derivatives.

    points, tangents (N, 3), weights (N,), camera (3, 4), centre (3,) camera mm. Derivatives ride along with the values
    because each point is then projected once, not seven times, and no tape is kept. Of each channel 0 is the value, 1-3 its
    change per (rotation about the camera axes through `centre`) x lever, 4-6 per mm.
    """
    rows, columns, _ = image.shape
    fu, fv = intrinsics[0], intrinsics[1]
    ff = fu * fv
    c = camera
    xc, yc, zc = centre
    il = np.float32(1.0) / lever_mm
    n = CHANNELS * WIDTH
    du, dv = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    sx, sy, sz = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    tx, ty, tz = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    df, bu, bv = np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32)
    sx[4] = sy[5] = sz[6] = np.float32(1)
    two = np.float32(2)
    for i in range(points.shape[0]):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        x, y, z, iz, u, v = to_pixel(c, intrinsics, px, py, pz)
        if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= columns - 1 or v >= rows - 1:
            continue
        r2 = x * x + y * y + z * z
        a = weights[i] * ff * iz * iz * iz * math.sqrt(r2)
        qx, qy, qz = tangents[i, 0], tangents[i, 1], tangents[i, 2]
        ex = c[0, 0] * qx + c[0, 1] * qy + c[0, 2] * qz
        ey = c[1, 0] * qx + c[1, 1] * qy + c[1, 2] * qz
        ez = c[2, 0] * qx + c[2, 1] * qy + c[2, 2] * qz
        # The tangent's shadow: how a small step along the vessel moves its point on the detector, as a direction. Its square,
        # as of a complex number, has twice its angle, in which a vessel and its reverse are the same.
        steep = ez * iz
        gu, gv = ex - x * steep, ey - y * steep
        cosine = direction_weight * (gu * gu - gv * gv)
        sine = direction_weight * two * gu * gv
        # Shifts of the point and of the tangent: a rotation about x moves (x, y, z) by (0, -z, y), and so on.
        rx, ry, rz = (x - xc) * il, (y - yc) * il, (z - zc) * il
        sy[1], sz[1] = -rz, ry
        sx[2], sz[2] = rz, -rx
        sx[3], sy[3] = -ry, rx
        ty[1], tz[1] = -ez * il, ey * il
        tx[2], tz[2] = ez * il, -ex * il
        tx[3], ty[3] = -ey * il, ex * il
        ar = a / r2
        ax, ay, az = ar * x, ar * y, ar * z - 3 * a * iz
        # By the product rule: where the point goes (du, dv), what it weighs (da), where its direction goes (d_gu, d_gv).
        for m in range(1, 7):
            du[m] = fu * iz * (sx[m] - x * iz * sz[m])
            dv[m] = fv * iz * (sy[m] - y * iz * sz[m])
            da = ax * sx[m] + ay * sy[m] + az * sz[m]
            d_steep = iz * (tz[m] - steep * sz[m])
            d_gu = tx[m] - sx[m] * steep - x * d_steep
            d_gv = ty[m] - sy[m] * steep - y * d_steep
            df[m] = da
            df[WIDTH + m] = da * cosine + a * direction_weight * two * (gu * d_gu - gv * d_gv)
            df[2 * WIDTH + m] = da * sine + a * direction_weight * two * (d_gu * gv + gu * d_gv)
        df[0], df[WIDTH], df[2 * WIDTH] = a, a * cosine, a * sine
        for m in range(WIDTH):
            bu[m], bu[WIDTH + m], bu[2 * WIDTH + m] = a * du[m], a * cosine * du[m], a * sine * du[m]
            bv[m], bv[WIDTH + m], bv[2 * WIDTH + m] = a * dv[m], a * cosine * dv[m], a * sine * dv[m]
        add_bilinear_slopes(image, u, v, df, bu, bv)


@njit(**FAST)
def _weigh(taps, out, middle, lower, upper, t):  # type: ignore[no-untyped-def]
    """Add taps[t] (lower + upper) to `out`, which starts as taps[0] middle at t = 0; flat rows of equal length."""
    if t == 0:
        for i in range(out.shape[0]):
            out[i] = taps[0] * middle[i]
    else:
        for i in range(out.shape[0]):
            out[i] += taps[t] * (lower[i] + upper[i])


@njit(**FAST)
def _weigh_three(taps, out, middle, a1, b1, a2, b2, a3, b3):  # type: ignore[no-untyped-def]
    """The same for a radius of 3, which every level of the search has, in one pass over memory."""
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for i in range(out.shape[0]):
        out[i] = t0 * middle[i] + t1 * (a1[i] + b1[i]) + t2 * (a2[i] + b2[i]) + t3 * (a3[i] + b3[i])


@njit(**FAST)
def blur(image, scratch, taps, n):  # type: ignore[no-untyped-def]
    """Separable symmetric filter over rows and columns of n values each; taps (radius + 1,), the centre first. Zero outside.

    The n values of a pixel lie together, so that one pass filters an image with all of its derivatives. scratch (rows,
    columns * n) says how much of image (at least rows, at least columns * n), from the first on, is meant.
    """
    rows, width = scratch.shape
    radius = taps.shape[0] - 1
    margin = radius * n
    nothing = np.zeros(width, np.float32)
    for k in range(rows):
        if radius == 3 and 3 <= k < rows - 3:
            _weigh_three(
                taps,
                scratch[k],
                image[k],
                image[k - 1],
                image[k + 1],
                image[k - 2],
                image[k + 2],
                image[k - 3],
                image[k + 3],
            )
            continue
        for t in range(radius + 1):
            lower, upper = image[k - t] if k >= t else nothing, image[k + t] if k + t < rows else nothing
            _weigh(taps, scratch[k], image[k], lower, upper, t)
    padded = np.zeros(width + 2 * margin, np.float32)
    for k in range(rows):
        for i in range(width):
            padded[margin + i] = scratch[k, i]
        if radius == 3:
            _weigh_three(
                taps,
                image[k, :width],
                scratch[k],
                padded[2 * n :],
                padded[4 * n :],
                padded[n:],
                padded[5 * n :],
                padded,
                padded[6 * n :],
            )
            continue
        for t in range(radius + 1):
            _weigh(taps, image[k, :width], scratch[k], padded[margin - t * n :], padded[margin + t * n :], t)


@njit(**FAST)
def _gram_of_row(image, target, valid, saturation_mm, gram, sums, cross):  # type: ignore[no-untyped-def]
    """Add what one row of pixels (columns, CHANNELS * WIDTH) gives, saturated by channel 0, to the inner products.

    target (CHANNELS, columns), valid (columns,), gram (WIDTH, WIDTH), sums and cross (WIDTH,) float64. A row is summed in
    float32, which vectorises twice as wide; its total is short enough to lose no digits that count.
    """
    g = np.zeros((WIDTH, WIDTH), np.float32)
    s = np.zeros(WIDTH, np.float32)
    t = np.zeros(WIDTH, np.float32)
    for j in range(image.shape[0]):
        p = image[j]
        if valid[j] == 0 or p[0] == 0:
            continue
        slope = 1 / (1 + p[0] / saturation_mm)
        curvature = slope * slope / saturation_mm  # minus the change of the slope with the value
        for n in range(CHANNELS - 1, -1, -1):  # channel 0 last: the others need it as it was
            q = p[n * WIDTH : (n + 1) * WIDTH]
            value = q[0]
            for m in range(1, WIDTH):
                q[m] = q[m] * slope - value * curvature * p[m]
            q[0] = value * slope
            for m in range(WIDTH - 1):
                qm = q[m]
                for k in range(WIDTH):
                    g[m, k] += qm * q[k]
            for m in range(WIDTH):
                t[m] += q[m] * target[n, j]
        for m in range(WIDTH):
            s[m] += p[m]
    for m in range(WIDTH - 1):
        for k in range(WIDTH - 1):
            gram[m, k] += g[m, k]
        sums[m] += s[m]
        cross[m] += t[m]


@njit(**FAST)
def products(  # type: ignore[no-untyped-def]
    first,
    last,
    points,
    tangents,
    weights,
    cameras,
    centres,
    lever_mm,
    intrinsics,
    direction_weight,
    target,
    valid,
    taps,
    saturation_mm,
    work,
    flat,
    out,
):
    """Inner products from which score, gradient and Gauss-Newton matrix follow.

    points, tangents (N, 3), weights (N,), cameras (B, 3, 4), centres (B, 3) camera mm, intrinsics (4,), taps (radius + 1,),
    target (CHANNELS, rows, columns) and valid (rows, columns) float32, work (T, 2, rows, columns, CHANNELS * WIDTH), flat
    (T, 2, rows, columns * CHANNELS * WIDTH) the same memory, out (B, 9, 7): rows 0-6 Gram matrix of image and derivatives over
    the valid pixels of all channels, row 7 the sums of channel 0, row 8 the products with the target. T is the number of
    threads: a thread takes every T-th pose, so that memory does not grow with their number.
    """
    n_poses = cameras.shape[0]
    n_jobs = work.shape[0]
    rows = valid.shape[0]
    for job in range(first, last):
        image = work[job, 0]
        for b in range(job, n_poses, n_jobs):
            image[:] = 0
            _splat_with_derivatives(
                points, tangents, weights, cameras[b], centres[b], lever_mm, intrinsics, direction_weight, image
            )
            blur(flat[job, 0], flat[job, 1], taps, work.shape[4])
            gram = np.zeros((WIDTH, WIDTH), np.float64)
            sums = np.zeros(WIDTH, np.float64)
            cross = np.zeros(WIDTH, np.float64)
            for k in range(rows):
                _gram_of_row(image[k], target[:, k], valid[k], saturation_mm, gram, sums, cross)
            # By loops: to assign slices, numba compiles the text of an error for many seconds.
            for m in range(7):
                for n in range(7):
                    out[b, m, n] = gram[m, n]
                out[b, 7, m], out[b, 8, m] = sums[m], cross[m]


@njit(**FAST)
def oriented_images(  # type: ignore[no-untyped-def]
    first, last, points, tangents, weights, cameras, intrinsics, taps, saturation_mm, direction_weight, images, sums
):
    """Blurred, saturated images of the points for B poses in three channels, with what their norms need.

    points, tangents (N, 3), weights (N,), cameras (B, 3, 4), intrinsics (4,), taps (radius + 1,). Channel 0 is the line
    integral; 1 and 2 are it times the cosine and sine of twice the vessel's angle on the detector, times `direction_weight`.
    images (B, 3, at least rows, at least columns), zero outside rows x columns, and sums (B, 2, rows + 1, columns + 1),
    running sums of channel 0 and of the squares of all, zero in the first row and column, are overwritten.
    """
    rows, columns = sums.shape[2] - 1, sums.shape[3] - 1
    ff = intrinsics[0] * intrinsics[1]
    for b in range(first, last):
        c = cameras[b]
        images[b] = 0
        image, cosine, sine = images[b, 0], images[b, 1], images[b, 2]
        for i in range(points.shape[0]):
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            x, y, z, iz, u, v = to_pixel(c, intrinsics, px, py, pz)
            if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= columns - 1 or v >= rows - 1:
                continue
            a = line_integral(weights[i], ff, x, y, z, iz)
            tx, ty, tz = tangents[i, 0], tangents[i, 1], tangents[i, 2]
            dz = (c[2, 0] * tx + c[2, 1] * ty + c[2, 2] * tz) * iz
            du = c[0, 0] * tx + c[0, 1] * ty + c[0, 2] * tz - x * dz
            dv = c[1, 0] * tx + c[1, 1] * ty + c[1, 2] * tz - y * dz
            ac = a * direction_weight * (du * du - dv * dv)
            as_ = a * direction_weight * 2 * du * dv
            add_bilinear(image, u, v, a)
            add_bilinear(cosine, u, v, ac)
            add_bilinear(sine, u, v, as_)
        scratch = np.empty((rows, columns), np.float32)
        for n in range(3):
            blur(images[b, n], scratch, taps, ONE)
        one, two = sums[b, 0], sums[b, 1]
        for k in range(rows):
            line = 0.0
            line_of_squares = 0.0
            for j in range(columns):
                slope = 1 / (1 + image[k, j] / saturation_mm)
                f, g, h = image[k, j] * slope, cosine[k, j] * slope, sine[k, j] * slope
                image[k, j], cosine[k, j], sine[k, j] = f, g, h
                line += f
                line_of_squares += f * f + g * g + h * h
                one[k + 1, j + 1] = one[k, j + 1] + line
                two[k + 1, j + 1] = two[k, j + 1] + line_of_squares


@njit(**FAST)
def _box_sum(sums, box, k, j):  # type: ignore[no-untyped-def]
    """Sum over the box, shifted by k rows and j columns, from running sums (rows + 1, columns + 1)."""
    r0, r1, c0, c1 = box[0] + k, box[1] + k, box[2] + j, box[3] + j
    return sums[r1, c1] - sums[r0, c1] - sums[r1, c0] + sums[r0, c0]


@njit(**FAST)
def local_maxima(first, last, products, sums, box, size, norm_power, score, shift):  # type: ignore[no-untyped-def]
    """Strongest local maxima over shifts of the cross-correlation, divided by the norm to the power of `norm_power`.

    products (B, >= size, >= size): sums over the window of image x target, overwritten; sums as from `oriented_images`;
    box: first and past-last row and column of the window that count; score (B, K) and shift (B, K, 2) as (column, row) from
    the first shift are overwritten, strongest first.
    """
    n_peaks = score.shape[1]
    n_pixels = (box[1] - box[0]) * (box[3] - box[2])
    for b in range(first, last):
        w = products[b]
        variance = np.empty((size, size), np.float32)
        top = np.float32(0)
        for k in range(size):
            for j in range(size):
                mean = _box_sum(sums[b, 0], box, k, j)
                variance[k, j] = _box_sum(sums[b, 1], box, k, j) - mean * mean / n_pixels
                top = max(top, variance[k, j])
        floor = _VARIANCE_FLOOR * top + np.float32(1e-20)
        for k in range(size):
            for j in range(size):
                w[k, j] /= (max(variance[k, j], np.float32(0)) + floor) ** (norm_power / 2)
        for n in range(n_peaks):
            score[b, n] = -2  # below any correlation
            shift[b, n, 0] = shift[b, n, 1] = size // 2
        for k in range(size):
            for j in range(size):
                s = w[k, j]
                if s <= score[b, n_peaks - 1]:
                    continue
                highest = True
                for kk in range(max(0, k - _PEAK_RADIUS_PX), min(size, k + _PEAK_RADIUS_PX + 1)):
                    for jj in range(max(0, j - _PEAK_RADIUS_PX), min(size, j + _PEAK_RADIUS_PX + 1)):
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
