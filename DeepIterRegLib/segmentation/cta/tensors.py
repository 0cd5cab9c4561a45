"""The steps of `segment_vessels` on a card, by torch's operations; those on the CPU, `cpu`, have the same names.

Volumes stay on the card; lists of voxels and what is asked of them come back. The formulas are those of the kernels in `grid`, `brain`,
`tubes` and `bridges`. All sums that threads share are of whole numbers, so that the same CTA gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.images.cta_checks import no_brain, require_hu
from DeepIterRegLib.images.volume import AIR_HU as OUTSIDE_HU
from DeepIterRegLib.segmentation.cta import bridges as through_bone
from DeepIterRegLib.segmentation.cta.brain import (
    BRIGHTEST_HU,
    CAVITY,
    DEEP,
    EVEN_HU,
    NECK,
    TOP_PERCENT,
    UNEVEN,
    levels_of_even,
)
from DeepIterRegLib.segmentation.cta.bridges import BRIGHTEST, DARKEST, DEAREST, OFF_LEVEL
from DeepIterRegLib.segmentation.cta.grid import (
    FAINTEST_HU,
    HIGHEST_HU,
    LOWEST_HU,
    POOL,
    TOP_REACH,
    UNREACHED,
    WorkingGrid,
)
from DeepIterRegLib.segmentation.cta.joined import FACES, TOUCHING, flat_of, joined
from DeepIterRegLib.segmentation.cta.morphology import (
    closed,
    depth_mm,
    dilated,
    largest_around,
    largest_piece,
    with_faces,
)
from DeepIterRegLib.segmentation.cta.tubes import (
    AIR_HU,
    AIR_RIM2,
    BONE_RIM2,
    DIRECTIONS,
    FAT_HU,
    FLAT,
    LEAST_CONTRAST_HU,
    NOTABLE_HU,
    RIM_REACH,
    RISE_HU,
    blur_kernel,
)

__all__ = [
    "brain_and_neck_pieces",
    "brain_and_vessel_hu",
    "bridges",
    "bright_voxels",
    "closed",
    "counts",
    "depth_mm",
    "dilated",
    "drawn",
    "gaussian_blur",
    "grown",
    "held",
    "host",
    "largest_piece",
    "marked",
    "openness",
    "painted_as_brain",
    "pieces",
    "pooled",
    "resampled",
    "tubes",
    "values_at",
    "vein_and_artery_hu",
]

_AT_ONCE = 4_000_000  # voxels that are worked on at a time where each takes some hundred bytes
_EXACT = torch.float64


def held(values: np.ndarray, device: str) -> Tensor:
    """Values (...) on the card."""
    return torch.tensor(values, device=device)


def host(values: Tensor) -> np.ndarray:
    """Values (...) of a step as an array."""
    return values.cpu().numpy()


# -- grids -----------------------------------------------------------------------------------------------


def resampled(voxels: Tensor, grid: WorkingGrid) -> Tensor:
    """As `cpu.resampled`: HU (z, y, x) int16 on a grid of voxels (k, j, i) int16."""
    out = torch.empty(grid.shape, dtype=torch.int16, device=voxels.device)
    for planes in _slabs(grid.shape):
        i, j, k = _turned(grid.to_source, planes, grid.shape, voxels.device)
        sides = ((i, voxels.shape[2]), (j, voxels.shape[1]), (k, voxels.shape[0]))
        in_i, in_j, in_k = ((at >= -0.5) & (at <= count - 0.5) for at, count in sides)
        i0, i1, a = _between(i, voxels.shape[2])
        j0, j1, b = _between(j, voxels.shape[1])
        k0, k1, c = _between(k, voxels.shape[0])

        def row(k: Tensor, j: Tensor, i0: Tensor = i0, i1: Tensor = i1, a: Tensor = a) -> Tensor:
            return voxels[k, j, i0] * (1 - a) + voxels[k, j, i1] * a

        value = (row(k0, j0) * (1 - b) + row(k0, j1) * b) * (1 - c) + (row(k1, j0) * (1 - b) + row(k1, j1) * b) * c
        value = value.clamp(LOWEST_HU, HIGHEST_HU).trunc()
        out[planes] = torch.where(in_i & in_j & in_k, value, OUTSIDE_HU).to(torch.int16)
    return out


def drawn(voxels: Tensor, grid: WorkingGrid, hu: Tensor, mask: Tensor, brain_hu: float, bone_hu: float) -> np.ndarray:
    """As `cpu.drawn`: an array (k, j, i) bool of voxels (k, j, i) int16 and a mask (z, y, x) bool of HU (z, y, x)."""
    limits = _half_maximum(hu, mask, brain_hu, bone_hu)
    out = torch.zeros(voxels.shape, dtype=torch.bool, device=voxels.device)
    for slices in _slabs(tuple(voxels.shape)):
        part = voxels[slices]
        k, j, i = ((part >= FAINTEST_HU) & (part < math.ceil(bone_hu))).nonzero(as_tuple=True)
        at = (i.to(_EXACT), j.to(_EXACT), (k + slices.start).to(_EXACT))
        x, y, z = (_product(row, at).round().to(torch.int64) for row in grid.from_source)
        nz, ny, nx = hu.shape
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)
        limit = limits[z.clamp(0, nz - 1), y.clamp(0, ny - 1), x.clamp(0, nx - 1)]
        out[slices][k, j, i] = inside & (part[k, j, i] >= limit)
    return host(out)


def _half_maximum(hu: Tensor, mask: Tensor, brain_hu: float, bone_hu: float) -> Tensor:
    """HU (z, y, x) int16 that a voxel must reach, as on the CPU."""
    top = torch.where(mask, hu, LOWEST_HU)
    for axis in range(3):
        top = largest_around(top, TOP_REACH, axis)
    half = (top.to(torch.float32).clamp_min(brain_hu) + brain_hu) / 2
    limits = half.clamp_max(float(np.float32(bone_hu))).to(torch.int16)
    return torch.where(with_faces(mask), limits, UNREACHED)


def _slabs(shape: Sequence[int]) -> Iterator[slice]:
    """Slices that make up the first axis, each of as many planes as are worked on at a time."""
    planes = max(1, _AT_ONCE // (shape[1] * shape[2]))
    for first in range(0, shape[0], planes):
        yield slice(first, min(first + planes, shape[0]))


def _turned(matrix: np.ndarray, planes: slice, shape: Sequence[int], device: torch.device) -> list[Tensor]:
    """Where (3, 4) takes the voxels of some planes, three times something that broadcasts to (planes, y, x), float64."""
    z, y, x = (torch.arange(n, dtype=_EXACT, device=device) for n in shape)
    at = (x, y[:, None], z[planes, None, None])
    return [_product(row, at) for row in matrix]


def _product(row: np.ndarray, at: Sequence[Tensor]) -> Tensor:
    """A row (4,) of a matrix times x, y, z; what is multiplied by 0 is left out, so that along the axes it stays a line."""
    parts = [float(factor) * place for factor, place in zip(row[:3], at, strict=True) if factor]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total + float(row[3])


def _between(at: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    at = at.clamp(0, count - 1)
    lower = at.to(torch.int64)
    return lower, (lower + 1).clamp_max(count - 1), at - lower


# -- levels ----------------------------------------------------------------------------------------------


def pooled(hu: Tensor, bone_hu: float) -> tuple[Tensor, Tensor]:
    """As `cpu.pooled`, two images (Z, Y, X) float32 of HU (z, y, x)."""
    z, y, x = (n // POOL for n in hu.shape)
    cells = hu.view(z, POOL, y, POOL, x, POOL)
    total = cells.sum(dim=(1, 3, 5), dtype=torch.int32)
    bone = (cells >= math.ceil(bone_hu)).sum(dim=(1, 3, 5), dtype=torch.int32)
    return total.to(torch.float32) / POOL**3, bone.to(torch.float32) / POOL**3


def brain_and_vessel_hu(hu: Tensor, deep: np.ndarray) -> tuple[float, float]:
    """As `cpu.brain_and_vessel_hu`, of HU (z, y, x) and coarse cells (Z, Y, X)."""
    inside = hu[_whole(deep, hu)].to(torch.int64) - LOWEST_HU
    if not len(inside):
        raise no_brain(0.0)
    ends = torch.bincount(inside, minlength=HIGHEST_HU - LOWEST_HU + 1).cumsum(0).cpu().numpy()
    brain_hu = _quantile(ends, 0.5)
    require_hu(brain_hu)
    return brain_hu, _quantile(ends, TOP_PERCENT / 100)


def _quantile(ends: np.ndarray, share: float) -> float:
    """As `np.quantile`, from how many values are at most each HU (n,), from `LOWEST_HU` on."""
    place = share * (int(ends[-1]) - 1)
    low, high = (int(np.searchsorted(ends, math.floor(place) + more, side="right")) + LOWEST_HU for more in (0, 1))
    return low + (high - low) * (place - math.floor(place)) if place % 1 else float(low)


def vein_and_artery_hu(hu: Tensor, enclosed: np.ndarray, brain_hu: float, vessel_hu: float) -> tuple[float, float]:
    """As `cpu.vein_and_artery_hu`, of HU (z, y, x) and coarse cells (Z, Y, X)."""
    above = brain_hu + EVEN_HU
    bright = (hu >= math.ceil(above)) & (hu <= BRIGHTEST_HU) & _whole(enclosed, hu)
    index = bright.nonzero()
    index = index[_inner(index, hu)]
    ny, nx = hu.shape[1:]
    steps = flat_of(torch.tensor(list(np.ndindex(3, 3, 3)), device=hu.device) - 1, (ny, nx))
    around = hu.view(-1)[flat_of(index, (ny, nx)) + steps[:, None]]
    total, low, high = around.sum(dim=0, dtype=torch.int64), around.amin(dim=0), around.amax(dim=0)
    mean = total.to(_EXACT) / 27
    even = (low > math.floor(above)) & ((high - low).to(_EXACT) < UNEVEN * (mean - brain_hu))
    return levels_of_even(host(torch.bincount(mean[even].to(torch.int64), minlength=HIGHEST_HU + 1)), vessel_hu)


# -- candidates ------------------------------------------------------------------------------------------


def painted_as_brain(hu: Tensor, zone: np.ndarray, brain_hu: float, bone_hu: float) -> Tensor:
    """As `cpu.painted_as_brain`: float32 (z, y, x) of HU (z, y, x) and coarse cells (Z, Y, X)."""
    bone = math.ceil(bone_hu)
    painted = (hu < math.ceil(brain_hu)) | (hu >= bone) | ~_whole(zone != 0, hu)
    index = (~painted & (hu > math.floor(brain_hu + NOTABLE_HU))).nonzero()
    rim = torch.zeros(len(index), dtype=torch.bool, device=hu.device)
    # What lies outside of the volume is neither bone nor air.
    wide = torch.nn.functional.pad(hu, (RIM_REACH,) * 6)
    ny, nx = wide.shape[1:]
    first, values = flat_of(index, (ny, nx)), wide.view(-1)
    for z, y, x in np.ndindex(*(2 * RIM_REACH + 1,) * 3):
        far = (z - RIM_REACH) ** 2 + (y - RIM_REACH) ** 2 + (x - RIM_REACH) ** 2
        if far < max(BONE_RIM2, AIR_RIM2):
            value = values[first + ((z * ny + y) * nx + x)]
            rim |= ((value >= bone) & (far < BONE_RIM2)) | ((value < AIR_HU) & (far < AIR_RIM2))
    painted[tuple(index.T)] = rim
    return torch.where(painted, brain_hu, hu.to(torch.float32))


def gaussian_blur(image: Tensor, sigma_px: float) -> Tensor:
    """As `cpu.gaussian_blur`, of an image (z, y, x) float32, which stays as it is."""
    kernel = blur_kernel(sigma_px)
    if len(kernel) == 1:
        return image
    reach = len(kernel) // 2
    for axis in (2, 1, 0):
        count = image.shape[axis]
        first, last = image.narrow(axis, 0, 1), image.narrow(axis, count - 1, 1)
        ends = [reach if a == axis else -1 for a in range(3)]
        wide = torch.cat([first.expand(ends), image, last.expand(ends)], dim=axis)
        image = torch.zeros_like(image)
        for tap, weight in enumerate(kernel):
            image.add_(wide.narrow(axis, tap, count), alpha=float(weight))
    return image


def bright_voxels(
    smooth: Tensor, hu: Tensor, zone: np.ndarray, threshold: float, bone_hu: float
) -> tuple[Tensor, Tensor]:
    """As `cpu.bright_voxels`: indices (N, 3) and kinds (N,) of an image and HU (z, y, x) and coarse cells (Z, Y, X)."""
    bright = (smooth > threshold) & (hu < math.ceil(bone_hu)) & _whole(zone != 0, hu)
    index = bright.nonzero()
    return index, _kinds(zone, index)


def values_at(image: Tensor, index: Tensor) -> np.ndarray:
    """As `cpu.values_at`: (N,) of an image (z, y, x) at (N, 3)."""
    return host(image[tuple(index.T)])


def tubes(smooth: Tensor, index: Tensor, scale: float, brain_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """As `cpu.tubes`, two arrays (N,) float32 of an image (z, y, x) at voxels (N, 3)."""
    inner, (ny, nx) = _inner(index, smooth), smooth.shape[1:]
    at, image, step_z = flat_of(index.where(inner[:, None], 1), (ny, nx)), smooth.view(-1), ny * nx

    def value(z: int, y: int, x: int) -> Tensor:
        return image[at + (z * step_z + y * nx + x)].to(_EXACT)

    def mixed(one: tuple[int, int, int], other: tuple[int, int, int]) -> Tensor:
        both = [tuple(a + s * b for a, b in zip(one, other, strict=True)) for s in (1, -1)]
        (a, b, c), (d, e, f) = both
        return (value(a, b, c) + value(-a, -b, -c) - value(d, e, f) - value(-d, -e, -f)) / 4

    centre, along = value(0, 0, 0), ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    zz, yy, xx = (value(a, b, c) + value(-a, -b, -c) - 2 * centre for a, b, c in along)
    zy, zx, yx = mixed(along[0], along[1]), mixed(along[0], along[2]), mixed(along[1], along[2])
    # closed-form eigenvalues of a symmetric 3x3 matrix (Smith 1961)
    q = (zz + yy + xx) / 3
    p = (((zz - q) ** 2 + (yy - q) ** 2 + (xx - q) ** 2 + 2 * (zy * zy + zx * zx + yx * yx)) / 6).sqrt()
    counts = inner & (p >= FLAT)
    p = p.clamp_min(FLAT)
    a, b, c, d, e, f = (zz - q) / p, (yy - q) / p, (xx - q) / p, zy / p, zx / p, yx / p
    half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
    angle = half.clamp(-1, 1).acos() / 3
    largest, smallest = q + 2 * p * angle.cos(), q + 2 * p * (angle + 2 * math.pi / 3).cos()
    response = torch.where(counts, -(3 * q - largest - smallest) * scale, 0).clamp_min(0)
    roundness = response / (centre - brain_hu).clamp_min(LEAST_CONTRAST_HU)
    return host(response.to(torch.float32)), host(roundness.to(torch.float32))


def openness(
    hu: Tensor,
    index: Tensor,
    zone: np.ndarray,
    soft_hu: float,
    artery_hu: float,
    bone_hu: float,
    reach: int,
) -> np.ndarray:
    """As `cpu.openness`, (N,) float32 of HU (z, y, x) at voxels (N, 3) and coarse cells (Z, Y, X)."""
    kind = _kinds(zone, index)
    near = (kind != DEEP).nonzero()[:, 0]
    # A border of bone, at which every way ends, since none goes further than one voxel beyond the volume.
    wide = torch.nn.functional.pad(hu, (1,) * 6, value=HIGHEST_HU + RISE_HU + 1)
    ny, nx = wide.shape[1:]
    values, steps = wide.view(-1), flat_of(torch.tensor(DIRECTIONS, device=hu.device), (ny, nx))
    from_ = flat_of(index[near] + 1, (ny, nx))
    limit = (values[from_] + RISE_HU).to(torch.float64)
    in_neck = kind[near] == NECK
    limit = torch.where(in_neck, limit.clamp_min(artery_hu), limit).clamp_max(bone_hu).ceil().to(torch.int16)
    hit = torch.zeros(len(near) * len(steps), dtype=torch.bool, device=hu.device)
    ray = torch.arange(len(hit), device=hu.device)
    place, step, ray_of = from_.repeat_interleave(len(steps)), steps.repeat(len(near)), ray // len(steps)
    for _ in range(reach):
        place = place + step
        value = values[place]
        dark, goes_on = value < math.ceil(soft_hu), value < limit[ray_of]
        ended = (goes_on & dark & (value > FAT_HU)).nonzero()[:, 0]
        at = place[ended]
        there = _kinds(zone, torch.stack([at // (ny * nx), at // nx % ny, at % nx], dim=1) - 1)
        hit[ray[ended]] = (there == CAVITY) | (there == DEEP) | ((there == NECK) & in_neck[ray_of[ended]])
        on = (goes_on & ~dark).nonzero()[:, 0]
        place, step, ray, ray_of = place[on], step[on], ray[on], ray_of[on]
    share = torch.ones(len(index), dtype=_EXACT, device=hu.device)
    share[near] = hit.view(-1, len(steps)).sum(dim=1).to(_EXACT) / len(steps)
    return host(share.to(torch.float32))


# -- pieces ----------------------------------------------------------------------------------------------


def pieces(flat: np.ndarray, hu: Tensor) -> np.ndarray:
    """As `cpu.pieces`, (N,), of flat indices (N,) of a volume like `hu` (z, y, x)."""
    there = torch.tensor(flat, device=hu.device)
    _, ny, nx = hu.shape
    index = torch.stack([there // (ny * nx), there // nx % ny, there % nx], dim=1)
    return host(joined(index, hu.shape, TOUCHING) + 1)


def marked(flat: np.ndarray, hu: Tensor) -> Tensor:
    """As `cpu.marked`: a mask like `hu` (z, y, x) of flat indices (N,)."""
    mask = torch.zeros(hu.shape, dtype=torch.bool, device=hu.device)
    mask.view(-1)[torch.tensor(flat, device=hu.device)] = True
    return mask


def grown(mask: Tensor, within: Tensor, steps: int) -> Tensor:
    """As `cpu.grown`, of masks (z, y, x)."""
    for _ in range(steps):
        mask = mask | (with_faces(mask) & within)
    return mask


def brain_and_neck_pieces(mask: Tensor, zone: np.ndarray, wide: int, min_voxels: float) -> tuple[Tensor, Tensor]:
    """As `cpu.brain_and_neck_pieces`, of a mask (z, y, x) and coarse cells (Z, Y, X)."""
    index = mask.nonzero()
    kind = _kinds(zone, index)
    brain = ((kind == CAVITY) | (kind == DEEP)) & (index[:, 0] // POOL >= wide)
    is_open = kind != NECK
    piece = joined(index[is_open], mask.shape, FACES)
    has_brain = torch.zeros(len(index), dtype=torch.bool, device=mask.device)
    has_brain[piece[brain[is_open]]] = True
    upper_of = brain.clone()
    upper_of[is_open] |= has_brain[piece]
    rest = index[~upper_of]
    upper, lower = torch.zeros_like(mask), torch.zeros_like(mask)
    upper[tuple(index[upper_of].T)] = True
    piece = joined(rest, mask.shape, TOUCHING)
    large = torch.bincount(piece, minlength=1) >= min_voxels
    lower[tuple(rest[large[piece]].T)] = True
    return upper, lower


def bridges(hu: Tensor, upper: Tensor, lower: Tensor, brain_hu: float, vessel_hu: float, spacing_mm: float) -> Tensor:
    """As `cpu.bridges`, of HU and masks (z, y, x); the paths themselves are found by the CPU, one voxel after the other."""
    out = torch.zeros_like(upper)
    if not upper.any() or not lower.any():
        return out
    lines = [host(lower.any(dim=(a + 1) % 3).any(dim=0 if a else 1)) for a in range(3)]
    box = through_bone.surroundings(lines, tuple(lower.shape), spacing_mm)
    hu, upper, lower = (a[box].contiguous() for a in (hu, upper, lower))
    node, cost = _costs(hu, upper | lower, brain_hu, vessel_hu)
    of_nodes = (node.to(torch.int32), cost, upper.view(-1)[node], lower.view(-1)[node])
    nodes = through_bone.Nodes(*(host(a) for a in of_nodes))
    paths = through_bone.paths_between(nodes, tuple(hu.shape), spacing_mm)
    if not paths:
        return out
    low, high = through_bone.vessel_range(brain_hu, vessel_hu)
    centre = marked(np.concatenate(paths), hu)
    out[box] = grown(centre, (hu > low) & (hu < high), through_bone.fill_steps(spacing_mm))
    return out


def _costs(hu: Tensor, ends: Tensor, brain_hu: float, vessel_hu: float) -> tuple[Tensor, Tensor]:
    """Flat indices (N,), rising, of voxels that a path may touch, and what a step into each costs (N,) float32, 0 where none can be."""
    contrast = vessel_hu - brain_hu
    low, high = brain_hu + DARKEST * contrast, brain_hu + BRIGHTEST * contrast
    may_be = torch.zeros_like(ends)
    inner = (slice(1, -1),) * 3
    may_be[inner] = (hu[inner] >= math.ceil(low)) & (hu[inner] <= math.floor(high))
    node = (may_be | ends).view(-1).nonzero()[:, 0]
    inside = may_be.view(-1)[node]
    ny, nx = hu.shape[1:]
    steps = flat_of(torch.tensor(list(np.ndindex(3, 3, 3)), device=hu.device) - 1, (ny, nx))
    values = hu.view(-1)
    around = values[node[inside] + steps[:, None]].to(torch.int64)
    mean = around.sum(dim=0).to(_EXACT) / 27
    spread = (around.square().sum(dim=0).to(_EXACT) / 27 - mean * mean).clamp_min(0)
    uneven = spread.sqrt() / (through_bone.UNEVEN * contrast)
    off = (0.5 * (mean + values[node[inside]]) - vessel_hu) / (OFF_LEVEL * contrast)
    cost = torch.zeros(len(node), dtype=torch.float32, device=hu.device)
    cost[inside] = (1 + uneven * uneven + off * off).clamp_max(DEAREST).to(torch.float32)
    return node, cost


def counts(mask: Tensor, enclosed: np.ndarray) -> tuple[int, int]:
    """As `cpu.counts`, of a mask (z, y, x) and coarse cells (Z, Y, X) bool."""
    return int((mask & _whole(enclosed, mask)).sum()), int(mask.sum())


# -- voxels about voxels ---------------------------------------------------------------------------------


def _whole(cells: np.ndarray, like: Tensor) -> Tensor:
    """Coarse cells (Z, Y, X) as voxels (z, y, x)."""
    there = torch.tensor(cells, device=like.device)
    z, y, x = cells.shape
    return there[:, None, :, None, :, None].expand(z, POOL, y, POOL, x, POOL).reshape(like.shape)


def _kinds(zone: np.ndarray, index: Tensor) -> Tensor:
    """Of the coarse cells (Z, Y, X) of voxels (N, 3), (N,)."""
    there = torch.tensor(zone, device=index.device)
    return there[tuple((index // POOL).T)]


def _inner(index: Tensor, volume: Tensor) -> Tensor:
    """Which voxels (N, 3) do not lie at the border of a volume (z, y, x), (N,) bool."""
    last = torch.tensor(volume.shape, device=index.device) - 1
    return ((index > 0) & (index < last)).all(dim=1)
