"""Programs as a person starts them: our commands in this process, and a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

from typer.testing import CliRunner

from DeepIterRegLib.cli import app

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)


def run(*arguments: str | Path) -> str:
    """Run a command that must succeed, in this process; its stdout."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout
