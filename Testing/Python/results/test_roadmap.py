"""Roadmap: what is drawn is where the rays say it is, files of all kinds show the same, and a pixel leads back to the vessel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import vtk
from PIL import Image
from typer.testing import CliRunner
from vtk.util.numpy_support import vtk_to_numpy

from DeepIterRegLib.cli import app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.result import InitRecord, Registration
from DeepIterRegLib.rendering.raycast import RaycastProjector
from DeepIterRegLib.results.roadmap import (
    Paths,
    Style,
    Surface,
    Thing,
    depth_image,
    grey_frame,
    layer,
    nearest_vessel,
    over,
    ray,
    surface_of_mask,
)
from DeepIterRegLib.results.roadmap.files import parse_item, read_markups, read_model, read_swc, smooth_curve, things_of

# Oblique, off-centre, rectangular pixels, more columns than rows: nothing that could hide a mistake.
CARM = CArm.from_angles(
    35,
    -20,
    sid_mm=1150,
    sod_mm=720,
    rows=200,
    columns=260,
    pixel_spacing_mm=(0.9, 0.8),
    principal_point_px=(140.3, 91.7),
)
POSE = np.asarray(pose.matrix(pose.euler_deg_to_rotation(np.array([11.0, -7.0, 23.0])), np.array([12.0, -30.0, 41.0])))
CENTRE = np.array([-8.0, 25.0, -37.0])  # near the isocentre under POSE


def ball(radius_mm: float = 30.0, centre: np.ndarray = CENTRE, resolution: int = 120) -> vtk.vtkPolyData:
    source = vtk.vtkSphereSource()
    source.SetThetaResolution(resolution)
    source.SetPhiResolution(resolution)
    source.SetRadius(radius_mm)
    source.SetCenter(*centre)
    source.SetOutputPointsPrecision(vtk.vtkAlgorithm.DOUBLE_PRECISION)
    source.Update()
    return source.GetOutput()


def surface(mesh: vtk.vtkPolyData) -> Surface:
    return Surface(
        vtk_to_numpy(mesh.GetPoints().GetData()).astype(float),
        vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3),
    )


def rays() -> tuple[np.ndarray, np.ndarray]:
    """Source (3,) and unit directions (rows, columns, 3) in the CTA, by the C-arm's own pixel positions."""
    rows, columns = np.mgrid[: CARM.rows, : CARM.columns]
    pixels = CARM.pixel_positions(np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(float))
    to_cta = np.linalg.inv(POSE)
    source = pose.transform(to_cta, np.array([CARM.source_mm]))[0]
    along = pose.transform(to_cta, pixels) - source
    return source, (along / np.linalg.norm(along, axis=1, keepdims=True)).reshape(CARM.rows, CARM.columns, 3)


@pytest.mark.parametrize("carm", [CARM, CARM.mirrored()], ids=["stored", "mirrored"])
def test_ball_covers_the_pixels_whose_rays_meet_it_and_shows_its_side_near_the_detector(carm: CArm) -> None:
    radius = 30.0
    depths = depth_image(surface(ball(radius)), carm, POSE)
    if carm is not CARM:
        depths = depths[:, ::-1]
    source, directions = rays()
    middle = directions @ (CENTRE - source)
    distance = np.linalg.norm(CENTRE - source - middle[..., None] * directions, axis=-1)
    # A polyhedron in the ball: certainly hit up to a little inside its edge, certainly missed outside.
    assert (depths[distance < 0.995 * radius] > 0).all()
    assert (depths[distance > radius] == 0).all()
    inside = distance < 0.95 * radius
    leaving = middle + np.sqrt(np.maximum(radius**2 - distance**2, 0))
    cosine = directions @ (POSE[:3, :3].T @ np.array(CARM.beam_axis))
    assert depths[inside] == pytest.approx((leaving * cosine)[inside], abs=0.1)


def test_mask_covers_exactly_the_pixels_whose_rays_cross_a_voxel() -> None:
    rng = np.random.default_rng(2)
    voxels = np.zeros((14, 16, 18), bool)
    voxels[2:-2, 2:-2, 2:-2] = rng.random((10, 12, 14)) > 0.9
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(pose.euler_deg_to_rotation(np.array([20.0, 30.0, -10.0]))) @ np.diag([3.0, 4.0, 5.0])
    affine[:3, 3] = CENTRE - affine[:3, :3] @ [8, 7, 6]
    mask = Volume(voxels, affine)
    covered = depth_image(surface_of_mask(mask), CARM, POSE) > 0
    exact = RaycastProjector(mask.with_voxels(voxels.astype(np.float32)), CARM, dtype=torch.float64)
    length = exact(torch.as_tensor(POSE)[None])[0].numpy()
    assert (covered == (length > 1e-3))[(length == 0) | (length > 1e-3)].mean() > 0.9999
    assert covered.mean() > 0.05


