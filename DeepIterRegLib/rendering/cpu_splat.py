"""The splat on the CPU, by NumPy arrays alone: cameras of poses, and images of points. `splat` makes it differentiable."""

from __future__ import annotations

import numba
import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.arrays import Array, like, namespace
from DeepIterRegLib.rendering import splat_kernels as kernels


def pixel_intrinsics(carm: CArm) -> np.ndarray:
    """Focal lengths and principal point as the kernels take them: (4,) float32 fu, fv, cx, cy in px."""
    k = carm.intrinsics
    return np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]], dtype=np.float32)


def about_centroid(points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3), RAS mm, as float32 (N, 3) about their centroid, and that (3,): a scanner origin metres away would cost pixels.

    Raises
    ------
    InputError
        No points.
    """
    if len(points_mm) == 0:
        raise InputError("The vessel mask is empty: nothing to project; check the mask or its threshold.")
    centre_mm = np.asarray(points_mm, dtype=np.float64).mean(axis=0)
    return np.ascontiguousarray(points_mm - centre_mm, dtype=np.float32), centre_mm


def cameras_from_poses(cta_to_carm: Array, carm: CArm, centre_cta_mm: np.ndarray) -> Array:
    """Matrices (B, 3, 4) of poses (B, 4, 4): CTA mm about `centre_cta_mm` (3,) to camera mm (axes u, v, d, origin at the source)."""
    axes, source, centre = (like(values, cta_to_carm) for values in (carm.axes, carm.source_mm, centre_cta_mm))
    rotation = cta_to_carm[:, :3, :3]
    origin = rotation @ centre + cta_to_carm[:, :3, 3] - source
    return namespace(cta_to_carm).concat([axes @ rotation, axes @ origin[..., None]], axis=-1)


def images_of_points(points: np.ndarray, weights: np.ndarray, cameras: np.ndarray, carm: CArm) -> np.ndarray:
    """Images (B, rows, columns), value x mm, of points (N, 3) and weights (N,) for cameras (B, 3, 4); all float32."""
    partial = np.zeros((len(cameras), shares(len(cameras)), carm.rows, carm.columns), dtype=np.float32)
    jobs, cameras = partial.shape[0] * partial.shape[1], np.ascontiguousarray(cameras)
    in_parts(kernels.splat_forward, jobs, points, weights, cameras, pixel_intrinsics(carm), partial)
    images: np.ndarray = partial[:, 0] if partial.shape[1] == 1 else partial.sum(axis=1)
    return images


def shares(n_poses: int) -> int:
    """Shares of the points per pose: enough jobs for every thread, no more images than needed."""
    return max(1, numba.get_num_threads() // n_poses)
