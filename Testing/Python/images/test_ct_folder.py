"""CTAs from DICOM of every build: enhanced ones, folders with several series and phases, damaged and missing files, DICOMDIR, .zip."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_files import STEP_MM, head, write_enhanced, write_slices
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from DeepIterRegLib.common.errors import InputError, notes_of
from DeepIterRegLib.images import archive
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.volume import Volume

SMALL = np.random.default_rng(3).integers(-1000, 1500, (7, 6, 5)).astype(np.int16)
ROTATIONAL, LEGACY = "1.2.840.10008.5.1.4.1.1.13.1.1", "1.2.840.10008.5.1.4.1.1.2.2"


def problems(path: Path, *chosen: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_volume(path, *chosen)
    text = str(caught.value) + " ".join(notes_of(caught.value))
    assert not any(secret in text for secret in ("Doe", "Jane", "SECRET", "1961"))
    return str(caught.value)


# -- how slices are stored -----------------------------------------------------------------------------


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.2.1", LEGACY])
@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize("in_folder", [False, True])
def test_enhanced_frames_in_any_order(tmp_path: Path, sop_class: str, rle: bool, in_folder: bool) -> None:
    write_enhanced(tmp_path / "ct.dcm", SMALL, [3, 0, 6, 1, 5, 2, 4], sop_class, rle=rle)
    volume = load_volume(tmp_path if in_folder else tmp_path / "ct.dcm")
    np.testing.assert_array_equal(volume.voxels, SMALL)
    assert volume.voxels.dtype == np.int16
    np.testing.assert_allclose(volume.affine, [[-2.5, 0, 0, 90], [0, -2.5, 0, 100], [0, 0, 2.5, 0], [0, 0, 0, 1]])


def test_each_frame_has_its_own_rescale(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct.dcm", SMALL // 12 * 12, slopes=[0.5, 1.5, 0.25, 3, 1, 2, 0.75])
    volume = load_volume(tmp_path / "ct.dcm")
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, SMALL // 12 * 12, atol=1.5)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([0, 1, 2, 4, 5, 6, 7], "Slices are missing"),
        ([0, 1, 2, 3.3, 4.3, 5.3, 6.3], "unevenly"),
        ([0, 1, 2, 3, 0, 1, 2], "lie where"),
    ],
)
def test_enhanced_frames_that_make_no_volume(tmp_path: Path, places: list[float], said: str) -> None:
    def put(frame: Dataset, k: int) -> None:
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, places[k] * STEP_MM]

    write_enhanced(tmp_path / "ct.dcm", SMALL, change=put)
    assert said in problems(tmp_path / "ct.dcm")


@pytest.mark.parametrize("rle", [False, True])
def test_slices_without_preamble_and_compressed_ones(tmp_path: Path, rle: bool) -> None:
    write_slices(tmp_path, SMALL, rle=rle)
    for path in tmp_path.iterdir() if not rle else ():
        path.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(load_volume(tmp_path).voxels, SMALL)


def test_unsigned_twelve_bits_with_an_overlay_above(tmp_path: Path) -> None:
    def store(ds: Dataset, k: int) -> None:
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleIntercept = 12, 11, 0, -1024
        ds.PixelData = ((SMALL[k].astype(np.uint16) + 1024) | 0x8000).astype("<u2").tobytes()

    write_slices(tmp_path, SMALL, change=store)
    np.testing.assert_array_equal(load_volume(tmp_path).voxels, SMALL)


def test_copies_of_slices_are_left_out(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", SMALL)
    (tmp_path / "copy").mkdir()
    for path in sorted((tmp_path / "a").iterdir())[:2]:
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels, SMALL)
    assert "2 copies of slices" in volume.notes[0]


# -- what is damaged -----------------------------------------------------------------------------------


def test_a_short_slice_is_refused_with_both_numbers(tmp_path: Path) -> None:
    def cut(ds: Dataset, k: int) -> None:
        if k == 3:
            ds.PixelData = ds.PixelData[:-20]

    write_slices(tmp_path, SMALL, change=cut)
    said = problems(tmp_path)
    assert "1 of 7 files" in said
    assert "IM0003.dcm holds 40 bytes of pixels, its header says 60" in said


def test_a_short_enhanced_file_is_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct.dcm", SMALL)
    path = tmp_path / "ct.dcm"
    path.write_bytes(path.read_bytes()[:-61])
    assert "holds 359 bytes of pixels, its header says 420" in problems(path)


def spoil(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"\0" * 500, b"\0" * 128 + b"DICM\x08\x00"])
def test_unreadable_files_among_slices_are_counted(tmp_path: Path, content: bytes) -> None:
    write_slices(tmp_path, SMALL)
    for path in sorted(tmp_path.iterdir())[-2:]:
        spoil(content)(path)
    said = problems(tmp_path)
    assert "2 of 7 files" in said
    assert "IM0005.dcm" in said


def test_other_files_beside_the_slices_do_no_harm(tmp_path: Path) -> None:
    write_slices(tmp_path, SMALL)
    (tmp_path / "VERSION").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("A CD of the hospital")
    (tmp_path / "._IM0001.dcm").write_bytes(b"\0\5\x16\7")  # what macOS leaves beside every file
    np.testing.assert_array_equal(load_volume(tmp_path).voxels, SMALL)


def test_slices_without_a_place_are_counted(tmp_path: Path) -> None:
    def forget(ds: Dataset, k: int) -> None:
        if k == 6:
            del ds.ImagePositionPatient

    write_slices(tmp_path, SMALL, change=forget)
    assert "1 of 7 slices" in problems(tmp_path)


def test_a_header_that_claims_too_much_takes_no_memory(tmp_path: Path) -> None:
    def claim(ds: Dataset, k: int) -> None:
        ds.Rows = ds.Columns = 60000

    write_slices(tmp_path, SMALL, change=claim)
    assert "its header says 7200000000" in problems(tmp_path)


# -- several series ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thin series without contrast, the CTA, a bone kernel, a MIP, a localiser, a screenshot, a report."""
    folder = tmp_path_factory.mktemp("study")
    filled = head(300)

    def kernel(name: str) -> Callable[[Dataset, int], None]:
        return lambda ds, k: setattr(ds, "ConvolutionKernel", name)

    write_slices(folder / "1", head(), 1, "native thin")
    write_slices(folder / "2", filled, 2, "CTA head 0.6", change=kernel("Hv40"))
    write_slices(folder / "3", filled, 3, "Jane Doe 1961 SECRET77 angio", change=kernel("Hr69"))
    write_slices(folder / "4", filled[::4], 4, "thick", STEP_MM * 4, change=kernel("Hv40"))
    write_slices(
        folder / "5", filled, 5, change=lambda ds, k: setattr(ds, "ImageType", ["DERIVED", "SECONDARY", "MIP"])
    )
    write_slices(
        folder / "6", filled[:1], 6, change=lambda ds, k: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])
    )
    for number, sop_class in ((7, "1.2.840.10008.5.1.4.1.1.7"), (8, "1.2.840.10008.5.1.4.1.1.88.67")):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
        ds.Modality = "SR" if number == 8 else "OT"
        (folder / str(number)).mkdir()
        ds.save_as(folder / str(number) / "IM0000.dcm", enforce_file_format=True)
    return folder


