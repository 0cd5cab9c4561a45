"""Slices of tomograms in files: one for each classic file, one for each frame of an enhanced one, wherever its tags stand."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import known_words, name_of
from DeepIterRegLib.images.dicom.kinds import Kind, kind_of
from DeepIterRegLib.images.dicom.layout import bits_of
from DeepIterRegLib.images.dicom.open_file import DAMAGE, NotDicom, PixelBytes, open_before_pixels
from DeepIterRegLib.images.dicom.safe_words import coded, kernel_words, names_of
from DeepIterRegLib.images.dicom.tags import (
    elements_of,
    items_of,
    number_of,
    numbers_of,
    parts_of,
    shown_number,
    syntax_of,
    tag_name,
    text_of,
    texts_of,
    uid_of,
    value_of,
    whole_of,
)

# Tells phases of one series apart, the surest first. The last ones are times, which may differ from slice to slice within a phase.
PHASE_KEYS = ("TemporalPositionIndex", "TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime")
TIME_KEYS = ("AcquisitionDateTime", "AcquisitionTime", "ContentTime")
TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "GantryDetectorTilt",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "BodyPartExamined",
    "VolumeBasedCalculationTechnique",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *PHASE_KEYS,
    *TIME_KEYS,
)
VOLUMES = (Kind.CT, Kind.ENHANCED_CT, Kind.ROTATIONAL_VOLUME, Kind.MR)
_SHORT = {
    Kind.PICTURE: "screenshot",
    Kind.REPORT: "report (of dose, for instance)",
    Kind.SEGMENTATION: "segmentation",
    Kind.RUN: "angiography run",
    Kind.VIDEO: "video",
}
# In ImageType or the technique of an enhanced object.
_PROJECTIONS = (
    "MIP",
    "MAX_IP",
    "MIN_IP",
    "MINIP",
    "MAXIP",
    "VRT",
    "SSD",
    "CPR",
    "RENDER",
    "CURVED",
    "PROJECTION IMAGE",
)
_REFORMATS = ("REFORMATTED", "MPR")
_NO_CONTRAST = ("", "NO", "NONE", "N", "NEIN", "NON", "0", "FALSE", "WITHOUT", "N/A")


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of one file are stored.

    Attributes
    ----------
    place
        None where they are deflated.
    native
        Without compression.
    big_endian, signed, bits_allocated, bits_stored, high_bit
        As the header says.
    expected
        Bytes that its frames take, if native.
    """

    place: PixelBytes | None
    native: bool
    big_endian: bool
    signed: bool
    bits_allocated: int
    bits_stored: int
    high_bit: int
    frame_bytes: int
    frames: int

    @property
    def expected(self) -> int:
        return self.frame_bytes * self.frames

    @property
    def length(self) -> int:
        """Bytes that the header says there are; 0 of fragments."""
        return 0 if self.place is None else self.place.length or 0

    @property
    def found(self) -> int:
        """Bytes that are there."""
        if self.place is None:
            return 0
        return min(self.place.present, self.expected if self.place.length is None else self.place.length)


@dataclass(frozen=True)
class SeriesHead:
    """What all slices of a stack share; two of them with different heads never make one volume.

    Attributes
    ----------
    number
        SeriesNumber, or None.
    kernel
        Shown; empty where it is no code.
    localiser, projection, reformat
        By ImageType, the technique, or (a MIP) the series' description.
    """

    kind: Kind
    modality: str
    uid: str
    number: int | None
    kernel: str
    rows: int
    columns: int
    localiser: bool
    projection: bool
    reformat: bool


@dataclass(frozen=True)
class Plane:
    """One slice.

    Attributes
    ----------
    file, frame
        Where its pixels are; frames count from 0.
    position_lps_mm : (3,)
    orientation : (6,)
        Directions of rising column index and rising row index, LPS.
    spacing_mm : (row, column)
    slope, intercept
        From stored values to HU.
    keys
        What may tell its phase from others: keyword to a number.
    description, patient
        Free text, and whose slice it is: to be compared with, never to be shown. `words` is what may be shown of the description.
    contrast
        A tag says that contrast was given.
    """

    head: SeriesHead
    file: Path
    frame: int
    instance_uid: str
    position_lps_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    slope: float
    intercept: float
    pixels: PixelFormat
    tilt_deg: float
    contrast: bool
    body_part: str = field(repr=False)
    description: str = field(repr=False)
    patient: str = field(repr=False)
    words: str = ""
    keys: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """What lies in a folder.

    Attributes
    ----------
    planes
        Slices with a place in space.
    unplaced
        Slices of a CT that say nowhere where they lie, by file, with the UID of their series.
    unreadable
        Files that are empty, damaged, or (with a name like a slice's) no DICOM.
    passed_over
        UIDs of series of other kinds, by what these are called.
    """

    planes: tuple[Plane, ...]
    unplaced: tuple[tuple[Path, str], ...]
    unreadable: tuple[Path, ...]
    passed_over: Mapping[str, frozenset[str]]


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders, sorted; not those whose name begins with a dot, which systems leave behind."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def scan_files(files: Iterable[Path]) -> Scan:
    """Every slice in the files; what is no DICOM at all is passed over."""
    planes: list[Plane] = []
    unplaced: list[tuple[Path, str]] = []
    damaged: list[Path] = []
    strange: list[Path] = []
    others: dict[str, set[str]] = {}
    for path in files:
        try:
            if path.stat().st_size == 0:
                strange.append(path)
                continue
            ds, place = open_before_pixels(path, TAGS)
            kind = _kind(ds)
            found = _planes(path, ds, place, kind) if kind in VOLUMES else []
        except NotDicom:
            strange.append(path)
            continue
        except DAMAGE:  # InputError among them
            damaged.append(path)
            continue
        planes += found
        if found:
            continue
        tomogram = kind in (Kind.CT, Kind.ENHANCED_CT)
        if place is None and (tomogram or not text_of(ds, "SeriesInstanceUID")):  # it ends in the middle of its header
            strange.append(path)
        elif tomogram:
            unplaced.append((path, text_of(ds, "SeriesInstanceUID")))
        elif "MediaStorageDirectory" not in uid_of(text_of(ds, "SOPClassUID")).keyword:
            others.setdefault(_called(kind, ds), set()).add(text_of(ds, "SeriesInstanceUID"))
    likely = {(plane.file.parent, _pattern(plane.file)) for plane in planes}
    unreadable = damaged + [path for path in strange if (path.parent, _pattern(path)) in likely]
    return Scan(
        tuple(planes),
        tuple(unplaced),
        tuple(sorted(unreadable)),
        {words: frozenset(uids) for words, uids in others.items()},
    )


