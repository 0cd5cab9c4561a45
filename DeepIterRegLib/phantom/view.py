"""The C-arm of a run: angles, distances, and a detector field, as an operator would choose them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.phantom.centrelines import EXTERNAL, TERRITORIES, Centrelines
from DeepIterRegLib.phantom.settings import Injection, PhantomSettings, View, ViewSettings

_CRANIAL_DEG = (0, 15)  # AP views look under the skull base: the tube is tilted so that the orbits cover little
_LATERAL_DEG = (-90.0, 90.0)
_SEEN_SHARE = 0.9  # of the injected arteries of the head: an operator takes a field that shows so much
_COARSEST_PX_MM = 0.5  # detectors are read out at least as finely


@dataclass(frozen=True)
class Aim:
    """A C-arm before its detector field is chosen: positioner angles, distances, wanted columns."""

    primary_deg: float
    secondary_deg: float
    sid_mm: float
    sod_mm: float
    columns: int


def choose_view(
    vessels: Centrelines, injection: Injection, truth: np.ndarray, rng: np.random.Generator, settings: PhantomSettings
) -> CArm:
    """The C-arm of a run, drawn; the true pose (4, 4) is not touched, the field is chosen to suit it (`with_field`)."""
    view = settings.view
    kind = view.views[int(rng.integers(len(view.views)))]
    primary, secondary = draw_angles(kind, rng, view)
    sid, sod = rng.uniform(*view.sid_mm), rng.uniform(*view.sod_mm)
    aim = Aim(primary, secondary, sid, sod, int(rng.choice(view.matrices)))
    return with_field(aim, vessels, injection, truth, rng.random(), view)


def draw_angles(kind: View, rng: np.random.Generator, view: ViewSettings) -> tuple[float, float]:
    """Primary and secondary angle, degrees."""
    primary, secondary, side = (
        rng.uniform(-view.angle_deg, view.angle_deg),
        rng.uniform(-view.angle_deg, view.angle_deg),
        rng.choice(_LATERAL_DEG),
    )
    cranial = rng.uniform(*_CRANIAL_DEG)
    return (primary, secondary + cranial) if kind == "ap" else (side + primary, secondary)


def with_field(
    aim: Aim, vessels: Centrelines, injection: Injection, truth: np.ndarray, chance: float, view: ViewSettings
) -> CArm:
    """The C-arm with a detector field in which the injected tree lies, as an operator would choose it.

    Any of the fields that show at least nine tenths of the injected intracranial arteries at the true pose (4, 4) may be
    taken, by `chance` (0 to 1); if none does, the largest.
    """
    territory = (
        ~vessels.vein & (vessels.territory != EXTERNAL)
        if injection == "everything"
        else vessels.territory == TERRITORIES.index(injection)
    )
    # What lies in the neck does not matter to the operator.
    neck = np.char.find(np.array(vessels.segments), "cervical") >= 0
    tree = vessels.points_mm[
        territory & ~neck[vessels.segment] & ~vessels.named("vertebral") & ~vessels.named("other_vertebral")
    ]

    def carm(field: tuple[float, float]) -> CArm:
        columns = aim.columns if field[1] / aim.columns <= _COARSEST_PX_MM else max(view.matrices)
        spacing = field[1] / columns
        return CArm.from_angles(
            aim.primary_deg,
            aim.secondary_deg,
            sid_mm=aim.sid_mm,
            sod_mm=aim.sod_mm,
            rows=round(field[0] / spacing),
            columns=columns,
            pixel_spacing_mm=(spacing, spacing),
        )

    def seen(candidate: CArm) -> float:
        px = candidate.project(tree, truth)
        return float(np.mean(np.all((px >= 0) & (px <= [candidate.columns - 1, candidate.rows - 1]), axis=1)))

    fields = [carm(f) for f in view.field_mm]
    fitting = [c for c in fields if seen(c) >= _SEEN_SHARE]
    return (
        fitting[int(chance * len(fitting))]
        if fitting
        else max(fields, key=lambda c: (seen(c), c.rows * c.pixel_spacing_mm[0]))
    )
