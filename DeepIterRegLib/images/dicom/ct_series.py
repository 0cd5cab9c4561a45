"""A CT from a DICOM folder: which series, in which order, and whether its slices make a volume."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.lps import voxel_affine_lps_ras
from DeepIterRegLib.images.dicom.header import tag_name
from DeepIterRegLib.images.itk import affine_of, itk_reason, voxels_of
from DeepIterRegLib.images.volume import Volume

_TAGS = [
    "SOPClassUID",
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "GantryDetectorTilt",
    "ConvolutionKernel",
]
_EVEN = 0.02  # steps between slices may differ by this part
_UPRIGHT = 0.01  # sine of the largest shear taken for rounding


@dataclass(frozen=True)
class Series:
    """Slices of one series, orientation and size, sorted along their normal.

    Attributes
    ----------
    files : tuple of Path
    positions_lps_mm : (n, 3)
    orientation : (2, 3)
        Directions of rising column index and rising row index, LPS.
    spacing_mm : (row, column)
    kernel : str
        Convolution kernel: tells reconstructions apart without naming anybody.
    """

    modality: str
    files: tuple[Path, ...]
    positions_lps_mm: np.ndarray
    orientation: np.ndarray
    spacing_mm: tuple[float, float]
    rows: int
    columns: int
    kernel: str
    tilt_deg: float

    @property
    def words(self) -> str:
        """For messages; nothing of the patient."""
        kernel = f", kernel {self.kernel}" if self.kernel else ""
        return f"{self.modality} with {len(self.files)} slices of {self.rows}x{self.columns}{kernel}"


def read_ct_folder(folder: Path) -> Volume:
    """The largest CT series in a folder and its subfolders.

    Raises
    ------
    InputError
        No DICOM, no CT, one slice only, or slices that make no volume: missing, uneven, repeated, tilted.
    """
    best, *others = ct_series(folder)
    notes = []
    # One or two slices are a localiser.
    rivals = [s for s in others if len(s.files) > 2]
    if rivals:
        listed = "; ".join(s.words for s in rivals)
        notes.append(
            f"The folder holds {1 + len(rivals)} CT series; the largest is read: {best.words}. Left out: {listed}."
        )
    return read_series(best, tuple(notes))


def ct_series(folder: Path) -> list[Series]:
    """The CT series in a folder and its subfolders, the largest first.

    Raises
    ------
    InputError
        No DICOM, or no CT.
    """
    series = find_series(folder)
    if not series:
        raise InputError(f"{folder} and its subfolders hold no DICOM slices; give a DICOM folder, NIfTI, NRRD or MHA.")
    tomograms = [s for s in series if s.modality == "CT"]
    if not tomograms:
        raise InputError(f"{folder} holds no CT, but {'; '.join(sorted({s.words for s in series}))}; give a CTA.")
    return sorted(tomograms, key=lambda s: -len(s.files))


def read_ct_file(path: Path) -> Volume:
    """A multi-frame CT in one DICOM file."""
    import SimpleITK as sitk

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError):
        raise InputError(f"{path} is not a volume; give a DICOM folder, or a NIfTI, NRRD or MHA file.") from None
    modality = str(header.get("Modality", ""))
    if modality != "CT":
        raise InputError(
            f"{path} is of modality {modality or 'unknown'}; a CT, or a mask as NIfTI, NRRD or MHA, is needed."
        )
    if int(header.get("NumberOfFrames") or 1) < 2:
        raise InputError(f"{path} is one slice of a CT; give the folder that holds all of them.")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read: {itk_reason(error)}.") from error
    return Volume(voxels_of(image), affine_of(image))


def find_series(folder: Path) -> list[Series]:
    """All series of slices with a place in space below `folder`."""
    groups: dict[tuple[object, ...], list[tuple[Path, pydicom.Dataset]]] = defaultdict(list)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds = pydicom.dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
                orientation = tuple(float(v) for v in ds.get("ImageOrientationPatient") or ())
                position = tuple(float(v) for v in ds.get("ImagePositionPatient") or ())
        except (
            InvalidDicomError,
            EOFError,
            OSError,
            ValueError,
            KeyError,
            AttributeError,
            TypeError,
            NotImplementedError,
        ):
            continue
        if len(orientation) != 6 or len(position) != 3 or not ds.get("Rows") or not ds.get("PixelSpacing"):
            continue
        # Localisers share the series of the slices at times, so orientation and size part them too.
        key = (ds.get("SeriesInstanceUID"), tuple(np.round(orientation, 3)), ds.get("Rows"), ds.get("Columns"))
        groups[key].append((path, ds))
    return [_series(members) for members in groups.values()]


def _series(members: list[tuple[Path, pydicom.Dataset]]) -> Series:
    first = members[0][1]
    orientation = np.array([float(v) for v in first.ImageOrientationPatient]).reshape(2, 3)
    positions = np.array([[float(v) for v in ds.ImagePositionPatient] for _, ds in members])
    order = np.argsort(positions @ np.cross(*orientation), kind="stable")
    kernel = first.get("ConvolutionKernel")
    return Series(
        modality=str(first.get("Modality", "") or "unknown modality"),
        files=tuple(members[i][0] for i in order),
        positions_lps_mm=positions[order],
        orientation=orientation,
        spacing_mm=(float(first.PixelSpacing[0]), float(first.PixelSpacing[1])),
        rows=int(first.Rows),
        columns=int(first.Columns),
        kernel="" if kernel is None else str(kernel),
        tilt_deg=float(first.get("GantryDetectorTilt") or 0),
    )


def read_series(series: Series, notes: tuple[str, ...] = ()) -> Volume:
    """Voxels in HU and affine of a series; see `read_ct_folder` for errors."""
    import SimpleITK as sitk

    step = _step(series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in series.files])
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"The CT series ({series.words}) cannot be decoded: {itk_reason(error)}.") from error
    affine = np.eye(4)
    affine[:3, 0] = series.orientation[0] * series.spacing_mm[1]
    affine[:3, 1] = series.orientation[1] * series.spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = series.positions_lps_mm[0]
    return Volume(voxels_of(image), voxel_affine_lps_ras(affine), notes)


def _step(series: Series) -> np.ndarray:
    """From slice to slice (3,), LPS mm.

    Raises
    ------
    InputError
        Naming what is wrong with the slices.
    """
    if len(series.files) < 3:
        raise InputError(
            f"The only CT series is a {series.words}; a volume is needed: give the folder of the whole CTA."
        )
    normal = np.cross(*series.orientation)
    along = series.positions_lps_mm @ normal
    steps = np.diff(along)
    usual = float(np.median(steps))
    where = tag_name("ImagePositionPatient")
    repeated = int((steps < 1e-3).sum())
    if repeated:
        raise InputError(
            f"{repeated + 1} slices of the CT series ({series.words}) lie where another one lies ({where}): several phases or "
            "reconstructions share the series; give a folder with one of them."
        )
    odd = np.flatnonzero(np.abs(steps - usual) > max(_EVEN * usual, 0.01))
    if len(odd):
        gaps = [f"{steps[i]:.2f} mm after slice {i + 1} at {along[i]:.1f} mm" for i in odd[:3]]
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        whole = np.abs(steps[odd] / usual - np.round(steps[odd] / usual)) < 0.05
        kind = "Slices are missing" if whole.all() and (steps[odd] > usual).all() else "Slices are unevenly spaced"
        raise InputError(
            f"{kind} in the CT series ({series.words}): the step is {usual:.2f} mm, but {'; '.join(gaps)}{more} ({where}). "
            "Copy the whole series, or resample it evenly first."
        )
    step = (series.positions_lps_mm[-1] - series.positions_lps_mm[0]) / (len(series.files) - 1)
    shear = step - normal * (step @ normal)
    if np.linalg.norm(shear) > _UPRIGHT * np.linalg.norm(step):
        degrees = np.degrees(np.arctan2(np.linalg.norm(shear), step @ normal))
        raise InputError(
            f"The CT was scanned with a tilted gantry: slices shift by {degrees:.1f} deg against their normal ({where}; "
            f"{tag_name('GantryDetectorTilt')} {series.tilt_deg:g}). Resample it to upright axes first "
            "(3D Slicer does so when it loads the series with 'apply regularization transform')."
        )
    return np.asarray(step - shear)
