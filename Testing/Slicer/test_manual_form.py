"""Manual adjustment in the panel, on real MRML: by sliders, by the mouse, by others; undone, saved, refined."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.manual import Offset, moved
from DeepIterRegLib.results.report.images import vessel_projection
from panels import composite, finish, matrix, openManual, picture, pixels, press, sliceNode

standin.install()


@pytest.fixture
def manual(shown: SimpleNamespace) -> SimpleNamespace:
    """The section "Manual adjustment" opened and ready."""
    openManual(shown)
    return shown


def manualNode(panel: SimpleNamespace) -> Any:
    from DeepIterRegSlicer.scene import results

    return results.manualOf(panel.nodes.ctaToCarm)


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
    again = panels.opened()
    assert again.p.result is found
    assert again.ui.turnBeamSlider.value == pytest.approx(7, abs=0.01)
    assert again.ui.scoreValueLabel.text == f"{score:.3f}"
    openManual(again)
    assert float(again.ui.manualScoreValueLabel.text.split(";")[0]) == pytest.approx(score, abs=2e-3)
    again.ui.turnBeamSlider.value = 0.0
    np.testing.assert_allclose(matrix(found), outcome.registration.cta_to_carm, atol=1e-5)
    panels.close(again)


def test_nothing_is_moved_while_a_registration_runs(manual: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from DeepIterRegLib.common.errors import Cancelled
    from DeepIterRegSlicer.scene import results

    go = threading.Event()

    def run(*inputs: Any, **options: Any) -> None:
        assert go.wait(60)
        raise Cancelled

    monkeypatch.setattr(manual.widget.logic, "prepare", lambda *inputs: None)
    monkeypatch.setattr(manual.widget.logic, "run", run)
    manual.p.cta, manual.p.dsa = results.inputsOf(manual.nodes.ctaToCarm)
    press(manual.ui.applyButton)
    assert not manual.ui.manualCollapsibleButton.enabled
    assert not manual.ui.turnBeamSlider.enabled
    go.set()
    finish(manual)
    assert manual.ui.manualCollapsibleButton.enabled
    assert manual.ui.turnBeamSlider.enabled


def test_scene_is_closed_while_it_is_moved(manual: SimpleNamespace) -> None:
    manual.ui.manualDragButton.click()
    manual.ui.turnBeamSlider.value = 7.0
    slicer.mrmlScene.Clear(0)
    standin.processEvents(0.4)
    assert not standin.activeTimers()
    assert not manual.ui.manualDragButton.checked
    assert not manual.ui.turnBeamSlider.enabled
    assert manual.ui.turnBeamSlider.value == 0


def test_refining_needs_what_was_registered(manual: SimpleNamespace) -> None:
    from DeepIterRegSlicer.scene import results

    cta, _dsa = results.inputsOf(manual.nodes.ctaToCarm)
    slicer.mrmlScene.RemoveNode(cta)
    manual.ui.manualRefineButton.click()
    assert "no longer in the scene" in manual.ui.messageLabel.text


def test_refine_from_here(views: None, segmented: SimpleNamespace, patient_folder: Path) -> None:
    """A person brings the head near, the refinement does the rest: against the truth."""
    from DeepIterRegLib.geometry import mpe_mm
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegSlicer.scene import results

    panel, truth = segmented, read_pose(patient_folder / "truth.tfm")
    press(panel.ui.applyButton)
    finish(panel)
    panel.nodes = results.nodesOf(panel.p.result)
    registration = results.registrationOf(panel.nodes)
    openManual(panel)
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


def test_a_result_of_an_older_version_has_no_live_score(shown: SimpleNamespace) -> None:
    slicer.mrmlScene.RemoveNode(shown.nodes.contrast)
    shown.ui.resultSelector.setCurrentNode(None)
    shown.ui.resultSelector.setCurrentNode(shown.nodes.ctaToCarm)
    openManual(shown)
    assert "older version" in shown.ui.manualScoreValueLabel.text
    shown.ui.turnBeamSlider.value = 3.0
    assert manualNode(shown) is not None
    assert pose.rotation_angle(matrix(manualNode(shown))[:3, :3]) > 0
