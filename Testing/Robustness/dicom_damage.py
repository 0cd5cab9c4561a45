"""Damage of DICOM files, element by element: values, lengths, types, and sizes that are claimed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from damage import Damage, Mutator, written
from seeds import CANARY

_LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UC", b"UR", b"UT", b"SV", b"UV")
_STRINGS = (
    b"AE",
    b"AS",
    b"CS",
    b"DA",
    b"DS",
    b"DT",
    b"IS",
    b"LO",
    b"LT",
    b"PN",
    b"SH",
    b"ST",
    b"TM",
    b"UI",
    b"UT",
    b"UC",
)
_WORDS = (
    b"", b" ", b"abc ", b"0 ", b"-1", b"1e400 ", b"nan ", b"inf ", b"-inf", b"99999999999999999999", b"1.5 ", b"1\\2\\3 ", b"\\ ",
    b"1e-300", b"65536 ", b"\xff\xfe", b"\x00\x00", b"1,5 ", b"1e9 ", b"2147483648", CANARY.encode(), b"x" * 1000, b"0x10",
    b"1\\" * 500, b"20261399", b"YES ", b"LOG ", b"LIN ", b"RGB ", b"DYNAMIC ", b"MONOCHROME1 ", b"1.2.840.10008.1.2.4.70",
)  # fmt: skip
_RAW = (
    b"",
    b"\x00",
    b"\x00\x00",
    b"\x01\x00",
    b"\xff\xff",
    b"\xff\x7f",
    b"\x00\x80",
    b"\x01\x00\x02\x00",
    b"\x00\x00\x80\x7f",
    b"\x08\x00",
    b"\x20\x00",
)


@dataclass(frozen=True)
class _Element:
    start: int
    value: int
    length: int
    vr: bytes
    top: bool
    tag: tuple[int, int]

    @property
    def end(self) -> int:
        return self.value + self.length


def _elements(data: bytes, start: int, end: int, top: bool = True) -> Iterator[_Element]:
    """Elements of an explicit little-endian file, those of sequences after them."""
    at = start
    while at + 8 <= end:
        group, number, vr = *struct.unpack_from("<HH", data, at), data[at + 4 : at + 6]
        if (group, number) == (0xFFFE, 0xE000):  # an item
            length = struct.unpack_from("<I", data, at + 4)[0]
            yield from _elements(data, at + 8, min(end, at + 8 + length), top=False)
            at += 8 + length
            continue
        if not vr.isalpha():
            return
        head = 12 if vr in _LONG else 8
        if at + head > end:
            return
        length = struct.unpack_from("<I" if head == 12 else "<H", data, at + head - (4 if head == 12 else 2))[0]
        if length == 0xFFFFFFFF:
            length = end - at - head
        yield _Element(at, at + head, min(length, end - at - head), vr, top, (group, number))
        if vr == b"SQ":
            yield from _elements(data, at + head, min(end, at + head + length), top=False)
        at += head + length


def _chosen(data: bytes, rng: random.Random) -> _Element | None:
    if data[128:132] != b"DICM":
        return None
    found = [one for one in _elements(data, 132, len(data)) if one.tag[0] > 2 or rng.random() < 0.05]
    return rng.choice(found) if found else None


def element_value(data: bytes, rng: random.Random) -> Damage | None:
    """Another value, its length made right."""
    one = _chosen(data, rng)
    if one is None or one.tag[0] == 0x7FE0:
        return None
    value = (
        rng.choice(_WORDS if one.vr in _STRINGS else _RAW) if rng.random() < 0.85 else rng.randbytes(rng.randrange(40))
    )
    value += b" " * (len(value) % 2)
    if not one.top:  # the lengths around it stay
        value = value.ljust(one.length)[: one.length]
    return _renewed(data, one, value, one.vr, "value")


def _renewed(data: bytes, one: _Element, value: bytes, vr: bytes, what: str) -> Damage:
    size = struct.pack("<I", len(value)) if vr in _LONG else struct.pack("<H", len(value) & 0xFFFF)
    head = data[one.start : one.start + 4] + vr + (b"\0\0" if vr in _LONG else b"") + size
    said = f"{what} of ({one.tag[0]:04x},{one.tag[1]:04x}) {one.vr.decode('latin-1')}: {value[:16]!r}"
    return Damage(data[: one.start] + head + value + data[one.end :], "header", one.start, said)


def element_length(data: bytes, rng: random.Random) -> Damage | None:
    """A damaged length: the value swallows what follows, or ends early."""
    one = _chosen(data, rng)
    if one is None:
        return None
    length = rng.choice(
        (0, 1, one.length + 2, one.length + rng.randrange(200), max(0, one.length - 2), 0xFFFF, 0xFFFFFFFF, 0x7FFFFFF0)
    )
    wide = one.vr in _LONG
    new = struct.pack("<I", length) if wide else struct.pack("<H", length & 0xFFFF)
    return written(data, one.value - len(new), new, f"length of ({one.tag[0]:04x},{one.tag[1]:04x}) made {length}")


def element_type(data: bytes, rng: random.Random) -> Damage | None:
    one = _chosen(data, rng)
    if one is None:
        return None
    vr = rng.choice((b"UN", b"SQ", b"US", b"DS", b"PN", b"FD", b"AT", b"OB", b"??", b"IS", b"UL", b"\0\0"))
    return written(data, one.start + 4, vr, f"type of ({one.tag[0]:04x},{one.tag[1]:04x}) made {vr!r}")


def element_gone(data: bytes, rng: random.Random) -> Damage | None:
    one = _chosen(data, rng)
    if one is None or not one.top:
        return None
    return Damage(
        data[: one.start] + data[one.end :], "header", one.start, f"({one.tag[0]:04x},{one.tag[1]:04x}) removed"
    )


def element_moved(data: bytes, rng: random.Random) -> Damage | None:
    """The value of one under the tag of another."""
    one, other = _chosen(data, rng), _chosen(data, rng)
    if one is None or other is None or not one.top or 0x7FE0 in (one.tag[0], other.tag[0]):
        return None
    return _renewed(data, one, data[other.value : other.end], other.vr, "value of another element")


def several_elements(data: bytes, rng: random.Random) -> Damage | None:
    said, at = [], len(data)
    for _ in range(rng.randrange(2, 6)):
        done = element_value(data, rng)
        if done is not None:
            data, at = done.content, min(at, done.at)
            said.append(done.what)
    return Damage(data, "header", at, "; ".join(said)) if said else None


def claimed_size(data: bytes, rng: random.Random) -> Damage | None:
    """Rows, columns, frames, bits: other numbers."""
    if data[128:132] != b"DICM":
        return None
    wanted = {(0x28, 0x10), (0x28, 0x11), (0x28, 0x8), (0x28, 0x100), (0x28, 0x101), (0x28, 0x102), (0x28, 0x2)}
    found = [one for one in _elements(data, 132, len(data)) if one.tag in wanted]
    if not found:
        return None
    one = rng.choice(found)
    if one.vr == b"US":
        before = struct.unpack_from("<H", data, one.value)[0]
        number = rng.choice((0, 1, before - 1, before + 1, before // 2, 2 * before, 65535, 40000))
        return _renewed(data, one, struct.pack("<H", max(0, number) & 0xFFFF), one.vr, "size")
    text = str(rng.choice((0, 1, 2, 4, 6, 10, 65535, 10**9, -1))).encode()
    return _renewed(data, one, text + b" " * (len(text) % 2), one.vr, "size")


DICOM: tuple[Mutator, ...] = (
    element_value, element_value, element_value, element_value, element_length, element_type, element_gone, element_moved,
    several_elements, claimed_size,
)  # fmt: skip
