"""Which stack of slices is the CTA: the contrast series of a head, in its arterial phase, thin and soft; and why not the others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.images.dicom.ct_contrast import NOTHING, Look, look
from DeepIterRegLib.images.dicom.ct_stacks import FEWEST, Series
from DeepIterRegLib.images.dicom.kinds import Kind
from DeepIterRegLib.images.dicom.tags import tag_name

_CT = (Kind.CT, Kind.ENHANCED_CT)
_THIN_MM = (
    0.8,
    1.25,
    2.5,
)  # slices as thin as the first are as good as any; thicker ones than the last hide small vessels
_ALIKE = 0.8  # of the larger: contrast that is not told apart
_SHARP = re.compile(r"(?:[A-Za-z]{1,2}(\d{2})[a-z]*\d?|.*(BONE|EDGE|LUNG|SHARP|DETAIL|FC3|FC8|YC|YD).*)", re.IGNORECASE)
_FEW = "a series of one or two slices"
_SHARP_NUMBER = 55  # Siemens: from H60, B60, Hr60 on bone is shown, not vessels
_HEADS = ("HEAD", "BRAIN", "NECK", "SKULL", "CAROTID", "KOPF", "HALS", "TETE", "CRANE")


@dataclass(frozen=True)
class Judged:
    """A stack, what was seen in it, and why it was not taken; `why` is empty for the one that was."""

    series: Series
    look: Look
    why: str = ""


@dataclass(frozen=True)
class Choice:
    """The stack to read, those left out with the reason of each, and how to speak of the choice."""

    taken: Judged
    others: tuple[Judged, ...]


def choose(stacks: Sequence[Series], wanted: str, phase: int | None, where: str) -> Choice:
    """The CTA among stacks.

    Parameters
    ----------
    stacks
        Not empty.
    wanted
        A series by number, description or UID; empty where nobody chose.
    phase
        From 1, or None.
    where
        What was typed: folder or file.

    Raises
    ------
    InputError
        None is a volume; several patients; `wanted` or `phase` names none, or several.
    """
    allowed = _wanted(stacks, wanted, where) if wanted else [s for s in stacks if _passed_over(s) == ""]
    if not allowed:
        allowed = [s for s in stacks if _passed_over(s) == _FEW]
    if not allowed:
        raise _no_volume(stacks, where)
    patients = {s.planes[0].patient for s in allowed if s.planes[0].patient}
    if len(patients) > 1:
        raise InputError(
            Message(
                f"{where} holds scans of {len(patients)} patients ({tag_name('PatientID')} differs)",
                advice="Give the folder of one patient, or say which series is meant.",
                give=("series",),
            )
        )
    allowed = _of_phase(allowed, phase, where) if phase is not None else allowed
    candidates = [s for s in allowed if len(s.planes) >= FEWEST] or allowed
    best_kind = min(_kind_rank(s) for s in candidates)
    looks: dict[int, Look] = {}
    for series in candidates:
        several = len(candidates) > 1 and _kind_rank(series) == best_kind and series.head.kind in _CT
        looks[id(series)] = look(series) if several else NOTHING
    best = min(candidates, key=lambda s: _rank(s, looks[id(s)], looks.values()))
    taken = Judged(best, looks[id(best)])
    others = [
        Judged(s, looks.get(id(s), NOTHING), _why_not(s, looks.get(id(s)), taken, chosen=bool(wanted or phase)))
        for s in stacks
        if s is not best
    ]
    return Choice(taken, tuple(others))


def said_of(choice: Choice, passed_over: Mapping[str, int]) -> list[str]:
    """Notes on a choice, for whoever reads the result; none where there was nothing to choose."""
    told = [other for other in choice.others if _passed_over(other.series) == ""]
    notes: list[str] = []
    taken = choice.taken.series
    brief = passed_over_words(choice, passed_over)
    if told:
        besides = f". Passed over besides: {brief}" if brief else ""
        count = 1 + sum(o.series.head.kind in _CT for o in told) if taken.head.kind in _CT else 1 + len(told)
        of_ct = "CT series" if taken.head.kind in _CT else "series"
        phases = any(o.series.head == taken.head for o in told) and taken.phases > 1
        how = f"{count} {of_ct}" + (" or phases" if phases else "")
        listed = "; ".join(f"{o.series.words}: {o.why}" for o in told)
        give = ("series", "phase") if phases else ("series",)
        seen = (
            f", whose vessels are {choice.taken.look.vessels_hu:.0f} HU brighter than brain"
            if choice.taken.look.contrast
            else ""
        )
        notes.append(
            Message(
                f"There are {how}; read is {taken.words}{seen}. Left out: {listed}{besides}. If another is the CTA, it can be chosen",
                give=give,
            )
        )
    elif brief:
        notes.append(f"Passed over as no volumes of a head: {brief}.")
    return notes


def passed_over_words(choice: Choice, passed_over: Mapping[str, int]) -> str:
    """`2 localisers, 1 screenshot`; empty if there are none."""
    counts: dict[str, int] = {}
    for other in choice.others:
        if why := _passed_over(other.series):
            counts[why] = counts.get(why, 0) + 1
    return ", ".join(f"{count} x {kind.removeprefix('a ')}" for kind, count in [*counts.items(), *passed_over.items()])


# -- by a person -----------------------------------------------------------------------------------------


def _wanted(stacks: Sequence[Series], wanted: str, where: str) -> list[Series]:
    """The stacks of the series that a person named."""
    text = wanted.strip()
    tests: tuple[Callable[[Series], bool], ...] = (
        lambda s: s.head.number is not None and text.isdecimal() and s.head.number == int(text),
        lambda s: s.head.uid == text,
        lambda s: s.planes[0].description.casefold() == text.casefold(),
        lambda s: bool(s.planes[0].words) and s.planes[0].words.casefold() == text.casefold(),
        lambda s: text.casefold() in s.planes[0].description.casefold(),
    )
    for test in tests:
        found = [s for s in stacks if test(s)]
        if len({s.head.uid for s in found}) > 1:
            raise InputError(
                Message(
                    f"{len({s.head.uid for s in found})} series of {where} are meant by it: {_listed(found)}",
                    at="series",
                    advice="Its number or UID tells it apart.",
                )
            )
        if found:
            return found
    raise InputError(
        Message(f"{where} has no series of this number, description or UID; it holds {_listed(stacks)}", at="series")
    )


def _of_phase(stacks: Sequence[Series], phase: int, where: str) -> list[Series]:
    found = [s for s in stacks if s.phase == phase and s.phases > 1]
    if found:
        return found
    if phase == 1:
        return [s for s in stacks if s.phases == 1]
    most = max(s.phases for s in stacks)
    has = f"at most {most} phases in one series" if most > 1 else "one phase only"
    raise InputError(Message(f"{where} has no phase {phase}: it shows {has}", at="phase"))


def _no_volume(stacks: Sequence[Series], where: str) -> InputError:
    return InputError(
        Message(
            f"{where} holds no slices of a scan, but {'; '.join(f'{s.words} ({_passed_over(s)})' for s in stacks)}",
            advice="Give the folder of the CTA's thin slices.",
            give=("series",),
        )
    )


def _listed(stacks: Iterable[Series]) -> str:
    return "; ".join(sorted({s.words for s in stacks}))


# -- by what is seen -----------------------------------------------------------------------------------


def _kind_rank(series: Series) -> int:
    return 0 if series.head.kind in _CT else 1 if series.head.kind is Kind.ROTATIONAL_VOLUME else 2


def _passed_over(series: Series) -> str:
    """What a stack is that is never read unasked; empty for slices of a scan."""
    if series.head.localiser:
        return "a localiser"
    if series.head.projection:
        return "a projection (MIP)"
    return _FEW if len(series.planes) < FEWEST else ""


def _thickness(series: Series) -> int:
    widest = max(series.step_mm, *series.spacing_mm)
    return sum(widest > limit + 1e-3 for limit in _THIN_MM)


def _sharp(series: Series) -> bool:
    match = _SHARP.fullmatch(series.head.kernel.split("/")[0])
    if match is None:
        return False
    return match[1] is None or int(match[1]) > _SHARP_NUMBER


def _rank(series: Series, seen: Look, all_seen: Iterable[Look]) -> tuple[float, ...]:
    """Smaller is likelier the CTA."""
    brightest = max((one.vessels_hu or 0.0) for one in all_seen)
    level = 0 if seen.contrast and (seen.vessels_hu or 0) >= _ALIKE * brightest else 1 if seen.contrast else 2
    hint = any(word in series.planes[0].body_part for word in _HEADS)
    return (
        _kind_rank(series),
        not seen.head,
        level,
        not series.contrast,
        series.head.reformat,
        _thickness(series),
        _sharp(series),
        -math.log(len(series.planes)),
        not hint,
        series.head.number or 0,
    )


def _why_not(series: Series, seen: Look | None, taken: Judged, chosen: bool) -> str:
    """The first reason that sets a stack behind the one taken, in few words."""
    best = taken.series
    if why := _passed_over(series):
        return why
    if chosen:
        return "another was asked for"
    if _kind_rank(series) > _kind_rank(best):
        return "a CT lies there too" if best.head.kind in _CT else "a rotational volume lies there too"
    if seen is not None and taken.look.head:
        if not seen.head:
            return "no skull that encloses a brain"
        if taken.look.contrast and not seen.contrast:
            return "no contrast in its vessels"
        if taken.look.vessels_hu is not None and (seen.vessels_hu or 0) < _ALIKE * taken.look.vessels_hu:
            return f"less contrast in its vessels ({seen.vessels_hu:.0f} HU)"
    reasons = (
        (best.contrast and not series.contrast, "no tag tells of contrast"),
        (series.head.reformat and not best.head.reformat, "a reformat of other slices"),
        (_thickness(series) > _thickness(best), "thicker slices"),
        (_sharp(series) and not _sharp(best), "a sharper kernel"),
        (len(series.planes) < len(best.planes), "fewer slices"),
    )
    return next((words for holds, words in reasons if holds), "no better than the one taken")
