"""Programs as a person starts them: our commands in this process, and a browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from DeepIterRegLib.cli import app

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)


def run(*arguments: str | Path) -> str:
    """Run a command that must succeed, in this process; its stdout."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


# What a script of a test tells.
_TELL = """
<script>
const tellTest = (text) => {
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = text;
  document.body.append(out);
};
</script>"""


def probed(page: Path, probe: str, folder: Path) -> str:
    """What a script added to a page gives to `tellTest`, as a real browser runs it; `folder` is where the page is copied to."""
    text = page.read_text(encoding="utf-8").replace("</body>", _TELL + probe)
    (folder / "probe.html").write_text(text, encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=600000 --dump-dom"
    )
    profile, address = f"--user-data-dir={folder / 'profile'}", f"file://{folder / 'probe.html'}"
    command = [str(BROWSER), *flags.split(), profile, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return html.unescape(found.group(1))
