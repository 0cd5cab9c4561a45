"""The report: one self-contained HTML page, no network, for reading next to the angiogram."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from DeepIterRegLib.common.threads import at_once
from DeepIterRegLib.geometry import SUCCESS_MM, pose
from DeepIterRegLib.geometry.view_names import angle_words, edge_letters, view_direction
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.result import Registration, StageRecord, ViewRecord, percent
from DeepIterRegLib.results.report import images
from DeepIterRegLib.results.report.curves import bars_svg, curve_svg, level_names

# The page holds its pictures: with these bounds that of a long, noisy run stays below 6 MB.
MAX_FRAMES = 48
MAX_FRAME_BYTES = 4_500_000
FRAME_QUALITIES = ((512, 82), (512, 60), (384, 60), (256, 50))  # longest side in px, JPEG quality
SCALE_BAR_MM = 20.0

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class ShownView:
    """A view on the page.

    Attributes
    ----------
    record
        What was found in it.
    angiogram
        The DSA that was registered; frames are shown at most 512 px large and at most 48 in number.
    projection, radiological_projection : (row, column)
        Vessels at the found pose and at the radiological pose, from `images.vessel_projection`, same grid as the frames.
    in_frames : (P, row, column) or None
        Vessels at each position of `record.frames`, as `images.projections_in_frames` has them, where the head is seen to move.
    """

    record: ViewRecord
    angiogram: Angiogram
    projection: np.ndarray
    radiological_projection: np.ndarray
    in_frames: np.ndarray | None = None


def page_environment(folder: Path) -> jinja2.Environment:
    """For the pages whose templates stand in a folder: all values escaped, an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_style() -> Markup:
    """The style sheet that all pages share."""
    return Markup((_HERE / "style.css").read_text(encoding="utf-8"))


def write_report(
    path: str | Path,
    registration: Registration,
    views: Sequence[ShownView],
    on_progress: Callable[[float], None] = lambda done: None,
) -> None:
    """Write the page into an HTML file, with every view to choose from; `on_progress` is told the part that is made, 0..1."""
    environment = page_environment(_HERE)
    environment.filters |= {"words": words, "percent": percent}
    drawn = []
    for view in views:
        drawn.append(viewer_data(view, len(views)))
        on_progress(len(drawn) / (len(views) + 1))  # the page itself takes about as long as a view
    data = {"views": drawn, "tint": [int(c) for c in images.RED]}
    page = environment.get_template("page.html").render(
        **page_values(registration, views),
        style=page_style(),
        script=Markup((_HERE / "viewer.js").read_text(encoding="utf-8")),
        # A "<" in the data could end the script that holds it.
        viewer=Markup(json.dumps(data).replace("<", "\\u003c")),
    )
    Path(path).write_text(page, encoding="utf-8")


