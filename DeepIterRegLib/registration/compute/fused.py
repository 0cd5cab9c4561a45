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

from DeepIterRegLib.registration.compute.scatter import PER_MM, Grid, Splat
from DeepIterRegLib.rendering.splat_kernels import MIN_DEPTH_MM

BYTES_A_POINT = 0
_POINTS, _VALUES, _PIXELS, _TIMES = 32, 1024, 64, 8  # of a program; it sums so many pixels, so many times
_NEAREST_MM = float(MIN_DEPTH_MM)
_WHOLE = torch.int64
_NO_GRADIENT = tl.constexpr(1e-12)
_DERIVED = tl.constexpr(7)  # a value and its six derivatives
# Values that a pixel has in memory, and columns of the matrix whose products are summed: for vessels three times a value and its
# derivatives, then the target's three channels and ones; for a skull, of each component, value, derivatives and target.
_VESSEL_WIDTH, _SKULL_WIDTH = 24, 8
_VESSEL_COLUMNS, _SKULL_COLUMNS = 32, 16


def values(splat: Splat, cameras: Tensor, grid: Grid) -> Tensor:
    """Images (B, channels, rows, columns) int64, in `PER_MM`, for cameras (B, 3, 4)."""
    width = 1 if splat.tangents is None else 4
    return _drawn(splat, cameras, cameras, 1.0, grid, width, width, slopes=False)[:, : splat.channels]


def slopes(splat: Splat, cameras: Tensor, centres: Tensor, lever_mm: float, grid: Grid) -> Tensor:
    """Images with derivatives (B, 7 channels, rows, columns) int64, in `PER_MM`, for cameras (B, 3, 4) and centres (B, 3)."""
    width, tile = (_SKULL_WIDTH, 8) if splat.tangents is None else (_VESSEL_WIDTH, 32)
    return _drawn(splat, cameras, centres.contiguous(), lever_mm, grid, width, tile, slopes=True)


def blurred(images: Tensor, taps: Tensor) -> Tensor:
    """Images (B, C, rows, columns), whole numbers in `PER_MM`, in mm and blurred by a filter's half `taps` (radius + 1,); 0 outside."""
    batch, _, rows, columns = images.shape
    width = images.stride(3)
    whole = images.as_strided((batch, rows, columns, width), (rows * columns * width, columns * width, width, 1))
    down = torch.empty(whole.shape, dtype=torch.float32, device=images.device)
    across = torch.empty_like(down)
    count = down.numel()
    common: dict[str, Any] = {"RADIUS": len(taps) - 1, "BLOCK": _VALUES}
    programs = (triton.cdiv(count, _VALUES),)
    _blur[programs](whole, down, taps, count, rows, columns * width, 1 / PER_MM, **common)
    _blur[programs](down, across, taps, count, columns, width, 1.0, **common)
    return across.permute(0, 3, 1, 2)[:, : images.shape[1]]


def vessel_gram(images: Tensor, target: Tensor, valid: Tensor, saturation_mm: float) -> Tensor:
    """Inner products (B, 9, 7) float64 of saturated images (B, 21, rows, columns) and a target (3, rows, columns)."""
    total = _summed(_vessel_gram, images, target, valid, saturation_mm, _VESSEL_COLUMNS, _VESSEL_WIDTH)
    parts = [total[:, 7 * n : 7 * n + 7] for n in range(3)]
    gram = parts[0][..., :7] + parts[1][..., 7:14] + parts[2][..., 14:21]
    cross = parts[0][..., 21] + parts[1][..., 22] + parts[2][..., 23]
    return torch.cat([gram, parts[0][..., 24][:, None], cross[:, None]], dim=1)


def skull_gram(images: Tensor, target: Tensor, valid: Tensor, knee_mm: float) -> Tensor:
    """Inner products (B, 8, 7) float64 of the shortened gradients of images (B, 7, rows, columns) and a target (2, rows, columns)."""
    total = _summed(_skull_gram, images, target, valid, knee_mm, _SKULL_COLUMNS, _SKULL_WIDTH)
    return (total[:, :8, :8] + total[:, 8:, 8:])[..., :7]


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
        PER_MM,
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
    kernel: Any, images: Tensor, target: Tensor, valid: Tensor, setting: float, columns: int, width: int
) -> Tensor:
    """Products (B, columns, columns) float64 of all columns of a kernel's matrix, summed over the pixels."""
    assert images.stride(1) == 1
    assert images.stride(3) == width
    blocks = triton.cdiv(valid.numel(), _PIXELS * _TIMES)
    parts = torch.empty(len(images), blocks, columns, columns, dtype=torch.float32, device=images.device)
    kernel[(blocks, len(images))](
        images,
        target,
        valid,
        parts,
        *valid.shape,
        float(setting),
        WIDTH=width,
        COLUMNS=columns,
        BLOCK=_PIXELS,
        TIMES=_TIMES,
    )
    return parts.sum(dim=1, dtype=torch.float64)


