"""Views that contradict each other: headers that are a little off, or a head that moved between runs.

Both look alike: by its own header a view sees the head turned and shifted against where the first view sees it. What a header may
be off by (angles, principal point, SID, SOD, spacing) does to the image of a head nearly what such a rigid motion does. So each
further view gets a motion of the head of its own, found together with the pose and the skull's size as the most probable ones
(Resources/Docs/method.md, section 11), and is kept only where the images say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.joint import LEVEL, PER_SCORE, SIZE_PENALTY, SkullTerm, sized_term
from DeepIterRegLib.registration.scene import Scene
from DeepIterRegLib.registration.vessels.alignment import normal_equations
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM, maximise, move, twist_between
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.search import Level
from DeepIterRegLib.registration.vessels.targets import Target, View, make_targets

# A view that moved further than so many standard deviations of what is expected is not of this head and C-arm.
LIMIT = 3.5
# A wider expectation is taken only if it explains more by so much (log of the likelihood ratio): a header that may be off along the
# beam leaves the depth open, which two views else tell to half a millimetre.
PREFERRED = 7.0
# The grid and points by which it is judged whether views contradict each other: a quarter of the last stage's time, and nearly its
# ratios. Steps with the views held together, then apart, and after that on the last stage's grid.
_JUDGE = replace(LEVEL, rows=192, points=12000, sigma_px=1.0)
_SETTLE, _FIT, _FINISH = 3, 8, 8
_ANYWHERE_MM = 100.0  # what is known of a pose of which the images say nothing
_AXES = ("u", "v", "beam")


@dataclass(frozen=True)
class HeaderSlack:
    """How far a header may show the head from where it is: standard deviations along the view's own axes.

    Of turns about the image's axes (its angles) and about the beam; of shifts across the beam (its principal point) and along it
    (SID, SOD and spacing).
    """

    angle_deg: float = 2.0
    roll_deg: float = 0.7
    across_mm: float = 3.0
    along_mm: float = 15.0

    def __post_init__(self) -> None:
        _require_positive(self.angle_deg, self.roll_deg, self.across_mm, self.along_mm)

    def deviations_mm(self) -> np.ndarray:
        """Of a twist (6,) of `move`."""
        turns = np.radians([self.angle_deg, self.angle_deg, self.roll_deg]) * LEVER_MM
        return np.array([*turns, self.across_mm, self.across_mm, self.along_mm])


@dataclass(frozen=True)
class BetweenRuns:
    """How far the head may have moved since the first run: standard deviations of turn and shift, each axis."""

    rotation_deg: float = 1.0
    translation_mm: float = 1.5

    def __post_init__(self) -> None:
        _require_positive(self.rotation_deg, self.translation_mm)

    def deviations_mm(self) -> np.ndarray:
        """Of a twist (6,) of `move`."""
        return np.array([np.radians(self.rotation_deg) * LEVER_MM] * 3 + [self.translation_mm] * 3)


@dataclass(frozen=True)
class Expected:
    """What views may contradict each other by; None expects nothing of the kind, and one of them must be given.

    A correction by it is kept where the log of the likelihood ratio is at least `keep_from`.
    """

    headers: HeaderSlack | None = None
    between_runs: BetweenRuns | None = None
    keep_from: float = -np.inf

    def covariance_mm2(self, first: CArm, other: CArm) -> np.ndarray:
        """Of the twist (6, 6), along the first C-arm's axes, by which the other one sees the head elsewhere."""
        covariance = np.zeros((6, 6))
        if self.headers:  # both headers', as only their difference is seen
            own, turn = np.diag(self.headers.deviations_mm() ** 2), twist_between(other, first)
            covariance += own + turn @ own @ turn.T
        if self.between_runs:
            covariance += np.diag(self.between_runs.deviations_mm() ** 2)
        return covariance


def _require_positive(*deviations: float) -> None:
    if not min(deviations) > 0:
        raise InputError(f"What is corrected needs standard deviations above 0, not {min(deviations):g}.")


