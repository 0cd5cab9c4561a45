"""Vessels and skull refined together: the skull says how the head lies, the vessels say how far away it is.

Where bone begins depends on scanner, kernel and threshold. A border 0.3 mm further out is a skull 0.4 % larger, which looks like
a head 3 mm nearer to the source. So the skull has a size of its own beside the pose (Resources/Docs/method.md, section 8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from DeepIterRegLib.common.progress import ShouldStop, between
from DeepIterRegLib.common.threads import at_once
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.scene import Scene
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.vessels.alignment import SAMPLES, joint_equations
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM, Equations, maximise, move, twist_between
from DeepIterRegLib.registration.vessels.search import Level, PoseCandidates
from DeepIterRegLib.registration.vessels.targets import REFINE, make_targets

# The grid and points of the vessels' last level, in as many steps as both take.
LEVEL = Level(rows=384, points=40000, sigma_px=0.8, iterations=12, keep=1, measure=REFINE)
# Before it, where only the residue of moved bone shows the skull: from a few poses beside each start, then from more beside the best.
COARSE = Level(rows=192, points=10000, sigma_px=0.8, iterations=8, keep=3, measure=REFINE)
_BESIDE_EACH, _BESIDE_BEST = 2, 6
# Of 14 development views whoever led after 8 steps was among the best 3 of 15 or 27 after 2.
_GO_ON = (2, 6)
# At the last level those that are left differ by little and the best has shown.
_LAST_GO_ON = (5, 1)
_ABOUT_EACH, _ABOUT = 0.4, 0.7  # of the time, when each of the two is over
# Standard deviations, along the first view's axes: rotations (mm at LEVER_MM), then shifts. Along the beam least is known.
_SPREAD_MM = np.array([3.0, 3.0, 3.0, 2.0, 2.0, 6.0])
# How far the skull's border may lie from where it looks, mm at LEVER_MM from the head's centre: standard deviation. At the true
# poses of development phantoms it looks 0.32 mm too far out (root mean square 0.35), in runs of another generator as much too
# far in (Testing/Benchmarks/results/skull_size_development.md).
SIZE_MM = 0.35
# A typical score of right poses: what a change of score means as a likelihood (`vessels.alignment.pose_covariances`).
_TYPICAL_FIT = 0.45
PER_SCORE = SAMPLES * _TYPICAL_FIT / (1 - _TYPICAL_FIT**2)
SIZE_PENALTY = 1 / (PER_SCORE * SIZE_MM**2)

# Poses (B, 4, 4) and sizes (B,) to score (B,), gradient (B, 7) and Gauss-Newton matrix of its negative (B, 7, 7): a twist, then
# the size. A size is the mm by which a point LEVER_MM from the points' origin is moved outwards.
SizedEquations = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
# The equations of one mask frame by twists along its own C-arm's axes, and that C-arm.
SkullTerm = tuple[Equations, CArm]


def refine_with_skull(
    scene: Scene,
    poses: np.ndarray,
    weight: float,
    saturation_mm: float,
    *,
    seed: int = 0,
    should_stop: ShouldStop | None = None,
    on_progress: Callable[[float], None] = lambda done: None,
) -> PoseCandidates:
    """The best of poses (K, 4, 4) after refining on vessels and skull together; `scores` has the best one after each step.

    Few vessels leave a pose loose, a skull seldom does; the skull alone knows nothing of what moved since the mask frame.

    Parameters
    ----------
    scene
        Whose skull is seen in at least one mask frame, or in the residue of moved bone.
    poses
    weight
        What the skull's score counts beside the vessels'.
    saturation_mm
        As in `vessels.alignment.normal_equations`.
    seed
        Of the points drawn, and of poses beside those given.
    should_stop
    on_progress
        Told the part of the work that is done.

    Raises
    ------
    Cancelled
    """
    skull = scene.skull
    assert skull is not None  # it gave poses
    begun, go_on = 0.0, None
    if not skull.in_mask_frame:
        poses = _about(scene, poses, weight, saturation_mm, seed, should_stop, on_progress)
        begun, go_on = _ABOUT, _LAST_GO_ON
    together = _Together(scene, LEVEL, skull, weight, saturation_mm, seed)
    at, scores, trace = together.climbed(poses, should_stop, between(on_progress, begun, 1.0), go_on)
    return PoseCandidates(at, float(scores[0]), tuple(trace))


class _Together:
    """Vessels and skull at one level."""

    def __init__(
        self,
        scene: Scene,
        level: Level,
        skull: Skull,
        weight: float,
        saturation_mm: float,
        seed: int,
        *,
        coarse: bool = False,
    ) -> None:
        """`coarse` as of `Skull.terms`, the rest as of `refine_with_skull`."""
        self._points = scene.points.subset(level.points, np.random.default_rng(seed))
        self._targets = make_targets(scene.views, level.rows, level.sigma_px, level.measure)
        self._level, self._weight, self._saturation_mm = level, weight, saturation_mm
        terms = list(skull.terms(self._points.origin_mm, coarse=coarse).values())
        assert terms  # it gave poses
        self._skull = sized_equations(terms, self._points.origin_mm, self._targets[0].carm)

    def __call__(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score (B,), gradient (B, 7) and Gauss-Newton matrix of its negative (B, 7, 7) of poses with sizes."""
        at, size_mm = _pose_and_size(states)
        skull, (s, g, m) = at_once(
            partial(self._skull, at, size_mm),
            partial(joint_equations, self._points, at, self._targets, self._saturation_mm),
        )
        score, gradient, matrix = (self._weight * part for part in skull)
        score += s - SIZE_PENALTY / 2 * size_mm**2
        gradient[:, :6] += g
        matrix[:, :6, :6] += m
        gradient[:, 6] -= SIZE_PENALTY * size_mm
        matrix[:, 6, 6] += SIZE_PENALTY
        return score, gradient, matrix

    def climbed(
        self,
        poses: np.ndarray,
        should_stop: ShouldStop | None,
        on_progress: Callable[[float], None],
        go_on: tuple[int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """Poses (K, 4, 4) refined, those for which most speaks first, their scores (K,), and the best one of each step.

        Those that do not `go_on`, as in `maximise`, are left out.
        """
        states, scores, trace = maximise(
            self,
            self._moved,
            _states(poses, np.zeros(len(poses))),
            iterations=self._level.iterations,
            go_on=go_on,
            should_stop=should_stop,
            on_progress=on_progress,
        )
        if go_on is not None:
            ahead = np.argsort(-scores, kind="stable")[: go_on[1]]
            states, scores = states[ahead], scores[ahead]
        # Chosen among by the scores as they are: twice a skull that fits nowhere, as in the noise of a mask frame, would outweigh vessels
        # that do fit. Those that did not go on, where the residue leads, were left behind by the weighted ones.
        at, size_mm = _pose_and_size(states)
        vessels, _, _ = joint_equations(self._points, at, self._targets, self._saturation_mm)
        order = np.argsort(-(vessels + self._skull(at, size_mm)[0]), kind="stable")
        return at[order], scores[order], trace

    def _moved(self, states: np.ndarray, steps: np.ndarray) -> np.ndarray:
        at, size_mm = _pose_and_size(states)
        return _states(move(at, steps[:, :6], self._points, self._targets[0].carm), size_mm + steps[:, 6])


def _about(
    scene: Scene,
    poses: np.ndarray,
    weight: float,
    saturation_mm: float,
    seed: int,
    should_stop: ShouldStop | None,
    on_progress: Callable[[float], None],
) -> np.ndarray:
    """Poses for the last level where the residue of moved bone shows the skull; arguments as of `refine_with_skull`.

    All that a skull's movements leave tells poses apart to a millimetre, but leads uphill from a few mm only, and past other optima. So it
    is climbed from about each pose, then from about the best.
    """
    assert scene.skull is not None  # it gave poses
    together = _Together(scene, COARSE, scene.skull, weight, saturation_mm, seed, coarse=True)
    rng, carm = np.random.default_rng(seed), scene.views[0].carm

    def beside(at: np.ndarray) -> np.ndarray:
        return move(at, rng.normal(size=(len(at), 6)) * _SPREAD_MM, scene.points, carm)

    begin = np.concatenate([poses, *(beside(poses) for _ in range(_BESIDE_EACH))])
    at, _, _ = together.climbed(begin, should_stop, between(on_progress, 0.0, _ABOUT_EACH), _GO_ON)
    again = np.concatenate([at[: COARSE.keep], beside(np.repeat(at[:1], _BESIDE_BEST, axis=0))])
    at, _, _ = together.climbed(again, should_stop, between(on_progress, _ABOUT_EACH, _ABOUT), _GO_ON)
    return at[: COARSE.keep]


def sized_equations(terms: Sequence[SkullTerm], origin_mm: np.ndarray, carm: CArm) -> SizedEquations:
    """Equations of the mean of scores by a twist about `origin_mm` (3,), CTA RAS mm, along the axes of `carm`, and by size."""

    def equations(poses: np.ndarray, size_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score, gradient, matrix = np.zeros(len(poses)), np.zeros((len(poses), 7)), np.zeros((len(poses), 7, 7))
        found = at_once(*(partial(sized_term, *term, origin_mm, poses, size_mm) for term in terms))
        for (s, g, m), (_, view) in zip(found, terms, strict=True):
            to_view = np.eye(7)
            to_view[:6, :6] = twist_between(carm, view)
            score += s
            gradient += g @ to_view
            matrix += to_view.T @ m @ to_view
        return score / len(terms), gradient / len(terms), matrix / len(terms)

    return equations


def sized_term(
    term: Equations, view: CArm, origin_mm: np.ndarray, poses: np.ndarray, size_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`sized_equations` of one mask frame, its twists along the axes of its own C-arm, `view`.

    Seen from a source, what is larger by a factor looks exactly like what is nearer by it, so the size needs no equations of its
    own.
    """
    factor = 1 + size_mm / LEVER_MM
    from_source = poses[:, :3, :3] @ origin_mm + poses[:, :3, 3] - np.array(view.source_mm)
    nearer = poses.copy()
    nearer[:, :3, 3] += from_source * (1 / factor - 1)[:, None]
    own = np.zeros((len(poses), 6, 7))
    own[:, :, :6] = np.eye(6)
    own[:, 3:, :6] /= factor[:, None, None]
    own[:, 3:, 6] = -(from_source @ view.axes.T) / (LEVER_MM * factor**2)[:, None]
    score, gradient, matrix = term(nearer)
    return score, np.einsum("bi,bij->bj", gradient, own), np.einsum("bki,bkl,blj->bij", own, matrix, own)


def _states(poses: np.ndarray, size_mm: np.ndarray) -> np.ndarray:
    """Poses (B, 4, 4) and sizes (B,) as one array (B, 17), which `maximise` takes."""
    return np.concatenate([poses.reshape(len(poses), 16), size_mm[:, None]], axis=1)


def _pose_and_size(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `_states`."""
    return states[:, :16].reshape(-1, 4, 4), states[:, 16]
