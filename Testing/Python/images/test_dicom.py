"""XA files: written and read back, real files, standard test files, every transfer syntax, and every fault."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedXAImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from DeepIterRegLib.common.errors import GeometryError, InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.dicom import GeometryOptions, SubtractionSettings, describe, read_angiogram, write_xa
from DeepIterRegLib.images.dicom.geometry_tags import direction_of, read_carm
from DeepIterRegLib.images.dicom.header import Header, open_header
from DeepIterRegLib.images.dicom.pixels import decode, read_pixels
from DeepIterRegLib.images.dicom.shutters import constant_border, read_valid
from DeepIterRegLib.images.dicom.times import read_times

SHARED = Path(os.environ.get("DEEPITERREG_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
TYPED = GeometryOptions(
    primary_angle_deg=90, secondary_angle_deg=0, sid_mm=1100, sod_mm=720, pixel_spacing_mm=(0.3, 0.3)
)
ROWS, COLUMNS = 48, 64

Change = Callable[[Dataset], None]


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"real data {name} is not here; set DEEPITERREG_SHARED_DATA")
    return path


def carm(**changes: object) -> CArm:
    values: dict[str, object] = {
        "primary_angle_deg": -28.5,
        "secondary_angle_deg": 21.9,
        "sid_mm": 1193,
        "sod_mm": 720,
        "rows": ROWS,
        "columns": COLUMNS,
        "pixel_spacing_mm": (0.4, 0.5),
    }
    return CArm.from_angles(**(values | changes))  # type: ignore[arg-type]


def counts(frames: int = 5, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A head's shadow with a vessel (30 % of the beam lost) from frame 2 on, along row 20."""
    r, c = np.indices((rows, columns))
    shade = 3000 * np.exp(-((r - rows / 2) ** 2 + (c - columns / 2) ** 2) / 600.0) + 500
    run = np.repeat(shade[None], frames, axis=0)
    run[2:, 20:22, 10:-10] *= 0.7
    return run.round().astype(np.uint16)


def written(path: Path, change: Change | None = None, frames: int = 5, masks: tuple[int, ...] = (0, 1)) -> Path:
    """An XA file, with whatever `change` does to its tags."""
    write_xa(path, counts(frames), carm(), np.arange(frames) * 0.5, masks)
    if change is not None:
        ds = pydicom.dcmread(path)
        change(ds)
        ds.save_as(path)
    return path


def header(**tags: object) -> Header:
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return Header(ds, {})


