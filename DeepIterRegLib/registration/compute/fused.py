"""Drawing and inner products by Triton's kernels: what `operations` does, without its intermediate arrays in memory.

Functions and formulas are those of `operations`. In memory the channels of a pixel lie together, so that a point's share of a pixel
is one access of neighbouring threads, not one for each channel: that is what drawing costs.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from DeepIterRegLib.registration.compute.scatter import Grid, Splat
from DeepIterRegLib.rendering.splat_kernels import MIN_DEPTH_MM, WHOLE_PER_MM
from DeepIterRegLib.rendering.splat_triton import add_whole, along, three, to_pixel

BYTES_A_POINT = 0
_POINTS, _PIXELS, _TIMES = 32, 128, 8  # of a program; it sums so many pixels, so many times
_VALUES, _LINES = 512, 8  # that a program blurs: so many values of so many lines
_NEAREST_MM = float(MIN_DEPTH_MM)
_WHOLE = torch.int64
_NO_GRADIENT = tl.constexpr(1e-12)
_DERIVED = tl.constexpr(7)  # a value and its six derivatives
# Values that a pixel has in memory: for vessels three times a value and its derivatives, for a skull once.
_VESSEL_WIDTH, _SKULL_WIDTH = 24, 8


def values(splat: Splat, cameras: Tensor, grid: Grid) -> Tensor:
    """Images (B, channels, rows, columns) int64, in `WHOLE_PER_MM`, for cameras (B, 3, 4)."""
    width = 1 if splat.tangents is None else 4
    return _drawn(splat, cameras, cameras, 1.0, grid, width, width, slopes=False)[:, : splat.channels]


def slopes(splat: Splat, cameras: Tensor, centres: Tensor, lever_mm: float, grid: Grid) -> Tensor:
    """Images with derivatives (B, 7 channels, rows, columns) int64, in `WHOLE_PER_MM`, for cameras (B, 3, 4) and centres (B, 3)."""
    width, tile = (_SKULL_WIDTH, 8) if splat.tangents is None else (_VESSEL_WIDTH, 32)
    return _drawn(splat, cameras, centres.contiguous(), lever_mm, grid, width, tile, slopes=True)


def blurred(images: Tensor, taps: Tensor) -> Tensor:
    """Images (B, C, rows, columns), in `WHOLE_PER_MM`, in mm and blurred by a filter's half `taps` (radius + 1,); 0 outside."""
    batch, _, rows, columns = images.shape
    width = images.stride(3)
    whole = images.as_strided((batch, rows, columns, width), (rows * columns * width, columns * width, width, 1))
    down = torch.empty(whole.shape, dtype=torch.float32, device=images.device)
    across = torch.empty_like(down)
    line = columns * width
    common: dict[str, Any] = {"RADIUS": len(taps) - 1, "BLOCK": _VALUES, "LINES": _LINES}
    programs = (batch * triton.cdiv(rows, _LINES), triton.cdiv(line, _VALUES))
    _blur[programs](whole, down, taps, rows, line, 1 / WHOLE_PER_MM, STEP=0, **common)
    _blur[programs](down, across, taps, rows, line, 1.0, STEP=width, **common)
    return across.permute(0, 3, 1, 2)[:, : images.shape[1]]


def vessel_gram(images: Tensor, target: Tensor, valid: Tensor, saturation_mm: float) -> Tensor:
    """Inner products (B, 9, 7) float64 of saturated images (B, 21, rows, columns) and a target (3, rows, columns)."""
    return _summed(_vessel_gram, images, target, valid, saturation_mm, 9, _VESSEL_WIDTH)


def skull_gram(images: Tensor, target: Tensor, valid: Tensor, knee_mm: float) -> Tensor:
    """Inner products (B, 8, 7) float64 of the shortened gradients of images (B, 7, rows, columns) and a target (2, rows, columns)."""
    return _summed(_skull_gram, images, target, valid, knee_mm, 8, _SKULL_WIDTH)