def test_the_contrast_series_of_a_head_is_read_and_the_others_listed(study: Path) -> None:
    volume = load_volume(study)
    np.testing.assert_array_equal(volume.voxels, head(300))
    (note,) = volume.notes
    for said in (
        "There are 4 CT series",
        'series 2, "CTA head 0.6", kernel Hv40',
        'series 1, "native thin"): no contrast in its vessels',
        'series 3, "angio", kernel Hr69): a sharper kernel',
        "18 slices of 84x76, 10 mm apart (series 4",
        "1 x projection (MIP), 1 x localiser, 1 x screenshot, 1 x report",
    ):
        assert said in note
    for secret in ("Jane", "Doe", "1961", "SECRET"):
        assert secret not in note


@pytest.mark.parametrize("wanted", ["1", "native thin", "NATIVE"])
def test_a_series_can_be_chosen(study: Path, wanted: str) -> None:
    np.testing.assert_array_equal(load_volume(study, wanted).voxels, head())


def test_a_series_can_be_chosen_by_its_uid_even_a_mip(study: Path) -> None:
    uid = pydicom.dcmread(study / "5" / "IM0000.dcm", stop_before_pixels=True).SeriesInstanceUID
    assert load_volume(study, uid).voxels.shape == head().shape


def test_what_chooses_no_series_or_several_is_told(study: Path) -> None:
    assert "no series of this number, description or UID" in problems(study, "99")
    assert "3 series" in problems(study, "h")  # head, thin, thick: descriptions with it
    assert "no phase 2: it shows one phase only" in problems(study, None, 2)
    nifti = study / "one.nii.gz"
    save_volume(Volume(SMALL, np.eye(4)), nifti)
    assert "holds one volume" in problems(nifti, "1")
    nifti.unlink()


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.2"])
def test_contrast_tags_decide_where_pixels_cannot(tmp_path: Path, sop_class: str) -> None:
    write_slices(tmp_path / "a", SMALL, 1)
    write_slices(tmp_path / "b", SMALL[::-1], 2, change=lambda ds, k: setattr(ds, "ContrastBolusAgent", "Iomeprol 400"))
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels, SMALL[::-1])
    assert "no tag tells of contrast" in volume.notes[0]
    assert "Iomeprol" not in volume.notes[0]


