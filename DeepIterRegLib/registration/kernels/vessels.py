"""CPU kernels of search and alignment: images of the points, alone or with their six pose derivatives in one pass."""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.registration.kernels.slopes import (
    ONE,
    POINTS,
    WIDTH,
    ZERO,
    add_points,
    add_products,
    amount_slopes,
    filtered_across,
    filtered_down,
    motion,
    note_point,
    write_products,
)
from DeepIterRegLib.rendering.splat_kernels import (
    FAST,
    INLINED,
    MIN_DEPTH_MM,
    line_integral,
    to_pixel,
)

CHANNELS = 3  # amount of vessel, and it times cosine and sine of twice its angle
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
    change per (rotation about the camera axes through `centre`) x lever, 4-6 per mm. All is float32: a whole number beside one would
    make it float64, at twice the time.
    """
    rows, columns, _ = image.shape
    fu, fv = intrinsics[0], intrinsics[1]
    c = camera
    il = ONE / lever_mm
    right, bottom = np.float32(columns - 1), np.float32(rows - 1)
    places, lanes = np.empty(POINTS, np.int64), np.zeros((POINTS, CHANNELS + 3, WIDTH), np.float32)
    for begin in range(0, points.shape[0], POINTS):
        n = 0
        for i in range(begin, min(begin + POINTS, points.shape[0])):
            x, y, z, iz, u, v = to_pixel(c, intrinsics, points[i, 0], points[i, 1], points[i, 2])
            if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= right or v >= bottom:
                continue
            qx, qy, qz = tangents[i, 0], tangents[i, 1], tangents[i, 2]
            ex = c[0, 0] * qx + c[0, 1] * qy + c[0, 2] * qz
            ey = c[1, 0] * qx + c[1, 1] * qy + c[1, 2] * qz
            ez = c[2, 0] * qx + c[2, 1] * qy + c[2, 2] * qz
            # The tangent's shadow: how a small step along the vessel moves its point on the detector, as a direction. Its square,
            # as of a complex number, has twice its angle, in which a vessel and its reverse are the same.
            steep = ez * iz
            gu, gv = ex - x * steep, ey - y * steep
            cosine = direction_weight * (gu * gu - gv * gv)
            sine = direction_weight * np.float32(2) * gu * gv
            rx, ry, rz = (x - centre[0]) * il, (y - centre[1]) * il, (z - centre[2]) * il
            du, dv = motion(x, y, z, iz, fu, fv, rx, ry, rz)
            d = amount_slopes(fu * fv * weights[i], x, y, z, iz, rx, ry, rz)
            a = d[0]
            # How the shadow turns: (u1, v1) with the first parameter, and so on.
            tx, ty, tz = ex * il, ey * il, ez * il
            s1, s2, s6 = iz * (ty - steep * ry), iz * (steep * rx - tx), -iz * steep
            u1, v1 = -x * s1, steep * rz - tz - y * s1
            u2, v2 = tz - steep * rz - x * s2, -y * s2
            u3, v3 = steep * ry - ty, tx - steep * rx
            u6, v6 = -x * s6, -y * s6
            # By the product rule, the slopes of the other two channels.
            g = direction_weight * np.float32(2) * a
            gu, gv = g * gu, g * gv
            e = (
                a * cosine,
                d[1] * cosine + gu * u1 - gv * v1,
                d[2] * cosine + gu * u2 - gv * v2,
                d[3] * cosine + gu * u3 - gv * v3,
                d[4] * cosine - gu * steep,
                d[5] * cosine + gv * steep,
                d[6] * cosine + gu * u6 - gv * v6,
                ZERO,
            )
            f = (
                a * sine,
                d[1] * sine + gv * u1 + gu * v1,
                d[2] * sine + gv * u2 + gu * v2,
                d[3] * sine + gv * u3 + gu * v3,
                d[4] * sine - gv * steep,
                d[5] * sine - gu * steep,
                d[6] * sine + gv * u6 + gu * v6,
                ZERO,
            )
            note_point(places, lanes, n, image, u, v, (d, e, f), du, dv)
            n += 1
        add_points(places, lanes, n, image, CHANNELS)


@njit(**FAST)
def _saturated(line, target, k, valid, saturation_mm, planes, fixed, sums):  # type: ignore[no-untyped-def]
    """Values of row k that count, saturated by channel 0, as planes (WIDTH, ...) with the target's in fixed; how many they are.

    line (columns * CHANNELS * WIDTH,) is the row, target (CHANNELS, rows, columns), valid (rows, columns). The sums (WIDTH,) of
    channel 0 grow.
    """
    count = 0
    for j in range(valid.shape[1]):
        p = line[j * CHANNELS * WIDTH :]
        if valid[k, j] == 0 or p[0] == 0:
            continue
        slope = 1 / (1 + p[0] / saturation_mm)
        curvature = slope * slope / saturation_mm  # minus the change of the slope with the value
        for n in range(CHANNELS):
            value = p[n * WIDTH]
            planes[0, count] = value * slope
            for m in range(1, WIDTH - 1):
                planes[m, count] = p[n * WIDTH + m] * slope - value * curvature * p[m]
            fixed[count] = target[n, k, j]
            count += 1
    for m in range(WIDTH - 1):
        total = np.float32(0)
        for i in range(0, count, CHANNELS):
            total += planes[m, i]
        sums[m] += total
    return count


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
    target (CHANNELS, rows, columns) and valid (rows, columns) float32, work (T, rows, columns, CHANNELS * WIDTH), flat
    (T, rows, columns * CHANNELS * WIDTH) the same memory, out (B, 9, 7): rows 0-6 Gram matrix of image and derivatives over
    the valid pixels of all channels, row 7 the sums of channel 0, row 8 the products with the target. T is the number of
    threads: a thread takes every T-th pose, so that memory does not grow with their number.
    """
    n_poses, n_jobs = cameras.shape[0], work.shape[0]
    rows, columns = valid.shape
    n = CHANNELS * WIDTH
    width, margin = columns * n, (taps.shape[0] - 1) * n
    nothing, line = np.zeros(width, np.float32), np.empty(width, np.float32)
    padded = np.zeros(width + 2 * margin, np.float32)
    planes, fixed = np.empty((WIDTH, CHANNELS * columns), np.float32), np.empty(CHANNELS * columns, np.float32)
    for job in range(first, last):
        for b in range(job, n_poses, n_jobs):
            work[job] = 0
            _splat_with_derivatives(
                points, tangents, weights, cameras[b], centres[b], lever_mm, intrinsics, direction_weight, work[job]
            )
            gram = np.zeros((WIDTH, WIDTH), np.float64)
            sums = np.zeros(WIDTH, np.float64)
            cross = np.zeros(WIDTH, np.float64)
            # Row by row from the image to its products, so that what lies between stays in the cache.
            for k in range(rows):
                filtered_down(flat[job], k, rows, taps, nothing, padded[margin : margin + width])
                filtered_across(padded, taps, n, line)
                count = _saturated(line, target, k, valid, saturation_mm, planes, fixed, sums)
                add_products(planes, fixed, count, gram, cross)
            write_products(gram, out[b])
            for m in range(WIDTH - 1):
                out[b, 7, m], out[b, 8, m] = sums[m], cross[m]


