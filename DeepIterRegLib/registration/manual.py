"""Moving the head by hand: pose offsets as a person sees them, and the score that says whether it got better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.scene import ACCEPTANCE_POINTS, ACCEPTANCE_ROWS, ACCEPTANCE_SIGMA_PX
from DeepIterRegLib.registration.vessels.alignment import zncc
from DeepIterRegLib.registration.vessels.points import Points, vessel_points
from DeepIterRegLib.registration.vessels.targets import FIND, SATURATION_MM, Target, make_target, vessel_channels

# Half the width of a usual detector turns the head by about 30 deg: as far as the search looks.
TILT_DEG_PER_MM = 0.2


@dataclass(frozen=True)
class Offset:
    """How the head stands from where it stood, along the detector's axes as the image shows them.

    Attributes
    ----------
    turn_deg : (3,)
        About the head's centre and axes that stay: first about the one to the right (the side at the detector goes up), then
        about the one downwards (the side at the detector goes right), then about the beam (clockwise in the picture).
    shift_mm : (3,)
        At the head: to the right, downwards, and along the beam away from the source.
    """

    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


def moved(cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, carm: CArm, offset: Offset) -> np.ndarray:
    """The pose (4, 4) after an offset."""
    axes = carm.axes
    rotation = axes.T @ pose.euler_deg_to_rotation(np.array(offset.turn_deg, dtype=np.float64)) @ axes
    moved_to: np.ndarray = pose.offset_about(
        np.asarray(cta_to_carm, dtype=np.float64), centre_cta_mm, rotation, np.array(offset.shift_mm) @ axes
    )
    return moved_to


def offset_between(before: np.ndarray, after: np.ndarray, centre_cta_mm: np.ndarray, carm: CArm) -> Offset:
    """The offset with which `moved` leads from one pose (4, 4) to another, for turns below 90 deg about the axis downwards."""
    axes = carm.axes
    rotation = axes @ after[:3, :3] @ before[:3, :3].T @ axes.T
    turn = np.degrees(pose.rotation_to_euler(rotation))
    centres = [pose.transform(each, np.asarray(centre_cta_mm)[None])[0] for each in (before, after)]
    shift = axes @ (centres[1] - centres[0])
    return Offset(tuple(float(t) for t in turn), tuple(float(s) for s in shift))  # type: ignore[arg-type]


def dragged(
    cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, carm: CArm, first_mm: np.ndarray, last_mm: np.ndarray
) -> Offset:
    """Shift that keeps the head's centre under a pointer that went from one position (3,) on the detector to another, C-arm RAS mm."""
    centre = pose.transform(np.asarray(cta_to_carm), np.asarray(centre_cta_mm)[None])[0]
    depth_mm = (centre - np.array(carm.source_mm)) @ np.array(carm.beam_axis)
    right, down, _ = carm.axes @ (np.asarray(last_mm) - np.asarray(first_mm)) * depth_mm / carm.sid_mm
    return Offset(shift_mm=(float(right), float(down), 0.0))


def turned_in_picture(
    cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, carm: CArm, first_mm: np.ndarray, last_mm: np.ndarray
) -> Offset:
    """Turn about the beam by the angle that a pointer went round the head's centre in the picture; positions as in `dragged`."""
    middle = carm.pixel_positions(carm.project(np.asarray(centre_cta_mm)[None], np.asarray(cta_to_carm)))[0]
    angles = []
    for position in (first_mm, last_mm):
        right, down, _ = carm.axes @ (np.asarray(position) - middle)
        angles.append(np.arctan2(down, right))
    # Angles jump by a whole turn to the left of the centre: below, the shorter way is taken.
    turn = np.degrees(angles[1] - angles[0])
    return Offset(turn_deg=(0.0, 0.0, float((turn + 180) % 360 - 180)))


def tilted(carm: CArm, first_mm: np.ndarray, last_mm: np.ndarray, deg_per_mm: float = TILT_DEG_PER_MM) -> Offset:
    """Turn of the head whose side at the detector follows a pointer, as one turns a ball; positions as in `dragged`."""
    right, down, _ = carm.axes @ (np.asarray(last_mm) - np.asarray(first_mm))
    return Offset(turn_deg=(-float(down) * deg_per_mm, float(right) * deg_per_mm, 0.0))


class History:
    """Poses to go back to, and forth again."""

    def __init__(self) -> None:
        self._before: list[np.ndarray] = []
        self._after: list[np.ndarray] = []

    def add(self, cta_to_carm: np.ndarray) -> None:
        """A pose that is about to be left; what had been undone is forgotten. The same pose again counts once."""
        if not self._before or not np.array_equal(self._before[-1], cta_to_carm):
            self._before.append(np.array(cta_to_carm))
        self._after.clear()

    def undo(self, now: np.ndarray) -> np.ndarray | None:
        """The pose before `now`; None if there is none."""
        return self._step(self._before, self._after, now)

    def redo(self, now: np.ndarray) -> np.ndarray | None:
        """The pose that the last `undo` left; None if there is none."""
        return self._step(self._after, self._before, now)

    @property
    def can_undo(self) -> bool:
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        return bool(self._after)

    def _step(self, source: list[np.ndarray], target: list[np.ndarray], now: np.ndarray) -> np.ndarray | None:
        if not source:
            return None
        target.append(np.array(now))
        return source.pop()


class LiveScore:
    """The score that a registration reports (`Registration.score`), for one pose after another.

    Parameters
    ----------
    vessels
        The CTA's vessels that were registered.
    contrast : (row, column)
        `registration.scene.contrast_image` of the run; below 0 where the image is not valid.
    carm
    saturation_mm, seed
        As the registration had them.
    """

    def __init__(
        self, vessels: Volume, contrast: np.ndarray, carm: CArm, saturation_mm: float = SATURATION_MM, seed: int = 0
    ) -> None:
        valid = contrast >= 0
        self._target: Target = make_target(
            vessel_channels(np.maximum(contrast, 0), valid), valid, carm, ACCEPTANCE_ROWS, ACCEPTANCE_SIGMA_PX, FIND
        )
        self._points: Points = vessel_points(vessels).subset(ACCEPTANCE_POINTS, np.random.default_rng(seed))
        self._saturation_mm = saturation_mm

    def __call__(self, cta_to_carm: np.ndarray) -> float:
        """ZNCC of vessels and directions at a pose (4, 4), -1..1."""
        return float(zncc(self._points, np.asarray(cta_to_carm)[None], self._target, self._saturation_mm)[0])
