"""What a DSA file says and lacks, by plain names; never whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from DeepIterRegLib.common.errors import GeometryError, InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import LARGEST, number_words
from DeepIterRegLib.images.dicom.geometry_tags import look_up, read_carm
from DeepIterRegLib.images.dicom.header import Header, size_of
from DeepIterRegLib.images.dicom.image_files import IMAGE_SUFFIXES, read_image_frames
from DeepIterRegLib.images.dicom.interpretation import interpret, subtraction_tags
from DeepIterRegLib.images.dicom.kinds import class_name
from DeepIterRegLib.images.dicom.options import OPTION_OF, SOURCES
from DeepIterRegLib.images.dicom.pixels import is_lossy, meaning_of
from DeepIterRegLib.images.dicom.run_files import RunFiles, check_xa, open_files
from DeepIterRegLib.images.dicom.safe_words import coded, maker
from DeepIterRegLib.images.dicom.scale import other_scales
from DeepIterRegLib.images.dicom.shutters import read_valid
from DeepIterRegLib.images.dicom.tags import syntax_of, text_of, value_of, whole_of
from DeepIterRegLib.images.dicom.times import read_times
from DeepIterRegLib.images.subtraction import SubtractionSettings


@quoting_nothing()
def describe(path: str | Path) -> dict[str, Any]:
    """Everything that `read_angiogram` would use, in the order a person asks.

    Values are numbers, texts and lists. "missing" names tags with the options that supply them, "cannot be used"
    whatever no option helps. The patient's identity, dates, institution and UIDs are never in it.

    Raises
    ------
    InputError
        The file cannot be opened as DICOM or as an image.
    """
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        images, _ = read_image_frames(path)
        return {
            "kind": "image file",
            "size (rows, columns)": list(images.shape[1:]),
            "frames": len(images),
            "values": _range(images),
            "missing": [
                Message(f"No {source.label}", give=(OPTION_OF[name],))
                for name, source in SOURCES.items()
                if name not in _OPTIONAL
            ],
        }
    run = open_files(path)
    header, ds = run.header, run.header.dataset
    syntax = syntax_of(ds)
    values: dict[str, Any] = {
        "kind": "angiogram",
        "modality": coded(text_of(ds, "Modality")) if text_of(ds, "Modality") else None,
        "SOP class": class_name(ds) or None,
        "transfer syntax": syntax.name if syntax and syntax.name != syntax else None,
        "manufacturer": maker(text_of(ds, "Manufacturer")),
        "size (rows, columns)": [_shown(ds, "Rows"), _shown(ds, "Columns")],
        "frames": 1 if value_of(ds, "NumberOfFrames") is None else _shown(ds, "NumberOfFrames"),
        "bits": _bits(ds),
        "relation to X-ray intensity": coded(header.text("PixelIntensityRelationship"))
        if header.text("PixelIntensityRelationship")
        else None,
    }
    try:
        check_xa(ds, path)
    except InputError as error:
        values["kind"] = "not an angiogram"
        values["cannot be used"] = list(error.problems)
        return values
    refused: list[str] = []
    notes: list[str] = [*run.notes]
    try:
        rows, columns = size_of(header)
    except InputError as error:
        refused += error.problems
    else:
        _describe_geometry(header, rows, columns, values, notes, refused)
    _describe_pixels(run, values, notes, refused)
    if refused:
        values["cannot be used"] = refused
    values["notes"] = notes
    return values


_OPTIONAL = ("principal_point_px", "projection_matrix")


def _describe_geometry(
    header: Header, rows: int, columns: int, values: dict[str, Any], notes: list[str], refused: list[str]
) -> None:
    lookup = look_up(header, rows, columns, GeometryOptions())
    for name, source in SOURCES.items():
        if name not in _OPTIONAL:
            found = lookup.found.get(name)
            values[source.label] = None if found is None else _plain(found.value)
    values["geometry from"] = [f"{SOURCES[name].label}: {found.source}" for name, found in lookup.found.items()]
    values["missing"] = list(lookup.problems.values())
    try:
        carm, assumed = read_carm(header, rows, columns, GeometryOptions())
    except GeometryError as error:
        refused += [problem for problem in error.problems if problem not in values["missing"]]
    else:
        values["principal point (column, row)"] = [round(p, 3) for p in carm.principal_point_px]
        notes += [*assumed, *(scale.note for scale in other_scales(header, rows, columns, GeometryOptions()))]


def _describe_pixels(run: RunFiles, values: dict[str, Any], notes: list[str], refused: list[str]) -> None:
    header = run.header
    try:
        pixels = meaning_of(run.decode(), header)
        times, time_notes = read_times(header, len(pixels.values))
        valid, valid_notes = read_valid(header, pixels.values, is_lossy(header))
        values["pixel values"] = _range(pixels.values)
        # Motion is left out, as nothing that is said here depends on it.
        result = interpret(pixels, valid, subtraction_tags(header, len(times)), SubtractionSettings(remask=False)).run
    except InputError as error:
        refused += error.problems
        return
    if len(times) > 1:
        values["duration (s)"] = round(float(times[-1]), 4)
        steps = np.diff(times)
        values["time between frames (s)"] = sorted({round(float(s), 4) for s in (steps.min(), steps.max())})
    values["visible part of the image"] = f"{valid.mean():.0%}"
    values["subtraction"] = "subtracted in the file" if result.unsubtracted is None else "unsubtracted"
    values["mask frames (from 1)"] = [m + 1 for m in result.mask_frames]
    notes += [*time_notes, *valid_notes, *pixels.notes, *result.notes]


def _plain(value: Any) -> Any:
    return [round(float(v), 6) for v in value] if isinstance(value, tuple) else round(float(value), 6)


def _range(values: np.ndarray) -> str:
    return f"{number_words(float(values.min()))} to {number_words(float(values.max()))}"


def _shown(dataset: Dataset, keyword: str) -> int | str:
    """A whole number, or in words why there is none that may be shown."""
    try:
        found = whole_of(dataset, keyword, 0, 2**31, 0)
        return found if found < LARGEST else number_words(found)
    except InputError:
        return "unreadable"


def _bits(dataset: Dataset) -> str:
    stored, allocated = _shown(dataset, "BitsStored"), _shown(dataset, "BitsAllocated")
    signed = "signed" if _shown(dataset, "PixelRepresentation") == 1 else "unsigned"
    return f"{stored} of {allocated}, {signed}, {coded(text_of(dataset, 'PhotometricInterpretation'))}"
