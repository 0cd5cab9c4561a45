"""Global search over poses: every rotation of a grid with every shift of the image, then second-order refinement.

(Resources/Docs/method.md, section 7.)

A shift of the head across the beam is, up to a homography, a shift of its image, so for each rotation all
shifts are scored at once by FFT: what is sampled is three dimensions instead of six. The best candidates
raise the same score at rising resolution while their number falls. Samples in six dimensions, as many as take the same time,
lie too far apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from DeepIterRegLib.geometry import CArm, cube_corners, pose
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.vessels.alignment import levenberg_marquardt
from DeepIterRegLib.registration.vessels.exhaustive import SearchBox, ShiftCorrelator, exhaustive_pass, in_box
from DeepIterRegLib.registration.vessels.least_squares import camera_matrices
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import FIND, SATURATION_MM, Measure, Target, View, make_targets

# How far another view's peak may lie from the line on which the head moves along the beam of the view that proposed a pose:
# runs are taken one after the other, and heads move.
_BESIDE_MM = 8.0
# A pose is moved along another view's beam by at most so much of the grid's spacing: half of it, and half as much again.
_DEPTH_REACH = 0.75
_DISTINCT_PX = 0.5  # poses nearer to each other on every detector are one: they were refined to the same optimum
_PASS_SHARE = 0.4  # of a search's time that the exhaustive pass takes


@dataclass(frozen=True)
class Level:
    """One resolution of a refinement.

    Attributes
    ----------
    rows
        Of the working grid.
    points
        Drawn of the CTA's vessels: about as many as give each pixel of a vessel several.
    sigma_px
        Blur of both images, px of the grid. Less blur finds more: at 64 rows 0.8 px found 7 of 10, 1.5 px 3 of 10.
    iterations
        Second-order steps.
    keep
        Poses that go on.
    measure
        What is raised.
    """

    rows: int
    points: int
    sigma_px: float
    iterations: int
    keep: int
    measure: Measure = FIND


@dataclass(frozen=True)
class SearchSettings(SearchBox):
    """Global search.

    Attributes
    ----------
    rows, points, sigma_px
        Grid, points and blur of the exhaustive pass.
    candidates
        Poses kept from the exhaustive pass.
    levels
        Refinement from coarse to fine. Its last keeps eight: of 18 hard patients the settings' last levels, which see ZNCC at
        full detail, chose right for 16 of eight each, for 14 of one each.
    saturation_mm
        See `alignment.normal_equations`.
    """

    # At 64 rows wrong poses outscore the truth; 128 rows have the ranks of 96 and take three times as long.
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
    settings
    seed
        Of the points that are drawn; the same seed gives the same bits.
    on_progress
        Told the share done and the best score.
    should_stop
        Asked often; True ends the work.

    Raises
    ------
    Cancelled
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
        on_progress=None if on_progress is None else lambda done, score: on_progress(_PASS_SHARE * done, score),
        should_stop=should_stop,
    )
    found = refine_poses(
        poses,
        points,
        views,
        settings.levels,
        settings.saturation_mm,
        seed=seed,
        allowed=lambda poses: in_box(poses, start, centre_cta_mm, settings),
        on_progress=None
        if on_progress is None
        else lambda done, score: on_progress(_PASS_SHARE + (1 - _PASS_SHARE) * done, score),
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
    # One generator through all levels: each draws other points, and one seed gives the same bits.
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
        best = _distinct(poses, scores, [target.carm for target in targets], points.origin_mm, level.keep)
        poses, scores = poses[best], scores[best]
        trace.append(float(scores[0]))
        if on_progress is not None:
            on_progress((n + 1) / len(levels), trace[-1])
    return PoseCandidates(poses, trace[-1], tuple(trace))


def _distinct(
    poses: np.ndarray, scores: np.ndarray, carms: Sequence[CArm], centre_mm: np.ndarray, keep: int
) -> list[int]:
    """Indices of the best poses, at most `keep`, best first, that differ from each other by over half a pixel on a detector."""
    corners = [carm.project(cube_corners(centre_mm), poses) for carm in carms]
    best: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if best:
            distances = [np.linalg.norm(c[best] - c[i], axis=-1).mean(axis=-1) for c in corners]
            if np.nanmin(np.max(distances, axis=0)) < _DISTINCT_PX:
                continue
        best.append(int(i))
        if len(best) == keep:
            break
    return best


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
    as good as both views say, each relative to its best. Arguments as in `search`, a target of the settings' rows for each
    view.
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
    correlate = _correlator(points, target, settings)
    cameras, _ = camera_matrices(poses, points.origin_mm, carm)
    centres = pose.transform(poses, centre_cta_mm[None])[:, 0]
    px_per_mm = carm.project(centres + beam) - carm.project(centres)
    reach_mm = _DEPTH_REACH * settings.depth_step_mm
    beside_px = _BESIDE_MM * carm.magnification / carm.pixel_spacing_mm[0]
    placed, scores = poses.copy(), np.empty(len(poses))
    for first in range(0, len(poses), correlate.batch):
        batch = slice(first, first + correlate.batch)
        maps, moved_px = correlate.maps(cameras[batch])
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
    """Poses (K, 4, 4) and their scores (K,), best first: all rotations and depths of the grid, the best shifts of each.

    Arguments as in `search`; the target should be of the settings' rows.
    """
    correlate = _correlator(points, target, settings)
    return exhaustive_pass(
        correlate,
        points.origin_mm,
        start,
        centre_cta_mm,
        settings,
        settings.candidates,
        on_progress=on_progress,
        should_stop=should_stop,
    )


def _correlator(points: Points, target: Target, settings: SearchSettings) -> ShiftCorrelator:
    """Of a target with the vessels, drawn as it was made."""
    measure = target.measure
    drawing = compute.VesselDrawing(points, target.taps, settings.saturation_mm, measure.direction_scale)
    reach_mm = settings.translation_mm
    return ShiftCorrelator(target.image, target.valid, target.carm, reach_mm, measure.norm_power, drawing)
