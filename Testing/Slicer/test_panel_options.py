"""The panel and the console have every option as it is declared: its label, its place in the parameter node, its default."""

from __future__ import annotations

import enum
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import standin
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.common.options import OPTIONS, GeometryOptions
from DeepIterRegSlicer import wording
from DeepIterRegSlicer.logic import DeepIterRegLogic, RegistrationOptions, optionsOf
from DeepIterRegSlicer.option_labels import labels
from DeepIterRegSlicer.panel.geometry_form import FIELDS
from DeepIterRegSlicer.parameters import DeepIterRegParameterNode, GeometryRefinement

UI = Path(__file__).resolve().parents[2] / "Resources/UI/DeepIterReg.ui"
WIDGETS = {widget.get("name", ""): widget for widget in ElementTree.parse(UI).iter("widget")}
SHOWN = [option for option in OPTIONS.values() if option.panel]
standin.install()

# What a person chooses in Slicer by a node or by position, not by the option's name.
AT_CONSOLE = {
    "reference": "referenceTransform",
    "landmarks": "ctaLandmarks",
    "dsa_landmarks": "dsaLandmarks",
    "cta_mask": "vessels",
    "cta_vein_mask": "veins",
    "dsa_mask": "dsaMask",
}


def text_of(widget: ElementTree.Element, name: str) -> str:
    found = widget.find(f"property[@name='{name}']/string")
    return "" if found is None else found.text or ""


@pytest.mark.parametrize("option", SHOWN, ids=lambda option: option.name)
def test_panel_has_the_option_with_its_label(option: Any) -> None:
    from DeepIterRegSlicer.panel.options_form import addMissingRows

    panelFile = loaded()
    assert labels()[option.name] == option.panel
    if not any(text_of(widget, "text") == option.panel + ":" for widget in WIDGETS.values()):
        assert option.parameter in addMissingRows(panelFile[1])  # with that label
    elif option.parameter:
        held = [name for name, widget in WIDGETS.items() if text_of(widget, "SlicerParameterName") == option.parameter]
        assert len(held) == 1
    else:  # of the C-arm: kept with the angiogram, typed in its own form
        field = next(m.name for m in fields(GeometryOptions) if m.metadata["option"].name == option.name)
        assert FIELDS[field][0] + "Edit" in WIDGETS


def test_no_other_label_is_promised() -> None:
    assert set(labels()) == {option.name for option in SHOWN}


@pytest.mark.parametrize("option", [o for o in SHOWN if o.parameter], ids=lambda option: option.name)
def test_panel_starts_with_the_declared_default(option: Any, scene: Any) -> None:
    parameters = DeepIterRegParameterNode(DeepIterRegLogic().getParameterNode())
    value = getattr(parameters, option.parameter)
    value = value.value if isinstance(value, enum.Enum) else value
    if option.kind == "file" or option.default is None:
        assert value in (None, "", (option.unset or "").split(" ")[0])
    else:
        assert value == option.default
    if option.choices:
        kind = type(getattr(parameters, option.parameter))
        assert set(option.choices) <= {member.value for member in kind}


@pytest.mark.parametrize("option", [o for o in OPTIONS.values() if o.parameter], ids=lambda option: option.name)
def test_console_has_the_option(option: Any) -> None:
    if option.name not in ("cta", "dsa"):  # arguments of their own
        held = {member.name: member.default for member in fields(RegistrationOptions)}
        assert held[AT_CONSOLE.get(option.name, option.name)] == option.default


def test_what_the_panel_says_reaches_the_registration(scene: Any) -> None:
    parameters = DeepIterRegParameterNode(DeepIterRegLogic().getParameterNode())
    parameters.maskFrames, parameters.betweenRuns = "1, 3", True
    parameters.geometryRefinement = GeometryRefinement.on
    parameters.firstFrame, parameters.lastFrame, parameters.contrastHu = 2, 9, 60.0
    options = optionsOf(parameters)
    assert options.mask_frames == (1, 3)
    assert (options.refine_geometry, options.between_runs) == ("on", True)
    assert (options.first_frame, options.last_frame, options.contrast_hu) == (2, 9, 60.0)


def test_panel_words() -> None:
    cuda = Message("CUDA is asked for, but this computer has none", give=(Remedy("device", "cpu"),))
    sid = Message("No SID was found", give=("sid", "projection_matrix"))
    other = Message("The view is unknown", give=("like", "size"))
    assert wording.worded((cuda, sid, other, "Plain.")) == (
        'CUDA is asked for, but this computer has none. Set "Device" to cpu.',
        'No SID was found. Set "Source to detector".',
        "The view is unknown.",
        "Plain.",
    )


def test_an_option_without_a_widget_gets_a_row() -> None:
    """As for an option that was just declared: its widget is taken out of the panel's file here."""
    import qt

    from DeepIterRegSlicer.panel.options_form import addMissingRows

    _widget, ui = loaded()
    _other, untouched = loaded()
    usual = addMissingRows(untouched)
    for name in ("betweenRunsCheckBox", "contrastSlider", "subtractionComboBox"):
        getattr(ui, name).setProperty("SlicerParameterName", "")
    assert set(addMissingRows(ui)) == {"contrastHu", "subtraction", "betweenRuns", *usual}
    assert isinstance(ui.betweenRunsWidget, qt.QCheckBox)
    assert ui.contrastHuWidget.property("SlicerParameterName") == "contrastHu"
    assert addMissingRows(ui) == []


def loaded() -> tuple[Any, Any]:
    """The panel's file as a widget (to be held while it is looked at) and the widgets in it by name."""
    import slicer

    widget = slicer.util.loadUI(str(UI))
    return widget, slicer.util.childWidgetVariables(widget)
