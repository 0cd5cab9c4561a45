"""The command that repeats the papers' experiments."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from DeepIterRegLib.cli.app import EXIT_CANCELLED, EXIT_INPUT, NOTICE, Interrupted, app, command, fail, progress
from DeepIterRegLib.cli.options import FACE, Json, Quiet, Scheduler, Workers
from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.common.messages import word
from DeepIterRegLib.common.shown import place_of


class Name(StrEnum):
    """Experiments; a test compares them with the library's table, which is slow to import."""

    drr_time = "drr-time"
    landscape = "landscape"
    optimisers = "optimisers"
    monte_carlo = "monte-carlo"
    anatomy = "anatomy"
    capture_range = "capture-range"
    pipeline = "pipeline"
    losses = "losses"
    pose_statistics = "pose-statistics"


@app.command(
    epilog="Exit codes: 0 done, 1 a fault of this program, 2 wrong use, table or row (the other rows are done), 130 stopped."
)
@command
def experiment(
    name: Annotated[Name, typer.Argument(help="Which.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder; what an earlier run did in it is not done again.", show_default=False
        ),
    ],
    cases: Annotated[
        Path | None, typer.Option(help="Your own patients (CSV, as for many cases, with reference); else phantoms.")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Poses or patients; else the published number.")] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, help="First phantom, and random poses. Phantoms from 3000 on took no part in development."),
    ] = 3000,
    workers: Workers = 1,
    scheduler: Scheduler = "",
    small: Annotated[
        bool, typer.Option("--small", help="Coarse and short, only to try it: the figures mean nothing.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Repeat an experiment of the two papers on phantoms or your own patients, its figures beside the paper's.

    Writes report.html (open it in a browser), results.csv, summary.json, and each plot as PNG and SVG.

    [bold]Paper B[/]: drr-time (Table 1), landscape (Figure 5), optimisers (Table 2, Figure 7), monte-carlo (Figure 8).

    [bold]Paper A[/]: anatomy (Figure 8), capture-range (Figure 12), pipeline (Figure 13), losses (Figures 3.5, 3.6),
    pose-statistics (Figure 3.2).

    [bold]Examples[/]

      deepiterreg experiment optimisers --out optimisers

      deepiterreg experiment capture-range --out capture --cases cases.csv --workers 4

      deepiterreg experiment pipeline --out trial --n 2 --small
    """
    from DeepIterRegLib.studies.experiments.experiment import PAGE, run_experiment, study_of
    from DeepIterRegLib.studies.experiments.experiments import EXPERIMENTS

    # Before hours of work, not at its end, where the plots are drawn.
    _check_matplotlib()
    study, problems = study_of(cases, seed, small)
    for problem in problems:
        typer.secho(f"Left out: {word(problem, FACE)}", err=True, fg=typer.colors.YELLOW)
    try:
        with progress(quiet) as report:
            outcome = run_experiment(
                name.value,
                EXPERIMENTS[name.value],
                out,
                study,
                n=n,
                workers=workers,
                scheduler=scheduler,
                problems=problems,
                report=report,
            )
    except (Interrupted, KeyboardInterrupt, Cancelled):
        fail(EXIT_CANCELLED, f"Stopped. The same command goes on with what is in {place_of(out)}.")
    # Those before were told when the table was read.
    for problem in outcome.problems[len(problems) :]:
        typer.secho(f"Left out: {word(problem, FACE)}", err=True, fg=typer.colors.YELLOW)
    if as_json:
        typer.echo((out / "summary.json").read_text(encoding="utf-8"), nl=False)
    elif not quiet:
        for measure, paper, here in outcome.comparison:
            typer.echo(f"{measure}\n  paper: {paper}\n  here:  {here}")
        typer.echo(f"Report: {place_of(out, PAGE)}")
        typer.echo(NOTICE)
    # As `batch` ends: a script sees that rows were left out.
    if cases is not None and outcome.problems:
        raise typer.Exit(EXIT_INPUT)


def _check_matplotlib() -> None:
    from importlib.util import find_spec

    # Looked for, as the import would take time that only the end of the work needs.
    if find_spec("matplotlib") is None:
        raise InputError("Plots need the package matplotlib: install it with pip install 'deepiterreg[plots]'.")
