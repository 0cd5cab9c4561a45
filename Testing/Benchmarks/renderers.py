"""The renderers that ours is measured against, and ours: each takes a volume and a view, and gives a function of the pose.

That function takes a pose (1, 4, 4) and gives an image (rows, columns).
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import compiled_peers
import numpy as np

DEVICE = "cpu"  # of the process that measures one renderer


def splat(volume: Any, carm: Any) -> Callable[[Any], Any]:
    from DeepIterRegLib.rendering.splat import SplatProjector

    project = SplatProjector.from_mask(volume, carm, DEVICE)
    return lambda pose: project(pose)[0]


def splat_torch(volume: Any, carm: Any) -> Callable[[Any], Any]:
    import torch

    from DeepIterRegLib.rendering import splat as ours

    project = ours.SplatProjector.from_mask(volume, carm)

    def render(pose: Any) -> Any:
        cameras = ours.cameras_from_poses(pose, carm, project.centre_mm).to(torch.float32)
        return ours.splat_torch(project.points, project.weights, cameras, carm)[0]

    return render


def raycast(method: str) -> Callable[[Any, Any], Callable[[Any], Any]]:
    def build(volume: Any, carm: Any) -> Callable[[Any], Any]:
        from DeepIterRegLib.rendering.raycast import RaycastProjector

        project = RaycastProjector(volume, carm, method=method, device=DEVICE)
        return lambda pose: project(pose)[0]

    return build


def diffdrr(renderer: str, patch_px: int | None = None) -> Callable[[Any, Any], Callable[[Any], Any]]:
    """DiffDRR's own class, camera axes column, against row, beam; `patch_px` is its way to bound memory."""

    def build(volume: Any, carm: Any) -> Callable[[Any], Any]:
        import torch
        from diffdrr.drr import DRR
        from diffdrr.pose import RigidTransform

        density = torch.as_tensor(volume.voxels.astype(np.float32)).permute(2, 1, 0).contiguous()
        subject = SimpleNamespace(
            volume=SimpleNamespace(affine=volume.affine),
            density=SimpleNamespace(data=density[None]),
            mask=None,
            reorient=torch.eye(4),
        )
        row_mm, column_mm = carm.pixel_spacing_mm
        project = DRR(
            subject,
            sdd=carm.sid_mm,
            height=carm.rows,
            width=carm.columns,
            delx=column_mm,
            dely=row_mm,
            reverse_x_axis=False,
            renderer=renderer,
            patch_size=patch_px,
        ).to(DEVICE)
        u, v, d = carm.axes
        camera_to_carm = _camera_to_carm(carm, (u, -v, d))
        return lambda pose: project(RigidTransform(_inverse(pose) @ camera_to_carm))[0, 0]

    return build


def nanodrr(volume: Any, carm: Any) -> Callable[[Any], Any]:
    import torch
    from nanodrr.data import Subject
    from nanodrr.drr import DRR

    image = torch.as_tensor(volume.voxels.astype(np.float32), device=DEVICE)[None, None]
    affine = torch.as_tensor(volume.affine, dtype=torch.float32, device=DEVICE)
    subject = Subject(
        image,
        torch.zeros_like(image),
        affine,
        affine.inverse(),
        Subject._make_voxel_to_grid(image.shape).to(DEVICE),
        torch.as_tensor(volume.centre_mm, dtype=torch.float32, device=DEVICE),
        max_label=0,
        convert_to_mu=False,
    )
    row_mm, column_mm = carm.pixel_spacing_mm
    project = DRR.from_carm_intrinsics(carm.sid_mm, column_mm, row_mm, 0.0, 0.0, carm.rows, carm.columns).to(DEVICE)
    camera_to_carm = _camera_to_carm(carm, carm.axes)
    return lambda pose: project(subject, _inverse(pose) @ camera_to_carm, backend="torch")[0, 0]


def _camera_to_carm(carm: Any, axes: Any) -> Any:
    import torch

    matrix = torch.eye(4)
    matrix[:3, :3] = torch.as_tensor(np.array(axes).T)
    matrix[:3, 3] = torch.tensor(carm.source_mm)
    return matrix[None].to(DEVICE)


def _inverse(pose: Any) -> Any:
    from DeepIterRegLib.geometry import pose as charts

    return charts.inverse(pose)


RENDERERS: dict[str, tuple[str, Callable[[Any, Any], Callable[[Any], Any]]]] = {
    "splat": ("splat, compiled kernel (ours, for vessels)", splat),
    "splat_torch": ("splat, torch operations (ours, for CUDA)", splat_torch),
    "joseph": ("Joseph, compiled kernel (ours, for dense volumes)", raycast("joseph")),
    "rtk_joseph": ("RTK Joseph, compiled, no gradient", compiled_peers.rtk_joseph),
    "plastimatch": ("plastimatch exact, compiled, no gradient", compiled_peers.plastimatch_exact),
    "diffdrr_siddon": ("DiffDRR `DRR`, Siddon", diffdrr("siddon")),
    "diffdrr_siddon_patches": ("DiffDRR `DRR`, Siddon, patches of 64 px", diffdrr("siddon", 64)),
    "raycast_siddon": ("DiffDRR Siddon through our `RaycastProjector`", raycast("siddon")),
    "diffdrr_trilinear": ("DiffDRR `DRR`, trilinear, its 500 samples", diffdrr("trilinear")),
    "raycast_trilinear": ("DiffDRR trilinear through our `RaycastProjector`", raycast("trilinear")),
    "nanodrr": ("nanodrr torch, its 500 samples", nanodrr),
}
