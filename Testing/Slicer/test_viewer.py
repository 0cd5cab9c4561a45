"""What the panel shows of a registration, on real MRML: chosen, judged, compared, flickering, two side by side."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from DeepIterRegLib.registration.landmarks import LandmarkError
from DeepIterRegLib.registration.result import Confidence
from panels import addResult, composite, openManual, parametersOf, picture, pixels, sliceNode, untilOpacity

standin.install()

# -- what is shown -------------------------------------------------------------------------------------------


def test_a_registration_of_the_scene_is_chosen(shown: SimpleNamespace, outcome: Any) -> None:
    assert composite().GetForegroundVolumeID() == shown.nodes.projection.GetID()
    assert composite().GetBackgroundVolumeID() == shown.nodes.minip.GetID()
    assert shown.ui.scoreValueLabel.text == f"{outcome.registration.score:.3f}"
    other = addResult(replace(outcome, registration=replace(outcome.registration, score=0.25)))
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
    assert not standin.activeTimers()


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
    nodes = addResult(withConfidence(outcome, "look closely", ("Few vessels.", "They cross.")))
    ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert ui.confidenceValueLabel.text == "Look closely. 12 % likely to be right; expected error 9.4 mm"
    assert ui.reasonsLabel.text == "Few vessels.\nThey cross."
    assert ui.showRejectedCheckBox.isHidden()
    assert composite().GetForegroundVolumeID() == nodes.projection.GetID()


def test_intervals_are_said(shown: SimpleNamespace, outcome: Any) -> None:
    sure = Confidence(0.97, 0.62, "accepted", (), {}, (0.4, 0.9), (0.2, 1.61), 0.5, 1.52)
    nodes = addResult(replace(outcome, registration=replace(outcome.registration, confidence=sure)))
    shown.ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert shown.ui.confidenceValueLabel.text == (
        "Accepted. 97 % likely to be right; error 0.6 mm (0.2 to 1.6); depth within 1.5 mm"
    )


def test_panel_is_never_certain(shown: SimpleNamespace, outcome: Any) -> None:
    nodes = addResult(withConfidence(outcome, "accepted", probability=0.9999))
    shown.ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert shown.ui.confidenceValueLabel.text.startswith("Accepted. Over 99 % likely to be right")


def test_a_rejected_result_is_shown_only_on_demand(shown: SimpleNamespace, outcome: Any) -> None:
    ui, comparison = shown.ui, shown.python.Comparison
    nodes = addResult(withConfidence(outcome, "rejected", ("They cross.",)))
    ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert ui.confidenceValueLabel.text == "Rejected: do not rely on it. 12 % likely to be right"
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
    openManual(shown)
    ui.shiftRightSlider.value = 2.0
    assert composite().GetForegroundVolumeID() is not None
    assert nodes.vessels.GetDisplayNode().GetVisibility()
    assert ui.confidenceValueLabel.text.startswith("not measured")
    assert ui.reasonsLabel.isHidden()


def test_landmarks_with_their_errors(shown: SimpleNamespace, outcome: Any) -> None:
    table = shown.ui.landmarksTable
    assert table.isHidden()
    errors = (LandmarkError("carotid", 3.21, 0.96), LandmarkError("M1", 20.0, 6.0))
    nodes = addResult(replace(outcome, registration=replace(outcome.registration, landmarks=errors)))
    shown.ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert not table.isHidden()
    cells = [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]
    assert cells == [["carotid", "3.2", "1.0"], ["M1", "20.0", "6.0"]]
    shown.ui.resultSelector.setCurrentNode(shown.nodes.ctaToCarm)
    assert table.isHidden()
    assert table.rowCount == 0


# -- compared --------------------------------------------------------------------------------------------------


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
    shown.p.opacity = 0.7
    shown.p.flickerHz = 3.0
    shown.p.comparison = shown.python.Comparison.flicker
    assert [timer.interval for timer in standin.activeTimers()] == [167]
    for opacity in (0.0, 0.7, 0.0):
        untilOpacity(opacity)
    shown.p.flickerHz = 1.0
    assert [timer.interval for timer in standin.activeTimers()] == [500]
    shown.p.comparison = shown.python.Comparison.overlay
    assert not standin.activeTimers()
    assert composite().GetForegroundOpacity() == pytest.approx(0.7)


@pytest.fixture
def dark(shown: SimpleNamespace) -> SimpleNamespace:
    """Flickering, the overlay just away."""
    shown.p.comparison = shown.python.Comparison.flicker
    untilOpacity(0.0)
    return shown


def test_flicker_stops_when_the_module_is_left(dark: SimpleNamespace) -> None:
    dark.representation.exit()
    assert not standin.activeTimers()
    assert composite().GetForegroundOpacity() == pytest.approx(dark.p.opacity)
    dark.representation.enter()
    untilOpacity(0.0)


def test_flicker_stops_when_the_scene_is_closed(dark: SimpleNamespace) -> None:
    slicer.mrmlScene.Clear(0)
    assert not standin.activeTimers()
    standin.processEvents(0.3)
    assert not standin.activeTimers()
    assert parametersOf(dark.widget).comparison is dark.python.Comparison.overlay


def test_flicker_stops_when_the_module_is_reloaded(dark: SimpleNamespace) -> None:
    kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] in dark.python.PACKAGES}
    (timer,) = standin.activeTimers()
    try:
        dark.widget.onReload()
        assert not timer.active
        dark.representation.self().cleanup()
        assert not standin.activeTimers()
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] in dark.python.PACKAGES]:
            del sys.modules[name]
        sys.modules.update(kept)


# -- side by side ------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(shown: SimpleNamespace, outcome: Any) -> SimpleNamespace:
    """Two registrations beside each other."""
    shown.second = addResult(replace(outcome, projection=outcome.projection[::-1].copy()))
    shown.ui.sideBySideCheckBox.click()
    assert "right slice view" in shown.ui.compareMessageLabel.text
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
    panels.wait(lambda: sliceNode(other).GetDimensions()[:2] == (600, 800), "the layout is not drawn")
    standin.processEvents(0.1)
    logic.StartSliceNodeInteraction(node.FieldOfViewFlag | node.XYZOriginFlag)
    node.SetFieldOfView(60.0, 80.0, 1.0)
    node.SetXYZOrigin(11.0, -7.0, 0.0)
    logic.EndSliceNodeInteraction()
    assert sliceNode(other).GetFieldOfView()[:2] == pytest.approx((60.0, 80.0))
    assert sliceNode(other).GetXYZOrigin()[:2] == pytest.approx((11.0, -7.0))


def test_checkerboard_and_flicker_in_both_views(pair: SimpleNamespace) -> None:
    pair.p.comparison = pair.python.Comparison.checkerboard
    boards = [composite(v).GetForegroundVolumeID() for v in ("Red", "Yellow")]
    assert boards[0] != boards[1]
    pair.p.comparison = pair.python.Comparison.flicker
    untilOpacity(0.0, "Red", "Yellow")
    pair.p.comparison = pair.python.Comparison.overlay
    assert [composite(v).GetForegroundOpacity() for v in ("Red", "Yellow")] == pytest.approx([pair.p.opacity] * 2)


def test_side_by_side_ends_with_the_scene(pair: SimpleNamespace) -> None:
    slicer.mrmlScene.Clear(0)
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    assert not composite("Red").GetLinkedControl()


def test_the_second_registration_is_deleted(pair: SimpleNamespace) -> None:
    slicer.mrmlScene.RemoveNode(pair.second.ctaToCarm)
    assert "right slice view" in pair.ui.compareMessageLabel.text
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView


def test_without_views_it_says_so(panel: SimpleNamespace, outcome: Any) -> None:
    panel.p.result = addResult(outcome).ctaToCarm
    panel.ui.sideBySideCheckBox.click()
    assert "needs Slicer's slice views" in panel.ui.compareMessageLabel.text
    openManual(panel)
    assert not panel.ui.manualDragButton.enabled
    assert panel.ui.turnBeamSlider.enabled
    panel.p.comparison = panel.python.Comparison.flicker
    standin.processEvents(0.4)  # there is nothing to flicker, which is no fault
