"""Is this the CTA of a head, in HU? Odd HU offsets, empty volumes, heads the wrong way up or round.

This is the one place that decides it and words it; the segmentation relies on its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.images.angiographic import looks_angiographic, prepare_angiographic
from DeepIterRegLib.images.head import (
    BONE_HU,
    TISSUE_HU,
    CoarseCt,
    Head,
    HeadCta,
    brain_of,
    coarse_ct,
    cropped,
    find_head,
    head_about,
)
from DeepIterRegLib.images.number_types import refuse_another_type
from DeepIterRegLib.images.volume import Volume

# Less is no skull, or no brain in one: a whole skull has hundreds of cm3 of bone and a litre of brain. So small, because volumes that begin
# at the orbits or end below the vertex can be registered too.
MIN_BONE_CM3, MIN_BRAIN_CM3 = 20.0, 100.0
_SMALLEST_HEAD_MM = 60.0  # less shows too little of a brain
_MIN_RANGE = 500  # of CT numbers from soft tissue, at least, to bone
_INT16 = (-32768, 32767)
_EXTENDED = (-10_240, 30_710)  # what scanners store of metal at most, and of its shadows at least
_MOST_BEYOND = 0.005  # of the voxels
_AIR_HU = (-1200, -800)  # of a scanner in need of calibration; the others are within 20 of -1000
_DARK_HU, _LEAST_DARK = -300, 0.05  # below: air; as much of the voxels, where it is looked at
_FILL_SHARE = 0.2  # of the dark voxels: one value in so many was not measured but filled in, or cut off at it
_AIR_STEP = 20.0  # HU, of the histogram
_OFFSET = 1024  # scanners that store no negative numbers add this
_AIR_OF_HU = -200  # some of every volume in HU is air or fat
_OFFSET_TISSUE, _OFFSET_BETWEEN = (924, 1174), (300, 800)  # -100 to 150 HU, and a range that tissue has only in true HU
_MIN_OFFSET_TISSUE = 0.03  # of all voxels
_PLAUSIBLE_BRAIN_HU = (-30, 120)  # brain is at 20 to 60 with contrast; noise and hardening shift it

# Orientation, from anatomy: said only where it is clear.
_AXIAL = 0.7  # cosine between the grid's axes and the body's
_CLOSED_SHARE = 0.3  # of the largest area: slices with so much brain are of the skull
_MIN_OUTSIDE_CM3, _OUTSIDE_RATIO = 300, 2  # tissue beyond the brain towards the head, against that towards the feet
_FACE_MM = 80  # below the lowest closed slice, and half of it above
_MIN_SINUS_CM3, _BACKWARD_MM = 5, -8  # air inside the face, and how far behind the middle it lies
_BRAIN_LENGTH_MM = (110.0, 220.0)  # from a child's to the largest, with all that a coarse look may be off by
_CUT = {
    "vertex": "The CTA ends below the vertex: the top of the head is cut off. It is registered as far as it goes.",
    "skull base": "The CTA ends above the skull base: the lower part of the head is cut off. It is registered as far as it goes.",
}


def check_cta(volume: Volume) -> tuple[str, ...]:
    """Notes of `prepare_cta`, for those who only ask."""
    return prepare_cta(volume).notes


def prepare_cta(volume: Volume, head_centre_mm: Sequence[float] | None = None) -> HeadCta:
    """The head's part of a CTA in HU, with notes; or an angiogram in 3D whose values are no HU, whole. A `HeadCta` comes back as it is.

    Parameters
    ----------
    volume
        As read.
    head_centre_mm : (3,)
        RAS mm; in place of the centre that is found.

    Raises
    ------
    InputError
        Not finite, constant, not CT numbers, too small, or without a skull.
    """
    if isinstance(volume, HeadCta):
        return volume
    if volume.values != "HU":
        return prepare_angiographic(volume, head_centre_mm)
    refuse_another_type(volume.voxels, "The CTA")
    try:
        return _prepare_hu(volume, head_centre_mm)
    except InputError:
        if not looks_angiographic(volume):
            raise
    return prepare_angiographic(volume, head_centre_mm)


def _prepare_hu(volume: Volume, head_centre_mm: Sequence[float] | None) -> HeadCta:
    _refuse_senseless(volume)
    coarse = coarse_ct(volume)
    notes = list(volume.notes)
    offset = _hu_offset(coarse.hu)
    if offset:
        notes.append(f"CT numbers are stored as HU + {offset} (air is near 0); {offset} was subtracted.")
        coarse = replace(coarse, hu=coarse.hu - offset, peak=coarse.peak - offset)
    brain = brain_of(coarse)
    if head_centre_mm is None:
        _refuse_headless(volume, coarse, brain)
        head = find_head(coarse, brain)
    else:
        head = head_about(np.array(head_centre_mm))
    part = cropped(volume, head.low_mm, head.high_mm)
    notes += [_CUT[end] for end in head.cut]
    notes += _unlikely_size(head)
    notes += _odd_air(coarse.hu)
    notes += _without_place(volume)
    if brain.any():
        notes += _wrong_way(coarse, brain)
    return HeadCta(_hu(part.voxels, offset), part.affine, tuple(notes), head_centre_mm=head.centre_mm)


def _hu(voxels: np.ndarray, offset: int) -> np.ndarray:
    """Voxels (k, j, i) as HU, int16 and contiguous, as the kernels are compiled for."""
    if voxels.dtype.kind == "f":
        voxels = np.rint(voxels)
    if offset or voxels.dtype != np.int16:
        # In the file's own type the offset may not fit, so it is taken off in a wider one, a slice at a time.
        out = np.empty(voxels.shape, dtype=np.int16)
        for to, slice_ in zip(out, voxels, strict=True):
            to[...] = np.clip(slice_.astype(np.int32) - offset, *_INT16)
        return out
    return np.require(voxels, requirements=["C", "W"])


def _unlikely_size(head: Head) -> list[str]:
    length = 0.0 if head.brain_mm is None else float(head.brain_mm[:2].max())
    low, high = _BRAIN_LENGTH_MM
    if head.brain_mm is None or low <= length <= high:
        return []
    return [
        f"The brain in the CTA is {length:.0f} mm long; brains measure {low:.0f} to {high:.0f} mm. The spacing in the file is probably "
        "wrong: correct it, or the pose will be wrong in depth."
    ]


def _odd_air(hu: np.ndarray) -> list[str]:
    """A note if air (z, y, x) is not where air is in HU: a wrong slope or intercept leaves a head that looks like one."""
    dark = hu[hu < _DARK_HU]
    filled = dark == hu.min()
    if np.count_nonzero(filled) > _FILL_SHARE * dark.size:
        dark = dark[~filled]
    if dark.size < _LEAST_DARK * hu.size:
        return []
    counts, edges = np.histogram(dark, np.arange(float(dark.min()), _DARK_HU + _AIR_STEP, _AIR_STEP))
    air = float(edges[int(counts.argmax())]) + _AIR_STEP / 2
    low, high = _AIR_HU
    if low <= air <= high:
        return []
    return [
        f"Air is at {number_words(air, '.0f')} in the CTA; in HU it is at -1000. The values are probably scaled wrongly (slope or "
        "intercept in the header), and vessels are found by HU: export it again."
    ]


def _without_place(volume: Volume) -> list[str]:
    along_axes = np.abs(volume.affine[:3, :3]) > 1e-6
    if not np.array_equal(along_axes, np.eye(3, dtype=bool)) or volume.affine[:3, 3].any():
        return []
    return [
        "The file has neither position nor orientation (origin 0, axes along the voxels): what it says of right and left, "
        "front and back, head and feet may be wrong."
    ]


def _refuse_senseless(volume: Volume) -> None:
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not all(np.isfinite(piece).all() for piece in voxels):
        raise InputError("The CTA holds values that are not finite numbers (NaN or infinite); export it again.")
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        raise InputError(f"All voxels of the CTA have the value {number_words(low)}: it is empty.")
    _refuse_beyond_ct(voxels, low, high)
    if high - low < _MIN_RANGE:
        raise InputError(
            Message(
                f"The CTA's values go from {number_words(low)} to {number_words(high)}: these are not CT numbers (air "
                "-1000, bone above 500 HU)",
                advice="If this is a mask, give it as one, beside the CTA.",
                give=("cta_mask",),
            )
        )


def _refuse_beyond_ct(voxels: np.ndarray, low: float, high: float) -> None:
    """Refuse voxels (k, j, i) of which more lie beyond every scanner's scale than metal would; lowest and highest may fill."""
    least, most = _EXTENDED
    if low >= least and high <= most:
        return
    counts = (np.count_nonzero(((each > most) & (each != high)) | ((each < least) & (each != low))) for each in voxels)
    beyond = sum(counts) / voxels.size
    if beyond > _MOST_BEYOND:
        raise InputError(
            f"The CTA's values go from {number_words(low)} to {number_words(high)}, and {beyond:.0%} of them lie beyond {least} to {most}: "
            "these are not CT numbers (air -1000, bone above 500 HU). Type, scale or order of bytes in its header may be wrong; export it "
            "again."
        )


