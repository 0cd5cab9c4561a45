"""The page of a session as files: `index.html`, written once; `state.js`, written anew whenever a run changes; a run's two pictures.

The page reads `state.js` again and again as a script: a browser lets a page that was opened from a file read no other kind of file. It
never touches a network.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from DeepIterRegLib.common.atomic_output import output_file
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.view_names import edge_letters
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.results.report.images import opacity, shrunk, tinted, to_grey, vessel_projection, window_of
from DeepIterRegLib.results.report.page import page_environment, page_style

PAGE, STATE, PICTURES = "index.html", "state.js", "pictures"
_HERE = Path(__file__).parent
_LONGEST_PX = 900  # of a picture: what a second screen shows, and what is written in a tenth of a second
_JPEG_QUALITY = 88
_TINT = 0.75  # of the red at its strongest, as in the report


@dataclass(frozen=True)
class RunRow:
    """A run as the page shows it.

    Attributes
    ----------
    name
        Number in the session: "03".
    title
        Direction and angles.
    state
        `waiting`, `reading`, `accepted`, `look closely`, `rejected`, `failed` or `refused`.
    words
        Sentences: what is known of the result, or why there is none.
    since_first_s
        When it was acquired, from the first run; None where the file does not say it.
    picture
        Changes with each picture, as browsers keep those of the same name; 0 where there is none.
    letters
        Patient directions at the picture's edges.
    error_mm
        MPE to expect; None where nothing says it.
    """

    name: str
    title: str
    state: str
    words: tuple[str, ...] = ()
    since_first_s: float | None = None
    picture: int = 0
    letters: dict[str, str] | None = None
    error_mm: float | None = None


@dataclass(frozen=True)
class SessionState:
    """What a session shows: what goes on, in a sentence, the runs in their order, and whether it has ended."""

    status: str
    rows: tuple[RunRow, ...] = ()
    ended: bool = False


def write_page(folder: Path) -> None:
    """Write `index.html` into the session's folder."""
    page = (
        page_environment(_HERE)
        .get_template("page.html")
        .render(
            style=page_style(),
            own_style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
            script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
            state=STATE,
            pictures=PICTURES,
        )
    )
    with output_file(folder / PAGE, (".html",), overwrite=True) as path:
        path.write_text(page, encoding="utf-8")


def write_state(folder: Path, state: SessionState) -> None:
    """Write `state.js`; the page shows the last run that has a picture."""
    values = {"status": state.status, "ended": state.ended, "runs": [asdict(row) for row in state.rows]}
    # A "<" could end the script of a page that holds it one day.
    text = f"session({json.dumps(values).replace('<', chr(92) + 'u003c')});\n"
    with output_file(folder / STATE, (".js",), overwrite=True) as path:
        path.write_text(text, encoding="utf-8")


def write_pictures(
    folder: Path, name: str, angiogram: Angiogram, vessels: Volume, cta_to_carm: np.ndarray, carm: CArm
) -> dict[str, str]:
    """Write the run's MinIP, without and with the CTA's vessels at a pose (4, 4) in red; the letters at their edges.

    `vessels` are a bool mask. Small pictures, as they are to be seen within a moment; the report has the large ones.
    """
    minip = shrunk(angiogram.minip(), _LONGEST_PX)
    small = carm.resampled(*minip.shape)
    grey = to_grey(minip, window_of(angiogram))
    red = tinted(grey, _TINT * opacity(vessel_projection(vessels, small, cta_to_carm)))
    (folder / PICTURES).mkdir(exist_ok=True)
    for ending, picture in (("", grey), ("_overlay", red)):
        with output_file(folder / PICTURES / f"{name}{ending}.jpg", (".jpg",), overwrite=True) as path:
            Image.fromarray(picture).save(path, format="JPEG", quality=_JPEG_QUALITY)
    return edge_letters(carm)
