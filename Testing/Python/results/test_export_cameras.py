"""Each exported convention against the package that owns it: the same pixel for the same point within 0.01 px."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.geometry.pose_files import write_tfm
from DeepIterRegLib.results.export import cameras

# Oblique, an off-centre principal point, rectangular pixels, odd and even sizes: nothing that could hide a sign or a half pixel.
BASE = CArm.from_angles(
    40,
    -15,
    sid_mm=1180,
    sod_mm=730,
    rows=240,
    columns=301,
    pixel_spacing_mm=(0.95, 0.8),
    principal_point_px=(161.4, 108.9),
)
VIEWS = {"stored": BASE, "mirrored": BASE.mirrored(), "turned": BASE.turned(1)}
POSE = np.asarray(pose.matrix(pose.euler_deg_to_rotation(np.array([12.0, -20.0, 31.0])), np.array([15.0, -28.0, 44.0])))
POINTS = pose.transform(np.linalg.inv(POSE), np.random.default_rng(5).uniform(-70, 70, (200, 3)))


@pytest.fixture(params=VIEWS.values(), ids=VIEWS.keys())
def carm(request: pytest.FixtureRequest) -> CArm:
    view: CArm = request.param
    return view


def through_json(values: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return read


def test_opencv(carm: CArm) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    values = through_json(cameras.opencv(carm, POSE))
    k, t = np.array(values["K"]), np.array(values["t"])
    pixels, _ = cv2.projectPoints(POINTS, np.array(values["rvec"]), t, k, None)
    assert pixels[:, 0] == pytest.approx(carm.project(POINTS, POSE), abs=0.01)
    rotation, _ = cv2.Rodrigues(np.array(values["rvec"]))
    assert rotation == pytest.approx(np.array(values["R"]), abs=1e-9)
    h = np.c_[POINTS, np.ones(len(POINTS))] @ np.array(values["P"]).T
    assert h[:, :2] / h[:, 2:] == pytest.approx(carm.project(POINTS, POSE), abs=1e-6)


def voxel_at(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume of 3 x 3 x 3 voxels of 3 mm, [i, j, k], with one set whose centre is at a point, and its affine."""
    voxels = np.zeros((3, 3, 3), np.float32)
    voxels[1, 1, 1] = 1
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = point - 3.0
    return voxels, affine


