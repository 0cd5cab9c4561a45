"""The header copied to the images: the run that comes from it is the run that comes from the file, and nobody's name is in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from repository import shared
from xa_files import TYPED, written

import DeepIterRegLib.images.dicom
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import GeometryOptions, SubtractionSettings, read_angiogram
from DeepIterRegLib.images.dicom.header import open_header
from DeepIterRegLib.images.dicom.header_copy import COPIED, copied_header, copy_header, stored_from_itk
from DeepIterRegLib.images.dicom.pixels import decode
from DeepIterRegLib.images.dicom.reader import angiogram_of_stored


def from_copy(path: Path, options: GeometryOptions = TYPED) -> Angiogram:
    header = open_header(path)
    return angiogram_of_stored(decode(header), copied_header(copy_header(header)), options, SubtractionSettings())


def same(a: Angiogram, b: Angiogram) -> None:
    np.testing.assert_array_equal(a.frames, b.frames)
    np.testing.assert_array_equal(a.valid, b.valid)
    np.testing.assert_allclose(a.frame_times_s, b.frame_times_s, atol=1e-6)
    assert a.carm == b.carm
    assert a.notes == b.notes


def shutter(ds: Dataset) -> None:
    ds.ShutterShape = ["RECTANGULAR", "CIRCULAR"]
    ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 4, 60
    ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 3, 45
    ds.CenterOfCircularShutter, ds.RadiusOfCircularShutter = [24, 32], 30


def bitmap(ds: Dataset) -> None:
    hidden = np.zeros((48, 64), dtype=np.uint8)
    hidden[:, :10] = 1
    ds.ShutterShape, ds.ShutterOverlayGroup = "BITMAP", 0x6000
    ds.add_new(0x60000010, "US", 48)
    ds.add_new(0x60000011, "US", 64)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60000102, "US", 0)
    ds.add_new(0x60003000, "OB", np.packbits(hidden.ravel(), bitorder="little").tobytes())


def look_up_table(ds: Dataset) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.ModalityLUTType = "US"
    item.add_new("LUTData", "OW", (np.arange(4096, dtype="<u2") * 2).tobytes())
    ds.ModalityLUTSequence = Sequence([item])


def inverted(ds: Dataset) -> None:
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.RescaleSlope, ds.RescaleIntercept = 2, -5


def nonsense(ds: Dataset) -> None:
    ds.FrameTime, ds.CineRate, ds.PositionerPrimaryAngle = 0, 3, None


def odd_storage(ds: Dataset) -> None:
    ds.FieldOfViewRotation, ds.FieldOfViewHorizontalFlip = 90, "YES"
    ds.PatientPosition = "FFS"
    ds.TableMotion = "DYNAMIC"


@pytest.mark.parametrize(
    "change",
    [None, shutter, bitmap, look_up_table, inverted, nonsense, odd_storage],
    ids=lambda c: getattr(c, "__name__", "plain"),
)
def test_run_from_the_kept_header_is_the_run_from_the_file(
    tmp_path: Path, change: Callable[[Dataset], None] | None
) -> None:
    path = written(tmp_path / "run.dcm", change)
    same(from_copy(path), read_angiogram(path, TYPED))


def test_enhanced_object_keeps_its_functional_groups_and_loses_its_dates(tmp_path: Path) -> None:
    def enhance(ds: Dataset) -> None:
        del ds.ImagerPixelSpacing, ds.FrameTime
        spacing, common = Dataset(), Dataset()
        spacing.DetectorElementSpacing, spacing.ImagerPixelSpacing = [0.2, 0.2], [0.4, 0.5]
        common.FieldOfViewSequence = Sequence([spacing])
        ds.SharedFunctionalGroupsSequence = Sequence([common])
        frames = []
        for t in range(5):
            content = Dataset()
            content.FrameReferenceDateTime = f"2019010112000{t}.5"
            frame = Dataset()
            frame.FrameContentSequence = Sequence([content])
            frames.append(frame)
        ds.PerFrameFunctionalGroupsSequence = Sequence(frames)

    path = written(tmp_path / "run.dcm", enhance)
    run = from_copy(path, GeometryOptions())
    same(run, read_angiogram(path))
    np.testing.assert_allclose(run.frame_times_s, np.arange(5))
    assert "2019" not in copy_header(open_header(path))


def test_phantom_run(patient_folder: Path) -> None:
    path = patient_folder / "dsa.dcm"
    same(from_copy(path, GeometryOptions()), read_angiogram(path))


def test_real_run() -> None:
    path = shared("xa/xa1_uncompressed.dcm")
    same(from_copy(path), read_angiogram(path, TYPED))


def test_no_identity_is_kept(tmp_path: Path) -> None:
    def name(ds: Dataset) -> None:
        ds.PatientName, ds.PatientID, ds.InstitutionName = "SECRET^NAME", "SECRET-7", "SECRET HOSPITAL"
        ds.StudyDate, ds.PatientBirthDate = "20190101", "19500101"
        request = Dataset()
        request.RequestedProcedureDescription, request.CodeValue = "SECRET", "SECRET"
        ds.RequestAttributesSequence = Sequence([request])

    text = copy_header(open_header(written(tmp_path / "run.dcm", name)))
    assert "SECRET" not in text
    assert "2019" not in text
    assert "1950" not in text
    assert len(text) < 5000


def test_every_tag_that_the_package_reads_is_kept() -> None:
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for path in Path(DeepIterRegLib.images.dicom.__file__).parent.glob("*.py")
        if path.name
        not in ("arrivals.py", "header_copy.py", "kinds.py", "run_files.py", "writer.py", "derived.py", "describe.py")
        and not path.name.startswith(("ct_", "dicomdir", "segmentation", "safe_words"))  # of CTs and masks, not of runs
    )
    named = {word for word in re.findall(r'"([A-Z][A-Za-z]+)"', sources) if tag_for_keyword(word)}
    elsewhere = {"PixelData", "FloatPixelData", "DoubleFloatPixelData", "TransferSyntaxUID"}
    elsewhere |= {"ExtendedOffsetTable", "ExtendedOffsetTableLengths"}  # of the pixels too
    dates = {"FrameReferenceDateTime", "FrameAcquisitionDateTime"}
    dates |= {
        "AcquisitionDateTime",
        "AcquisitionDate",
        "AcquisitionTime",
        "ContentDate",
        "ContentTime",
    }  # of frames in files of their own
    assert named - COPIED == elsewhere | dates


@pytest.mark.parametrize("change", [None, inverted], ids=["plain", "inverted"])
def test_what_itk_reads_is_turned_back_into_stored_values(
    tmp_path: Path, change: Callable[[Dataset], None] | None
) -> None:
    path = written(tmp_path / "run.dcm", change)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    header = open_header(path)
    np.testing.assert_array_equal(stored_from_itk(sitk.GetArrayFromImage(reader.Execute()), header), decode(header))


def test_spoilt_text_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="load the XA file again"):
        copied_header("{spoilt")
