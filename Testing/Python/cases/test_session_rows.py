"""What a session's page says of a run, and must not leave to its report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from DeepIterRegLib.cases.session_folder import KeptRun
from DeepIterRegLib.cases.session_rows import OF_NOBODY, row_of
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.result import Confidence, InitRecord, Registration
from DeepIterRegLib.registration.session import Motion, Placed, SessionRun

CARM = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=64, columns=64, pixel_spacing_mm=(1.0, 1.0))
SURE = Confidence(0.97, 1.0, "accepted", (), {})
FOUND = Registration(
    np.eye(4), CARM, np.zeros(3), 0.5, InitRecord("search", True, 0.5, 0.1), (), {}, (), {}, {}, confidence=SURE
)
PLACED = Placed(CARM, np.eye(4), np.eye(6))
MOVED = Motion(12.0, 3.0, 4.0, repositioned=True)


def words(run: SessionRun, *warnings: str) -> str:
    told = replace(run, registration=replace(run.registration, warnings=warnings))
    return " ".join(row_of(KeptRun("01", "hash", 0.0, told), picture=0).words)


def test_a_head_that_was_moved_is_said_as_surely_as_it_is_known() -> None:
    assert "elsewhere" not in words(SessionRun(FOUND, PLACED))
    assert "The head lies elsewhere than in the run before." in words(SessionRun(FOUND, PLACED, 2, MOVED))
    unsure = words(SessionRun(FOUND, None, 2, MOVED))
    assert "seems to lie elsewhere" in unsure
    assert "check it" in unsure


def test_a_run_that_names_nobody_is_to_be_checked() -> None:
    assert OF_NOBODY in words(SessionRun(FOUND, PLACED), OF_NOBODY)
    assert OF_NOBODY not in words(SessionRun(FOUND, PLACED), "Another warning.")
