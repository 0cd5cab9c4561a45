"""Real MRML of slicer-core with the stand-in for the rest of Slicer; an empty scene for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import standin

standin.installSlicer()


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty `slicer.mrmlScene`; exceptions in observers and slots fail the test."""
    standin.slotErrors.clear()
    yield standin.newScene()
    assert not standin.slotErrors
