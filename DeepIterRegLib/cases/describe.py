"""What a file or folder is, what is read from it, what is missing, and how this program would use it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.cases.other_files import describe_other
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import name_of, number_words
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.images.archive import is_zip, unpacked
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.dicom import describe
from DeepIterRegLib.images.dicom.ct_files import VOLUME_FILES
from DeepIterRegLib.images.dicom.ct_planes import VOLUMES
from DeepIterRegLib.images.dicom.ct_series import list_series, number_of_frames
from DeepIterRegLib.images.dicom.dicomdir import is_dicomdir
from DeepIterRegLib.images.dicom.kinds import Kind, kind_of
from DeepIterRegLib.images.dicom.open_file import open_dataset
from DeepIterRegLib.images.dicom.run_files import is_run_folder
from DeepIterRegLib.images.files import VOLUME_SUFFIXES, load_volume
from DeepIterRegLib.images.volume import Volume, is_mask

USED = "used as"
NOTHING = "nothing"
_OF_ITSELF, _WHAT = "kind", "what it is"


@quoting_nothing()
def describe_file(path: Path, series: str | None = None, phase: int | None = None) -> dict[str, Any]:
    """What a file or folder is and how it would be used, then what is read from it, by plain names; no patient identity.

    Parameters
    ----------
    path
    series, phase
        Of a folder, as `load_volume` takes them.

    Raises
    ------
    InputError
        Absent, damaged, or of no kind that is known.
    """
    if not exists(path):
        raise InputError(f"{name_of(path)} does not exist.")
    if path.is_dir() or is_dicomdir(path) or is_zip(path):
        return _describe_many(path, series, phase)
    if is_angiogram(path):
        return describe_other(path) or _describe_dicom(path)
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        return _describe_slices(path, series, phase)
    volume = load_volume(path, series, phase)
    return describe_volume(volume)


def is_angiogram(path: Path) -> bool:
    """Whether a file or folder looks like a DSA rather than a volume: by what it is, not by its size."""
    if path.is_dir():
        return is_run_folder(path)
    if not path.is_file() or path.name.lower().endswith(VOLUME_SUFFIXES) or is_dicomdir(path) or is_zip(path):
        return False
    try:
        return kind_of(open_dataset(path, ["SOPClassUID", "Modality"])) not in VOLUMES
    except InputError:  # an image, or something that the reader of runs will tell
        return True


def _describe_slices(path: Path, series: str | None, phase: int | None) -> dict[str, Any]:
    """A DICOM file with slices: one, or all of a volume."""
    if number_of_frames(path) < 2:
        kind = kind_of(open_dataset(path, ["SOPClassUID", "Modality"]))
        return {_OF_ITSELF: kind.value, USED: "nothing alone: give the folder that holds all slices"}
    what = list_series(path, series or "", phase).what
    return {**describe_volume(load_volume(path, series, phase)), _WHAT: what}


def _describe_many(path: Path, series: str | None, phase: int | None) -> dict[str, Any]:
    """A folder, a DICOMDIR, a .zip: every series in it, and the volume that would be read."""
    if _holds_volume_file(path):
        volume = load_volume(path, series, phase)
        return describe_volume(volume)
    if path.is_dir() and is_angiogram(path):
        return _described_run(describe(path), Kind.RUN)
    listing = list_series(path, series or "", phase)
    if not listing.what:
        return {_OF_ITSELF: "DICOM without a CT", USED: NOTHING, "series": list(listing.series)}
    described = {**describe_volume(load_volume(path, series, phase)), _WHAT: listing.what}
    first = {name: described.pop(name) for name in (_OF_ITSELF, USED, _WHAT)}
    return {**first, "series": list(listing.series), **described}


def _holds_volume_file(path: Path) -> bool:
    if not is_zip(path):
        return False
    with unpacked(path) as folder:
        return any(file.name.lower().endswith(VOLUME_FILES) for file in folder.rglob("*"))


def _describe_dicom(path: Path) -> dict[str, Any]:
    """One DICOM file that is no whole volume, or an image file."""
    try:
        kind = kind_of(open_dataset(path, ["SOPClassUID", "Modality"]))
    except InputError:
        return describe(path)
    if kind is Kind.SEGMENTATION:
        return {_OF_ITSELF: kind.value, USED: "vessels of the CTA"}
    if kind in (Kind.REPORT, Kind.VIDEO, Kind.ULTRASOUND):
        return {_OF_ITSELF: kind.value, USED: NOTHING}
    return _described_run(describe(path), kind)


def _described_run(found: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """With what it is and how it would be used before all that was found in it."""
    usable = found[_OF_ITSELF] == "angiogram" and "cannot be used" not in found
    return {_OF_ITSELF: found[_OF_ITSELF], _WHAT: kind.value, USED: "DSA" if usable else NOTHING, **found}


def describe_volume(volume: Volume) -> dict[str, Any]:
    """What a volume is and how it would be used; its grid, orientation and values."""
    # About 64 slices: the range is for orientation, and a whole head would only take longer.
    values = volume.voxels[:: max(1, volume.voxels.shape[0] // 64)]
    mask = is_mask(volume)
    prepared, notes = (None, list(volume.notes)) if mask else _prepared(volume)
    unit = "" if mask else " (HU)" if (prepared or volume).values == "HU" else " (not HU)"
    codes = "".join(
        ("RL", "AP", "SI")[int(np.argmax(np.abs(axis)))][0 if axis[int(np.argmax(np.abs(axis)))] > 0 else 1]
        for axis in volume.affine[:3, :3].T
    )
    k, j, i = volume.voxels.shape
    return {
        **_use_of(mask, prepared),
        "size (i, j, k)": [i, j, k],
        "spacing (mm)": [round(float(s), 4) for s in volume.spacing_mm],
        "axes run towards": codes,
        "centre (RAS mm)": [round(float(c), 2) for c in volume.centre_mm],
        "extent (mm)": [round(n * float(s), 1) for n, s in zip((i, j, k), volume.spacing_mm, strict=True)],
        "values": f"{_short(float(np.nanmin(values)))} to {_short(float(np.nanmax(values)))}{unit}",
        **({"voxels set": int(np.count_nonzero(volume.voxels))} if mask else {}),
        "notes": notes,
    }


def _use_of(mask: bool, prepared: Volume | None) -> dict[str, str]:
    if mask:
        return {_OF_ITSELF: "mask", USED: "vessels of the CTA"}
    if prepared is None:
        return {_OF_ITSELF: "volume", USED: f"{NOTHING}, see the notes"}
    what = "CT of a head" if prepared.values == "HU" else "angiogram in 3D, not in HU"
    return {_OF_ITSELF: "volume", USED: "CTA", _WHAT: what}


def _prepared(volume: Volume) -> tuple[Volume | None, list[str]]:
    """The volume as a registration would take it, or None, and what is said of it."""
    try:
        prepared = prepare_cta(volume)
    except InputError as error:
        # `info` is asked just when a file does not work: what `register` would refuse is a note here.
        return None, [*volume.notes, *error.problems]
    return prepared, list(prepared.notes)


def _short(value: float) -> str:
    return number_words(value, ".0f" if math.isfinite(value) and value == int(value) else ".4g")
