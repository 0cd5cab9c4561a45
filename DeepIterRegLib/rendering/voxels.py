"""A mask's shadow: length of vessel along each pixel's ray, for one pose or many; a voxel is as wide as it is.

A voxel meets the detector once, and its parts lie about it by their offsets along the camera's axes: so a part costs no more than the
four pixels that it is shared among. (`splat_kernels` says what a point adds.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.cpu_splat import about_centroid, cameras_from_poses, pixel_intrinsics
from DeepIterRegLib.rendering.splat_kernels import FAST, MIN_DEPTH_MM, add_bilinear, line_integral, to_pixel

MAX_PARTS = 20_000_000  # of all voxels together: bounds the time of an image
_HALVES = 2  # images that a pose is drawn into and that are then added: always as many, so that threads change no bit
_AT_ONCE = 4  # poses: each has images of the whole detector


@dataclass(frozen=True)
class Voxels:
    """The set voxels of a mask as points (N, 3) float32, mm about their centroid `centre_mm` (3,)."""

    mask: Volume
    positions: np.ndarray
    centre_mm: np.ndarray

    @classmethod
    def of(cls, mask: Volume, order: np.ndarray | None = None) -> Voxels:
        """Those of a mask; what is not 0 counts. In another `order` (N,) if one is given.

        Raises
        ------
        InputError
            None is set.
        """
        found = mask.set_voxels
        return cls(mask, *about_centroid(mask.to_ras(found if order is None else found[order])))

    def shadow_px(self, carm: CArm) -> float:
        """Width of a voxel's shadow."""
        return float(self.mask.spacing_mm.max()) * carm.magnification / min(carm.pixel_spacing_mm)

    def parts_mm(self, carm: CArm, max_parts: int = MAX_PARTS) -> np.ndarray:
        """Middles (K, 3) of the parts of a voxel, mm from its own along the CTA's axes: a part's shadow is at most a pixel.

        So a picture has no holes; at most `max_parts` of all voxels together.
        """
        # The cube root, as a voxel is split along three axes.
        most = int((max_parts / len(self.positions)) ** (1 / 3))
        along = max(1, min(math.ceil(self.shadow_px(carm)), most))
        steps = (np.arange(along) + 0.5) / along - 0.5
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        offsets: np.ndarray = grid @ self.mask.affine[:3, :3].T
        return offsets

    def cameras(self, poses: np.ndarray, carm: CArm) -> np.ndarray:
        """Matrices (P, 3, 4) float32 of poses (P, 4, 4): `positions` to camera mm."""
        cameras = cameras_from_poses(np.asarray(poses, dtype=np.float64), carm, self.centre_mm)
        return np.ascontiguousarray(cameras, dtype=np.float32)

    def images(self, poses: np.ndarray, carm: CArm, max_parts: int = MAX_PARTS) -> np.ndarray:
        """Length of vessel along each pixel's ray (P, row, column) float32, mm, at poses (P, 4, 4)."""
        cameras = self.cameras(poses, carm)
        parts = along_camera(self.parts_mm(carm, max_parts), cameras)
        images = np.empty((len(cameras), carm.rows, carm.columns), dtype=np.float32)
        weight = np.float32(self.mask.voxel_volume_mm3)
        for first in range(0, len(cameras), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            halves = np.zeros((len(cameras[some]), _HALVES, carm.rows, carm.columns), dtype=np.float32)
            count = len(halves) * _HALVES
            in_parts(
                splat_halves, count, self.positions, weight, cameras[some], parts[some], pixel_intrinsics(carm), halves
            )
            np.sum(halves, axis=1, out=images[some])
        return images


def along_camera(parts_mm: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Offsets (K, 3) along the CTA's axes as those (P, K, 3) float32 along the axes of cameras (P, 3, 4)."""
    return np.ascontiguousarray(parts_mm @ np.swapaxes(cameras[:, :, :3], 1, 2), dtype=np.float32)


@njit(**FAST)
def splat_voxels(image, points, weight, camera, parts, intrinsics):  # type: ignore[no-untyped-def]
    """Add voxels at points (N, 3), each of one weight, mm^3, to an image (rows, columns), on the thread that calls.

    camera (3, 4) CTA mm to camera mm, parts (K, 3) of a voxel by their offsets, camera mm, intrinsics (fu, fv, cx, cy).
    """
    fu, fv, cx, cy = intrinsics
    ff = fu * fv
    n_parts = parts.shape[0]
    share = weight / np.float32(n_parts)
    for i in range(points.shape[0]):
        x, y, z, iz, _, _ = to_pixel(camera, intrinsics, points[i, 0], points[i, 1], points[i, 2])
        if z < MIN_DEPTH_MM:
            continue
        # The same for all parts: what the near ones add more, the far ones add less.
        value = line_integral(share, ff, x, y, z, iz)
        for k in range(n_parts):
            to_part = np.float32(1.0) / max(z + parts[k, 2], MIN_DEPTH_MM)
            u = fu * (x + parts[k, 0]) * to_part + cx
            v = fv * (y + parts[k, 1]) * to_part + cy
            add_bilinear(image, u, v, value)


@njit(**FAST)
def splat_halves(first, last, points, weight, cameras, parts, intrinsics, halves):  # type: ignore[no-untyped-def]
    """Draw those of the P * H images of `halves` (P, H, rows, columns) from `first` to before `last`: each has a share of the points."""
    shares, n = halves.shape[1], points.shape[0]
    for job in range(first, last):
        pose = job // shares
        share = job - pose * shares
        mine = points[share * n // shares : (share + 1) * n // shares]
        splat_voxels(halves[pose, share], mine, weight, cameras[pose], parts[pose], intrinsics)
