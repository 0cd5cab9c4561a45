"""Numbers and matrices as a person types them: options of the command line, cells of tables, text files."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import name_of, quoted

if TYPE_CHECKING:
    import numpy as np


_MATRIX_BYTES = 100_000
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def exists(path: Path) -> bool:
    """Whether a path as typed leads to something; one that no system can have does not."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a byte 0 in it, a folder that may not be looked into
        return False


def is_file(path: Path) -> bool:
    """As `exists`, of a file."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """As `exists`, of a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def number(text: str) -> float | None:
    """One number, with a decimal point or a decimal comma; None for anything else and for what is not finite."""
    text = text.strip()
    try:
        value = float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _numbers(text: str, counts: tuple[int, ...]) -> list[float]:
    """The numbers typed. A comma is a decimal one where one number is asked for, where spaces part the numbers, and in 0,3."""
    words = text.split()
    decimal = all(_DECIMAL_COMMA.fullmatch(word) for word in words)
    if (
        decimal
        and len(words) in counts
        and (len(words) > 1 or counts == (1,) or words[0].lstrip("+-").startswith("0,"))
    ):
        return [float(word.replace(",", ".")) for word in words]
    return [float(part) for part in text.replace(",", " ").split()]


def numbers(text: str | None, at: str, counts: tuple[int, ...]) -> list[float]:
    """Numbers separated by commas or spaces, with decimal points or, where that is clear, commas; none if nothing was typed.

    Parameters
    ----------
    text
    at
        The option that it was typed for.
    counts
        How many numbers there may be.

    Raises
    ------
    InputError
        Something else than that many numbers.
    """
    if text is None:
        return []
    try:
        values = _numbers(text, counts)
    except ValueError:
        values = []
    if len(values) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        what = f"{wanted} number is" if counts == (1,) else f"{wanted} numbers separated by a comma are"
        raise InputError(Message(f"{quoted(text)} was typed; {what} needed", at=at))
    return values


def frame_numbers(text: str | None, at: str) -> tuple[int, ...] | None:
    """Frames counted from 1 as typed, from 0 as used.

    Raises
    ------
    InputError
        Something else than whole numbers from 1.
    """
    if text is None:
        return None
    parts = text.replace(",", " ").split()
    # `isdecimal` and not `isdigit`, which takes "²" too; `int` does not.
    if not parts or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(
            Message(f"{quoted(text)} was typed; frame numbers from 1 separated by commas are needed", at=at)
        )
    return tuple(int(part) - 1 for part in parts)


def matrix_file(path: Path, at: str) -> np.ndarray:
    """A (3, 4) matrix from a text file of 3 rows.

    Raises
    ------
    InputError
        Absent, unreadable, or of another shape.
    """
    import numpy as np

    from DeepIterRegLib.common.tables import read_text

    try:
        if path.stat().st_size > _MATRIX_BYTES:
            raise InputError("It is too large.")
        text = read_text(path, "Matrix file")
    except (OSError, InputError):
        raise InputError(Message(f"{name_of(path)} cannot be read as 3 rows of 4 numbers", at=at)) from None
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    # Numbers with decimal points: what a comma means between bare numbers cannot be known.
    cells = [[number(cell) for cell in (line.split(",") if "," in text else line.split())] for line in lines if line]
    if len(cells) != 3 or any(len(row) != 4 for row in cells):
        shape = " and ".join(str(count) for count in sorted({len(row) for row in cells})) or "no"
        raise InputError(
            Message(
                f"{name_of(path)} holds {len(cells)} rows of {shape} numbers; 3 rows of 4 numbers are needed", at=at
            )
        )
    if any(cell is None for row in cells for cell in row):
        raise InputError(
            Message(f"{name_of(path)} cannot be read as 3 rows of 4 numbers: one of them is no number", at=at)
        )
    return np.array(cells, dtype=np.float64)
