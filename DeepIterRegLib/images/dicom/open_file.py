"""Open DICOM files, with the standard's first 132 bytes or without; faults in one sentence that quotes nothing of the header."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import name_of

_PREAMBLE_BYTES, _PREFIX = 128, b"DICM"
_PIXELS = {
    (0x7FE0, 0x0010): "PixelData",
    (0x7FE0, 0x0008): "FloatPixelData",
    (0x7FE0, 0x0009): "DoubleFloatPixelData",
}
_META_LENGTH, _GROUP_LENGTH_BYTES = (0x0002, 0x0000), 12  # the element that says how long the meta information is
_UNDEFINED = 0xFFFFFFFF
_LARGE_READ = 1 << 20
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")  # PS3.5, 7.1.2
_META_BYTES = 2048  # in which a file names its transfer syntax
_MOST_INFLATED = 1 << 30
_FIRST_GROUPS = (2, 8)  # of a file without preamble: its meta information, or at once the group that every image has
_NO_GROUPS = (0, 1, 2, 3, 5, 6, 7)  # no file has them behind its meta information; a wrong length makes them up
# What pydicom and the decoders under it raise at damaged headers; a programming error is none of them.
DAMAGE = (
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    BytesLengthException,
    RecursionError,
)
UNDECODABLE = (*DAMAGE, RuntimeError, ArithmeticError, AssertionError)  # and what decoders of pixels raise


@dataclass(frozen=True)
class PixelBytes:
    """Where the pixels of a file lie.

    Attributes
    ----------
    offset
        Of their first byte in the file.
    length
        As the header says; None for fragments, which say their lengths one by one.
    present
        Bytes that the file has from there on.
    keyword
        ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``.
    """

    offset: int
    length: int | None
    present: int
    keyword: str


class NotDicom(InputError):
    """The file is whole or not, but no DICOM."""


def open_dataset(path: Path, tags: Sequence[str] | None = None) -> FileDataset:
    """The dataset of a file; with `tags`, those alone and no pixels.

    Without a transfer syntax in the file it gets the one in which the header was readable.

    Raises
    ------
    NotDicom
        No DICOM file.
    InputError
        Empty, damaged or cut short. The sentence quotes nothing of the file: pydicom's own quote raw bytes, names among them.
    """
    return _opened(path, tags)[0]


def open_before_pixels(path: Path, tags: Sequence[str]) -> tuple[FileDataset, PixelBytes | None]:
    """These tags of a file, and where its pixels lie, which are not read; None where it has none, or they are deflated.

    Raises as `open_dataset`.
    """
    return _opened(path, tags)


def _opened(path: Path, tags: Sequence[str] | None) -> tuple[FileDataset, PixelBytes | None]:
    pixels = None
    try:
        has_prefix = _has_prefix(path)
        if has_prefix is None:
            raise NotDicom(f"{name_of(path)} is not a DICOM file (no DICM prefix).")
        with quoting_nothing(), _Bounded(path) as file:
            if has_prefix and (inflated := _inflated(file)) is not None:
                dataset = pydicom.dcmread(
                    inflated, specific_tags=None if tags is None else list(tags), stop_before_pixels=tags is not None
                )
                dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            elif tags is None:
                dataset = pydicom.dcmread(file, force=not has_prefix)
            else:
                dataset = pydicom.dcmread(file, force=not has_prefix, specific_tags=list(tags), stop_before_pixels=True)
                pixels = _pixel_bytes(file, dataset)
            _check(dataset, path, whole=tags is None)
    except InvalidDicomError:
        raise NotDicom(f"{name_of(path)} is not a DICOM file.") from None
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name_of(path)} is damaged or cut short and cannot be read as DICOM; copy it again."
        ) from None
    return dataset, pixels


def _check(dataset: FileDataset, path: Path, whole: bool) -> None:
    """Refuse a dataset that pydicom reads without a word although its file is damaged; `whole`: with its pixels."""
    if _ends_in_meta(dataset, path):
        raise InputError(f"{name_of(path)} is cut short: it ends before its DICOM data begin; copy it again.")
    if any(tag.group in _NO_GROUPS for tag in dataset.keys()) or _swallows(dataset):  # noqa: SIM118  elements may be unreadable
        raise InputError(
            f"{name_of(path)} is damaged and cannot be read as DICOM: a length in its header is wrong; copy it again."
        )
    _settle_syntax(dataset)
    if whole and _has_strangers_behind_pixels(dataset, path):
        raise InputError(f"{name_of(path)} is damaged: bytes behind its pixels belong to no element; copy it again.")


class _Bounded(io.BufferedReader):
    """A file that is never asked for more bytes than it has: Python takes memory for as many as it is asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, count: int | None = -1) -> bytes:
        if count is not None and count > _LARGE_READ:
            count = min(count, max(0, self._size - self.tell()))
        return super().read(count)


