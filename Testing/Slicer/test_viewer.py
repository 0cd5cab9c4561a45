"""Viewer and manual adjustment in the panel, on real MRML: what is chosen, compared, flickers, and is moved by hand."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import scenes
import standin
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.landmarks import LandmarkError
from DeepIterRegLib.registration.manual import Offset, moved
from DeepIterRegLib.registration.result import Confidence
from DeepIterRegLib.results.report.images import vessel_projection

standin.install()

MODULE = Path(__file__).parents[2] / "DeepIterReg" / "DeepIterReg.py"


@pytest.fixture(scope="module")
def outcome() -> Any:
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    return prepareToShow(scenes.helixOutcome())


def opened() -> Any:
    representation = standin.loadModule(MODULE).widgetRepresentation()
    representation.enter()
    return representation


@pytest.fixture
def panel(scene: Any) -> Iterator[SimpleNamespace]:
    """The panel, entered, with slice views."""
    standin.openViews()
    representation = opened()
    widget = representation.self()
    yield SimpleNamespace(
        representation=representation,
        widget=widget,
        ui=widget.ui,
        p=widget._parameterNode,
        python=sys.modules["DeepIterReg"],
    )
    representation.self().cleanup()
    representation.deleteLater()
    standin.processEvents()


def added(panel: SimpleNamespace, outcome: Any) -> Any:
    """A registration in the scene, as a run of the panel leaves it there."""
    from DeepIterRegSlicer.scene import fill, results

    nodes = fill.show(outcome)
    cta = scenes.addVolume(np.zeros((4, 4, 4), np.int16), name="CTA")
    dsa = scenes.addVolume(np.zeros((1, 4, 4), np.int16), name="DSA")
    results.keepInputs(nodes, (cta, dsa))
    return nodes


@pytest.fixture
def shown(panel: SimpleNamespace, outcome: Any) -> SimpleNamespace:
    """The panel with a registration, chosen by a person."""
    panel.nodes = added(panel, outcome)
    panel.ui.resultSelector.setCurrentNode(panel.nodes.ctaToCarm)
    return panel


@pytest.fixture
def manual(shown: SimpleNamespace) -> SimpleNamespace:
    """The section "Manual adjustment" opened and ready."""
    shown.ui.manualCollapsibleButton.collapsed = False
    ready(shown)
    return shown


def ready(panel: SimpleNamespace, seconds: float = 60) -> None:
    end = time.perf_counter() + seconds
    while panel.widget._manual._live is None:
        standin.processEvents(0.02)
        assert time.perf_counter() < end, panel.ui.manualScoreValueLabel.text


def composite(view: str = "Red") -> Any:
    return slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")


def sliceNode(view: str = "Red") -> Any:
    return slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")


def manualNode(panel: SimpleNamespace) -> Any:
    from DeepIterRegSlicer.scene import results

    return results.manualOf(panel.nodes.ctaToCarm)


def pixels(node: Any) -> np.ndarray:
    return np.array(slicer.util.arrayFromVolume(node)[0])


def matrix(node: Any) -> np.ndarray:
    return np.array(slicer.util.arrayFromTransformMatrix(node))


# -- what is shown -------------------------------------------------------------------------------------------


def test_a_registration_of_the_scene_is_chosen(shown: SimpleNamespace, outcome: Any) -> None:
    assert composite().GetForegroundVolumeID() == shown.nodes.projection.GetID()
    assert composite().GetBackgroundVolumeID() == shown.nodes.minip.GetID()
    assert shown.ui.scoreValueLabel.text == f"{outcome.registration.score:.3f}"
    other = added(shown, replace(outcome, registration=replace(outcome.registration, score=0.25)))
    shown.ui.resultSelector.setCurrentNode(other.ctaToCarm)
    assert composite().GetForegroundVolumeID() == other.projection.GetID()
    assert shown.ui.scoreValueLabel.text == "0.250"
    shown.ui.resultSelector.setCurrentNode(None)
    assert not shown.ui.displayCollapsibleButton.enabled
    assert not shown.ui.compareCollapsibleButton.enabled
    assert not shown.ui.manualCollapsibleButton.enabled
    assert shown.ui.scoreValueLabel.text == ""


def test_only_results_can_be_chosen(shown: SimpleNamespace) -> None:
    scenes.addTransform(np.eye(4), "table")
    assert shown.ui.resultSelector.nodeCount() == shown.ui.secondResultSelector.nodeCount() == 1


def test_the_registration_shown_is_deleted(shown: SimpleNamespace) -> None:
    shown.p.comparison = shown.python.Comparison.flicker
    slicer.mrmlScene.RemoveNode(shown.nodes.ctaToCarm)
    assert not shown.ui.displayCollapsibleButton.enabled
    assert not shown.widget._viewer._flicker.active


def test_colour_of_the_tint(shown: SimpleNamespace) -> None:
    import qt

    def brightest() -> list[float]:
        colour = [0.0] * 4
        shown.nodes.projection.GetDisplayNode().GetColorNode().GetColor(255, colour)
        return colour[:3]

    assert brightest() == pytest.approx([225 / 255, 38 / 255, 46 / 255], abs=1e-3)
    assert shown.ui.tintColourButton.color.name() == "#e1262e"
    shown.ui.tintColourButton.color = qt.QColor("#20c040")
    assert shown.p.tintColour == "#20c040"
    assert brightest() == pytest.approx([0x20 / 255, 0xC0 / 255, 0x40 / 255], abs=1e-3)
    assert shown.nodes.vessels.GetSegmentation().GetNthSegment(0).GetColor() == pytest.approx(
        tuple(brightest()), abs=1e-3
    )
    shown.p.tintColour = "#0000ff"
    assert shown.ui.tintColourButton.color.name() == "#0000ff"
    shown.ui.tintCheckBox.click()
    assert brightest() == pytest.approx([1, 1, 1])


# -- how far to trust it ---------------------------------------------------------------------------------------


def withConfidence(outcome: Any, state: Any, reasons: tuple[str, ...] = (), probability: float = 0.12) -> Any:
    confidence = Confidence(probability, 9.4, state, reasons, {"score": 0.1})
    return replace(outcome, registration=replace(outcome.registration, confidence=confidence))


def test_confidence_in_words(shown: SimpleNamespace, outcome: Any) -> None:
    ui = shown.ui
    assert "older version" in ui.confidenceValueLabel.text
    nodes = added(shown, withConfidence(outcome, "look closely", ("Few vessels.", "They cross.")))
    ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert ui.confidenceValueLabel.text == "Look closely. 12 % likely to be right; expected error 9.4 mm"
    assert ui.reasonsLabel.text == "Few vessels.\nThey cross."
    assert ui.showRejectedCheckBox.isHidden()
    assert composite().GetForegroundVolumeID() == nodes.projection.GetID()


def test_panel_is_never_certain(shown: SimpleNamespace, outcome: Any) -> None:
    nodes = added(shown, withConfidence(outcome, "accepted", probability=0.9999))
    shown.ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert shown.ui.confidenceValueLabel.text.startswith("Accepted. Over 99 % likely to be right")


def test_a_rejected_result_is_shown_only_on_demand(shown: SimpleNamespace, outcome: Any) -> None:
    ui, comparison = shown.ui, shown.python.Comparison
    nodes = added(shown, withConfidence(outcome, "rejected", ("They cross.",)))
    ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert "Rejected" in ui.confidenceValueLabel.text
    for way in comparison:
        shown.p.comparison = way
        assert composite().GetForegroundVolumeID() is None
    assert composite().GetBackgroundVolumeID() == nodes.minip.GetID()
    assert not nodes.vessels.GetDisplayNode().GetVisibility()
    shown.p.comparison = comparison.overlay
    assert not ui.showRejectedCheckBox.isHidden()
    ui.showRejectedCheckBox.click()
    assert composite().GetForegroundVolumeID() == nodes.projection.GetID()
    assert nodes.vessels.GetDisplayNode().GetVisibility()
    ui.showRejectedCheckBox.click()
    assert composite().GetForegroundVolumeID() is None
    ui.showRejectedCheckBox.click()
    ui.resultSelector.setCurrentNode(shown.nodes.ctaToCarm)
    assert composite().GetForegroundVolumeID() == shown.nodes.projection.GetID()
    ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert composite().GetForegroundVolumeID() is None, "agreed to once, not for ever"
    # What a person brings about by hand is theirs to judge.
    ui.manualCollapsibleButton.collapsed = False
    ready(shown)
    ui.shiftRightSlider.value = 2.0
    assert composite().GetForegroundVolumeID() is not None
    assert nodes.vessels.GetDisplayNode().GetVisibility()
    assert ui.confidenceValueLabel.text.startswith("not measured")
    assert ui.reasonsLabel.isHidden()


def test_landmarks_with_their_errors(shown: SimpleNamespace, outcome: Any) -> None:
    table = shown.ui.landmarksTable
    assert table.isHidden()
    errors = (LandmarkError("carotid", 3.21, 0.96), LandmarkError("M1", 20.0, 6.0))
    nodes = added(shown, replace(outcome, registration=replace(outcome.registration, landmarks=errors)))
    shown.ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert not table.isHidden()
    cells = [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]
    assert cells == [["carotid", "3.2", "1.0"], ["M1", "20.0", "6.0"]]
    shown.ui.resultSelector.setCurrentNode(shown.nodes.ctaToCarm)
    assert table.isHidden()
    assert table.rowCount == 0


# -- compared --------------------------------------------------------------------------------------------------


def picture(view: str = "Red") -> np.ndarray:
    """What the slice view's own pipeline draws: (row from above, column, RGB)."""
    from vtk.util import numpy_support

    logic = slicer.app.layoutManager().sliceWidget(view).sliceLogic()
    logic.UpdatePipeline()
    logic.GetBlend().Update()
    image = logic.GetBlend().GetOutput()
    columns, rows, _ = image.GetDimensions()
    values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return values.reshape(rows, columns, -1)[::-1, :, :3].astype(int)


