"""What the card's two ways of drawing, `operations` and `fused`, are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Grid(NamedTuple):
    """A view's grid as kernels take it: rows, columns, focal lengths and principal point in px."""

    rows: int
    columns: int
    fu: float
    fv: float
    cx: float
    cy: float


class Splat(NamedTuple):
    """Points on the device.

    Attributes
    ----------
    positions : (N, 3) float32
        Mm about their origin.
    weights : (N,) float32
        Mm^3.
    tangents : (N, 3) float32 or None
        Of vessels, which are drawn in three channels; bone has one.
    direction_scale
        What the two channels of direction are multiplied by.
    """

    positions: Tensor
    weights: Tensor
    tangents: Tensor | None
    direction_scale: float

    @property
    def channels(self) -> int:
        """Of the images."""
        return 1 if self.tangents is None else 3
