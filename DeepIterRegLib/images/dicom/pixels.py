"""Stored pixels to numbers with a meaning: decoding, bit fields, modality LUT, relation to X-ray intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, JPEGExtended12Bit

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import listening
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.images.dicom.contrast_tags import ContrastTags, read_contrast_tags
from DeepIterRegLib.images.dicom.header import Header, tag_name
from DeepIterRegLib.images.dicom.safe_words import coded, uid_name, whole_number

_UNDECODABLE = "The pixel data cannot be decoded: it is cut short or damaged; copy the file again."
_VIDEO = "1.2.840.10008.1.2.4.10"  # MPEG-2, MPEG-4, H.264 and HEVC: .100 to .109


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


def decode(header: Header) -> np.ndarray:
    """Stored values (t, row, column) as integers, overlay bits removed.

    Raises
    ------
    InputError
        No pixels, no frames, colour, no decoder, or data cut short.
    """
    ds = header.dataset
    check_decodable(header)
    try:
        with listening() as heard:
            twelve_bit = ds.file_meta.get("TransferSyntaxUID") == JPEGExtended12Bit and int(ds.BitsAllocated) == 16
            array = _decode_extended_jpeg(ds) if twelve_bit else pixel_array(_plain_bits(ds))
    except (
        ValueError,
        RuntimeError,
        AttributeError,
        EOFError,
        OSError,
        IndexError,
        TypeError,
        NotImplementedError,
    ):  # whose text may quote the file
        raise InputError(_UNDECODABLE) from None
    if heard.damage:  # what libjpeg makes of what is left looks like an image
        raise InputError(_UNDECODABLE)
    array = array.reshape(-1, *array.shape[-2:])
    frames = _frames(ds)
    if len(array) != frames:
        raise InputError(
            f"{tag_name('NumberOfFrames')} is {whole_number(frames)} but the pixel data holds {len(array)} frames; copy the file again."
        )
    return _shifted_down(array, ds)


def check_decodable(header: Header) -> None:
    """Raise InputError for what the header alone tells cannot be read; see `decode`."""
    ds = header.dataset
    problems = []
    samples = ds.get("SamplesPerPixel", 1)
    photometric = str(ds.get("PhotometricInterpretation", "MONOCHROME2"))
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        problems.append(
            f"The image is in colour ({tag_name('PhotometricInterpretation')} {coded(photometric)}, {whole_number(samples)} samples per "
            "pixel): a screenshot or report, not a run; give the original XA file."
        )
    if _frames(ds) < 1:
        problems.append(
            f"{tag_name('NumberOfFrames')} is {whole_number(ds.get('NumberOfFrames'))}: the file holds no frames."
        )
    elif not any(keyword in ds for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        problems.append(
            f"The file has no {tag_name('PixelData')}: a header alone, or cut short; give the file with its images."
        )
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        if not ds.get(keyword):
            problems.append(f"{tag_name(keyword)} is absent or 0; the pixels cannot be laid out.")
    if problems:
        raise InputError(problems)
    syntax = getattr(ds.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        return
    try:
        decoder = get_decoder(UID(syntax))
        missing = [] if decoder.is_available else list(decoder.missing_dependencies)
        available = decoder.is_available
    except NotImplementedError:
        available, missing = False, []
    if str(syntax).startswith(_VIDEO):
        raise InputError(
            f"There is no decoder for the transfer syntax {_syntax_words(str(syntax))}: it is a film for viewing, whose grey "
            "values are no longer the detector's; export the run from the angiography workstation again, uncompressed or with "
            "lossless JPEG."
        )
    if not available:
        remedy = "install python-gdcm" if missing else "convert the file to one without compression"
        raise InputError(f"There is no decoder for the transfer syntax {_syntax_words(str(syntax))}; {remedy}.")


def _syntax_words(syntax: str) -> str:
    """Name and UID of a transfer syntax of the standard."""
    return f"{uid_name(syntax)} ({syntax})" if uid_name(syntax) != "unknown" else "that the header names"


def is_lossy(header: Header) -> bool:
    """Whether the pixels went through lossy compression."""
    ds = header.dataset
    syntax = getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", None)
    name = "" if syntax is None else UID(syntax).name
    return ds.get("LossyImageCompression") == "01" or any(word in name for word in ("Baseline", "Extended", "Lossy"))


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
    if (
        int(stored.min()) == int(stored.max())
        if stored.dtype.kind in "iu"
        else float(stored.min()) == float(stored.max())
    ):
        raise InputError(f"All pixels of all frames have the value {stored.flat[0]}: the image is empty.")
    bits = int(ds.get("BitsStored") or ds.BitsAllocated)
    lowest = -(1 << (bits - 1)) if ds.get("PixelRepresentation") == 1 else 0
    ends = np.array([lowest, lowest + (1 << bits) - 1], dtype=np.float64)

    relation = header.text("PixelIntensityRelationship")
    step = 1.0
    modality_lut = header.items("ModalityLUTSequence")
    if modality_lut:
        values = _look_up(stored, modality_lut[0])
        ends = _look_up(ends.astype(np.int64), modality_lut[0]).astype(np.float64)
        relation = "LIN" if relation == "LOG" else relation  # PS3.3 C.8.7.1.1.2: the LUT leads back to intensity
    else:
        slope, intercept = _rescale(header)
        values = stored.astype(np.float32)
        if (slope, intercept) != (1.0, 0.0):
            values *= np.float32(slope)
            values += np.float32(intercept)
            ends = ends * slope + intercept
            step = abs(slope)
    to_linear = [item for item in _lut_items(header) if str(item.get("LUTFunction", "")).upper() == "TO_LINEAR"]
    if relation not in ("LIN", "") and to_linear and not modality_lut:
        values = _look_up(stored, to_linear[0])
        ends = _look_up(ends.astype(np.int64), to_linear[0]).astype(np.float64)
        relation = "LIN"
    # The sum shows every value that is not finite, without a mask as large as the run.
    if not np.isfinite(values[:, ::8, ::8]).all() or not np.isfinite(values.sum(dtype=np.float64)):
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


def _rescale(header: Header) -> tuple[float, float]:
    slope, intercept = (header.numbers("RescaleSlope") or (1.0,))[0], (header.numbers("RescaleIntercept") or (0.0,))[0]
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise InputError(
            f"{tag_name('RescaleSlope')} is {number_words(slope)} and {tag_name('RescaleIntercept')} is {number_words(intercept)}, which "
            "makes pixel values that are not finite or all the same; correct or remove them."
        )
    return slope, intercept


def _frames(ds: Dataset) -> int:
    try:
        count = ds.get("NumberOfFrames")
    except (ValueError, TypeError):
        count = None
    return 1 if count is None or count == "" else int(count)


def _plain_bits(ds: Dataset) -> Dataset:
    """The dataset, told to be stored in all its bits where the pixel does not use the lowest ones (pydicom ignores HighBit)."""
    allocated, stored = int(ds.BitsAllocated), int(ds.get("BitsStored") or ds.BitsAllocated)
    if int(ds.get("HighBit", stored - 1)) == stored - 1:
        return ds
    plain = Dataset({tag: ds.get_item(tag) for tag in ds.keys()})  # noqa: SIM118  a copy would share its elements
    plain.file_meta = ds.file_meta
    plain.add_new("BitsStored", "US", allocated)
    plain.add_new("HighBit", "US", allocated - 1)
    return plain


def _shifted_down(array: np.ndarray, ds: Dataset) -> np.ndarray:
    """The bits up to HighBit moved to the lowest place; the sign goes with them."""
    stored = int(ds.get("BitsStored") or ds.BitsAllocated)
    shift = int(ds.get("HighBit", stored - 1)) + 1 - stored
    if shift <= 0 or array.dtype.kind not in "iu":
        return array
    spare = 8 * array.dtype.itemsize - stored - shift
    return ((array << spare).astype(array.dtype) >> (spare + shift)).astype(array.dtype)


def _decode_extended_jpeg(ds: Dataset) -> np.ndarray:
    """12-bit JPEG, which GDCM decodes but pydicom does not ask it to."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(ds.filename))
    if not reader.Read():
        raise ValueError("GDCM cannot read the file")
    buffer = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(buffer, np.uint16).reshape(-1, int(ds.Rows), int(ds.Columns))


def _lut_items(header: Header) -> list[Dataset]:
    items = header.items("PixelIntensityRelationshipLUTSequence")
    for group in header.items("SharedFunctionalGroupsSequence"):
        for properties in group.get("FramePixelDataPropertiesSequence") or []:
            items += list(properties.get("PixelIntensityRelationshipLUTSequence") or [])
        items += list(group.get("PixelIntensityRelationshipLUTSequence") or [])
    return items


def _look_up(stored: np.ndarray, item: Dataset) -> np.ndarray:
    """Values through a LUT sequence item (PS3.3 C.11.1.1.1): entries outside take the nearest."""
    count, first, bits = (int(n) for n in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        # A count of 0 stands for 65536 (PS3.3 C.11.1.1.1).
        data = np.frombuffer(data, dtype=np.uint8 if bits <= 8 and len(data) == (count or 65536) else "<u2")
    table = np.asarray(data).astype(np.float32)
    # Signed where the pixels are, but it may have been read as unsigned.
    first = first - 65536 if first > 32767 and stored.min() < 0 else first
    return table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)]
