"""Where the head lay in each frame of a run (Resources/Docs/method.md, section 16)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import as_rigid

_SEEN_FROM_MM = 0.3  # a small artery is 1 mm wide
_DECIMALS = 5  # of what is kept
_FAR_PX = 1e5  # no detector has so many: a displacement by more is damaged


@dataclass(frozen=True, eq=False)  # arrays are compared by what is kept of them
class FrameMotion:
    """Where the head lay in each frame: a few positions, and which of them each frame has.

    Attributes
    ----------
    of_frame : (t,) int
        Position of each frame, from 0.
    cta_to_carm : (P, 4, 4)
        Pose of the CTA as the detector saw the head.
    undone : (P, 2, 6)
        Displacement that was undone in the frames of an `Angiogram`, as `resampling.displacements` takes it: pixel p of such a frame shows
        what the detector saw at p + displacement(p). Zeros where none was.
    offset_px : (P, 2)
        Column and row by which the run's vessels lie elsewhere on the detector than at the registered pose, mean over them.
    moved_mm
        How far apart the run's vessels lie, on average over them, at the two positions that differ most; at the isocentre.
    """

    of_frame: np.ndarray
    cta_to_carm: np.ndarray
    undone: np.ndarray
    offset_px: np.ndarray
    moved_mm: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrameMotion) and self.to_json_dict() == other.to_json_dict()

    def __hash__(self) -> int:
        return hash((round(self.moved_mm, 3), *self.of_frame.tolist()))

    @property
    def is_seen(self) -> bool:
        """Whether anybody sees the motion: else an overlay needs not follow it."""
        return self.moved_mm >= _SEEN_FROM_MM

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.is_seen:
            return "The head lay still within the run."
        return f"The head moved by up to {self.moved_mm:.1f} mm within the run."

    def seen_from(self, before: np.ndarray, after: np.ndarray) -> FrameMotion:
        """The same motion of the head where its pose (4, 4) is not the one `before` but the one `after`."""
        return replace(self, cta_to_carm=after @ pose.inverse(before) @ self.cta_to_carm)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "movedMm": round(self.moved_mm, 3),
            "positionOfFrame": self.of_frame.tolist(),
            "ctaToCarm": self.cta_to_carm.tolist(),
            "undone": np.round(self.undone, _DECIMALS).tolist(),
            "offsetPx": np.round(self.offset_px, _DECIMALS).tolist(),
        }

    @classmethod
    def from_json_dict(cls, values: dict[str, Any]) -> FrameMotion:
        """Inverse of `to_json_dict`.

        Raises
        ------
        ValueError
            Numbers that are none, or not as many as there must be; a pose that is not rigid (`InputError`).
        """
        count = len(values["ctaToCarm"])
        of_frame = np.array(values["positionOfFrame"], dtype=np.int64).reshape(-1)
        poses = np.array(values["ctaToCarm"], dtype=np.float64).reshape(count, 4, 4)
        undone = np.array(values["undone"], dtype=np.float64).reshape(count, 2, 6)
        offset_px = np.array(values["offsetPx"], dtype=np.float64).reshape(count, 2)
        moved_mm = float(values["movedMm"])
        finite = np.isfinite([*poses.flat, *undone.flat, *offset_px.flat, moved_mm]).all()
        if not finite or not len(of_frame) or of_frame.min() < 0 or of_frame.max() >= count:
            raise ValueError("Not the motion of a run's frames.")
        if max(np.abs(undone).max(), np.abs(offset_px).max()) > _FAR_PX or moved_mm < 0:
            raise ValueError("A head does not move so far.")
        for each in poses:
            as_rigid(each, "registration.json")
        return cls(of_frame, poses, undone, offset_px, moved_mm)
