"""Awkward CTAs: how much of the patient they show, as volume files, as DICOM."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from awkward_form import FREE_TEXT, LPS, Made, Plain, kinds, new_dataset, save_nifti, without_preamble
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    XRayRadiationDoseSRStorage,
    generate_uid,
)
from scipy import ndimage

CASES, case = kinds()
OFFSET = 1024
XRAY_3D = "1.2.840.10008.5.1.4.1.1.13.1.1"
LEGACY_ENHANCED = "1.2.840.10008.5.1.4.1.1.2.2"

# -- how much of the patient -----------------------------------------------------------------------------


def _with_more_below(plain: Plain, mm: float, neck: bool) -> tuple[np.ndarray, np.ndarray]:
    """So many mm more towards the feet, of air or of the lowest slice again."""
    n = round(mm / plain.step_mm)
    lowest = plain.hu[:, :, :1]
    more = np.repeat(lowest if neck else np.full_like(lowest, -1000), n, axis=2)
    shift = np.eye(4)
    shift[2, 3] = -n
    return np.concatenate([more, plain.hu], axis=2), plain.affine @ shift


def _slab(plain: Plain, low_mm: float, high_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Without so many mm at the feet and at the top."""
    low, high = round(low_mm / plain.step_mm), round(high_mm / plain.step_mm)
    shift = np.eye(4)
    shift[2, 3] = low
    return plain.hu[:, :, low : plain.hu.shape[2] - high], plain.affine @ shift


@case("cta", "ok")
def from_the_arch_to_the_vertex(plain: Plain, out: Path) -> None:
    save_nifti(out / "cta.nii.gz", *_with_more_below(plain, 220, neck=True))


@case("cta", "ok")
def much_air_below_the_head(plain: Plain, out: Path) -> None:
    save_nifti(out / "cta.nii.gz", *_with_more_below(plain, 220, neck=False))


@case("cta", "said", "below the vertex")
def vertex_cut_off(plain: Plain, out: Path) -> Made:
    shown = _slab(plain, 0, 30)
    save_nifti(out / "cta.nii.gz", *shown)
    return Made(shows=shown)


@case("cta", "said", "above the skull base")
def skull_base_cut_off(plain: Plain, out: Path) -> Made:
    head_mm = plain.hu.shape[2] * plain.step_mm
    shown = _slab(plain, head_mm - 95, 0)
    save_nifti(out / "cta.nii.gz", *shown)
    return Made(shows=shown)


# -- volume files ----------------------------------------------------------------------------------------


