"""Views that contradict each other: headers that are a little off, or a head that moved between runs.

Both look alike: by its own header a view sees the head turned and shifted against where the first view sees it. What a header may
be off by (angles, principal point, SID, SOD, spacing) does to the image of a head nearly what such a rigid motion does. So each
further view gets a motion of the head of its own, found together with the pose and the skull's size as the most probable ones
(Resources/Docs/method.md, section 11), and is kept only where the images say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
# Views contradict each other if an offset beyond it explains more by so much (log of the likelihood ratio) than all within it.
_CONTRADICTED = 7.0
# The grid and points by which it is judged whether views contradict each other: a quarter of the last stage's time, and nearly its
# ratios. Steps with the views held together, then apart, for each further expectation from there, and on the last stage's grid. Headers
# that are far off need more: as many again, some times, until the last two bring less than `_LEVEL_OUT` of log likelihood.
_JUDGE = replace(LEVEL, rows=192, points=12000, sigma_px=1.0)
_SETTLE, _FIT, _FIT_AGAIN, _FINISH = 3, 8, 5, 6
_TIMES, _LEVEL_OUT = 6, 0.5
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
    """What views may contradict each other by: headers that are off, a head that moved, images that misjudge the depth.

    At least one of the first two must be given; None expects nothing of the kind. `depth_mm` is the standard deviation of where along
    its beam an image shows the head.
    """

    headers: HeaderSlack | None = None
    between_runs: BetweenRuns | None = None
    depth_mm: float = 0.0

    def covariance_mm2(self, carms: Sequence[CArm]) -> np.ndarray:
        """Of the twists by which each C-arm after the first of V sees the head elsewhere than the first: (6 (V - 1), 6 (V - 1)).

        All along the first C-arm's axes.
        """
        header, depth = self._by_view(carms)
        own, count = header + depth, len(carms) - 1
        every_pair = np.kron(np.ones((count, count)), own[0])  # the first view's own is in every difference
        blocks = every_pair.reshape(count, 6, count, 6)
        for k in range(count):
            blocks[k, :, k] += own[k + 1] + self._motion()
        return blocks.reshape(6 * count, 6 * count)

    def explained(self, carms: Sequence[CArm], offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The most probable parts of twists `offsets` (V - 1, 6) of `covariance_mm2`.

        Returns
        -------
        From where the first view shows the head to where it is (6,), and from there to where each view's C-arm should see it (V, 6):
        by its header and as it moved, but not as its image misjudges the depth.
        """
        header, depth = self._by_view(carms)
        weight = np.linalg.solve(self.covariance_mm2(carms), offsets.reshape(-1)).reshape(-1, 6)
        first = -weight.sum(axis=0)
        moved = np.einsum("kij,kj->ki", header[1:] + self._motion(), weight)
        return -(header[0] + depth[0]) @ first, np.concatenate([(header[0] @ first)[None], moved])

    def _by_view(self, carms: Sequence[CArm]) -> tuple[np.ndarray, np.ndarray]:
        """Of each view's own header and of its depth, along the first one's axes: covariances (V, 6, 6)."""
        turns = np.stack([np.eye(6), *(twist_between(carm, carms[0]) for carm in carms[1:])])
        header = np.diag(self.headers.deviations_mm() ** 2) if self.headers else np.zeros((6, 6))
        along = np.diag([0.0] * 5 + [self.depth_mm**2])
        back = np.swapaxes(turns, 1, 2)
        return turns @ header @ back, turns @ along @ back

    def _motion(self) -> np.ndarray:
        """Covariance (6, 6) of a head that moved."""
        return np.diag(self.between_runs.deviations_mm() ** 2) if self.between_runs else np.zeros((6, 6))


def _require_positive(*deviations: float) -> None:
    if not min(deviations) > 0:
        raise InputError(f"What is corrected needs standard deviations above 0, not {min(deviations):g}.")


# How exactly a header tells all but distances, where only SID, SOD or spacing are off.
_EXACT = 0.1
# A head that is meant to lie still, and images that misjudge the depth; then distances that are off; then all that a header tells. Each
# was measured beside others (Testing/Benchmarks/results/two_views_development.md).
STILL, DEPTH_MM = BetweenRuns(0.6, 0.8), 4.0
DISTANCES = HeaderSlack(_EXACT, _EXACT, _EXACT, 15.0)


