"""Runs sent over the network, by real senders: what is stored, what is answered, what is left behind."""

from __future__ import annotations

import gc
import io
import logging
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ct_files import head, write_slices
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, JPEGLSLossless, XRayAngiographicImageStorage
from xa_files import recode, retag, written

from DeepIterRegLib.cases.incoming import Arrived, Incoming, IncomingSettings
from DeepIterRegLib.cases.receiver import Outcome, Receipt, ReceiverSettings, receiving
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.installation import BrokenPackage, broken_package
from DeepIterRegLib.images.dicom.arrivals import Arrival, look_at, run_id_of

pynetdicom = pytest.importorskip("pynetdicom")
encode = pytest.importorskip("pynetdicom.dsutils").encode

SALT = "5a17"
SC = "1.2.840.10008.5.1.4.1.1.7"
SUCCESS, NO_ROOM, NO_RUN, NOT_UNDERSTOOD, OTHER_CLASS = 0x0000, 0xA700, 0xA900, 0xC000, 0x0122
ANY_PORT = ReceiverSettings()


def run(path: Path, number: int = 1, **tags: Any) -> Path:
    """A small run of its own."""
    tags = {"SOPInstanceUID": f"1.2.3.{number}", "PatientName": "Muster^Erika", "PatientID": "../../4711"} | tags
    path = written(path, retag(**tags), frames=2, masks=(0,))
    ds = pydicom.dcmread(path)
    ds.file_meta.MediaStorageSOPInstanceUID, ds.file_meta.MediaStorageSOPClassUID = ds.SOPInstanceUID, ds.SOPClassUID
    ds.save_as(path)
    return path


def in_slices(folder: Path) -> Path:
    write_slices(folder, head()[:1])
    return next(folder.iterdir())


def cut(path: Path, target: Path, uid: str) -> Path:
    """As a program sends it whose file is cut: half the pixels that the header says."""
    ds = pydicom.dcmread(path)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]
    ds.save_as(target)
    return target


