"""The C-arm from a header: angles, distances, spacing, principal point, and how the image was stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import GeometryError
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.carm import MOST_ASPECT
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.options import OPTION_OF, SOURCES, TYPED
from DeepIterRegLib.images.dicom.principal_point import isocentre_projection
from DeepIterRegLib.images.dicom.safe_words import coded
from DeepIterRegLib.images.dicom.tags import tag_name
from DeepIterRegLib.images.dicom.vendors import private_numbers

# What a C-arm can be; outside is nonsense, as zeros left by anonymisation are.
_RANGES = {
    "primary_angle_deg": (-180.0, 180.0),
    "secondary_angle_deg": (-90.0, 90.0),
    "sid_mm": (100.0, 3000.0),
    "sod_mm": (50.0, 3000.0),
    "pixel_spacing_mm": (0.01, 20.0),
}
_SAME_ANGLE_DEG = 0.5
_MAGNIFICATION = "EstimatedRadiographicMagnificationFactor"
_BY_MATRIX = "The view comes from the projection matrix given; angles, SID and SOD of the file are ignored."
_CENTRE_ASSUMED = Message(
    "No tag tells where the isocentre falls on the image; its centre is assumed", give=("principal_point",)
)


@dataclass(frozen=True)
class GeometryValue:
    """A value and where it comes from: a tag, or `TYPED`."""

    value: Any
    source: str
    note: str = ""


@dataclass(frozen=True)
class Lookup:
    """What header and options say. `problems` by name of the value: one sentence each."""

    found: dict[str, GeometryValue]
    problems: dict[str, str]
    notes: list[str] = field(default_factory=list)


def read_carm(header: Header | None, rows: int, columns: int, options: GeometryOptions) -> tuple[CArm, tuple[str, ...]]:
    """The view of a run and what was assumed.

    Parameters
    ----------
    header
        None where there is no DICOM file: all is in `options`.
    rows, columns
        Of the stored image.
    options
        Win over tags.

    Raises
    ------
    GeometryError
        All that is missing, nonsense or moving, in one message; each with tag, value seen and option.
    """
    lookup = look_up(header, rows, columns, options)
    moving, notes = ([], []) if header is None else _motion(header)
    if lookup.problems or moving:
        raise GeometryError([*moving, *lookup.problems.values()])
    notes = [*lookup.notes, *(f.note for f in lookup.found.values() if f.note), *notes]
    value = {name: found.value for name, found in lookup.found.items()}
    if options.projection_matrix is not None:
        carm = CArm.from_projection_matrix(
            options.projection_matrix,
            rows=rows,
            columns=columns,
            sid_mm=value.get("sid_mm"),
            pixel_spacing_mm=value.get("pixel_spacing_mm"),
        )
        return carm, (*notes, _BY_MATRIX)

    def view(turns: int, flipped: bool) -> CArm:
        """The stored image made from an upright one by quarter turns clockwise, then a flip."""
        sideways = turns % 2 == 1
        spacing = value["pixel_spacing_mm"]
        upright = CArm.from_angles(
            value["primary_angle_deg"],
            value["secondary_angle_deg"],
            sid_mm=value["sid_mm"],
            sod_mm=value["sod_mm"],
            rows=columns if sideways else rows,
            columns=rows if sideways else columns,
            pixel_spacing_mm=spacing[::-1] if sideways else spacing,
        )
        if header is not None and "principal_point_px" not in value:
            centre = isocentre_projection(header, upright)
            upright = upright if centre is None else replace(upright, principal_point_px=centre)
        turned = upright.turned(turns)
        return turned.mirrored() if flipped else turned

    turns, flipped, orientation_notes = (0, False, []) if header is None else _storage(header, view(0, False))
    carm = view(turns, flipped)
    notes += orientation_notes
    if "principal_point_px" in value:
        carm = replace(carm, principal_point_px=value["principal_point_px"])
    elif header is None or isocentre_projection(header, view(0, False)) is None:
        notes.append(_CENTRE_ASSUMED)
    return carm, tuple(notes)


def look_up(header: Header | None, rows: int, columns: int, options: GeometryOptions) -> Lookup:
    """Each value from the options, or from the first tag that has a sensible one."""
    by_matrix = options.projection_matrix is not None
    lookup = Lookup({}, {})
    for name in ("primary_angle_deg", "secondary_angle_deg", "sid_mm", "sod_mm", "pixel_spacing_mm"):
        if by_matrix and name not in ("sid_mm", "pixel_spacing_mm"):
            continue
        _look_up_one(header, name, options, lookup)
    found = lookup.found
    if by_matrix:
        _settle_scale_of_matrix(options, lookup)
    elif "sid_mm" in found and "sod_mm" in found and found["sod_mm"].value >= found["sid_mm"].value:
        lookup.problems["sod_mm"] = Message(
            f"The SOD of {found['sod_mm'].value:g} mm ({found['sod_mm'].source}) is not below the SID of "
            f"{found['sid_mm'].value:g} mm ({found['sid_mm'].source})",
            give=("sod", "sid"),
        )
    if header is not None and "pixel_spacing_mm" in lookup.problems:
        lookup.problems["pixel_spacing_mm"] = _with_spacing_hint(
            lookup.problems["pixel_spacing_mm"], header, rows, columns
        )
    if options.principal_point_px is not None and not by_matrix:
        found["principal_point_px"] = GeometryValue(options.principal_point_px, TYPED)
    return lookup


def spacing_in_file_mm(header: Header, rows: int, columns: int) -> tuple[float, float]:
    """Row and column spacing with which viewers place the run; 1 mm where the file does not tell."""
    found = look_up(header, rows, columns, GeometryOptions()).found.get("pixel_spacing_mm")
    return (1.0, 1.0) if found is None else found.value


def _look_up_one(header: Header | None, name: str, options: GeometryOptions, lookup: Lookup) -> None:
    low, high = _RANGES[name]
    source = SOURCES[name]
    given = getattr(options, name)
    refused: list[str] = []
    typed = [] if given is None else [GeometryValue(given, TYPED)]
    in_file = [] if header is None else [*_candidates(header, name, lookup), *_private(header, name)]
    for candidate in (*typed, *in_file):
        numbers = np.atleast_1d(np.asarray(candidate.value, dtype=np.float64))
        sensible = np.isfinite(numbers).all() and (numbers >= low).all() and (numbers <= high).all()
        # Two numbers are the sides of a pixel.
        if sensible and (numbers.size == 1 or numbers.max() <= MOST_ASPECT * numbers.min()):
            if typed and in_file and not np.allclose(in_file[0].value, given, rtol=1e-3, atol=1e-3):
                note = f"{_shown(given)} is used instead of {_shown(in_file[0].value)} in {in_file[0].source}"
                candidate = replace(candidate, note=Message(note, at=OPTION_OF[name]))
            if refused and not typed:
                lookup.notes.append(
                    f"{'; '.join(refused)} is ignored; the {source.label} comes from {candidate.source}."
                )
            lookup.found[name] = candidate
            return
        refused.append(f"{candidate.source} is {_shown(candidate.value)}")
        if typed:
            # The file does not step in for a typed value: who typed it must hear that it cannot be.
            at = OPTION_OF[name]
            lookup.problems[name] = Message(f"{_shown(given)} is outside {low:g} to {high:g}", at=at, give=(at,))
            return
    seen = f"{source.tag} is absent or empty"
    if refused:
        seen = "; ".join(refused) + f", outside {low:g} to {high:g}"
    lookup.problems[name] = Message(f"No {source.label}: {seen}", give=(OPTION_OF[name],))


def _candidates(header: Header, name: str, lookup: Lookup) -> Iterator[GeometryValue]:
    """Values in order of trust, sensible or not."""
    magnification = header.number(_MAGNIFICATION)
    # The patient lies between source and detector, so the image is larger than life.
    if magnification is not None and not 1 < magnification < 5:
        magnification = None
    known = {key: found.value for key, found in lookup.found.items()}
    if name in ("primary_angle_deg", "secondary_angle_deg"):
        which = "Primary" if name.startswith("primary") else "Secondary"
        yield from _tag(header, f"Positioner{which}Angle")
        keyword = f"PositionerIsocenter{which}Angle"
        yield from _tag(
            header,
            keyword,
            note=f"{tag_name(keyword)} is relative to the room, not the patient: right for a patient on the back, head first.",
        )
    elif name == "sid_mm":
        yield from _tag(header, "DistanceSourceToDetector")
        sod = header.number("DistanceSourceToIsocenter") or header.number("DistanceSourceToPatient")
        if magnification and sod:
            yield GeometryValue(
                sod * magnification,
                f"SOD times {tag_name(_MAGNIFICATION)}",
                "SID is computed from SOD and magnification.",
            )
    elif name == "sod_mm":
        yield from _tag(header, "DistanceSourceToIsocenter")
        yield from _tag(header, "DistanceSourceToPatient")
        if magnification and "sid_mm" in known:
            yield GeometryValue(
                known["sid_mm"] / magnification,
                f"SID over {tag_name(_MAGNIFICATION)}",
                "SOD is computed from SID and magnification.",
            )
    else:
        yield from _tag(header, "ImagerPixelSpacing", parts=2)
        if "sid_mm" in known and "sod_mm" in known:
            scale, how = known["sid_mm"] / known["sod_mm"], "SID / SOD"
        else:
            scale, how = magnification or math.nan, tag_name(_MAGNIFICATION)
        calibrated = header.text("PixelSpacingCalibrationType")
        in_patient = ["ObjectPixelSpacingInCenterOfBeam", *(["PixelSpacing"] if calibrated else [])]
        for keyword in in_patient:
            if not math.isnan(scale):
                note = f"Pixel spacing on the detector is computed from {tag_name(keyword)}, which holds in the patient, times {how}."
                yield from _tag(header, keyword, parts=2, scale=scale, note=note)
        if not calibrated:
            note = Message(
                f"{tag_name('ImagerPixelSpacing')} is absent; {tag_name('PixelSpacing')} is taken as the spacing on the detector",
                advice="It may have been calibrated in the patient instead.",
                give=("pixel_spacing",),
            )
            yield from _tag(header, "PixelSpacing", parts=2, note=note)


def _private(header: Header, name: str) -> Iterator[GeometryValue]:
    """What the vendor's private elements say."""
    for number, where in private_numbers(header.dataset, name):
        yield GeometryValue(number, where.label, f"{SOURCES[name].tag} is absent; {where.label} of the vendor is used.")


