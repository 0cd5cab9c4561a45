"""Damaged DICOM: what is needed is refused by its tag, what nobody needs does not matter, and pixels are counted."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import head, write_enhanced, write_slices
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from xa_files import COLUMNS, ROWS, TYPED, header, recode, written

from DeepIterRegLib.cases.describe import describe_file
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.dicom.decoding import decode
from DeepIterRegLib.images.dicom.header import open_header
from DeepIterRegLib.images.dicom.pixels import meaning_of
from DeepIterRegLib.images.dicom.tags import elements_of, items_of, text_of, value_of, whole_of
from DeepIterRegLib.images.files import load_volume

FRAME = 2 * ROWS * COLUMNS


def raw(ds: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """An element as a damaged file has it."""
    tag = Tag(pydicom.datadict.tag_for_keyword(keyword))
    ds._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def bytes_written(path: Path, keyword: str, value: bytes) -> Path:
    """A whole run whose element has these bytes, of the same length as before."""
    ds = pydicom.dcmread(path)
    before = ds.get_item(keyword).value
    content = path.read_bytes()
    at = content.index(struct.pack("<HH", Tag(keyword).group, Tag(keyword).element))
    at = content.index(before, at + 8)
    path.write_bytes(content[:at] + value.ljust(len(before))[: len(before)] + content[at + len(before) :])
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_angiogram(path, TYPED)
    return " ".join(caught.value.problems)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Rows", b"\0\0"),
        ("Columns", b"\0\0"),
        ("BitsAllocated", b"\x07\0"),
        ("BitsStored", b"\xff\xff"),
        ("HighBit", b"\xff\xff"),
        ("PixelRepresentation", b"\x09\0"),
        ("NumberOfFrames", b"x "),
        ("NumberOfFrames", b"0 "),
        ("NumberOfFrames", b"-1"),
    ],
)
def test_what_is_needed_is_refused_by_its_tag(keyword: str, value: bytes, tmp_path: Path) -> None:
    path = bytes_written(written(tmp_path / "run.dcm"), keyword, value)
    tag = Tag(keyword)
    assert f"{keyword} ({tag.group:04X},{tag.element:04X})" in refusal(path)
    assert "cannot be used" in describe_file(path)


@pytest.mark.parametrize(
    "keyword", ["Manufacturer", "ContentTime", "FrameTime", "StudyInstanceUID", "PositionerMotion"]
)
def test_what_nobody_needs_does_not_matter(keyword: str, tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm")
    whole = read_angiogram(path, TYPED).frames
    ds = pydicom.dcmread(path)
    if keyword not in ds:
        setattr(ds, keyword, "1")
        ds.save_as(path)
    bytes_written(path, keyword, b"\xff\xfe\x01" * 30)
    np.testing.assert_array_equal(read_angiogram(path, TYPED).frames, whole)


def test_all_wrong_numbers_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm")
    for keyword, value in (("Rows", b"\0\0"), ("PixelRepresentation", b"\x09\0"), ("NumberOfFrames", b"x ")):
        bytes_written(path, keyword, value)
    with pytest.raises(InputError) as caught:
        read_angiogram(path, TYPED)
    assert len(caught.value.problems) == 3


def test_values_of_any_type_multiplicity_and_damage() -> None:
    ds = Dataset()
    raw(ds, "Rows", "US", b"\x01\x00\x02\x00")
    raw(ds, "Columns", "US", b"\x01")
    raw(ds, "BitsStored", "??", b"\x01\x00")
    raw(ds, "FrameTime", "DS", b"Doe^Jane")
    raw(ds, "NumberOfFrames", "IS", b"99999999999999999999999999")
    raw(ds, "MaskSubtractionSequence", "US", b"\x01\x02")
    raw(ds, "Modality", "CS", b"XA ")
    for keyword, seen in (
        ("Rows", "2 values"),
        ("Columns", "unreadable"),
        ("NumberOfFrames", "beyond 100,000"),
        ("FrameTime", "unreadable"),
    ):
        with pytest.raises(InputError, match=seen.replace("+", r"\+")) as caught:
            whole_of(ds, keyword, 1, 100)
        assert "Doe" not in str(caught.value)
    assert whole_of(ds, "HighBit", 0, 15, 7) == 7
    with pytest.raises(InputError, match="absent"):
        whole_of(ds, "HighBit", 0, 15)
    assert items_of(ds, "MaskSubtractionSequence") == []
    assert text_of(ds, "Modality") == "XA"
    assert value_of(ds, "PixelSpacing") is None
    assert "Modality" in [element.keyword for element in elements_of(ds)]


@pytest.mark.parametrize("missing", [2, FRAME, 4 * FRAME])
def test_missing_bytes_are_counted(missing: int, tmp_path: Path) -> None:
    def cut(ds: Dataset) -> None:
        ds.PixelData = ds.PixelData[:-missing]

    said = refusal(written(tmp_path / "run.dcm", cut))
    there = 5 * FRAME - missing
    assert f"holds {there:,} bytes where the header says {5 * FRAME:,}" in said


def test_bytes_that_were_added_are_told(tmp_path: Path) -> None:
    def grow(ds: Dataset) -> None:
        ds.PixelData = ds.PixelData[:100] + b"1234" + ds.PixelData[100:]

    notes = read_angiogram(written(tmp_path / "run.dcm", grow), TYPED).notes
    assert any(f"holds {5 * FRAME + 4:,} bytes where the header says {5 * FRAME:,}" in note for note in notes)

    def double(ds: Dataset) -> None:
        ds.PixelData = ds.PixelData * 2

    assert "NumberOfFrames (0028,0008) is 5 but the pixel data holds 10 frames" in refusal(
        written(tmp_path / "b.dcm", double)
    )
    path = written(tmp_path / "c.dcm")
    content = path.read_bytes()
    path.write_bytes(content[:-200] + b"\x07\x08\x09" + content[-200:])
    assert "damaged" in refusal(path)
    path.write_bytes(content + bytes(5))  # filling
    assert any("5 bytes of zeros stand behind the pixel data" in note for note in read_angiogram(path, TYPED).notes)
    path.write_bytes(content)
    assert not any("bytes" in note for note in read_angiogram(path, TYPED).notes)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_frames_that_are_cut_within_their_fragments(syntax: str, tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm")
    recode(path, syntax)
    whole = path.read_bytes()
    ds = pydicom.dcmread(path)
    frames = list(generate_frames(ds.PixelData, number_of_frames=5))
    for short in (
        [*frames[:4], frames[4][: len(frames[4]) // 2]],
        [frames[0][:40], *frames[1:]],
        frames[:4],
        [*frames, frames[0]],
    ):
        ds = pydicom.dcmread(path)
        ds.PixelData = encapsulate(short)
        ds["PixelData"].is_undefined_length = True
        ds.save_as(tmp_path / "short.dcm")
        assert "frame" in refusal(tmp_path / "short.dcm")
    assert path.read_bytes() == whole
    assert read_angiogram(path, TYPED).frames.shape == (5, ROWS, COLUMNS)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_what_a_writer_leaves_behind_the_end_of_a_frame_is_no_damage(syntax: str, tmp_path: Path) -> None:
    """As in a real cine: three zeros and the rest of a buffer."""
    path = written(tmp_path / "run.dcm")
    recode(path, syntax)
    wanted = read_angiogram(path, TYPED).frames
    ds = pydicom.dcmread(path)
    frames = generate_frames(ds.PixelData, number_of_frames=5)
    ds.PixelData = encapsulate([frame + b"\0\0\0\x8a\x28\xa2\x8a" for frame in frames])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
    np.testing.assert_array_equal(read_angiogram(path, TYPED).frames, wanted)


def test_a_stream_whose_sign_is_not_the_header_s(tmp_path: Path) -> None:
    """As some archives make them of signed pixels: pydicom's own sample of it is read as pydicom reads it."""
    path = Path(str(get_testdata_file("J2K_pixelrep_mismatch.dcm")))
    wanted = pydicom.dcmread(path).pixel_array
    np.testing.assert_array_equal(decode(open_header(path))[0], wanted)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_streams_of_another_size_are_not_decoded(syntax: str, tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm")
    recode(path, syntax)
    ds = pydicom.dcmread(path)
    ds.Rows, ds.Columns = 60_000, 60_000
    ds.save_as(path)
    assert f"is of {ROWS} x {COLUMNS} pixels where the header says 60000 x 60000" in refusal(path)


def test_a_claim_of_many_frames_is_answered_with_the_bytes_that_are_there(tmp_path: Path) -> None:
    def claim(ds: Dataset) -> None:
        ds.Rows = ds.Columns = 65535
        ds.NumberOfFrames = 65535

    said = refusal(written(tmp_path / "run.dcm", claim))
    assert f"holds {5 * FRAME:,} bytes where the header says 562,924,184,010,750" in said
    assert "resample" not in said


@pytest.mark.parametrize(
    ("descriptor", "entries", "says"),
    [
        ([4, 0, 16], 3, "holds 3 entries"),
        ([0, 0, 16], 10, "65,536"),
        ([4, 0, 99], 4, "three whole numbers"),
        ([4, 0], 4, "three whole"),
    ],
)
def test_tables_of_grey_values_that_are_not_whole(descriptor: list[int], entries: int, says: str) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "OW", bytes(2 * entries))
    tags = {"BitsAllocated": 16, "BitsStored": 12, "PixelRepresentation": 0, "ModalityLUTSequence": [item]}
    with pytest.raises(InputError, match=says):
        meaning_of(np.arange(4, dtype=np.uint16).reshape(1, 2, 2), header(**tags))


