"""Real MRML of slicer-core with the stand-in for the rest of Slicer; an empty scene for each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install .[slicer]")

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "DeepIterReg"), str(Path(__file__).parent)]

import standin  # noqa: E402

standin.installSlicer()


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty `slicer.mrmlScene`; exceptions in observers and slots fail the test."""
    standin.slotErrors.clear()
    yield standin.newScene()
    assert not standin.slotErrors
