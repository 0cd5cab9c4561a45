"""Splat projector by torch, differentiable: sparse voxels to the detector. A vessel mask needs no ray casting: the cost is its voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering import splat_kernels as kernels
from DeepIterRegLib.rendering.cpu_splat import (
    about_centroid,
    cameras_from_poses,
    images_of_points,
    pixel_intrinsics,
    shares,
)
from DeepIterRegLib.rendering.triton_check import triton_runs


class SplatProjector:
    """Line integrals of a sparse volume, differentiable in the pose and batched over poses.

    Exact in total; each point is spread over one pixel bilinearly, so the image is sharp only while a
    voxel's shadow is at most about a pixel: choose `carm.resampled` to match, or split voxels.

    Parameters
    ----------
    points_mm : (N, 3)
        RAS mm of the CTA.
    weights_mm3 : (N,)
        Value times voxel volume.
    carm
        The view; its rows and columns are the image's.
    device
        On "cpu" a compiled kernel with an analytic pose gradient, on "cuda" torch's scatter-add.
    """

    def __init__(
        self, points_mm: np.ndarray, weights_mm3: np.ndarray, carm: CArm, device: torch.device | str = "cpu"
    ) -> None:
        positions, self.centre_mm = about_centroid(points_mm)
        self.carm = carm
        self.device = torch.device(device)
        self.points = torch.as_tensor(positions, device=self.device)
        self.weights = torch.as_tensor(np.ascontiguousarray(weights_mm3, dtype=np.float32), device=self.device)

    @classmethod
    def from_mask(cls, volume: Volume, carm: CArm, device: torch.device | str = "cpu") -> SplatProjector:
        """Projector of a volume's non-zero voxels, each weighing its value times the voxel volume."""
        indices = volume.set_voxels
        values = volume.voxels[tuple(indices.T)].astype(np.float32)
        return cls(volume.to_ras(indices), values * volume.voxel_volume_mm3, carm, device)

    def __call__(self, cta_to_carm: torch.Tensor) -> torch.Tensor:
        """Images (B, rows, columns), value x mm, float32, for poses (B, 4, 4)."""
        cameras = cameras_from_poses(cta_to_carm, self.carm, self.centre_mm).to(self.device, torch.float32)
        return splat(cameras, self.points, self.weights, self.carm)


def splat(cameras: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, carm: CArm) -> torch.Tensor:
    """Images (B, rows, columns), value x mm, of points (N, 3) and weights (N,) for cameras (B, 3, 4); float32, one device."""
    if cameras.device.type == "cpu":
        image: torch.Tensor = _CpuSplat.apply(cameras, points, weights, carm)
        return image
    if cameras.device.type == "cuda" and triton_runs(str(cameras.device)):
        image = _CardSplat.apply(cameras, points, weights, carm)
        return image
    return splat_torch(points, weights, cameras, carm)


class _CardSplat(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cameras: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, carm: CArm
    ) -> torch.Tensor:
        from DeepIterRegLib.rendering import splat_triton

        cameras = cameras.detach().contiguous()
        ctx.save_for_backward(cameras, points, weights)
        ctx.carm = carm
        return splat_triton.images(points, weights, cameras, carm)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from DeepIterRegLib.rendering import splat_triton

        cameras, points, weights = ctx.saved_tensors
        return splat_triton.gradient(points, weights, cameras, ctx.carm, gradients[0].contiguous()), None, None, None


class _CpuSplat(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cameras: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, carm: CArm
    ) -> torch.Tensor:
        # What is kept for the gradient is the input alone: the backward pass projects again, which costs less than a tape.
        ctx.save_for_backward(cameras, points, weights)
        ctx.carm = carm
        return torch.from_numpy(images_of_points(points.numpy(), weights.numpy(), cameras.detach().numpy(), carm))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cameras, points, weights = ctx.saved_tensors
        partial = np.empty((len(cameras), shares(len(cameras)), 3, 4), dtype=np.float32)
        in_parts(
            kernels.splat_backward,
            partial.shape[0] * partial.shape[1],
            points.numpy(),
            weights.numpy(),
            cameras.detach().contiguous().numpy(),
            pixel_intrinsics(ctx.carm),
            gradients[0].contiguous().numpy(),
            partial,
        )
        return torch.from_numpy(partial.sum(axis=1)), None, None, None


def splat_torch(points: torch.Tensor, weights: torch.Tensor, cameras: torch.Tensor, carm: CArm) -> torch.Tensor:
    """The images of `splat` by torch operations, on any device and differentiable by autograd: the path of cards without Triton.

    points (N, 3), weights (N,), cameras (B, 3, 4): images (B, rows, columns).
    """
    fu, fv, cx, cy = (float(f) for f in pixel_intrinsics(carm))
    rows, columns = carm.rows, carm.columns
    xyz = points @ cameras[:, :, :3].transpose(1, 2) + cameras[:, None, :, 3]
    x, y, z = xyz.unbind(-1)
    in_front = z >= float(kernels.MIN_DEPTH_MM)
    z = torch.where(in_front, z, torch.ones_like(z))
    u, v = fu * x / z + cx, fv * y / z + cy
    a = torch.where(in_front, weights * (fu * fv) * torch.sqrt(x * x + y * y + z * z) / z**3, torch.zeros_like(z))
    j, k = torch.floor(u.detach()), torch.floor(v.detach())
    fj, fk = u - j, v - k
    # Four scattered additions, one for each pixel around a point. A frame of one pixel takes what falls outside and is cut off at the end.
    image = torch.zeros(len(cameras), (rows + 2) * (columns + 2), dtype=a.dtype, device=a.device)
    for dk, wk in ((0, 1 - fk), (1, fk)):
        for dj, wj in ((0, 1 - fj), (1, fj)):
            row = (k + dk + 1).clamp(0, rows + 1).long()
            column = (j + dj + 1).clamp(0, columns + 1).long()
            image = image.scatter_add(1, row * (columns + 2) + column, a * wk * wj)
    return image.view(-1, rows + 2, columns + 2)[:, 1:-1, 1:-1]
