"""A file that has just arrived: the run, the patient, the time, whether it is whole; or why it is none."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pydicom
import pytest
from ct_files import head, write_slices
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from xa_files import Change, recode, retag, written

from DeepIterRegLib.images.dicom.arrivals import Arrival, Reason, Refusal, look_at, run_id_of
from DeepIterRegLib.images.dicom.kinds import Kind, may_hold_run

SALT = "5a17"
RF, SC, PRIVATE = "1.2.840.10008.5.1.4.1.1.12.2", "1.2.840.10008.5.1.4.1.1.7", "1.3.46.670589.2.1"
ENHANCED_XA, SR = "1.2.840.10008.5.1.4.1.1.12.1.1", "1.2.840.10008.5.1.4.1.1.88.67"
ERIKA = {"PatientName": "Muster^Erika", "PatientID": "4711-0815", "PatientBirthDate": "19570813"}


def arrival(path: Path, salt: str = SALT) -> Arrival:
    found = look_at(path, salt)
    assert isinstance(found, Arrival), found
    return found


def refusal(path: Path) -> Refusal:
    found = look_at(path, SALT)
    assert isinstance(found, Refusal), found
    return found


def without_times(ds: pydicom.Dataset) -> None:
    for keyword in [*ds.dir("Date"), *ds.dir("Time")]:
        if keyword in ds and not keyword.startswith("Frame"):
            delattr(ds, keyword)


def test_a_run_is_told_by_hashes_of_its_uid_and_its_patient(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", retag(**ERIKA, AcquisitionNumber=7))
    found = arrival(path)
    assert (found.path, found.number, found.frames) == (path, 7, 5)
    assert found.run_id == run_id_of(str(pydicom.dcmread(path).SOPInstanceUID), SALT)
    assert len(found.run_id) == len(found.patient_id) == 16
    other = arrival(path, "another salt")
    assert not {found.run_id, found.patient_id} & {other.run_id, other.patient_id}
    told = repr(found).lower()
    assert not any(word in told for word in ("muster", "erika", "4711", "1957"))


@pytest.mark.filterwarnings("ignore:Invalid value")  # that the test writes
@pytest.mark.parametrize(
    ("keyword", "value", "same"),
    [
        ("PatientName", "MUSTER^ERIKA^^", True),
        ("PatientName", "muster^erika=麻醉", True),
        ("PatientID", " 4711-0815 ", True),
        ("PatientBirthDate", "1957.08.13", True),
        ("PatientName", "Muster^Erik", False),
        ("PatientID", "4711-0816", False),
        ("PatientID", "", False),
        ("PatientBirthDate", "19570814", False),
    ],
)
def test_patients_are_compared_as_devices_write_them(tmp_path: Path, keyword: str, value: str, same: bool) -> None:
    one = arrival(written(tmp_path / "a.dcm", retag(**ERIKA)))
    tags = {**ERIKA, keyword: value, "SpecificCharacterSet": "ISO_IR 192"}
    other = arrival(written(tmp_path / "b.dcm", retag(**tags)))
    assert (one.patient_id == other.patient_id) is same


def test_encodings_make_no_other_patient_and_parts_do_not_flow_together(tmp_path: Path) -> None:
    latin = written(tmp_path / "a.dcm", retag(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg"))
    utf8 = written(tmp_path / "b.dcm", retag(SpecificCharacterSet="ISO_IR 192", PatientName="MÜLLER^JÖRG"))
    assert arrival(latin).patient_id == arrival(utf8).patient_id
    one = written(tmp_path / "c.dcm", retag(PatientID="12", PatientName="3"))
    other = written(tmp_path / "d.dcm", retag(PatientID="1", PatientName="23"))
    assert arrival(one).patient_id != arrival(other).patient_id
    nobody = written(tmp_path / "e.dcm", retag(PatientID="", PatientName="", PatientBirthDate=""))
    assert arrival(nobody).patient_id == ""


@pytest.mark.filterwarnings("ignore:Invalid value")  # that the test writes
@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"AcquisitionDateTime": "20240501101112.5+0200"}, datetime.datetime(2024, 5, 1, 10, 11, 12, 500_000)),
        ({"AcquisitionDate": "20240501", "AcquisitionTime": "1011"}, datetime.datetime(2024, 5, 1, 10, 11)),
        (
            {"StudyDate": "20240501", "AcquisitionTime": "101112.25"},
            datetime.datetime(2024, 5, 1, 10, 11, 12, 250_000),
        ),
        ({"ContentDate": "20240501", "ContentTime": "101112"}, datetime.datetime(2024, 5, 1, 10, 11, 12)),
        ({"SeriesDate": "20240501", "SeriesTime": "101112"}, datetime.datetime(2024, 5, 1, 10, 11, 12)),
        ({"AcquisitionDate": "20241399", "AcquisitionTime": "997799"}, None),
        ({"AcquisitionDate": "20240501"}, None),
    ],
)
def test_the_time_is_the_first_that_the_file_has(
    tmp_path: Path, tags: dict[str, str], expected: datetime.datetime | None
) -> None:
    def change(ds: pydicom.Dataset) -> None:
        without_times(ds)
        for keyword, value in tags.items():
            setattr(ds, keyword, value)

    assert arrival(written(tmp_path / "a.dcm", change)).acquired == expected


def test_runs_sort_by_time_and_then_by_number(tmp_path: Path) -> None:
    def run(name: str, time: str, number: int) -> Arrival:
        tags = {"AcquisitionDateTime": time, "AcquisitionNumber": number}
        return arrival(written(tmp_path / name, retag(**tags)))

    late, third, second = (
        run("a.dcm", "20240501101500", 1),
        run("b.dcm", "20240501101000", 12),
        run("c.dcm", "20240501101000", 2),
    )
    unknown = arrival(written(tmp_path / "0.dcm", without_times))
    assert unknown.acquired is None
    assert sorted((unknown, late, third, second), key=lambda one: one.order) == [second, third, late, unknown]


def test_a_number_that_may_be_a_patients_is_none(tmp_path: Path) -> None:
    found = arrival(written(tmp_path / "a.dcm", retag(AcquisitionNumber=19570813, InstanceNumber=3)))
    assert found.number == 3


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (retag(SOPClassUID=ENHANCED_XA), Kind.RUN),
        (retag(SOPClassUID=RF), Kind.RUN),  # of modality XA
        (retag(SOPClassUID=SC), Kind.RUN),
        (retag(SOPClassUID=PRIVATE), Kind.RUN),
        (retag(SOPClassUID=RF, Modality="RF"), Kind.FLUOROSCOPY),
        (retag(SOPClassUID=SC, Modality="OT"), Kind.PICTURE),
        (retag(SOPClassUID=PRIVATE, Modality="OT"), Kind.OTHER),
        (retag(SOPClassUID=SR, Modality="SR"), Kind.REPORT),
    ],
)
def test_runs_are_what_the_readers_take_for_runs(tmp_path: Path, change: Change, kind: Kind) -> None:
    path = written(tmp_path / "a.dcm", change)
    if kind is Kind.RUN:
        arrival(path)
    else:
        found = refusal(path)
        assert (found.reason, found.kind) == (Reason.NOT_RUN, kind)
        assert kind.value in found.words
    assert may_hold_run(str(pydicom.dcmread(path).SOPClassUID)) is (kind is not Kind.REPORT)


def test_a_slice_of_a_ct_is_none(tmp_path: Path) -> None:
    write_slices(tmp_path, head()[:1])
    found = refusal(next(tmp_path.glob("IM*")))
    assert (found.reason, found.kind) == (Reason.NOT_RUN, Kind.CT)
    assert not may_hold_run("1.2.840.10008.5.1.4.1.1.2")


@pytest.mark.parametrize(
    "syntax",
    [
        "",
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_cut_at_any_byte_it_is_never_taken(tmp_path: Path, syntax: str) -> None:
    """Of each kind of file 400 lengths, the last 40 among them; whole it is taken."""
    path = written(tmp_path / "a.dcm", frames=2)
    if syntax:
        recode(path, syntax)
    content = path.read_bytes()
    if syntax == DeflatedExplicitVRLittleEndian:  # a byte behind the stream fills it up
        content = content.rstrip(b"\0")
    arrival(path)
    short = tmp_path / "short.dcm"
    for length in sorted(
        {*range(0, len(content), max(1, len(content) // 360)), *range(len(content) - 40, len(content))}
    ):
        short.write_bytes(content[:length])
        found = refusal(short)
        assert found.reason in (Reason.CUT, Reason.UNREADABLE), (length, found)
        if found.expected is not None:
            assert found.there == length < found.expected <= len(content)


def test_a_cut_run_says_how_many_bytes_are_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm")
    whole = path.stat().st_size
    os.truncate(path, whole - 1000)
    found = refusal(path)
    assert (found.reason, found.there, found.expected) == (Reason.CUT, whole - 1000, whole)
    assert f"{whole - 1000:,} of {whole:,} bytes are there" in found.words


@pytest.mark.parametrize("syntax", ["", RLELossless])
def test_room_made_for_a_file_is_no_file(tmp_path: Path, syntax: str) -> None:
    """A copy that makes the file as long as it will be first, and fills it then; compressed pixels tell it."""
    path = written(tmp_path / "a.dcm", frames=2)
    if syntax:
        recode(path, syntax)
    content = path.read_bytes()
    lengths = range(0, len(content), len(content) // 50) if syntax else range(0, content.index(b"\xe0\x7f\x10\0"), 40)
    for length in lengths:
        path.write_bytes(content[:length] + bytes(len(content) - length))
        assert refusal(path).reason is not Reason.NOT_RUN, length


def test_pixels_fewer_than_the_header_says_are_damage_and_not_a_copy_under_way(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", lambda ds: setattr(ds, "PixelData", ds.PixelData[:-1000]))
    found = refusal(path)
    assert found.reason is Reason.UNREADABLE
    assert "cut short" in found.words


def test_other_files(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("Erika Muster was here. " * 20)
    found = refusal(text)
    assert found.reason is Reason.NOT_DICOM
    assert "Muster" not in found.words
    assert refusal(tmp_path / "Erika Muster.dcm").reason is Reason.UNREADABLE
    assert "Muster" not in refusal(tmp_path / "Erika Muster.dcm").words
    (tmp_path / "DICOMDIR").write_bytes(written(tmp_path / "a.dcm").read_bytes())
    assert refusal(tmp_path / "DICOMDIR").reason is Reason.NOT_RUN


def test_a_run_without_a_uid_is_told_by_its_content(tmp_path: Path) -> None:
    def change(ds: pydicom.Dataset) -> None:
        del ds.SOPInstanceUID

    one, other = (written(tmp_path / f"{n}.dcm", change, frames=n) for n in (3, 4))
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(one.read_bytes())
    assert arrival(one).run_id == arrival(copy).run_id != arrival(other).run_id