def test_capsules_have_the_width_of_the_vessel_or_of_the_line() -> None:
    ends = CENTRE + np.array([[-20.0, 0.0, 0.0], [20.0, 5.0, 10.0]])
    at = CARM.project(ends, POSE)
    rows, columns = np.mgrid[: CARM.rows, : CARM.columns]
    along = (at[1] - at[0]) / np.linalg.norm(at[1] - at[0])
    s = np.clip((np.stack([columns, rows], -1) - at[0]) @ along, 0, np.linalg.norm(at[1] - at[0]))
    distance = np.linalg.norm(np.stack([columns, rows], -1) - at[0] - s[..., None] * along, axis=-1)
    drawn = depth_image(Paths((ends,)), CARM, POSE, line_px=6.0) > 0
    assert (drawn == (distance <= 3)).all()
    thick = depth_image(Paths((ends,), (np.array([4.0, 4.0]),)), CARM, POSE, line_px=1.0) > 0
    wide = thick.sum() / np.linalg.norm(at[1] - at[0])  # a little more than its diameter: it has round ends
    assert wide == pytest.approx(8 * CARM.magnification / np.sqrt(0.9 * 0.8), rel=0.2)
    dot = depth_image(Paths((CENTRE[None],)), CARM, POSE, dot_px=9.0) > 0
    assert dot.sum() == pytest.approx(np.pi * 4.5**2, rel=0.05)
    assert np.argwhere(dot).mean(axis=0)[::-1] == pytest.approx(CARM.project(CENTRE[None], POSE)[0], abs=0.3)


def test_what_is_behind_the_source_or_off_the_detector_is_left_out() -> None:
    behind = np.linalg.inv(POSE) @ [*(1.5 * np.array(CARM.source_mm)), 1.0]
    assert depth_image(surface(ball(10, behind[:3])), CARM, POSE).max() == 0
    assert depth_image(Paths((np.stack([CENTRE, behind[:3]]),)), CARM, POSE).max() == 0
    half = depth_image(surface(ball(400.0)), CARM, POSE)
    assert (half > 0).all()  # the whole detector is in the ball's shadow, most of the ball off the detector


def test_shading_is_bright_near_the_detector_and_later_things_lie_on_top() -> None:
    beam = POSE[:3, :3].T @ np.array(CARM.beam_axis)
    near, far = surface(ball(8, CENTRE + 60 * beam)), surface(ball(8, CENTRE - 60 * beam))
    white = Style(colour=(200, 200, 200), opacity=1.0, shaded=True)
    at_near, at_far = (np.rint(CARM.project(CENTRE[None] + s * beam, POSE)[0]).astype(int) for s in (60, -60))
    apart = [Thing("near", near, white), Thing("far", far, white)]
    column, row = at_near
    depth = {name: float(depth_image(s, CARM, POSE).max()) for name, s in (("near", near), ("far", far))}
    assert depth["near"] - depth["far"] == pytest.approx(120, abs=1.0)
    alone = layer(apart[:1], CARM, POSE)[row, column, 0]
    assert alone > 190
    both = layer(apart, CARM, POSE)  # the far one was named later
    assert both[at_far[1], at_far[0], 0] < 90
    joined = Surface(
        np.vstack([near.points, far.points]), np.vstack([near.triangles, far.triangles + len(near.points)])
    )
    assert layer([Thing("one", joined, white)], CARM, POSE)[row, column, 0] > 190  # in one thing the nearer one wins


def test_layers_blend_as_pillow_blends() -> None:
    things = [
        Thing("a", surface(ball(30)), Style((200, 30, 60), 0.6)),
        Thing("b", surface(ball(25, CENTRE + np.array([20.0, 5.0, 0.0]))), Style((10, 220, 90), 0.45)),
    ]
    single = [Image.fromarray(layer([t], CARM, POSE)) for t in things]
    expected = np.asarray(Image.alpha_composite(*single)).astype(int)
    mixed = layer(things, CARM, POSE).astype(int)
    assert np.abs(mixed[..., 3] - expected[..., 3]).max() <= 1
    assert np.abs(mixed - expected)[expected[..., 3] > 0].max() <= 3
    grey = np.random.default_rng(0).integers(0, 255, mixed.shape[:2], dtype=np.uint8)
    base = Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)]))
    on_grey = np.asarray(Image.alpha_composite(base, Image.fromarray(mixed.astype(np.uint8))))[..., :3]
    assert np.abs(over(grey, mixed.astype(np.uint8)).astype(int) - on_grey).max() <= 1


