"""A run in files of one frame each, in a folder with others, in classes and syntaxes that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from xa_files import CT_CLASS, TYPED, retag, same_view, written

from DeepIterRegLib.common.errors import GeometryError, InputError
from DeepIterRegLib.images.dicom import SubtractionSettings, describe, read_angiogram
from DeepIterRegLib.images.dicom.run_files import folder_of_frames, is_run_folder, open_run

STILL = SubtractionSettings(remask=False)


def split(path: Path, folder: Path, **changes: object) -> list[Path]:
    """Each frame of a run in a file of its own, the last frame first by name; a change that is a list has a value for each frame."""
    folder.mkdir(exist_ok=True)
    ds, made = pydicom.dcmread(path), []
    for number, frame in enumerate(ds.pixel_array):
        one = Dataset(
            {e.tag: e for e in ds if e.keyword not in ("NumberOfFrames", "FrameTimeVector", "FrameTime", "PixelData")}
        )
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.InstanceNumber = number + 1
        one.PixelData = frame.tobytes()
        one["PixelData"].VR = "OW"
        for keyword, value in changes.items():
            setattr(one, keyword, value[number] if isinstance(value, list) else value)
        made.append(folder / f"IM{99 - number}.dcm")
        one.save_as(made[-1], enforce_file_format=True)
    return made


def test_frames_in_files_of_their_own_are_one_run(tmp_path: Path) -> None:
    whole = read_angiogram(written(tmp_path / "run.dcm"), subtraction=STILL)
    times = [f"12000{second}.500" for second in (0, 1, 2, 4, 7)]
    files = split(tmp_path / "run.dcm", tmp_path / "frames", ContentDate="20200101", ContentTime=times)
    run = read_angiogram(tmp_path / "frames", subtraction=STILL)
    np.testing.assert_array_equal(run.frames, whole.frames)
    np.testing.assert_allclose(run.frame_times_s, [0, 1, 2, 4, 7])
    same_view(run.carm, whole.carm)
    assert any("5 files of one frame each" in note for note in run.notes)
    assert folder_of_frames(files) == tmp_path / "frames"
    assert is_run_folder(tmp_path / "frames")
    assert describe(tmp_path / "frames")["frames"] == 5


def test_pixels_as_stored_are_let_go_of_once_decoded(tmp_path: Path) -> None:
    files = split(written(tmp_path / "run.dcm"), tmp_path / "frames")
    for path, count in ((tmp_path / "run.dcm", 1), (tmp_path / "frames", len(files))):
        run = open_run(path)
        assert all("PixelData" in header.dataset for header in run.headers)
        assert len(run.decode()) == len(files)
        assert len(run.headers) == count
        assert not any("PixelData" in header.dataset for header in run.headers)


def test_files_that_are_views_are_not_joined(tmp_path: Path) -> None:
    ap, lateral = (
        written(tmp_path / "ap.dcm", frames=1, masks=()),
        written(tmp_path / "lateral.dcm", frames=1, masks=()),
    )
    ds = pydicom.dcmread(lateral)
    ds.PositionerPrimaryAngle = 90
    ds.save_as(lateral)
    assert folder_of_frames([ap, lateral]) is None
    assert folder_of_frames([written(tmp_path / "a.dcm"), written(tmp_path / "b.dcm")]) is None


def test_one_run_of_many_frames_in_a_folder_with_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    whole = read_angiogram(written(folder / "run.dcm"), subtraction=STILL)
    written(folder / "shot.dcm", retag(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT"), frames=1, masks=())
    (folder / "readme.txt").write_text("Viewer")
    run = read_angiogram(folder, subtraction=STILL)
    np.testing.assert_array_equal(run.frames, whole.frames)
    assert "2 other files in the folder are no runs and were passed over." in run.notes


def test_several_runs_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    written(folder / "a.dcm")
    written(folder / "b.dcm", retag(PositionerPrimaryAngle=90), frames=3)
    with pytest.raises(InputError, match="holds 2 runs") as caught:
        read_angiogram(folder)
    assert "1. 5 frames of 48 x 64, angles -28.5 / 21.9 deg, a.dcm" in str(caught.value)
    assert "2. 3 frames of 48 x 64, angles 90 / 21.9 deg, b.dcm" in str(caught.value)
    split(folder / "a.dcm", tmp_path / "series", AcquisitionNumber=[1, 1, 2, 2, 2])
    with pytest.raises(InputError, match=r"holds 2 runs: .*3 frames.*2 frames"):
        read_angiogram(tmp_path / "series")


def test_frames_that_do_not_belong_together(tmp_path: Path) -> None:
    written(tmp_path / "run.dcm")
    files = split(tmp_path / "run.dcm", tmp_path / "size")
    ds = pydicom.dcmread(files[3])
    ds.Rows, ds.PixelData = 24, ds.PixelData[: len(ds.PixelData) // 2]
    ds.save_as(files[3])
    with pytest.raises(InputError, match=r"Rows \(0028,0010\) is 48 in IM99.dcm, 24 in IM96.dcm"):
        read_angiogram(tmp_path / "size")
    split(tmp_path / "run.dcm", tmp_path / "order", InstanceNumber=[1, 2, 2, 3, 4])
    with pytest.raises(
        InputError, match=r"InstanceNumber \(0020,0013\) tells it, but numbers 2 stand in several files"
    ):
        read_angiogram(tmp_path / "order")
    files = split(tmp_path / "run.dcm", tmp_path / "short")
    ds = pydicom.dcmread(files[1])
    ds.PixelData = ds.PixelData[:-400]
    ds.save_as(files[1])
    with pytest.raises(
        InputError, match=r"IM98.dcm: The pixel data is cut short: it holds 5,744 bytes where the header says 6,144"
    ):
        read_angiogram(tmp_path / "short")
    split(tmp_path / "run.dcm", tmp_path / "turning", PositionerPrimaryAngle=[0, 10, 20, 30, 40])
    with pytest.raises(GeometryError, match="rotational run"):
        read_angiogram(tmp_path / "turning")


def test_missing_frames_are_said(tmp_path: Path) -> None:
    files = split(written(tmp_path / "run.dcm"), tmp_path / "frames")
    files[2].unlink()
    run = read_angiogram(tmp_path / "frames", subtraction=STILL)
    assert len(run.frames) == 4
    assert any(
        "1 of the run's frames are missing (InstanceNumber (0020,0013) 3 of 1 to 5)" in note for note in run.notes
    )


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    written(tmp_path / "ct.dcm", retag(SOPClassUID=CT_CLASS, Modality="CT"))
    with pytest.raises(InputError, match=r"holds no angiography run \(1 files\)"):
        read_angiogram(tmp_path)
    assert not is_run_folder(tmp_path)


def test_run_without_preamble(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm")
    whole = read_angiogram(path, subtraction=STILL)
    path.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_angiogram(path, subtraction=STILL).frames, whole.frames)


def test_what_cannot_be_read_says_what_helps(tmp_path: Path) -> None:
    biplane = written(tmp_path / "biplane.dcm", retag(SOPClassUID="1.2.840.10008.5.1.4.1.1.12.3"))
    with pytest.raises(InputError, match=r"retired bi-plane class.*export each plane as a run of its own"):
        read_angiogram(biplane)

    def film(ds: Dataset) -> None:
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.103"  # H.264
        ds.PixelData = encapsulate([b"\0" * 100])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True

    with pytest.raises(InputError, match=r"a film for viewing.*export the run from the angiography workstation"):
        read_angiogram(written(tmp_path / "film.dcm", film))


def test_a_wrong_length_is_damage_and_quotes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm", retag(PatientName="LEAK^NAME"))
    data = bytearray(path.read_bytes())
    at = data.index(b"\x08\x00\x60\x00CS")
    data[at + 6 : at + 8] = (302).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_angiogram(path, TYPED)
    assert "LEAK" not in str(caught.value)
