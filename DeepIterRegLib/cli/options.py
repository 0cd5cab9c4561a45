"""Options that commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from DeepIterRegLib.common.errors import InputError

if TYPE_CHECKING:
    from DeepIterRegLib.images.dicom import GeometryOptions


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
ResultFolder = Annotated[Path, typer.Argument(help="What register wrote.", show_default=False)]
ViewNumber = Annotated[int, typer.Option("--view", min=1, help="Of several views of one pose, this one, from 1.")]
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
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine, which share its cores.")]
Scheduler = Annotated[
    str, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that runs already: tcp://host:8786.")
]


EACH = " With several DSAs: once for each, in their order."

DsaFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="DSA [DSA2]...",
        help="DSA: DICOM XA file, or an image file with typed-in geometry. Several are views of the head as it lay.",
        show_default=False,
    ),
]
EachPrimaryAngle = Annotated[
    list[float] | None, typer.Option("--primary-angle", help=f"deg, LAO +, RAO -.{EACH}", rich_help_panel=GEOMETRY)
]
EachSecondaryAngle = Annotated[
    list[float] | None, typer.Option("--secondary-angle", help="deg, cranial +, caudal -.", rich_help_panel=GEOMETRY)
]
EachSid = Annotated[list[float] | None, typer.Option("--sid", help="Source to detector, mm.", rich_help_panel=GEOMETRY)]
EachSod = Annotated[
    list[float] | None, typer.Option("--sod", help="Source to isocentre, mm.", rich_help_panel=GEOMETRY)
]
EachPixelSpacing = Annotated[
    list[str] | None,
    typer.Option(
        "--pixel-spacing",
        metavar="MM[,MM]",
        help="On the detector: one number, or rows,columns.",
        rich_help_panel=GEOMETRY,
    ),
]
EachPrincipalPoint = Annotated[
    list[str] | None,
    typer.Option(
        "--principal-point", metavar="COLUMN,ROW", help="px; 0,0 is the first pixel's centre.", rich_help_panel=GEOMETRY
    ),
]
EachProjectionMatrix = Annotated[
    list[Path] | None,
    typer.Option(
        "--projection-matrix",
        help="Text file, 3 rows of 4: RAS mm to column, row; instead of angles.",
        rich_help_panel=GEOMETRY,
    ),
]
EachDsaMask = Annotated[
    list[Path] | None,
    typer.Option("--dsa-mask", help="Vessels of the DSA, on its pixels, of each DSA in turn; else segmented here."),
]
EachMaskFrames = Annotated[
    list[str] | None,
    typer.Option("--mask-frames", metavar="N,N..", help="Frames without contrast to subtract, counted from 1."),
]

Typed = TypeVar("Typed")


class Gathered:
    """Options that may be repeated, once for each of `count` DSAs; keeps what is wrong until `raise_problems` says it all."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._problems: list[str] = []

    def each(self, values: list[Typed] | None, option: str, *, for_all: bool = True) -> list[Typed | None]:
        """What was typed for each DSA, None where nothing was. With `for_all`, what is given once is meant for all."""
        count = self._count
        if not values:
            return [None] * count
        if len(values) == count:
            return list(values)
        if len(values) == 1 and for_all:
            return [values[0]] * count
        once = "once for all or once for each" if for_all else "once for each"
        self._problems.append(
            f"{option} is given {len(values)} time{'' if len(values) == 1 else 's'} for {count} DSA{'' if count == 1 else 's'}: "
            f"give it {once}, in the order of the DSAs."
        )
        return [None] * count

    def raise_problems(self) -> None:
        """To be called before what was typed is used."""
        if self._problems:
            raise InputError(self._problems)


def geometry_options(
    primary_angle: float | None,
    secondary_angle: float | None,
    sid: float | None,
    sod: float | None,
    pixel_spacing: str | None,
    principal_point: str | None,
    projection_matrix: Path | None,
) -> GeometryOptions:
    """The typed-in geometry; what was not typed is None."""
    from DeepIterRegLib.common.user_input import matrix_file, numbers
    from DeepIterRegLib.images.dicom import GeometryOptions

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