def test_outline_is_the_rim_of_what_would_be_filled() -> None:
    from scipy.ndimage import distance_transform_cdt

    thing = surface(ball(30))
    filled = layer([Thing("f", thing, Style(opacity=1.0))], CARM, POSE)[..., 3] > 0
    rim = layer([Thing("o", thing, Style(opacity=1.0, outline=True, width_px=3))], CARM, POSE)[..., 3] > 0
    assert (rim == (filled & (distance_transform_cdt(filled, "chessboard") <= 3))).all()
    beyond = layer([Thing("o", surface(ball(400.0)), Style(outline=True))], CARM, POSE)
    assert beyond[..., 3].max() == 0  # the picture's own border is no edge


# -- files ---------------------------------------------------------------------------------------------------


def write_model(path: Path, mesh: vtk.vtkPolyData, header: str = "") -> None:
    writers = {
        ".stl": vtk.vtkSTLWriter,
        ".obj": vtk.vtkOBJWriter,
        ".ply": vtk.vtkPLYWriter,
        ".vtk": vtk.vtkPolyDataWriter,
        ".vtp": vtk.vtkXMLPolyDataWriter,
    }
    writer = writers[path.suffix]()
    writer.SetFileName(str(path))
    writer.SetInputData(mesh)
    if header and path.suffix in (".stl", ".vtk"):
        writer.SetHeader(header)
    if header and path.suffix == ".ply":
        writer.AddComment(header)
    assert writer.Write()


@pytest.mark.parametrize("suffix", [".stl", ".obj", ".ply", ".vtk", ".vtp"])
def test_models_of_all_kinds_show_the_same(suffix: str, tmp_path: Path) -> None:
    expected = depth_image(surface(ball()), CARM, POSE)
    in_lps = ball(centre=CENTRE * [-1, -1, 1], resolution=120)
    write_model(tmp_path / f"lps{suffix}", in_lps)
    write_model(tmp_path / f"ras{suffix}", ball(), "SPACE=RAS")
    stated = suffix in (".stl", ".ply", ".vtk")
    for name, lps in (("lps", None), ("ras", None if stated else False)):
        shape = read_model(tmp_path / f"{name}{suffix}", lps)
        drawn = depth_image(shape, CARM, POSE)
        assert ((drawn > 0) == (expected > 0)).mean() > 0.999
        assert drawn[expected > 0].mean() == pytest.approx(expected[expected > 0].mean(), abs=0.5)


def test_label_map_segmentation_and_their_names(tmp_path: Path) -> None:
    k, j, i = np.mgrid[:30, :30, :30]
    first = (k - 10) ** 2 + (j - 10) ** 2 + (i - 10) ** 2 < 60
    second = (k - 14) ** 2 + (j - 14) ** 2 + (i - 14) ** 2 < 60
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = CENTRE - 24
    labels = np.where(second, 7, np.where(first, 3, 0)).astype(np.uint8)
    save_volume(Volume(labels, affine), tmp_path / "labels.nii.gz")
    things = things_of([parse_item(f"{tmp_path / 'labels.nii.gz'}")])
    assert [t.name for t in things] == ["3", "7"]
    assert things[0].style.colour != things[1].style.colour
    # Slicer's layout: overlapping segments in two layers of a vector image.
    image = sitk.GetImageFromArray(np.stack([first, second], axis=-1).astype(np.uint8), isVector=True)
    image.SetSpacing((2, 2, 2))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((-affine[0, 3], -affine[1, 3], affine[2, 3]))
    for n, (name, colour) in enumerate((("Clot", "1 0.8 0"), ("Penumbra", "0 0.4 1"))):
        for key, value in (("ID", f"S{n}"), ("Name", name), ("Color", colour), ("LabelValue", "1"), ("Layer", str(n))):
            image.SetMetaData(f"Segment{n}_{key}", value)
    path = tmp_path / "two.seg.nrrd"
    sitk.WriteImage(image, str(path))
    clot, penumbra = things_of([parse_item(f"{path}:outline:0.9")])
    assert (clot.name, clot.style.colour, penumbra.style.colour) == ("Clot", (255, 204, 0), (0, 102, 255))
    assert clot.style.outline
    assert clot.style.opacity == 0.9
    for thing, mask in ((clot, first), (penumbra, second)):
        expected = depth_image(surface_of_mask(Volume(mask, affine)), CARM, POSE)
        assert depth_image(thing.shape, CARM, POSE) == pytest.approx(expected, abs=1e-3)
    (only,) = things_of([parse_item(f"{path}:green:only=Penumbra")])
    assert (only.name, only.style.colour) == ("Penumbra", (0, 128, 0))