def test_checkerboard(shown: SimpleNamespace) -> None:
    """The run's tiles are the run as it is without overlay; the CTA's are grey with vessels in colour."""
    shown.ui.opacitySlider.value = 0.0
    run = picture()
    shown.p.comparison = shown.python.Comparison.checkerboard
    board = slicer.mrmlScene.GetNodeByID(composite().GetForegroundVolumeID())
    assert board is not shown.nodes.projection
    assert not board.GetSaveWithScene()
    assert composite().GetForegroundOpacity() == 1
    drawn = picture()

    # 200 mm of 200 rows and 240 mm of 240 columns in 400 px: 5/3 px a mm, the upper edge at 33 px
    def tile(down: int, right: int) -> tuple[slice, slice]:
        top, left, side = 33.3 + down * 33.3, right * 33.3, 33.3
        return slice(int(top) + 3, int(top + side) - 3), slice(int(left) + 3, int(left + side) - 3)

    assert np.abs(drawn[tile(0, 0)] - run[tile(0, 0)]).max() <= 1
    assert np.abs(drawn[tile(1, 1)] - run[tile(1, 1)]).max() <= 1
    reds = [drawn[tile(d, r)] for d in range(10) for r in range(12) if (d + r) % 2]
    greys = np.concatenate([t.reshape(-1, 3) for t in reds])
    vessel = greys[:, 0] - greys[:, 1] > 40
    assert 0.02 < vessel.mean() < 0.6
    assert np.abs(greys[~vessel] - 158).max() <= 45
    assert np.median(greys[~vessel], axis=0) == pytest.approx([158, 158, 158], abs=2)
    before = pixels(board)
    shown.ui.tileSlider.value = 50.0
    assert not np.array_equal(pixels(board), before)
    shown.p.comparison = shown.python.Comparison.overlay
    assert composite().GetForegroundVolumeID() == shown.nodes.projection.GetID()
    assert composite().GetForegroundOpacity() == pytest.approx(shown.p.opacity)


