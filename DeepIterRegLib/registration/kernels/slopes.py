"""What the CPU kernels of vessels and skull share: points with their pose derivatives, the blur of rows, and products of images."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.rendering.splat_kernels import FAST, INLINED

ZERO, ONE = np.float32(0), np.float32(1)
WIDTH = 8  # of each channel: value, three rotations, three translations, one unused so that it fills a vector register


@njit(**FAST)
def motion(x, y, z, iz, fu, fv, rx, ry, rz):  # type: ignore[no-untyped-def]
    """How column and row of a point at (x, y, z) change with the eight parameters of `WIDTH`; (rx, ry, rz) is what rotations turn.

    Tuples, of which the compiler knows that no image lies in the same memory.
    """
    su, sv, xi, yi = fu * iz, fv * iz, x * iz, y * iz
    # A rotation about x moves (x, y, z) by (0, -z, y), and so on.
    du = (ZERO, -su * xi * ry, su * (rz + xi * rx), -su * ry, su, ZERO, -su * xi, ZERO)
    dv = (ZERO, -sv * (rz + yi * ry), sv * yi * rx, sv * rx, ZERO, sv, -sv * yi, ZERO)
    return du, dv


@njit(**FAST)
def amount_slopes(a, x, y, z, iz, r2, rx, ry, rz):  # type: ignore[no-untyped-def]
    """The line integral a of a point, then its change with the parameters, as in `motion`; r2 is the point's squared distance."""
    ar = a / r2
    ax, ay, az = ar * x, ar * y, ar * z - np.float32(3) * a * iz
    return (a, az * ry - ay * rz, ax * rz - az * rx, ay * rx - ax * ry, ax, ay, az, ZERO)


@njit(**INLINED)
def away(du, dv, by_u, by_v):  # type: ignore[no-untyped-def]
    """What a pixel's share loses as the point moves: by_u times the change of its column and by_v times that of its row."""
    return (
        ZERO,
        du[1] * by_u + dv[1] * by_v,
        du[2] * by_u + dv[2] * by_v,
        du[3] * by_u + dv[3] * by_v,
        du[4] * by_u + dv[4] * by_v,
        du[5] * by_u + dv[5] * by_v,
        du[6] * by_u + dv[6] * by_v,
        ZERO,
    )


@njit(**INLINED)
def add_point(image, u, v, slopes, du, dv):  # type: ignore[no-untyped-def]
    """Add a point at column u and row v to the four pixels about it, which must exist, of image (rows, columns, channels * WIDTH).

    slopes holds of each channel its value and how that changes with the parameters, (du, dv) is how the point moves.
    """
    j, k = int(u), int(v)
    right, low = u - np.float32(j), v - np.float32(k)
    for corner in range(4):
        down, beside = corner >> 1, corner & 1
        by_row, by_column = low if down else ONE - low, right if beside else ONE - right
        lost = away(du, dv, -by_row if beside else by_row, -by_column if down else by_column)
        pixel = image[k + down, j + beside]
        share = by_row * by_column
        for n in range(len(slopes)):
            change = slopes[n]
            for m in range(WIDTH):
                pixel[n * WIDTH + m] += share * change[m] - change[0] * lost[m]


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
def filtered_down(image, k, rows, taps, nothing, out):  # type: ignore[no-untyped-def]
    """Row k of image (at least rows, at least width) filtered over the rows, in out (width,); nothing (width,) is 0."""
    radius = taps.shape[0] - 1
    if radius == 3 and 3 <= k < rows - 3:
        _weigh_three(
            taps, out, image[k], image[k - 1], image[k + 1], image[k - 2], image[k + 2], image[k - 3], image[k + 3]
        )
        return
    for t in range(radius + 1):
        lower, upper = image[k - t] if k >= t else nothing, image[k + t] if k + t < rows else nothing
        _weigh(taps, out, image[k], lower, upper, t)


@njit(**FAST)
def filtered_across(padded, taps, n, out):  # type: ignore[no-untyped-def]
    """A row between two margins of 0, padded (width + 2 radius n,), filtered over its pixels of n values, in out (width,)."""
    radius = taps.shape[0] - 1
    margin = radius * n
    middle = padded[margin:]
    if radius == 3:
        _weigh_three(
            taps, out, middle, padded[2 * n :], padded[4 * n :], padded[n:], padded[5 * n :], padded, padded[6 * n :]
        )
        return
    for t in range(radius + 1):
        _weigh(taps, out, middle, padded[margin - t * n :], padded[margin + t * n :], t)


@njit(**FAST)
def blur(image, scratch, taps, n):  # type: ignore[no-untyped-def]
    """Separable symmetric filter over rows and columns of n values each; taps (radius + 1,), the centre first. Zero outside.

    The n values of a pixel lie together, so that one pass filters an image with all of its derivatives. scratch (rows,
    columns * n) says how much of image (at least rows, at least columns * n), from the first on, is meant.
    """
    rows, width = scratch.shape
    margin = (taps.shape[0] - 1) * n
    nothing = np.zeros(width, np.float32)
    for k in range(rows):
        filtered_down(image, k, rows, taps, nothing, scratch[k])
    padded = np.zeros(width + 2 * margin, np.float32)
    for k in range(rows):
        for i in range(width):
            padded[margin + i] = scratch[k, i]
        filtered_across(padded, taps, n, image[k, :width])


@njit(**FAST)
def add_products(planes, fixed, count, gram, cross):  # type: ignore[no-untyped-def]
    """Add the products of planes (WIDTH, at least count) with each other and with fixed (at least count,) to gram and cross.

    Of gram (WIDTH, WIDTH) float64 the half above the diagonal, of cross (WIDTH,) float64 all but the last. A row's values lie plane by
    plane, as a sum over pixels is then one over values side by side. It is made in float32, which vectorises twice as wide; its total is
    short enough to lose no digits that count.
    """
    for m in range(WIDTH - 1):
        one = planes[m]
        for n in range(m, WIDTH - 1):
            other = planes[n]
            total = np.float32(0)
            for i in range(count):
                total += one[i] * other[i]
            gram[m, n] += total
        total = np.float32(0)
        for i in range(count):
            total += one[i] * fixed[i]
        cross[m] += total


@njit(**FAST)
def write_products(gram, out):  # type: ignore[no-untyped-def]
    """Write the half of gram (WIDTH, WIDTH) above the diagonal to the first rows of out, and below it."""
    # By loops: to assign slices, numba compiles the text of an error for many seconds.
    for m in range(WIDTH - 1):
        for n in range(m, WIDTH - 1):
            out[m, n] = out[n, m] = gram[m, n]