def _tag(header: Header, keyword: str, parts: int = 1, scale: float = 1.0, note: str = "") -> Iterator[GeometryValue]:
    numbers = header.numbers(keyword)
    if not numbers:
        return
    if parts == 1:
        yield GeometryValue(numbers[0], tag_name(keyword), note)
    else:
        pair = (numbers[0], numbers[1] if len(numbers) > 1 else numbers[0])
        yield GeometryValue((pair[0] * scale, pair[1] * scale), tag_name(keyword), note)


def _settle_scale_of_matrix(options: GeometryOptions, lookup: Lookup) -> None:
    """A matrix needs spacing or SID, not both: what was typed in wins, then the spacing."""
    typed = [name for name in ("pixel_spacing_mm", "sid_mm") if getattr(options, name) is not None]
    keep = typed or [name for name in ("pixel_spacing_mm", "sid_mm") if name in lookup.found][:1]
    for name in ("sid_mm", "pixel_spacing_mm"):
        if name not in keep:
            lookup.found.pop(name, None)
            if keep:
                lookup.problems.pop(name, None)


def _with_spacing_hint(problem: str, header: Header, rows: int, columns: int) -> str:
    """The problem with what else the file says of the detector's size: a guess for the person, not for us."""
    for keyword in ("FieldOfViewDimensions", "FieldOfViewDimensionsInFloat", "IntensifierSize"):
        numbers = header.numbers(keyword)
        if numbers and numbers[0] > 0:
            guess = numbers[-1] / max(rows, columns)
            hint = f"; {tag_name(keyword)} says {_shown(numbers)} mm, which if it is the width of the image makes {guess:.4g} mm"
            found = problem.found if isinstance(problem, Message) else problem
            return Message(found + hint, give=(Remedy("pixel_spacing", f"{guess:.4g}"),))
    return problem


