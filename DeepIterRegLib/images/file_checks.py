"""Is a volume's file whole? Sizes and check sums, looked at before memory is taken; neither ITK nor nibabel does so.

One place for every format: a header says how many bytes of voxels there should be; here they are counted.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.user_input import is_file
from DeepIterRegLib.images.header_fields import LONGEST_LINE, check_metaimage_fields, check_nrrd_fields

# Larger than any CT of a head: 1024 x 1024 x 1000 of two bytes fit.
MAX_BYTES = 2 << 30
_PIECE = 1 << 20
_BEST_RATIO = 1032  # of the deflate format: no stream grows by more
_AUTO_WBITS = 47  # zlib's or gzip's wrapping, whichever is there
_MOST_AT_ONCE = 16 << 20  # decompressed: a piece of a bomb would be a gigabyte
_SURPLUS = 64 << 20  # after the voxels: extensions and padding are less
_GZIP = b"\x1f\x8b"
_NUMBERED = re.compile(r"[^%]*%0?\d?d[^%]*")  # a name with the file's number in it, as C writes it
_MAX_HEADER, _MAX_FILES = 1 << 20, 10_000


@dataclass(frozen=True)
class Claim:
    """What a header says of the voxels.

    Attributes
    ----------
    name
        Of the header's file, as messages call it.
    shape : tuple of int
        In the header's order.
    value_bytes
        Of one voxel.
    """

    name: str
    shape: tuple[int, ...]
    value_bytes: int

    @property
    def total_bytes(self) -> int:
        total = self.value_bytes
        for count in self.shape:
            total *= count
        return total

    @property
    def grid(self) -> str:
        """For messages."""
        return " x ".join(map(str, self.shape))

    def check(self, file_bytes: int | None) -> None:
        """Refuse sizes that are no sizes, beyond `MAX_BYTES`, or more than a file of `file_bytes` can hold (None: they lie elsewhere).

        Raises
        ------
        InputError
        """
        if not self.shape or min(self.shape) < 1:
            raise InputError(f"{self.name} is damaged: its header says {self.grid or 'no'} voxels; copy it again.")
        if file_bytes is not None and self.total_bytes > _BEST_RATIO * file_bytes:
            raise InputError(
                f"{self.name} is damaged or cut short: its header says {self.grid} voxels, {self.total_bytes:,} bytes, which a file "
                f"of {file_bytes:,} bytes cannot hold; copy it again."
            )
        if self.total_bytes > MAX_BYTES:
            raise InputError(
                f"The header of {self.name} says {self.grid} voxels, {self.total_bytes:,} bytes: no CT "
                "of a head is that large. Copy it again; if it is whole, crop or resample it."
            )

    def surplus(self, found: int) -> str:
        """A note if there are `found` bytes of voxels and they are too many; empty if they are as many as there should be."""
        if found <= self.total_bytes:
            return ""
        return (
            f"{self.name} holds {found:,} bytes of voxels where its header says {self.total_bytes:,} ({self.grid}): its header may be "
            "damaged, or bytes were added. If the image looks wrong, copy it again."
        )

    def short(self, found: int) -> InputError:
        """The refusal of a file that holds `found` bytes of voxels."""
        return InputError(
            f"{self.name} is cut short: it holds {found:,} bytes of voxels where its header says {self.total_bytes:,} ({self.grid}); "
            "copy it again."
        )


def inflate(
    file: BinaryIO,
    claim: Claim,
    skip: int = 0,
    compressed: int | None = None,
    keep: bool = True,
) -> tuple[bytearray, str]:
    """The start of a zlib or gzip stream up to the last voxel, if the stream is whole to its end and its check sums are right.

    Parameters
    ----------
    file
        At the stream's start.
    claim
    skip
        Bytes of the decompressed stream before the voxels.
    compressed
        Bytes of the stream; None for all that are left.
    keep
        False to look only: nothing is kept.

    Returns
    -------
    stream
        Up to the last voxel.
    note
        On more voxels than there should be; empty where there are none.

    Raises
    ------
    InputError
        Cut short, a wrong check sum, or less than claimed: with the bytes that are there and that should be.
    """
    there = _left(file) if compressed is None else compressed
    if there * _BEST_RATIO < skip + claim.total_bytes:
        raise InputError(
            f"The header of {claim.name} says {claim.grid} voxels, {claim.total_bytes:,} bytes, but {there:,} compressed bytes "
            "cannot hold them; copy it again."
        )
    count, whole = 0, True
    kept = bytearray(skip + claim.total_bytes if keep else 0)
    try:
        for piece in _pieces(file, there):
            if count < len(kept):
                kept[count : count + len(piece)] = piece[: len(kept) - count]
            count += len(piece)
            if count > skip + claim.total_bytes + _SURPLUS:
                raise InputError(f"{claim.name} holds more voxels than its header says ({claim.grid}); copy it again.")
    except EOFError:
        whole = False
    except zlib.error:
        raise InputError(
            f"{claim.name} is damaged: the check sum of its compressed data is wrong, or they cannot be decompressed beyond "
            f"{max(0, count - skip):,} of {claim.total_bytes:,} bytes of voxels; copy it again."
        ) from None
    if not whole or count < skip + claim.total_bytes:
        raise claim.short(max(0, count - skip))
    return kept, claim.surplus(count - skip)


def _left(file: BinaryIO) -> int:
    """Bytes from here to the end."""
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The decompressed stream; a file may hold several gzip streams, and zeros after the last.

    Raises
    ------
    EOFError
        The last stream does not end.
    zlib.error
        Damaged, or a wrong check sum.
    """
    stream, waiting = zlib.decompressobj(_AUTO_WBITS), b""
    while True:
        if len(waiting) < 2:
            waiting += (more := file.read(min(_PIECE, length)))
            length -= len(more)
            if not waiting:
                break
        if stream.eof:
            if waiting[:2] != _GZIP:
                return
            stream = zlib.decompressobj(_AUTO_WBITS)
        yield stream.decompress(waiting, _MOST_AT_ONCE)
        waiting = stream.unconsumed_tail or stream.unused_data
    if not stream.eof:
        yield stream.flush()
    if not stream.eof:
        raise EOFError


