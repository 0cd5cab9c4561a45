"""Where the repository and the data beside it lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SHARED = Path(os.environ.get("DEEPITERREG_SHARED_DATA", ROOT.parent / "shared" / "data"))


def shared(name: str) -> Path:
    """A file of real data, which is not in the repository; without it the test is skipped."""
    path = _SHARED / name
    if not path.exists():
        pytest.skip(f"real data {name} is not here; set DEEPITERREG_SHARED_DATA")
    return path
