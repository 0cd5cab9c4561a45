"""Whether Triton's kernels run on this computer's card."""

from __future__ import annotations

from functools import cache

from DeepIterRegLib.geometry import CArm


@cache
def triton_runs(device: str) -> bool:
    """Whether a kernel can be compiled for a card and run there; tried once for each, by an image of one point.

    torch for Windows comes without Triton, and Triton needs a C compiler, which many computers of users lack.
    """
    view = CArm.from_angles(0, 0, sid_mm=1000, sod_mm=700, rows=8, columns=8, pixel_spacing_mm=(1.0, 1.0))
    try:
        import torch

        from DeepIterRegLib.rendering.splat_triton import images

        one = torch.ones(1, device=device)
        camera = torch.eye(3, 4, device=device)[None]
        camera[0, 2, 3] = view.sod_mm
        return bool(images(torch.zeros(1, 3, device=device), one, camera, view).sum() > 0)
    except Exception:  # whatever it is, torch's own operations do the work
        return False
