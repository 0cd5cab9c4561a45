"""Results in the real scene: where they stand, what a slice view shows, and that a reopened scene gives all of it back."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from vtk.util import numpy_support

import scenes
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import read_pose, write_tfm
from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report.images import to_grey
from DeepIterRegLib.segmentation.dsa import DsaMasks
from DeepIterRegSlicer.nodes import volumes
from DeepIterRegSlicer.scene import fill, results, slice_view
from DeepIterRegSlicer.scene.prepare import ShownOutcome, prepareToShow
from DeepIterRegSlicer.scene.results import RegistrationNodes


@pytest.fixture(scope="module")
def outcome() -> ShownOutcome:
    return prepareToShow(scenes.helixOutcome())


def alive(nodes: RegistrationNodes) -> dict[str, Any]:
    return {field.name: getattr(nodes, field.name) for field in fields(nodes)}


def folderOf(node: Any) -> tuple[int, str]:
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    folder = tree.GetItemParent(tree.GetItemByDataNode(node))
    return folder, tree.GetItemName(folder)


def surfacePoints(nodes: RegistrationNodes) -> np.ndarray:
    mesh = vtk.vtkPolyData()
    assert nodes.vessels.GetClosedSurfaceRepresentation("Vessels", mesh)
    return numpy_support.vtk_to_numpy(mesh.GetPoints().GetData()).astype(float)


def checkAll(nodes: RegistrationNodes, outcome: ShownOutcome) -> None:
    """Everything that a registration leaves in a scene, by value."""
    registration, run = outcome.registration, outcome.angiogram
    assert all(node is not None for node in alive(nodes).values())
    np.testing.assert_allclose(
        slicer.util.arrayFromTransformMatrix(nodes.ctaToCarm), registration.cta_to_carm, atol=1e-9
    )
    assert json.dumps(results.registrationOf(nodes).to_json_dict()) == json.dumps(registration.to_json_dict())
    where = detector_image(outcome.projection, run.carm).affine
    images = [
        (nodes.projection, outcome.projection),
        (nodes.minip, run.minip()),
        (nodes.frame, run.frames[outcome.fullest]),
    ]
    for node, image in images:
        np.testing.assert_allclose(volumes.ijkToRas(node), where, atol=1e-4)
        np.testing.assert_allclose(slicer.util.arrayFromVolume(node)[0], image, atol=1e-6)
        assert node.GetDisplayNode() is not None
    assert nodes.frames.GetNumberOfDataNodes() == len(run.frames)
    np.testing.assert_allclose(
        [float(nodes.frames.GetNthIndexValue(n)) for n in range(len(run.frames))], run.frame_times_s, atol=1e-5
    )
    assert nodes.browser.GetProxyNode(nodes.frames) is nodes.frame
    assert slice_view.minipRange(nodes) == (0, len(run.frames) - 1)
    colours = nodes.projection.GetDisplayNode().GetColorNode()
    assert colours.GetName() == nodes.tint.GetName()
    red = np.zeros(4)
    colours.GetColor(255, red)
    np.testing.assert_allclose(red, [225 / 255, 38 / 255, 46 / 255, 1], atol=0.005)
    low, high = (nodes.minip.GetDisplayNode().GetWindowLevelMin(), nodes.minip.GetDisplayNode().GetWindowLevelMax())
    np.testing.assert_allclose([low, high], outcome.window, rtol=1e-4)
    np.testing.assert_allclose(carmPoint(nodes, 0), run.carm.source_mm, atol=1e-3)
    np.testing.assert_allclose(carmPoint(nodes, 1), 0, atol=1e-6)
    corners = numpy_support.vtk_to_numpy(nodes.frustum.GetPolyData().GetPoints().GetData())
    np.testing.assert_allclose(corners[0], run.carm.source_mm, atol=1e-2)
    assert nodes.vessels.GetParentTransformNode() is nodes.ctaToCarm
    table = nodes.scores.GetTable()
    stage = registration.stages[0]
    column = numpy_support.vtk_to_numpy(table.GetColumnByName(stage.name))
    np.testing.assert_allclose(column[: len(stage.scores)], stage.scores)
    assert np.isnan(column[len(stage.scores) :]).all()
    series = [nodes.chart.GetNthPlotSeriesNode(n) for n in range(nodes.chart.GetNumberOfPlotSeriesNodes())]
    assert [s.GetYColumnName() for s in series] == [s.name for s in registration.stages]
    assert all(s.GetTableNode() is nodes.scores for s in series)
    assert [s.GetName() for s in series] == ["Search: 96 rows, 128 rows, 192 rows", "Stage 1: MinIP"][: len(series)]
    joined = [s.GetLineStyle() != s.LineStyleNone for s in series]
    assert joined == [False, True][: len(series)], "levels do not compare"
    assert len({folderOf(node) for node in [*alive(nodes).values(), *series]}) == 1
    assert folderOf(nodes.ctaToCarm)[1].startswith("DeepIterReg")


def carmPoint(nodes: RegistrationNodes, n: int) -> list[float]:
    position = [0.0, 0.0, 0.0]
    nodes.carmPoints.GetNthControlPointPositionWorld(n, position)
    return position


# -- nodes ----------------------------------------------------------------------------------------------------


def test_everything_is_in_the_scene(scene: Any, outcome: ShownOutcome) -> None:
    checkAll(fill.show(outcome), outcome)


def test_saved_and_reopened_scene_gives_everything_back(scene: Any, outcome: ShownOutcome, tmp_path: Path) -> None:
    cta = scenes.addVolume(np.zeros((9, 8, 7), np.int16), name="CTA")
    nodes = fill.show(outcome)
    results.placeUnder(nodes.ctaToCarm, cta)
    again = scenes.saveAndReopen(tmp_path)
    found = results.registrationsIn(again)
    assert len(found) == 1
    checkAll(found[0], outcome)
    assert again.GetFirstNodeByName("CTA").GetParentTransformNode() is found[0].ctaToCarm
    assert found[0].vessels.GetSegmentation().GetSegment("Vessels") is not None
    slice_view.showMinip(found[0], 1, 2, again.AddNewNodeByClass("vtkMRMLSliceCompositeNode"))
    np.testing.assert_allclose(slicer.util.arrayFromVolume(found[0].minip)[0], outcome.angiogram.minip(1, 2), atol=1e-6)


def test_registered_vessels_lie_where_the_projection_shows_them(scene: Any, outcome: ShownOutcome) -> None:
    nodes = fill.show(outcome)
    carm = outcome.registration.carm
    matrix = vtk.vtkMatrix4x4()
    nodes.vessels.GetParentTransformNode().GetMatrixTransformToWorld(matrix)
    inCarm = pose.transform(slicer.util.arrayFromVTKMatrix(matrix), surfacePoints(nodes))
    pixels = np.rint(carm.project(inCarm)).astype(int)
    drawn = outcome.projection > 0
    grown = np.zeros_like(drawn)
    for shift in np.ndindex(5, 5):
        grown |= np.roll(drawn, (shift[0] - 2, shift[1] - 2), (0, 1))
    assert grown[pixels[:, 1], pixels[:, 0]].mean() > 0.995
    covered = np.zeros_like(drawn)
    covered[pixels[:, 1], pixels[:, 0]] = True
    assert covered[drawn].mean() > 0.3
    # The detector's images lie on the plane that the lines from the source through the vessels reach.
    onDetector = volumes.ijkToRas(nodes.projection) @ [*carm.project(inCarm[:1])[0], 0, 1]
    ray = inCarm[0] - carm.source_mm
    reached = np.array(carm.source_mm) + ray * carm.sid_mm / (ray @ np.array(carm.beam_axis))
    np.testing.assert_allclose(onDetector[:3], reached, atol=1e-6)


def test_frames_outlive_the_outcome(scene: Any) -> None:
    made = prepareToShow(scenes.helixOutcome(64, 4))
    frames = made.angiogram.frames.copy()
    nodes = fill.show(made)
    del made
    gc.collect()
    np.full((64, 64, 64), 7.0, np.float32).sum()
    for n in range(4):
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.frames.GetNthDataNode(n))[0], frames[n])


def test_second_result_takes_the_place_of_the_first(scene: Any, outcome: ShownOutcome) -> None:
    first = fill.show(outcome)
    count = scene.GetNumberOfNodes()
    moved = np.asarray(pose.translation(np.array([1.0, 2.0, 3.0]))) @ outcome.registration.cta_to_carm
    other = replace(
        outcome, registration=replace(outcome.registration, cta_to_carm=moved, stages=outcome.registration.stages[:1])
    )
    second = fill.show(other, first)
    assert all(a is b for a, b in zip(alive(first).values(), alive(second).values(), strict=True))
    checkAll(second, other)
    assert scene.GetNumberOfNodes() == count - 1  # the series of the stage that is gone


def test_who_watches_is_not_told_of_every_frame_and_colour(scene: Any, outcome: ShownOutcome) -> None:
    """Views and the browser follow each event of nodes that they show, which is what takes the time."""
    nodes = fill.show(outcome)
    told = dict.fromkeys(("frames", "frame", "minip", "projection", "tint", "plain"), 0)
    for name in told:

        def count(caller: Any, event: str, name: str = name) -> None:
            told[name] += 1

        getattr(nodes, name).AddObserver(vtk.vtkCommand.ModifiedEvent, count)
    fill.show(outcome, nodes)
    assert max(told.values()) < 6, told
    assert told["frames"] > 0


@pytest.mark.parametrize("name", [field.name for field in fields(RegistrationNodes)])
def test_node_deleted_before_the_next_result(scene: Any, outcome: ShownOutcome, name: str) -> None:
    nodes = fill.show(outcome)
    scene.RemoveNode(getattr(nodes, name))
    checkAll(fill.show(outcome, nodes), outcome)


def test_scene_closed_before_the_next_result(scene: Any, outcome: ShownOutcome) -> None:
    nodes = fill.show(outcome)
    scene.Clear(0)
    checkAll(fill.show(outcome, nodes), outcome)
    assert len(results.registrationsIn(scene)) == 1


def test_two_results_side_by_side(scene: Any, outcome: ShownOutcome) -> None:
    one, two = fill.show(outcome), fill.show(outcome)
    checkAll(one, outcome)
    checkAll(two, outcome)
    assert folderOf(one.ctaToCarm) != folderOf(two.ctaToCarm)
    assert [nodes.ctaToCarm for nodes in results.registrationsIn(scene)] == [one.ctaToCarm, two.ctaToCarm]


def test_cta_under_its_own_transform_goes_under_the_result(scene: Any, outcome: ShownOutcome) -> None:
    cta, own = scenes.addVolume(np.zeros((3, 4, 5), np.int16)), scenes.addTransform(np.diag([1.0, -1, -1, 1]))
    cta.SetAndObserveTransformNodeID(own.GetID())
    one, two = fill.show(outcome), fill.show(outcome)
    before = volumes.ctaSource(cta)().affine
    for nodes in (one, two):
        results.placeUnder(nodes.ctaToCarm, cta)
        assert own.GetParentTransformNode() is nodes.ctaToCarm
        np.testing.assert_allclose(volumes.ctaSource(cta)().affine, before)


def test_no_name_of_a_patient_or_file_in_node_names(scene: Any, outcome: ShownOutcome) -> None:
    allowed = {"registration", "ctaToCarm", "CTA", "DSA", "MinIP", "C-arm", "Score", "Scores", "Search", "DeepIterReg"}
    for node in alive(fill.show(outcome)).values():
        assert node.GetName().split()[0].split("_")[0] in allowed


# -- transforms on disk -----------------------------------------------------------------------------------------


def test_slicer_reads_the_command_lines_transform_as_the_same_matrix(scene: Any, tmp_path: Path) -> None:
    matrix = np.asarray(pose.se3_exp(np.array([0.4, -0.3, 0.2, 30.0, -70.0, 640.0])))
    write_tfm(tmp_path / "ctaToCarm.tfm", matrix)
    storage = scene.AddNewNodeByClass("vtkMRMLTransformStorageNode")
    storage.SetFileName(str(tmp_path / "ctaToCarm.tfm"))
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    assert storage.ReadData(node)
    np.testing.assert_allclose(slicer.util.arrayFromTransformMatrix(node), matrix, atol=1e-9)
    storage.SetFileName(str(tmp_path / "fromSlicer.tfm"))
    assert storage.WriteData(node)
    np.testing.assert_allclose(read_pose(tmp_path / "fromSlicer.tfm"), matrix, atol=1e-9)


# -- display ------------------------------------------------------------------------------------------------------


class SliceView:
    """A slice view without a window: Slicer's own slice logic, and the picture it makes."""

    def __init__(self, wide: int, high: int) -> None:
        scene = slicer.mrmlScene
        self.node = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
        self.node.SetLayoutName("Red")
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self.logic.SetMRMLScene(scene)
        self.logic.SetSliceNode(self.node)
        self.composite = self.logic.GetSliceCompositeNode()
        self.node.SetDimensions(wide, high, 1)

    def close(self) -> None:
        """Before its scene goes: a slice logic that outlives it crashes."""
        self.logic.SetSliceNode(None)
        self.logic.SetMRMLScene(None)
        self.logic.SetMRMLApplicationLogic(None)

    def picture(self) -> np.ndarray:
        """RGB (row, column, 3) uint8, row 0 at the top."""
        port = self.logic.GetImageDataConnection()
        port.GetProducer().Update()
        image = port.GetProducer().GetOutputDataObject(port.GetIndex())
        wide, high, _ = image.GetDimensions()
        values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        return values.reshape(high, wide, -1)[::-1, :, :3].astype(float)


