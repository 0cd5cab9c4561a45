"""Poses that a person handed to a session that is followed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from DeepIterRegLib.cases.followed_run import keep_run, outcome_of, registered
from DeepIterRegLib.cases.following import WORDS_FACE, Following, Told, aside
from DeepIterRegLib.cases.handed import Handed, read_handed, scored, taken, waiting
from DeepIterRegLib.cases.session_folder import (
    KeptRun,
)
from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.common.messages import word
from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.registration.session import SessionRun, by_hand
from DeepIterRegLib.results.session_page.page import (
    RunRow,
)


def on_handed(following: Following, tell: Callable[[Told], None], should_stop: ShouldStop) -> None:
    """Where a person handed poses over: their runs have them, those not accepted start from them, all are put together anew."""
    before, following.doubted = following.doubted, {}
    for path, stamp in waiting(following.folder):
        if should_stop():
            return
        try:
            given = read_handed(path)
            kept = _kept_run(following, given.run)
        except InputError as error:
            if before.get(path) != stamp:  # it may be under way: at the next look it is whole, or it stays as it is
                following.doubted[path] = stamp
                continue
            taken(path, stamp)
            words = tuple(word(problem, WORDS_FACE) for problem in error.problems)
            tell(aside(following, RunRow("", "A pose set by hand", "refused", words)))
            following.show()
            continue
        if _give(following, kept, given, tell, should_stop):
            taken(path, stamp)


def _kept_run(following: Following, name: str) -> KeptRun:
    found = next((one for one in following.kept if one.name == name), None)
    if found is None:
        raise InputError("The pose set by hand is of no run of this session.")
    return found


def _give(
    following: Following, kept: KeptRun, given: Handed, tell: Callable[[Told], None], should_stop: ShouldStop
) -> bool:
    """A pose set by hand given to its run, and to those that know less; whether all of it was done.

    Raises
    ------
    InputError
        It cannot be written.
    """
    arrival = following.arrivals.get(kept.name)
    outcome = None
    with suppress(InputError):  # its file cannot be read now
        outcome = None if arrival is None else outcome_of(following, arrival, kept)
    if arrival is None or outcome is None:
        status = f"The pose set by hand waits for the file of run {kept.name}."
        if following.status != status:
            following.show(status)
        return False
    run = by_hand(kept.run, given.cta_to_carm, given.carm)
    run = replace(run, registration=scored(run.registration, outcome, following.settings.seed))
    outcome = replace(outcome, registration=run.registration)
    keep_run(following, arrival, replace(kept, run=run, by_hand=True), outcome)
    tell(Told(following.rows[kept.name], None, outcome, dict(following.together)))
    for other in [one for one in following.kept if _is_doubtful(one) and one.name in following.arrivals]:
        if should_stop():
            return False  # what is not done is begun again with the session
        if (told := _again_from(following, other, run, should_stop)) is not None:
            tell(told)
    following.wait()
    return True


def _is_doubtful(kept: KeptRun) -> bool:
    sure = kept.run.registration.confidence
    return not kept.by_hand and (sure is None or sure.state != "accepted")


def _again_from(following: Following, kept: KeptRun, run: SessionRun, should_stop: ShouldStop) -> Told | None:
    """A run registered anew from another whose place is known; None where that is not better."""
    row, arrival = following.rows[kept.name], following.arrivals[kept.name]
    following.rows[kept.name] = replace(row, state="reading")
    try:
        found = registered(following, arrival, kept.name, should_stop, [run])
    except (InputError, RegistrationError, Cancelled):
        found = None
    if found is None or _probability(found[0]) < _probability(kept):
        following.rows[kept.name] = row
        return None
    keep_run(following, arrival, *found)
    return Told(following.rows[kept.name], None, found[1], dict(following.together))


def _probability(kept: KeptRun) -> float:
    sure = kept.run.registration.confidence
    return sure.probability if sure else 0.0
