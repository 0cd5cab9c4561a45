"""Volumes from files and back: DICOM series, NIfTI, NRRD, MetaImage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.atomic_output import not_whole
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message, naming
from DeepIterRegLib.common.quiet import listening, quoting_nothing
from DeepIterRegLib.common.renaming import flush
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.geometry.lps import voxel_affine_lps_ras
from DeepIterRegLib.images.file_checks import check_header_and_data
from DeepIterRegLib.images.itk import affine_of, voxels_of
from DeepIterRegLib.images.nifti import NIFTI_SUFFIXES, read_nifti
from DeepIterRegLib.images.number_types import refuse_another_type
from DeepIterRegLib.images.placement import check_spacing, placed
from DeepIterRegLib.images.volume import Volume

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@quoting_nothing()
def load_volume(path: str | Path, series: str | None = None, phase: int | None = None) -> Volume:
    """Read a CT or a mask: a DICOM folder, DICOMDIR or file, NIfTI, NRRD, MHA or MHD, or a .zip with one of these in it.

    Axes are perpendicular; those that had to be mended are told. Voxels keep the file's type (float64 becomes float32). Of several CT
    series in a folder the CTA is read, with a note;
    `series` (number, description or UID) and `phase` (from 1) choose for good.

    Raises
    ------
    InputError
        Absent, not a volume, in colour, cut short, damaged, of another type of voxels than its header says, or a DICOM
        series with missing or uneven slices.
    """
    path = Path(path)
    if not exists(path):
        raise InputError(f"{name_of(path)} does not exist.")
    if path.is_dir() or not path.name.lower().endswith(VOLUME_SUFFIXES):
        from DeepIterRegLib.images.dicom.ct_files import read_ct

        with naming(name_of(path)):
            volume = read_ct(path, series or "", phase, load_volume)
            refuse_another_type(volume.voxels, "The series")
            return volume
    if series or phase:
        raise InputError(
            Message(
                f"{name_of(path)} holds one volume; only of DICOM one can be chosen", at="series" if series else "phase"
            )
        )
    volume = read_volume_file(path)
    refuse_another_type(volume.voxels, name_of(path))
    return placed(volume, name_of(path))


def read_volume_file(path: Path) -> Volume:
    """The voxels of a NIfTI, NRRD, MHA or MHD file where it puts them; its axes may be sheared.

    Raises
    ------
    InputError
        Not a volume, in colour, cut short or damaged.
    """
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return read_nifti(path)
    image, notes = read_itk_image(path)
    # Some programs write one volume as a series of one.
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        size, parts = image.GetSize(), image.GetNumberOfComponentsPerPixel()
        raise InputError(
            f"{name_of(path)} has size {size} with {parts} value(s) a voxel; three dimensions and one value are needed."
        )
    voxels, affine = voxels_of(image), affine_of(image)
    check_spacing(affine, voxels.shape, name_of(path))
    return Volume(voxels, affine, notes)


def read_itk_image(path: Path) -> tuple[Any, tuple[str, ...]]:
    """A SimpleITK image of an NRRD or MetaImage file that is whole, and notes on the file.

    Raises
    ------
    InputError
        Cut short, damaged, or nothing that ITK reads.
    """
    import SimpleITK as sitk

    notes = check_header_and_data(path)
    try:
        with listening():
            return sitk.ReadImage(str(path)), notes
    except RuntimeError:
        # ITK's reasons quote the header.
        raise InputError(
            f"{name_of(path)} cannot be read as a volume: its header is damaged; copy it again, or save it anew."
        ) from None


def save_volume(volume: Volume, path: str | Path) -> None:
    """Write NIfTI, NRRD, MHA or MHD by the suffix; bool becomes uint8. Written beside, then renamed.

    Raises
    ------
    InputError
        Unknown suffix, sheared axes, or a folder that cannot be written.
    """
    path = Path(path)
    suffix = next((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise InputError(f"{name_of(path)} has no suffix of a volume; use one of {', '.join(VOLUME_SUFFIXES)}.")
    directions = volume.affine[:3, :3] / volume.spacing_mm
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise InputError(f"The axes of the volume are not perpendicular; {name_of(path)} cannot hold them.")
    if volume.voxels.dtype == bool:
        volume = volume.with_voxels(volume.voxels.view(np.uint8))
    # MHD and NHDR name a data file of their own, so they cannot be renamed afterwards.
    beside = path if suffix in (".mhd", ".nhdr") else path.with_name(f".{path.name}.part{suffix}")
    try:
        if suffix in (".nii", ".nii.gz"):
            _write_nifti(volume, beside)
        else:
            _write_by_itk(volume, beside)
        if beside != path:
            flush(beside)
            os.replace(beside, path)
    except (RuntimeError, OSError) as error:
        if not path.parent.is_dir():
            raise InputError(
                f"The folder {name_of(path.parent)} does not exist, so {name_of(path)} cannot be written."
            ) from None
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"The folder {name_of(path.parent)} cannot be written to.") from None
        if isinstance(error, OSError):
            raise
        raise not_whole(path) from error
    finally:
        if beside != path:
            beside.unlink(missing_ok=True)


def _write_nifti(volume: Volume, path: Path) -> None:
    """By nibabel: ITK's writer says nothing when the disk is full and leaves a truncated file."""
    import nibabel

    image = nibabel.Nifti1Image(volume.voxels.transpose(2, 1, 0), volume.affine)
    image.header.set_xyzt_units("mm")
    # Both forms, as some readers look at the one only and some at the other.
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1)
    nibabel.save(image, path)


def _write_by_itk(volume: Volume, path: Path) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.voxels)
    lps = voxel_affine_lps_ras(volume.affine)
    image.SetSpacing(volume.spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / volume.spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
    try:
        check_header_and_data(path)  # a full disk is not always told
    except InputError as error:
        raise not_whole(path) from error
