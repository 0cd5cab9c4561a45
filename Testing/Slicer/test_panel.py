"""The panel from its real .ui on real MRML: every control, a run, what goes wrong while it runs, what people get wrong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import scenes
import standin

standin.install()

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "DeepIterReg" / "DeepIterReg.py"
SOURCES = [MODULE, *(ROOT / "DeepIterReg" / "DeepIterRegSlicer").rglob("*.py")]


@pytest.fixture
def panel(scene: Any) -> Iterator[SimpleNamespace]:
    """The module's panel, entered, in an empty scene without views."""
    standin.answers.clear()
    standin.messages.clear()
    module = standin.loadModule(MODULE)
    representation = module.widgetRepresentation()
    representation.enter()
    widget = representation.self()
    yield SimpleNamespace(
        module=module, representation=representation, widget=widget, ui=widget.ui, python=sys.modules["DeepIterReg"]
    )
    representation.self().cleanup()
    representation.deleteLater()
    standin.processEvents()


@pytest.fixture
def case(panel: SimpleNamespace, patient_folder: Path) -> SimpleNamespace:
    """The panel with a small patient's CTA and its run, loaded as a person does; refined from the radiological pose, the fastest way."""
    from DeepIterRegLib.images.files import load_volume

    volume = load_volume(patient_folder / "cta.nii.gz")
    parameters = panel.widget._parameterNode
    parameters.cta = scenes.addVolume(volume.voxels, volume.affine)
    parameters.init = panel.python.Init.radiological
    standin.answers["getOpenFileName"] = str(patient_folder / "dsa.dcm")
    panel.ui.loadXaButton.click()
    assert panel.ui.applyButton.text == "Apply"
    return panel


def addRedView() -> tuple[Any, Any]:
    """Slice and composite node of the red view, as the layout manager makes them."""
    sliceNode, composite = slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()
    for node in (sliceNode, composite):
        node.SetSingletonTag("Red")
        node.SetLayoutName("Red")
    sliceNode.SetDimensions(400, 400, 1)
    return slicer.mrmlScene.AddNode(sliceNode), slicer.mrmlScene.AddNode(composite)


def finish(panel: SimpleNamespace, seconds: float = 120) -> list[str]:
    """Run the event loop until the job has ended; the texts of the button on the way."""
    texts = [panel.ui.applyButton.text]
    end = time.perf_counter() + seconds
    while panel.widget._worker is not None:
        standin.processEvents(0.02)
        if panel.ui.applyButton.text != texts[-1]:
            texts.append(panel.ui.applyButton.text)
        assert time.perf_counter() < end, "the job does not end"
    return texts


