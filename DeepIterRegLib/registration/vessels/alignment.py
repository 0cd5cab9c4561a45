"""Second-order alignment of vessel points to a vessel image: Levenberg-Marquardt on SE(3), batched over poses.

The objective compares the blurred, saturated splat with the blurred target in three channels, amount of vessel and its
direction; see `normal_equations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.vessels.least_squares import (
    DAMPING,
    LEVER_MM,
    camera_matrices,
    correlation_equations,
    image_norms,
    maximise,
    mean_equations,
    move,
    twist_between,
)
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import Target

# For `pose_covariances`, so that errors over standard deviations have an RMS of about 1 on phantoms with one view and with
# two: independent samples in an image, and how far a head that moves within its runs lies from where they show it. With 300
# samples and no such floor one view's depth was said to be twice as uncertain as it is: motion does not shrink with more image.
SAMPLES = 1500.0
_UNSTEADY_MM = 0.25
_MAX_ERROR_MM = 100.0  # what is known without any view
_MAX_FIT = 0.95  # a score of 1 would mean no error at all; right poses of phantoms have up to 0.63


def normal_equations(
    points: Points, poses: np.ndarray, target: Target, saturation_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, its gradient and the Gauss-Newton matrix of its negative.

    The score is the target's `Measure` (Resources/Docs/method.md, section 5).

    Parameters
    ----------
    points
        Vessels of the CTA.
    poses : (B, 4, 4)
        ``cta_to_carm``.
    target
    saturation_mm
        Path length at which the moving image has fallen to half of linear, so that thick or overlapping
        vessels do not outweigh the rest, as in a mask.

    Returns
    -------
    score (B,), gradient (B, 6), matrix (B, 6, 6)
        With respect to the twist of `move`.
    """
    gram, cross = _inner_products(points, poses, target, saturation_mm)
    power = target.measure.norm_power
    scale = image_norms(gram) ** -power
    return correlation_equations(gram, scale[:, None] * cross, power)


def joint_equations(
    points: Points, poses: np.ndarray, targets: Sequence[Target], saturation_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`normal_equations` of the mean of the views' scores, with respect to the twist of `move` with the first view's C-arm.

    Arguments as there, `poses` (B, 4, 4), and a target for each view.

    Returns
    -------
    score (B,), gradient (B, 6), matrix (B, 6, 6)
    """
    terms = []
    for n, target in enumerate(targets):
        to_view = np.eye(6) if n == 0 else twist_between(targets[0].carm, target.carm)
        terms.append((partial(normal_equations, points, target=target, saturation_mm=saturation_mm), to_view))
    return mean_equations(terms)(poses)


def pose_covariances(
    points: Points, cta_to_carm: np.ndarray, targets: Sequence[Target], saturation_mm: float
) -> tuple[np.ndarray, ...]:
    """How well a pose (4, 4) is determined by all views together: covariance (6, 6), mm2, along the axes of each view.

    The score is taken as a likelihood of as many independent samples as make it agree with the errors of phantoms
    (`SAMPLES`): log L = -n/2 log(1 - score^2), whose curvature is n score / (1 - score^2) times the Gauss-Newton matrix.
    Targets should be those of `REFINE`.

    Returns
    -------
    One matrix for each view: of the twist of `move` with its C-arm, rotations as mm at `LEVER_MM`.
    """
    information = np.eye(6) / _MAX_ERROR_MM**2
    turns = [twist_between(targets[0].carm, target.carm) for target in targets]
    for target, turn in zip(targets, turns, strict=True):
        score, _, matrix = normal_equations(points, cta_to_carm[None], target, saturation_mm)
        fit = float(np.clip(score[0], 0, _MAX_FIT))
        information += SAMPLES * fit / (1 - fit**2) * turn.T @ matrix[0] @ turn
    covariance = np.linalg.inv(information) + np.eye(6) * _UNSTEADY_MM**2
    return tuple(turn @ covariance @ turn.T for turn in turns)


def zncc(points: Points, poses: np.ndarray, target: Target, saturation_mm: float) -> np.ndarray:
    """Zero-mean normalised cross-correlation (B,) of the three channels, -1 to 1, at poses (B, 4, 4); see `normal_equations`."""
    gram, cross = _inner_products(points, poses, target, saturation_mm)
    value: np.ndarray = cross[:, 0] / image_norms(gram)
    return value


def _inner_products(
    points: Points, poses: np.ndarray, target: Target, saturation_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrices (B, 7, 7) of image and pose derivatives, the first channel of zero mean, and products with the target (B, 7)."""
    carm = target.carm
    cameras, centres = camera_matrices(poses, points.origin_mm, carm)
    out = compute.vessel_products(points, cameras, centres, LEVER_MM, target, saturation_mm)
    gram = out[:, :7] - out[:, 7, :, None] * out[:, 7, None, :] / float(target.valid.sum())
    return gram, out[:, 8]


def levenberg_marquardt(
    points: Points,
    poses: np.ndarray,
    targets: Sequence[Target],
    *,
    iterations: int,
    saturation_mm: float,
    damping: float = DAMPING,
    tolerance_mm: float = 0.0,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Raise the score of `joint_equations` from many poses (B, 4, 4) at once: poses (B, 4, 4), scores (B,), trace; see `maximise`."""
    return maximise(
        lambda at: joint_equations(points, at, targets, saturation_mm),
        lambda at, twists: move(at, twists, points, targets[0].carm),
        poses,
        iterations=iterations,
        damping=damping,
        tolerance_mm=tolerance_mm,
        should_stop=should_stop,
    )
