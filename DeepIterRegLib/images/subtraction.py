"""From detector frames to a subtracted run: mask frames, logarithm, patient motion, polarity.

Nothing here knows DICOM; frames are (t, row, column).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import SubtractionMode
from DeepIterRegLib.images.resampling import displacements, resample, terms

# Estimation works on images no larger than this: motion is smooth, and noise averages out.
_ESTIMATION_SIZE_PX = 512
_PATCH_PX, _PATCH_STRIDE_PX = 64, 48
_LARGEST_LOCAL_SHIFT_PX = 8  # on the estimation grid, after the whole image has been shifted
_STILL_PX = 0.03  # less motion than this is not worth resampling the frame
_WORTHWHILE = 0.97  # interpolation alone smooths noise away; motion must leave clearly less
_FLAT = 0.15  # background spread over range of values: subtracted runs lie well below, heads above


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
    """

    mask_frames: tuple[int, ...] | None = None
    remask: bool = True
    mode: SubtractionMode = "auto"


class Motion(NamedTuple):
    """Motion of the patient against the mask, frame by frame, px.

    Attributes
    ----------
    undone : (t,)
        Largest displacement undone in the visible image.
    left : (t,)
        Median over patches with clear edges of how far they still are from where the mask has them: what turning in space
        and swallowing leave, and the estimate's own error (about 0.05 px without motion).
    """

    undone: np.ndarray
    left: np.ndarray


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
    """Spread of the background over the range of values, 0 to 1: small if the head's shadow is gone."""
    some = values[_some(len(values), 9)]
    factor = max(1, max(valid.shape) // 64)
    inside = _binned(valid.astype(np.float32), factor) > 0.99
    if not inside.any():
        return 1.0
    background = np.median([_binned(frame, factor) for frame in some], axis=0)[inside]
    step = max(1, max(valid.shape) // 256)
    low, high = np.percentile(some[:, ::step, ::step][:, valid[::step, ::step]], [0.02, 99.98])
    q10, q90 = np.percentile(background, [10, 90])
    return float((q90 - q10) / max(high - low, 1e-9))


def looks_subtracted(values: np.ndarray, valid: np.ndarray) -> bool:
    """Whether the background is flat, as only subtraction makes it."""
    return background_spread(values, valid) < _FLAT


def contrast_sign(differences: np.ndarray, valid: np.ndarray) -> int:
    """-1 if contrast is darker than its background, +1 if brighter, 0 if the pixels do not tell.

    Parameters
    ----------
    differences : (t, row, column)
        Background about 0.
    """
    inside = _eroded(valid, 3)
    if not inside.any():
        return 0
    smooth = [ndimage.gaussian_filter(frame, 1.0, truncate=3) for frame in differences]
    low, high = np.min(smooth, axis=0)[inside], np.max(smooth, axis=0)[inside]
    # Vessels are the far tail; noise and motion make both tails alike.
    dark = float(np.median(low) - np.percentile(low, 1))
    light = float(np.percentile(high, 99) - np.median(high))
    if dark > 1.25 * light:
        return -1
    return 1 if light > 1.25 * dark else 0


def choose_mask_frames(frames: np.ndarray, valid: np.ndarray, most: int = 4) -> tuple[int, ...] | None:
    """Frames before contrast arrives, at most `most`, the latest ones; None if contrast is there from the start.

    Parameters
    ----------
    frames : (t, row, column)
        Log intensity, or grey values; contrast darker.
    """
    if len(frames) < 2:
        return None
    small = ndimage.uniform_filter(frames[:, ::2, ::2], (0, 4, 4))[:, ::4, ::4]
    inside = valid[::2, ::2][::4, ::4]
    series = small[:, inside].astype(np.float64)
    series -= np.median(series, axis=1, keepdims=True)  # exposure varies from frame to frame
    change = series - series[0]
    noise = 1.4826 * np.median(np.abs(np.diff(series, axis=0))) + 1e-9
    darker = np.mean(np.clip(-change - 3 * noise, 0, None), axis=1)
    lighter = np.mean(np.clip(change - 3 * noise, 0, None), axis=1)
    if lighter.max() > 0.5 * darker.max():
        return None
    arrival = int(np.argmax(darker > 0.05 * darker.max()))
    before = max(arrival, 1)
    return tuple(range(max(0, before - most), before))


# -- subtraction -------------------------------------------------------------------------------------


def to_log(values: np.ndarray, floor: float) -> np.ndarray:
    """Natural logarithm of intensities; values under `floor` count as `floor`."""
    return np.log(np.maximum(values, np.float32(floor)), dtype=np.float32)


def subtract(
    frames: np.ndarray,
    valid: np.ndarray,
    *,
    mask_frames: Sequence[int] | None = None,
    mask_shift_px: tuple[float, float] = (0.0, 0.0),
    settings: SubtractionSettings = SubtractionSettings(),
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
    if chosen:
        masks = frames[list(chosen)]
        if settings.remask and len(chosen) > 1:
            undo_motion(masks, masks[-1].copy(), valid)
        mask = masks.mean(axis=0)
    else:
        mask = np.percentile(frames[_some(count, 24)], 90, axis=0).astype(np.float32)
        chosen = ()
    unsubtracted = _shadow(mask, valid)
    motion = None
    if settings.remask and chosen:
        motion = undo_motion(frames, mask, valid)
    elif any(mask_shift_px):
        mask = ndimage.shift(mask, mask_shift_px, order=1, mode="nearest")
    for frame in frames:
        frame -= mask
        frame -= np.median(frame[::2, ::2][valid[::2, ::2]])
        frame[~valid] = 0
    return Subtracted(frames, unsubtracted, tuple(int(m) for m in chosen), motion, tuple(notes))


def centre_subtracted(frames: np.ndarray, valid: np.ndarray, contrast_is_dark: bool | None) -> Subtracted:
    """A run that came subtracted: background to 0, contrast negative.

    Parameters
    ----------
    frames : (t, row, column) float32
        Overwritten with the result.
    valid : (row, column) bool
    contrast_is_dark
        What the tags say, None if they do not; the pixels win.
    """
    notes = ["The run is already subtracted and is used as it is."]
    for frame in frames:
        frame -= np.median(frame[valid])
        frame[~valid] = 0
    step = max(1, max(valid.shape) // 512)
    seen = contrast_sign(frames[:, ::step, ::step], valid[::step, ::step])
    expected = -1 if contrast_is_dark is not False else 1
    if seen == 1 and contrast_is_dark is not False:
        notes.append("Vessels are brighter than the background; the run is inverted.")
    elif seen == -1 and contrast_is_dark is False:
        notes.append("Vessels are darker than the background, against what the tags say; the pixels are believed.")
    if (seen or expected) == 1:
        np.negative(frames, out=frames)
    return Subtracted(frames, None, (), None, tuple(notes))


def _single(frames: np.ndarray, valid: np.ndarray) -> Subtracted:
    """One unsubtracted frame: only its slow background can go."""
    frame = frames[0]
    unsubtracted = _shadow(frame, valid)
    sigma = max(frame.shape) / 40
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
    brightest = np.percentile(mask[valid], 99.9) if valid.any() else 0.0
    return np.where(valid, np.maximum(brightest - mask, 0), 0).astype(np.float32)


def _some(count: int, most: int) -> np.ndarray:
    """At most `most` indices spread over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


# -- motion ------------------------------------------------------------------------------------------
#
# A motion is a smooth displacement: coefficients (2, 6), px of rows and of columns, over the terms of
# `resampling.terms`. Patients turn in space, so bones at different depths shift differently: a plane image motion
# cannot undo all of it, a second-order one comes near where the eye looks.


def undo_motion(frames: np.ndarray, mask: np.ndarray, valid: np.ndarray) -> Motion:
    """Bring every frame onto the mask, in place; so vessels of all frames and the mask's head agree.

    A translation of the whole image by correlation, then affine and second-order motions fitted robustly to the
    shifts of patches; of these the one is taken that leaves least of the bone behind, if it is clearly less.

    Parameters
    ----------
    frames : (t, row, column) float32
        Overwritten.
    mask : (row, column)
    valid : (row, column) bool
    """
    factor = max(1, -(-max(mask.shape) // _ESTIMATION_SIZE_PX))
    seen = _binned(valid.astype(np.float32), factor) > 0.99
    weight = ndimage.gaussian_filter(_eroded(seen, 8).astype(np.float32), 3)
    reference = _texture(_binned(mask, factor), weight)

    def field_of(frame: np.ndarray) -> tuple[np.ndarray, float]:
        field, left = _estimate(reference, _texture(_binned(frame, factor), weight))
        return factor * field, factor * left

    # A shutter's black must not leak into the picture: interpolation reaches two pixels.
    usable = valid if valid.all() else ndimage.distance_transform_cdt(valid, metric="chessboard") > 2
    places = np.argwhere(valid[::16, ::16]) * 16

    def undone(index: int) -> tuple[float, float]:
        field, left = field_of(frames[index])
        moved = float(np.abs(displacements(field, places, valid.shape)).max(initial=0))
        if moved <= _STILL_PX:
            return 0.0, left
        resample(frames[index].copy(), field, usable, mask, frames[index])
        return moved, left

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        motion, left = zip(*pool.map(undone, range(len(frames))), strict=True)
    return Motion(np.array(motion), np.array(left))


def _binned(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of `factor` x `factor` pixels."""
    rows, columns = (n // factor * factor for n in image.shape)
    parts = [image[i:rows:factor, j:columns:factor] for i in range(factor) for j in range(factor)]
    total = parts[0].astype(np.float32)
    for part in parts[1:]:
        total += part
    total /= factor * factor
    return total


def _eroded(mask: np.ndarray, pixels: int) -> np.ndarray:
    """`mask` without what lies within `pixels` of its outside or of the image's edge."""
    return np.asarray(ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1] > pixels)


def _texture(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Edges of bone, the strongest flattened so that none decides alone, times `weight` (0 outside the visible part)."""
    band = ndimage.gaussian_filter(image, 1.0, truncate=3) - ndimage.gaussian_filter(image, 6.0, truncate=2.5)
    inside = np.abs(band[::2, ::2][weight[::2, ::2] > 0.5])
    scale = float(np.percentile(inside, 90)) if inside.size else 1.0
    return (np.tanh(band / max(scale, 1e-9)) * weight).astype(np.float32)


def _estimate(reference: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, float]:
    """Motion (2, 6) that leads from positions in `reference` to those in `moving`, and what it leaves; px of the estimation grid."""
    spectrum = fft.rfft2(reference).conj() * fft.rfft2(moving)
    shift, _ = _peaks(fft.irfft2(spectrum, s=reference.shape)[None], max(reference.shape) // 8)
    shifted = np.zeros((2, 6))
    shifted[:, 0] = shift[0]
    whole = np.rint(shift[0]).astype(int)
    patches = _patches(reference, np.roll(moving, -whole, axis=(0, 1)))
    patches = patches._replace(shifts=patches.shifts + whole)
    candidates = [np.zeros((2, 6)), shifted, *_fit_patches(patches, whole, reference.shape)]
    residues = [_residue(reference, moving, field) for field in candidates]
    best = int(np.argmin(residues))
    field = candidates[best] if residues[best] < _WORTHWHILE * residues[0] else candidates[0]
    if not len(patches.places):
        return field, 0.0
    off = patches.shifts - displacements(field, patches.places, reference.shape)
    return field, float(np.median(np.linalg.norm(off, axis=1)))


class _Patches(NamedTuple):
    """Patches with clear edges: centres and shifts (n, 2), row and column, px, and how clear each is (n,)."""

    places: np.ndarray
    shifts: np.ndarray
    quality: np.ndarray


def _patches(reference: np.ndarray, moving: np.ndarray) -> _Patches:
    """Shifts of patches between images that are within `_LARGEST_LOCAL_SHIFT_PX` of each other."""
    half = _PATCH_PX // 2
    centres = [
        np.arange(half, n - half + 1, _PATCH_STRIDE_PX) + (n - 2 * half) % _PATCH_STRIDE_PX // 2
        for n in reference.shape
    ]
    places = np.array([(r, c) for r in centres[0] for c in centres[1]]).reshape(-1, 2)
    if len(places) < 8:
        return _Patches(places[:0], np.zeros((0, 2)), np.zeros(0))
    window = (np.hanning(_PATCH_PX)[:, None] * np.hanning(_PATCH_PX)).astype(np.float32)
    a, b = (
        np.stack([image[r - half : r + half, c - half : c + half] for r, c in places]) * window
        for image in (reference, moving)
    )
    energies = (a**2).sum(axis=(1, 2)), (b**2).sum(axis=(1, 2))
    energy = np.sqrt(energies[0] * energies[1])
    shifts, heights = _peaks(
        fft.irfft2(fft.rfft2(a).conj() * fft.rfft2(b), s=(_PATCH_PX, _PATCH_PX)), _LARGEST_LOCAL_SHIFT_PX
    )
    quality = heights / np.maximum(energy, 1e-9)
    clear = (quality > 0.4) & (energy > 0.1 * energy.max()) & (np.abs(shifts).max(axis=1) < _LARGEST_LOCAL_SHIFT_PX)
    return _Patches(places[clear], shifts[clear], quality[clear])


def _fit_patches(patches: _Patches, whole: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Affine and second-order motions (2, 6) through the shifts of patches, which are near `whole` (2,); none if too few are clear.

    Outliers are weighted down.
    """
    places, shifts, quality = patches.places, patches.shifts - whole, patches.quality
    fields = []
    for count in (3, 6):  # terms of an affine and of a second-order motion
        if len(places) < 3 * count:
            break
        design = terms(places, shape)[:, :count]
        weight = quality
        solution = np.zeros((count, 2))
        for _ in range(6):  # iteratively reweighted least squares, Cauchy weights
            w = np.sqrt(weight)[:, None]
            ridge = np.diag([0.0] + [0.1] * (count - 1))  # edges may line only one side of the image
            solution = np.linalg.lstsq(
                np.vstack([design * w, ridge]), np.vstack([shifts * w, np.zeros((count, 2))]), rcond=None
            )[0]
            error = np.linalg.norm(design @ solution - shifts, axis=1)
            weight = quality / (1 + (error / 0.3) ** 2)
        field = np.hstack([solution.T, np.zeros((2, 6 - count))])
        field[:, 0] += whole
        fields.append(field)
    return fields


def _peaks(correlations: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Sub-pixel shifts (n, 2) and heights (n,) of the highest peaks within `reach` of no shift, by parabolas."""
    n, rows, columns = correlations.shape
    reach = min(reach, rows // 2 - 1, columns // 2 - 1)
    take = np.arange(-reach - 1, reach + 2)
    window = correlations[:, take[:, None] % rows, take[None, :] % columns]
    inner = window[:, 1:-1, 1:-1].reshape(n, -1)
    best = inner.argmax(axis=1)
    r, c = best // (2 * reach + 1) + 1, best % (2 * reach + 1) + 1
    i = np.arange(n)
    top = window[i, r, c]

    def vertex(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        curvature = before - 2 * top + after
        return np.where(curvature < 0, 0.5 * (before - after) / np.minimum(curvature, -1e-12), 0.0).clip(-0.5, 0.5)

    dr, dc = vertex(window[i, r - 1, c], window[i, r + 1, c]), vertex(window[i, r, c - 1], window[i, r, c + 1])
    return np.column_stack([take[r] + dr, take[c] + dc]).astype(np.float64), top


def _residue(reference: np.ndarray, moving: np.ndarray, field: np.ndarray) -> float:
    """What is left of the reference's texture after subtracting the moved one; bounded, so that vessels count little."""
    moved = moving
    if field.any():
        moved = np.empty_like(moving)
        resample(moving, field, np.ones(moving.shape, dtype=bool), reference, moved)
    return float(np.minimum(np.abs(moved - reference), 0.5).mean())
