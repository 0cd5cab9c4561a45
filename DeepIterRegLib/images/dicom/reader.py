"""A file to an `Angiogram`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import GeometryError
from DeepIterRegLib.common.messages import Remedy, within
from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram, OtherReading, PatientMotion
from DeepIterRegLib.images.dicom.contrast_tags import NO_TAGS
from DeepIterRegLib.images.dicom.geometry_tags import read_carm, spacing_in_file_mm
from DeepIterRegLib.images.dicom.header import Header, size_of
from DeepIterRegLib.images.dicom.image_files import IMAGE_SUFFIXES, read_image_frames
from DeepIterRegLib.images.dicom.interpretation import (
    NO_SUBTRACTION_TAGS,
    Interpreted,
    interpret,
    subtraction_tags,
)
from DeepIterRegLib.images.dicom.pixels import Pixels, is_lossy, meaning_of
from DeepIterRegLib.images.dicom.run_files import open_run
from DeepIterRegLib.images.dicom.scale import OtherScale, other_scales
from DeepIterRegLib.images.dicom.shutters import constant_border, read_valid
from DeepIterRegLib.images.dicom.times import ASSUMED_INTERVAL_S, read_times
from DeepIterRegLib.images.subtraction import SubtractionSettings

# The same run again, with other settings.
Reread = Callable[[SubtractionSettings], Angiogram]


@quoting_nothing()
def read_angiogram(
    path: str | Path,
    options: GeometryOptions = GeometryOptions(),
    subtraction: SubtractionSettings = SubtractionSettings(),  # noqa: B008
    on_progress: Callable[[float], None] | None = None,
) -> Angiogram:
    """Read a DSA run: an XA DICOM file, a folder that holds one run, or PNG / TIFF with all geometry in `options`.

    Parameters
    ----------
    path
    options
        Override what the file says of the C-arm.
    subtraction
        Mask frames, motion, and whether to subtract at all.
    on_progress
        Told the part that is done.

    Raises
    ------
    InputError
        Not an XA run, several in a folder, or one that cannot be decoded.
    GeometryError
        Every missing, senseless or moving part of the geometry, with the option that supplies it.
    """
    path = Path(path)
    again = partial(read_angiogram, path, options)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        frames, full_scale = read_image_frames(path)
        return angiogram_of_images(frames, full_scale, options, subtraction, again, on_progress)
    run = open_run(path)
    run.check_decodable()
    try:
        read_carm(run.header, *size_of(run.header), options)  # its errors come before seconds of decoding
    except GeometryError as error:
        raise GeometryError([within(problem, before=f"{name_of(path)}: ") for problem in error.problems]) from error
    angiogram = angiogram_of_stored(run.decode(), run.header, options, subtraction, again, on_progress)
    return replace(angiogram, notes=(*run.notes, *angiogram.notes))


@quoting_nothing()
def loaded_spacing_mm(path: str | Path) -> tuple[float, float]:
    """Row and column spacing with which a viewer places the run of a file, whatever options say of it."""
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return 1.0, 1.0
    header = open_run(path).header
    return spacing_in_file_mm(header, *size_of(header))


def angiogram_of_stored(
    stored: np.ndarray,
    header: Header,
    options: GeometryOptions,
    subtraction: SubtractionSettings,
    again: Reread | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Angiogram:
    """A run from its stored values (t, row, column) and its header; `again` reads it anew, else the stored values are kept.

    Raises
    ------
    InputError, GeometryError
        As `read_angiogram`.
    """
    rows, columns = stored.shape[1:]
    carm, geometry_notes = read_carm(header, rows, columns, options)
    again = again or partial(angiogram_of_stored, stored, header, options)
    pixels = meaning_of(stored, header)
    del stored  # half as large as the frames are now
    times, time_notes = read_times(header, len(pixels.values))
    valid, valid_notes = read_valid(header, pixels.values, is_lossy(header))
    result = interpret(pixels, valid, subtraction_tags(header, len(pixels.values)), subtraction, on_progress)
    scales = other_scales(header, rows, columns, options)
    notes = (*geometry_notes, *time_notes, *valid_notes, *pixels.notes, *(scale.note for scale in scales))
    angiogram = _angiogram(result, carm, times, valid, notes)
    readings = [
        *(OtherReading(scale.words, scale.remedies, True, partial(_at, angiogram, scale)) for scale in scales),
        *_other_contrast(result, again, subtraction),
    ]
    return replace(angiogram, other_readings=tuple(readings))


def angiogram_of_images(
    frames: np.ndarray,
    full_scale: float,
    options: GeometryOptions,
    settings: SubtractionSettings,
    again: Reread | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Angiogram:
    """A run from grey images (t, row, column) without a header: all geometry is in `options`; `again` reads it anew.

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
    pixels = Pixels(frames, linear=False, contrast=NO_TAGS, full_scale=full_scale, step=1.0, notes=())
    result = interpret(pixels, valid, NO_SUBTRACTION_TAGS, settings, on_progress)
    times = np.arange(len(frames)) * ASSUMED_INTERVAL_S
    time_notes = (
        (f"An image file has no frame times; {1 / ASSUMED_INTERVAL_S:g} frames a second are assumed.",)
        if len(frames) > 1
        else ()
    )
    angiogram = _angiogram(result, carm, times, valid, (*notes, *time_notes))
    return replace(angiogram, other_readings=_other_contrast(result, again, settings)) if again else angiogram


def _angiogram(
    interpreted: Interpreted, carm: CArm, times: np.ndarray, valid: np.ndarray, notes: tuple[str, ...]
) -> Angiogram:
    """A subtracted run in its view, with the patient's motion in mm."""
    result = interpreted.run
    notes = (*notes, *result.notes)
    if not result.mask_frames or result.motion is None:
        return Angiogram(result.frames, carm, times, valid, result.unsubtracted, notes)
    mm = max(carm.pixel_spacing_mm) / carm.magnification
    found = result.motion
    motion = PatientMotion(mm * found.undone, mm * found.left, found.fields, found.before)
    said = (motion.note(),) if motion.note() else ()
    return Angiogram(result.frames, carm, times, valid, result.unsubtracted, (*notes, *said), motion)


def _other_contrast(interpreted: Interpreted, again: Reread, settings: SubtractionSettings) -> tuple[OtherReading, ...]:
    """The run with its grey values turned round, where nothing says for certain that they must not be.

    It is read anew: of a logarithm of intensities no change of sign makes that of the inverted ones.
    """
    other = interpreted.other_contrast
    if not other:
        return ()
    remedies = (Remedy("contrast", other),)
    return (OtherReading(f"{other} vessels", remedies, False, partial(again, replace(settings, contrast=other))),)


def _at(angiogram: Angiogram, scale: OtherScale) -> Angiogram:
    """The same frames at another scale; that the first was used is no longer said."""
    notes = tuple(scale.contradiction if note is scale.note else note for note in angiogram.notes)
    return replace(angiogram, carm=scale.carm, notes=notes, other_readings=())
