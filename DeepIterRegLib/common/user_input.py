"""Numbers and matrices as a person types them: options of the command line, cells of tables, text files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from DeepIterRegLib.common.errors import InputError

if TYPE_CHECKING:
    import numpy as np


def numbers(text: str | None, where: str, counts: tuple[int, ...]) -> list[float]:
    """Numbers separated by commas or spaces; none if nothing was typed.

    Parameters
    ----------
    text
    where
        What was typed into, as the message names it: an option, or a column and its row.
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
        raise InputError(f'{where} is "{text}"; {what} needed.')
    return values


def frame_numbers(text: str | None, where: str) -> tuple[int, ...] | None:
    """Frames counted from 1 as typed, from 0 as used.

    Raises
    ------
    InputError
        Something else than whole numbers from 1.
    """
    if text is None:
        return None
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f'{where} is "{text}"; frame numbers from 1 separated by commas are needed.')
    return tuple(int(part) - 1 for part in parts)


def matrix_file(path: Path, where: str) -> np.ndarray:
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
        raise InputError(f"{where} {path} cannot be read as 3 rows of 4 numbers: {error}.") from error
    if matrix.shape != (3, 4):
        raise InputError(f"{where} {path} holds an array of shape {matrix.shape}; 3 rows of 4 numbers are needed.")
    return matrix
