"""Global search over poses: every rotation of a grid with every shift of the image, then second-order refinement.

A shift of the head across the beam is, up to a homography, a shift of its image, so for each rotation all
shifts are scored at once by FFT: what is sampled is three dimensions instead of six. The best candidates
raise the same score at rising resolution while their number falls.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.fft import next_fast_len

from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.geometry import CArm, cube_corners, pose
from DeepIterRegLib.registration.vessels import kernels as alignment_kernels
from DeepIterRegLib.registration.vessels.alignment import levenberg_marquardt, splat_oriented
from DeepIterRegLib.registration.vessels.least_squares import camera_matrices
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import FIND, SATURATION_MM, Measure, Target, View, make_targets

PEAKS = 2  # shifts kept of each rotation
# How far another view's peak may lie from the line on which the head moves along the beam of the view that proposed a pose.
_BESIDE_MM = 8.0


@dataclass(frozen=True)
class Level:
    """One resolution: image rows, points drawn, blur, Gauss-Newton steps, poses that stay afterwards, what is raised."""

    rows: int
    points: int
    sigma_px: float
    iterations: int
    keep: int
    measure: Measure = FIND


@dataclass(frozen=True)
class SearchSettings:
    """Global search.

    Attributes
    ----------
    rotation_deg, translation_mm
        Half widths of the box about the radiological pose, on every axis, in the C-arm frame.
    rotation_step_deg
        Spacing of the rotation grid.
    depth_step_mm
        Spacing along the beam, which one view sees only as size.
    rows, points, sigma_px
        Grid, points and blur of the exhaustive pass.
    candidates
        Poses kept from the exhaustive pass.
    levels
        Refinement from coarse to fine.
    saturation_mm
        See `alignment.normal_equations`.
    """

    rotation_deg: float = 35.0
    translation_mm: float = 40.0
    rotation_step_deg: float = 7.0
    depth_step_mm: float = 40.0
    rows: int = 96
    points: int = 4000
    sigma_px: float = 0.8
    candidates: int = 128
    levels: tuple[Level, ...] = (
        Level(96, 4000, 0.9, 4, 96),
        Level(128, 8000, 0.8, 5, 32),
        Level(192, 16000, 0.9, 6, 8),
        Level(256, 30000, 1.0, 8, 8),
    )
    saturation_mm: float = SATURATION_MM

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.rotation_deg <= 90:
            problems.append(f"Search rotation is {self.rotation_deg:g} deg; 0 to 90 make sense.")
        if not 0 <= self.translation_mm <= 200:
            problems.append(f"Search translation is {self.translation_mm:g} mm; 0 to 200 make sense.")
        if problems:
            raise InputError(problems)


@dataclass(frozen=True)
class PoseCandidates:
    """Result of a search: poses (K, 4, 4) kept at the last level, best first; the best one's score; the best score of each level."""

    poses: np.ndarray
    score: float
    scores: tuple[float, ...]

    @property
    def cta_to_carm(self) -> np.ndarray:
        """The best pose (4, 4)."""
        best: np.ndarray = self.poses[0]
        return best


