"""The segments of a JPEG or JPEG-LS stream (ITU T.81 annex B, ISO 14495-1), followed without decoding anything."""

from __future__ import annotations

import struct
from collections.abc import Iterator

START, END = b"\xff\xd8", b"\xff\xd9"  # JPEG 2000 has the same end
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
# Markers of frames, which say how large they are; C4, C8 and CC are others.
_SIZES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SCAN, _LAST = 0xDA, 0xD9


def walk(data: bytes) -> Iterator[tuple[int, tuple[int, int] | None]]:
    """Where each segment ends (of a scan: its coded pixels), and rows and columns of one that says them; last of all where the end mark is.

    Raises
    ------
    ValueError
        Segments that do not follow each other; the message is the byte.
    """
    at = len(START)
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError(at)
        marker, size = data[at + 1], None
        if marker == _LAST:
            return
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            if marker in _SIZES and at + 9 <= len(data):
                rows, columns = struct.unpack_from(">HH", data, at + 5)
                size = int(rows), int(columns)
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
            if marker == _SCAN:
                at = _end_of_scan(data, at)
        yield at, size


def _end_of_scan(data: bytes, at: int) -> int:
    """Where coded pixels end: at the next marker that is none of theirs."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        if data[at + 1] != 0 and data[at + 1] not in _ALONE:
            return at
        at += 2
    return len(data)
