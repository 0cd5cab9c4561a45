"""The mouse in the slice view while it drags the head, beside Slicer's own tools; clicks that come twice."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from panels import doubleClick, matrix, openManual, press, sliceNode
from standin.views import crosshair

standin.install()


@pytest.fixture
def dragging(shown: SimpleNamespace) -> SimpleNamespace:
    """The head can be dragged, and the button for it is pressed."""
    openManual(shown)
    shown.ui.manualDragButton.click()
    shown.interactor = slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor()
    return shown


def mouse(panel: SimpleNamespace, event: str, at: tuple[int, int], shift: int = 0, control: int = 0) -> None:
    panel.interactor.SetEventInformation(*at, control, shift)
    panel.interactor.InvokeEvent(event)


def drag(panel: SimpleNamespace, *path: tuple[int, int], shift: int = 0, pause: float = 0.0) -> None:
    mouse(panel, "LeftButtonPressEvent", path[0], shift)
    for at in path[1:]:
        mouse(panel, "MouseMoveEvent", at, shift)
        standin.processEvents(pause)
    mouse(panel, "LeftButtonReleaseEvent", path[-1], shift)


def manualPose(panel: SimpleNamespace) -> Any:
    from DeepIterRegSlicer.scene import results

    node = results.manualOf(panel.nodes.ctaToCarm)
    return None if node is None else matrix(node)


def interaction() -> Any:
    return slicer.app.applicationLogic().GetInteractionNode()


def test_points_can_be_placed_while_the_head_can_be_dragged(dragging: SimpleNamespace) -> None:
    ui = dragging.ui
    assert not ui.manualDragStopButton.isHidden()
    ui.pickCollapsibleButton.collapsed = False
    ui.pickPlaceWidget.setPlaceModeEnabled(True)
    assert not ui.manualDragButton.checked, "another tool was chosen"
    assert ui.manualDragStopButton.isHidden()
    drag(dragging, (200, 200), (230, 180))
    assert ui.pickPlaceWidget.currentNode().GetNumberOfControlPoints() == 1
    assert manualPose(dragging) is None
    # Chosen again, the head has the mouse.
    ui.manualDragButton.click()
    assert interaction().GetCurrentInteractionMode() == interaction().ViewTransform
    drag(dragging, (200, 200), (230, 180))
    assert manualPose(dragging) is not None


def test_a_place_mode_that_was_on_yields_only_to_the_button(shown: SimpleNamespace) -> None:
    """Slicer's own toolbar, as for landmarks: while it is on, clicks are its."""
    points = scenes.addPoints(np.empty((0, 3)), "landmarks")
    openManual(shown)
    shown.ui.manualDragButton.click()
    shown.interactor = slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor()
    slicer.app.applicationLogic().GetSelectionNode().SetActivePlaceNodeID(points.GetID())
    interaction().SetCurrentInteractionMode(interaction().Place)
    drag(shown, (100, 100), (140, 100))
    assert points.GetNumberOfControlPoints() == 1
    assert manualPose(shown) is None


def test_windowing_takes_the_mouse_too(dragging: SimpleNamespace) -> None:
    interaction().SetCurrentInteractionMode(interaction().AdjustWindowLevel)
    assert not dragging.ui.manualDragButton.checked


def test_it_is_seen_that_the_head_can_be_dragged_and_stopped_there(dragging: SimpleNamespace) -> None:
    ui = dragging.ui
    ui.manualCollapsibleButton.collapsed = True
    assert ui.manualDragStopButton.parent() is ui.barWidget, "in sight, whatever is open"
    press(ui.manualDragStopButton)
    assert not ui.manualDragButton.checked
    assert ui.manualDragStopButton.isHidden()
    drag(dragging, (200, 200), (230, 180))
    assert manualPose(dragging) is None


def test_shift_turns_the_head_and_moves_neither_crosshair_nor_other_slices(dragging: SimpleNamespace) -> None:
    def others() -> list[Any]:
        views = [slicer.util.arrayFromVTKMatrix(sliceNode(v).GetSliceToRAS()).tolist() for v in ("Yellow", "Green")]
        return [*views, list(crosshair().GetCrosshairRAS())]

    before = others()
    mouse(dragging, "MouseMoveEvent", (290, 200), shift=1)  # on the way, before the button is down
    drag(dragging, (300, 200), (300, 180), (300, 150), shift=1)
    assert dragging.ui.turnBeamSlider.value > 5
    assert others() == before
    press(dragging.ui.manualDragStopButton)
    mouse(dragging, "MouseMoveEvent", (100, 100), shift=1)
    assert others() != before, "given back, Shift is Slicer's"


def test_one_press_is_one_step_however_long_it_rests(dragging: SimpleNamespace) -> None:
    drag(dragging, (200, 200), (210, 200), (230, 200), (250, 190), pause=0.3)
    standin.processEvents(0.25)
    first = manualPose(dragging)
    drag(dragging, (250, 190), (255, 190))
    drag(dragging, (255, 190), (260, 190))  # at once: still a press of its own
    ui = dragging.ui
    press(ui.manualUndoButton)
    press(ui.manualUndoButton)
    np.testing.assert_allclose(manualPose(dragging), first)
    press(ui.manualUndoButton)
    np.testing.assert_allclose(manualPose(dragging), matrix(dragging.nodes.ctaToCarm), atol=1e-9)
    assert not ui.manualUndoButton.enabled


def test_a_press_without_a_movement_is_no_step(dragging: SimpleNamespace) -> None:
    drag(dragging, (200, 200))
    assert not dragging.ui.manualUndoButton.enabled
    assert manualPose(dragging) is None


@pytest.fixture
def slowRun(shown: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Apply starts a run that ends when it is cancelled."""
    from DeepIterRegLib.common.errors import Cancelled
    from DeepIterRegSlicer.scene import results

    started: list[threading.Event] = []

    def run(case: Any, progress: Any, shouldStop: Any, onWarning: Any) -> None:
        started.append(threading.Event())
        while not shouldStop():
            started[-1].wait(0.005)
        raise Cancelled

    monkeypatch.setattr(shown.widget.logic, "prepare", lambda *inputs: None)
    monkeypatch.setattr(shown.widget.logic, "run", run)
    shown.p.cta, shown.p.dsa = results.inputsOf(shown.nodes.ctaToCarm)
    return started


def test_a_double_click_is_one_click(shown: SimpleNamespace, slowRun: list[Any]) -> None:
    ui = shown.ui
    doubleClick(ui.applyButton)
    assert (ui.applyButton.text, ui.messageLabel.text) == ("Cancel", "")
    doubleClick(ui.applyButton)
    panels.finish(shown)
    standin.processEvents(0.1)
    assert (ui.applyButton.text, ui.messageLabel.text) == ("Apply", "Cancelled.")
    assert len(slowRun) == 1, "nothing began anew"


def test_refining_shows_where_it_was_pressed_that_it_works(shown: SimpleNamespace, slowRun: list[Any]) -> None:
    openManual(shown)
    press(shown.ui.manualRefineButton)
    assert shown.ui.manualRefineButton.text == "Refining..."
    assert "bar below" in shown.ui.manualScoreValueLabel.text
    assert shown.ui.progressBar.parent() is shown.ui.barWidget
    press(shown.ui.applyButton)
    panels.finish(shown)
    assert shown.ui.manualRefineButton.text == "Refine from here"
    assert "found automatically" in shown.ui.manualScoreValueLabel.text