# Where nobody said that something is off. A head that is meant to lie still moves so much; with twice that, depth is as loose as it
# says, and overlays are no better. A skull that looks a little different in the run than in the CTA looks like such a motion, with
# ratios of up to 19 and overlays that are worse corrected; it does not look like a header that is off
# (Testing/Benchmarks/results/two_views_development.md).
UNASKED = (
    Expected(HeaderSlack(), keep_from=10.0),
    Expected(None, BetweenRuns(0.6, 0.8), keep_from=20.0),
)


@dataclass(frozen=True)
class Corrected:
    """What the views say apart.

    Attributes
    ----------
    cta_to_carm : (4, 4)
        The pose, as the first view sees it.
    by_header : (V, 4, 4)
        Where each view sees the head by its own header; the first is `cta_to_carm`.
    views
        With C-arms that see the pose as their images show it.
    changes
        Of each view, by name: how the head lies in it against the first view, along its own u, v and beam; empty for the first.
    log_ratio
        Log of the likelihood ratio against views that agree.
    """

    cta_to_carm: np.ndarray
    by_header: np.ndarray
    views: tuple[View, ...]
    changes: tuple[dict[str, float], ...]
    log_ratio: float


@dataclass(frozen=True)
class Contradiction:
    """Evidence that views contradict each other by more than is expected: how far at most, in standard deviations."""

    deviations: float


def correct_views(
    scene: Scene,
    start: np.ndarray,
    expected: Sequence[Expected],
    saturation_mm: float,
    *,
    skull_weight: float = 0.0,
    seed: int = 0,
    should_stop: ShouldStop | None = None,
) -> Corrected | Contradiction | None:
    """Let each view after the first see the head where its image shows it.

    Parameters
    ----------
    scene
        Of several views.
    start : (4, 4) or (V, 4, 4)
        The pose by all views together, or one by each.
    expected
        One or several, the widest first: of those that explain the images about as well as the best, the narrowest is taken. The
        others are only tried where the first would be kept.
    saturation_mm
        As in `vessels.alignment.normal_equations`.
    skull_weight
        What the skull counts beside the vessels, as in `joint.refine_with_skull`; 0 leaves it out.
    seed
        Of the points drawn.
    should_stop

    Returns
    -------
    The correction; `Contradiction` where it would go further than `LIMIT`; None where the images do not ask for one.

    Raises
    ------
    Cancelled
    """
    fits: list[_Fit] = []
    for what in expected:
        equations = _equations(scene, _JUDGE, what, saturation_mm, skull_weight, seed)
        fit = _fit(equations, start, what.keep_from, should_stop)
        if not fits and not fit.kept:
            return None
        fits.append(fit)
    chosen = _chosen(fits)
    if not isinstance(chosen, _Fit):
        return chosen
    equations = _finer(chosen.equations, scene, seed)
    first = equations.targets[0].carm
    apart, _, _ = maximise(equations, equations.moved, chosen.apart, iterations=_FINISH, should_stop=should_stop)
    poses = _poses(apart)[:, 0]
    twists = equations.offsets(apart)[:, 0]
    changes: list[dict[str, float]] = [{}]
    for k, twist in enumerate(twists, 1):
        own = twist_between(first, equations.targets[k].carm) @ twist
        turn_deg, shift_mm = np.degrees(own[:3] / LEVER_MM), own[3:]
        turns = {f"head_turn_{axis}_deg": float(value) for axis, value in zip(_AXES, turn_deg, strict=True)}
        changes.append(turns | {f"head_shift_{a}_mm": float(value) for a, value in zip(_AXES, shift_mm, strict=True)})
    motions = poses @ pose.inverse(poses[0])
    views = [scene.views[0]]
    for view, motion in zip(scene.views[1:], motions[1:], strict=True):
        views.append(replace(view, carm=view.carm.moved(pose.inverse(motion))))
    return Corrected(poses[0], poses, tuple(views), tuple(changes), chosen.log_ratio)


@dataclass(frozen=True)
class _Fit:
    """Views apart against views together, as one expectation explains them: log of the likelihood ratio, and the state (1, 16 V + 1)."""

    log_ratio: float
    apart: np.ndarray
    equations: _Equations
    keep_from: float

    @property
    def kept(self) -> bool:
        """Not where the ratio is no number."""
        return self.log_ratio >= self.keep_from

    @property
    def furthest(self) -> float:
        """Largest offset, in standard deviations."""
        return self.equations.furthest(self.apart)


