"""Files that are no XA runs, or broken ones: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from repository import shared
from xa_files import (
    COLUMNS,
    ROWS,
    TYPED,
    Change,
    cut,
    recode,
    retag,
    written,
)

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.dicom import read_angiogram


def colour(ds: Dataset) -> None:
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.PixelData = ds.PixelData * 3


def undecodable(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # a video
    ds.PixelData = encapsulate([b"\0" * 100])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


RADIOFLUOROSCOPY = "1.2.840.10008.5.1.4.1.1.12.2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (retag(Modality="CT", SOPClassUID=CTImageStorage), r"is a slice of a CT \(Modality \(0008,0060\) CT, CT Image"),
        (retag(Modality="RF", SOPClassUID=RADIOFLUOROSCOPY), "radiofluoroscopy"),
        (retag(Modality="", SOPClassUID=None), r"Modality \(0008,0060\) empty"),
        (retag(NumberOfFrames=0), r"NumberOfFrames \(0028,0008\) is 0: the file holds no frames"),
        (colour, "in colour"),
        (cut, "cut short"),
        (lambda ds: delattr(ds, "PixelData"), "no PixelData"),
        (lambda ds: delattr(ds, "Rows"), r"Rows \(0028,0010\) is absent"),
        (undecodable, "no decoder for the transfer syntax MPEG-4"),
        (retag(PixelData=bytes(5 * 2 * ROWS * COLUMNS)), "the value 0: the image is empty"),
        (retag(RescaleSlope="1", RescaleIntercept="1e400"), "not finite"),
    ],
)
def test_faults_are_one_sentence(tmp_path: Path, change: Change, message: str) -> None:
    path = written(tmp_path / "run.dcm", change)
    with pytest.raises(InputError, match=message) as caught:
        read_angiogram(path, TYPED)
    assert len(caught.value.problems) == 1


def test_what_is_no_dicom_file(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("Dear colleague")
    (tmp_path / "empty.dcm").touch()
    for name in ("text.dcm", "empty.dcm"):
        with pytest.raises(InputError, match="not a DICOM file"):
            read_angiogram(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_angiogram(tmp_path / "none.dcm")
    with pytest.raises(InputError, match="folder"):
        read_angiogram(tmp_path)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless]
)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, syntax: str, part: float) -> None:
    path = written(tmp_path / "run.dcm")
    recode(path, syntax)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError):
        read_angiogram(path, TYPED)


def test_real_radiofluoroscopy_is_refused() -> None:
    with pytest.raises(InputError, match="radiofluoroscopy"):
        read_angiogram(shared("xa/not_xa_rf.dcm"), TYPED)


@pytest.mark.parametrize("modality", ["RF", "OT", ""])
def test_the_class_says_that_a_run_is_one_whatever_its_modality(modality: str, tmp_path: Path) -> None:
    assert read_angiogram(written(tmp_path / "run.dcm", retag(Modality=modality))).frames.shape == (5, ROWS, COLUMNS)


def test_secondary_capture_of_modality_xa_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm", retag(SOPClassUID=SecondaryCaptureImageStorage))
    assert read_angiogram(path).frames.shape == (5, ROWS, COLUMNS)
