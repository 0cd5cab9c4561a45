"""The panel from its real .ui on real MRML: every control and its parameter, what it says is missing, the C-arm's geometry."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from panels import edit, isRunning, optionsAsked, press

standin.install()


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

    monkeypatch.setattr(dependencies, "missing", lambda network=False: dependencies.requirements()[:1])
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *texts, **more: False)
    press(case.ui.applyButton)
    assert "packages are missing" in case.ui.messageLabel.text
    assert not isRunning(case)


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
    assert set(panel.p.allParameters) - bound == {"tintColour", "followRuns", "followListed"}


def nodeFor(panel: SimpleNamespace, name: str) -> Any:
    kind = panel.p.allParameters[name].kinds[0].__name__
    node = getattr(slicer, kind)()
    node.SetName(name)
    if name.lower().endswith("result"):
        node.SetAttribute("DeepIterReg.Result", "ctaToCarm")
    return slicer.mrmlScene.AddNode(node)


def test_every_control_reaches_its_parameter_and_back(panel: SimpleNamespace) -> None:
    parameters = panel.p
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
    assert tried == len(parameters.allParameters) - 3


def test_the_button_says_what_is_missing(panel: SimpleNamespace) -> None:
    parameters = panel.p
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
        panel.p.init = init
        assert ui.initialTransformSelector.isHidden() is not transform
        assert ui.networkWeightsEdit.isHidden() is (init is not Init.network)
        assert ui.ctaLandmarksBox.isHidden() is ui.dsaLandmarksBox.isHidden() is not landmarks
    points = ui.ctaLandmarksSelector.addNode()
    assert ui.ctaLandmarksPlaceWidget.currentNode() is points


def test_an_older_slicer_is_refused(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(slicer.app), "minorVersion", 10)
    representation = standin.loadModule(panels.MODULE).widgetRepresentation()
    representation.enter()
    said = [w.text for w in representation.children() if type(w).__name__ == "QLabel"]
    assert said
    assert "needs Slicer 5.12 or later; this is 5.10" in said[0]
    representation.exit()
    representation.self().cleanup()


# -- C-arm geometry ---------------------------------------------------------------------------------------


def test_geometry_says_where_it_came_from(case: SimpleNamespace) -> None:
    assert case.ui.sidSourceLabel.text == "from the file"
    assert case.ui.sidSourceLabel.toolTip == "DistanceSourceToDetector (0018,1110)"
    assert float(case.ui.sidEdit.text) > 800
    assert case.ui.principalPointSourceLabel.text == "the middle of the image"
    assert not case.ui.resetGeometryButton.enabled


def test_typed_geometry_is_kept_with_the_run_and_can_be_taken_back(
    case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = case.ui.sidEdit.text
    edit(case, "sid", "1111")
    assert case.ui.sidSourceLabel.text == f"typed; the file says {stored}"
    assert optionsAsked(case, monkeypatch).geometry.sid_mm == 1111
    edit(case, "pixelSpacing", "0.3")
    edit(case, "principalPoint", "100, 120")
    geometry = optionsAsked(case, monkeypatch).geometry
    assert (geometry.pixel_spacing_mm, geometry.principal_point_px) == ((0.3, 0.3), (100, 120))
    run = case.p.dsa
    case.p.dsa = None
    assert case.ui.sidEdit.text == ""
    case.p.dsa = run
    assert case.ui.sidEdit.text == "1111"
    case.ui.resetGeometryButton.click()
    assert case.ui.sidEdit.text == stored
    assert optionsAsked(case, monkeypatch).geometry.sid_mm is None


def test_typing_the_files_value_is_typing_nothing(case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(case, "sid", case.ui.sidEdit.text)
    assert optionsAsked(case, monkeypatch).geometry.sid_mm is None


def test_nonsense_in_the_geometry_can_be_mended_where_it_was_typed(
    case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, angle = case.ui.sidEdit.text, case.ui.primaryAngleEdit.text
    edit(case, "sid", "far")
    assert "Source to detector is 'far'" in case.ui.carmMessageLabel.text
    assert case.ui.sidEdit.enabled
    assert case.ui.sidEdit.text == "far"
    assert case.ui.primaryAngleEdit.text == angle, "the other values stay in sight"
    assert not case.ui.carmCollapsibleButton.collapsed
    edit(case, "sid", "-5")
    assert "-5 is outside" in case.ui.carmMessageLabel.text, "said at once, not only by Apply"
    press(case.ui.resetGeometryButton)
    assert case.ui.sidEdit.text == stored
    assert case.ui.carmMessageLabel.isHidden()
    assert optionsAsked(case, monkeypatch).geometry.sid_mm is None


def test_nonsense_in_the_geometry_is_a_sentence(case: SimpleNamespace) -> None:
    edit(case, "sid", "far")
    edit(case, "principalPoint", "5")
    press(case.ui.applyButton)
    assert not isRunning(case)
    assert "Source to detector is 'far'" in case.ui.messageLabel.text
    assert "two numbers" in case.ui.messageLabel.text