def check_plain(path: Path, claim: Claim, offset: int) -> str:
    """Does a file hold the voxels uncompressed, from `offset` on? A note if it holds more.

    Raises
    ------
    InputError
        Too short: with the bytes that are there and that should be.
    """
    found = path.stat().st_size - offset
    if found < claim.total_bytes:
        raise claim.short(max(0, found))
    return claim.surplus(found)


def check_header_and_data(path: Path) -> tuple[str, ...]:
    """Check the files of an NRRD or MetaImage volume (.nrrd, .nhdr, .mha, .mhd), which ITK then reads; notes on them.

    Raises
    ------
    InputError
        A header that cannot be read or claims too much, data that are missing, cut short or damaged.
    """
    told = _check_nrrd(path) if path.suffix.lower() in (".nrrd", ".nhdr") else _check_metaimage(path)
    return (told,) if told else ()


# -- NRRD ----------------------------------------------------------------------------------------------

# https://teem.sourceforge.net/nrrd/format.html, section 5
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(
        ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort", "unsigned short"), 2
    ),
    **dict.fromkeys(("unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64"), 8),
    **dict.fromkeys(("int64_t", "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    "double": 8,
}


def _check_nrrd(path: Path) -> str:
    with path.open("rb") as file:
        lines = _header_lines(file, path, lambda line: not line)
        start = file.tell()
    if not lines or not lines[0].startswith("NRRD000"):
        raise InputError(f"{name_of(path)} is damaged, or no NRRD file: it does not begin with NRRD; copy it again.")
    fields = dict(part for line in lines[1:] if not line.startswith("#") and (part := _field(line, ": ")))
    if any(len(line) > LONGEST_LINE for line in lines if ":=" not in line and not _field(line, ": ")):
        raise InputError(
            f"The header of {name_of(path)} is damaged: a line of it has over {LONGEST_LINE} letters; copy it again."
        )
    check_nrrd_fields(fields, name_of(path))
    claim = Claim(name_of(path), _sizes(fields.get("sizes", "")), _NRRD_BYTES.get(fields.get("type", "").lower(), 0))
    if not claim.value_bytes:
        raise InputError(
            f"The header of {name_of(path)} names no type of voxels that can be read; save it again as NRRD."
        )
    named = fields.get("datafile", fields.get("data file"))
    claim.check(path.stat().st_size if named is None else None)
    encoding = fields.get("encoding", "").lower()
    skip = int(text) if re.fullmatch(r"-?\d+", text := fields.get("byteskip", fields.get("byte skip", "0"))) else 0
    if named is None:
        return _check_data(path, claim, encoding, start, skip)
    files = _named_files(named, lines, path)
    if len(files) == 1:
        return _check_data(files[0], claim, encoding, 0, skip)
    return _check_total(files, claim) if encoding == "raw" else ""


def _check_data(path: Path, claim: Claim, encoding: str, start: int, skip: int) -> str:
    """The voxels of an NRRD: from `start` and `skip` bytes on, -1 for at the file's end. A note if there are too many."""
    if encoding == "raw":
        told = check_plain(path, claim, 0 if skip < 0 else start + skip)
        return "" if skip < 0 else told
    if encoding in ("gzip", "gz"):
        with path.open("rb") as file:
            file.seek(start)
            return inflate(file, claim, max(skip, 0), keep=False)[1]
    if encoding not in ("text", "txt", "ascii"):
        raise InputError(
            f"{claim.name} is stored in a way that is not read, or its header is damaged (encoding); save it again as raw or gzip."
        )
    return _check_text(path, claim, start)


def _check_text(path: Path, claim: Claim, start: int) -> str:
    """Values as text: so many must stand there."""
    count, inside = 0, False
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            words = len(piece.split())
            count += words - (inside and not piece[:1].isspace() and words > 0)
            inside = not piece[-1:].isspace()
    wanted = claim.total_bytes // claim.value_bytes
    if count < wanted:
        raise InputError(
            f"{claim.name} is cut short: it holds {count:,} values where its header says {wanted:,} ({claim.grid}); copy it again."
        )
    if inside:
        return f"{claim.name} ends within a line: its last value may be cut short. If the image looks wrong, copy it again."
    return claim.surplus(count * claim.value_bytes)


def _check_total(files: Sequence[Path], claim: Claim) -> str:
    found = sum(file.stat().st_size for file in files)
    if found < claim.total_bytes:
        raise claim.short(found)
    return claim.surplus(found)


# -- MetaImage -----------------------------------------------------------------------------------------

# https://itk.org/Wiki/ITK/MetaIO/Documentation, reference: ElementType
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
_DATA_FILE = "elementdatafile"


def _check_metaimage(path: Path) -> str:
    with path.open("rb") as file:
        lines = _header_lines(file, path, lambda line: line.lower().startswith(_DATA_FILE))
        start = file.tell()
    fields = dict(part for line in lines if (part := _field(line, "=")))
    named = fields.get(_DATA_FILE)
    if named is None:
        raise InputError(f"{name_of(path)} is damaged, or no MetaImage file: its header does not end; copy it again.")
    check_metaimage_fields(fields, name_of(path))
    channels = fields.get("elementnumberofchannels", "1")
    value_bytes = _META_BYTES.get(fields.get("elementtype", ""), 0) * (int(channels) if channels.isdecimal() else 0)
    claim = Claim(name_of(path), _sizes(fields.get("dimsize", "")), value_bytes)
    if not claim.value_bytes:
        raise InputError(
            f"The header of {name_of(path)} names no type of voxels that can be read; save it again as MHA."
        )
    claim.check(path.stat().st_size if named.upper() == "LOCAL" else None)
    packed = fields.get("compresseddata", "").lower() == "true"
    as_text = fields.get("binarydata", "true").lower() == "false"
    if named.upper() == "LOCAL":
        data, at = path, start
    else:
        files = _named_files(named, lines, path)
        if len(files) > 1:
            return "" if packed or as_text else _check_total(files, claim)
        data, at = files[0], 0
    size = fields.get("compresseddatasize", "")
    if packed:
        with data.open("rb") as file:
            file.seek(at)
            length = min(int(size), _left(file)) if size.isdecimal() and int(size) else None
            return inflate(file, claim, compressed=length, keep=False)[1]
    if as_text:
        return _check_text(data, claim, at)
    header = fields.get("headersize", "0")
    told = check_plain(data, claim, at if not header.isdecimal() else at + int(header))
    return told if header.isdecimal() else ""  # -1: the voxels lie at the end, wherever they begin


# -- text headers --------------------------------------------------------------------------------------


def _header_lines(file: BinaryIO, path: Path, last: Callable[[str], bool]) -> list[str]:
    """Lines up to the one that `last` accepts, which is among them; the file then stands behind it."""
    lines: list[str] = []
    while line := file.readline(_MAX_HEADER):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        lines.append(text)
        if last(text.strip()):
            break
        if file.tell() > _MAX_HEADER or b"\0" in line:
            raise InputError(f"The header of {name_of(path)} is damaged; copy it again.")
    return lines


def _field(line: str, sign: str) -> tuple[str, str] | None:
    name, found, value = line.partition(sign)
    return (name.strip().lower(), value.strip()) if found else None


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split()
    return tuple(int(part) for part in parts) if all(re.fullmatch(r"\d{1,18}", part) for part in parts) else ()


def _named_files(named: str, lines: Sequence[str], path: Path) -> list[Path]:
    """The data files that a header names: one, a list, or numbered ones.

    Raises
    ------
    InputError
        Those that are not there.
    """
    words = named.split()
    if words[:1] and words[0].upper() == "LIST":
        at = next(n for n, line in enumerate(lines) if named in line)
        names = [line.strip() for line in lines[at + 1 :] if line.strip()]
    elif len(words) >= 4 and _NUMBERED.fullmatch(words[0]) and all(re.fullmatch(r"-?\d+", word) for word in words[1:4]):
        first, last, step = map(int, words[1:4])
        numbers = range(first, last + (1 if step > 0 else -1), step or 1)
        names = [words[0] % number for number in numbers[:_MAX_FILES]]
    else:
        names = [named]
    files = [path.parent / name for name in names]
    missing = [name_of(file) for file in files if not is_file(file)]
    if missing or not files:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{name_of(path)} keeps its voxels in {missing[0] if missing else 'other files'}{more}, which is not there: copy "
            "both files into one folder."
        )
    return files