@pytest.fixture
def sliceView(scene: Any) -> Iterator[Callable[[int, int], SliceView]]:
    views = []

    def make(wide: int, high: int) -> SliceView:
        views.append(SliceView(wide, high))
        return views[-1]

    yield make
    for view in views:
        view.close()


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("stored", ["as seen", "mirrored", "turned"])
def test_slice_view_shows_the_angiogram_as_it_is_stored(scene: Any, sliceView: Any, stored: str) -> None:
    made = scenes.helixOutcome()
    if stored != "as seen":
        turn: Callable[[np.ndarray], np.ndarray] = (
            (lambda a: np.flip(a, -1)) if stored == "mirrored" else (lambda a: np.rot90(a, -1, (-2, -1)))
        )
        view = made.registration.carm.mirrored() if stored == "mirrored" else made.registration.carm.turned(1)
        run = replace(
            made.angiogram, frames=turn(made.angiogram.frames).copy(), carm=view, valid=turn(made.angiogram.valid)
        )
        masks = DsaMasks(**{field.name: turn(getattr(made.dsa_masks, field.name)) for field in fields(DsaMasks)})
        registration = replace(made.registration, carm=view)
        made = replace(made, angiogram=run, registration=registration, dsa_masks=masks)
    shown = prepareToShow(made)
    nodes, view = fill.show(shown), sliceView(480, 400)
    slice_view.showOverlay(nodes, view.node, view.composite, opacity=0.0)
    rows, columns = shown.minip.shape
    scale = min(480 / columns, 400 / rows)
    margin_x, margin_y = (480 - columns * scale) / 2, (400 - rows * scale) / 2
    x = np.clip(np.rint((np.arange(480) - margin_x + 0.5) / scale - 0.5).astype(int), 0, columns - 1)
    y = np.clip(np.rint((np.arange(400) - margin_y + 0.5) / scale - 0.5).astype(int), 0, rows - 1)
    wanted = to_grey(shown.minip, shown.window)[np.ix_(y, x)].astype(float)
    inside = (slice(int(margin_y) + 3, 397 - int(margin_y)), slice(int(margin_x) + 3, 477 - int(margin_x)))
    assert alike(view.picture()[..., 0][inside], wanted[inside]) > 0.95
    strength = shown.projection[np.ix_(y, x)][inside] / shown.projection.max()
    vessel, none = strength > 0.1, strength == 0
    before = view.picture()[inside]
    view.composite.SetForegroundOpacity(0.8)
    after = view.picture()[inside]
    redder = (after[..., 0] - after[..., 1]) > 40
    assert redder[vessel].mean() > 0.9
    assert redder[none].mean() < 0.02
    np.testing.assert_allclose(after[none & ~redder], before[none & ~redder], atol=1)