@contextmanager
def sending(port: int, title: str = "SUITE", called: str = "DEEPITERREG") -> Iterator[Any]:
    """An association of pynetdicom's own sender, for every class and syntax that the tests send."""
    ae = pynetdicom.AE(title)
    ae.add_requested_context("1.2.840.10008.1.1")
    for uid in (XRayAngiographicImageStorage, CTImageStorage, SC):
        for syntax in (pydicom.uid.ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless):
            ae.add_requested_context(uid, syntax)
    association = ae.associate("127.0.0.1", port, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def sent(port: int, *paths: Path) -> list[int | None]:
    """The status of each file; None where no answer came."""
    with sending(port) as association:
        assert association.is_established
        return [association.send_c_store(pydicom.dcmread(path)).get("Status") for path in paths]


def stored(folder: Path) -> list[Path]:
    """All that lies in a folder, hidden or not."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def arrival(path: Path) -> Arrival:
    found = look_at(path, SALT)
    assert isinstance(found, Arrival), found
    return found


def test_a_run_is_stored_as_it_was_sent_under_a_name_of_ours(tmp_path: Path) -> None:
    path, folder, receipts = run(tmp_path / "a.dcm"), tmp_path / "in", list[Receipt]()
    with receiving(folder, ANY_PORT, SALT, receipts.append) as port:
        with sending(port) as association:
            assert association.send_c_echo().Status == SUCCESS
        assert sent(port, path) == [SUCCESS]
        run_id = run_id_of("1.2.3.1", SALT)
        assert [one.name for one in folder.iterdir() if one.is_file()] == [f"run-{run_id}.dcm"]
    assert stored(folder) == [folder / f"run-{run_id}.dcm"]
    assert list(folder.iterdir()) == stored(folder)
    assert receipts == [Receipt(Outcome.STORED, run_id)]
    before, after = pydicom.dcmread(path), pydicom.dcmread(stored(folder)[0])
    assert before == after
    assert arrival(stored(folder)[0]).run_id == run_id


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, JPEGLSLossless])
def test_other_syntaxes(tmp_path: Path, syntax: str) -> None:
    path = run(tmp_path / "a.dcm")
    recode(path, syntax)
    with receiving(tmp_path / "in", ANY_PORT, SALT) as port:
        assert sent(port, path) == [SUCCESS]
    got = pydicom.dcmread(stored(tmp_path / "in")[0])
    assert got.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(got.pixel_array, pydicom.dcmread(path).pixel_array)


def test_what_is_no_whole_run_is_answered_and_dropped(tmp_path: Path) -> None:
    whole = run(tmp_path / "a.dcm")
    picture = run(tmp_path / "b.dcm", 2, SOPClassUID=SC, Modality="OT")
    fluoroscopy = run(tmp_path / "c.dcm", 3, SOPClassUID=SC, Modality="XA")  # as archives write runs at times
    half = cut(whole, tmp_path / "d.dcm", "1.2.3.4")
    receipts: list[Receipt] = []
    with receiving(tmp_path / "in", ANY_PORT, SALT, receipts.append) as port:
        assert sent(port, in_slices(tmp_path / "ct"), picture, half, fluoroscopy) == [
            OTHER_CLASS,
            NO_RUN,
            NOT_UNDERSTOOD,
            SUCCESS,
        ]
        assert len([path for path in (tmp_path / "in").iterdir() if path.is_file()]) == 1
    assert [one.outcome for one in receipts] == [
        Outcome.OTHER_CLASS,
        Outcome.NO_RUN,
        Outcome.NOT_WHOLE,
        Outcome.STORED,
    ]
    assert [arrival(path).run_id for path in stored(tmp_path / "in")] == [run_id_of("1.2.3.3", SALT)]


def test_a_run_that_is_sent_twice_is_there_once(tmp_path: Path) -> None:
    path, receipts = run(tmp_path / "a.dcm"), list[Receipt]()
    for _ in range(2):  # of a receiver that starts anew too
        with receiving(tmp_path / "in", ANY_PORT, SALT, receipts.append) as port:
            before = stored(tmp_path / "in")
            assert sent(port, path, path) == [SUCCESS, SUCCESS]
    assert before
    assert len(stored(tmp_path / "in")) == 1
    assert [one.outcome for one in receipts] == [Outcome.STORED, *[Outcome.THERE_ALREADY] * 3]


def test_an_object_other_than_its_sender_says_is_dropped(tmp_path: Path) -> None:
    path = run(tmp_path / "a.dcm")
    with receiving(tmp_path / "in", ANY_PORT, SALT) as port, sending(port) as association:
        ds = pydicom.dcmread(path)
        request = pynetdicom.dimse_primitives.C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = ds.SOPClassUID, f"{ds.SOPInstanceUID}.9"
        context = next(one for one in association.accepted_contexts if one.abstract_syntax == ds.SOPClassUID)
        syntax = context.transfer_syntax[0]
        request.DataSet = io.BytesIO(encode(ds, syntax.is_implicit_VR, syntax.is_little_endian))
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, context.context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer.Status == NO_RUN
    assert stored(tmp_path / "in") == []


def test_who_may_send(tmp_path: Path) -> None:
    settings = ReceiverSettings(senders=("SUITE", "ARCHIVE"))
    with receiving(tmp_path / "in", settings, SALT) as port:
        for title, called, may in (
            ("SUITE", "DEEPITERREG", True),
            ("ARCHIVE", "DEEPITERREG", True),
            ("SOMEBODY", "DEEPITERREG", False),
            ("SUITE", "OTHER", False),
        ):
            with sending(port, title, called) as association:
                assert association.is_established is may
                assert association.is_rejected is not may


@pytest.mark.parametrize("limits", [{"most_objects": 2}, {"most_total_bytes": 30_000}])
def test_what_was_stored_before_counts(tmp_path: Path, limits: dict[str, int]) -> None:
    """Objects of 14 kB: 48 x 64 pixels of two bytes in two frames."""
    one, two, three = (run(tmp_path / f"{number}.dcm", number) for number in (1, 2, 3))
    settings = ReceiverSettings(**limits)  # type: ignore[arg-type]
    with receiving(tmp_path / "in", settings, SALT) as port:
        assert sent(port, one) == [SUCCESS]
    with receiving(tmp_path / "in", settings, SALT) as port:
        assert sent(port, two, three, one) == [SUCCESS, NO_ROOM, SUCCESS]
    assert len(stored(tmp_path / "in")) == 2


def test_an_object_that_is_too_long_is_answered_and_the_next_is_taken(tmp_path: Path) -> None:
    """One a little too long, and one of 1 MB of which nothing was kept before it was whole."""
    little, long = run(tmp_path / "a.dcm", 2), run(tmp_path / "b.dcm", 3, ImageComments="x" * 10_000)
    longest = written(tmp_path / "c.dcm", frames=170)
    receipts: list[Receipt] = []
    with receiving(tmp_path / "in", ReceiverSettings(most_object_bytes=20_000), SALT, receipts.append) as port:
        assert sent(port, longest, long, little) == [NO_ROOM, NO_ROOM, SUCCESS]
    assert [one.outcome for one in receipts] == [Outcome.NO_ROOM, Outcome.NO_ROOM, Outcome.STORED]
    assert len(stored(tmp_path / "in")) == 1


def raw_association(port: int) -> socket.socket:
    """A connection that has asked for an association and was accepted, as bytes (PS3.8, 9.3)."""
    taken: list[bytes] = []
    ae = pynetdicom.AE("SUITE")
    ae.add_requested_context(XRayAngiographicImageStorage)
    handlers = [(pynetdicom.evt.EVT_DATA_SENT, lambda event: taken.append(event.data))]
    association = ae.associate("127.0.0.1", port, ae_title="DEEPITERREG", evt_handlers=handlers)
    association.release()
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(taken[0])
    assert connection.recv(1) == b"\x02"  # accepted
    connection.recv(1 << 16)
    return connection


def closed(connection: socket.socket) -> bool:
    """Whether the other side ends a connection, whatever it says before."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


def test_a_connection_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    """In the middle of an object, and in the middle of a message of it."""
    path = run(tmp_path / "a.dcm")
    taken: list[bytes] = []
    with receiving(tmp_path / "in", ANY_PORT, SALT) as port:
        ae = pynetdicom.AE(
            "SUITE",
        )
        ae.add_requested_context(XRayAngiographicImageStorage, pydicom.uid.ExplicitVRLittleEndian)
        handlers = [(pynetdicom.evt.EVT_DATA_SENT, lambda event: taken.append(event.data))]
        association = ae.associate("127.0.0.1", port, ae_title="DEEPITERREG", evt_handlers=handlers)
        association.send_c_store(pydicom.dcmread(path))
        association.release()
        for one in stored(tmp_path / "in"):
            one.unlink()
        messages = b"".join(taken[1:-1])
        for length in (10, 200, len(messages) // 2, len(messages) - 1):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(taken[0])
                assert connection.recv(1) == b"\x02"
                connection.sendall(messages[:length])
        assert sent(port, run(tmp_path / "b.dcm", 2)) == [SUCCESS]
        left = [one.name for one in stored(tmp_path / "in")]
    assert [one.name for one in stored(tmp_path / "in")] == [f"run-{run_id_of('1.2.3.2', SALT)}.dcm"]
    assert len([name for name in left if name.endswith(".dcm")]) == 1


def test_messages_that_claim_gigabytes_and_noise_end_the_connection_alone(tmp_path: Path) -> None:
    with receiving(tmp_path / "in", ANY_PORT, SALT) as port:
        with raw_association(port) as connection:
            connection.sendall(struct.pack(">BBL", 4, 0, 0xFFFF_FFF0))
            assert closed(connection)
        noise = socket.create_connection(("127.0.0.1", port), timeout=10)
        noise.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        silent = socket.create_connection(("127.0.0.1", port), timeout=10)
        assert sent(port, run(tmp_path / "a.dcm")) == [SUCCESS]
    for connection in (noise, silent):  # they end with the receiver, which waits for nobody
        assert closed(connection)
        connection.close()


def test_200_objects_from_two_senders_at_once(tmp_path: Path) -> None:
    """Runs, some of them by both, slices of a CT, runs that are cut, and a third sender whom nobody knows."""
    first = run(tmp_path / "run.dcm", 1)
    slice_, picture = pydicom.dcmread(in_slices(tmp_path / "ct")), pydicom.dcmread(first)
    picture.SOPClassUID = picture.file_meta.MediaStorageSOPClassUID = SC
    picture.Modality = "OT"
    whole, half = pydicom.dcmread(first), pydicom.dcmread(cut(first, tmp_path / "half.dcm", "1.2.4"))
    kinds: list[tuple[Any, int]] = [
        (whole, SUCCESS),
        (half, NOT_UNDERSTOOD),
        (whole, SUCCESS),
        (slice_, OTHER_CLASS),
        (picture, NO_RUN),
    ]
    wrong: list[tuple[int, int | None]] = []

    def send(sender: int) -> None:
        with sending(port) as association:
            for number in range(100):
                ds, expected = kinds[number % 5]
                one = pydicom.Dataset(ds)
                one.file_meta = pydicom.dataset.FileMetaDataset(ds.file_meta)
                # Every tenth object is sent by both.
                one.SOPInstanceUID = f"1.2.5.{0 if number % 10 == 0 else sender}.{number}"
                one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
                status = association.send_c_store(one).get("Status")
                if status != expected:
                    wrong.append((number, status))

    settings = ReceiverSettings(senders=("SUITE",))
    with receiving(tmp_path / "net" / "in", settings, SALT) as port:
        threads = [threading.Thread(target=send, args=(sender,)) for sender in (1, 2)]
        for thread in threads:
            thread.start()
        with sending(port, "NOBODY") as association:
            assert association.is_rejected
        for thread in threads:
            thread.join()
    assert wrong == []
    found = stored(tmp_path / "net")
    assert len(found) == 2 * 40 - 10
    assert {path.parent for path in found} == {tmp_path / "net" / "in"}
    assert all(path.name == f"run-{arrival(path).run_id}.dcm" for path in found)
    assert {path.name for path in tmp_path.iterdir()} == {"ct", "half.dcm", "net", "run.dcm"}


def test_no_more_senders_at_once_than_are_allowed(tmp_path: Path) -> None:
    with receiving(tmp_path / "in", ReceiverSettings(most_senders=1), SALT) as port, sending(port) as first:
        with sending(port) as second:
            assert second.is_rejected
        assert first.send_c_echo().Status == SUCCESS


def test_what_is_received_arrives_in_the_folder_that_is_watched(tmp_path: Path) -> None:
    """The hidden folder in which objects become whole is none of it."""
    settings = IncomingSettings(settle_s=0.1, poll_s=0.05)
    with (
        receiving(tmp_path / "in", ANY_PORT, SALT) as port,
        Incoming(tmp_path / "in", SALT, settings) as incoming,
    ):
        assert sent(port, run(tmp_path / "a.dcm")) == [SUCCESS]
        events = incoming.next(20)
        assert incoming.next(0.3) == []
    assert events == [Arrived(arrival(stored(tmp_path / "in")[0]))]


def test_nothing_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Neither names nor titles nor addresses, in the terminal or in a log of the program's own."""
    settings = ReceiverSettings(senders=("SUITE",))
    with caplog.at_level(logging.DEBUG), receiving(tmp_path / "in", settings, SALT) as port:
        sent(port, run(tmp_path / "a.dcm"), in_slices(tmp_path / "ct"))
        with sending(port, "MUSTERMANN"):
            pass
    output = capfd.readouterr()
    assert (output.out, output.err, caplog.text) == ("", "", "")


def test_nothing_is_left_running_and_the_port_is_free(tmp_path: Path) -> None:
    before = threading.active_count()
    with receiving(tmp_path / "in", ANY_PORT, SALT) as port, sending(port) as association:
        assert association.is_established
    again = ReceiverSettings(port=port)
    with receiving(tmp_path / "in", again, SALT) as port:
        assert port == again.port
        with (
            pytest.raises(InputError, match="cannot listen at port"),
            receiving(tmp_path / "other", again, SALT),
        ):
            pass
    gc.collect()
    assert threading.active_count() == before
    assert not list((tmp_path / "other").iterdir())


def test_by_default_no_other_computer_can_send(tmp_path: Path) -> None:
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    with receiving(tmp_path / "in", ANY_PORT, SALT) as port:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        for address in addresses - {"127.0.0.1"}:
            if not str(address).startswith("127."):
                with pytest.raises(OSError):
                    socket.create_connection((address, port), timeout=5)


@pytest.mark.parametrize(
    "settings",
    [{"port": 70_000}, {"ae_title": ""}, {"ae_title": "OF_MORE_THAN_16_LETTERS"}, {"senders": ("A", "BÄ")}],
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ReceiverSettings(**settings)


def test_an_address_of_another_computer(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="Give an address of this computer"),
        receiving(tmp_path / "in", ReceiverSettings(bind="192.0.2.1"), SALT),
    ):
        pass


def test_without_the_package_one_sentence_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    with pytest.raises(ModuleNotFoundError) as caught, receiving(tmp_path / "in", ANY_PORT, SALT):
        pass
    broken = broken_package(caught.value)
    assert broken == BrokenPackage("pynetdicom", absent=True)
    assert (
        broken.sentence == "The Python package pynetdicom is not installed; the extra follow of deepiterreg brings it."
    )
    assert not (tmp_path / "in").exists()


@pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk's storescu is not installed")
def test_dcmtk_sends(tmp_path: Path) -> None:
    """A sender by others: echo, a run, a run that is there, a slice of a CT."""
    path, slice_ = run(tmp_path / "a.dcm"), in_slices(tmp_path / "ct")
    with receiving(tmp_path / "in", ANY_PORT, SALT) as port:
        to = ["-aet", "SUITE", "-aec", "DEEPITERREG", "127.0.0.1", str(port)]
        assert subprocess.run(["echoscu", *to], timeout=30).returncode == 0
        done = subprocess.run(
            ["storescu", "-v", "-R", *to, str(path), str(path), str(slice_)], capture_output=True, text=True, timeout=60
        )
        said = done.stdout + done.stderr
        assert said.count("Received Store Response (Success)") == 2
        assert "SOPClassNotSupported" in said
    assert [arrival(one).run_id for one in stored(tmp_path / "in")] == [run_id_of("1.2.3.1", SALT)]
