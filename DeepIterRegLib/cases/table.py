"""The table of cases: a row a case, every column an option."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from DeepIterRegLib.cases.files import RegisterJob
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Face, Message, within, word
from DeepIterRegLib.common.option import value_of
from DeepIterRegLib.common.options import EACH, OPTIONS, Device, GeometryOptions, Run
from DeepIterRegLib.common.shown import name_of, quoted
from DeepIterRegLib.common.tables import read_sheet
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.images.masks import mask_file

NAME = "name"  # of the case; what else stands in the table are the options, by their ids
SECOND = "2"  # ends the columns of the second DSA
COLUMNS: dict[str, str] = {
    NAME: "Name of the case and of its folder: letters, digits, space, dot, dash, underscore.",
    **{name: option.help for name, option in OPTIONS.items()},
    f"dsa{SECOND}": "Another view of the head as it lay, registered together with the first.",
    **{f"{name}{SECOND}": f"{OPTIONS[name].help} Of the second DSA." for name in EACH},
}
REQUIRED = (NAME, "cta", "dsa")
FACE = Face(lambda option: f"column {option}" if option in COLUMNS else "", "Fill {name}.", "Fill {name} with {value}.")
SUMMARY = "summary.csv"
_NAME = r"[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9_-])?"


@dataclass(frozen=True)
class BatchCase:
    """One row of the table.

    Attributes
    ----------
    name
        Of the case and of its folder.
    job
        What to register, and how.
    paths
        Column to path, of every path in the row.
    problems
        What is wrong with the row, each with row (line of the file) and column; such a case cannot be done.
    line
        Of the table's file, from 1.
    """

    name: str
    job: RegisterJob
    paths: dict[str, Path] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    line: int = 0


def read_cases(table: Path, device: Device = "auto") -> list[BatchCase]:
    """Cases of a CSV file, one a row; paths are absolute, or relative to the file.

    A row that is wrong is a case with `problems`; of two rows with one name the second is wrong. A case that has no name
    of its own is called by its row. Whether the paths exist is not looked at: that is the case's own trouble.

    Raises
    ------
    InputError
        Everything wrong with the table, each problem with its row and column, if not a single row can be used.
    """
    cases: list[BatchCase] = []
    seen: dict[str, int] = {}
    for line, cells, problems in _rows(table):
        row = _Row(line, cells, table.absolute().parent)
        row.problems += problems
        case = row.case(device)
        # In small letters: Windows and macOS would give "A" and "a" one folder.
        if first := seen.get(case.name.lower()):
            row.problems.append(
                f"Row {line}, column name: {_case_words(case.name)} stands in row {first} already; names must differ."
            )
        seen.setdefault(case.name.lower(), line)
        if row.problems:
            named = not any(problem.startswith(f"Row {line}, column name") for problem in row.problems)
            case = replace(case, name=case.name if named else f"row {line}", problems=tuple(row.problems))
        cases.append(case)
    if all(case.problems for case in cases):
        raise InputError(problem for case in cases for problem in case.problems)
    return cases


def _case_words(name: str) -> str:
    """A case by the name that the person gave it; what cannot be such a name may be anything."""
    return f'"{name}"' if re.fullmatch(_NAME, name) else quoted(name)


def _rows(table: Path) -> list[tuple[int, dict[str, str], list[str]]]:
    """Line number, filled cells and problems of each row that is not empty."""
    sheet = read_sheet(table, "Table", "a CSV file is needed")
    problems = _header_problems(list(sheet.header))
    rows: list[tuple[int, dict[str, str], list[str]]] = []
    for row in sheet.rows:
        wrong = []
        if row.surplus:
            wrong.append(
                f"Row {row.line} has {row.count} cells for {len(sheet.header)} columns: put cells with commas in quotes."
            )
        rows.append((row.line, {name: cell for name, cell in row.cells.items() if cell}, wrong))
    if not rows and not problems:
        problems.append(f"Table {name_of(table)} has no case: it needs a row below the names of the columns.")
    if problems:
        raise InputError(problems)
    return rows


def _header_problems(header: list[str]) -> list[str]:
    problems = []
    for number, name in enumerate(header, 1):
        # Refused and not passed over: a misspelt column would leave its setting at the default in every case.
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, 1)
            hint = f"; {near[0]} is meant?" if near else f"; known are {', '.join(COLUMNS)}."
            problems.append(f"Row 1, column {number}: {quoted(name, COLUMNS)} is not a column of this table{hint}")
        elif name in header[: number - 1]:
            problems.append(f"Row 1, column {number}: {quoted(name, COLUMNS)} stands there twice.")
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        problems.append(
            f"Row 1: the table lacks {'the columns' if len(missing) > 1 else 'the column'} {', '.join(missing)}."
        )
    return problems


class _Row:
    """One row as it is read; keeps what is wrong with it."""

    def __init__(self, line: int, cells: dict[str, str], folder: Path) -> None:
        self.problems: list[str] = []
        self._line, self._cells, self._folder = line, cells, folder

    def case(self, device: Device) -> BatchCase:
        """The case of the row; `device` where the row names none."""
        further: tuple[Run, ...] = ()
        if f"dsa{SECOND}" in self._cells:
            further = (Run(**self._values(Run, SECOND), geometry=self._geometry(SECOND)),)
        else:
            for name in EACH:
                if f"{name}{SECOND}" in self._cells:
                    self._add(Message(f"It is filled, but column dsa{SECOND} is empty", at=f"{name}{SECOND}"))
        values = {"device": device, **self._values(RegisterJob)}
        job = RegisterJob(**values, geometry=self._geometry(), further=further)
        for column in REQUIRED[1:]:
            if column not in self._cells:
                self._add(Message("It is empty", at=column, advice=COLUMNS[column]))
        return BatchCase(self._name(), job, self._paths(), line=self._line)

    def _name(self) -> str:
        name = self._cells.get(NAME, "")
        if not name:
            self._add(Message("It is empty", at=NAME, advice=COLUMNS[NAME]))
        # The name becomes a folder: Windows drops a dot or space at its end, and a dot in front hides it. The summary
        # stands beside it.
        elif not re.fullmatch(_NAME, name) or name.lower() == SUMMARY:
            self._add(Message(f"{quoted(name)} cannot be the name of a folder", at=NAME, advice=COLUMNS[NAME]))
        return name

    def _geometry(self, ending: str = "") -> GeometryOptions:
        values = self._values(GeometryOptions, ending)
        with self._gathered():
            return GeometryOptions(**values)
        # Only where the values cannot be used: the rest of the row is still read, so that all its mistakes are told.
        return GeometryOptions()

    def _values(self, group: type, ending: str = "") -> dict[str, Any]:
        """What the row says for the fields of a group; what is wrong is kept."""
        values = {}
        for member in fields(group):
            option = member.metadata.get("option")
            if option is not None and (text := self._cells.get(option.name + ending)):
                with self._gathered():
                    values[member.name] = value_of(option, text, self._folder, option.name + ending)
        return values

    def _paths(self) -> dict[str, Path]:
        """Column to path, of every path in the row."""
        paths = {}
        for column, text in self._cells.items():
            option = OPTIONS.get(column, OPTIONS.get(column.removesuffix(SECOND)))
            if option is None or option.kind not in ("file", "matrix file", "start"):
                continue
            if option.kind != "start" or option.old_choices.get(text, text) not in option.choices:
                path = self._folder / text
                paths[column] = mask_file(path) if option.labels else path
        return paths

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            for problem in error.problems:
                self._add(problem)

    def _add(self, problem: str) -> None:
        self.problems.append(word(within(problem, f"Row {self._line}, "), FACE))


def missing_paths(cases: Iterable[BatchCase]) -> list[str]:
    """A sentence for each path that is not there, by row and case."""
    return [
        f"Row {case.line}, {case.name}: {column} {name_of(path, column)} does not exist."
        for case in cases
        for column, path in case.paths.items()
        if not case.problems and not exists(path)
    ]
