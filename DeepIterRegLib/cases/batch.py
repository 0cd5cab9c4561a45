"""Many cases from a table: what is to be done, what is done already, and a summary of what came of it.

Names of cases are the person's own. Paths, which may name patients, reach neither the summary nor the cases' folders.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from DeepIterRegLib import __version__
from DeepIterRegLib.cases.case import Outcome, register_case
from DeepIterRegLib.cases.cta_cache import CtaCache, file_state
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.cases.table import FACE, SUMMARY, BatchCase
from DeepIterRegLib.common.atomic_output import output_file, output_folder
from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError, notes_of
from DeepIterRegLib.common.installation import broken_package
from DeepIterRegLib.common.messages import word
from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.tables import harmless
from DeepIterRegLib.common.workers import Failed, stopping, work_through
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report.outputs import MAX_VIEWS, REGISTRATION_FILES, registration_files, write_registration

SCENE, RECORD = "scene.mrb", "case.json"
CASE_FILES = (*REGISTRATION_FILES, SCENE, RECORD)
# An earlier run of a case may have had more DSAs: its folder may be replaced all the same.
MAY_BE_WRITTEN = (*registration_files(MAX_VIEWS), SCENE, RECORD)

Status = Literal["done", "failed", "waiting"]
WriteScene = Callable[[Outcome, RegisterJob, Path], None]


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
        As `common.workers.run_items` takes them. Workers on other machines must see the same files under the same paths.

    Raises
    ------
    InputError
        The summary cannot be written; no Dask, or no scheduler.
    """
    results = [CaseResult(case.name, "waiting") for case in cases]
    # Written before the first case: a place that cannot be written is told now, not after hours.
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
    # Absolute, as workers of a scheduler have a working folder of their own.
    shared = _Shared(out.absolute(), write_scene, CtaCache())
    work = _work
    if workers == 1 and not scheduler:  # only here is it known when a case begins
        numbers = {cases[n].name: n for n in todo}

        def work(shared: _Shared, case: BatchCase) -> CaseResult:
            tell(heads[numbers[case.name]] + "started")
            return _work(shared, case)

    found = work_through(work, [cases[n] for n in todo], shared, workers, scheduler, should_stop)
    # A stop is no failure: what is done stands in the summary, and the rest is "waiting".
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
    with quoting_nothing():
        return _attempt(case, shared, stopping)


def finished(case: BatchCase, out: Path, *, with_scene: bool) -> CaseResult | None:
    """The result of an earlier run of the same inputs and settings; None if there is none, or not whole."""
    folder = out / case.name
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        # A result of the command line has no scene, so Slicer's batch makes it again.
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
    # The version belongs to it: another release may find another pose.
    text = json.dumps([__version__, settings, geometry, inputs], sort_keys=True, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _attempt(case: BatchCase, shared: _Shared, should_stop: ShouldStop) -> CaseResult:
    """Register a case into its folder; what goes wrong with it is its result."""
    started = time.perf_counter()
    out = shared.out
    try:
        _remove_leftovers(case.name, out)
        # Taken before the work: a file that changes meanwhile makes the case undone, not done with old pixels.
        before = fingerprint(case)
        with output_folder(out / case.name, MAY_BE_WRITTEN, overwrite=True) as folder:
            outcome = register_case(case_of_files(case.job, shared.ctas), Progress(), should_stop)
            write_registration(folder, outcome.registration, outcome.angiograms, outcome.vessels)
            if shared.write_scene:
                shared.write_scene(outcome, case.job, folder / SCENE)
            seconds = time.perf_counter() - started
            record = {"fingerprint": before, "seconds": round(seconds, 2), "version": __version__}
            (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return _result(case, outcome.registration, seconds)
    except InputError as error:
        problems = (*error.problems, *notes_of(error))
    except RegistrationError as error:
        problems = (str(error), *notes_of(error))
    except MemoryError:
        problems = ("Not enough memory for this volume; resample it or close other programs.",)
    # Not a result of the case: it stays "waiting" and is done by the next run.
    except Cancelled:
        raise
    except Exception as error:
        _log_fault(error)
        # Its text is left out, as it may quote a header, and this line goes into the summary.
        fault = f"Unexpected {type(error).__name__} (a fault of deepiterreg; DEEPITERREG_DEBUG=1 shows where)."
        broken = broken_package(error)
        problems = (broken.sentence if broken else fault,)
    if (out / case.name).exists():
        # Nothing was written, but a person who looks into the folder would take it for the result of this run.
        problems = (*problems, "Its folder holds the result of an earlier run, with other inputs or settings.")
    return CaseResult(case.name, "failed", seconds=time.perf_counter() - started, message=_message(problems, case))


def _remove_leftovers(name: str, out: Path) -> None:
    """What a killed process wrote of this case and could not clear away (see `output_folder`)."""
    # By the eight letters that `tempfile` adds: case `a` must not clear away what a worker writes of case `a.b`.
    for folder in out.glob(".*.partial"):
        if re.fullmatch(rf"\.{re.escape(name)}\.[a-z0-9_]{{8}}\.partial", folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _message(problems: Iterable[str], case: BatchCase) -> str:
    return " ".join(" ".join(nameless(word(problem, FACE), case) for problem in problems).split())


def _log_fault(error: Exception) -> None:
    """Where it happened, only when asked for: the text may quote a header, and so a patient's name."""
    if os.environ.get("DEEPITERREG_DEBUG"):
        traceback.print_exception(error)


def _result(case: BatchCase, registration: Registration, seconds: float) -> CaseResult:
    warnings = " ".join(nameless(word(warning, FACE), case) for warning in registration.warnings)
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
    # Longest first: the path of a folder begins the paths of its files.
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
            texts = ("" if value is None else format(value, digits.get(name, "")) for name, value in cells)
            writer.writerow(map(harmless, texts))


def _keep_summary(out: Path, results: list[CaseResult], tell: Callable[[str], None]) -> None:
    """In the middle of hours of work a summary that cannot be written (a spreadsheet holds it open) is no reason to stop."""
    try:
        write_summary(out, results)
    except InputError as error:
        tell(f"Warning: {error}")
