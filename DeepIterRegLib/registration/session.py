"""Runs of one procedure: each starts where those before it found the head, and all together know its place best.

The head hardly moves between runs, and the C-arm says where it went. So a new run is looked for near the poses of earlier ones, and
from nothing only where that is not to be trusted or where the head seems to have been moved. What each run alone knows of the head's
place (well across its beam, poorly along it) is then put together: see Resources/Docs/method.md, section 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from DeepIterRegLib.common.errors import RegistrationError
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.registration.pipeline import register_head
from DeepIterRegLib.registration.result import Confidence, Registration
from DeepIterRegLib.registration.result_warnings import view_covariances
from DeepIterRegLib.registration.scene import Head, make_scene
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM
from DeepIterRegLib.segmentation.dsa import DsaMasks

# A head that lies on its rest is moved by breathing and by the operator's hands: scale of what lies between two runs, each axis. The
# tails are long (degrees of freedom of Student's t): most heads lie still, and now and then one moves by some mm.
STILL_DEG, STILL_MM, _TAILS = 1.0, 1.0, 2.0
# How far along its own beam every run of a room sees the head from where it is: standard deviation. A SID that is wrong by 1 % makes
# 7 mm, a border of bone that is drawn 0.35 mm too far out 4 mm (`joint.SIZE_MM`).
SHARED_ALONG_MM = 5.0
# To tell a head that was moved (laid anew, another height of the table) from one that stirred: standard deviations of both for each
# axis, and how seldom the first is.
STIRRED_DEG, STIRRED_MM = 2.0, 2.0
MOVED_DEG, MOVED_MM, _SELDOM = 4.0, 9.0, 0.1
# Of the probability to be right: by so much a pose found from nothing must lead to be taken in place of one near earlier runs.
_CLEARLY = 0.05
# How far across its beam a header puts a head wrong in all runs of a room alike, which none of them shows: standard deviation. What one
# run knows of its depth is what others see across theirs.
_UNSEEN_MM = 0.5
# How well a person places a head by hand on one run: standard deviations for each axis, and along the beam, which the picture hardly shows.
HAND_DEG, HAND_MM, HAND_ALONG_MM = 1.0, 1.0, 10.0
_BY_HAND = "A person set this pose by hand: what was found is replaced."
_STEPS = 20  # of putting runs together: each solves a linear system, and the weights of motions settle in fewer
_SETTLED_MM = 1e-4
_BETWEEN = np.concatenate([-np.eye(6), np.eye(6)], axis=1)  # of two runs' twists, the second's beside the first
_TOLD_MM = 0.5  # a reader is told of a larger change
_TWO_SIDED_95 = 1.96  # standard deviations within which 95 % of a normal distribution lie


@dataclass(frozen=True)
class Placed:
    """What one run alone knows of the head's place.

    Attributes
    ----------
    carm
        Of the run.
    cta_to_carm : (4, 4)
        The pose found.
    covariance_mm2 : (6, 6)
        Of a turn about the vessels' middle (as mm at `LEVER_MM`) and a shift, both along the axes of the C-arm's frame (RAS).
    """

    carm: CArm
    cta_to_carm: np.ndarray
    covariance_mm2: np.ndarray

    @property
    def beam(self) -> np.ndarray:
        """The twist (6,) by one mm along the run's beam."""
        return np.concatenate([np.zeros(3), self.carm.axes[2]])


@dataclass(frozen=True)
class Motion:
    """How far the head moved since the run before, as the later one sees it.

    Attributes
    ----------
    across_mm, along_mm, turn_deg
        Across the later run's beam, along it, and turned.
    repositioned
        Whether somebody moved the head, or the table, rather than that it stirred.
    """

    across_mm: float
    along_mm: float
    turn_deg: float
    repositioned: bool


