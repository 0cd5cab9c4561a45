"""What `Testing/Robustness/identity.py` looks for, it would find."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Robustness"))

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