@njit(**INLINED)
def _add_values(image, u, v, values):  # type: ignore[no-untyped-def]
    """Share values among the four pixels about column u and row v, which must exist, of image (rows, columns, values)."""
    j, k = int(u), int(v)
    right, low = u - np.float32(j), v - np.float32(k)
    for corner in range(4):
        down, beside = corner >> 1, corner & 1
        share = (low if down else ONE - low) * (right if beside else ONE - right)
        pixel = image[k + down, j + beside]
        for m in range(len(values)):
            pixel[m] += share * values[m]


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
    fu, fv = intrinsics[0], intrinsics[1]
    n = CHANNELS + 1  # one unused, so that a pixel fills half a register
    width, margin = columns * n, (taps.shape[0] - 1) * n
    drawn = np.empty((rows, columns, n), np.float32)
    flat = drawn.reshape(rows, width)
    nothing, line = np.zeros(width, np.float32), np.empty(width, np.float32)
    padded = np.zeros(width + 2 * margin, np.float32)
    right, bottom = np.float32(columns - 1), np.float32(rows - 1)
    for b in range(first, last):
        c = cameras[b]
        drawn[:] = 0
        for i in range(points.shape[0]):
            x, y, z, iz, u, v = to_pixel(c, intrinsics, points[i, 0], points[i, 1], points[i, 2])
            if z < MIN_DEPTH_MM or u < 0 or v < 0 or u >= right or v >= bottom:
                continue
            a = line_integral(weights[i], fu * fv, x, y, z, iz)
            tx, ty, tz = tangents[i, 0], tangents[i, 1], tangents[i, 2]
            dz = (c[2, 0] * tx + c[2, 1] * ty + c[2, 2] * tz) * iz
            du = c[0, 0] * tx + c[0, 1] * ty + c[0, 2] * tz - x * dz
            dv = c[1, 0] * tx + c[1, 1] * ty + c[1, 2] * tz - y * dz
            directed = a * direction_weight
            _add_values(drawn, u, v, (a, directed * (du * du - dv * dv), directed * np.float32(2) * du * dv, ZERO))
        images[b] = 0
        image, cosine, sine = images[b, 0], images[b, 1], images[b, 2]
        one, two = sums[b, 0], sums[b, 1]
        for k in range(rows):
            filtered_down(flat, k, rows, taps, nothing, padded[margin : margin + width])
            filtered_across(padded, taps, n, line)
            sum_of_line = 0.0
            sum_of_squares = 0.0
            for j in range(columns):
                slope = ONE / (ONE + line[n * j] / saturation_mm)
                f, g, h = line[n * j] * slope, line[n * j + 1] * slope, line[n * j + 2] * slope
                image[k, j], cosine[k, j], sine[k, j] = f, g, h
                sum_of_line += f
                sum_of_squares += f * f + g * g + h * h
                one[k + 1, j + 1] = one[k, j + 1] + sum_of_line
                two[k + 1, j + 1] = two[k, j + 1] + sum_of_squares


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
