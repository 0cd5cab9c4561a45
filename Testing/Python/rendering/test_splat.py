"""Splat projector: exact totals, agreement with ray casting, analytic pose gradient, torch path."""

import numpy as np
import pytest
import torch
from analytic import voxelised_sphere

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.raycast import RaycastProjector
from DeepIterRegLib.rendering.splat import SplatProjector, cameras_from_poses, splat_torch


def view(rows: int = 48, columns: int = 40, spacing_mm: tuple[float, float] = (4.0, 3.6)) -> CArm:
    return CArm.from_angles(
        -28.5, 21.9, sid_mm=1193, sod_mm=720, rows=rows, columns=columns, pixel_spacing_mm=spacing_mm
    )


VIEWS = {"plain": view(), "mirrored": view().mirrored(), "turned": view().turned(1)}


def scattered(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)) * [20, 25, 30] + [500, -300, 1200], rng.uniform(0.1, 0.4, n)


def some_poses(centre_mm: np.ndarray, n: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(1)
    twists = rng.normal(size=(n, 3)) * 0.2
    base = np.broadcast_to(pose.radiological(centre_mm), (n, 4, 4))
    centres = np.broadcast_to(centre_mm, (n, 3))
    return torch.from_numpy(pose.offset_about(base, centres, pose.so3_exp(twists), rng.normal(size=(n, 3)) * 8))


def test_one_voxel_puts_its_volume_over_the_pixels_shadow():
    """The line integral summed over the pixels' cross-sections at the voxel's depth is value x volume / cos of the ray."""
    carm = view()
    volume_mm3, offset = 0.7, np.array([12.0, -9.0, 21.0])
    image = SplatProjector(offset[None], np.array([volume_mm3]), carm)(torch.eye(4, dtype=torch.float64)[None])[0]
    x, y, z = carm.axes @ (offset - np.array(carm.source_mm))
    area_mm2 = np.prod(carm.pixel_spacing_mm) * (z / carm.sid_mm) ** 2
    assert float(image.sum()) * area_mm2 == pytest.approx(volume_mm3 * np.sqrt(x * x + y * y + z * z) / z, rel=1e-5)
    rows, columns = np.nonzero(image.numpy())
    weights = image.numpy()[rows, columns] / float(image.sum())
    where = [float(weights @ columns), float(weights @ rows)]
    np.testing.assert_allclose(where, carm.project(offset[None])[0], atol=1e-4)


@pytest.mark.parametrize("name", VIEWS)
def test_agrees_with_exact_ray_casting(name):
    """A voxel's shadow is moved by bilinear sharing at most half a pixel: the total is exact, a blurred image nearly so.

    Sharing is a convolution with a triangle one pixel to each side, of variance 1/6 px^2; under a Gaussian of 2 px, variance 4,
    it changes the peak of a structure no narrower by at most (1/6) / 4 = 4 %, and by much less where the sphere is wide.
    """
    carm = VIEWS[name]
    sphere = voxelised_sphere(
        22.0, (1.5, 1.2, 1.8), pose.so3_exp(np.array([0.3, -0.2, 0.5])), np.array([30.0, -40, 900])
    )
    poses = some_poses(sphere.centre_mm, 2)
    splat = SplatProjector.from_mask(sphere, carm)(poses).double()
    exact = RaycastProjector(sphere, carm)(poses).double()
    assert torch.allclose(splat.sum((1, 2)), exact.sum((1, 2)), rtol=2e-3)
    kernel = torch.exp(-0.5 * (torch.arange(-8, 9) / 2.0) ** 2)[None, None].double()
    kernel = kernel / kernel.sum()

    def blurred(image: torch.Tensor) -> torch.Tensor:
        image = torch.nn.functional.conv2d(image[:, None], kernel[..., None], padding=(8, 0))
        return torch.nn.functional.conv2d(image, kernel[:, :, None], padding=(0, 8))[:, 0]

    difference = (blurred(splat) - blurred(exact)).abs().max()
    assert float(difference) < 0.04 * float(exact.max())


@pytest.mark.parametrize("name", VIEWS)
def test_pose_gradient_equals_finite_differences(name):
    carm = VIEWS[name]
    points, weights = scattered()
    projector = SplatProjector(points, weights, carm)
    poses = some_poses(points.mean(axis=0)).requires_grad_()
    sensitivity = torch.from_numpy(np.random.default_rng(2).normal(size=(carm.rows, carm.columns)))
    (gradient,) = torch.autograd.grad((projector(poses) * sensitivity.float()).sum(), poses)
    positions, masses = torch.from_numpy(points - projector.centre_mm), torch.from_numpy(weights)

    def value(moved: torch.Tensor) -> torch.Tensor:
        """In double precision: the step must be far below the distance between the kinks at pixel centres."""
        cameras = cameras_from_poses(moved, carm, projector.centre_mm)
        return (splat_torch(positions, masses, cameras, carm) * sensitivity).sum((1, 2))

    for row, column in ((0, 0), (1, 2), (2, 1), (0, 3), (1, 3), (2, 3)):
        step = torch.zeros(4, 4, dtype=torch.float64)
        step[row, column] = 1e-6 if column == 3 else 1e-9
        numeric = (value(poses.detach() + step) - value(poses.detach() - step)) / (2 * step[row, column])
        torch.testing.assert_close(gradient[:, row, column], numeric, rtol=5e-3, atol=5e-3 * float(numeric.abs().max()))


@pytest.mark.parametrize("name", VIEWS)
def test_torch_path_gives_the_same_images_and_gradients(name):
    carm = VIEWS[name]
    points, weights = scattered(2000)
    projector = SplatProjector(points, weights, carm)
    poses = some_poses(points.mean(axis=0), 4).requires_grad_()
    compiled = projector(poses)
    cameras = cameras_from_poses(poses, carm, projector.centre_mm).float()
    by_torch = splat_torch(projector.points, projector.weights, cameras, carm)
    torch.testing.assert_close(compiled, by_torch, rtol=1e-4, atol=1e-4)
    factor = torch.from_numpy(np.random.default_rng(3).normal(size=compiled.shape)).float()
    one, two = (torch.autograd.grad((image * factor).sum(), poses)[0] for image in (compiled, by_torch))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3 * float(two.abs().max()))


def test_batch_equals_one_at_a_time():
    points, weights = scattered()
    projector = SplatProjector(points, weights, view())
    poses = some_poses(points.mean(axis=0), 5)
    torch.testing.assert_close(projector(poses), torch.cat([projector(p[None]) for p in poses]), rtol=1e-5, atol=1e-5)


def test_points_behind_the_source_or_off_the_detector_leave_no_trace():
    carm = view()
    behind = np.array(carm.source_mm) * 1.5
    aside = np.array(carm.source_mm) * 0.1 + 2000 * np.array(carm.column_axis)
    image = SplatProjector(np.stack([behind, aside]), np.ones(2), carm)(torch.eye(4, dtype=torch.float64)[None])
    assert float(image.abs().max()) == 0


def test_empty_mask_is_said():
    volume = Volume(np.zeros((4, 4, 4), dtype=bool), np.eye(4))
    with pytest.raises(InputError, match="vessel mask is empty"):
        SplatProjector.from_mask(volume, view())
