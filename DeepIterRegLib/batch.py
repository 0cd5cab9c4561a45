"""Many cases from a table: what is to be done, what is done already, and a summary of what came of it.

Names of cases are the person's own. Paths, which may name patients, reach neither the summary nor the cases' folders.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, cast, get_args

from DeepIterRegLib import __version__
from DeepIterRegLib.dicom import GeometryOptions
from DeepIterRegLib.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.jobs import (
    Device,
    Outcome,
    RegisterJob,
    ShouldStop,
    SubtractionMode,
    case_of_files,
    register_case,
)
from DeepIterRegLib.output import output_file, output_folder
from DeepIterRegLib.progress import say_nothing
from DeepIterRegLib.registration import NAMED_INITS, Registration
from DeepIterRegLib.report.outputs import REGISTRATION_FILES, write_registration
from DeepIterRegLib.typed import frame_numbers, matrix_file, numbers

COLUMNS = {
    "name": "of the case and its folder: letters, digits, space, dot, dash, underscore",
    "cta": "file, or folder of a DICOM series",
    "dsa": "XA file, or an image with geometry in this table",
    "cta_mask": "vessels of the CTA",
    "cta_vein_mask": "veins of the CTA, added to the vessels",
    "dsa_mask": "vessels of the DSA",
    "reference": "true pose, to measure the error against",
    "init": "radiological, search, network, auto, or a pose file",
    "preset": "default or paper",
    "seed": "whole number from 0",
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
REQUIRED = ("name", "cta", "dsa")
PATHS = ("cta", "dsa", "cta_mask", "cta_vein_mask", "dsa_mask", "reference", "projection_matrix")
PRESETS = ("default", "paper")
SUMMARY = "summary.csv"
SCENE, RECORD = "scene.mrb", "case.json"
CASE_FILES = (*REGISTRATION_FILES, SCENE, RECORD)

Status = Literal["done", "failed", "waiting"]
WriteScene = Callable[[Outcome, RegisterJob, Path], None]


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
    line
        Of the table's file, from 1.
    """

    name: str
    job: RegisterJob
    paths: dict[str, Path] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True)
class CaseResult:
    """One row of the summary; `mpe_mm` only if there was a reference."""

    name: str
    status: Status
    score: float | None = None
    mpe_mm: float | None = None
    seconds: float | None = None
    message: str = ""


# -- the table -------------------------------------------------------------------------------------


def read_cases(table: Path, device: Device = "auto") -> list[BatchCase]:
    """Cases of a CSV file, one a row; paths are absolute, or relative to the file.

    Raises
    ------
    InputError
        Everything wrong with the table, each problem with its row (line of the file) and column. Whether the paths
        exist is not looked at: that is the case's own trouble.
    """
    cases, problems = read_usable_cases(table, device)
    if problems:
        raise InputError(problems)
    return cases