def _inflated(file: BinaryIO) -> io.BytesIO | None:
    """A deflated file as one that is not, within limits; None of any other. The file stands at its start again.

    Raises
    ------
    zlib.error, ValueError
        Cut short, damaged, or a bomb.
    """
    start = file.read(_META_BYTES)
    file.seek(0)
    if DeflatedExplicitVRLittleEndian.encode() not in start:
        return None
    file.seek(_PREAMBLE_BYTES + len(_PREFIX))
    meta = FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return None
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    content = stream.decompress(file.read(), _MOST_INFLATED)
    if not stream.eof:
        raise ValueError("It does not end, or holds more than any image.")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = io.BytesIO()
    plain.write(bytes(_PREAMBLE_BYTES) + _PREFIX)
    write_file_meta_info(plain, meta, enforce_standard=False)  # type: ignore[arg-type]
    plain.write(content)
    plain.seek(0)
    return plain


def _ends_in_meta(dataset: FileDataset, path: Path) -> bool:
    """Whether a file ends where its meta information should, or before; pydicom takes that for a dataset without elements."""
    meta = getattr(dataset, "file_meta", None)
    if meta is None or _META_LENGTH not in meta:
        return False
    length = meta[_META_LENGTH].value
    if not isinstance(length, int):  # a broken one: pydicom found the end of the meta information without it
        return False
    return path.stat().st_size <= _PREAMBLE_BYTES + len(_PREFIX) + _GROUP_LENGTH_BYTES + length


def _swallows(dataset: FileDataset) -> bool:
    """Whether a coded string holds a byte 0 within: the element behind it then is part of it, a patient's name perhaps."""
    for element in dataset.values():
        if (
            isinstance(element, RawDataElement)
            and element.VR == "CS"
            and b"\0" in (element.value or b"").rstrip(b"\0 ")
        ):
            return True
    return False


def _has_strangers_behind_pixels(dataset: FileDataset, path: Path) -> bool:
    """Whether something stands behind the pixels that cannot stand there, as when bytes were added to them on the way."""
    tags = list(dataset.keys())
    at = next((n for n, tag in enumerate(tags) if (tag.group, tag.element) in _PIXELS), None)
    if at is None:
        return False
    if any(tag < tags[at] for tag in tags[at + 1 :]):
        return True
    pixels = dataset.get_item(tags[at])
    deflated = dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if deflated or not isinstance(pixels, RawDataElement) or pixels.length == _UNDEFINED:
        return False
    implicit, little = dataset.original_encoding
    with path.open("rb") as file:
        return not _are_elements(file, pixels.value_tell + pixels.length, bool(implicit), "<" if little else ">")


def _are_elements(file: BinaryIO, at: int, implicit: bool, order: str) -> bool:
    """Whether a file goes on with whole elements from there to its end, each with a higher tag; zeros may fill it up."""
    size, before = file.seek(0, 2), (0x7FE0, 0x0010)
    while at < size:
        file.seek(at)
        head = file.read(12)
        if not any(head):
            file.seek(at)
            return all(not any(piece) for piece in iter(lambda: file.read(_LARGE_READ), b""))
        if len(head) < 8:
            return False
        tag = struct.unpack(order + "HH", head[:4])
        long = not implicit and head[4:6] in _LONG_VRS
        named = implicit or (head[4:6].isalpha() and head[4:6].isupper())
        if tag <= before or not named or (long and len(head) < 12):
            return False
        words, told = ("I", head[8:12]) if long else ("I", head[4:8]) if implicit else ("H", head[6:8])
        length = struct.unpack(order + words, told)[0]
        if length == _UNDEFINED:
            return True
        before, at = (tag[0], tag[1]), at + (12 if long else 8) + length
    return at == size


def _pixel_bytes(file: BinaryIO, dataset: FileDataset) -> PixelBytes | None:
    """Of the element that the file stands at; pydicom stops there, but says neither where nor how long it is."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return None
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    start = file.read(12)
    if len(start) < 12:
        return None
    group, element = struct.unpack(order + "HH", start[:4])
    keyword = _PIXELS.get((group, element))
    if keyword is None:
        return None
    length = struct.unpack(order + "I", start[4:8] if implicit else start[8:12])[0]
    offset = file.tell() - (4 if implicit else 0)
    present = file.seek(0, 2) - offset
    if length != _UNDEFINED and present > length and not _are_elements(file, offset + length, bool(implicit), order):
        raise ValueError("Bytes behind the pixels belong to no element.")  # worded by the caller
    return PixelBytes(offset, None if length == _UNDEFINED else length, present, keyword)


def _has_prefix(path: Path) -> bool | None:
    """Whether the standard's first bytes are there; None where what is there is no DICOM at all."""
    with path.open("rb") as file:
        start = file.read(_PREAMBLE_BYTES + len(_PREFIX))
    if start[_PREAMBLE_BYTES:] == _PREFIX:
        return True
    if len(start) < 8:
        return None
    group, element, length = struct.unpack("<HHI", start[:8])
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    looks_so = group in _FIRST_GROUPS and element < 0x100 and (explicit or length < path.stat().st_size)
    return False if looks_so else None


def _settle_syntax(dataset: FileDataset) -> None:
    if getattr(dataset, "file_meta", None) is None:
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
