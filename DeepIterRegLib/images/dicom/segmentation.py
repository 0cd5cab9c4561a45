"""DICOM segmentations (SEG), read by highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import naming
from DeepIterRegLib.common.quiet import listening
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.geometry.lps import voxel_affine_lps_ras
from DeepIterRegLib.images.dicom.decoding import check_decodable, surplus_note
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.kinds import Kind, kind_of
from DeepIterRegLib.images.dicom.open_file import UNDECODABLE, open_dataset
from DeepIterRegLib.images.segments import Labelled, Segment

_HALF = 0.5  # of a fractional segmentation: probability or share of the voxel


def read_dicom_segmentation(path: Path) -> Labelled:
    """The segments of a DICOM segmentation that have voxels, by their numbers and labels.

    Raises
    ------
    InputError
        No DICOM segmentation, damaged, uneven slices, nothing set, or highdicom is not installed.
    """
    kind = kind_of(open_dataset(path, ("SOPClassUID", "Modality")))
    if kind is not Kind.SEGMENTATION:
        raise InputError(
            f"{name_of(path)} is {kind.value}, no mask; give a mask as NIfTI, NRRD, MHA, or a DICOM segmentation."
        )
    try:
        import highdicom
    except ImportError as missing:
        raise InputError(f"{name_of(path)} needs highdicom to be read: pip install 'deepiterreg[dicom]'.") from missing
    told = _checked(path)
    try:
        with listening():
            return _labelled(highdicom.seg.segread(path), name_of(path), told)
    except UNDECODABLE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name_of(path)} is no segmentation of evenly spaced slices, or it is damaged; save it again, or as NIfTI."
        ) from None


def _checked(path: Path) -> tuple[str, ...]:
    """Notes on a file whose pixels are all there: highdicom does not count them.

    Raises
    ------
    InputError
        Cut short, or numbers in its header that cannot be.
    """
    with naming(name_of(path)):
        dataset = open_dataset(path)
        check_decodable(Header(dataset, {}))
        said = surplus_note(dataset)
    return (f"{name_of(path)}: {said}",) if said else ()


def _labelled(file: Any, name: str, notes: tuple[str, ...]) -> Labelled:
    segments: list[Segment] = []
    affine, shape = np.eye(4), (0, 0, 0)
    for number in file.segment_numbers:
        volume = file.get_volume(segment_numbers=[number], combine_segments=False)
        mask = np.asarray(volume.array)[..., 0] >= _HALF
        affine, shape = np.array(volume.affine)[:, [2, 1, 0, 3]], mask.shape  # slice, row, column to column, row, slice
        if mask.any():
            segments.append(_segment(int(number), str(file.get_segment_description(number).segment_label), mask))
    if not segments:
        raise InputError(f"{name} has no segment with a voxel.")
    return Labelled(tuple(segments), shape, voxel_affine_lps_ras(affine), notes)


def _segment(number: int, name: str, mask: np.ndarray) -> Segment:
    return Segment(number, name, None, lambda: mask, int(mask.sum()))
