"""A mask's shadow against the splat of all its parts, one by one; poses and threads change nothing."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.cpu_splat import about_centroid, cameras_from_poses, images_of_points
from DeepIterRegLib.rendering.voxels import Voxels


@pytest.fixture(scope="module")
def mask() -> Volume:
    """Some voxels of 0.9 x 0.6 x 1.1 mm, on an oblique grid far from the scanner's origin."""
    affine = pose.se3_exp(np.array([0.3, -0.2, 0.4, 800.0, -400.0, 300.0])) @ np.diag([0.9, 0.6, 1.1, 1.0])
    return Volume(np.random.default_rng(3).random((40, 50, 60)) < 0.02, affine)


@pytest.fixture(scope="module")
def carm() -> CArm:
    return CArm.from_angles(25, -10, sid_mm=1100, sod_mm=720, rows=180, columns=200, pixel_spacing_mm=(0.5, 0.6))


def poses_of(mask: Volume) -> np.ndarray:
    middle = pose.radiological(mask.grid_centre_mm)
    return np.stack([pose.se3_exp(np.array([0.1 * n, 0.2, -0.1 * n, n, -2.0, 3.0])) @ middle for n in range(6)])


def test_the_parts_of_a_voxel_lie_where_they_are(mask: Volume, carm: CArm) -> None:
    voxels, (at, *_) = Voxels.of(mask), poses_of(mask)
    parts = voxels.parts_mm(carm)
    assert len(parts) == 4**3  # 1.1 mm are 3.4 px
    assert parts.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    points = (mask.to_ras(mask.set_voxels)[:, None] + parts).reshape(-1, 3)
    positions, centre_mm = about_centroid(points)
    weights = np.full(len(points), mask.voxel_volume_mm3 / len(parts), dtype=np.float32)
    cameras = cameras_from_poses(at[None], carm, centre_mm).astype(np.float32)
    (expected,) = images_of_points(positions, weights, cameras, carm)
    (image,) = voxels.images(at[None], carm)
    assert expected.max() > 1
    assert image == pytest.approx(expected, abs=2e-3)
    assert image.sum() == pytest.approx(expected.sum(), rel=1e-5)


def test_many_poses_are_each_of_them(mask: Volume, carm: CArm) -> None:
    voxels, poses = Voxels.of(mask), poses_of(mask)
    together = voxels.images(poses, carm)
    assert len(np.unique(together.sum(axis=(1, 2)))) == len(poses)
    for image, at in zip(together, poses, strict=True):
        assert np.array_equal(voxels.images(at[None], carm)[0], image)


def test_threads_change_no_bit(mask: Volume, carm: CArm) -> None:
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = Voxels.of(mask).images(poses_of(mask), carm)
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(Voxels.of(mask).images(poses_of(mask), carm), alone)


def test_a_bound_makes_coarser_parts(mask: Volume, carm: CArm) -> None:
    voxels = Voxels.of(mask)
    assert len(voxels.parts_mm(carm, max_parts=10 * len(voxels.positions))) == 2**3
    assert len(voxels.parts_mm(carm, max_parts=1)) == 1


def test_an_empty_mask_is_refused(mask: Volume) -> None:
    with pytest.raises(InputError, match="empty"):
        Voxels.of(mask.with_voxels(np.zeros_like(mask.voxels)))
