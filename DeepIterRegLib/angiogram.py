"""An angiogram: the frames of one run in one view."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from DeepIterRegLib.errors import InputError
from DeepIterRegLib.geometry import CArm


@dataclass(frozen=True)
class Angiogram:
    """A DSA run after reading and, where needed, subtraction.

    Attributes
    ----------
    frames : (t, row, column) float32
        Subtracted: contrast is NEGATIVE (vessels dark, as people see a DSA), background about 0.
        Unit: difference of log intensity, or grey values where the file was already subtracted.
    carm : CArm
        Its rows and columns are the frames'.
    frame_times_s : (t,)
        Seconds from the first frame; rising.
    valid : (row, column) bool
        False under shutters, collimator and overlays that hide the image.
    unsubtracted : (row, column) float32 or None
        Mean of the mask frames where the run has them: the skull's shadow, log intensity, bone bright.
    notes : tuple of str
        What was assumed while reading, for the report.
    motion_px
        Largest displacement that was undone before subtraction.
    """

    frames: np.ndarray
    carm: CArm
    frame_times_s: np.ndarray
    valid: np.ndarray
    unsubtracted: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())
    motion_px: float = 0.0

    def __post_init__(self) -> None:
        shape = (self.carm.rows, self.carm.columns)
        if self.frames.ndim != 3 or self.frames.shape[0] < 1:
            raise InputError(
                f"The angiogram has frames of shape {self.frames.shape}; (time, row, column) with at least one frame is needed."
            )
        if self.frames.shape[1:] != shape or self.valid.shape != shape:
            raise InputError(
                f"Frames are {self.frames.shape[1:]} px but the C-arm geometry says {shape}; give the matching --rows and --columns."
            )
        if len(self.frame_times_s) != self.frames.shape[0]:
            raise InputError(f"There are {self.frames.shape[0]} frames but {len(self.frame_times_s)} frame times.")

    def minip(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Minimum intensity projection (row, column) over frames first..last, both included (method.md, 3)."""
        return self.frames[first : None if last is None else last + 1].min(axis=0)
