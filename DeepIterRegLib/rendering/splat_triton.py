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
from DeepIterRegLib.rendering.splat_kernels import MIN_DEPTH_MM, WHOLE_PER_MM

_POINTS = 256  # of a program
_NEAREST_MM = float(MIN_DEPTH_MM)


def images(points: Tensor, weights: Tensor, cameras: Tensor, carm: CArm) -> Tensor:
    """Images (B, rows, columns) float32 of points (N, 3) and weights (N,) for cameras (B, 3, 4), all float32 on the card."""
    whole = torch.zeros(len(cameras), carm.rows, carm.columns, dtype=torch.int64, device=cameras.device)
    _draw[_programs(points, cameras)](
        points, weights, cameras, whole, len(points), *_grid(carm), WHOLE_PER_MM, _NEAREST_MM, BLOCK=_POINTS
    )
    return whole * (1 / WHOLE_PER_MM)


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
def along(c, row, x, y, z):  # type: ignore[no-untyped-def]
    """A row of the camera at `c` times a direction."""
    return tl.load(c + 4 * row) * x + tl.load(c + 4 * row + 1) * y + tl.load(c + 4 * row + 2) * z


@triton.jit
def three(rows, i, there):  # type: ignore[no-untyped-def]
    """Rows number i of points or directions."""
    x = tl.load(rows + 3 * i, mask=there, other=0.0)
    y = tl.load(rows + 3 * i + 1, mask=there, other=0.0)
    z = tl.load(rows + 3 * i + 2, mask=there, other=0.0)
    return x, y, z


@triton.jit
def to_pixel(c, px, py, pz, fu, fv, cx, cy, nearest):  # type: ignore[no-untyped-def]
    """Camera coordinates x, y, z, 1 / z and pixel u, v of points, for the camera at `c`; see `splat_kernels.to_pixel`."""
    x = along(c, 0, px, py, pz) + tl.load(c + 3)
    y = along(c, 1, px, py, pz) + tl.load(c + 7)
    z = along(c, 2, px, py, pz) + tl.load(c + 11)
    iz = 1 / tl.maximum(z, nearest)
    return x, y, z, iz, fu * x * iz + cx, fv * y * iz + cy


@triton.jit
def add_whole(image, there, value, per_mm):  # type: ignore[no-untyped-def]
    """Add values to whole numbers; the order of additions does not matter."""
    tl.atomic_add(image, tl.floor(value * per_mm + 0.5).to(image.dtype.element_ty), mask=there, sem="relaxed")


@triton.jit
def _corners(z, u, v, there, nearest, rows, columns):  # type: ignore[no-untyped-def]
    """Which points are seen, the first of the four pixels about each, and the shares of the others."""
    seen = there & (z >= nearest) & (u > -1) & (v > -1) & (u < columns) & (v < rows)
    left = tl.floor(tl.where(seen, u, 0.0))
    top = tl.floor(tl.where(seen, v, 0.0))
    return seen, left.to(tl.int32), top.to(tl.int32), tl.where(seen, u, 0.0) - left, tl.where(seen, v, 0.0) - top


@triton.jit(do_not_specialize=["count", "rows", "columns"])
def _draw(  # type: ignore[no-untyped-def]
    points, weights, cameras, image, count, rows, columns, fu, fv, cx, cy, per_mm, nearest, BLOCK: tl.constexpr
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1)
    there = i < count
    c = cameras + 12 * b
    px, py, pz = three(points, i, there)
    x, y, z, iz, u, v = to_pixel(c, px, py, pz, fu, fv, cx, cy, nearest)
    seen, j, k, fj, fk = _corners(z, u, v, there, nearest, rows, columns)
    weight = tl.load(weights + i, mask=there, other=0.0)
    a = weight * (fu * fv) * iz * iz * iz * tl.sqrt(x * x + y * y + z * z)
    at = image + b.to(tl.int64) * rows * columns + k * columns + j
    above, below = seen & (k >= 0), seen & (k + 1 < rows)
    add_whole(at, above & (j >= 0), a * (1 - fk) * (1 - fj), per_mm)
    add_whole(at + 1, above & (j + 1 < columns), a * (1 - fk) * fj, per_mm)
    add_whole(at + columns, below & (j >= 0), a * fk * (1 - fj), per_mm)
    add_whole(at + columns + 1, below & (j + 1 < columns), a * fk * fj, per_mm)


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
    c = cameras + 12 * b
    px, py, pz = three(points, i, there)
    x, y, z, iz, u, v = to_pixel(c, px, py, pz, fu, fv, cx, cy, nearest)
    seen, j, k, fj, fk = _corners(z, u, v, there, nearest, rows, columns)
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
