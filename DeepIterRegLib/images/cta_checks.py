"""Is this the CTA of a head, in HU? Odd HU offsets, empty volumes, heads the wrong way up or round.

This is the one place that decides it and words it; the segmentation relies on its answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.images.angiographic import looks_angiographic, prepare_angiographic
from DeepIterRegLib.images.volume import Volume

AIR_HU = -1000
# Less is no skull, or no brain in one: a whole skull has hundreds of cm3 of bone and a litre of brain. So small, because volumes that begin
# at the orbits or end below the vertex can be registered too.
MIN_BONE_CM3, MIN_BRAIN_CM3 = 20.0, 100.0
_COARSE_MM = 3.0  # enough to see a skull, and a hundredth of the voxels
_BONE_HU, _TISSUE_HU, _BRAIN_HU = 300, -300, -100  # above: bone; no air; no fat, whatever the noise
_SMALLEST_HEAD_MM = 60.0  # less shows too little of a brain
_MIN_RANGE = 500  # of CT numbers from soft tissue, at least, to bone
_GAP_MM = 8.0  # openings of the skull that a ring of bone may have and still be closed
_BRAIN_WIDTH_MM = 15  # half of it: what is narrower inside a ring of bone is orbit, sinus or spinal canal
_CROSS = ndimage.generate_binary_structure(2, 1)[None]
_OFFSET = 1024  # scanners that store no negative numbers add this
_AIR_OF_HU = -200  # some of every volume in HU is air or fat
_OFFSET_TISSUE, _OFFSET_BETWEEN = (924, 1174), (300, 800)  # -100 to 150 HU, and a range that tissue has only in true HU
_MIN_OFFSET_TISSUE = 0.03  # of all voxels
_PLAUSIBLE_BRAIN_HU = (-30, 120)  # brain is at 20 to 60 with contrast; noise and hardening shift it

# Orientation, from anatomy: said only where it is clear.
_AXIAL = 0.7  # cosine between slices' axes and the body's
_CLOSED_SHARE = 0.3  # of the largest area: slices with so much brain are of the skull
_MIN_OUTSIDE_CM3, _OUTSIDE_RATIO = 300, 2  # tissue beyond the brain towards the head, against that towards the feet
_FACE_MM = 80  # below the lowest closed slice, and half of it above
_MIN_SINUS_CM3, _BACKWARD_MM = 5, -8  # air inside the face, and how far behind the middle it lies


@dataclass(frozen=True)
class _Coarse:
    """The CTA (k, j, i) about 3 mm apart, k rising towards the head.

    `hu` picks voxels, `peak` takes the largest of each block in plane, so that thin bone is not missed; `spacing_mm` (3,) along k, j, i.
    """

    hu: np.ndarray
    peak: np.ndarray
    spacing_mm: np.ndarray

    @property
    def voxel_cm3(self) -> float:
        return float(self.spacing_mm.prod() / 1000)


def check_cta(volume: Volume) -> tuple[str, ...]:
    """Notes of `prepare_cta`, for those who only ask."""
    return prepare_cta(volume)[1]


def prepare_cta(volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """The CTA in HU, and notes; or an angiogram in 3D whose values are no HU, as it is.

    Voxels are copied only if they must be shifted by 1024 HU.

    Raises
    ------
    InputError
        Not finite, constant, not CT numbers, too small, or without a skull.
    """
    if volume.values != "HU":
        return prepare_angiographic(volume)
    try:
        return _prepare_hu(volume)
    except InputError:
        if not looks_angiographic(volume):
            raise
    return prepare_angiographic(volume)


def _prepare_hu(volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    notes = list(volume.notes)
    _refuse_senseless(volume)
    coarse = _coarse(volume)
    offset = _hu_offset(coarse.hu)
    if offset:
        notes.append(f"CT numbers are stored as HU + {offset} (air is near 0); {offset} was subtracted.")
        coarse = _Coarse(coarse.hu - offset, coarse.peak - offset, coarse.spacing_mm)
        floating = volume.voxels.dtype.kind == "f"
        shifted = volume.voxels.astype(volume.voxels.dtype if floating else np.int16, copy=True)
        shifted -= shifted.dtype.type(offset)
        volume = Volume(shifted, volume.affine, volume.notes)
    brain = _enclosed(coarse)
    _refuse_headless(volume, coarse, brain)
    along_axes = np.abs(volume.affine[:3, :3]) > 1e-6
    if np.array_equal(along_axes, np.eye(3, dtype=bool)) and not volume.affine[:3, 3].any():
        notes.append(
            "The file has neither position nor orientation (origin 0, axes along the voxels): what it says of right and left, "
            "front and back, head and feet may be wrong."
        )
    notes += _wrong_way(coarse, brain, volume.affine)
    return volume, tuple(notes)


def _coarse(volume: Volume) -> _Coarse:
    spacing = volume.spacing_mm[::-1]
    k, j, i = np.maximum(1, np.floor(_COARSE_MM / spacing)).astype(int)
    slices = volume.voxels[::k]
    rows, columns = slices.shape[1] // j * j, slices.shape[2] // i * i
    hu = slices[:, :rows:j, :columns:i]
    blocks = slices[:, :rows, :columns].reshape(len(slices), rows // j, j, columns // i, i)
    peak = blocks.max(axis=(2, 4))
    if volume.affine[2, 2] < 0:
        hu, peak = hu[::-1], peak[::-1]
    return _Coarse(hu.astype(np.float32), peak.astype(np.float32), spacing * (k, j, i))


def _refuse_senseless(volume: Volume) -> None:
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not all(np.isfinite(piece).all() for piece in voxels):
        raise InputError("The CTA holds values that are not finite numbers (NaN or infinite); export it again.")
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        raise InputError(f"All voxels of the CTA have the value {low:g}: it is empty.")
    if high - low < _MIN_RANGE:
        raise InputError(
            Message(
                f"The CTA's values go from {low:g} to {high:g}: these are not CT numbers (air -1000, bone above 500 HU)",
                advice="If this is a mask, give it as one, beside the CTA.",
                give=("cta_mask",),
            )
        )


def _hu_offset(hu: np.ndarray) -> int:
    """1024 if air lies near 0 and soft tissue near 1064, else 0."""
    if np.percentile(hu, 1) < _AIR_OF_HU:
        return 0
    tissue, between = (np.mean((hu > low) & (hu < high)) for low, high in (_OFFSET_TISSUE, _OFFSET_BETWEEN))
    return _OFFSET if tissue > _MIN_OFFSET_TISSUE and tissue > between else 0


def _refuse_headless(volume: Volume, coarse: _Coarse, brain: np.ndarray) -> None:
    extent = np.array(volume.voxels.shape) * volume.spacing_mm[::-1]
    if extent.min() < _SMALLEST_HEAD_MM:
        size = " x ".join(f"{e:.0f}" for e in extent[::-1])
        raise InputError(f"The CTA measures {size} mm; a head needs at least {_SMALLEST_HEAD_MM:.0f} mm on every axis.")
    bone_cm3 = float((coarse.hu > _BONE_HU).sum() * coarse.voxel_cm3)
    if bone_cm3 < MIN_BONE_CM3:
        raise no_skull(bone_cm3)
    brain_cm3 = float(brain.sum() * coarse.voxel_cm3)
    if brain_cm3 < MIN_BRAIN_CM3:
        raise no_brain(brain_cm3)


def no_skull(bone_cm3: float) -> InputError:
    """For a CTA with too little bone."""
    return InputError(
        f"The CTA has {bone_cm3:.0f} cm3 above {_BONE_HU} HU; a skull has hundreds. It shows no head, or bone was "
        "removed, or values are not HU: give the unprocessed CTA of the head."
    )


def no_brain(enclosed_cm3: float) -> InputError:
    """For a CTA in which bone encloses too little."""
    return InputError(
        f"No skull encloses a brain in the CTA ({enclosed_cm3:.0f} cm3 of soft tissue lie inside bone, a skull holds 1000 and more): "
        "it shows no head, or only its lower part; give the CTA of the head."
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
                f"The inside of the skull is at {brain_hu:.0f} in the CTA; brain is at 20 to 60 HU. The values are not HU "
                "(an offset of 1024 is common)",
                advice="Export the series with its rescale intercept, or use a vessel mask.",
                give=("cta_mask",),
            )
        )


def _enclosed(coarse: _Coarse) -> np.ndarray:
    """Soft tissue inside a closed ring of bone, slice by slice (k, j, i): the brain."""
    steps = max(1, round(_GAP_MM / 2 / coarse.spacing_mm[2]))
    bone = ndimage.binary_dilation(coarse.peak > _BONE_HU, _CROSS, iterations=steps)
    inside = np.stack([ndimage.binary_fill_holes(one) for one in bone]) & ~bone & (coarse.hu > _BRAIN_HU)
    wide = max(1, round(_BRAIN_WIDTH_MM / coarse.spacing_mm[2]))
    return np.asarray(ndimage.binary_opening(inside, _CROSS, iterations=wide))


def _wrong_way(coarse: _Coarse, brain: np.ndarray, affine: np.ndarray) -> list[str]:
    """Notes on a head whose anatomy contradicts the file's orientation; only for axial slices, only where it is clear.

    Above the brain nothing follows but air, below it come face and neck. The air inside a face (nose, sinuses,
    throat) lies in front of its middle.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if min(abs(directions[2, 2]), abs(directions[1, 1])) < _AXIAL:
        return []
    k_mm = coarse.spacing_mm[0]
    brain_area = brain.sum(axis=(1, 2))
    head = coarse.hu > _TISSUE_HU
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
    reach = round(_FACE_MM / k_mm)
    face = side[max(0, lowest_brain - reach) : lowest_brain + reach // 2]
    filled = np.stack([ndimage.binary_fill_holes(head[k]) for k in face])
    air = filled & ~head[face]
    if air.sum() * coarse.voxel_cm3 > _MIN_SINUS_CM3:
        forward = float(np.argwhere(air)[:, 1].mean() - np.argwhere(filled)[:, 1].mean()) * coarse.spacing_mm[1]
        if forward * directions[1, 1] < _BACKWARD_MM:
            notes.append(f"The head seems to be back to front: nose and sinuses lie towards the back. {remedy}")
    return notes
