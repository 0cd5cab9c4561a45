"""JSON that people or other programs may have changed: read, or refused in one sentence, however deep or large what stands there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.tables import read_text

_MOST_MB = 100  # no file of these holds so much, and what is read takes ten times as much memory
# What taking a tree of JSON apart raises where it has another shape than it should have.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)


def read_json(path: Path, refusal: str, *, missing: bool = False) -> Any:
    """The tree in a file; numbers in it are finite, but NaN stands where a value is `missing` if there may be such.

    Parameters
    ----------
    path
    refusal
        The sentence to raise if the file holds something else.

    Raises
    ------
    InputError
        No text, no JSON, too large, too deep, or with infinite numbers.
    """
    try:
        if path.stat().st_size > _MOST_MB * 1_000_000:
            raise InputError(refusal)
        return json.loads(
            read_text(path, "JSON file").removeprefix("\ufeff"),
            parse_constant=_nan_alone if missing else _refuse,
            parse_float=_finite,
        )
    except InputError:
        raise
    except (*MALFORMED, OSError):
        raise InputError(refusal) from None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON.")


def _nan_alone(text: str) -> float:
    return float("nan") if text == "NaN" else _refuse(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("A number is too large.")
    return value
