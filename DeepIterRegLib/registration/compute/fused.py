"""Drawing and inner products by Triton's kernels: what `operations` does, without its intermediate arrays in memory.

Functions, shapes and formulas are those of `operations`. One program draws a block of points for one pose, or filters or sums a
block of pixels.
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
_POINTS, _PIXELS, _SUMMED = 128, 1024, 128  # of a program
_TILE = 16  # a program's products are a matrix of so many rows: value, six derivatives, the target, ones
_NEAREST_MM = float(MIN_DEPTH_MM)
_NO_GRADIENT = tl.constexpr(1e-12)


def values(splat: Splat, cameras: Tensor, grid: Grid) -> Tensor:
    """Images (B, channels, rows, columns) int64, in `PER_MM`, for cameras (B, 3, 4)."""
    image = torch.zeros(len(cameras), splat.channels, grid.rows, grid.columns, dtype=torch.int64, device=cameras.device)
    _launch(_draw_values, splat, cameras, cameras, 1.0, grid, image)
    return image


def slopes(splat: Splat, cameras: Tensor, centres: Tensor, lever_mm: float, grid: Grid) -> Tensor:
    """Images with derivatives (B, 7 channels, rows, columns) int64, in `PER_MM`, for cameras (B, 3, 4) and centres (B, 3)."""
    image = torch.zeros(
        len(cameras), 7 * splat.channels, grid.rows, grid.columns, dtype=torch.int64, device=cameras.device
    )
    _launch(_draw_slopes, splat, cameras, centres.contiguous(), lever_mm, grid, image)
    return image


def blurred(images: Tensor, taps: Tensor) -> Tensor:
    """Images (B, C, rows, columns), whole numbers in `PER_MM`, in mm and blurred by a filter's half `taps` (radius + 1,); 0 outside."""
    rows, columns = images.shape[-2:]
    down = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    across = torch.empty_like(down)
    programs = (triton.cdiv(images.numel(), _PIXELS),)
    common: dict[str, Any] = {"RADIUS": len(taps) - 1, "BLOCK": _PIXELS}
    _blur[programs](images, down, taps, images.numel(), rows, columns, 1 / PER_MM, **common)
    _blur[programs](down, across, taps, images.numel(), columns, 1, 1.0, **common)
    return across


def vessel_gram(images: Tensor, target: Tensor, valid: Tensor, saturation_mm: float) -> Tensor:
    """Inner products (B, 9, 7) float64 of saturated images (B, 21, rows, columns) and a target (3, rows, columns)."""
    pixels = valid.numel()
    blocks = triton.cdiv(pixels, _SUMMED)
    parts = torch.empty(len(images), blocks, _TILE, _TILE, dtype=torch.float32, device=images.device)
    _vessel_gram[(blocks, len(images))](images, target, valid, parts, pixels, saturation_mm, ROWS=_TILE, BLOCK=_SUMMED)
    total = parts.to(torch.float64).sum(dim=1)
    return torch.cat([total[:, :7, :7], total[:, 8:9, :7], total[:, 7:8, :7]], dim=1)


def skull_gram(images: Tensor, target: Tensor, valid: Tensor, knee_mm: float) -> Tensor:
    """Inner products (B, 8, 7) float64 of the shortened gradients of images (B, 7, rows, columns) and a target (2, rows, columns)."""
    rows, columns = valid.shape
    pixels = valid.numel()
    blocks = triton.cdiv(pixels, _SUMMED)
    parts = torch.empty(len(images), blocks, _TILE, _TILE, dtype=torch.float32, device=images.device)
    _skull_gram[(blocks, len(images))](
        images, target, valid, parts, rows, columns, float(knee_mm), ROWS=_TILE, BLOCK=_SUMMED
    )
    return parts.to(torch.float64).sum(dim=1)[:, :8, :7]


def _launch(
    kernel: Any, splat: Splat, cameras: Tensor, centres: Tensor, lever_mm: float, grid: Grid, image: Tensor
) -> None:
    """One program for each block of points and pose."""
    points = len(splat.weights)
    kernel[(triton.cdiv(points, _POINTS), len(cameras))](
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
        BLOCK=_POINTS,
    )


