"""The commands on one case: register, segment, project, phantom, demo, train, info."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DeepIterRegLib.cli.app import EXIT_CANCELLED, EXIT_INPUT, NOTICE, Interrupted, app, command, fail, progress
from DeepIterRegLib.cli.options import (
    FACE,
    CtaFile,
    DsaFiles,
    Json,
    OutFolder,
    Overwrite,
    Quiet,
    job_of,
    takes,
    values_of,
)
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message, word
from DeepIterRegLib.common.option import options_of
from DeepIterRegLib.common.options import OPTIONS, GeometryOptions, Run, Segmentation
from DeepIterRegLib.common.shown import place_of

if TYPE_CHECKING:
    from DeepIterRegLib.registration.result import Registration


class Kind(StrEnum):
    """What a file holds."""

    auto = "auto"
    cta = "cta"
    dsa = "dsa"


# Objects made until Python looks for garbage: what is imported makes hundreds of thousands, and one registration leaves little.
_LOOK_FOR_GARBAGE = 50_000
# CTA and DSA have no name on the command line: their places tell them.
OF_REGISTER = tuple(name for name in OPTIONS if name not in ("cta", "dsa"))
OF_GEOMETRY = tuple(options_of(GeometryOptions))


@app.command()
@command
@takes(*OF_REGISTER, each=True)
def register(
    cta: CtaFile,
    dsa: DsaFiles,
    out: OutFolder,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """Find the pose that lays the CTA's vessels over the DSA.

    Writes registration.json (ctaToCarm, 4x4, RAS mm), ctaToCarm.tfm (opens in 3D Slicer), overlay.png,
    projection.nii.gz and report.html (open it in a browser).

    Several DSAs (AP and lateral, say, of a head that lay still) determine the pose together, its depth too; overlay2.png
    and projection2.nii.gz are then of the second. What is typed for each goes in their order.

    Says how likely the pose is right (within 5 mm on the detector) and one of ACCEPTED, LOOK CLOSELY, REJECTED, with
    reasons. A rejected result is still written, exit code 0: read `confidence.state` in registration.json.

    [bold]Examples[/]

      deepiterreg register cta.nii.gz run.dcm --out result

      deepiterreg register cta.nii.gz ap.dcm lateral.dcm --out result

      deepiterreg register cta.nii.gz ap.dcm lateral.dcm --out result --primary-angle 1 --primary-angle 88

      deepiterreg register CTA_FOLDER run.dcm --out result --cta-mask vessels.nii.gz --init start.tfm

      deepiterreg register cta.nrrd run.dcm --out result --preset paper --json > result.json
    """
    from DeepIterRegLib.cases.ahead import read_ahead

    gc.set_threshold(_LOOK_FOR_GARBAGE)
    reading = read_ahead(cta, typed["series"], typed["phase"])
    from DeepIterRegLib.registration import compiled

    compiled.begin()
    from DeepIterRegLib.cases.files import register_files
    from DeepIterRegLib.common.atomic_output import output_folder
    from DeepIterRegLib.results.report.outputs import MAX_VIEWS, files_of_frames, registration_files

    job = job_of(cta, dsa, typed)
    told: list[str] = []
    # The folder comes first: a name that cannot be used is told at once, not after the registration. The names are
    # those of the most views there can be, so that --overwrite may replace a result of more DSAs than this one.
    names = (*registration_files(MAX_VIEWS), *files_of_frames(MAX_VIEWS))
    with output_folder(out, names, overwrite=overwrite) as folder, progress(quiet) as report:
        registration = register_files(job, folder, report, lambda text: _warn(text, told), cta=reading)
    # Told after the block, when the folder has its name: a script that reads this line finds the files.
    _tell(registration, out, as_json, quiet, told)


@app.command()
@command
@takes("series", "phase", "cta_mask", "mask_frames", "contrast", "subtraction", *OF_GEOMETRY)
def segment(
    file: Annotated[Path, typer.Argument(help="A CTA (volume) or a DSA (XA file).", show_default=False)],
    out: OutFolder,
    kind: Annotated[Kind, typer.Option(help="auto goes by the file.")] = Kind.auto,
    opening_radius: Annotated[
        int, typer.Option("--vein-opening-radius", min=0, help="CTA veins: radius of the opening, voxels.")
    ] = 1,
    min_component: Annotated[
        int, typer.Option("--vein-min-component", min=1, help="CTA veins: smallest component kept, voxels.")
    ] = 1000,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """Write vessel masks as NIfTI on the grid of the source.

    From a CTA: vessels and veins. From a DSA: MinIP, vesselness, vessels, arteries, veins, arrival time (s).

    [bold]Examples[/]

      deepiterreg segment cta.nii.gz --out masks

      deepiterreg segment run.dcm --out masks2d
    """
    from DeepIterRegLib.cases.describe import is_angiogram
    from DeepIterRegLib.cases.segment import CTA_MASK_FILES, DSA_MASK_FILES, segment_cta_file, segment_dsa_file
    from DeepIterRegLib.common.atomic_output import output_folder

    dsa = kind is Kind.dsa or (kind is Kind.auto and is_angiogram(file))
    names = DSA_MASK_FILES if dsa else CTA_MASK_FILES
    with output_folder(out, names, overwrite=overwrite) as folder, progress(quiet) as report:
        if dsa:
            geometry = GeometryOptions(**values_of(GeometryOptions, typed))
            run, how = values_of(Run, typed), values_of(Segmentation, typed)
            settings = (run.get("mask_frames"), how["subtraction"])
            counts = segment_dsa_file(file, geometry, *settings, folder, report, run["contrast"])
        else:
            counts = segment_cta_file(
                file, typed["series"], typed["phase"], typed["cta_mask"], opening_radius, min_component, folder, report
            )
    if as_json:
        typer.echo(json.dumps({"folder": place_of(out), "set": counts}, indent=2))
    elif not quiet:
        for name, count in counts.items():
            typer.echo(f"{name:<24}{count:>10} set")
        typer.echo(f"Masks: {place_of(out)}")


@app.command()
@command
@takes("device", *OF_GEOMETRY)
def project(
    volume: Annotated[
        Path | None, typer.Argument(help="CTA in HU, or a mask; not with --item.", show_default=False)
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Image to write: .nii.gz (values x mm) or .png.", show_default=False)
    ],
    pose: Annotated[Path | None, typer.Option(help="ctaToCarm (.tfm, .h5, .json); else the radiological pose.")] = None,
    like: Annotated[
        Path | None, typer.Option(help="DSA whose geometry and size to take; items are laid over it.")
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE:COLOUR[:...]",
            help="Roadmap: a 3D thing to lay over the DSA (mask, label map, .seg.nrrd, STL, OBJ, PLY, VTK, VTP, .mrk.json, SWC). "
            "COLOUR: a name or #rrggbb; further parts: outline, filled, shaded (bright near the detector), 0.5 (opacity), "
            "3px (width), only=NAME, ras, lps. Repeat it for more; later ones lie on top.",
        ),
    ] = None,
    frame: Annotated[
        int | None, typer.Option(min=1, help="Items over this frame, counted from 1; else over the MinIP.")
    ] = None,
    layer: Annotated[Path | None, typer.Option(help="Also write the items alone, transparent, to this PNG.")] = None,
    size: Annotated[str | None, typer.Option(metavar="ROWS,COLUMNS", help="Size of the image; else the DSA's.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """Project a CTA or a mask at a pose: a digitally reconstructed radiograph. Or 3D things over the DSA: a roadmap.

    A CTA is ray cast (attenuation x mm); of a mask, the length inside it is given in mm. Each --item is drawn in its style.

    [bold]Examples[/]

      deepiterreg project vessels.nii.gz --pose result/registration.json --like run.dcm --out vessels.png

      deepiterreg project cta.nii.gz --like run.dcm --size 256,256 --out drr.nii.gz

      deepiterreg project --pose result/registration.json --like run.dcm --item veins.nii.gz:red:shaded --item clot.stl:gold -o map.png
    """
    from contextlib import ExitStack

    from DeepIterRegLib.cases.project import project_file, roadmap_file
    from DeepIterRegLib.common.atomic_output import output_file
    from DeepIterRegLib.common.interruptions import held_back
    from DeepIterRegLib.common.user_input import numbers

    if (volume is None) == (not item):
        raise InputError(
            Message("Either a volume to project, or items for a roadmap are needed, not both", give=("item",))
        )
    if not item and (frame is not None or layer is not None):
        raise InputError(Message("A frame or a layer belongs to a roadmap", give=("item",)))
    wanted = numbers(size, "size", (2,))
    rows_columns = (int(wanted[0]), int(wanted[1])) if wanted else None
    geometry = GeometryOptions(**values_of(GeometryOptions, typed))
    # Every file to write is checked before the first is read: both --out and --layer may be wrong.
    with ExitStack() as stack:
        if volume is not None:
            path = stack.enter_context(output_file(out, (".nii.gz", ".nii", ".png"), overwrite=overwrite))
            report = stack.enter_context(progress(quiet))
            project_file(volume, pose, like, geometry, rows_columns, typed["device"].value, path, report)
        else:
            path = stack.enter_context(output_file(out, (".png",), overwrite=overwrite))
            alone = stack.enter_context(output_file(layer, (".png",), overwrite=overwrite)) if layer else None
            report = stack.enter_context(progress(quiet))
            shown = None if frame is None else frame - 1
            roadmap_file(item or [], pose, like, shown, geometry, rows_columns, path, alone, report)
        with held_back():  # both files or neither
            stack.close()
    if not quiet:
        typer.echo(f"Image: {place_of(out)}")


@app.command()
@command
def phantom(
    out: OutFolder,
    seed: Annotated[int, typer.Option(min=0, help="Which patient.")] = 0,
    views: Annotated[
        int, typer.Option(min=1, max=4, help="How many runs, AP and lateral in turn: dsa.dcm, dsa2.dcm and so on.")
    ] = 1,
    procedure: Annotated[
        bool,
        typer.Option("--procedure", help="A thrombectomy: eight runs, between which the head moves and the clot goes."),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic patient: CTA, DSA run (XA), true pose, true masks.

    With --procedure, a synthetic thrombectomy: runs/01_ap.dcm to runs/08_lateral.dcm, the true pose of each in truth/, and
    procedure.json, which says of each run what was injected, where the clot lay, when it was made, how the head had moved and how far
    the headers are wrong.

    [bold]Examples[/]

      deepiterreg phantom --seed 7 --out patient7

      deepiterreg phantom --seed 7 --views 2 --out patient7

      deepiterreg phantom --seed 7 --procedure --out procedure7
    """
    from DeepIterRegLib.cases.demo import PHANTOM_FILES, write_phantom, write_phantom_procedure
    from DeepIterRegLib.common.atomic_output import output_folder

    if procedure and views != 1:
        raise InputError(
            Message(
                "A procedure has eight runs",
                at="views",
                advice="Give one of the two: a number of views, or a procedure.",
            )
        )
    with output_folder(out, PHANTOM_FILES, overwrite=overwrite) as folder, progress(quiet) as report:
        if procedure:
            write_phantom_procedure(seed, folder, report)
        else:
            write_phantom(seed, folder, report, views)
    if not quiet:
        typer.echo(f"{'Procedure' if procedure else 'Patient'} {seed}: {place_of(out)}")


