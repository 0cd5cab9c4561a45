"""Ray casting of dense volumes with DiffDRR: exact (Siddon) or trilinear line integrals, differentiable in the pose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.volume import Volume

try:  # The one module of DiffDRR that needs nothing but torch: its others bring torchio, pyvista, timm.
    from diffdrr.renderers import Siddon, Trilinear
except ImportError as missing:
    raise InputError(
        "Ray casting needs DiffDRR, which is not installed: pip install --no-deps diffdrr==0.6.1 "
        "(--no-deps because this library uses none of the 150 packages it lists)."
    ) from missing

WATER_PER_MM = 0.02  # linear attenuation of water at the 60 to 70 keV of an angiography tube

Method = Literal["siddon", "trilinear"]


def attenuation_per_mm(cta: Volume) -> Volume:
    """Linear attenuation in 1/mm from HU, air and below 0: its line integrals are the log intensity of an X-ray."""
    voxels = np.maximum(cta.voxels.astype(np.float32) / 1000 + 1, 0) * np.float32(WATER_PER_MM)
    return cta.with_voxels(voxels)


class RaycastProjector:
    """Projector for dense volumes: (B, 4, 4) ``cta_to_carm`` to (B, rows, columns) line integrals in value x mm.

    Integrals run along the whole line through source and pixel; a head stands between the two.

    Parameters
    ----------
    volume
        Any values or a mask. Empty space around the content is cropped away, which changes no integral.
    carm
        The view.
    method
        ``siddon``: exact for voxels of constant value (B eq. 2). ``trilinear``: samples one smallest
        voxel spacing apart of the trilinearly interpolated volume, which is smoother in the pose.
    patch_px
        As many rays as a patch of this side has are cast at a time, which bounds the memory at any
        image size (B Table 1). The images do not depend on it.
    dtype, device
        Of the computation and of the images; poses of any kind are accepted.

    Raises
    ------
    InputError
        Voxels that are not finite, unknown method, no DiffDRR.
    """

    def __init__(
        self,
        volume: Volume,
        carm: CArm,
        method: Method = "siddon",
        patch_px: int = 32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        problems = []
        if method not in ("siddon", "trilinear"):
            problems.append(f"The ray casting method is {method!r}; siddon and trilinear exist.")
        if patch_px < 1:
            problems.append(f"The patch has {patch_px} px; at least 1 is needed.")
        if not np.isfinite(volume.voxels).all():
            problems.append("The volume has voxels that are not finite numbers; replace them before ray casting.")
        if problems:
            raise InputError(problems)
        volume = _cropped(volume)
        self.carm = carm
        self._rays_at_a_time = patch_px**2
        kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self._voxels_ijk = torch.as_tensor(volume.voxels.astype(np.float64), **kind).permute(2, 1, 0)
        self._affine = torch.as_tensor(volume.affine, **kind)
        self._ras_to_ijk = torch.as_tensor(np.linalg.inv(volume.affine), dtype=torch.float64, device=device)
        self._half_extent_ijk = torch.as_tensor([n / 2 for n in volume.voxels.shape[::-1]], **kind)
        self._cast = self._siddon if method == "siddon" else self._trilinear

        rows, columns = torch.meshgrid(torch.arange(carm.rows), torch.arange(carm.columns), indexing="ij")
        pixels = carm.pixel_positions(torch.stack([columns, rows], dim=-1).reshape(-1, 2).to(torch.float64)).to(device)
        source = torch.tensor(carm.source_mm, dtype=torch.float64, device=device)
        self._length_mm = (pixels - source).norm(dim=1).to(dtype)
        self._source_and_pixels = torch.cat([source[None], pixels])

        radius_mm = float(np.linalg.norm(volume.spacing_mm * (np.array(volume.voxels.shape[::-1]) + 1))) / 2
        self._radius_mm = radius_mm
        self._samples = math.ceil(2 * radius_mm / float(volume.spacing_mm.min())) + 1

    def __call__(self, cta_to_carm: Tensor) -> Tensor:
        # Source and pixels go into voxel indices in double precision; only then are they rounded to the working precision.
        to_ijk = self._ras_to_ijk @ pose.inverse(cta_to_carm.to(self._source_and_pixels))
        ends = pose.transform(to_ijk, self._source_and_pixels).to(self._voxels_ijk.dtype)
        batch, pixels = len(ends), self.carm.rows * self.carm.columns
        source = ends[:, :1].expand(-1, pixels, -1).reshape(-1, 3)
        target = ends[:, 1:].reshape(-1, 3)
        hit = self._may_hit(source.detach(), target.detach()).nonzero()[:, 0]
        length_mm = self._length_mm.repeat(batch)[hit]
        values = _Integrals.apply(source[hit], target[hit], length_mm, self._cast, self._rays_at_a_time)
        image = torch.zeros(batch * pixels, dtype=values.dtype, device=values.device).index_put((hit,), values)
        return image.reshape(batch, self.carm.rows, self.carm.columns)

    def _may_hit(self, source: Tensor, target: Tensor) -> Tensor:
        """Rays (N,) that meet the box of the volume, half a voxel wider because interpolation reaches that far."""
        centre = self._half_extent_ijk - 0.5
        reach = self._half_extent_ijk + 0.5
        direction = target - source
        direction = torch.where(direction == 0, 1e-12, direction)
        at_low, at_high = (centre - reach - source) / direction, (centre + reach - source) / direction
        entry = torch.minimum(at_low, at_high).amax(dim=1)
        leave = torch.maximum(at_low, at_high).amin(dim=1)
        return entry <= leave

    def _siddon(self, source: Tensor, target: Tensor, length_mm: Tensor) -> Tensor:
        return Siddon()(self._voxels_ijk, source[None], target[None], length_mm[None, None])[0, 0]

    def _trilinear(self, source: Tensor, target: Tensor, length_mm: Tensor) -> Tensor:
        # DiffDRR's own range follows the widest ray of a call, so it would depend on the patch. This one depends on the ray alone,
        # and smoothly: the part of it within a sphere's radius of the point next to the centre of the volume.
        scale = self._affine[:3, :3].T
        ray = (target - source) @ scale
        to_centre = (self._half_extent_ijk - 0.5 - source) @ scale
        middle = ((to_centre * ray).sum(dim=1) / (ray**2).sum(dim=1))[None, :, None]
        half = self._radius_mm / length_mm[None, :, None]
        return Trilinear()(
            self._voxels_ijk,
            source[None],
            target[None],
            length_mm[None, None],
            n_points=self._samples,
            alphamin=middle - half,
            alphamax=middle + half,
        )[0, 0]


class _Integrals(torch.autograd.Function):
    """Integrals (N,) along rays, a few rays at a time, with memory for one patch also when gradients are wanted.

    Rays are independent, so the gradient of a patch's sum is each ray's own: six numbers a ray are kept
    instead of the graph, and nothing is computed twice as checkpoints would.
    """

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        target: Tensor,
        length_mm: Tensor,
        cast: Callable[[Tensor, Tensor, Tensor], Tensor],
        rays_at_a_time: int,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        values = torch.empty_like(length_mm)
        slopes = source.new_empty(len(source) if wanted else 0, 6)
        for first in range(0, len(source), rays_at_a_time):
            patch = slice(first, first + rays_at_a_time)
            ends = torch.cat([source[patch], target[patch]], dim=1)
            with torch.set_grad_enabled(wanted):
                ends.requires_grad_(wanted)
                integrals = cast(ends[:, :3], ends[:, 3:], length_mm[patch])
                if wanted:
                    (slopes[patch],) = torch.autograd.grad(integrals.sum(), ends)
            values[patch] = integrals.detach()
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        both = gradient[:, None] * slopes
        return both[:, :3], both[:, 3:], None, None, None


def _cropped(volume: Volume) -> Volume:
    """The smallest box of the volume that holds every voxel other than 0 (one voxel if there is none)."""
    first, last = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        full = np.flatnonzero(volume.voxels.any(axis=others))
        first.append(int(full[0]) if full.size else 0)
        last.append(int(full[-1]) if full.size else 0)
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_ras(np.array([first]))[0]
    return Volume(volume.voxels[box], affine)
