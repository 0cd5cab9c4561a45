"""Joseph's line integrals on a card, in Triton: from poses to images in one launch, with each ray's slopes if they are wanted.

The same samples as `raycast_kernels`, which says what is summed. A program takes a tile of rays and, at a time, a few
planes of voxels. What bounds it is the reading of voxels, so

- a second copy of the volume is kept whose planes i = const are whole, beside the first, whose planes j and k are: whatever axis a ray
  follows, neighbours in the image read neighbours in memory;
- programs of one tile of all poses are neighbours: poses of a batch are mostly alike, and read the same voxels.

Places are found from a point of the ray near the head and its direction, so that float32 keeps their digits.

Imported only where Triton is: it comes with torch on Linux. With ``TRITON_INTERPRET=1`` it runs on the CPU, slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume

_INT32 = 2**31
_REDUCED = 1024  # pixels that one program of the reduction takes


@dataclass(frozen=True)
class Tiling:
    """How the work is cut: rays of a program, across and down; planes of voxels that it takes at a time; its warps."""

    across: int = 8
    down: int = 4
    planes: int = 8
    warps: int = 4


@triton.jit
def _bounds(start, step, count, low, high):  # type: ignore[no-untyped-def]
    """Planes between which 0 <= start + k step < count - 1, and at most one more at each end."""
    step = tl.where(tl.abs(step) > 1e-9, step, 1e-9)
    one = -start / step
    other = (count - 1 - start) / step
    return tl.maximum(low, tl.floor(tl.minimum(one, other))), tl.minimum(high, tl.ceil(tl.maximum(one, other)))


@triton.jit
def _over_planes(samples, PLANES: tl.constexpr, RAYS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sums (RAYS,) of samples (PLANES x RAYS,)."""
    return tl.sum(tl.reshape(samples, (PLANES, RAYS)), axis=0)


@triton.jit
def _ray(camera, x, y):  # type: ignore[no-untyped-def]
    """A point q of the ray of each pixel (x, y) and its direction d, i, j, k of voxels; both change alike from pixel to pixel."""
    ri = x * tl.load(camera).to(tl.float32) + y * tl.load(camera + 1).to(tl.float32)
    rj = x * tl.load(camera + 4).to(tl.float32) + y * tl.load(camera + 5).to(tl.float32)
    rk = x * tl.load(camera + 8).to(tl.float32) + y * tl.load(camera + 9).to(tl.float32)
    qi = tl.load(camera + 2).to(tl.float32) + ri
    qj = tl.load(camera + 6).to(tl.float32) + rj
    qk = tl.load(camera + 10).to(tl.float32) + rk
    di = tl.load(camera + 3).to(tl.float32) + ri
    dj = tl.load(camera + 7).to(tl.float32) + rj
    dk = tl.load(camera + 11).to(tl.float32) + rk
    return qi, qj, qk, di, dj, dk


@triton.jit
def _sampled(at, stride_a, inside, wa, wb):  # type: ignore[no-untyped-def]
    """Voxels at `at` between which a ray passes, at shares wa and wb of their two axes: the value there, and its change along both."""
    v00 = tl.load(at, mask=inside, other=0.0)
    v01 = tl.load(at + 1, mask=inside, other=0.0)
    v10 = tl.load(at + stride_a, mask=inside, other=0.0)
    v11 = tl.load(at + stride_a + 1, mask=inside, other=0.0)
    near = v00 + wb * (v01 - v00)
    far = v10 + wb * (v11 - v10)
    by_b = (v01 - v00) + wa * ((v11 - v10) - (v01 - v00))
    return near + wa * (far - near), far - near, by_b


