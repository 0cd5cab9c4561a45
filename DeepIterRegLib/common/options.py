"""Every option of a registration, in groups; the command line, the table of cases, the panel and the docs follow from here.

An option is declared at the field that holds it. To add one: declare it here, use it, test its use. This file stands on the ground
floor and imports nothing that takes time, as every floor names options and the command line needs them all to start.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from DeepIterRegLib.common.errors import GeometryError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.option import Option, declared, options_of

if TYPE_CHECKING:
    import numpy as np

# Where the refinement starts: by name, or (`file`) at a pose that is given.
NamedInit = Literal["radiological", "search", "network", "skull", "auto"]
# `earlier`: the poses of earlier runs of the same session.
Init = NamedInit | Literal["file", "earlier"]
NAMED_INITS: tuple[str, ...] = get_args(NamedInit)
OLD_INITS = {"bone": "skull"}  # as earlier versions called them; still read
LANDMARKS = "landmarks"  # as `init`: where the landmarks say
Preset = Literal["default", "paper"]
Device = Literal["auto", "cpu", "cuda", "cuda:1", "cuda:2", "cuda:3"]
SubtractionMode = Literal["auto", "subtract", "as_is"]
Contrast = Literal["auto", "dark", "bright"]
GeometryRefinement = Literal["auto", "on", "off"]

FROM_FILE = "from the file"
SEGMENTED_HERE = "segmented here"


@dataclass(frozen=True)
class GeometryOptions:
    """Values that override the file's; None leaves the file's.

    Attributes
    ----------
    primary_angle_deg, secondary_angle_deg : float
        LAO positive, cranial positive, as the DICOM positioner angles.
    sid_mm, sod_mm : float
        Source to detector, source to isocentre.
    pixel_spacing_mm : (row spacing, column spacing)
        On the detector, of the stored image.
    principal_point_px : (column, row)
        Where the perpendicular from the source meets the stored image; (0, 0) is the centre of the first pixel.
    projection_matrix : (3, 4)
        RAS mm to homogeneous (column, row) of the stored image; replaces angles, SID and SOD.
    """

    primary_angle_deg: float | None = declared(
        Option(
            # Two views differ in this angle, so one value cannot be meant for both.
            "primary_angle",
            "number",
            "Angle of the C-arm. LAO positive, RAO negative.",
            unit="deg",
            unset=FROM_FILE,
            each="own",
            panel="Primary angle",
        )
    )
    secondary_angle_deg: float | None = declared(
        Option(
            "secondary_angle",
            "number",
            "Angle of the C-arm. Cranial positive, caudal negative.",
            unit="deg",
            unset=FROM_FILE,
            each="shared",
            panel="Secondary angle",
        )
    )
    sid_mm: float | None = declared(
        Option(
            "sid",
            "number",
            "Distance from the X-ray source to the detector.",
            unit="mm",
            unset=FROM_FILE,
            each="shared",
            panel="Source to detector",
        )
    )
    sod_mm: float | None = declared(
        Option(
            "sod",
            "number",
            "Distance from the X-ray source to the isocentre.",
            unit="mm",
            unset=FROM_FILE,
            each="shared",
            panel="Source to isocentre",
        )
    )
    pixel_spacing_mm: tuple[float, float] | None = declared(
        Option(
            "pixel_spacing",
            "numbers",
            "Pixel size on the detector: one number, or rows, columns.",
            unit="mm",
            counts=(1, 2),
            metavar="MM[,MM]",
            unset=FROM_FILE,
            each="shared",
            panel="Pixel spacing",
        )
    )
    principal_point_px: tuple[float, float] | None = declared(
        Option(
            "principal_point",
            "numbers",
            "Pixel that the perpendicular from the source meets: column, row, counted from 0.",
            unit="px",
            counts=(2,),
            metavar="COLUMN,ROW",
            unset=f"{FROM_FILE}, else the middle of the image",
            each="shared",
            panel="Principal point",
        )
    )
    projection_matrix: np.ndarray | None = declared(
        Option(
            "projection_matrix",
            "matrix file",
            "Text file, 3 rows of 4: RAS mm to column, row; instead of angles.",
            unset="from the angles",
            each="own",
            not_in_panel="a calibrated matrix comes from a program, not from a person",
        )
    )

    def __post_init__(self) -> None:
        problems = [
            Message(f"{value} is not finite", at=member.metadata["option"].name)
            # `float` reads "nan" and "inf" without complaint.
            for member in fields(self)
            if (value := getattr(self, member.name)) is not None and not all(map(math.isfinite, _parts(value)))
        ]
        if problems:
            raise GeometryError(problems)


def _parts(value: float | tuple[float, ...] | np.ndarray) -> Iterable[float]:
    """The numbers that a value of the geometry is made of."""
    if isinstance(value, int | float):
        return (value,)
    return value if isinstance(value, tuple) else value.ravel().tolist()


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is registered, and what is known of it."""

    cta: Path = declared(
        Option(
            "cta",
            "file",
            "CTA: DICOM folder, DICOMDIR or .zip, NIfTI, NRRD or MHA; or a rotational or MR angiogram.",
            panel="CTA",
            parameter="cta",
        ),
        Path(),
    )
    series: str | None = declared(
        Option(
            "series",
            "text",
            "Which series of a DICOM folder is the CTA: its number, description or UID.",
            metavar="NUMBER|TEXT|UID",
            unset="the one of a head with contrast",
            not_in_panel="in 3D Slicer a series is chosen when it is loaded",
        )
    )
    phase: int | None = declared(
        Option(
            "phase",
            "whole number",
            "Which phase of a DICOM series with several, counted from 1 in time.",
            low=1,
            high=9999,
            unset="the one with most contrast in its vessels",
            not_in_panel="in 3D Slicer a phase is chosen when it is loaded",
        )
    )
    cta_mask: Path | None = declared(
        Option(
            "cta_mask",
            "file",
            "Vessels of the CTA. Of a file with several labels or segments those that are meant: FILE:2,3 or FILE:NAME.",
            labels=True,
            unset=SEGMENTED_HERE,
            panel="CTA vessels",
            parameter="vessels",
        )
    )
    cta_vein_mask: Path | None = declared(
        Option(
            "cta_vein_mask",
            "file",
            "Veins of the CTA, added to its vessels; labels as of the vessels.",
            labels=True,
            panel="CTA veins",
            parameter="veins",
        )
    )
    landmarks: Path | None = declared(
        Option(
            "landmarks",
            "file",
            "Paired points, the start unless another is chosen; their errors at the result are reported. A CSV file "
            "(name,x,y,z,column,row; RAS mm of the CTA, px of the DSA), or a point list of 3D Slicer (.mrk.json, .fcsv) on the CTA.",
            panel="Points on the CTA",
            parameter="ctaLandmarks",
        )
    )
    dsa_landmarks: Path | None = declared(
        Option(
            "dsa_landmarks",
            "file",
            "The same points on the DSA, in the same order: a point list of 3D Slicer.",
            panel="Points on the DSA",
            parameter="dsaLandmarks",
        )
    )
    reference: Path | None = declared(
        Option(
            "reference",
            "file",
            "A pose from CTA to C-arm that is known to be right: the result is measured against it (MPE).",
            panel="Reference transform",
            parameter="reference",
        )
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One DSA and what is known of it; several are views of the head as it lay."""

    dsa: Path = declared(
        Option(
            "dsa",
            "file",
            "DSA: DICOM XA file, a folder with one run, or an image file with typed-in geometry. Several are views of the head as it lay.",
            panel="DSA",
            parameter="dsa",
        ),
        Path(),
    )
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    mask_frames: tuple[int, ...] | None = declared(
        Option(
            "mask_frames",
            "frames",
            "Frames without contrast to subtract, counted from 1.",
            metavar="N,N..",
            unset="from the file, else found",
            each="shared",
            panel="Mask frames",
            parameter="maskFrames",
        )
    )
    contrast: Contrast = declared(
        Option(
            "contrast",
            "choice",
            "Whether vessels are dark or bright in the DSA as a viewer shows it; auto goes by the tags, then by the pixels.",
            choices=get_args(Contrast),
            each="shared",
            panel="Vessels are",
            parameter="contrast",
        ),
        "auto",
    )
    dsa_mask: Path | None = declared(
        Option(
            "dsa_mask",
            "file",
            "Vessels of the DSA, on its pixels; labels as of the CTA's vessels.",
            labels=True,
            unset=SEGMENTED_HERE,
            each="own",
            panel="DSA vessels",
            parameter="dsaMask",
        )
    )


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """How the vessels of both are found. Values only, as in the groups below: a console takes them by the same names."""

    head_centre: tuple[float, float, float] | None = declared(
        Option(
            "head_centre",
            "point",
            "Middle of the head in the CTA, right, anterior, superior: the circle of Willis, about which the search turns.",
            unit="mm",
            metavar="R,A,S",
            unset="found in the CTA",
            not_in_panel="Crop Volume cuts the head out instead",
        )
    )
    contrast_hu: float = declared(
        Option(
            "contrast_hu",
            "number",
            "A voxel of the CTA this many HU above brain may be vessel. Lower finds more and thinner vessels, and more noise.",
            unit="HU",
            low=20,
            high=200,
            panel="Threshold above brain",
            parameter="contrastHu",
        ),
        45.0,
    )
    subtraction: SubtractionMode = declared(
        Option(
            "subtraction",
            "choice",
            "Whether frames are subtracted; auto goes by the tags, then by the pixels.",
            choices=get_args(SubtractionMode),
            panel="Subtraction",
            parameter="subtraction",
        ),
        "auto",
    )
    first_frame: int = declared(
        Option(
            "first_frame",
            "whole number",
            "First frame of the first DSA that is looked at, counted from 1.",
            low=1,
            high=9999,
            panel="First frame",
            parameter="firstFrame",
        ),
        1,
    )
    last_frame: int = declared(
        Option(
            "last_frame",
            "whole number",
            "Last frame of the first DSA that is looked at; 0 stands for the last of the run.",
            low=0,
            high=9999,
            panel="Last frame",
            parameter="lastFrame",
        ),
        0,
    )


@dataclass(frozen=True, kw_only=True)
class Search:
    """Where the refinement starts."""

    init: str | None = declared(
        Option(
            "init",
            "start",
            "Where to start. skull: the skull in the mask frame; search: a box about the radiological pose; network: poses "
            "proposed from the veins; auto: the skull, and where it is not clear the search; FILE: a pose (.tfm, .h5, .txt, .mat, .json).",
            choices=(*NAMED_INITS, LANDMARKS),
            old_choices=OLD_INITS,
            metavar="|".join((*NAMED_INITS, LANDMARKS, "FILE")),
            unset="auto (preset paper: radiological)",
            panel="Start from",
            parameter="init",
        )
    )
    weights: Path | None = declared(
        Option(
            "weights",
            "file",
            "Weights of the network (.safetensors), for example fine-tuned to this patient; with init network.",
            unset="those that ship",
            panel="Weights file",
            parameter="networkWeights",
        )
    )


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """How the pose is refined, and on what."""

    preset: Preset = declared(
        Option(
            "preset",
            "choice",
            "default: search, then refinement of the vessels (seconds). paper: the published method, ray cast (minutes).",
            choices=get_args(Preset),
            panel="Preset",
            parameter="preset",
        ),
        "default",
    )
    refine_geometry: GeometryRefinement = declared(
        Option(
            "refine_geometry",
            "choice",
            "With several DSAs: correct headers that contradict each other. auto: where the images say so, and a head that moved a "
            "little is followed. The result says by how much.",
            choices=get_args(GeometryRefinement),
            panel="Refine geometry",
            # Not the name under which scenes of earlier versions hold yes or no.
            parameter="geometryRefinement",
            old_choices={"yes": "on", "no": "off"},
        ),
        "auto",
    )
    between_runs: bool = declared(
        Option(
            "between_runs",
            "yes or no",
            "With several DSAs: the head moved between them, a little; the result says how far.",
            panel="Moved between runs",
            parameter="betweenRuns",
        ),
        False,
    )
    device: Device = declared(
        Option(
            "device",
            "choice",
            "What finds the vessels and computes search, refinement, confidence, the papers' stages and the projection of a CTA: the "
            "CPU or an NVIDIA card, of several the first or that number, counted from 0; auto takes a card where there is one. "
            "All else is the CPU's.",
            choices=get_args(Device),
            panel="Device",
            parameter="device",
        ),
        "auto",
    )
    seed: int = declared(
        Option(
            "seed",
            "whole number",
            "Of the random numbers: the same seed gives the same pose.",
            low=0,
            panel="Seed",
            parameter="seed",
        ),
        0,
    )


# In the order of the work; each is a section of the help and of the docs' table.
GROUPS: dict[str, type] = {
    "Inputs": Inputs,
    "Runs": Run,
    "C-arm geometry (overrides the file's)": GeometryOptions,
    "Segmentation": Segmentation,
    "Start": Search,
    "Refinement": Refinement,
}
OPTIONS: dict[str, Option] = options_of(*GROUPS.values())
EACH = tuple(name for name, option in OPTIONS.items() if option.each)
