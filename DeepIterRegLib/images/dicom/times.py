"""Frame times from FrameTimeVector, FrameTime, frame rates, or the date and time of each frame."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset

from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.tags import tag_name, text_of

_STEPS_MS = (1.0, 60_000.0)  # from frame to frame
ASSUMED_INTERVAL_S = 0.5  # two frames a second: the usual rate of cerebral runs


def read_times(header: Header, frames: int) -> tuple[np.ndarray, list[str]]:
    """Seconds from the first frame (t,), rising, and notes; what is missing or odd falls back with a note."""
    notes: list[str] = []
    if frames == 1:
        return np.zeros(1), notes
    stamped = stamped_times(header, frames)
    if stamped is not None:
        return stamped, notes
    steps = header.numbers("FrameTimeVector")
    if steps:
        times = _from_vector(steps, frames, notes)
        if times is not None:
            return times, notes
    for keyword, milliseconds in (
        ("FrameTime", lambda value: value),
        ("CineRate", lambda value: 1000 / value),
        ("RecommendedDisplayFrameRate", lambda value: 1000 / value),
    ):
        value = header.number(keyword)
        if value is None:
            continue
        interval = milliseconds(value) if value > 0 else 0.0
        if _STEPS_MS[0] <= interval <= _STEPS_MS[1]:
            if keyword != "FrameTime":
                notes.append(
                    f"Frame times are computed from {tag_name(keyword)}, {number_words(value)} frames a second."
                )
            return np.arange(frames) * interval / 1000, notes
        notes.append(f"{tag_name(keyword)} is {number_words(value)}, which makes no sense, and is ignored.")
    notes.append(
        f"The file has no frame times ({tag_name('FrameTime')}, {tag_name('FrameTimeVector')}); "
        f"{1 / ASSUMED_INTERVAL_S:g} frames a second are assumed."
    )
    return np.arange(frames) * ASSUMED_INTERVAL_S, notes


def _from_vector(steps: tuple[float, ...], frames: int, notes: list[str]) -> np.ndarray | None:
    """Increments in ms, the first of them 0 (PS3.3 C.7.6.5)."""
    vector = np.array(steps)
    if len(vector) == frames - 1:
        notes.append(
            f"{tag_name('FrameTimeVector')} has {len(vector)} values for {frames} frames: taken as the steps between them."
        )
        vector = np.concatenate([[0.0], vector])
    if len(vector) != frames:
        notes.append(f"{tag_name('FrameTimeVector')} has {len(vector)} values for {frames} frames and is ignored.")
        return None
    if not np.isfinite(vector).all() or (vector[1:] <= 0).any() or (vector[1:] > _STEPS_MS[1]).any():
        notes.append(f"{tag_name('FrameTimeVector')} does not rise by up to a minute a frame, and is ignored.")
        return None
    if (vector[1:] < _STEPS_MS[0]).any():
        notes.append(f"{tag_name('FrameTimeVector')} has steps that no run has and is ignored.")
        return None
    return np.concatenate([[0.0], np.cumsum(vector[1:])]) / 1000


def stamped_times(header: Header, frames: int) -> np.ndarray | None:
    """Times (t,) of enhanced objects, each frame's own, s from the first; None where they have none."""
    for keyword in ("FrameReferenceDateTime", "FrameAcquisitionDateTime"):
        moments = [moment_of(str(value)) for value in header.groups.get(keyword, [])]
        known = [moment for moment in moments if moment is not None]
        if len(known) == frames and all(later > earlier for earlier, later in pairwise(known)):
            times = np.array([(moment - known[0]).total_seconds() for moment in known])
            if _STEPS_MS[0] <= 1000 * np.diff(times).min() and 1000 * np.diff(times).max() <= _STEPS_MS[1]:
                return times
    return None


def moment_of(text: str) -> datetime.datetime | None:
    """A date and time (DT) without its zone; None where it is none, or has not all parts down to the second."""
    digits = text.split("+")[0].split("-")[0]
    for pattern in ("%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S"):
        try:
            return datetime.datetime.strptime(digits, pattern)
        except ValueError:
            continue
    return None


def steps_of_files(datasets: Sequence[Dataset]) -> list[float] | None:
    """Milliseconds from each frame to the next, the first of them 0, of frames in files of their own; None where no tag rises."""
    for date, time in (
        ("AcquisitionDateTime", ""),
        ("AcquisitionDate", "AcquisitionTime"),
        ("ContentDate", "ContentTime"),
    ):
        texts = [
            f"{text_of(dataset, date) or ('20000101' if time else '')}{text_of(dataset, time) if time else ''}"
            for dataset in datasets
        ]
        moments = [moment_of(text) for text in texts]
        known = [moment for moment in moments if moment is not None]
        if len(known) == len(datasets) and all(later > earlier for earlier, later in pairwise(known)):
            return [0.0, *(1000 * (later - earlier).total_seconds() for earlier, later in pairwise(known))]
    return None
