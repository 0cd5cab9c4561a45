"""Is a picture's file (PNG, TIFF, JPEG, BMP) whole? Its sizes and check sums, looked at before memory is taken.

Pillow does not look at the check sums of PNG's pixels, and fills what is missing of a TIFF or a JPEG with grey.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.images.jpeg_segments import END, walk

MOST_VALUES = 1 << 28  # 1024 x 1024 x 256: no picture of an angiogram has more
_BEST_RATIO = {8: 1032, 32946: 1032, 5: 6000, 32773: 64}  # of TIFF's compressions: deflate, LZW, PackBits
_PIECE = 1 << 20


def check_picture(path: Path) -> None:
    """Look at a file by what it is, whatever its name says; what is no picture is left to its reader.

    Raises
    ------
    InputError
        Cut short, a wrong check sum, or a size that its bytes cannot hold: with what is there and what should be.
    """
    with path.open("rb") as file:
        start = file.read(8)
    for mark, check in _CHECKS:
        if start.startswith(mark):
            check(path)
            return
    if not start:
        raise InputError(f"{name_of(path)} is empty (0 bytes); copy it again.")


def check_size(name: str, frames: int, rows: int, columns: int) -> None:
    """Raise InputError for no size of an angiogram."""
    if min(frames, rows, columns) < 1:
        raise InputError(f"{name} is damaged: its header says {frames} x {rows} x {columns} pixels; copy it again.")
    if frames * rows * columns > MOST_VALUES:
        raise InputError(
            f"The header of {name} says {frames} x {rows} x {columns} pixels, more than any angiogram has ({MOST_VALUES:,}); copy it "
            "again, or give fewer frames."
        )


def _short(name: str, found: int, wanted: int, what: str = "pixels") -> InputError:
    return InputError(
        f"{name} is cut short: it holds {found:,} bytes of {what} where its header says {wanted:,}; copy it again."
    )


# -- PNG: https://www.w3.org/TR/png-3/ -------------------------------------------------------------------

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # values a pixel, by the type of colour
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def _check_png(path: Path) -> None:
    name, header, ended = name_of(path), b"", False
    packed: list[bytes] = []
    for kind, body, good in _chunks(path):
        if body is None or (not good and kind[:1].isupper()):  # small letters: nobody needs it
            problem = "is cut short" if body is None else "is damaged: a check sum is wrong"
            held = f"after {sum(len(part) for part in packed):,} bytes of compressed pixels"
            raise InputError(f"{name} {problem} {held}; copy it again.")
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed.append(body)
        ended = kind == b"IEND"
    if len(header) != 13 or not packed:
        raise InputError(f"{name} is damaged: it has no {'pixels' if header else 'header'}; copy it again.")
    columns, rows, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    check_size(name, 1, rows, columns)
    wanted = _png_bytes(rows, columns, bits * _SAMPLES.get(colour, 1), bool(interlaced))
    found, whole, broken = _inflated(packed)
    if broken or found > wanted or (found == wanted and not whole):
        raise InputError(
            f"{name} is damaged: it holds {found:,} bytes of pixels where its header says {wanted:,}, or the check sum of the "
            "pixels is wrong; copy it again."
        )
    if found < wanted:
        raise _short(name, found, wanted)
    if not ended:
        raise InputError(f"{name} is cut short: its last part (IEND) is missing; copy it again.")


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes | None, bool]]:
    """Kind, content and whether the check sum is right; None for content that is not all there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(8)
        while head := file.read(8):
            if len(head) < 8:
                yield head, None, False
                return
            length, kind = struct.unpack(">I4s", head)
            if file.tell() + length + 4 > size:
                yield kind, None, False
                return
            body = file.read(length)
            yield kind, body, struct.unpack(">I", file.read(4))[0] == zlib.crc32(kind + body)
            if kind == b"IEND":
                return


