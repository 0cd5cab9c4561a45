"""What people get wrong in the panel: each is a sentence that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")


import scenes
import standin
from panels import edit, finish, press

standin.install()


def swapped(case: SimpleNamespace) -> None:
    parameters = case.p
    parameters.cta, parameters.dsa = parameters.dsa, parameters.cta


def colour(case: SimpleNamespace) -> None:
    node = scenes.addVolume(np.zeros((8, 8, 8, 3), np.uint8), className="vtkMRMLVectorVolumeNode")
    case.p.cta = node


def series(case: SimpleNamespace) -> None:
    case.p.cta = case.p.dsa


def withoutGeometry(case: SimpleNamespace) -> None:
    case.p.dsa = scenes.addVolume(np.full((1, 64, 64), 100, np.uint16), name="picture")


def emptied(case: SimpleNamespace) -> None:
    case.p.cta.SetAndObserveImageData(None)


def noTransform(case: SimpleNamespace) -> None:
    case.p.init = case.python.Init.transform


def noLandmarks(case: SimpleNamespace) -> None:
    case.p.init = case.python.Init.landmarks


def frames(case: SimpleNamespace) -> None:
    case.p.firstFrame = 9
    case.p.lastFrame = 3


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
    press(case.ui.applyButton)
    finish(case)
    assert said in case.ui.messageLabel.text
    assert "--" not in case.ui.messageLabel.text
    assert "Traceback" not in case.ui.messageLabel.text
    assert not case.ui.messageLabel.isHidden()
    assert case.ui.applyButton.text == "Apply"
    assert not standin.messages
    assert case.p.result is None


def test_a_file_that_is_no_angiogram(panel: SimpleNamespace, tmp_path: Path) -> None:
    text = tmp_path / "notes.dcm"
    text.write_text("no image")
    standin.answers["getOpenFileName"] = str(text)
    panel.ui.loadXaButton.click()
    assert "notes.dcm" in panel.ui.messageLabel.text
    standin.answers["getOpenFileName"] = ""
    panel.ui.loadXaButton.click()  # the dialog was closed
    assert panel.p.dsa is None


def test_what_hindered_one_press_is_not_said_after_the_next(
    panel: SimpleNamespace, patient_folder: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.dcm"
    text.write_text("no image")
    standin.answers["getOpenFileName"] = str(text)
    press(panel.ui.loadXaButton)
    assert panel.ui.messageLabel.text
    standin.answers["getOpenFileName"] = str(patient_folder / "dsa.dcm")
    press(panel.ui.loadXaButton)
    assert panel.p.dsa is not None
    assert not panel.ui.messageLabel.text
    assert panel.ui.messageLabel.isHidden()


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
