"""Pose of the skull in the mask frame: all rotations with all shifts by FFT, then Levenberg-Marquardt from coarse to fine.

What is compared is the gradient of the blurred shadow (gradient correlation: Penney et al. 1998, IEEE TMI 17:586), each
arrow shortened so that the strongest edges do not decide alone. Scatter, soft tissue and the heel effect are slow and
leave no gradient; polarity is known, so an arrow's sign counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numba
import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.skull import kernels
from DeepIterRegLib.registration.skull.points import about, skull_points
from DeepIterRegLib.registration.vessels import kernels as alignment_kernels
from DeepIterRegLib.registration.vessels.least_squares import (
    LEVER_MM,
    Equations,
    camera_matrices,
    maximise,
    move,
    twist_between,
)
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.search import (
    PEAKS,
    Correlation,
    SearchSettings,
    in_box,
    rotation_grid,
    turn_about_source,
)
from DeepIterRegLib.registration.vessels.targets import gaussian_taps, resize_area
from DeepIterRegLib.rendering.splat import pixel_intrinsics

# See `SkullMatch.clear`, and for the score `SkullAgreement.fits`. Of 149 views of development phantoms whose skulls differ between CTA
# and run, 141 were clear at the first look (none wrong, gradient correlation 0.39 to 0.70, best pose elsewhere 0.3 to 0.9 of it), and
# wrong ones had up to 0.33, or up to 0.42 with another pose as good. Reversed in depth (`pose.depth_reversed`) wrong ones have up to
# 0.51, 0.8 of the right one's.
_CLEAR_SCORE, _CLEAR_RUNNER_UP = 0.35, 0.9
_NEIGHBOUR_MM = 10.0
_STILL_MM = 0.02  # a smaller step ends the refinement
_DETAIL_PX = 3.0  # what is slower than this is taken out of the mask frame


@dataclass(frozen=True)
class SkullLevel:
    """One resolution: image rows, size of the skull's blocks, blur, steps, poses that stay afterwards."""

    rows: int
    spacing_mm: float
    sigma_px: float
    iterations: int
    keep: int


@dataclass(frozen=True)
class SkullSettings:
    """How the skull is found.

    Attributes
    ----------
    rotation_deg, translation_mm, rotation_step_deg, depth_step_mm
        The box and its grid, as in `SearchSettings`.
    rows, spacing_mm, sigma_px
        Grid, blocks and blur of the exhaustive pass.
    candidates
        Poses kept from it.
    levels
        Refinement from coarse to fine.
    knee
        An edge this many times as strong as the mean one counts half of its strength.
    """

    rotation_deg: float = 35.0
    translation_mm: float = 40.0
    rotation_step_deg: float = 10.0
    depth_step_mm: float = 40.0
    rows: int = 96
    spacing_mm: float = 4.0
    sigma_px: float = 1.0
    candidates: int = 64
    levels: tuple[SkullLevel, ...] = (
        SkullLevel(96, 4.0, 1.0, 8, 16),
        SkullLevel(128, 3.0, 1.0, 8, 4),
        SkullLevel(192, 1.8, 1.0, 8, 1),
    )
    knee: float = 5.0

    def finer(self) -> SkullSettings:
        """The same box with a finer grid and more poses kept, for where the first look finds no clear fit."""
        *several, last = self.levels
        return replace(
            self,
            rotation_step_deg=0.7 * self.rotation_step_deg,
            candidates=2 * self.candidates,
            levels=(*(replace(level, keep=3 * level.keep) for level in several), last),
        )


@dataclass(frozen=True)
class SkullTarget:
    """The mask frame at one resolution.

    Attributes
    ----------
    image : (2, rows, columns) float32
        Compressed gradient, across and down, of unit norm; zero where not valid.
    valid : (rows, columns) float32, 1 or 0
    carm
        View on this grid.
    taps
        Half of the Gaussian that the moving image is blurred with.
    """

    image: np.ndarray
    valid: np.ndarray
    carm: CArm
    taps: np.ndarray