def test_flicker_comes_and_goes(shown: SimpleNamespace) -> None:
    timer = shown.widget._viewer._flicker
    shown.p.opacity = 0.7
    shown.p.flickerHz = 3.0
    shown.p.comparison = shown.python.Comparison.flicker
    assert timer.interval == 167
    seen = set()
    end = time.perf_counter() + 20
    while time.perf_counter() < end and len(seen) < 2:
        standin.processEvents(0.02)
        seen.add(round(composite().GetForegroundOpacity(), 3))
    assert seen == {0.0, 0.7}
    shown.p.flickerHz = 1.0
    assert timer.interval == 500
    shown.p.comparison = shown.python.Comparison.overlay
    assert not timer.active
    assert composite().GetForegroundOpacity() == pytest.approx(0.7)


@pytest.fixture
def dark(shown: SimpleNamespace) -> SimpleNamespace:
    """Flickering, the overlay just away."""
    shown.p.comparison = shown.python.Comparison.flicker
    shown.widget._viewer._onFlicker()
    assert composite().GetForegroundOpacity() == 0
    assert shown.widget._viewer._flicker.active
    return shown


def test_flicker_stops_when_the_module_is_left(dark: SimpleNamespace) -> None:
    dark.representation.exit()
    assert not dark.widget._viewer._flicker.active
    assert composite().GetForegroundOpacity() == pytest.approx(dark.p.opacity)
    dark.representation.enter()
    assert dark.widget._viewer._flicker.active


