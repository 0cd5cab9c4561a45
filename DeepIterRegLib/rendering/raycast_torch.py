"""Joseph's line integrals and their derivatives in torch operations, for any device: what `raycast_kernels` computes, which says how.

It is what runs on a card without Triton, and what the Triton kernel is tested against.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SAMPLES_AT_A_TIME = 2**21  # about 40 numbers are held for each: some 500 MB


def joseph(voxels: Tensor, first: Tensor, last: Tensor, length_mm: float, wanted: bool) -> tuple[Tensor, Tensor]:
    """Integrals (N,) of N lines, value x mm, and if `wanted` their derivatives (N, 6) to `first` and `last`, else (0, 6).

    Parameters
    ----------
    voxels : (k, j, i)
        With a frame of one voxel of 0, floating point; its dtype is that of what comes back.
    first, last : (N, 3)
        Indices i, j, k of that volume, on the line at both sides of it. Their dtype is that of the places of the samples.
    length_mm
        From one to the other, the same for all.
    """
    values = voxels.new_empty(len(first))
    slopes = voxels.new_empty(len(first) if wanted else 0, 6)
    rays = max(1, _SAMPLES_AT_A_TIME // max(voxels.shape))
    for start in range(0, len(first), rays):
        part = slice(start, start + rays)
        values[part], of_part = _lines(voxels, first[part].detach(), last[part].detach(), length_mm, wanted)
        if wanted:
            slopes[part] = of_part
    return values, slopes


def _main_axis(d: Tensor) -> Tensor:
    """The axis (N, 1) that directions (N, 3) follow most; of two alike the first."""
    size = d.abs()
    m = (size[:, 1:2] > size[:, :1]).to(torch.int64)
    return torch.where(size[:, 2:] > size.gather(1, m), 2, m)


def _lines(voxels: Tensor, first: Tensor, last: Tensor, length_mm: float, wanted: bool) -> tuple[Tensor, Tensor]:
    d = last - first
    m = _main_axis(d)
    a, b = (m + 1) % 3, (m + 2) % 3
    count = torch.tensor(voxels.shape[::-1], device=d.device)
    stride = torch.tensor([1, voxels.shape[2], voxels.shape[1] * voxels.shape[2]], device=d.device)
    dm, pm = d.gather(1, m), first.gather(1, m)
    step_a, step_b = d.gather(1, a) / dm, d.gather(1, b) / dm
    k = torch.arange(1, max(voxels.shape) - 1, device=d.device)[None]
    pa = first.gather(1, a) - pm * step_a + k * step_a
    pb = first.gather(1, b) - pm * step_b + k * step_b
    inside = (k <= count[m] - 2) & (pa >= 0) & (pa < count[a] - 1) & (pb >= 0) & (pb < count[b] - 1)
    pa, pb = torch.where(inside, pa, 0), torch.where(inside, pb, 0)
    ia, ib = pa.to(torch.int64), pb.to(torch.int64)
    wa, wb = (pa - ia).to(voxels.dtype), (pb - ib).to(voxels.dtype)
    # Samples outside read some voxel of the frame; they are left out of the sums below.
    at = torch.where(inside, k * stride[m] + ia * stride[a] + ib * stride[b], 0)
    flat, sa, sb = voxels.reshape(-1), stride[a], stride[b]
    v00, v01, v10, v11 = flat[at], flat[at + sb], flat[at + sa], flat[at + sa + sb]
    near, far = v00 + wb * (v01 - v00), v10 + wb * (v11 - v10)
    total = torch.where(inside, near + wa * (far - near), 0).sum(dim=1, keepdim=True)
    scale = (length_mm / dm.abs()).to(voxels.dtype)
    if not wanted:
        return (scale * total)[:, 0], total
    fa = torch.where(inside, far - near, 0)
    fb = torch.where(inside, (v01 - v00) + wa * ((v11 - v10) - (v01 - v00)), 0)
    t = ((k - pm) / dm).to(voxels.dtype)
    ga, gb = fa.sum(dim=1, keepdim=True), fb.sum(dim=1, keepdim=True)
    ta, tb = (t * fa).sum(dim=1, keepdim=True), (t * fb).sum(dim=1, keepdim=True)
    along = (total / dm).to(voxels.dtype)
    step_a, step_b = step_a.to(voxels.dtype), step_b.to(voxels.dtype)
    slopes = voxels.new_empty(len(first), 6)
    to_first = [ga - ta, gb - tb, step_a * (ta - ga) + step_b * (tb - gb) + along]
    to_last = [ta, tb, -(step_a * ta + step_b * tb + along)]
    axes = torch.cat([a, b, m], dim=1)
    slopes.scatter_(1, torch.cat([axes, 3 + axes], dim=1), torch.cat(to_first + to_last, dim=1))
    return (scale * total)[:, 0], scale * slopes
