"""The projection of a vessel mask while a person moves the head: a quick image at once, a sharp one in pieces.

One thread without a parallel kernel, so that it may run beside a registration. All memory but the mask's points is allocated once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import ndimage

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.cpu_splat import pixel_intrinsics
from DeepIterRegLib.rendering.voxels import MAX_PARTS, Voxels, along_camera, splat_voxels

_MIN_DRAFT_POINTS = 20_000  # fewer no longer look like the vessels
_FIRST_DRAFT_POINTS = 300_000  # before the machine's speed is known: about 3 ms
_DRAFT_PX = 640  # drafts of larger images are made of larger pixels
_PIECE = 1_000_000  # points of a sharp image between two looks at the clock, about 10 ms
_WHOLE = np.zeros((1, 3), dtype=np.float32)  # a voxel's one part
_MAX_WIDENING = 2.0  # of a drawn voxel's shadow, for those left out: wider, vessels look like clouds


class LiveProjector:
    """Length of vessel along each pixel's ray, mm, of one mask in one view, for one pose after another.

    Parameters
    ----------
    vessels
        Mask; what is not 0 counts.
    carm
        The view; its rows and columns are the image's.
    draft_ms
        Time a draft should take; fewer points are used where the machine is slower.
    max_parts
        As in `Voxels.parts_mm`: bounds the time of a sharp image.
    """

    def __init__(
        self, vessels: Volume, carm: CArm, *, draft_ms: float = 25.0, max_parts: int = MAX_PARTS, seed: int = 0
    ) -> None:
        order = np.random.default_rng(seed).permutation(len(vessels.set_voxels))
        self.carm, self._draft_ms = carm, draft_ms
        self._voxels = Voxels.of(vessels, order)
        self._points = self._voxels.positions
        self._voxel_mm3 = vessels.voxel_volume_mm3
        self._shadow_px = self._voxels.shadow_px(carm)
        self._parts_mm = self._voxels.parts_mm(carm, max_parts)
        self._draft_points = min(len(order), _FIRST_DRAFT_POINTS)
        self._intrinsics = pixel_intrinsics(carm)
        self._image = np.zeros((carm.rows, carm.columns), dtype=np.float32)
        self._factor = math.ceil(max(carm.rows, carm.columns) / _DRAFT_PX)
        self._coarse_carm = _coarser(carm, self._factor)
        self._coarse = np.zeros((self._coarse_carm.rows, self._coarse_carm.columns), dtype=np.float32)
        self._smooth = np.empty_like(self._coarse)

    def draft(self, cta_to_carm: np.ndarray) -> np.ndarray:
        """Image (row, column) float32 at a pose (4, 4): some of the voxels, each as wide as its shadow. Valid until the next call."""
        begin = time.perf_counter()
        count, total = self._draft_points, len(self._points)
        self._coarse.fill(0)
        weight = np.float32(self._voxel_mm3 * total / count)
        (camera,) = self._voxels.cameras(np.asarray(cta_to_carm)[None], self.carm)
        coarse_intrinsics = pixel_intrinsics(self._coarse_carm)
        splat_voxels(self._coarse, self._points[:count], weight, camera, _WHOLE, coarse_intrinsics)
        # Drawn voxels are further apart than all are, by the cube root of their share.
        width = max(1, round(self._shadow_px / self._factor * min(_MAX_WIDENING, (total / count) ** (1 / 3))))
        coarse = self._coarse
        if width > 1:
            coarse = ndimage.uniform_filter(coarse, width, output=self._smooth, mode="constant")
        for down, right in np.ndindex(self._factor, self._factor):
            part = self._image[down :: self._factor, right :: self._factor]
            part[...] = coarse[: part.shape[0], : part.shape[1]]
        # As many points as would have taken the time that a draft should take.
        took_ms = 1000 * (time.perf_counter() - begin)
        self._draft_points = int(np.clip(count * self._draft_ms / took_ms, min(_MIN_DRAFT_POINTS, total), total))
        return self._image

    def sharpen(self, cta_to_carm: np.ndarray) -> Iterator[np.ndarray | None]:
        """The image of `Voxels.images` at a pose (4, 4), in pieces: None until it is done, then the image.

        May be abandoned at any piece. The image is valid until the next call of `draft` or of this.
        """
        self._image.fill(0)
        cameras = self._voxels.cameras(np.asarray(cta_to_carm)[None], self.carm)
        (parts,), weight = along_camera(self._parts_mm, cameras), np.float32(self._voxel_mm3)
        piece = max(1, _PIECE // len(parts))
        for first in range(0, len(self._points), piece):
            yield None
            some = self._points[first : first + piece]
            splat_voxels(self._image, some, weight, cameras[0], parts, self._intrinsics)
        yield self._image


def _coarser(carm: CArm, factor: int) -> CArm:
    """The view with `factor` x `factor` pixels in one, the last ones perhaps over the edge."""
    cx, cy = carm.principal_point_px
    row_mm, column_mm = carm.pixel_spacing_mm
    return replace(
        carm,
        rows=math.ceil(carm.rows / factor),
        columns=math.ceil(carm.columns / factor),
        pixel_spacing_mm=(row_mm * factor, column_mm * factor),
        principal_point_px=((cx + 0.5) / factor - 0.5, (cy + 0.5) / factor - 0.5),
    )
