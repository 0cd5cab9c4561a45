"""From pixels with a meaning to a subtracted run: what tags, a person and, where these leave it open, the pixels say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.images.blocks import binned
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.pixels import Pixels
from DeepIterRegLib.images.dicom.safe_words import coded, whole_number
from DeepIterRegLib.images.dicom.tags import numbers_of, tag_name, text_of, value_of
from DeepIterRegLib.images.polarity import contrast_sign, rises_and_falls
from DeepIterRegLib.images.subtraction import (
    Subtracted,
    SubtractionSettings,
    centre_subtracted,
    choose_mask_frames,
    looks_subtracted,
    subtract,
)

_MOST_FRAMES = 100_000
_MOST_SHIFT_PX = 500.0
_SIDE_PX, _FRAMES_ASKED = 512, 24  # of the frames on which the polarity is looked for, and about how many of them


class SubtractionTags(NamedTuple):
    """What a file says about subtraction."""

    already: str
    """The tag that says the pixels are subtracted, or empty."""
    mask_frames: tuple[int, ...]
    """From 0."""
    mask_shift_px: tuple[float, float]
    """Row, column."""
    operation: str
    notes: tuple[str, ...]


class Interpreted(NamedTuple):
    """A subtracted run; `other_contrast` is how vessels may look in a viewer too, empty where that is certain."""

    run: Subtracted
    other_contrast: Literal["", "dark", "bright"]


class _Polarity(NamedTuple):
    """Whether contrast has the smaller values, whether that is beyond doubt, and what is said of it."""

    dark_is_low: bool
    certain: bool
    notes: tuple[str, ...] = ()


NO_SUBTRACTION_TAGS = SubtractionTags("", (), (0.0, 0.0), "", ())


def subtraction_tags(header: Header, frames: int) -> SubtractionTags:
    """ImageType, derivation and MaskSubtractionSequence of a run of `frames` frames."""
    already = ""
    image_type = header.texts("ImageType")
    words = {"SUBTRACTED", "SUBTRACTION", "SUBTRACT", "SUB", "DSA"}
    if any(words & set(part.replace("_", " ").split()) for part in image_type):
        already = f"{tag_name('ImageType')} " + "\\".join(map(coded, image_type))
    for item in header.items("DerivationCodeSequence"):
        if text_of(item, "CodeValue") == "113062":  # DCM: pixel by pixel subtraction
            already = tag_name("DerivationCodeSequence")

    notes: list[str] = []
    mask_frames: tuple[int, ...] = ()
    shift = (0.0, 0.0)
    items = header.items("MaskSubtractionSequence")
    operations = [text_of(item, "MaskOperation").upper() for item in items]
    for item, operation in zip(items, operations, strict=True):
        numbers = numbers_of(value_of(item, "MaskFrameNumbers"))
        if operation != "AVG_SUB" or not numbers or mask_frames:
            continue
        listed = [int(n) for n in numbers if n.is_integer() and abs(n) < _MOST_FRAMES]
        if len(listed) < len(numbers):
            notes.append(f"{tag_name('MaskFrameNumbers')} holds what is no number of a frame, which is ignored.")
        mask_frames = tuple(n - 1 for n in listed if 1 <= n <= frames)
        if len(mask_frames) < len(listed):
            notes.append(
                f"{tag_name('MaskFrameNumbers')} names frames {', '.join(map(whole_number, listed))}, but the run has {frames}: "
                "those absent are ignored."
            )
        moved = numbers_of(value_of(item, "MaskSubPixelShift"))
        if len(moved) == 2 and all(abs(part) <= _MOST_SHIFT_PX for part in moved):
            shift = (moved[0], moved[1])
        elif moved:
            notes.append(f"{tag_name('MaskSubPixelShift')} is no shift that a patient moves by, and is ignored.")
    if len([o for o in operations if o == "AVG_SUB"]) > 1:
        notes.append(
            f"{tag_name('MaskSubtractionSequence')} changes the mask during the run; its first mask is used for all frames."
        )
    if operations and "AVG_SUB" not in operations and {"TID", "REV_TID"} & set(operations):
        notes.append(
            f"{tag_name('MaskOperation')} is {coded(operations[0])} (differences over time); one mask before contrast is used instead."
        )
    return SubtractionTags(already, mask_frames, shift, coded(operations[0]) if operations else "", tuple(notes))


def interpret(
    pixels: Pixels,
    valid: np.ndarray,
    tags: SubtractionTags,
    settings: SubtractionSettings,
    on_progress: Callable[[float], None] | None = None,
) -> Interpreted:
    """Contrast negative on a background of 0, whatever the file holds; `pixels.values` are overwritten.

    `valid` (row, column) bool: outside, nothing counts.
    """
    values, notes = pixels.values, list(tags.notes)
    already = _already_subtracted(values, valid, tags, settings, notes)
    polarity = _polarity(pixels, valid, tags, settings, already)
    notes += polarity.notes
    if already:
        result = centre_subtracted(values, valid, polarity.dark_is_low)
    else:
        result = subtract(
            _as_log(values, pixels, polarity.dark_is_low),
            valid,
            mask_frames=tags.mask_frames or None,
            mask_shift_px=tags.mask_shift_px,
            settings=settings,
            on_progress=on_progress,
        )
    run = Subtracted(result.frames, result.unsubtracted, result.mask_frames, result.motion, (*notes, *result.notes))
    return Interpreted(run, "" if polarity.certain else pixels.contrast.shown(not polarity.dark_is_low))


def _already_subtracted(
    values: np.ndarray, valid: np.ndarray, tags: SubtractionTags, settings: SubtractionSettings, notes: list[str]
) -> bool:
    """What the person says, else the tags, else the pixels."""
    if settings.mode == "as_is":
        return True
    if settings.mode == "subtract" or settings.mask_frames is not None:
        return False
    flat = looks_subtracted(values, valid)
    if tags.already:
        if not flat:
            notes.append(
                Message(
                    f"{tags.already} says the run is subtracted, but its background is not flat: check the image",
                    advice="Mask frames given by hand subtract it anyway.",
                    give=("mask_frames",),
                )
            )
        return True
    if tags.mask_frames:
        if flat:
            notes.append("The run names mask frames, yet its background is already flat: check the image.")
        return False
    if flat:
        notes.append("No tag says so, but the flat background shows that the run is already subtracted.")
    return flat


def _as_log(values: np.ndarray, pixels: Pixels, dark_is_low: bool) -> np.ndarray:
    """Values with contrast darker, log intensity where the file has intensity. Overwrites `values`."""
    if not dark_is_low:
        np.subtract(np.float32(pixels.full_scale), values, out=values)
    if not pixels.linear:
        return values
    np.maximum(values, np.float32(0.5 * pixels.step), out=values)
    np.log(values, out=values)
    return values


# -- dark or bright -----------------------------------------------------------------------------------


def _polarity(
    pixels: Pixels, valid: np.ndarray, tags: SubtractionTags, settings: SubtractionSettings, already: bool
) -> _Polarity:
    """What the person says, else the tags; where these leave it open, the pixels if they are clear. A doubt is said."""
    contrast = pixels.contrast
    if settings.contrast != "auto":
        return _Polarity(contrast.dark_is_low_if(settings.contrast), certain=True)
    side = contrast.dark_is_low
    if contrast.certain and not already:
        return _Polarity(side, certain=True)
    seen = _seen_in_subtracted(pixels, valid) if already else _seen_in_run(pixels, valid, tags, settings)
    taken, other = contrast.shown(side), contrast.shown(not side)
    if seen is None:
        if contrast.certain:
            return _Polarity(side, certain=True)
        doubt = Message(
            f"Whether vessels are dark or bright is not certain: {contrast.why}, and the pixels do not clearly tell; "
            f"they are read as {taken}",
            give=(Remedy("contrast", other),),
        )
        return _Polarity(side, False, (doubt,))
    if seen == side:
        # Where no mask frame is named, contrast may have been there from the start: what it leaves looks like contrast turned round.
        return _Polarity(side, certain=already or bool(settings.mask_frames or tags.mask_frames))
    if contrast.certain:
        doubt = Message(
            f"{contrast.why}, so vessels are read as {taken}; in the pixels they look {other}: check the image",
            give=(Remedy("contrast", other),),
        )
        return _Polarity(side, False, (doubt,))
    turned = Message(
        f"Vessels are {'brighter' if other == 'bright' else 'darker'} than their background, so the grey values are inverted "
        f"({contrast.why})",
        give=(Remedy("contrast", taken),),
    )
    return _Polarity(not side, False, (turned,))


def _seen_in_subtracted(pixels: Pixels, valid: np.ndarray) -> bool | None:
    """Whether contrast clearly has the smaller values in a run that came subtracted; None if it is not clear."""
    factor = max(1, max(valid.shape) // _SIDE_PX)
    small = np.stack([binned(frame, factor) for frame in pixels.values])
    seen = binned(valid.astype(np.float32), factor) > 0.99
    small -= np.median(small[:, seen], axis=1)[:, None, None]
    sign = contrast_sign(small, seen)
    return None if sign == 0 else sign < 0


def _seen_in_run(
    pixels: Pixels, valid: np.ndarray, tags: SubtractionTags, settings: SubtractionSettings
) -> bool | None:
    """Whether contrast clearly has the smaller values in an unsubtracted run, once motion is undone; None if it is not clear."""
    if len(pixels.values) < 2:
        return None
    factor = max(1, max(valid.shape) // _SIDE_PX)
    seen = binned(valid.astype(np.float32), factor) > 0.99
    count = len(pixels.values)
    masks = [m for m in settings.mask_frames or tags.mask_frames if 0 <= m < count][:_FRAMES_ASKED]
    asked = np.union1d(masks, np.linspace(0, count - 1, min(count, _FRAMES_ASKED)).round()).astype(int)
    small = np.stack([binned(pixels.values[frame], factor) for frame in asked])
    sign, named = _sign_of_change(small, seen, tuple(np.searchsorted(asked, masks).tolist()))
    dark_is_low = sign < 0
    return None if sign == 0 or (not named and dark_is_low != pixels.contrast.dark_is_low) else dark_is_low


def _sign_of_change(frames: np.ndarray, valid: np.ndarray, named: tuple[int, ...]) -> tuple[int, bool]:
    """-1 if vessels turn darker than in the mask frames, +1 if brighter, 0 if it is not clear; whether mask frames are named.

    Frames (t, row, column) are overwritten. Where no mask is named, the first frames may show contrast already, and what it leaves
    behind looks like contrast of the other sign: then vessels must also fade again.
    """
    from DeepIterRegLib.images.motion import undo_motion  # compiled code, which most runs need not wait for

    masks = [m for m in named if 0 <= m < len(frames)]
    chosen = masks or list(choose_mask_frames(frames, valid) or choose_mask_frames(-frames, valid) or (0,))
    others = np.setdiff1d(np.arange(len(frames)), chosen)
    if not len(others):
        return 0, bool(masks)
    mask = frames[chosen].mean(axis=0)
    undo_motion(frames, mask, valid)
    frames -= mask
    frames -= np.median(frames[:, valid], axis=1)[:, None, None]
    sign = contrast_sign(frames[others], valid, mask)
    if sign and not masks and not rises_and_falls(sign * frames[others], valid, mask):
        sign = 0
    return sign, bool(masks)