def read_usable_cases(table: Path, device: Device = "auto") -> tuple[list[BatchCase], list[str]]:
    """As `read_cases`, but a wrong row is left out: the cases of the others, and a sentence for each thing that is wrong.

    Raises
    ------
    InputError
        The table as a whole cannot be read, or has wrong columns.
    """
    problems: list[str] = []
    cases: list[BatchCase] = []
    seen: dict[str, int] = {}
    for line, cells in _rows(table):
        row = _Row(line, cells, table.absolute().parent)
        case = row.case(device)
        if first := seen.get(case.name.lower()):
            row.problems.append(
                f'Row {line}, column name: "{case.name}" stands in row {first} already; names must differ.'
            )
        seen.setdefault(case.name.lower(), line)
        problems += row.problems
        if not row.problems:
            cases.append(case)
    return cases, problems


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and filled cells of each row that is not empty."""
    if not table.is_file():
        raise InputError(f"Table {table} does not exist: give a CSV file with --cases.")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Table {table.name} is not a UTF-8 text file: save it as CSV UTF-8.") from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first and "," not in first else ",")
    header = [name.strip().lower() for name in next(reader, [])]
    problems = _header_problems(header)
    rows = []
    for cells in reader:
        filled = [cell.strip() for cell in cells]
        if not any(filled):
            continue
        if any(filled[len(header) :]):
            problems.append(
                f"Row {reader.line_num} has {len(cells)} cells for {len(header)} columns: put cells with commas in quotes."
            )
        rows.append((reader.line_num, {name: cell for name, cell in zip(header, filled, strict=False) if cell}))
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
        if init is not None and init not in NAMED_INITS:
            paths["init"] = self._folder / init
        job = RegisterJob(
            cta=paths.get("cta", Path()),
            dsa=paths.get("dsa", Path()),
            init=str(paths["init"]) if "init" in paths else init,
            preset=self._choice("preset", PRESETS, "default"),
            cta_mask=paths.get("cta_mask"),
            cta_vein_mask=paths.get("cta_vein_mask"),
            dsa_mask=paths.get("dsa_mask"),
            reference=paths.get("reference"),
            subtraction=cast(SubtractionMode, self._choice("subtraction", get_args(SubtractionMode), "auto")),
            device=device,
            seed=self._seed(),
        )
        name = self._name()
        with self._gathered():
            job = replace(job, mask_frames=frame_numbers(self._cells.get("mask_frames"), self._at("mask_frames")))
        with self._gathered():
            job = replace(job, geometry=self._geometry(paths.get("projection_matrix")))
        for column in REQUIRED[1:]:
            if column not in self._cells:
                self.problems.append(f"{self._at(column)} is empty: {COLUMNS[column]}.")
        return BatchCase(name, job, paths, self._line)

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

    def _geometry(self, matrix: Path | None) -> GeometryOptions:
        spacing, point = self._numbers("pixel_spacing", 1, 2), self._numbers("principal_point", 2)
        return GeometryOptions(
            primary_angle_deg=self._number("primary_angle"),
            secondary_angle_deg=self._number("secondary_angle"),
            sid_mm=self._number("sid"),
            sod_mm=self._number("sod"),
            pixel_spacing_mm=(spacing[0], spacing[-1]) if spacing else None,
            principal_point_px=(point[0], point[1]) if point else None,
            projection_matrix=None if matrix is None else matrix_file(matrix, self._at("projection_matrix") + ":"),
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
    """A sentence for each path that is not there."""
    return [
        f"{case.name}: {column} {path} does not exist."
        for case in cases
        for column, path in case.paths.items()
        if not path.exists()
    ]


# -- the cases -------------------------------------------------------------------------------------


def run_cases(
    cases: list[BatchCase],
    out: Path,
    write_scene: WriteScene,
    tell: Callable[[str], None],
    should_stop: ShouldStop,
) -> list[CaseResult]:
    """Do every case that is not done, each into a folder of its own, and keep the summary up to date.

    A case is done if its folder holds the result of the same inputs and settings. One that fails is told and the rest
    go on. `out` afterwards holds `SUMMARY` and a folder of `CASE_FILES` for each case done; each appears whole or not at all.

    Parameters
    ----------
    cases
    out
        Made if needed.
    write_scene
        Called with the outcome, the job and the path of the scene to write.
    tell
        Called with a line for the person who waits.
    should_stop
        True ends the work: cases not reached stay "waiting".

    Raises
    ------
    InputError
        The summary cannot be written.
    """
    results = [CaseResult(case.name, "waiting") for case in cases]
    write_summary(out, results)
    for number, case in enumerate(cases):
        if should_stop():
            break
        head = f"[{number + 1}/{len(cases)}] {case.name}: "
        earlier = finished(case, out)
        if earlier is None:
            tell(head + "started")
        try:
            results[number] = earlier or _attempt(case, out, write_scene, should_stop)
        except Cancelled:
            break
        tell(head + ("done before" if earlier else _line(results[number])))
        if earlier is None:
            _keep_summary(out, results, tell)
    write_summary(out, results)
    return results


def finished(case: BatchCase, out: Path) -> CaseResult | None:
    """The result of an earlier run of the same inputs and settings; None if there is none, or not whole."""
    folder = out / case.name
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["fingerprint"] != fingerprint(case) or not all((folder / name).is_file() for name in CASE_FILES):
            return None
        values = json.loads((folder / "registration.json").read_text(encoding="utf-8"))
        return _result(case, Registration.from_json_dict(values), float(record["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(case: BatchCase) -> str:
    """Changes with the settings, the version, and each input's path, size and time of change."""
    settings = asdict(replace(case.job, geometry=GeometryOptions()))
    geometry = {name: None if value is None else str(value) for name, value in asdict(case.job.geometry).items()}
    inputs = {column: _state(path) for column, path in case.paths.items()}
    text = json.dumps([__version__, settings, geometry, inputs], sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change in ns, of a file or of every file in a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [(str(f.absolute()), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]


def _attempt(case: BatchCase, out: Path, write_scene: WriteScene, should_stop: ShouldStop) -> CaseResult:
    """Register a case into its folder; what goes wrong with it is its result."""
    started = time.perf_counter()
    try:
        before = fingerprint(case)
        with output_folder(out / case.name, CASE_FILES, overwrite=True) as folder:
            outcome = register_case(case_of_files(case.job), say_nothing, should_stop)
            write_registration(folder, outcome.registration, outcome.angiogram, outcome.vessels)
            write_scene(outcome, case.job, folder / SCENE)
            seconds = time.perf_counter() - started
            record = {"fingerprint": before, "seconds": round(seconds, 2), "version": __version__}
            (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return _result(case, outcome.registration, seconds)
    except InputError as error:
        problems = error.problems
    except RegistrationError as error:
        problems = (str(error),)
    except MemoryError:
        problems = ("Not enough memory for this volume; resample it or close other programs.",)
    except Cancelled:
        raise
    except Exception as error:
        _log_fault(error)
        problems = (f"Unexpected {type(error).__name__} (a fault of deepiterreg; DEEPITERREG_DEBUG=1 shows where).",)
    if (out / case.name).exists():
        problems = (*problems, "Its folder holds the result of an earlier run, with other inputs or settings.")
    message = " ".join(nameless(in_columns(problem), case) for problem in problems)
    return CaseResult(case.name, "failed", seconds=time.perf_counter() - started, message=" ".join(message.split()))


def _log_fault(error: Exception) -> None:
    """Where it happened, only when asked for: the text may quote a header, and so a patient's name."""
    if os.environ.get("DEEPITERREG_DEBUG"):
        traceback.print_exception(error)


def _result(case: BatchCase, registration: Registration, seconds: float) -> CaseResult:
    warnings = " ".join(nameless(in_columns(warning), case) for warning in registration.warnings)
    return CaseResult(case.name, "done", registration.score, registration.mpe_mm_to_reference, seconds, warnings)


def nameless(text: str, case: BatchCase) -> str:
    """A message with every path of the case, and every file in its folders, replaced by the name of its column."""
    shown: dict[str, str] = {}
    for column, path in case.paths.items():
        inside = {file.name: "a file" for file in path.rglob("*") if file.name in text} if path.is_dir() else {}
        shown |= inside | dict.fromkeys(map(str, (path, path.absolute(), path.resolve(), path.name)), f"<{column}>")
    for written in sorted(shown, key=len, reverse=True):
        if len(written) > 3 or re.search("[A-Za-z]", written):  # a folder named 1 must not hide every 1
            text = re.sub(rf"(?<!\w){re.escape(written)}(?!\w)", shown[written], text)
    return text


def _line(result: CaseResult) -> str:
    if result.status == "failed":
        return f"FAILED. {result.message}"
    error = "" if result.mpe_mm is None else f", {result.mpe_mm:.2f} mm from the reference"
    return f"done in {result.seconds:.1f} s, vessel similarity {result.score:.3f}{error}. {result.message}".rstrip()


# -- the summary -----------------------------------------------------------------------------------


def write_summary(out: Path, results: list[CaseResult]) -> None:
    """Write `SUMMARY` into `out`: a row a case.

    Raises
    ------
    InputError
        It cannot be written.
    """
    digits = {"score": ".4f", "mpe_mm": ".3f", "seconds": ".1f"}
    with (
        output_file(out / SUMMARY, (".csv",), overwrite=True) as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(asdict(results[0]))
        for result in results:
            cells = asdict(result).items()
            writer.writerow(["" if value is None else format(value, digits.get(name, "")) for name, value in cells])


def _keep_summary(out: Path, results: list[CaseResult], tell: Callable[[str], None]) -> None:
    """In the middle of hours of work a summary that cannot be written (a spreadsheet holds it open) is no reason to stop."""
    try:
        write_summary(out, results)
    except InputError as error:
        tell(f"Warning: {error}")
