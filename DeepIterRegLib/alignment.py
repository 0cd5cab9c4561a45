"""Second-order alignment of vessel points to a vessel image: Levenberg-Marquardt on SE(3), batched over poses.

The objective compares the blurred, saturated splat with the blurred target in three channels, amount of vessel and its
direction; see `normal_equations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from DeepIterRegLib.alignment_kernels import CHANNELS, WIDTH, area_means, main_axes, oriented_images, products
from DeepIterRegLib.errors import Cancelled
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.rendering.splat import pixel_intrinsics

# A turn by one radian moves the rim of the head by about this much: it makes angles and mm comparable.
LEVER_MM = 60.0

# Score (B,), its gradient (B, 6) and the Gauss-Newton matrix of its negative (B, 6, 6) at poses (B, 4, 4).
Equations = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
# For `pose_covariances`, so that errors over standard deviations have an RMS of about 1 on phantoms with one view and with
# two: independent samples in an image, and how far a head that moves within its runs lies from where they show it.
SAMPLES = 1500.0
_UNSTEADY_MM = 0.25
_LARGEST_ERROR_MM = 100.0  # what is known without any view


@dataclass(frozen=True)
class Measure:
    """How images are compared: <image, target> / |image|^norm_power over the three channels of `vessel_channels`.

    Attributes
    ----------
    direction_weight
        How much the two channels of direction count beside that of amount. Vessels that cross by chance agree in
        amount, hardly in direction.
    norm_power
        At 1 the measure is ZNCC, at 0 the share of the target that is covered. The CTA shows far more vessels than
        the run: the lower, the less costs what the run does not show.
    """

    direction_weight: float
    norm_power: float

    @property
    def direction_scale(self) -> float:
        """What the channels of direction are multiplied by, in both images, so that their products count as they should."""
        return float(np.sqrt(self.direction_weight))


FIND = Measure(16.0, 0.5)  # tells poses apart
REFINE = Measure(1.0, 1.0)  # ZNCC, unbiased near the truth


@dataclass(frozen=True)
class View:
    """A run as vessels are aligned to it.

    Attributes
    ----------
    channels : (3, rows, columns) float32
        Of its contrast, as from `vessel_channels`.
    valid : (rows, columns) bool
        Where they count.
    carm
        All views of a registration are of one C-arm frame, in which the head lies still.
    """

    channels: np.ndarray
    valid: np.ndarray
    carm: CArm


@dataclass(frozen=True)
class Target:
    """A vessel image prepared for ZNCC at one resolution.

    Attributes
    ----------
    image : (3, rows, columns) float32
        `vessel_channels`, blurred; the first of zero mean over `valid`, the others times the measure's
        `direction_scale`, all together of unit norm; zero outside `valid`.
    valid : (rows, columns) float32, 1 or 0
    carm
        View on this grid.
    taps : (radius + 1,) float32
        Half of the Gaussian that the moving image is blurred with.
    measure
    """

    image: np.ndarray
    valid: np.ndarray
    carm: CArm
    taps: np.ndarray
    measure: Measure


def gaussian_taps(sigma_px: float) -> np.ndarray:
    """Half of a normalised Gaussian, centre first, out to 3 sigma."""
    radius = max(1, int(np.ceil(3 * sigma_px)))
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma_px) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def resize_area(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean of the source over each pixel of another grid (rows, columns), float32."""
    out = np.empty((rows, columns), np.float32)
    area_means(np.ascontiguousarray(image, dtype=np.float32), out)
    return out


