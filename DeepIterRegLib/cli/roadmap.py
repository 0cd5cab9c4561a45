"""From the angiogram back into the CTA: pick. The other way is `project --item`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from DeepIterRegLib.cli.app import app, command
from DeepIterRegLib.cli.options import Json, ResultFolder, ViewNumber


@app.command()
@command
def pick(
    result: ResultFolder,
    pixel: Annotated[
        str,
        typer.Argument(metavar="COLUMN,ROW", help="Of the DSA; 0,0 is the first pixel's centre.", show_default=False),
    ],
    vessels: Annotated[
        Path | None, typer.Option(help="Vessels of the CTA: mask, model, curve or centreline.", show_default=False)
    ] = None,
    view: ViewNumber = 1,
    as_json: Json = False,
) -> None:
    """A pixel of the DSA as a ray in the CTA, and the vessel nearest to it.

    Everything is in the CTA's RAS mm; depth is measured along the ray from the source.

    [bold]Examples[/]

      deepiterreg pick result 512,300 --vessels vessels.nii.gz

      deepiterreg pick result 512,300 --vessels vessels.nii.gz --json
    """
    from DeepIterRegLib.cases.project import pick_files
    from DeepIterRegLib.common.user_input import numbers

    column, row = numbers(pixel, "pixel", (2,))
    answer = pick_files(result, (column, row), vessels, view - 1)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return

    def words(values: list[float], digits: int) -> str:
        return ", ".join(f"{value:.{digits}f}" for value in values)

    typer.echo(f"Source (RAS mm)      {words(answer['source_cta_mm'], 2)}")
    # A metre from the source the fifth digit is a hundredth of a millimetre, as fine as the points are given.
    typer.echo(f"Direction            {words(answer['direction_cta'], 5)}")
    if "nearest" in answer:
        nearest = answer["nearest"]
        typer.echo(f"Vessel (RAS mm)      {words(nearest['point_cta_mm'], 2)}")
        typer.echo(f"Distance from ray    {nearest['distance_mm']:.2f} mm")
        typer.echo(f"Depth from source    {nearest['depth_mm']:.1f} mm")
        typer.echo(f"Vessel's pixel       {words(nearest['pixel'], 1)}")
