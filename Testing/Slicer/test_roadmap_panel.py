"""Roadmap and pick in the panel on real MRML: things look as asked, follow pose and frame, are saved; a point leads to a vessel."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer
import vtk

import panels
import scenes
import standin
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.manual import Offset, moved
from DeepIterRegLib.registration.result import Confidence
from DeepIterRegLib.results.report.images import vessel_projection
from panels import chooseAgain, composite, foreground, openManual, pixels, untilOpacity

standin.install()

BLUE = (0, 114, 255)
UP = np.array([0.0, 0.0, 25.0])


@pytest.fixture(scope="module")
def outcome() -> Any:
    """The helix seen in two views."""
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    return prepareToShow(scenes.helixOutcomeOfTwo(120, 4))


@pytest.fixture
def panel(views: None, panel: SimpleNamespace, outcome: Any) -> SimpleNamespace:
    """The panel with slice views and a registration of two views, chosen by a person."""
    from DeepIterRegSlicer.scene import fill

    panel.nodes = fill.show(outcome)
    panel.ui.resultSelector.setCurrentNode(panel.nodes.ctaToCarm)
    return panel


def addBall(centre: np.ndarray, radius: float = 12.0, name: str = "ball") -> Any:
    return scenes.addBall(centre, radius, tuple(part / 255 for part in BLUE), name)


def add(panel: SimpleNamespace, node: Any) -> None:
    panel.ui.roadmapNodeSelector.setCurrentNode(node)
    assert panel.ui.roadmapAddButton.enabled
    panel.ui.roadmapAddButton.click()


def blue(node: Any) -> np.ndarray:
    """Where a roadmap is blue, as its grey background never is."""
    picture = pixels(node).astype(int)
    return np.asarray(picture[..., 2] - picture[..., 0] > 40)


def seen(carm: Any, ctaToCarm: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Pixels whose ray meets a ball: the answer of geometry alone."""
    at = pose.transform(ctaToCarm, centre[None])[0]
    columns, rows = np.meshgrid(np.arange(carm.columns), np.arange(carm.rows))
    rays = carm.pixel_positions(np.stack([columns.ravel(), rows.ravel()], 1).astype(float)) - carm.source_mm
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    gap = np.linalg.norm(np.cross(at - carm.source_mm, rays), axis=1)
    return np.asarray(gap < radius).reshape(carm.rows, carm.columns)


