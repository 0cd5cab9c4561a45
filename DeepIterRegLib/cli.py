"""The command line `deepiterreg`. Parsing and messages only; whatever takes time to import is imported where it is used."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from DeepIterRegLib import __version__
from DeepIterRegLib.errors import Cancelled, InputError, RegistrationError

if TYPE_CHECKING:
    from DeepIterRegLib.dicom import GeometryOptions
    from DeepIterRegLib.progress import Progress
    from DeepIterRegLib.registration import Registration

NOTICE = "Research use only. Not a medical device."
EXIT_INTERNAL, EXIT_INPUT, EXIT_REGISTRATION, EXIT_CANCELLED = 1, 2, 3, 130

P = ParamSpec("P")

app = typer.Typer(
    name="deepiterreg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a fault of this program, 2 wrong use or input, 3 no registration found, 130 cancelled.",
)


def main() -> None:
    """Entry point of the console script."""
    sys.unraisablehook = _print_unraisable
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)
    if not _debugging():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # readers quote header values, which may name the patient
    app()


class _Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not KeyboardInterrupt: one that passes through `exec` makes Python exit as if killed, caught or not."""


_interrupted = False


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise _Interrupted


def _print_unraisable(lost: sys.UnraisableHookArgs) -> None:
    if not isinstance(lost.exc_value, _Interrupted):
        sys.__unraisablehook__(lost)


def _raise_if_interrupted() -> None:
    """An exception raised inside a callback from C (numba's compiler, a finaliser) is lost; the flag is not."""
    if _interrupted:
        raise _Interrupted


def _debugging() -> bool:
    return bool(os.environ.get("DEEPITERREG_DEBUG"))


def _command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn exceptions into one line per problem on stderr and an exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except InputError as error:
            _fail(EXIT_INPUT, *error.problems)
        except RegistrationError as error:
            _fail(EXIT_REGISTRATION, str(error))
        except (_Interrupted, KeyboardInterrupt, Cancelled):
            _fail(EXIT_CANCELLED, "Cancelled; nothing was written.")
        except MemoryError:
            _fail(EXIT_INTERNAL, "Not enough memory for this volume; resample it or close other programs.")
        except Exception as error:
            # An interruption lost in a callback may come back as any fault of the code that it left half done.
            if _interrupted:
                _fail(EXIT_CANCELLED, "Cancelled; nothing was written.")
            if _debugging():
                raise
            text = " ".join(str(error).split()) or "no message"
            _fail(
                EXIT_INTERNAL,
                f"Unexpected {type(error).__name__}: {text} (a fault of deepiterreg; DEEPITERREG_DEBUG=1 shows where)",
            )

    return run


def _fail(code: int, *problems: str) -> None:
    for problem in problems:
        typer.secho(f"Error: {' '.join(problem.split())}", err=True, fg=typer.colors.RED)
    raise typer.Exit(code)


# -- options shared by commands --------------------------------------------------------------------