@app.command()
@command
@takes("device")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; replaced if an earlier demo made it.")] = Path(
        "deepiterreg-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Which synthetic patient.")] = 1,
    procedure: Annotated[
        bool, typer.Option("--procedure", help="Play the eight runs of a thrombectomy into a folder, and follow them.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """Make a synthetic patient, register it from its files, and say how far from the truth it came.

    With --procedure, a synthetic thrombectomy in a new folder: open session/index.html in it while its runs arrive.

    [bold]Examples[/]

      deepiterreg demo

      deepiterreg demo --seed 5 --out somewhere

      deepiterreg demo --procedure --out thrombectomy
    """
    from DeepIterRegLib.cases.demo import DEMO_FILES, run_demo
    from DeepIterRegLib.common.atomic_output import output_folder

    device = typed["device"].value
    if procedure:
        from DeepIterRegLib.cli.follow import follow_demo

        follow_demo(seed, device, out, quiet)
        return
    # No --overwrite here: a folder that holds anything but an earlier demo is refused all the same.
    with output_folder(out, DEMO_FILES, overwrite=True) as folder, progress(quiet) as report:
        registration = run_demo(seed, device, folder, report)
    _tell(registration, out, as_json, quiet)


@app.command()
@command
def train(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder; an interrupted training in it goes on.", show_default=False)
    ],
    config: Annotated[
        Path | None, typer.Option(help="Settings (TOML); else those of the weights that ship.", show_default=False)
    ] = None,
    patient: Annotated[
        Path | None, typer.Option(help="Fine-tune to this CTA's (or vessel mask's) own veins.", show_default=False)
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Start from these (.safetensors). With --patient: else those that ship.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Stop after so long; 0: when the epochs are done.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Train the network for the initial pose on synthetic heads, or fine-tune it to one patient.

    Writes initial_pose.safetensors and its card initial_pose.json, curves.png, logs, and a checkpoint to go on from.

    [bold]Examples[/]

      deepiterreg train --out trained

      deepiterreg train --config my.toml --out trained

      deepiterreg train --patient cta.nii.gz --out patient7

      deepiterreg register cta.nii.gz run.dcm --out result --init network --weights patient7/initial_pose.safetensors
    """
    from DeepIterRegLib.registration.network.config import training_settings

    # Read before the training is imported: a mistake in the settings is told without waiting for torch and Lightning.
    settings = training_settings(config, patient, weights, minutes)
    try:
        from DeepIterRegLib.registration.network.training import train as run_training
    except ModuleNotFoundError as error:
        raise InputError(
            f"Training needs the package {error.name}: install it with pip install 'deepiterreg[train]'."
        ) from error
    try:
        with progress(quiet) as report:
            # No `output_folder` around it: the next training goes on from what an interrupted one left in its folder.
            path = run_training(settings, out, report, quiet=quiet)
    # The general answer, that nothing was written, would be wrong: the checkpoint stands.
    except (Interrupted, KeyboardInterrupt):
        fail(EXIT_CANCELLED, f"Stopped. The same command goes on from the last whole epoch in {place_of(out)}.")
    if not quiet:
        typer.echo(f"Weights: {place_of(out, path.name)}")


@app.command()
@command
@takes("series", "phase")
def info(
    file: Annotated[Path, typer.Argument(help="Any file, or a DICOM folder.", show_default=False)],
    as_json: Json = False,
    **typed: Any,
) -> None:
    """Show what a file or folder is, how it would be used, what is read from it, and what is missing.

    Ends with 2 if it cannot be read, or is a run that no option makes usable.

    [bold]Example[/]

      deepiterreg info run.dcm
    """
    from DeepIterRegLib.cases.describe import describe_file

    values = describe_file(file, typed["series"], typed["phase"])
    # What is another thing than a run or a CTA is told and no fault; a run that is damaged is one, for scripts that check files.
    damaged = values.get("kind") == "angiogram" and "cannot be used" in values
    if as_json:
        typer.echo(json.dumps(values, indent=2, default=str))
    else:
        _show(values)
    if damaged:
        raise typer.Exit(EXIT_INPUT)


def _show(values: dict[str, Any]) -> None:
    """Names and values, a line each."""
    width = max(map(len, values)) + 2
    for name, value in values.items():
        # Sentences get a line each; a list of numbers (size, spacing) stays one value.
        lines = value if isinstance(value, (list, tuple)) and any(isinstance(item, str) for item in value) else [value]
        for i, line in enumerate(lines):
            shown = "-" if line is None or line == [] else word(line, FACE) if isinstance(line, str) else line
            typer.echo(f"{'' if i else name:<{width}}{shown}")


def _warn(text: str, told: list[str]) -> None:
    """A warning on stderr at once, while there is still time to stop."""
    told.append(text)
    typer.secho(f"Warning: {word(text, FACE)}", err=True, fg=typer.colors.YELLOW)


def _tell(registration: Registration, out: Path, as_json: bool, quiet: bool, told: Sequence[str] = ()) -> None:
    """The result on stdout; warnings told already are not repeated."""
    if as_json:
        # The warnings are not printed: they stand in the JSON.
        typer.echo(json.dumps({**registration.to_json_dict(), "folder": place_of(out)}, indent=2))
        return
    for warning in registration.warnings:
        if warning not in told:
            _warn(warning, [])
    if quiet:
        return
    total = registration.seconds.get("total", sum(registration.seconds.values()))
    several = len(registration.views) > 1
    scores = ", ".join(f"{view.score:.3f}" + (f" in {view.name}" if several else "") for view in registration.views)
    typer.echo(
        f"Registered in {total:.1f} s. Vessel similarity {scores}, "
        f"{registration.init.score_radiological:.3f} at the radiological pose."
    )
    if (sure := registration.confidence) is not None:
        colour = {"accepted": typer.colors.GREEN, "look closely": typer.colors.YELLOW, "rejected": typer.colors.RED}
        typer.secho(sure.summary, fg=colour[sure.state])
        for reason in sure.reasons:
            typer.echo(f"  - {reason}")
    for view in registration.views:
        if view.mpe_mm_to_reference is not None:
            where = f" in {view.name}" if several else ""
            typer.echo(
                f"Mean projection error to the reference{where}: {view.mpe_mm_to_reference:.2f} mm on the detector."
            )
    typer.echo(f"Report: {place_of(out, 'report.html')}")
    typer.echo(NOTICE)
