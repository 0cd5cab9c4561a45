"""The skull in each frame of a run: where the head lay in it (Resources/Docs/method.md, section 16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from DeepIterRegLib.common.threads import at_once
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.angiogram import Angiogram, PatientMotion
from DeepIterRegLib.images.resampling import displacements
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.skull.gradient_correlation import gradient_equations
from DeepIterRegLib.registration.skull.settings import SkullLevel
from DeepIterRegLib.registration.skull.targets import make_skull_target
from DeepIterRegLib.registration.vessels.least_squares import maximise, move
from DeepIterRegLib.registration.vessels.points import Points

_SAME_MM = 0.2  # frames whose pictures lie closer together, at the isocentre, show one position of the head
_MOST_POSITIONS = 12  # a head that drifts all the time would have one a frame, and each takes time
_PLACES = 16  # along each side, at which displacements are compared
_ITERATIONS, _STILL_MM = 8, 0.02
# The skull's motion, on average over the bone, may differ from that of the picture by so much, at the isocentre: else the skull was
# lost, and the picture's is taken. On development phantoms it differs by up to 1 mm, as bones at different depths move differently.
_DOUBT_MM = 3.0


def positions_of(motion: PatientMotion, carm: CArm) -> np.ndarray:
    """Which position (t,) of the head each frame shows, from 0: it goes on as long as the picture stays where it was."""
    rows, columns = (np.linspace(0, n - 1, _PLACES) for n in (carm.rows, carm.columns))
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    at = np.array([displacements(field, places, (carm.rows, carm.columns)) for field in motion.fields])
    same_px = _SAME_MM * carm.magnification / max(carm.pixel_spacing_mm)
    while True:
        of_frame, first = np.zeros(len(at), dtype=np.int64), 0
        for t in range(1, len(at)):
            apart = np.linalg.norm(at[t] - at[first], axis=1).mean()
            of_frame[t] = of_frame[t - 1]
            if apart > same_px:
                of_frame[t], first = of_frame[t - 1] + 1, t
        if of_frame[-1] < _MOST_POSITIONS:
            return of_frame
        same_px *= 2


@dataclass(frozen=True)
class SkullFinder:
    """How the skull is found near a pose: its points for a level, and from which score on it is seen at all."""

    bone: Points
    level: SkullLevel
    knee: float
    clear_score: float
    should_stop: Callable[[], bool] | None = None

    def near(self, shadow: np.ndarray, valid: np.ndarray, carm: CArm, start: np.ndarray) -> tuple[np.ndarray, float]:
        """Pose (4, 4) and score in a shadow (row, column), bone bright, from a pose (4, 4).

        Raises
        ------
        Cancelled
        """
        target = make_skull_target(shadow, valid, carm, self.level.rows, self.level.sigma_px, self.knee)
        best, scores, _ = maximise(
            gradient_equations(self.bone, target, self.knee),
            lambda at, twists: move(at, twists, self.bone, target.carm),
            start[None],
            iterations=_ITERATIONS,
            tolerance_mm=_STILL_MM,
            should_stop=self.should_stop,
        )
        return best[0], float(scores[0])


def frame_motion(
    run: Angiogram, carm: CArm, cta_to_carm: np.ndarray, finder: SkullFinder, vessels: Points
) -> FrameMotion | None:
    """Where the head lay in each frame, against the pose (4, 4) of the mask; None where the run came subtracted or its skull is not clear.

    The skull is found in the mask and at each position by the same steps, and what it errs by in both is not in the motion between them.

    Parameters
    ----------
    run, carm
        The C-arm with what was corrected in it.
    cta_to_carm
    finder
    vessels
        That the run shows: over them the head's picture is averaged.

    Raises
    ------
    Cancelled
    """
    if run.motion is None or run.unsubtracted is None or not len(vessels.positions):
        return None
    of_frame = positions_of(run.motion, carm)
    count = int(of_frame[-1]) + 1
    fields = np.array([run.motion.fields[of_frame == p].mean(axis=0) for p in range(count)])
    starts = np.array([_shifted(cta_to_carm, field, carm, finder.bone.origin_mm) for field in fields])
    if count == 1 and not fields.any():
        return FrameMotion(of_frame, cta_to_carm[None].copy(), fields, np.zeros((1, 2)), 0.0)
    before = run.motion.before
    grid, valid = coarse_view(carm, run.valid, before.shape[1:])
    at_mask, score = finder.near(run.unsubtracted, run.valid, carm, cta_to_carm)
    if score < finder.clear_score:
        return None
    from_mask = pose.inverse(at_mask) @ cta_to_carm

    def position(p: int) -> np.ndarray:
        shadow = -before[of_frame == p].mean(axis=0)
        found, _ = finder.near(shadow, valid, grid, starts[p] @ pose.inverse(from_mask))
        lost = not _apart_mm(found @ from_mask, fields[p], cta_to_carm, carm, finder.bone) < _DOUBT_MM
        return starts[p] if lost else found @ from_mask

    poses = np.stack(at_once(*(partial(position, p) for p in range(count))))
    points = vessels.positions + vessels.origin_mm
    seen_px = np.array([carm.project(points, at) for at in poses])
    mm = np.array(carm.pixel_spacing_mm)[::-1] / carm.magnification
    moved_mm = np.linalg.norm((seen_px[:, None] - seen_px[None]) * mm, axis=-1).mean(axis=-1).max()
    offset_px = (seen_px - carm.project(points, cta_to_carm)).mean(axis=1)
    return FrameMotion(of_frame, poses, fields, offset_px, float(moved_mm))


def coarse_view(carm: CArm, valid: np.ndarray, shape: tuple[int, ...]) -> tuple[CArm, np.ndarray]:
    """The view and its valid part on the grid of `blocks.binned` frames of a shape."""
    factor = max(1, min(carm.rows // shape[0], carm.columns // shape[1]))
    rows, columns = shape[0] * factor, shape[1] * factor
    whole = valid[:rows, :columns].reshape(shape[0], factor, shape[1], factor).all(axis=(1, 3))
    return carm.cropped(0, 0, rows, columns).resampled(shape[0], shape[1]), np.asarray(whole)


def _forward(pixels: np.ndarray, field: np.ndarray, carm: CArm) -> np.ndarray:
    """Where the detector saw what is at pixels (n, 2) column, row, of a frame whose motion was undone."""
    return np.asarray(pixels + displacements(field, pixels[:, ::-1], (carm.rows, carm.columns))[:, ::-1])


def _shifted(cta_to_carm: np.ndarray, field: np.ndarray, carm: CArm, origin_mm: np.ndarray) -> np.ndarray:
    """The pose with the head shifted across the beam as its picture is."""
    middle = carm.project(origin_mm[None], cta_to_carm)
    shift_px = (_forward(middle, field, carm) - middle)[0]
    row_mm, column_mm = carm.pixel_spacing_mm
    depth_mm = carm.axes[2] @ (pose.transform(cta_to_carm, origin_mm[None])[0] - np.array(carm.source_mm))
    across_mm = shift_px * (column_mm, row_mm) * depth_mm / carm.sid_mm
    shifted = np.array(cta_to_carm, dtype=np.float64)
    shifted[:3, 3] += across_mm @ carm.axes[:2]
    return shifted


def _apart_mm(tried: np.ndarray, field: np.ndarray, cta_to_carm: np.ndarray, carm: CArm, bone: Points) -> float:
    """How far the bone's mean motion lies from the picture's, mm at the isocentre."""
    some = bone.positions[:: max(1, len(bone.positions) // 1000)] + bone.origin_mm
    at_mask = carm.project(some, cta_to_carm)
    inside = carm.contains(at_mask)
    if not inside.any():
        return np.inf
    off_px = (carm.project(some, tried) - _forward(at_mask, field, carm))[inside].mean(axis=0)
    row_mm, column_mm = carm.pixel_spacing_mm
    return float(np.hypot(*(off_px * (column_mm, row_mm))) / carm.magnification)
