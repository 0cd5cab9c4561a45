"""The table of cases: a row a case, every column an option."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import cast, get_args

from DeepIterRegLib.cases.case import Device
from DeepIterRegLib.cases.files import LANDMARKS, FurtherRun, RegisterJob
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.tables import read_sheet
from DeepIterRegLib.common.user_input import frame_numbers, matrix_file, numbers
from DeepIterRegLib.images.dicom import GeometryOptions
from DeepIterRegLib.images.subtraction import SubtractionMode
from DeepIterRegLib.registration.result import NAMED_INITS

COLUMNS = {
    "name": "of the case and its folder: letters, digits, space, dot, dash, underscore",
    "cta": "file, or folder of a DICOM series",
    "dsa": "XA file, or an image with geometry in this table",
    "dsa2": "another view of the head as it lay, registered together with the first; columns ending in 2 are of it",
    "cta_mask": "vessels of the CTA",
    "cta_vein_mask": "veins of the CTA, added to the vessels",
    "dsa_mask": "vessels of the DSA",
    "landmarks": "table of paired points, the start unless init is given",
    "dsa_landmarks": "the points on the DSA where landmarks is a point list (.mrk.json)",
    "reference": "true pose, to measure the error against",
    "init": "radiological, search, network, skull, auto, landmarks, or a pose file",
    "preset": "default or paper",
    "seed": "whole number from 0",
    "refine_geometry": "yes: correct angles, SID and principal point, a little",
    "between_runs": "yes: the head moved between the runs, a little",
    "mask_frames": "frames without contrast, from 1",
    "subtraction": "auto, subtract or as_is",
    "primary_angle": "deg, LAO positive",
    "secondary_angle": "deg, cranial positive",
    "sid": "source to detector, mm",
    "sod": "source to isocentre, mm",
    "pixel_spacing": "on the detector, mm: one number, or rows,columns",
    "principal_point": "column,row, px",
    "projection_matrix": "text file, 3 rows of 4: RAS mm to column, row",
}
OF_EACH_DSA = (
    "dsa_mask",
    "mask_frames",
    "primary_angle",
    "secondary_angle",
    "sid",
    "sod",
    "pixel_spacing",
    "principal_point",
    "projection_matrix",
)
REQUIRED = ("name", "cta", "dsa")
PATHS = (
    "cta",
    "dsa",
    "dsa2",
    "cta_mask",
    "cta_vein_mask",
    "dsa_mask",
    "dsa_mask2",
    "landmarks",
    "dsa_landmarks",
    "reference",
    "projection_matrix",
    "projection_matrix2",
)
PRESETS = ("default", "paper")
SUMMARY = "summary.csv"


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
        if first := seen.get(case.name.lower()):
            row.problems.append(
                f'Row {line}, column name: "{case.name}" stands in row {first} already; names must differ.'
            )
        seen.setdefault(case.name.lower(), line)
        if row.problems:
            named = not any(problem.startswith(f"Row {line}, column name") for problem in row.problems)
            case = replace(case, name=case.name if named else f"row {line}", problems=tuple(row.problems))
        cases.append(case)
    if all(case.problems for case in cases):
        raise InputError(problem for case in cases for problem in case.problems)
    return cases


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
        problems.append(f"Table {table.name} has no case: it needs a row below the names of the columns.")
    if problems:
        raise InputError(problems)
    return rows


def _header_problems(header: list[str]) -> list[str]:
    problems = []
    for number, name in enumerate(header, 1):
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, 1)
            hint = f"; {near[0]} is meant?" if near else f"; known are {', '.join(COLUMNS)}."
            problems.append(f'Row 1, column {number}: "{name}" is not a column of this table{hint}')
        elif name in header[: number - 1]:
            problems.append(f'Row 1, column {number}: "{name}" stands there twice.')
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
        init = self._cells.get("init")
        paths = {column: self._folder / self._cells[column] for column in PATHS if column in self._cells}
        if init is not None and init not in (*NAMED_INITS, LANDMARKS):
            paths["init"] = self._folder / init
        job = RegisterJob(
            cta=paths.get("cta", Path()),
            dsa=paths.get("dsa", Path()),
            init=str(paths["init"]) if "init" in paths else init,
            preset=self._choice("preset", PRESETS, "default"),
            cta_mask=paths.get("cta_mask"),
            cta_vein_mask=paths.get("cta_vein_mask"),
            dsa_mask=paths.get("dsa_mask"),
            landmarks=paths.get("landmarks"),
            dsa_landmarks=paths.get("dsa_landmarks"),
            reference=paths.get("reference"),
            subtraction=cast(SubtractionMode, self._choice("subtraction", get_args(SubtractionMode), "auto")),
            device=device,
            seed=self._seed(),
            refine_geometry=self._choice("refine_geometry", ("no", "yes"), "no") == "yes",
            between_runs=self._choice("between_runs", ("no", "yes"), "no") == "yes",
        )
        name = self._name()
        with self._gathered():
            job = replace(job, mask_frames=frame_numbers(self._cells.get("mask_frames"), self._at("mask_frames")))
        with self._gathered():
            job = replace(job, geometry=self._geometry(paths.get("projection_matrix")))
        job = replace(job, further=self._further(paths))
        for column in REQUIRED[1:]:
            if column not in self._cells:
                self.problems.append(f"{self._at(column)} is empty: {COLUMNS[column]}.")
        return BatchCase(name, job, paths, line=self._line)

    def _name(self) -> str:
        name = self._cells.get("name", "")
        if not name:
            self.problems.append(f"{self._at('name')} is empty: {COLUMNS['name']}.")
        elif not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9_-])?", name) or name.lower() == SUMMARY:
            self.problems.append(f'{self._at("name")}: "{name}" cannot be the name of a folder: {COLUMNS["name"]}.')
        return name

    def _choice(self, column: str, known: tuple[str, ...], usual: str) -> str:
        value = self._cells.get(column, usual)
        if value not in known:
            self.problems.append(f'{self._at(column)}: "{value}" is not one of {", ".join(known)}.')
            return usual
        return value

    def _seed(self) -> int:
        value = self._cells.get("seed", "0")
        if not value.isdecimal():
            self.problems.append(f'{self._at("seed")}: "{value}" is not a whole number from 0.')
            return 0
        return int(value)

    def _further(self, paths: dict[str, Path]) -> tuple[FurtherRun, ...]:
        """The second view, if there is one."""
        if "dsa2" not in self._cells:
            for column in (f"{name}2" for name in OF_EACH_DSA if f"{name}2" in self._cells):
                self.problems.append(f"{self._at(column)} is filled, but column dsa2 is empty: {COLUMNS['dsa2']}.")
            return ()
        run = FurtherRun(paths["dsa2"], dsa_mask=paths.get("dsa_mask2"))
        with self._gathered():
            run = replace(run, mask_frames=frame_numbers(self._cells.get("mask_frames2"), self._at("mask_frames2")))
        with self._gathered():
            run = replace(run, geometry=self._geometry(paths.get("projection_matrix2"), "2"))
        return (run,)

    def _geometry(self, matrix: Path | None, ending: str = "") -> GeometryOptions:
        spacing, point = self._numbers("pixel_spacing" + ending, 1, 2), self._numbers("principal_point" + ending, 2)
        return GeometryOptions(
            primary_angle_deg=self._number("primary_angle" + ending),
            secondary_angle_deg=self._number("secondary_angle" + ending),
            sid_mm=self._number("sid" + ending),
            sod_mm=self._number("sod" + ending),
            pixel_spacing_mm=(spacing[0], spacing[-1]) if spacing else None,
            principal_point_px=(point[0], point[1]) if point else None,
            projection_matrix=None
            if matrix is None
            else matrix_file(matrix, self._at("projection_matrix" + ending) + ":"),
        )

    def _number(self, column: str) -> float | None:
        values = self._numbers(column, 1)
        return values[0] if values else None

    def _numbers(self, column: str, *counts: int) -> list[float]:
        with self._gathered():
            return numbers(self._cells.get(column), self._at(column), counts)
        return []

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            at = f"Row {self._line}"
            for problem in error.problems:
                self.problems.append(problem if problem.startswith(at) else f"{at}: {in_columns(problem)}")

    def _at(self, column: str) -> str:
        return f"Row {self._line}, column {column}"


def in_columns(text: str) -> str:
    """A message with the command line's options named as columns of the table."""
    options = {"--" + column.replace("_", "-"): f"column {column}" for column in COLUMNS}
    return re.sub(r"--[a-z]+(-[a-z]+)*", lambda found: options.get(found.group(), found.group()), text)


def missing_paths(cases: Iterable[BatchCase]) -> list[str]:
    """A sentence for each path that is not there, by row and case."""
    return [
        f"Row {case.line}, {case.name}: {column} {path} does not exist."
        for case in cases
        for column, path in case.paths.items()
        if not case.problems and not path.exists()
    ]