class Device(StrEnum):
    """Where the numbers are crunched."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Preset(StrEnum):
    """Ways to register."""

    default = "default"
    paper = "paper"


class Kind(StrEnum):
    """What a file holds."""

    auto = "auto"
    cta = "cta"
    dsa = "dsa"


class Subtraction(StrEnum):
    """What to do with the frames."""

    auto = "auto"
    subtract = "subtract"
    as_is = "as_is"


GEOMETRY = "C-arm geometry (overrides the file's)"

CtaFile = Annotated[Path, typer.Argument(help="CTA: DICOM folder, NIfTI, NRRD or MHA, in HU.", show_default=False)]
DsaFile = Annotated[
    Path, typer.Argument(help="DSA: DICOM XA file, or an image file with typed-in geometry.", show_default=False)
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to make.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output of an earlier run.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
DeviceOption = Annotated[Device, typer.Option(help="auto takes CUDA where there is one.")]
PrimaryAngle = Annotated[
    float | None, typer.Option("--primary-angle", help="deg, LAO +, RAO -.", rich_help_panel=GEOMETRY)
]
SecondaryAngle = Annotated[
    float | None, typer.Option("--secondary-angle", help="deg, cranial +, caudal -.", rich_help_panel=GEOMETRY)
]
Sid = Annotated[float | None, typer.Option("--sid", help="Source to detector, mm.", rich_help_panel=GEOMETRY)]
Sod = Annotated[float | None, typer.Option("--sod", help="Source to isocentre, mm.", rich_help_panel=GEOMETRY)]
PixelSpacing = Annotated[
    str | None,
    typer.Option(
        "--pixel-spacing",
        metavar="MM[,MM]",
        help="On the detector: one number, or rows,columns.",
        rich_help_panel=GEOMETRY,
    ),
]
PrincipalPoint = Annotated[
    str | None,
    typer.Option(
        "--principal-point", metavar="COLUMN,ROW", help="px; 0,0 is the first pixel's centre.", rich_help_panel=GEOMETRY
    ),
]
ProjectionMatrix = Annotated[
    Path | None,
    typer.Option(
        "--projection-matrix",
        help="Text file, 3 rows of 4: RAS mm to column, row; instead of angles.",
        rich_help_panel=GEOMETRY,
    ),
]
MaskFrames = Annotated[
    str | None,
    typer.Option("--mask-frames", metavar="N,N..", help="Frames without contrast to subtract, counted from 1."),
]
SubtractionOption = Annotated[Subtraction, typer.Option(help="auto goes by tags, then pixels.")]
CtaMask = Annotated[
    Path | None, typer.Option("--cta-mask", help="Vessels of the CTA, on its grid; else segmented here.")
]


def _geometry_options(
    primary_angle: float | None,
    secondary_angle: float | None,
    sid: float | None,
    sod: float | None,
    pixel_spacing: str | None,
    principal_point: str | None,
    projection_matrix: Path | None,
) -> GeometryOptions:
    from DeepIterRegLib.dicom import GeometryOptions
    from DeepIterRegLib.typed import matrix_file, numbers

    spacing = numbers(pixel_spacing, "--pixel-spacing", (1, 2))
    point = numbers(principal_point, "--principal-point", (2,))
    return GeometryOptions(
        primary_angle_deg=primary_angle,
        secondary_angle_deg=secondary_angle,
        sid_mm=sid,
        sod_mm=sod,
        pixel_spacing_mm=(spacing[0], spacing[-1]) if spacing else None,
        principal_point_px=(point[0], point[1]) if point else None,
        projection_matrix=matrix_file(projection_matrix, "--projection-matrix") if projection_matrix else None,
    )


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Bars on stderr, one per step; `report(step, fraction)` makes, moves and ends them."""
    if quiet:
        yield lambda step, fraction, score=None: _raise_if_interrupted()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description:<24}"), BarColumn(bar_width=32), TimeElapsedColumn())
    bars = Bars(*columns, console=Console(stderr=True))

    def report(step: str, fraction: float, score: float | None = None, /) -> None:
        _raise_if_interrupted()
        bars.start()
        if step not in tasks:
            for earlier in tasks.values():
                bars.update(earlier, completed=1.0)
            tasks[step] = bars.add_task(step, total=1.0)
        bars.update(tasks[step], completed=fraction)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