def shareAlike(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def pictures(panel: SimpleNamespace) -> list[Any]:
    return [panel.nodes.ctaToCarm.GetNodeReference(f"DeepIterReg.roadmap{n}") for n in ("", "2")]


def test_an_item_is_shown_at_once_on_every_detector(panel: SimpleNamespace, outcome: Any) -> None:
    ui, r = panel.ui, outcome.registration
    assert foreground() is panel.nodes.projection
    assert not ui.roadmapRemoveButton.enabled
    assert not ui.roadmapAddButton.enabled
    centre = r.centre_cta_mm + np.array([10.0, -5.0, 8.0])
    add(panel, addBall(centre))
    assert foreground() is pictures(panel)[0], "the roadmap takes the place of the CTA's vessels"
    assert composite().GetForegroundOpacity() == 1.0
    for picture, view in zip(pictures(panel), r.views, strict=True):
        assert shareAlike(blue(picture), seen(view.carm, r.cta_to_carm, centre, 12.0)) > 0.9, view.name
    assert ui.roadmapList.count == 1
    ui.viewComboBox.currentIndex = 1
    assert foreground() is pictures(panel)[1]
    ui.roadmapCheckBox.click()
    assert foreground().GetAttribute("DeepIterReg.View") == "2"
    assert composite().GetForegroundOpacity() == pytest.approx(panel.p.opacity)
    ui.roadmapCheckBox.click()
    count = slicer.mrmlScene.GetNumberOfNodes()
    ui.roadmapRemoveButton.click()
    assert ui.roadmapList.count == 0
    assert pictures(panel) == [None, None]
    assert slicer.mrmlScene.GetNumberOfNodes() == count - 4, "two pictures with their display nodes"
    assert foreground().GetAttribute("DeepIterReg.View") == "2"


def test_look_of_an_item(panel: SimpleNamespace, outcome: Any) -> None:
    import qt

    ui = panel.ui
    add(panel, addBall(outcome.registration.centre_cta_mm))
    assert ui.roadmapColourButton.color.name() == "#0072ff", "the scene's colour"
    picture = pictures(panel)[0]
    filled = blue(picture)
    ui.roadmapOutlineCheckBox.click()
    edge = blue(picture)
    assert 0 < edge.sum() < 0.5 * filled.sum()
    assert not (edge & ~filled).any()
    ui.roadmapOutlineCheckBox.click()
    ui.roadmapOpacitySlider.value = 1.0
    assert (pixels(picture)[filled] == BLUE).all()
    ui.roadmapShadedCheckBox.click()
    shaded = pixels(picture)[filled]
    assert shaded[:, 2].min() < 0.8 * shaded[:, 2].max()
    ui.roadmapShadedCheckBox.click()
    ui.roadmapColourButton.color = qt.QColor("#00ff00")
    assert (pixels(picture)[filled] == (0, 255, 0)).all()
    ui.roadmapOpacitySlider.value = 0.0
    assert (np.ptp(pixels(picture), axis=-1) == 0).all(), "grey alone"


def test_segments_labels_and_markups_are_items_of_their_own(panel: SimpleNamespace, outcome: Any) -> None:
    ui, centre = panel.ui, outcome.registration.centre_cta_mm
    mask = np.zeros((12, 12, 12), bool)
    mask[3:9, 3:9, 3:9] = True
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = centre - 12
    both = scenes.addSegmentation({"clot": mask, "penumbra": ~mask}, affine, "CTP")
    add(panel, both)
    labels = scenes.addVolume(mask * np.uint8(2) + np.uint8(1), affine, "labels", "vtkMRMLLabelMapVolumeNode")
    add(panel, labels)
    add(panel, scenes.addPoints(centre + np.array([[0, 0, 0], [20, 0, 0]]), "marks"))
    names = [ui.roadmapList.item(n).text() for n in range(ui.roadmapList.count)]
    assert names == ["CTP: clot", "CTP: penumbra", "labels: 1", "labels: 3", "marks"]
    assert ui.roadmapList.currentRow == 4, "what was added last is chosen"
    add(panel, both)
    assert ui.roadmapList.count == 5, "once only"
    add(panel, panel.nodes.vessels)
    assert ui.roadmapShadedCheckBox.checked, "the registered vessels are shaded"
    ui.roadmapList.currentRow = 0
    assert not ui.roadmapShadedCheckBox.checked
    slicer.mrmlScene.RemoveNode(labels)
    assert ui.roadmapList.count == 4
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing")
    add(panel, empty)
    assert "nothing has no segments" in ui.roadmapMessageLabel.text
    assert not ui.roadmapMessageLabel.isHidden()
    assert ui.roadmapList.count == 4


def test_the_roadmap_follows_frame_pose_and_node(panel: SimpleNamespace, outcome: Any) -> None:
    from DeepIterRegSlicer.scene import fill

    r, centre = outcome.registration, outcome.registration.centre_cta_mm
    ball = addBall(centre)
    add(panel, ball)
    minip = pixels(foreground())
    panel.p.minip, panel.p.frame = False, 1.0
    frame = pixels(foreground())
    assert not np.array_equal(frame, minip)
    panel.p.frame = 2.0
    assert not np.array_equal(pixels(foreground()), frame)
    panel.p.minip = True
    np.testing.assert_array_equal(pixels(foreground()), minip)
    panel.nodes.browser.SetSelectedItemNumber(0)
    # Its node is edited.
    source = vtk.vtkSphereSource()
    source.SetCenter(*(centre + UP))
    source.SetRadius(12)
    source.SetThetaResolution(40)
    source.SetPhiResolution(40)
    source.Update()
    ball.SetAndObservePolyData(source.GetOutput())
    standin.processEvents(0.2)
    expected = seen(r.carm, r.cta_to_carm, centre + UP, 12.0)
    assert shareAlike(blue(foreground()), expected) > 0.9
    # The pose is moved: the CTA's vessels follow at once, the roadmap when it rests, in both views.
    manual = fill.addManual(panel.nodes.ctaToCarm)
    panel.ui.resultSelector.setCurrentNode(manual)
    assert foreground().GetClassName() == "vtkMRMLVectorVolumeNode"
    given = moved(r.cta_to_carm, r.centre_cta_mm, r.carm, Offset((0, 0, 15.0), (12.0, 0, 0)))
    manual.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(given))
    assert foreground() is manual.GetNodeReference("DeepIterReg.projection")
    standin.processEvents(0.5)
    for name, view in zip(("", "2"), r.views, strict=True):
        picture = manual.GetNodeReference(f"DeepIterReg.roadmap{name}")
        assert shareAlike(blue(picture), seen(view.carm, given, centre + UP, 12.0)) > 0.9
    assert shareAlike(blue(pictures(panel)[0]), expected) > 0.9, "the automatic pose's picture stays"


