"""Fields of NRRD and MetaImage headers, each against what it may hold: ITK's parsers of both die of some that they cannot hold."""

from __future__ import annotations

import re
from collections.abc import Mapping

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.itk_transforms import NUMBER

LONGEST_LINE = 500  # letters of a field that is no free text
_SPECIAL = rf"(?:{NUMBER}|[-+]?(?:nan|NaN|NAN|inf|Inf|INF|infinity))"
_WHOLE = r"-?\d{1,18}"
_WORD = r"[A-Za-z0-9_?.\-]{1,40}"
_MOST_DIMENSIONS = 5


def check_nrrd_fields(fields: Mapping[str, str], name: str) -> None:
    """Refuse a header (names in small letters) with a field that its format does not allow; `key:=value` pairs are free.

    Raises
    ------
    InputError
    """
    dimension = _dimension(fields.get("dimension", ""), name)
    directions = re.findall(r"\([^()]*\)|none", fields.get("space directions", "").replace("(none)", "none"))
    vectors = {one.count(",") + 1 for one in [*directions, *_vectors(fields.get("space origin", ""))] if one != "none"}
    if len(vectors) > 1 or (directions and len(directions) != dimension) or max(vectors, default=1) > dimension:
        raise _refused("space directions", name)
    for field, text in fields.items():
        pattern = _NRRD.get(field)
        if field in _NRRD_FREE or field.endswith(":=") or ":=" in field:
            continue
        if pattern is None or len(text) > LONGEST_LINE or not re.fullmatch(pattern, text.strip()):
            raise _refused(field, name)
        if field in _PER_AXIS and len(text.split()) != dimension:
            raise _refused(field, name)


def check_metaimage_fields(fields: Mapping[str, str], name: str) -> None:
    """As `check_nrrd_fields`; fields that the format does not know are free.

    Raises
    ------
    InputError
    """
    dimension = _dimension(fields.get("ndims", ""), name)
    for field, text in fields.items():
        pattern, count = _META.get(field, (None, 0))
        if pattern is None:
            continue
        words = text.split()
        wanted = {-1: dimension, -2: dimension * dimension}.get(count, count)
        if len(text) > LONGEST_LINE or len(words) != wanted or not all(re.fullmatch(pattern, word) for word in words):
            raise _refused(field, name)


def _dimension(text: str, name: str) -> int:
    if re.fullmatch(r"\d", text.strip()) and 1 <= int(text) <= _MOST_DIMENSIONS:
        return int(text)
    raise InputError(f"The header of {name} is damaged: it does not say how many dimensions there are; copy it again.")


def _vectors(text: str) -> list[str]:
    return re.findall(r"\([^()]*\)", text)


def _refused(field: str, name: str) -> InputError:
    known = field if field in _NRRD or field in _META else "a field that its format does not have"
    return InputError(f"The header of {name} is damaged ({known} cannot be read); copy it again, or save it anew.")


_VECTOR = rf"\(\s*{_SPECIAL}(?:\s*,\s*{_SPECIAL}){{0,3}}\s*\)"
_NUMBERS, _WORDS = rf"{_SPECIAL}(?:\s+{_SPECIAL})*", rf"{_WORD}(?:\s+{_WORD})*"
_QUOTED = r'"[^"\\]{0,60}"(?:\s+"[^"\\]{0,60}")*'
_PER_AXIS = (
    "sizes",
    "spacings",
    "kinds",
    "centerings",
    "centers",
    "axis mins",
    "axismins",
    "axis maxs",
    "axismaxs",
    "thicknesses",
)
_NRRD_FREE = ("content", "datafile", "data file")
# https://teem.sourceforge.net/nrrd/format.html, sections 4 and 5
_NRRD = {
    "dimension": _WHOLE,
    "type": r"[a-z0-9_ ]{1,40}",
    "encoding": r"[a-zA-Z0-9]{1,10}",
    "endian": r"little|big",
    "sizes": rf"{_WHOLE}(?:\s+{_WHOLE})*",
    "space": r"[A-Za-z\-]{1,60}",
    "space dimension": r"\d",
    "space directions": rf"(?:{_VECTOR}|none|\(none\))(?:\s+(?:{_VECTOR}|none|\(none\)))*",
    "space origin": _VECTOR,
    "space units": _QUOTED,
    "measurement frame": rf"(?:{_VECTOR}|none)(?:\s+(?:{_VECTOR}|none))*",
    **dict.fromkeys(("spacings", "thicknesses", "axis mins", "axismins", "axis maxs", "axismaxs"), _NUMBERS),
    **dict.fromkeys(("kinds", "centerings", "centers"), _WORDS),
    **dict.fromkeys(("labels", "units", "sample units", "sampleunits"), rf"{_QUOTED}|{_WORDS}"),
    **dict.fromkeys(("old min", "oldmin", "old max", "oldmax", "min", "max"), _SPECIAL),
    **dict.fromkeys(("byte skip", "byteskip", "line skip", "lineskip"), _WHOLE),
    **dict.fromkeys(("number", "block size", "blocksize"), _WHOLE),
}
_TRUTH = r"(?i:true|false|t|f|1|0)"
# https://itk.org/Wiki/ITK/MetaIO/Documentation; -1: one for each dimension, -2: a matrix of them
_META: dict[str, tuple[str, int]] = {
    "objecttype": (r"[A-Za-z]{1,20}", 1),
    "ndims": (r"\d", 1),
    **dict.fromkeys(("binarydata", "binarydatabyteordermsb", "elementbyteordermsb", "compresseddata"), (_TRUTH, 1)),
    **dict.fromkeys(("transformmatrix", "rotation", "orientation"), (_SPECIAL, -2)),
    **dict.fromkeys(
        ("offset", "position", "origin", "centerofrotation", "elementspacing", "elementsize"), (_SPECIAL, -1)
    ),
    "dimsize": (r"\d{1,18}", -1),
    "anatomicalorientation": (r"[A-Za-z?]{1,10}", 1),
    "elementtype": (r"[A-Z_]{1,30}", 1),
    **dict.fromkeys(("elementnumberofchannels", "headersize", "compresseddatasize", "compressionlevel"), (_WHOLE, 1)),
    **dict.fromkeys(("elementmin", "elementmax"), (_SPECIAL, 1)),
    "modality": (r"[A-Za-z_]{1,30}", 1),
}
