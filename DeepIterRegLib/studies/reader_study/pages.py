"""The page on which a reader answers: one self-contained HTML file, no server, nothing that names a method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from DeepIterRegLib.results.report import images
from DeepIterRegLib.results.report.page import page_environment, page_style
from DeepIterRegLib.studies.reader_study.ranks import SCALE

_HERE = Path(__file__).parent


class Pictures:
    """Pictures of one reader's page as `data:` addresses, by names that say nothing."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, Any]] = {}
        self._pictures: dict[str, str] = {}
        self._comparisons: dict[str, dict[str, str | None]] = {}

    def add_run(self, name: str, minip: str, frames: Sequence[str]) -> None:
        """The frames of a DSA, and its MinIP."""
        self._runs[name] = {"minip": minip, "frames": list(frames)}

    def add_projection(self, name: str, picture: str) -> None:
        """Opacity of projected vessels; a finished overlay where there is no run."""
        self._pictures[name] = picture

    def add_comparison(self, name: str, left: str, right: str, run: str | None) -> None:
        """What a comparison shows."""
        self._comparisons[name] = {"left": left, "right": right, "run": run}

    def to_json_dict(self, order: Sequence[str]) -> dict[str, Any]:
        """For the page's script; sorted by name, so that the order of making tells nothing."""
        return {
            "comparisons": [{"id": name, **self._comparisons[name]} for name in order],
            "runs": dict(sorted(self._runs.items())),
            "pictures": dict(sorted(self._pictures.items())),
            "tint": [int(c) for c in images.RED],
        }


def write_reading_page(path: Path, study: str, reader: str, order: Sequence[str], pictures: Pictures) -> None:
    """Write the page.

    Parameters
    ----------
    path
    study
        A name of its own, under which the browser keeps the answers.
    reader
    order
        Comparisons as they are to be shown.
    pictures
    """
    environment = page_environment(_HERE)
    data = {"study": study, "reader": reader, **pictures.to_json_dict(order)}
    page = environment.get_template("read.html").render(
        reader=reader,
        scale=SCALE,
        style=page_style(),
        script=Markup((_HERE / "read.js").read_text(encoding="utf-8")),
        # A name with </script> in it must not end the script.
        data=Markup(json.dumps(data).replace("<", "\\u003c")),
    )
    path.write_text(page, encoding="utf-8")