def test_display_controls_do_what_they_say(scene: Any, sliceView: Any, outcome: ShownOutcome) -> None:
    nodes, view = fill.show(outcome), sliceView(240, 200)
    slice_view.showOverlay(nodes, view.node, view.composite)
    on = outcome.projection > 0.5 * outcome.projection.max()
    vessel = np.zeros((200, 240), dtype=bool)
    vessel[2:-2, 2:-2] = on[2:-2, 2:-2]
    tinted = view.picture()[vessel].mean(axis=0)
    assert tinted[0] > tinted[1] + 50
    slice_view.setTint(nodes, False)
    white = view.picture()[vessel].mean(axis=0)
    assert abs(white[0] - white[1]) < 2
    slice_view.setTint(nodes, True)
    np.testing.assert_allclose(view.picture()[vessel].mean(axis=0), tinted)
    slice_view.setBrightness(nodes, 0.3)
    assert view.picture()[vessel].mean(axis=0)[0] < tinted[0] - 5
    slice_view.setBrightness(nodes, 1.0)
    view.composite.SetForegroundOpacity(0.0)
    for n in (0, 3):
        slice_view.showFrame(nodes, n, view.composite)
        assert view.composite.GetBackgroundVolumeID() == nodes.frame.GetID()
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.frame)[0], outcome.angiogram.frames[n])
    faint = view.picture()[vessel].mean()
    slice_view.showMinip(nodes, 0, 5, view.composite)
    assert view.picture()[vessel].mean() <= faint
    slice_view.showMinip(nodes, 0, 1, view.composite)
    early = view.picture()[vessel].mean()
    assert early > faint
    assert slice_view.minipRange(nodes) == (0, 1)
    slice_view.showMinip(nodes, 99, -5, view.composite)  # what sliders may say in between
    assert slice_view.minipRange(nodes) == (0, 5)
    slice_view.setCarmVisible(nodes, False, view.node)
    assert not nodes.frustum.GetDisplayNode().GetVisibility()
    assert not nodes.carmPoints.GetDisplayNode().GetVisibility()
    assert not view.node.GetSliceVisible()
    slice_view.setCarmVisible(nodes, True, view.node)
    assert view.node.GetSliceVisible()


def test_registration_is_read_from_the_scene(scene: Any, outcome: ShownOutcome) -> None:
    found = results.registrationOf(fill.show(outcome))
    assert isinstance(found, Registration)
    assert found.warnings == ("The table moved.",)
