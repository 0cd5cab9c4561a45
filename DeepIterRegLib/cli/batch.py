"""The command on a table of cases: batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from DeepIterRegLib.cli.app import (
    EXIT_CANCELLED,
    EXIT_INPUT,
    EXIT_REGISTRATION,
    NOTICE,
    STOPPED,
    Interrupted,
    app,
    asked_to_stop,
    command,
    fail,
)
from DeepIterRegLib.cli.options import Quiet, Scheduler, Workers, takes
from DeepIterRegLib.common.shown import place_of


@app.command(
    epilog="Exit codes: 0 every case done, 1 a fault of this program, 2 wrong use, table or row (the other rows are done), "
    "3 a case failed, 130 cancelled."
)
@command
@takes("device")
def batch(
    cases: Annotated[
        Path,
        typer.Option(
            help="CSV file, a row a case: name, cta, dsa, and any option of register with _ for -. Empty: the default.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for a folder a case, and summary.csv.", show_default=False)
    ],
    workers: Workers = 1,
    scheduler: Scheduler = "",
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """Register many cases from a table, the one of the Slicer batch; here without its scenes.

    Interrupted, or with rows added, start it again: what is done and unchanged is not done again.
    A wrong row or a case that fails is told, and the rest go on.

    [bold]Examples[/]

      deepiterreg batch --cases cases.csv --out results

      deepiterreg batch --cases cases.csv --out results --workers 4

      deepiterreg batch --cases cases.csv --out results --scheduler tcp://node1:8786
    """
    from DeepIterRegLib.cases.batch import run_cases
    from DeepIterRegLib.cases.table import SUMMARY, missing_paths, read_cases

    def tell(line: str) -> None:
        if not quiet:
            typer.echo(line)

    table = read_cases(cases, typed["device"].value)
    # The case says it too, but that may be hours away.
    for sentence in missing_paths(table):
        typer.secho(f"Warning: {sentence}", err=True, fg=typer.colors.YELLOW)
    try:
        # To the end: a signal that comes when all is done changes nothing.
        with asked_to_stop() as stop:
            results = run_cases(table, out, None, tell, stop.is_set, workers, scheduler)
            count = {one: sum(result.status == one for result in results) for one in ("done", "failed", "waiting")}
            tell(
                f"{count['done']} done, {count['failed']} failed, {count['waiting']} not reached: {place_of(out, SUMMARY)}"
            )
            tell(NOTICE)
            # Stopped wins over failed: cases that were not reached make the count of failures say nothing.
            if count["waiting"]:
                fail(EXIT_CANCELLED, STOPPED)
            if wrong := [problem for case in table for problem in case.problems]:
                fail(EXIT_INPUT, *wrong)
            if count["failed"]:
                # Each failed case was told in its own line, so there is nothing to say here.
                raise typer.Exit(EXIT_REGISTRATION)
    except Interrupted:  # the second time it does not wait for the case under way
        fail(EXIT_CANCELLED, STOPPED)