def _leant(plain: Plain, deg: float) -> np.ndarray:
    """The affine with its slices shifted along their rows, more and more away from the middle one, as the angle says."""
    lean = np.zeros((4, 4))
    shift = np.tan(np.radians(deg)) * plain.step_mm * plain.affine[:3, 1] / np.linalg.norm(plain.affine[:3, 1])
    lean[:3, 2], lean[:3, 3] = shift, -shift * (plain.hu.shape[2] // 2)
    return plain.affine + lean


def _seen_leant(plain: Plain, deg: float) -> np.ndarray:
    """The head's HU on slices that lean so: what a scanner of a tilted gantry sees of the same head."""
    per_slice = np.tan(np.radians(deg)) * plain.step_mm / np.linalg.norm(plain.affine[:3, 1])
    seen = plain.hu.copy()
    for k in range(seen.shape[2]):
        by = -per_slice * (k - seen.shape[2] // 2)
        seen[:, :, k] = ndimage.shift(plain.hu[:, :, k].astype(np.float32), (0, by), order=1, cval=-1000)
    return seen


def _save_leant(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Only the sform can say that axes are not perpendicular."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(None, 0)
    image.set_sform(affine, 1)
    nib.save(image, path)


@case("cta", "said", "perpendicular, as rounding", off=0.3)
def axes_off_by_rounding(plain: Plain, out: Path) -> Made:
    affine = _leant(plain, 0.3)
    _save_leant(out / "cta.nii.gz", plain.hu, affine)
    return Made(shows=(plain.hu, affine))


@case("cta", "said", "tilted gantry", alike=True)
def axes_of_a_tilted_gantry(plain: Plain, out: Path) -> None:
    _save_leant(out / "cta.nii", _seen_leant(plain, 12), _leant(plain, 12))


@case("cta", "refused", "cut short")
def nifti_cut(plain: Plain, out: Path) -> None:
    save_nifti(out / "whole.nii.gz", plain.hu, plain.affine)
    content = (out / "whole.nii.gz").read_bytes()
    (out / "whole.nii.gz").unlink()
    (out / "cta.nii.gz").write_bytes(content[: len(content) * 9 // 10])


@case("cta", "refused", "check sum")
def nifti_with_a_damaged_byte(plain: Plain, out: Path) -> None:
    save_nifti(out / "cta.nii.gz", plain.hu, plain.affine)
    content = bytearray((out / "cta.nii.gz").read_bytes())
    content[len(content) // 3] ^= 0xFF
    (out / "cta.nii.gz").write_bytes(content)


@case("cta", "refused", "900 x 900 x 900")
def nifti_that_claims_more_than_it_holds(plain: Plain, out: Path) -> None:
    save_nifti(out / "small.nii", plain.hu[:8, :8, :8], plain.affine)
    content = bytearray((out / "small.nii").read_bytes())
    (out / "small.nii").unlink()
    content[42:48] = np.array([900] * 3, "<i2").tobytes()
    (out / "cta.nii.gz").write_bytes(gzip.compress(bytes(content)))


@case("cta", "said", "qform and sform")
def nifti_that_says_two_places(plain: Plain, out: Path) -> None:
    image = nib.Nifti1Image(plain.hu, plain.affine)
    other = plain.affine
    other[:3, 3] += (0, 12, -7)
    image.set_sform(other, 2)  # aligned to something else: the scanner's place stands in the qform
    image.set_qform(plain.affine, 1)
    nib.save(image, out / "cta.nii.gz")


@case("cta", "said", "stored in micrometres")
def nifti_in_micrometres(plain: Plain, out: Path) -> None:
    image = nib.Nifti1Image(plain.hu, np.diag([1e3, 1e3, 1e3, 1]) @ plain.affine)
    image.header.set_xyzt_units("micron")
    nib.save(image, out / "cta.nii.gz")


@case("cta", "ok")
def nifti_of_the_other_byte_order(plain: Plain, out: Path) -> None:
    image = nib.Nifti1Image(plain.hu.astype(">i2"), plain.affine, nib.Nifti1Header(endianness=">"))
    nib.save(image, out / "cta.nii")


@case("cta", "ok")
def nifti_2_of_decimals(plain: Plain, out: Path) -> None:
    nib.save(nib.Nifti2Image(plain.hu.astype(np.float32), plain.affine), out / "cta.nii.gz")


@case("cta", "ok")
def nifti_with_permuted_axes(plain: Plain, out: Path) -> None:
    save_nifti(out / "cta.nii.gz", plain.hu.transpose(2, 0, 1), plain.affine[:, [2, 0, 1, 3]])


@case("cta", "said", "HU \\+ 1024")
def values_plus_1024(plain: Plain, out: Path) -> None:
    save_nifti(out / "cta.nii.gz", np.maximum(plain.hu + OFFSET, 0).astype(np.uint16), plain.affine)


@case("cta", "refused", "not CT numbers")
def windowed_to_grey_values(plain: Plain, out: Path) -> None:
    grey = np.clip((plain.hu.astype(np.float32) + 100) * 255 / 600, 0, 255).astype(np.uint8)
    save_nifti(out / "cta.nii.gz", grey, plain.affine)


def _itk(plain: Plain, scale: float = 1.0) -> sitk.Image:
    image = sitk.GetImageFromArray(plain.hu.transpose(2, 1, 0))
    lps = LPS @ plain.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing((spacing * scale).tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((lps[:3, 3] * scale).tolist())
    image.SetMetaData("Comment", FREE_TEXT)
    return image


@case("cta", "refused", "cta.raw")
def nrrd_without_its_data_file(plain: Plain, out: Path) -> Made:
    sitk.WriteImage(_itk(plain), str(out / "cta.nhdr"))
    (out / "cta.raw").unlink()
    return Made(typed=("cta.nhdr",))


@case("cta", "refused", "cut short")
def mha_cut(plain: Plain, out: Path) -> None:
    sitk.WriteImage(_itk(plain), str(out / "cta.mha"))
    content = (out / "cta.mha").read_bytes()
    (out / "cta.mha").write_bytes(content[: len(content) * 2 // 3])


@case("cta", "refused", "stored in (metres|m)\\b")
def mha_in_metres(plain: Plain, out: Path) -> None:
    sitk.WriteImage(_itk(plain, 1e-3), str(out / "cta.mha"))


# -- DICOM, a file a slice -------------------------------------------------------------------------------


def _nothing(ds: Dataset, k: int) -> None:
    pass


def _series(
    plain: Plain,
    folder: Path,
    hu: np.ndarray | None = None,
    axes: Sequence[int] = (0, 1, 2),
    affine: np.ndarray | None = None,
    change: Callable[[Dataset, int], Any] = _nothing,
    syntax: str = ExplicitVRLittleEndian,
    name: str = "IM{:04d}.dcm",
    keep: Sequence[int] | None = None,
    study: str = "",
) -> str:
    """A file for each slice along the last of the axes, stored as the scanners do, from 0 on; the series' UID."""
    folder.mkdir(parents=True, exist_ok=True)
    voxels = (plain.hu if hu is None else hu).transpose(axes)
    lps = (LPS @ (plain.affine if affine is None else affine))[:, [*axes, 3]]
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    series, study = generate_uid(), study or generate_uid()
    for k in range(voxels.shape[2]) if keep is None else keep:
        ds = new_dataset(CTImageStorage, "CT", study, series, syntax)
        ds.SeriesNumber, ds.InstanceNumber, ds.ImageType = 4, k + 1, ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImageOrientationPatient = [f"{x:.10f}" for x in (lps[:3, :2] / steps[:2]).T.ravel()]
        ds.ImagePositionPatient = [f"{x:.6f}" for x in lps[:3, 3] + k * lps[:3, 2]]
        ds.PixelSpacing, ds.SliceThickness = [f"{steps[1]:.8f}", f"{steps[0]:.8f}"], f"{steps[2]:.6f}"
        stored = np.ascontiguousarray(voxels[:, :, k].T.astype(np.int32) + OFFSET)
        _pixels(ds, stored[None], big_endian=syntax == ExplicitVRBigEndian)
        ds.RescaleSlope, ds.RescaleIntercept = 1, -OFFSET
        change(ds, k)
        if syntax in (RLELossless, JPEGLSLossless):
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(syntax)
        ds.save_as(folder / name.format(k), enforce_file_format=True)
    return str(series)


def _pixels(ds: Dataset, stored: np.ndarray, big_endian: bool = False) -> None:
    """Unsigned 16 bits (t, row, column)."""
    _, ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelData = stored.astype(">u2" if big_endian else "<u2").tobytes()
    ds["PixelData"].VR = "OW"


@case("cta", "ok")
def slices_without_preamble(plain: Plain, out: Path) -> None:
    _series(plain, out)
    for path in out.iterdir():
        without_preamble(path)


@case("cta", "ok")
def slices_of_big_endian(plain: Plain, out: Path) -> None:
    _series(plain, out, syntax=ExplicitVRBigEndian)


@case("cta", "ok")
def slices_deflated(plain: Plain, out: Path) -> None:
    _series(plain, out, syntax=DeflatedExplicitVRLittleEndian)


@case("cta", "ok")
def slices_of_jpeg_ls(plain: Plain, out: Path) -> None:
    _series(plain, out, syntax=JPEGLSLossless)


@case("cta", "ok")
def slices_coronal(plain: Plain, out: Path) -> None:
    _series(plain, out, axes=(0, 2, 1))


@case("cta", "ok")
def slices_named_by_chance_in_subfolders(plain: Plain, out: Path) -> None:
    """As archives name them: no ending, no order, some in another folder."""
    _series(plain, out / "S0")
    (out / "S1").mkdir()
    for n, path in enumerate(sorted((out / "S0").iterdir())):
        path.rename(out / f"S{n % 2}" / f"{n * 7919 % 100003:08X}")


@case("cta", "said", "[0-9]+ copies of slices")
def slices_twice(plain: Plain, out: Path) -> None:
    _series(plain, out)
    for path in sorted(out.iterdir())[10:15]:
        (out / f"again_{path.name}").write_bytes(path.read_bytes())


@case("cta", "said", "series of one or two slices")
def one_slice_of_another_series(plain: Plain, out: Path) -> None:
    _series(plain, out)
    _series(plain, out, name="X{:04d}.dcm", keep=[plain.hu.shape[2] // 2])


@case("cta", "said", "report")
def localiser_and_dose_report_beside(plain: Plain, out: Path) -> None:
    study = generate_uid()

    def scout(ds: Dataset, k: int) -> None:
        ds.ImageType, ds.SeriesNumber = ["ORIGINAL", "PRIMARY", "LOCALIZER"], 1

    _series(plain, out, study=study)
    _series(plain, out, axes=(0, 2, 1), change=scout, name="SCOUT{:04d}.dcm", keep=[40], study=study)
    report = new_dataset(XRayRadiationDoseSRStorage, "SR", study, generate_uid())
    report.save_as(out / "dose.dcm", enforce_file_format=True)


def _bright(plain: Plain) -> np.ndarray:
    """Whole grid of the CTA thinned: where vessels and their surroundings with contrast are."""
    n = plain.step
    return plain.arteries[::n, ::n, ::n]


def _without_contrast(plain: Plain) -> np.ndarray:
    hu = plain.hu.copy()
    hu[(hu > 90) & (hu < 500)] = 40
    hu[_bright(plain)] = 40
    return hu


@case("cta", "said", "less contrast|no contrast|without contrast")
def thin_series_without_contrast_beside(plain: Plain, out: Path) -> None:
    def named(ds: Dataset, k: int) -> None:
        ds.SeriesNumber, ds.SliceThickness = 3, "0.5"

    _series(plain, out / "a", change=named, hu=_without_contrast(plain))
    _series(plain, out / "b")


@case("cta", "said", "phase")
def two_phases_in_a_series(plain: Plain, out: Path) -> None:
    """The native one comes first; the acquisition's number tells them apart."""
    series = generate_uid()

    def of(phase: int) -> Callable[[Dataset, int], None]:
        def change(ds: Dataset, k: int) -> None:
            ds.SeriesInstanceUID, ds.AcquisitionNumber = series, phase

        return change

    study = generate_uid()
    _series(plain, out, hu=_without_contrast(plain), change=of(1), name="A{:04d}", study=study)
    _series(plain, out, change=of(2), name="B{:04d}", study=study)


@case("cta", "refused", "missing")
def a_slice_missing(plain: Plain, out: Path) -> None:
    _series(plain, out)
    (out / "IM0020.dcm").unlink()


@case("cta", "refused", "fewer bytes|bytes")
def a_slice_short(plain: Plain, out: Path) -> None:
    def short(ds: Dataset, k: int) -> None:
        if k == 21:
            ds.PixelData = ds.PixelData[:-300]

    _series(plain, out, change=short)


@case("cta", "refused", "5 are empty")
def empty_files_at_the_end(plain: Plain, out: Path) -> None:
    _series(plain, out)
    for path in sorted(out.iterdir())[-5:]:
        path.write_bytes(b"")


@case("cta", "refused", "2 patients")
def slices_of_two_patients(plain: Plain, out: Path) -> None:
    def other(ds: Dataset, k: int) -> None:
        ds.PatientID, ds.PatientName = "ID5", "OTHER"

    _series(plain, out / "a")
    _series(plain, out / "b", change=other)


@case("cta", "said", "tilted gantry", alike=True)
def slices_of_a_tilted_gantry(plain: Plain, out: Path) -> None:
    def tilt(ds: Dataset, k: int) -> None:
        ds.GantryDetectorTilt = 15

    _series(plain, out, hu=_seen_leant(plain, 15), affine=_leant(plain, 15), change=tilt)


@case("cta", "ok")
def a_dicomdir(plain: Plain, out: Path) -> Made:
    _series(plain, out / "from")
    files = FileSet()
    for path in sorted((out / "from").iterdir()):
        ds = dcmread(path)
        ds.PatientSex, ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "", "20200101", "120000", "1", ""
        files.add(ds)
        path.unlink()
    (out / "from").rmdir()
    files.write(out)
    return Made(typed=("DICOMDIR",))


def _zipped(plain: Plain, out: Path, *more: tuple[str, bytes]) -> None:
    _series(plain, out / "from", syntax=RLELossless)
    with zipfile.ZipFile(out / "cta.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted((out / "from").iterdir()):
            archive.write(path, f"study/{path.name}")
            path.unlink()
        for name, content in more:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    (out / "from").rmdir()


@case("cta", "ok")
def a_zip(plain: Plain, out: Path) -> None:
    _zipped(plain, out)


@case("cta", "ok")
def a_zip_with_a_path_that_leads_out(plain: Plain, out: Path) -> None:
    _zipped(plain, out, ("../../escaped.dcm", b"outside"), ("/tmp/escaped.dcm", b"outside"))


@case("cta", "refused", "times its size")
def a_zip_that_grows_without_end(plain: Plain, out: Path) -> None:
    with zipfile.ZipFile(out / "cta.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM0001.dcm", bytes(80 << 20))


# -- DICOM, all slices in one file -----------------------------------------------------------------------


def _enhanced(
    plain: Plain, path: Path, order: Sequence[int], sop_class: str = EnhancedCTImageStorage, modality: str = "CT"
) -> None:
    lps = LPS @ plain.affine
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    ds = new_dataset(sop_class, modality, generate_uid(), generate_uid())
    ds.ImageType, ds.NumberOfFrames = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], len(order)
    orientation, measures, values, shared = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [f"{x:.10f}" for x in (lps[:3, :2] / steps[:2]).T.ravel()]
    measures.PixelSpacing, measures.SliceThickness = [f"{steps[1]:.8f}", f"{steps[0]:.8f}"], f"{steps[2]:.6f}"
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -OFFSET, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [values]
    frames = []
    for k in order:
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [f"{x:.6f}" for x in lps[:3, 3] + k * lps[:3, 2]]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    _pixels(ds, (plain.hu.astype(np.int32) + OFFSET).transpose(2, 1, 0)[list(order)])
    ds.save_as(path, enforce_file_format=True)


@case("cta", "ok")
def enhanced_in_a_folder(plain: Plain, out: Path) -> Made:
    _enhanced(plain, out / "ct.dcm", range(plain.hu.shape[2]))
    return Made(typed=("",))


@case("cta", "ok")
def enhanced_with_frames_in_any_order(plain: Plain, out: Path) -> None:
    order = np.random.default_rng(5).permutation(plain.hu.shape[2]).tolist()
    _enhanced(plain, out / "ct.dcm", order, LEGACY_ENHANCED)


@case("cta", "refused", "missing")
def enhanced_with_a_gap(plain: Plain, out: Path) -> None:
    _enhanced(plain, out / "ct.dcm", [k for k in range(plain.hu.shape[2]) if k not in (30, 31)])


@case("cta", "said", "HU")
def rotational_angiogram_in_3d(plain: Plain, out: Path) -> None:
    _enhanced(plain, out / "ct.dcm", range(plain.hu.shape[2]), XRAY_3D, "XA")
