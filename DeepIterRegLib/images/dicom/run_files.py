"""A run as files hold it: one file of many frames, or a folder with the frames of one run in files of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import within
from DeepIterRegLib.common.shown import name_of, number_words
from DeepIterRegLib.images.dicom.decoding import check_decodable, decode, surplus_note
from DeepIterRegLib.images.dicom.header import Header, functional_groups, open_header
from DeepIterRegLib.images.dicom.kinds import Kind, class_name, kind_of
from DeepIterRegLib.images.dicom.layout import layout_of
from DeepIterRegLib.images.dicom.open_file import NotDicom, open_dataset
from DeepIterRegLib.images.dicom.safe_words import coded, whole_number
from DeepIterRegLib.images.dicom.tags import table_of, tag_name, text_of, texts_of, value_of, whole_of
from DeepIterRegLib.images.dicom.times import steps_of_files

_IN_ALL = (  # what frames of one run share, or its pixels mean different things
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "RescaleSlope",
    "RescaleIntercept",
)
_ANGLES = ("PositionerPrimaryAngle", "PositionerSecondaryAngle")
_ASKED = (
    *("SOPClassUID", "Modality", "NumberOfFrames", "SeriesInstanceUID", "SeriesNumber", "AcquisitionNumber"),
    *("InstanceNumber", "SOPInstanceUID", "Rows", "Columns", *_ANGLES),
)
_MOST_ABSENT = 10_000  # numbers between a run's first and last frame
_LISTED = 8  # runs, files or numbers named in a sentence
# What helps where a file is no run that can be read.
_ADVICE = {
    Kind.BIPLANE_RUN: "export each plane as a run of its own: the angiography workstation writes them as X-Ray Angiographic Image "
    "Storage, one file a plane",
    Kind.ROTATIONAL_VOLUME: "give it as the CTA, or as DSA a run of a C-arm that stands still",
    Kind.PICTURE: "give the run itself, not a picture of it",
}
_USUAL_ADVICE = "the DSA must be an angiography run of modality XA"


@dataclass(frozen=True)
class RunFiles:
    """A run whose pixels are not decoded yet.

    Attributes
    ----------
    header
        Of all frames.
    files : tuple of Path
        One, or one a frame in the order of the frames.
    headers : tuple of Header
        Of each file.
    notes : tuple of str
    """

    header: Header
    files: tuple[Path, ...]
    headers: tuple[Header, ...]
    notes: tuple[str, ...] = ()

    def check_decodable(self) -> None:
        """Raise InputError for what headers alone tell cannot be read."""
        for path, header in zip(self.files, self.headers, strict=True):
            self._naming(path, lambda header=header: check_decodable(header))

    def decode(self) -> np.ndarray:
        """Stored values (t, row, column); raises InputError as `pixels.decode`, naming the file.

        Once: each file's own pixel data, half as large as the frames will be, is let go of.
        """
        frames = []
        for path, header in zip(self.files, self.headers, strict=True):
            frames.append(self._naming(path, lambda header=header: decode(header)))
            del header.dataset[layout_of(header.dataset).keyword]
        return frames[0] if len(frames) == 1 else np.concatenate(frames)

    def _naming(self, path: Path, work):  # type: ignore[no-untyped-def]
        try:
            return work()
        except InputError as error:
            raise InputError([within(problem, before=f"{name_of(path)}: ") for problem in error.problems]) from error


def open_run(path: Path) -> RunFiles:
    """The one run in a DICOM file or in a folder.

    Raises
    ------
    InputError
        No run, several (each is listed), frames that do not belong together, or files that cannot be read.
    """
    run = open_files(path)
    check_xa(run.header.dataset, path)
    return run


def open_files(path: Path) -> RunFiles:
    """As `open_run`, but a file may be of any kind."""
    if path.is_dir():
        return _run_of_folder(path)
    return _of_one_file(path)


def _of_one_file(path: Path) -> RunFiles:
    header = open_header(path)
    told = surplus_note(header.dataset)
    return RunFiles(header, (path,), (header,), (f"{name_of(path)}: {told}",) if told else ())


def check_xa(dataset: Dataset, path: Path) -> None:
    """Raise InputError if a file is no angiography run, saying what it is and what helps."""
    kind = kind_of(dataset)
    if kind is Kind.RUN:
        return
    stated = f"{tag_name('Modality')} {coded(text_of(dataset, 'Modality'))}"
    known = class_name(dataset) if kind is not Kind.OTHER else ""
    advice = _ADVICE.get(kind, _USUAL_ADVICE)
    raise InputError(
        f"{name_of(path)} is {kind.value} ({stated}{', ' + known if known not in ('', 'unknown') else ''}); {advice}."
    )


def is_run_folder(folder: Path) -> bool:
    """Whether a folder has a run and no CT; ends at the first slice of a CT."""
    found = False
    for path in _files_in(folder):
        try:
            kind = kind_of(open_dataset(path, ("SOPClassUID", "Modality")))
        except (InputError, OSError):
            continue
        if kind in (Kind.CT, Kind.ENHANCED_CT, Kind.MR, Kind.ROTATIONAL_VOLUME):
            return False
        found = found or kind is Kind.RUN
    return found


def folder_of_frames(paths: Sequence[Path]) -> Path | None:
    """The folder of files that are frames of one run, each in a file of its own; None if they are anything else.

    Files of one series and one view that all show one frame are taken for it: as views of a head they would tell nothing new.
    """
    folders = {path.parent for path in paths}
    if len(folders) != 1 or len(set(paths)) < 2:
        return None
    first = None
    for path in paths:
        try:
            found = _Found(path, open_dataset(path, _ASKED))
        except (InputError, OSError):
            return None
        angles = [Header(found.dataset, {}).number(keyword) for keyword in _ANGLES]
        series = text_of(found.dataset, "SeriesInstanceUID")
        if kind_of(found.dataset) is not Kind.RUN or found.frames > 1 or not series or found.instance is None:
            return None
        own = (series, *angles)
        first = own if first is None else first
        if own != first:
            return None
    return folders.pop()


# -- a folder ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A file of a folder, and what tells its run from others."""

    path: Path
    dataset: Dataset

    @property
    def frames(self) -> int:
        return _whole(self.dataset, "NumberOfFrames") or 1

    @property
    def instance(self) -> int | None:
        return _whole(self.dataset, "InstanceNumber")