def _hu_offset(hu: np.ndarray) -> int:
    """1024 if air lies near 0 and soft tissue near 1064, else 0."""
    if np.percentile(hu, 1) < _AIR_OF_HU:
        return 0
    tissue, between = (np.mean((hu > low) & (hu < high)) for low, high in (_OFFSET_TISSUE, _OFFSET_BETWEEN))
    return _OFFSET if tissue > _MIN_OFFSET_TISSUE and tissue > between else 0


def _refuse_headless(volume: Volume, coarse: CoarseCt, brain: np.ndarray) -> None:
    extent = np.array(volume.voxels.shape) * volume.spacing_mm[::-1]
    size = " x ".join(number_words(e, ".0f") for e in extent[::-1])
    if extent.min() < _SMALLEST_HEAD_MM:
        raise InputError(f"The CTA measures {size} mm; a head needs at least {_SMALLEST_HEAD_MM:.0f} mm on every axis.")
    bone_cm3 = float((coarse.hu > BONE_HU).sum() * coarse.voxel_cm3)
    if bone_cm3 < MIN_BONE_CM3:
        raise no_skull(bone_cm3)
    brain_cm3 = float(brain.sum() * coarse.voxel_cm3)
    if brain_cm3 < MIN_BRAIN_CM3:
        raise no_brain(brain_cm3, f" of {size} mm")


