"""Numbers, matrices and tables as a person types them: options of the command line, CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

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
    if not parts or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(Message(f'"{text}" was typed; frame numbers from 1 separated by commas are needed', at=at))
    return tuple(int(part) - 1 for part in parts)


class Lines(Protocol):
    """What `csv.reader` makes: cells line by line, and the line of the file that the last ones ended on."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


def csv_lines(path: Path, what: str, wanted: str) -> Lines:
    """Lines of a UTF-8 CSV file with comma or semicolon, the names of the columns first.

    Parameters
    ----------
    path
    what
        How the message calls the file.
    wanted
        What is to be given if there is none, a clause.

    Raises
    ------
    InputError
        No such file, or not text.
    """
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist: {wanted}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path.name} is not a UTF-8 text file: save it as CSV UTF-8.") from error
    first = text.partition("\n")[0]
    return csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first and "," not in first else ",")


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