def vessel_channels(vessels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A vessel image (r, c) and it times the cosine and sine of twice the vessels' angle: (3, r, c).

    The angle runs from the column axis towards the row axis; doubled, a vessel and its reverse are the same. The
    directions come from the structure tensor, at the scale of the larger vessels, and shrink where it names none.
    """
    image = np.where(valid, vessels, 0).astype(np.float32)
    rows, columns = image.shape
    shrink = max(1.0, rows / 512)  # directions vary slowly: no need to find them at full resolution
    coarse = resize_area(image, round(rows / shrink), round(columns / shrink))
    scale = max(1.0, 1.5 * coarse.shape[0] / 512)
    smooth = ndimage.gaussian_filter(coarse, scale)
    down, across = ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)
    dd, aa, ad = (ndimage.gaussian_filter(g, 2 * scale) for g in (down * down, across * across, across * down))
    total = dd + aa
    total += 1e-9 * max(float(total.max()), 1e-20)
    # A vessel runs across its gradient.
    cosine, sine = (resize_area(part / total, rows, columns) for part in (dd - aa, -2 * ad))
    return np.stack([image, image * cosine, image * sine])


def make_target(
    channels: np.ndarray, valid: np.ndarray, carm: CArm, rows: int, sigma_px: float, measure: Measure
) -> Target:
    """Target of `vessel_channels` (3, r, c) on a grid of `rows` rows.

    The blurred images count only where at least half of the coarse pixel is valid.
    """
    columns = max(2, round(rows * carm.columns * carm.pixel_spacing_mm[1] / (carm.rows * carm.pixel_spacing_mm[0])))
    coarse_valid = resize_area(valid.astype(np.float32), rows, columns) >= 0.5
    taps = gaussian_taps(sigma_px)
    full = np.concatenate([taps[:0:-1], taps])
    image = np.stack([resize_area(channel, rows, columns) for channel in channels])
    for axis in (1, 2):
        image = ndimage.convolve1d(image, full, axis, mode="constant")
    image[0] -= image[0][coarse_valid].mean()
    image[1:] *= measure.direction_scale
    image *= coarse_valid
    image /= max(float(np.linalg.norm(image)), 1e-12)
    return Target(
        image.astype(np.float32),
        coarse_valid.astype(np.float32),
        carm.resampled(rows, columns),
        taps,
        measure,
    )


def make_targets(views: Sequence[View], rows: int, sigma_px: float, measure: Measure) -> tuple[Target, ...]:
    """`make_target` of each view."""
    return tuple(make_target(view.channels, view.valid, view.carm, rows, sigma_px, measure) for view in views)


@dataclass(frozen=True)
class Points:
    """Vessel points of the CTA.

    Attributes
    ----------
    positions : (N, 3) float32
        RAS mm relative to `origin_mm`.
    weights : (N,) float32
        mm^3 times value.
    tangents : (N, 3) float32
        Direction of the vessel, of which the square of the length, 0 to 1, says how sure it is; see `tangents`.
    origin_mm : (3,)
        RAS mm of the CTA; rotations turn about it.
    """

    positions: np.ndarray
    weights: np.ndarray
    tangents: np.ndarray
    origin_mm: np.ndarray

    def subset(self, n: int, rng: np.random.Generator) -> Points:
        """About n points drawn with probability in proportion to weight, so that all weigh the same."""
        if n >= len(self.weights):
            return self
        cumulative = np.cumsum(self.weights, dtype=np.float64)
        draws = (np.arange(n) + rng.random(n)) * (cumulative[-1] / n)
        chosen = np.minimum(np.searchsorted(cumulative, draws), len(self.weights) - 1)
        weights = np.full(n, cumulative[-1] / n, dtype=np.float32)
        return Points(self.positions[chosen], weights, self.tangents[chosen], self.origin_mm)


def local_radius_mm(positions_mm: np.ndarray, voxel_volume_mm3: float, cell_mm: float = 2.5) -> np.ndarray:
    """Radius (N,) of a straight tube with as much volume as the vessels have in 3 x 3 x 3 cells around each point."""
    volume_mm3 = sums_around(positions_mm, cell_mm)(None) * voxel_volume_mm3
    radius: np.ndarray = np.sqrt(volume_mm3 / (3 * cell_mm * np.pi))
    return np.maximum(radius, 0.5)


def tangents(positions_mm: np.ndarray, cell_mm: float = 2.0) -> np.ndarray:
    """Direction of the vessel at each of the points (N, 3) that fill it, for `Points`.

    Main axis of the points in 3 x 3 x 3 cells around; the square of its length is by how much the spread along
    exceeds the larger one across, relative to the former.
    """
    x = positions_mm.astype(np.float64)
    around = sums_around(x, cell_mm)
    count = around(None)
    mean = np.stack([around(x[:, i]) / count for i in range(3)], axis=1)
    spread = np.empty((len(x), 6))
    for n, (i, j) in enumerate(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))):
        spread[:, n] = around(x[:, i] * x[:, j]) / count - mean[:, i] * mean[:, j]
    axes = np.empty((len(x), 3), np.float32)
    main_axes(spread, axes)
    return axes


def sums_around(positions_mm: np.ndarray, cell_mm: float) -> Callable[[np.ndarray | None], np.ndarray]:
    """A function that sums values (N,) of the points (N, 3) over the 3 x 3 x 3 cells around each, (N,); None counts them."""
    cells = np.floor((positions_mm - positions_mm.min(axis=0)) / cell_mm).astype(np.int64) + 1
    shape = tuple(cells.max(axis=0) + 2)
    flat = np.ravel_multi_index(tuple(cells.T), shape)

    def around(values: np.ndarray | None) -> np.ndarray:
        total = np.bincount(flat, values, minlength=int(np.prod(shape))).astype(np.float64).reshape(shape)
        sums: np.ndarray = 27 * ndimage.uniform_filter(total, 3, mode="constant").ravel()[flat]
        return sums

    return around


def normal_equations(
    points: Points, poses: np.ndarray, target: Target, saturation_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, its gradient and the Gauss-Newton matrix of its negative.

    The score is the target's `Measure`.

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
    gram, cross = _inner_products(points, poses, target, saturation_mm)
    norm = np.sqrt(np.maximum(gram[:, 0, 0], 1e-20))
    power = target.measure.norm_power
    scale = norm**-power
    score = cross[:, 0] * scale
    along = gram[:, 0, 1:] / norm[:, None]  # <unit image, derivative>
    gradient = scale[:, None] * cross[:, 1:] - (power * score / norm)[:, None] * along
    fit = np.maximum(score, 0)[:, None, None]
    matrix = fit * (gram[:, 1:, 1:] - along[:, :, None] * along[:, None, :]) / norm[:, None, None] ** 2
    return score, gradient, matrix


def joint_equations(
    points: Points, poses: np.ndarray, targets: Sequence[Target], saturation_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`normal_equations` of the mean of the views' scores, with respect to the twist of `move` with the first view's C-arm."""
    first, *others = targets
    score, gradient, matrix = normal_equations(points, poses, first, saturation_mm)
    for other in others:
        s, g, m = normal_equations(points, poses, other, saturation_mm)
        to_other = twist_between(first.carm, other.carm)
        score, gradient, matrix = score + s, gradient + g @ to_other, matrix + to_other.T @ m @ to_other
    n = len(targets)
    return score / n, gradient / n, matrix / n


def twist_between(carm: CArm, other: CArm) -> np.ndarray:
    """Matrix (6, 6) from twists of `move` along the axes of one camera to those along another's that move the head alike.

    Both turn about the points' origin, so rotations and shifts do not mix.
    """
    turn = other.axes @ carm.axes.T
    between = np.zeros((6, 6))
    between[:3, :3] = turn * np.sign(np.linalg.det(turn))  # a mirrored image turns the other way round
    between[3:, 3:] = turn
    return between


def pose_covariances(
    points: Points, cta_to_carm: np.ndarray, targets: Sequence[Target], saturation_mm: float
) -> tuple[np.ndarray, ...]:
    """How well a pose (4, 4) is determined by all views together: covariance (6, 6), mm2, along the axes of each view.

    The score is taken as a likelihood of as many independent samples as make it agree with the errors of phantoms
    (`SAMPLES`): log L = -n/2 log(1 - score^2), whose curvature is n score / (1 - score^2) times the Gauss-Newton matrix.
    Targets should be those of `REFINE`.
    """
    information = np.eye(6) / _LARGEST_ERROR_MM**2
    turns = [twist_between(targets[0].carm, target.carm) for target in targets]
    for target, turn in zip(targets, turns, strict=True):
        score, _, matrix = normal_equations(points, cta_to_carm[None], target, saturation_mm)
        fit = float(np.clip(score[0], 0, 0.95))
        information += SAMPLES * fit / (1 - fit**2) * turn.T @ matrix[0] @ turn
    covariance = np.linalg.inv(information) + np.eye(6) * _UNSTEADY_MM**2
    return tuple(turn @ covariance @ turn.T for turn in turns)


def zncc(points: Points, poses: np.ndarray, target: Target, saturation_mm: float) -> np.ndarray:
    """Zero-mean normalised cross-correlation (B,) of the three channels, -1 to 1. Arguments as in `normal_equations`."""
    gram, cross = _inner_products(points, poses, target, saturation_mm)
    value: np.ndarray = cross[:, 0] / np.sqrt(np.maximum(gram[:, 0, 0], 1e-20))
    return value


def _inner_products(
    points: Points, poses: np.ndarray, target: Target, saturation_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrices (B, 7, 7) of image and pose derivatives, the first channel of zero mean, and products with the target (B, 7)."""
    carm = target.carm
    cameras, centres = camera_matrices(poses, points.origin_mm, carm)
    n_jobs = min(len(poses), numba.get_num_threads())
    work = np.empty((n_jobs, 2, carm.rows, carm.columns, CHANNELS * WIDTH), dtype=np.float32)
    out = np.empty((len(poses), 9, 7))
    products(
        points.positions,
        points.tangents,
        points.weights,
        cameras,
        centres,
        np.float32(LEVER_MM),
        pixel_intrinsics(carm),
        np.float32(target.measure.direction_scale),
        target.image,
        target.valid,
        target.taps,
        np.float32(saturation_mm),
        work,
        out,
    )
    gram = out[:, :7] - out[:, 7, :, None] * out[:, 7, None, :] / float(target.valid.sum())
    return gram, out[:, 8]


def splat_oriented(
    points: Points,
    cameras: np.ndarray,
    target: Target,
    carm: CArm,
    saturation_mm: float,
    images: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Call `alignment_kernels.oriented_images` as the target was made."""
    oriented_images(
        points.positions,
        points.tangents,
        points.weights,
        cameras,
        pixel_intrinsics(carm),
        target.taps,
        np.float32(saturation_mm),
        np.float32(target.measure.direction_scale),
        images,
        sums,
    )


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
    targets: Sequence[Target],
    *,
    iterations: int,
    saturation_mm: float,
    damping: float = 0.1,
    tolerance_mm: float = 0.0,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Climb the score of `joint_equations` from many poses (B, 4, 4) at once; see `ascend`."""
    return ascend(
        lambda at: joint_equations(points, at, targets, saturation_mm),
        lambda at, twists: move(at, twists, points, targets[0].carm),
        poses,
        iterations=iterations,
        damping=damping,
        tolerance_mm=tolerance_mm,
        should_stop=should_stop,
    )


def ascend(
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