def expectations(between_runs: BetweenRuns = STILL) -> tuple[Expected, ...]:
    """What views may contradict each other by, the usual first and the widest last."""
    return (
        Expected(None, between_runs, DEPTH_MM),
        Expected(DISTANCES, between_runs),
        Expected(HeaderSlack(), between_runs),
    )


@dataclass(frozen=True)
class Corrected:
    """What the views say apart.

    Attributes
    ----------
    cta_to_carm : (4, 4)
        The pose in the first run, for which all views speak.
    by_header : (V, 4, 4)
        Where each view's own header has the head lie.
    views
        With C-arms that see the pose as their headers see `by_header`.
    changes
        Of each view, by name: how the head lies in it by its header against the pose, along its own u, v and beam; empty for the first
        where only the head moved.
    log_ratio
        Log of the likelihood ratio against views that agree.
    of_headers
        Whether headers were corrected.
    """

    cta_to_carm: np.ndarray
    by_header: np.ndarray
    views: tuple[View, ...]
    changes: tuple[dict[str, float], ...]
    log_ratio: float
    of_headers: bool


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
    at_least: float = 0.0,
    skull_weight: float = 0.0,
    seed: int = 0,
    should_stop: ShouldStop | None = None,
) -> Corrected | Contradiction | None:
    """Find how the head lies where views contradict each other, and how each of them sees it.

    Parameters
    ----------
    scene
        Of several views.
    start : (4, 4) or (V, 4, 4)
        The pose by all views together, or one by each.
    expected
        One or several, the widest last, of which the most probable is taken. From a common pose the others are only tried where the
        first would be kept.
    saturation_mm
        As in `vessels.alignment.normal_equations`.
    at_least
        Log of the likelihood ratio from which a correction is kept.
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
    equations = _equations(scene, _JUDGE, expected[0], saturation_mm, skull_weight, seed)
    held, agreeing = _settled(equations, start, should_stop)
    begin, steps = _apart(start, held), _FIT
    for what in expected:
        equations = replace(equations, expected=what)
        apart, gained = _climbed(equations, begin, steps, should_stop)
        log_ratio = equations.unit * (gained - agreeing) + equations.occam(apart)
        fits.append(_Fit(log_ratio, apart, equations))
        if start.ndim == 2:
            if not fits[0].log_ratio >= at_least:  # nor where it is no number
                return None
            begin, steps = apart, _FIT_AGAIN
    chosen = _chosen(fits, at_least)
    if not isinstance(chosen, _Fit):
        return chosen
    equations = _finer(chosen.equations, scene, seed)
    apart, _ = _climbed(equations, chosen.apart, _FINISH, should_stop)
    return _corrected(scene, equations, apart, chosen.log_ratio)


def _corrected(scene: Scene, equations: _Equations, apart: np.ndarray, log_ratio: float) -> Corrected:
    """What a state (1, 16 V + 1) of views apart says of the head and of each C-arm."""
    carms = [target.carm for target in equations.targets]
    to_head, to_views = equations.expected.explained(carms, equations.offsets(apart)[:, 0])
    head = move(_poses(apart)[0], to_head[None], equations.points, carms[0])
    by_header = np.concatenate([move(head, twist[None], equations.points, carms[0]) for twist in to_views])
    views, changes = [], []
    for view, carm, at, twist in zip(scene.views, carms, by_header, to_views, strict=True):
        stays = not twist.any()
        views.append(view if stays else replace(view, carm=view.carm.moved(head[0] @ pose.inverse(at))))
        changes.append({} if stays else _named(twist_between(carms[0], carm) @ twist))
    return Corrected(
        head[0], by_header, tuple(views), tuple(changes), log_ratio, equations.expected.headers is not None
    )


def _named(twist: np.ndarray) -> dict[str, float]:
    """A twist (6,) along a view's own axes, by name in deg and mm."""
    turn_deg, shift_mm = np.degrees(twist[:3] / LEVER_MM), twist[3:]
    turns = {f"head_turn_{axis}_deg": float(value) for axis, value in zip(_AXES, turn_deg, strict=True)}
    return turns | {f"head_shift_{axis}_mm": float(value) for axis, value in zip(_AXES, shift_mm, strict=True)}


@dataclass(frozen=True)
class _Fit:
    """Views apart against views together, as one expectation explains them: log of the likelihood ratio, and the state (1, 16 V + 1)."""

    log_ratio: float
    apart: np.ndarray
    equations: _Equations

    @property
    def furthest(self) -> float:
        """Largest offset, in standard deviations."""
        return self.equations.furthest(self.apart)


