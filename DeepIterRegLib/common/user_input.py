"""Numbers and matrices as a person types them: options of the command line, cells of tables, text files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message

if TYPE_CHECKING:
    import numpy as np


def numbers(text: str | None, at: str, counts: tuple[int, ...]) -> list[float]:
    """Numbers separated by commas or spaces; none if nothing was typed.

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
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        what = f"{wanted} number is" if counts == (1,) else f"{wanted} numbers separated by a comma are"
        raise InputError(Message(f'"{text}" was typed; {what} needed', at=at))
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
        raise InputError(Message(f'"{text}" was typed; frame numbers from 1 separated by commas are needed', at=at))
    return tuple(int(part) - 1 for part in parts)


def matrix_file(path: Path, at: str) -> np.ndarray:
    """A (3, 4) matrix from a text file of 3 rows.

    Raises
    ------
    InputError
        Absent, unreadable, or of another shape.
    """
    import numpy as np

    try:
        matrix = np.loadtxt(path, delimiter="," if "," in path.read_text(encoding="utf-8") else None)
    except (OSError, ValueError) as error:
        raise InputError(Message(f"{path} cannot be read as 3 rows of 4 numbers: {error}", at=at)) from error
    if matrix.shape != (3, 4):
        raise InputError(
            Message(f"{path} holds an array of shape {matrix.shape}; 3 rows of 4 numbers are needed", at=at)
        )
    return matrix
