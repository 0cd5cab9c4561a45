"""CSV tables that people make: read with the line of each row, every mistake told at once; written whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.user_input import csv_lines


@dataclass(frozen=True)
class Row:
    """One row: the line of the file it ends on, and what stands under each column (stripped, "" where empty)."""

    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


def read_table(table: Path, needed: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Rows that are not empty, of a UTF-8 CSV file with comma or semicolon; columns beyond `needed` are kept.

    Returns
    -------
    rows
    problems
        Rows with more cells than the header; for the caller to raise together with what it finds.

    Raises
    ------
    InputError
        No such file, not text, columns missing or twice, no row at all.
    """
    reader = csv_lines(table, "Table", f"give a CSV file with the columns {','.join(needed)}")
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in needed if name not in header]
        twice = sorted({name for name in header if name and header.count(name) > 1})
        problems = []
        if missing:
            problems.append(
                f"{table.name} line 1: column {', '.join(missing)} is missing; needed are {','.join(needed)}, "
                f"there are {','.join(header) or 'none'}."
            )
        if twice:
            problems.append(f"{table.name} line 1: column {', '.join(twice)} stands there twice.")
        if problems:
            raise InputError(problems)
        rows = []
        for cells in reader:
            filled = [cell.strip() for cell in cells]
            if not any(filled):
                continue
            if any(filled[len(header) :]):
                problems.append(
                    f"{table.name} line {reader.line_num} has {len(cells)} cells for {len(header)} columns: "
                    "put cells with commas in quotes."
                )
            rows.append(Row(reader.line_num, dict(zip(header, filled, strict=False))))
    except csv.Error as error:
        raise InputError(f"{table.name} line {reader.line_num} is not CSV: {error}.") from error
    if not rows:
        raise InputError(f"{table.name} has no row below the names of the columns.")
    return rows, problems


def table_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file's text; None is an empty cell."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return buffer.getvalue()
