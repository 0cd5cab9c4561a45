"""How the runs of a session are told: direction, state, and what is known of each, in rows for a page or a list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from DeepIterRegLib.cases.session_folder import KeptRun
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.view_names import angle_words, edge_letters, view_direction
from DeepIterRegLib.registration.result import percent
from DeepIterRegLib.registration.session import Together, known_better
from DeepIterRegLib.results.session_page.page import PICTURES, RunRow

# Among a run's warnings: what a page must not leave to the report.
OF_NOBODY = "The file does not say whose it is: check that it is this patient's."
_MOVED = "The head lies elsewhere than in the run before."
_SEEMS_MOVED = "The head seems to lie elsewhere than in the run before, but this pose is not sure: check it."


def title_of(carm: CArm) -> str:
    """Direction and angles, as the page and the list call a run."""
    return f"{view_direction(carm)}, {angle_words(carm)}"


def row_of(kept: KeptRun, picture: int, letters: dict[str, str] | None = None) -> RunRow:
    """The row of a run by what it alone, and those before it, know; `picture` and `letters` as in `RunRow`."""
    registration = kept.run.registration
    state = registration.confidence.state if registration.confidence else "look closely"
    state = "accepted" if kept.by_hand else state
    edges = letters or edge_letters(registration.carm)
    words = words_of(kept, None)
    error_mm = registration.confidence.expected_error_mm if registration.confidence else None
    return RunRow(kept.name, title_of(registration.carm), state, words, kept.since_first_s, picture, edges, error_mm)


def words_of(kept: KeptRun, together: Together | None) -> tuple[str, ...]:
    """What the page says of a result; its depth as it is known by all runs so far."""
    if kept.by_hand:
        return ("A person set this pose by hand.",)
    run, sure = kept.run, kept.run.registration.confidence
    if sure is None:
        return ()
    if together is not None:
        sure = known_better(sure, together)
    words = [f"{percent(sure.probability).capitalize()} likely to be right, that is within 5 mm on the detector."]
    if run.motion is not None and run.motion.repositioned:
        words.insert(0, _SEEMS_MOVED if run.placed is None else _MOVED)
    if OF_NOBODY in run.registration.warnings:
        words.insert(0, OF_NOBODY)
    if sure.error_words:
        words.append(f"{sure.error_words.capitalize()}.")
    words += [view.frames.sentence for view in run.registration.views if view.frames and view.frames.is_seen]
    return (*words, *sure.reasons)


def picture_of(folder: Path, name: str) -> int:
    """What changes with the picture of a run; 0 where there is none."""
    try:
        return (folder / PICTURES / f"{name}_overlay.jpg").stat().st_mtime_ns
    except OSError:
        return 0


def counted_from(row: RunRow, first_s: float) -> RunRow:
    """The row with its time from the first run on; an earlier one may have come later."""
    return row if row.since_first_s is None else replace(row, since_first_s=row.since_first_s - first_s)
