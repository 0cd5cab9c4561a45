"""Vessels and skull refined together: the skull says how the head lies, the vessels say how far away it is.

Where bone begins depends on scanner, kernel and threshold. A border 0.3 mm further out is a skull 0.4 % larger, which looks like
a head 3 mm nearer to the source. So the skull has a size of its own beside the pose (Resources/Docs/method.md, section 8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.scene import Scene
from DeepIterRegLib.registration.vessels.alignment import SAMPLES, joint_equations
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM, Equations, maximise, move, twist_between
from DeepIterRegLib.registration.vessels.search import Level, PoseCandidates
from DeepIterRegLib.registration.vessels.targets import REFINE, make_targets

# The grid and points of the vessels' last level, in as many steps as both take.
LEVEL = Level(rows=384, points=40000, sigma_px=0.8, iterations=12, keep=1, measure=REFINE)
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
) -> PoseCandidates:
    """The best of poses (K, 4, 4) after refining on vessels and skull together; `scores` has the best one after each step.

    Few vessels leave a pose loose, a skull seldom does; the skull alone knows nothing of what moved since the mask frame.

    Parameters
    ----------
    scene
        Whose skull is seen in at least one mask frame.
    poses
    weight
        What the skull's gradient correlation counts beside the vessels' score.
    saturation_mm
        As in `vessels.alignment.normal_equations`.
    seed
        Of the points drawn.
    should_stop

    Raises
    ------
    Cancelled
    """
    points = scene.points.subset(LEVEL.points, np.random.default_rng(seed))
    targets = make_targets(scene.views, LEVEL.rows, LEVEL.sigma_px, LEVEL.measure)
    carm = targets[0].carm
    terms = list(scene.skull.terms(points.origin_mm).values()) if scene.skull else []
    assert terms  # it gave poses
    skull = sized_equations(terms, points.origin_mm, carm)

    def together(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at, size_mm = _pose_and_size(states)
        score, gradient, matrix = (weight * part for part in skull(at, size_mm))
        s, g, m = joint_equations(points, at, targets, saturation_mm)
        score += s - SIZE_PENALTY / 2 * size_mm**2
        gradient[:, :6] += g
        matrix[:, :6, :6] += m
        gradient[:, 6] -= SIZE_PENALTY * size_mm
        matrix[:, 6, 6] += SIZE_PENALTY
        return score, gradient, matrix

    def moved(states: np.ndarray, steps: np.ndarray) -> np.ndarray:
        at, size_mm = _pose_and_size(states)
        return _states(move(at, steps[:, :6], points, carm), size_mm + steps[:, 6])

    states, scores, trace = maximise(
        together, moved, _states(poses, np.zeros(len(poses))), iterations=LEVEL.iterations, should_stop=should_stop
    )
    # Chosen among by the scores as they are: twice a skull that fits nowhere, as in noise, would outweigh vessels that do fit.
    at, size_mm = _pose_and_size(states)
    evidence = joint_equations(points, at, targets, saturation_mm)[0] + skull(at, size_mm)[0]
    order = np.argsort(-evidence, kind="stable")
    return PoseCandidates(at[order], float(scores[order[0]]), tuple(trace))


def sized_equations(terms: Sequence[SkullTerm], origin_mm: np.ndarray, carm: CArm) -> SizedEquations:
    """Equations of the mean of scores by a twist about `origin_mm` (3,), CTA RAS mm, along the axes of `carm`, and by size."""

    def equations(poses: np.ndarray, size_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score, gradient, matrix = np.zeros(len(poses)), np.zeros((len(poses), 7)), np.zeros((len(poses), 7, 7))
        for term, view in terms:
            s, g, m = sized_term(term, view, origin_mm, poses, size_mm)
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
