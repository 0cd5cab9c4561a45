"""Levenberg-Marquardt, batched over poses, and the normal equations of a correlation, which vessels and skull share.

A score is raised, not a sum of squares lowered: the Gauss-Newton matrix belongs to the negative of the score, so that a step
solves (matrix + damping) step = gradient. See Resources/Docs/method.md, section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.common.threads import at_once
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.vessels.points import Points

# A turn by one radian moves the rim of the head by about this much: it makes angles and mm comparable.
LEVER_MM = 60.0
# Marquardt's damping, as a share of each axis's scale: where it begins, what divides it after a gain and multiplies it after a
# loss, and its range. A pose that is damped more than that gains by no step: it has reached its optimum.
DAMPING = 0.1
_AFTER_GAIN, _AFTER_LOSS = 3, 4
_MIN_DAMPING, _MAX_DAMPING = 1e-6, 1e4
# Added to each axis's scale, of the mean of all: one view hardly sees depth, which by its own scale alone would run away.
_SCALE_FLOOR = 0.1
# Largest step, mm. Further away the images hardly overlap and the equations mean nothing.
_MAX_STEP_MM = 25.0
# Score (B,), its gradient (B, D) and the Gauss-Newton matrix of its negative (B, D, D) at poses (B, 4, 4); D is 6 for a twist.
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
        found = at_once(*(partial(term, poses) for term, _ in terms))
        for (s, g, m), (_, to_term) in zip(found, terms, strict=True):
            score, gradient, matrix = score + s, gradient + g @ to_term, matrix + to_term.T @ m @ to_term
        return score / len(terms), gradient / len(terms), matrix / len(terms)

    return equations


def twist_between(carm: CArm, other: CArm) -> np.ndarray:
    """Matrix (6, 6) from twists of `move` along the axes of one C-arm to those along another's that move the head alike.

    Both turn about the points' origin, so rotations and shifts do not mix.
    """
    turn = other.axes @ carm.axes.T
    between = np.zeros((6, 6))
    between[:3, :3] = turn * np.sign(np.linalg.det(turn))  # a mirrored image turns the other way round
    between[3:, 3:] = turn
    return between


def camera_matrices(poses: np.ndarray, origin_mm: np.ndarray, carm: CArm) -> tuple[np.ndarray, np.ndarray]:
    """Cameras of poses (B, 4, 4): CTA mm about `origin_mm` (3,) to camera mm, (B, 3, 4), and the origin in it, (B, 3); float32.

    Camera axes are u, v, d from the source. About the points' origin, because in float32 a scanner origin metres away
    would cost pixels.
    """
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
    damping: float = DAMPING,
    tolerance_mm: float = 0.0,
    go_on: tuple[int, int] | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_progress: Callable[[float], None] = lambda done: None,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Levenberg-Marquardt from many poses at once.

    A step that loses is undone, so the score never falls. Poses that have come to rest take no more time.

    Parameters
    ----------
    equations
        Of D parameters; 6 for a twist.
    moved
        Poses (B, 4, 4) and steps (B, D) to poses (B, 4, 4), by parameters as the equations mean them.
    poses : (B, 4, 4)
        ``cta_to_carm`` to start from. Or whatever else equations and `moved` take, one along the first axis for each start.
    iterations
        Largest number of steps.
    damping
        At the start.
    tolerance_mm
        A pose that steps by less has come to rest.
    go_on
        After how many steps only so many of the best go on; all do unless given.
    should_stop
        Asked before every step.
    on_progress
        Told the part of the steps that is done, 0..1; it may end early.

    Returns
    -------
    poses (B, 4, 4), score (B,), trace: best score of the batch after each iteration.

    Raises
    ------
    Cancelled
    """
    poses = poses.copy()
    score, gradient, matrix = equations(poses)
    lam = np.full(len(poses), damping)
    trace = [float(score.max())]
    active = np.ones(len(poses), dtype=bool)
    for number in range(iterations):
        on_progress((number + 1) / (iterations + 1))  # the first equations take as long as a step
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
        lam[index] = np.where(gained, np.maximum(lam[index] / _AFTER_GAIN, _MIN_DAMPING), lam[index] * _AFTER_LOSS)
        active[index] = (np.linalg.norm(step, axis=1) > tolerance_mm) & (lam[index] < _MAX_DAMPING)
        trace.append(float(score.max()))
        if go_on is not None and number + 1 == go_on[0]:
            active[np.argsort(-score, kind="stable")[go_on[1] :]] = False
    return poses, score, trace


def _step(gradient: np.ndarray, matrix: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Damped Newton steps (B, D) for gradients (B, D), matrices (B, D, D) and dampings (B,); the diagonal is the scale."""
    diagonal = np.einsum("bii->bi", matrix)
    scale = diagonal + _SCALE_FLOOR * diagonal.mean(axis=1, keepdims=True) + 1e-12
    damped = matrix + lam[:, None, None] * scale[:, :, None] * np.eye(matrix.shape[-1])
    step: np.ndarray = np.linalg.solve(damped, gradient[..., None])[..., 0]
    return step * np.minimum(1.0, _MAX_STEP_MM / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9))
