"""What an experiment is, how it runs, and the files it leaves: records, CSV, JSON, plots and one page."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DeepIterRegLib import __version__
from DeepIterRegLib.cases.batch import fingerprint
from DeepIterRegLib.cases.files import RegisterJob
from DeepIterRegLib.cases.table import missing_paths, read_cases
from DeepIterRegLib.common.atomic_output import output_file
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.tables import table_text
from DeepIterRegLib.common.work_folder import LOCK, work_folder
from DeepIterRegLib.common.workers import run_items
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.results.report.page import page_environment, page_style
from DeepIterRegLib.studies.experiments.objects import Item, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD, PAGE, TABLE, VALUES = "records.jsonl", "report.html", "results.csv", "summary.json"
Done = tuple[Item, dict[str, Any]]
_DPI = 110  # 700 px across, as wide as the page


@dataclass(frozen=True)
class Table:
    """Rows of numbers and words under a title."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """What came of an experiment.

    Attributes
    ----------
    comparison
        Measure, the paper's figure, ours.
    rows
        Of the CSV: one for each thing measured, all with the same keys.
    figures
        The numbers that matter, for JSON.
    tables, plots
        Further tables; title and name to drawing.
    notes
        Sentences that a reader must know.
    """

    comparison: Sequence[tuple[str, str, str]]
    rows: Sequence[dict[str, Any]]
    figures: dict[str, Any]
    tables: Sequence[Table] = ()
    plots: dict[str, tuple[str, Figure]] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """One experiment of a paper.

    Attributes
    ----------
    title
        What is asked.
    paper
        Who wrote it, its title, where and when: of `papers`.
    source
        Where in the paper.
    protocol
        What is done here, in sentences, with what differs from the paper.
    unit, n, small_n
        What `--n` counts, the published size, and the size of a small trial.
    items
        The work, as JSON-able items, at a size; items of one subject stand together.
    work
        Module-level function of study and item to a JSON-able result.
    summarise
        Items with their results, without those that failed, to a summary.
    """

    title: str
    paper: str
    source: str
    protocol: str
    unit: str
    n: int
    small_n: int
    items: Callable[[Study, int], list[Item]]
    work: Callable[[Study, Item], dict[str, Any]]
    summarise: Callable[[Study, list[Done]], Summary]


@dataclass(frozen=True)
class Outcome:
    """Folder, comparison with the paper, and what could not be used."""

    folder: Path
    comparison: Sequence[tuple[str, str, str]]
    figures: dict[str, Any]
    problems: tuple[str, ...]


def study_of(table: Path | None, seed: int, small: bool) -> tuple[Study, tuple[str, ...]]:
    """The study of a table of cases, or of phantoms; with what is wrong with rows, which are left out.

    Raises
    ------
    InputError
        No row can be used.
    """
    if table is None:
        return Study(seed, small), ()
    usable: list[tuple[str, RegisterJob, str]] = []
    problems: list[str] = []
    for case in read_cases(table):
        if case.problems:
            problems += case.problems
            continue
        found = missing_paths([case])
        if case.job.reference is None:
            found.append(
                f"Row {case.line}, column reference is empty: {case.name} has no true pose to measure against."
            )
        problems += found
        if not found:
            usable.append((case.name, case.job, fingerprint(case)))
    if not usable:
        raise InputError([*problems, f"No row of {name_of(table)} can be used."])
    return Study(seed, small, tuple(usable)), tuple(problems)


def run_experiment(
    name: str,
    experiment: Experiment,
    out: Path,
    study: Study,
    *,
    n: int | None = None,
    workers: int = 1,
    scheduler: str = "",
    problems: Sequence[str] = (),
    report: Progress,
) -> Outcome:
    """Do what is not on record yet in `out`, and write the experiment's files there.

    Raises
    ------
    InputError
        `out` holds something else, or another process works in it; it cannot be written; or no item could be done.
    """
    _check_folder(out)
    with work_folder(out):
        return _run_experiment(name, experiment, out, study, n, workers, scheduler, problems, report)


def _run_experiment(
    name: str,
    experiment: Experiment,
    out: Path,
    study: Study,
    n: int | None,
    workers: int,
    scheduler: str,
    problems: Sequence[str],
    report: Progress,
) -> Outcome:
    size = n or (experiment.small_n if study.small else experiment.n)
    items = experiment.items(study, size)
    report.expect(expected(Step.RUN_EXPERIMENT))
    results = run_items(
        experiment.work,
        items,
        shared=study,
        record=out / RECORD,
        key=_key(name, study),
        workers=workers,
        scheduler=scheduler,
        on_progress=lambda done, total: report(Step.RUN_EXPERIMENT, done / max(1, total)),
    )
    # One case that fails must not cost the others' hours: it is told, and left out.
    done = [(item, result) for item, result in zip(items, results, strict=True) if "error" not in result]
    failed = [(item, result["error"]) for item, result in zip(items, results, strict=True) if "error" in result]
    told = dict.fromkeys([*problems, *(f"{_item_name(item)}: {error}" for item, error in failed)])
    if not done:
        raise InputError([*told, "Nothing of the experiment could be done."])
    summary = experiment.summarise(study, done)
    _write(out, name, experiment, study, size, summary, tuple(told))
    return Outcome(out, summary.comparison, summary.figures, tuple(told))


def _key(name: str, study: Study) -> str:
    # What changes results beside the items: another version's records are not mixed with this one's.
    text = json.dumps([__version__, name, study.seed, study.small, [[case, stamp] for case, _, stamp in study.cases]])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _item_name(item: Item) -> str:
    return ", ".join(f"{key} {value}" for key, value in item.items())


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(
            Message(f"{name_of(out, 'out')} exists and is not a folder", at="out", advice="Give another name.")
        )
    # A process that was killed at once leaves its lock alone.
    if out.is_dir() and any(entry.name != LOCK for entry in out.iterdir()) and not (out / RECORD).exists():
        raise InputError(
            Message(
                f"The folder {name_of(out, 'out')} holds something other than an experiment",
                at="out",
                advice="Give another folder.",
            )
        )


# -- files -----------------------------------------------------------------------------------------------


def _write(
    out: Path, name: str, experiment: Experiment, study: Study, size: int, summary: Summary, problems: tuple[str, ...]
) -> None:
    rows = (list(map(_cell, row.values())) for row in summary.rows)
    with output_file(out / TABLE, (".csv",), overwrite=True) as path:
        path.write_text(table_text(list(summary.rows[0]) if summary.rows else [], rows), encoding="utf-8")
    about = provenance(size, experiment, study)
    values = {
        "experiment": name,
        "title": experiment.title,
        "source": experiment.source,
        "paper": experiment.paper,
        **about,
        "comparison": [dict(zip(("measure", "paper", "here"), row, strict=True)) for row in summary.comparison],
        "figures": _finite(summary.figures),
        "problems": problems,
    }
    with output_file(out / VALUES, (".json",), overwrite=True) as path:
        path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    pictures = []
    for plot, (title, drawing) in summary.plots.items():
        drawing.suptitle(title, fontsize=10)
        for kind in ("svg", "png"):  # for a paper, and for the page, as a thousand curves are megabytes of SVG
            with output_file(out / f"{plot}.{kind}", (f".{kind}",), overwrite=True) as path:
                drawing.savefig(path, dpi=_DPI)
        encoded = base64.b64encode((out / f"{plot}.png").read_bytes()).decode("ascii")
        pictures.append((title, f"data:image/png;base64,{encoded}"))
    with output_file(out / PAGE, (".html",), overwrite=True) as path:
        path.write_text(_page(experiment, summary, about, pictures, problems), encoding="utf-8")


def provenance(size: int, experiment: Experiment, study: Study) -> dict[str, Any]:
    """Size, date, machine and versions."""
    versions = {}
    for package in ("deepiterreg", "torch", "numpy", "numba", "scipy", "diffdrr", "nanodrr"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "n": size,
        "unit": experiment.unit,
        "seed": study.seed,
        "small": study.small,
        "subjects": f"{len(study.cases)} cases of the user" if study.cases else "phantoms",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{processor()}, Python {platform.python_version()}",
        "versions": versions,
    }


def processor() -> str:
    """The processor's name and number of threads."""
    import os

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} threads"


def _page(
    experiment: Experiment,
    summary: Summary,
    about: dict[str, Any],
    pictures: list[tuple[str, str]],
    problems: tuple[str, ...],
) -> str:
    return (
        page_environment(Path(__file__).parent)
        .get_template("page.html")
        .render(
            experiment=experiment,
            summary=summary,
            about=about,
            pictures=pictures,
            problems=problems,
            style=page_style(),
        )
    )


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def rounded(values: Iterable[float]) -> list[float]:
    """Values to four digits, as records keep them."""
    return [float(f"{value:.4g}") for value in values]


def _finite(values: Any) -> Any:
    """JSON knows no infinity: None stands for what was refused or does not exist."""
    if isinstance(values, dict):
        return {str(key): _finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_finite(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return None
    return values
