"""The commands of a reader study: make, unblind, analyse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from DeepIterRegLib.cli.app import NOTICE, app, command, progress
from DeepIterRegLib.cli.options import Json, OutFolder, Overwrite, Quiet
from DeepIterRegLib.common.shown import place_of

study = typer.Typer(
    name="study",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Blinded reader study: which of two registrations do readers find better?",
    epilog="Examples: deepiterreg study make --cases table.csv --out study; deepiterreg study analyse ranks.csv",
)
app.add_typer(study)


@study.command()
@command
def analyse(
    ranks: Annotated[Path, typer.Argument(help="CSV: reader,patient,left,right,rank.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to make: page with plots, tables, JSON.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count preferences, test each pair of methods, compare readers.

    A row of the table is an answer: left and right name the methods shown, rank is 1 left definitely better than right,
    2 left is better than right, 3 left is the same as right, 4 right is better than left, 5 right definitely better than left.
    A reader's own, blinded file goes through study unblind first.

    JSON: preferred (method to answers, "=" no preference); wilcoxon ("A vs B" to n, p, p_holm, p_exact, z, effect sizes,
    pratt: the same with zeros ranked). A is the more often preferred of the two (then by name); z, scores and effects are
    positive where A was found better. p is two-sided, by normal approximation, zeros dropped.

    [bold]Examples[/]

      deepiterreg study analyse ranks.csv

      deepiterreg study analyse ranks.csv --out analysis --json
    """
    from DeepIterRegLib.common.atomic_output import output_folder
    from DeepIterRegLib.studies.reader_study.analysis import analyse as analysed
    from DeepIterRegLib.studies.reader_study.analysis_files import ANALYSIS_FILES, p_words, write_analysis
    from DeepIterRegLib.studies.reader_study.ranks import EQUAL, read_ranks

    result = analysed(read_ranks(ranks))
    if out is not None:
        with output_folder(out, ANALYSIS_FILES, overwrite=overwrite) as folder:
            write_analysis(folder, result)
    if as_json:
        typer.echo(json.dumps(result.to_json_dict(), indent=2, allow_nan=False))
        return
    for note in result.notes:
        typer.secho(f"Note: {note}", err=True, fg=typer.colors.YELLOW)
    if quiet:
        return
    typer.echo(
        f"{result.comparisons} comparisons, {result.patients} patients, {len(result.readers)} readers. Preferred:"
    )
    width = max(len(name) for name in (*result.preferred, *(pair.name for pair in result.pairs))) + 2
    for name, count in result.preferred.items():
        typer.echo(f"  {'no preference' if name == EQUAL else name:<{width}}{count:>5}")
    typer.echo("Wilcoxon signed-rank, two-sided:")
    for pair in result.pairs:
        typer.echo(
            f"  {pair.name:<{width}}n {pair.wilcox.n:>3}   p {p_words(pair.wilcox.p):<8}   Holm {p_words(pair.p_holm):<8}"
            f"   exact {p_words(pair.wilcox.p_exact):<8}   Pratt {p_words(pair.pratt.p):<8}"
            f"   rank-biserial {pair.wilcox.rank_biserial:+.2f}"
        )
    for a in result.agreement:
        kappas = ["-" if k is None else f"{k:.2f}" for k in (a.kappa_linear, a.kappa_quadratic)]
        typer.echo(
            f"{' and '.join(a.readers)}: {a.n} in common, weighted kappa {kappas[0]} linear, {kappas[1]} quadratic"
        )
    if out is not None:
        typer.echo(f"Page: {place_of(out, 'analysis.html')}")
    typer.echo(NOTICE)


@study.command()
@command
def make(
    cases: Annotated[
        Path,
        typer.Option(
            help="CSV: patient,method,folder[,dsa]; or a folder of PATIENT/METHOD results.", show_default=False
        ),
    ],
    out: OutFolder,
    readers: Annotated[int, typer.Option(min=1, max=99, help="How many read, each in an order of its own.")] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of sides and order; else drawn. Kept in author/study.json.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a blinded study: every two methods of every patient, sides and order at random.

    folder: what deepiterreg register wrote. dsa: the angiogram, so that readers can fade, tint and step through frames.

    author/ has the key: keep it. reader1/, reader2/, ... name no method: give each reader one. A reader opens read.html
    in a browser, or the folder in the Slicer module, and gives back ranks.csv.

    [bold]Examples[/]

      deepiterreg study make --cases table.csv --out study

      deepiterreg study make --cases results --out study --readers 2 --seed 7
    """
    import secrets

    from DeepIterRegLib.common.atomic_output import output_folder
    from DeepIterRegLib.studies.reader_study.cases import read_cases
    from DeepIterRegLib.studies.reader_study.make import AUTHOR, reader_names, write_study

    found = read_cases(cases)
    # Drawn unless it is asked for: a fixed default would give every study the same sides, and readers of two know them.
    drawn_from = secrets.randbelow(2**32) if seed is None else seed
    # No --overwrite: without the key that this study made, answers that come back can never be unblinded.
    with output_folder(out, (AUTHOR, *reader_names(readers))) as folder, progress(quiet) as report:
        counts = write_study(folder, found, readers, drawn_from, report)
    if quiet:
        return
    for reader, count in counts.items():
        typer.echo(f"{reader}: {count} comparisons, {place_of(out, reader, 'read.html')}")
    typer.echo(f"Key: {place_of(out, AUTHOR, 'key.csv')}; keep it from the readers. Seed {drawn_from}.")
    typer.echo(NOTICE)


@study.command()
@command
def unblind(
    folder: Annotated[Path, typer.Argument(help="The study.", show_default=False)],
    answers: Annotated[
        list[Path] | None, typer.Argument(help="Readers' files; else ranks.csv in their folders.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Table to write; else ranks.csv in the study.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Join the readers' answers with the key into a table that study analyse reads.

    [bold]Examples[/]

      deepiterreg study unblind study

      deepiterreg study unblind study ~/Downloads/ranks_reader1.csv --out ranks.csv
    """
    from DeepIterRegLib.common.atomic_output import output_file
    from DeepIterRegLib.studies.reader_study.ranks import ranks_text
    from DeepIterRegLib.studies.reader_study.unblind import unblind as unblinded

    target = folder / "ranks.csv" if out is None else out
    result = unblinded(folder, answers or ())
    with output_file(target, (".csv",), overwrite=overwrite) as path:
        path.write_text(ranks_text(result.ranked), encoding="utf-8")
    for reader, count in result.unanswered.items():
        if count:
            typer.secho(f"Note: {reader} has not answered {count} comparisons.", err=True, fg=typer.colors.YELLOW)
    if not quiet:
        typer.echo(f"{len(result.ranked)} answers: {place_of(target)}")