def _shown(value: Any) -> str:
    numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    return " x ".join(map(number_words, numbers))


# -- motion ------------------------------------------------------------------------------------------


def _motion(header: Header) -> tuple[list[str], list[str]]:
    """Reasons to refuse a run whose view changes, and notes."""
    problems, notes = [], []
    remedy = "only runs of a C-arm standing still can be registered; give a DSA run of one view"
    spread = {}
    for keyword in ("PositionerPrimaryAngle", "PositionerSecondaryAngle"):
        increments = header.numbers(keyword + "Increment")
        per_frame = [numbers[0] for numbers in header.per_frame(keyword) if numbers]
        values = increments if increments else per_frame
        if values and max(values) - min(values) > _SAME_ANGLE_DEG:
            spread[keyword + ("Increment" if increments else "")] = max(values) - min(values)
    for keyword, degrees in spread.items():
        problems.append(
            f"This is a rotational run: {tag_name(keyword)} changes by {number_words(degrees, '.1f')} deg over the frames; {remedy}."
        )
    motion = header.text("PositionerMotion")
    if motion == "DYNAMIC" and not problems:
        if not header.numbers("PositionerPrimaryAngleIncrement") and not header.numbers(
            "PositionerSecondaryAngleIncrement"
        ):
            problems.append(
                f"{tag_name('PositionerMotion')} is DYNAMIC but the angles of the frames are not given; {remedy}."
            )
        else:
            notes.append(f"{tag_name('PositionerMotion')} is DYNAMIC, but the angles do not change.")
    moved = [
        max(numbers) - min(numbers)
        for keyword in ("TableVerticalIncrement", "TableLateralIncrement", "TableLongitudinalIncrement")
        if (numbers := header.numbers(keyword))
    ]
    if header.text("TableMotion") == "DYNAMIC" or any(m > 1 for m in moved):
        notes.append(
            f"The table moved during the run ({tag_name('TableMotion')}"
            + (f", by up to {number_words(max(moved), '.0f')} mm" if moved else "")
            + "): use the frames of one position only."
        )
    position = header.text("PatientPosition")
    if position and position != "HFS":
        notes.append(
            f"{tag_name('PatientPosition')} is {coded(position)}: the angles are read as relative to the patient, as DICOM defines "
            "them; check the overlay."
        )
    return problems, notes


