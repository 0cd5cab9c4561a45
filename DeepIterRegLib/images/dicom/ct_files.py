"""A CTA from whatever was given that is no NIfTI, NRRD or MHA file: folder, DICOMDIR, .zip, DICOM file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.images.archive import is_zip, unpacked
from DeepIterRegLib.images.dicom.ct_series import read_ct_file, read_ct_folder, read_dicomdir
from DeepIterRegLib.images.dicom.dicomdir import is_dicomdir
from DeepIterRegLib.images.volume import Volume

VOLUME_FILES = (".nii.gz", ".nii", ".nrrd", ".mha")  # that hold all of a volume in one file


def read_ct(path: Path, series: str, phase: int | None, load: Callable[[Path], Volume] | None = None) -> Volume:
    """The CTA in a folder, a DICOMDIR, a .zip or a DICOM file; `load` reads a volume file that a .zip holds.

    Raises
    ------
    InputError
        Nothing there is a volume.
    """
    if path.is_dir():
        return read_ct_folder(path, series, phase)
    if is_dicomdir(path):
        return read_dicomdir(path, series, phase)
    if not is_zip(path):
        return read_ct_file(path, series, phase)
    with unpacked(path) as folder:
        files = [file for file in sorted(folder.rglob("*")) if file.name.lower().endswith(VOLUME_FILES)]
        if not files or load is None:
            return read_ct_folder(folder, series, phase, shown=name_of(path))
        if len(files) > 1:
            raise InputError(
                f"{name_of(path)} holds {len(files)} volumes ({', '.join(map(name_of, files[:3]))}...): unpack it and give one of them."
            )
        if series or phase:
            raise InputError(
                Message(
                    f"{name_of(path)} holds one volume; only of DICOM one can be chosen",
                    at="series" if series else "phase",
                )
            )
        return load(files[0])
