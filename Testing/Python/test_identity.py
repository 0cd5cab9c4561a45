"""The small pass of `Testing/Robustness/identity.py`: no piece of a patient's identity gets out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Robustness"))

import identity
import identity_patient


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    patient = identity_patient.make_small(tmp_path)
    assert identity_patient.said("Modality is XA p LO MUSTE")
    assert not identity_patient.said("The report is anonymous, patient 3.")
    for path in (patient.cta, patient.dsa):
        assert {"mustergeheim", "erikaxyz", "19570813"} <= set(identity_patient.held(path))
    (tmp_path / "page.html").write_text(
        "data:;base64," + identity_patient.base64.b64encode(b"x" * 60 + b"Erikaxyz").decode()
    )
    assert identity_patient.held(tmp_path / "page.html") == ["erikaxyz"]


def test_no_identity_gets_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = identity.main(["--small", "--results", str(tmp_path)])
    assert code == 0, capsys.readouterr().out
