"""Awkward DSA runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from awkward_form import Made, Plain, kinds, new_dataset, without_preamble
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    XRayRadiationDoseSRStorage,
    generate_uid,
)
from scipy import ndimage

CASES, case = kinds()
WHITE = 4095
BIPLANE, SECONDARY = "1.2.840.10008.5.1.4.1.1.12.3", "1.2.840.10008.5.1.4.1.1.7"
LOG_SCALE, GREY = 2000.0, 2048


def _frames(ds: FileDataset, stored: np.ndarray, big_endian: bool = False) -> None:
    """Put values (t, row, column) into a run."""
    ds.NumberOfFrames, ds.Rows, ds.Columns = stored.shape
    ds.PixelData = stored.astype(">u2" if big_endian else "<u2").tobytes()


def _class(ds: FileDataset, sop_class: str) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class


# -- how it is stored ------------------------------------------------------------------------------------


@case("dsa", "ok")
def run_without_preamble(plain: Plain, out: Path) -> None:
    # An archive that strips the first part leaves implicit values, the default of the standard.
    ds = plain.run()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(out / "run", implicit_vr=True, little_endian=True)
    without_preamble(out / "run")


@case("dsa", "ok")
def run_of_big_endian(plain: Plain, out: Path) -> None:
    ds = plain.run()
    _frames(ds, ds.pixel_array, big_endian=True)
    for _ in ds.iterall():  # every value is decoded before the order of the bytes changes
        pass
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(out / "run.dcm", ds, implicit_vr=False, little_endian=False, overwrite=True)


@case("dsa", "ok")
def run_deflated(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(out / "run.dcm")


@case("dsa", "ok")
def run_of_jpeg_2000(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.compress(JPEG2000Lossless)
    ds.save_as(out / "run.dcm")


@case("dsa", "ok")
def run_of_jpeg_ls(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.compress(JPEGLSLossless)
    ds.save_as(out / "run.dcm")


@case("dsa", "ok")
def run_of_run_lengths(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.compress(RLELossless)
    ds.save_as(out / "run.dcm")


@case("dsa", "ok")
def run_of_the_class_of_screenshots(plain: Plain, out: Path) -> None:
    ds = plain.run()
    _class(ds, SECONDARY)
    ds.save_as(out / "run.dcm")


@case("dsa", "ok")
def run_of_modality_ot(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.Modality = "OT"
    ds.save_as(out / "run.dcm")


# -- a folder --------------------------------------------------------------------------------------------


def _single_frames(
    ds: FileDataset, out: Path, left_out: Sequence[int] = (), change: Callable[[Dataset, int], None] | None = None
) -> None:
    """A file for each frame, in one series, with the time of each; names are not in their order."""
    stored, step_s = ds.pixel_array, float(ds.FrameTime) / 1000
    whole = ("PixelData", "NumberOfFrames", "FrameTime", "FrameIncrementPointer", "MaskSubtractionSequence")
    for n in range(len(stored)):
        if n in left_out:
            continue
        one = Dataset({element.tag: element for element in ds if element.keyword not in whole})
        one.file_meta = Dataset()
        one.file_meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
        one.InstanceNumber, one.ContentTime = n + 1, f"12{int(n * step_s) // 60:02d}{n * step_s % 60:09.6f}"
        one.PixelData = stored[n].astype("<u2").tobytes()
        one["PixelData"].VR = "OW"
        if change is not None:
            change(one, n)
        one.save_as(out / f"IM{n * 37 % 101:03d}", enforce_file_format=True)


@case("dsa", "ok", alike=True)
def run_as_single_frames(plain: Plain, out: Path) -> None:
    _single_frames(plain.run(), out)


@case("dsa", "said", "1 of the run's frames are missing", alike=True)
def run_without_an_instance_number(plain: Plain, out: Path) -> None:
    _single_frames(plain.run(), out, left_out=(9,))


@case("dsa", "refused", "InstanceNumber")
def run_with_an_instance_number_twice(plain: Plain, out: Path) -> None:
    def twice(one: Dataset, n: int) -> None:
        one.InstanceNumber = 7 if n == 7 else n + 1

    _single_frames(plain.run(), out, change=twice)


@case("dsa", "refused", "IM[0-9]+: .*bytes")
def run_whose_frame_is_short(plain: Plain, out: Path) -> None:
    def short(one: Dataset, n: int) -> None:
        if n == 5:
            one.PixelData = one.PixelData[:-64]

    _single_frames(plain.run(), out, change=short)


@case("dsa", "refused", "Rows|Columns")
def run_with_a_frame_of_another_size(plain: Plain, out: Path) -> None:
    def smaller(one: Dataset, n: int) -> None:
        if n == 5:
            one.Rows //= 2
            one.PixelData = one.PixelData[: len(one.PixelData) // 2]

    _single_frames(plain.run(), out, change=smaller)


@case("dsa", "refused", "holds 2 runs")
def two_runs_in_a_folder(plain: Plain, out: Path) -> None:
    for name in "ab":
        ds = plain.run()
        ds.SeriesInstanceUID = generate_uid()
        ds.save_as(out / f"{name}.dcm")


@case("dsa", "said", "2 other files")
def run_beside_a_report_and_a_text(plain: Plain, out: Path) -> None:
    plain.run().save_as(out / "run.dcm")
    report = new_dataset(XRayRadiationDoseSRStorage, "SR", generate_uid(), generate_uid())
    report.save_as(out / "dose.dcm", enforce_file_format=True)
    (out / "readme.txt").write_text("Viewer for Windows\n")


@case("dsa", "refused", "1 of 2 files")
def run_beside_a_cut_file(plain: Plain, out: Path) -> None:
    plain.run().save_as(out / "run.dcm")
    (out / "rest.dcm").write_bytes((out / "run.dcm").read_bytes()[:300])


# -- what it shows ---------------------------------------------------------------------------------------


@case("dsa", "ok")
def run_of_monochrome_1(plain: Plain, out: Path) -> None:
    ds = plain.run()
    _frames(ds, WHITE - ds.pixel_array)
    ds.PhotometricInterpretation, ds.PixelIntensityRelationshipSign = "MONOCHROME1", -1
    ds.save_as(out / "run.dcm")


@case("dsa", "ok", alike=True)
def run_that_drifts_without_a_sign(plain: Plain, out: Path) -> None:
    """By 3 mm at most on the detector; nothing says whether large values are much light."""
    ds = plain.run()
    stored = ds.pixel_array.astype(np.float32)
    far_px = 3.0 / float(ds.ImagerPixelSpacing[0])
    for n, frame in enumerate(stored):
        by = far_px * max(0, n - 3) / len(stored)
        stored[n] = ndimage.shift(frame, (0.4 * by, by), order=1, mode="nearest")
    _frames(ds, np.rint(stored))
    del ds.PixelIntensityRelationshipSign
    ds.save_as(out / "run.dcm")


@case("dsa", "ok", alike=True)
def run_subtracted_by_the_vendor(plain: Plain, out: Path) -> None:
    ds = plain.run()
    logs = np.log(np.maximum(ds.pixel_array.astype(np.float64), 1))
    _frames(ds, np.clip(np.rint(GREY + LOG_SCALE * (logs - logs[:3].mean(axis=0)))[3:], 0, WHITE))
    del ds.MaskSubtractionSequence, ds.PixelIntensityRelationshipSign
    ds.PixelIntensityRelationship, ds.ImageType = "LOG", ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"]
    ds.save_as(out / "run.dcm")


@case("dsa", "said", "FieldOfViewDimensions", alike=True)
def run_halved_on_export(plain: Plain, out: Path) -> None:
    """Every two by two pixels are one, and the spacing stayed; the field of view tells it."""
    ds = plain.run()
    t, rows, columns = ds.pixel_array.shape
    _frames(ds, np.rint(ds.pixel_array.reshape(t, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))))
    ds.save_as(out / "run.dcm")


@case("dsa", "said", "EstimatedRadiographicMagnificationFactor")
def run_of_two_magnifications(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.EstimatedRadiographicMagnificationFactor = f"{1.15 * float(ds.EstimatedRadiographicMagnificationFactor):.6f}"
    ds.save_as(out / "run.dcm")


@case("dsa", "refused", "bi-plane")
def run_of_the_biplane_class(plain: Plain, out: Path) -> None:
    ds = plain.run()
    _class(ds, BIPLANE)
    ds.save_as(out / "run.dcm")


@case("dsa", "refused", "(?i)rotat")
def run_that_turns(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.PositionerPrimaryAngleIncrement = [4.0 * n for n in range(int(ds.NumberOfFrames))]
    ds.save_as(out / "run.dcm")


@case("dsa", "refused", "film|video|MPEG")
def run_of_mpeg_4(plain: Plain, out: Path) -> None:
    ds = plain.run()
    ds.file_meta.TransferSyntaxUID = MPEG4HP41
    ds.PixelData = encapsulate([bytes(2000)])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(out / "run.dcm")


# -- damaged ---------------------------------------------------------------------------------------------


@case("dsa", "refused", "damaged")
def run_whose_modality_swallows_the_name(plain: Plain, out: Path) -> None:
    """Modality is said to be so long that the patient's name, which follows, is part of it."""
    plain.run().save_as(out / "run.dcm")
    content = bytearray((out / "run.dcm").read_bytes())
    at = content.index(b"\x08\x00\x60\x00CS")
    content[at + 6 : at + 8] = (400).to_bytes(2, "little")
    (out / "run.dcm").write_bytes(content)


@case("dsa", "refused", "Rows")
def run_without_rows(plain: Plain, out: Path) -> None:
    ds = plain.run()
    del ds.Rows
    ds.save_as(out / "run.dcm")


@case("dsa", "refused", "bytes|cut short")
def run_cut_in_its_frames(plain: Plain, out: Path) -> Made:
    plain.run().save_as(out / "run.dcm")
    content = (out / "run.dcm").read_bytes()
    (out / "run.dcm").write_bytes(content[: len(content) * 3 // 4])
    return Made(typed=("run.dcm",))
