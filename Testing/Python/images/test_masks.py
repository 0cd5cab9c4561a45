"""Masks as people hand them over: several labels, names, segments of Slicer and of DICOM, probabilities, images; as typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.images.files import save_volume
from DeepIterRegLib.images.labels import read_labelled
from DeepIterRegLib.images.masks import mask_file, read_image_mask, read_mask, split_labels
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta.mask import as_cta_mask

AFFINE = np.diag([-0.5, -0.6, 0.7, 1.0])
AFFINE[:3, 3] = (20, 30, -10)
LABELS = np.zeros((12, 14, 16), np.uint8)
LABELS[2:9, 3:6, 4:8], LABELS[4:6, 8:12, 2:14], LABELS[10, 10, 10] = 1, 2, 3


def refusal(path: Path | str, at: str = "cta_mask") -> str:
    with pytest.raises(InputError) as caught:
        read_mask(Path(path), at)
    (problem,) = caught.value.problems
    return problem


def label_map(path: Path, voxels: np.ndarray = LABELS) -> Path:
    save_volume(Volume(voxels, AFFINE), path)
    return path


def seg_nrrd(path: Path, overlapping: bool = False) -> Path:
    """As Slicer writes segmentations: layers are components, labels may repeat between them."""
    layers = np.stack([LABELS * (LABELS < 3), (LABELS == 3).astype(np.uint8)], axis=-1) if overlapping else LABELS
    image = sitk.GetImageFromArray(layers, isVector=overlapping)
    image.SetSpacing((0.5, 0.6, 0.7))
    image.SetOrigin((-20.0, -30.0, -10.0))
    names = ("Arteries", "Veins, left", "Sinus")
    for n, name in enumerate(names):
        apart = overlapping and n == 2
        for key, value in {
            "ID": f"Segment_{n + 1}",
            "Name": name,
            "LabelValue": str(1 if apart else n + 1),
            "Layer": str(int(apart)),
            "Color": "0.5 1 0",
        }.items():
            image.SetMetaData(f"Segment{n}_{key}", value)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def dicom_seg(path: Path, fractional: bool = False) -> Path:
    """By highdicom, on slices from head to feet; segments overlap nowhere, empty frames are left out."""
    sources = []
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(len(LABELS)):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "SECRET77", "", ""
        ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
        ds.Modality, ds.InstanceNumber, ds.SeriesNumber = "CT", k + 1, 1
        ds.Rows, ds.Columns, ds.PixelSpacing, ds.SliceThickness = *LABELS.shape[1:], [0.6, 0.5], 0.7
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-20.0, -30.0, -10 + 0.7 * k]
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 1, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        sources.append(ds)
    described = [
        highdicom.seg.SegmentDescription(
            n, name, codes.SCT.Organ, codes.SCT.Artery, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for n, name in enumerate(("Arteries", "Veins, left", "Sinus"), 1)
    ]
    planes = np.stack([n == LABELS for n in (1, 2, 3)], axis=-1)
    highdicom.seg.Segmentation(
        sources,
        planes.astype(np.float32) * 0.8 if fractional else planes.astype(np.uint8),
        "FRACTIONAL" if fractional else "BINARY",
        described,
        generate_uid(),
        2,
        generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "1",
    ).save_as(path)
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "labels.nii.gz": label_map,
    "labels.mha": label_map,
    "a.seg.nrrd": seg_nrrd,
    "layers.seg.nrrd": lambda path: seg_nrrd(path, overlapping=True),
    "seg.dcm": dicom_seg,
    "fractional": lambda path: dicom_seg(path, fractional=True),
}
NAMED = [name for name in MAKERS if not name.startswith("labels")]


@pytest.mark.parametrize("name", list(MAKERS))
def test_several_labels_are_listed_and_asked_for(name: str, tmp_path: Path) -> None:
    said = refusal(MAKERS[name](tmp_path / name))
    assert isinstance(said, Message)
    assert said.at == "cta_mask"
    assert f"{name} holds 3 labels" in said
    assert str(tmp_path) not in said
    for n, title in enumerate(("Arteries, ", "Veins, left, ", "Sinus, "), 1):
        assert f"{n} ({title if name in NAMED else ''}{(n == LABELS).sum()} voxels)" in said
    assert f"{name}:2,3" in said


def on_the_grid(mask: Volume) -> np.ndarray:
    """Among the voxels that the labels were drawn on: DICOM files leave slices without a voxel out."""
    laid = as_cta_mask(mask, Volume(np.zeros_like(LABELS), AFFINE))
    assert laid.notes == ()
    return laid.voxels


@pytest.mark.parametrize("name", list(MAKERS))
@pytest.mark.parametrize(
    ("chosen", "labels"),
    [("2", [2]), ("1,3", [1, 3]), (" 3 , 1", [1, 3]), ("Arteries", [1]), ("sinus,2", [2, 3]), ("Veins, left", [2])],
)
def test_labels_are_chosen_by_number_or_name(name: str, chosen: str, labels: list[int], tmp_path: Path) -> None:
    if name not in NAMED and not chosen.replace(",", "").replace(" ", "").isdecimal():
        pytest.skip("names only where the file has some")
    path = MAKERS[name](tmp_path / name)
    mask = read_mask(Path(f"{path}:{chosen}"))
    np.testing.assert_array_equal(on_the_grid(mask), np.isin(LABELS, labels))
    assert mask.voxels.dtype == bool


@pytest.mark.parametrize("name", ["labels.nii.gz", "a.seg.nrrd"])
def test_labels_that_are_not_there(name: str, tmp_path: Path) -> None:
    said = refusal(f"{MAKERS[name](tmp_path / name)}:7,Bone,1")
    assert "no label 7, Bone" in said
    assert "voxels)" in said


def test_a_folder_with_one_segmentation(tmp_path: Path) -> None:
    dicom_seg(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(on_the_grid(read_mask(Path(f"{tmp_path}:1"))), LABELS == 1)
    (tmp_path / "other").write_bytes(b"")
    assert "is a folder" in refusal(tmp_path)


def test_no_long_or_odd_name_is_quoted(tmp_path: Path) -> None:
    path = seg_nrrd(tmp_path / "a.seg.nrrd")
    image = sitk.ReadImage(str(path))
    image.SetMetaData("Segment0_Name", "Jane Doe born 1961-02-03 in a town")
    sitk.WriteImage(image, str(path))
    said = refusal(path)
    assert "1 (84 voxels)" in said
    assert "Jane" not in said


def test_other_dicom_files_are_no_mask(tmp_path: Path) -> None:
    path = dicom_seg(tmp_path / "seg.dcm")
    content = path.read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[: len(content) // 2])
    assert "SECRET77" not in refusal(tmp_path / "cut.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM, and long enough to look at" * 10)
    assert "not a DICOM file" in refusal(tmp_path / "text.dcm")


# -- values --------------------------------------------------------------------------------------------


def test_one_label_of_any_value_is_a_mask(tmp_path: Path) -> None:
    one = LABELS * (LABELS == 2)
    for n, voxels in enumerate((one.astype(np.int16) * 100, one / np.float32(2.7), one > 0, one.astype(np.float64))):
        mask = read_mask(
            label_map(tmp_path / f"{n}.nii.gz", voxels.astype(np.float32) if voxels.dtype == float else voxels)
        )
        np.testing.assert_array_equal(mask.voxels, LABELS == 2)
        assert mask.notes == ()
    mask = read_mask(Path(f"{label_map(tmp_path / 'a.nrrd', one)}:2"))
    np.testing.assert_array_equal(mask.voxels, LABELS == 2)


def test_probabilities_count_from_a_half(tmp_path: Path) -> None:
    p = np.random.default_rng(0).random(LABELS.shape).astype(np.float32)
    p[0, 0, 0] = np.nan
    mask = read_mask(label_map(tmp_path / "p.nii.gz", p))
    np.testing.assert_array_equal(mask.voxels, p >= 0.5)
    assert "probabilities" in mask.notes[0]
    assert "none reaches 0.5" in refusal(label_map(tmp_path / "p.nii.gz", p * np.float32(0.4)))


def test_labels_stored_as_decimals_are_labels(tmp_path: Path) -> None:
    assert "holds 3 labels" in refusal(label_map(tmp_path / "f.nrrd", LABELS.astype(np.float32)))
    mask = read_mask(Path(f"{tmp_path / 'f.nrrd'}:3"))
    assert mask.voxels.sum() == 1


@pytest.mark.parametrize(
    "voxels",
    [
        np.random.default_rng(1).integers(-1000, 2000, LABELS.shape).astype(np.int16),
        np.random.default_rng(1).integers(0, 250, LABELS.shape).astype(np.uint8),
        np.random.default_rng(1).normal(40, 100, LABELS.shape).astype(np.float32),
        np.random.default_rng(1).integers(0, 2**30, LABELS.shape).astype(np.int32),
    ],
)
def test_grey_values_are_no_mask(voxels: np.ndarray, tmp_path: Path) -> None:
    assert "holds grey values from" in refusal(label_map(tmp_path / "a.nrrd", voxels))


def test_large_labels(tmp_path: Path) -> None:
    """Atlases number structures by thousands, and beyond 16 bits."""
    large = LABELS.astype(np.int32) * 1_000_000
    assert "2000000 (96 voxels)" in refusal(label_map(tmp_path / "a.nrrd", large))
    assert read_mask(Path(f"{tmp_path / 'a.nrrd'}:3000000")).voxels.sum() == 1


def test_empty(tmp_path: Path) -> None:
    assert "is empty" in refusal(label_map(tmp_path / "a.nii", np.zeros_like(LABELS)))
    with pytest.raises(InputError, match="does not exist"):
        read_labelled(tmp_path / "none.nii.gz")


# -- as typed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "file", "labels"),
    [
        ("a.nii.gz", "a.nii.gz", ""),
        ("a.nii.gz:2", "a.nii.gz", "2"),
        ("some/a.seg.nrrd:Left ICA, M1", "some/a.seg.nrrd", "Left ICA, M1"),
        (r"C:\data\a.nii.gz", r"C:\data\a.nii.gz", ""),
        (r"C:\data\a.nii.gz:2", r"C:\data\a.nii.gz", "2"),
        ("D:/data/a.mha:1,2", "D:/data/a.mha", "1,2"),
        ("A.NII.GZ:name: with colon", "A.NII.GZ", "name: with colon"),
        ("mask.png:255", "mask.png", "255"),
        ("no/such/file:2", "no/such/file:2", ""),
    ],
)
def test_labels_are_parted_from_the_path(typed: str, file: str, labels: str) -> None:
    assert split_labels(typed) == (Path(file), labels)
    assert mask_file(Path(typed)) == Path(file)


def test_a_colon_may_belong_to_the_name(tmp_path: Path) -> None:
    path = label_map(tmp_path / "12:30.nii.gz", (LABELS == 1).astype(np.uint8))
    assert split_labels(str(path)) == (path, "")
    odd = path.rename(tmp_path / "without suffix")
    assert split_labels(f"{odd}:1") == (odd, "1")


# -- masks of a DSA ------------------------------------------------------------------------------------


def test_masks_of_a_dsa(tmp_path: Path) -> None:
    image = LABELS[4]
    Image.fromarray((image == 2).astype(np.uint8) * 255).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image_mask(tmp_path / "a.png"), image == 2)
    Image.fromarray(image * 100).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png holds 2 labels"):
        read_image_mask(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image_mask(Path(f"{tmp_path / 'b.png'}:200")), image == 2)
    save_volume(Volume(image[None], AFFINE), tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(read_image_mask(Path(f"{tmp_path / 'c.nii.gz'}:1")), image == 1)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.png is cut short after \d+ bytes"):
        read_image_mask(tmp_path / "a.png")
    with pytest.raises(InputError, match="does not exist"):
        read_image_mask(tmp_path / "none.png")
