"""Stored pixels to numbers with a meaning: bit fields, modality LUT, relation to X-ray intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.images.dicom.contrast_tags import ContrastTags, read_contrast_tags
from DeepIterRegLib.images.dicom.decoding import decode
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.layout import bits_of
from DeepIterRegLib.images.dicom.tags import (
    bytes_of,
    items_of,
    numbers_of,
    syntax_of,
    tag_name,
    text_of,
    value_of,
    whole_of,
)


@dataclass(frozen=True)
class Pixels:
    """Decoded frames.

    Attributes
    ----------
    values : (t, row, column) float32
        After modality LUT or rescale.
    linear : bool
        Proportional to X-ray intensity, or to white minus intensity; else already logarithmic or made for display.
    contrast : ContrastTags
        Whether bone and contrast have the smaller values, and whether that is certain.
    full_scale : float
        The largest value that the stored bits can express.
    step : float
        What one stored unit is worth.
    notes : tuple of str
    """

    values: np.ndarray
    linear: bool
    contrast: ContrastTags
    full_scale: float
    step: float
    notes: tuple[str, ...]


def is_lossy(header: Header) -> bool:
    """Whether the pixels went through lossy compression."""
    ds = header.dataset
    name = syntax_of(ds).name
    return text_of(ds, "LossyImageCompression") == "01" or any(
        word in name for word in ("Baseline", "Extended", "Lossy")
    )


def read_pixels(header: Header) -> Pixels:
    """`decode` and `meaning_of`."""
    return meaning_of(decode(header), header)


def meaning_of(stored: np.ndarray, header: Header) -> Pixels:
    """Stored values (t, row, column) as numbers with a meaning.

    Raises
    ------
    InputError
        Values that are not finite, or all the same.
    """
    ds = header.dataset
    notes: list[str] = []
    some = stored[:, ::8, ::8]  # nearly always tells that they are not
    if some.min() == some.max() and stored.min() == stored.max():
        raise InputError(f"All pixels of all frames have the value {stored.flat[0]}: the image is empty.")
    bits = bits_of(ds)[1]
    lowest = -(1 << (bits - 1)) if whole_of(ds, "PixelRepresentation", 0, 1, 0) else 0
    ends = np.array([lowest, lowest + (1 << bits) - 1], dtype=np.float64)

    relation = header.text("PixelIntensityRelationship")
    step, finite = 1.0, False
    modality_lut = header.items("ModalityLUTSequence")
    if modality_lut:
        values = _look_up(stored, modality_lut[0])
        ends = _look_up(ends.astype(np.int64), modality_lut[0]).astype(np.float64)
        relation = "LIN" if relation == "LOG" else relation  # PS3.3 C.8.7.1.1.2: the LUT leads back to intensity
    else:
        slope, intercept = _rescale(header)
        values = stored.astype(np.float32)
        finite = stored.dtype.kind in "iu" and _stays_finite(stored.dtype, slope, intercept)
        if (slope, intercept) != (1.0, 0.0):
            values *= np.float32(slope)
            values += np.float32(intercept)
            ends = ends * slope + intercept
            step = abs(slope)
    to_linear = [item for item in _lut_items(header) if text_of(item, "LUTFunction").upper() == "TO_LINEAR"]
    if relation not in ("LIN", "") and to_linear and not modality_lut:
        values = _look_up(stored, to_linear[0])
        ends = _look_up(ends.astype(np.int64), to_linear[0]).astype(np.float64)
        relation = "LIN"
    # The sum shows every value that is not finite, without a mask as large as the run.
    if not finite and not np.isfinite(values.sum(dtype=np.float64)):
        raise InputError(
            "Pixel values are not finite numbers; check RescaleSlope (0028,1053) and RescaleIntercept (0028,1052)."
        )

    if not relation:
        notes.append(
            f"{tag_name('PixelIntensityRelationship')} is absent: grey values are subtracted as they are, without a logarithm."
        )
    return Pixels(
        values=values,
        linear=relation == "LIN",
        contrast=read_contrast_tags(header),
        full_scale=float(ends.max()),
        step=step,
        notes=tuple(notes),
    )


def _stays_finite(whole: np.dtype, slope: float, intercept: float) -> bool:
    """Whether no whole number of a type leaves the range of float32 when it is rescaled."""
    with np.errstate(over="ignore"):
        ends = np.array([np.iinfo(whole).min, np.iinfo(whole).max], np.float32) * np.float32(slope) + np.float32(
            intercept
        )
    return bool(np.isfinite(ends).all())


def _rescale(header: Header) -> tuple[float, float]:
    slope, intercept = (header.numbers("RescaleSlope") or (1.0,))[0], (header.numbers("RescaleIntercept") or (0.0,))[0]
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise InputError(
            f"{tag_name('RescaleSlope')} is {number_words(slope)} and {tag_name('RescaleIntercept')} is {number_words(intercept)}, which "
            "makes pixel values that are not finite or all the same; correct or remove them."
        )
    return slope, intercept


def _lut_items(header: Header) -> list[Dataset]:
    items = header.items("PixelIntensityRelationshipLUTSequence")
    for group in header.items("SharedFunctionalGroupsSequence"):
        for properties in items_of(group, "FramePixelDataPropertiesSequence"):
            items += items_of(properties, "PixelIntensityRelationshipLUTSequence")
        items += items_of(group, "PixelIntensityRelationshipLUTSequence")
    return items


def _look_up(stored: np.ndarray, item: Dataset) -> np.ndarray:
    """Values through a LUT sequence item (PS3.3 C.11.1.1.1): entries outside take the nearest.

    Raises
    ------
    InputError
        A table that is absent, or of another length than it says.
    """
    table, first = _lut(item)
    # Signed where the pixels are, but it may have been read as unsigned.
    first = first - 65536 if first > 32767 and stored.min() < 0 else first
    return table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)]


def _lut(item: Dataset) -> tuple[np.ndarray, int]:
    """Entries, float32, and the stored value that the first of them is for."""
    told = numbers_of(value_of(item, "LUTDescriptor"))
    if (
        len(told) != 3
        or not all(n.is_integer() and -32768 <= n <= 65535 for n in told)
        or not 1 <= told[2] <= 16
        or told[0] < 0
    ):
        raise InputError(
            f"{tag_name('LUTDescriptor')} is not three whole numbers of a table of 1 to 16 bits; copy the file again."
        )
    count, first, bits = (int(n) for n in told)
    count = count or 65536  # PS3.3 C.11.1.1.1: 0 stands for it
    data = bytes_of(item, "LUTData")
    table = (
        np.frombuffer(
            data, np.uint8 if bits <= 8 and len(data) == count else "<u2", len(data) // (1 if len(data) == count else 2)
        )
        if data
        else np.array(numbers_of(value_of(item, "LUTData")))
    )
    if len(table) not in (count, count + 1) or not np.isfinite(table).all():
        raise InputError(
            f"{tag_name('LUTData')} holds {len(table):,} entries where {tag_name('LUTDescriptor')} says {count:,}; copy the file again."
        )
    return table[:count].astype(np.float32), first