@triton.jit
def _store_axes(to, pixels, shown, along_i, along_j, by_m, by_a, by_b, PLANES: tl.constexpr, RAYS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store slopes to i, j and k of those to a ray's main axis m and the other two, a and b, summed over planes."""
    by_i = tl.where(along_i, by_m, by_b)
    by_j = tl.where(along_i, by_b, tl.where(along_j, by_m, by_a))
    by_k = tl.where(along_i | along_j, by_a, by_m)
    tl.store(to, _over_planes(by_i, PLANES, RAYS), mask=shown)
    tl.store(to + pixels, _over_planes(by_j, PLANES, RAYS), mask=shown)
    tl.store(to + 2 * pixels, _over_planes(by_k, PLANES, RAYS), mask=shown)


@triton.jit
def _memory(along_i, along_j, ni, nj, nk, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where in memory the volume begins that a ray reads, and the strides of its axes m and a."""
    if WIDE:
        wide_i = ni.to(tl.int64)
        wide_j = nj.to(tl.int64)
    else:
        wide_i = ni
        wide_j = nj
    plane = wide_i * wide_j
    stride_m = tl.where(along_i, wide_j * nk, tl.where(along_j, wide_i, plane))
    stride_a = tl.where(along_i, wide_j, tl.where(along_j, plane, wide_i))
    return tl.where(along_i, plane * nk, 0), stride_m, stride_a


@triton.jit(do_not_specialize=["poses", "rows", "columns", "ni", "nj", "nk"])
def _cast(  # type: ignore[no-untyped-def]
    voxels, cameras, lengths, image, slopes, poses, rows, columns, ni, nj, nk,
    ACROSS: tl.constexpr, DOWN: tl.constexpr, PLANES: tl.constexpr, WIDE: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    pose = program % poses
    tile = program // poses
    tiles = tl.cdiv(columns, ACROSS)
    # One long row of samples, ray by ray and then plane by plane: so threads side by side have rays side by side.
    RAYS: tl.constexpr = ACROSS * DOWN
    sample = tl.arange(0, PLANES * RAYS)
    lane = sample % RAYS
    column = (tile % tiles) * ACROSS + lane % ACROSS
    row = (tile // tiles) * DOWN + lane // ACROSS
    seen = (column < columns) & (row < rows)
    x = column.to(tl.float32) - (columns - 1) * 0.5
    y = row.to(tl.float32) - (rows - 1) * 0.5
    qi, qj, qk, di, dj, dk = _ray(cameras + pose * 12, x, y)

    # Main axis m; of the other two, b is the one along which voxels lie side by side.
    along_i = (tl.abs(di) >= tl.abs(dj)) & (tl.abs(di) >= tl.abs(dk))
    along_j = (tl.abs(dj) > tl.abs(di)) & (tl.abs(dj) >= tl.abs(dk))
    a_is_k = along_i | along_j
    dm = tl.where(along_i, di, tl.where(along_j, dj, dk))
    qm = tl.where(along_i, qi, tl.where(along_j, qj, qk))
    qa = tl.where(a_is_k, qk, qj)
    qb = tl.where(along_i, qj, qi)
    step_a = tl.where(a_is_k, dk, dj) / dm
    step_b = tl.where(along_i, dj, di) / dm
    count_a = tl.where(a_is_k, nk, nj)
    count_b = tl.where(along_i, nj, ni)
    base, stride_m, stride_a = _memory(along_i, along_j, ni, nj, nk, WIDE)

    low = tl.full((PLANES * RAYS,), 1.0, tl.float32)
    high = tl.where(along_i, ni, tl.where(along_j, nj, nk)).to(tl.float32) - 2.0
    low, high = _bounds(qa - qm * step_a, step_a, count_a, low, high)
    low, high = _bounds(qb - qm * step_b, step_b, count_b, low, high)
    hit = seen & (low <= high)
    low = tl.where(hit, low, 2.0e6).to(tl.int32)
    high = tl.where(hit, high, -1.0).to(tl.int32)

    total = tl.zeros((PLANES * RAYS,), tl.float32)
    # By which the sum changes with a ray's point and direction along a and b; not computed where nobody stores them.
    ga, gb, ka, kb = total, total, total, total
    start = tl.min(low, axis=0)
    end = tl.max(high, axis=0)
    while start <= end:  # not `for`: Triton's interpreter cannot count by values of a kernel with NumPy 2.4
        k = start + sample // RAYS
        away = k.to(tl.float32) - qm
        pa = qa + away * step_a
        pb = qb + away * step_b
        inside = (k >= low) & (k <= high) & (pa >= 0) & (pb >= 0) & (pa < count_a - 1) & (pb < count_b - 1)
        ia = pa.to(tl.int32)
        ib = pb.to(tl.int32)
        at = voxels + (base + k * stride_m + ia * stride_a + ib)
        value, fa, fb = _sampled(at, stride_a, inside, pa - ia.to(tl.float32), pb - ib.to(tl.float32))
        total += value
        if SLOPES:
            ga += fa
            gb += fb
            ka += away * fa
            kb += away * fb
        start += PLANES

    pixels = rows * columns
    scale = tl.load(lengths + row * columns + column, mask=seen, other=0.0) / tl.abs(dm)
    ray = tl.arange(0, RAYS)
    to_column, to_row = (tile % tiles) * ACROSS + ray % ACROSS, (tile // tiles) * DOWN + ray // ACROSS
    shown = (to_column < columns) & (to_row < rows)
    pixel = to_row * columns + to_column
    total *= scale
    tl.store(image + pose.to(tl.int64) * pixels + pixel, _over_planes(total, PLANES, RAYS), mask=shown)
    if SLOPES:
        # All are linear in the sums over planes, so the planes of one sample give their part of each.
        to = slopes + pose.to(tl.int64) * 6 * pixels + pixel
        by_qm = -scale * (step_a * ga + step_b * gb)
        _store_axes(to, pixels, shown, along_i, along_j, by_qm, scale * ga, scale * gb, PLANES, RAYS)
        by_dm = -(scale * (step_a * ka + step_b * kb) / dm + total / dm)
        to += 3 * pixels  # the direction's three come after the point's
        _store_axes(to, pixels, shown, along_i, along_j, by_dm, scale * ka / dm, scale * kb / dm, PLANES, RAYS)


@triton.jit(do_not_specialize=["chunks", "rows", "columns"])
def _reduce(gradient, slopes, parts, chunks, rows, columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of the slopes of one voxel axis and BLOCK pixels, times the image's gradient: their part of four numbers of a camera."""
    pose = tl.program_id(0)
    chunk = tl.program_id(1)
    axis = tl.program_id(2)
    pixels = rows * columns
    pixel = chunk * BLOCK + tl.arange(0, BLOCK)
    seen = pixel < pixels
    x = (pixel % columns).to(tl.float32) - (columns - 1) * 0.5
    y = (pixel // columns).to(tl.float32) - (rows - 1) * 0.5
    g = tl.load(gradient + pose.to(tl.int64) * pixels + pixel, mask=seen, other=0.0)
    of = slopes + (pose.to(tl.int64) * 6 + axis) * pixels + pixel
    q = g * tl.load(of, mask=seen, other=0.0)
    d = g * tl.load(of + 3 * pixels, mask=seen, other=0.0)
    to = parts + (pose * 12 + axis * 4) * chunks + chunk
    tl.store(to, tl.sum(x * (q + d), axis=0))
    tl.store(to + chunks, tl.sum(y * (q + d), axis=0))
    tl.store(to + 2 * chunks, tl.sum(q, axis=0))
    tl.store(to + 3 * chunks, tl.sum(d, axis=0))


def caster(
    volume: Volume, carm: CArm, device: torch.device | str, tiling: Tiling | None = None
) -> Callable[[Tensor], Tensor]:
    """What turns poses ``cta_to_carm`` (B, 4, 4), float64 on the device, into images (B, rows, columns), float32, value x mm.

    Differentiable in the pose. `tiling` as in `Caster`.
    """
    framed = torch.as_tensor(np.pad(volume.voxels.astype(np.float32), 1)).to(device)
    # Rays are followed from where they pass the isocentre, near which the head stands: the fewest digits are lost there.
    near = max(-float(np.dot(carm.source_mm, carm.beam_axis)) / carm.sid_mm, 0.01)
    source = np.array(carm.source_mm)
    columns, rows = np.meshgrid(np.arange(carm.columns, dtype=np.float64), np.arange(carm.rows, dtype=np.float64))
    pixels = carm.pixel_positions(np.stack([columns, rows], axis=-1))
    lengths_mm = torch.as_tensor(near * np.linalg.norm(pixels - source, axis=-1))
    cast = Caster(framed, lengths_mm, tiling)

    middle = (np.array([carm.columns, carm.rows]) - 1) / 2
    centre, right, down = carm.pixel_positions(middle + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    beam = near * (centre - source)
    # Of a camera, in C-arm mm: two steps from pixel to pixel, the point near the head, the direction. A translation moves the point alone.
    camera_mm = np.stack([near * (right - centre), near * (down - centre), source + beam, beam], axis=1)
    is_point = np.array([[0.0, 0.0, 1.0, 0.0]])
    to_ijk = np.linalg.inv(volume.affine)[:3]
    constants = (camera_mm, is_point, to_ijk[:, :3], (to_ijk[:, 3:] + 1) * is_point)
    in_carm, point, turn, offset = (torch.as_tensor(c, dtype=torch.float64).to(device) for c in constants)

    def images(cta_to_carm: Tensor) -> Tensor:
        # Three launches: for a single pose, launching takes longer than computing.
        poses = len(cta_to_carm)
        in_cta = cta_to_carm[:, :3, :3].mT @ torch.addcmul(in_carm, cta_to_carm[:, :3, 3:], point, value=-1)
        image: Tensor = cast(torch.baddbmm(offset.expand(poses, -1, -1), turn.expand(poses, -1, -1), in_cta))
        return image

    return images


class Caster:
    """Cameras (B, 3, 4) to images (B, rows, columns), float32, differentiable.

    A camera has columns [across, down, q, d]: the ray of the pixel x columns and y rows from the image's middle passes
    q + x across + y down, near the head, along d + x across + y down, both in indices i, j, k of `voxels`.

    Parameters
    ----------
    voxels : (k, j, i)
        With a frame of one voxel of 0, float32, on the card.
    lengths_mm : (rows, columns)
        Of these directions in mm, the same for every pose.
    tiling
        How the work is cut; the images do not depend on it beyond the order of sums.
    """

    def __init__(self, voxels: Tensor, lengths_mm: Tensor, tiling: Tiling | None = None) -> None:
        self.counts = voxels.shape[::-1]
        self.tiling = tiling or Tiling()
        self.voxels = torch.cat([voxels.reshape(-1), voxels.permute(2, 0, 1).reshape(-1)])
        self.lengths = lengths_mm.to(voxels.device, torch.float32).contiguous()
        self._wide = self.voxels.numel() >= _INT32

    def __call__(self, cameras: Tensor) -> Tensor:
        return _Images.apply(cameras, self)

    def images(self, cameras: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
        """Images (B, rows, columns), and if `wanted` the slopes (B, 6, rows, columns) to each ray's q and d, i, j, k, else (0,)."""
        rows, columns = self.lengths.shape
        poses, cut = len(cameras), self.tiling
        image = torch.empty((poses, rows, columns), dtype=torch.float32, device=self.lengths.device)
        slopes = image.new_empty((poses, 6, rows, columns) if wanted else (0,))
        programs = poses * -(-rows // cut.down) * -(-columns // cut.across)
        if programs:
            with _on(image):
                _cast[(programs,)](
                    self.voxels,
                    cameras.contiguous(),
                    self.lengths,
                    image,
                    slopes,
                    poses,
                    rows,
                    columns,
                    *self.counts,
                    ACROSS=cut.across,
                    DOWN=cut.down,
                    PLANES=cut.planes,
                    WIDE=self._wide,
                    SLOPES=wanted,
                    num_warps=cut.warps,
                )
        return image, slopes


class _Images(torch.autograd.Function):
    """Images of cameras, whose rays' slopes are found in the same launch; the way back sums them over the image."""

    @staticmethod
    def forward(ctx: Any, cameras: Tensor, caster: Caster) -> Tensor:
        image, slopes = caster.images(cameras, ctx.needs_input_grad[0])
        ctx.save_for_backward(slopes)
        ctx.dtype = cameras.dtype
        return image

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        poses, _, rows, columns = slopes.shape
        chunks = -(-rows * columns // _REDUCED)
        # Sums of sums in a fixed order: the same bits every time, which atomic additions would not give.
        parts = slopes.new_empty((poses, 3, 4, chunks))
        if poses:
            with _on(slopes):
                _reduce[(poses, chunks, 3)](gradient.contiguous(), slopes, parts, chunks, rows, columns, BLOCK=_REDUCED)
        return parts.sum(dim=3, dtype=torch.float64).to(ctx.dtype), None


def _on(tensor: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current card, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