def _chosen(fits: Sequence[_Fit], at_least: float) -> _Fit | Contradiction | None:
    """Which of the fits is kept, or that only one beyond `LIMIT` would be; `at_least` as of `correct_views`."""
    kept = [fit for fit in fits if fit.log_ratio >= at_least and np.isfinite(fit.log_ratio)]
    near, far = ([fit for fit in kept if (fit.furthest <= LIMIT) == is_near] for is_near in (True, False))
    most = max([0.0, *(fit.log_ratio for fit in near)])
    # A narrower expectation is told apart by its freedom too: what lies beyond it may lie within a wider one.
    if beyond := [fit for fit in far if fit is fits[-1] and fit.log_ratio > most + _CONTRADICTED]:
        return Contradiction(beyond[0].furthest)
    return max(near, key=lambda fit: fit.log_ratio, default=None)


def _settled(equations: _Equations, start: np.ndarray, should_stop: ShouldStop | None) -> tuple[np.ndarray, float]:
    """State (1, 16 V + 1) of all views held together, and its score; `start` as of `correct_views`."""
    together = start if start.ndim == 2 else start[0]
    held = np.concatenate([np.tile(together.reshape(1, 16), len(equations.targets)), np.zeros((1, 1))], axis=1)
    held, scores, _ = maximise(
        lambda states: _first(equations(states), 7), equations.moved, held, iterations=_SETTLE, should_stop=should_stop
    )
    return held, float(scores[0])


def _climbed(
    equations: _Equations, state: np.ndarray, steps: int, should_stop: ShouldStop | None
) -> tuple[np.ndarray, float]:
    """A state (1, 16 V + 1) uphill from one, in as many `steps` at a time, and its score."""
    scores = np.full(1, -np.inf)
    for _ in range(_TIMES):
        state, scores, trace = maximise(equations, equations.moved, state, iterations=steps, should_stop=should_stop)
        if not equations.unit * (trace[-1] - trace[max(len(trace) - 3, 0)]) >= _LEVEL_OUT:  # nor where it is no number
            break
    return state, float(scores[0])


def _apart(start: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Where views begin to move apart: from the state `held`, or each from its own pose."""
    return held if start.ndim == 2 else np.concatenate([start.reshape(1, -1), held[:, -1:]], axis=1)


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
    expected: Expected
    saturation_mm: float

    @cached_property
    def covariance_mm2(self) -> np.ndarray:
        """Of the offsets, as expected."""
        return self.expected.covariance_mm2([target.carm for target in self.targets])

    @cached_property
    def precision(self) -> np.ndarray:
        """Of the offsets (6 (V - 1), 6 (V - 1)), 1 / mm2."""
        return np.linalg.inv(self.covariance_mm2)

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
        twists = np.moveaxis(self.offsets(states), 0, 1).reshape(len(states), -1)
        precision = self.precision / self.unit
        score -= 0.5 * np.einsum("bi,ij,bj->b", twists, precision, twists)
        gradient[:, 7:] -= twists @ precision
        matrix[:, 7:, 7:] += precision
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
        deviations_mm = np.sqrt(np.diag(self.covariance_mm2)).reshape(-1, 6)
        return float(np.max(np.abs(self.offsets(states)[:, 0]) / deviations_mm))

    def occam(self, states: np.ndarray) -> float:
        """Log of how much narrower the offsets are known than they were expected, at the optimum: Laplace's approximation."""
        _, _, matrix = self(states)
        whole = self.unit * matrix[0] + np.eye(matrix.shape[1]) / _ANYWHERE_MM**2
        known = whole[7:, 7:] - whole[7:, :7] @ np.linalg.solve(whole[:7, :7], whole[:7, 7:])
        expected = float(np.linalg.slogdet(self.precision)[1])
        return 0.5 * (expected - float(np.linalg.slogdet(known)[1]))


def _equations(
    scene: Scene, level: Level, expected: Expected, saturation_mm: float, skull_weight: float, seed: int
) -> _Equations:
    points, targets = _sampled(scene, level, seed)
    skull = {}
    if skull_weight > 0 and scene.skull:
        skull = {number - 1: term for number, term in scene.skull.terms(points.origin_mm).items()}
    return _Equations(points, targets, skull, skull_weight, expected, saturation_mm)


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
