"""The panel and the console have every option as it is declared: its label, its place in the parameter node, its default."""

from __future__ import annotations

import enum
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.common.options import OPTIONS, GeometryOptions
from DeepIterRegSlicer import wording
from DeepIterRegSlicer.logic import DeepIterRegLogic, RegistrationOptions, optionsOf
from DeepIterRegSlicer.panel.geometry_form import FIELDS
from DeepIterRegSlicer.parameters import DeepIterRegParameterNode

UI = Path(__file__).resolve().parents[2] / "Resources/UI/DeepIterReg.ui"
WIDGETS = {widget.get("name", ""): widget for widget in ElementTree.parse(UI).iter("widget")}
SHOWN = [option for option in OPTIONS.values() if option.panel]
# What a person chooses in Slicer in another way than by the option's name.
AT_CONSOLE = {
    "cta": "an argument of register",
    "dsa": "an argument of register",
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
    assert wording.labels()[option.name] == option.panel
    labels = [name for name, widget in WIDGETS.items() if text_of(widget, "text") == option.panel + ":"]
    assert labels, f"no label says {option.panel}:"
    if option.parameter:
        held = [name for name, widget in WIDGETS.items() if text_of(widget, "SlicerParameterName") == option.parameter]
        assert len(held) == 1
    else:  # of the C-arm: kept with the angiogram, typed in its own form
        field = next(m.name for m in fields(GeometryOptions) if m.metadata["option"].name == option.name)
        assert FIELDS[field][0] + "Edit" in WIDGETS


def test_no_other_label_is_promised() -> None:
    assert set(wording.labels()) == {option.name for option in SHOWN}


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
    held = {member.name: member.default for member in fields(RegistrationOptions)}
    name = AT_CONSOLE.get(option.name) or "".join(w.title() if n else w for n, w in enumerate(option.name.split("_")))
    if name == "an argument of register":
        return
    assert name in held
    assert (held[name] or None) == (option.default or None)


def test_what_the_panel_says_reaches_the_registration(scene: Any) -> None:
    parameters = DeepIterRegParameterNode(DeepIterRegLogic().getParameterNode())
    parameters.maskFrames, parameters.refineGeometry, parameters.betweenRuns = "1, 3", True, True
    parameters.firstFrame, parameters.lastFrame, parameters.contrastHu = 2, 9, 60.0
    options = optionsOf(parameters)
    assert options.maskFrames == (1, 3)
    assert (options.refineGeometry, options.betweenRuns) == (True, True)
    assert (options.firstFrame, options.lastFrame, options.contrastHu) == (2, 9, 60.0)


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
