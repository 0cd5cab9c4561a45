"""Is this the CTA of a head? Odd HU offsets, empty volumes, heads the wrong way up or round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.images.volume import Volume

_COARSE_MM = 3.0
_BONE_HU, _TISSUE_HU, _BRAIN_HU = 300, -300, -100
_SMALLEST_HEAD_MM = 60.0
_MIN_BONE_CM3, _MIN_BRAIN_CM3 = 20.0, 100.0
_GAP_MM = 8.0  # openings of the skull that a ring of bone may have and still be closed
_CROSS = ndimage.generate_binary_structure(2, 1)[None]


@dataclass(frozen=True)
class _Coarse:
    """The CTA about 3 mm apart, k rising towards the head: `hu` picks voxels, `peak` takes the largest of each block in plane."""

    hu: np.ndarray
    peak: np.ndarray
    spacing_mm: np.ndarray  # (k, j, i)


def check_cta(volume: Volume) -> tuple[str, ...]:
    """Notes of `prepare_cta`, for those who only ask."""
    return prepare_cta(volume)[1]


def prepare_cta(volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """The CTA in HU, and notes.

    Voxels are copied only if they must be shifted by 1024 HU.

    Raises
    ------
    InputError
        Not finite, constant, not CT numbers, too small, or without a skull.
    """
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
    if high - low < 500:
        raise InputError(
            Message(
                f"The CTA's values go from {low:g} to {high:g}: these are not CT numbers (air -1000, bone above 500 HU)",
                advice="If this is a mask, give it as one, beside the CTA.",
                give=("cta_mask",),
            )
        )


def _hu_offset(hu: np.ndarray) -> int:
    """1024 if air lies near 0 and soft tissue near 1064, else 0."""
    if np.percentile(hu, 1) < -200:
        return 0
    tissue = np.mean((hu > 924) & (hu < 1174))
    between = np.mean((hu > 300) & (hu < 800))
    return 1024 if tissue > 0.03 and tissue > between else 0


def _refuse_headless(volume: Volume, coarse: _Coarse, brain: np.ndarray) -> None:
    extent = np.array(volume.voxels.shape) * volume.spacing_mm[::-1]
    if extent.min() < _SMALLEST_HEAD_MM:
        size = " x ".join(f"{e:.0f}" for e in extent[::-1])
        raise InputError(f"The CTA measures {size} mm; a head needs at least {_SMALLEST_HEAD_MM:.0f} mm on every axis.")
    voxel_cm3 = coarse.spacing_mm.prod() / 1000
    bone_cm3 = float((coarse.hu > _BONE_HU).sum() * voxel_cm3)
    if bone_cm3 < _MIN_BONE_CM3:
        raise InputError(
            f"The CTA has {bone_cm3:.0f} cm3 above {_BONE_HU} HU; a skull has hundreds. It shows no head, or bone was "
            "removed, or values are not HU: give the unprocessed CTA of the head."
        )
    if brain.sum() * voxel_cm3 < _MIN_BRAIN_CM3:
        raise InputError(
            "No skull encloses a brain in the CTA: it shows no head, or only its lower part; give the CTA of the head."
        )


def _enclosed(coarse: _Coarse) -> np.ndarray:
    """Soft tissue inside a closed ring of bone, slice by slice (k, j, i): the brain."""
    steps = max(1, round(_GAP_MM / 2 / coarse.spacing_mm[2]))
    bone = ndimage.binary_dilation(coarse.peak > _BONE_HU, _CROSS, iterations=steps)
    inside = np.stack([ndimage.binary_fill_holes(one) for one in bone]) & ~bone & (coarse.hu > _BRAIN_HU)
    wide = max(1, round(15 / coarse.spacing_mm[2]))
    return np.asarray(ndimage.binary_opening(inside, _CROSS, iterations=wide))


def _wrong_way(coarse: _Coarse, brain: np.ndarray, affine: np.ndarray) -> list[str]:
    """Notes on a head whose anatomy contradicts the file's orientation; only for axial slices, only where it is clear.

    Above the brain nothing follows but air, below it come face and neck. The air inside a face (nose, sinuses,
    throat) lies in front of its middle.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if min(abs(directions[2, 2]), abs(directions[1, 1])) < 0.7:
        return []
    k_mm = coarse.spacing_mm[0]
    brain_area = brain.sum(axis=(1, 2))
    head = coarse.hu > _TISSUE_HU
    closed = np.flatnonzero(brain_area > 0.3 * brain_area.max())
    bare = np.ones(len(head), dtype=bool)
    bare[closed[0] : closed[-1] + 1] = False  # slices between count too: a trepanned skull has no closed ring
    tissue = np.where(bare, head.sum(axis=(1, 2)), 0) * coarse.spacing_mm.prod() / 1000
    below, above = tissue[: closed[0]].sum(), tissue[closed[-1] :].sum()
    remedy = (
        "The orientation in the file is probably wrong (lost, or slices flipped); "
        "correct it, or the registration will fail or be mirrored."
    )
    notes = []
    upside_down = above > 2 * below and above > 300
    if upside_down:
        notes.append(f"The head seems to be upside down: the vault of the skull lies towards the feet. {remedy}")
    side = np.arange(len(head))[::-1] if upside_down else np.arange(len(head))
    lowest_brain = next(n for n, k in enumerate(side) if not bare[k])
    reach = round(80 / k_mm)
    face = side[max(0, lowest_brain - reach) : lowest_brain + reach // 2]
    filled = np.stack([ndimage.binary_fill_holes(head[k]) for k in face])
    air = filled & ~head[face]
    if air.sum() * coarse.spacing_mm.prod() / 1000 > 5:
        forward = float(np.argwhere(air)[:, 1].mean() - np.argwhere(filled)[:, 1].mean()) * coarse.spacing_mm[1]
        if forward * directions[1, 1] < -8:
            notes.append(f"The head seems to be back to front: nose and sinuses lie towards the back. {remedy}")
    return notes