def _drawn(
    splat: Splat, cameras: Tensor, centres: Tensor, lever_mm: float, grid: Grid, width: int, tile: int, *, slopes: bool
) -> Tensor:
    """Images (B, values, rows, columns) of which a pixel's values lie together, `width` of them; a program draws `tile` channels."""
    used = (7 if slopes else 1) * splat.channels
    image = torch.zeros(len(cameras), grid.rows, grid.columns, width, dtype=_WHOLE, device=cameras.device)
    points = len(splat.weights)
    block = _POINTS * 32 // tile
    _draw[(triton.cdiv(points, block), len(cameras))](
        splat.positions,
        splat.positions if splat.tangents is None else splat.tangents,
        splat.weights,
        cameras.contiguous(),
        centres,
        image,
        points,
        grid.rows,
        grid.columns,
        grid.fu,
        grid.fv,
        grid.cx,
        grid.cy,
        1 / lever_mm,
        float(splat.direction_scale),
        WHOLE_PER_MM,
        _NEAREST_MM,
        VESSELS=splat.tangents is not None,
        SLOPES=slopes,
        WIDTH=width,
        USED=used,
        TILE=tile,
        BLOCK=block,
    )
    return image.permute(0, 3, 1, 2)[:, :used]


def _summed(
    kernel: Any, images: Tensor, target: Tensor, valid: Tensor, setting: float, products: int, width: int
) -> Tensor:
    """A kernel's products (B, products, 7) float64, summed over the pixels: in float32 over some, in float64 over those sums."""
    assert images.stride(1) == 1
    assert images.stride(3) == width
    blocks = triton.cdiv(valid.numel(), _PIXELS * _TIMES)
    parts = torch.empty(len(images), blocks, products, 7, dtype=torch.float32, device=images.device)
    kernel[(blocks, len(images))](
        images, target, valid, parts, *valid.shape, float(setting), WIDTH=width, BLOCK=_PIXELS, TIMES=_TIMES
    )
    return parts.sum(dim=1, dtype=torch.float64)


@triton.jit
def _turned(m, x, y, z):  # type: ignore[no-untyped-def]
    """How rotation number m, 1 to 3, about x, y or z, moves (x, y, z): that about x by (0, -z, y), and so on; 0 for another m."""
    by_x = tl.where(m == 2, z, tl.where(m == 3, -y, 0.0))
    by_y = tl.where(m == 1, -z, tl.where(m == 3, x, 0.0))
    by_z = tl.where(m == 1, y, tl.where(m == 2, -x, 0.0))
    return by_x, by_y, by_z


