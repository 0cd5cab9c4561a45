"""Roadmap on real MRML: every kind of node is drawn where the C-arm sees it, files that Slicer writes are read as it means them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from vtk.util import numpy_support

import scenes
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.results.roadmap import Paths, Surface, depth_image
from DeepIterRegLib.results.roadmap.files import parse_item, things_of
from DeepIterRegSlicer.nodes import things as thingNodes
from DeepIterRegSlicer.nodes import volumes
from DeepIterRegSlicer.scene import fill, results, roadmap
from DeepIterRegSlicer.scene.prepare import ShownOutcome, prepareToShow


@pytest.fixture(scope="module")
def outcome() -> ShownOutcome:
    return prepareToShow(scenes.helixOutcome())


def addCurve(points: np.ndarray, className: str = "vtkMRMLMarkupsCurveNode") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass(className, "curve")
    for point in points:
        node.AddControlPoint(vtk.vtkVector3d(*point))
    return node


def pointsOf(node: Any) -> np.ndarray:
    found = []
    for thing in thingNodes.thingsOf(node):
        shape = thing.shape
        found.append(shape.points if isinstance(shape, Surface) else np.concatenate(shape.paths))
    return np.concatenate(found)


def test_every_kind_of_node_keeps_its_place_wherever_it_hangs(scene: Any, outcome: ShownOutcome) -> None:
    nodes = fill.show(outcome)
    centre = outcome.registration.centre_cta_mm
    mask = np.zeros((12, 11, 10), bool)
    mask[3:9, 3:9, 3:9] = True
    affine = np.diag([2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = centre - 10
    labels = scenes.addVolume(mask.astype(np.uint8), affine, "labels", "vtkMRMLLabelMapVolumeNode")
    helix = centre + np.array([[30 * np.cos(a), 30 * np.sin(a), 5 * a] for a in np.linspace(0, 3, 8)])
    kinds = [
        scenes.addBall(centre),
        scenes.addSegmentation({"a": mask}, affine),
        labels,
        addCurve(helix),
        scenes.addPoints(helix),
    ]
    moved = np.asarray(pose.matrix(pose.euler_deg_to_rotation(np.array([10.0, 20.0, 30.0])), np.array([3.0, 4.0, 5.0])))
    bend = scenes.addGridTransform(lambda at: np.stack([0.01 * at[..., 1], 0 * at[..., 0], 0 * at[..., 0]], -1))
    linear = scenes.addTransform(moved)
    for node in kinds:
        own = pointsOf(node)
        node.SetAndObserveTransformNodeID(nodes.ctaToCarm.GetID())
        assert pointsOf(node) == pytest.approx(own, abs=1e-4)  # hanging under the result moves nothing in the CTA
        node.SetAndObserveTransformNodeID(linear.GetID())
        assert pointsOf(node) == pytest.approx(pose.transform(moved, own), abs=1e-4)
        linear.SetAndObserveTransformNodeID(nodes.ctaToCarm.GetID())
        assert pointsOf(node) == pytest.approx(pose.transform(moved, own), abs=1e-4)
        linear.SetAndObserveTransformNodeID(None)
        node.SetAndObserveTransformNodeID(None)
    at = pointsOf(kinds[0])
    kinds[0].SetAndObserveTransformNodeID(bend.GetID())
    inside = np.abs(at).max(axis=1) < 140
    assert pointsOf(kinds[0])[inside, 0] == pytest.approx((at[:, 0] + 0.01 * at[:, 1])[inside], abs=0.02)
    with pytest.raises(InputError, match="neither a segmentation"):
        thingNodes.thingsOf(scenes.addVolume(np.zeros((3, 3, 3)), None, "grey"))


def test_colours_and_names_are_the_scene_s(scene: Any) -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[2:4, 2:4, 2:4] = True
    both = scenes.addSegmentation({"clot": mask, "penumbra": ~mask}, np.eye(4))
    both.GetSegmentation().GetNthSegment(0).SetColor(1.0, 0.8, 0.0)
    clot, penumbra = thingNodes.thingsOf(both)
    assert (clot.name, clot.style.colour, penumbra.name) == ("clot", (255, 204, 0), "penumbra")
    assert [t.name for t in thingNodes.thingsOf(both, both.GetSegmentation().GetSegmentIDs()[1:])] == ["penumbra"]
    (ball,) = thingNodes.thingsOf(scenes.addBall(np.zeros(3)))
    assert ball.style.colour == (51, 102, 255)
    labels = scenes.addVolume(mask * np.uint8(2) + np.uint8(1), None, "labels", "vtkMRMLLabelMapVolumeNode")
    assert len(thingNodes.thingsOf(labels)) == 2


def test_roadmap_stands_on_the_detector_and_shows_the_things(scene: Any, outcome: ShownOutcome, tmp_path: Path) -> None:
    nodes = fill.show(outcome)
    carm, found = outcome.registration.carm, outcome.registration.cta_to_carm
    ball = scenes.addBall(outcome.registration.centre_cta_mm)
    things = thingNodes.thingsOf(ball)
    node = roadmap.showRoadmap(nodes, things)
    where = detector_image(outcome.projection, carm).affine
    np.testing.assert_allclose(volumes.ijkToRas(node), where, atol=1e-4)
    pixels = slicer.util.arrayFromVolume(node)
    assert pixels.shape == (1, carm.rows, carm.columns, 3)
    blue = pixels[0, ..., 2].astype(int) - pixels[0, ..., 0] > 60
    assert (blue == (depth_image(things[0].shape, carm, found) > 0)).mean() > 0.999
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folders = {tree.GetItemParent(tree.GetItemByDataNode(n)) for n in (node, nodes.ctaToCarm)}
    assert len(folders) == 1
    again = roadmap.showRoadmap(nodes, things, nodes.frame)
    assert again is node
    ball.SetAndObserveTransformNodeID(nodes.ctaToCarm.GetID())
    assert (slicer.util.arrayFromVolume(roadmap.showRoadmap(nodes, thingNodes.thingsOf(ball))) == pixels).all()
    reopened = scenes.saveAndReopen(tmp_path)
    (kept,) = results.registrationsIn(reopened)
    held = kept.ctaToCarm.GetNodeReference("DeepIterReg.roadmap")
    assert (slicer.util.arrayFromVolume(held) == pixels).all()


def test_picked_ray_leads_through_the_vessel_seen_there(scene: Any, outcome: ShownOutcome) -> None:
    nodes = fill.show(outcome)
    carm = outcome.registration.carm
    row, column = np.unravel_index(np.argmax(outcome.projection), outcome.projection.shape)
    line, vessel = roadmap.pickRay(nodes, int(column), int(row))
    ends, at = thingNodes.controlPoints(line), thingNodes.controlPoints(vessel)
    np.testing.assert_allclose(ends[0], carm.source_mm, atol=1e-3)
    np.testing.assert_allclose(carm.project(ends[1:])[0], (column, row), atol=1e-3)
    assert np.linalg.norm(carm.project(at)[0] - (column, row)) < 3
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    gap = np.linalg.norm(np.cross(at[0] - ends[0], along))
    assert gap < 1.0  # a voxel is 1 mm
    assert vessel.GetNthControlPointLabel(0).startswith(f"{gap:.1f} mm from the ray")
    assert roadmap.pickRay(nodes, 5, 5)[0] is line
    assert line.GetNumberOfControlPoints() == 2
    with pytest.raises(InputError, match="outside"):
        roadmap.pickRay(nodes, -3, 5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_3d_view_looks_from_the_source(scene: Any, outcome: ShownOutcome, mirrored: bool) -> None:
    carm = outcome.registration.carm.mirrored() if mirrored else outcome.registration.carm
    nodes = fill.show(outcome)
    nodes.registration.SetText(json.dumps(replace(outcome.registration, carm=carm).to_json_dict()))
    cameraNode = scene.AddNewNodeByClass("vtkMRMLCameraNode")
    roadmap.lookFromSource(nodes, cameraNode)
    inCarm = np.random.default_rng(1).uniform(-60, 60, (50, 3))
    matrix = cameraNode.GetCamera().GetCompositeProjectionTransformMatrix(carm.columns / carm.rows, -1, 1)
    clip = np.c_[inCarm, np.ones(len(inCarm))] @ slicer.util.arrayFromVTKMatrix(matrix).T
    x, y = clip[:, 0] / clip[:, 3], clip[:, 1] / clip[:, 3]
    pixels = np.c_[(x + 1) / 2 * carm.columns - 0.5, (1 - y) / 2 * carm.rows - 0.5]
    assert pixels == pytest.approx(carm.project(inCarm), abs=0.01)
    roadmap.lookFreely(cameraNode)
    assert cameraNode.GetCamera().GetUserTransform() is None


def test_vessels_seen_from_the_source_are_lit(views: None, outcome: ShownOutcome) -> None:
    """The mirrored picture turns a surface's inside to the lamp beside the camera, which left it black."""
    import vtk

    from DeepIterRegSlicer.scene import view3d

    nodes = fill.show(outcome)
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    window, renderer = view.renderWindow(), view.renderWindow().GetRenderers().GetFirstRenderer()
    window.SetSize(200, 160)
    camera = view3d.cameraNode()
    renderer.SetActiveCamera(camera.GetCamera())
    mapper, actor = vtk.vtkPolyDataMapper(), vtk.vtkActor()
    mapper.SetInputData(outcome.surface)
    actor.SetMapper(mapper)
    actor.SetUserMatrix(slicer.util.vtkMatrixFromArray(outcome.registration.cta_to_carm))
    renderer.AddActor(actor)

    def brightness() -> float:
        window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(window)
        grab.Update()
        values = numpy_support.vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).mean(axis=1)
        drawn = values[values > 0]
        return float(np.median(drawn)) if len(drawn) > 100 else 0.0

    roadmap.lookFromSource(nodes)
    assert brightness() > 60
    view3d.light(renderer, False)
    assert brightness() < 30, "without the second lamp it is black"
    roadmap.lookFreely()
    assert renderer.GetLights().GetNumberOfItems() == 1


