"""The splat on a card by Triton: images of points and their gradient to the cameras, without intermediate arrays.

Formulas as in `splat_kernels`. Images are summed as whole numbers, whose sums do not depend on their order, so the same input gives
the same bits. A gradient is summed block by block of points, and the blocks in their order.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.rendering.cpu_splat import pixel_intrinsics
from DeepIterRegLib.rendering.splat_kernels import MIN_DEPTH_MM

# Of images summed in whole numbers: so many to one unit (value x mm). 2^63 of them are 5e11 units.
_PER_UNIT = float(2**24)
_POINTS = 256  # of a program
_NEAREST_MM = float(MIN_DEPTH_MM)


def images(points: Tensor, weights: Tensor, cameras: Tensor, carm: CArm) -> Tensor:
    """Images (B, rows, columns) float32 of points (N, 3) and weights (N,) for cameras (B, 3, 4), all float32 on the card."""
    whole = torch.zeros(len(cameras), carm.rows, carm.columns, dtype=torch.int64, device=cameras.device)
    _draw[_programs(points, cameras)](
        points, weights, cameras, whole, len(points), *_grid(carm), _PER_UNIT, _NEAREST_MM, BLOCK=_POINTS
    )
    return whole * (1 / _PER_UNIT)


def gradient(points: Tensor, weights: Tensor, cameras: Tensor, carm: CArm, by_image: Tensor) -> Tensor:
    """Gradient (B, 3, 4) of a loss to the cameras, given its gradient (B, rows, columns) to the images; arguments as in `images`."""
    programs = _programs(points, cameras)
    parts = torch.empty(len(cameras), programs[0], 12, dtype=torch.float32, device=cameras.device)
    _gather[programs](points, weights, cameras, by_image, parts, len(points), *_grid(carm), _NEAREST_MM, BLOCK=_POINTS)
    return parts.sum(dim=1).reshape(-1, 3, 4)


def _programs(points: Tensor, cameras: Tensor) -> tuple[int, int]:
    return triton.cdiv(len(points), _POINTS), len(cameras)


@lru_cache(maxsize=64)
def _grid(carm: CArm) -> tuple[Any, ...]:
    return carm.rows, carm.columns, *(float(value) for value in pixel_intrinsics(carm))


@triton.jit
def _row(c, row, x, y, z):  # type: ignore[no-untyped-def]
    return (
        tl.load(c + 4 * row) * x
        + tl.load(c + 4 * row + 1) * y
        + tl.load(c + 4 * row + 2) * z
        + tl.load(c + 4 * row + 3)
    )


@triton.jit
def _add(image, there, value, per_unit):  # type: ignore[no-untyped-def]
    tl.atomic_add(image, tl.floor(value * per_unit + 0.5).to(tl.int64), mask=there, sem="relaxed")


@triton.jit(do_not_specialize=["count", "rows", "columns"])
def _draw(  # type: ignore[no-untyped-def]
    points, weights, cameras, image, count, rows, columns, fu, fv, cx, cy, per_unit, nearest, BLOCK: tl.constexpr
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
    there = i < count
    px = tl.load(points + 3 * i, mask=there, other=0.0)
    py = tl.load(points + 3 * i + 1, mask=there, other=0.0)
    pz = tl.load(points + 3 * i + 2, mask=there, other=0.0)
    c = cameras + 12 * b
    x = _row(c, 0, px, py, pz)
    y = _row(c, 1, px, py, pz)
    z = _row(c, 2, px, py, pz)
    iz = 1 / tl.maximum(z, nearest)
    u = fu * x * iz + cx
    v = fv * y * iz + cy
    seen = there & (z >= nearest) & (u > -1) & (v > -1) & (u < columns) & (v < rows)
    u = tl.where(seen, u, 0.0)
    v = tl.where(seen, v, 0.0)
    left = tl.floor(u)
    top = tl.floor(v)
    fj = u - left
    fk = v - top
    j = left.to(tl.int32)
    k = top.to(tl.int32)
    weight = tl.load(weights + i, mask=there, other=0.0)
    a = weight * (fu * fv) * iz * iz * iz * tl.sqrt(x * x + y * y + z * z)
    at = image + b.to(tl.int64) * rows * columns + k * columns + j
    above, below = seen & (k >= 0), seen & (k + 1 < rows)
    _add(at, above & (j >= 0), a * (1 - fk) * (1 - fj), per_unit)
    _add(at + 1, above & (j + 1 < columns), a * (1 - fk) * fj, per_unit)
    _add(at + columns, below & (j >= 0), a * fk * (1 - fj), per_unit)
    _add(at + columns + 1, below & (j + 1 < columns), a * fk * fj, per_unit)


@triton.jit
def _store_row(out, row, dx, px, py, pz):  # type: ignore[no-untyped-def]
    tl.store(out + 4 * row, tl.sum(dx * px, axis=0))
    tl.store(out + 4 * row + 1, tl.sum(dx * py, axis=0))
    tl.store(out + 4 * row + 2, tl.sum(dx * pz, axis=0))
    tl.store(out + 4 * row + 3, tl.sum(dx, axis=0))


@triton.jit(do_not_specialize=["count", "rows", "columns"])
def _gather(  # type: ignore[no-untyped-def]
    points, weights, cameras, by_image, parts, count, rows, columns, fu, fv, cx, cy, nearest, BLOCK: tl.constexpr
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
    there = i < count
    px = tl.load(points + 3 * i, mask=there, other=0.0)
    py = tl.load(points + 3 * i + 1, mask=there, other=0.0)
    pz = tl.load(points + 3 * i + 2, mask=there, other=0.0)
    c = cameras + 12 * b
    x = _row(c, 0, px, py, pz)
    y = _row(c, 1, px, py, pz)
    z = _row(c, 2, px, py, pz)
    iz = 1 / tl.maximum(z, nearest)
    u = fu * x * iz + cx
    v = fv * y * iz + cy
    seen = there & (z >= nearest) & (u > -1) & (v > -1) & (u < columns) & (v < rows)
    u = tl.where(seen, u, 0.0)
    v = tl.where(seen, v, 0.0)
    left = tl.floor(u)
    top = tl.floor(v)
    fj = u - left
    fk = v - top
    j = left.to(tl.int32)
    k = top.to(tl.int32)
    r = tl.sqrt(x * x + y * y + z * z)
    weight = tl.where(seen, tl.load(weights + i, mask=there, other=0.0), 0.0)
    m = weight * (fu * fv) * iz * iz * iz
    a = m * r
    at = by_image + b.to(tl.int64) * rows * columns + k * columns + j
    above, below = seen & (k >= 0), seen & (k + 1 < rows)
    g00 = tl.load(at, mask=above & (j >= 0), other=0.0)
    g01 = tl.load(at + 1, mask=above & (j + 1 < columns), other=0.0)
    g10 = tl.load(at + columns, mask=below & (j >= 0), other=0.0)
    g11 = tl.load(at + columns + 1, mask=below & (j + 1 < columns), other=0.0)
    value = (1 - fk) * ((1 - fj) * g00 + fj * g01) + fk * ((1 - fj) * g10 + fj * g11)
    along_u = a * fu * iz * ((1 - fk) * (g01 - g00) + fk * (g11 - g10))
    along_v = a * fv * iz * ((1 - fj) * (g10 - g00) + fj * (g11 - g01))
    vm = value * m / tl.maximum(r, 1e-20)
    dx = along_u + vm * x
    dy = along_v + vm * y
    dz = vm * z - 3 * value * a * iz - (along_u * x + along_v * y) * iz
    out = parts + (b * tl.num_programs(0) + tl.program_id(0)) * 12
    _store_row(out, 0, dx, px, py, pz)
    _store_row(out, 1, dy, px, py, pz)
    _store_row(out, 2, dz, px, py, pz)