def test_flicker_and_checkerboard_with_a_roadmap(panel: SimpleNamespace, outcome: Any) -> None:
    Comparison = panel.python.Comparison
    add(panel, addBall(outcome.registration.centre_cta_mm))
    panel.p.comparison = Comparison.checkerboard
    assert "checkerboard" in foreground().GetName()
    panel.p.comparison = Comparison.flicker
    assert foreground() is pictures(panel)[0]
    untilOpacity(0.0)
    untilOpacity(1.0)


def test_a_rejected_result_shows_no_roadmap(panel: SimpleNamespace, outcome: Any) -> None:
    confidence = Confidence(0.1, 9.0, "rejected", ("They cross.",), {})
    text = json.dumps(replace(outcome.registration, confidence=confidence).to_json_dict())
    panel.nodes.registration.SetText(text)
    panel.p.opacity = 0.3
    add(panel, addBall(outcome.registration.centre_cta_mm))
    assert foreground() is None
    panel.ui.pickCollapsibleButton.collapsed = False
    place(panel, outcome.registration.carm.pixel_positions(np.array([[60.0, 60.0]]))[0])
    assert "rejected" in panel.ui.pickResultValueLabel.text
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsLineNode")
    panel.p.showRejected = True
    assert foreground() is pictures(panel)[0]
    assert "mm from the ray" in panel.ui.pickResultValueLabel.text


def test_roadmap_in_a_saved_scene(panel: SimpleNamespace, outcome: Any, tmp_path: Path) -> None:
    from DeepIterRegSlicer.scene import results, roadmap

    ball = addBall(outcome.registration.centre_cta_mm)
    add(panel, ball)
    add(panel, panel.nodes.vessels)
    panel.ui.roadmapOpacitySlider.value = 0.25
    panel.ui.roadmapList.currentRow = 0
    panel.ui.roadmapOutlineCheckBox.click()
    styles = [item.style for item in roadmap.itemsOf(panel.nodes)]
    before = [pixels(picture) for picture in pictures(panel)]
    scene = scenes.saveAndReopen(tmp_path)
    standin.openViews()
    again = panels.opened()
    (nodes,) = results.registrationsIn(scene)
    items = roadmap.itemsOf(nodes)
    assert [item.style for item in items] == styles
    assert [item.name for item in items] == ["ball", "CTA vessels: Vessels"]
    assert again.ui.roadmapList.count == 2
    chooseAgain(again)
    assert foreground() is nodes.ctaToCarm.GetNodeReference("DeepIterReg.roadmap")
    assert np.abs(pixels(foreground()).astype(int) - before[0]).mean() < 0.5
    np.testing.assert_array_equal(pixels(nodes.ctaToCarm.GetNodeReference("DeepIterReg.roadmap2")), before[1])
    again.ui.roadmapList.currentRow = 0
    assert again.ui.roadmapOutlineCheckBox.checked
    panels.close(again)


def test_nothing_is_followed_once_the_panel_is_left(panel: SimpleNamespace, outcome: Any) -> None:
    ball = addBall(outcome.registration.centre_cta_mm)
    add(panel, ball)
    panel.ui.pickCollapsibleButton.collapsed = False
    before = pixels(pictures(panel)[0])
    panel.representation.exit()
    ball.SetAndObservePolyData(vtk.vtkPolyData())
    panel.nodes.ctaToCarm.SetMatrixTransformToParent(vtk.vtkMatrix4x4())
    standin.processEvents(0.4)
    np.testing.assert_array_equal(pixels(pictures(panel)[0]), before)
    panel.representation.enter()
    slicer.mrmlScene.Clear(0)
    standin.processEvents(0.4)
    assert panel.ui.roadmapList.count == 0
    assert not panel.ui.roadmapCollapsibleButton.enabled
    assert not panel.ui.pickCollapsibleButton.enabled