def _whole(dataset: Dataset, keyword: str) -> int | None:
    """A whole number from 0 on, or None; whether it can be used is looked at where it is used."""
    try:
        return whole_of(dataset, keyword, 0, 2**31)
    except InputError:
        return None


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _run_of_folder(folder: Path) -> RunFiles:
    files = _files_in(folder)
    found, others, damaged = [], 0, []
    for path in files:
        try:
            dataset = open_dataset(path, _ASKED)
        except NotDicom:
            others += 1
        except InputError:
            damaged.append(path)
        else:
            if kind_of(dataset) is Kind.RUN:
                found.append(_Found(path, dataset))
            elif kind_of(dataset) is Kind.BIPLANE_RUN:
                check_xa(dataset, path)  # raises, with advice
            else:
                others += 1
    if damaged:
        raise InputError(
            f"{len(damaged)} of {len(files)} files in {name_of(folder)} are damaged or cut short "
            f"({_some([name_of(path) for path in damaged])}); copy the folder again."
        )
    if not found:
        raise InputError(
            f"{name_of(folder)} holds no angiography run ({len(files)} files); give the run's DICOM file or its folder."
        )
    runs = _runs(found)
    notes = []
    moving = [run for run in runs if _frames_of(run) > 1]
    if len(runs) > 1 and len(moving) == 1:
        notes.append(
            f"The folder holds one run of {_frames_of(moving[0])} frames and {len(runs) - 1} single images; the run is read."
        )
        runs = moving
    if len(runs) > 1:
        listed = "; ".join(f"{number}. {_words(run, folder)}" for number, run in enumerate(runs[:_LISTED], 1))
        more = f"; and {len(runs) - _LISTED} more" if len(runs) > _LISTED else ""
        raise InputError(
            f"{name_of(folder)} holds {len(runs)} runs: {listed}{more}. Give the file of one of them, or a folder that holds one alone."
        )
    if others:
        notes.append(f"{others} other files in the folder are no runs and were passed over.")
    joined = _joined(runs[0], folder)
    return RunFiles(joined.header, joined.files, joined.headers, (*notes, *joined.notes))


def _runs(found: Sequence[_Found]) -> list[list[_Found]]:
    """Files by run: each of many frames is one, those of one frame by series and, where it groups them, acquisition."""
    runs = [[one] for one in found if one.frames > 1]
    series: dict[str, list[_Found]] = defaultdict(list)
    for one in found:
        if one.frames == 1:
            series[text_of(one.dataset, "SeriesInstanceUID")].append(one)
    for members in series.values():
        acquisitions: dict[str, list[_Found]] = defaultdict(list)
        for one in members:
            acquisitions[text_of(one.dataset, "AcquisitionNumber")].append(one)
        # A number for each frame tells no runs apart.
        runs += list(acquisitions.values()) if len(acquisitions) < len(members) else [members]
    return runs


def _frames_of(run: Sequence[_Found]) -> int:
    return sum(one.frames for one in run)


