"""Splat of many clouds at once, each seen by a camera of its own, by torch operations on any device; differentiable in the cameras.

Sums are of whole numbers, so that the same input gives the same bits on a GPU too, whose additions come in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from DeepIterRegLib.rendering.splat_kernels import MIN_DEPTH_MM

# Line integrals are summed in units of 1 / 65536 mm: 32 bits then hold 32 m of vessel along a ray.
UNIT = 65536.0


def splat_clouds(cameras: Tensor, points: Tensor, weights: Tensor, focal_px: Tensor, rows: int) -> Tensor:
    """Images (B, rows, rows), value x mm, as `splat.splat` makes them one by one.

    Parameters
    ----------
    cameras : (B, 3, 4)
        Gradients flow to these.
    points, weights : (B, 3, N), (B, N)
        A cloud each; a weight of 0 leaves a point out.
    focal_px : (B,)
        SID over pixel spacing; the ray of the middle of the image meets the detector at right angles.
    rows
        Side of the images in px.
    """
    # Not a product of matrices, which a GPU or an autocast may round to fewer digits.
    x, y, z = (
        cameras[:, n, 0, None] * points[:, 0]
        + cameras[:, n, 1, None] * points[:, 1]
        + cameras[:, n, 2, None] * points[:, 2]
        + cameras[:, n, 3, None]
        for n in range(3)
    )
    middle = (rows - 1) / 2
    in_front = z >= float(MIN_DEPTH_MM)
    inverse = torch.where(in_front, z, 1.0).reciprocal()
    scale = focal_px[:, None] * inverse
    column, row = x * scale + middle, y * scale + middle
    distance = torch.sqrt((x * x + y * y + z * z).clamp_min(1e-12))
    amount = torch.where(in_front, weights * scale * scale * inverse * distance, 0.0)
    image: Tensor = _Spread.apply(column, row, amount, rows)
    return image


class _Spread(torch.autograd.Function):
    """Amounts (B, N) at columns and rows (B, N) shared among the four nearest pixels of images (B, rows, rows)."""

    @staticmethod
    def forward(ctx: Any, column: Tensor, row: Tensor, amount: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(column, row, amount)
        ctx.rows = rows
        place, right, down, amount = _corners(column, row, amount, rows)
        amount = amount * UNIT
        wide = rows + 2
        image = torch.zeros(len(column), wide * wide, dtype=torch.int32, device=column.device)
        left_part, right_part = amount * (1 - right), amount * right
        with _any_order():
            for offset, part in (
                (0, left_part * (1 - down)),
                (1, right_part * (1 - down)),
                (wide, left_part * down),
                (wide + 1, right_part * down),
            ):
                image.scatter_add_(1, place + offset, part.round_().to(torch.int32))
        return image.view(-1, wide, wide)[:, 1:-1, 1:-1].to(column.dtype) / UNIT

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        column, row, amount = ctx.saved_tensors
        rows, wide = ctx.rows, ctx.rows + 2
        place, right, down, amount = _corners(column, row, amount, rows)
        padded = torch.nn.functional.pad(gradients[0], (1, 1, 1, 1)).flatten(1)
        a, b, c, d = (padded.gather(1, place + offset) for offset in (0, 1, wide, wide + 1))
        top, bottom = a + (b - a) * right, c + (d - c) * right
        by_column = amount * ((b - a) * (1 - down) + (d - c) * down)
        # Where a point is off the image its amount is 0 above, and nothing flows to what it was.
        by_amount = torch.where(amount != 0, top + (bottom - top) * down, 0.0)
        return by_column, amount * (bottom - top), by_amount, None


def _corners(column: Tensor, row: Tensor, amount: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the upper left pixel the index in an image with a frame of one pixel; shares of the right and of the lower ones; amounts."""
    left, top = torch.floor(column), torch.floor(row)
    inside = (left >= -1) & (left < rows) & (top >= -1) & (top < rows)
    place = ((top + 1).clamp(0, rows) * (rows + 2) + (left + 1).clamp(0, rows)).long()
    return place, column - left, row - top, torch.where(inside, amount, 0.0)


@contextmanager
def _any_order() -> Iterator[None]:
    """Whole numbers have the same sum in any order: torch need not sort them, as it does where it is told to be deterministic."""
    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
