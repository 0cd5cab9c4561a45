"""From detector frames to a subtracted run: mask frames, patient motion, background.

Nothing here knows DICOM; frames are (t, row, column).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import Contrast, SubtractionMode
from DeepIterRegLib.images.blocks import binned

if TYPE_CHECKING:
    from DeepIterRegLib.images.motion import Motion

_FLAT = 0.15  # background spread over range of values: subtracted runs lie well below, heads above
# Frames, and px along a side, that tell the background and the range of values.
_FRAMES_ASKED, _SIDE_ASKED, _SIDE_OF_RANGE = 9, 64, 256
_TAILS = (0.02, 99.98)  # per cent: the range of values without dead pixels
_SPREAD = (10, 90)  # per cent
_MAX_MASKS = 4  # frames: more average no noise that is seen
_MAD = 1.4826  # standard deviation over median of the sizes of normal deviates
_NOISE_SIGMAS = 3  # from which a change counts
_LIGHTER = 0.5  # of the darkening: a run that brightens so much began with contrast
_ARRIVED = 0.05  # of the largest darkening
_BRIGHT_PERCENT, _BRIGHT_FRAMES = 90, 24  # of each pixel over the run: nearly free of contrast, and not noise alone
_SLOW = 40  # times along a side: sigma of the background of a single frame
_BRIGHTEST_PERCENT = 99.9  # of the mask: the free beam, but for dead pixels


@dataclass(frozen=True)
class SubtractionSettings:
    """How an unsubtracted run becomes a subtracted one.

    Attributes
    ----------
    mask_frames
        Indices from 0 of the frames before contrast; None: the file's, else those before contrast arrives.
    remask
        Undo the patient's motion before subtracting.
    mode
        "auto" trusts tags, then the pixels; "subtract" and "as_is" overrule both.
    contrast
        How vessels look where a viewer shows the file; "auto" trusts tags, then the pixels.
    """

    mask_frames: tuple[int, ...] | None = None
    remask: bool = True
    mode: SubtractionMode = "auto"
    contrast: Contrast = "auto"


@dataclass(frozen=True)
class Subtracted:
    """A subtracted run.

    Attributes
    ----------
    frames : (t, row, column) float32
        Contrast negative, background about 0, 0 where not valid.
    unsubtracted : (row, column) float32 or None
        Shadow of the head in the mask frames: bone bright.
    mask_frames : tuple of int
        Empty if the run came subtracted.
    motion : Motion or None
        What was undone in each frame, and what is left; None where it was not looked for.
    notes : tuple of str
    """

    frames: np.ndarray
    unsubtracted: np.ndarray | None
    mask_frames: tuple[int, ...]
    motion: Motion | None
    notes: tuple[str, ...]


# -- what the pixels tell ----------------------------------------------------------------------------


def background_spread(values: np.ndarray, valid: np.ndarray) -> float:
    """Spread of the background over the range of values, 0 to 1: small if the head's shadow is gone.

    `values` (t, row, column), `valid` (row, column) bool.
    """
    some = values[_some(len(values), _FRAMES_ASKED)]
    factor = max(1, max(valid.shape) // _SIDE_ASKED)
    inside = binned(valid.astype(np.float32), factor) > 0.99
    if not inside.any():
        return 1.0
    background = np.median([binned(frame, factor) for frame in some], axis=0)[inside]
    step = max(1, max(valid.shape) // _SIDE_OF_RANGE)
    low, high = np.percentile(some[:, ::step, ::step][:, valid[::step, ::step]], _TAILS)
    q10, q90 = np.percentile(background, _SPREAD)
    return float((q90 - q10) / max(high - low, 1e-9))


def looks_subtracted(values: np.ndarray, valid: np.ndarray) -> bool:
    """Whether the background of values (t, row, column) is flat where `valid` (row, column), as only subtraction makes it."""
    return background_spread(values, valid) < _FLAT


def choose_mask_frames(frames: np.ndarray, valid: np.ndarray, most: int = _MAX_MASKS) -> tuple[int, ...] | None:
    """Frames before contrast arrives, at most `most`, the latest ones; None if contrast is there from the start.

    Parameters
    ----------
    frames : (t, row, column)
        Log intensity, or grey values; contrast darker.
    valid : (row, column) bool
    """
    if len(frames) < 2:
        return None
    # On blurred pixels far apart: contrast is wide and slow, and noise is not.
    small = ndimage.uniform_filter(frames[:, ::2, ::2], (0, 4, 4))[:, ::4, ::4]
    inside = valid[::2, ::2][::4, ::4]
    series = small[:, inside].astype(np.float64)
    series -= np.median(series, axis=1, keepdims=True)  # exposure varies from frame to frame
    change = series - series[0]
    noise = _MAD * np.median(np.abs(np.diff(series, axis=0))) + 1e-9
    darker = np.mean(np.clip(-change - _NOISE_SIGMAS * noise, 0, None), axis=1)
    lighter = np.mean(np.clip(change - _NOISE_SIGMAS * noise, 0, None), axis=1)
    if lighter.max() > _LIGHTER * darker.max():
        return None
    arrival = int(np.argmax(darker > _ARRIVED * darker.max()))
    before = max(arrival, 1)
    return tuple(range(max(0, before - most), before))


# -- subtraction -------------------------------------------------------------------------------------


def subtract(
    frames: np.ndarray,
    valid: np.ndarray,
    *,
    mask_frames: Sequence[int] | None = None,
    mask_shift_px: tuple[float, float] = (0.0, 0.0),
    settings: SubtractionSettings = SubtractionSettings(),
    on_progress: Callable[[float], None] | None = None,
) -> Subtracted:
    """Subtract the mean of the mask frames from every frame.

    Parameters
    ----------
    frames : (t, row, column) float32
        Log intensity or grey values, contrast darker. Overwritten with the result, to save memory.
    valid : (row, column) bool
    mask_frames
        What the file says; `settings` win.
    mask_shift_px : (row, column)
        How far the file says to move the mask; used only if motion is not estimated.
    on_progress
        Told the part of the frames whose motion is undone, which takes nearly all of the time.

    Raises
    ------
    InputError
        Mask frames that the run does not have.
    """
    notes: list[str] = []
    count = len(frames)
    chosen = settings.mask_frames if settings.mask_frames is not None else mask_frames
    if chosen is not None and len(chosen) and not all(0 <= m < count for m in chosen):
        raise InputError(
            Message(
                f"Mask frames {tuple(m + 1 for m in chosen)} are asked for, but the run has frames 1 to {count}",
                give=("mask_frames",),
            )
        )
    if count == 1:
        return _single(frames, valid)
    if not chosen:
        chosen = choose_mask_frames(frames, valid)
        if chosen:
            listed = ", ".join(str(m + 1) for m in chosen)
            notes.append(
                f"No mask frame is named; frame{'s' * (len(chosen) > 1)} {listed} (from 1), before contrast arrives, are used."
            )
        else:
            notes.append(
                "No frame without contrast was found; the brightest value of each pixel over the run stands in for the mask."
            )
    if settings.remask:
        # Compiled code, which a mere look at a file need not wait for.
        from DeepIterRegLib.images.motion import undo_motion

    if chosen:
        masks = frames[list(chosen)]
        if settings.remask and len(chosen) > 1:
            # Onto the latest: it is nearest in time to the contrast.
            undo_motion(masks, masks[-1].copy(), valid)
        mask = masks.mean(axis=0)
    else:
        mask = np.percentile(frames[_some(count, _BRIGHT_FRAMES)], _BRIGHT_PERCENT, axis=0).astype(np.float32)
        chosen = ()
    unsubtracted = _shadow(mask, valid)
    motion = None
    if settings.remask and chosen:
        motion = undo_motion(frames, mask, valid, on_progress)
    elif any(mask_shift_px):
        mask = ndimage.shift(mask, mask_shift_px, order=1, mode="nearest")
    for frame in frames:
        frame -= mask
        # Exposure varies from frame to frame.
        frame -= np.median(frame[::2, ::2][valid[::2, ::2]])
        frame[~valid] = 0
    return Subtracted(frames, unsubtracted, tuple(int(m) for m in chosen), motion, tuple(notes))


def centre_subtracted(frames: np.ndarray, valid: np.ndarray, contrast_is_dark: bool) -> Subtracted:
    """A run that came subtracted: background to 0, contrast negative.

    Parameters
    ----------
    frames : (t, row, column) float32
        Overwritten with the result.
    valid : (row, column) bool
    contrast_is_dark
        Contrast has the smaller values.
    """
    for frame in frames:
        frame -= np.median(frame[valid])
        frame[~valid] = 0
    if not contrast_is_dark:
        np.negative(frames, out=frames)
    return Subtracted(frames, None, (), None, ("The run is already subtracted and is used as it is.",))


def _single(frames: np.ndarray, valid: np.ndarray) -> Subtracted:
    """One unsubtracted frame: only its slow background can go."""
    frame = frames[0]
    unsubtracted = _shadow(frame, valid)
    sigma = max(frame.shape) / _SLOW
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma)
    background = ndimage.gaussian_filter(np.where(valid, frame, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-3)
    frames[0] = np.where(valid, frame - background, 0)
    note = (
        "There is one unsubtracted frame and no mask: only the slow background is removed, bone remains. "
        "Give the subtracted image or the whole run if you can."
    )
    return Subtracted(frames, unsubtracted, (), None, (note,))


def _shadow(mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Attenuation, bone bright, from 0 where the beam was strongest."""
    brightest = np.percentile(mask[valid], _BRIGHTEST_PERCENT) if valid.any() else 0.0
    return np.where(valid, np.maximum(brightest - mask, 0), 0).astype(np.float32)


def _some(count: int, most: int) -> np.ndarray:
    """At most `most` indices spread over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
