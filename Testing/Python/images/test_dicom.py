"""XA files: written and read back, enhanced ones, real ones, images without a header; what `describe` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedXAImageStorage,
)
from repository import shared
from xa_files import (
    ALL_FIVE,
    COLUMNS,
    CT_CLASS,
    ROWS,
    TYPED,
    carm,
    counts,
    cut,
    retag,
    same_view,
    strip_geometry,
    written,
)

from DeepIterRegLib.common.errors import GeometryError, InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.dicom import GeometryOptions, SubtractionSettings, describe, read_angiogram, write_xa


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("angles", [(0, 0), (90, 0), (-28.5, 21.9), (-90, -10), (170, 5)])
def test_any_view_comes_back_as_written(tmp_path: Path, angles: tuple[float, float], turns: int, flipped: bool) -> None:
    view = carm(primary_angle_deg=angles[0], secondary_angle_deg=angles[1], principal_point_px=(33.25, 20.5)).turned(
        turns
    )
    view = view.mirrored() if flipped else view
    write_xa(tmp_path / "run.dcm", counts(3, view.rows, view.columns), view, [0, 0.5, 1.5])
    same_view(read_angiogram(tmp_path / "run.dcm").carm, view)


def test_run_comes_back_subtracted(tmp_path: Path) -> None:
    write_xa(tmp_path / "run.dcm", counts(), carm(), [0, 0.5, 1.0, 2.0, 4.0], (0, 1))
    run = read_angiogram(tmp_path / "run.dcm", subtraction=SubtractionSettings(remask=False))
    np.testing.assert_allclose(run.frame_times_s, [0, 0.5, 1, 2, 4])
    np.testing.assert_allclose(run.frames[3, 20, 20:40], np.log(0.7), atol=2e-3)
    np.testing.assert_allclose(run.frames[3, 30, :], 0, atol=1e-6)
    assert run.frames.dtype == np.float32
    assert run.unsubtracted is not None
    assert run.unsubtracted[24, 32] < run.unsubtracted[0, 0]  # bright where less X-ray came through
    assert run.notes == ()


def test_the_same_run_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        written(tmp_path / name)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dcm", "b.dcm"]


def test_rolled_detector_cannot_be_written(tmp_path: Path) -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    matrix = np.array([[c, -s, 32], [s, c, 24], [0, 0, 1]]) @ np.diag([2000, 2000, 1]) @ carm().axes
    view = CArm.from_projection_matrix(
        np.column_stack([matrix, matrix @ (720 * np.array(carm().beam_axis))]), rows=ROWS, columns=COLUMNS, sid_mm=1000
    )
    with pytest.raises(GeometryError, match="rolled"):
        write_xa(tmp_path / "run.dcm", counts(), view, np.arange(5))


def test_real_coronary_run() -> None:
    run = read_angiogram(
        shared("xa/coronary_cine_96_frames.dcm"), GeometryOptions(sid_mm=1100, sod_mm=720, pixel_spacing_mm=(0.3, 0.3))
    )
    assert run.frames.shape == (96, 512, 512)
    np.testing.assert_allclose(np.diff(run.frame_times_s), 0.033)
    assert run.carm.primary_angle_deg == pytest.approx(-32)
    assert not run.valid[0, 0]
    assert run.valid[256, 256]
    assert run.minip()[run.valid].min() < -0.3


def make_enhanced(ds: Dataset, angles: tuple[float, ...] = (-28.5,)) -> None:
    def item(**values: object) -> list[Dataset]:
        inner = Dataset()
        for keyword, value in values.items():
            setattr(inner, keyword, value)
        return [inner]

    frames = int(ds.NumberOfFrames)
    fov = {k: ds.pop(k).value for k in ("FieldOfViewOrigin", "FieldOfViewRotation", "FieldOfViewHorizontalFlip")}
    spacing = ds.ImagerPixelSpacing
    shared_group = Dataset()
    shared_group.FieldOfViewSequence = item(**fov)
    shared_group.XRayGeometrySequence = item(DistanceSourceToIsocenter=720.0, DistanceSourceToDetector="1193")
    shared_group.FramePixelDataPropertiesSequence = item(
        ImagerPixelSpacing=spacing, PixelIntensityRelationship="LIN", PixelIntensityRelationshipSign=1
    )
    per_frame = []
    for index in range(frames):
        group = Dataset()
        group.PositionerPositionSequence = item(
            PositionerPrimaryAngle=angles[index % len(angles)], PositionerSecondaryAngle=21.9
        )
        group.FrameContentSequence = item(FrameReferenceDateTime=f"2000010100000{index}.250000")
        per_frame.append(group)
    for keyword in list(ds.dir()):
        if keyword.startswith(
            ("Positioner", "Distance", "Imager", "FieldOf", "DetectorActive", "Estimated", "PixelInt", "FrameTime")
        ):
            delattr(ds, keyword)
    ds.PositionOfIsocenterProjection = [25.0, 30.0]
    ds.SharedFunctionalGroupsSequence = [shared_group]
    ds.PerFrameFunctionalGroupsSequence = per_frame
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedXAImageStorage


def test_enhanced_xa(tmp_path: Path) -> None:
    run = read_angiogram(written(tmp_path / "run.dcm", make_enhanced))
    same_view(run.carm, carm(principal_point_px=(30, 25)))
    np.testing.assert_allclose(run.frame_times_s, np.arange(5))
    np.testing.assert_allclose(run.frames[3, 20, 20:40], np.log(0.7), atol=2e-3)


def test_enhanced_rotational_run_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm", lambda ds: make_enhanced(ds, (0, 20, 40, 60, 80)))
    with pytest.raises(GeometryError, match="changes by 80"):
        read_angiogram(path)


def test_inverted_storage_gives_the_same_run(tmp_path: Path) -> None:
    def inverted(ds: Dataset) -> None:
        ds.PhotometricInterpretation = "MONOCHROME1"
        ds.PixelIntensityRelationshipSign = -1
        ds.PixelData = (4095 - counts()).tobytes()

    def untold(ds: Dataset) -> None:
        inverted(ds)
        ds.PhotometricInterpretation = "MONOCHROME2"
        del ds.PixelIntensityRelationshipSign

    plain = read_angiogram(written(tmp_path / "a.dcm"))
    np.testing.assert_allclose(read_angiogram(written(tmp_path / "b.dcm", inverted)).frames, plain.frames, atol=1e-5)
    seen = read_angiogram(written(tmp_path / "c.dcm", untold))
    np.testing.assert_allclose(seen.frames, plain.frames, atol=1e-5)
    assert any("inverted" in note for note in seen.notes)


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("tagged", [False, True])
def test_subtracted_run_has_negative_contrast(tmp_path: Path, white: bool, tagged: bool) -> None:
    rng = np.random.default_rng(3)
    grey = 2048 + rng.normal(0, 20, (5, ROWS, COLUMNS))
    grey[2:, 20:22, 10:-10] += 700 if white else -700

    def subtracted(ds: Dataset) -> None:
        ds.PixelData = grey.astype(np.uint16).tobytes()
        ds.PixelIntensityRelationship = "LOG"
        del ds.PixelIntensityRelationshipSign, ds.MaskSubtractionSequence
        ds.RecommendedViewingMode = "NAT"
        if tagged:
            ds.ImageType = ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"]

    run = read_angiogram(written(tmp_path / "run.dcm", subtracted))
    assert run.unsubtracted is None
    np.testing.assert_allclose(run.minip()[20:22, 20:40], -700, atol=120)
    assert abs(np.median(run.frames[0])) < 2
    assert any("already subtracted" in note for note in run.notes)
    assert any("inverted" in note for note in run.notes) == white


def test_mask_frames_from_tags_options_or_sight(tmp_path: Path) -> None:
    def shown(path: Path) -> list[int]:
        return describe(path)["mask frames (from 1)"]

    def none(ds: Dataset) -> None:
        ds.MaskSubtractionSequence[0].MaskOperation = "NONE"
        del ds.MaskSubtractionSequence[0].MaskFrameNumbers

    def single(ds: Dataset) -> None:
        ds.MaskSubtractionSequence[0].MaskFrameNumbers = 2

    def absent(ds: Dataset) -> None:
        ds.MaskSubtractionSequence[0].MaskFrameNumbers = [1, 9]

    assert shown(written(tmp_path / "a.dcm")) == [1, 2]
    assert shown(written(tmp_path / "b.dcm", none)) == [1, 2]
    assert shown(written(tmp_path / "c.dcm", single)) == [2]
    assert shown(written(tmp_path / "d.dcm", absent)) == [1]
    with pytest.raises(InputError, match="`mask_frames`"):
        read_angiogram(tmp_path / "a.dcm", subtraction=SubtractionSettings(mask_frames=(0, 7)))


# -- image files --------------------------------------------------------------------------------------------


def test_images_with_typed_in_geometry(tmp_path: Path) -> None:
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(3)
    grey = (128 + rng.normal(0, 2, (4, ROWS, COLUMNS))).astype(np.uint8)
    grey[2:, 20:22, 10:-10] = 60
    Image.fromarray(grey[3]).save(tmp_path / "one.png")
    tifffile.imwrite(tmp_path / "run.tif", grey, photometric="minisblack")
    one = read_angiogram(tmp_path / "one.png", TYPED)
    assert one.frames.shape == (1, ROWS, COLUMNS)
    np.testing.assert_allclose(one.frames[0, 20, 20:40], -68, atol=1)
    run = read_angiogram(tmp_path / "run.tif", TYPED)
    assert run.frames.shape == (4, ROWS, COLUMNS)
    with pytest.raises(GeometryError) as caught:
        read_angiogram(tmp_path / "one.png")
    assert len(caught.value.problems) == 5


def test_faulty_images(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    for name, message in (
        ("colour", "colour"),
        ("black", "empty"),
        ("broken", "cannot be read"),
        ("none", "not exist"),
    ):
        with pytest.raises(InputError, match=message):
            read_angiogram(tmp_path / f"{name}.png", TYPED)


# -- info --------------------------------------------------------------------------------------------


def test_describe_names_nobody(tmp_path: Path) -> None:
    secrets = {
        "PatientName": "Doe^Jane",
        "PatientID": "SECRET77",
        "PatientBirthDate": "19501231",
        "AccessionNumber": "ACC4711",
        "InstitutionName": "Charite West",
        "StudyDescription": "stroke of Jane",
        "OperatorsName": "Roe^Rick",
    }
    for change in (
        retag(**secrets),
        retag(**secrets, Modality="RF"),
        lambda ds: (strip_geometry(ds), retag(**secrets)(ds)),
    ):
        path = written(tmp_path / "run.dcm", change)  # type: ignore[arg-type]
        uids = [
            str(pydicom.dcmread(path)[k].value) for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        ]
        text = json.dumps(describe(path))
        for secret in (*secrets.values(), *uids, "Doe", "Jane"):
            assert secret not in text


def test_describe_tells_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    full = describe(written(tmp_path / "run.dcm"))
    assert full["missing"] == []
    assert full["frames"] == 5
    assert full["size (rows, columns)"] == [ROWS, COLUMNS]
    assert full["subtraction"] == "unsubtracted"
    assert full["time between frames (s)"] == [0.5]
    assert "cannot be used" not in full
    bare = describe(written(tmp_path / "bare.dcm", strip_geometry))
    assert [next(o for o in ALL_FIVE if o in text) for text in bare["missing"]] == ALL_FIVE
    assert describe(written(tmp_path / "ct.dcm", retag(SOPClassUID=CT_CLASS)))["cannot be used"]
    assert describe(written(tmp_path / "rf.dcm", retag(Modality="RF")))["missing"] == []  # the class says what it is
    assert describe(written(tmp_path / "cut.dcm", cut))["cannot be used"]


def test_reading_tells_how_far_it_is(patient_folder: Path) -> None:
    told: list[float] = []
    run = read_angiogram(patient_folder / "dsa.dcm", on_progress=told.append)
    assert told == pytest.approx(np.arange(1, len(run.frames) + 1) / len(run.frames))