# -- commands --------------------------------------------------------------------------------------


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deepiterreg {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Register a CT angiogram (CTA) to a digital subtraction angiogram (DSA) of the same head.

    [bold red]Research use only. Not a medical device.[/]

    [bold]Examples[/]

      deepiterreg demo

      deepiterreg info run.dcm

      deepiterreg register cta.nii.gz run.dcm --out result

      deepiterreg register cta.nii.gz frame.png --out result --primary-angle 90 --secondary-angle 0 --sid 1200 --sod 750 --pixel-spacing 0.3
    """


@app.command()
@_command
def register(
    cta: CtaFile,
    dsa: DsaFile,
    out: OutFolder,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="radiological|search|network|auto|FILE",
            help="Where to start; auto: search and network; FILE: a pose (.tfm, .h5, .json). Default: search (paper: radiological).",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Of the network (.safetensors), fine-tuned ones for example; else those that ship."),
    ] = None,
    preset: Annotated[Preset, typer.Option(help="paper: as published, ray cast, minutes.")] = Preset.default,
    cta_mask: CtaMask = None,
    cta_vein_mask: Annotated[
        Path | None, typer.Option("--cta-vein-mask", help="Veins of the CTA, added to the vessels.")
    ] = None,
    dsa_mask: Annotated[
        Path | None, typer.Option("--dsa-mask", help="Vessels of the DSA, on its pixels; else segmented here.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="True pose, to print the error against it.")] = None,
    mask_frames: MaskFrames = None,
    subtraction: SubtractionOption = Subtraction.auto,
    device: DeviceOption = Device.auto,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pose.")] = 0,
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
    """Find the pose that lays the CTA's vessels over the DSA.

    Writes registration.json (ctaToCarm, 4x4, RAS mm), ctaToCarm.tfm (opens in 3D Slicer), overlay.png,
    projection.nii.gz and report.html (open it in a browser).

    [bold]Examples[/]

      deepiterreg register cta.nii.gz run.dcm --out result

      deepiterreg register CTA_FOLDER run.dcm --out result --cta-mask vessels.nii.gz --init start.tfm

      deepiterreg register cta.nrrd run.dcm --out result --preset paper --json > result.json
    """
    from DeepIterRegLib.jobs import RegisterJob, register_files
    from DeepIterRegLib.output import output_folder
    from DeepIterRegLib.report.outputs import REGISTRATION_FILES
    from DeepIterRegLib.typed import frame_numbers

    job = RegisterJob(
        cta=cta,
        dsa=dsa,
        geometry=_geometry_options(
            primary_angle, secondary_angle, sid, sod, pixel_spacing, principal_point, projection_matrix
        ),
        init=init,
        weights=weights,
        preset=preset.value,
        cta_mask=cta_mask,
        cta_vein_mask=cta_vein_mask,
        dsa_mask=dsa_mask,
        reference=reference,
        mask_frames=frame_numbers(mask_frames, "--mask-frames"),
        subtraction=subtraction.value,
        device=device.value,
        seed=seed,
    )
    with output_folder(out, REGISTRATION_FILES, overwrite=overwrite) as folder, _progress(quiet) as report:
        registration = register_files(job, folder, report)
    _tell(registration, out, as_json, quiet)


@app.command()
@_command
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
    from DeepIterRegLib.jobs import CTA_MASK_FILES, DSA_MASK_FILES, is_angiogram, segment_cta_file, segment_dsa_file
    from DeepIterRegLib.output import output_folder
    from DeepIterRegLib.typed import frame_numbers

    dsa = kind is Kind.dsa or (kind is Kind.auto and is_angiogram(file))
    names = DSA_MASK_FILES if dsa else CTA_MASK_FILES
    with output_folder(out, names, overwrite=overwrite) as folder, _progress(quiet) as report:
        if dsa:
            geometry = _geometry_options(
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
@_command
def project(
    volume: Annotated[Path, typer.Argument(help="CTA in HU, or a mask.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Image to write: .nii.gz (values x mm) or .png.", show_default=False)
    ],
    pose: Annotated[Path | None, typer.Option(help="ctaToCarm (.tfm, .h5, .json); else the radiological pose.")] = None,
    like: Annotated[Path | None, typer.Option(help="DSA whose geometry and size to take.")] = None,
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
    """Project a CTA or a mask at a pose: a digitally reconstructed radiograph.

    A CTA is ray cast (attenuation x mm); of a mask, the length inside it is given in mm.

    [bold]Examples[/]

      deepiterreg project vessels.nii.gz --pose result/ctaToCarm.tfm --like run.dcm --out vessels.png

      deepiterreg project cta.nii.gz --like run.dcm --size 256,256 --out drr.nii.gz
    """
    from DeepIterRegLib.jobs import project_file
    from DeepIterRegLib.output import output_file
    from DeepIterRegLib.typed import numbers

    wanted = numbers(size, "--size", (2,))
    geometry = _geometry_options(
        primary_angle, secondary_angle, sid, sod, pixel_spacing, principal_point, projection_matrix
    )
    with output_file(out, (".nii.gz", ".nii", ".png"), overwrite=overwrite) as path, _progress(quiet) as report:
        project_file(
            volume,
            pose,
            like,
            geometry,
            (int(wanted[0]), int(wanted[1])) if wanted else None,
            device.value,
            path,
            report,
        )
    if not quiet:
        typer.echo(f"Image: {out}")


@app.command()
@_command
def phantom(
    out: OutFolder,
    seed: Annotated[int, typer.Option(min=0, help="Which patient.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic patient: CTA, DSA run (XA), true pose, true masks.

    [bold]Example[/]

      deepiterreg phantom --seed 7 --out patient7
    """
    from DeepIterRegLib.jobs import PHANTOM_FILES, write_phantom
    from DeepIterRegLib.output import output_folder

    with output_folder(out, PHANTOM_FILES, overwrite=overwrite) as folder, _progress(quiet) as report:
        write_phantom(seed, folder, report)
    if not quiet:
        typer.echo(f"Patient {seed}: {out}")


@app.command()
@_command
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
    from DeepIterRegLib.jobs import DEMO_FILES, run_demo
    from DeepIterRegLib.output import output_folder

    with output_folder(out, DEMO_FILES, overwrite=True) as folder, _progress(quiet) as report:
        registration = run_demo(seed, device.value, folder, report)
    _tell(registration, out, as_json, quiet)


@app.command()
@_command
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
    from DeepIterRegLib.network.config import training_settings

    settings = training_settings(config, patient, weights, minutes)
    try:
        from DeepIterRegLib.network.training import train as run_training
    except ModuleNotFoundError as error:
        raise InputError(
            f"Training needs the package {error.name}: install it with pip install 'deepiterreg[train]'."
        ) from error
    try:
        with _progress(quiet) as report:
            path = run_training(settings, out, report, quiet=quiet)
    except (_Interrupted, KeyboardInterrupt):
        _fail(EXIT_CANCELLED, f"Stopped. The same command goes on from the last whole epoch in {out}.")
    if not quiet:
        typer.echo(f"Weights: {path}")


@app.command()
@_command
def info(
    file: Annotated[Path, typer.Argument(help="DSA file, or CTA (file or DICOM folder).", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show what is read from a file, and what is missing.

    [bold]Example[/]

      deepiterreg info run.dcm
    """
    from DeepIterRegLib.jobs import describe_file

    values = describe_file(file)
    if as_json:
        typer.echo(json.dumps(values, indent=2, default=str))
        return
    width = max(map(len, values)) + 2
    for name, value in values.items():
        lines = value if isinstance(value, (list, tuple)) and any(isinstance(item, str) for item in value) else [value]
        for i, line in enumerate(lines):
            typer.echo(f"{'' if i else name:<{width}}{'-' if line is None or line == [] else line}")


def _tell(registration: Registration, out: Path, as_json: bool, quiet: bool) -> None:
    """The result on stdout."""
    if as_json:
        typer.echo(json.dumps({**registration.to_json_dict(), "folder": str(out)}, indent=2))
        return
    for warning in registration.warnings:
        typer.secho(f"Warning: {warning}", err=True, fg=typer.colors.YELLOW)
    if quiet:
        return
    total = registration.seconds.get("total", sum(registration.seconds.values()))
    typer.echo(
        f"Registered in {total:.1f} s. Vessel similarity {registration.score:.3f}, "
        f"{registration.init.score_radiological:.3f} at the radiological pose."
    )
    if registration.mpe_mm_to_reference is not None:
        typer.echo(
            f"Mean projection error to the reference: {registration.mpe_mm_to_reference:.2f} mm on the detector."
        )
    typer.echo(f"Report: {(out / 'report.html').absolute()}")
    typer.echo(NOTICE)


if __name__ == "__main__":
    main()
