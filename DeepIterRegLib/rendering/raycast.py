"""Ray casting of dense volumes, differentiable in the pose: compiled kernels (Joseph), or DiffDRR (Siddon, trilinear)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering import raycast_kernels as kernels
from DeepIterRegLib.rendering import raycast_torch
from DeepIterRegLib.rendering.triton_check import triton_runs

Integrate = Callable[[Tensor, Tensor], Tensor]
WATER_PER_MM = 0.02  # linear attenuation of water at the 60 to 70 keV of an angiography tube

_PARALLEL = (
    1e-12  # in place of 0 along an axis that a ray does not cross: its planes are then very far away, not undefined
)

Method = Literal["siddon", "trilinear", "joseph"]
Backend = Literal["auto", "numba", "torch", "triton"]


def attenuation_per_mm(cta: Volume) -> Volume:
    """Linear attenuation in 1/mm, voxels (k, j, i), from HU, air and below 0: its line integrals are the log intensity of an X-ray."""
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
        voxel spacing apart of the trilinearly interpolated volume, which is smoother in the pose. Both are DiffDRR's.
        ``joseph``: one sample a plane of voxels (`raycast_kernels`); much the fastest.
    patch_px
        As many rays as a patch of this side has are cast at a time, which bounds the memory at any
        image size (B Table 1). The images do not depend on it.
    dtype, device
        Of the computation and of the images; poses of any kind are accepted.
    backend
        What computes Joseph's method. ``auto``: ``numba`` on the CPU; ``triton`` on CUDA in single precision where
        Triton is (`raycast_triton`); ``torch`` (`raycast_torch`) elsewhere. They agree to 1e-4 of the brightest pixel.

    Raises
    ------
    InputError
        Voxels that are not finite, unknown method or backend, a backend that cannot be had, no DiffDRR for its methods.
    """

    def __init__(
        self,
        volume: Volume,
        carm: CArm,
        method: Method = "siddon",
        patch_px: int = 32,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        backend: Backend = "auto",
    ) -> None:
        problems = []
        if method not in get_args(Method):
            problems.append(f"The ray casting method is {method!r}; {', '.join(get_args(Method))} exist.")
        problems += _backend_problems(backend, torch.device(device), dtype)
        if patch_px < 1:
            problems.append(f"The patch has {patch_px} px; at least 1 is needed.")
        if not np.isfinite(volume.voxels).all():
            problems.append("The volume has voxels that are not finite numbers; replace them before ray casting.")
        if problems:
            raise InputError(problems)
        volume = _cropped(volume)
        self.carm = carm
        self._rays_at_a_time = patch_px**2
        self._images: Callable[[Tensor], Tensor] = self._by_chords
        kind: dict[str, Any] = {"dtype": dtype, "device": device}
        counts = np.array(volume.voxels.shape[::-1])
        spacing_mm = volume.spacing_mm
        # Sphere about the voxels and the half voxel around them that interpolation reaches.
        self._radius_mm = float(np.linalg.norm(spacing_mm * (counts + 1))) / 2
        self._samples = math.ceil(2 * self._radius_mm / float(spacing_mm.min())) + 1
        self._reach_ijk = torch.as_tensor((counts + 1) / 2, **kind)
        self._middle_ijk = torch.as_tensor((counts - 1) / 2, **kind)
        self._dtype = dtype

        rows, columns = torch.meshgrid(torch.arange(carm.rows), torch.arange(carm.columns), indexing="ij")
        pixels = carm.pixel_positions(torch.stack([columns, rows], dim=-1).reshape(-1, 2).to(torch.float64))
        source = torch.tensor(carm.source_mm, dtype=torch.float64)
        # The rays are found in double precision, where the device has it.
        places: dict[str, Any] = {"dtype": dtype if torch.device(device).type == "mps" else torch.float64}
        self._source_mm = source.to(**places).to(device)
        self._directions = torch.nn.functional.normalize(pixels - source, dim=1).to(**places).to(device)
        self._centre_mm = torch.as_tensor(volume.grid_centre_mm, **places).to(device)
        self._ras_to_ijk = torch.as_tensor(np.linalg.inv(volume.affine), **places).to(device)

        if method != "joseph":
            self._values = self._diffdrr(torch.as_tensor(volume.voxels.astype(np.float64), **kind), method)
        elif backend == "numba" or (backend == "auto" and torch.device(device).type == "cpu"):
            self._values = self._joseph(volume, dtype)
        elif backend == "triton" or (backend == "auto" and _has_triton(torch.device(device), dtype)):
            from DeepIterRegLib.rendering import raycast_triton

            self._images = raycast_triton.caster(volume, carm, device)
        else:
            self._values = self._joseph_torch(volume, kind)

    def __call__(self, cta_to_carm: Tensor) -> Tensor:
        """Line integrals (B, rows, columns), value x mm, of poses (B, 4, 4)."""
        return self._images(cta_to_carm.to(self._directions))

    def _by_chords(self, cta_to_carm: Tensor) -> Tensor:
        first, last = self._chords(cta_to_carm)
        hit = self._may_hit(first.detach(), last.detach()).nonzero()[:, 0]
        values = self._values(first[hit], last[hit])
        batch, pixels = len(cta_to_carm), self.carm.rows * self.carm.columns
        image = torch.zeros(batch * pixels, dtype=values.dtype, device=values.device).index_put((hit,), values)
        return image.reshape(batch, self.carm.rows, self.carm.columns)

    def _chords(self, cta_to_carm: Tensor) -> tuple[Tensor, Tensor]:
        """Voxel indices (N, 3) of two points of each ray: a radius before and behind where it is nearest to the centre.

        A renderer needs two points of the line, not source and pixel. These are 2 radii apart whatever the ray, depend
        smoothly on the pose, and leave float32's digits to the volume; they are found in double precision.
        """
        to_cta = pose.inverse(cta_to_carm)
        source = pose.transform(to_cta, self._source_mm[None])
        directions = self._directions @ to_cta[:, :3, :3].mT
        along = ((self._centre_mm - source) * directions).sum(dim=-1, keepdim=True)
        nearest = source + along * directions
        half = self._radius_mm * directions
        first, last = (
            pose.transform(self._ras_to_ijk, end).reshape(-1, 3).to(self._dtype)
            for end in (nearest - half, nearest + half)
        )
        return first, last

    def _may_hit(self, first: Tensor, last: Tensor) -> Tensor:
        """Lines (N,) that meet the box of the volume, half a voxel wider because interpolation reaches that far."""
        ray = last - first
        ray = torch.where(ray == 0, _PARALLEL, ray)
        at_low = (self._middle_ijk - self._reach_ijk - first) / ray
        at_high = (self._middle_ijk + self._reach_ijk - first) / ray
        return torch.minimum(at_low, at_high).amax(dim=1) <= torch.maximum(at_low, at_high).amin(dim=1)

    # One of the three below integrates: all take two points (N, 3) of each ray, in voxel indices i, j, k, to integrals (N,).

    def _joseph(self, volume: Volume, dtype: torch.dtype) -> Integrate:
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        framed = np.pad(volume.voxels.astype(kind, copy=False), 1)
        counts = np.array(framed.shape[::-1])
        strides = np.array([1, counts[0], counts[0] * counts[1]])
        flat, length_mm = framed.reshape(-1), 2 * self._radius_mm

        def cast(first: Tensor, last: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
            ends = [(end.detach().to(torch.float64) + 1).numpy() for end in (first, last)]
            values = np.empty(len(first), kind)
            slopes = np.empty((len(first) if wanted else 0, 6), kind)
            kernels.joseph(flat, strides, counts, *ends, length_mm, values, slopes)
            return torch.from_numpy(values), torch.from_numpy(slopes)

        return lambda first, last: _Integrals.apply(first, last, cast)

    def _joseph_torch(self, volume: Volume, kind: dict[str, Any]) -> Integrate:
        framed = torch.as_tensor(np.pad(volume.voxels.astype(np.float64), 1)).to(kind["dtype"]).to(kind["device"])
        length_mm = 2 * self._radius_mm

        def cast(first: Tensor, last: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
            a, b = (end.detach().to(self._directions.dtype) + 1 for end in (first, last))
            return raycast_torch.joseph(framed, a, b, length_mm, wanted)

        return lambda first, last: _Integrals.apply(first, last, cast)

    def _diffdrr(self, voxels: Tensor, method: Method) -> Integrate:
        try:  # The one module of DiffDRR that needs nothing but torch: its others bring torchio, pyvista, timm.
            from diffdrr.renderers import Siddon, Trilinear
        except ImportError as missing:
            raise InputError(
                "Ray casting by Siddon or trilinear samples needs DiffDRR 0.6.1, which is not installed. Install it without the 150 "
                "packages that it lists: this library uses none of them."
            ) from missing
        ijk = voxels.permute(2, 1, 0)
        more: dict[str, Any] = {}
        if method == "trilinear":
            # DiffDRR's own range of samples follows the widest ray of a call, so it would depend on the patch.
            more = {"n_points": self._samples, "alphamin": 0.0, "alphamax": 1.0}
        renderer = Siddon() if method == "siddon" else Trilinear()

        def patch(first: Tensor, last: Tensor) -> Tensor:
            length_mm = first.new_full((1, 1, len(first)), 2 * self._radius_mm)
            return renderer(ijk, first[None], last[None], length_mm, **more)[0, 0]

        cast = partial(_by_patches, patch, self._rays_at_a_time)
        return lambda first, last: _Integrals.apply(first, last, cast)


def _has_triton(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the Triton kernel can be had, in single precision alone: on CUDA, or anywhere by its interpreter."""
    return dtype == torch.float32 and triton_runs(str(device))


def _backend_problems(backend: Backend, device: torch.device, dtype: torch.dtype) -> list[str]:
    if backend not in get_args(Backend):
        return [f"The backend of ray casting is {backend!r}; {', '.join(get_args(Backend))} exist."]
    if backend == "numba" and device.type != "cpu":
        return [f"The backend numba of ray casting runs on the CPU, not on {device}; take torch or triton there."]
    if backend == "triton" and not _has_triton(device, dtype):
        return [
            f"The backend triton of ray casting cannot be had on {device} in {str(dtype).removeprefix('torch.')}; it needs "
            "CUDA, the package triton and float32. Take torch."
        ]
    return []


def _by_patches(
    cast: Integrate, rays_at_a_time: int, first: Tensor, last: Tensor, wanted: bool
) -> tuple[Tensor, Tensor]:
    """Integrals (N,) and their slopes (N, 6), a few rays at a time, with memory for one patch also when slopes are wanted.

    Rays are independent, so the gradient of a patch's sum is each ray's own: six numbers a ray are kept
    instead of the graph, and nothing is computed twice as checkpoints would.
    """
    values = first.new_empty(len(first))
    slopes = first.new_empty(len(first) if wanted else 0, 6)
    for start in range(0, len(first), rays_at_a_time):
        patch = slice(start, start + rays_at_a_time)
        ends = torch.cat([first[patch], last[patch]], dim=1)
        with torch.set_grad_enabled(wanted):
            ends.requires_grad_(wanted)
            integrals = cast(ends[:, :3], ends[:, 3:])
            if wanted:
                (slopes[patch],) = torch.autograd.grad(integrals.sum(), ends)
        values[patch] = integrals.detach()
    return values, slopes


class _Integrals(torch.autograd.Function):
    """Integrals (N,) along rays, whose slopes to the rays' ends are found in the same pass."""

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, last: Tensor, cast: Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor]]
    ) -> Tensor:
        values, slopes = cast(first, last, ctx.needs_input_grad[0] or ctx.needs_input_grad[1])
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (slopes,) = ctx.saved_tensors
        both = gradient[:, None] * slopes
        return both[:, :3], both[:, 3:], None


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
