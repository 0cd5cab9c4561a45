"""Markups of 3D Slicer (.mrk.json): lists of points, lines and curves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.lps import lps_ras

# As Slicer writes them, by name or, in old versions, by number.
_IS_LPS = {"LPS": True, "0": True, "RAS": False, "1": False}


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
        RAS; those that were placed.
    colour
        Red, green, blue 0..1, or None.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    points_mm: np.ndarray
    colour: tuple[float, ...] | None


def read_markup_lists(path: Path) -> tuple[Markup, ...]:
    """All lists of a file, by their coordinate systems.

    Raises
    ------
    InputError
        Absent, something else, in another coordinate system, or positions that are not finite.
    """
    if not path.is_file():
        raise InputError(f"Markups {path} do not exist: save them in 3D Slicer as .mrk.json.")
    try:
        return tuple(_markup(path, values) for values in json.loads(path.read_text(encoding="utf-8"))["markups"])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a point list, line or curve of 3D Slicer (.mrk.json).") from error


def _markup(path: Path, values: dict[str, Any]) -> Markup:
    placed = [p for p in values["controlPoints"] if p.get("positionStatus", "defined") == "defined"]
    points = np.array([p["position"] for p in placed], dtype=np.float64).reshape(-1, 3)
    system = str(values.get("coordinateSystem", "LPS")).upper()
    if system not in _IS_LPS:
        raise InputError(f"{path.name} has the coordinate system {system}; LPS or RAS is needed.")
    if not np.isfinite(points).all():
        raise InputError(f"{path.name} holds points that are not finite: place them again.")
    colour = values.get("display", {}).get("selectedColor")
    return Markup(
        str(values.get("name") or ""),
        str(values.get("type", "Fiducial")),
        tuple(str(p.get("label") or n) for n, p in enumerate(placed, 1)),
        np.asarray(lps_ras(points)) if _IS_LPS[system] else points,
        tuple(float(part) for part in colour) if colour else None,
    )
