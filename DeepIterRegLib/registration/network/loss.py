"""What training makes small: Dice of the re-rendered prediction, and how far the predicted pose is from the true one (A eq. 9-11)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.network.model import correction_between
from DeepIterRegLib.registration.network.view import coverage

CUBE_MM = 50.0  # half a side of the cube whose corners the projection error is measured on


def dice_loss(moving: Tensor, fixed: Tensor) -> Tensor:
    """1 - Dice's coefficient (B,) of images (B, rows, columns) with values 0 to 1."""
    shared = (moving * fixed).flatten(1).sum(dim=1)
    total = moving.flatten(1).sum(dim=1) + fixed.flatten(1).sum(dim=1)
    return 1 - 2 * shared / total.clamp_min(1e-6)


def double_geodesic(correction: Tensor, lever_mm: float) -> Tensor:
    """A eq. 10, in mm: turn times `lever_mm` and shift, added as squares; (B,) of what is left to correct (B, 6)."""
    # The millionth: at 0, where a good answer lies, a root has no finite slope.
    return torch.sqrt((correction[:, :3] * lever_mm).square().sum(dim=1) + correction[:, 3:].square().sum(dim=1) + 1e-6)


def geodesic(correction: Tensor, lever_mm: float) -> Tensor:
    """A eq. 11, in mm: length of the twist that leads from one pose to the other; (B,) of what is left to correct (B, 6)."""
    between = pose.matrix(pose.so3_exp(correction[:, :3]), correction[:, 3:])
    twist = pose.se3_log(between)
    return torch.sqrt((twist[:, :3] * lever_mm).square().sum(dim=1) + twist[:, 3:].square().sum(dim=1) + 1e-6)


def pose_loss(cameras: Tensor, truth: Tensor, lever_mm: float) -> Tensor:
    """Double geodesic plus geodesic (B,), mm, between cameras (B, 3, 4)."""
    left = correction_between(cameras, truth)
    return double_geodesic(left, lever_mm) + geodesic(left, lever_mm)


def image_loss(moving_mm: Tensor, fixed_mm: Tensor, pool: int) -> Tensor:
    """Dice loss (B,) of line integrals (B, rows, columns) in mm as `coverage`, averaged over `pool` px so that near misses count."""
    moving, fixed = coverage(moving_mm), coverage(fixed_mm)
    if pool > 1:
        moving, fixed = (functional.avg_pool2d(image[:, None], pool)[:, 0] for image in (moving, fixed))
    return dice_loss(moving, fixed)


def projection_error_mm(cameras: Tensor, truth: Tensor, sid_mm: Tensor) -> Tensor:
    """Mean distance (B,) on the detector between the corners of a cube about the veins' middle, for cameras (B, 3, 4)."""
    signs = torch.tensor([-1.0, 1.0], dtype=cameras.dtype, device=cameras.device)
    corners = torch.cartesian_prod(signs, signs, signs) * CUBE_MM

    def project(camera: Tensor) -> Tensor:
        seen = corners @ camera[..., :3].transpose(-1, -2) + camera[..., None, :, 3]
        return seen[..., :2] / seen[..., 2:].clamp_min(1.0) * sid_mm[:, None, None]

    return (project(cameras) - project(truth)).norm(dim=-1).mean(dim=-1)