# -- how the image was stored ------------------------------------------------------------------------


def _storage(header: Header, upright: CArm) -> tuple[int, bool, list[str]]:
    """Quarter turns clockwise, then flip, that made the stored image; with notes.

    PatientOrientation says what the pixels show and so wins over the field-of-view tags, which say what was done.
    """
    notes: list[str] = []
    by_tags = _storage_by_field_of_view(header, notes)
    by_patient = _storage_by_orientation(header, upright, notes)
    if by_tags is not None and by_patient is not None and by_tags != by_patient:
        notes.append(
            f"{tag_name('FieldOfViewRotation')} / {tag_name('FieldOfViewHorizontalFlip')} say {_storage_words(*by_tags)}, "
            f"{tag_name('PatientOrientation')} {coded(header.text('PatientOrientation'))} says {_storage_words(*by_patient)}; "
            "the latter is used."
        )
    turns, flipped = by_patient or by_tags or (0, False)
    if (turns, flipped) != (0, False):
        notes.append(f"The image is stored {_storage_words(turns, flipped)}; the geometry follows it.")
    return turns, flipped, notes


def _storage_words(turns: int, flipped: bool) -> str:
    parts = [f"turned by {90 * turns} deg"] * (turns > 0) + ["mirrored"] * flipped
    return " and ".join(parts) or "neither turned nor mirrored"


def _storage_by_field_of_view(header: Header, notes: list[str]) -> tuple[int, bool] | None:
    rotation, flip = header.number("FieldOfViewRotation"), header.text("FieldOfViewHorizontalFlip")
    if rotation is None and not flip:
        return None
    turns = (rotation or 0) / 90
    if turns != round(turns):
        notes.append(
            f"{tag_name('FieldOfViewRotation')} is {number_words(rotation or 0)}, not a multiple of 90 deg, and is ignored."
        )
        turns = 0
    return round(turns) % 4, flip == "YES"


def _storage_by_orientation(header: Header, upright: CArm, notes: list[str]) -> tuple[int, bool] | None:
    """The one of the eight ways of storing that shows the patient as PatientOrientation says; None if that is unclear."""
    codes = header.texts("PatientOrientation")
    if not codes:
        return None
    directions = [direction_of(code) for code in codes]
    if len(directions) == 2 and directions[0] is not None and directions[1] is not None:
        agreement = {}
        for turns in range(4):
            for flipped in (False, True):
                turned = upright.turned(turns)
                view = turned.mirrored() if flipped else turned
                agreement[turns, flipped] = min(
                    float(directions[0] @ view.column_axis), float(directions[1] @ view.row_axis)
                )
        best, second = sorted(agreement, key=lambda way: -agreement[way])[:2]
        if agreement[best] > 0.5 and agreement[best] - agreement[second] > 0.2:
            return best
    notes.append(
        f"{tag_name('PatientOrientation')} {coded(header.text('PatientOrientation'))} does not fit the angles and is ignored: "
        "check the overlay."
    )
    return None


def direction_of(code: str) -> np.ndarray | None:
    """RAS unit vector (3,) of a PatientOrientation code such as LA or FAR: each further letter weighs half; None if no code."""
    axes = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "H": (2, 1), "F": (2, -1)}
    vector = np.zeros(3)
    for place, letter in enumerate(code):
        if letter not in axes or vector[axes[letter][0]] != 0:
            return None
        axis, sign = axes[letter]
        vector[axis] = sign * 0.5**place
    return vector / np.linalg.norm(vector) if code else None
