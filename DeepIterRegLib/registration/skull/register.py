"""Pose of the skull in the mask frame: all rotations with all shifts by FFT, then Levenberg-Marquardt from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.skull.frames import SkullFinder, frame_motion
from DeepIterRegLib.registration.skull.gradient_correlation import exhaustive, gradient_equations
from DeepIterRegLib.registration.skull.movement import movement_equations
from DeepIterRegLib.registration.skull.points import about, skull_points
from DeepIterRegLib.registration.skull.residue import (
    make_movement_target,
    make_residue_targets,
    residue_equations,
    residue_exhaustive,
    residue_of,
)
from DeepIterRegLib.registration.skull.settings import SkullLevel, SkullSettings
from DeepIterRegLib.registration.skull.targets import make_skull_target, mask_frame
from DeepIterRegLib.registration.vessels.exhaustive import in_box
from DeepIterRegLib.registration.vessels.least_squares import Equations, maximise, move
from DeepIterRegLib.registration.vessels.points import Points

# See `SkullMatch.clear`, and for the score `SkullAgreement.fits`. Of 149 views of development phantoms whose skulls differ between CTA
# and run, 141 were clear at the first look (none wrong, gradient correlation 0.39 to 0.70, best pose elsewhere 0.3 to 0.9 of it), and
# wrong ones had up to 0.33, or up to 0.42 with another pose as good. Reversed in depth (`pose.depth_reversed`) wrong ones have up to
# 0.51, 0.8 of the right one's.
CLEAR_SCORE, CLEAR_RUNNER_UP = 0.35, 0.9
# By the residue of moved bone, of 36 development views: right ones have 0.13 to 0.41, the best pose elsewhere 0.45 to 0.99 of it; the
# four wrong ones up to 0.2, six strangers' up to 0.25, the best pose elsewhere at least 0.88 of it; noise has 0.03 to 0.05.
RESIDUE_CLEAR_SCORE, RESIDUE_CLEAR_RUNNER_UP = 0.18, 0.8
_RESIDUE_SEEN = 0.08
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
    by_residue
        Of bone that moved, in a run that came subtracted, and not in its mask frame.
    """

    poses: np.ndarray
    score: float
    runner_up: float
    scores: tuple[float, ...]
    by_residue: bool = False

    @property
    def clear(self) -> bool:
        """Whether it fits so well, and so much better than elsewhere, that it says where the head is and no search is needed."""
        if self.by_residue:
            return self.score >= RESIDUE_CLEAR_SCORE and self.runner_up <= RESIDUE_CLEAR_RUNNER_UP
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
class ResidueShares:
    """How much of what moved bone left in a run the skull explains, each 0 to 1.

    Attributes
    ----------
    one_way
        At the pose, if all of it moved in one direction of the image.
    one_way_elsewhere : (K,)
        The same at other poses.
    by_movement
        At the pose, by its six movements.
    """

    one_way: float
    one_way_elsewhere: np.ndarray
    by_movement: float