HU = head(300)[::6]


def ct_refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_volume(folder)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("count", [1, 7])
def test_slices_of_no_bytes_at_the_end_are_missed(count: int, tmp_path: Path) -> None:
    write_slices(tmp_path / "ct", HU, step_mm=15)
    for path in sorted((tmp_path / "ct").iterdir())[-count:]:
        path.write_bytes(b"")
    assert f"{count} of {len(HU)} files" in ct_refusal(tmp_path / "ct")


def test_slices_that_are_short_long_or_scaled_by_nothing(tmp_path: Path) -> None:
    write_slices(tmp_path / "ct", HU, step_mm=15)
    last = sorted((tmp_path / "ct").iterdir())[-1]
    whole = last.read_bytes()
    size = 2 * HU.shape[1] * HU.shape[2]
    last.write_bytes(whole[: len(whole) - size + 4])
    assert f"holds 4 bytes of pixels, its header says {size}" in ct_refusal(tmp_path / "ct")
    last.write_bytes(whole[:-100] + b"\x07\x08\x09" + whole[-100:])
    assert f"1 of {len(HU)} files" in ct_refusal(tmp_path / "ct")
    for name, value in (("RescaleSlope", "0"), ("RescaleSlope", "1e400"), ("RescaleIntercept", "abc")):
        ds = pydicom.dcmread(sorted((tmp_path / "ct").iterdir())[0])
        raw(ds, name, "DS", value.encode())
        ds.save_as(last)
        assert f"1 of {len(HU)} files" in ct_refusal(tmp_path / "ct")


def test_an_enhanced_ct_with_more_pixels_than_it_says(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct.dcm", HU)
    ds = pydicom.dcmread(tmp_path / "ct.dcm")
    ds.Rows = ds.Rows - 1
    ds.save_as(tmp_path / "ct.dcm")
    notes = load_volume(tmp_path / "ct.dcm").notes
    assert any(f"holds {HU.nbytes:,} bytes of pixels where its header says" in note for note in notes)
