"""CPU kernels of the splat projector: points to detector pixels, and the pose derivative, without a tape.

Camera coordinates X = (x, y, z) are mm along the column, row and beam axes from the source. A point
of weight m (value x mm^3) meets the detector at column = fu x / z + cx, row = fv y / z + cy and adds the
line integral  a = m fu fv |X| / z^3  there: its content over the pixel's cross-section at that depth, along the
slanted ray. It is shared among the four nearest pixels bilinearly.
"""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit

FAST = {"cache": True, "fastmath": True, "nogil": True}
# On a card images are summed as whole numbers, whose sums do not depend on their order: so many to the mm (value x mm). What a point
# adds is hardly below 0.01 mm, and 2^63 of them are 5e11 mm.
WHOLE_PER_MM = float(2**24)
MIN_DEPTH_MM = np.float32(1.0)  # from the source: nearer points would fill the image, and behind it none is seen
_TOGETHER = 64  # points whose slopes are summed in float32, so many that no digit is lost that counts; the sums of them in float64
# What is called for every point is inlined by numba, not by LLVM: as fast as if it were written out, and with the same bits.
INLINED = {"inline": "always", **FAST}


@njit(**FAST)
def to_pixel(c, intrinsics, px, py, pz):  # type: ignore[no-untyped-def]
    """Camera coordinates x, y, z, 1/z and pixel column, row of a point; c (3, 4). Behind MIN_DEPTH_MM the pixel means nothing."""
    fu, fv, cx, cy = intrinsics
    x = c[0, 0] * px + c[0, 1] * py + c[0, 2] * pz + c[0, 3]
    y = c[1, 0] * px + c[1, 1] * py + c[1, 2] * pz + c[1, 3]
    z = c[2, 0] * px + c[2, 1] * py + c[2, 2] * pz + c[2, 3]
    iz = np.float32(1.0) / max(z, MIN_DEPTH_MM)
    return x, y, z, iz, fu * x * iz + cx, fv * y * iz + cy


@njit(**INLINED)
def line_integral(weight, ff, x, y, z, iz):  # type: ignore[no-untyped-def]
    """What a point of `weight`, mm^3, at camera coordinates x, y, z, 1/z adds to the line integral where it meets the detector.

    ff is the product of both focal lengths in px.
    """
    return weight * ff * iz * iz * iz * math.sqrt(x * x + y * y + z * z)


@njit(**INLINED)
def add_inside(image, u, v, value):  # type: ignore[no-untyped-def]
    """Share a value among the four pixels of image (rows, columns) around column u and row v, which must exist."""
    j, k = int(u), int(v)
    right, low = u - np.float32(j), v - np.float32(k)
    lower = value * low
    upper = value - lower
    image[k, j] += upper - upper * right
    image[k, j + 1] += upper * right
    image[k + 1, j] += lower - lower * right
    image[k + 1, j + 1] += lower * right


@njit(**INLINED)
def add_bilinear(image, u, v, value):  # type: ignore[no-untyped-def]
    """As `add_inside` for any column u and row v; what falls outside is left out."""
    rows, columns = image.shape
    # Limits of the type of u and v: beside a whole number they would become float64.
    if u >= 0 and v >= 0 and u < np.float32(columns - 1) and v < np.float32(rows - 1):  # as nearly always
        add_inside(image, u, v, value)
    elif u > -1 and v > -1 and u < columns and v < rows:
        j = int(math.floor(u))
        k = int(math.floor(v))
        fj = u - j
        fk = v - k
        if k >= 0:
            if j >= 0:
                image[k, j] += value * (1 - fk) * (1 - fj)
            if j + 1 < columns:
                image[k, j + 1] += value * (1 - fk) * fj
        if k + 1 < rows:
            if j >= 0:
                image[k + 1, j] += value * fk * (1 - fj)
            if j + 1 < columns:
                image[k + 1, j + 1] += value * fk * fj