def test_two_patients_in_a_folder_are_never_mixed(tmp_path: Path) -> None:
    write_slices(tmp_path / "a", SMALL, 1)
    write_slices(tmp_path / "b", SMALL, 2, change=lambda ds, k: setattr(ds, "PatientID", "SECRET78"))
    assert "scans of 2 patients" in problems(tmp_path)
    np.testing.assert_array_equal(load_volume(tmp_path, "2").voxels, SMALL)


# -- phases --------------------------------------------------------------------------------------------


def by_acquisition(ds: Dataset, phase: int, k: int) -> None:
    ds.AcquisitionNumber = phase + 4


def by_trigger(ds: Dataset, phase: int, k: int) -> None:
    ds.TriggerTime = f"{1000.5 * phase:.1f}"


def by_content_time(ds: Dataset, phase: int, k: int) -> None:
    ds.ContentTime = f"1130{10 * phase:02d}.{k:03d}"


def by_temporal_index(ds: Dataset, phase: int, k: int) -> None:
    ds.TemporalPositionIdentifier = phase + 1


@pytest.mark.parametrize("tell", [by_acquisition, by_trigger, by_content_time, by_temporal_index])
def test_phases_are_split_and_the_one_with_most_contrast_is_read(
    tmp_path: Path, tell: Callable[[Dataset, int, int], None]
) -> None:
    phases = [head(), head(300), head(90)]
    series = generate_uid()
    for number, hu in enumerate(phases):
        write_slices(
            tmp_path,
            hu,
            4,
            change=lambda ds, k, number=number: tell(ds, number, k),
            series=series,
            prefix=f"P{number}_",
        )
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels, phases[1])
    assert "phase 2 of 3" in volume.notes[0]
    assert "phase 1 of 3): no contrast in its vessels" in volume.notes[0]
    if tell is by_acquisition:
        np.testing.assert_array_equal(load_volume(tmp_path, None, 3).voxels, phases[2])
        assert "no phase 4: it shows at most 3 phases" in problems(tmp_path, None, 4)


def test_phases_that_lie_between_each_other_s_slices_are_no_finer_volume(tmp_path: Path) -> None:
    series = generate_uid()

    def put(ds: Dataset, k: int, phase: int) -> None:
        ds.AcquisitionNumber = phase
        ds.ImagePositionPatient = [0, 0, (k + phase / 2) * STEP_MM]

    for phase in (0, 1):
        write_slices(
            tmp_path, SMALL + phase, change=lambda ds, k, p=phase: put(ds, k, p), series=series, prefix=f"P{phase}_"
        )
    assert len(load_volume(tmp_path).voxels) == len(SMALL)


def test_acquisitions_one_above_the_other_are_one_scan(tmp_path: Path) -> None:
    write_slices(tmp_path, SMALL, change=lambda ds, k: setattr(ds, "AcquisitionNumber", 1 + (k > 3)))
    np.testing.assert_array_equal(load_volume(tmp_path).voxels, SMALL)


def test_phases_of_an_enhanced_ct(tmp_path: Path) -> None:
    def tell(frame: Dataset, k: int) -> None:
        content = Dataset()
        content.TemporalPositionIndex = 1 + (k > 3)
        frame.FrameContentSequence = [content]
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, (k % 4) * STEP_MM]

    both = np.concatenate([SMALL[:4], SMALL[3:]])
    write_enhanced(tmp_path / "ct.dcm", both, change=tell)
    np.testing.assert_array_equal(load_volume(tmp_path / "ct.dcm", None, 2).voxels, SMALL[3:])


