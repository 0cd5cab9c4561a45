"""Levenberg-Marquardt on SE(3), batched over poses, whatever gives the normal equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.vessels.points import Points

# A turn by one radian moves the rim of the head by about this much: it makes angles and mm comparable.
LEVER_MM = 60.0
# Score (B,), its gradient (B, 6) and the Gauss-Newton matrix of its negative (B, 6, 6) at poses (B, 4, 4).
Equations = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


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
