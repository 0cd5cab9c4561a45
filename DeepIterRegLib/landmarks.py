"""Landmarks that a person paired on CTA and DSA: from a table, and how far each lies from where a pose puts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from DeepIterRegLib.errors import InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.typed import csv_lines

COLUMNS = ("x", "y", "z", "column", "row")
FAR_MM = 5.0  # on the detector: beyond a click's error


@dataclass(frozen=True)
class Landmarks:
    """Pairs of points.

    Attributes
    ----------
    names : tuple of str
    points_cta_mm : (N, 3)
        RAS mm of the CTA.
    pixels : (N, 2)
        The same points on the DSA: column, row; 0, 0 is the centre of the first pixel.
    """

    names: tuple[str, ...]
    points_cta_mm: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class LandmarkError:
    """How far a landmark on the DSA lies from where the pose puts it: px, and mm on the detector."""

    name: str
    error_px: float
    error_mm: float


def read_landmarks(path: Path) -> Landmarks:
    """Landmarks of a CSV file with the columns x, y, z (RAS mm of the CTA), column, row (px) and, if wanted, name.

    Raises
    ------
    InputError
        Everything wrong with the table, with its lines.
    """
    reader = csv_lines(path, "The table of landmarks", "give a CSV file with --landmarks")
    header = [name.strip().lower() for name in next(reader, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{path.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: landmarks need "
            f"{', '.join(COLUMNS)} in the first line."
        )
    problems: list[str] = []
    names: list[str] = []
    numbers: list[list[float]] = []
    for line in reader:
        cells = dict(zip(header, (cell.strip() for cell in line), strict=False))
        if not any(cells.values()):
            continue
        values = [_number(cells.get(key, "")) for key in COLUMNS]
        wrong = [key for key, value in zip(COLUMNS, values, strict=True) if value is None]
        if wrong:
            problems.append(f"{path.name}, line {reader.line_num}: {', '.join(wrong)} must be a number.")
        names.append(cells.get("name") or str(len(names) + 1))
        numbers.append([value or 0.0 for value in values])
    if not numbers and not problems:
        problems.append(f"{path.name} holds no landmark below the names of its columns.")
    if problems:
        raise InputError(problems)
    table = np.array(numbers)
    return Landmarks(tuple(names), table[:, :3], table[:, 3:])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def landmark_errors(landmarks: Landmarks, carm: CArm, cta_to_carm: np.ndarray) -> tuple[LandmarkError, ...]:
    """Reprojection error of each landmark at a pose (4, 4)."""
    off_px = carm.project(landmarks.points_cta_mm, cta_to_carm) - landmarks.pixels
    off_mm = off_px * np.array(carm.pixel_spacing_mm[::-1])
    return tuple(
        LandmarkError(name, float(px), float(mm))
        for name, px, mm in zip(
            landmarks.names, np.linalg.norm(off_px, axis=1), np.linalg.norm(off_mm, axis=1), strict=True
        )
    )


def landmark_warnings(errors: tuple[LandmarkError, ...]) -> tuple[str, ...]:
    """A sentence for each landmark that is off by more than `FAR_MM`."""
    return tuple(
        f"Landmark {error.name} lies {error.error_mm:.1f} mm ({error.error_px:.0f} px) on the detector from where the result "
        "puts it: the pose or this landmark is wrong."
        for error in errors
        if not error.error_mm <= FAR_MM
    )
