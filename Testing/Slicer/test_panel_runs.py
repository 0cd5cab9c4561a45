"""Runs from the panel on real MRML: from Apply to the overlay, saved and reopened; and what happens while one runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from panels import edit, finish, isRunning, parametersOf, press, wait

standin.install()


def addRedView() -> tuple[Any, Any]:
    """Slice and composite node of the red view, as the layout manager makes them."""
    sliceNode, composite = slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()
    for node in (sliceNode, composite):
        node.SetSingletonTag("Red")
        node.SetLayoutName("Red")
    sliceNode.SetDimensions(400, 400, 1)
    return slicer.mrmlScene.AddNode(sliceNode), slicer.mrmlScene.AddNode(composite)


def test_from_apply_to_overlay(case: SimpleNamespace) -> None:
    ui, parameters = case.ui, case.p
    sliceNode, composite = addRedView()
    press(ui.applyButton)
    assert ui.applyButton.text == "Cancel"
    assert not ui.inputsCollapsibleButton.enabled
    assert finish(case) == ["Cancel", "Apply"]
    assert not ui.messageLabel.text
    assert float(ui.scoreValueLabel.text) > 0.05
    assert ui.mpeValueLabel.text == "no reference"
    assert not ui.scorePlotLabel.isHidden()
    assert ui.applyButton.enabled
    assert ui.inputsCollapsibleButton.enabled
    parameters.showRejected = True  # from the radiological pose alone it may end wrong, and say so

    from DeepIterRegSlicer.scene import results, slice_view

    nodes = results.nodesOf(parameters.result)
    assert composite.GetForegroundVolumeID() == nodes.projection.GetID()
    assert composite.GetBackgroundVolumeID() == nodes.minip.GetID()
    assert composite.GetForegroundOpacity() == parameters.opacity
    frames = nodes.frames.GetNumberOfDataNodes()
    assert ui.frameSlider.maximum == ui.minipLastSlider.maximum == ui.minipLastSlider.value == frames

    ui.opacitySlider.value = 0.3
    assert composite.GetForegroundOpacity() == pytest.approx(0.3)
    ui.minipFirstSlider.value = 5.0
    assert slice_view.minipRange(nodes) == (4, frames - 1)
    ui.minipCheckBox.click()
    ui.frameSlider.value = 3.0
    assert composite.GetBackgroundVolumeID() == nodes.frame.GetID()
    assert nodes.browser.GetSelectedItemNumber() == 2
    ui.tintCheckBox.click()
    assert nodes.projection.GetDisplayNode().GetColorNode() is nodes.plain
    window = nodes.projection.GetDisplayNode().GetWindow()
    ui.brightnessSlider.value = 2.0
    assert nodes.projection.GetDisplayNode().GetWindow() == pytest.approx(window / 2)
    assert not nodes.frustum.GetDisplayNode().GetVisibility()
    ui.show3dCheckBox.click()
    assert nodes.frustum.GetDisplayNode().GetVisibility()
    assert sliceNode.GetSliceVisible()
    ui.show3dCheckBox.click()
    assert not nodes.frustum.GetDisplayNode().GetVisibility()
    assert not sliceNode.GetSliceVisible()
    assert ui.placeCtaButton.enabled is not results.isRejected(nodes)
    ui.showChartButton.click()  # no views: nothing happens

    count = slicer.mrmlScene.GetNumberOfNodes()
    press(ui.applyButton)
    finish(case)
    assert slicer.mrmlScene.GetNumberOfNodes() == count, "a second run of the same pair fills the same nodes"

    score = ui.scoreValueLabel.text
    case.representation.exit()
    parameters.opacity = 0.9
    assert composite.GetForegroundOpacity() == pytest.approx(0.3), "left, it follows the scene no more"
    case.representation.enter()
    assert ui.opacitySlider.value == pytest.approx(0.9)
    assert ui.scoreValueLabel.text == score


def test_a_saved_scene_shows_its_result_again(segmented: SimpleNamespace, patient_folder: Path, tmp_path: Path) -> None:
    case, parameters = segmented, segmented.p
    from DeepIterRegLib.geometry.pose_files import read_pose

    parameters.reference = scenes.addTransform(read_pose(patient_folder / "truth.tfm"), "truth")
    edit(case, "sid", case.ui.sidEdit.text + "5")
    press(case.ui.applyButton)
    finish(case)
    assert case.ui.mpeValueLabel.text.endswith(" mm")
    assert "likely to be right" in case.ui.confidenceValueLabel.text
    shown = (case.ui.scoreValueLabel.text, case.ui.mpeValueLabel.text, case.ui.warningsLabel.text, case.ui.sidEdit.text)
    scenes.saveAndReopen(tmp_path)
    reopened = standin.loadModule(panels.MODULE).widgetRepresentation()
    ui = reopened.self().ui
    assert (ui.scoreValueLabel.text, ui.mpeValueLabel.text, ui.warningsLabel.text, ui.sidEdit.text) == shown
    assert ui.displayCollapsibleButton.enabled
    reopened.self().cleanup()


def test_preview_shows_what_would_be_registered(case: SimpleNamespace) -> None:
    case.ui.previewButton.click()
    assert finish(case) == ["Cancel", "Apply"]
    (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert segmentation.GetSegmentation().GetSegmentIDs() == ("Vessels", "Veins")
    vessels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "Vessels", case.p.cta)
    assert vessels.sum() > 1000
    (labels,) = slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")
    assert slicer.util.arrayFromVolume(labels).sum() > 100
    case.p.contrastHu = 150.0
    case.ui.previewButton.click()
    finish(case)
    fewer = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "Vessels", case.p.cta)
    assert 0 < fewer.sum() < vessels.sum()
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


# -- what happens while it runs ---------------------------------------------------------------------------------


class Job:
    """In place of `logic.run`: waits until it is let go or asked to stop."""

    def __init__(self) -> None:
        self.started, self.go, self.ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(
        self,
        case: Any,
        progress: Any,
        shouldStop: Callable[[], bool],
        onWarning: Callable[[str], None],
    ) -> Any:
        assert not self.started.is_set(), "one job at a time"
        try:
            self.wait(progress, shouldStop, onWarning)
        finally:
            self.ended.set()

    def wait(self, progress: Any, shouldStop: Callable[[], bool], onWarning: Callable[[str], None]) -> None:
        from DeepIterRegLib.common.errors import Cancelled, RegistrationError
        from DeepIterRegLib.registration.steps import Step, expected

        progress.expect(expected(Step.SEARCH, Step.CONFIDENCE))
        onWarning("The head moved in the run.")
        onWarning("The run shows no veins.")
        self.started.set()
        for score in (0.1, 0.3, 0.2):
            progress(Step.SEARCH, 0.5, score)
        while not self.go.wait(0.005):
            progress(Step.SEARCH, 0.5)
            if shouldStop():
                raise Cancelled
        raise RegistrationError("No pose was found.")


@pytest.fixture
def job(case: SimpleNamespace) -> Iterator[Job]:
    """The case with a job that runs until told."""
    waiting = Job()
    case.widget.logic.run = waiting
    press(case.ui.applyButton)
    assert waiting.started.wait(5)
    wait(lambda: case.ui.progressBar.value > 0, "no progress is shown")
    yield waiting
    waiting.go.set()


HEIGHT = 124 - 34 - 8 - (8 + 6)  # px between the lowest and the highest dot of the plot


def dotsOf(pixmap: Any) -> list[tuple[float, float]]:
    """Column and row of each dot of the first stage, from left to right; its name below in the same colour is left out."""
    image = pixmap.toImage()
    blue = [
        [image.pixelColor(x, y).name() == "#1f77b4" for x in range(image.width())] for y in range(image.height() - 34)
    ]
    labels, count = ndimage.label(blue)
    middles = ndimage.center_of_mass(blue, labels, range(1, count + 1))
    return sorted((float(x), float(y)) for y, x in middles)


def test_progress_is_shown_and_apply_cancels(case: SimpleNamespace, job: Job) -> None:
    assert case.ui.progressBar.value > 0
    assert case.ui.progressBar.format == "Search: %p%"
    assert not case.ui.previewButton.enabled
    (low, y0), (high, y1), (middle, y2) = dotsOf(case.ui.scorePlotLabel.pixmap)
    assert low < high < middle, "in the order in which they came"
    assert (y0 - y1, y2 - y1) == pytest.approx((2 / 3 * HEIGHT, 1 / 3 * HEIGHT), abs=1.5), "0.1, 0.3 and 0.2"
    assert case.ui.messageLabel.text == "The head moved in the run.\nThe run shows no veins."
    assert not case.ui.messageLabel.isHidden()
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    press(case.ui.applyButton)
    assert case.ui.applyButton.text == "Cancelling..."
    assert not case.ui.applyButton.enabled
    finish(case)
    assert case.ui.messageLabel.text == "Cancelled."
    assert case.ui.applyButton.text == "Apply"
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_a_real_run_cancels(case: SimpleNamespace) -> None:
    case.p.init = case.python.Init.search
    press(case.ui.applyButton)
    standin.processEvents(0.3)
    press(case.ui.applyButton)
    finish(case)
    assert case.ui.messageLabel.text == "Cancelled."
    assert case.p.result is None


def test_a_second_run_does_not_start(case: SimpleNamespace, job: Job) -> None:
    case.ui.previewButton.click()
    job.go.set()
    finish(case)
    assert case.ui.messageLabel.text == "No pose was found."
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_the_scene_is_closed(case: SimpleNamespace, job: Job) -> None:
    slicer.mrmlScene.Clear(0)
    assert job.ended.wait(5)
    standin.processEvents(0.2)
    assert not isRunning(case)
    assert case.ui.messageLabel.text == "The scene was closed; what was running has been cancelled."
    assert case.ui.applyButton.text == "Select a CTA"
    assert not standin.activeTimers()
    parametersOf(case.widget).cta = scenes.addVolume(np.zeros((4, 4, 4), np.int16))
    assert case.ui.applyButton.text == "Select a DSA", "the panel follows the scene's new parameters"


@pytest.mark.parametrize("name", ["cta", "dsa"])
def test_an_input_is_deleted(case: SimpleNamespace, job: Job, name: str) -> None:
    slicer.mrmlScene.RemoveNode(getattr(case.p, name))
    finish(case)
    assert case.ui.messageLabel.text == "The CTA or the DSA was deleted while it ran; it was cancelled."
    assert case.ui.applyButton.text == f"Select a {name.upper()}"


def test_another_module_is_shown_meanwhile(segmented: SimpleNamespace) -> None:
    case = segmented
    press(case.ui.applyButton)
    case.representation.exit()
    finish(case)
    assert slicer.util.getNodesByClass("vtkMRMLTextNode")
    case.representation.enter()
    assert case.ui.scoreValueLabel.text
    assert case.ui.displayCollapsibleButton.enabled


def test_the_run_finds_nothing(case: SimpleNamespace, job: Job) -> None:
    job.go.set()
    finish(case)
    assert case.ui.messageLabel.text == "No pose was found."
    assert not standin.messages


def test_memory_runs_out(case: SimpleNamespace) -> None:
    def run(*arguments: Any, **more: Any) -> Any:
        raise MemoryError

    case.widget.logic.run = run
    press(case.ui.applyButton)
    finish(case)
    assert "Not enough memory" in case.ui.messageLabel.text
    assert not standin.messages


def test_a_fault_of_ours_says_so_and_shows_its_traceback(case: SimpleNamespace) -> None:
    def run(*arguments: Any, **more: Any) -> Any:
        raise ZeroDivisionError("a bug")

    case.widget.logic.run = run
    press(case.ui.applyButton)
    finish(case)
    assert "inside DeepIterReg: ZeroDivisionError (test_panel_runs.py:" in case.ui.messageLabel.text
    assert "a bug" not in case.ui.messageLabel.text  # it may quote a header
    assert case.ui.applyButton.text == "Apply"
    assert "ZeroDivisionError" in standin.slotErrors.pop()
    assert not standin.slotErrors


def test_reload_takes_the_packages_too(case: SimpleNamespace, job: Job) -> None:
    kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] in case.python.PACKAGES}
    old = case.widget
    try:
        old.onReload()
        new = case.representation.self()
        assert new is not old
        assert job.ended.wait(5)
        assert not standin.activeTimers()
        assert sys.modules["DeepIterRegSlicer.logic"] is not kept["DeepIterRegSlicer.logic"]
        assert new.ui.applyButton.text == "Apply"
        assert new.ui.ctaSelector.currentNode() is case.p.cta is not None
        case.p.dsa = None  # were the old panel still looking, its controls, which are gone, would fail
        assert new.ui.applyButton.text == "Select a DSA"
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] in case.python.PACKAGES]:
            del sys.modules[name]
        sys.modules.update(kept)


def test_slicers_generic_module_test(panel: SimpleNamespace) -> None:
    """Another scene is put into the panel and taken out again, as Slicer's own test of every module does."""
    other = slicer.vtkMRMLScene()
    panel.representation.setMRMLScene(other)
    standin.processEvents()
    panel.representation.setMRMLScene(slicer.mrmlScene)
    again = panel.module.createNewWidgetRepresentation()
    assert again.self().ui.applyButton.text == "Select a CTA"
    again.self().cleanup()
    assert panel.module.contributors
    assert panel.module.acknowledgementText


def test_cleanup_leaves_nothing_behind(case: SimpleNamespace, job: Job) -> None:
    case.widget.cleanup()
    assert job.ended.wait(5)
    assert not standin.activeTimers()
    assert case.ui.applyButton.text == "Apply"
    case.p.dsa = None
    assert case.ui.applyButton.text == "Apply", "it follows the scene no more"
    slicer.mrmlScene.Clear(0)
    standin.processEvents(0.1)