@triton.jit(do_not_specialize=["points", "rows", "columns"])
def _draw(  # type: ignore[no-untyped-def]
    positions, tangents, weights, cameras, centres, image,
    points, rows, columns, fu, fv, cx, cy, per_lever, scale, per_mm, nearest,
    VESSELS: tl.constexpr, SLOPES: tl.constexpr,
    WIDTH: tl.constexpr, USED: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add a block of points to the image of one pose, all channels at once: a row of the tile is a point, a column a channel."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    b = tl.program_id(1)
    column = tl.arange(0, TILE)[None, :]
    there = i < points
    c = cameras + 12 * b
    px, py, pz = three(positions, i, there)
    x, y, z, iz, u, v = to_pixel(c, px, py, pz, fu, fv, cx, cy, nearest)
    inside = there & (z >= nearest) & (u >= 0) & (v >= 0) & (u < columns - 1) & (v < rows - 1)
    u = tl.where(inside, u, 0.0)
    v = tl.where(inside, v, 0.0)
    j = u.to(tl.int32)
    k = v.to(tl.int32)
    fj = u - j
    fk = v - k
    weight = tl.load(weights + i, mask=there, other=0.0)
    a = weight * (fu * fv) * iz * iz * iz * tl.sqrt(x * x + y * y + z * z)
    at = image + (b.to(tl.int64) * rows * columns + k * columns + j) * WIDTH + column
    below = at + columns * WIDTH
    inside = inside & (column < USED)
    value = a
    if VESSELS:
        qx, qy, qz = three(tangents, i, there)
        ex = along(c, 0, qx, qy, qz)
        ey = along(c, 1, qx, qy, qz)
        ez = along(c, 2, qx, qy, qz)
        steep = ez * iz
        gu = ex - x * steep
        gv = ey - y * steep
        cosine = scale * (gu * gu - gv * gv)
        sine = scale * 2 * gu * gv
        n = column // _DERIVED if SLOPES else column
        value = a * tl.where(n == 0, 1.0, tl.where(n == 1, cosine, sine))
    if SLOPES:
        m = column % _DERIVED
        rx = (x - tl.load(centres + 3 * b)) * per_lever
        ry = (y - tl.load(centres + 3 * b + 1)) * per_lever
        rz = (z - tl.load(centres + 3 * b + 2)) * per_lever
        sx, sy, sz = _turned(m, rx, ry, rz)  # how the point moves
        sx = tl.where(m == 4, 1.0, sx)
        sy = tl.where(m == 5, 1.0, sy)
        sz = tl.where(m == 6, 1.0, sz)
        by_u = value * fu * iz * (sx - x * iz * sz)
        by_v = value * fv * iz * (sy - y * iz * sz)
        per_r2 = 1 / (x * x + y * y + z * z)
        # Of the amount, relative to it; channels of direction change with the tangent's shadow too.
        change = value * (per_r2 * (x * sx + y * sy + z * sz) - 3 * iz * sz)
        if VESSELS:
            tx, ty, tz = _turned(m, ex * per_lever, ey * per_lever, ez * per_lever)
            d_steep = iz * (tz - steep * sz)
            d_gu = tx - sx * steep - x * d_steep
            d_gv = ty - sy * steep - y * d_steep
            twice = 2 * a * scale
            change += tl.where(
                n == 1,
                twice * (gu * d_gu - gv * d_gv),
                tl.where(n == 2, twice * (d_gu * gv + gu * d_gv), 0.0),
            )
        value = tl.where(m == 0, value, change)
        add_whole(at, inside, value * (1 - fk) * (1 - fj) - by_u * (1 - fk) - by_v * (1 - fj), per_mm)
        add_whole(at + WIDTH, inside, value * (1 - fk) * fj + by_u * (1 - fk) - by_v * fj, per_mm)
        add_whole(below, inside, value * fk * (1 - fj) - by_u * fk + by_v * (1 - fj), per_mm)
        add_whole(below + WIDTH, inside, value * fk * fj + by_u * fk + by_v * fj, per_mm)
    else:
        add_whole(at, inside, value * (1 - fk) * (1 - fj), per_mm)
        add_whole(at + WIDTH, inside, value * (1 - fk) * fj, per_mm)
        add_whole(below, inside, value * fk * (1 - fj), per_mm)
        add_whole(below + WIDTH, inside, value * fk * fj, per_mm)


@triton.jit(do_not_specialize=["rows", "line"])
def _blur(  # type: ignore[no-untyped-def]
    source,
    out,
    taps,
    rows,
    line,
    scale,
    RADIUS: tl.constexpr,
    BLOCK: tl.constexpr,
    LINES: tl.constexpr,
    STEP: tl.constexpr,
):
    """Filter some lines of an image, of `line` values each: across them, where a pixel has `STEP` values, or down them where that is 0.

    A program's lines follow each other, so that it finds in its cache what lies above and below.
    """
    strips = tl.cdiv(rows, LINES)
    image = tl.program_id(0) // strips
    first = tl.program_id(0) % strips * LINES
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    for n in range(LINES):
        row = first + n
        there = (i < line) & (row < rows)
        at = (image.to(tl.int64) * rows + row) * line + i
        total = tl.load(taps) * tl.load(source + at, mask=there, other=0).to(tl.float32)
        for t in tl.static_range(1, RADIUS + 1):
            if STEP == 0:
                step = t * line
                lower, upper = there & (row >= t), there & (row + t < rows)
            else:
                step = t * STEP
                lower, upper = there & (i >= step), there & (i + step < line)
            before = tl.load(source + at - step, mask=lower, other=0).to(tl.float32)
            after = tl.load(source + at + step, mask=upper, other=0).to(tl.float32)
            total += tl.load(taps + t) * (before + after)
        tl.store(out + at, total * scale, mask=there)


# A thread sums the products of its pixels, each a row of seven in as many registers: a is that of the value, b to g of its
# derivatives, s of ones, t of the target.
# fmt: off
@triton.jit
def _grown(r0, r1, r2, r3, r4, r5, r6, by, q0, q1, q2, q3, q4, q5, q6):  # type: ignore[no-untyped-def]
    return r0 + by * q0, r1 + by * q1, r2 + by * q2, r3 + by * q3, r4 + by * q4, r5 + by * q5, r6 + by * q6


@triton.jit
def _store(out, row, r0, r1, r2, r3, r4, r5, r6):  # type: ignore[no-untyped-def]
    tl.store(out + 7 * row, tl.sum(r0))
    tl.store(out + 7 * row + 1, tl.sum(r1))
    tl.store(out + 7 * row + 2, tl.sum(r2))
    tl.store(out + 7 * row + 3, tl.sum(r3))
    tl.store(out + 7 * row + 4, tl.sum(r4))
    tl.store(out + 7 * row + 5, tl.sum(r5))
    tl.store(out + 7 * row + 6, tl.sum(r6))


@triton.jit
def _saturated(at, m, there, value, slope, curvature, first):  # type: ignore[no-untyped-def]
    """Derivative m of a channel at `at`, by the product rule; `first` is that of the amount."""
    return tl.load(at + m, mask=there, other=0.0) * slope - value * curvature * first


@triton.jit(do_not_specialize=["rows", "columns"])
def _vessel_gram(images, target, valid, parts, rows, columns, saturation_mm, WIDTH: tl.constexpr, BLOCK: tl.constexpr, TIMES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Products of the saturated channels, summed over them and over some pixels."""
    pixels = rows * columns
    source = images + tl.program_id(1).to(tl.int64) * pixels * WIDTH
    zero = tl.zeros((BLOCK,), tl.float32)
    a0, a1, a2, a3, a4, a5, a6 = zero, zero, zero, zero, zero, zero, zero
    b0, b1, b2, b3, b4, b5, b6 = zero, zero, zero, zero, zero, zero, zero
    c0, c1, c2, c3, c4, c5, c6 = zero, zero, zero, zero, zero, zero, zero
    d0, d1, d2, d3, d4, d5, d6 = zero, zero, zero, zero, zero, zero, zero
    e0, e1, e2, e3, e4, e5, e6 = zero, zero, zero, zero, zero, zero, zero
    f0, f1, f2, f3, f4, f5, f6 = zero, zero, zero, zero, zero, zero, zero
    g0, g1, g2, g3, g4, g5, g6 = zero, zero, zero, zero, zero, zero, zero
    s0, s1, s2, s3, s4, s5, s6 = zero, zero, zero, zero, zero, zero, zero
    t0, t1, t2, t3, t4, t5, t6 = zero, zero, zero, zero, zero, zero, zero
    for time in range(TIMES):
        p = (tl.program_id(0) * TIMES + time) * BLOCK + tl.arange(0, BLOCK)
        at = source + p * WIDTH
        amount = tl.load(at, mask=p < pixels, other=0.0)
        there = (p < pixels) & (amount != 0) & (tl.load(valid + p, mask=p < pixels, other=0.0) != 0)
        slope = 1 / (1 + amount / saturation_mm)
        curvature = slope * slope / saturation_mm  # minus the change of the slope with the value
        u1 = tl.load(at + 1, mask=there, other=0.0)
        u2 = tl.load(at + 2, mask=there, other=0.0)
        u3 = tl.load(at + 3, mask=there, other=0.0)
        u4 = tl.load(at + 4, mask=there, other=0.0)
        u5 = tl.load(at + 5, mask=there, other=0.0)
        u6 = tl.load(at + 6, mask=there, other=0.0)
        for n in tl.static_range(3):
            of = at + 7 * n
            value = tl.load(of, mask=there, other=0.0)
            q0 = value * slope
            q1 = _saturated(of, 1, there, value, slope, curvature, u1)
            q2 = _saturated(of, 2, there, value, slope, curvature, u2)
            q3 = _saturated(of, 3, there, value, slope, curvature, u3)
            q4 = _saturated(of, 4, there, value, slope, curvature, u4)
            q5 = _saturated(of, 5, there, value, slope, curvature, u5)
            q6 = _saturated(of, 6, there, value, slope, curvature, u6)
            fixed = tl.load(target + n * pixels + p, mask=there, other=0.0)
            a0, a1, a2, a3, a4, a5, a6 = _grown(a0, a1, a2, a3, a4, a5, a6, q0, q0, q1, q2, q3, q4, q5, q6)
            b0, b1, b2, b3, b4, b5, b6 = _grown(b0, b1, b2, b3, b4, b5, b6, q1, q0, q1, q2, q3, q4, q5, q6)
            c0, c1, c2, c3, c4, c5, c6 = _grown(c0, c1, c2, c3, c4, c5, c6, q2, q0, q1, q2, q3, q4, q5, q6)
            d0, d1, d2, d3, d4, d5, d6 = _grown(d0, d1, d2, d3, d4, d5, d6, q3, q0, q1, q2, q3, q4, q5, q6)
            e0, e1, e2, e3, e4, e5, e6 = _grown(e0, e1, e2, e3, e4, e5, e6, q4, q0, q1, q2, q3, q4, q5, q6)
            f0, f1, f2, f3, f4, f5, f6 = _grown(f0, f1, f2, f3, f4, f5, f6, q5, q0, q1, q2, q3, q4, q5, q6)
            g0, g1, g2, g3, g4, g5, g6 = _grown(g0, g1, g2, g3, g4, g5, g6, q6, q0, q1, q2, q3, q4, q5, q6)
            t0, t1, t2, t3, t4, t5, t6 = _grown(t0, t1, t2, t3, t4, t5, t6, fixed, q0, q1, q2, q3, q4, q5, q6)
            if n == 0:
                s0, s1, s2, s3, s4, s5, s6 = _grown(s0, s1, s2, s3, s4, s5, s6, 1.0, q0, q1, q2, q3, q4, q5, q6)
    out = parts + (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * 63
    _store(out, 0, a0, a1, a2, a3, a4, a5, a6)
    _store(out, 1, b0, b1, b2, b3, b4, b5, b6)
    _store(out, 2, c0, c1, c2, c3, c4, c5, c6)
    _store(out, 3, d0, d1, d2, d3, d4, d5, d6)
    _store(out, 4, e0, e1, e2, e3, e4, e5, e6)
    _store(out, 5, f0, f1, f2, f3, f4, f5, f6)
    _store(out, 6, g0, g1, g2, g3, g4, g5, g6)
    _store(out, 7, s0, s1, s2, s3, s4, s5, s6)
    _store(out, 8, t0, t1, t2, t3, t4, t5, t6)


@triton.jit
def _difference(at, m, step, there):  # type: ignore[no-untyped-def]
    return (tl.load(at + step + m, mask=there, other=0.0) - tl.load(at - step + m, mask=there, other=0.0)) * 0.5


@triton.jit(do_not_specialize=["rows", "columns"])
def _skull_gram(images, target, valid, parts, rows, columns, knee_mm, WIDTH: tl.constexpr, BLOCK: tl.constexpr, TIMES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Products of the gradient's two components, each with six derivatives, summed over both and over some pixels."""
    pixels = rows * columns
    source = images + tl.program_id(1).to(tl.int64) * pixels * WIDTH
    down = columns * WIDTH
    zero = tl.zeros((BLOCK,), tl.float32)
    a0, a1, a2, a3, a4, a5, a6 = zero, zero, zero, zero, zero, zero, zero
    b0, b1, b2, b3, b4, b5, b6 = zero, zero, zero, zero, zero, zero, zero
    c0, c1, c2, c3, c4, c5, c6 = zero, zero, zero, zero, zero, zero, zero
    d0, d1, d2, d3, d4, d5, d6 = zero, zero, zero, zero, zero, zero, zero
    e0, e1, e2, e3, e4, e5, e6 = zero, zero, zero, zero, zero, zero, zero
    f0, f1, f2, f3, f4, f5, f6 = zero, zero, zero, zero, zero, zero, zero
    g0, g1, g2, g3, g4, g5, g6 = zero, zero, zero, zero, zero, zero, zero
    t0, t1, t2, t3, t4, t5, t6 = zero, zero, zero, zero, zero, zero, zero
    for time in range(TIMES):
        p = (tl.program_id(0) * TIMES + time) * BLOCK + tl.arange(0, BLOCK)
        k = p // columns
        j = p % columns
        inner = (k > 0) & (k < rows - 1) & (j > 0) & (j < columns - 1)
        at = source + p * WIDTH
        x0 = _difference(at, 0, WIDTH, inner)
        y0 = _difference(at, 0, down, inner)
        length = tl.sqrt(x0 * x0 + y0 * y0)
        there = inner & (length >= _NO_GRADIENT) & (tl.load(valid + p, mask=inner, other=0.0) != 0)
        slope = tl.where(there, 1 / (1 + length / knee_mm), 0.0)
        # Minus the change of the slope with the length, over it.
        curvature = slope * slope / (knee_mm * tl.maximum(length, _NO_GRADIENT))
        x1 = _difference(at, 1, WIDTH, there)
        y1 = _difference(at, 1, down, there)
        l1 = (x0 * x1 + y0 * y1) * curvature
        x2 = _difference(at, 2, WIDTH, there)
        y2 = _difference(at, 2, down, there)
        l2 = (x0 * x2 + y0 * y2) * curvature
        x3 = _difference(at, 3, WIDTH, there)
        y3 = _difference(at, 3, down, there)
        l3 = (x0 * x3 + y0 * y3) * curvature
        x4 = _difference(at, 4, WIDTH, there)
        y4 = _difference(at, 4, down, there)
        l4 = (x0 * x4 + y0 * y4) * curvature
        x5 = _difference(at, 5, WIDTH, there)
        y5 = _difference(at, 5, down, there)
        l5 = (x0 * x5 + y0 * y5) * curvature
        x6 = _difference(at, 6, WIDTH, there)
        y6 = _difference(at, 6, down, there)
        l6 = (x0 * x6 + y0 * y6) * curvature
        for n in tl.static_range(2):
            if n == 0:
                u0, u1, u2, u3, u4, u5, u6 = x0, x1, x2, x3, x4, x5, x6
            else:
                u0, u1, u2, u3, u4, u5, u6 = y0, y1, y2, y3, y4, y5, y6
            q0 = slope * u0
            q1 = slope * u1 - u0 * l1
            q2 = slope * u2 - u0 * l2
            q3 = slope * u3 - u0 * l3
            q4 = slope * u4 - u0 * l4
            q5 = slope * u5 - u0 * l5
            q6 = slope * u6 - u0 * l6
            fixed = tl.load(target + n * pixels + p, mask=there, other=0.0)
            a0, a1, a2, a3, a4, a5, a6 = _grown(a0, a1, a2, a3, a4, a5, a6, q0, q0, q1, q2, q3, q4, q5, q6)
            b0, b1, b2, b3, b4, b5, b6 = _grown(b0, b1, b2, b3, b4, b5, b6, q1, q0, q1, q2, q3, q4, q5, q6)
            c0, c1, c2, c3, c4, c5, c6 = _grown(c0, c1, c2, c3, c4, c5, c6, q2, q0, q1, q2, q3, q4, q5, q6)
            d0, d1, d2, d3, d4, d5, d6 = _grown(d0, d1, d2, d3, d4, d5, d6, q3, q0, q1, q2, q3, q4, q5, q6)
            e0, e1, e2, e3, e4, e5, e6 = _grown(e0, e1, e2, e3, e4, e5, e6, q4, q0, q1, q2, q3, q4, q5, q6)
            f0, f1, f2, f3, f4, f5, f6 = _grown(f0, f1, f2, f3, f4, f5, f6, q5, q0, q1, q2, q3, q4, q5, q6)
            g0, g1, g2, g3, g4, g5, g6 = _grown(g0, g1, g2, g3, g4, g5, g6, q6, q0, q1, q2, q3, q4, q5, q6)
            t0, t1, t2, t3, t4, t5, t6 = _grown(t0, t1, t2, t3, t4, t5, t6, fixed, q0, q1, q2, q3, q4, q5, q6)
    out = parts + (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * 56
    _store(out, 0, a0, a1, a2, a3, a4, a5, a6)
    _store(out, 1, b0, b1, b2, b3, b4, b5, b6)
    _store(out, 2, c0, c1, c2, c3, c4, c5, c6)
    _store(out, 3, d0, d1, d2, d3, d4, d5, d6)
    _store(out, 4, e0, e1, e2, e3, e4, e5, e6)
    _store(out, 5, f0, f1, f2, f3, f4, f5, f6)
    _store(out, 6, g0, g1, g2, g3, g4, g5, g6)
    _store(out, 7, t0, t1, t2, t3, t4, t5, t6)
# fmt: on
