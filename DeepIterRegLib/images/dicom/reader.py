"""A file to an `Angiogram`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom.uid import UID

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram, PatientMotion
from DeepIterRegLib.images.dicom.geometry_tags import read_carm, spacing_in_file_mm
from DeepIterRegLib.images.dicom.header import Header, coded, open_header, tag_name
from DeepIterRegLib.images.dicom.image_files import IMAGE_SUFFIXES, read_image_frames
from DeepIterRegLib.images.dicom.kinds import Kind, kind_of
from DeepIterRegLib.images.dicom.pixels import Pixels, check_decodable, decode, is_lossy, meaning_of
from DeepIterRegLib.images.dicom.shutters import constant_border, read_valid
from DeepIterRegLib.images.dicom.times import ASSUMED_INTERVAL_S, read_times
from DeepIterRegLib.images.subtraction import (
    Subtracted,
    SubtractionSettings,
    centre_subtracted,
    choose_mask_frames,
    contrast_sign,
    looks_subtracted,
    subtract,
)


def read_angiogram(
    path: str | Path,
    options: GeometryOptions = GeometryOptions(),
    subtraction: SubtractionSettings = SubtractionSettings(),  # noqa: B008
) -> Angiogram:
    """Read a DSA run: an XA DICOM file, or PNG / TIFF with all geometry in `options`.

    Parameters
    ----------
    path
    options
        Override what the file says of the C-arm.
    subtraction
        Mask frames, motion, and whether to subtract at all.

    Raises
    ------
    InputError
        Not an XA run, or one that cannot be decoded.
    GeometryError
        Every missing, senseless or moving part of the geometry, with the option that supplies it.
    """
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        frames, full_scale = read_image_frames(path)
        return angiogram_of_images(frames, full_scale, options, subtraction)
    header = open_header(path)
    check_xa(header, path)
    check_decodable(header)
    ds = header.dataset
    read_carm(header, int(ds.Rows), int(ds.Columns), options)  # its errors come before seconds of decoding
    return angiogram_of_stored(decode(header), header, options, subtraction)


def loaded_spacing_mm(path: str | Path) -> tuple[float, float]:
    """Row and column spacing with which a viewer places the run of a file, whatever options say of it."""
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return 1.0, 1.0
    header = open_header(path)
    check_xa(header, path)
    return spacing_in_file_mm(header, int(header.dataset.Rows), int(header.dataset.Columns))


def angiogram_of_stored(
    stored: np.ndarray, header: Header, options: GeometryOptions, subtraction: SubtractionSettings
) -> Angiogram:
    """A run from its stored values (t, row, column) and its header.

    Raises
    ------
    InputError, GeometryError
        As `read_angiogram`.
    """
    carm, geometry_notes = read_carm(header, stored.shape[1], stored.shape[2], options)
    pixels = meaning_of(stored, header)
    times, time_notes = read_times(header, len(pixels.values))
    valid, valid_notes = read_valid(header, pixels.values, is_lossy(header))
    result = interpret(pixels, valid, subtraction_tags(header, len(pixels.values)), subtraction)
    notes = (*geometry_notes, *time_notes, *valid_notes, *pixels.notes, *result.notes)
    return _angiogram(result, carm, times, valid, notes)


def angiogram_of_images(
    frames: np.ndarray, full_scale: float, options: GeometryOptions, settings: SubtractionSettings
) -> Angiogram:
    """A run from grey images (t, row, column) without a header: all geometry is in `options`.

    Parameters
    ----------
    frames : float32, overwritten
    full_scale
        The largest value that their type can hold.

    Raises
    ------
    InputError, GeometryError
        As `read_angiogram`.
    """
    carm, notes = read_carm(None, frames.shape[1], frames.shape[2], options)
    valid = ~constant_border(frames, 0.0)
    if valid.mean() < 0.1:
        valid[:] = True
    pixels = Pixels(
        frames, linear=False, dark_is_low=True, polarity_known=False, full_scale=full_scale, step=1.0, notes=()
    )
    result = interpret(pixels, valid, SubtractionTags("", (), (0.0, 0.0), "", ()), settings)
    times = np.arange(len(frames)) * ASSUMED_INTERVAL_S
    time_notes = (
        (f"An image file has no frame times; {1 / ASSUMED_INTERVAL_S:g} frames a second are assumed.",)
        if len(frames) > 1
        else ()
    )
    return _angiogram(result, carm, times, valid, (*notes, *time_notes, *result.notes))


def _angiogram(
    result: Subtracted, carm: CArm, times: np.ndarray, valid: np.ndarray, notes: tuple[str, ...]
) -> Angiogram:
    """A subtracted run in its view, with the patient's motion in mm."""
    if not result.mask_frames or result.motion is None:
        return Angiogram(result.frames, carm, times, valid, result.unsubtracted, notes)
    mm = max(carm.pixel_spacing_mm) / carm.magnification
    motion = PatientMotion(mm * result.motion.undone, mm * result.motion.left)
    said = (motion.note(),) if motion.note() else ()
    return Angiogram(result.frames, carm, times, valid, result.unsubtracted, (*notes, *said), motion)


def check_xa(header: Header, path: Path) -> None:
    """Raise InputError if the file is no angiography run, saying what it is."""
    dataset = header.dataset
    kind = kind_of(dataset)
    if kind is Kind.RUN:
        return
    stated = f"{tag_name('Modality')} {coded(dataset.get('Modality'))}"
    known = UID(str(dataset.get("SOPClassUID", "") or "")).name if kind is not Kind.OTHER else ""
    raise InputError(
        f"{path} is {kind.value} ({stated}{', ' + known if known else ''}); the DSA must be an angiography run of modality XA."
    )