# -- files that Slicer writes ----------------------------------------------------------------------------------


def save(node: Any, path: Path) -> Path:
    node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


@pytest.mark.parametrize("suffix", [".stl", ".obj", ".ply", ".vtk", ".vtp"])
def test_models_that_slicer_wrote(scene: Any, suffix: str, tmp_path: Path) -> None:
    node = scenes.addBall(np.array([11.0, -22.0, 33.0]))
    (thing,) = things_of([parse_item(str(save(node, tmp_path / f"ball{suffix}")))])
    expected = pointsOf(node)
    assert isinstance(thing.shape, Surface)
    assert thing.shape.points.min(axis=0) == pytest.approx(expected.min(axis=0), abs=1e-3)
    assert thing.shape.points.max(axis=0) == pytest.approx(expected.max(axis=0), abs=1e-3)


def test_curves_that_slicer_wrote_run_as_slicer_draws_them(scene: Any, tmp_path: Path) -> None:
    angles = np.linspace(0, 4, 9)
    points = np.stack([5 + 30 * np.cos(angles), 30 * np.sin(angles) - 60, 20 + 8 * angles], axis=-1)
    for kind in ("vtkMRMLMarkupsCurveNode", "vtkMRMLMarkupsClosedCurveNode"):
        node = addCurve(points, kind)
        (thing,) = things_of([parse_item(str(save(node, tmp_path / f"{kind}.mrk.json")))])
        assert isinstance(thing.shape, Paths)
        shown = numpy_support.vtk_to_numpy(node.GetCurvePointsWorld().GetData())
        gaps = np.linalg.norm(thing.shape.paths[0][:, None] - shown[None], axis=-1).min(axis=1)
        assert gaps.max() < 1e-3, kind


def test_segmentations_that_slicer_wrote(scene: Any, tmp_path: Path) -> None:
    mask = np.zeros((12, 11, 10), bool)
    mask[3:9, 3:8, 3:7] = True
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    affine[:3, 3] = [4, 5, 6]
    node = scenes.addSegmentation({"clot": mask, "all": np.ones_like(mask)}, affine)
    node.GetSegmentation().GetNthSegment(0).SetColor(1.0, 0.8, 0.0)
    clot, everything = things_of([parse_item(str(save(node, tmp_path / "two.seg.nrrd")))])
    assert (clot.name, clot.style.colour, everything.name) == ("clot", (255, 204, 0), "all")
    for thing, expected in zip((clot, everything), thingNodes.thingsOf(node), strict=True):
        assert isinstance(thing.shape, Surface)
        assert isinstance(expected.shape, Surface)
        np.testing.assert_allclose(thing.shape.points, expected.shape.points, atol=1e-4)
