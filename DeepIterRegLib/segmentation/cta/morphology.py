"""Masks in 3D dilated, closed and measured, by torch's operations; those with a name of `cpu` do the same."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from DeepIterRegLib.segmentation.cta.cpu import Structure
from DeepIterRegLib.segmentation.cta.joined import FACES, joined


def depth_mm(mask: Tensor, cell_mm: float, most_mm: float) -> Tensor:
    """As `cpu.depth_mm`, (Z, Y, X) of a mask (Z, Y, X): exact up to `most_mm`, and beyond it too large or right."""
    reach = math.ceil(most_mm / cell_mm)
    # Squares of distances are whole, and the least of them is found along one axis after the other.
    far = torch.nn.functional.pad(mask, (1,) * 6).to(torch.int32) * (3 * (reach + 1) ** 2)
    for axis in range(3):
        nearest, count = far.clone(), far.shape[axis]
        for step in range(1, min(reach, count - 1) + 1):
            left, right = (nearest.narrow(axis, at, count - step) for at in (0, step))
            torch.minimum(left, far.narrow(axis, step, count - step) + step * step, out=left)
            torch.minimum(right, far.narrow(axis, 0, count - step) + step * step, out=right)
        far = nearest
    return cell_mm * far[1:-1, 1:-1, 1:-1].to(torch.float64).sqrt()


def largest_piece(mask: Tensor) -> Tensor:
    """As `cpu.largest_piece`, of a mask (Z, Y, X)."""
    index = mask.nonzero()
    if not len(index):
        return mask
    piece = joined(index, mask.shape, FACES)
    out = torch.zeros_like(mask)
    # argmax of the counts on the host, where the first of equals is taken.
    largest = int(torch.bincount(piece).cpu().numpy().argmax())
    out[tuple(index[piece == largest].T)] = True
    return out


def dilated(mask: Tensor, structure: Structure, steps: int, within: Tensor | None = None) -> Tensor:
    """As `cpu.dilated`, of a mask (Z, Y, X)."""
    for _ in range(steps):
        larger = with_faces(mask) if structure == "faces" else with_edges(mask)
        mask = larger if within is None else mask | (larger & within)
    return mask


def closed(mask: Tensor, structure: Structure, steps: int) -> Tensor:
    """As `cpu.closed`, of a mask (Z, Y, X): what lies outside of it counts as no part of the mask."""
    outside = torch.nn.functional.pad(~dilated(mask, structure, steps), (steps,) * 6, value=True)
    inner = slice(steps, -steps)
    return ~dilated(outside, structure, steps)[inner, inner, inner]


def with_edges(mask: Tensor) -> Tensor:
    """A mask (z, y, x) bool with the voxels that share an edge, or a face, with one of its own."""
    lines = [largest_around(mask, 1, axis) for axis in range(3)]
    return largest_around(lines[0], 1, 1) | largest_around(lines[1], 1, 2) | largest_around(lines[2], 1, 0)


def largest_around(image: Tensor, reach: int, axis: int) -> Tensor:
    """The largest of an image's (z, y, x) neighbours within `reach` along one axis."""
    out, count = image.clone(), image.shape[axis]
    for step in range(1, reach + 1):
        here, there = (slice(0, max(count - step, 0)), slice(step, count))
        for to, of in ((here, there), (there, here)):
            part = out.narrow(axis, to.start, max(count - step, 0))
            torch.maximum(part, image.narrow(axis, min(of.start, count), max(count - step, 0)), out=part)
    return out


def with_faces(mask: Tensor) -> Tensor:
    """A mask (z, y, x) bool with the voxels that share a face with one of its own."""
    out = mask.clone()
    for axis in range(3):
        count = mask.shape[axis] - 1
        out.narrow(axis, 0, count).logical_or_(mask.narrow(axis, 1, count))
        out.narrow(axis, 1, count).logical_or_(mask.narrow(axis, 0, count))
    return out