# -- pick ---------------------------------------------------------------------------------------------------


def place(panel: SimpleNamespace, position: np.ndarray) -> Any:
    """A click in place mode: the point is there when it is defined."""
    node = panel.ui.pickPlaceWidget.currentNode()
    node.AddControlPoint(vtk.vtkVector3d(*position))
    standin.processEvents(0.05)
    return node


def ends(node: Any) -> np.ndarray:
    return np.array([node.GetNthControlPointPositionWorld(n) for n in range(node.GetNumberOfControlPoints())])


def test_a_click_in_the_slice_view_leads_to_the_vessel(panel: SimpleNamespace, outcome: Any) -> None:
    """Where a person clicks in the view, on the brightest pixel, the ray passes through the vessel that is seen there."""
    ui, r = panel.ui, outcome.registration
    ui.pickCollapsibleButton.collapsed = False
    assert ui.pickPlaceWidget.currentNode() is not None
    assert ui.pickPlaceWidget.placeMultipleMarkups == slicer.qSlicerMarkupsPlaceWidget.ForcePlaceSingleMarkup
    for index, view in enumerate(r.views):
        ui.viewComboBox.currentIndex = index
        standin.processEvents(0.05)
        image = vessel_projection(outcome.vessels, view.carm, r.cta_to_carm)
        row, column = np.unravel_index(np.argmax(image), image.shape)
        at = view.carm.pixel_positions(np.array([[column, row]], dtype=float))[0]
        sliceNode = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(sliceNode.GetXYToRAS(), inverse)
        x, y = (round(v) for v in inverse.MultiplyPoint((*at, 1.0))[:2])  # a click has whole pixels of the view
        clicked = np.array(sliceNode.GetXYToRAS().MultiplyPoint((x, y, 0, 1))[:3])
        point = place(panel, clicked)
        assert point.GetNumberOfControlPoints() == 1, "a new place replaces the one before"
        (line,) = slicer.util.getNodesByClass("vtkMRMLMarkupsLineNode")
        np.testing.assert_allclose(ends(line), [view.carm.source_mm, clicked], atol=0.01)
        text = ui.pickResultValueLabel.text
        distance = float(text.split(" mm from the ray")[0])
        assert distance <= 1.0, "a voxel is 1 mm"
        assert view.name in text
        (vessel,) = [n for n in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") if "vessel" in n.GetName()]
        found = ends(vessel)[0]
        gap = np.linalg.norm(np.cross(found - line_start(line), unit(line)))
        assert gap == pytest.approx(distance, abs=0.051)
        inCta = pose.transform(np.linalg.inv(r.cta_to_carm), found[None])[0]
        said = [float(v) for v in text.split("CTA at ")[1].split(" mm")[0].split(", ")]
        assert said == pytest.approx(inCta, abs=0.051)
        vessels = outcome.vessels.to_ras(outcome.vessels.set_voxels)
        assert np.linalg.norm(vessels - inCta, axis=1).min() < 1.0
        assert vessel.GetNthControlPointLabel(0).startswith(f"{distance:.1f} mm from the ray")
        assert f"{np.linalg.norm(found - line_start(line)):.0f} mm from the source" in text


def line_start(line: Any) -> np.ndarray:
    return ends(line)[0]


def unit(line: Any) -> np.ndarray:
    along = ends(line)[1] - ends(line)[0]
    return np.asarray(along / np.linalg.norm(along))


def test_the_point_is_dragged_deleted_and_put_elsewhere(panel: SimpleNamespace, outcome: Any) -> None:
    ui, carm = panel.ui, outcome.registration.carm
    ui.pickCollapsibleButton.collapsed = False
    assert "click on the DSA" in ui.pickResultValueLabel.text
    point = place(panel, carm.pixel_positions(np.array([[60.0, 50.0]]))[0])
    (line,) = slicer.util.getNodesByClass("vtkMRMLMarkupsLineNode")
    for column in (62.0, 70.0):
        to = carm.pixel_positions(np.array([[column, 40.0]]))[0]
        point.SetNthControlPointPositionWorld(0, *to)
        np.testing.assert_allclose(ends(line)[1], to, atol=1e-3)
    assert "Column 70, row 40" in ui.pickResultValueLabel.text
    point.SetNthControlPointPositionWorld(0, 0.0, 0.0, 0.0)
    assert "does not lie on the DSA" in ui.pickResultValueLabel.text
    assert line.GetNumberOfControlPoints() == 0
    point.SetNthControlPointPositionWorld(0, *to)
    assert line.GetNumberOfControlPoints() == 2
    point.RemoveAllControlPoints()
    assert line.GetNumberOfControlPoints() == 0
    assert "click on the DSA" in ui.pickResultValueLabel.text
    ui.pickPlaceWidget.setPlaceModeEnabled(True)
    ui.pickCollapsibleButton.collapsed = True
    assert not ui.pickPlaceWidget.placeModeEnabled


def test_other_vessels_and_another_pose(panel: SimpleNamespace, outcome: Any) -> None:
    ui, r = panel.ui, outcome.registration
    ui.pickCollapsibleButton.collapsed = False
    aside = r.centre_cta_mm + np.array([0.0, 0.0, 20.0])
    ball = addBall(aside, 1.0)
    column, row = r.carm.project(aside[None], r.cta_to_carm)[0]
    place(panel, r.carm.pixel_positions(np.array([[column, row]]))[0])
    ui.pickVesselsSelector.setCurrentNode(ball)
    assert float(ui.pickResultValueLabel.text.split(" mm")[0]) < 0.2, "its middle was clicked on"
    shifted = moved(r.cta_to_carm, r.centre_cta_mm, r.carm, Offset((0, 0, 0), (10.0, 0, 0)))
    panel.nodes.ctaToCarm.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shifted))
    assert float(ui.pickResultValueLabel.text.split(" mm")[0]) == pytest.approx(9.0, abs=0.3), "10 mm less its radius"
    ball.SetAndObservePolyData(vtk.vtkPolyData())
    assert "neither a surface nor lines" in ui.pickResultValueLabel.text
    ui.pickVesselsSelector.setCurrentNode(None)
    assert "mm from the ray" in ui.pickResultValueLabel.text