def _called(kind: Kind, ds: Dataset) -> str:
    modality = text_of(ds, "Modality").upper()
    if kind in _SHORT or coded(modality) != modality:
        return _SHORT.get(kind, "other object")
    return f"{modality} series"


def _pattern(path: Path) -> str:
    """Files of one series are named alike: by the suffix where it is DICOM's, else by the name without its numbers."""
    suffix = path.suffix.lower()
    return suffix if suffix in (".dcm", ".ima", ".dicom") else re.sub(r"\d+", "#", path.name)


def _kind(ds: Dataset) -> Kind:
    """As `kind_of`; a CT's class with another modality is what archives make of MR and of rotational runs."""
    kind, modality = kind_of(ds), text_of(ds, "Modality").upper()
    if kind is Kind.CT and modality not in ("", "CT"):
        return {"MR": Kind.MR, "XA": Kind.ROTATIONAL_VOLUME}.get(modality, Kind.OTHER)
    return kind


def _planes(path: Path, ds: FileDataset, place: PixelBytes | None, kind: Kind) -> list[Plane]:
    """The slices of one file that have a place; none if there is none."""
    shared = _leaves(next(iter(items_of(ds, "SharedFunctionalGroupsSequence")), None))
    frames = items_of(ds, "PerFrameFunctionalGroupsSequence")
    count = whole_of(ds, "NumberOfFrames", 1, 2**31, 1)
    if count > 1 and len(frames) != count:
        if frames:
            raise InputError(f"{name_of(path)} has {count} frames but places of {len(frames)}; copy it again.")
        return []
    names = names_of(ds)
    pixels = _format(ds, place, count)
    planes = []
    for index, item in enumerate(frames or [None]):
        values = _Values(ds, shared, _leaves(item))
        position, orientation = values.numbers("ImagePositionPatient"), values.numbers("ImageOrientationPatient")
        spacing = values.numbers("PixelSpacing")
        if len(position) != 3 or len(orientation) != 6 or len(spacing) != 2 or min(spacing) <= 0:
            continue
        if not all(map(math.isfinite, (*position, *orientation, *spacing))) or not pixels.frame_bytes:
            continue
        description = values.text("SeriesDescription")
        planes.append(
            Plane(
                head=_head(ds, values, kind, names, description),
                file=path,
                frame=index,
                instance_uid=text_of(ds, "SOPInstanceUID"),
                position_lps_mm=position,
                orientation=orientation,
                spacing_mm=(spacing[0], spacing[1]),
                slope=_scale(values, "RescaleSlope", 1.0),
                intercept=_scale(values, "RescaleIntercept", 0.0),
                pixels=pixels,
                tilt_deg=values.number("GantryDetectorTilt", 0.0),
                contrast=_contrast(values),
                body_part=values.text("BodyPartExamined").upper(),
                description=description,
                patient=text_of(ds, "PatientID") or text_of(ds, "PatientName"),
                words=known_words(description, names),
                keys=_phase_keys(values),
            )
        )
    return planes


