"""Landmarks that a person paired on CTA and DSA: from a table, and how far each lies from where a pose puts it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import label_of, name_of
from DeepIterRegLib.common.tables import read_table
from DeepIterRegLib.common.user_input import number
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.markup_files import FAR_MM as OUTSIDE_MM
from DeepIterRegLib.geometry.markup_files import MARKUP_SUFFIXES, Markup, read_markup_lists

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

    def on(self, carm: CArm) -> Landmarks:
        """These; as `PlacedLandmarks.on`."""
        return self


@dataclass(frozen=True)
class PlacedLandmarks:
    """Pairs of points that were placed in 3D Slicer, those of the DSA on its image.

    Attributes
    ----------
    names : tuple of str
    points_cta_mm, on_dsa_mm : (N, 3)
        RAS mm of the CTA, and of Slicer's world: the DSA as loaded, or the detector's image of a result, in C-arm RAS.
    loaded_spacing_mm
        Row and column spacing of the DSA as loaded; None for the C-arm's.
    """

    names: tuple[str, ...]
    points_cta_mm: np.ndarray
    on_dsa_mm: np.ndarray
    loaded_spacing_mm: tuple[float, float] | None = None

    def on(self, carm: CArm) -> Landmarks:
        """With the pixels of the DSA.

        Raises
        ------
        InputError
            Points that lie on neither image, by name.
        """
        row_mm, column_mm = self.loaded_spacing_mm or carm.pixel_spacing_mm
        loaded = self.on_dsa_mm[:, :2] / (-column_mm, -row_mm)  # an axial slice in LPS, rows downwards
        pixels = pixels_on_image(self.on_dsa_mm, np.c_[loaded, self.on_dsa_mm[:, 2]], carm)
        found = np.isfinite(pixels).all(axis=1)
        lost = [point_name(name, n) for n, name in enumerate(self.names, 1) if not found[n - 1]]
        if lost:
            raise InputError(
                f"DSA landmarks {', '.join(lost)} do not lie on the angiogram of {carm.columns} x {carm.rows} px of "
                f"{column_mm:g} x {row_mm:g} mm; place them on its image again."
            )
        return Landmarks(self.names, self.points_cta_mm, pixels)


def pixels_on_image(points_mm: np.ndarray, loaded: np.ndarray, carm: CArm) -> np.ndarray:
    """Pixels (N, 2) of points placed on one image of a DSA, not-a-number where they miss it.

    All of a list lie on one image: a point of the one may by chance fall upon the other.

    Parameters
    ----------
    points_mm : (N, 3)
        C-arm RAS, if they were placed on the detector.
    loaded : (N, 3)
        Column, row and distance from the slice, if they were placed on the DSA as loaded.
    """
    flat = (np.abs(loaded[:, 2]) < 0.5) & carm.contains(loaded[:, :2])
    detector = carm.project(points_mm)
    stands = (np.abs(carm.beyond_detector_mm(points_mm)) < 2) & carm.contains(detector)
    placed, pixels = (flat, loaded[:, :2]) if flat.sum() >= stands.sum() else (stands, detector)
    return np.where(placed[:, None], pixels, np.nan)


@dataclass(frozen=True)
class LandmarkError:
    """How far a landmark on the DSA lies from where the pose puts it: px, and mm on the detector."""

    name: str
    error_px: float
    error_mm: float


def read_landmarks(
    path: Path, dsa_path: Path | None = None, loaded_spacing_mm: tuple[float, float] | None = None
) -> Landmarks | PlacedLandmarks:
    """Landmarks of a CSV file with the columns x, y, z (RAS mm of the CTA), column, row (px) and, if wanted, name.

    Or of two point lists of 3D Slicer (.mrk.json, .fcsv) in the same order: on the CTA, and with `dsa_path` on the DSA, which
    was loaded with `loaded_spacing_mm` (as `PlacedLandmarks` has it). A point that is not placed in one of them is no pair.

    Raises
    ------
    InputError
        Everything wrong with the table, with its lines, or with the point lists.
    """
    markups = path.name.lower().endswith(MARKUP_SUFFIXES)
    if markups != (dsa_path is not None):
        raise InputError(
            Message(
                f"{name_of(path)} has points on the CTA alone; those on the DSA are missing", give=("dsa_landmarks",)
            )
            if markups
            else Message(
                f"{name_of(path)} is a table with both ends of each pair; these points belong to a point list (.mrk.json, .fcsv)",
                at="dsa_landmarks",
            )
        )
    if dsa_path is not None:
        on_cta, on_dsa = read_point_list(path), read_point_list(dsa_path)
        if len(on_cta.labels) != len(on_dsa.labels):
            raise InputError(
                f"{name_of(path)} has {on_cta.count} points and {name_of(dsa_path)} {on_dsa.count}: the same are needed in the same order."
            )
        both = on_cta.placed & on_dsa.placed
        labels = tuple(label for label, used in zip(on_cta.labels, both, strict=True) if used)
        return PlacedLandmarks(labels, on_cta.points_mm[both], on_dsa.points_mm[both], loaded_spacing_mm)
    rows, problems = read_table(path, COLUMNS, "The table of landmarks", "a CSV file is needed")
    names: list[str] = []
    numbers: list[list[float]] = []
    for row in rows:
        values = [number(row[key]) for key in COLUMNS]
        wrong = [key for key, value in zip(COLUMNS, values, strict=True) if value is None]
        if wrong:
            problems.append(f"{name_of(path)}, line {row.line}: {', '.join(wrong)} must be a number.")
        names.append(row["name"] or str(len(names) + 1))
        numbers.append([value or 0.0 for value in values])
    if problems:
        raise InputError(problems)
    table = np.array(numbers)
    if (far := float(np.abs(table).max())) > OUTSIDE_MM:
        raise InputError(f"{name_of(path)} holds {far:g}, which is no place in mm or px; correct it.")
    return Landmarks(tuple(names), table[:, :3], table[:, 3:])


def read_point_list(path: Path) -> Markup:
    """The point list of a .mrk.json with one list, or of a .fcsv, without the points at its end that are not placed.

    Raises
    ------
    InputError
        Absent, something else, or without points.
    """
    lists = read_markup_lists(path)
    if len(lists) != 1:
        raise InputError(
            f"{name_of(path)} is not a point list of 3D Slicer (.mrk.json with one list): it has {len(lists)}."
        )
    (found,) = lists
    if not found.placed.any():
        raise InputError(f"{name_of(path)} holds no points: place them.")
    last = int(np.flatnonzero(found.placed)[-1]) + 1
    return replace(found, labels=found.labels[:last], points_mm=found.points_mm[:last])


def point_name(name: str, number: int) -> str:
    """How a landmark is called in messages and results; 3D Slicer names points after their list, and that after a file."""
    return label_of(name) or f"point {number}"


def landmark_errors(landmarks: Landmarks, carm: CArm, cta_to_carm: np.ndarray) -> tuple[LandmarkError, ...]:
    """Reprojection error of each landmark at a pose (4, 4)."""
    off_px = carm.project(landmarks.points_cta_mm, cta_to_carm) - landmarks.pixels
    off_mm = off_px * np.array(carm.pixel_spacing_mm[::-1])
    return tuple(
        LandmarkError(point_name(name, n), float(px), float(mm))
        for n, (name, px, mm) in enumerate(
            zip(landmarks.names, np.linalg.norm(off_px, axis=1), np.linalg.norm(off_mm, axis=1), strict=True), 1
        )
    )


def landmark_warnings(errors: tuple[LandmarkError, ...]) -> tuple[str, ...]:
    """A sentence for each landmark that is off by more than `FAR_MM`."""
    return tuple(
        f"Landmark {error.name} lies {error.error_mm:.1f} mm ({error.error_px:.0f} px) on the detector from where the result "
        "puts it: the pose or this landmark is wrong."
        for error in errors
        # Written so that a point behind the source, whose error is not-a-number, is told too.
        if not error.error_mm <= FAR_MM
    )