# -- a manual pose in two views ---------------------------------------------------------------------------------


def test_a_manual_pose_moves_in_both_views(panel: SimpleNamespace, outcome: Any, tmp_path: Path) -> None:
    from DeepIterRegSlicer.scene import manual, results

    ui, r = panel.ui, outcome.registration
    openManual(panel)
    ui.viewComboBox.currentIndex = 1
    ui.shiftRightSlider.value = 8.0
    node = results.manualOf(panel.nodes.ctaToCarm)
    expected = moved(r.cta_to_carm, r.centre_cta_mm, r.views[1].carm, Offset((0, 0, 0), (8.0, 0, 0)))
    np.testing.assert_allclose(slicer.util.arrayFromTransformMatrix(node), expected, atol=1e-6)
    assert panel.p.result is node
    assert ui.viewComboBox.enabled
    views = results.viewsOf(results.nodesOf(node))
    assert foreground() is views[1].projection
    standin.processEvents(0.8)
    automatic = results.viewsOf(panel.nodes)
    for shown, before, record in zip(views, automatic, r.views, strict=True):
        assert shown.projection is not before.projection
        np.testing.assert_allclose(
            pixels(shown.projection), vessel_projection(outcome.vessels, record.carm, expected), atol=1e-3
        )
        drawn = vessel_projection(outcome.vessels, record.carm, r.cta_to_carm)
        np.testing.assert_allclose(pixels(before.projection), drawn, atol=1e-3)
    # The same movement, in the words of the other view.
    ui.viewComboBox.currentIndex = 0
    assert foreground() is views[0].projection
    assert ui.shiftRightSlider.value != pytest.approx(8.0, abs=0.1)
    lines = ui.manualScoreValueLabel.text.split("\n")
    assert [line.split(":")[0] for line in lines] == [view.name for view in r.views]
    scores = manual.scoresOf(node)
    assert ui.scoreValueLabel.text.split("\n") == [f"{v.name}: {s:.3f}" for v, s in zip(r.views, scores, strict=True)]
    ui.manualResetButton.click()
    at = manual.scoresOf(node)
    assert all(now > then for now, then in zip(at, scores, strict=True)), "back at the truth both are better"
    scene = scenes.saveAndReopen(tmp_path)
    (found,) = results.registrationsIn(scene)
    again = results.manualOf(found.ctaToCarm)
    assert len(results.viewsOf(results.nodesOf(again))) == 2
