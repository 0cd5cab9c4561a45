"""Levenberg-Marquardt on SE(3), batched over poses, and the normal equations of a correlation, which vessels and skull share.

A score is raised, not a sum of squares lowered: the Gauss-Newton matrix belongs to the negative of the score, so that a step
solves (matrix + damping) step = gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.vessels.points import Points

# A turn by one radian moves the rim of the head by about this much: it makes angles and mm comparable.
LEVER_MM = 60.0
# Score (B,), its gradient (B, 6) and the Gauss-Newton matrix of its negative (B, 6, 6) at poses (B, 4, 4).
Equations = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


# Square of the norm of an image in which nothing is: what it is divided by must not be 0.
_NOTHING = 1e-20


def image_norms(gram: np.ndarray) -> np.ndarray:
    """Norms (B,) of images from their Gram matrices (B, 7, 7), in which the image comes before its six derivatives."""
    norms: np.ndarray = np.sqrt(np.maximum(gram[:, 0, 0], _NOTHING))
    return norms


def correlation_equations(
    gram: np.ndarray, shares: np.ndarray, norm_power: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score <image, target> / |image|^norm_power with its gradient and Gauss-Newton matrix, from inner products alone.

    With a target of unit norm and `norm_power` 1 the score is their normalised cross-correlation. The matrix leaves out the
    image's second derivatives and takes the part of a derivative along the image away: it changes the norm, not the match.

    Parameters
    ----------
    gram : (B, 7, 7)
        Inner products of the image and its derivatives to the six parameters of a twist, image first.
    shares : (B, 7)
        Inner products of the same with the target, divided by |image|^norm_power.
    norm_power

    Returns
    -------
    score (B,), gradient (B, 6), matrix (B, 6, 6)
    """
    norm = image_norms(gram)
    score = shares[:, 0]
    along = gram[:, 0, 1:] / norm[:, None]  # <unit image, derivative>
    gradient = shares[:, 1:] - (norm_power * score / norm)[:, None] * along
    # An image that matches worse than nothing has no optimum nearby: a matrix of 0 makes the step follow the gradient.
    fit = np.maximum(score, 0)[:, None, None]
    matrix = fit * (gram[:, 1:, 1:] - along[:, :, None] * along[:, None, :]) / norm[:, None, None] ** 2
    return score, gradient, matrix


def mean_equations(terms: Sequence[tuple[Equations, np.ndarray]]) -> Equations:
    """Equations of the mean of scores, each by twists of its own; a term is such equations and the matrix (6, 6) to its twists."""

    def equations(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score, gradient, matrix = np.zeros(len(poses)), np.zeros((len(poses), 6)), np.zeros((len(poses), 6, 6))
        for term, to_term in terms:
            s, g, m = term(poses)
            score, gradient, matrix = score + s, gradient + g @ to_term, matrix + to_term.T @ m @ to_term
        return score / len(terms), gradient / len(terms), matrix / len(terms)

    return equations


def twist_between(carm: CArm, other: CArm) -> np.ndarray:
    """Matrix (6, 6) from twists of `move` along the axes of one camera to those along another's that move the head alike.

    Both turn about the points' origin, so rotations and shifts do not mix.
    """
    turn = other.axes @ carm.axes.T
    between = np.zeros((6, 6))
    between[:3, :3] = turn * np.sign(np.linalg.det(turn))  # a mirrored image turns the other way round
    between[3:, 3:] = turn
    return between


def camera_matrices(poses: np.ndarray, origin_mm: np.ndarray, carm: CArm) -> tuple[np.ndarray, np.ndarray]:
    """CTA mm about `origin_mm` to camera mm, (B, 3, 4), and the origin in camera mm, (B, 3); float32."""
    rotation = carm.axes @ poses[:, :3, :3]
    centres = (poses[:, :3, :3] @ origin_mm + poses[:, :3, 3] - np.array(carm.source_mm)) @ carm.axes.T
    cameras = np.concatenate([rotation, centres[..., None]], axis=-1)
    return np.ascontiguousarray(cameras, dtype=np.float32), centres.astype(np.float32)


def move(poses: np.ndarray, twists: np.ndarray, points: Points, carm: CArm) -> np.ndarray:
    """Poses (B, 4, 4) after twists (B, 6): rotation about the points' origin (in mm at LEVER_MM), then shift in mm.

    Both along the camera's axes u, v, d. Exact derivative at zero of what the kernel computes.
    """
    axes = carm.axes
    rotation = pose.so3_exp((twists[:, :3] / LEVER_MM) @ axes * np.sign(np.linalg.det(axes)))
    return pose.offset_about(poses, np.broadcast_to(points.origin_mm, (len(poses), 3)), rotation, twists[:, 3:] @ axes)


def maximise(
    equations: Equations,
    moved: Callable[[np.ndarray, np.ndarray], np.ndarray],
    poses: np.ndarray,
    *,
    iterations: int,
    damping: float = 0.1,
    tolerance_mm: float = 0.0,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Levenberg-Marquardt from many poses (B, 4, 4) at once; `moved` takes poses by twists (B, 6) as the equations mean them.

    Damping falls by 3 after a gain and rises by 4 after a loss, per pose; a step that loses is undone, so
    the score never falls.

    Returns
    -------
    poses (B, 4, 4), score (B,), trace: best score of the batch after each iteration.
    """
    poses = poses.copy()
    score, gradient, matrix = equations(poses)
    lam = np.full(len(poses), damping)
    trace = [float(score.max())]
    active = np.ones(len(poses), dtype=bool)
    for _ in range(iterations):
        if should_stop is not None and should_stop():
            raise Cancelled("Registration was cancelled.")
        index = np.flatnonzero(active)
        if len(index) == 0:
            break
        step = _step(gradient[index], matrix[index], lam[index])
        tried = moved(poses[index], step)
        s, g, m = equations(tried)
        gained = s > score[index]
        won = index[gained]
        poses[won], score[won], gradient[won], matrix[won] = tried[gained], s[gained], g[gained], m[gained]
        lam[index] = np.where(gained, np.maximum(lam[index] / 3, 1e-6), lam[index] * 4)
        active[index] = (np.linalg.norm(step, axis=1) > tolerance_mm) & (lam[index] < 1e4)
        trace.append(float(score.max()))
    return poses, score, trace


def _step(gradient: np.ndarray, matrix: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Damped Newton steps (B, 6) with the diagonal as scale, floored by its mean so that depth stays tame."""
    diagonal = np.einsum("bii->bi", matrix)
    scale = diagonal + 0.1 * diagonal.mean(axis=1, keepdims=True) + 1e-12
    damped = matrix + lam[:, None, None] * scale[:, :, None] * np.eye(6)
    step: np.ndarray = np.linalg.solve(damped, gradient[..., None])[..., 0]
    return step * np.minimum(1.0, 25.0 / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9))