def no_skull(bone_cm3: float) -> InputError:
    """For a CTA with too little bone."""
    return InputError(
        Message(
            f"The CTA has {bone_cm3:.0f} cm3 above {BONE_HU} HU; a skull has hundreds. It shows no head, or bone was "
            "removed, or values are not HU: give the unprocessed CTA of the head",
            advice="Where there is a head all the same, its middle can be given.",
            give=("head_centre",),
        )
    )


def no_brain(enclosed_cm3: float, extent: str = "") -> InputError:
    """For a CTA in which bone encloses too little."""
    return InputError(
        Message(
            f"No skull encloses a brain in the CTA{extent} ({enclosed_cm3:.0f} cm3 of soft tissue lie inside bone, a skull holds 1000 and "
            "more): it shows no head, or only its lower part; give the CTA of the head",
            advice="Where there is a head all the same, its middle can be given.",
            give=("head_centre",),
        )
    )


def require_hu(brain_hu: float) -> None:
    """Refuse values that are no HU, by those of the brain; vessels can only be found by HU, a mask needs none.

    Raises
    ------
    InputError
        Brain is not where brain is in HU.
    """
    low, high = _PLAUSIBLE_BRAIN_HU
    if not low <= brain_hu <= high:
        raise InputError(
            Message(
                f"The inside of the skull is at {number_words(brain_hu, '.0f')} in the CTA; brain is at 20 to 60 HU. The values are not HU "
                "(an offset of 1024 is common)",
                advice="Export the series with its rescale intercept, or use a vessel mask.",
                give=("cta_mask",),
            )
        )


def _wrong_way(coarse: CoarseCt, brain: np.ndarray) -> list[str]:
    """Notes on a head whose anatomy contradicts the file's orientation; only where it is clear.

    Above the brain nothing follows but air, below it come face and neck. The air inside a face (nose, sinuses,
    throat) lies in front of its middle.
    """
    directions = coarse.affine[:3, :3] / np.linalg.norm(coarse.affine[:3, :3], axis=0)
    if min(directions[2, 2], directions[1, 1]) < _AXIAL:
        return []
    brain_area = brain.sum(axis=(1, 2))
    head = coarse.hu > TISSUE_HU
    closed = np.flatnonzero(brain_area > _CLOSED_SHARE * brain_area.max())
    bare = np.ones(len(head), dtype=bool)
    bare[closed[0] : closed[-1] + 1] = False  # slices between count too: a trepanned skull has no closed ring
    tissue = np.where(bare, head.sum(axis=(1, 2)), 0) * coarse.voxel_cm3
    below, above = tissue[: closed[0]].sum(), tissue[closed[-1] :].sum()
    remedy = (
        "The orientation in the file is probably wrong (lost, or slices flipped); "
        "correct it, or the registration will fail or be mirrored."
    )
    notes = []
    upside_down = above > _OUTSIDE_RATIO * below and above > _MIN_OUTSIDE_CM3
    if upside_down:
        notes.append(f"The head seems to be upside down: the vault of the skull lies towards the feet. {remedy}")
    side = np.arange(len(head))[::-1] if upside_down else np.arange(len(head))
    lowest_brain = next(n for n, k in enumerate(side) if not bare[k])
    reach = round(_FACE_MM / float(coarse.spacing_mm[0]))
    face = side[max(0, lowest_brain - reach) : lowest_brain + reach // 2]
    filled = np.stack([ndimage.binary_fill_holes(head[k]) for k in face])
    air = filled & ~head[face]
    if air.sum() * coarse.voxel_cm3 > _MIN_SINUS_CM3:
        forward = float(np.argwhere(air)[:, 1].mean() - np.argwhere(filled)[:, 1].mean()) * coarse.spacing_mm[1]
        if forward < _BACKWARD_MM:
            notes.append(f"The head seems to be back to front: nose and sinuses lie towards the back. {remedy}")
    return notes
