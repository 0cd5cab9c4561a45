"""Pose of the skull in the mask frame: all rotations with all shifts by FFT, then Levenberg-Marquardt from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial

import numpy as np

from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.skull.frames import SkullFinder, frame_motion
from DeepIterRegLib.registration.skull.gradient_correlation import exhaustive, gradient_equations
from DeepIterRegLib.registration.skull.points import about, skull_points
from DeepIterRegLib.registration.skull.settings import SkullLevel, SkullSettings
from DeepIterRegLib.registration.skull.targets import SkullTarget, make_skull_target, mask_frame
from DeepIterRegLib.registration.vessels.exhaustive import in_box
from DeepIterRegLib.registration.vessels.least_squares import Equations, maximise, move
from DeepIterRegLib.registration.vessels.points import Points

# See `SkullMatch.clear`, and for the score `SkullAgreement.fits`. Of 149 views of development phantoms whose skulls differ between CTA
# and run, 141 were clear at the first look (none wrong, gradient correlation 0.39 to 0.70, best pose elsewhere 0.3 to 0.9 of it), and
# wrong ones had up to 0.33, or up to 0.42 with another pose as good. Reversed in depth (`pose.depth_reversed`) wrong ones have up to
# 0.51, 0.8 of the right one's.
CLEAR_SCORE, CLEAR_RUNNER_UP = 0.35, 0.9
# Poses nearer to each other on the detector are one optimum: three sigma of the first level's blur on a 300 mm detector.
_NEIGHBOUR_MM = 10.0
_STILL_MM = 0.02  # a smaller step ends the refinement: far below the errors that are left, 0.6 mm and more


@dataclass(frozen=True)
class SkullMatch:
    """Where the skull is.

    Attributes
    ----------
    poses : (K, 4, 4)
        ``cta_to_carm``, best first.
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
        return self.score >= CLEAR_SCORE and self.runner_up <= CLEAR_RUNNER_UP


@dataclass(frozen=True)
class SkullAgreement:
    """What the skull says of a pose.

    Attributes
    ----------
    score
        Gradient correlation of skull and mask frame at the pose.
    best_score
        At the skull's optimum nearby.
    distance_mm
        MPE between the pose and that optimum, mm on the detector.
    """

    score: float
    best_score: float
    distance_mm: float

    @property
    def fits(self) -> bool:
        """Whether the skull alone is evidence for the pose."""
        return self.score >= CLEAR_SCORE