@dataclass(frozen=True)
class Skull:
    """The CTA's bone and the runs in whose mask frames it may be seen.

    Where none has one, what is left of bone that moved shows it too, if `vessels`, (row, column) bool of each run, tell where else
    to look.
    """

    cta: Volume
    angiograms: tuple[Angiogram, ...]
    settings: SkullSettings = field(default_factory=SkullSettings)
    vessels: tuple[np.ndarray, ...] = ()

    @cached_property
    def _points(self) -> Callable[[float], Points]:
        """Its points by the size of their blocks, about the CTA's centre; each made once."""
        cta = self.cta  # and not `self`, whose scene would stay as long as it is not looked through as garbage
        return cache(lambda spacing_mm: about(skull_points(cta, spacing_mm), cta.centre_mm))

    @cached_property
    def _mask_frames(self) -> dict[int, _Picture]:
        """Of the runs that have one, by their number from 1."""
        runs = enumerate(self.angiograms, 1)
        return {number: _in_mask_frame(run, self.settings.knee) for number, run in runs if run.unsubtracted is not None}

    @cached_property
    def _pictures(self) -> Mapping[int, _Picture]:
        """Where it is looked for, by the number of the run: mask frames, else the residue of moved bone."""
        if self._mask_frames:
            return self._mask_frames
        runs = enumerate(zip(self.angiograms, self.vessels, strict=False), 1)
        moved = {number: _moved_bone(run, vessels, self.settings.knee) for number, (run, vessels) in runs}
        return {number: bone for number, bone in moved.items() if bone.seen_at(self.settings.coarse)}

    @property
    def _how(self) -> SkullSettings:
        return self.settings if self._mask_frames else self.settings.in_residue()

    @property
    def in_mask_frame(self) -> bool:
        """Whether a run has a mask frame."""
        return bool(self._mask_frames)

    def in_runs(self, angiograms: Sequence[Angiogram], vessels: Sequence[np.ndarray] = ()) -> Skull:
        """The same bone, with its points as far as they are made, in other runs."""
        other = replace(self, angiograms=tuple(angiograms), vessels=tuple(vessels))
        other.__dict__["_points"] = self._points  # where a cached property keeps what it has made
        return other

    def begin(self, beside: Beside, *, to_find: bool) -> None:
        """Have its points made beside other work: all that finding it takes, or those alone by which a pose is judged."""
        if self._mask_frames or (to_find and self._pictures):
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
        *,
        residue: bool = False,
    ) -> SkullMatch:
        """Best poses of the skull in a box about `start` (4, 4), searched in each run that has a mask frame; best first.

        Where it is clear in no run, it is looked for again with a finer grid. `on_progress` is told whether this is the finer look,
        and how much of the look is done, from 0 to 1. Where no run has a mask frame, the `residue` of moved bone is looked at, if wanted.

        Raises
        ------
        InputError
            No run shows bone, or the CTA has none.
        Cancelled
        """
        found = []
        if self._mask_frames or residue:
            found = self._look(start, self._how, should_stop, partial(on_progress, False) if on_progress else None)
        if not found:
            mask_frame(self.angiograms[0])
        if not self._mask_frames and max(one.score for one in found) < _RESIDUE_SEEN:
            raise InputError("No bone moved in the run, which came subtracted: the skull cannot be seen in it.")
        if self._mask_frames and not any(one.clear for one in found):
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
        """Mean over the runs that show it of the gradient correlation (K,) at poses (K, 4, 4), wide enough for poses off by mm."""
        wide = self.settings.levels[0]
        terms = [self._equations(picture, wide)(poses)[0] for picture in self._pictures.values()]
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
            carm = frame.carm(last)
            equations = self._equations(frame, last)
            # Twice the level's steps: it starts from where vessels ended, not from where a coarser level did.
            uphill, best, _ = self._refine(equations, carm, at, 2 * last.iterations)
            score, _, _ = equations(at)
            distance = float(mpe_mm(frame.angiogram.carm, at[0], uphill[0], self.cta.centre_mm))
            found[number] = SkullAgreement(float(score[0]), float(best[0]), distance)
        return found

    def terms(self, origin_mm: np.ndarray, *, coarse: bool = False) -> dict[int, tuple[Equations, CArm]]:
        """How well it fits each run that shows it, by its number: by twists about `origin_mm` (3,) along the C-arm's axes.

        In mask frames gradient correlation, else what its movements explain of the residue; at the last level, or the first (`coarse`).

        Raises
        ------
        InputError
            The CTA has no bone.
        """
        level, terms = replace(self._how.levels[0 if coarse else -1], by_movement=not self._mask_frames), {}
        for number, picture in self._pictures.items():
            points = about(self._points(level.spacing_mm), origin_mm)
            terms[number] = (picture.equations(points, level), picture.carm(level))
        return terms

    def residue_shares(self, cta_to_carm: np.ndarray, elsewhere: np.ndarray) -> dict[int, ResidueShares]:
        """What it explains at a pose (4, 4) and at others (K, 4, 4), by the number of each run that shows it; none where mask frames do.

        Raises
        ------
        InputError
            The CTA has no bone.
        """
        if self._mask_frames:
            return {}
        last, at, shares = self._how.levels[-1], cta_to_carm[None], {}
        for number, run in self._pictures.items():
            one_way = self._equations(run, replace(last, by_movement=False))(np.concatenate([at, elsewhere]))[0]
            by_movement = self._equations(run, replace(last, by_movement=True))(at)[0]
            shares[number] = ResidueShares(float(one_way[0]), one_way[1:], float(by_movement[0]))
        return shares

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

    def _equations(self, picture: _Picture, level: SkullLevel) -> Equations:
        return picture.equations(self._points(level.spacing_mm), level)

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
        """`find` once, in each run that shows it."""
        matches: list[SkullMatch] = []

        def tell(done: float) -> None:
            if on_progress is not None:
                on_progress((len(matches) + done) / len(self._pictures))

        for picture in self._pictures.values():
            tell(0.0)
            matches.append(self._find(picture, start, settings, should_stop, tell))
            tell(0.0)
        return matches

    def _find(
        self,
        picture: _Picture,
        start: np.ndarray,
        settings: SkullSettings,
        should_stop: ShouldStop | None,
        on_progress: Callable[[float], None],
    ) -> SkullMatch:
        """`find` in one run, once."""
        points = self._points(settings.coarse.spacing_mm)
        poses, scores = picture.candidates(points, start, self.cta.centre_mm, settings, should_stop)
        found = self._through_levels(picture, poses, start, settings, should_stop, on_progress)
        return replace(found, scores=(float(scores[0]), *found.scores))

    def _through_levels(
        self,
        picture: _Picture,
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
            carm, equations, before = picture.carm(level), self._equations(picture, level), poses
            poses, scores, _ = self._refine(equations, carm, before, level.iterations, should_stop)
            outside = ~in_box(poses, middle, centre, settings)
            if outside.any():  # the gradient may lead far along the beam: back to where it began
                poses[outside] = before[outside]
                scores[outside] = equations(poses[outside])[0]
            distinct = _distinct(poses, scores, carm, centre)
            if len(poses) > 1:  # the last level has one pose; how it stands out is known where others are still refined
                runner_up = float(scores[distinct[1]] / scores[distinct[0]]) if len(distinct) > 1 else 0.0
            poses, scores = poses[distinct[: level.keep]], scores[distinct[: level.keep]]
            trace.append(float(scores[0]))
            if level is settings.levels[0]:  # a skull is nearly alike on both sides: what was found may be the reverse
                reverse = pose.depth_reversed(poses, centre, np.array(carm.source_mm))
                poses = np.concatenate([poses, reverse[in_box(reverse, middle, centre, settings)]])
        return SkullMatch(poses, trace[-1], runner_up, tuple(trace), by_residue=not self._mask_frames)


def _clear_first(found: SkullMatch) -> tuple[bool, float]:
    """Rank of a match: an unclear one does not outrank a clear one by its score."""
    return found.clear, found.score


@dataclass(frozen=True)
class _Seen:
    """A picture of the skull on one grid: the view, what compares it, and what looks for it everywhere."""

    carm: CArm
    equations: Callable[[Points], Equations]
    candidates: Callable[..., tuple[np.ndarray, np.ndarray]]


class _Picture:
    """What a run shows of the skull, on each grid that is asked for; each made once."""

    def __init__(self, angiogram: Angiogram, seen: Callable[[SkullLevel], _Seen]) -> None:
        self.angiogram = angiogram
        made = cache(lambda rows, sigma_px, by_movement: seen(SkullLevel(rows, 0.0, sigma_px, 0, 0, by_movement)))
        self._at = lambda level: made(level.rows, level.sigma_px, level.by_movement)

    def seen_at(self, level: SkullLevel) -> bool:
        """Whether anything is seen that bone may have made."""
        try:
            return bool(self._at(level))
        except InputError:
            return False

    def carm(self, level: SkullLevel) -> CArm:
        """The run's, on the level's grid."""
        return self._at(level).carm

    def equations(self, points: Points, level: SkullLevel) -> Equations:
        """How well the skull fits, by twists along the axes of `carm`."""
        return self._at(level).equations(points)

    def candidates(
        self,
        points: Points,
        start: np.ndarray,
        centre_cta_mm: np.ndarray,
        settings: SkullSettings,
        should_stop: ShouldStop | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Poses (K, 4, 4) and scores (K,), best first, of the exhaustive pass about `start` (4, 4)."""
        return self._at(settings.coarse).candidates(points, start, centre_cta_mm, settings, should_stop)


def _in_mask_frame(run: Angiogram, knee: float) -> _Picture:
    """The mask frame of a run."""

    def seen(level: SkullLevel) -> _Seen:
        target = make_skull_target(mask_frame(run), run.valid, run.carm, level.rows, level.sigma_px, knee)
        return _Seen(
            target.carm,
            lambda points: gradient_equations(points, target, knee),
            lambda points, *more: exhaustive(points, target, *more),
        )

    return _Picture(run, seen)


def _moved_bone(run: Angiogram, vessels: np.ndarray, knee: float) -> _Picture:
    """What a run that came subtracted shows of bone that moved, off its vessels (row, column) bool."""
    shown = cache(lambda: residue_of(run, vessels))

    def seen(level: SkullLevel) -> _Seen:
        targets = make_residue_targets(shown(), level.rows, level.sigma_px, knee)
        moved = make_movement_target(shown(), level.rows, level.sigma_px, knee) if level.by_movement else None
        return _Seen(
            targets[0].carm,
            lambda points: movement_equations(points, moved) if moved else residue_equations(points, targets, knee),
            lambda points, *more: residue_exhaustive(points, targets, *more),
        )

    return _Picture(run, seen)


def _distinct(poses: np.ndarray, scores: np.ndarray, carm: CArm, centre_cta_mm: np.ndarray) -> list[int]:
    """Indices of the poses, best first, that are not another's neighbour: over `_NEIGHBOUR_MM` from it on the detector."""
    distinct: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if not distinct or mpe_mm(carm, poses[distinct], poses[i], centre_cta_mm).min() > _NEIGHBOUR_MM:
            distinct.append(int(i))
    return distinct