def _chosen(fits: Sequence[_Fit]) -> _Fit | Contradiction | None:
    """Of fits, the widest expectation first: which is kept, or that only one beyond `LIMIT` would be."""
    near = [fit for fit in fits if fit.furthest <= LIMIT and np.isfinite(fit.log_ratio)]
    most = max((fit.log_ratio for fit in near), default=0.0)
    as_good = [fit for fit in near if fit.log_ratio >= most - PREFERRED]
    if as_good and as_good[-1].kept:
        return as_good[-1]
    strictest = max(fit.keep_from for fit in fits)
    if sure := [fit for fit in near if fit.log_ratio >= strictest]:
        return sure[-1]
    far = [fit for fit in fits if fit.kept and fit.furthest > LIMIT and fit.log_ratio > most + PREFERRED]
    return Contradiction(min(fit.furthest for fit in far)) if far else None


def _fit(equations: _Equations, start: np.ndarray, keep_from: float, should_stop: ShouldStop | None) -> _Fit:
    """How well `equations` explain views apart."""
    count = len(equations.targets)
    together = start if start.ndim == 2 else start[0]
    held = np.concatenate([np.tile(together.reshape(1, 16), count), np.zeros((1, 1))], axis=1)
    held, scores, _ = maximise(
        lambda states: _first(equations(states), 7), equations.moved, held, iterations=_SETTLE, should_stop=should_stop
    )
    apart = held if start.ndim == 2 else np.concatenate([start.reshape(1, -1), held[:, -1:]], axis=1)
    apart, gained, _ = maximise(equations, equations.moved, apart, iterations=_FIT, should_stop=should_stop)
    log_ratio = equations.unit * float(gained[0] - scores[0]) + equations.occam(apart)
    return _Fit(log_ratio, apart, equations, keep_from)