@triton.jit
def _row(c, row, x, y, z):  # type: ignore[no-untyped-def]
    """A row of a camera at `c` times points or directions."""
    return tl.load(c + 4 * row) * x + tl.load(c + 4 * row + 1) * y + tl.load(c + 4 * row + 2) * z


@triton.jit
def _whole(value, per_mm):  # type: ignore[no-untyped-def]
    return tl.floor(value * per_mm + 0.5).to(tl.int64)


@triton.jit
def _share_value(image, inside, columns, fj, fk, value, per_mm):  # type: ignore[no-untyped-def]
    """Add values to the four pixels around, of which `image` points to the first."""
    tl.atomic_add(image, _whole(value * (1 - fk) * (1 - fj), per_mm), mask=inside, sem="relaxed")
    tl.atomic_add(image + 1, _whole(value * (1 - fk) * fj, per_mm), mask=inside, sem="relaxed")
    tl.atomic_add(image + columns, _whole(value * fk * (1 - fj), per_mm), mask=inside, sem="relaxed")
    tl.atomic_add(image + columns + 1, _whole(value * fk * fj, per_mm), mask=inside, sem="relaxed")


@triton.jit
def _share_slope(image, inside, columns, fj, fk, value, by_u, by_v, per_mm):  # type: ignore[no-untyped-def]
    """Add derivatives: `value` of the point's amount, by_u and by_v the amount times the change of column and row."""
    first = value * (1 - fk) * (1 - fj) - by_u * (1 - fk) - by_v * (1 - fj)
    tl.atomic_add(image, _whole(first, per_mm), mask=inside, sem="relaxed")
    right = value * (1 - fk) * fj + by_u * (1 - fk) - by_v * fj
    tl.atomic_add(image + 1, _whole(right, per_mm), mask=inside, sem="relaxed")
    below = value * fk * (1 - fj) - by_u * fk + by_v * (1 - fj)
    tl.atomic_add(image + columns, _whole(below, per_mm), mask=inside, sem="relaxed")
    last = value * fk * fj + by_u * fk + by_v * fj
    tl.atomic_add(image + columns + 1, _whole(last, per_mm), mask=inside, sem="relaxed")


@triton.jit
def _one_slope(  # type: ignore[no-untyped-def]
    image,
    plane,
    m,
    inside,
    columns,
    fj,
    fk,
    x,
    y,
    z,
    iz,
    a,
    fu,
    fv,
    gu,
    gv,
    steep,
    scale,
    sx,
    sy,
    sz,
    tx,
    ty,
    tz,
    per_mm,
    VESSELS: tl.constexpr,
):
    """Add derivative m of all channels: point and tangent move by s and t."""
    du = fu * iz * (sx - x * iz * sz)
    dv = fv * iz * (sy - y * iz * sz)
    ar = a / (x * x + y * y + z * z)
    da = ar * x * sx + ar * y * sy + (ar * z - 3 * a * iz) * sz
    _share_slope(image + m * plane, inside, columns, fj, fk, da, a * du, a * dv, per_mm)
    if VESSELS:
        d_steep = iz * (tz - steep * sz)
        d_gu = tx - sx * steep - x * d_steep
        d_gv = ty - sy * steep - y * d_steep
        cosine = scale * (gu * gu - gv * gv)
        sine = scale * 2 * gu * gv
        dc = da * cosine + a * scale * 2 * (gu * d_gu - gv * d_gv)
        ds = da * sine + a * scale * 2 * (d_gu * gv + gu * d_gv)
        _share_slope(image + (7 + m) * plane, inside, columns, fj, fk, dc, a * cosine * du, a * cosine * dv, per_mm)
        _share_slope(image + (14 + m) * plane, inside, columns, fj, fk, ds, a * sine * du, a * sine * dv, per_mm)


