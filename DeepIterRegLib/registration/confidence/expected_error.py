"""The error to expect of a pose that is right, and its intervals: in the overlay, and along the beam.

Both are calibrated apart for what they depend on most: whether the skull was seen, how many views there were, and whether their
headers were corrected (`Testing/Benchmarks/expected_error.py`). Resources/Docs/method.md, section 12.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from DeepIterRegLib.common.resources import MODELS
from DeepIterRegLib.registration.confidence.model import read_model, written_model
from DeepIterRegLib.registration.result import Confidence

FORMAT = "DeepIterReg expected error 1"
SHIPPED_ERRORS = MODELS / "expected_error.json"
Interval = tuple[float, float]


@dataclass(frozen=True)
class ErrorGroup:
    """Calibration of one group of registrations.

    Attributes
    ----------
    intercept, slope
        Logarithm of the median error in mm: intercept + slope times that of the error which the features speak for.
    within_68, within_95
        What the median is multiplied by for the ends of the intervals.
    depth_intercept, depth_slope
        Logarithm of a typical error along the beam in mm, by that of the standard deviation from the scores' curvature.
    depth_68, depth_95
        What it is multiplied by for the bounds below which 68 % and 95 % lie.
    """

    intercept: float
    slope: float
    within_68: Interval
    within_95: Interval
    depth_intercept: float
    depth_slope: float
    depth_68: float
    depth_95: float

    def error_mm(self, by_features_mm: float) -> float:
        """Median error of right registrations for which the features speak for this one."""
        return math.exp(self.intercept + self.slope * math.log(by_features_mm))

    def depth_mm(self, deviation_mm: float) -> float:
        """Typical error along the beam where the scores' curvature gives this standard deviation."""
        return math.exp(self.depth_intercept + self.depth_slope * math.log(deviation_mm))


def group_of(views: int, features: Iterable[str], *, corrected: bool) -> str:
    """Name of the group of a registration, by the names of the features of its confidence; several views are counted as two."""
    if corrected:
        return "corrected"
    by = "skull" if "skull_score" in features else "residue" if "residue_score" in features else "alone"
    return f"{by}, {'one view' if views == 1 else 'two views'}"


def announced(
    confidence: Confidence,
    views: int,
    depth_deviation_mm: float,
    *,
    corrected: bool,
    groups: Mapping[str, ErrorGroup] | None = None,
) -> Confidence:
    """The confidence with the error to expect and its intervals; without any where it is rejected, as no error is known of a wrong pose.

    Parameters
    ----------
    confidence
        As from `assess` or `with_skull`.
    views
    depth_deviation_mm
        Standard deviation along the first view's beam, from the curvature of the scores.
    corrected
        Whether the views' headers were: how far along the beam the head lies is then not known.
    groups
        Those that ship, unless given.
    """
    if confidence.state == "rejected" or confidence.expected_error_mm is None:
        return replace(confidence, expected_error_mm=None)
    name = group_of(views, confidence.features, corrected=corrected)
    group = (groups or load_groups())[name]
    error_mm = group.error_mm(confidence.expected_error_mm)
    depth_mm = group.depth_mm(depth_deviation_mm)

    def within(ends: Interval) -> Interval:
        return (error_mm * ends[0], error_mm * ends[1])

    return replace(
        confidence,
        expected_error_mm=error_mm,
        error_68_mm=within(group.within_68),
        error_95_mm=within(group.within_95),
        depth_68_mm=None if corrected else depth_mm * group.depth_68,
        depth_95_mm=None if corrected else depth_mm * group.depth_95,
    )


def save_groups(groups: Mapping[str, ErrorGroup], path: Path, card: dict[str, Any]) -> None:
    """Write the calibration with its hash and its card."""
    written_model(path, FORMAT, card, {name: asdict(group) for name, group in groups.items()})


@lru_cache(maxsize=2)
def load_groups(path: Path = SHIPPED_ERRORS) -> dict[str, ErrorGroup]:
    """The calibration of a file.

    Raises
    ------
    InputError
        Absent, not ours, or changed (hash).
    """

    def read(values: Any) -> dict[str, ErrorGroup]:
        pairs = ("within_68", "within_95")
        return {
            name: ErrorGroup(**{**group, **{pair: (float(group[pair][0]), float(group[pair][1])) for pair in pairs}})
            for name, group in values.items()
        }

    return read_model(path, FORMAT, "calibration", read)