class SubtractionTags(NamedTuple):
    """What a file says about subtraction."""

    already: str
    """The tag that says the pixels are subtracted, or empty."""
    mask_frames: tuple[int, ...]
    """From 0."""
    mask_shift_px: tuple[float, float]
    """Row, column."""
    operation: str
    notes: tuple[str, ...]


def subtraction_tags(header: Header, frames: int) -> SubtractionTags:
    """ImageType, derivation and MaskSubtractionSequence of a run of `frames` frames."""
    already = ""
    image_type = header.texts("ImageType")
    words = {"SUBTRACTED", "SUBTRACTION", "SUBTRACT", "SUB", "DSA"}
    if any(words & set(part.replace("_", " ").split()) for part in image_type):
        already = f"{tag_name('ImageType')} {header.text('ImageType')}"
    for item in header.items("DerivationCodeSequence"):
        if str(item.get("CodeValue", "")) == "113062":  # DCM: pixel by pixel subtraction
            already = tag_name("DerivationCodeSequence")

    notes: list[str] = []
    mask_frames: tuple[int, ...] = ()
    shift = (0.0, 0.0)
    items = header.items("MaskSubtractionSequence")
    operations = [str(item.get("MaskOperation", "") or "").strip().upper() for item in items]
    for item, operation in zip(items, operations, strict=True):
        numbers = item.get("MaskFrameNumbers")
        if operation != "AVG_SUB" or numbers is None or mask_frames:
            continue
        listed = [
            int(n)
            for n in (numbers if isinstance(numbers, (list, tuple)) or hasattr(numbers, "__iter__") else [numbers])
        ]
        mask_frames = tuple(n - 1 for n in listed if 1 <= n <= frames)
        if len(mask_frames) < len(listed):
            notes.append(
                f"{tag_name('MaskFrameNumbers')} names frames {listed}, but the run has {frames}: those absent are ignored."
            )
        moved = item.get("MaskSubPixelShift")
        if moved is not None and len(moved) == 2:
            shift = (float(moved[0]), float(moved[1]))
    if len([o for o in operations if o == "AVG_SUB"]) > 1:
        notes.append(
            f"{tag_name('MaskSubtractionSequence')} changes the mask during the run; its first mask is used for all frames."
        )
    if operations and "AVG_SUB" not in operations and {"TID", "REV_TID"} & set(operations):
        notes.append(
            f"{tag_name('MaskOperation')} is {operations[0]} (differences over time); one mask before contrast is used instead."
        )
    return SubtractionTags(already, mask_frames, shift, operations[0] if operations else "", tuple(notes))


def interpret(pixels: Pixels, valid: np.ndarray, tags: SubtractionTags, settings: SubtractionSettings) -> Subtracted:
    """Contrast negative on a background of 0, whatever the file holds; `pixels.values` are overwritten.

    `valid` (row, column) bool: outside, nothing counts.
    """
    values = pixels.values
    notes = list(tags.notes)
    flat = looks_subtracted(values, valid)
    if settings.mode == "as_is":
        already = True
    # Who names mask frames wants them subtracted, whatever tags say.
    elif settings.mode == "subtract" or settings.mask_frames is not None:
        already = False
    elif tags.already:
        already = True
        if not flat:
            notes.append(
                Message(
                    f"{tags.already} says the run is subtracted, but its background is not flat: check the image",
                    advice="Mask frames given by hand subtract it anyway.",
                    give=("mask_frames",),
                )
            )
    elif tags.mask_frames:
        already = False
        if flat:
            notes.append("The run names mask frames, yet its background is already flat: check the image.")
    else:
        already = flat
        if flat:
            notes.append("No tag says so, but the flat background shows that the run is already subtracted.")
    if already:
        dark_is_low = pixels.dark_is_low if pixels.polarity_known else None
        result = centre_subtracted(values, valid, dark_is_low)
    else:
        result = subtract(
            _as_log(pixels, valid, tags, settings, notes),
            valid,
            mask_frames=tags.mask_frames or None,
            mask_shift_px=tags.mask_shift_px,
            settings=settings,
        )
    return Subtracted(result.frames, result.unsubtracted, result.mask_frames, result.motion, (*notes, *result.notes))


def _as_log(
    pixels: Pixels, valid: np.ndarray, tags: SubtractionTags, settings: SubtractionSettings, notes: list[str]
) -> np.ndarray:
    """Frames with contrast darker, log intensity where the file has intensity. Overwrites `pixels.values`."""
    values = pixels.values
    dark_is_low = pixels.dark_is_low
    if not pixels.polarity_known and len(values) > 1:
        named = settings.mask_frames or tags.mask_frames or choose_mask_frames(values, valid) or (0,)
        masks = [m for m in named if 0 <= m < len(values)] or [0]
        step = max(1, max(valid.shape) // 512)
        small = values[:, ::step, ::step]
        differences = small - small[masks].mean(axis=0)
        differences -= np.median(differences, axis=(1, 2), keepdims=True)
        sign = contrast_sign(differences, valid[::step, ::step])
        if sign and (sign == -1) != dark_is_low:
            dark_is_low = not dark_is_low
            notes.append("Contrast is brighter than its background, so the grey values are inverted.")
    if not dark_is_low:
        np.subtract(np.float32(pixels.full_scale), values, out=values)
    if not pixels.linear:
        return values
    # A pixel without signal has no logarithm: it counts as half of a stored unit.
    np.maximum(values, np.float32(0.5 * pixels.step), out=values)
    np.log(values, out=values)
    return values
