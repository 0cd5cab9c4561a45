"""Markups of 3D Slicer: lists of points, lines and curves (.mrk.json), and its older point lists (.fcsv)."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.tables import read_text
from DeepIterRegLib.common.user_input import number
from DeepIterRegLib.geometry.lps import lps_ras

MARKUP_SUFFIXES = (".json", ".fcsv")
# As Slicer writes them, by name or, in versions before 4.11, by number (vtkMRMLStorageNode::CoordinateSystemType).
_IS_LPS = {"LPS": True, "1": True, "RAS": False, "0": False}
FAR_MM = 1e5  # of the origin: no head lies there
_DEFINED = ("defined", "2")  # position status in .mrk.json, and in the last columns of .fcsv
_FIRST_LPS = (4, 11)  # version of .fcsv from which on LPS is usual
_COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatednodeid")


@dataclass(frozen=True)
class Markup:
    """One list of a file.

    Attributes
    ----------
    name
        Empty where the file gives none, as it is usual for a single list.
    kind
        Slicer's type: Fiducial, Line, Angle, Curve, ClosedCurve.
    labels
        Of the points; their number from 1 where they have none.
    points_mm : (N, 3)
        RAS; not-a-number where a point was not placed.
    colour
        Red, green, blue 0..1, or None.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    points_mm: np.ndarray
    colour: tuple[float, ...] | None = None

    @property
    def placed(self) -> np.ndarray:
        """Which points were: (N,)."""
        return np.isfinite(self.points_mm).all(axis=1)

    @property
    def count(self) -> int:
        """Of the points that were placed."""
        return int(self.placed.sum())


def read_markup_lists(path: Path) -> tuple[Markup, ...]:
    """All lists of a file, by their coordinate systems.

    Raises
    ------
    InputError
        Absent, something else, in another coordinate system, or positions that are not finite.
    """
    if not path.is_file():
        raise InputError(f"Markups {name_of(path)} do not exist: save them in 3D Slicer as .mrk.json.")
    if path.suffix.lower() == ".fcsv":
        return (_fiducials(path),)
    refusal = (
        f"{name_of(path)} is not a point list, line or curve of 3D Slicer (.mrk.json), or it is damaged; save it again."
    )
    tree = read_json(path, refusal, missing=True)  # positions of points that are not placed
    try:
        return tuple(_markup(path, values) for values in tree["markups"])
    except InputError:
        raise
    except MALFORMED:
        raise InputError(refusal) from None


def _markup(path: Path, values: dict[str, Any]) -> Markup:
    points = [_position(path, point) for point in values["controlPoints"]]
    unit = str(values.get("coordinateUnits") or "mm")
    if unit != "mm":
        raise InputError(f"{name_of(path)} is not in mm; save it from 3D Slicer with mm as its unit of length.")
    return Markup(
        str(values.get("name") or ""),
        str(values.get("type", "Fiducial")),
        tuple(str(p.get("label") or n) for n, p in enumerate(values["controlPoints"], 1)),
        _in_ras(path, np.array(points).reshape(-1, 3), str(values.get("coordinateSystem", "LPS"))),
        _colour(values),
    )


def _colour(values: dict[str, Any]) -> tuple[float, ...] | None:
    """Red, green, blue 0..1; None where there is none, or one that cannot be: nobody needs it."""
    display = values.get("display")
    parts = display.get("selectedColor") if isinstance(display, dict) else None
    if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(part, (int, float)) for part in parts):
        return None
    return tuple(float(part) for part in parts) if all(0 <= part <= 1 for part in parts) else None


def _position(path: Path, point: dict[str, Any]) -> list[float]:
    """Three coordinates; not-a-number where the point was not placed."""
    if point.get("positionStatus", "defined") not in _DEFINED:
        return [np.nan] * 3
    position = point.get("position")
    found = [number(str(part)) for part in position] if isinstance(position, list) else []
    if len(found) != 3 or None in found:
        raise InputError(f"{name_of(path)} holds points that are not finite, or have no position: place them again.")
    return [part for part in found if part is not None]


def _in_ras(path: Path, points: np.ndarray, system: str) -> np.ndarray:
    far = float(np.nanmax(np.abs(points), initial=0.0))
    if far > FAR_MM:
        raise InputError(
            f"{name_of(path)} has a point {far / 1000:.0f} m from the origin: it is damaged, or not in mm; save it again."
        )
    if system.upper() not in _IS_LPS:
        raise InputError(
            f"{name_of(path)} has a coordinate system that is neither LPS nor RAS; save it again from 3D Slicer."
        )
    return np.asarray(lps_ras(points)) if _IS_LPS[system.upper()] else points


def _cells(lines: list[str], path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(lines))
    except csv.Error:
        raise InputError(
            f"{name_of(path)} is damaged: a line of it is no line of a table; save it again from 3D Slicer."
        ) from None


def _fiducials(path: Path) -> Markup:
    """A point list as Slicer wrote them before .mrk.json: comments that say what the columns are, and a line a point."""
    told: dict[str, str] = {}
    lines = []
    for line in read_text(path, "Markups").splitlines():
        if line.startswith("#"):
            name, _, value = line.lstrip("# ").partition("=")
            told[name.strip().lower()] = value.strip()
        elif line.strip():
            lines.append(line)
    columns = [name.strip().lower() for name in told["columns"].split(",")] if "columns" in told else list(_COLUMNS)
    version = re.match(r"(\d+)\.(\d+)", told.get("markups fiducial file version", ""))
    usual = "LPS" if version and (int(version[1]), int(version[2])) >= _FIRST_LPS else "RAS"
    labels, points = [], []
    for n, cells in enumerate(_cells(lines, path), 1):
        row = dict(zip(columns, cells, strict=False))
        status = (
            cells[len(_COLUMNS)] if len(cells) > len(_COLUMNS) else _DEFINED[0]
        )  # beyond the columns that are named
        point = [number(row.get(axis, "")) for axis in "xyz"]
        if status not in _DEFINED:
            point = [np.nan] * 3
        elif None in point:
            raise InputError(f"{name_of(path)}: point {n} has no three coordinates; save it again from 3D Slicer.")
        labels.append(row.get("label") or str(n))
        points.append(point)
    system = told.get("coordinatesystem") or usual
    return Markup("", "Fiducial", tuple(labels), _in_ras(path, np.array(points, dtype=float).reshape(-1, 3), system))
