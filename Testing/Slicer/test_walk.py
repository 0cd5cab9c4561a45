"""The walk that anyone with a Slicer can take (`DeepIterReg/Testing/walk.py`), here with the stand-in."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from repository import ROOT

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import standin
from DeepIterRegLib.cases.following import Told
from DeepIterRegLib.results.session_page.page import RunRow, SessionState
from standin.application import importFile

standin.install()


@pytest.fixture
def walk(views: None, panel: SimpleNamespace, outcome: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The walk's file; its registration is one that is made already."""
    monkeypatch.setattr(panel.widget.logic, "prepare", lambda *inputs: None)
    monkeypatch.setattr(panel.widget.logic, "run", lambda *inputs, **options: outcome)
    monkeypatch.setattr("DeepIterRegSlicer.following.follow", partial(followed, outcome))
    return importFile("walk", str(ROOT / "DeepIterReg/Testing/walk.py"))


def followed(outcome: Any, job: Any, out: Path, progress: Any, tell: Any, should_stop: Any, **more: Any) -> None:
    """In place of a session: the first run that arrives is registered already."""
    rows = [RunRow("01", "AP, LAO 1.0°, CRA 2.0°", "accepted")]
    while not should_stop():
        time.sleep(0.01)
        if rows and list(job.incoming.iterdir()):
            more["on_state"](SessionState("Waiting for runs.", tuple(rows)))
            tell(Told(rows.pop(), None, outcome))


def test_every_step_does_what_it_says(
    walk: Any, patient_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert walk.walk(patient_folder, tmp_path) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13
    assert len(list(tmp_path.glob("*.png"))) == 13, "a picture of every step"


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
    assert "NOT SO 5/13: Axial, and the overlay again by its button" in capsys.readouterr().out