def same_view(a: CArm, b: CArm) -> None:
    assert (a.rows, a.columns) == (b.rows, b.columns)
    np.testing.assert_allclose(a.projection_matrix, b.projection_matrix, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(a.pixel_spacing_mm, b.pixel_spacing_mm, rtol=1e-6)


# -- round trip --------------------------------------------------------------------------------------


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


# -- geometry ----------------------------------------------------------------------------------------


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


ALL_FIVE = ["`primary_angle`", "`secondary_angle`", "`sid`", "`sod`", "`pixel_spacing`"]


def strip_geometry(ds: Dataset) -> None:
    for keyword in list(ds.dir()):
        if keyword.startswith(
            ("Positioner", "Distance", "Imager", "FieldOfView", "Detector", "Estimated", "PatientOrient")
        ):
            delattr(ds, keyword)


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


# -- enhanced XA -------------------------------------------------------------------------------------


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


# -- pixels ------------------------------------------------------------------------------------------


def as_jpeg_lossless(path: Path) -> None:
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def recode(path: Path, syntax: str) -> None:
    ds = pydicom.dcmread(path)
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        ds.compress(syntax)
        ds.save_as(path)
    elif syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, overwrite=True)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.name,
)
def test_lossless_syntaxes_give_the_same_pixels(tmp_path: Path, syntax: str) -> None:
    path = written(tmp_path / "run.dcm")
    recode(path, syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(decode(open_header(path)), counts())


def test_jpeg_lossless_gives_the_same_pixels(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm")
    as_jpeg_lossless(path)
    assert "JPEG Lossless" in pydicom.dcmread(path).file_meta.TransferSyntaxUID.name
    np.testing.assert_array_equal(decode(open_header(path)), counts())


@pytest.mark.parametrize(("form", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000)])
def test_lossy_syntaxes_come_close(tmp_path: Path, form: str, syntax: str) -> None:
    import io

    from PIL import Image

    eight = (counts() // 16).astype(np.uint8)

    def compress(ds: Dataset) -> None:
        pieces = []
        for frame in eight:
            buffer = io.BytesIO()
            options = {"quality": 95} if form == "JPEG" else {"irreversible": True, "quality_layers": [5]}
            Image.fromarray(frame).save(buffer, form, **options)
            pieces.append(buffer.getvalue())
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit = 7
        ds.LossyImageCompression = "01"
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate(pieces)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True

    path = written(tmp_path / "run.dcm", compress)
    decoded = decode(open_header(path)).astype(int)
    assert np.abs(decoded - eight).mean() < 2
    assert read_angiogram(path).frames[3, 20:22, 20:40].mean() < -0.25


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
)
def test_standard_files_of_one_signed_image_agree(name: str) -> None:
    path = get_testdata_file(name, download=False)
    plain = get_testdata_file("MR_small.dcm", download=False)
    assert path is not None
    assert plain is not None
    np.testing.assert_array_equal(decode(open_header(str(path))), decode(open_header(str(plain))))


@pytest.mark.parametrize(
    ("name", "largest"), [("JPGExtended.dcm", 4095), ("image_dfl.dcm", 255), ("JPEG2000.dcm", 32767)]
)
def test_standard_files_decode(name: str, largest: int) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    pixels = decode(open_header(str(path)))
    assert pixels.ndim == 3
    assert 0 < pixels.max() <= largest


def test_real_image_is_equal_in_two_encodings() -> None:
    plain, lossless = (
        read_angiogram(shared(f"xa/{name}.dcm"), TYPED) for name in ("xa1_uncompressed", "xa1_jpeg_lossless")
    )
    np.testing.assert_array_equal(plain.frames, lossless.frames)
    np.testing.assert_array_equal(plain.valid, lossless.valid)


def test_real_anonymised_file_names_what_it_lacks() -> None:
    with pytest.raises(GeometryError) as caught:
        read_angiogram(shared("xa/xa1_uncompressed.dcm"))
    assert len(caught.value.problems) == 5


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


def test_overlay_bits_and_signs_are_removed(tmp_path: Path) -> None:
    def overlay(ds: Dataset) -> None:
        values = counts() | 0xA000
        ds.PixelData = values.tobytes()

    def signed(ds: Dataset) -> None:
        values = (counts().astype(np.int16) - 2048) & 0x0FFF
        ds.PixelRepresentation = 1
        ds.PixelData = values.astype(np.uint16).tobytes()

    def high(ds: Dataset) -> None:
        ds.HighBit = 15
        ds.PixelData = (counts() << 4).tobytes()

    np.testing.assert_array_equal(decode(open_header(written(tmp_path / "a.dcm", overlay))), counts())
    np.testing.assert_array_equal(decode(open_header(written(tmp_path / "b.dcm", signed))), counts().astype(int) - 2048)
    np.testing.assert_array_equal(decode(open_header(written(tmp_path / "c.dcm", high))), counts())


def test_rescale_and_modality_lut(tmp_path: Path) -> None:
    def rescale(ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 2, 100

    def lut(ds: Dataset) -> None:
        item = Dataset()
        item.LUTDescriptor = [4096, 0, 16]
        item.ModalityLUTType = "US"
        item.LUTData = (np.arange(4096) * 3).astype("<u2").tobytes()
        item["LUTData"].VR = "OW"
        ds.ModalityLUTSequence = [item]
        ds.PixelIntensityRelationship = "LOG"

    np.testing.assert_array_equal(
        read_pixels(open_header(written(tmp_path / "a.dcm", rescale))).values, counts() * 2 + 100
    )
    pixels = read_pixels(open_header(written(tmp_path / "b.dcm", lut)))
    np.testing.assert_array_equal(pixels.values, counts().astype(float) * 3)
    assert pixels.linear


# -- subtraction -------------------------------------------------------------------------------------


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


# -- times -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "expected", "note"),
    [
        ({"FrameTime": 250}, [0, 0.25, 0.5, 0.75], None),
        ({"FrameTimeVector": [0, 100, 200, 400]}, [0, 0.1, 0.3, 0.7], None),
        ({"FrameTimeVector": [100, 200, 400]}, [0, 0.1, 0.3, 0.7], "steps between"),
        ({"FrameTimeVector": [0, 100], "FrameTime": 250}, [0, 0.25, 0.5, 0.75], "2 values for 4 frames"),
        ({"FrameTimeVector": [0, 100, -5, 100], "CineRate": 4}, [0, 0.25, 0.5, 0.75], "does not rise"),
        ({"FrameTime": 0, "CineRate": 10}, [0, 0.1, 0.2, 0.3], "makes no sense"),
        ({}, [0, 0.5, 1, 1.5], "no frame times"),
    ],
)
def test_frame_times(tags: dict[str, object], expected: list[float], note: str | None) -> None:
    times, notes = read_times(header(**tags), 4)
    np.testing.assert_allclose(times, expected)
    assert any(note in text for text in notes) if note else not notes


# -- shutters ----------------------------------------------------------------------------------------


def test_shutters_hide_pixels() -> None:
    picture = np.random.default_rng(0).random((2, 40, 60))
    rectangle = header(
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=11,
        ShutterRightVerticalEdge=50,
        ShutterUpperHorizontalEdge=6,
        ShutterLowerHorizontalEdge=35,
    )
    valid, _ = read_valid(rectangle, picture, lossy=False)
    expected = np.zeros((40, 60), dtype=bool)
    expected[5:35, 10:50] = True
    np.testing.assert_array_equal(valid, expected)

    circle = header(CollimatorShape="CIRCULAR", CenterOfCircularCollimator=[21, 31], RadiusOfCircularCollimator=15)
    valid, _ = read_valid(circle, picture, lossy=False)
    assert valid.sum() == pytest.approx(np.pi * 15**2, rel=0.02)
    assert valid[20, 45]
    assert not valid[20, 46]

    polygon = header(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=[1, 1, 1, 60, 40, 1])
    valid, _ = read_valid(polygon, picture, lossy=False)
    assert valid[5, 5]
    assert not valid[35, 55]

    everything = header(ShutterShape="CIRCULAR", CenterOfCircularShutter=[21, 31], RadiusOfCircularShutter=3)
    valid, notes = read_valid(everything, picture, lossy=False)
    assert valid.all()
    assert "ignored" in notes[0]


def test_bitmap_shutter() -> None:
    ds = Dataset()
    ds.Rows, ds.Columns = 8, 16
    ds.ShutterShape, ds.ShutterOverlayGroup = "BITMAP", 0x6000
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x60000011, "US", 16)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60000102, "US", 0)
    ds.add_new(0x60003000, "OW", bytes([0xFF, 0x00] * 4 + [0x00, 0x00] * 4))
    valid, _ = read_valid(Header(ds, {}), np.random.default_rng(0).random((2, 8, 16)), lossy=False)
    expected = np.ones((8, 16), dtype=bool)
    expected[:4, :8] = False
    np.testing.assert_array_equal(valid, expected)


