"""A volume: voxels and where they stand; files in and out."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.errors import InputError
from DeepIterRegLib.geometry.lps import voxel_affine_lps_ras


@dataclass(frozen=True)
class Volume:
    """CT in HU, or a mask (bool or uint8, 0 = outside).

    Attributes
    ----------
    voxels : (k, j, i)
        As SimpleITK and Slicer give arrays: slice, row, column.
    affine : (4, 4) float64
        Voxel index (i, j, k) to RAS mm; index (0, 0, 0) is the CENTRE of the first voxel.
    notes : tuple of str
        What was assumed while reading, for the report.
    """

    voxels: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or min(self.voxels.shape) < 1:
            raise InputError(f"The volume has shape {self.voxels.shape}; three dimensions are needed.")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise InputError(
                "The volume's orientation matrix is not an invertible 4x4 matrix; check spacing and directions in its header."
            )
        object.__setattr__(self, "affine", affine)

    @cached_property
    def set_voxels(self) -> np.ndarray:
        """Indices (N, 3), k, j, i, of what is not 0; found once."""
        # On one axis: numpy's argwhere takes six times as long.
        set_ = np.flatnonzero(self.voxels if self.voxels.dtype == bool else self.voxels != 0)
        return np.stack(np.unravel_index(set_, self.voxels.shape), axis=1)

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size (3,) along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def centre_mm(self) -> np.ndarray:
        """Centre (3,) of the voxel grid, RAS mm: what the radiological pose puts at the isocentre."""
        k, j, i = self.voxels.shape
        return self.affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2) + self.affine[:3, 3]

    def to_ras(self, indices_kji: np.ndarray) -> np.ndarray:
        """RAS mm (N, 3) of voxel indices (N, 3) given in array order k, j, i."""
        return np.asarray(indices_kji)[:, ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3]

    def same_grid(self, other: Volume) -> bool:
        """Whether both have the same voxels in the same places (to a hundredth of a voxel)."""
        return self.voxels.shape == other.voxels.shape and bool(
            np.allclose(self.affine, other.affine, atol=0.01 * float(self.spacing_mm.min()), rtol=0)
        )

    def with_voxels(self, voxels: np.ndarray) -> Volume:
        """Other voxels on the same grid."""
        return Volume(voxels, self.affine)


# -- files -------------------------------------------------------------------------------------------

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


def load_volume(path: str | Path) -> Volume:
    """Read a CT or a mask: a DICOM folder, NIfTI, NRRD, MHA or MHD.

    Voxels keep the file's type (float64 becomes float32). Of several CT series in a folder the largest is read,
    with a note.

    Raises
    ------
    InputError
        Absent, not a volume, in colour, damaged, or a DICOM series with missing, uneven or tilted slices.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if path.is_dir():
        from DeepIterRegLib.dicom.ct_series import read_ct_folder

        return read_ct_folder(path)
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        from DeepIterRegLib.dicom.ct_series import read_ct_file

        return read_ct_file(path)
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as a volume: {itk_reason(error)}.") from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        size, parts = image.GetSize(), image.GetNumberOfComponentsPerPixel()
        raise InputError(
            f"{path} has size {size} with {parts} value(s) a voxel; three dimensions and one value are needed."
        )
    voxels = voxels_of(image)
    if path.name.lower().endswith((".nii", ".nii.gz")) and voxels.dtype.kind == "f":
        _restore_nonfinite(voxels, path)
    return Volume(voxels, affine_of(image))


def _restore_nonfinite(voxels: np.ndarray, path: Path) -> None:
    """ITK's NIfTI reader turns NaN and infinity into 0, which is water in HU; here they stay what they are."""
    import nibabel

    image: Any = nibabel.load(path)
    stored = np.asanyarray(image.dataobj).T.reshape(voxels.shape)
    bad = ~np.isfinite(stored)
    voxels[bad] = stored[bad]


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
        raise InputError(f"{path} has no suffix of a volume; use one of {', '.join(VOLUME_SUFFIXES)}.")
    directions = volume.affine[:3, :3] / volume.spacing_mm
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise InputError(f"The axes of the volume are not perpendicular; {path} cannot hold them.")
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
            os.replace(beside, path)
    except (RuntimeError, OSError) as error:
        if not path.parent.is_dir():
            raise InputError(f"The folder {path.parent} does not exist, so {path.name} cannot be written.") from error
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"The folder {path.parent} cannot be written to.") from error
        if isinstance(error, OSError):
            raise
        raise OSError(errno.EIO, f"{path} could not be written: {itk_reason(error)}") from error
    finally:
        if beside != path:
            beside.unlink(missing_ok=True)


def _write_nifti(volume: Volume, path: Path) -> None:
    """By nibabel: ITK's writer says nothing when the disk is full and leaves a truncated file."""
    import nibabel

    image = nibabel.Nifti1Image(volume.voxels.transpose(2, 1, 0), volume.affine)
    image.header.set_xyzt_units("mm")
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


def voxels_of(image: Any) -> np.ndarray:
    """Voxels (k, j, i) of a SimpleITK image; float64 becomes float32."""
    import SimpleITK as sitk

    voxels: np.ndarray = sitk.GetArrayFromImage(image)
    return voxels.astype(np.float32) if voxels.dtype == np.float64 else voxels


def affine_of(image: Any) -> np.ndarray:
    """Voxel index (i, j, k) to RAS mm (4, 4) of a SimpleITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    result: np.ndarray = voxel_affine_lps_ras(affine)
    return result


def itk_reason(error: Exception) -> str:
    """The last telling line of an ITK exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "unknown reason").removeprefix("ITK ERROR: ").rstrip(".!")


def is_mask(volume: Volume) -> bool:
    """Whether a volume holds at most one value beside 0, and that one above 0."""
    values = volume.voxels
    if values.dtype == bool:
        return True
    low, high = values.min(), values.max()
    return bool(low == 0 and high > 0 and np.isin(values, (low, high)).all())
