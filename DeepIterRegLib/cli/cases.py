"""The commands on one case: register, segment, project, phantom, demo, train, info."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from DeepIterRegLib.cli.app import EXIT_CANCELLED, NOTICE, Interrupted, app, command, fail, progress
from DeepIterRegLib.cli.options import (
    CtaFile,
    CtaMask,
    Device,
    DeviceOption,
    DsaFiles,
    EachDsaMask,
    EachMaskFrames,
    EachPixelSpacing,
    EachPrimaryAngle,
    EachPrincipalPoint,
    EachProjectionMatrix,
    EachSecondaryAngle,
    EachSid,
    EachSod,
    Gathered,
    Json,
    Kind,
    MaskFrames,
    OutFolder,
    Overwrite,
    PixelSpacing,
    Preset,
    PrimaryAngle,
    PrincipalPoint,
    ProjectionMatrix,
    Quiet,
    SecondaryAngle,
    Sid,
    Sod,
    Subtraction,
    SubtractionOption,
    geometry_options,
)
from DeepIterRegLib.common.errors import InputError

if TYPE_CHECKING:
    from DeepIterRegLib.registration.result import Registration


@app.command()
@command
def register(
    cta: CtaFile,
    dsa: DsaFiles,
    out: OutFolder,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="radiological|search|network|skull|auto|landmarks|FILE",
            help="Where to start; skull: the skull in the mask frame; auto: skull, search, network; FILE: a pose (.tfm, .h5, .json). "
            "Default: auto (paper: radiological).",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Of the network (.safetensors), fine-tuned ones for example; else those that ship."),
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="Paired points (CSV: name,x,y,z,column,row; RAS mm of the CTA, px of the DSA). The start unless --init is given; "
            "their errors at the result are reported. Or a point list of 3D Slicer (.mrk.json) on the CTA."
        ),
    ] = None,
    dsa_landmarks: Annotated[
        Path | None, typer.Option(help="The same points on the DSA, in the same order: a point list of 3D Slicer.")
    ] = None,
    preset: Annotated[Preset, typer.Option(help="paper: as published, ray cast, minutes.")] = Preset.default,
    cta_mask: CtaMask = None,
    cta_vein_mask: Annotated[
        Path | None, typer.Option("--cta-vein-mask", help="Veins of the CTA, added to the vessels.")
    ] = None,
    dsa_mask: EachDsaMask = None,
    reference: Annotated[Path | None, typer.Option(help="True pose, to print the error against it.")] = None,
    refine_geometry: Annotated[
        bool,
        typer.Option("--refine-geometry", help="Correct angles, SID and principal point, a little; says by how much."),
    ] = False,
    between_runs: Annotated[
        bool, typer.Option("--between-runs", help="Several DSAs: the head moved between them, a little; says how far.")
    ] = False,
    mask_frames: EachMaskFrames = None,
    subtraction: SubtractionOption = Subtraction.auto,
    device: DeviceOption = Device.auto,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pose.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    primary_angle: EachPrimaryAngle = None,
    secondary_angle: EachSecondaryAngle = None,
    sid: EachSid = None,
    sod: EachSod = None,
    pixel_spacing: EachPixelSpacing = None,
    principal_point: EachPrincipalPoint = None,
    projection_matrix: EachProjectionMatrix = None,
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
    from DeepIterRegLib.cases.files import FurtherRun, RegisterJob, register_files
    from DeepIterRegLib.common.atomic_output import output_folder
    from DeepIterRegLib.common.user_input import frame_numbers
    from DeepIterRegLib.results.report.outputs import MAX_VIEWS, registration_files

    typed = Gathered(len(dsa))
    columns = zip(
        typed.each(primary_angle, "--primary-angle", for_all=False),
        typed.each(secondary_angle, "--secondary-angle"),
        typed.each(sid, "--sid"),
        typed.each(sod, "--sod"),
        typed.each(pixel_spacing, "--pixel-spacing"),
        typed.each(principal_point, "--principal-point"),
        typed.each(projection_matrix, "--projection-matrix", for_all=False),
        strict=True,
    )
    masks = typed.each(dsa_mask, "--dsa-mask", for_all=False)
    frames = typed.each(mask_frames, "--mask-frames")
    typed.raise_problems()
    first, *further = (
        FurtherRun(file, geometry_options(*values), mask, frame_numbers(numbers, "--mask-frames"))
        for file, values, mask, numbers in zip(dsa, columns, masks, frames, strict=True)
    )
    job = RegisterJob(
        cta=cta,
        dsa=first.dsa,
        geometry=first.geometry,
        init=init,
        weights=weights,
        landmarks=landmarks,
        dsa_landmarks=dsa_landmarks,
        preset=preset.value,
        cta_mask=cta_mask,
        cta_vein_mask=cta_vein_mask,
        dsa_mask=first.dsa_mask,
        reference=reference,
        mask_frames=first.mask_frames,
        subtraction=subtraction.value,
        device=device.value,
        seed=seed,
        further=tuple(further),
        refine_geometry=refine_geometry,
        between_runs=between_runs,
    )
    names = registration_files(MAX_VIEWS)
    told: list[str] = []
    with output_folder(out, names, overwrite=overwrite) as folder, progress(quiet) as report:
        registration = register_files(job, folder, report, lambda text: _warn(text, told))
    _tell(registration, out, as_json, quiet, told)


@app.command()
@command
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
    cta_mask: CtaMask = None,
    mask_frames: MaskFrames = None,
    subtraction: SubtractionOption = Subtraction.auto,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    primary_angle: PrimaryAngle = None,
    secondary_angle: SecondaryAngle = None,
    sid: Sid = None,
    sod: Sod = None,
    pixel_spacing: PixelSpacing = None,
    principal_point: PrincipalPoint = None,
    projection_matrix: ProjectionMatrix = None,
) -> None:
    """Write vessel masks as NIfTI on the grid of the source.

    From a CTA: vessels and veins. From a DSA: MinIP, vesselness, vessels, arteries, veins, arrival time (s).

    [bold]Examples[/]

      deepiterreg segment cta.nii.gz --out masks

      deepiterreg segment run.dcm --out masks2d
    """
    from DeepIterRegLib.cases.files import is_angiogram
    from DeepIterRegLib.cases.segment import CTA_MASK_FILES, DSA_MASK_FILES, segment_cta_file, segment_dsa_file
    from DeepIterRegLib.common.atomic_output import output_folder
    from DeepIterRegLib.common.user_input import frame_numbers

    dsa = kind is Kind.dsa or (kind is Kind.auto and is_angiogram(file))
    names = DSA_MASK_FILES if dsa else CTA_MASK_FILES
    with output_folder(out, names, overwrite=overwrite) as folder, progress(quiet) as report:
        if dsa:
            geometry = geometry_options(
                primary_angle, secondary_angle, sid, sod, pixel_spacing, principal_point, projection_matrix
            )
            counts = segment_dsa_file(
                file, geometry, frame_numbers(mask_frames, "--mask-frames"), subtraction.value, folder, report
            )
        else:
            counts = segment_cta_file(file, cta_mask, opening_radius, min_component, folder, report)
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "set": counts}, indent=2))
    elif not quiet:
        for name, count in counts.items():
            typer.echo(f"{name:<24}{count:>10} set")
        typer.echo(f"Masks: {out}")


@app.command()
@command
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
    device: DeviceOption = Device.auto,
    quiet: Quiet = False,
    primary_angle: PrimaryAngle = None,
    secondary_angle: SecondaryAngle = None,
    sid: Sid = None,
    sod: Sod = None,
    pixel_spacing: PixelSpacing = None,
    principal_point: PrincipalPoint = None,
    projection_matrix: ProjectionMatrix = None,
) -> None:
    """Project a CTA or a mask at a pose: a digitally reconstructed radiograph. Or 3D things over the DSA: a roadmap.

    A CTA is ray cast (attenuation x mm); of a mask, the length inside it is given in mm. Each --item is drawn in its style.

    [bold]Examples[/]

      deepiterreg project vessels.nii.gz --pose result/ctaToCarm.tfm --like run.dcm --out vessels.png

      deepiterreg project cta.nii.gz --like run.dcm --size 256,256 --out drr.nii.gz

      deepiterreg project --pose result/ctaToCarm.tfm --like run.dcm --item veins.nii.gz:red:shaded --item clot.stl:gold:outline -o map.png
    """
    from contextlib import ExitStack

    from DeepIterRegLib.cases.project import project_file, roadmap_file
    from DeepIterRegLib.common.atomic_output import output_file
    from DeepIterRegLib.common.user_input import numbers

    if (volume is None) == (not item):
        raise InputError("Give either a volume to project, or one --item or more for a roadmap.")
    if not item and (frame is not None or layer is not None):
        raise InputError("--frame and --layer belong to a roadmap: give --item with them.")
    wanted = numbers(size, "--size", (2,))
    rows_columns = (int(wanted[0]), int(wanted[1])) if wanted else None
    geometry = geometry_options(
        primary_angle, secondary_angle, sid, sod, pixel_spacing, principal_point, projection_matrix
    )
    with ExitStack() as stack:
        if volume is not None:
            path = stack.enter_context(output_file(out, (".nii.gz", ".nii", ".png"), overwrite=overwrite))
            report = stack.enter_context(progress(quiet))
            project_file(volume, pose, like, geometry, rows_columns, device.value, path, report)
        else:
            path = stack.enter_context(output_file(out, (".png",), overwrite=overwrite))
            alone = stack.enter_context(output_file(layer, (".png",), overwrite=overwrite)) if layer else None
            report = stack.enter_context(progress(quiet))
            shown = None if frame is None else frame - 1
            roadmap_file(item or [], pose, like, shown, geometry, rows_columns, path, alone, report)
    if not quiet:
        typer.echo(f"Image: {out}")


@app.command()
@command
def phantom(
    out: OutFolder,
    seed: Annotated[int, typer.Option(min=0, help="Which patient.")] = 0,
    views: Annotated[
        int, typer.Option(min=1, max=4, help="How many runs, AP and lateral in turn: dsa.dcm, dsa2.dcm and so on.")
    ] = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic patient: CTA, DSA run (XA), true pose, true masks.

    [bold]Examples[/]

      deepiterreg phantom --seed 7 --out patient7

      deepiterreg phantom --seed 7 --views 2 --out patient7
    """
    from DeepIterRegLib.cases.demo import PHANTOM_FILES, write_phantom
    from DeepIterRegLib.common.atomic_output import output_folder

    with output_folder(out, PHANTOM_FILES, overwrite=overwrite) as folder, progress(quiet) as report:
        write_phantom(seed, folder, report, views)
    if not quiet:
        typer.echo(f"Patient {seed}: {out}")


