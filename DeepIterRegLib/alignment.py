"""Second-order alignment of vessel points to a vessel image: Levenberg-Marquardt on SE(3), batched over poses.

The objective is the ZNCC of the blurred, saturated splat with the blurred target. Its Gauss-Newton form is
that of 1 - ZNCC = |a - b|^2 / 2 for images of zero mean and unit norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from DeepIterRegLib.alignment_kernels import CHANNELS, products
from DeepIterRegLib.errors import Cancelled
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.rendering.splat import pixel_intrinsics

# A turn by one radian moves the rim of the head by about this much: it makes angles and mm comparable.
LEVER_MM = 60.0


@dataclass(frozen=True)
class Target:
    """A vessel image prepared for ZNCC at one resolution.

    Attributes
    ----------
    image : (rows, columns) float32
        Blurred, zero mean and unit norm over `valid`, zero elsewhere.
    valid : (rows, columns) float32, 1 or 0
    carm
        View on this grid.
    taps : (radius + 1,) float32
        Half of the Gaussian that the moving image is blurred with.
    """

    image: np.ndarray
    valid: np.ndarray
    carm: CArm
    taps: np.ndarray


def gaussian_taps(sigma_px: float) -> np.ndarray:
    """Half of a normalised Gaussian, centre first, out to 3 sigma."""
    radius = max(1, int(np.ceil(3 * sigma_px)))
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma_px) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def resize_area(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean of the source over each pixel of a coarser grid (rows, columns); also for fractions of pixels."""
    return _area_matrix(image.shape[0], rows) @ image.astype(np.float32) @ _area_matrix(image.shape[1], columns).T


def _area_matrix(n_in: int, n_out: int) -> np.ndarray:
    edges = np.linspace(0, n_in, n_out + 1)
    starts, stops = edges[:-1, None], edges[1:, None]
    cells = np.arange(n_in)[None]
    overlap = np.clip(np.minimum(stops, cells + 1) - np.maximum(starts, cells), 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def make_target(vessels: np.ndarray, valid: np.ndarray, carm: CArm, rows: int, sigma_px: float) -> Target:
    """Target of a vessel image (r, c), higher is more vessel, on a grid of `rows` rows.

    The blurred image counts only where at least half of the coarse pixel is valid.
    """
    columns = max(2, round(rows * carm.columns * carm.pixel_spacing_mm[1] / (carm.rows * carm.pixel_spacing_mm[0])))
    coarse_valid = resize_area(valid.astype(np.float32), rows, columns) >= 0.5
    image = resize_area(np.where(valid, vessels, 0).astype(np.float32), rows, columns)
    taps = gaussian_taps(sigma_px)
    full = np.concatenate([taps[:0:-1], taps])
    image = np.apply_along_axis(np.convolve, 0, image, full, mode="same")
    image = np.apply_along_axis(np.convolve, 1, image, full, mode="same")
    image = np.where(coarse_valid, image - image[coarse_valid].mean(), 0)
    norm = np.linalg.norm(image)
    return Target(
        (image / max(norm, 1e-12)).astype(np.float32),
        coarse_valid.astype(np.float32),
        carm.resampled(rows, columns),
        taps,
    )


@dataclass(frozen=True)
class Points:
    """Vessel points of the CTA.

    Attributes
    ----------
    positions : (N, 3) float32
        RAS mm relative to `origin_mm`.
    weights : (N,) float32
        mm^3 times value.
    origin_mm : (3,)
        RAS mm of the CTA; rotations turn about it.
    """

    positions: np.ndarray
    weights: np.ndarray
    origin_mm: np.ndarray

    def subset(self, n: int, rng: np.random.Generator) -> Points:
        """About n points drawn with probability in proportion to weight, so that all weigh the same."""
        if n >= len(self.weights):
            return self
        cumulative = np.cumsum(self.weights, dtype=np.float64)
        draws = (np.arange(n) + rng.random(n)) * (cumulative[-1] / n)
        chosen = np.minimum(np.searchsorted(cumulative, draws), len(self.weights) - 1)
        weights = np.full(n, cumulative[-1] / n, dtype=np.float32)
        return Points(self.positions[chosen], weights, self.origin_mm)


def normal_equations(
    points: Points, poses: np.ndarray, target: Target, saturation_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ZNCC, its gradient and the Gauss-Newton matrix of 1 - ZNCC.

    Parameters
    ----------
    poses : (B, 4, 4)
        ``cta_to_carm``.
    saturation_mm
        Path length at which the moving image has fallen to half of linear, so that thick or overlapping
        vessels do not outweigh the rest, as in a mask.

    Returns
    -------
    score (B,), gradient (B, 6), matrix (B, 6, 6)
        With respect to the twist of `move`.
    """
    carm = target.carm
    cameras, centres = camera_matrices(poses, points.origin_mm, carm)
    n_jobs = min(len(poses), numba.get_num_threads())
    work = np.empty((n_jobs, 2, carm.rows, carm.columns, CHANNELS), dtype=np.float32)
    out = np.empty((len(poses), 9, 7))
    products(
        points.positions,
        points.weights,
        cameras,
        centres,
        np.float32(LEVER_MM),
        pixel_intrinsics(carm),
        target.image,
        target.valid,
        target.taps,
        np.float32(saturation_mm),
        work,
        out,
    )
    n = float(target.valid.sum())
    gram = out[:, :7] - out[:, 7, :, None] * out[:, 7, None, :] / n  # zero mean
    cross = out[:, 8]  # the target has zero mean already
    norm = np.sqrt(np.maximum(gram[:, 0, 0], 1e-20))
    score = cross[:, 0] / norm
    along = gram[:, 0, 1:] / norm[:, None]  # <unit image, derivative>
    gradient = (cross[:, 1:] - score[:, None] * along) / norm[:, None]
    matrix = (gram[:, 1:, 1:] - along[:, :, None] * along[:, None, :]) / norm[:, None, None] ** 2
    return score, gradient, matrix


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


def levenberg_marquardt(
    points: Points,
    poses: np.ndarray,
    target: Target,
    *,
    iterations: int,
    saturation_mm: float,
    damping: float = 0.1,
    tolerance_mm: float = 0.0,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Climb the ZNCC from many poses at once.

    Damping falls by 3 after a gain and rises by 4 after a loss, per pose; a step that loses is undone, so
    the score never falls.

    Returns
    -------
    poses (B, 4, 4), score (B,), trace: best score of the batch after each iteration.
    """
    poses = poses.copy()
    score, gradient, matrix = normal_equations(points, poses, target, saturation_mm)
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
        tried = move(poses[index], step, points, target.carm)
        s, g, m = normal_equations(points, tried, target, saturation_mm)
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