def test_flicker_stops_when_the_scene_is_closed(dark: SimpleNamespace) -> None:
    timer = dark.widget._viewer._flicker
    slicer.mrmlScene.Clear(0)
    assert not timer.active
    standin.processEvents(0.3)
    assert not timer.active
    assert dark.widget._parameterNode.comparison is dark.python.Comparison.overlay


def test_flicker_stops_when_the_module_is_reloaded(dark: SimpleNamespace) -> None:
    kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] in dark.python.PACKAGES}
    timer = dark.widget._viewer._flicker
    try:
        dark.widget.onReload()
        assert not timer.active
        dark.representation.self().cleanup()
        assert not dark.representation.self()._viewer._flicker.active
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] in dark.python.PACKAGES]:
            del sys.modules[name]
        sys.modules.update(kept)


# -- side by side ------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(shown: SimpleNamespace, outcome: Any) -> SimpleNamespace:
    """Two registrations beside each other."""
    shown.second = added(shown, replace(outcome, projection=outcome.projection[::-1].copy()))
    shown.ui.sideBySideCheckBox.click()
    assert "right view" in shown.ui.compareMessageLabel.text
    assert not shown.ui.compareMessageLabel.isHidden()
    shown.ui.secondResultSelector.setCurrentNode(shown.second.ctaToCarm)
    standin.processEvents(0.05)
    return shown


def test_two_registrations_side_by_side(pair: SimpleNamespace) -> None:
    manager = slicer.app.layoutManager()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    assert pair.ui.compareMessageLabel.isHidden()
    assert composite("Red").GetForegroundVolumeID() == pair.nodes.projection.GetID()
    assert composite("Yellow").GetForegroundVolumeID() == pair.second.projection.GetID()
    assert composite("Yellow").GetBackgroundVolumeID() == pair.second.minip.GetID()
    assert not np.array_equal(picture("Red"), picture("Yellow"))
    # Display settings hold for both.
    pair.ui.opacitySlider.value = 0.2
    pair.ui.brightnessSlider.value = 3.0
    pair.ui.minipCheckBox.click()
    for view, nodes in (("Red", pair.nodes), ("Yellow", pair.second)):
        assert composite(view).GetForegroundOpacity() == pytest.approx(0.2)
        assert composite(view).GetBackgroundVolumeID() == nodes.frame.GetID()
    assert pair.second.projection.GetDisplayNode().GetWindow() == pytest.approx(
        pair.nodes.projection.GetDisplayNode().GetWindow()
    )
    pair.ui.sideBySideCheckBox.click()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    assert not composite("Yellow").GetLinkedControl()


@pytest.mark.parametrize(("moved_view", "other"), [("Red", "Yellow"), ("Yellow", "Red")])
def test_pan_and_zoom_are_linked(pair: SimpleNamespace, moved_view: str, other: str) -> None:
    """By Slicer's own link logic, as when a person drags in one of the views."""
    node, logic = sliceNode(moved_view), slicer.app.layoutManager().sliceWidget(moved_view).sliceLogic()
    logic.StartSliceNodeInteraction(node.FieldOfViewFlag | node.XYZOriginFlag)
    node.SetFieldOfView(80.0, 80.0, 1.0)
    node.SetXYZOrigin(11.0, -7.0, 0.0)
    logic.EndSliceNodeInteraction()
    assert sliceNode(other).GetFieldOfView()[:2] == pytest.approx((80.0, 80.0))
    assert sliceNode(other).GetXYZOrigin()[:2] == pytest.approx((11.0, -7.0))


def test_checkerboard_and_flicker_in_both_views(pair: SimpleNamespace) -> None:
    pair.p.comparison = pair.python.Comparison.checkerboard
    boards = [composite(v).GetForegroundVolumeID() for v in ("Red", "Yellow")]
    assert boards[0] != boards[1]
    pair.p.comparison = pair.python.Comparison.flicker
    pair.widget._viewer._onFlicker()
    assert [composite(v).GetForegroundOpacity() for v in ("Red", "Yellow")] == [0, 0]
    pair.p.comparison = pair.python.Comparison.overlay
    assert [composite(v).GetForegroundOpacity() for v in ("Red", "Yellow")] == pytest.approx([pair.p.opacity] * 2)