def test_markups_curves_and_centrelines(tmp_path: Path) -> None:
    t = np.linspace(0, 2, 9)
    points = CENTRE + np.stack([20 * np.cos(t), 20 * np.sin(t), 10 * t], axis=-1)
    flip = [-1, -1, 1]
    markups = [
        {
            "type": kind,
            "coordinateSystem": space,
            "controlPoints": [{"position": (p * (flip if space == "LPS" else 1)).tolist()} for p in points],
            "display": {"selectedColor": [0.0, 1.0, 0.0]},
        }
        for kind, space in (("Curve", "LPS"), ("Fiducial", "RAS"), ("Line", "LPS"))
    ]
    (tmp_path / "m.mrk.json").write_text(json.dumps({"markups": markups}))
    curve, dots, line = read_markups(tmp_path / "m.mrk.json")
    assert isinstance(curve.shape, Paths)
    fine = np.linspace(0, 2, 500)
    helix = CENTRE + np.stack([20 * np.cos(fine), 20 * np.sin(fine), 10 * fine], axis=-1)
    (smooth,) = curve.shape.paths
    gaps = np.linalg.norm(smooth[:, None] - helix[None], axis=-1).min(axis=1)
    assert gaps.max() < 0.5  # flat ends, as Slicer draws them
    assert curve.style.colour == (0, 255, 0)
    assert np.concatenate(dots.shape.paths) == pytest.approx(points)  # type: ignore[union-attr]
    assert line.shape.paths[0] == pytest.approx(points)  # type: ignore[union-attr]
    circle = CENTRE + 15 * np.stack([np.cos(t := np.arange(8) * np.pi / 4), np.sin(t), 0 * t], axis=-1)
    assert np.linalg.norm(smooth_curve(circle, closed=True) - CENTRE, axis=1) == pytest.approx(15, abs=0.05)
    rows = [f"{n + 1} 2 {p[0]:.6f} {p[1]:.6f} {p[2]:.6f} 1.5 {n if n else -1}" for n, p in enumerate(points)]
    (tmp_path / "tree.swc").write_text("# a tree\n" + "\n".join(rows))
    tree = read_swc(tmp_path / "tree.swc")
    assert len(tree.paths) == len(points) - 1
    assert tree.paths[3] == pytest.approx(points[3:5], abs=1e-5)
    assert all((r == 1.5).all() for r in tree.radii_mm)


def test_items_that_cannot_be_used_are_all_told(tmp_path: Path) -> None:
    (tmp_path / "v.stl").write_bytes(b"solid\n")
    with pytest.raises(InputError, match=r"neither a surface") as told:
        things_of([parse_item(str(tmp_path / "v.stl"))] * 2)
    assert len(told.value.problems) == 2
    with pytest.raises(InputError, match="no colour") as told:
        parse_item(f"{tmp_path / 'absent.stl'}:reddish:1.5")
    assert [word in str(told.value) for word in ("does not exist", "a text of 7 letters", "opacity")] == [True] * 3
    save_volume(Volume(np.arange(1000, dtype=np.float32).reshape(10, 10, 10) / 7, np.eye(4)), tmp_path / "ct.nii.gz")
    with pytest.raises(InputError, match="grey values"):
        things_of([parse_item(str(tmp_path / "ct.nii.gz"))])
    (tmp_path / "bad.swc").write_text("1 2 0 0 0 1 9\n")
    with pytest.raises(InputError, match=r"parents that it does not have: \[9\]"):
        read_swc(tmp_path / "bad.swc")


# -- back into the CTA ---------------------------------------------------------------------------------------


