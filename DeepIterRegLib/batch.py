"""Many cases from a table: what is to be done, what is done already, and a summary of what came of it.

Names of cases are the person's own. Paths, which may name patients, reach neither the summary nor the cases' folders.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import re
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, cast, get_args

from DeepIterRegLib import __version__
from DeepIterRegLib.cta_cache import CtaCache, file_state
from DeepIterRegLib.dicom import GeometryOptions
from DeepIterRegLib.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.evaluation.runner import Failed, stopping, work_through
from DeepIterRegLib.jobs import (
    LANDMARKS,
    Device,
    FurtherRun,
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
from DeepIterRegLib.report.outputs import MOST_VIEWS, REGISTRATION_FILES, registration_files, write_registration
from DeepIterRegLib.typed import csv_lines, frame_numbers, matrix_file, numbers

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
    "init": "radiological, search, network, bone, auto, landmarks, or a pose file",
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
COLUMNS |= {f"{name}2": COLUMNS[name] for name in OF_EACH_DSA}
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
SCENE, RECORD = "scene.mrb", "case.json"
CASE_FILES = (*REGISTRATION_FILES, SCENE, RECORD)
MAY_BE_WRITTEN = (*registration_files(MOST_VIEWS), SCENE, RECORD)

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


@dataclass(frozen=True)
class CaseResult:
    """One row of the summary; `mpe_mm` only if there was a reference, `state` and what follows as in `Confidence`."""

    name: str
    status: Status
    score: float | None = None
    mpe_mm: float | None = None
    seconds: float | None = None
    message: str = ""
    state: str = ""
    probability: float | None = None
    expected_error_mm: float | None = None


# -- the table -------------------------------------------------------------------------------------


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
    reader = csv_lines(table, "Table", "give a CSV file with --cases")
    header = [name.strip().lower() for name in next(reader, [])]
    problems = _header_problems(header)
    rows: list[tuple[int, dict[str, str], list[str]]] = []
    for cells in reader:
        filled = [cell.strip() for cell in cells]
        if not any(filled):
            continue
        wrong = []
        if any(filled[len(header) :]):
            wrong.append(
                f"Row {reader.line_num} has {len(cells)} cells for {len(header)} columns: put cells with commas in quotes."
            )
        rows.append((reader.line_num, {name: cell for name, cell in zip(header, filled, strict=False) if cell}, wrong))
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


# -- the cases -------------------------------------------------------------------------------------


def run_cases(
    cases: list[BatchCase],
    out: Path,
    write_scene: WriteScene | None,
    tell: Callable[[str], None],
    should_stop: ShouldStop,
    workers: int = 1,
    scheduler: str = "",
) -> list[CaseResult]:
    """Do every case that is not done, each into a folder of its own, and keep the summary up to date.

    A case is done if its folder holds the result of the same inputs and settings. One that fails, or whose row is wrong, is
    told and the rest go on. `out` afterwards holds `SUMMARY` and a folder of `case_files` for each case done; each appears
    whole or not at all.

    Parameters
    ----------
    cases
    out
        Made if needed.
    write_scene
        Called with the outcome, the job and the path of the scene to write; None where there is no Slicer: no scene.
    tell
        Called with a line for the person who waits.
    should_stop
        True ends the work: cases not reached stay "waiting".
    workers, scheduler
        As `evaluation.runner.run_items` takes them. Workers on other machines must see the same files under the same paths.

    Raises
    ------
    InputError
        The summary cannot be written; no Dask, or no scheduler.
    """
    results = [CaseResult(case.name, "waiting") for case in cases]
    write_summary(out, results)
    heads = [f"[{number}/{len(cases)}] {case.name}: " for number, case in enumerate(cases, 1)]
    todo = []
    for n, case in enumerate(cases):
        if case.problems:
            results[n] = CaseResult(case.name, "failed", message=_message(case.problems, case))
            tell(heads[n] + _line(results[n]))
        elif earlier := finished(case, out, with_scene=write_scene is not None):
            results[n] = earlier
            tell(heads[n] + "done before")
        else:
            todo.append(n)
    shared = _Shared(out.absolute(), write_scene, CtaCache())
    work = _work
    if workers == 1 and not scheduler:  # only here is it known when a case begins
        numbers = {cases[n].name: n for n in todo}

        def work(shared: _Shared, case: BatchCase) -> CaseResult:
            tell(heads[numbers[case.name]] + "started")
            return _work(shared, case)

    found = work_through(work, [cases[n] for n in todo], shared, workers, scheduler, should_stop)
    with suppress(Cancelled), closing(found):
        for index, result in found:
            n = todo[index]
            died = isinstance(result, Failed)
            results[n] = CaseResult(cases[n].name, "failed", message=result.message) if died else result
            tell(heads[n] + _line(results[n]))
            _keep_summary(out, results, tell)
    for n in todo:
        if results[n].status == "waiting" and not scheduler:  # workers that did not end in time were killed
            _remove_leftovers(cases[n].name, out)
    write_summary(out, results)
    return results


@dataclass(frozen=True)
class _Shared:
    """What every process needs for its cases."""

    out: Path
    write_scene: WriteScene | None
    ctas: CtaCache


def _work(shared: _Shared, case: BatchCase) -> CaseResult:
    with _quoting_nothing():
        return _attempt(case, shared, stopping)


@contextmanager
def _quoting_nothing() -> Iterator[None]:
    """Readers' warnings quote header values, which may name the patient; in workers nobody else silences them."""
    if os.environ.get("DEEPITERREG_DEBUG"):
        yield
        return
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(max(before, logging.WARNING))
        try:
            yield
        finally:
            logging.disable(before)