@app.command()
@command
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; replaced if an earlier demo made it.")] = Path(
        "deepiterreg-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Which synthetic patient.")] = 1,
    device: DeviceOption = Device.auto,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a synthetic patient, register it from its files, and say how far from the truth it came.

    [bold]Examples[/]

      deepiterreg demo

      deepiterreg demo --seed 5 --out somewhere
    """
    from DeepIterRegLib.cases.demo import DEMO_FILES, run_demo
    from DeepIterRegLib.common.atomic_output import output_folder

    with output_folder(out, DEMO_FILES, overwrite=True) as folder, progress(quiet) as report:
        registration = run_demo(seed, device.value, folder, report)
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

    settings = training_settings(config, patient, weights, minutes)
    try:
        from DeepIterRegLib.registration.network.training import train as run_training
    except ModuleNotFoundError as error:
        raise InputError(
            f"Training needs the package {error.name}: install it with pip install 'deepiterreg[train]'."
        ) from error
    try:
        with progress(quiet) as report:
            path = run_training(settings, out, report, quiet=quiet)
    except (Interrupted, KeyboardInterrupt):
        fail(EXIT_CANCELLED, f"Stopped. The same command goes on from the last whole epoch in {out}.")
    if not quiet:
        typer.echo(f"Weights: {path}")


@app.command()
@command
def info(
    file: Annotated[Path, typer.Argument(help="DSA file, or CTA (file or DICOM folder).", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show what is read from a file, and what is missing.

    [bold]Example[/]

      deepiterreg info run.dcm
    """
    from DeepIterRegLib.cases.describe import describe_file

    values = describe_file(file)
    if as_json:
        typer.echo(json.dumps(values, indent=2, default=str))
        return
    width = max(map(len, values)) + 2
    for name, value in values.items():
        lines = value if isinstance(value, (list, tuple)) and any(isinstance(item, str) for item in value) else [value]
        for i, line in enumerate(lines):
            typer.echo(f"{'' if i else name:<{width}}{'-' if line is None or line == [] else line}")


def _warn(text: str, told: list[str]) -> None:
    """A warning on stderr at once, while there is still time to stop."""
    told.append(text)
    typer.secho(f"Warning: {text}", err=True, fg=typer.colors.YELLOW)


def _tell(registration: Registration, out: Path, as_json: bool, quiet: bool, told: Sequence[str] = ()) -> None:
    """The result on stdout; warnings told already are not repeated."""
    if as_json:
        typer.echo(json.dumps({**registration.to_json_dict(), "folder": str(out)}, indent=2))
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
    typer.echo(f"Report: {(out / 'report.html').absolute()}")
    typer.echo(NOTICE)
