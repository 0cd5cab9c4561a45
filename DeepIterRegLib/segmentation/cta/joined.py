"""Which voxels of a list belong together, by torch's operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Steps to half of the neighbours; the others see the voxel as theirs.
FACES = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
TOUCHING = (
    *((0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1)),
    *((1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)),
)


def joined(index: Tensor, shape: Sequence[int], steps: Sequence[tuple[int, int, int]]) -> Tensor:
    """The number (N,), from 0, of the piece of each voxel (N, 3) of a volume of that shape, z, y, x in its order; steps join neighbours.

    Pieces are numbered in the order of their first voxels.
    """
    count = len(index)
    if not count:
        return index.new_zeros(0)
    nz, ny, nx = (n + 2 for n in shape)  # a border without voxels
    at = flat_of(index + 1, (ny, nx))
    number = torch.full((nz * ny * nx,), -1, dtype=torch.int32, device=index.device)
    number[at] = torch.arange(count, dtype=torch.int32, device=index.device)
    one, other = [], []
    for z, y, x in steps:
        beside = number[at + ((z * ny + y) * nx + x)]
        from_ = (beside >= 0).nonzero()[:, 0]
        one.append(from_)
        other.append(beside[from_].to(torch.int64))
    root = _roots(count, torch.cat(one), torch.cat(other))
    return torch.unique(root, return_inverse=True)[1]


def _roots(count: int, one: Tensor, other: Tensor) -> Tensor:
    """The lowest of all that each of so many (count,) is linked with, by pairs (M,)."""
    root = torch.arange(count, device=one.device)
    while len(one):
        # The higher root of each pair is linked to the lowest that any pair names; then all point to their roots.
        a, b = root[one], root[other]
        root.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        while not torch.equal(root, above := root[root]):
            root = above
        apart = (root[one] != root[other]).nonzero()[:, 0]
        one, other = one[apart], other[apart]
    return root


def flat_of(index: Tensor, last_axes: tuple[int, int]) -> Tensor:
    """Flat indices (N,) of indices (N, 3) z, y, x of a volume whose last two axes are so long."""
    ny, nx = last_axes
    return (index[:, 0] * ny + index[:, 1]) * nx + index[:, 2]
