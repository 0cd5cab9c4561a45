"""Pixels out of a file as they are stored: counted before memory is taken, decoded from a header that is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import iter_pixels, pixel_array
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGExtended12Bit, XRayAngiographicImageStorage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import listening
from DeepIterRegLib.common.scratch import temporary_folder
from DeepIterRegLib.common.user_input import is_file
from DeepIterRegLib.images.dicom.codestreams import frames_of
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.layout import MOST_VALUES, Layout, layout_of
from DeepIterRegLib.images.dicom.open_file import UNDECODABLE
from DeepIterRegLib.images.dicom.tags import bytes_of, tag_name


def decode(header: Header) -> np.ndarray:
    """Stored values (t, row, column) as integers, overlay bits removed.

    Raises
    ------
    InputError
        No pixels, no frames, colour, no decoder, or data cut short: how many bytes there are, and how many there should be.
    """
    layout = layout_of(header.dataset)
    run: np.ndarray | None = None
    for n, frame in enumerate(decoded_frames(header.dataset, layout, range(layout.frames))):
        if run is None:  # only now it is known that such frames are there
            run = np.empty((layout.frames, *frame.shape), frame.dtype)
        run[n] = frame
    assert run is not None
    return run


def decoded_frames(dataset: Dataset, layout: Layout, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    """Frames (row, column) one after the other, as `decode` has them.

    Raises
    ------
    InputError
        As `decode`.
    """
    if layout.rows * layout.columns * len(wanted) > MOST_VALUES:
        _refuse_size(dataset, layout)
    count = 0
    try:
        for frame in _heard(_frames_of(_clean(dataset, layout), layout, wanted)):
            if frame.shape != (layout.rows, layout.columns):
                raise InputError(
                    f"The pixel data holds frames of {' x '.join(map(str, frame.shape))} where the header says {layout.rows} x "
                    f"{layout.columns}; copy the file again."
                )
            count += 1
            yield _shifted_down(frame, layout)
        if count != len(wanted):
            raise InputError(f"The pixel data holds {count} of {len(wanted)} frames; copy the file again.")
    except UNDECODABLE as error:
        if isinstance(error, InputError):
            raise
        # What decoders say may quote bytes of the file.
        raise InputError(
            f"The pixel data cannot be decoded beyond {count} of {len(wanted)} frames: it is cut short or damaged; copy the file again."
        ) from None


def _heard(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, while nothing that decoders print gets out; libjpeg decodes what is left of a damaged one, and only prints that.

    Raises
    ------
    ValueError
        A decoder complained of damage.
    """
    while True:
        with listening() as heard:  # while it decodes, not while the frame is used
            frame = next(frames, None)
        if heard.damage:
            raise ValueError("a decoder complained")
        if frame is None:
            return
        yield frame


def check_decodable(header: Header) -> None:
    """Raise InputError for what can be told without decoding: see `decode`."""
    layout = layout_of(header.dataset)
    if layout.compressed:
        frames_of(header.dataset, layout)
    else:
        _check_length(header.dataset, layout)


def surplus_note(dataset: Dataset) -> str:
    """A note on pixel data that is longer than the header says; empty where it is not, or nothing can be told."""
    try:
        layout = layout_of(dataset)
    except InputError:
        return ""
    if filling := _filling(dataset, layout):
        return (
            f"{filling:,} bytes of zeros stand behind the pixel data: bytes may have been added on the way. If the images look wrong, "
            "copy the file again."
        )
    found = _length(dataset, layout)
    more = found - layout.total_bytes
    if layout.compressed or more < 1 or (more == 1 and found % 2 == 0):  # values are padded to even lengths
        return ""
    return (
        f"The pixel data holds {found:,} bytes where the header says {layout.total_bytes:,} ({layout.words}): bytes may have been "
        "added or doubled on the way. If the images look wrong, copy the file again."
    )


def _filling(dataset: Dataset, layout: Layout) -> int:
    """Bytes between uncompressed pixels, where they are the last element, and the end of their file."""
    pixels = dataset.get_item(layout.keyword)
    path = getattr(dataset, "filename", None)
    last = next(iter(list(dataset.keys())[::-1]), None)
    if not isinstance(pixels, RawDataElement) or not path or last != pixels.tag or layout.syntax.is_compressed:
        return 0
    return max(0, Path(path).stat().st_size - pixels.value_tell - pixels.length) if is_file(Path(path)) else 0


def _length(dataset: Dataset, layout: Layout) -> int:
    return len(bytes_of(dataset, layout.keyword))


