"""Volumes from and to files against ITK, nibabel and DICOM series written here; real CTs; CTAs that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from head_phantom import head
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from repository import shared

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.cta_checks import check_cta, prepare_cta
from DeepIterRegLib.images.files import VOLUME_SUFFIXES, load_volume, save_volume
from DeepIterRegLib.images.volume import Volume


def oblique(dtype: type = np.int16) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = pose.euler_deg_to_rotation(np.array([10.0, -20.0, 30.0])) * (0.5, 0.7, 1.3)
    affine[:3, 3] = (-90, 40, -12.5)
    voxels = np.random.default_rng(0).integers(-1000, 2000, (5, 6, 7)).astype(dtype)
    return Volume(voxels, affine)


# -- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
@pytest.mark.parametrize("dtype", [np.int16, np.float32, bool])
def test_round_trip(tmp_path: Path, suffix: str, dtype: type) -> None:
    volume = oblique(dtype)
    path = tmp_path / f"volume{suffix}"
    save_volume(volume, path)
    again = load_volume(path)
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    assert again.voxels.dtype == (np.uint8 if dtype is bool else dtype)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    assert not [p for p in tmp_path.iterdir() if ".part" in p.name]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_voxels_stand_where_nibabel_and_itk_say(tmp_path: Path, suffix: str) -> None:
    import nibabel
    import SimpleITK as sitk

    volume = oblique()
    save_volume(volume, tmp_path / f"v{suffix}")
    corner = volume.to_ras(np.array([[4, 3, 2]]))[0]
    image = sitk.ReadImage(str(tmp_path / f"v{suffix}"))
    np.testing.assert_allclose(
        np.array(image.TransformIndexToPhysicalPoint((2, 3, 4))) * (-1, -1, 1), corner, atol=1e-3
    )
    if suffix == ".nii.gz":
        loaded = nibabel.load(tmp_path / "v.nii.gz")
        np.testing.assert_allclose((loaded.affine @ (2, 3, 4, 1))[:3], corner, atol=1e-3)
        assert loaded.dataobj[2, 3, 4] == volume.voxels[4, 3, 2]


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    import SimpleITK as sitk

    (tmp_path / "text.nii").write_text("not a volume")
    (tmp_path / "text.txt").write_text("not a volume")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(tmp_path / "flat.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(tmp_path / "rgb.nrrd"))
    (tmp_path / "empty").mkdir()
    for name, message in {
        "none.nii": "does not exist",
        "text.nii": "cannot be read as a volume",
        "text.txt": "is not a volume",
        "flat.nrrd": "three dimensions",
        "rgb.nrrd": "one value",
        "empty": "no DICOM",
    }.items():
        with pytest.raises(InputError, match=message):
            load_volume(tmp_path / name)
    with pytest.raises(InputError, match="no suffix of a volume"):
        save_volume(oblique(), tmp_path / "a.png")
    with pytest.raises(InputError, match="does not exist"):
        save_volume(oblique(), tmp_path / "none" / "a.nii")
    sheared = oblique().affine.copy()
    sheared[:3, 2] += sheared[:3, 0]
    with pytest.raises(InputError, match="not perpendicular"):
        save_volume(Volume(oblique().voxels, sheared), tmp_path / "a.nii")


# -- DICOM series ------------------------------------------------------------------------------------

HU = np.random.default_rng(1).integers(-1000, 2000, (6, 8, 9)).astype(np.int16)


def write_series(
    folder: Path,
    positions_mm: np.ndarray,
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    modality: str = "CT",
    origin: tuple[float, float] = (-20.0, -30.0),
    kernel: str = "",
    step: tuple[float, float, float] | None = None,
) -> None:
    """One file for each slice, named in an order that has nothing to do with their place."""
    folder.mkdir(exist_ok=True)
    series = generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    for index, position in enumerate(positions_mm):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = series, series
        ds.PatientName, ds.PatientID = "Doe^Jane", "SECRET77"
        ds.Modality = modality
        ds.ImageOrientationPatient = list(orientation)
        place = np.array([*origin, 0.0]) + position * (normal if step is None else np.array(step))
        ds.ImagePositionPatient = [f"{p:.6g}" for p in place]
        ds.PixelSpacing = [0.7, 0.5]
        ds.SliceThickness = 1
        if kernel:
            ds.ConvolutionKernel = kernel
        ds.Rows, ds.Columns, ds.SamplesPerPixel = HU.shape[1], HU.shape[2], 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = (HU[index % len(HU)].astype(np.int32) + 1024).astype("<u2").tobytes()
        ds.save_as(folder / f"{(index * 5) % 7}_{series[-4:]}_{index}.dcm", enforce_file_format=True)


def test_series_is_sorted_by_place_and_in_hu(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.arange(6) * 1.25)
    volume = load_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.voxels, HU)
    np.testing.assert_allclose(
        volume.affine, [[-0.5, 0, 0, 20], [0, -0.7, 0, 30], [0, 0, 1.25, 0], [0, 0, 0, 1]], atol=1e-6
    )
    assert volume.notes == ()


def test_oblique_and_descending_series_stand_where_itk_puts_them(tmp_path: Path) -> None:
    import SimpleITK as sitk

    axes = pose.euler_deg_to_rotation(np.array([5.0, -8.0, 12.0]))
    write_series(tmp_path / "ct", -np.arange(6) * 2.0, tuple(axes[:, :2].T.ravel().round(6)))
    volume = load_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.voxels, HU[::-1])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image = reader.Execute()
    index = np.array([[k, j, i] for k in (0, 5) for j in (0, 7) for i in (0, 8)])
    itk = np.array([image.TransformIndexToPhysicalPoint([int(i), int(j), int(k)]) for k, j, i in index]) * (-1, -1, 1)
    ours = volume.to_ras(index)
    values = volume.voxels[tuple(index.T)]
    array = sitk.GetArrayViewFromImage(image)
    for point, value in zip(ours, values, strict=True):
        nearest = np.linalg.norm(itk - point, axis=1).argmin()
        assert np.linalg.norm(itk[nearest] - point) < 1e-3
        assert array[tuple(index[nearest])] == value


def test_the_largest_series_is_read_and_the_others_named(tmp_path: Path) -> None:
    write_series(tmp_path / "a", np.arange(6) * 1.0, kernel="H30s")
    write_series(tmp_path / "b", np.arange(4) * 1.0, kernel="B60f")
    write_series(tmp_path / "scout", np.arange(1) * 1.0, orientation=(1, 0, 0, 0, 0, -1))
    write_series(tmp_path / "mr", np.arange(9) * 1.0, modality="MR")
    (tmp_path / "readme.txt").write_text("no image")
    volume = load_volume(tmp_path)
    assert volume.voxels.shape[0] == 6
    assert len(volume.notes) == 1
    assert "2 CT series" in volume.notes[0]
    assert "H30s" in volume.notes[0]
    assert "B60f" in volume.notes[0]
    assert "Jane" not in volume.notes[0]
    assert check_notes_survive(volume)


def check_notes_survive(volume: Volume) -> bool:
    with pytest.raises(InputError):  # far too small for a head
        check_cta(volume)
    return True


@pytest.mark.parametrize(
    ("positions", "changes", "message"),
    [
        ([0, 1, 2, 4, 5, 6], {}, r"Slices are missing .* 2\.00 mm after slice 3"),
        ([0, 1, 2, 3.3, 4.3, 5.3], {}, "unevenly spaced"),
        ([0, 1, 2, 0, 1, 2], {}, "4 slices .* several phases"),
        ([0, 1], {}, "a volume is needed"),
        (range(6), {"modality": "PT"}, "holds no CT, but 1 x PT series"),
    ],
)
def test_slices_that_make_no_volume(tmp_path: Path, positions: list[float], changes: dict, message: str) -> None:
    write_series(tmp_path / "ct", np.array(positions, dtype=float), **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_volume(tmp_path / "ct")
    assert "Jane" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_tilted_gantry_is_laid_upright(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.arange(6.0), step=(0.0, 0.2588, 0.9659))
    volume = load_volume(tmp_path / "ct")
    assert "tilted gantry: slices shift by 15.0 deg" in volume.notes[0]
    directions = volume.affine[:3, :3] / volume.spacing_mm
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    np.testing.assert_array_equal(volume.voxels[0, : HU.shape[1]], HU[0])


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.arange(3.0))
    with pytest.raises(InputError, match="give the folder"):
        load_volume(next((tmp_path / "ct").iterdir()))


def test_damaged_slice_is_named_as_such(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.arange(4.0))
    path = sorted((tmp_path / "ct").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be decoded"):
        load_volume(tmp_path / "ct")


# -- is it a head? -----------------------------------------------------------------------------------


def test_a_head_passes_without_notes_and_is_prepared_once() -> None:
    volume = head()
    prepared = prepare_cta(volume)
    assert prepared.notes == ()
    assert prepare_cta(prepared) is prepared


def test_offset_of_1024_is_undone() -> None:
    volume = head()
    stored = volume.with_voxels((volume.voxels + 1024).clip(0).astype(np.uint16))
    again = prepare_cta(stored)
    notes = again.notes
    assert abs(float(np.median(again.voxels)) - float(np.median(volume.voxels))) < 30
    assert again.voxels.min() == -1024
    assert len(notes) == 1
    assert "1024" in notes[0]


@pytest.mark.parametrize(
    ("flip", "said"), [(np.s_[::-1], ["upside down"]), (np.s_[:, ::-1], ["back to front"]), (np.s_[:, :, ::-1], [])]
)
def test_heads_the_wrong_way_are_noticed(flip: tuple[slice, ...], said: list[str]) -> None:
    volume = head()
    notes = check_cta(volume.with_voxels(volume.voxels[flip]))
    assert [word for word in ("upside down", "back to front") if any(word in note for note in notes)] == said


def test_stored_order_of_slices_does_not_matter() -> None:
    volume = head()
    affine = volume.affine @ np.diag([1, 1, -1, 1])
    affine[:3, 3] += volume.affine[:3, 2] * (len(volume.voxels) - 1)
    assert check_cta(Volume(volume.voxels[::-1], affine)) == ()


def test_lost_orientation_is_noted() -> None:
    notes = check_cta(Volume(head().voxels[:, ::-1, ::-1], np.diag([-2.0, -2.0, 2.0, 1.0])))
    assert any("neither position nor orientation" in note for note in notes)


def nan(volume: Volume) -> Volume:
    voxels = volume.voxels.astype(np.float32)
    voxels[60, 50, 40] = np.nan
    return volume.with_voxels(voxels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan, "not finite"),
        (lambda v: v.with_voxels(np.full_like(v.voxels, 7)), "the value 7: it is empty"),
        (lambda v: v.with_voxels((v.voxels > 300).astype(np.uint8)), "from 0 to 1: these are not CT numbers"),
        (lambda v: v.with_voxels(v.voxels.clip(max=200)), "above 300 HU"),
        (lambda v: v.with_voxels(v.voxels[:40]), "No skull encloses a brain"),
        (lambda v: v.with_voxels(v.voxels[80:100]), "measures 180 x 220 x 40 mm"),
    ],
)
def test_what_is_no_head_cta(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message) as caught:
        check_cta(change(head()))
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("name", "shifted", "said"),
    [
        ("cthead_dicom_series", True, []),
        ("cranium.nrrd", False, ["back to front"]),
        ("openkbp_pt2_hu_plus_1024.nrrd", True, ["upside down"]),
    ],
)
def test_real_cts(name: str, shifted: bool, said: list[str]) -> None:
    volume = prepare_cta(load_volume(shared(f"head_ct/{name}")))
    notes = volume.notes
    assert any("HU + 1024" in note for note in notes) == shifted
    assert [word for word in ("upside down", "back to front") if any(word in note for note in notes)] == said
    assert any("neither position nor orientation" in note for note in notes)
    soft = volume.voxels[(volume.voxels > -200) & (volume.voxels < 250)]
    assert -50 < np.median(soft) < 100


def test_dicom_identity_stays_in_the_file(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.arange(6.0))
    assert isinstance(pydicom.dcmread(next((tmp_path / "ct").iterdir())), Dataset)
    assert "Jane" not in repr(load_volume(tmp_path / "ct").notes)