@dataclass(frozen=True)
class SkullMatch:
    """Where the skull is.

    Attributes
    ----------
    poses : (K, 4, 4)
        Best first.
    score
        The best one's gradient correlation, -1 to 1.
    runner_up
        Score of the best pose elsewhere over that of the best, at the last level that saw several.
    scores
        The best score of each level.
    """

    poses: np.ndarray
    score: float
    runner_up: float
    scores: tuple[float, ...]

    @property
    def clear(self) -> bool:
        """Whether it fits so well, and so much better than elsewhere, that it says where the head is and no search is needed."""
        return self.score >= _CLEAR_SCORE and self.runner_up <= _CLEAR_RUNNER_UP


@dataclass(frozen=True)
class SkullAgreement:
    """What the skull says of a pose.

    Attributes
    ----------
    score
        Gradient correlation of skull and mask frame at the pose.
    best_score
        At bone's own optimum nearby.
    distance_mm
        MPE between the pose and that optimum, mm on the detector.
    """

    score: float
    best_score: float
    distance_mm: float

    @property
    def fits(self) -> bool:
        """Whether the skull alone is evidence for the pose."""
        return self.score >= _CLEAR_SCORE


@dataclass(frozen=True)
class Skull:
    """The CTA's bone and the runs in whose mask frames it may be seen."""

    cta: Volume
    angiograms: tuple[Angiogram, ...]
    settings: SkullSettings = SkullSettings()

    @cached_property
    def _points(self) -> Callable[[float], Points]:
        """Its points by the size of their blocks, about the CTA's centre; each made once."""
        return cache(lambda spacing_mm: about(skull_points(self.cta, spacing_mm), self.cta.centre_mm))

    @cached_property
    def _shown(self) -> dict[int, _Shown]:
        """The runs that have a mask frame, by their number from 1."""
        runs = enumerate(self.angiograms, 1)
        return {number: _Shown(run, self.settings.knee) for number, run in runs if run.unsubtracted is not None}

    def find(
        self,
        start: np.ndarray,
        should_stop: ShouldStop | None = None,
        on_progress: Callable[[bool, float], None] | None = None,
    ) -> SkullMatch:
        """Best poses of the skull in a box about `start` (4, 4), searched in each run that has a mask frame; best first.

        Where it is clear in no run, it is looked for again with a finer grid. `on_progress` is told whether this is the finer look,
        and how much of the look is done, from 0 to 1.

        Raises
        ------
        InputError
            No run has a mask frame, or the CTA no bone.
        Cancelled
        """
        found = self._look(start, self.settings, should_stop, partial(on_progress, False) if on_progress else None)
        if not found:
            mask_frame(self.angiograms[0])
        if not any(one.clear for one in found):
            told = partial(on_progress, True) if on_progress else None
            again = self._look(start, self.settings.finer(), should_stop, told)
            found = [max(pair, key=_clear_first) for pair in zip(found, again, strict=True)]
        found.sort(key=_clear_first, reverse=True)
        return replace(found[0], poses=np.concatenate([one.poses for one in found]))

    def scores(self, poses: np.ndarray) -> np.ndarray:
        """Mean over the runs with a mask frame of the gradient correlation (K,) at poses (K, 4, 4), wide enough for poses off by mm."""
        wide = self.settings.levels[0]
        terms = [self._equations(shown, wide)(poses)[0] for shown in self._shown.values()]
        mean: np.ndarray = np.mean(terms, axis=0)
        return mean

    def agreements(self, cta_to_carm: np.ndarray) -> dict[int, SkullAgreement]:
        """How far the skull agrees with a pose (4, 4), by the number of each run that has a mask frame: the skull is refined from there.

        Raises
        ------
        InputError
            The CTA has no bone.
        """
        last, found = self.settings.levels[-1], {}
        for number, shown in self._shown.items():
            at = cta_to_carm[None]
            carm = shown.target(last).carm
            equations = self._equations(shown, last)
            poses, best, _ = self._climb(equations, carm, at, 2 * last.iterations)
            score, _, _ = equations(at)
            distance = float(mpe_mm(shown.angiogram.carm, cta_to_carm, poses[0], self.cta.centre_mm))
            found[number] = SkullAgreement(float(score[0]), float(best[0]), distance)
        return found

    def equations(self, origin_mm: np.ndarray, carm: CArm) -> Equations | None:
        """Mean gradient correlation over the runs with a mask frame, by twists about `origin_mm` along the axes of `carm`.

        None where no run has one.

        Raises
        ------
        InputError
            The CTA has no bone.
        """
        last, terms = self.settings.levels[-1], []
        for shown in self._shown.values():
            target = shown.target(last)
            points = about(self._points(last.spacing_mm), origin_mm)
            terms.append((_equations(points, target, self.settings.knee), twist_between(carm, target.carm)))
        if not terms:
            return None

        def equations(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            score, gradient, matrix = np.zeros(len(poses)), np.zeros((len(poses), 6)), np.zeros((len(poses), 6, 6))
            for term, turn in terms:
                s, g, m = term(poses)
                score, gradient, matrix = score + s, gradient + g @ turn, matrix + turn.T @ m @ turn
            return score / len(terms), gradient / len(terms), matrix / len(terms)

        return equations

    def _equations(self, shown: _Shown, level: SkullLevel) -> Equations:
        return _equations(self._points(level.spacing_mm), shown.target(level), self.settings.knee)

    def _climb(
        self,
        equations: Equations,
        carm: CArm,
        poses: np.ndarray,
        iterations: int,
        should_stop: ShouldStop | None = None,
    ) -> tuple[np.ndarray, np.ndarray, list[float]]:
        points = self._points(self.settings.spacing_mm)  # only what they turn about matters
        return maximise(
            equations,
            lambda at, twists: move(at, twists, points, carm),
            poses,
            iterations=iterations,
            tolerance_mm=_STILL_MM,
            should_stop=should_stop,
        )

    def _look(
        self,
        start: np.ndarray,
        settings: SkullSettings,
        should_stop: ShouldStop | None,
        on_progress: Callable[[float], None] | None,
    ) -> list[SkullMatch]:
        """`find` once, in each run that has a mask frame."""
        matches: list[SkullMatch] = []

        def tell(done: float) -> None:
            if on_progress is not None:
                on_progress((len(matches) + done) / len(self._shown))

        for shown in self._shown.values():
            tell(0.0)
            matches.append(self._find(shown, start, settings, should_stop, tell))
            tell(0.0)
        return matches

    def _find(
        self,
        shown: _Shown,
        start: np.ndarray,
        settings: SkullSettings,
        should_stop: ShouldStop | None,
        on_progress: Callable[[float], None],
    ) -> SkullMatch:
        """`find` in one run, once."""
        centre = self.cta.centre_mm
        box = SearchSettings(
            rotation_deg=settings.rotation_deg,
            translation_mm=settings.translation_mm,
            rotation_step_deg=settings.rotation_step_deg,
            depth_step_mm=settings.depth_step_mm,
            candidates=settings.candidates,
        )
        coarse = SkullLevel(settings.rows, settings.spacing_mm, settings.sigma_px, 0, settings.candidates)
        points, target = self._points(coarse.spacing_mm), shown.target(coarse)
        poses, scores = _exhaustive(points, target, start, centre, box, settings.knee, should_stop)
        trace, runner_up = [float(scores[0])], 0.0
        for number, level in enumerate(settings.levels):
            on_progress((1 + number) / (1 + len(settings.levels)))  # the exhaustive pass takes about as long as a level
            target, equations, before = shown.target(level), self._equations(shown, level), poses
            poses, scores, _ = self._climb(equations, target.carm, before, level.iterations, should_stop)
            outside = ~in_box(poses, start, centre, box)
            if outside.any():  # uphill may lead far along the beam: back to where it began
                poses[outside] = before[outside]
                scores[outside] = equations(poses[outside])[0]
            kept = _distinct(poses, scores, target.carm, centre)
            if len(poses) > 1:  # the last level has one pose; how it stands out is known where others are still refined
                runner_up = float(scores[kept[1]] / scores[kept[0]]) if len(kept) > 1 else 0.0
            poses, scores = poses[kept[: level.keep]], scores[kept[: level.keep]]
            trace.append(float(scores[0]))
            if level is settings.levels[0]:  # a skull is nearly alike on both sides: what was found may be the reverse
                reverse = pose.depth_reversed(poses, centre, np.array(target.carm.source_mm))
                poses = np.concatenate([poses, reverse[in_box(reverse, start, centre, box)]])
        return SkullMatch(poses, trace[-1], runner_up, tuple(trace))


def _clear_first(found: SkullMatch) -> tuple[bool, float]:
    """Rank of a find: an unclear one does not outrank a clear one by its score."""
    return found.clear, found.score


class _Shown:
    """The mask frame of a run, on each grid that is asked for; each made once."""

    def __init__(self, angiogram: Angiogram, knee: float) -> None:
        self.angiogram = angiogram
        self._made = cache(
            lambda rows, sigma_px: make_bone_target(
                mask_frame(angiogram), angiogram.valid, angiogram.carm, rows, sigma_px, knee
            )
        )

    def target(self, level: SkullLevel) -> SkullTarget:
        return self._made(level.rows, level.sigma_px)


def _distinct(poses: np.ndarray, scores: np.ndarray, carm: CArm, centre_cta_mm: np.ndarray) -> list[int]:
    """Indices of the poses, best first, that are not another's neighbour: over 10 mm from it on the detector."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if not kept or mpe_mm(carm, poses[kept], poses[i], centre_cta_mm).min() > _NEIGHBOUR_MM:
            kept.append(int(i))
    return kept


def mask_frame(angiogram: Angiogram) -> np.ndarray:
    """The skull's shadow (row, column).

    Raises
    ------
    InputError
        The run came subtracted.
    """
    if angiogram.unsubtracted is None:
        raise InputError("The run has no unsubtracted mask frame (it came subtracted): the skull cannot be seen in it.")
    return angiogram.unsubtracted


def make_bone_target(
    shadow: np.ndarray, valid: np.ndarray, carm: CArm, rows: int, sigma_px: float, knee: float
) -> SkullTarget:
    """Target of a mask frame (r, c) on a grid of `rows` rows; shutters' edges are kept away from."""
    columns = max(2, round(rows * carm.columns * carm.pixel_spacing_mm[1] / (carm.rows * carm.pixel_spacing_mm[0])))
    seen = resize_area(valid.astype(np.float32), rows, columns)
    taps = gaussian_taps(sigma_px)
    full = np.concatenate([taps[:0:-1], taps])
    image = resize_area(np.where(valid, shadow, 0).astype(np.float32), rows, columns)
    blurred, weight = image, seen
    for axis in (0, 1):
        blurred = ndimage.convolve1d(blurred, full, axis, mode="constant")
        weight = ndimage.convolve1d(weight, full, axis, mode="constant")
    blurred = blurred / np.maximum(weight, 1e-6)
    inside = np.pad(seen > 0.99, 1)
    inside = ndimage.binary_erosion(inside, iterations=int(np.ceil(2 * sigma_px)) + 1)[1:-1, 1:-1]
    # The head is a lens of soft tissue: its slow slope is no bone.
    share = np.maximum(ndimage.gaussian_filter(inside.astype(np.float32), _DETAIL_PX), 1e-3)
    blurred = blurred - ndimage.gaussian_filter(np.where(inside, blurred, 0), _DETAIL_PX) / share
    down, across = np.gradient(blurred)
    mean = float(np.hypot(across, down)[inside].mean()) if inside.any() else 1.0
    length = np.hypot(across, down)
    gradient = np.stack([across, down]) / (1 + length / max(knee * mean, 1e-12)) * inside
    gradient /= max(float(np.linalg.norm(gradient)), 1e-12)
    return SkullTarget(
        np.ascontiguousarray(gradient, dtype=np.float32),
        np.ascontiguousarray(inside, dtype=np.float32),
        carm.resampled(rows, columns),
        taps,
    )


def _knee(points: Points, carm: CArm, taps: np.ndarray, knee: float) -> np.float32:
    """`knee` times the mean gradient of the skull's shadow, the skull upright at the isocentre."""
    cameras, _ = camera_matrices(pose.radiological(points.origin_mm)[None], points.origin_mm, carm)
    images = np.zeros((1, 2, carm.rows, carm.columns), np.float32)
    sums = np.zeros((1, 2, carm.rows + 1, carm.columns + 1))
    kernels.gradient_images(
        points.positions, points.weights, cameras, pixel_intrinsics(carm), taps, np.float32(1e9), images, sums
    )
    return np.float32(max(knee * float(np.hypot(images[0, 0], images[0, 1]).mean()), 1e-9))


def _equations(points: Points, target: SkullTarget, knee: float) -> Equations:
    """Gradient correlation of the skull with a mask frame, by the twist of `vessels.least_squares.move` with the target's C-arm."""
    carm = target.carm
    knee_mm = _knee(points, carm, target.taps, knee)

    def equations(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cameras, centres = camera_matrices(poses, points.origin_mm, carm)
        n_jobs = min(len(poses), numba.get_num_threads())
        work = np.empty((n_jobs, 2, carm.rows, carm.columns, alignment_kernels.WIDTH), dtype=np.float32)
        out = np.empty((len(poses), 8, 7))
        kernels.gradient_products(
            points.positions,
            points.weights,
            cameras,
            centres,
            np.float32(LEVER_MM),
            pixel_intrinsics(carm),
            target.image,
            target.valid,
            target.taps,
            knee_mm,
            work,
            out,
        )
        gram, cross = out[:, :7], out[:, 7]
        norm = np.sqrt(np.maximum(gram[:, 0, 0], 1e-20))
        score = cross[:, 0] / norm
        along = gram[:, 0, 1:] / norm[:, None]
        gradient = cross[:, 1:] / norm[:, None] - (score / norm)[:, None] * along
        fit = np.maximum(score, 0)[:, None, None]
        matrix = fit * (gram[:, 1:, 1:] - along[:, :, None] * along[:, None, :]) / norm[:, None, None] ** 2
        return score, gradient, matrix

    return equations


def _exhaustive(
    points: Points,
    target: SkullTarget,
    start: np.ndarray,
    centre_cta_mm: np.ndarray,
    box: SearchSettings,
    knee: float,
    should_stop: ShouldStop | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (K, 4, 4) and scores (K,), best first: all rotations and depths of the grid, the best shifts of each."""
    carm = target.carm
    margin = int(np.ceil(box.translation_mm * carm.magnification / carm.pixel_spacing_mm[0]))
    wide = carm.cropped(-margin, -margin, carm.rows + 2 * margin, carm.columns + 2 * margin)
    poses = rotation_grid(centre_cta_mm, start, carm, box)
    cameras, _ = camera_matrices(poses, points.origin_mm, carm)
    rows, columns = np.flatnonzero(target.valid.any(axis=1)), np.flatnonzero(target.valid.any(axis=0))
    if not len(rows):
        raise InputError("Too little of the mask frame is visible for the skull to be found in it.")
    window = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
    batch, intrinsics, knee_mm = (
        16,
        pixel_intrinsics(wide),
        _knee(points, carm, target.taps, knee),
    )
    correlation = Correlation(target.image, wide, batch)
    sums = np.zeros((batch, 2, wide.rows + 1, wide.columns + 1))
    score, shift = np.empty((len(poses), PEAKS), np.float32), np.empty((len(poses), PEAKS, 2), np.int64)
    for first in range(0, len(poses), batch):
        if should_stop is not None and should_stop():
            raise Cancelled("Registration was cancelled.")
        these = slice(first, first + batch)
        n = len(cameras[these])
        kernels.gradient_images(
            points.positions,
            points.weights,
            cameras[these],
            intrinsics,
            target.taps,
            knee_mm,
            correlation.images[:n],
            sums[:n],
        )
        alignment_kernels.summits(
            correlation.products(n), sums[:n], window, 2 * margin + 1, 1.0, score[these], shift[these]
        )
    best = np.argsort(-score.ravel(), kind="stable")[: box.candidates]
    offset_px = shift.reshape(-1, 2)[best] - margin
    offset_mm = -offset_px * np.array([carm.pixel_spacing_mm[1], carm.pixel_spacing_mm[0]])
    return turn_about_source(np.repeat(poses, PEAKS, axis=0)[best], offset_mm, carm), score.ravel()[best]
