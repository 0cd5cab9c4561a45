"""One run of a session that is followed: read, registered, kept, and put together with the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path

from DeepIterRegLib.cases.case import Outcome
from DeepIterRegLib.cases.following import WORDS_FACE, Following, Told, aside, kept_as
from DeepIterRegLib.cases.readings import Attempt, ReadRun, best_attempt, hashed_beside
from DeepIterRegLib.cases.session_folder import (
    KeptRun,
    write_run,
    write_session,
    write_together,
)
from DeepIterRegLib.cases.session_rows import OF_NOBODY, row_of, title_of, words_of
from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.common.messages import word
from DeepIterRegLib.common.progress import Progress, ProgressEvent, ShouldStop
from DeepIterRegLib.common.shown import calling
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.dicom.arrivals import Arrival
from DeepIterRegLib.registration.result import content_hash
from DeepIterRegLib.registration.session import SessionRun, add_run, fitted, reported
from DeepIterRegLib.results.session_page.page import (
    RunRow,
    write_pictures,
)
from DeepIterRegLib.segmentation.dsa import segment_dsa

_ANOTHER = "It is of another patient than this session, so it is not registered and not shown."


def on_run(following: Following, arrival: Arrival, should_stop: ShouldStop) -> Told | None:
    """A run that arrived: registered, kept and shown; one that was done before is only told again, where that is wanted."""
    known = kept_as(following, arrival.run_id)
    if known is not None:  # of before an interruption: its file tells when the first run was
        _count_from(following, arrival, known)
        following.arrivals[known.name] = arrival
        return _told_again(following, arrival, known) if following.wants(known.name) else None
    patient = following.session.patient
    if patient and arrival.patient_id and arrival.patient_id != patient:
        return aside(following, RunRow("", "A run of another patient", "refused", (_ANOTHER,)))
    name = f"{1 + max((int(kept.name) for kept in following.kept), default=0):02d}"
    title = f"{arrival.frames} frame{'s' if arrival.frames > 1 else ''}"
    following.rows[name] = RunRow(name, title, "reading")
    following.show(f"Run {name} is being read.")
    try:
        found = registered(following, arrival, name, should_stop)
    except (InputError, RegistrationError) as error:
        del following.rows[name]
        problems = error.problems if isinstance(error, InputError) else (str(error),)
        words = tuple(word(problem, WORDS_FACE) for problem in problems)
        return aside(following, RunRow("", title, "failed", words))
    except Cancelled:
        del following.rows[name]
        return None
    # What cannot be written is no fault of the run: it ends the session, which goes on once there is room.
    seconds = keep_run(following, arrival, *found)
    return Told(following.rows[name], seconds, found[1], dict(following.together))


def _told_again(following: Following, arrival: Arrival, kept: KeptRun) -> Told | None:
    """A run that was done before, with its images; None where they cannot be read any more."""
    try:
        outcome = outcome_of(following, arrival, kept)
    except InputError:
        return None
    return Told(following.rows[kept.name], None, outcome, dict(following.together))


def outcome_of(following: Following, arrival: Arrival, kept: KeptRun) -> Outcome:
    """What a run that was done before was found on, read as it was then.

    Raises
    ------
    InputError
    """
    as_read, found = calling("dsa", read_angiogram)(arrival.path), kept.run.registration
    # Others are read only where the first is not the one.
    readings = chain([as_read], (other.read() for other in as_read.other_readings))
    known = (one for one in readings if content_hash(one.frames) == found.input_hashes.get("dsa"))
    angiogram = next(known, as_read)
    return Outcome(found, angiogram, following.head.vessels, segment_dsa(angiogram))


def registered(
    following: Following,
    arrival: Arrival,
    name: str,
    should_stop: ShouldStop,
    known: Sequence[SessionRun] | None = None,
) -> tuple[KeptRun, Outcome]:
    """The run read and registered, from the runs `known`, else from those before it.

    Raises
    ------
    InputError, RegistrationError, Cancelled
    """
    angiogram = calling("dsa", read_angiogram)(arrival.path)
    since_s = _since_first(following, arrival)
    before = [kept.run for kept in _before(following, since_s)] if known is None else known
    following.rows[name] = replace(following.rows[name], title=title_of(angiogram.carm))
    following.show(f"Run {name} is being registered.")
    made: list[SessionRun] = []

    def attempt(runs: Sequence[ReadRun]) -> Attempt:
        (run, _), *_ = runs
        masks = segment_dsa(run)
        made.append(
            add_run(following.head, before, run, masks, following.settings, _stopping(should_stop), should_stop)
        )
        return Attempt(runs, [masks], made[-1].registration)

    as_read = [(angiogram, None)]
    best, (own_hash,) = hashed_beside(as_read, lambda: best_attempt(as_read, lambda: attempt(as_read), attempt))
    angiogram = best.runs[0][0]
    alone = next(one for one in made if one.registration.cta_to_carm is best.registration.cta_to_carm)
    alone = replace(alone, registration=best.registration)
    together = fitted([*before, alone], following.head.points.origin_mm)[-1]
    hashes = {"cta": following.cta.content_hash, "dsa": own_hash}
    notes = () if arrival.patient_id or not following.session.patient else (OF_NOBODY,)
    found = reported(alone, together)
    found = replace(found, input_hashes=hashes, warnings=(*following.cta.notes, *found.warnings, *notes))
    outcome = Outcome(found, angiogram, following.head.vessels, best.masks[0])
    return KeptRun(name, arrival.run_id, since_s, replace(alone, registration=found)), outcome


def keep_run(following: Following, arrival: Arrival, kept: KeptRun, outcome: Outcome) -> float | None:
    """Show the run, then write its folder, and what all runs know now; the seconds until it was shown.

    Raises
    ------
    InputError
        It cannot be written.
    """
    following.check()
    found, vessels, angiogram = kept.run.registration, following.head.vessels, outcome.angiogram
    letters = write_pictures(following.folder, kept.name, angiogram, vessels, found.cta_to_carm, found.carm)
    following.rows[kept.name] = row_of(kept, time.time_ns(), letters)
    following.show()
    seconds = _seconds_since(arrival.path)
    write_run(following.folder, kept, angiogram, vessels)
    following.kept = [*(one for one in following.kept if one.name != kept.name), kept]
    following.arrivals[kept.name] = arrival
    if arrival.patient_id and not following.session.patient:
        following.session = replace(following.session, patient=arrival.patient_id)
        write_session(following.folder, following.session)
    put_together(following)
    return seconds


def _stopping(should_stop: ShouldStop) -> Progress:
    def on_step(event: ProgressEvent) -> None:
        if should_stop():
            raise Cancelled("Stopped.")

    return Progress(on_step)


def _before(following: Following, since_s: float | None) -> list[KeptRun]:
    """The runs that were acquired before, in their order."""
    ordered = sorted(following.kept, key=lambda one: one.order)
    if since_s is None:
        return ordered
    return [kept for kept in ordered if kept.since_first_s is not None and kept.since_first_s <= since_s]


def _since_first(following: Following, arrival: Arrival) -> float | None:
    if arrival.acquired is None:
        return None
    if following.first is None:
        following.first = arrival.acquired
    return (arrival.acquired - following.first).total_seconds()


def _count_from(following: Following, arrival: Arrival, kept: KeptRun) -> None:
    if following.first is None and arrival.acquired is not None and kept.since_first_s is not None:
        following.first = arrival.acquired - timedelta(seconds=kept.since_first_s)


def put_together(following: Following) -> None:
    """The poses by all runs, written; rows tell of those that are known better now."""
    ordered = sorted(following.kept, key=lambda one: one.order)
    together = fitted([kept.run for kept in ordered], following.head.points.origin_mm)
    write_together(following.folder, ordered, together)
    following.together = {kept.name: one for kept, one in zip(ordered, together, strict=True) if one is not None}
    for kept, found in zip(ordered, together, strict=True):
        row = following.rows[kept.name]
        following.rows[kept.name] = replace(row, words=words_of(kept, found))


def _seconds_since(path: Path) -> float | None:
    """Since a file was written last."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None
