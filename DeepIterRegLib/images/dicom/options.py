"""What a person may type in place of, or on top of, what a file says about the C-arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from DeepIterRegLib.common.errors import GeometryError


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

    primary_angle_deg: float | None = None
    secondary_angle_deg: float | None = None
    sid_mm: float | None = None
    sod_mm: float | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    principal_point_px: tuple[float, float] | None = None
    projection_matrix: np.ndarray | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{source.option} needs finite numbers, not {getattr(self, name)}."
            for name, source in SOURCES.items()
            if getattr(self, name) is not None
            and not np.isfinite(np.asarray(getattr(self, name), dtype=np.float64)).all()
        ]
        if problems:
            raise GeometryError(problems)


class Source(NamedTuple):
    """Where one value of the geometry comes from: the tag a file should have, and the option instead."""

    label: str
    tag: str
    option: str


SOURCES = {
    "primary_angle_deg": Source(
        "primary angle (LAO positive, deg)", "PositionerPrimaryAngle (0018,1510)", "--primary-angle"
    ),
    "secondary_angle_deg": Source(
        "secondary angle (cranial positive, deg)", "PositionerSecondaryAngle (0018,1511)", "--secondary-angle"
    ),
    "sid_mm": Source("source to detector distance (mm)", "DistanceSourceToDetector (0018,1110)", "--sid"),
    "sod_mm": Source("source to isocentre distance (mm)", "DistanceSourceToPatient (0018,1111)", "--sod"),
    "pixel_spacing_mm": Source(
        "pixel spacing on the detector (mm)", "ImagerPixelSpacing (0018,1164)", "--pixel-spacing"
    ),
    "principal_point_px": Source("principal point (px)", "FieldOfViewOrigin (0018,7030)", "--principal-point"),
    "projection_matrix": Source("projection matrix", "none", "--projection-matrix"),
}
