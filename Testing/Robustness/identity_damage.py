"""Each element of a DICOM file damaged in turn, in ways that let a value swallow the identity or stand in its place."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from identity_patient import ACCESSION, BIRTH, NAME, OF_HEADER, PATIENT_ID

_LONG = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_UNDEFINED = 0xFFFFFFFF
_OTHERS = (b"LO", b"UN", b"US", b"DS", b"SQ", b"PN")
# Elements whose values are said somewhere: what a name would be taken for if it had their tag.
_SHOWN = (0x00080060, 0x00080008, 0x00080070, 0x00080016, 0x00200011, 0x00280004, 0x00181210, 0x00185100, 0x0008103E)


@dataclass(frozen=True)
class Element:
    """Where one top-level element of an explicit little endian file stands."""

    tag: int
    vr: str
    start: int
    value: int
    length: int

    @property
    def long(self) -> bool:
        return self.vr in _LONG

    @property
    def name(self) -> str:
        from pydicom.datadict import keyword_for_tag

        return keyword_for_tag(self.tag) or f"({self.tag >> 16:04x},{self.tag & 0xFFFF:04x})"


def elements_of(data: bytes) -> list[Element]:
    """The elements behind the preamble, meta information included; pixels are the last."""
    at, found = 132, []
    while at + 8 <= len(data):
        group, element = struct.unpack_from("<HH", data, at)
        vr = data[at + 4 : at + 6].decode("latin-1")
        long = vr in _LONG
        value = at + (12 if long else 8)
        length = struct.unpack_from("<I" if long else "<H", data, at + (8 if long else 6))[0]
        if length == _UNDEFINED:
            end = data.find(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), value)
            length, after = end - value, end + 8
        else:
            after = value + length
        found.append(Element(group << 16 | element, vr, at, value, length))
        at = after
    return found


def damages(data: bytes, element: Element, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """What is done to one element, and the file then."""
    size = 4 if element.long else 2
    place = element.value - size
    most = 0xFFFFFFFF if element.long else 0xFFFF
    for more in (2, 10, 30, 64, 120, 300, 700):
        length = min(element.length + more, most - 1)
        yield f"longer by {more}", _put(data, place, length.to_bytes(size, "little"))
    for part in (0, element.length // 2, max(0, element.length - 2)):
        yield f"length {part}", _put(data, place, (part & ~1).to_bytes(size, "little"))
    for vr in _OTHERS:
        yield f"VR {vr.decode()}", _put(data, element.start + 4, vr)
    for text in (NAME, PATIENT_ID, BIRTH, ACCESSION, NAME.split("^")[0]):
        yield f"says {text}", _replaced(data, element, text.encode())
    yield "says all", _replaced(data, element, "\\".join(OF_HEADER).encode())
    yield "says it in other bytes", _replaced(data, element, NAME.encode("utf-16-le"))
    for tag in _SHOWN:
        moved = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        yield f"tag {tag:08x}", _put(data, element.start, moved)
    for _ in range(4):
        at = rng.randrange(element.start, element.value + min(element.length, 64))
        yield "a byte", _put(data, at, bytes([rng.randrange(256)]))


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _replaced(data: bytes, element: Element, value: bytes) -> bytes:
    """The element with another value of its own length, as a writer would write it."""
    value += b" " * (len(value) % 2)
    size = 4 if element.long else 2
    head = data[element.start : element.value - size] + len(value).to_bytes(size, "little")
    return data[: element.start] + head + value + data[element.value + element.length :]


def damage_text(data: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Of a header in lines (NRRD, MetaImage, JSON, CSV): each line cut, doubled, or saying the identity."""
    lines = data.split(b"\n")
    for n, line in enumerate(lines[:40]):
        for what, new in (
            ("gone", []),
            ("twice", [line, line]),
            ("cut", [line[: len(line) // 2]]),
            ("says", [line.split(b":")[0].split(b"=")[0] + b": " + NAME.encode()]),
            ("is said", [line.split(b"=")[0] + b"= " + " ".join(OF_HEADER).encode()]),
        ):
            yield f"line {n} {what}", b"\n".join([*lines[:n], *new, *lines[n + 1 :]])


def damage_bytes(data: bytes, rng: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Bytes of the first 400 changed, the file cut, the identity written over a part."""
    for _ in range(count):
        yield "a byte", _put(data, rng.randrange(min(400, len(data))), bytes([rng.randrange(256)]))
        yield "cut", data[: rng.randrange(len(data))]
        yield "written over", _put(data, rng.randrange(min(400, len(data))), NAME.encode())


def written_over(path: Path, data: bytes) -> None:
    """In place: the damaged file keeps the patient's name."""
    path.write_bytes(data)