def test_side_by_side_ends_with_the_scene(pair: SimpleNamespace) -> None:
    slicer.mrmlScene.Clear(0)
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    assert not composite("Red").GetLinkedControl()


def test_the_second_registration_is_deleted(pair: SimpleNamespace) -> None:
    slicer.mrmlScene.RemoveNode(pair.second.ctaToCarm)
    assert "right view" in pair.ui.compareMessageLabel.text
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView


def test_without_views_it_says_so(scene: Any, outcome: Any) -> None:
    representation = opened()
    widget = representation.self()
    panel = SimpleNamespace(widget=widget, ui=widget.ui)
    nodes = added(panel, outcome)
    widget._parameterNode.result = nodes.ctaToCarm
    widget.ui.sideBySideCheckBox.click()
    assert "needs Slicer's slice views" in widget.ui.compareMessageLabel.text
    widget.ui.manualCollapsibleButton.collapsed = False
    ready(panel)
    assert not widget.ui.manualDragButton.enabled
    assert widget.ui.turnBeamSlider.enabled
    widget._parameterNode.comparison = sys.modules["DeepIterReg"].Comparison.flicker
    widget._viewer._onFlicker()
    widget.cleanup()
    representation.deleteLater()


# -- moved by hand ----------------------------------------------------------------------------------------------


def test_sliders_move_a_pose_of_its_own(manual: SimpleNamespace, outcome: Any) -> None:
    r = outcome.registration
    automatic = pixels(manual.nodes.projection)
    assert manualNode(manual) is None
    manual.ui.turnBeamSlider.value = 10.0
    manual.ui.shiftRightSlider.value = 6.0
    node = manualNode(manual)
    assert node.GetAttribute("DeepIterReg.Result") == "manual"
    assert node.GetName() == "ctaToCarm manual"
    expected = moved(r.cta_to_carm, r.centre_cta_mm, r.carm, Offset((0, 0, 10.0), (6.0, 0, 0)))
    np.testing.assert_allclose(matrix(node), expected, atol=1e-6)
    np.testing.assert_allclose(matrix(manual.nodes.ctaToCarm), r.cta_to_carm, atol=1e-9)
    # It is what is shown now, in the views and in 3D, and the automatic one is as it was.
    assert manual.p.result is node
    projection = slicer.mrmlScene.GetNodeByID(composite().GetForegroundVolumeID())
    assert projection is not manual.nodes.projection
    np.testing.assert_array_equal(pixels(manual.nodes.projection), automatic)
    assert manual.nodes.vessels.GetParentTransformNode() is node
    # At rest it is as sharp as a report's.
    standin.processEvents(0.5)
    sharp = vessel_projection(outcome.vessels, r.carm, expected)
    np.testing.assert_allclose(pixels(projection), sharp, atol=1e-3)
    manual.ui.resultSelector.setCurrentNode(manual.nodes.ctaToCarm)
    assert manual.ui.turnBeamSlider.value == 0
    assert manual.nodes.vessels.GetParentTransformNode() is manual.nodes.ctaToCarm
    manual.ui.resultSelector.setCurrentNode(node)
    assert manual.ui.turnBeamSlider.value == pytest.approx(10, abs=0.01)


def test_every_slider_moves_its_own_axis(manual: SimpleNamespace, outcome: Any) -> None:
    from DeepIterRegSlicer.panel.manual_form import SHIFTS, TURNS

    r = outcome.registration
    for n, name in enumerate((*TURNS, *SHIFTS)):
        getattr(manual.ui, name).value = 5.0
        values = np.zeros(6)
        values[n] = 5.0
        offset = Offset(tuple(values[:3]), tuple(values[3:]))
        np.testing.assert_allclose(
            matrix(manualNode(manual)), moved(r.cta_to_carm, r.centre_cta_mm, r.carm, offset), atol=1e-6
        )
        manual.ui.manualResetButton.click()
        assert getattr(manual.ui, name).value == pytest.approx(0)


def test_the_view_stays_where_it_was_zoomed(manual: SimpleNamespace) -> None:
    sliceNode().SetFieldOfView(50.0, 50.0, 1.0)
    manual.ui.shiftDownSlider.value = 3.0
    standin.processEvents(0.1)
    assert sliceNode().GetFieldOfView()[:2] == pytest.approx((50.0, 50.0))


