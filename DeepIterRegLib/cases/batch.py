"""Many cases from a table: what is to be done, what is done already, and a summary of what came of it.

Names of cases are the person's own. Paths, which may name patients, reach neither the summary nor the cases' folders.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import traceback
from collections.abc import Callable, Collection, Iterable
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
from DeepIterRegLib.common.quiet import debugging, quoting_nothing
from DeepIterRegLib.common.scratch import clear_leftovers
from DeepIterRegLib.common.tables import table_text
from DeepIterRegLib.common.work_folder import work_folder
from DeepIterRegLib.common.workers import Failed, stopping, work_through
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report.outputs import (
    MAX_VIEWS,
    REGISTRATION_FILES,
    files_of_frames,
    registration_files,
    write_registration,
)

SCENE, RECORD = "scene.mrb", "case.json"
CASE_FILES = (*REGISTRATION_FILES, SCENE, RECORD)
# An earlier run of a case may have had more DSAs: its folder may be replaced all the same.
MAY_BE_WRITTEN = (*registration_files(MAX_VIEWS), *files_of_frames(MAX_VIEWS), SCENE, RECORD)
_OF_ANOTHER_RUN = "Its folder holds the result of an earlier run, with other inputs or settings."
_NO_JOB = RegisterJob(cta=Path(), dsa=Path())  # of a folder alone nothing is known of what it was made from

Status = Literal["done", "failed", "waiting", "earlier"]
WriteScene = Callable[[Outcome, RegisterJob, Path], None]


@dataclass(frozen=True)
class CaseResult:
    """One row of the summary; `mpe_mm` only if there was a reference, `state` and what follows as in `Confidence`.

    Of `error_95_mm` it is the upper end: 95 % of right registrations like this one are off by less.

    A row that is not "done" shows the figures of the result that its folder holds of an earlier run, if there is one.
    "earlier" is a finished folder of a case that the table no longer has.
    """

    name: str
    status: Status
    score: float | None = None
    mpe_mm: float | None = None
    seconds: float | None = None
    message: str = ""
    state: str = ""
    probability: float | None = None
    expected_error_mm: float | None = None
    error_95_mm: float | None = None
    depth_95_mm: float | None = None


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
        The summary cannot be written; another batch works in `out`; no Dask, or no scheduler.
    """

    def say(line: str) -> None:
        with suppress(OSError):  # nobody reads it any more, or its disk is full: the work on files goes on
            tell(line)

    with work_folder(out, (SUMMARY, *(case.name for case in cases))):
        return _run_cases(cases, out, write_scene, say, should_stop, workers, scheduler)


def _run_cases(
    cases: list[BatchCase],
    out: Path,
    write_scene: WriteScene | None,
    tell: Callable[[str], None],
    should_stop: ShouldStop,
    workers: int,
    scheduler: str,
) -> list[CaseResult]:
    results = [_before(case, out, with_scene=write_scene is not None) for case in cases]
    others = _of_other_tables(out, {case.name for case in cases})
    # Written before the first case: a place that cannot be written is told now, not after hours. With what is done, so that
    # no moment of a later run shows less than the run before.
    write_summary(out, [*results, *others])
    heads = [f"[{number}/{len(cases)}] {case.name}: " for number, case in enumerate(cases, 1)]
    for head, result in zip(heads, results, strict=True):
        if result.status != "waiting":
            tell(head + ("done before" if result.status == "done" else _line(result)))
    todo = [n for n, result in enumerate(results) if result.status == "waiting"]
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
            _keep_summary(out, [*results, *others], tell)
    if not scheduler:  # workers that did not end in time were killed
        clear_leftovers(out, [cases[n].name for n in todo if results[n].status == "waiting"])
    write_summary(out, [*results, *others])
    return results


def _before(case: BatchCase, out: Path, *, with_scene: bool) -> CaseResult:
    """What is known of a case before it is worked on: wrong, done, or to be done, perhaps again."""
    if case.problems:
        return _with_earlier(CaseResult(case.name, "failed", message=_message(case.problems, case)), out)
    return finished(case, out, with_scene=with_scene) or _with_earlier(CaseResult(case.name, "waiting"), out)


def _with_earlier(result: CaseResult, out: Path) -> CaseResult:
    """The row of a case that is not done, with the figures of the result that its folder holds all the same."""
    folder = out / result.name
    if (found := _kept(folder)) is None:
        # No result that can be read; a person who looks into the folder would still take it for this run's.
        told = result.status == "failed" and folder.exists()
        return replace(result, message=f"{result.message} {_OF_ANOTHER_RUN}") if told else result
    earlier = _result(BatchCase(result.name, _NO_JOB), *found)
    return replace(
        earlier,
        status=result.status,
        seconds=result.seconds,
        message=f"{result.message} {_OF_ANOTHER_RUN}".strip(),
    )


def _of_other_tables(out: Path, names: Collection[str]) -> list[CaseResult]:
    """A row for each finished folder that is of none of these cases: what an earlier table led to is not forgotten."""
    rows = []
    for folder in sorted(out.iterdir()):
        hidden = folder.name in names or folder.name.startswith(".")
        if not hidden and (found := _kept(folder)) is not None:
            row = _result(BatchCase(folder.name, _NO_JOB), *found)
            rows.append(replace(row, status="earlier", message="Not in the table of the last run."))
    return rows


def _kept(folder: Path) -> tuple[Registration, float] | None:
    """The registration in a case's folder and its seconds, whatever it was made from; None if there is none."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        values = json.loads((folder / REGISTRATION_FILES[0]).read_text(encoding="utf-8"))
        return Registration.from_json_dict(values), float(record["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = _kept(folder)
    return None if found is None else _result(case, *found)


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
    seconds = time.perf_counter() - started
    return _with_earlier(CaseResult(case.name, "failed", seconds=seconds, message=_message(problems, case)), out)


def _message(problems: Iterable[str], case: BatchCase) -> str:
    return " ".join(" ".join(nameless(word(problem, FACE), case) for problem in problems).split())


def _log_fault(error: Exception) -> None:
    """Where it happened, only when asked for: the text may quote a header, and so a patient's name."""
    if debugging():
        traceback.print_exception(error)


def _result(case: BatchCase, registration: Registration, seconds: float) -> CaseResult:
    warnings = " ".join(nameless(word(warning, FACE), case) for warning in registration.warnings)
    result = CaseResult(case.name, "done", registration.score, registration.mpe_mm_to_reference, seconds, warnings)
    if (sure := registration.confidence) is None:
        return result
    return replace(
        result,
        state=sure.state,
        probability=sure.probability,
        expected_error_mm=sure.expected_error_mm,
        error_95_mm=sure.error_95_mm[1] if sure.error_95_mm else None,
        depth_95_mm=sure.depth_95_mm,
    )


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
    digits = {"score": ".4f", "mpe_mm": ".3f", "seconds": ".1f", "probability": ".4f"}
    digits |= dict.fromkeys(("expected_error_mm", "error_95_mm", "depth_95_mm"), ".2f")
    rows = (
        ["" if value is None else format(value, digits.get(name, "")) for name, value in asdict(result).items()]
        for result in results
    )
    with output_file(out / SUMMARY, (".csv",), overwrite=True) as path:
        path.write_text(table_text(list(asdict(results[0])), rows), encoding="utf-8")


def _keep_summary(out: Path, results: list[CaseResult], tell: Callable[[str], None]) -> None:
    """In the middle of hours of work a summary that cannot be written (a spreadsheet holds it open) is no reason to stop."""
    try:
        write_summary(out, results)
    except InputError as error:
        tell(f"Warning: {error}")