def test_ray_passes_through_what_is_seen_at_its_pixel() -> None:
    points = CENTRE + np.random.default_rng(3).normal(0, 40, (50, 3))
    for carm in (CARM, CARM.mirrored(), CARM.turned(1)):
        for point, pixel in zip(points, carm.project(points, POSE), strict=True):
            beam = ray(carm, pixel, POSE)
            found = nearest_vessel(points, beam)
            assert found.point_mm == pytest.approx(point)
            assert found.distance_mm < 1e-6
            assert found.depth_mm == pytest.approx(float(np.linalg.norm(point - beam.source_mm)))
    beam = ray(CARM, (100, 50), POSE)
    along = beam.source_mm + np.array([[600.0], [700.0], [800.0]]) * beam.direction
    sideways = np.cross(beam.direction, [0, 0, 1.0])
    beside = along[1] + 3 * sideways / np.linalg.norm(sideways)
    assert nearest_vessel(np.vstack([beside, along]), beam).depth_mm == pytest.approx(800)  # nearest to the detector
    assert nearest_vessel(beside[None], beam).distance_mm == pytest.approx(3)
    with pytest.raises(InputError, match="in front of the source"):
        nearest_vessel(beam.source_mm[None] - 100 * beam.direction, beam)


# -- the command line ----------------------------------------------------------------------------------------


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_pick_prints_the_ray_and_the_nearest_vessel(patient_folder: Path, tmp_path: Path) -> None:
    run_, found = read_angiogram(patient_folder / "dsa.dcm"), read_pose(patient_folder / "truth.tfm")
    init = InitRecord("file", True, 0.5, 0.1)
    centre = load_volume(patient_folder / "cta.nii.gz").centre_mm
    registration = Registration(found, run_.carm, centre, 0.5, init, (), {}, (), {}, {})
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "registration.json").write_text(json.dumps(registration.to_json_dict()))
    arteries = load_volume(patient_folder / "arteries.nii.gz")
    point = arteries.to_ras(arteries.set_voxels)[1234]
    column, row = run_.carm.project(point[None], found)[0]
    command = ("pick", tmp_path / "result", f"{column},{row}", "--vessels", patient_folder / "arteries.nii.gz")
    answer = json.loads(run(*command, "--json"))
    assert answer["nearest"]["distance_mm"] < 1e-3
    assert answer["nearest"]["pixel"] == pytest.approx([column, row], abs=1e-3)
    direction = np.array(answer["direction_cta"])
    gap = np.cross(point - answer["source_cta_mm"], direction)
    assert np.linalg.norm(gap) < 1e-6
    assert "Depth from source" in run(*command)
    assert "outside" in run("pick", tmp_path / "result", "999,4", code=2)
    assert "does not exist" in run("pick", tmp_path / "none", "9,4", code=2)


def test_roadmap_over_the_dsa(patient_folder: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "lesion.stl", ball(12, load_volume(patient_folder / "cta.nii.gz").centre_mm * [-1, -1, 1]))
    command = [
        *("project", "--pose", patient_folder / "truth.tfm", "--like", patient_folder / "dsa.dcm"),
        *("--item", f"{patient_folder / 'arteries.nii.gz'}:red:shaded"),
        *("--item", f"{tmp_path / 'lesion.stl'}:#ffcc00:outline"),
    ]
    run(*command, "--out", tmp_path / "roadmap.png", "--layer", tmp_path / "layer.png", "--frame", "5")
    picture, rgba = (np.asarray(Image.open(tmp_path / name)) for name in ("roadmap.png", "layer.png"))
    run_ = read_angiogram(patient_folder / "dsa.dcm")
    grey = grey_frame(run_, 4)
    assert rgba.shape == (*grey.shape, 4)
    bare = rgba[..., 3] == 0
    bare[-20:, :120] = False  # what may be done with it stands there
    assert (picture[bare] == grey[bare][:, None]).all()
    changed = (picture != over(grey, rgba)).any(axis=-1)
    assert changed[-20:, :120].sum() == changed.sum() > 200
    arteries = load_volume(patient_folder / "arteries.nii.gz")
    at = np.rint(run_.carm.project(arteries.to_ras(arteries.set_voxels), read_pose(patient_folder / "truth.tfm")))
    at = at[((at >= 0) & (at < [run_.carm.columns, run_.carm.rows])).all(axis=1)].astype(int)
    assert (rgba[at[:, 1], at[:, 0], 3] > 0).mean() > 0.97  # a voxel is hardly wider than a pixel here
    yellow = (rgba[..., :3] == (255, 204, 0)).all(axis=-1) & ~bare
    assert 20 < yellow.sum() < 2000
    text = run(*command, "--frame", "99", "--out", tmp_path / "no.png", code=2)
    assert "the DSA has" in text
    assert not (tmp_path / "no.png").exists()
    assert "Either a volume" in run("project", "--out", tmp_path / "no.png", code=2)
