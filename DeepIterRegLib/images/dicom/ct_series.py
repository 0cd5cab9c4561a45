"""A CTA from DICOM: a folder, a DICOMDIR or one file; which series and phase, and its slices as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError, keep_notes
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import name_of, number_words
from DeepIterRegLib.images.archive import is_zip, unpacked
from DeepIterRegLib.images.dicom.ct_choice import Choice, choose, said_of
from DeepIterRegLib.images.dicom.ct_pixels import read_voxels, surplus_note
from DeepIterRegLib.images.dicom.ct_planes import Scan, files_below, scan_files
from DeepIterRegLib.images.dicom.ct_stacks import Series, affine_of, stacks_of
from DeepIterRegLib.images.dicom.dicomdir import files_of_dicomdir, is_dicomdir
from DeepIterRegLib.images.dicom.kinds import Kind, kind_of
from DeepIterRegLib.images.dicom.open_file import open_dataset
from DeepIterRegLib.images.dicom.tags import tag_name, whole_of
from DeepIterRegLib.images.placement import check_spacing
from DeepIterRegLib.images.volume import Values, Volume

_ROUNDING_PX = 1.0  # a lean that shifts the last slice by less against the first is rounding
_WHAT = {
    Kind.CT: "CT, a file a slice",
    Kind.ENHANCED_CT: "enhanced CT, all slices in one file",
    Kind.ROTATIONAL_VOLUME: "3D volume of a rotational run (X-Ray 3D Angiographic)",
    Kind.MR: "MR",
}
_NOT_HU = {
    Kind.ROTATIONAL_VOLUME: "The CTA is a 3D volume of a rotational run (X-Ray 3D Angiographic): its grey values are not HU. "
    "Vessels are taken by their brightness, and the skull is not used.",
    Kind.MR: "The CTA is an MR angiogram: its grey values are not HU. Vessels are taken by their brightness, and there is no skull to use.",
}


def read_ct_folder(folder: Path, series: str = "", phase: int | None = None, shown: str = "") -> Volume:
    """The CTA in a folder and its subfolders.

    Parameters
    ----------
    folder
    series, phase
        What a person chose, see `ct_choice.choose`.
    shown
        What to call the folder in messages, if it is not what a person gave.

    Raises
    ------
    InputError
        No DICOM, no CT, or slices that make no volume: missing, uneven, repeated, cut short, unreadable.
    """
    return _read(files_below(folder), series, phase, shown or name_of(folder))


def read_dicomdir(path: Path, series: str = "", phase: int | None = None) -> Volume:
    """The CTA among the files that a DICOMDIR lists; as `read_ct_folder`."""
    return _read(files_of_dicomdir(path), series, phase, name_of(path))


def read_ct_file(path: Path, series: str = "", phase: int | None = None) -> Volume:
    """A volume in one DICOM file: enhanced CT or MR, X-Ray 3D Angiographic.

    Raises
    ------
    InputError
        Of another kind, one slice only, or slices that make no volume.
    """
    try:
        dataset = open_dataset(path, ["SOPClassUID", "Modality", "NumberOfFrames"])
    except InputError as error:
        if "damaged" in str(error):
            raise
        raise InputError(
            f"{name_of(path)} is not a volume; give a DICOM folder, or a NIfTI, NRRD or MHA file."
        ) from None
    scan = scan_files([path])
    if not scan.planes:
        raise InputError(
            f"{name_of(path)} is {kind_of(dataset).value}; a CT, or a mask as NIfTI, NRRD or MHA, is needed."
        )
    if len(scan.planes) == 1:
        raise InputError(
            f"{name_of(path)} is one slice of a {scan.planes[0].head.modality or 'CT'}; give the folder that holds all of them."
        )
    return _read([path], series, phase, name_of(path), scan)


@quoting_nothing()
def chosen_series(folder: Path, series: str = "", phase: int | None = None) -> Series:
    """The stack that `read_ct_folder` reads."""
    scan = scan_files(files_below(folder))
    return _choice(scan, series, phase, name_of(folder))[0].taken.series


def number_of_frames(path: Path) -> int:
    """Of a DICOM file."""
    return whole_of(open_dataset(path, ["NumberOfFrames"]), "NumberOfFrames", 0, 2**31, 1) or 1


@dataclass(frozen=True)
class Listing:
    """What lies in a folder: in words what is read of it, empty if nothing is, and a line for each series."""

    what: str
    series: tuple[str, ...]


@quoting_nothing()
def list_series(path: Path, series: str = "", phase: int | None = None) -> Listing:
    """Each series in a folder, a DICOMDIR, a .zip or a file: what it is, and whether it would be read or why not.

    Raises
    ------
    InputError
        Nothing there is DICOM, or nothing is as it was asked for.
    """
    if is_zip(path):
        with unpacked(path) as folder:
            return _listed(files_below(folder), series, phase, name_of(path))
    files = files_below(path) if path.is_dir() else files_of_dicomdir(path) if is_dicomdir(path) else [path]
    return _listed(files, series, phase, name_of(path))


def _listed(files: Sequence[Path], series: str, phase: int | None, shown: str) -> Listing:
    scan = scan_files(files)
    others = [f"left out: {len(uids)} x {kind}" for kind, uids in scan.passed_over.items()]
    if not scan.planes:
        if others and not (scan.unplaced or scan.unreadable):
            return Listing("", tuple(others))
        raise _nothing(scan, shown)
    choice, _ = _choice(scan, series, phase, shown)
    lines = [
        f"read: {choice.taken.series.words}",
        *(f"left out: {other.series.words}: {other.why}" for other in choice.others),
        *others,
    ]
    return Listing(_WHAT[choice.taken.series.head.kind], tuple(lines))


def _read(files: Sequence[Path], series: str, phase: int | None, shown: str, scan: Scan | None = None) -> Volume:
    scan = scan or scan_files(files)
    choice, notes = _choice(scan, series, phase, shown)
    try:
        return _volume(scan, choice.taken.series, notes, shown)
    except InputError as error:
        keep_notes(error, notes)
        raise


def _volume(scan: Scan, taken: Series, notes: list[str], shown: str) -> Volume:
    """The voxels of a stack and where they stand; `notes` go with them, and grow."""
    if taken.repeated:
        notes.append(f"{taken.repeated} copies of slices ({tag_name('SOPInstanceUID')}) were left out.")
    _refuse_unreadable(scan, taken, shown)
    affine = affine_of(taken)
    check_spacing(
        affine, (len(taken.planes), taken.head.rows, taken.head.columns), f"The {taken.modality} ({taken.words})"
    )
    voxels = read_voxels(taken)
    if said := surplus_note(taken):
        notes.append(said)
    kind = taken.head.kind
    values: Values = "other" if kind in _NOT_HU else "HU"
    if kind in _NOT_HU:
        notes.append(_NOT_HU[kind])
    if taken.head.reformat:
        notes.append(
            f"The slices read ({taken.words}) were computed from others (ImageType says so): thin original ones are better."
        )
    straight = _perpendicular(affine, len(voxels))
    shift_mm = np.linalg.norm(affine[:3, 2] - straight[:3, 2]) * (len(voxels) - 1)
    if shift_mm < _ROUNDING_PX * min(taken.spacing_mm):
        return Volume(voxels, straight, tuple(notes), values)
    from DeepIterRegLib.images.shear import shear_deg, upright  # compiled code, which upright scans need not wait for

    lean = shear_deg(affine)
    notes.append(
        f"The CT was scanned with a tilted gantry: slices shift by {lean:.1f} deg against their normal "
        f"({tag_name('ImagePositionPatient')}; {tag_name('GantryDetectorTilt')} {number_words(taken.planes[0].tilt_deg)}). It was "
        "resampled to upright axes."
    )
    outside = -1000.0 if values == "HU" else float(voxels.min())
    return upright(Volume(voxels, affine, tuple(notes), values), outside)


def _choice(scan: Scan, series: str, phase: int | None, shown: str) -> tuple[Choice, list[str]]:
    if not scan.planes:
        raise _nothing(scan, shown)
    choice = choose(stacks_of(scan.planes), series, phase, shown)
    passed = {kind: len(uids) for kind, uids in scan.passed_over.items()}
    return choice, said_of(choice, passed)


def _nothing(scan: Scan, shown: str) -> InputError:
    if scan.unplaced:
        where = " or ".join(map(tag_name, ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")))
        return InputError(
            f"The CT in {shown} does not say where its {len(scan.unplaced)} slices lie ({where} is absent); "
            "export it again from the archive."
        )
    if scan.unreadable:
        return InputError(f"All {len(scan.unreadable)} DICOM files in {shown} are damaged or empty; copy them again.")
    if scan.passed_over:
        kinds = "; ".join(sorted(f"{len(uids)} x {kind}" for kind, uids in scan.passed_over.items()))
        return InputError(f"{shown} holds no CT, but {kinds}; give a CTA.")
    return InputError(f"{shown} and its subfolders hold no DICOM slices; give a DICOM folder, NIfTI, NRRD or MHA.")


def _refuse_unreadable(scan: Scan, taken: Series, shown: str) -> None:
    """No half a series is read: what could not be read may be of it."""
    folders = {path.parent for path in taken.files}
    lost = [path for path in scan.unreadable if path.parent in folders]
    unplaced = [path for path, uid in scan.unplaced if uid == taken.head.uid]
    if lost:
        empty = sum(path.exists() and path.stat().st_size == 0 for path in lost)
        total = len(lost) + len({plane.file for plane in scan.planes if plane.file.parent in folders})
        raise InputError(
            f"{len(lost)} of {total} files beside the CT's slices in {shown} cannot be read "
            f"({empty} are empty; the first is {name_of(lost[0])}), so the series may lack slices: copy it again."
        )
    if unplaced:
        raise InputError(
            f"{len(unplaced)} of {len(unplaced) + len(taken.planes)} slices of the CT series ({taken.words}) do not say where they lie "
            f"({tag_name('ImagePositionPatient')}); the first is {name_of(unplaced[0])}. Copy the series again."
        )


def _perpendicular(affine: np.ndarray, slices: int) -> np.ndarray:
    """The affine without its lean; the middle slice stays where it was."""
    step, normal = affine[:3, 2], np.cross(affine[:3, 0], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    result = affine.copy()
    result[:3, 2] = normal * (step @ normal)
    result[:3, 3] += (step - result[:3, 2]) * (slices - 1) / 2
    return result