@dataclass(frozen=True)
class _Equations:
    """Log posterior over `unit` of states (B, 16 V + 1): a pose for each view, then the skull's size.

    Parameters are a twist of all views, the size, and a twist of each view after the first: D = 7 + 6 (V - 1), all twists along
    the axes of the first view's C-arm.
    """

    points: Points
    targets: tuple[Target, ...]
    skull: dict[int, SkullTerm]
    skull_weight: float
    precision: np.ndarray  # (V - 1, 6, 6), of the offsets, 1 / mm2
    deviations_mm: np.ndarray  # (V - 1, 6)
    saturation_mm: float

    @property
    def unit(self) -> float:
        """What a score of 1 is worth as log likelihood: every view's, as their mean is the score."""
        return PER_SCORE * len(self.targets)

    def __call__(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score (B,), gradient (B, D) and Gauss-Newton matrix (B, D, D)."""
        poses, size_mm = _poses(states), states[:, -1]
        views, first = len(self.targets), self.targets[0].carm
        parameters = 7 + 6 * (views - 1)
        score, gradient = np.zeros(len(states)), np.zeros((len(states), parameters))
        matrix = np.zeros((len(states), parameters, parameters))
        for k, target in enumerate(self.targets):
            own = np.zeros((7, parameters))
            own[:6, :6], own[6, 6] = np.eye(6), 1.0
            if k:
                own[:6, 7 + 6 * (k - 1) : 13 + 6 * (k - 1)] = np.eye(6)
            to_view = twist_between(first, target.carm) @ own[:6]
            terms = [(1.0 / views, normal_equations(self.points, poses[k], target, self.saturation_mm), to_view)]
            if k in self.skull:
                term, carm = self.skull[k]
                sized = own.copy()
                sized[:6] = twist_between(first, carm) @ own[:6]
                share = self.skull_weight / len(self.skull)
                terms.append((share, sized_term(term, carm, self.points.origin_mm, poses[k], size_mm), sized))
            for share, (s, g, m), to in terms:
                score = score + share * s
                gradient = gradient + share * g @ to
                matrix = matrix + share * to.T @ m @ to
        score -= SIZE_PENALTY / 2 * size_mm**2
        gradient[:, 6] -= SIZE_PENALTY * size_mm
        matrix[:, 6, 6] += SIZE_PENALTY
        for k, (twist, precision) in enumerate(zip(self.offsets(states), self.precision / self.unit, strict=True)):
            part = slice(7 + 6 * k, 13 + 6 * k)
            score -= 0.5 * np.einsum("bi,ij,bj->b", twist, precision, twist)
            gradient[:, part] -= twist @ precision
            matrix[:, part, part] += precision
        return score, gradient, matrix

    def moved(self, states: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """States after steps (B, D), or (B, 7) with all views held together."""
        poses, first = _poses(states), self.targets[0].carm
        tried = []
        for k, at in enumerate(poses):
            twist = steps[:, :6]
            if k and steps.shape[1] > 7:
                twist = twist + steps[:, 7 + 6 * (k - 1) : 13 + 6 * (k - 1)]
            tried.append(move(at, twist, self.points, first).reshape(len(states), 16))
        return np.concatenate([*tried, states[:, -1:] + steps[:, 6:7]], axis=1)

    def offsets(self, states: np.ndarray) -> np.ndarray:
        """Twists (V - 1, B, 6) from where the first view sees the head to where each other one does."""
        poses, axes = _poses(states), self.targets[0].carm.axes
        origin = self.points.origin_mm
        turn = pose.so3_log(poses[1:, :, :3, :3] @ np.swapaxes(poses[0, :, :3, :3], -1, -2))
        centres = poses[..., :3, :3] @ origin + poses[..., :3, 3]
        turn_mm = LEVER_MM * turn @ axes.T * np.sign(np.linalg.det(axes))
        return np.concatenate([turn_mm, (centres[1:] - centres[:1]) @ axes.T], axis=-1)

    def furthest(self, states: np.ndarray) -> float:
        """Largest offset along any axis of a state (1, 16 V + 1), in standard deviations of what is expected."""
        return float(np.max(np.abs(self.offsets(states)[:, 0]) / self.deviations_mm))

    def occam(self, states: np.ndarray) -> float:
        """Log of how much narrower the offsets are known than they were expected, at the optimum: Laplace's approximation."""
        _, _, matrix = self(states)
        whole = self.unit * matrix[0] + np.eye(matrix.shape[1]) / _ANYWHERE_MM**2
        known = whole[7:, 7:] - whole[7:, :7] @ np.linalg.solve(whole[:7, :7], whole[:7, 7:])
        expected = sum(float(np.linalg.slogdet(precision)[1]) for precision in self.precision)
        return 0.5 * (expected - float(np.linalg.slogdet(known)[1]))


def _equations(
    scene: Scene, level: Level, expected: Expected, saturation_mm: float, skull_weight: float, seed: int
) -> _Equations:
    points, targets = _sampled(scene, level, seed)
    covariances = [expected.covariance_mm2(targets[0].carm, target.carm) for target in targets[1:]]
    skull = {}
    if skull_weight > 0 and scene.skull:
        skull = {number - 1: term for number, term in scene.skull.terms(points.origin_mm).items()}
    return _Equations(
        points,
        targets,
        skull,
        skull_weight,
        np.linalg.inv(np.stack(covariances)),
        np.sqrt(np.stack([np.diag(covariance) for covariance in covariances])),
        saturation_mm,
    )


def _sampled(scene: Scene, level: Level, seed: int) -> tuple[Points, tuple[Target, ...]]:
    points = scene.points.subset(level.points, np.random.default_rng(seed))
    return points, make_targets(scene.views, level.rows, level.sigma_px, level.measure)


def _finer(judged: _Equations, scene: Scene, seed: int) -> _Equations:
    """The same on the grid and points of the last stage; the skull's terms turn about the points' origin, which stays."""
    points, targets = _sampled(scene, LEVEL, seed)
    return replace(judged, points=points, targets=targets)


def _first(
    equations: tuple[np.ndarray, np.ndarray, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of equations, those of the first parameters: the others are held."""
    score, gradient, matrix = equations
    return score, gradient[:, :count], matrix[:, :count, :count]


def _poses(states: np.ndarray) -> np.ndarray:
    """Each view's pose (V, B, 4, 4) of states (B, 16 V + 1)."""
    return np.moveaxis(states[:, :-1].reshape(len(states), -1, 4, 4), 1, 0)