def search(
    points: Points,
    views: Sequence[View],
    start: np.ndarray,
    centre_cta_mm: np.ndarray,
    settings: SearchSettings | None = None,
    *,
    also: np.ndarray | None = None,
    seed: int = 0,
    on_progress: Callable[[float, float | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PoseCandidates:
    """Best pose in a box about `start`.

    Parameters
    ----------
    points
        Vessels of the CTA; a run shows part of them.
    views
        The runs.
    start : (4, 4)
        ``cta_to_carm`` at the centre of the box.
    centre_cta_mm : (3,)
        Point of the CTA about which the box turns the head: where `start` puts it is the middle of the box.
    also : (K, 4, 4), optional
        Poses refined beside those of the exhaustive pass.
    """
    settings = settings or SearchSettings()
    targets = make_targets(views, settings.rows, settings.sigma_px, FIND)
    drawn = points.subset(settings.points, np.random.default_rng(seed))
    poses, scores = proposals(
        drawn,
        targets,
        start,
        centre_cta_mm,
        settings,
        on_progress=None if on_progress is None else lambda done, score: on_progress(0.4 * done, score),
        should_stop=should_stop,
    )
    found = refine_poses(
        poses if also is None else np.concatenate([poses, also]),
        points,
        views,
        settings.levels,
        settings.saturation_mm,
        seed=seed,
        allowed=lambda poses: in_box(poses, start, centre_cta_mm, settings),
        on_progress=None if on_progress is None else lambda done, score: on_progress(0.4 + 0.6 * done, score),
        should_stop=should_stop,
    )
    return replace(found, scores=(float(scores[0]), *found.scores))


def refine_poses(
    poses: np.ndarray,
    points: Points,
    views: Sequence[View],
    levels: tuple[Level, ...],
    saturation_mm: float,
    *,
    seed: int = 0,
    allowed: Callable[[np.ndarray], np.ndarray] | None = None,
    on_progress: Callable[[float, float | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PoseCandidates:
    """Refine candidate poses (K, 4, 4) from coarse to fine while their number falls; the best.

    Arguments as in `search`. Poses (K, 4, 4) that are not `allowed` (K,) are dropped after each level, unless all are.
    """
    rng = np.random.default_rng(seed)
    trace = []
    for n, level in enumerate(levels):
        targets = make_targets(views, level.rows, level.sigma_px, level.measure)
        poses, scores, _ = levenberg_marquardt(
            points.subset(level.points, rng),
            poses,
            targets,
            iterations=level.iterations,
            saturation_mm=saturation_mm,
            should_stop=should_stop,
        )
        if allowed is not None and (inside := allowed(poses)).any():
            poses, scores = poses[inside], scores[inside]
        kept = _distinct(poses, scores, [target.carm for target in targets], points.origin_mm, level.keep)
        poses, scores = poses[kept], scores[kept]
        trace.append(float(scores[0]))
        if on_progress is not None:
            on_progress((n + 1) / len(levels), trace[-1])
    return PoseCandidates(poses, trace[-1], tuple(trace))


def in_box(poses: np.ndarray, start: np.ndarray, centre_cta_mm: np.ndarray, settings: SearchSettings) -> np.ndarray:
    """Which poses (K, 4, 4) lie in the search box, with a quarter to spare.

    Uphill may lead out of it, mostly along the beam, where a head too small or too large matches anything.
    """
    offset = poses @ pose.inverse(start)
    angles_deg = pose.rotation_to_euler_deg(offset[:, :3, :3])
    shift_mm = pose.transform(poses, centre_cta_mm[None])[:, 0] - pose.transform(start, centre_cta_mm[None])[0]
    turned = np.abs(angles_deg).max(axis=1) <= 1.25 * settings.rotation_deg + 2
    inside: np.ndarray = turned & (np.abs(shift_mm).max(axis=1) <= 1.25 * settings.translation_mm + 2)
    return inside


def _distinct(
    poses: np.ndarray, scores: np.ndarray, carms: Sequence[CArm], centre_mm: np.ndarray, keep: int
) -> list[int]:
    """Indices of the best poses, best first, that differ from each other by over half a pixel on a detector."""
    corners = [carm.project(cube_corners(centre_mm), poses) for carm in carms]
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if kept:
            distances = [np.linalg.norm(c[kept] - c[i], axis=-1).mean(axis=-1) for c in corners]
            if np.nanmin(np.max(distances, axis=0)) < 0.5:
                continue
        kept.append(int(i))
        if len(kept) == keep:
            break
    return kept


def proposals(
    points: Points,
    targets: Sequence[Target],
    start: np.ndarray,
    centre_cta_mm: np.ndarray,
    settings: SearchSettings,
    *,
    on_progress: Callable[[float, float | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (K, 4, 4) and their scores (K,), best first: what `exhaustive` finds in each view, placed by another one.

    A view hardly sees how far along its beam the head lies; the view most across its own shows that as a shift. A pose is
    as good as both views say, each relative to its best.
    """
    n = len(targets)
    found = []
    for k, target in enumerate(targets):

        def tell(done: float, score: float | None, k: int = k) -> None:
            if on_progress is not None:
                on_progress((k + done) / n, score)

        found.append(
            exhaustive(points, target, start, centre_cta_mm, settings, on_progress=tell, should_stop=should_stop)
        )
    if n == 1:
        return found[0]
    poses, scores = [], []
    beams = np.array([target.carm.axes[2] for target in targets])
    tops = [score[0] for _, score in found]
    for k, (proposed, score) in enumerate(found):
        other = int(np.argmin(np.abs(beams @ beams[k]) + (np.arange(n) == k)))
        placed, seen = _placed_along(points, proposed, beams[k], targets[other], centre_cta_mm, settings)
        poses.append(placed)
        scores.append((score / tops[k] + seen / tops[other]) / 2)
    joined, total = np.concatenate(poses), np.concatenate(scores)
    best = np.argsort(-total, kind="stable")[: settings.candidates]
    return joined[best], total[best]


def _placed_along(
    points: Points,
    poses: np.ndarray,
    beam: np.ndarray,
    target: Target,
    centre_cta_mm: np.ndarray,
    settings: SearchSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (K, 4, 4) moved along another view's beam (3,) to where this view's target fits best, and its scores (K,) there."""
    carm = target.carm
    correlate = _Correlator(target, settings.translation_mm)
    cameras, _ = camera_matrices(poses, points.origin_mm, carm)
    centres = pose.transform(poses, centre_cta_mm[None])[:, 0]
    px_per_mm = carm.project(centres + beam) - carm.project(centres)
    reach_mm = 0.75 * settings.depth_step_mm
    beside_px = _BESIDE_MM * carm.magnification / carm.pixel_spacing_mm[0]
    placed, scores = poses.copy(), np.empty(len(poses))
    for first in range(0, len(poses), correlate.batch):
        batch = slice(first, first + correlate.batch)
        maps, moved_px = correlate.maps(points, cameras[batch], settings.saturation_mm)
        along = px_per_mm[batch, None, None]
        depth_mm = np.sum(moved_px * along, axis=-1) / np.maximum(np.sum(along**2, axis=-1), 1e-9)
        depth_mm = np.clip(depth_mm, -reach_mm, reach_mm)
        beside = np.linalg.norm(moved_px - depth_mm[..., None] * along, axis=-1) <= beside_px
        flat = np.where(beside, maps, -np.inf).reshape(len(maps), -1)
        best = flat.argmax(axis=1)[:, None]
        scores[batch] = np.take_along_axis(flat, best, axis=1)[:, 0]
        placed[batch, :3, 3] += np.take_along_axis(depth_mm.reshape(len(maps), -1), best, axis=1) * beam
    return placed, scores


def exhaustive(
    points: Points,
    target: Target,
    start: np.ndarray,
    centre_cta_mm: np.ndarray,
    settings: SearchSettings,
    *,
    on_progress: Callable[[float, float | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (K, 4, 4) and their scores (K,), best first: all rotations and depths of the grid, best shifts of each.

    A shift of the image stands for a turn of the head about the source, which leaves the rays through it as
    they are; a shift of the head would change the view by atan(shift / SOD), up to 3 degrees at 40 mm.
    """
    carm = target.carm
    poses = rotation_grid(centre_cta_mm, start, carm, settings)
    cameras, _ = camera_matrices(poses, points.origin_mm, carm)
    correlate = _Correlator(target, settings.translation_mm)
    values, shifts = [], []
    for first in range(0, len(poses), correlate.batch):
        if should_stop is not None and should_stop():
            raise Cancelled("Registration was cancelled.")
        v, s = correlate.best_shifts(points, cameras[first : first + correlate.batch], settings.saturation_mm)
        values.append(v)
        shifts.append(s)
        if on_progress is not None:
            done = min(1.0, (first + correlate.batch) / len(poses))
            on_progress(done, None if done < 1 else float(np.max(np.concatenate(values))))
    score, shift = np.concatenate(values).ravel(), np.concatenate(shifts).reshape(-1, 2)
    best = np.argsort(-score, kind="stable")[: settings.candidates]
    offset_mm = -shift[best] * np.array([carm.pixel_spacing_mm[1], carm.pixel_spacing_mm[0]])
    return turn_about_source(np.repeat(poses, PEAKS, axis=0)[best], offset_mm, carm), score[best]


def rotation_grid(centre_cta_mm: np.ndarray, start: np.ndarray, carm: CArm, settings: SearchSettings) -> np.ndarray:
    """Start pose (N, 4, 4) turned about the head's centre, which is put on the central ray at several depths."""
    reach = settings.rotation_deg
    angles = np.linspace(-reach, reach, max(1, int(np.ceil(2 * reach / settings.rotation_step_deg)) + 1))
    # Cells of equal width fill the range; each is represented by its middle.
    n_depths = max(1, round(2 * settings.translation_mm / settings.depth_step_mm))
    depths = ((np.arange(n_depths) + 0.5) / n_depths * 2 - 1) * settings.translation_mm
    grid = np.array(list(itertools.product(angles, angles, angles, depths)))
    rotation = pose.euler_deg_to_rotation(grid[:, :3]) @ start[:3, :3]
    centre = start[:3, :3] @ centre_cta_mm + start[:3, 3]
    along = (centre @ carm.axes[2] + grid[:, 3])[:, None] * carm.axes[2]
    return pose.matrix(rotation, along - rotation @ centre_cta_mm)


def turn_about_source(poses: np.ndarray, offset_mm: np.ndarray, carm: CArm) -> np.ndarray:
    """Poses turned about the source so that the principal point's content moves by offsets (N, 2) on the detector."""
    u, v, d = carm.axes
    towards = offset_mm[:, :1] * u + offset_mm[:, 1:] * v
    distance = np.linalg.norm(towards, axis=1, keepdims=True)
    axis = np.cross(d, towards) / np.maximum(distance, 1e-9)
    rotation = pose.so3_exp(axis * np.arctan2(distance, carm.sid_mm))
    source = np.array(carm.source_mm)
    return pose.matrix(rotation, source - rotation @ source) @ poses


class Correlation:
    """Sum of products of a target with images in a wider window, for all shifts, by FFT.

    Attributes
    ----------
    images : (batch, channels, rows, columns) float32
        To be drawn into; as large as the transforms like it.
    """

    def __init__(self, target: np.ndarray, wide: CArm, batch: int) -> None:
        """`target` (channels, rows, columns) on the grid of which `wide` is the window."""
        self._shape = (next_fast_len(wide.rows, real=True), next_fast_len(wide.columns, real=True))
        self._spectra = torch.fft.rfft2(torch.tensor(target), s=self._shape).conj().resolve_conj()
        # Memory of torch's is aligned: its transforms round by address, and one seed must give the same bits.
        self._memory = torch.zeros((batch, len(target), *self._shape))
        self.images: np.ndarray = self._memory.numpy()

    def products(self, count: int) -> np.ndarray:
        """Products (count, rows, columns) with the first images, summed over the channels; the first index is no shift."""
        spectra = torch.fft.rfft2(self._memory[:count])
        spectra *= self._spectra
        products: np.ndarray = torch.fft.irfft2(spectra.sum(dim=1), s=self._shape).numpy()
        return products


class _Correlator:
    """Normalised cross-correlation of a target with wider images, over all shifts, by FFT.

    The norm of what lies under the target is taken over the bounding box of its valid pixels, which running sums
    give at once; shutters are nearly rectangular, and the refinement scores by the valid pixels themselves.
    """

    batch = 16  # small enough for its arrays to come from memory already held: fresh pages cost more than arithmetic

    def __init__(self, target: Target, reach_mm: float) -> None:
        carm = target.carm
        step_mm = carm.pixel_spacing_mm[0] / carm.magnification
        margin = int(np.ceil(reach_mm / step_mm))
        wide = carm.cropped(-margin, -margin, carm.rows + 2 * margin, carm.columns + 2 * margin)
        self.wide, self.margin, self.target = wide, margin, target
        self.correlation = Correlation(target.image, wide, self.batch)
        rows, columns = np.flatnonzero(target.valid.any(axis=1)), np.flatnonzero(target.valid.any(axis=0))
        self.box = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
        self.sums = np.zeros((self.batch, 2, wide.rows + 1, wide.columns + 1))

    def best_shifts(self, points: Points, cameras: np.ndarray, saturation_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Scores (B, PEAKS) and window shifts (B, PEAKS, 2) in px (column, row), of the strongest local maxima."""
        products, sums = self._products(points, cameras, saturation_mm)
        score = np.empty((len(cameras), PEAKS), dtype=np.float32)
        shift = np.empty((len(cameras), PEAKS, 2), dtype=np.int64)
        alignment_kernels.summits(
            products, sums, self.box, 2 * self.margin + 1, self.target.measure.norm_power, score, shift
        )
        return score, shift - self.margin

    def maps(self, points: Points, cameras: np.ndarray, saturation_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Scores (B, S, S) of all shifts, and how each moves the image (S, S, 2) in px (column, row)."""
        products, sums = self._products(points, cameras, saturation_mm)
        size = 2 * self.margin + 1
        score = np.full((len(cameras), 1), -np.inf, dtype=np.float32)
        alignment_kernels.summits(
            products,
            sums,
            self.box,
            size,
            self.target.measure.norm_power,
            score,
            np.empty((len(cameras), 1, 2), np.int64),
        )
        along = self.margin - np.arange(size)
        return products[:, :size, :size], np.stack(np.meshgrid(along, along), axis=-1)

    def _products(self, points: Points, cameras: np.ndarray, saturation_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Products (B, rows, columns) of target and images for each shift of the window, and the images' running sums."""
        n = len(cameras)
        sums = self.sums[:n]
        splat_oriented(points, cameras, self.target, self.wide, saturation_mm, self.correlation.images[:n], sums)
        return self.correlation.products(n), sums