class Job:
    """In place of `logic.run`: waits until it is let go or asked to stop."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()

    def __call__(
        self,
        case: Any,
        progress: Any,
        shouldStop: Callable[[], bool],
        onWarning: Callable[[str], None],
    ) -> Any:
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
    case.ui.applyButton.click()
    assert waiting.started.wait(5)
    standin.processEvents(0.15)
    yield waiting
    waiting.go.set()


# -- the panel itself -----------------------------------------------------------------------------------


def test_opens_without_main_window_and_views(panel: SimpleNamespace) -> None:
    assert slicer.util.mainWindow() is None
    assert panel.ui.applyButton.text == "Select a CTA"
    assert not panel.ui.applyButton.enabled
    assert not panel.ui.displayCollapsibleButton.enabled
    assert panel.module.title == "DeepIterReg"
    assert panel.module.categories == ["Registration"]
    assert "not a medical device" in panel.module.helpText


def test_packages_are_installed_at_first_use_and_no_is_a_sentence(
    case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from DeepIterRegSlicer import dependencies

    monkeypatch.setattr(dependencies, "missing", lambda: dependencies.requirements()[:1])
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *texts, **more: False)
    case.ui.applyButton.click()
    assert "packages are missing" in case.ui.messageLabel.text
    assert case.widget._worker is None


def test_sample_data_is_listed_once_slicer_has_started(panel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from DeepIterRegSlicer import sample_data

    called: list[bool] = []
    monkeypatch.setattr(sample_data, "register", lambda: called.append(True))
    assert not called
    panel.python.registerSampleData()
    assert called


def test_every_control_says_what_it_does(panel: SimpleNamespace) -> None:
    kinds = ("QPushButton", "QLineEdit", "QSpinBox", "QComboBox", "QCheckBox", "ctkSliderWidget", "qMRMLNodeComboBox")
    kinds += ("ctkColorPickerButton",)
    controls = [w for w in vars(panel.ui).values() if type(w).__name__ in (*kinds, "qSlicerMarkupsPlaceWidget")]
    inner = [w for w in controls if w.parent() is not None and type(w.parent()).__name__ in kinds]
    named = [w for w in controls if w not in inner and not w.name.startswith("qt_")]
    assert len(named) > 50
    assert not [w.name for w in named if len(w.toolTip) < 15]


def test_every_parameter_has_its_control(panel: SimpleNamespace) -> None:
    bound = {w.property("SlicerParameterName") for w in vars(panel.ui).values()} - {None}
    assert set(panel.widget._parameterNode.allParameters) - bound == {"tintColour"}


def nodeFor(panel: SimpleNamespace, name: str) -> Any:
    kind = panel.widget._parameterNode.allParameters[name].kinds[0].__name__
    node = getattr(slicer, kind)()
    node.SetName(name)
    if name.lower().endswith("result"):
        node.SetAttribute("DeepIterReg.Result", "ctaToCarm")
    return slicer.mrmlScene.AddNode(node)


def test_every_control_reaches_its_parameter_and_back(panel: SimpleNamespace) -> None:
    parameters = panel.widget._parameterNode
    tried = 0
    for control in list(vars(panel.ui).values()):
        name = control.property("SlicerParameterName")
        if not name:
            continue
        before = getattr(parameters, name)
        if type(control).__name__ == "qMRMLNodeComboBox":
            control.setCurrentNode(nodeFor(panel, name))
            assert getattr(parameters, name) is control.currentNode() is not None
            setattr(parameters, name, None)
            assert control.currentNode() is None
        elif type(control).__name__ == "QComboBox":
            control.currentIndex = control.count - 1
            assert getattr(parameters, name) is not before
            setattr(parameters, name, before)
            assert control.currentText == before.label()
        elif type(control).__name__ == "QCheckBox":
            control.checked = not before
            assert getattr(parameters, name) is (not before)
            setattr(parameters, name, before)
            assert control.checked is before
        elif type(control).__name__ == "QLineEdit":
            control.text = "/somewhere/else"
            assert getattr(parameters, name) == "/somewhere/else" != before
            setattr(parameters, name, before)
            assert control.text == before
        else:
            lower = control.value > control.minimum
            control.value = type(before)(control.value - 1 if lower else control.value + 1)
            assert getattr(parameters, name) == control.value != before
            setattr(parameters, name, before)
            assert control.value == before
        tried += 1
    assert tried == len(parameters.allParameters) - 1


def test_the_button_says_what_is_missing(panel: SimpleNamespace) -> None:
    parameters = panel.widget._parameterNode
    parameters.cta = scenes.addVolume(np.zeros((4, 4, 4), np.int16))
    assert panel.ui.applyButton.text == "Select a DSA"
    assert not panel.ui.applyButton.enabled
    parameters.dsa = scenes.addVolume(np.zeros((1, 8, 8), np.int16), name="DSA")
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.applyButton.enabled
    slicer.mrmlScene.RemoveNode(parameters.cta)
    assert panel.ui.applyButton.text == "Select a CTA"


def test_initialisations_show_what_they_need(panel: SimpleNamespace) -> None:
    Init, ui = panel.python.Init, panel.ui
    for init, transform, landmarks in (
        (Init.search, False, False),
        (Init.network, False, False),
        (Init.bone, False, False),
        (Init.auto, False, False),
        (Init.transform, True, False),
        (Init.landmarks, False, True),
    ):
        panel.widget._parameterNode.init = init
        assert ui.initialTransformSelector.isHidden() is not transform
        assert ui.networkWeightsEdit.isHidden() is (init not in (Init.network, Init.auto))
        assert ui.ctaLandmarksBox.isHidden() is ui.dsaLandmarksBox.isHidden() is not landmarks
    points = ui.ctaLandmarksSelector.addNode()
    assert ui.ctaLandmarksPlaceWidget.currentNode() is points


def test_an_older_slicer_is_refused(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(slicer.app), "minorVersion", 10)
    representation = standin.loadModule(MODULE).widgetRepresentation()
    representation.enter()
    said = [w.text for w in representation.children() if type(w).__name__ == "QLabel"]
    assert said
    assert "needs Slicer 5.12 or later; this is 5.10" in said[0]
    representation.exit()
    representation.self().cleanup()


# -- C-arm geometry ---------------------------------------------------------------------------------------


def test_geometry_says_where_it_came_from(case: SimpleNamespace) -> None:
    assert case.ui.sidSourceLabel.text == "DistanceSourceToDetector (0018,1110)"
    assert float(case.ui.sidEdit.text) > 800
    assert case.ui.principalPointSourceLabel.text == "the middle of the image"
    assert not case.ui.resetGeometryButton.enabled


def edit(case: SimpleNamespace, prefix: str, text: str) -> None:
    field = getattr(case.ui, prefix + "Edit")
    field.text = text
    field.editingFinished.emit()


def test_typed_geometry_is_kept_with_the_run_and_can_be_taken_back(case: SimpleNamespace) -> None:
    stored = case.ui.sidEdit.text
    edit(case, "sid", "1111")
    assert case.ui.sidSourceLabel.text == f"typed; the file says {stored}"
    assert case.widget._options().geometry.sid_mm == 1111
    edit(case, "pixelSpacing", "0.3")
    edit(case, "principalPoint", "100, 120")
    geometry = case.widget._options().geometry
    assert (geometry.pixel_spacing_mm, geometry.principal_point_px) == ((0.3, 0.3), (100, 120))
    run = case.widget._parameterNode.dsa
    case.widget._parameterNode.dsa = None
    assert case.ui.sidEdit.text == ""
    case.widget._parameterNode.dsa = run
    assert case.ui.sidEdit.text == "1111"
    case.ui.resetGeometryButton.click()
    assert case.ui.sidEdit.text == stored
    assert case.widget._options().geometry.sid_mm is None


def test_typing_the_files_value_is_typing_nothing(case: SimpleNamespace) -> None:
    edit(case, "sid", case.ui.sidEdit.text)
    assert case.widget._options().geometry.sid_mm is None


def test_nonsense_in_the_geometry_is_a_sentence(case: SimpleNamespace) -> None:
    edit(case, "sid", "far")
    edit(case, "principalPoint", "5")
    case.ui.applyButton.click()
    assert case.widget._worker is None
    assert "Source to detector is 'far'" in case.ui.messageLabel.text
    assert "two numbers" in case.ui.messageLabel.text


# -- runs -----------------------------------------------------------------------------------------------------


def test_from_apply_to_overlay(case: SimpleNamespace) -> None:
    widget, ui, parameters = case.widget, case.ui, case.widget._parameterNode
    sliceNode, composite = addRedView()
    ui.applyButton.click()
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
    ui.show3dCheckBox.click()
    assert not nodes.frustum.GetDisplayNode().GetVisibility()
    assert not sliceNode.GetSliceVisible()
    ui.placeCtaButton.click()
    assert parameters.cta.GetParentTransformNode() is nodes.ctaToCarm
    ui.showChartButton.click()  # no views: nothing happens

    count = slicer.mrmlScene.GetNumberOfNodes()
    ui.applyButton.click()
    finish(case)
    assert slicer.mrmlScene.GetNumberOfNodes() == count, "a second run of the same pair fills the same nodes"

    score = ui.scoreValueLabel.text
    widget.exit()
    assert widget._parameterNode is None
    widget.enter()
    assert ui.scoreValueLabel.text == score


def test_a_saved_scene_shows_its_result_again(case: SimpleNamespace, patient_folder: Path, tmp_path: Path) -> None:
    parameters = case.widget._parameterNode
    from DeepIterRegLib.geometry.pose_files import read_pose

    parameters.reference = scenes.addTransform(read_pose(patient_folder / "truth.tfm"), "truth")
    edit(case, "sid", case.ui.sidEdit.text + "5")
    case.ui.applyButton.click()
    finish(case)
    assert case.ui.mpeValueLabel.text.endswith(" mm")
    assert "likely to be right" in case.ui.confidenceValueLabel.text
    shown = (case.ui.scoreValueLabel.text, case.ui.mpeValueLabel.text, case.ui.warningsLabel.text, case.ui.sidEdit.text)
    scenes.saveAndReopen(tmp_path)
    reopened = standin.loadModule(MODULE).widgetRepresentation()
    ui = reopened.self().ui
    assert (ui.scoreValueLabel.text, ui.mpeValueLabel.text, ui.warningsLabel.text, ui.sidEdit.text) == shown
    assert ui.displayCollapsibleButton.enabled
    reopened.self().cleanup()


def test_preview_shows_what_would_be_registered(case: SimpleNamespace) -> None:
    case.ui.previewButton.click()
    assert finish(case) == ["Cancel", "Apply"]
    (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert segmentation.GetSegmentation().GetSegmentIDs() == ("Vessels", "Veins")
    vessels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "Vessels", case.widget._parameterNode.cta)
    assert vessels.sum() > 1000
    (labels,) = slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeNode")
    assert slicer.util.arrayFromVolume(labels).sum() > 100
    case.widget._parameterNode.contrastHu = 150.0
    case.ui.previewButton.click()
    finish(case)
    fewer = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "Vessels", case.widget._parameterNode.cta)
    assert 0 < fewer.sum() < vessels.sum()
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


# -- what happens while it runs ---------------------------------------------------------------------------------


def test_progress_is_shown_and_apply_cancels(case: SimpleNamespace, job: Job) -> None:
    assert case.ui.progressBar.value > 0
    assert case.ui.progressBar.format == "Search: %p%"
    assert not case.ui.previewButton.enabled
    assert case.widget._results.plot._stages == {"Search": [0.1, 0.3, 0.2]}
    assert not case.ui.scorePlotLabel.pixmap.isNull()
    assert case.ui.messageLabel.text == "The head moved in the run.\nThe run shows no veins."
    assert not case.ui.messageLabel.isHidden()
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    case.ui.applyButton.click()
    assert case.ui.applyButton.text == "Cancelling..."
    assert not case.ui.applyButton.enabled
    case.ui.applyButton.click()
    finish(case)
    assert case.ui.messageLabel.text == "Cancelled."
    assert case.ui.applyButton.text == "Apply"
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_a_real_run_cancels(case: SimpleNamespace) -> None:
    case.widget._parameterNode.init = case.python.Init.search
    case.ui.applyButton.click()
    standin.processEvents(0.3)
    case.ui.applyButton.click()
    finish(case)
    assert case.ui.messageLabel.text == "Cancelled."
    assert case.widget._parameterNode.result is None


def test_a_second_run_does_not_start(case: SimpleNamespace, job: Job) -> None:
    worker = case.widget._worker
    case.widget._onPreview()
    assert case.widget._worker is worker


def test_the_scene_is_closed(case: SimpleNamespace, job: Job) -> None:
    worker = case.widget._worker
    slicer.mrmlScene.Clear(0)
    assert worker.wait(5)
    standin.processEvents(0.2)
    assert case.widget._worker is None
    assert case.ui.messageLabel.text == "The scene was closed; what was running has been cancelled."
    assert case.ui.applyButton.text == "Select a CTA"
    assert case.widget._parameterNode is not None
    assert not case.widget._timer.active


@pytest.mark.parametrize("name", ["cta", "dsa"])
def test_an_input_is_deleted(case: SimpleNamespace, job: Job, name: str) -> None:
    slicer.mrmlScene.RemoveNode(getattr(case.widget._parameterNode, name))
    finish(case)
    assert case.ui.messageLabel.text == "The CTA or the DSA was deleted while it ran; it was cancelled."
    assert case.ui.applyButton.text == f"Select a {name.upper()}"


def test_another_module_is_shown_meanwhile(case: SimpleNamespace) -> None:
    case.ui.applyButton.click()
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
    case.ui.applyButton.click()
    finish(case)
    assert "Not enough memory" in case.ui.messageLabel.text
    assert not standin.messages


def test_a_fault_of_ours_says_so_and_shows_its_traceback(case: SimpleNamespace) -> None:
    def run(*arguments: Any, **more: Any) -> Any:
        raise ZeroDivisionError("a bug")

    case.widget.logic.run = run
    case.ui.applyButton.click()
    finish(case)
    assert "inside DeepIterReg: a bug" in case.ui.messageLabel.text
    assert case.ui.applyButton.text == "Apply"
    assert "ZeroDivisionError" in standin.slotErrors.pop()
    assert not standin.slotErrors


def test_reload_takes_the_packages_too(case: SimpleNamespace, job: Job) -> None:
    kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] in case.python.PACKAGES}
    worker, old = case.widget._worker, case.widget
    try:
        old.onReload()
        new = case.representation.self()
        assert new is not old
        assert worker.wait(5)
        assert not old._timer.active
        assert sys.modules["DeepIterRegSlicer.logic"] is not kept["DeepIterRegSlicer.logic"]
        assert new.ui.applyButton.text == "Apply"
        assert new._parameterNode.cta is not None
        count = len(old._VTKObservationMixin__observations) if hasattr(old, "_VTKObservationMixin__observations") else 0
        assert count == 0
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
    worker, widget = case.widget._worker, case.widget
    widget.cleanup()
    assert worker.wait(5)
    assert not widget._timer.active
    assert widget._parameterNode is None
    slicer.mrmlScene.Clear(0)
    standin.processEvents(0.1)


# -- what people get wrong ------------------------------------------------------------------------------------------


def swapped(case: SimpleNamespace) -> None:
    parameters = case.widget._parameterNode
    parameters.cta, parameters.dsa = parameters.dsa, parameters.cta


def colour(case: SimpleNamespace) -> None:
    node = scenes.addVolume(np.zeros((8, 8, 8, 3), np.uint8), className="vtkMRMLVectorVolumeNode")
    case.widget._parameterNode.cta = node


def series(case: SimpleNamespace) -> None:
    case.widget._parameterNode.cta = case.widget._parameterNode.dsa


def withoutGeometry(case: SimpleNamespace) -> None:
    case.widget._parameterNode.dsa = scenes.addVolume(np.full((1, 64, 64), 100, np.uint16), name="picture")


def emptied(case: SimpleNamespace) -> None:
    case.widget._parameterNode.cta.SetAndObserveImageData(None)


def noTransform(case: SimpleNamespace) -> None:
    case.widget._parameterNode.init = case.python.Init.transform


def noLandmarks(case: SimpleNamespace) -> None:
    case.widget._parameterNode.init = case.python.Init.landmarks


def frames(case: SimpleNamespace) -> None:
    case.widget._parameterNode.firstFrame = 9
    case.widget._parameterNode.lastFrame = 3


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (swapped, "swapped"),
        (colour, "in colour"),
        (series, "time series"),
        (withoutGeometry, "DistanceSourceToDetector"),
        (emptied, "no voxels"),
        (noTransform, "No initial transform"),
        (noLandmarks, "andmark"),
        (frames, "rame"),
    ],
)
def test_mistakes_are_sentences(case: SimpleNamespace, spoil: Callable[[SimpleNamespace], None], said: str) -> None:
    spoil(case)
    case.ui.applyButton.click()
    finish(case)
    assert said in case.ui.messageLabel.text
    assert "--" not in case.ui.messageLabel.text
    assert "Traceback" not in case.ui.messageLabel.text
    assert not case.ui.messageLabel.isHidden()
    assert case.ui.applyButton.text == "Apply"
    assert not standin.messages
    assert case.widget._parameterNode.result is None


def test_a_file_that_is_no_angiogram(panel: SimpleNamespace, tmp_path: Path) -> None:
    text = tmp_path / "notes.dcm"
    text.write_text("no image")
    standin.answers["getOpenFileName"] = str(text)
    panel.ui.loadXaButton.click()
    assert "notes.dcm" in panel.ui.messageLabel.text
    standin.answers["getOpenFileName"] = ""
    panel.ui.loadXaButton.click()  # the dialog was closed
    assert panel.widget._parameterNode.dsa is None


def test_missing_geometry_is_named_in_the_panel(case: SimpleNamespace) -> None:
    withoutGeometry(case)
    assert case.ui.sidSourceLabel.text == "missing: type it"
    assert "DistanceSourceToDetector (0018,1110)" in case.ui.carmMessageLabel.text
    for prefix, text in (
        ("primaryAngle", "0"),
        ("secondaryAngle", "0"),
        ("sid", "1000"),
        ("sod", "700"),
        ("pixelSpacing", "1.5"),
    ):
        edit(case, prefix, text)
    assert case.ui.carmMessageLabel.isHidden()
    assert case.ui.sidSourceLabel.text == "typed"


# -- the sources ------------------------------------------------------------------------------------------------------


def test_the_module_file_stays_small_and_free_of_numerics() -> None:
    text = MODULE.read_text()
    assert len(text.splitlines()) <= 500
    assert "numpy" not in text
    assert "torch" not in text


def test_loading_the_module_imports_no_third_party_package() -> None:
    """Slicer loads every module when it starts, and brings few packages: only these may be asked for then."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT / "Testing" / "Slicer")!r}]
import standin
standin.install()
before = set(sys.modules)
standin.loadModule({str(MODULE)!r})
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert found <= {
        "DeepIterReg",
        "DeepIterRegLib",
        "DeepIterRegSlicer",
        "numpy",
        "vtk",
        "vtkmodules",
        "SimpleITK",
        "slicer",
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_scoped_enum_and_no_qt_signal(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"\bqt\.\w+\.[A-Z]\w+\.[A-Z]\w+", text)
    assert not re.findall(r"\.exec\(|qt\.(Signal|Slot)\b", text)


def userTexts(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_texts_can_be_translated(path: Path) -> None:
    """No f-string inside `_()`; and what is put into a widget in words went through it."""
    tree = ast.parse(path.read_text())
    assert not [call for call in userTexts(tree) if isinstance(call.args[0], ast.JoinedStr)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            continue
        if node.targets[0].attr not in ("text", "toolTip", "format", "title") or not isinstance(
            node.value, ast.Constant
        ):
            continue
        assert " " not in str(node.value.value), f"{path.name}: {node.value.value!r} is not translatable"
