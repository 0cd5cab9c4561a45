"""The projection of a vessel mask while a person moves the head: a quick image at once, a sharp one in pieces.

One thread without a parallel kernel, so that it may run beside a registration. All memory but the mask's points is allocated once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.cpu_splat import about_centroid, pixel_intrinsics
from DeepIterRegLib.rendering.splat_kernels import FAST, MIN_DEPTH_MM, add_bilinear, line_integral, to_pixel

_MIN_DRAFT_POINTS = 20_000  # fewer no longer look like the vessels
_FIRST_DRAFT_POINTS = 300_000  # before the machine's speed is known: about 3 ms
_DRAFT_PX = 640  # drafts of larger images are made of larger pixels
_PIECE = 1_000_000  # points of a sharp image between two looks at the clock, about 10 ms
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
    max_points
        As in `report.images.vessel_projection`: bounds the time of a sharp image.
    """

    def __init__(
        self, vessels: Volume, carm: CArm, *, draft_ms: float = 25.0, max_points: int = 20_000_000, seed: int = 0
    ) -> None:
        indices = vessels.set_voxels
        self.carm = carm
        self._draft_ms = draft_ms
        positions = vessels.to_ras(np.random.default_rng(seed).permutation(indices))
        self._points, self._centre_mm = about_centroid(positions)
        self._voxel_mm3 = vessels.voxel_volume_mm3
        self._shadow_px = float(vessels.spacing_mm.max()) * carm.magnification / min(carm.pixel_spacing_mm)
        parts = math.ceil(self._shadow_px)
        parts = max(1, min(parts, int((max_points / len(indices)) ** (1 / 3))))
        steps = (np.arange(parts) + 0.5) / parts - 0.5
        self._offsets = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3) @ vessels.affine[:3, :3].T
        self._draft_points = min(len(indices), _FIRST_DRAFT_POINTS)
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
        camera = self._camera(cta_to_carm, np.zeros(3))
        splat_into(self._coarse, self._points[:count], weight, camera, pixel_intrinsics(self._coarse_carm))
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
        """The image of `report.images.vessel_projection` at a pose (4, 4), in pieces: None until it is done, then the image.

        May be abandoned at any piece. The image is valid until the next call of `draft` or of this.
        """
        self._image.fill(0)
        weight = np.float32(self._voxel_mm3 / len(self._offsets))
        starts = [*range(0, len(self._points), _PIECE), len(self._points)]
        for offset in self._offsets:
            camera = self._camera(cta_to_carm, offset)
            for first, last in pairwise(starts):
                yield None
                splat_into(self._image, self._points[first:last], weight, camera, self._intrinsics)
        yield self._image

    def _camera(self, cta_to_carm: np.ndarray, offset_mm: np.ndarray) -> np.ndarray:
        """Matrix (3, 4) float32 from points to camera mm, for voxels of which a part `offset_mm` off the middle is meant."""
        carm = self.carm
        pose = np.asarray(cta_to_carm, dtype=np.float64)
        origin = pose[:3, :3] @ (self._centre_mm + offset_mm) + pose[:3, 3] - np.array(carm.source_mm)
        camera = np.column_stack([carm.axes @ pose[:3, :3], carm.axes @ origin])
        return np.ascontiguousarray(camera, dtype=np.float32)


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


@njit(**FAST)
def splat_into(image, points, weight, camera, intrinsics):  # type: ignore[no-untyped-def]
    """Add points (N, 3), all of one weight, mm^3, to an image (rows, columns), for a camera (3, 4) and intrinsics (4,).

    As `splat_kernels.splat_forward` for one pose, on the thread that calls.
    """
    rows, columns = image.shape
    ff = intrinsics[0] * intrinsics[1]
    for i in range(points.shape[0]):
        x, y, z, iz, u, v = to_pixel(camera, intrinsics, points[i, 0], points[i, 1], points[i, 2])
        if z < MIN_DEPTH_MM or u <= -1 or v <= -1 or u >= columns or v >= rows:
            continue
        add_bilinear(image, u, v, line_integral(weight, ff, x, y, z, iz))
