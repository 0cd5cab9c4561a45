"""A run that can be read in two ways: both are registered where it takes that to tell them apart, and what was done is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.common.messages import Message, within
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.images.angiogram import Angiogram, OtherReading
from DeepIterRegLib.registration.result import Registration, content_hash

if TYPE_CHECKING:
    from DeepIterRegLib.segmentation.dsa import DsaMasks

# A run with the mask that a person supplied for it (row, column).
ReadRun = tuple[Angiogram, np.ndarray | None]
# Of the probability that a pose is right: by so much another reading must lead to be taken.
CLEARLY = 0.2
# Of the scores, ZNCC: on phantoms the wrong scale loses far more than this.
_CLEARLY_SCORE = 0.05


@dataclass(frozen=True)
class Attempt:
    """Runs read in one way, and what registering them gave."""

    runs: Sequence[ReadRun]
    masks: Sequence[DsaMasks]
    registration: Registration


def hashed_beside(runs: Sequence[ReadRun], best: Callable[[], Attempt]) -> tuple[Attempt, list[str]]:
    """What `best` finds, and the hashes of the runs that it took; those of `runs` are computed beside it."""
    with Beside() as beside:
        hashing = {id(run): beside.start(partial(content_hash, run.frames)) for run, _ in runs}
        found = best()
        taken = [run for run, _ in found.runs]
        # A run may have been read anew in another way.
        return found, [hashing[id(run)].result() if id(run) in hashing else content_hash(run.frames) for run in taken]


def best_attempt(
    runs: Sequence[ReadRun],
    first: Callable[[], Attempt],
    other: Callable[[Sequence[ReadRun]], Attempt],
) -> Attempt:
    """The registration with the runs as they were read, or with another reading of them if that is clearly better.

    A reading that contradicts tags is always compared; grey values are turned round only where nothing matches otherwise.

    Parameters
    ----------
    first, other
        Register the runs as they are, or other ones in their place.

    Raises
    ------
    InputError, RegistrationError
        No reading shows vessels, or gives a pose; it says what was tried.
    """
    found: Attempt | None = None
    failure: InputError | RegistrationError | None = None
    try:
        found = first()
    except (InputError, RegistrationError) as error:
        failure = error
    tried: list[str] = []
    for words, reading, remade in _others(runs):
        if not reading.always and found is not None and not _rejected(found):
            continue
        tried.append(words)
        try:
            candidate = other(remade())
        except (RegistrationError, InputError):
            continue
        if found is None or _clearly_better(candidate, found):
            found = _with_warning(candidate, _taken(words, reading))
    if found is None:
        assert failure is not None
        if not tried:
            raise failure
        more = f" Read with {' or with '.join(tried)} it matches no better."
        if isinstance(failure, InputError):
            raise InputError([within(problem, after=more) for problem in failure.problems]) from failure
        raise RegistrationError(f"{failure}{more}") from failure
    unused = [words for words in tried if not any(words in warning for warning in found.registration.warnings)]
    if unused:
        found = _with_warning(found, f"The registration was also tried with {' and with '.join(unused)}: no better.")
    return found


def _others(
    runs: Sequence[ReadRun],
) -> Iterator[tuple[str, OtherReading, Callable[[], Sequence[ReadRun]]]]:
    """Each other reading: its words, itself, and what makes the runs with it."""
    for number, (angiogram, mask) in enumerate(runs):
        for reading in angiogram.other_readings:
            words = reading.words + (f" in DSA {number + 1}" if len(runs) > 1 else "")

            def remade(
                number: int = number, reading: OtherReading = reading, mask: np.ndarray | None = mask
            ) -> Sequence[ReadRun]:
                return [*runs[:number], (reading.read(), mask), *runs[number + 1 :]]

            yield words, reading, remade


def _rejected(attempt: Attempt) -> bool:
    confidence = attempt.registration.confidence
    return confidence is not None and confidence.state == "rejected"


def _clearly_better(candidate: Attempt, found: Attempt) -> bool:
    """By the probability to be right; where both are about as likely, by the score."""
    ours, theirs = candidate.registration.confidence, found.registration.confidence
    if ours is None or theirs is None:
        return False
    lead = ours.probability - theirs.probability
    if lead > CLEARLY:
        return True
    return lead > -CLEARLY / 4 and _score(candidate) > _score(found) + _CLEARLY_SCORE


def _score(attempt: Attempt) -> float:
    return float(np.mean([view.score for view in attempt.registration.views]))


def _taken(words: str, reading: OtherReading) -> Message:
    return Message(
        f"The DSA matches clearly better with {words} than as its tags were read first, so that is used",
        give=reading.remedies,
    )


def _with_warning(attempt: Attempt, warning: str) -> Attempt:
    registration = attempt.registration
    return replace(attempt, registration=replace(registration, warnings=(warning, *registration.warnings)))
