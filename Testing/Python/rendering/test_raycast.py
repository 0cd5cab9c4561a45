"""Ray casting against line integrals in closed form, for every orientation a file may have."""

from __future__ import annotations

import itertools
import subprocess
import sys
from importlib import metadata

import analytic
import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.raycast import WATER_PER_MM, RaycastProjector, attenuation_per_mm

METHODS = ("siddon", "trilinear", "joseph")
VIEW = CArm.from_angles(
    -28.5,
    21.9,
    sid_mm=1100,
    sod_mm=740,
    rows=14,
    columns=18,
    pixel_spacing_mm=(2.1, 1.7),
    principal_point_px=(7.3, 8.1),
)
VIEWS = {
    "as given": VIEW,
    "mirrored": VIEW.mirrored(),
    "turned": VIEW.turned(1),
    "mirrored and turned": VIEW.mirrored().turned(3),
}


def oblique_affine(spacing_mm: tuple[float, float, float], seed: int = 0, *, left_handed: bool = False) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * spacing_mm
    if left_handed:
        affine[:3, 0] *= -1
    affine[:3, 3] = (12.0, -7.0, 30.0)
    return affine


def small_volume(*, left_handed: bool = False) -> Volume:
    voxels = np.random.default_rng(1).normal(size=(5, 4, 6))
    return Volume(voxels, oblique_affine((1.7, 2.9, 4.1), left_handed=left_handed))


def pose_near(volume: Volume, seed: int, shift_mm: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.normal(size=3) * 0.4).as_matrix()
    return pose.offset_about(pose.radiological(volume.centre_mm), volume.centre_mm, turn, rng.normal(size=3) * shift_mm)


def render(volume: Volume, carm: CArm, *poses: np.ndarray, **options) -> np.ndarray:
    projector = RaycastProjector(volume, carm, **{"dtype": torch.float64, **options})
    return projector(torch.from_numpy(np.stack(poses))).numpy()


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("carm", VIEWS.values(), ids=VIEWS.keys())
def test_siddon_is_exact_for_any_grid_view_and_pose(carm, left_handed):
    volume = small_volume(left_handed=left_handed)
    poses = [pose_near(volume, seed) for seed in range(3)]
    images = render(volume, carm, *poses)
    expected = np.stack([analytic.voxel_integral(carm, p, volume) for p in poses])
    assert np.count_nonzero(expected) > 50
    np.testing.assert_allclose(images, expected, atol=1e-5)  # DiffDRR adds 1e-8 to directions of some hundred voxels


def test_siddon_in_single_precision():
    volume = small_volume()
    p = pose_near(volume, 5)
    image = render(volume, VIEW, p, dtype=torch.float32)
    # Source and pixels stand some hundred voxels away, where float32 has steps of 2^-15 voxel; they move each of the two
    # ends of about 15 segments of values up to 3 by as many voxels of up to 4.1 mm.
    np.testing.assert_allclose(image[0], analytic.voxel_integral(VIEW, p, volume), atol=2 * 15 * 3 * 4.1 * 2**-15)