@triton.jit
def _row(c, row, x, y, z):  # type: ignore[no-untyped-def]
    """A row of a camera at `c` times points or directions."""
    return tl.load(c + 4 * row) * x + tl.load(c + 4 * row + 1) * y + tl.load(c + 4 * row + 2) * z


@triton.jit
def _add(image, there, value, per_mm):  # type: ignore[no-untyped-def]
    tl.atomic_add(image, tl.floor(value * per_mm + 0.5).to(image.dtype.element_ty), mask=there, sem="relaxed")


@triton.jit(do_not_specialize=["points", "rows", "columns"])
def _draw(  # type: ignore[no-untyped-def]
    positions,
    tangents,
    weights,
    cameras,
    centres,
    image,
    points,
    rows,
    columns,
    fu,
    fv,
    cx,
    cy,
    per_lever,
    scale,
    per_mm,
    nearest,
    VESSELS: tl.constexpr,
    SLOPES: tl.constexpr,
    WIDTH: tl.constexpr,
    USED: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add a block of points to the image of one pose, all channels at once: a row of the tile is a point, a column a channel."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    b = tl.program_id(1)
    column = tl.arange(0, TILE)[None, :]
    there = i < points
    px = tl.load(positions + 3 * i, mask=there, other=0.0)
    py = tl.load(positions + 3 * i + 1, mask=there, other=0.0)
    pz = tl.load(positions + 3 * i + 2, mask=there, other=0.0)
    c = cameras + 12 * b
    x = _row(c, 0, px, py, pz) + tl.load(c + 3)
    y = _row(c, 1, px, py, pz) + tl.load(c + 7)
    z = _row(c, 2, px, py, pz) + tl.load(c + 11)
    iz = 1 / tl.maximum(z, nearest)
    u = fu * x * iz + cx
    v = fv * y * iz + cy
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
        qx = tl.load(tangents + 3 * i, mask=there, other=0.0)
        qy = tl.load(tangents + 3 * i + 1, mask=there, other=0.0)
        qz = tl.load(tangents + 3 * i + 2, mask=there, other=0.0)
        ex = _row(c, 0, qx, qy, qz)
        ey = _row(c, 1, qx, qy, qz)
        ez = _row(c, 2, qx, qy, qz)
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
        # How the point moves: a rotation about x moves (x, y, z) by (0, -z, y), and so on.
        sx = tl.where(m == 2, rz, tl.where(m == 3, -ry, tl.where(m == 4, 1.0, 0.0)))
        sy = tl.where(m == 1, -rz, tl.where(m == 3, rx, tl.where(m == 5, 1.0, 0.0)))
        sz = tl.where(m == 1, ry, tl.where(m == 2, -rx, tl.where(m == 6, 1.0, 0.0)))
        by_u = value * fu * iz * (sx - x * iz * sz)
        by_v = value * fv * iz * (sy - y * iz * sz)
        per_r2 = 1 / (x * x + y * y + z * z)
        # Of the amount, relative to it; channels of direction change with the tangent's shadow too.
        change = value * (per_r2 * (x * sx + y * sy + z * sz) - 3 * iz * sz)
        if VESSELS:
            tx = tl.where(m == 2, ez, tl.where(m == 3, -ey, 0.0)) * per_lever
            ty = tl.where(m == 1, -ez, tl.where(m == 3, ex, 0.0)) * per_lever
            tz = tl.where(m == 1, ey, tl.where(m == 2, -ex, 0.0)) * per_lever
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
        _add(at, inside, value * (1 - fk) * (1 - fj) - by_u * (1 - fk) - by_v * (1 - fj), per_mm)
        _add(at + WIDTH, inside, value * (1 - fk) * fj + by_u * (1 - fk) - by_v * fj, per_mm)
        _add(below, inside, value * fk * (1 - fj) - by_u * fk + by_v * (1 - fj), per_mm)
        _add(below + WIDTH, inside, value * fk * fj + by_u * fk + by_v * fj, per_mm)
    else:
        _add(at, inside, value * (1 - fk) * (1 - fj), per_mm)
        _add(at + WIDTH, inside, value * (1 - fk) * fj, per_mm)
        _add(below, inside, value * fk * (1 - fj), per_mm)
        _add(below + WIDTH, inside, value * fk * fj, per_mm)


@triton.jit(do_not_specialize=["count", "length", "stride"])
def _blur(source, out, taps, count, length, stride, scale, RADIUS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Filter along one axis, of `length` places that are `stride` values apart."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = i < count
    place = (i // stride) % length
    total = tl.load(taps) * tl.load(source + i, mask=there, other=0).to(tl.float32)
    for t in tl.static_range(1, RADIUS + 1):
        before = tl.load(source + i - t * stride, mask=there & (place >= t), other=0).to(tl.float32)
        after = tl.load(source + i + t * stride, mask=there & (place + t < length), other=0).to(tl.float32)
        total += tl.load(taps + t) * (before + after)
    tl.store(out + i, total * scale, mask=there)


@triton.jit
def _store(parts, total, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    at = parts + (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * COLUMNS * COLUMNS
    tl.store(at + tl.arange(0, COLUMNS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :], total)


@triton.jit(do_not_specialize=["rows", "columns"])
def _vessel_gram(  # type: ignore[no-untyped-def]
    images,
    target,
    valid,
    parts,
    rows,
    columns,
    saturation_mm,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    TIMES: tl.constexpr,
):
    """Products of 21 saturated values and derivatives, the target's three channels (21 to 23) and ones (24), over some pixels."""
    pixels = rows * columns
    source = images + tl.program_id(1).to(tl.int64) * pixels * WIDTH
    column = tl.arange(0, COLUMNS)[None, :]
    m = column % _DERIVED
    own_value = column - m
    derived = column < 3 * _DERIVED
    fixed = (column >= 3 * _DERIVED) & (column < 3 * _DERIVED + 3)
    total = tl.zeros((COLUMNS, COLUMNS), tl.float32)
    for time in range(TIMES):
        p = (tl.program_id(0) * TIMES + time) * BLOCK + tl.arange(0, BLOCK)[:, None]
        there = p < pixels
        at = source + p * WIDTH
        amount = tl.load(at, mask=there, other=0.0)
        counts = there & (amount != 0) & (tl.load(valid + p, mask=there, other=0.0) != 0)
        slope = 1 / (1 + amount / saturation_mm)
        curvature = slope * slope / saturation_mm  # minus the change of the slope with the value
        values = tl.load(at + column, mask=counts & derived, other=0.0)
        of_value = tl.load(at + own_value, mask=counts & derived & (m > 0), other=0.0)
        of_amount = tl.load(at + m, mask=counts & derived & (m > 0), other=0.0)
        seen = values * slope - of_value * curvature * of_amount
        seen += tl.load(target + (column - 3 * _DERIVED) * pixels + p, mask=counts & fixed, other=0.0)
        seen += tl.where(counts & (column == 3 * _DERIVED + 3), 1.0, 0.0)
        total += tl.dot(tl.trans(seen), seen, input_precision="ieee")
    _store(parts, total, COLUMNS)


@triton.jit(do_not_specialize=["rows", "columns"])
def _skull_gram(  # type: ignore[no-untyped-def]
    images,
    target,
    valid,
    parts,
    rows,
    columns,
    knee_mm,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    TIMES: tl.constexpr,
):
    """Products of the gradient's two components, each with six derivatives and the target's, over some pixels."""
    pixels = rows * columns
    source = images + tl.program_id(1).to(tl.int64) * pixels * WIDTH
    column = tl.arange(0, COLUMNS)[None, :]
    m = column % WIDTH
    component = column // WIDTH
    down = columns * WIDTH
    total = tl.zeros((COLUMNS, COLUMNS), tl.float32)
    for time in range(TIMES):
        p = (tl.program_id(0) * TIMES + time) * BLOCK + tl.arange(0, BLOCK)[:, None]
        k = p // columns
        j = p % columns
        inner = (k > 0) & (k < rows - 1) & (j > 0) & (j < columns - 1)
        at = source + p * WIDTH
        x = (tl.load(at + WIDTH, mask=inner, other=0.0) - tl.load(at - WIDTH, mask=inner, other=0.0)) * 0.5
        y = (tl.load(at + down, mask=inner, other=0.0) - tl.load(at - down, mask=inner, other=0.0)) * 0.5
        length = tl.sqrt(x * x + y * y)
        counts = inner & (length >= _NO_GRADIENT) & (tl.load(valid + p, mask=inner, other=0.0) != 0)
        slope = 1 / (1 + length / knee_mm)
        curvature = slope * slope / (knee_mm * tl.maximum(length, _NO_GRADIENT))
        derived = counts & (m < _DERIVED)
        dx = (tl.load(at + WIDTH + m, mask=derived, other=0.0) - tl.load(at - WIDTH + m, mask=derived, other=0.0)) * 0.5
        dy = (tl.load(at + down + m, mask=derived, other=0.0) - tl.load(at - down + m, mask=derived, other=0.0)) * 0.5
        along = tl.where(m == 0, 0.0, (x * dx + y * dy) * curvature)
        seen = slope * tl.where(component == 0, dx, dy) - tl.where(component == 0, x, y) * along
        fixed = counts & (m == _DERIVED)
        seen += tl.load(target + component * pixels + p, mask=fixed, other=0.0)
        total += tl.dot(tl.trans(seen), seen, input_precision="ieee")
    _store(parts, total, COLUMNS)