def test_undo_redo_and_back_to_automatic(manual: SimpleNamespace, outcome: Any) -> None:
    ui, start = manual.ui, outcome.registration.cta_to_carm
    assert not ui.manualUndoButton.enabled
    for value in (1.0, 2.0, 3.0):  # one movement of the slider
        ui.shiftRightSlider.value = value
    standin.processEvents(0.4)
    first = matrix(manualNode(manual))
    ui.turnRightSlider.value = 4.0
    standin.processEvents(0.4)
    second = matrix(manualNode(manual))
    ui.manualUndoButton.click()
    np.testing.assert_allclose(matrix(manualNode(manual)), first)
    assert ui.turnRightSlider.value == pytest.approx(0)
    assert ui.shiftRightSlider.value == pytest.approx(3)
    ui.manualUndoButton.click()
    np.testing.assert_allclose(matrix(manualNode(manual)), start, atol=1e-9)
    assert not ui.manualUndoButton.enabled
    ui.manualRedoButton.click()
    ui.manualRedoButton.click()
    np.testing.assert_allclose(matrix(manualNode(manual)), second)
    assert not ui.manualRedoButton.enabled
    ui.manualResetButton.click()
    np.testing.assert_allclose(matrix(manualNode(manual)), start, atol=1e-9)
    ui.manualUndoButton.click()
    np.testing.assert_allclose(matrix(manualNode(manual)), second)


def test_a_manual_pose_is_not_lost_by_starting_again_from_the_automatic(manual: SimpleNamespace) -> None:
    manual.ui.shiftRightSlider.value = 8.0
    standin.processEvents(0.4)
    old = matrix(manualNode(manual))
    manual.ui.resultSelector.setCurrentNode(manual.nodes.ctaToCarm)
    manual.ui.turnBeamSlider.value = 2.0
    standin.processEvents(0.4)
    manual.ui.manualUndoButton.click()
    manual.ui.manualUndoButton.click()
    np.testing.assert_allclose(matrix(manualNode(manual)), old)


def test_whoever_moves_the_transform_is_followed(manual: SimpleNamespace, outcome: Any) -> None:
    """The Transforms module, a script, a handle in 3D."""
    manual.ui.shiftRightSlider.value = 1.0
    standin.processEvents(0.4)
    r = outcome.registration
    given = moved(r.cta_to_carm, r.centre_cta_mm, r.carm, Offset((3.0, 0, 0), (0, 0, 20.0)))
    manualNode(manual).SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(given))
    assert manual.ui.turnRightSlider.value == pytest.approx(3, abs=0.01)
    assert manual.ui.shiftBeamSlider.value == pytest.approx(20, abs=0.01)
    np.testing.assert_allclose(matrix(manualNode(manual)), given, atol=1e-9)
    standin.processEvents(0.5)
    projection = slicer.mrmlScene.GetNodeByID(composite().GetForegroundVolumeID())
    np.testing.assert_allclose(pixels(projection), vessel_projection(outcome.vessels, r.carm, given), atol=1e-3)


def test_the_score_says_whether_it_got_better(manual: SimpleNamespace, outcome: Any) -> None:
    def score() -> float:
        return float(manual.ui.manualScoreValueLabel.text.split(";")[0])

    at_truth = score()
    assert f"automatically: {outcome.registration.score:.3f}" in manual.ui.manualScoreValueLabel.text
    manual.ui.turnDownSlider.value = 6.0
    worse = score()
    assert worse < at_truth - 0.03
    manual.ui.turnDownSlider.value = 3.0
    assert worse < score() < at_truth
    assert manual.ui.scoreValueLabel.text == f"{score():.3f}"