def test_a_single_voxel_stands_where_its_centre_projects():
    voxels = np.zeros((7, 8, 9))
    voxels[2, 5, 3] = 3.0
    volume = Volume(voxels, oblique_affine((2.0, 3.0, 4.0)))
    p = pose.offset_about(
        pose.radiological(volume.to_ras(np.array([[2, 5, 3]]))[0]), np.zeros(3), np.eye(3), np.array([1.0, 2.0, -1.0])
    )
    carm = VIEW.resampled(112, 144)
    image = render(volume, carm, p)[0]
    np.testing.assert_allclose(image, analytic.voxel_integral(carm, p, volume), atol=1e-5)
    rows, columns = np.mgrid[: carm.rows, : carm.columns]
    centroid = np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()
    np.testing.assert_allclose(centroid, carm.project(volume.to_ras(np.array([[2, 5, 3]])), p)[0], atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_slab_seen_from_any_side(method):
    """Through a slab wider than the beam an integral is thickness / cos: exact for Siddon, and for Joseph, whose planes are the slab's.

    Trilinear sampling (step h, slab of voxels of h) meets four kinks of slope cos / h each, and a kink costs at most
    slope h^2 / 8.
    """
    h = 1.5
    volume = Volume(np.full((5, 60, 60), 2.0), np.diag([h, h, h, 1.0]))
    carm = CArm.from_angles(20, 60, sid_mm=1000, sod_mm=700, rows=6, columns=7, pixel_spacing_mm=(3, 3))
    p = pose.radiological(volume.centre_mm)
    image = render(volume, carm, p, method=method)[0]
    source, pixels = analytic.rays_cta(carm, p)
    direction = (pixels - source) / np.linalg.norm(pixels - source, axis=-1, keepdims=True)
    cosine = np.abs(direction[..., 2])
    tolerance = 1e-6 if method != "trilinear" else 2.0 * 4 * cosine.max() / h * h**2 / 8
    np.testing.assert_allclose(image, 2.0 * 5 * h / cosine, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_voxelised_sphere_lies_between_the_spheres_half_a_voxel_diagonal_away(method):
    """The mask holds every point of the smaller sphere and none outside the larger, so the same holds for every integral.

    Interpolation reaches half a voxel further either way: a whole diagonal.
    """
    radius, spacing = 9.0, (0.8, 1.0, 1.3)
    centre = np.array([5.0, -3.0, 20.0])
    volume = analytic.voxelised_sphere(radius, spacing, Rotation.random(random_state=4).as_matrix(), centre)
    p = pose_near(Volume(volume.voxels, volume.affine), 3)
    image = render(volume, VIEW, p, method=method)[0]
    slack = np.linalg.norm(spacing) * (0.5 if method == "siddon" else 1.0)
    assert (image >= analytic.sphere_integral(VIEW, p, centre, radius - slack) - 1e-5).all()
    assert (image <= analytic.sphere_integral(VIEW, p, centre, radius + slack) + 1e-5).all()
    # Errors of both signs cancel in the sum, which is about the number of voxels against the sphere's volume.
    volume_ratio = volume.voxels.sum() * volume.voxel_volume_mm3 / (4 / 3 * np.pi * radius**3)
    assert image.sum() / analytic.sphere_integral(VIEW, p, centre, radius).sum() == pytest.approx(
        volume_ratio, abs=0.02
    )


@pytest.mark.parametrize("method", ["trilinear", "joseph"])
def test_interpolating_methods_come_near_to_scipys_fine_sampling(method):
    """A smooth ball: interpolation sampled 20 times finer along each ray."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (12, 14, 16)], indexing="ij"))
    volume = Volume(np.exp(-3 * (grid**2).sum(axis=0)), oblique_affine((1.2, 1.5, 1.9)))
    p = pose_near(volume, 1)
    image = render(volume, VIEW, p, method=method)[0]
    source, pixels = analytic.rays_cta(VIEW, p)
    length = np.linalg.norm(pixels - source, axis=-1)
    to_ijk = np.linalg.inv(volume.affine)
    steps = np.arange(690.0, 790.0, 0.06)
    points = source + steps[:, None, None, None] / length[..., None] * (pixels - source)
    ijk = points @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    samples = ndimage.map_coordinates(np.pad(volume.voxels, 1), np.moveaxis(ijk[..., ::-1], -1, 0) + 1, order=1)
    np.testing.assert_allclose(image, samples.sum(axis=0) * 0.06, atol=0.02 * image.max())


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("carm", VIEWS.values(), ids=VIEWS.keys())
def test_joseph_is_its_definition_for_any_grid_view_and_pose(carm, left_handed):
    """Samples where the ray crosses the planes of the axis it follows most, by scipy, times the distance of the planes."""
    volume = small_volume(left_handed=left_handed)
    p = pose_near(volume, 2)
    source, pixels = analytic.rays_cta(carm, p)
    to_ijk = np.linalg.inv(volume.affine)
    first = to_ijk[:3, :3] @ source + to_ijk[:3, 3]
    rays = (pixels - source).reshape(-1, 3)
    expected = []
    for ray_mm, ray in zip(rays, rays @ to_ijk[:3, :3].T, strict=True):
        axis = np.argmax(np.abs(ray))
        t = (np.arange(volume.voxels.shape[2 - axis]) - first[axis]) / ray[axis]
        ijk = first + t[:, None] * ray
        samples = ndimage.map_coordinates(np.pad(volume.voxels, 2), ijk[:, ::-1].T + 2, order=1)
        expected.append(samples.sum() * np.linalg.norm(ray_mm) / abs(ray[axis]))
    assert np.count_nonzero(expected) > 30
    np.testing.assert_allclose(render(volume, carm, p, method="joseph").ravel(), expected, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_joseph_of_a_linear_ramp_is_exact(axis):
    """Values a + g . x, seen where the ray stays inside: each sample is exact, and planes stand for their neighbourhood."""
    shape = (9, 9, 9)
    k, j, i = np.mgrid[: shape[0], : shape[1], : shape[2]]
    volume = Volume(2.0 + 0.3 * i - 0.2 * j + 0.1 * k, np.diag([10.0, 10.0, 10.0, 1.0]))
    angles = [(90, 0), (0, 0), (0, 89.9)][axis]
    carm = CArm.from_angles(*angles, sid_mm=1000, sod_mm=700, rows=5, columns=4, pixel_spacing_mm=(3, 3))
    p = pose.radiological(volume.centre_mm)
    source, pixels = analytic.rays_cta(carm, p)
    ray = pixels - source
    # The middle plane's value is the mean of the nine, as the ray runs straight.
    middle = source + ((volume.centre_mm - source)[axis] / ray[..., axis])[..., None] * ray
    mean = 2.0 + middle @ np.array([0.03, -0.02, 0.01])
    expected = mean * 90.0 * np.linalg.norm(ray, axis=-1) / np.abs(ray[..., axis])
    np.testing.assert_allclose(render(volume, carm, p, method="joseph")[0], expected, rtol=1e-9)


def test_axis_parallel_rays_and_a_source_in_the_plane_of_voxel_faces_are_finite():
    """Zero components of a ray's direction are where Siddon divides by zero."""
    volume = Volume(np.arange(1.0, 28.0).reshape(3, 3, 3), np.eye(4))
    carm = CArm.from_angles(0, 0, sid_mm=1000, sod_mm=700, rows=5, columns=5, pixel_spacing_mm=(1.0, 1.0))
    for shift in (0.0, 0.5):  # central rays through voxel centres, or in the faces between voxels
        p = torch.from_numpy(pose.translation(-volume.centre_mm + shift))[None].requires_grad_()
        for dtype, method in itertools.product((torch.float32, torch.float64), METHODS):
            image = RaycastProjector(volume, carm, method, dtype=dtype)(p)
            assert torch.isfinite(image).all()
            assert torch.isfinite(torch.autograd.grad(image.sum(), p)[0]).all()
    image = render(volume, carm, pose.translation(-volume.centre_mm))[0]
    assert image[2, 2] == pytest.approx(volume.voxels[1, :, 1].sum(), abs=1e-6)


def test_the_whole_line_counts():
    """What the docstring says of volumes that reach beyond the detector."""
    volume = Volume(np.ones((3, 3, 3)), np.eye(4))
    carm = CArm.from_angles(0, 0, sid_mm=1000, sod_mm=700, rows=3, columns=3, pixel_spacing_mm=(0.1, 0.1))
    behind_detector = pose.translation(np.array([0.0, 400.0, 0.0]) - volume.centre_mm)
    assert render(volume, carm, behind_detector)[0, 1, 1] == pytest.approx(3, abs=1e-5)


def test_empty_volume_and_missed_volume_give_empty_images():
    empty = Volume(np.zeros((4, 4, 4), dtype=bool), np.eye(4))
    far = pose.translation(np.array([400.0, 0.0, 0.0]))
    for method in METHODS:
        assert (render(empty, VIEW, np.eye(4), method=method) == 0).all()
    p = torch.from_numpy(far)[None].requires_grad_()
    image = RaycastProjector(small_volume(), VIEW)(p)
    assert (image == 0).all()
    assert (torch.autograd.grad(image.sum(), p)[0] == 0).all()


def test_attenuation_of_air_water_and_bone():
    cta = Volume(np.array([[[-1024, -1000, 0, 1000]]], dtype=np.int16), np.eye(4))
    np.testing.assert_allclose(attenuation_per_mm(cta).voxels, [[[0, 0, WATER_PER_MM, 2 * WATER_PER_MM]]], rtol=1e-6)


def test_input_errors_come_together():
    with pytest.raises(InputError) as raised:
        RaycastProjector(Volume(np.full((2, 2, 2), np.nan), np.eye(4)), VIEW, method="nearest", patch_px=0)  # type: ignore[arg-type]
    assert len(raised.value.problems) == 3


# -- patches, batches, gradients -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_patches_and_batches_change_nothing(method):
    volume = small_volume()
    poses = torch.from_numpy(np.stack([pose_near(volume, seed) for seed in range(3)]))

    def image_and_gradient(patch_px: int, which: slice) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = poses[which].clone().requires_grad_()
        image = RaycastProjector(volume, VIEW, method, patch_px, dtype=torch.float64)(leaf)
        return image.detach(), torch.autograd.grad((image**2).sum(), leaf)[0]

    whole = image_and_gradient(1000, slice(None))
    for patch_px in (3, 7):
        for a, b in zip(image_and_gradient(patch_px, slice(None)), whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for n in range(3):
        for a, b in zip(image_and_gradient(64, slice(n, n + 1)), whole, strict=True):
            torch.testing.assert_close(a[0], b[n], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("carm", [VIEW.resampled(4, 5), VIEW.mirrored().turned(1).resampled(5, 4)])
@pytest.mark.parametrize("method", METHODS)
def test_pose_gradient_agrees_with_finite_differences(method, carm):
    volume = small_volume()
    start = torch.from_numpy(np.stack([pose_near(volume, seed, shift_mm=2.0) for seed in (0, 1)]))
    projector = RaycastProjector(volume, carm, method, patch_px=3, dtype=torch.float64)
    centre = torch.from_numpy(volume.centre_mm)

    def image(six: torch.Tensor) -> torch.Tensor:
        return projector(pose.offset_about(start, centre, pose.so3_exp(six[:, :3]), six[:, 3:]))

    six = (0.01 * torch.arange(1.0, 13.0, dtype=torch.float64)).reshape(2, 6).requires_grad_()
    assert torch.autograd.gradcheck(image, six, eps=1e-6, atol=1e-3, rtol=1e-3)


def test_cropping_to_content_changes_nothing():
    inner = small_volume()
    affine = inner.affine.copy()
    affine[:3, 3] = inner.to_ras(np.array([[-2, -3, -1]]))[0]
    padded = Volume(np.pad(inner.voxels, ((2, 4), (3, 0), (1, 5))), affine)
    p = pose_near(inner, 4)
    for method in METHODS:
        np.testing.assert_allclose(
            render(padded, VIEW, p, method=method), render(inner, VIEW, p, method=method), atol=1e-9
        )


# -- what it brings along --------------------------------------------------------------------------


def test_ray_casting_imports_nothing_beyond_torch_and_diffdrrs_renderers():
    """Why `pip install --no-deps diffdrr` is enough, here and in Slicer: pyvista, vtk, timm and the rest stay out."""
    assert metadata.version("diffdrr") == "0.6.1"
    code = """
import sys
import array_api_compat.torch, array_api_compat.numpy, numba, numpy, torch
before = set(sys.modules)
from DeepIterRegLib.rendering.raycast import RaycastProjector
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
volume = Volume(numpy.ones((2, 2, 2)), numpy.eye(4))
view = CArm.from_angles(0, 0, sid_mm=1000, sod_mm=700, rows=2, columns=2, pixel_spacing_mm=(1.0, 1.0))
RaycastProjector(volume, view, "joseph")
assert not [m for m in sys.modules if m.startswith("diffdrr")]
RaycastProjector(volume, view, "siddon")
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(" ".join(sorted(new)), *sorted(m for m in sys.modules if m.startswith("diffdrr.")))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["DeepIterRegLib", "diffdrr", "diffdrr.renderers"]
