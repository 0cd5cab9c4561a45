"""CSV tables that people make: one reader for all, with the line of each row, every mistake told at once; written whole."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of, typed
from DeepIterRegLib.common.user_input import number


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes
    ----------
    line
        Of the file, on which the row ends.
    cells
        Column to what stands under it (stripped, "" where empty).
    count
        Of the row's cells.
    surplus
        Are some filled that have no column?
    """

    line: int
    cells: Mapping[str, str]
    count: int
    surplus: bool

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


@dataclass(frozen=True)
class Sheet:
    """A table as it stands in its file: names of the columns (stripped, in small letters), and the rows that are not empty."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]


_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SEPARATORS = ";\t,"
# A cell that begins like this, or goes on like this after a sign that another country's spreadsheet takes for a separator, is
# computed by the program that opens it. Quotes in front that are not ours are kept apart by one more.
_FORMULA = re.compile(r"((?:^|[;\t\r\n])\s*)('*[=+\-@\uff1d\uff0b\uff0d\uff20](?=.))", re.DOTALL)
_MADE_HARMLESS = re.compile(r"((?:^|[;\t\r\n])\s*)'('*[=+\-@\uff1d\uff0b\uff0d\uff20](?=.))", re.DOTALL)
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


_OF_SPREADSHEETS = "Older spreadsheets write such files (cp1252). Save it as CSV UTF-8 (Excel: Save as, CSV UTF-8)."


def read_text(
    path: Path, what: str, advice: str = "It is damaged, or not text; copy it again, or save it anew."
) -> str:
    """The text of a file in UTF-8 or UTF-16, as spreadsheets write it.

    Parameters
    ----------
    path
    what
        How the message calls the file.
    advice
        What to do where it is not in these encodings.

    Raises
    ------
    InputError
        No text in these encodings; with the line that is none.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if not encoding:  # UTF-16 without its mark: every other byte of a plain letter is 0
        half = content[:200]
        encoding = {(0, 1): "utf-16-le", (1, 0): "utf-16-be"}.get(
            (int(half[::2].count(0) > len(half) // 4), int(half[1::2].count(0) > len(half) // 4)), "utf-8"
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{what} {name_of(path)} is not a UTF-8 text file: line {line} holds a letter of another encoding. {advice}"
        ) from None


def read_sheet(path: Path, what: str, wanted: str) -> Sheet:
    """A CSV file as spreadsheets of any country write it, the names of the columns in its first line; what they mean is the caller's.

    UTF-8 or UTF-16; comma, semicolon or tab between cells, whichever the first line has most of, or the one that a line
    `sep=;` before it names.

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
        No such file, not text, or not CSV.
    """
    if not path.is_file():
        raise InputError(f"{what} {name_of(path)} does not exist: {wanted}.")
    lines = io.StringIO(read_text(path, what, _OF_SPREADSHEETS), newline="")
    first, before = lines.readline(), 0
    if told := _SEP_LINE.fullmatch(first):
        separator, before = told.group(1), 1
        if separator in '"\r\0':
            raise InputError(
                f"{name_of(path)} line 1 names a separator that parts no cells; write sep=; or leave the line out."
            )
    else:
        separator = max(reversed(_SEPARATORS), key=first.count)
        lines.seek(0)
    reader = csv.reader(lines, delimiter=separator)
    rows = []
    try:
        header = tuple(as_meant(name).strip().lower() for name in next(reader, []))
        for cells in reader:
            filled = [as_meant(cell).strip() for cell in cells]
            # Spreadsheets write rows of commas where cells were once filled.
            if any(filled):
                # A row may end before its last, empty cells.
                named = dict(zip(header, filled, strict=False))
                # Surplus only if filled: commas at the end of a row are no mistake.
                rows.append(Row(reader.line_num + before, named, len(cells), any(filled[len(header) :])))
    except csv.Error as error:
        raise InputError(
            f"{name_of(path)} line {reader.line_num + before} is not CSV: a cell in it has over {csv.field_size_limit():,} letters, or "
            "a quote is not closed; correct it."
        ) from error
    return Sheet(header, tuple(rows))


def _listed(columns: Sequence[str]) -> str:
    """Names of columns for a message; where a table has none, its first row may hold a patient's."""
    return ",".join(typed(name) for name in columns) or "none"


def read_table(path: Path, needed: Sequence[str], what: str = "Table", wanted: str = "") -> tuple[list[Row], list[str]]:
    """Rows of a table whose columns are known; columns beyond `needed` are kept.

    Parameters
    ----------
    path
    needed
        Columns.
    what, wanted
        As `read_sheet`; by default a CSV file with these columns is wanted.

    Returns
    -------
    rows
    problems
        Rows with more cells than the header; for the caller to raise together with what it finds.

    Raises
    ------
    InputError
        As `read_sheet`; columns missing or twice, no row at all.
    """
    sheet = read_sheet(path, what, wanted or f"give a CSV file with the columns {','.join(needed)}")
    header = sheet.header
    missing = [name for name in needed if name not in header]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    problems = []
    if missing:
        problems.append(
            f"{name_of(path)} line 1 lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; needed are {','.join(needed)}, "
            f"there are {_listed(header)}."
        )
    if twice:
        problems.append(f"{name_of(path)} line 1: column {_listed(twice)} stands there twice.")
    if problems:
        raise InputError(problems)
    if not sheet.rows:
        raise InputError(f"{name_of(path)} has no row below the names of the columns.")
    problems = [
        f"{name_of(path)} line {row.line} has {row.count} cells for {len(header)} columns: put cells that hold the separator in quotes."
        for row in sheet.rows
        if row.surplus
    ]
    return list(sheet.rows), problems


def harmless(value: Any) -> Any:
    """A cell as it is written: text that a spreadsheet would compute gets a quote in front; numbers stay as they are."""
    if not isinstance(value, str) or number(value) is not None:
        return value
    return _FORMULA.sub(r"\1'\2", value)


def as_meant(cell: str) -> str:
    """Inverse of `harmless`."""
    return _MADE_HARMLESS.sub(r"\1\2", cell)


def table_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file's text; None is an empty cell."""
    buffer = io.StringIO(newline="")
    # A file that is opened as text turns "\n" into the system's own end of a line; of csv's "\r\n" Windows would make
    # "\r\r\n".
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(harmless, header))
    writer.writerows(["" if value is None else harmless(value) for value in row] for row in rows)
    return buffer.getvalue()