def centroid(image: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(image.shape)
    return np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()


def test_diffdrr(carm: CArm) -> None:
    pytest.importorskip("torchio", reason="DiffDRR's DRR class needs torchio and fastcore")
    from diffdrr.drr import DRR
    from diffdrr.pose import RigidTransform

    values = through_json(cameras.diffdrr(carm, POSE))
    voxels, affine = voxel_at(POINTS[0])
    subject = SimpleNamespace(
        volume=SimpleNamespace(affine=affine),
        density=SimpleNamespace(data=torch.as_tensor(voxels)[None]),
        mask=None,
        reorient=torch.eye(4),
    )
    drr = DRR(subject, **values["detector"]).to(torch.float64)
    camera = RigidTransform(torch.tensor(values["pose"], dtype=torch.float64)[None])
    pixels = drr.perspective_projection(camera, torch.as_tensor(POINTS)[None])[0].numpy() - 0.5
    assert pixels == pytest.approx(carm.project(POINTS, POSE), abs=0.01)
    # What it renders, which its projection of points does not use: a voxel's shadow lies about its centre's pixel.
    image = drr(camera)[0, 0].detach().numpy()
    assert centroid(image) == pytest.approx(carm.project(POINTS[:1], POSE)[0], abs=0.1)
    # The rays that it casts end where the C-arm's pixels stand.
    _, target = drr.detector(camera, None)
    rows, columns = np.mgrid[: carm.rows : 37, : carm.columns : 41]
    found = target[0].detach().numpy().reshape(carm.rows, carm.columns, 3)[rows, columns].reshape(-1, 3)
    expected = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    assert carm.project(found, POSE) == pytest.approx(expected, abs=0.01)


def test_nanodrr(carm: CArm) -> None:
    pytest.importorskip("nanodrr", reason="nanodrr is not installed: pip install 'deepiterreg[bench]'")
    from nanodrr.camera import make_k_inv, make_rt_inv
    from nanodrr.camera.extrinsics import invert_rt_inv
    from nanodrr.data import Subject
    from nanodrr.drr import DRR
    from nanodrr.geometry import transform_point

    values = through_json(cameras.nanodrr(carm, POSE))
    k_inv = torch.tensor(values["k_inv"], dtype=torch.float64)[None]
    rt_inv = torch.tensor(values["rt_inv"], dtype=torch.float64)[None]
    sdd, size = values["sdd"], (values["height"], values["width"])
    drr = DRR(k_inv, torch.tensor([sdd], dtype=torch.float64), *size)
    ends = transform_point(rt_inv, drr.tgt)[0].numpy().reshape(*size, 3)
    rows, columns = np.mgrid[: carm.rows : 37, : carm.columns : 41]
    expected = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    assert carm.project(ends[rows, columns].reshape(-1, 3), POSE) == pytest.approx(expected, abs=0.01)
    h = transform_point(torch.linalg.inv(rt_inv), torch.as_tensor(POINTS)[None])[0] @ torch.linalg.inv(k_inv)[0].T
    assert (h[:, :2] / h[:, 2:]).numpy() - 0.5 == pytest.approx(carm.project(POINTS, POSE), abs=0.01)
    own = make_k_inv(sdd, **values["carm_intrinsics"], height=size[0], width=size[1], dtype=torch.float64)
    assert own.numpy() == pytest.approx(k_inv.numpy(), abs=1e-12)
    again = make_rt_inv(*invert_rt_inv(rt_inv))  # a rotation: its own Euler angles can hold it
    assert again.numpy() == pytest.approx(rt_inv.numpy(), abs=1e-6)
    voxels, affine = voxel_at(POINTS[0])
    image, matrix = torch.as_tensor(voxels.transpose(2, 1, 0).copy())[None, None], torch.as_tensor(affine).float()
    grid = Subject._make_voxel_to_grid(image.shape)
    middle = torch.as_tensor(POINTS[0]).float()
    subject = Subject(
        image, torch.zeros_like(image), matrix, matrix.inverse(), grid, middle, max_label=0, convert_to_mu=False
    )
    shadow = DRR(k_inv.float(), torch.tensor([sdd]), *size)(subject, rt_inv.float(), n_samples=60, backend="torch")[
        0, 0
    ]
    assert centroid(shadow.detach().numpy()) == pytest.approx(carm.project(POINTS[:1], POSE)[0], abs=0.1)


@pytest.mark.parametrize("in_cta", [True, False])
def test_vtk(carm: CArm, in_cta: bool) -> None:
    import vtk
    from vtk.util import numpy_support

    points = POINTS if in_cta else pose.transform(POSE, POINTS)
    values = through_json(cameras.vtk_camera(carm, POSE if in_cta else None))
    window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
    window.SetOffScreenRendering(True)
    window.SetSize(carm.columns, carm.rows)
    window.SetMultiSamples(0)
    window.AddRenderer(renderer)
    cameras.set_vtk_camera(renderer.GetActiveCamera(), values)
    matrix = renderer.GetActiveCamera().GetCompositeProjectionTransformMatrix(carm.columns / carm.rows, -1, 1)
    m = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    clip = np.c_[points, np.ones(len(points))] @ m.T
    ndc = clip[:, :3] / clip[:, 3:]
    assert (np.abs(ndc[:, 2]) < 1).all()  # between near and far
    pixels = np.c_[(ndc[:, 0] + 1) / 2 * carm.columns - 0.5, (1 - ndc[:, 1]) / 2 * carm.rows - 0.5]
    assert pixels == pytest.approx(carm.project(points, POSE if in_cta else None), abs=0.01)
    # What it draws: a bright ball about a point.
    ball, mapper, actor = vtk.vtkSphereSource(), vtk.vtkPolyDataMapper(), vtk.vtkActor()
    ball.SetCenter(*points[0])
    ball.SetRadius(4)
    ball.SetThetaResolution(60)
    ball.SetPhiResolution(60)
    mapper.SetInputConnection(ball.GetOutputPort())
    actor.SetMapper(mapper)
    actor.GetProperty().LightingOff()
    renderer.AddActor(actor)
    window.Render()
    for n in (0, 7):
        renderer.SetWorldPoint(*points[n], 1.0)
        renderer.WorldToDisplay()
        x, y, _ = renderer.GetDisplayPoint()
        expected = carm.project(points[n : n + 1], POSE if in_cta else None)[0]
        assert np.array([x - 0.5, carm.rows - 0.5 - y]) == pytest.approx(expected, abs=0.01)
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    shot = numpy_support.vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    image = shot.reshape(carm.rows, carm.columns, -1)[::-1, :, 0].astype(float)
    assert image.sum() > 0
    assert centroid(image) == pytest.approx(carm.project(points[:1], POSE if in_cta else None)[0], abs=0.3)


def test_itk(carm: CArm, tmp_path: Any) -> None:
    write_tfm(tmp_path / "pose.tfm", POSE)
    transform = sitk.ReadTransform(
        str(tmp_path / "pose.tfm")
    ).GetInverse()  # ITK's is from fixed (C-arm) to moving (CTA)
    flip = np.array([-1.0, -1.0, 1.0])
    moved = np.array([transform.TransformPoint((p * flip).tolist()) for p in POINTS]) * flip
    assert carm.project(moved) == pytest.approx(carm.project(POINTS, POSE), abs=0.01)
