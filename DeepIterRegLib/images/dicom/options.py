"""What the values of the C-arm's geometry are called, and the tags that hold them."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

from DeepIterRegLib.common.options import GeometryOptions

# The id of the option that each field holds.
OPTION_OF: dict[str, str] = {member.name: member.metadata["option"].name for member in fields(GeometryOptions)}


class Source(NamedTuple):
    """Where one value of the geometry comes from, if nobody types it: what it is called, and the tag a file should have."""

    label: str
    tag: str


SOURCES = {
    "primary_angle_deg": Source("primary angle (LAO positive, deg)", "PositionerPrimaryAngle (0018,1510)"),
    "secondary_angle_deg": Source("secondary angle (cranial positive, deg)", "PositionerSecondaryAngle (0018,1511)"),
    "sid_mm": Source("source to detector distance (mm)", "DistanceSourceToDetector (0018,1110)"),
    "sod_mm": Source("source to isocentre distance (mm)", "DistanceSourceToPatient (0018,1111)"),
    "pixel_spacing_mm": Source("pixel spacing on the detector (mm)", "ImagerPixelSpacing (0018,1164)"),
    "principal_point_px": Source("principal point (px)", "FieldOfViewOrigin (0018,7030)"),
    "projection_matrix": Source("projection matrix", "none"),
}
TYPED = "typed"  # where a value comes from that no tag gave
