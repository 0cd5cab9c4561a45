"""Slices sorted into stacks: of one series, one orientation, one phase; and whether a stack makes a volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.geometry.lps import voxel_affine_lps_ras
from DeepIterRegLib.images.dicom.ct_planes import PHASE_KEYS, TIME_KEYS, Plane, SeriesHead
from DeepIterRegLib.images.dicom.kinds import Kind
from DeepIterRegLib.images.dicom.safe_words import whole_number
from DeepIterRegLib.images.dicom.tags import tag_name

_EVEN = 0.02  # steps between slices may differ by this part
_SAME_MM = 1e-3  # slices nearer to each other lie in one place
_SAME_DIRECTION, _SAME_SPACING = 2e-3, 1e-3  # of what writers round
FEWEST = 3  # slices of a volume
_OVERLAP = 0.5  # of the shorter one: parts of a series that share so much are phases, not pieces of one scan


@dataclass(frozen=True)
class Series:
    """Slices of one series, orientation, size and phase, sorted along their normal.

    Attributes
    ----------
    planes
    phase, phases
        From 1, and how many its series has.
    repeated
        Copies of slices that were left out.
    """

    planes: tuple[Plane, ...]
    phase: int = 1
    phases: int = 1
    repeated: int = 0

    @property
    def head(self) -> SeriesHead:
        return self.planes[0].head

    @property
    def orientation(self) -> np.ndarray:
        """Directions (2, 3) of rising column index and rising row index, LPS."""
        return np.array(self.planes[0].orientation).reshape(2, 3)

    @property
    def normal(self) -> np.ndarray:
        return np.asarray(np.cross(*self.orientation))

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Row, column."""
        return self.planes[0].spacing_mm

    @cached_property
    def positions_lps_mm(self) -> np.ndarray:
        """(n, 3)."""
        return np.array([plane.position_lps_mm for plane in self.planes])

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Each once, in the order of the slices."""
        return tuple(dict.fromkeys(plane.file for plane in self.planes))

    @property
    def step_mm(self) -> float:
        """Usual distance between slices; 0 of a single one."""
        along = self.positions_lps_mm @ self.normal
        return float(np.median(np.diff(along))) if len(along) > 1 else 0.0

    @property
    def modality(self) -> str:
        return self.head.modality or ("CT" if self.head.kind in (Kind.CT, Kind.ENHANCED_CT) else "unknown modality")

    @property
    def contrast(self) -> bool:
        return any(plane.contrast for plane in self.planes)

    @property
    def words(self) -> str:
        """For messages; nothing of the patient."""
        head, first = self.head, self.planes[0]
        step = f", {number_words(self.step_mm, '.3g')} mm apart" if self.step_mm > 0 else ""
        details = [
            f"series {whole_number(head.number)}" if head.number is not None else "",
            f'"{first.words}"' if first.words else "",
            f"kernel {head.kernel}" if head.kernel else "",
            f"phase {self.phase} of {self.phases}" if self.phases > 1 else "",
        ]
        told = ", ".join(filter(None, details))
        return f"{self.modality} with {len(self.planes)} slices of {head.rows}x{head.columns}{step}" + (
            f" ({told})" if told else ""
        )


def stacks_of(planes: Iterable[Plane]) -> list[Series]:
    """All stacks, each phase of a series one of its own."""
    groups: dict[SeriesHead, list[list[Plane]]] = defaultdict(list)
    for plane in planes:
        # Localisers share the series of the slices at times, so orientation parts them too; writers round it as they like.
        for group in groups[plane.head]:
            if _alike(group[0], plane):
                group.append(plane)
                break
        else:
            groups[plane.head].append([plane])
    return [stack for parts in groups.values() for group in parts for stack in _phases(group)]


def _alike(one: Plane, other: Plane) -> bool:
    return bool(
        np.allclose(one.orientation, other.orientation, rtol=0, atol=_SAME_DIRECTION)
        and np.allclose(one.spacing_mm, other.spacing_mm, rtol=_SAME_SPACING)
    )


def _sorted(planes: Iterable[Plane], phase: int = 1, phases: int = 1, repeated: int = 0) -> Series:
    members = list(planes)
    normal = np.cross(members[0].orientation[:3], members[0].orientation[3:])
    order = np.argsort([plane.position_lps_mm @ normal for plane in members], kind="stable")
    return Series(tuple(members[n] for n in order), phase, phases, repeated)


# -- phases --------------------------------------------------------------------------------------------


def _phases(members: list[Plane]) -> list[Series]:
    """The phases of one group, in their order in time; the group itself where nothing tells phases apart."""
    planes = list({(plane.instance_uid or plane.file, plane.frame): plane for plane in members}.values())
    repeated = len(members) - len(planes)
    parts = _by_value(planes) or _by_time(planes)
    if not parts:
        return [_sorted(planes, repeated=repeated)]
    return [_sorted(part, number, len(parts), repeated) for number, part in enumerate(parts, 1)]


def _by_value(planes: list[Plane]) -> list[list[Plane]]:
    """Phases by a value that all slices of a phase share; none if no tag does so, or its parts are pieces of one scan."""
    for keyword in (*PHASE_KEYS, *TIME_KEYS):
        if not all(keyword in plane.keys for plane in planes):
            continue
        parts: dict[float, list[Plane]] = defaultdict(list)
        for plane in planes:
            parts[plane.keys[keyword]].append(plane)
        whole = [parts[value] for value in sorted(parts) if len(parts[value]) >= FEWEST]
        rest = sum(len(part) for part in parts.values() if len(part) < FEWEST)
        if len(whole) < 2 or rest > len(planes) // 10 or any(_repeats(part) for part in whole):
            continue
        if _overlap(whole):
            return whole
    return []


def _by_time(planes: list[Plane]) -> list[list[Plane]]:
    """Phases by times that differ from slice to slice: the n-th of the slices in one place is of the n-th phase."""
    places = _places(planes)
    counts = {len(place) for place in places}
    if len(counts) != 1 or (count := counts.pop()) < 2 or len(places) < FEWEST:
        return []
    for keyword in (*PHASE_KEYS, *TIME_KEYS):
        if not all(keyword in plane.keys for plane in planes):
            continue
        in_time = [sorted(place, key=lambda plane: plane.keys[keyword]) for place in places]
        if all(a.keys[keyword] < b.keys[keyword] for place in in_time for a, b in pairwise(place)):
            return [[place[n] for place in in_time] for n in range(count)]
    return []


def _along(planes: list[Plane]) -> np.ndarray:
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    return np.array([plane.position_lps_mm @ normal for plane in planes])


def _places(planes: list[Plane]) -> list[list[Plane]]:
    """The slices that lie in one place together, along the normal."""
    along = _along(planes)
    order = np.argsort(along, kind="stable")
    places: list[list[Plane]] = []
    before = -np.inf
    for n in order:
        if along[n] - before > 10 * _SAME_MM:
            places.append([])
            before = along[n]
        places[-1].append(planes[n])
    return places


def _repeats(planes: list[Plane]) -> bool:
    return bool((np.diff(np.sort(_along(planes))) < _SAME_MM).any())


def _overlap(parts: list[list[Plane]]) -> bool:
    """Whether each part shares most of its length with the one before."""
    ranges = [(float(a.min()), float(a.max())) for a in map(_along, parts)]
    for (low, high), (other_low, other_high) in pairwise(ranges):
        shared = min(high, other_high) - max(low, other_low)
        if shared < _OVERLAP * min(high - low, other_high - other_low):
            return False
    return True


# -- a volume --------------------------------------------------------------------------------------------


def affine_of(series: Series) -> np.ndarray:
    """Index (i, j, k) to RAS mm (4, 4); its axes are not perpendicular where the gantry was tilted.

    Raises
    ------
    InputError
        Slices that make no volume: too few, missing, uneven, or several in one place.
    """
    affine = np.eye(4)
    affine[:3, 0] = series.orientation[0] * series.spacing_mm[1]
    affine[:3, 1] = series.orientation[1] * series.spacing_mm[0]
    affine[:3, 2] = _step(series)
    affine[:3, 3] = series.positions_lps_mm[0]
    result: np.ndarray = voxel_affine_lps_ras(affine)
    return result


def _step(series: Series) -> np.ndarray:
    """From slice to slice (3,), LPS mm; see `affine_of`."""
    called = "CT" if series.modality == "CT" else series.modality
    count = len(series.planes)
    if count < FEWEST:
        raise InputError(
            f"The only {called} series is a {series.words}; a volume is needed: give the folder of the whole CTA."
        )
    along = series.positions_lps_mm @ series.normal
    steps = np.diff(along)
    where = tag_name("ImagePositionPatient")
    repeats = int((steps < _SAME_MM).sum())
    if repeats:
        raise InputError(
            f"{repeats + 1} slices of the {called} series ({series.words}) lie where another one lies ({where}): several phases or "
            "reconstructions share the series; give a folder with one of them."
        )
    usual = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - usual) > max(_EVEN * usual, 0.01))
    if len(odd):
        gaps = [
            f"{number_words(steps[i], '.2f')} mm after slice {i + 1} at {number_words(along[i], '.1f')} mm"
            for i in odd[:3]
        ]
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        whole = np.abs(steps[odd] / usual - np.round(steps[odd] / usual)) < 0.05
        kind = "Slices are missing" if whole.all() and (steps[odd] > usual).all() else "Slices are unevenly spaced"
        raise InputError(
            f"{kind} in the {called} series ({series.words}): the step is {number_words(usual, '.2f')} mm, but {'; '.join(gaps)}{more} "
            f"({where}). Copy the whole series, or resample it evenly first."
        )
    positions = series.positions_lps_mm
    step = (positions[-1] - positions[0]) / (count - 1)
    # Of a scan that bends on its way no affine tells where the slices lie.
    away = np.abs(positions - positions[0] - np.outer(np.arange(count), step)).max()
    if away > max(0.05 * usual, 0.1):
        raise InputError(
            f"The slices of the {called} series ({series.words}) do not lie on a straight line: they stray by {number_words(away, '.1f')} "
            f"mm ({where}). Give a series that was scanned in one piece."
        )
    return np.asarray(step)