@dataclass(frozen=True)
class Skull:
    """The CTA's bone and the runs in whose mask frames it may be seen."""

    cta: Volume
    angiograms: tuple[Angiogram, ...]
    settings: SkullSettings = field(default_factory=SkullSettings)

    @cached_property
    def _points(self) -> Callable[[float], Points]:
        """Its points by the size of their blocks, about the CTA's centre; each made once."""
        return cache(lambda spacing_mm: about(skull_points(self.cta, spacing_mm), self.cta.centre_mm))

    @cached_property
    def _mask_frames(self) -> dict[int, _MaskFrame]:
        """Of the runs that have one, by their number from 1."""
        runs = enumerate(self.angiograms, 1)
        return {number: _MaskFrame(run, self.settings.knee) for number, run in runs if run.unsubtracted is not None}

    def in_runs(self, angiograms: Sequence[Angiogram]) -> Skull:
        """The same bone, with its points as far as they are made, in other runs."""
        other = replace(self, angiograms=tuple(angiograms))
        other.__dict__["_points"] = self._points  # where a cached property keeps what it has made
        return other

    def begin(self, beside: Beside, *, to_find: bool) -> None:
        """Have its points made beside other work: all that finding it takes, or those alone by which a pose is judged."""
        if self._mask_frames:
            self.make_points(beside, to_find=to_find)

    def make_points(self, beside: Beside, *, to_find: bool = True) -> None:
        """`begin`, whether or not a run shows it."""
        levels = self.settings.levels if to_find else self.settings.levels[-1:]
        spacings_mm = {level.spacing_mm for level in levels} | ({self.settings.spacing_mm} if to_find else set())
        for spacing_mm in sorted(spacings_mm, reverse=True):
            beside.start(partial(self._points, spacing_mm))

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

    def near(self, poses: np.ndarray, should_stop: ShouldStop | None = None) -> SkullMatch:
        """`find` without its look at the whole box: the levels alone, from poses (K, 4, 4) that should be near.

        Raises
        ------
        InputError
            No run has a mask frame, or the CTA no bone.
        Cancelled
        """
        frames = self._mask_frames.values()
        if not frames:
            mask_frame(self.angiograms[0])
        found = [self._through_levels(frame, poses, poses[0], self.settings, should_stop) for frame in frames]
        found.sort(key=_clear_first, reverse=True)
        return replace(found[0], poses=np.concatenate([one.poses for one in found]))

    def scores(self, poses: np.ndarray) -> np.ndarray:
        """Mean over the runs with a mask frame of the gradient correlation (K,) at poses (K, 4, 4), wide enough for poses off by mm."""
        wide = self.settings.levels[0]
        terms = [self._equations(frame, wide)(poses)[0] for frame in self._mask_frames.values()]
        mean: np.ndarray = np.mean(terms, axis=0)
        return mean

    def agreements(self, poses: np.ndarray) -> dict[int, SkullAgreement]:
        """How far the skull agrees with the pose (4, 4), or each run's own (V, 4, 4), by the number of each that has a mask frame.

        The skull is refined from there.

        Raises
        ------
        InputError
            The CTA has no bone.
        """
        last, found = self.settings.levels[-1], {}
        of_runs = np.broadcast_to(poses, (len(self.angiograms), 4, 4))
        for number, frame in self._mask_frames.items():
            at = of_runs[number - 1][None]
            carm = frame.target(last).carm
            equations = self._equations(frame, last)
            # Twice the level's steps: it starts from where vessels ended, not from where a coarser level did.
            uphill, best, _ = self._refine(equations, carm, at, 2 * last.iterations)
            score, _, _ = equations(at)
            distance = float(mpe_mm(frame.angiogram.carm, at[0], uphill[0], self.cta.centre_mm))
            found[number] = SkullAgreement(float(score[0]), float(best[0]), distance)
        return found

    def terms(self, origin_mm: np.ndarray) -> dict[int, tuple[Equations, CArm]]:
        """The gradient correlation of each run with a mask frame, by its number: by twists about `origin_mm` (3,) along the C-arm's axes.

        Raises
        ------
        InputError
            The CTA has no bone.
        """
        last, terms = self.settings.levels[-1], {}
        for number, frame in self._mask_frames.items():
            target = frame.target(last)
            points = about(self._points(last.spacing_mm), origin_mm)
            terms[number] = (gradient_equations(points, target, self.settings.knee), target.carm)
        return terms

    def frame_motion(
        self,
        number: int,
        carm: CArm,
        cta_to_carm: np.ndarray,
        vessels: Points,
        should_stop: ShouldStop | None = None,
    ) -> FrameMotion | None:
        """Where the head lay in each frame of a run (from 1), see `frames.frame_motion`; None where the skull is not clear in it.

        Raises
        ------
        Cancelled
        """
        if number not in self._mask_frames:
            return None
        last = self.settings.levels[-1]
        finder = SkullFinder(self._points(last.spacing_mm), last, self.settings.knee, CLEAR_SCORE, should_stop)
        return frame_motion(self.angiograms[number - 1], carm, cta_to_carm, finder, vessels)

    def _equations(self, frame: _MaskFrame, level: SkullLevel) -> Equations:
        return gradient_equations(self._points(level.spacing_mm), frame.target(level), self.settings.knee)

    def _refine(
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
                on_progress((len(matches) + done) / len(self._mask_frames))

        for frame in self._mask_frames.values():
            tell(0.0)
            matches.append(self._find(frame, start, settings, should_stop, tell))
            tell(0.0)
        return matches

    def _find(
        self,
        frame: _MaskFrame,
        start: np.ndarray,
        settings: SkullSettings,
        should_stop: ShouldStop | None,
        on_progress: Callable[[float], None],
    ) -> SkullMatch:
        """`find` in one run, once."""
        centre, coarse = self.cta.centre_mm, settings.coarse
        points, target = self._points(coarse.spacing_mm), frame.target(coarse)
        poses, scores = exhaustive(points, target, start, centre, settings, should_stop)
        found = self._through_levels(frame, poses, start, settings, should_stop, on_progress)
        return replace(found, scores=(float(scores[0]), *found.scores))

    def _through_levels(
        self,
        frame: _MaskFrame,
        poses: np.ndarray,
        middle: np.ndarray,
        settings: SkullSettings,
        should_stop: ShouldStop | None,
        on_progress: Callable[[float], None] | None = None,
    ) -> SkullMatch:
        """Poses (K, 4, 4) refined in one run from level to level, in the box about `middle` (4, 4)."""
        tell = on_progress or (lambda done: None)
        centre, trace, runner_up = self.cta.centre_mm, list[float](), 0.0
        for number, level in enumerate(settings.levels):
            tell((1 + number) / (1 + len(settings.levels)))  # the exhaustive pass takes about as long as a level
            target, equations, before = frame.target(level), self._equations(frame, level), poses
            poses, scores, _ = self._refine(equations, target.carm, before, level.iterations, should_stop)
            outside = ~in_box(poses, middle, centre, settings)
            if outside.any():  # the gradient may lead far along the beam: back to where it began
                poses[outside] = before[outside]
                scores[outside] = equations(poses[outside])[0]
            distinct = _distinct(poses, scores, target.carm, centre)
            if len(poses) > 1:  # the last level has one pose; how it stands out is known where others are still refined
                runner_up = float(scores[distinct[1]] / scores[distinct[0]]) if len(distinct) > 1 else 0.0
            poses, scores = poses[distinct[: level.keep]], scores[distinct[: level.keep]]
            trace.append(float(scores[0]))
            if level is settings.levels[0]:  # a skull is nearly alike on both sides: what was found may be the reverse
                reverse = pose.depth_reversed(poses, centre, np.array(target.carm.source_mm))
                poses = np.concatenate([poses, reverse[in_box(reverse, middle, centre, settings)]])
        return SkullMatch(poses, trace[-1], runner_up, tuple(trace))


def _clear_first(found: SkullMatch) -> tuple[bool, float]:
    """Rank of a match: an unclear one does not outrank a clear one by its score."""
    return found.clear, found.score


class _MaskFrame:
    """The mask frame of a run, on each grid that is asked for; each made once."""

    def __init__(self, angiogram: Angiogram, knee: float) -> None:
        self.angiogram = angiogram
        self._made = cache(
            lambda rows, sigma_px: make_skull_target(
                mask_frame(angiogram), angiogram.valid, angiogram.carm, rows, sigma_px, knee
            )
        )

    def target(self, level: SkullLevel) -> SkullTarget:
        return self._made(level.rows, level.sigma_px)


def _distinct(poses: np.ndarray, scores: np.ndarray, carm: CArm, centre_cta_mm: np.ndarray) -> list[int]:
    """Indices of the poses, best first, that are not another's neighbour: over `_NEIGHBOUR_MM` from it on the detector."""
    distinct: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if not distinct or mpe_mm(carm, poses[distinct], poses[i], centre_cta_mm).min() > _NEIGHBOUR_MM:
            distinct.append(int(i))
    return distinct
