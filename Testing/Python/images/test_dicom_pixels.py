"""Pixels of XA files: every transfer syntax, standard files, stored bits; frame times; what shutters hide."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from repository import shared
from xa_files import (
    TYPED,
    counts,
    header,
    recode,
    written,
)

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.dicom.header import Header, open_header
from DeepIterRegLib.images.dicom.pixels import decode, read_pixels
from DeepIterRegLib.images.dicom.shutters import constant_border, read_valid
from DeepIterRegLib.images.dicom.times import read_times


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


# -- times --------------------------------------------------------------------------------------------


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


# -- shutters --------------------------------------------------------------------------------------------


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


def test_a_damaged_jpeg_is_refused_and_its_decoder_keeps_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Libjpeg decodes what is left, and says so on the terminal alone."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=90)
    whole = buffer.getvalue()

    def encoded(frame: bytes) -> Callable[[Dataset], None]:
        def change(ds: Dataset) -> None:
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.NumberOfFrames = 8, 8, 7, 1
            ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
            ds.PixelData = encapsulate([frame])
            ds["PixelData"].VR = "OB"
            del ds.MaskSubtractionSequence

        return change

    assert decode(open_header(written(tmp_path / "whole.dcm", encoded(whole)))).shape == (1, 48, 64)
    damaged = bytearray(whole)
    for place in (300, 500, 700):
        damaged[place] ^= 0x55
    path = written(tmp_path / "damaged.dcm", encoded(bytes(damaged[:-100]) + whole[-2:]))
    with pytest.raises(InputError, match="cannot be decoded beyond 0 of 1 frames: it is cut short or damaged"):
        decode(open_header(path))
    assert capfd.readouterr() == ("", "")
