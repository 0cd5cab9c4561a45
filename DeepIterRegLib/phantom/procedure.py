"""A phantom thrombectomy: eight runs of one head in one room, with the truth of each, from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.phantom.centrelines import Centrelines
from DeepIterRegLib.phantom.patient import (
    PROCEDURE,
    Patient,
    further_streams,
    make_patient,
    moved_head,
    run_of_head,
)
from DeepIterRegLib.phantom.run import Run
from DeepIterRegLib.phantom.settings import Injection, PhantomSettings, ProcedureSettings, View
from DeepIterRegLib.phantom.view import Aim, draw_angles, with_field

Clot = Literal["M1", "M2", "M3", "none"]


@dataclass(frozen=True)
class _Planned:
    """A run of the plan: direction, where the clot lies, whether the other carotid is injected, whether work comes before it."""

    view: View
    clot: Clot
    other_carotid: bool = False
    after_work: bool = False


# A thrombectomy: both directions before it and at its end, two passes that leave less of the clot each, the other carotid once.
PLAN = (
    _Planned("ap", "M1"),
    _Planned("lateral", "M1"),
    _Planned("ap", "M2", after_work=True),
    _Planned("lateral", "M2"),
    _Planned("ap", "M3", after_work=True),
    _Planned("ap", "M3", other_carotid=True, after_work=True),
    _Planned("ap", "none", after_work=True),
    _Planned("lateral", "none"),
)
_REPOSITIONED = (2, 6)  # first and last run, from 0, before which the head may be laid anew
_HARDLY = 0.1  # of the motion of other steps, where the head hardly moves
_CAROTIDS: tuple[Injection, Injection] = ("left_ica", "right_ica")


@dataclass(frozen=True)
class HeaderError:
    """How the headers of all runs of a room are wrong.

    Attributes
    ----------
    scale
        Their SID is this share too long.
    isocentre_mm
        They put the isocentre so far along the detector's rows (to higher columns) and columns (to higher rows), mm on the detector.
    """

    scale: float
    isocentre_mm: tuple[float, float]

    def isocentre_px(self, carm: CArm) -> tuple[float, float]:
        """The same in pixels of a view: column, row."""
        row_mm, column_mm = carm.pixel_spacing_mm
        return self.isocentre_mm[0] / column_mm, self.isocentre_mm[1] / row_mm

    def applied(self, carm: CArm) -> CArm:
        """What a header says of a view: SID and principal point are wrong, all else is right."""
        (across, down), (column, row) = self.isocentre_px(carm), carm.principal_point_px
        return replace(carm, sid_mm=carm.sid_mm * (1 + self.scale), principal_point_px=(column + across, row + down))


@dataclass(frozen=True)
class ProcedureRun:
    """One run of a procedure.

    Attributes
    ----------
    name
        Number from 1 and direction: "01_ap".
    view
    clot
        Segment of the injected carotid, or of the one injected before, in which the clot lies.
    occluded : (N,) bool
        Nodes at and beyond the clot.
    start_s
        Seconds since the first run began.
    run
        The frames with the true C-arm.
    cta_to_carm : (4, 4)
        Truth, at peak arterial contrast.
    header_carm
        The C-arm that the file's header tells.
    turned_deg, shifted_mm
        How the head moved since the run before; the shift is that of the CTA's centre.
    repositioned
        Whether the head was laid anew before this run.
    """

    name: str
    view: View
    clot: Clot
    occluded: np.ndarray
    start_s: float
    run: Run
    cta_to_carm: np.ndarray
    header_carm: CArm
    turned_deg: float
    shifted_mm: float
    repositioned: bool

    @property
    def at_mask(self) -> np.ndarray:
        """Truth (4, 4) of the first mask frame: there the head stands in what is subtracted, as motion is undone towards it."""
        at_mask: np.ndarray = self.run.motion[self.run.mask_frames[0]] @ self.cta_to_carm
        return at_mask


@dataclass(frozen=True)
class Procedure:
    """A phantom thrombectomy. `patient` has the CTA, its masks and the vessels; its run is the first of `runs`."""

    settings: ProcedureSettings
    patient: Patient
    runs: tuple[ProcedureRun, ...]
    header_error: HeaderError


def make_procedure(
    seed: int,
    settings: ProcedureSettings = ProcedureSettings(),  # noqa: B008 (frozen)
    on_progress: Callable[[float], None] | None = None,
) -> Procedure:
    """Make a procedure; the same seed and settings give the same. `on_progress` is told the fraction done.

    The CTA is of the occluded head. The room has one isocentre and one distance from source to isocentre; SID and field are each run's.
    """
    tell = on_progress or (lambda done: None)
    rng_clot, rng_motion, rng_room, rng_time = further_streams(seed, (PROCEDURE,), 4)
    first_share = 2 / (len(PLAN) + 1)  # head and CTA take as long as a run
    patient = make_patient(seed, _before(settings.patient), lambda done: tell(first_share * done))
    occluded = clots(patient.centrelines, patient.run.injection, patient.occluded, rng_clot)
    error = _header_error(rng_room, settings)
    angles = {
        "ap": (patient.carm.primary_angle_deg, patient.carm.secondary_angle_deg),
        "lateral": draw_angles("lateral", rng_room, settings.patient.view),
    }
    moves = _moves(rng_motion, settings)
    starts = _starts(rng_time, settings)
    runs: list[ProcedureRun] = []
    truth = patient.cta_to_carm
    for n, planned in enumerate(PLAN):
        turn_deg, shift_mm, repositioned = moves[n]
        run = patient.run
        if n > 0:
            tell(first_share + (1 - first_share) * (n - 1) / (len(PLAN) - 1))
            rng_view, rng_run = further_streams(seed, (PROCEDURE, n), 2)
            truth = moved_head(truth, patient.cta.centre_mm, turn_deg, shift_mm, rng_motion)
            injection = _other(patient.run.injection) if planned.other_carotid else patient.run.injection
            carm = _returned(angles[planned.view], patient, injection, truth, rng_view, settings)
            run = run_of_head(
                seed, patient.settings, patient.centrelines, carm, truth, injection, occluded[planned.clot], rng_run
            )
        runs.append(
            ProcedureRun(
                name=f"{n + 1:02d}_{planned.view}",
                view=planned.view,
                clot=planned.clot,
                occluded=occluded[planned.clot],
                start_s=starts[n],
                run=run,
                cta_to_carm=truth,
                header_carm=error.applied(run.carm),
                turned_deg=turn_deg,
                shifted_mm=shift_mm,
                repositioned=repositioned,
            )
        )
    tell(1.0)
    return Procedure(settings, patient, tuple(runs), error)


def _before(patient: PhantomSettings) -> PhantomSettings:
    """Settings of the first run: AP, a carotid injected, its M1 occluded."""
    run = replace(
        patient.run,
        injections=_CAROTIDS,
        injection_weights=(0.5, 0.5),
        occlusions=("M1",),
        occlusion_weights=(1.0,),
    )
    return replace(patient, run=run, view=replace(patient.view, views=("ap",)))


def _other(carotid: Injection) -> Injection:
    return _CAROTIDS[1 - _CAROTIDS.index(carotid)]


def clots(
    vessels: Centrelines, injection: Injection, at_m1: np.ndarray, rng: np.random.Generator
) -> dict[Clot, np.ndarray]:
    """By place of the clot, the nodes (N,) bool at and beyond it: each lies beyond the one before, so that the tree opens.

    `at_m1` (N,) bool are those of the M1 of the injected carotid.
    """
    m2, m3 = (vessels.named(f"{injection.split('_')[0]}_{segment}") for segment in ("M2", "M3"))
    # The anterior temporal artery, an early M2, has no M3: from there a clot could not move on.
    trunks = [n for n in _begins(vessels, m2 & at_m1) if m3[vessels.downstream(n)].any()]
    at_m2 = vessels.downstream(int(rng.choice(trunks)))
    at_m3 = vessels.downstream(int(rng.choice(_begins(vessels, m3 & at_m2))))
    return {"M1": at_m1, "M2": at_m2, "M3": at_m3, "none": np.zeros_like(at_m1)}


def _begins(vessels: Centrelines, inside: np.ndarray) -> list[int]:
    """Nodes at which branches (N,) bool begin."""
    return [int(n) for n in np.flatnonzero(inside & ~inside[np.maximum(vessels.parent, 0)])]


def _header_error(rng: np.random.Generator, settings: ProcedureSettings) -> HeaderError:
    scale = settings.header_scale * rng.uniform(-1, 1)
    across, down = settings.header_isocentre_mm * rng.uniform(-1, 1, 2)
    return HeaderError(float(scale), (float(across), float(down)))


def _moves(rng: np.random.Generator, settings: ProcedureSettings) -> list[tuple[float, float, bool]]:
    """Of each run, how the head has turned (deg) and shifted (mm) since the one before, and whether it was laid anew."""
    repositioned = int(rng.integers(_REPOSITIONED[0], _REPOSITIONED[1] + 1))
    others = [n for n in range(1, len(PLAN)) if n != repositioned]
    still = {int(n) for n in rng.permutation(others)[: settings.still_steps]}
    moves = [(0.0, 0.0, False)]
    for n in range(1, len(PLAN)):
        turn_deg, shift_mm = rng.random(2) * [settings.between_runs_deg, settings.between_runs_mm]
        if n in still:
            turn_deg, shift_mm = _HARDLY * turn_deg, _HARDLY * shift_mm
        if n == repositioned:
            shift_mm = settings.repositioned_mm
        moves.append((float(turn_deg), float(shift_mm), n == repositioned))
    return moves


def _starts(rng: np.random.Generator, settings: ProcedureSettings) -> list[float]:
    """Seconds from the first run to each, whole ones."""
    minutes = [rng.uniform(*(settings.pass_min if run.after_work else settings.next_view_min)) for run in PLAN[1:]]
    return [0.0, *(float(seconds) for seconds in np.round(60 * np.cumsum(minutes)))]


def _returned(
    angles_deg: tuple[float, float],
    patient: Patient,
    injection: Injection,
    truth: np.ndarray,
    rng: np.random.Generator,
    settings: ProcedureSettings,
) -> CArm:
    """The C-arm brought to a working view (primary, secondary) again, with SID and field of its own."""
    view = settings.patient.view
    primary, secondary = np.array(angles_deg) + settings.view_deg * rng.uniform(-1, 1, 2)
    sid_mm, columns = rng.uniform(*view.sid_mm), int(rng.choice(view.matrices))
    aim = Aim(float(primary), float(secondary), sid_mm, patient.carm.sod_mm, columns)
    return with_field(aim, patient.centrelines, injection, truth, rng.random(), view)