@dataclass(frozen=True)
class SessionRun:
    """A run of a session.

    Attributes
    ----------
    registration
        By this run alone, however it was started.
    placed
        What it knows of the head's place; None where it is rejected.
    segment
        Which stay of the head it belongs to, from 1: a new one begins where the head was moved.
    motion
        Since the last run of which the place is known; None for the first.
    """

    registration: Registration
    placed: Placed | None
    segment: int = 1
    motion: Motion | None = None


@dataclass(frozen=True)
class Together:
    """Where all runs of a session together see the head in one of them.

    Attributes
    ----------
    cta_to_carm : (4, 4)
    carm
        That shows the head at this pose where the run's own image shows it: of all runs' common fault along the beam it knows.
    along_mm
        Standard deviation along the run's own beam.
    moved_mm
        How far the head's middle lies from where the run alone saw it.
    shared_mm
        How far along their beams all runs see the head from where it is.
    """

    cta_to_carm: np.ndarray
    carm: CArm
    along_mm: float
    moved_mm: float
    shared_mm: float


@dataclass(frozen=True)
class Fit:
    """The most probable places of a session's head.

    Attributes
    ----------
    poses : (N, 4, 4)
        Of each run.
    shared_mm
        How far along their beams all runs see it further away.
    covariance : (6 N + 1, 6 N + 1)
        Of the poses' twists along the C-arm frame's axes, in mm, then of `shared_mm`.
    """

    poses: np.ndarray
    shared_mm: float
    covariance: np.ndarray


# -- one run -------------------------------------------------------------------------------------------