def finished(case: BatchCase, out: Path, *, with_scene: bool) -> CaseResult | None:
    """The result of an earlier run of the same inputs and settings; None if there is none, or not whole."""
    folder = out / case.name
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        needed = case_files(case, with_scene=with_scene)
        if record["fingerprint"] != fingerprint(case) or not all((folder / name).is_file() for name in needed):
            return None
        values = json.loads((folder / "registration.json").read_text(encoding="utf-8"))
        return _result(case, Registration.from_json_dict(values), float(record["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def case_files(case: BatchCase, *, with_scene: bool) -> tuple[str, ...]:
    """What the folder of a finished case holds."""
    return (*registration_files(1 + len(case.job.further)), *((SCENE,) if with_scene else ()), RECORD)


def fingerprint(case: BatchCase) -> str:
    """Changes with the settings, the version, and each input's path, size and time of change."""
    bare = tuple(replace(run, geometry=GeometryOptions()) for run in case.job.further)
    settings = asdict(replace(case.job, geometry=GeometryOptions(), further=bare))
    geometries = [case.job.geometry, *(run.geometry for run in case.job.further)]
    geometry = [
        {name: None if value is None else str(value) for name, value in asdict(given).items()} for given in geometries
    ]
    inputs = {column: file_state(path) for column, path in case.paths.items()}
    text = json.dumps([__version__, settings, geometry, inputs], sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _attempt(case: BatchCase, shared: _Shared, should_stop: ShouldStop) -> CaseResult:
    """Register a case into its folder; what goes wrong with it is its result."""
    started = time.perf_counter()
    out = shared.out
    try:
        _remove_leftovers(case.name, out)
        before = fingerprint(case)
        with output_folder(out / case.name, MAY_BE_WRITTEN, overwrite=True) as folder:
            outcome = register_case(case_of_files(case.job, shared.ctas), say_nothing, should_stop)
            write_registration(folder, outcome.registration, outcome.angiograms, outcome.vessels)
            if shared.write_scene:
                shared.write_scene(outcome, case.job, folder / SCENE)
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
    return CaseResult(case.name, "failed", seconds=time.perf_counter() - started, message=_message(problems, case))


def _remove_leftovers(name: str, out: Path) -> None:
    """What a killed process wrote of this case and could not clear away (see `output_folder`)."""
    for folder in out.glob(".*.partial"):
        if re.fullmatch(rf"\.{re.escape(name)}\.[a-z0-9_]{{8}}\.partial", folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _message(problems: Iterable[str], case: BatchCase) -> str:
    return " ".join(" ".join(nameless(in_columns(problem), case) for problem in problems).split())


def _log_fault(error: Exception) -> None:
    """Where it happened, only when asked for: the text may quote a header, and so a patient's name."""
    if os.environ.get("DEEPITERREG_DEBUG"):
        traceback.print_exception(error)


def _result(case: BatchCase, registration: Registration, seconds: float) -> CaseResult:
    warnings = " ".join(nameless(in_columns(warning), case) for warning in registration.warnings)
    result = CaseResult(case.name, "done", registration.score, registration.mpe_mm_to_reference, seconds, warnings)
    if (sure := registration.confidence) is None:
        return result
    return replace(result, state=sure.state, probability=sure.probability, expected_error_mm=sure.expected_error_mm)


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
    state = f"{result.state.upper()}, " if result.state else ""
    return (
        f"{state}done in {result.seconds:.1f} s, vessel similarity {result.score:.3f}{error}. {result.message}".rstrip()
    )


# -- the summary -----------------------------------------------------------------------------------


def write_summary(out: Path, results: list[CaseResult]) -> None:
    """Write `SUMMARY` into `out`: a row a case.

    Raises
    ------
    InputError
        It cannot be written.
    """
    digits = {"score": ".4f", "mpe_mm": ".3f", "seconds": ".1f", "probability": ".4f", "expected_error_mm": ".2f"}
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
