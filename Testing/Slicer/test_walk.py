"""The walk that anyone with a Slicer can take (`DeepIterReg/Testing/walk.py`), here with the stand-in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from repository import ROOT

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import standin
from standin.application import importFile

standin.install()


@pytest.fixture
def walk(views: None, panel: SimpleNamespace, outcome: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The walk's file; its registration is one that is made already."""
    monkeypatch.setattr(panel.widget.logic, "prepare", lambda *inputs: None)
    monkeypatch.setattr(panel.widget.logic, "run", lambda *inputs, **options: outcome)
    return importFile("walk", str(ROOT / "DeepIterReg/Testing/walk.py"))


def test_every_step_does_what_it_says(
    walk: Any, patient_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert walk.walk(patient_folder, tmp_path) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert len(list(tmp_path.glob("*.png"))) == 12, "a picture of every step"


def test_a_step_that_fails_is_named(
    walk: Any,
    panel: SimpleNamespace,
    outcome: Any,
    patient_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The overlay's volumes are swapped: what a person would see is not what the panel says."""
    wrong = replace(outcome, registration=replace(outcome.registration, score=0.5))
    monkeypatch.setattr(panel.widget.logic, "run", lambda *inputs, **options: wrong)
    monkeypatch.setattr(panel.widget._viewer, "showAgain", lambda *inputs, **options: None)
    assert walk.walk(patient_folder, None) == 1
    assert "NOT SO 5/12: Axial, and the overlay again by its button" in capsys.readouterr().out