@njit(**FAST)
def splat_forward(first, last, points, weights, cameras, intrinsics, partial):  # type: ignore[no-untyped-def]
    """Splat N points for B poses into `partial`: of its B * P images those from `first` to before `last`.

    points (N, 3), weights (N,), cameras (B, 3, 4) CTA mm to camera mm, intrinsics (fu, fv, cx, cy),
    partial (B, P, rows, columns) zeroed; the P partial images, one for each share of the points, are to be summed.
    """
    n_parts = partial.shape[1]
    n = points.shape[0]
    ff = intrinsics[0] * intrinsics[1]
    for job in range(first, last):
        b = job // n_parts
        part = job - b * n_parts
        image = partial[b, part]
        c = cameras[b]
        for i in range(part * n // n_parts, (part + 1) * n // n_parts):
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            x, y, z, iz, u, v = to_pixel(c, intrinsics, px, py, pz)
            if z >= MIN_DEPTH_MM:
                add_bilinear(image, u, v, line_integral(weights[i], ff, x, y, z, iz))


@njit(**INLINED)
def _at_rim(image, j, k):  # type: ignore[no-untyped-def]
    """Values of the four pixels of image (rows, columns) from column j and row k on; 0 outside of it."""
    rows, columns = image.shape
    g00 = g01 = g10 = g11 = np.float32(0)
    if k >= 0:
        if j >= 0:
            g00 = image[k, j]
        if j + 1 < columns:
            g01 = image[k, j + 1]
    if k + 1 < rows:
        if j >= 0:
            g10 = image[k + 1, j]
        if j + 1 < columns:
            g11 = image[k + 1, j + 1]
    return g00, g01, g10, g11


@njit(**FAST)
def splat_backward(first, last, points, weights, cameras, intrinsics, gradient, partial):  # type: ignore[no-untyped-def]
    """Gradient of a loss with respect to `cameras`, given its gradient (B, rows, columns) with respect to the images.

    partial (B, P, 3, 4) is overwritten, of its B * P matrices those from `first` to before `last`; to be summed over P.
    """
    n_parts = partial.shape[1]
    rows, columns = gradient.shape[1:]
    n = points.shape[0]
    fu, fv = intrinsics[0], intrinsics[1]
    ff = fu * fv
    nothing, one, three = np.float32(0), np.float32(1), np.float32(3)
    right, bottom = np.float32(columns - 1), np.float32(rows - 1)
    for job in range(first, last):
        b = job // n_parts
        part = job - b * n_parts
        g = gradient[b]
        c = cameras[b]
        total = np.zeros((3, 4))
        begin, end = part * n // n_parts, (part + 1) * n // n_parts
        for some in range(begin, end, _TOGETHER):
            xx = xy = xz = x1 = nothing
            yx = yy = yz = y1 = nothing
            zx = zy = zz = z1 = nothing
            for i in range(some, min(some + _TOGETHER, end)):
                px, py, pz = points[i, 0], points[i, 1], points[i, 2]
                x, y, z, iz, u, v = to_pixel(c, intrinsics, px, py, pz)
                if z < MIN_DEPTH_MM:
                    continue
                if u >= nothing and v >= nothing and u < right and v < bottom:  # as nearly always
                    j, k = int(u), int(v)
                    g00, g01, g10, g11 = g[k, j], g[k, j + 1], g[k + 1, j], g[k + 1, j + 1]
                elif u > -1 and v > -1 and u < columns and v < rows:
                    j, k = int(math.floor(u)), int(math.floor(v))
                    g00, g01, g10, g11 = _at_rim(g, j, k)
                else:
                    continue
                fj, fk = u - np.float32(j), v - np.float32(k)
                upper, lower = g00 + fj * (g01 - g00), g10 + fj * (g11 - g10)
                value = upper + fk * (lower - upper)
                m = weights[i] * ff * iz * iz * iz
                r2 = x * x + y * y + z * z
                over_r = m / math.sqrt(r2)
                a = over_r * r2 * iz
                along_u = a * fu * ((one - fk) * (g01 - g00) + fk * (g11 - g10))
                along_v = a * fv * (lower - upper)
                vm = value * over_r
                dx = along_u + vm * x
                dy = along_v + vm * y
                dz = vm * z - three * value * a - (along_u * x + along_v * y) * iz
                xx += dx * px
                xy += dx * py
                xz += dx * pz
                x1 += dx
                yx += dy * px
                yy += dy * py
                yz += dy * pz
                y1 += dy
                zx += dz * px
                zy += dz * py
                zz += dz * pz
                z1 += dz
            sums = ((xx, xy, xz, x1), (yx, yy, yz, y1), (zx, zy, zz, z1))
            for row in range(3):
                for column in range(4):
                    total[row, column] += sums[row][column]
        for row in range(3):
            for column in range(4):
                partial[b, part, row, column] = total[row, column]
