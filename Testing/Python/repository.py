"""Where the repository and the data beside it lie, and the code that its pages print."""

from __future__ import annotations

import os
import re
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


def pages() -> str:
    """The README and the pages of Resources/Docs, one after the other."""
    files = [ROOT / "README.md", *sorted((ROOT / "Resources" / "Docs").glob("*.md"))]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def printed(words: str, language: str = "python") -> str:
    """The one code block of the pages that has these words in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", pages(), re.S)
    (code,) = {block for block in blocks if words in block}
    return str(code)