def test_constant_borders_are_found_without_tags() -> None:
    frames = np.random.default_rng(1).uniform(10, 200, (3, 50, 60))
    frames[:, :, :7] = 0
    assert np.array_equal(constant_border(frames, 0.0), np.arange(60)[None] < np.full((50, 1), 7))
    air = np.random.default_rng(1).uniform(10, 200, (3, 50, 60))
    air[:, 10:30, 50:] = 255  # air beside the head, not a border
    assert not constant_border(air, 0.0).any()


# -- faults ------------------------------------------------------------------------------------------


def colour(ds: Dataset) -> None:
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.PixelData = ds.PixelData * 3


def retag(**tags: object) -> Change:
    def change(ds: Dataset) -> None:
        for keyword, value in tags.items():
            setattr(ds, keyword, value)

    return change


def cut(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]


def undecodable(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # a video
    ds.PixelData = encapsulate([b"\0" * 100])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (retag(Modality="CT", SOPClassUID=CTImageStorage), r"is a CT \(Modality \(0008,0060\) CT, CT Image Storage\)"),
        (retag(Modality="RF"), "radiofluoroscopy"),
        (retag(Modality=""), "no stated modality"),
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


def test_secondary_capture_of_modality_xa_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm", retag(SOPClassUID=SecondaryCaptureImageStorage))
    assert read_angiogram(path).frames.shape == (5, ROWS, COLUMNS)


# -- image files -------------------------------------------------------------------------------------


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
    assert describe(written(tmp_path / "rf.dcm", retag(Modality="RF")))["cannot be used"]
    assert describe(written(tmp_path / "cut.dcm", cut))["cannot be used"]
