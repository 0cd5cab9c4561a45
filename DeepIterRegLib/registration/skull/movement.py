"""How much of what moved bone leaves in a subtracted run the skull explains at a pose, whatever its six small movements were.

A head turns about its neck. Seen from the side, its near half then moves one way and its far half the other, and no one direction of
movement explains both: wrong poses, which bring one half to its place, explained more than the right one.
(Resources/Docs/method.md, section 8.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from DeepIterRegLib.common.threads import at_once
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.compute.drawings import SeenDetail
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM, Equations, camera_matrices, move
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import gaussian_taps

DETAIL_PX = 2.0  # what is slower is blush, or drift
_RIDGE = 0.05  # of a movement's mean square: movements that hardly show, as along the beam, are not made up from noise
_APART_MM = 0.5  # between poses whose difference is a slope: splatting is piecewise linear, so not too small
_LEAST = 1e-6  # of a score, which divides


@dataclass(frozen=True)
class MovementTarget:
    """What is left of moved bone, on one grid.

    Attributes
    ----------
    patterns : (N, M) float32
        The strongest patterns of the frames at the N pixels inside, each as long as its share.
    inside : (rows, columns) bool
        Where bone would be seen.
    carm
        View on this grid.
    taps : (radius + 1,) float32
        As of `SkullTarget`.
    """

    patterns: np.ndarray
    inside: np.ndarray
    carm: CArm
    taps: np.ndarray


@dataclass(frozen=True)
class _Fit:
    """The patterns' best explanation at a pose.

    Attributes
    ----------
    changes : (N, 6)
        How the twist of a head changes its shadow.
    gram : (6, 6)
        Their inner products, with the ridge.
    movements : (6, M)
        What explains each pattern best.
    score
        Length of what they explain together: 1 where that is everything.
    """

    changes: np.ndarray
    gram: np.ndarray
    movements: np.ndarray
    score: float


def seen_detail(inside: np.ndarray) -> SeenDetail:
    """The pixels inside (rows, columns) bool, and what tells their detail."""
    taps = gaussian_taps(DETAIL_PX)
    near = np.maximum(compute.filtered(inside.astype(np.float32), taps), 1e-3)
    return SeenDetail(np.flatnonzero(inside), near, taps)


def detail(images: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Images (B, rows, columns) less what is slow in them, at the pixels inside (rows, columns) bool: (B, N)."""
    seen = seen_detail(inside)
    slow = compute.filtered(images * inside, seen.taps) / seen.near
    fast: np.ndarray = (images - slow)[:, inside]
    return fast


def movement_equations(points: Points, target: MovementTarget) -> Equations:
    """Share of the residue that the skull's six movements explain, by the twist of `vessels.least_squares.move` with the target's C-arm.

    The movements are found anew at each pose (variable projection: Golub and Pereyra 1973, SIAM J Numer Anal 10:413).

    Returns
    -------
    Poses (B, 4, 4) to score (B,), gradient (B, 6) and Gauss-Newton matrix of its negative (B, 6, 6).
    """

    def changes(poses: np.ndarray) -> np.ndarray:
        cameras, centres = camera_matrices(poses, points.origin_mm, target.carm)
        return compute.skull_changes(points, cameras, centres, LEVER_MM, target.carm, target.taps, seen)

    seen = seen_detail(target.inside)
    # Of the skull upright at the isocentre: the same for all poses, as whose part it would have a slope of its own.
    upright = changes(pose.radiological(points.origin_mm)[None])[0]
    ridge = max(_RIDGE * float((upright.astype(np.float64) ** 2).sum()) / 6, 1e-12)

    def at(cta_to_carm: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        fit = _fitted(changes(cta_to_carm[None])[0], target.patterns, ridge)
        gradient, matrix = np.zeros(6), np.zeros((6, 6))
        lengths = np.maximum(np.linalg.norm(fit.movements, axis=0), 1e-12)
        steps = _APART_MM * (fit.movements / lengths).T
        beside = changes(
            move(
                np.repeat(cta_to_carm[None], 2 * len(steps), axis=0),
                np.concatenate([steps, -steps]),
                points,
                target.carm,
            )
        )
        for n, length in enumerate(lengths):
            # How a twist changes what a movement leaves is how that movement changes what a twist does.
            slopes = (beside[n] - beside[n + len(steps)]) * (length / (2 * _APART_MM))
            left = target.patterns[:, n] - fit.changes @ fit.movements[:, n]
            gradient += slopes.T @ left
            # A change that other movements would make as well changes the movements, not the match.
            own = slopes - fit.changes @ np.linalg.solve(fit.gram, fit.changes.T @ slopes)
            matrix += own.T @ own
        return fit.score, gradient / fit.score, matrix / fit.score

    def equations(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = at_once(*(partial(at, one) for one in poses))
        return (
            np.array([score for score, _, _ in found]),
            np.array([gradient for _, gradient, _ in found]).reshape(-1, 6),
            np.array([matrix for _, _, matrix in found]).reshape(-1, 6, 6),
        )

    return equations


def _fitted(changes: np.ndarray, patterns: np.ndarray, ridge: float) -> _Fit:
    """Patterns (N, M) explained by changes (N, 6)."""
    gram = (changes.T @ changes).astype(np.float64) + np.eye(6) * ridge
    products = (changes.T @ patterns).astype(np.float64)
    movements = np.linalg.solve(gram, products)
    return _Fit(changes, gram, movements, max(float(np.sqrt((products * movements).sum())), _LEAST))