@triton.jit(do_not_specialize=["points", "rows", "columns"])
def _draw_values(  # type: ignore[no-untyped-def]
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
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
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
    plane = rows * columns
    channels = 3 if VESSELS else 1
    first = image + b.to(tl.int64) * channels * plane + k * columns + j
    _share_value(first, inside, columns, fj, fk, a, per_mm)
    if VESSELS:
        qx = tl.load(tangents + 3 * i, mask=there, other=0.0)
        qy = tl.load(tangents + 3 * i + 1, mask=there, other=0.0)
        qz = tl.load(tangents + 3 * i + 2, mask=there, other=0.0)
        steep = _row(c, 2, qx, qy, qz) * iz
        gu = _row(c, 0, qx, qy, qz) - x * steep
        gv = _row(c, 1, qx, qy, qz) - y * steep
        _share_value(first + plane, inside, columns, fj, fk, a * scale * (gu * gu - gv * gv), per_mm)
        _share_value(first + 2 * plane, inside, columns, fj, fk, a * scale * 2 * gu * gv, per_mm)


@triton.jit(do_not_specialize=["points", "rows", "columns"])
def _draw_slopes(  # type: ignore[no-untyped-def]
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
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
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
    plane = rows * columns
    channels = 21 if VESSELS else 7
    first = image + b.to(tl.int64) * channels * plane + k * columns + j
    zero = tl.zeros_like(x)
    one = zero + 1
    ex, ey, ez, gu, gv, steep = zero, zero, zero, zero, zero, zero
    _share_value(first, inside, columns, fj, fk, a, per_mm)
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
        _share_value(first + 7 * plane, inside, columns, fj, fk, a * scale * (gu * gu - gv * gv), per_mm)
        _share_value(first + 14 * plane, inside, columns, fj, fk, a * scale * 2 * gu * gv, per_mm)
        ex, ey, ez = ex * per_lever, ey * per_lever, ez * per_lever
    rx = (x - tl.load(centres + 3 * b)) * per_lever
    ry = (y - tl.load(centres + 3 * b + 1)) * per_lever
    rz = (z - tl.load(centres + 3 * b + 2)) * per_lever
    # fmt: off
    _one_slope(first, plane, 1, inside, columns, fj, fk, x, y, z, iz, a, fu, fv, gu, gv, steep, scale,
               zero, -rz, ry, zero, -ez, ey, per_mm, VESSELS)
    _one_slope(first, plane, 2, inside, columns, fj, fk, x, y, z, iz, a, fu, fv, gu, gv, steep, scale,
               rz, zero, -rx, ez, zero, -ex, per_mm, VESSELS)
    _one_slope(first, plane, 3, inside, columns, fj, fk, x, y, z, iz, a, fu, fv, gu, gv, steep, scale,
               -ry, rx, zero, -ey, ex, zero, per_mm, VESSELS)
    _one_slope(first, plane, 4, inside, columns, fj, fk, x, y, z, iz, a, fu, fv, gu, gv, steep, scale,
               one, zero, zero, zero, zero, zero, per_mm, VESSELS)
    _one_slope(first, plane, 5, inside, columns, fj, fk, x, y, z, iz, a, fu, fv, gu, gv, steep, scale,
               zero, one, zero, zero, zero, zero, per_mm, VESSELS)
    _one_slope(first, plane, 6, inside, columns, fj, fk, x, y, z, iz, a, fu, fv, gu, gv, steep, scale,
               zero, zero, one, zero, zero, zero, per_mm, VESSELS)
    # fmt: on


@triton.jit(do_not_specialize=["count", "length", "stride"])
def _blur(source, out, taps, count, length, stride, scale, RADIUS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Filter along one axis of planes, of `length` places that are `stride` values apart."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = i < count
    place = (i // stride) % length
    total = tl.load(taps) * tl.load(source + i, mask=there, other=0).to(tl.float32)
    for t in tl.static_range(1, RADIUS + 1):
        before = tl.load(source + i - t * stride, mask=there & (place >= t), other=0).to(tl.float32)
        after = tl.load(source + i + t * stride, mask=there & (place + t < length), other=0).to(tl.float32)
        total += tl.load(taps + t) * (before + after)
    tl.store(out + i, total * scale, mask=there)


@triton.jit(do_not_specialize=["pixels"])
def _vessel_gram(images, target, valid, parts, pixels, saturation_mm, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Products of value and derivatives (rows 0 to 6), target (7) and, of the first channel, ones (8), over a block of pixels."""
    block = tl.program_id(0)
    b = tl.program_id(1)
    m = tl.arange(0, ROWS)[:, None]
    p = block * BLOCK + tl.arange(0, BLOCK)[None, :]
    there = p < pixels
    source = images + b.to(tl.int64) * 21 * pixels
    derived = there & (m < 7)
    first = tl.load(source + m * pixels + p, mask=derived, other=0.0)
    amount = tl.load(source + p, mask=there, other=0.0)
    counts = there & (amount != 0) & (tl.load(valid + p, mask=there, other=0.0) != 0)
    slope = 1 / (1 + amount / saturation_mm)
    curvature = slope * slope / saturation_mm
    total = tl.zeros((ROWS, ROWS), tl.float32)
    for n in tl.static_range(3):
        values = tl.load(source + (7 * n + m) * pixels + p, mask=derived, other=0.0)
        own = tl.load(source + 7 * n * pixels + p, mask=there, other=0.0)
        fixed = tl.load(target + n * pixels + p, mask=there, other=0.0)
        seen = values * slope - tl.where(m == 0, 0.0, own * curvature * first)
        seen = tl.where(m == 7, fixed, seen)
        if n == 0:
            seen = tl.where(m == 8, 1.0, seen)
        seen = tl.where(counts, seen, 0.0)
        total += tl.dot(seen, tl.trans(seen), input_precision="ieee")
    row = tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, ROWS)[None, :]
    there = parts + (b * tl.num_programs(0) + block) * ROWS * ROWS
    tl.store(there + row * ROWS + column, total)


@triton.jit(do_not_specialize=["rows", "columns"])
def _skull_gram(images, target, valid, parts, rows, columns, knee_mm, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Products of gradient and derivatives (rows 0 to 6) and target (7) over a block of pixels."""
    block = tl.program_id(0)
    b = tl.program_id(1)
    pixels = rows * columns
    m = tl.arange(0, ROWS)[:, None]
    p = block * BLOCK + tl.arange(0, BLOCK)[None, :]
    k = p // columns
    j = p % columns
    inner = (k > 0) & (k < rows - 1) & (j > 0) & (j < columns - 1)
    source = images + b.to(tl.int64) * 7 * pixels + p
    x = (tl.load(source + 1, mask=inner, other=0.0) - tl.load(source - 1, mask=inner, other=0.0)) * 0.5
    y = (tl.load(source + columns, mask=inner, other=0.0) - tl.load(source - columns, mask=inner, other=0.0)) * 0.5
    length = tl.sqrt(x * x + y * y)
    counts = inner & (length >= _NO_GRADIENT) & (tl.load(valid + p, mask=inner, other=0.0) != 0)
    slope = 1 / (1 + length / knee_mm)
    curvature = slope * slope / (knee_mm * tl.maximum(length, _NO_GRADIENT))
    at = source + m * pixels
    derived = inner & (m < 7)
    dx = (tl.load(at + 1, mask=derived, other=0.0) - tl.load(at - 1, mask=derived, other=0.0)) * 0.5
    dy = (tl.load(at + columns, mask=derived, other=0.0) - tl.load(at - columns, mask=derived, other=0.0)) * 0.5
    along = tl.where(m == 0, 0.0, (x * dx + y * dy) * curvature)
    seen_x = slope * dx - x * along
    seen_y = slope * dy - y * along
    seen_x = tl.where(m == 7, tl.load(target + p, mask=inner, other=0.0), seen_x)
    seen_y = tl.where(m == 7, tl.load(target + pixels + p, mask=inner, other=0.0), seen_y)
    seen_x = tl.where(counts, seen_x, 0.0)
    seen_y = tl.where(counts, seen_y, 0.0)
    total = tl.dot(seen_x, tl.trans(seen_x), input_precision="ieee")
    total += tl.dot(seen_y, tl.trans(seen_y), input_precision="ieee")
    row = tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, ROWS)[None, :]
    tl.store(parts + (b * tl.num_programs(0) + block) * ROWS * ROWS + row * ROWS + column, total)
