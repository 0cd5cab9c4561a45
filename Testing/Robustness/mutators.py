"""Damage: what happens to files on discs, on the way and in other programs, and what nobody would do; each says what it did.

A mutator takes a file's bytes and gives other bytes, and from which byte on they differ; None where it has nothing to change.
"""

from __future__ import annotations

import functools
import gzip
import json
import random
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from damage import Damage, Mutator, written
from dicom_damage import DICOM
from seeds import CANARY

# -- bytes -----------------------------------------------------------------------------------------------


def flip_bit(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(len(data))
    return written(data, at, bytes([data[at] ^ (1 << rng.randrange(8))]), "one bit flipped")


def flip_bytes(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(len(data))
    count = rng.choice((1, 1, 2, 4, 16, 100))
    return written(data, at, rng.randbytes(min(count, len(data) - at)), f"{count} bytes changed")


def flip_near_the_start(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(min(400, len(data)))
    return written(
        data, at, bytes([rng.choice((0, 255, rng.randrange(256), data[at] ^ 1))]), "a byte near the start changed"
    )


def extreme_number(data: bytes, rng: random.Random) -> Damage:
    size = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(1, min(len(data), rng.choice((200, 2000, len(data)))) - size))
    value = rng.choice((b"\xff" * size, b"\x7f" + b"\xff" * (size - 1), b"\xff" * (size - 1) + b"\x7f", bytes(size)))
    return written(data, at, value, "an extreme number")


def zeros(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(len(data))
    count = min(len(data) - at, rng.choice((1, 16, 512, 4096, len(data))))
    return written(data, at, bytes(count), f"zeros over {count} bytes")


def cut(data: bytes, rng: random.Random) -> Damage:
    at = rng.choice(
        (
            rng.randrange(len(data)),
            int(len(data) * rng.choice((0.1, 0.5, 0.9, 0.99))),
            rng.randrange(min(400, len(data))),
        )
    )
    return Damage(data[:at], "cut", at, f"cut at {at} of {len(data)} bytes")


def cut_a_little(data: bytes, rng: random.Random) -> Damage:
    count = min(len(data), rng.choice((1, 2, 3, 4, 7, 8, 16, 64)))
    return Damage(data[:-count], "cut", len(data) - count, f"the last {count} bytes missing")


def empty(data: bytes, rng: random.Random) -> Damage:
    return Damage(b"", "cut", 0, "empty")


def insert(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(len(data) + 1)
    more = rng.randbytes(rng.choice((1, 2, 4, 100)))
    return Damage(data[:at] + more + data[at:], "size", at, f"{len(more)} bytes inserted")


def remove(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(len(data))
    count = rng.choice((1, 2, 4, 100, 512))
    return Damage(data[:at] + data[at + count :], "size", at, f"{count} bytes removed")


def double(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(len(data))
    part = data[at : at + rng.choice((4, 64, 4096))]
    return Damage(data[:at] + part + data[at:], "size", at, f"{len(part)} bytes doubled")


def exchange(data: bytes, rng: random.Random) -> Damage | None:
    """Two blocks, as a disc does."""
    size = rng.choice((16, 512))
    if len(data) < 3 * size:
        return None
    a, b = sorted(rng.sample(range(len(data) // size), 2))
    a, b = a * size, b * size
    content = data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]
    return Damage(content, "flip", a, f"blocks of {size} bytes exchanged")


def text_mode(data: bytes, rng: random.Random) -> Damage | None:
    """What a transfer as text does."""
    one, other = rng.choice(((b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\n", b"\r")))
    at = data.find(one)
    if at < 0:
        return None
    return Damage(data.replace(one, other), "size" if len(one) != len(other) else "flip", at, "ends of lines changed")


def canary(data: bytes, rng: random.Random) -> Damage:
    at = rng.randrange(len(data))
    return written(data, at, CANARY.encode(), "a name written over it")


BYTES: tuple[Mutator, ...] = (
    flip_bit, flip_bytes, flip_near_the_start, extreme_number, zeros, cut, cut, cut_a_little, insert, remove, double, exchange,
    text_mode, canary,
)  # fmt: skip


# -- NIfTI, gzip -----------------------------------------------------------------------------------------


def nifti_field(data: bytes, rng: random.Random) -> Damage | None:
    """A field of the header; check sums are made right again."""
    packed = data[:2] == b"\x1f\x8b"
    plain = bytearray(gzip.decompress(data) if packed else data)
    if len(plain) < 540:
        return None
    two = plain[:4] == b"\x1c\x02\x00\x00"
    fields: dict[str, tuple[int, str]] = (
        {"dim": (16, "<q"), "datatype": (12, "<h"), "bitpix": (14, "<h"), "vox_offset": (168, "<q"), "scl_slope": (176, "<d"),
         "scl_inter": (184, "<d"), "pixdim": (104, "<d"), "sform": (400, "<d"), "quatern": (352, "<d"), "code": (344, "<i")}
        if two
        else {"dim": (40, "<h"), "datatype": (70, "<h"), "bitpix": (72, "<h"), "vox_offset": (108, "<f"), "scl_slope": (112, "<f"),
              "scl_inter": (116, "<f"), "pixdim": (76, "<f"), "sform": (280, "<f"), "quatern": (256, "<f"), "code": (252, "<h")}
    )  # fmt: skip
    name = rng.choice(list(fields))
    at, kind = fields[name]
    size = struct.calcsize(kind)
    repeats = {"dim": 8, "pixdim": 8, "sform": 12, "quatern": 6, "code": 2}.get(name, 1)
    at += size * rng.randrange(repeats)
    if kind[1] in "hiq":
        value: Any = rng.choice((0, 1, 2, 3, 4, 7, 8, 16, 64, 128, 255, 256, 512, 768, 1000, 30000, -1, -32768))
        value += rng.choice((0, 0, 1)) if value != 30000 else 0
    else:
        value = rng.choice(
            (0.0, 1.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30, 352.0, 353.0, 1e9, 0.5, -1024.0, 1e6)
        )
    struct.pack_into(kind, plain, at, value)
    content = gzip.compress(bytes(plain), 1) if packed else bytes(plain)
    # Sizes that no longer fit the voxels can be known; another slope cannot.
    kind_of = "size" if name in ("dim", "datatype") else "header"
    return Damage(content, kind_of, 352, f"{name} made {value}")


def gzip_part(data: bytes, rng: random.Random) -> Damage | None:
    """Within a gzip stream: check sum, length, less or more than was packed."""
    if data[:2] != b"\x1f\x8b":
        return None
    what = rng.randrange(5)
    if what == 0:
        return written(data, len(data) - 8 + rng.randrange(8), rng.randbytes(1), "check sum or length of gzip")
    plain = gzip.decompress(data)
    if what == 1:
        count = rng.randrange(len(plain))
        return Damage(gzip.compress(plain[:count], 1), "cut", 0, f"{count} of {len(plain)} bytes packed")
    if what == 2:
        return Damage(
            gzip.compress(plain + bytes(rng.choice((1, 100, 1 << 20))), 1),
            "header",
            0,
            "more packed than there should be",
        )
    if what == 3:
        half = len(data) // 2
        return Damage(data[:half] + data, "size", half, "a stream begins within another")
    return Damage(zlib.compress(plain, 1), "header", 0, "zlib in place of gzip")


# -- headers of text: NRRD, MetaImage, PLY, VTK, OBJ, fcsv, tfm ---------------------------------------------

_NASTY = (
    "0", "-1", "1", "2", "3", "nan", "inf", "1e400", "99999999999", "9" * 400, "", "abc", "1.5", "1 2", "1 2 3 4", "raw", "gzip", "bzip2",
    "ascii", "hex", "True", "False", "LOCAL", "LIST", "big", "double", "block", "MET_DOUBLE", "(1,0,0) (0,0,0) (0,0,1)", "none", "../x",
    "/etc/passwd", "%d 1 9999999 1", CANARY,
)  # fmt: skip


def header_word(data: bytes, rng: random.Random) -> Damage | None:
    """A number or word among the first lines."""
    words = list(re.finditer(rb"[^\s:=,(){}\[\]\"<>]+", data[:3000]))
    if not words or b"\0" in data[:20]:
        return None
    word = rng.choice(words)
    number = word.group()
    new = rng.choice(_NASTY).encode()
    if number.isdigit() and rng.random() < 0.6:
        value = int(number)
        new = str(
            rng.choice((value + 1, value - 1, value * 2, value // 2, value * 1000, -value, 0, 2**31, 2**63))
        ).encode()
    content = data[: word.start()] + new + data[word.end() :]
    return Damage(content, "header", word.start(), f"{number[:20]!r} made {new[:20]!r}")


def header_line(data: bytes, rng: random.Random) -> Damage | None:
    """A line removed, doubled, or moved."""
    lines = data[:3000].split(b"\n")
    if len(lines) < 3 or b"\0" in data[:20]:
        return None
    n = rng.randrange(len(lines) - 1)
    at = sum(len(line) + 1 for line in lines[:n])
    line = lines[n] + b"\n"
    rest = data[at + len(line) :]
    how = rng.randrange(4)
    new = (b"", line + line, b"# " + line, line.rstrip(b"\n") + b"x" * rng.choice((10, 100_000)) + b"\n")[how]
    said = ("removed", "doubled", "made a comment", "made long")[how]
    return Damage(data[:at] + new + rest, "header", at, f"line {n + 1} {said}")


TEXT: tuple[Mutator, ...] = (header_word, header_word, header_word, header_line)


# -- JSON, CSV -------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e308, 10**400, "", "x", CANARY, "NaN", [], {}, [[]], [None], {"a": None}, "x" * 200_000, float("nan"),
    float("inf"), [[1] * 4] * 3, [[1] * 4] * 5, 2**63, "1e999",
)  # fmt: skip


def json_value(data: bytes, rng: random.Random) -> Damage | None:
    """One value of the tree replaced, removed or doubled."""
    try:
        tree = json.loads(data)
    except ValueError:
        return None
    places = list(_places(tree))
    parent, key = rng.choice(places)
    how = rng.randrange(4)
    if how == 0 and isinstance(parent, dict):
        del parent[key]
        what = "removed"
    elif how == 1 and isinstance(parent, list):
        parent.append(parent[key])
        what = "doubled"
    else:
        parent[key] = rng.choice(_VALUES)
        what = f"made {str(parent[key])[:20] if not isinstance(parent[key], int) or abs(parent[key]) < 2**64 else '10**400'}"
    return Damage(_dumped(tree), "header", 0, f"{key} {what}")


def _dumped(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()):
        yield tree, key
        yield from _places(tree[key])


def json_shape(data: bytes, rng: random.Random) -> Damage | None:
    """Deep nesting, numbers of thousands of digits, other roots."""
    if data.lstrip()[:1] not in (b"{", b"["):
        return None
    deep = rng.choice((500, 5000, 200_000))
    made = (
        b"[" * deep + b"]" * deep,
        b'{"ctaToCarm":' + b"[" * deep + b"1" + b"]" * deep + b"}",
        b'{"markups":' * deep + b"1" + b"}" * deep,
        b'{"ctaToCarm": [[' + b"1" * 6000 + b"]]}",
        b'{"ctaToCarm": [[1e99999,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}',
        b"null", b"[]", b"{}", b'"x"', b"1", b"NaN", b'{"markups": null}', b'{"markups": [null]}',
        b'{"markups": [{"controlPoints": [null]}]}',
        b"\xef\xbb\xbf" + data, data.decode("utf-8", "ignore").encode("utf-16"), data + data, b"\0" + data, data + b"\0",
        b'{"a":"\\ud800"}',
    )  # fmt: skip
    n = rng.randrange(len(made))
    return Damage(made[n], "header", 0, f"shape {n}")


def csv_cell(data: bytes, rng: random.Random) -> Damage | None:
    """One cell of a table."""
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    lines = text.splitlines()
    if not lines:
        return None
    row = rng.randrange(len(lines))
    separator = ";" if ";" in lines[row] else ","
    cells = lines[row].split(separator)
    column = rng.randrange(len(cells))
    new = rng.choice(
        ("", "x", "nan", "inf", "1e400", "-1", "x" * 140_000, '"', '"' + "x" * 140_000, "\0", "\ud7ff", "=cmd|x", CANARY, "1\n2", '"1\n2"',
         "9" * 5000, "²", "١٢", "1e5", "../..", "\r", "a" * 300 + ".nii", "0.3,0.3", "C:\\x", "~", "/", "#", "$x$")
    )  # fmt: skip
    cells[column] = new
    lines[row] = separator.join(cells)
    return Damage(
        "\n".join(lines).encode("utf-8", "surrogatepass"), "header", 0, f"cell {row},{column} made {new[:12]!r}"
    )


# -- PNG, TIFF -------------------------------------------------------------------------------------------


def png_header(data: bytes, rng: random.Random) -> Damage | None:
    """IHDR with other sizes and types, its check sum made right."""
    if data[:4] != b"\x89PNG":
        return None
    values = list(struct.unpack(">IIBBBBB", data[16:29]))
    n = rng.randrange(7)
    nasty = (
        (0, 1, values[n] + 1, max(0, values[n] - 1), 2 * values[n], 65535, 2**31 - 1)
        if n < 2
        else (0, 1, 2, 3, 4, 6, 8, 16, 255)
    )
    values[n] = rng.choice(nasty)
    body = b"IHDR" + struct.pack(">IIBBBBB", *values)
    content = data[:12] + body + struct.pack(">I", zlib.crc32(body)) + data[33:]
    # A size beside the pixels that are there is told by their number; a type that turns their meaning is not.
    return Damage(content, "size" if n < 2 else "header", 16, f"IHDR {n} made {values[n]}")


def png_bomb(data: bytes, rng: random.Random) -> Damage | None:
    """A picture of zeros, as large as it says."""
    if data[:4] != b"\x89PNG":
        return None
    side = rng.choice((5000, 20_000))
    body = _zeros_packed(side)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
    content = data[:8] + b"".join(
        struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
        for name, value in chunks
    )
    return Damage(content, "header", 0, f"zeros of {side} x {side}")


@functools.cache
def _zeros_packed(side: int) -> bytes:
    pixels = zlib.compressobj(1)
    return b"".join(pixels.compress(bytes(side + 1)) for _ in range(side)) + pixels.flush()


def tiff_tag(data: bytes, rng: random.Random) -> Damage | None:
    """A tag of the first directory: its value, count or type."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order = "<" if data[:2] == b"II" else ">"
    directory = struct.unpack_from(order + "I", data, 4)[0]
    if directory + 2 > len(data):
        return None
    count = struct.unpack_from(order + "H", data, directory)[0]
    at = directory + 2 + 12 * rng.randrange(max(1, count))
    tag = struct.unpack_from(order + "H", data, at)[0]
    part, size = rng.choice(((2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "I")))
    before = struct.unpack_from(order + size, data, at + part)[0]
    new = rng.choice((0, 1, 2, 5, 8, 16, 32, 65535, before + 1, max(0, before - 1), 2 * before, before // 2, 2**31))
    content = bytearray(data)
    struct.pack_into(order + size, content, at + part, new & (0xFFFF if size == "H" else 0xFFFFFFFF))
    return Damage(bytes(content), "header", at, f"tag {tag} part {part}: {before} made {new}")


# -- which for which ---------------------------------------------------------------------------------------


def mutators_of(name: str) -> tuple[Mutator, ...]:
    """For a file, by its name: damage of bytes, and of its structure."""
    low = name.lower()
    structured: tuple[Mutator, ...] = ()
    if low.endswith((".dcm", "dicomdir")) or "." not in low:
        structured = DICOM
    elif ".nii" in low:
        structured = (nifti_field, nifti_field, *((gzip_part, gzip_part) if low.endswith(".gz") else ()))
    elif low.endswith(
        (".nrrd", ".nhdr", ".mha", ".mhd", ".ply", ".vtk", ".vtp", ".obj", ".stl", ".tfm", ".txt", ".swc")
    ):
        structured = TEXT
    elif low.endswith(".json"):
        structured = (json_value, json_value, json_value, json_shape)
    elif low.endswith(".fcsv"):
        structured = (*TEXT, csv_cell, csv_cell)
    elif low.endswith(".csv"):
        structured = (csv_cell, csv_cell, csv_cell)
    elif low.endswith(".png"):
        structured = (png_header, png_header, png_header, png_bomb)
    elif low.endswith((".tif", ".tiff")):
        structured = (tiff_tag, tiff_tag, tiff_tag)
    return (*BYTES, empty, *structured * max(1, len(BYTES) // max(1, len(structured))))


def damaged(data: bytes, name: str, rng: random.Random) -> Damage:
    """A file's bytes with one kind of damage."""
    choices = mutators_of(name)
    while True:
        done = rng.choice(choices)(data, rng) if data else Damage(b"\0", "size", 0, "a byte in an empty file")
        if done is not None and done.content != data:
            return done