def test_dragging_in_the_slice_view(manual: SimpleNamespace, outcome: Any) -> None:
    r = outcome.registration
    interactor = slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor()
    slicers: list[str] = []
    for name in ("LeftButtonPressEvent", "MouseMoveEvent"):
        interactor.AddObserver(name, lambda caller, event: slicers.append(event), 0.0)

    def drag(first: tuple[int, int], last: tuple[int, int], shift: int = 0, control: int = 0) -> None:
        for event, where in (
            ("LeftButtonPressEvent", first),
            ("MouseMoveEvent", last),
            ("LeftButtonReleaseEvent", last),
        ):
            interactor.SetEventInformation(*where, control, shift)
            interactor.InvokeEvent(event)

    def centre(cta_to_carm: np.ndarray) -> np.ndarray:
        return np.asarray(r.carm.project(r.centre_cta_mm[None], cta_to_carm))[0]

    drag((200, 200), (230, 180))
    assert slicers == ["LeftButtonPressEvent", "MouseMoveEvent"], "not pressed: Slicer has the mouse"
    assert manualNode(manual) is None
    slicers.clear()
    manual.ui.manualDragButton.click()
    drag((200, 200), (230, 180))
    assert not slicers
    went = centre(matrix(manualNode(manual))) - centre(r.cta_to_carm)
    assert went == pytest.approx([30 * 0.6, 20 * 0.6], abs=0.05), "240 mm in 400 px, rows downwards"
    standin.processEvents(0.4)
    manual.ui.manualUndoButton.click()
    np.testing.assert_allclose(matrix(manualNode(manual)), r.cta_to_carm, atol=1e-9)
    drag((300, 200), (300, 150), shift=1)
    assert manual.ui.turnBeamSlider.value > 5, "clockwise"
    assert manual.ui.shiftRightSlider.value == pytest.approx(0, abs=0.01)
    standin.processEvents(0.4)
    manual.ui.manualUndoButton.click()
    drag((200, 200), (220, 220), control=1)
    assert manual.ui.turnRightSlider.value > 1
    assert manual.ui.turnDownSlider.value > 1
    slicers.clear()
    manual.representation.exit()
    assert not manual.ui.manualDragButton.checked
    drag((200, 200), (230, 180))
    assert slicers == ["LeftButtonPressEvent", "MouseMoveEvent"], "left: Slicer has the mouse again"


def test_checkerboard_follows_the_hand(manual: SimpleNamespace) -> None:
    manual.ui.shiftRightSlider.value = 1.0
    manual.p.comparison = manual.python.Comparison.checkerboard
    board = slicer.mrmlScene.GetNodeByID(composite().GetForegroundVolumeID())
    before = pixels(board)
    manual.ui.shiftRightSlider.value = 15.0
    assert not np.array_equal(pixels(board), before)


def test_automatic_and_manual_side_by_side(manual: SimpleNamespace) -> None:
    manual.ui.shiftDownSlider.value = 9.0
    manual.ui.sideBySideCheckBox.click()
    manual.ui.secondResultSelector.setCurrentNode(manual.nodes.ctaToCarm)
    standin.processEvents(0.5)
    assert composite("Yellow").GetForegroundVolumeID() == manual.nodes.projection.GetID()
    left = composite("Red").GetForegroundVolumeID()
    assert left != manual.nodes.projection.GetID()
    before = picture("Yellow")
    manual.ui.shiftDownSlider.value = -9.0
    assert np.array_equal(picture("Yellow"), before)
    assert composite("Red").GetForegroundVolumeID() == left


def test_manual_pose_in_a_saved_scene(manual: SimpleNamespace, outcome: Any, tmp_path: Path) -> None:
    from DeepIterRegSlicer.scene import manual as manualNodes
    from DeepIterRegSlicer.scene import results

    manual.ui.turnBeamSlider.value = 7.0
    manual.p.comparison = manual.python.Comparison.checkerboard
    standin.processEvents(0.5)
    before, (score,) = matrix(manualNode(manual)), manualNodes.scoresOf(manualNode(manual))
    scene = scenes.saveAndReopen(tmp_path)
    standin.openViews()
    (nodes,) = results.registrationsIn(scene)
    found = results.manualOf(nodes.ctaToCarm)
    assert results.isManual(found)
    assert not results.isManual(nodes.ctaToCarm)
    np.testing.assert_allclose(matrix(found), before, atol=1e-6)
    assert manualNodes.scoresOf(found) == (score,)
    assert not [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "checkerboard" in n.GetName()]
    representation = opened()
    again = SimpleNamespace(widget=representation.self(), ui=representation.self().ui, nodes=nodes)
    assert again.widget._parameterNode.result is found
    assert again.ui.turnBeamSlider.value == pytest.approx(7, abs=0.01)
    assert again.ui.scoreValueLabel.text == f"{score:.3f}"
    again.ui.manualCollapsibleButton.collapsed = False
    ready(again)
    assert float(again.ui.manualScoreValueLabel.text.split(";")[0]) == pytest.approx(score, abs=2e-3)
    again.ui.turnBeamSlider.value = 0.0
    np.testing.assert_allclose(matrix(found), outcome.registration.cta_to_carm, atol=1e-5)
    representation.self().cleanup()
    representation.deleteLater()