def viewer_data(view: ShownView, views: int = 1) -> dict[str, Any]:
    """What the page's script draws of one of so many views: pictures as data addresses, frame numbers and times, marks."""
    angiogram, carm = view.angiogram, view.record.carm
    count = len(angiogram.frames)
    shown = np.unique(np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(int))
    longest_px, pictures = _frame_pictures(angiogram, shown, MAX_FRAME_BYTES // views)

    def picture_of(projection: np.ndarray) -> str:
        # PNG, as JPEG draws halos round thin vessels, and most of the picture is empty.
        return images.png_url((255 * images.shrunk(images.opacity(projection), longest_px)).astype(np.uint8))

    drawn = {"registered": view.projection, "radiological": view.radiological_projection}
    motion = _followed(view)
    if motion is not None and view.in_frames is not None:
        drawn |= {f"position{p}": projection for p, projection in enumerate(view.in_frames)}
    overlays = dict(zip(drawn, at_once(*(partial(picture_of, one) for one in drawn.values())), strict=True))
    first_s = angiogram.frame_times_s[0]
    return {
        "frames": [
            {
                "number": int(t) + 1,
                "time_s": round(float(angiogram.frame_times_s[t] - first_s), 2),
                "image": picture,
                **({"overlay": f"position{motion.of_frame[t]}"} if motion else {}),
            }
            for t, picture in zip(shown, pictures, strict=True)
        ],
        "overlays": overlays,
        "letters": edge_letters(carm),
        "scale_bar_percent": 100 * SCALE_BAR_MM * carm.magnification / (carm.columns * carm.pixel_spacing_mm[1]),
    }


def _followed(view: ShownView) -> FrameMotion | None:
    """The motion of the head that the frames of the page follow; None where it is not seen, or is of other frames."""
    motion = view.record.frames
    fits = motion is not None and len(motion.of_frame) == len(view.angiogram.frames)
    return motion if fits and view.in_frames is not None else None


def _frame_pictures(angiogram: Angiogram, shown: np.ndarray, most_bytes: int) -> tuple[int, list[str]]:
    """Longest side in px and JPEGs of the frames, as good as the page's size allows: noisy frames compress badly."""
    window = images.window_of(angiogram)
    for longest_px, quality in FRAME_QUALITIES:

        def picture(t: int, longest_px: int = longest_px, quality: int = quality) -> str:
            return images.jpeg_url(images.to_grey(images.shrunk(angiogram.frames[t], longest_px), window), quality)

        pictures = at_once(*(partial(picture, t) for t in shown))
        # Base64 is what the page holds: the length of the text counts, a third more than the JPEG.
        if sum(map(len, pictures)) <= most_bytes:
            break
    return longest_px, pictures


def page_values(registration: Registration, views: Sequence[ShownView]) -> dict[str, Any]:
    """Everything the page says in words and numbers."""
    start = pose.radiological(np.asarray(registration.centre_cta_mm, dtype=np.float64))
    turn_deg, shift_mm = offset_from(start, registration.cta_to_carm, registration.centre_cta_mm)
    total = registration.seconds.get("total", sum(registration.seconds.values()))
    notes = {note for view in views for note in view_notes(view, len(views))}
    return {
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "views": [_view_values(view, len(views)) for view in views],
        "confidence": registration.confidence,
        "hidden": is_rejected(registration),
        "init": registration.init,
        "stages": [_stage(s, registration.settings) for s in registration.stages],
        # What was assumed while a run was read stands beside its view.
        "warnings": [w for w in registration.warnings if w not in notes],
        "landmarks": registration.landmarks,
        "success_mm": SUCCESS_MM,
        "matrix": np.asarray(registration.cta_to_carm).tolist(),
        "turn_deg": turn_deg,
        "turn_total_deg": math.degrees(float(pose.rotation_angle(np.asarray(registration.cta_to_carm)[:3, :3]))),
        "shift_mm": shift_mm,
        "shift_total_mm": float(np.linalg.norm(shift_mm)),
        "scale_bar_mm": SCALE_BAR_MM,
        "seconds": {k: v for k, v in registration.seconds.items() if k != "total"},
        "total_s": total,
        "settings": flat(registration.settings),
        "versions": {**registration.versions, "computed on": registration.computed_on},
        "hashes": registration.input_hashes,
    }


def _view_values(view: ShownView, views: int) -> dict[str, Any]:
    """What the page says of one of so many views."""
    carm, angiogram = view.record.carm, view.angiogram
    return {
        "record": view.record,
        "carm": carm,
        "direction": view_direction(carm),
        "angles": angle_words(carm),
        "notes": view_notes(view, views),
        "frame_count": len(angiogram.frames),
        "motion": "" if view.record.frames is None else view.record.frames.sentence,
        "follows": _followed(view) is not None,
        "kept_count": min(len(angiogram.frames), MAX_FRAMES),
        "duration_s": float(angiogram.frame_times_s[-1] - angiogram.frame_times_s[0]),
        "scale_bar_percent": 100 * SCALE_BAR_MM * carm.magnification / (carm.columns * carm.pixel_spacing_mm[1]),
        "aspect": f"{carm.columns} / {carm.rows}",
        "letters": edge_letters(carm),
    }


def view_notes(view: ShownView, views: int) -> list[str]:
    """What was assumed while reading a run, as the warnings of a registration of so many views have it."""
    return [f"{view.record.name}: {note}" if views > 1 else note for note in view.angiogram.notes]


def _stage(record: StageRecord, settings: dict[str, Any]) -> dict[str, Any]:
    """A stage with the drawing of its scores."""
    label, names = f"{record.name}: {record.similarity}", level_names(record, settings)
    svg = bars_svg(record.scores, names, label) if names else curve_svg(record.scores, label)
    return {"record": record, "by_level": bool(names), "svg": Markup(svg)}


def words(name: str) -> str:
    """A field's name as people write it: "cta_segmentation" becomes "CTA segmentation"."""
    written = {w.lower(): w for w in ("CTA", "DSA", "NCC", "ZNCC", "MinIP", "L2", "DRR")}
    text = " ".join(written.get(w.lower(), w) for w in name.replace("_", " ").split())
    return text[:1].upper() + text[1:]


def is_rejected(registration: Registration) -> bool:
    """Whether the overlay is shown only to those who ask."""
    return registration.confidence is not None and registration.confidence.state == "rejected"


def offset_from(start: np.ndarray, end: np.ndarray, centre_cta_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How a pose differs from another, as people say it.

    Returns
    -------
    turn_deg : (3,) about the C-arm's fixed axes R, A, S; shift_mm : (3,) of the head's centre along them.
    """
    rotation = np.asarray(end)[:3, :3] @ np.asarray(start)[:3, :3].T
    centre = np.asarray(centre_cta_mm, dtype=np.float64)[None]
    shift = pose.transform(np.asarray(end), centre)[0] - pose.transform(np.asarray(start), centre)[0]
    return np.asarray(pose.rotation_to_euler_deg(rotation)), shift


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level of "a.b" names, for a table."""
    rows: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows.update(flat(value, f"{name}."))
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            for i, item in enumerate(value):
                rows.update(flat(item, f"{name}[{i}]."))
        else:
            rows[name] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return rows
