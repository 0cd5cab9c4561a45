"""The C-arm from the tags of an XA file: standard views, mirrored storage, what is typed, everything that is missing or wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from repository import shared
from xa_files import (
    ALL_FIVE,
    COLUMNS,
    ROWS,
    TYPED,
    Change,
    carm,
    header,
    same_view,
    strip_geometry,
    written,
)

from DeepIterRegLib.common.errors import GeometryError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.dicom import GeometryOptions, read_angiogram
from DeepIterRegLib.images.dicom.geometry_tags import direction_of, read_carm
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.shutters import read_valid


def test_real_ge_header_is_the_standard_view() -> None:
    fixture = json.loads(shared("xa/ge_xa_geometry_tags.json").read_text())["GE_Innova_like_example_1"]
    ds = Dataset()
    for keyword, text in fixture.items():
        if keyword not in ("ImageType", "FrameIncrementPointer", "TransferSyntaxUID"):
            value = json.loads(text.replace("'", '"')) if text.startswith("[") else text
            element = pydicom.datadict.dictionary_VR(keyword)
            setattr(ds, keyword, int(value) if element == "US" else value)
    view, notes = read_carm(Header(ds, {}), 512, 512, GeometryOptions())
    expected = CArm.from_angles(
        -28.5, 21.9, sid_mm=1193, sod_mm=720, rows=512, columns=512, pixel_spacing_mm=(0.390625, 0.390625)
    )
    same_view(view, expected)
    assert not any("stored" in note or "PatientOrientation" in note for note in notes)
    valid, _ = read_valid(Header(ds, {}), np.random.default_rng(0).random((2, 512, 512)), lossy=False)
    assert (np.flatnonzero(valid.any(axis=0))[[0, -1]] == [5, 510]).all()
    assert (np.flatnonzero(valid.any(axis=1))[[0, -1]] == [2, 508]).all()


@pytest.mark.parametrize(
    ("angle", "orientation", "mirrored"),
    [
        (0, ["L", "F"], False),
        (90, ["P", "F"], False),
        (-90, ["A", "F"], False),
        (-90, ["P", "F"], True),  # right laterals stored as if seen from the other side: xvr's issue 20
        (0, ["R", "F"], True),
        (45, ["LP", "F"], False),
    ],
)
def test_patient_orientation_tells_mirrored_storage(angle: float, orientation: list[str], mirrored: bool) -> None:
    tags = {"PositionerPrimaryAngle": angle, "PositionerSecondaryAngle": 0, "DistanceSourceToDetector": 1100}
    tags |= {"DistanceSourceToPatient": 720, "ImagerPixelSpacing": [0.3, 0.3], "PatientOrientation": orientation}
    view, notes = read_carm(header(**tags), ROWS, COLUMNS, GeometryOptions())
    plain = carm(primary_angle_deg=angle, secondary_angle_deg=0, sid_mm=1100, pixel_spacing_mm=(0.3, 0.3))
    same_view(view, plain.mirrored() if mirrored else plain)
    assert any("mirrored" in note for note in notes) == mirrored


def test_orientation_wins_over_flip_tag_only_if_clear(tmp_path: Path) -> None:
    def contradict(ds: Dataset) -> None:
        ds.FieldOfViewHorizontalFlip = "YES"

    def unclear(ds: Dataset) -> None:
        ds.FieldOfViewHorizontalFlip = "YES"
        ds.PatientOrientation = ["H", "A"]

    run = read_angiogram(written(tmp_path / "a.dcm", contradict))
    same_view(run.carm, carm())
    assert any("the latter is used" in note for note in run.notes)
    run = read_angiogram(written(tmp_path / "b.dcm", unclear))
    same_view(run.carm, carm().mirrored())
    assert any("ignored" in note for note in run.notes)


def test_direction_codes() -> None:
    np.testing.assert_allclose(direction_of("L"), [-1, 0, 0])
    far = direction_of("FAR")
    assert far is not None
    assert far[2] < 0 < far[0] < far[1]
    assert direction_of("LR") is None
    assert direction_of("X") is None
    assert direction_of("") is None


def test_missing_geometry_is_named_all_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm", strip_geometry)
    with pytest.raises(GeometryError) as caught:
        read_angiogram(path)
    assert len(caught.value.problems) == 5
    for problem, option in zip(caught.value.problems, ALL_FIVE, strict=True):
        assert option in problem
        assert "(0018," in problem
    assert read_angiogram(path, TYPED).carm.primary_angle_deg == pytest.approx(90)


def test_nonsense_geometry_is_named_with_the_value_seen(tmp_path: Path) -> None:
    def nonsense(ds: Dataset) -> None:
        ds.PositionerPrimaryAngle = 270
        ds.DistanceSourceToDetector = 0
        ds.ImagerPixelSpacing = [0, 0]
        ds.FieldOfViewDimensions = [20, 26]
        del ds.EstimatedRadiographicMagnificationFactor

    with pytest.raises(GeometryError) as caught:
        read_angiogram(written(tmp_path / "run.dcm", nonsense))
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    for part in ("270", "DistanceSourceToDetector (0018,1110) is 0", "0 x 0", "`pixel_spacing` 0.4062"):
        assert part in text


def test_letters_where_a_number_belongs(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm")
    data = path.read_bytes()
    assert data.count(b"1193") == 1
    path.write_bytes(data.replace(b"1193", b"far "))
    ds = pydicom.dcmread(path)
    del ds.EstimatedRadiographicMagnificationFactor
    with pytest.raises(GeometryError, match=r"DistanceSourceToDetector .*not a number.*`sid`"):
        read_carm(Header(ds, {}), ROWS, COLUMNS, GeometryOptions())


def test_distance_not_below_sid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"SOD of 1300 mm \(typed\) is not below the SID of 1193"):
        read_angiogram(written(tmp_path / "run.dcm"), GeometryOptions(sod_mm=1300))


def test_options_win_and_say_so(tmp_path: Path) -> None:
    options = GeometryOptions(sid_mm=1000, principal_point_px=(10, 12))
    run = read_angiogram(written(tmp_path / "run.dcm"), options)
    assert run.carm.sid_mm == 1000
    assert run.carm.principal_point_px == (10, 12)
    assert any("`sid`: 1000 is used instead of 1193" in note for note in run.notes)


def test_distances_from_magnification(tmp_path: Path) -> None:
    def drop(keyword: str) -> Change:
        return lambda ds: delattr(ds, keyword)

    for name, keyword in (("a", "DistanceSourceToPatient"), ("b", "DistanceSourceToDetector")):
        run = read_angiogram(written(tmp_path / f"{name}.dcm", drop(keyword)))
        assert run.carm.sod_mm == pytest.approx(720, rel=1e-5)
        assert run.carm.sid_mm == pytest.approx(1193, rel=1e-5)
        assert any("magnification" in note for note in run.notes)


def test_pixel_spacing_only_with_a_note(tmp_path: Path) -> None:
    def uncalibrated(ds: Dataset) -> None:
        ds.PixelSpacing = ds.ImagerPixelSpacing
        del ds.ImagerPixelSpacing

    def calibrated(ds: Dataset) -> None:
        uncalibrated(ds)
        ds.PixelSpacing = [0.4 * 720 / 1193, 0.5 * 720 / 1193]
        ds.PixelSpacingCalibrationType = "GEOMETRY"

    for name, change in (("a", uncalibrated), ("b", calibrated)):
        run = read_angiogram(written(tmp_path / f"{name}.dcm", change))
        np.testing.assert_allclose(run.carm.pixel_spacing_mm, (0.4, 0.5), rtol=1e-4)
        assert any("PixelSpacing (0028,0030)" in note for note in run.notes)


def test_projection_matrix_replaces_the_header(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm", strip_geometry)
    truth = carm(primary_angle_deg=33, principal_point_px=(30, 20))
    options = GeometryOptions(projection_matrix=-2.5 * truth.projection_matrix, sid_mm=1193)
    same_view(read_angiogram(path, options).carm, truth)
    with pytest.raises(GeometryError, match="`pixel_spacing`"):
        read_angiogram(path, GeometryOptions(projection_matrix=truth.projection_matrix))


def test_rotational_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    def rotate(ds: Dataset) -> None:
        ds.PositionerMotion = "DYNAMIC"
        ds.PositionerPrimaryAngleIncrement = [0, 10, 20, 30, 40]

    def unknown(ds: Dataset) -> None:
        ds.PositionerMotion = "DYNAMIC"

    with pytest.raises(
        GeometryError, match=r"rotational run: PositionerPrimaryAngleIncrement \(0018,1520\) changes by 40"
    ):
        read_angiogram(written(tmp_path / "a.dcm", rotate))
    with pytest.raises(GeometryError, match="DYNAMIC"):
        read_angiogram(written(tmp_path / "b.dcm", unknown))


def test_moving_table_and_other_patient_positions_are_noted(tmp_path: Path) -> None:
    def moving(ds: Dataset) -> None:
        ds.TableMotion = "DYNAMIC"
        ds.TableLateralIncrement = [0, 0, 5, 10, 15]
        ds.PatientPosition = "FFS"

    notes = " ".join(read_angiogram(written(tmp_path / "run.dcm", moving)).notes)
    assert "table moved" in notes
    assert "15 mm" in notes
    assert "FFS" in notes


def test_real_anonymised_file_names_what_it_lacks() -> None:
    with pytest.raises(GeometryError) as caught:
        read_angiogram(shared("xa/xa1_uncompressed.dcm"))
    assert len(caught.value.problems) == 5
