"""The commands of a reader study: make, unblind, analyse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from DeepIterRegLib.cli.app import NOTICE, app, command
from DeepIterRegLib.cli.options import Json, Overwrite, Quiet

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

    JSON: preferred (method to answers, "=" no preference); wilcoxon ("A vs B" to n, p, p_holm, p_exact, z, effect sizes,
    pratt: the same with zeros ranked). A is the more often preferred of the two (then by name); z, scores and effects are
    positive where A was found better. p is two-sided, by normal approximation, zeros dropped.

    [bold]Examples[/]

      deepiterreg study analyse ranks.csv

      deepiterreg study analyse ranks.csv --out analysis --json
    """
    from DeepIterRegLib.output import output_folder
    from DeepIterRegLib.reader_study.analysis import analyse as analysed
    from DeepIterRegLib.reader_study.analysis_files import ANALYSIS_FILES, p_words, write_analysis
    from DeepIterRegLib.reader_study.ranks import EQUAL, read_ranks

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
        typer.echo(f"Page: {(out / 'analysis.html').absolute()}")
    typer.echo(NOTICE)
