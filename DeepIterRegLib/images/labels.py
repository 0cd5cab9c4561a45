"""Label maps and segmentations: which labels a file holds, by number and by name, and masks of some of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.images.dicom.segmentation import read_dicom_segmentation
from DeepIterRegLib.images.files import VOLUME_SUFFIXES, read_itk_image, read_volume_file
from DeepIterRegLib.images.itk import affine_of
from DeepIterRegLib.images.placement import placed
from DeepIterRegLib.images.segments import Labelled, Segment
from DeepIterRegLib.images.volume import Volume

SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr")
MAX_LABELS = 100  # more different values are grey values
_PROBABILITY = (-0.25, 1.25)  # networks say 0 to 1; resampling goes a little beyond
_HALF = 0.5


@quoting_nothing()
def read_labelled(path: Path, resample: bool = False) -> Labelled:
    """The labels of a NIfTI, NRRD or MetaImage volume, of Slicer's .seg.nrrd, or of a DICOM segmentation.

    Probabilities between 0 and 1 are one label from 0.5 on, with a note.

    Parameters
    ----------
    path
    resample
        Whether a volume of a tilted gantry is laid on upright axes.

    Raises
    ------
    InputError
        Absent, unreadable, damaged, grey values, or nothing set.
    """
    if not exists(path):
        raise InputError(f"{name_of(path)} does not exist.")
    if path.is_dir():
        path = _only_file(path)
    name = path.name.lower()
    if name.endswith(SEGMENTATION_SUFFIXES):
        return read_seg_nrrd(path)
    if not name.endswith(VOLUME_SUFFIXES):
        return read_dicom_segmentation(path)
    return labelled(placed(read_volume_file(path), name_of(path), resample), name_of(path))


def _only_file(folder: Path) -> Path:
    """The one file of a folder: archives hand a DICOM segmentation out like that."""
    files = [path for path in folder.rglob("*") if path.is_file()][:2]
    if len(files) != 1:
        raise InputError(
            f"{name_of(folder)} is a folder; give a mask as one file: NIfTI, NRRD, MHA or a DICOM segmentation."
        )
    return files[0]


def labelled(volume: Volume, name: str) -> Labelled:
    """The labels of a volume; `name` is how messages call it.

    Raises
    ------
    InputError
        Grey values, or nothing set.
    """
    voxels, notes = volume.voxels, volume.notes
    if voxels.dtype.kind == "f":
        voxels, told = _whole_numbers(voxels, name)
        notes = (*notes, *told)
    counts = {1: int(np.count_nonzero(voxels))} if voxels.dtype == bool else _counts(voxels, name)
    counts = {label: count for label, count in counts.items() if label and count}
    if not counts:
        raise InputError(f"{name} is empty: no voxel differs from 0.")
    segments = tuple(
        Segment(label, "", None, _equal_to(voxels, label), count) for label, count in sorted(counts.items())
    )
    return Labelled(segments, voxels.shape, volume.affine, notes)


def _equal_to(voxels: np.ndarray, label: int) -> Callable[[], np.ndarray]:
    return lambda: voxels if voxels.dtype == bool else voxels == label


def _whole_numbers(voxels: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels that are stored as decimals, as integers; probabilities as bool, with a note. What is not a number is 0."""
    voxels = np.nan_to_num(voxels, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(voxels.min()), float(voxels.max())
    if abs(low) < 2**31 and abs(high) < 2**31 and all((piece == np.rint(piece)).all() for piece in voxels):
        return voxels.astype(np.int32), ()
    if low == 0 and np.isin(voxels, np.array((0, high), np.float32)).all():  # one value, whatever it is
        return voxels != 0, ()
    if low < _PROBABILITY[0] or high > _PROBABILITY[1]:
        raise InputError(f"{name} holds grey values from {low:g} to {high:g}, no labels; give a mask or a label map.")
    if high < _HALF:
        raise InputError(f"{name} holds probabilities up to {high:g}; none reaches 0.5, from which on a voxel counts.")
    return voxels >= _HALF, (
        f"{name} holds values between 0 and 1; they were taken as probabilities, and 0.5 and more counts.",
    )


def _counts(voxels: np.ndarray, name: str) -> dict[int, int]:
    """How often each label stands in a volume (k, j, i) of integers; slice by slice, to need no memory."""
    low, high = int(voxels.min()), int(voxels.max())
    if low < 0 or high > 0xFFFF:
        found = np.unique(voxels[:: max(1, len(voxels) // 50)])
        if low < 0 or found.size > MAX_LABELS:
            raise _grey(name, low, high)
        return {int(label): int(np.count_nonzero(voxels == label)) for label in np.unique(voxels)}
    counts = np.zeros(high + 1, np.int64)
    for piece in voxels:
        counts += np.bincount(piece.ravel(), minlength=high + 1)
    labels = np.flatnonzero(counts)
    if labels.size > MAX_LABELS + 1:
        raise _grey(name, low, high)
    return {int(label): int(counts[label]) for label in labels}


def _grey(name: str, low: int, high: int) -> InputError:
    return InputError(
        f"{name} holds grey values from {low} to {high}, as a CT does, no labels; give a mask or a label map."
    )


# -- Slicer's segmentations ----------------------------------------------------------------------------


def read_seg_nrrd(path: Path) -> Labelled:
    """The segments of Slicer's .seg.nrrd, which may share voxels by layers; names and colours are the file's.

    Raises
    ------
    InputError
        Unreadable, damaged, or without a voxel.
    """
    import SimpleITK as sitk

    image, notes = read_itk_image(path)
    if image.GetDimension() != 3:
        raise InputError(f"Segmentation {name_of(path)} has {image.GetDimension()} dimensions; three are needed.")
    values = sitk.GetArrayFromImage(image)
    layers = values[..., None] if image.GetNumberOfComponentsPerPixel() == 1 else values
    keys = _metadata(image)
    found = []
    for n in range(sum(bool(re.fullmatch(r"Segment\d+_ID", key)) for key in keys)):
        label, layer = (
            _whole(keys.get(f"Segment{n}_{what}"), usual) for what, usual in (("LabelValue", 1), ("Layer", 0))
        )
        if layer >= layers.shape[-1]:
            raise InputError(
                f"Segmentation {name_of(path)} is damaged: a segment lies in layer {layer}, which is not there."
            )
        mask = _equal_to(layers[..., layer], label)
        name = keys.get(f"Segment{n}_Name") or keys.get(f"Segment{n}_ID", "")
        found.append((n, label, name, _colour(keys.get(f"Segment{n}_Color", "")), mask, int(mask().sum())))
    unique = len({label for _, label, *_ in found}) == len(found)
    segments = tuple(
        Segment(label if unique else n + 1, name, colour, mask, count)
        for n, label, name, colour, mask, count in found
        if count
    )
    if not segments:
        raise InputError(f"Segmentation {name_of(path)} has no segment with a voxel.")
    return Labelled(segments, layers.shape[:3], affine_of(image), notes)


def _metadata(image: Any) -> dict[str, str]:
    """Pairs of the header; those in another encoding are none of Slicer's."""
    found = {}
    for key in image.GetMetaDataKeys():
        try:
            found[key] = image.GetMetaData(key)
        except (TypeError, ValueError, RuntimeError):
            continue
    return found


def _whole(text: str | None, usual: int) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text.strip()) else usual


def _colour(text: str) -> tuple[int, int, int] | None:
    try:
        parts = [min(255, max(0, round(255 * float(part)))) for part in text.split()]
    except (ValueError, OverflowError):
        return None
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None