def _words(run: Sequence[_Found], folder: Path) -> str:
    """Frames, size, angles and where: nothing of the patient."""
    first = run[0].dataset
    angles = [Header(first, {}).number(keyword) for keyword in _ANGLES]
    shown = " / ".join("unknown" if angle is None else number_words(angle) for angle in angles)
    place = name_of(run[0].path)
    more = f" and {len(run) - 1} more files" if len(run) > 1 else ""
    count = _frames_of(run)
    size = " x ".join(whole_number(_whole(first, keyword)) for keyword in ("Rows", "Columns"))
    return f"{count} frame{'s' * (count != 1)} of {size}, angles {shown} deg, {place}{more}"


def _joined(run: Sequence[_Found], folder: Path) -> RunFiles:
    """Frames of one run in the order of their instance numbers."""
    if len(run) == 1:
        return _of_one_file(run[0].path)
    numbers = [one.instance for one in run]
    if None in numbers or len(set(numbers)) < len(numbers):
        twice = sorted({n for n in numbers if n is not None and numbers.count(n) > 1})
        what = (
            f"numbers {_some(list(map(whole_number, twice)))} stand in several files"
            if twice
            else "it is absent in some files"
        )
        raise InputError(
            f"The {len(run)} frames in {name_of(folder)} have no order: {tag_name('InstanceNumber')} tells it, but {what}; "
            "export the run again, as one file of many frames if possible."
        )
    ordered = sorted(run, key=lambda one: one.instance or 0)
    datasets = [open_dataset(one.path) for one in ordered]
    _refuse_what_differs(ordered, datasets, folder)
    notes = []
    first, last = ordered[0].instance or 0, ordered[-1].instance or 0
    count, there = last - first + 1 - len(numbers), set(numbers)
    if count > _MOST_ABSENT:
        raise InputError(
            f"The {len(run)} frames in {name_of(folder)} do not belong together: {tag_name('InstanceNumber')} goes from "
            f"{whole_number(first)} to {whole_number(last)}; copy the folder again."
        )
    if count:
        absent = [number for number in range(first, last + 1) if number not in there]
        notes.append(
            f"{len(absent)} of the run's frames are missing ({tag_name('InstanceNumber')} "
            f"{_some(list(map(whole_number, absent)))} of {whole_number(first)} to {whole_number(last)}): "
            "if it was not exported so, copy it again."
        )
    notes.append(
        f"The run lies in {len(run)} files of one frame each; they are joined by {tag_name('InstanceNumber')}."
    )
    told = {
        name_of(one.path): said
        for one, dataset in zip(ordered, datasets, strict=True)
        if (said := surplus_note(dataset))
    }
    notes += [f"{name}: {said}" for name, said in list(told.items())[:1]]
    headers = tuple(Header(dataset, functional_groups(dataset)) for dataset in datasets)
    header = _header_of_all(datasets)
    return RunFiles(header, tuple(one.path for one in ordered), headers, tuple(notes))


def _refuse_what_differs(run: Sequence[_Found], datasets: Sequence[FileDataset], folder: Path) -> None:
    problems = []
    for keyword in _IN_ALL:
        values = ["\\".join(texts_of(value_of(dataset, keyword))) for dataset in datasets]
        odd = next((n for n, value in enumerate(values) if value != values[0]), None)
        if odd is not None:
            problems.append(
                f"The frames in {name_of(folder)} do not belong to one run: {tag_name(keyword)} is {coded(values[0].upper())} in "
                f"{name_of(run[0].path)}, {coded(values[odd].upper())} in {name_of(run[odd].path)}; give a folder with one run alone."
            )
    if problems:
        raise InputError(problems)


def _header_of_all(datasets: Sequence[FileDataset]) -> Header:
    """The first file's header with the number of frames, their times, and how the angles change."""
    whole = table_of(datasets[0])
    whole.file_meta = datasets[0].file_meta
    whole.NumberOfFrames = len(datasets)
    steps_ms = steps_of_files(datasets)
    if steps_ms is not None:
        whole.FrameTimeVector = [float(f"{step:.6g}") for step in steps_ms]
    for keyword in _ANGLES:
        angles = [Header(dataset, {}).number(keyword) for dataset in datasets]
        known = [angle for angle in angles if angle is not None]
        if len(known) == len(angles) and max(known) > min(known):
            setattr(whole, f"{keyword}Increment", [float(f"{angle - known[0]:.6g}") for angle in known])
    return Header(whole, functional_groups(whole))


def _some(items: Sequence[object]) -> str:
    listed = ", ".join(str(item) for item in items[:_LISTED])
    return listed + (f" and {len(items) - _LISTED} more" if len(items) > _LISTED else "")