def _png_bytes(rows: int, columns: int, bits: int, interlaced: bool) -> int:
    """Of the pixels unpacked: a byte for the filter, then the row."""
    if not interlaced:
        return rows * (1 + (columns * bits + 7) // 8)
    total = 0
    for top, left, down, across in _ADAM7:
        height, width = -(-(rows - top) // down), -(-(columns - left) // across)
        if height > 0 and width > 0:
            total += height * (1 + (width * bits + 7) // 8)
    return total


def _inflated(packed: list[bytes]) -> tuple[int, bool, bool]:
    """How many bytes a zlib stream in parts unpacks to, whether it ends, and whether it is damaged; nothing is kept."""
    stream, count = zlib.decompressobj(), 0
    try:
        for part in packed:
            waiting = part
            while waiting and not stream.eof:
                count += len(stream.decompress(waiting, _PIECE))
                waiting = stream.unconsumed_tail
        while not stream.eof and (more := stream.decompress(stream.unconsumed_tail, _PIECE)):
            count += len(more)
    except zlib.error:
        return count, False, True
    return count, stream.eof, False


# -- TIFF: TIFF 6.0, and BigTIFF ------------------------------------------------------------------------


def _check_tiff(path: Path) -> None:
    """By tifffile's reading of the directories; it takes no memory for the pixels."""
    import tifffile

    size = path.stat().st_size
    try:
        with tifffile_log(), tifffile.TiffFile(path) as file:
            pages = [(page, _facts(page)) for page in file.pages]
            values = sum(count * rows * columns for _, (count, rows, columns, *_) in pages)
    except InputError:
        raise
    except Exception:  # of many kinds, at damaged directories
        raise InputError(
            f"{name_of(path)} is damaged or cut short: its directory of pages cannot be read; copy it again."
        ) from None
    if not pages:
        raise InputError(f"{name_of(path)} is cut short: it has no page; copy it again.")
    _, (frames, rows, columns, *_) = pages[0]
    check_size(name_of(path), max(frames, -(-values // max(1, rows * columns))), rows, columns)
    for number, (_, (_, _, _, wanted, parts, of, compression)) in enumerate(pages, 1):
        called = name_of(path) if len(pages) == 1 else f"Page {number} of {name_of(path)}"
        if not _readable(compression):
            raise InputError(
                f"{called} is packed in a way that is not read (Compression {compression}), or its header is damaged; save it again "
                "without compression, or as PNG."
            )
        inside = sum(min(count, max(0, size - start)) for start, count in parts)
        if len(parts) < of or any(count == 0 for _, count in parts):
            raise InputError(
                f"{called} is damaged: {sum(count > 0 for _, count in parts)} of its {of} parts are there; copy it again."
            )
        if inside < sum(count for _, count in parts):
            raise _short(called, inside, sum(count for _, count in parts))
        if inside * _BEST_RATIO.get(compression, 1 if compression == 1 else 10_000) < wanted:
            raise _short(called, inside, wanted)


@contextmanager
def tifffile_log() -> Iterator[list[str]]:
    """What tifffile logs within, by level; it is said in our own words, or not at all."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.levelname)  # type: ignore[method-assign]
    log = logging.getLogger("tifffile")
    others, log.handlers = log.handlers, [handler]
    propagates, log.propagate = log.propagate, False
    try:
        yield told
    finally:
        log.handlers, log.propagate = others, propagates


def _readable(compression: int) -> bool:
    import tifffile

    try:
        return callable(tifffile.TIFF.DECOMPRESSORS[compression])
    except (KeyError, ImportError, AttributeError):
        return False


def _facts(page: Any) -> tuple[int, int, int, int, list[tuple[int, int]], int, int]:
    """Frames, rows, columns, bytes unpacked; where its parts begin and their bytes; how many there should be; compression."""
    page = page.aspage()
    parts = list(zip(map(int, page.dataoffsets), map(int, page.databytecounts), strict=False))
    of = 1
    for count in page.chunked:
        of *= int(count)
    frames = int(page.shaped[0] * page.shaped[1]) if page.shaped else 0
    # A part of uncompressed pixels may be written as one with the next ones.
    of = min(of, len(page.dataoffsets)) if int(page.compression) == 1 and parts else of
    return frames, int(page.imagelength), int(page.imagewidth), int(page.nbytes), parts, of, int(page.compression)


# -- JPEG ------------------------------------------------------------------------------------------------


def _check_jpeg(path: Path) -> None:
    data = path.read_bytes()
    try:
        segments = list(walk(data))
    except ValueError as error:
        raise InputError(
            f"{name_of(path)} is damaged: its parts do not follow each other at byte {error.args[0]:,}; copy it again."
        ) from None
    sizes = [size for _, size in segments if size is not None]
    for rows, columns in sizes:
        check_size(name_of(path), 1, rows, columns)
    if not sizes or not data.startswith(END, segments[-1][0]):
        raise InputError(
            f"{name_of(path)} is cut short: its {len(data):,} bytes do not reach the end of its picture; copy it again."
        )


# -- BMP -------------------------------------------------------------------------------------------------


def _check_bmp(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(54)
    if len(head) < 54:
        raise _short(name_of(path), len(head), 54, "its header")
    told, _, start, _, columns, rows, _, bits, compression = struct.unpack_from("<IIIIiiHHI", head, 2)
    size = path.stat().st_size
    if told and size > told:
        raise InputError(
            f"{name_of(path)} is damaged: it has {size:,} bytes where its header says {told:,}; copy it again."
        )
    check_size(name_of(path), 1, abs(rows), columns)
    wanted = abs(rows) * ((columns * bits + 31) // 32 * 4)
    found = size - start
    if compression in (0, 3) and found < wanted:
        raise _short(name_of(path), max(0, found), wanted)


_CHECKS: tuple[tuple[bytes, Callable[[Path], None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _check_png),
    (b"II*\0", _check_tiff),
    (b"MM\0*", _check_tiff),
    (b"II+\0", _check_tiff),
    (b"MM\0+", _check_tiff),
    (b"\xff\xd8", _check_jpeg),
    (b"BM", _check_bmp),
)
