"""The exhaustive pass: every rotation and depth of a grid with every shift of the image, all shifts at once by FFT.

What is drawn and compared is the caller's: images of vessels in three channels, or gradients of the skull's shadow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.vessels.least_squares import camera_matrices

# Shifts kept of each rotation: where two fit about as well, the better one is often chance.
PEAKS = 2
# A candidate may leave the box by a quarter, and by 2 deg or mm whatever its size: the optimum may lie at the box's rim.
_SPARE_SHARE, _SPARE = 1.25, 2.0


@dataclass(frozen=True)
class SearchBox:
    """The box that is searched, about a start pose, and the grid in it.

    Attributes
    ----------
    rotation_deg, translation_mm
        Half widths of the box, on every axis, in the C-arm frame.
    rotation_step_deg
        Spacing of the rotation grid.
    depth_step_mm
        Spacing along the beam, which one view sees only as size.
    """

    rotation_deg: float = 35.0
    translation_mm: float = (
        50.0  # 40 that heads are off the isocentre, and 10 between centres that the head may be said to have
    )
    rotation_step_deg: float = 7.0
    depth_step_mm: float = 40.0

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.rotation_deg <= 90:
            problems.append(f"Search rotation is {self.rotation_deg:g} deg; 0 to 90 make sense.")
        if not 0 <= self.translation_mm <= 200:
            problems.append(f"Search translation is {self.translation_mm:g} mm; 0 to 200 make sense.")
        if problems:
            raise InputError(problems)


def in_box(poses: np.ndarray, start: np.ndarray, centre_cta_mm: np.ndarray, box: SearchBox) -> np.ndarray:
    """Which poses (K, 4, 4) lie in the box about `start` (4, 4), with some to spare: (K,) bool.

    A refinement may lead out of it, mostly along the beam, where a head too small or too large matches anything.

    Parameters
    ----------
    poses, start
        ``cta_to_carm``.
    centre_cta_mm : (3,)
        RAS mm of the CTA: where `start` puts it is the middle of the box.
    box
    """
    offset = poses @ pose.inverse(start)
    angles_deg = pose.rotation_to_euler_deg(offset[:, :3, :3])
    shift_mm = pose.transform(poses, centre_cta_mm[None])[:, 0] - pose.transform(start, centre_cta_mm[None])[0]
    turned = np.abs(angles_deg).max(axis=1) <= _SPARE_SHARE * box.rotation_deg + _SPARE
    inside: np.ndarray = turned & (np.abs(shift_mm).max(axis=1) <= _SPARE_SHARE * box.translation_mm + _SPARE)
    return inside


def rotation_grid(centre_cta_mm: np.ndarray, start: np.ndarray, carm: CArm, box: SearchBox) -> np.ndarray:
    """Start pose (4, 4) turned about the head's centre (3,), which is put on the central ray at several depths: (N, 4, 4).

    The grid is of Euler angles about the C-arm's axes: at its corners its rotations lie closer than its step, which costs
    time but misses none.
    """
    reach = box.rotation_deg
    angles = np.linspace(-reach, reach, max(1, int(np.ceil(2 * reach / box.rotation_step_deg)) + 1))
    # Cells of equal width fill the range; each is represented by its middle.
    n_depths = max(1, round(2 * box.translation_mm / box.depth_step_mm))
    depths = ((np.arange(n_depths) + 0.5) / n_depths * 2 - 1) * box.translation_mm
    grid = np.array(list(itertools.product(angles, angles, angles, depths)))
    rotation = pose.euler_deg_to_rotation(grid[:, :3]) @ start[:3, :3]
    centre = start[:3, :3] @ centre_cta_mm + start[:3, 3]
    along = (centre @ carm.axes[2] + grid[:, 3])[:, None] * carm.axes[2]
    return pose.matrix(rotation, along - rotation @ centre_cta_mm)


def turn_about_source(poses: np.ndarray, offset_mm: np.ndarray, carm: CArm) -> np.ndarray:
    """Poses (N, 4, 4) turned about the source so that the principal point's content moves by offsets (N, 2) on the detector.

    Offsets are mm along columns and rows. Such a turn leaves the rays through the head as they are. A shift of the head
    would change the view by atan(shift / SOD), up to 3 deg at 40 mm: the best candidate then ranked 34th to 475th instead of
    2nd to 28th among those of one-sided trees.
    """
    u, v, d = carm.axes
    towards = offset_mm[:, :1] * u + offset_mm[:, 1:] * v
    distance = np.linalg.norm(towards, axis=1, keepdims=True)
    axis = np.cross(d, towards) / np.maximum(distance, 1e-9)
    rotation = pose.so3_exp(axis * np.arctan2(distance, carm.sid_mm))
    source = np.array(carm.source_mm)
    return pose.matrix(rotation, source - rotation @ source) @ poses


class ShiftCorrelator:
    """Normalised cross-correlation of a target with a drawing in a wider window, over all shifts.

    Parameters
    ----------
    image : (channels, rows, columns) float32
        The target, on the grid of `carm`.
    valid : (rows, columns)
        Not 0 where the target counts; somewhere at least.
    carm
    reach_mm
        Largest shift, at the isocentre.
    norm_power
        As in `targets.Measure`.
    drawing
    apart
        As in `compute.Window`.
    """

    def __init__(
        self,
        image: np.ndarray,
        valid: np.ndarray,
        carm: CArm,
        reach_mm: float,
        norm_power: float,
        drawing: compute.VesselDrawing | compute.SkullDrawing,
        *,
        apart: bool = False,
    ) -> None:
        step_mm = carm.pixel_spacing_mm[0] / carm.magnification
        margin = int(np.ceil(reach_mm / step_mm))
        rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        box = np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])
        wide = carm.cropped(-margin, -margin, carm.rows + 2 * margin, carm.columns + 2 * margin)
        self.carm, self._margin = carm, margin
        self._scores = compute.shift_scores(drawing, compute.Window(image, wide, margin, box, norm_power, apart))

    @property
    def batch(self) -> int:
        """Poses that are best asked at a time."""
        return self._scores.batch

    def best_shifts(self, cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Strongest local maxima for cameras (B, 3, 4): scores (B, PEAKS) and window shifts (B, PEAKS, 2), px, strongest first.

        A shift is (column, row).
        """
        score, shift = self._scores.best(cameras, PEAKS)
        return score, shift - self._margin

    def maps(self, cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (B, S, S) of all shifts for cameras (B, 3, 4), and how each moves the image (S, S, 2) in px (column, row)."""
        along = self._margin - np.arange(2 * self._margin + 1)
        return self._scores.maps(cameras), np.stack(np.meshgrid(along, along), axis=-1)


def exhaustive_pass(
    correlate: ShiftCorrelator,
    origin_mm: np.ndarray,
    start: np.ndarray,
    centre_cta_mm: np.ndarray,
    box: SearchBox,
    candidates: int,
    *,
    on_progress: Callable[[float, float | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Poses (K, 4, 4) and their scores (K,), best first: all rotations and depths of the grid, the best shifts of each.

    Parameters
    ----------
    correlate
    origin_mm : (3,)
        RAS mm of the CTA about which the points that are drawn are given.
    start : (4, 4)
        ``cta_to_carm`` at the centre of the box.
    centre_cta_mm : (3,)
        Point of the CTA about which the box turns the head.
    box
    candidates
        Largest K.
    on_progress
        Told the share done, and with the last the best score.
    should_stop
        Asked before each batch.

    Raises
    ------
    Cancelled
    """
    carm = correlate.carm
    poses = rotation_grid(centre_cta_mm, start, carm, box)
    cameras, _ = camera_matrices(poses, origin_mm, carm)
    score = np.empty((len(poses), PEAKS), dtype=np.float32)
    shift = np.empty((len(poses), PEAKS, 2), dtype=np.int64)
    for first in range(0, len(poses), correlate.batch):
        if should_stop is not None and should_stop():
            raise Cancelled("Registration was cancelled.")
        batch = slice(first, first + correlate.batch)
        score[batch], shift[batch] = correlate.best_shifts(cameras[batch])
        if on_progress is not None:
            done = min(1.0, batch.stop / len(poses))
            on_progress(done, None if done < 1 else float(score.max()))
    best = np.argsort(-score.ravel(), kind="stable")[:candidates]
    offset_mm = -shift.reshape(-1, 2)[best] * np.array([carm.pixel_spacing_mm[1], carm.pixel_spacing_mm[0]])
    return turn_about_source(np.repeat(poses, PEAKS, axis=0)[best], offset_mm, carm), score.ravel()[best]