class _Values:
    """Values by keyword: a frame's own, else those that its frames share, else the file's."""

    def __init__(self, ds: Dataset, shared: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        self._ds, self._shared, self._own = ds, shared, own

    def get(self, keyword: str) -> Any:
        for place in (self._own, self._shared):
            if place.get(keyword) not in (None, ""):
                return place[keyword]
        return value_of(self._ds, keyword)

    def text(self, keyword: str) -> str:
        return "\\".join(texts_of(self.get(keyword)))

    def texts(self, keyword: str) -> list[str]:
        """The parts of a text of many values, upper case."""
        return [part.upper() for part in texts_of(self.get(keyword))]

    def parts(self, keyword: str) -> list[Any]:
        return parts_of(self.get(keyword))

    def numbers(self, keyword: str) -> tuple[float, ...]:
        found = numbers_of(self.get(keyword))
        return () if any(map(math.isnan, found)) else found

    def number(self, keyword: str, otherwise: float) -> float:
        found = self.numbers(keyword)
        return found[0] if found and math.isfinite(found[0]) else otherwise


def _leaves(item: Dataset | None) -> dict[str, Any]:
    """Keyword to value in the first items of nested sequences of a functional group."""
    found: dict[str, Any] = {}
    for element in () if item is None else elements_of(item):
        if element.VR == "SQ":
            if element.value:
                found |= {"ContrastBolusUsageSequence": True} if element.keyword == "ContrastBolusUsageSequence" else {}
                found |= _leaves(element.value[0])
        elif element.keyword:
            found[element.keyword] = element.value
    return found


def _head(ds: Dataset, values: _Values, kind: Kind, names: frozenset[str], description: str) -> SeriesHead:
    types = [*values.texts("ImageType"), *values.texts("FrameType"), *values.texts("VolumeBasedCalculationTechnique")]
    number = values.number("SeriesNumber", math.nan)
    words = re.split(r"[^a-z0-9]+", description.lower())
    return SeriesHead(
        kind=kind,
        modality=modality if coded(modality := text_of(ds, "Modality").upper()) == modality else "",
        uid=text_of(ds, "SeriesInstanceUID"),
        number=int(number) if abs(number) < 2**31 else None,
        kernel=kernel_words("/".join(texts_of(values.get("ConvolutionKernel"))), names),
        rows=whole_of(ds, "Rows", 1, 65535),
        columns=whole_of(ds, "Columns", 1, 65535),
        localiser="LOCALIZER" in types or "TOPOGRAM" in types or "SCOUT" in types,
        projection=any(mark in one for one in types for mark in _PROJECTIONS) or "mip" in words or "vrt" in words,
        reformat=any(mark in one for one in types for mark in _REFORMATS),
    )


def _scale(values: _Values, keyword: str, usual: float) -> float:
    """A number that every HU depends on: absent, the usual one; one that cannot be makes the file a damaged one."""
    value = values.get(keyword)
    number = usual if value in (None, "") else number_of(value)
    if not math.isfinite(number) or (keyword == "RescaleSlope" and number == 0):
        raise InputError(
            f"{tag_name(keyword)} is {shown_number(value)}, no number that makes HU; copy the series again."
        )
    return number


def _contrast(values: _Values) -> bool:
    agents = [agent for agent in values.texts("ContrastBolusAgent") if agent not in _NO_CONTRAST]
    return bool(agents or values.get("ContrastBolusAgentSequence") or values.get("ContrastBolusUsageSequence"))


def _phase_keys(values: _Values) -> dict[str, float]:
    found = {}
    for keyword in PHASE_KEYS:
        number = values.number(keyword, math.nan)
        if not math.isnan(number):
            found[keyword] = number
    if "TriggerTime" not in found and not math.isnan(
        delay := values.number("NominalCardiacTriggerDelayTime", math.nan)
    ):
        found["TriggerTime"] = delay
    if not math.isnan(frame := values.number("FrameAcquisitionNumber", math.nan)):
        found.setdefault("AcquisitionNumber", frame)
    for keyword, others in zip(TIME_KEYS, (("FrameAcquisitionDateTime",), (), ()), strict=True):
        for name in (*others, keyword):
            if (seconds := _seconds(values.text(name))) is not None:
                found[keyword] = seconds
                break
    return found


def _seconds(text: str) -> float | None:
    """Seconds of a time (TM) or of a date and time (DT); for comparing only, so every month has 31 days."""
    match = re.fullmatch(r"(?:(\d{4})(\d{2})(\d{2}))?(\d{2})(\d{2})(\d{2}(?:\.\d+)?)(?:[+-]\d{4})?", text)
    if match is None:
        return None
    year, month, day, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return (((year * 12 + month) * 31 + day) * 24 + hours) * 3600 + minutes * 60 + seconds


def _format(ds: FileDataset, place: PixelBytes | None, frames: int) -> PixelFormat:
    """Raises InputError for numbers that cannot be: the file is damaged."""
    syntax = syntax_of(ds)
    deflated = syntax == DeflatedExplicitVRLittleEndian
    allocated, stored, high_bit = bits_of(ds)
    size = whole_of(ds, "Rows", 1, 65535) * whole_of(ds, "Columns", 1, 65535)
    known = not syntax.is_private and syntax.is_transfer_syntax
    return PixelFormat(
        place=place,
        native=not deflated and (not known or not syntax.is_compressed) and allocated in (8, 16, 32),
        big_endian=not ds.original_encoding[1],
        signed=whole_of(ds, "PixelRepresentation", 0, 1, 0) == 1,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        frame_bytes=size * ((allocated + 7) // 8) if whole_of(ds, "SamplesPerPixel", 1, 65535, 1) == 1 else 0,
        frames=frames,
    )