def add_run(
    head: Head,
    before: Sequence[SessionRun],
    run: Angiogram,
    masks: DsaMasks,
    settings: RegistrationSettings | None = None,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> SessionRun:
    """Register a run of a session; `before` are the session's runs that were acquired before it, in their order.

    Raises
    ------
    InputError, RegistrationError
        As `pipeline.register`.
    Cancelled
    """
    settings = settings or RegistrationSettings()
    added = _Added(head, run, masks, settings, tuple(one for one in before if one.placed is not None))

    def registered(how: RegistrationSettings, given: np.ndarray | None = None) -> Registration:
        return register_head(head, [run], [masks], how, given, progress, should_stop=should_stop)

    if added.fit is None:
        return _session_run(added, registered(settings))
    try:
        near = _session_run(added, registered(replace(settings, init="earlier"), added.starts(added.fit)))
    except RegistrationError:
        return _session_run(added, registered(settings))
    confidence, motion = near.registration.confidence, near.motion
    if confidence and confidence.state == "accepted" and not (motion and motion.repositioned):
        return near
    try:
        from_nothing = registered(settings)
    except RegistrationError:
        return near
    return _session_run(added, _better(near.registration, from_nothing))


@dataclass(frozen=True)
class _Added:
    """A run that comes to a session: what it is registered with, and the runs before it of which the place is known."""

    head: Head
    run: Angiogram
    masks: DsaMasks
    settings: RegistrationSettings
    known: tuple[SessionRun, ...]

    @cached_property
    def fit(self) -> Fit | None:
        """Of the runs before it; None where there are none."""
        placed = [one.placed for one in self.known if one.placed is not None]
        return fit_together(placed, [one.segment for one in self.known], self.head.points.origin_mm) if placed else None

    def starts(self, fit: Fit) -> np.ndarray:
        """Poses (2, 4, 4) to start from: where all runs before say that this one sees the head, and where the last saw it."""
        expected = pose.translation(fit.shared_mm * self.run.carm.axes[2]) @ fit.poses[-1]
        last = self.known[-1].placed
        assert last is not None  # it is known
        return np.stack([expected, last.cta_to_carm])


def _better(near: Registration, from_nothing: Registration) -> Registration:
    """The pose near earlier runs, unless the one from nothing is to be trusted and clearly more probable.

    What the confidence does not see speaks for the first: the session knows where the head was.
    """
    trusted = from_nothing.confidence is not None and from_nothing.confidence.state == "accepted"
    clearly = _probability(from_nothing.confidence) > _probability(near.confidence) + _CLEARLY
    return from_nothing if trusted and clearly else near


def _probability(confidence: Confidence | None) -> float:
    return confidence.probability if confidence else 0.0


def _session_run(added: _Added, registration: Registration) -> SessionRun:
    """A run as this registration shows it: its place, and whether the head was moved."""
    confidence, known = registration.confidence, added.known
    segment = known[-1].segment if known else 1
    if confidence is not None and confidence.state == "rejected":
        return SessionRun(registration, None, segment)
    placed = _placed(added, registration)
    if added.fit is None:
        return SessionRun(registration, placed, segment)
    motion = motion_since(added.fit, len(known) - 1, placed, added.head.points.origin_mm)
    sure = confidence is not None and confidence.state == "accepted"
    # Only a pose to be trusted says that the head was moved: a wrong one would take its earlier runs' company from every later one.
    if motion.repositioned and not sure:
        return SessionRun(registration, None, segment, motion)
    return SessionRun(registration, placed, segment + motion.repositioned, motion)


def _placed(added: _Added, registration: Registration) -> Placed:
    """The pose with its covariance: that of the scores' curvature, along the beam as far as the announced error goes."""
    head, carm = added.head, registration.carm
    scene = make_scene(head.vessels, [added.run], [added.masks], registration.centre_cta_mm, head.points)
    own = view_covariances(scene, registration.cta_to_carm, added.settings)[0]
    deviation = float(np.sqrt(own[5, 5]))
    bound_mm = registration.confidence.depth_68_mm if registration.confidence else None
    wider = np.ones(6)
    wider[5] = max(1.0, (bound_mm or deviation) / deviation)
    to_frame = np.zeros((6, 6))
    to_frame[:3, :3] = carm.axes.T * np.sign(np.linalg.det(carm.axes))
    to_frame[3:, 3:] = carm.axes.T
    turned = to_frame * wider
    return Placed(carm, registration.cta_to_carm, turned @ own @ turned.T)


def by_hand(run: SessionRun, cta_to_carm: np.ndarray, carm: CArm) -> SessionRun:
    """The run at a pose (4, 4) that a person gave it, whatever was found; `carm` is the view in which that pose was seen to fit.

    It may be one that `Together` moved along the beam. What the run itself knows is of the C-arm of its file.
    """
    own = run.placed.carm if run.placed else run.registration.carm
    there = pose.translation(np.subtract(own.source_mm, carm.source_mm)) @ cta_to_carm
    covariance = _per_axis(HAND_DEG, HAND_MM)
    covariance[3:, 3:] += HAND_ALONG_MM**2 * np.outer(own.axes[2], own.axes[2])
    found = _at(run.registration, there, own)
    # Once, also where a hand was at it before.
    warnings = (*(said for said in found.warnings if said != _BY_HAND), _BY_HAND)
    registration = replace(found, confidence=None, warnings=warnings)
    return replace(run, registration=registration, placed=Placed(own, there, covariance))


def reported(run: SessionRun, together: Together | None) -> Registration:
    """The registration of a run as a reader is told it: the pose by this run and those before it, and how well its depth is known."""
    found = run.registration
    warnings = list(found.warnings)
    if run.motion is not None and run.motion.repositioned:
        moved = f"{run.motion.across_mm:.0f} mm across the beam, {run.motion.along_mm:.0f} mm along it and {run.motion.turn_deg:.0f} deg"
        if run.placed is None:
            warnings.append(
                f"The head seems to lie elsewhere than in the runs before ({moved}), but this pose is not sure: check it."
            )
        else:
            warnings.append(
                f"The head was moved since the run before, by {moved}: what those runs knew of its depth is not used."
            )
    if together is None or found.confidence is None:
        return replace(found, warnings=tuple(warnings))
    if together.moved_mm > _TOLD_MM:
        warnings.append(
            f"Earlier runs tell the head's depth better: its middle was put {together.moved_mm:.1f} mm from where this run alone shows it."
        )
    return placed_together(replace(found, warnings=tuple(warnings)), together)


def placed_together(found: Registration, together: Together) -> Registration:
    """The registration of a run at the pose, and with the C-arm, that all runs give it."""
    confidence = known_better(found.confidence, together) if found.confidence else None
    return replace(_at(found, together.cta_to_carm, together.carm), confidence=confidence)


def _at(found: Registration, cta_to_carm: np.ndarray, carm: CArm) -> Registration:
    """The registration of a run at another pose and with another C-arm; how the head moved within the run stays."""
    (view,) = found.views
    frames = None if view.frames is None else view.frames.seen_from(found.cta_to_carm, cta_to_carm)
    return replace(found, cta_to_carm=cta_to_carm, carm=carm, views=(replace(view, carm=carm, frames=frames),))


def known_better(confidence: Confidence, together: Together) -> Confidence:
    """The confidence with the depth that all runs know, where one run alone knows it less well."""
    if confidence.depth_68_mm is None or together.along_mm >= confidence.depth_68_mm:
        return confidence
    return replace(confidence, depth_68_mm=together.along_mm, depth_95_mm=_TWO_SIDED_95 * together.along_mm)


# -- all of them ---------------------------------------------------------------------------------------


def fit_together(runs: Sequence[Placed], segments: Sequence[int], middle_mm: np.ndarray) -> Fit:
    """Where all runs of a session, in their order, together see the head in each of them.

    Each run's pose is known with its covariance, but for what is wrong along the beam in all of them alike (`SHARED_ALONG_MM`): a wrong
    SID, or bone that begins elsewhere in the CTA than in the runs. Between two runs of a segment the head stirs by a twist of Student's
    t, whose scale for each axis is `STILL_DEG` and `STILL_MM`. The most probable poses come from expectation and maximisation: given how
    far each motion may go, all poses solve a linear system; given the poses, a motion that is seen to be large may go further.

    Parameters
    ----------
    runs
        At least one.
    segments
        Of each run.
    middle_mm : (3,)
        Point of the head, RAS mm of the CTA, about which the covariances' turns are.
    """
    count = len(runs)
    alone = np.stack([run.cta_to_carm for run in runs])
    beams = np.stack([run.beam for run in runs])
    precision = np.linalg.inv(np.stack([run.covariance_mm2 for run in runs]))
    still = np.diag(_per_axis(STILL_DEG, STILL_MM)) ** -1.0
    links = [i for i in range(count - 1) if segments[i] == segments[i + 1]]
    weights = np.ones(len(links))
    fit = Fit(alone, 0.0, np.zeros((6 * count + 1, 6 * count + 1)))
    for _ in range(_STEPS):
        matrix, gradient = np.zeros_like(fit.covariance), np.zeros(6 * count + 1)
        matrix[-1, -1], gradient[-1] = SHARED_ALONG_MM**-2, -fit.shared_mm * SHARED_ALONG_MM**-2
        for i in range(count):
            at = [*range(6 * i, 6 * i + 6), 6 * count]
            own = np.concatenate([np.eye(6), beams[i][:, None]], axis=1)
            residual = _twist(alone[i], fit.poses[i], middle_mm) + fit.shared_mm * beams[i]
            matrix[np.ix_(at, at)] += own.T @ precision[i] @ own
            gradient[at] -= own.T @ precision[i] @ residual
        for i, weight in zip(links, weights, strict=True):
            pair = slice(6 * i, 6 * i + 12)
            matrix[pair, pair] += _BETWEEN.T @ (weight * still[:, None] * _BETWEEN)
            gradient[pair] -= _BETWEEN.T @ (weight * still * _twist(fit.poses[i], fit.poses[i + 1], middle_mm))
        covariance = np.linalg.inv(matrix)
        step = covariance @ gradient
        poses = _moved(fit.poses, step[:-1].reshape(count, 6), middle_mm)
        fit = Fit(poses, fit.shared_mm + float(step[-1]), covariance)
        for k, i in enumerate(links):
            spread = _BETWEEN @ covariance[6 * i : 6 * i + 12, 6 * i : 6 * i + 12] @ _BETWEEN.T
            square = _twist(fit.poses[i], fit.poses[i + 1], middle_mm) ** 2 + np.diag(spread)
            weights[k] = (_TAILS + 6) / (_TAILS + float(still @ square))
        if float(np.abs(step).max()) < _SETTLED_MM:
            break
    return fit


def motion_since(fit: Fit, before: int, run: Placed, middle_mm: np.ndarray) -> Motion:
    """How the head moved from a run of a fit, by its index, to a new one, and whether it was moved there or stirred.

    Both are asked for how probable they make what the new run shows, with all that is not known of either place.
    """
    at = [*range(6 * before, 6 * before + 6), len(fit.covariance) - 1]
    seen = np.concatenate([np.eye(6), run.beam[:, None]], axis=1)
    unknown = seen @ fit.covariance[np.ix_(at, at)] @ seen.T + run.covariance_mm2
    twist = _twist(fit.poses[before], run.cta_to_carm, middle_mm) - fit.shared_mm * run.beam

    def log_probability(deg: float, mm: float) -> float:
        covariance = unknown + _per_axis(deg, mm)
        return -0.5 * float(np.linalg.slogdet(covariance)[1] + twist @ np.linalg.solve(covariance, twist))

    log_odds = log_probability(MOVED_DEG, MOVED_MM) - log_probability(STIRRED_DEG, STIRRED_MM) + np.log(_SELDOM)
    across, along = float(np.linalg.norm(run.carm.axes[:2] @ twist[3:])), float(abs(run.carm.axes[2] @ twist[3:]))
    return Motion(across, along, float(np.degrees(np.linalg.norm(twist[:3]) / LEVER_MM)), bool(log_odds > 0))


def fitted(runs: Sequence[SessionRun], middle_mm: np.ndarray) -> tuple[Together | None, ...]:
    """What `fit_together` says of each run; None for those of which the place is not known. In their order of acquisition."""
    known = [(n, run.placed, run.segment) for n, run in enumerate(runs) if run.placed is not None]
    found: list[Together | None] = [None] * len(runs)
    if not known:
        return tuple(found)
    fit = fit_together([placed for _, placed, _ in known], [segment for _, _, segment in known], middle_mm)
    for i, (n, run, _) in enumerate(known):
        own = fit.covariance[6 * i : 6 * i + 6, 6 * i : 6 * i + 6]
        moved_mm = float(np.linalg.norm(_twist(run.cta_to_carm, fit.poses[i], middle_mm)[3:]))
        shown = run.carm.moved(pose.translation(-fit.shared_mm * run.beam[3:]))
        along_mm = float(np.sqrt(run.beam @ own @ run.beam + _UNSEEN_MM**2))
        found[n] = Together(fit.poses[i], shown, along_mm, moved_mm, fit.shared_mm)
    return tuple(found)


def _per_axis(deg: float, mm: float) -> np.ndarray:
    """Covariance (6, 6), mm2, of a twist by its standard deviations for each axis."""
    return np.diag([(np.radians(deg) * LEVER_MM) ** 2] * 3 + [mm**2] * 3)


def _twist(before: np.ndarray, after: np.ndarray, middle_mm: np.ndarray) -> np.ndarray:
    """Twist (6,) from one pose (4, 4) to another along the C-arm frame's axes: turn as mm at `LEVER_MM`, shift of the middle in mm."""
    turn = pose.so3_log(after[:3, :3] @ before[:3, :3].T)
    shift = (after[:3, :3] - before[:3, :3]) @ middle_mm + after[:3, 3] - before[:3, 3]
    return np.concatenate([LEVER_MM * turn, shift])


def _moved(poses: np.ndarray, twists: np.ndarray, middle_mm: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) after twists (N, 6)."""
    middles = np.broadcast_to(middle_mm, (len(poses), 3))
    return np.asarray(pose.offset_about(poses, middles, pose.so3_exp(twists[:, :3] / LEVER_MM), twists[:, 3:]))