def test_nothing_is_moved_while_a_registration_runs(manual: SimpleNamespace) -> None:
    manual.widget._manual.setBusy(True)
    assert not manual.ui.manualCollapsibleButton.enabled
    manual.widget._manual.setBusy(False)
    assert manual.ui.turnBeamSlider.enabled


def test_scene_is_closed_while_it_is_moved(manual: SimpleNamespace) -> None:
    manual.ui.manualDragButton.click()
    manual.ui.turnBeamSlider.value = 7.0
    form = manual.widget._manual
    slicer.mrmlScene.Clear(0)
    standin.processEvents(0.4)
    assert not any(timer.active for timer in (form._rest, form._poll, form._work))
    assert not manual.ui.manualDragButton.checked
    assert not manual.ui.turnBeamSlider.enabled
    assert manual.ui.turnBeamSlider.value == 0


def test_refining_needs_what_was_registered(manual: SimpleNamespace) -> None:
    from DeepIterRegSlicer.scene import results

    cta, _dsa = results.inputsOf(manual.nodes.ctaToCarm)
    slicer.mrmlScene.RemoveNode(cta)
    manual.ui.manualRefineButton.click()
    assert "no longer in the scene" in manual.ui.messageLabel.text


def test_refine_from_here(panel: SimpleNamespace, patient_folder: Path) -> None:
    """A person brings the head near, the refinement does the rest: against the truth."""
    from DeepIterRegLib.geometry import mpe_mm
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegSlicer.scene import results

    volume, truth = load_volume(patient_folder / "cta.nii.gz"), read_pose(patient_folder / "truth.tfm")
    panel.p.cta = scenes.addVolume(volume.voxels, volume.affine)
    panel.p.init = panel.python.Init.radiological
    standin.answers["getOpenFileName"] = str(patient_folder / "dsa.dcm")
    panel.ui.loadXaButton.click()
    panel.ui.applyButton.click()
    finish(panel)
    panel.nodes = results.nodesOf(panel.p.result)
    registration = results.registrationOf(panel.nodes)
    panel.ui.manualCollapsibleButton.collapsed = False
    ready(panel)
    assert float(panel.ui.manualScoreValueLabel.text.split(";")[0]) == pytest.approx(registration.score, abs=1.1e-3)
    # By hand to 4 mm and 3 deg beside the truth.
    near = moved(truth, registration.centre_cta_mm, registration.carm, Offset((2.0, -2.0, 1.0), (3.0, -2.0, 0.0)))
    panel.ui.shiftRightSlider.value = 0.5
    manualNode(panel).SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(near))
    off = float(mpe_mm(registration.carm, near, truth, registration.centre_cta_mm))
    panel.p.cta = None  # another case may have been chosen since
    panel.ui.manualRefineButton.click()
    assert not panel.ui.manualCollapsibleButton.enabled
    finish(panel)
    assert not panel.ui.messageLabel.text
    assert panel.p.result is panel.nodes.ctaToCarm
    again = results.registrationOf(results.nodesOf(panel.p.result))
    assert again.init.method == "file"
    error = float(mpe_mm(again.carm, again.cta_to_carm, truth, again.centre_cta_mm))
    assert error < 2.5 < off
    np.testing.assert_allclose(matrix(manualNode(panel)), near, atol=1e-9)


def finish(panel: SimpleNamespace, seconds: float = 120) -> None:
    end = time.perf_counter() + seconds
    while panel.widget._worker is not None:
        standin.processEvents(0.02)
        assert time.perf_counter() < end, "the job does not end"


def test_a_result_of_an_older_version_has_no_live_score(shown: SimpleNamespace) -> None:
    slicer.mrmlScene.RemoveNode(shown.nodes.contrast)
    shown.ui.resultSelector.setCurrentNode(None)
    shown.ui.resultSelector.setCurrentNode(shown.nodes.ctaToCarm)
    shown.ui.manualCollapsibleButton.collapsed = False
    ready(shown)
    assert "older version" in shown.ui.manualScoreValueLabel.text
    shown.ui.turnBeamSlider.value = 3.0
    assert manualNode(shown) is not None
    assert pose.rotation_angle(matrix(manualNode(shown))[:3, :3]) > 0