def _check_length(dataset: Dataset, layout: Layout) -> None:
    """Refuse uncompressed pixels that are fewer than the header says, or more by whole frames."""
    found = _length(dataset, layout)
    if found < layout.total_bytes:
        raise InputError(
            f"The pixel data is cut short: it holds {found:,} bytes where the header says {layout.total_bytes:,} ({layout.words}); "
            "copy the file again."
        )
    if (found - layout.total_bytes) // layout.frame_bytes:
        raise InputError(
            f"{tag_name('NumberOfFrames')} is {layout.frames} but the pixel data holds {found // layout.frame_bytes} frames; copy the "
            "file again."
        )


def _refuse_size(dataset: Dataset, layout: Layout) -> None:
    if not layout.compressed:
        _check_length(dataset, layout)
    raise InputError(
        f"The header says {layout.total_bytes:,} bytes of pixels ({layout.words}), more than any run or scan has; copy the file again."
    )


def _clean(dataset: Dataset, layout: Layout) -> Dataset:
    """What a decoder needs and nothing else: elements that are broken elsewhere, and bits that it ignores, do not matter to it."""
    clean = Dataset()
    clean.file_meta = FileMetaDataset()
    clean.file_meta.TransferSyntaxUID = layout.syntax
    clean.file_meta.MediaStorageSOPClassUID = clean.SOPClassUID = XRayAngiographicImageStorage
    clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID = UID("1.2.826.0.1.3680043.8.498.1")
    clean.Rows, clean.Columns, clean.NumberOfFrames = layout.rows, layout.columns, layout.frames
    clean.SamplesPerPixel, clean.PhotometricInterpretation = 1, layout.photometric
    # All bits where the pixel does not use the lowest ones: pydicom ignores HighBit.
    all_bits = layout.high_bit != layout.stored - 1
    clean.BitsAllocated = layout.allocated
    clean.BitsStored = layout.allocated if all_bits else layout.stored
    clean.HighBit = clean.BitsStored - 1
    clean.PixelRepresentation = int(layout.signed)
    clean.add_new(layout.keyword, _representation(dataset, layout), bytes_of(dataset, layout.keyword))
    clean[layout.keyword].is_undefined_length = layout.compressed
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if table := bytes_of(dataset, keyword):
            clean.add_new(keyword, "OV", table)
    clean.set_original_encoding(
        is_implicit_vr=layout.syntax.is_implicit_VR, is_little_endian=layout.syntax.is_little_endian
    )
    return clean


def _representation(dataset: Dataset, layout: Layout) -> str:
    """The VR of the pixels: of big-endian ones it says whether their bytes are exchanged."""
    if layout.keyword != "PixelData":
        return "OF" if layout.keyword == "FloatPixelData" else "OD"
    told = getattr(dataset.get_item(layout.keyword), "VR", None)
    return told if told in ("OB", "OW") else "OB" if layout.compressed or layout.allocated <= 8 else "OW"


def _frames_of(clean: Dataset, layout: Layout, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    """The frames (row, column) that are wanted, one after the other."""
    if layout.compressed:
        frames_of(clean, layout)
    else:
        _check_length(clean, layout)
    if layout.syntax == JPEGExtended12Bit and layout.allocated == 16:
        yield from _decode_extended_jpeg(clean, layout)[list(wanted)]
        return
    if layout.syntax in JPEG2000TransferSyntaxes:
        # Streams may be signed where the header says they are not. pydicom puts that right, but not in arrays that it may only read,
        # as those of `iter_pixels` are.
        yield from (pixel_array(clean, raw=True, index=number) for number in wanted)
        return
    yield from iter_pixels(clean, raw=True, indices=None if len(wanted) == layout.frames else list(wanted))


def _shifted_down(array: np.ndarray, layout: Layout) -> np.ndarray:
    """The bits up to HighBit moved to the lowest place; the sign goes with them."""
    shift = layout.high_bit + 1 - layout.stored
    if shift <= 0 or array.dtype.kind not in "iu":
        return array
    spare = 8 * array.dtype.itemsize - layout.stored - shift
    return ((array << spare).astype(array.dtype) >> (spare + shift)).astype(array.dtype)


def _decode_extended_jpeg(clean: Dataset, layout: Layout) -> np.ndarray:
    """12-bit JPEG, which GDCM decodes but pydicom does not ask it to. GDCM reads files, so it gets one with nothing else in it."""
    import gdcm

    with temporary_folder() as folder:
        path = folder / "frames.dcm"
        pydicom.dcmwrite(path, clean, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        if not reader.Read():
            raise ValueError("GDCM cannot read the file")
        buffer = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(buffer, np.uint16).reshape(-1, layout.rows, layout.columns)
