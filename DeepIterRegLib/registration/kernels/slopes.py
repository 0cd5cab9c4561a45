"""What the CPU kernels of vessels and skull share: points with their pose derivatives, the blur of rows, and products of images."""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.rendering.splat_kernels import FAST, INLINED

ZERO, ONE = np.float32(0), np.float32(1)
_FLOAT_BYTES = 4
POINTS = 64  # noted before they are added: few enough to stay in the fastest cache
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
def amount_slopes(weight, x, y, z, iz, rx, ry, rz):  # type: ignore[no-untyped-def]
    """The line integral of a point of `weight` (times both focal lengths in px), then its change with the parameters, as in `motion`."""
    r2 = x * x + y * y + z * z
    ar = weight * iz * iz * iz / math.sqrt(r2)  # over the squared distance
    a = ar * r2
    ax, ay, az = ar * x, ar * y, ar * z - np.float32(3) * a * iz
    return (a, az * ry - ay * rz, ax * rz - az * rx, ay * rx - ax * ry, ax, ay, az, ZERO)


@intrinsic
def _add_lanes(typing_context, image, at, lanes, change, moves, share, by_u, by_v):  # type: ignore[no-untyped-def]
    """Add share * change + by_u * du + by_v * dv, of WIDTH values each, to those of flat image from `at` on.

    change and moves say where in flat lanes the slopes of a channel are, and du with dv after it. As vectors of LLVM: loops over
    arrays that might lie in the same memory stay scalar, and the splat takes 1.6 times as long.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        at, change, moves, weights = arguments[1], arguments[3], arguments[4], arguments[5:]
        vector = ir.VectorType(ir.FloatType(), WIDTH)
        nothing = ir.Constant(vector, ir.Undefined)

        def place(number, index):  # type: ignore[no-untyped-def]
            array = context.make_array(signature.args[number])(context, builder, arguments[number])
            return builder.bitcast(builder.gep(array.data, [index]), vector.as_pointer())

        def in_all(value):  # type: ignore[no-untyped-def]
            first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(
                first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
            )

        after = builder.add(moves, ir.Constant(moves.type, WIDTH))
        target, total = place(0, at), ir.Constant(vector, [0.0] * WIDTH)
        for index, weight in zip((change, moves, after), weights, strict=True):
            one = builder.load(place(2, index), align=_FLOAT_BYTES)
            total = builder.fadd(total, builder.fmul(one, in_all(weight), flags=("fast",)), flags=("fast",))
        # Last, and not reassociated: the next point often waits for the same pixel.
        builder.store(builder.fadd(total, builder.load(target, align=_FLOAT_BYTES)), target, align=_FLOAT_BYTES)
        return context.get_dummy_value()

    number, weight = types.intp, types.float32
    return types.void(image, number, lanes, number, number, weight, weight, weight), generate


@njit(**INLINED)
def note_point(places, lanes, n, image, u, v, slopes, du, dv):  # type: ignore[no-untyped-def]
    """Note as number n what `add_points` adds: a point at column u and row v of image (rows, columns, channels * WIDTH).

    slopes holds of each channel its value and how that changes with the parameters, (du, dv) is how the point moves.
    places (POINTS,) int64, lanes (POINTS, channels + 3, WIDTH), zeros at first.
    """
    j, k = int(u), int(v)
    places[n] = (k * image.shape[1] + j) * image.shape[2]
    for channel in range(len(slopes)):
        for m in range(WIDTH - 1):
            lanes[n, channel, m] = slopes[channel][m]
    for m in range(1, WIDTH - 1):
        lanes[n, len(slopes), m], lanes[n, len(slopes) + 1, m] = du[m], dv[m]
    lanes[n, len(slopes) + 2, 0], lanes[n, len(slopes) + 2, 1] = u - np.float32(j), v - np.float32(k)


@njit(**INLINED)
def add_points(places, lanes, count, image, channels):  # type: ignore[no-untyped-def]
    """Add the first `count` points noted to the four pixels about each, which must exist, of image (rows, columns, channels * WIDTH).

    Noted first and added later, since a vector that is read while its values are on their way to memory waits for them.
    """
    size, noted = channels * WIDTH, (channels + 3) * WIDTH
    line = image.shape[1] * size
    flat, values = image.reshape(-1), lanes.reshape(-1)
    for n in range(count):
        at = n * noted
        moves = at + size
        right, low = values[moves + 2 * WIDTH], values[moves + 2 * WIDTH + 1]
        left, up = ONE - right, ONE - low
        # What a pixel's share gains as the point moves by a column and by a row comes last.
        for channel in range(channels):
            change, to = at + channel * WIDTH, places[n] + channel * WIDTH
            value = values[change]
            by_left, by_right, by_up, by_low = value * left, value * right, value * up, value * low
            _add_lanes(flat, to, values, change, moves, up * left, -by_up, -by_left)
            _add_lanes(flat, to + size, values, change, moves, up * right, by_up, -by_right)
            _add_lanes(flat, to + line, values, change, moves, low * left, -by_low, by_left)
            _add_lanes(flat, to + line + size, values, change, moves, low * right, by_low, by_right)


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
