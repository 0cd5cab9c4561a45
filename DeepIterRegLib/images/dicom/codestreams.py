"""Compressed frames: are all there, whole, and of the size that the header says? Looked at before anything is decoded.

Decoders fill what is missing, warn where nobody hears it, and take memory for whatever sizes a stream claims.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from itertools import pairwise

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import RLELossless

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.dicom.layout import Layout
from DeepIterRegLib.images.dicom.open_file import DAMAGE
from DeepIterRegLib.images.dicom.tags import bytes_of, tag_name
from DeepIterRegLib.images.jpeg_segments import END, START, walk

_START_2000 = b"\xff\x4f\xff\x51"
_RLE_HEADER = 64
_TAIL_BYTES = 16


def frames_of(dataset: Dataset, layout: Layout) -> list[bytes]:
    """The compressed frames of an image, one a frame, each looked at.

    Raises
    ------
    InputError
        Fewer or more than the header says, cut short, or of another size.
    """
    found = _streams(dataset, layout)
    if len(found) != layout.frames:
        raise InputError(
            f"{tag_name('NumberOfFrames')} is {layout.frames} but the pixel data holds {len(found)} frames; copy the file again."
        )
    check = _check_rle if layout.syntax == RLELossless else _check_jpeg
    for number, stream in enumerate(found, 1):
        if wrong := check(stream, layout):
            raise InputError(
                f"The pixel data is cut short or damaged: frame {number} of {len(found)} {wrong}; copy the file again."
            )
    return found


def _streams(dataset: Dataset, layout: Layout) -> list[bytes]:
    data = bytes_of(dataset, layout.keyword)
    tables = [bytes_of(dataset, keyword) for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    extended = (tables[0], tables[1]) if all(tables) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(generate_frames(data, number_of_frames=layout.frames, extended_offsets=extended))
    except DAMAGE:
        raise InputError(
            f"The pixel data is cut short or damaged: its {len(data):,} bytes cannot be parted into the {layout.frames} frames of "
            f"{tag_name('NumberOfFrames')}; copy the file again."
        ) from None


def _check_jpeg(stream: bytes, layout: Layout) -> str:
    """What is wrong with a frame of JPEG, JPEG-LS or JPEG 2000; empty if nothing is seen."""
    # Behind it stand zeros up to a block and, of cine from some workstations, a few bytes left in their writer's buffer. No coded
    # pixel looks like an end mark, so a frame that is cut short has none.
    if END not in stream.rstrip(b"\0\xff")[-_TAIL_BYTES:]:
        return f"ends after {len(stream):,} bytes without its end mark"
    size = _size_2000(stream) if stream[:4] == _START_2000 else _size_of(stream) if stream[:2] == START else (0, 0)
    if size is None:
        return "has a header that cannot be read"
    rows, columns = size
    if (rows and rows != layout.rows) or (columns and columns != layout.columns):
        return f"is of {rows} x {columns} pixels where the header says {layout.rows} x {layout.columns}"
    return ""


def _size_of(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns; None if the headers cannot be followed up to them."""
    try:
        return next((size for _, size in walk(stream) if size is not None), None)
    except ValueError:
        return None


def _size_2000(stream: bytes) -> tuple[int, int] | None:
    """ISO 15444-1, A.5.1: the image's place on its reference grid."""
    if len(stream) < 24:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", stream, 8)
    return max(0, int(bottom - top)), max(0, int(right - left))


def _check_rle(stream: bytes, layout: Layout) -> str:
    """What is wrong with a frame of run lengths (PS3.5 annex G): its segments, one a byte of a pixel."""
    if len(stream) < _RLE_HEADER:
        return f"ends after {len(stream)} of the {_RLE_HEADER} bytes of its header"
    count, *offsets = struct.unpack_from("<16L", stream)
    if count != (layout.allocated + 7) // 8:
        return f"has {count} parts where {tag_name('BitsAllocated')} {layout.allocated} makes {(layout.allocated + 7) // 8}"
    used: Sequence[int] = [*offsets[:count], len(stream)]
    if used[0] != _RLE_HEADER or any(later <= earlier for earlier, later in pairwise(used)):
        return "has parts that do not follow each other"
    return ""
