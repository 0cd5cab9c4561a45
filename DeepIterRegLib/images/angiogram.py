"""An angiogram: the frames of one run in one view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Remedy
from DeepIterRegLib.geometry import CArm

# Below the first nobody sees motion (a small artery is 1 mm wide); above the second bone stands out beside vessels.
_STILL_MM, _MUCH_LEFT_MM = 0.3, 0.5


@dataclass(frozen=True)
class PatientMotion:
    """Motion of the patient against the mask frame, mm at the isocentre, frame by frame.

    Attributes
    ----------
    undone_mm : (t,)
        Largest displacement in the image that was undone before subtraction.
    left_mm : (t,)
        What is left of it where edges of bone show it, median over the image.
    fields : (t, 2, 6)
        What was undone, px of the run, as `resampling.displacements` takes it: from where the mask has the head to where the detector
        saw it. None of it is in the frames of the angiogram any more.
    before : (t, r, c) float32
        The frames as the detector saw them, not subtracted, contrast and bone dark, in blocks of pixels (`blocks.binned`).
    """

    undone_mm: np.ndarray
    left_mm: np.ndarray
    fields: np.ndarray
    before: np.ndarray

    def note(self) -> str:
        """A sentence for the report; empty if there was next to none."""
        if not len(self.undone_mm) or (self.undone_mm.max() < _STILL_MM and self.left_mm.max() < _MUCH_LEFT_MM):
            return ""
        text = (
            f"The patient moved against the mask frame by up to {np.median(self.undone_mm):.1f} mm in half of the frames, and by "
            f"{self.undone_mm.max():.1f} mm at most (at the isocentre); this was undone, and {self.left_mm.max():.1f} mm are left at most."
        )
        if self.left_mm.max() >= _MUCH_LEFT_MM:
            text += " That is more than shifting and bending the image can undo: bone may stand out like vessels, look at the frames."
        return text


@dataclass(frozen=True)
class OtherReading:
    """Another way to read the same run, where its tags and pixels leave two.

    Attributes
    ----------
    words
        What it takes, for a sentence: `bright vessels`, `a pixel spacing of 0.6 x 0.6 mm`.
    remedies
        Options that make it for good.
    always
        The two are to be compared whatever the first one gives; else it is for a run that matches nothing.
    read
        Makes it; raises what reading raises.
    """

    words: str
    remedies: tuple[Remedy, ...]
    always: bool
    read: Callable[[], Angiogram]


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
    motion : PatientMotion or None
        None where the run came subtracted or motion was not looked for.
    other_readings : tuple of OtherReading
        Empty where nothing is in doubt. One that is not `always` says that the polarity is not certain.
    """

    frames: np.ndarray
    carm: CArm
    frame_times_s: np.ndarray
    valid: np.ndarray
    unsubtracted: np.ndarray | None = None
    notes: tuple[str, ...] = field(default=())
    motion: PatientMotion | None = None
    other_readings: tuple[OtherReading, ...] = ()

    def __post_init__(self) -> None:
        shape = (self.carm.rows, self.carm.columns)
        if self.frames.ndim != 3 or self.frames.shape[0] < 1:
            raise InputError(
                f"The angiogram has frames of shape {self.frames.shape}; (time, row, column) with at least one frame is needed."
            )
        if self.frames.shape[1:] != shape or self.valid.shape != shape:
            raise InputError(
                f"Frames are {self.frames.shape[1:]} px but the C-arm geometry says {shape}: they must match."
            )
        if len(self.frame_times_s) != self.frames.shape[0]:
            raise InputError(f"There are {self.frames.shape[0]} frames but {len(self.frame_times_s)} frame times.")

    def minip(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Minimum intensity projection (row, column) over frames first..last, both included (Resources/Docs/method.md, section 3)."""
        return self.frames[first : None if last is None else last + 1].min(axis=0)