# -- other kinds of volumes, other containers --------------------------------------------------------------


@pytest.mark.parametrize(("sop_class", "modality"), [(ROTATIONAL, "XA"), ("1.2.840.10008.5.1.4.1.1.4.1", "MR")])
def test_rotational_and_mr_volumes_are_no_hu(tmp_path: Path, sop_class: str, modality: str) -> None:
    write_enhanced(tmp_path / "ct.dcm", SMALL, [2, 1, 0, 3, 6, 5, 4], sop_class, modality)
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels, SMALL)
    assert volume.values == "other"
    assert "not HU" in volume.notes[0]
    write_slices(tmp_path / "ct", SMALL)
    both = load_volume(tmp_path)
    assert both.values == "HU"
    assert "a CT lies there too" in both.notes[0]


def test_a_rotational_volume_is_no_run(tmp_path: Path) -> None:
    from DeepIterRegLib.images.dicom import read_angiogram

    write_enhanced(tmp_path / "ct.dcm", SMALL, None, ROTATIONAL, "XA")
    with pytest.raises(InputError, match=r"X-Ray 3D Angiographic|3D volume"):
        read_angiogram(tmp_path / "ct.dcm")


def test_a_dicomdir_leads_to_its_series(tmp_path: Path) -> None:
    def date(ds: Dataset, k: int) -> None:
        ds.StudyDate, ds.StudyTime, ds.StudyID = "20200101", "120000", "1"

    write_slices(tmp_path / "in", SMALL, 5, change=date)
    files = FileSet()
    for path in (tmp_path / "in").iterdir():
        files.add(path)
    files.write(tmp_path / "cd")
    listed = [path for path in sorted((tmp_path / "cd").rglob("*")) if path.is_file() and path.name != "DICOMDIR"]
    write_slices(tmp_path / "cd" / "OTHER", head(), 9)  # not listed
    np.testing.assert_array_equal(load_volume(tmp_path / "cd" / "DICOMDIR").voxels, SMALL)
    listed[0].unlink()
    assert "1 of 7 files" in problems(tmp_path / "cd" / "DICOMDIR")


def zipped(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for one in sorted(folder.rglob("*")):
            file.write(one, one.relative_to(folder))
    return path


def test_zips_of_slices_and_of_a_volume(tmp_path: Path) -> None:
    write_slices(tmp_path / "in" / "deep", SMALL)
    np.testing.assert_array_equal(load_volume(zipped(tmp_path / "a.zip", tmp_path / "in")).voxels, SMALL)
    (tmp_path / "nii").mkdir()
    save_volume(Volume(SMALL, np.eye(4)), tmp_path / "nii" / "cta.nii.gz")
    np.testing.assert_array_equal(load_volume(zipped(tmp_path / "b.zip", tmp_path / "nii")).voxels, SMALL)
    (tmp_path / "in" / "deep" / "IM0002.dcm").write_bytes(b"")
    said = problems(zipped(tmp_path / "c.zip", tmp_path / "in"))
    assert "c.zip" in said
    assert "deepiterreg-" not in said  # the temporary folder is nobody's business


def test_names_that_lead_out_of_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "C:\\evil.txt", "fine.txt", "__MACOSX/x"):
            file.writestr(name, "x")
    with archive.unpacked(tmp_path / "a.zip") as folder:
        assert [path.name for path in folder.rglob("*")] == ["fine.txt"]
    assert not folder.exists()


def test_zips_that_would_take_too_much_are_refused_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros.dcm", b"\0" * (70 * 2**20))
    assert "times its size" in problems(bomb)
    monkeypatch.setattr(archive, "MOST_BYTES", 2**20)
    assert "more than" in problems(bomb)
    raw = bytearray(bomb.read_bytes())
    (flags,) = struct.unpack_from("<H", raw, raw.index(b"PK\1\2") + 8)
    struct.pack_into("<H", raw, raw.index(b"PK\1\2") + 8, flags | 1)
    bomb.write_bytes(raw)
    assert "password" in problems(bomb)
