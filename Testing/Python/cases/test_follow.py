"""A procedure followed: runs are registered as they arrive, another patient's are refused, and an interrupted session goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from watched_session import Watched

from DeepIterRegLib.cases import followed_by_hand, followed_run, procedure_demo
from DeepIterRegLib.cases.following import Told
from DeepIterRegLib.cases.handed import HANDED, Handed, waiting, write_handed
from DeepIterRegLib.cases.session_folder import RUN_FILES, KeptRun, kept_runs
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom import Patient, second_run, write_patient
from DeepIterRegLib.results.report.outputs import read_registration
from DeepIterRegLib.results.session_page.page import SessionState


@pytest.fixture(scope="module")
def patient(small_patient: Patient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a small patient with two runs, minutes apart, and its vessels as a mask."""
    folder = tmp_path_factory.mktemp("patient")
    write_patient(small_patient, folder, second_run(small_patient, between_runs_deg=2.0, between_runs_mm=2.0))
    save_volume(small_patient.vessels, folder / "vessels.nii.gz")
    for name, time in (("dsa.dcm", "101500"), ("dsa2.dcm", "101730")):
        dataset = pydicom.dcmread(folder / name)
        dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = "NUMBER-Q77", "Unmistakable^Name", "19510203"
        dataset.AcquisitionDateTime = f"20261127{time}"
        dataset.save_as(folder / name)
    return folder


@pytest.fixture(scope="module")
def done(patient: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Both runs, the later one first in the folder's order, with a run of another patient and a text among them."""
    watched = Watched(tmp_path_factory.mktemp("followed"), patient)
    watched.arrives("dsa.dcm", "b.dcm")
    watched.arrives("dsa2.dcm", "a.dcm")
    watched.arrives(
        "dsa2.dcm", "c.dcm", PatientID="NUMBER-Q78", SOPInstanceUID="1.2.3.4", AcquisitionDateTime="20261127102000"
    )
    (watched.incoming / "notes.txt").write_text("Unmistakable Name came at ten. " * 10)
    watched.followed()
    return watched


def test_runs_are_registered_in_the_order_of_their_acquisition(done: Watched, patient: Path) -> None:
    kept = kept_runs(done.out)
    assert [one.name for one in kept] == ["01", "02"]
    assert [one.since_first_s for one in kept] == [0.0, 150.0]
    assert [one.run.registration.init.method for one in kept] == ["auto", "earlier"]
    for one, truth in zip(kept, ("truth.tfm", "truth2.tfm"), strict=True):
        found = read_registration(done.out / one.name)
        if (patient / truth).exists():
            off_mm = float(mpe_mm(found.carm, found.cta_to_carm, read_pose(patient / truth), found.centre_cta_mm))
            assert off_mm < 5.0
        assert sorted(path.name for path in (done.out / one.name).iterdir()) == sorted(RUN_FILES)
        assert found.input_hashes.keys() == {"cta", "dsa"}


def test_another_patients_run_is_refused_and_never_shown(done: Watched) -> None:
    refused = [told.row for told in done.told if told.row.state == "refused"]
    assert any("another patient" in row.title for row in refused)
    assert not any(row.picture for row in refused)
    assert [row["title"] for row in done.state["runs"] if row["state"] == "refused"].count(
        "A run of another patient"
    ) == 1


def others(count: int) -> list[dict[str, str]]:
    """Who else may lie on the table, each told from the session's patient by little: a digit, a letter, a day, or nothing said."""
    own = {"PatientID": "NUMBER-Q77", "PatientName": "Unmistakable^Name", "PatientBirthDate": "19510203"}
    changes = [{"PatientID": text} for text in ("NUMBER-Q7", "NUMBER-Q777", "MUMBER-Q77", "")]
    changes += [{"PatientName": text} for text in ("Unmistakable^Nome", "Name^Unmistakable", "Ünmistakable^Name", "")]
    changes += [{"PatientBirthDate": text} for text in ("19510302", "")]
    changes += [{"PatientID": f"NUMBER-Q{n}", "PatientName": f"Other^{n}"} for n in range(100, 90 + count)]
    return [own | change for change in changes]


def test_of_twenty_other_patients_every_run_is_refused(
    done: Watched, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    before = {path.name: path.read_bytes() for path in (again.out / "pictures").iterdir()}
    for n, values in enumerate(others(20)):
        again.arrives("dsa2.dcm", f"{n}.dcm", **values, SOPInstanceUID=f"1.2.7.{n}")
    monkeypatch.setattr(followed_run, "add_run", lambda *_: pytest.fail("another patient's run was registered"))
    assert [one.name for one in again.followed()] == ["01", "02"]
    refused = [told.row for told in again.told if told.row.title == "A run of another patient"]
    assert [(row.state, bool(row.picture)) for row in refused] == 20 * [("refused", False)]
    assert {path.name: path.read_bytes() for path in (again.out / "pictures").iterdir()} == before


def test_the_page_lists_runs_with_their_states_and_pictures(done: Watched) -> None:
    rows = [row for row in done.state["runs"] if row["name"]]
    assert [row["name"] for row in rows] == ["01", "02"]
    assert {row["state"] for row in rows} <= {"accepted", "look closely", "rejected"}
    assert [row["since_first_s"] for row in rows] == [0.0, 150.0]
    for row in rows:
        plain, overlay = (
            np.asarray(Image.open(done.out / "pictures" / f"{row['name']}{end}.jpg").convert("RGB"), int)
            for end in ("", "_overlay")
        )
        assert plain.shape == overlay.shape
        reddish = (overlay[..., 0] - overlay[..., 2]) > 40
        assert 0.001 < reddish.mean() < 0.5
        assert np.abs(plain - overlay)[~reddish].mean() < 4
    assert done.state["ended"]


def test_poses_by_all_runs_stand_beside(done: Watched) -> None:
    values = json.loads((done.out / "together" / "poses.json").read_text())
    assert [one["run"] for one in values] == ["01", "02"]
    for one in values:
        np.testing.assert_allclose(read_pose(done.out / "together" / f"{one['run']}.tfm"), one["ctaToCarm"], atol=1e-9)


def test_no_identity_gets_out(done: Watched) -> None:
    unmistakable = ("Unmistakable", "NUMBER-Q77", "NUMBER-Q78", "19510203", "20261127", str(done.folder))
    for path in sorted(done.out.rglob("*")):
        if path.is_file() and path.suffix in (".json", ".js", ".html", ".tfm"):
            text = path.read_text(encoding="utf-8")
            assert not [word for word in unmistakable if word in text], path.name
    assert not [word for told in done.told for words in told.row.words for word in unmistakable if word in words]


def test_a_session_that_goes_on_does_nothing_twice(
    done: Watched, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    before = {path: path.read_bytes() for path in sorted(again.out.glob("0*/*"))}
    for name in ("dsa.dcm", "dsa2.dcm"):
        again.arrives(name)
    monkeypatch.setattr(followed_run, "add_run", lambda *_: pytest.fail("a run was registered again"))
    kept = again.followed()
    assert [one.name for one in kept] == ["01", "02"]
    assert again.told == []
    assert {path: path.read_bytes() for path in sorted(again.out.glob("0*/*"))} == before


def test_a_run_that_was_under_way_is_registered_after_all(done: Watched, patient: Path, tmp_path: Path) -> None:
    """Killed before the second run's folder had its name: the same files as without."""
    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    shutil.rmtree(again.out / "02")
    for name in ("dsa.dcm", "dsa2.dcm"):
        again.arrives(name)
    again.followed()
    for name in ("ctaToCarm.tfm", "overlay.png", "run.json"):
        assert (again.out / "02" / name).read_bytes() == (done.out / "02" / name).read_bytes()


def test_another_ctas_session_is_refused(done: Watched, patient: Path, tmp_path: Path) -> None:
    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    session = json.loads((again.out / "session.json").read_text())
    (again.out / "session.json").write_text(json.dumps(session | {"cta": "sha256:of another"}))
    with pytest.raises(InputError, match="session of another CTA"):
        again.followed()


def test_a_folder_of_other_things_is_refused(patient: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, patient)
    watched.out.mkdir()
    (watched.out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things than a session"):
        watched.followed()
    assert [path.name for path in watched.out.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 9, "salt": "a", "cta": "", "patient": ""}'])
def test_a_damaged_session_is_refused(patient: Path, tmp_path: Path, text: str) -> None:
    watched = Watched(tmp_path, patient)
    watched.out.mkdir()
    (watched.out / "session.json").write_text(text)
    with pytest.raises(InputError, match=r"damaged|JSON"):
        watched.followed()


def test_a_run_that_cannot_be_registered_is_told_and_the_rest_goes_on(
    patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise InputError("No vessels were found in the DSA.")

    watched = Watched(tmp_path, patient)
    watched.arrives("dsa.dcm")
    monkeypatch.setattr(followed_run, "segment_dsa", fails)
    assert watched.followed() == []
    (told,) = watched.told
    assert told.row.state == "failed"
    assert told.row.words == ("No vessels were found in the DSA.",)
    assert not (watched.out / "01").exists()


def test_a_full_disk_ends_the_session_and_loses_nothing(
    done: Watched, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written is no fault of the run: the same command does it, once there is room."""

    def full(*_: Any) -> None:
        raise InputError("No space left on device: free some space.")

    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    shutil.rmtree(again.out / "02")
    for name in ("dsa.dcm", "dsa2.dcm"):
        again.arrives(name)
    with monkeypatch.context() as patch:
        patch.setattr(followed_run, "write_run", full)
        with pytest.raises(InputError, match="No space left"):
            again.followed()
    assert [kept.name for kept in kept_runs(again.out)] == ["01"]
    assert [kept.name for kept in again.followed()] == ["01", "02"]


def test_the_demo_plays_a_procedure_into_a_folder(
    patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two runs in place of eight; each arrives when the one before has been told."""

    def write(seed: int, folder: Path, on_progress: Progress) -> None:
        (folder / "runs").mkdir()
        shutil.copy(patient / "cta.nii.gz", folder)
        for n, name in enumerate(("dsa.dcm", "dsa2.dcm"), 1):
            shutil.copy(patient / name, folder / "runs" / f"{n:02d}_run.dcm")

    monkeypatch.setattr(procedure_demo, "write_phantom_procedure", write)

    def masks(*_: Any, **__: Any) -> Volume:
        return load_volume(patient / "vessels.nii.gz")

    monkeypatch.setattr("DeepIterRegLib.segmentation.cta.vessels.segment_vessels", masks)
    told: list[Told] = []
    kept = procedure_demo.run_procedure_demo(1, "cpu", tmp_path / "out", Progress(), told.append, lambda: False, 0.0)
    assert [one.name for one in kept] == [one.row.name for one in told] == ["01", "02"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["incoming", "procedure", "session"]
    with pytest.raises(InputError, match="is not empty"):
        procedure_demo.run_procedure_demo(1, "cpu", tmp_path / "out", Progress(), told.append, lambda: False)


def handed_over(done: Watched, patient: Path, again: Watched) -> tuple[KeptRun, np.ndarray]:
    """The session goes on with the true pose of run 01 handed over, and run 02 rejected; 01 as it was, and the truth."""
    shutil.copytree(done.out, again.out)
    for name in ("dsa.dcm", "dsa2.dcm"):
        again.arrives(name)
    first, second = kept_runs(again.out)
    truth = read_pose(patient / "truth.tfm")
    assert second.run.registration.confidence is not None
    tree = json.loads((again.out / "02" / "registration.json").read_text())
    tree["confidence"] |= {"state": "rejected", "probability": 0.01}
    (again.out / "02" / "registration.json").write_text(json.dumps(tree))
    run = json.loads((again.out / "02" / "run.json").read_text()) | {"alone": None}
    (again.out / "02" / "run.json").write_text(json.dumps(run))
    write_handed(again.out, Handed("01", truth, first.run.registration.carm))
    return first, truth


def test_a_pose_set_by_hand_is_taken_and_doubtful_runs_start_from_it(
    done: Watched, patient: Path, tmp_path: Path
) -> None:
    again = Watched(tmp_path, patient)
    before, truth = handed_over(done, patient, again)
    again.followed()
    first, second = kept_runs(again.out)
    assert waiting(again.out) == []
    assert (first.by_hand, second.by_hand) == (True, False)
    found = first.run.registration
    np.testing.assert_allclose(
        found.cta_to_carm @ np.append(found.centre_cta_mm, 1), truth @ np.append(found.centre_cta_mm, 1), atol=1.0
    )
    assert found.confidence is None
    assert abs(found.score - before.run.registration.score) < 0.1
    assert [told.row.name for told in again.told] == ["01", "02"]
    rows = {row["name"]: row for row in again.state["runs"] if row["name"]}
    assert rows["01"]["state"] == "accepted"
    assert rows["01"]["words"] == ["A person set this pose by hand."]
    assert second.run.registration.init.method in ("earlier", "auto")
    assert second.run.placed is not None, "it is no more rejected"
    assert second.run.registration.confidence is not None
    assert second.run.registration.confidence.probability > 0.5
    poses = json.loads((again.out / "together" / "poses.json").read_text())
    assert [one["run"] for one in poses] == ["01", "02"]
    again.followed()
    assert kept_runs(again.out)[0].by_hand


@pytest.mark.parametrize("text", ["{", "[1]", '{"run": "09", "ctaToCarm": [[1]], "carm": {}}'])
def test_what_is_no_pose_of_a_run_is_refused_and_put_away(
    done: Watched, patient: Path, tmp_path: Path, text: str
) -> None:
    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    (again.out / HANDED).write_text(text)
    before = (again.out / "01" / "run.json").read_bytes()
    again.followed()
    assert [told.row.state for told in again.told] == ["refused"]
    assert (again.out / "01" / "run.json").read_bytes() == before
    assert not (again.out / HANDED).exists()


def test_a_pose_handed_over_waits_for_its_run_and_for_the_disk(
    done: Watched, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's file is away, then comes back under another name; then the disk is full. What a hand did is never lost."""
    again = Watched(tmp_path, patient)
    handed_over(done, patient, again)
    away = again.incoming.rename(tmp_path / "away")
    again.incoming.mkdir()
    again.followed()
    assert again.told == []
    assert len(waiting(again.out)) == 1
    assert "waits for the file of run 01" in "".join(again.statuses)
    shutil.copytree(away, again.incoming, dirs_exist_ok=True)

    def full(*_: Any) -> None:
        raise InputError("No space left on device: free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(followed_run, "write_run", full)
        with pytest.raises(InputError, match="No space left"):
            again.followed()
    assert len(waiting(again.out)) == 1
    assert not kept_runs(again.out)[0].by_hand
    renamed = []

    def rename(name: str) -> bool:
        if not renamed:
            renamed.append((again.incoming / "dsa.dcm").rename(again.incoming / "archived.dcm"))
        return False

    again.followed(wants=rename)
    assert renamed
    assert waiting(again.out) == []
    assert kept_runs(again.out)[0].by_hand


def test_a_pose_handed_over_while_another_is_taken_is_taken_next(
    done: Watched, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Watched(tmp_path, patient)
    before, truth = handed_over(done, patient, again)
    second = pose.translation(np.array([0.5, 0.0, 0.0])) @ truth
    keep, hands = followed_run.write_run, []

    def meanwhile(*values: Any) -> None:
        keep(*values)
        if not hands:
            hands.append(write_handed(again.out, Handed("01", second, before.run.registration.carm)))

    monkeypatch.setattr(followed_run, "write_run", meanwhile)
    again.followed()
    (first, *_) = kept_runs(again.out)
    assert waiting(again.out) == []
    shift = first.run.registration.cta_to_carm[:3, 3] - truth[:3, 3]
    assert shift[0] == pytest.approx(0.5, abs=0.2)
    assert len([said for said in first.run.registration.warnings if "by hand" in said]) == 1


def test_a_pose_that_is_being_written_is_not_thrown_away(
    done: Watched, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program writes it slowly, in its place."""
    again = Watched(tmp_path, patient)
    handed_over(done, patient, again)
    ((path, _),) = waiting(again.out)
    whole = path.read_text()
    path.write_text(whole[:100])
    read = followed_by_hand.read_handed

    def slowly(at: Path) -> Handed:
        half = at.read_text() != whole
        try:
            return read(at)
        finally:
            if half:
                at.write_text(whole)

    monkeypatch.setattr(followed_by_hand, "read_handed", slowly)
    again.followed()
    assert waiting(again.out) == []
    assert [told.row.state for told in again.told if not told.row.name] == []
    assert kept_runs(again.out)[0].by_hand


def test_a_share_that_goes_away_is_told_and_looked_for_again(done: Watched, patient: Path, tmp_path: Path) -> None:
    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    again.arrives("dsa.dcm")

    def goes(state: SessionState) -> None:
        if state.status == "Waiting for runs." and again.incoming.exists() and not away.exists():
            again.incoming.rename(away)

    away = tmp_path / "away"
    again.followed(on_state=goes)
    assert again.statuses[-2] == "The folder that runs arrive in cannot be reached. It is looked for again."


def test_many_files_that_are_no_runs_are_told_at_once(done: Watched, patient: Path, tmp_path: Path) -> None:
    again = Watched(tmp_path, patient)
    shutil.copytree(done.out, again.out)
    slice_ = pydicom.dcmread(patient / "dsa.dcm")
    slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    slice_.Modality = "CT"
    del slice_.PixelData
    for number in range(300):
        slice_.save_as(again.incoming / f"{number:04d}.dcm")
    again.followed()
    assert len([told for told in again.told if told.row.state == "refused"]) == 300
    assert len(again.statuses) < 10


def test_a_kill_before_a_pose_is_put_away_changes_nothing(done: Watched, patient: Path, tmp_path: Path) -> None:
    """It is taken again when the session goes on: the same files."""
    again = Watched(tmp_path, patient)
    handed_over(done, patient, again)
    ((path, _),) = waiting(again.out)
    content = path.read_bytes()
    again.followed()
    before = kept_runs(again.out)[0]
    names = [f"{run}/{name}" for run in ("01", "02") for name in ("run.json", "ctaToCarm.tfm")]
    files = {name: (again.out / name).read_bytes() for name in names}
    path.write_bytes(content)
    again.followed()
    assert waiting(again.out) == []
    assert {name: (again.out / name).read_bytes() for name in names} == files
    found, expected = kept_runs(again.out)[0].run.registration, before.run.registration
    assert (found.warnings, found.score, found.carm) == (expected.warnings, expected.score, expected.carm)
    for one, other in zip(found.views, expected.views, strict=True):
        assert (one.frames is None) == (other.frames is None)
        if one.frames is not None and other.frames is not None:
            np.testing.assert_allclose(one.frames.cta_to_carm, other.frames.cta_to_carm, atol=1e-9)


@pytest.mark.parametrize("out", ["incoming", "incoming/deep/session"])
def test_a_session_does_not_lie_where_runs_arrive(patient: Path, tmp_path: Path, out: str) -> None:
    """Its own files would be looked at as what arrived."""
    watched = Watched(tmp_path, patient)
    watched.out = tmp_path / out
    with pytest.raises(InputError, match="The session lies in the folder that runs arrive in"):
        watched.followed()
    assert list(watched.incoming.iterdir()) == []


def test_two_do_not_follow_one_session(done: Watched, patient: Path, tmp_path: Path) -> None:
    again, other = Watched(tmp_path, patient), Watched(tmp_path / "other", patient)
    shutil.copytree(done.out, again.out)
    other.out = again.out
    refused = []

    def second(state: SessionState) -> None:
        if state.status == "Waiting for runs." and not refused:
            with pytest.raises(InputError) as caught:
                other.followed()
            refused.append(str(caught.value))

    again.followed(on_state=second)
    assert len(refused) == 1
    assert "process" in refused[0]
    assert str(tmp_path) not in refused[0]
    assert len(kept_runs(again.out)) == 2


def test_a_session_folder_that_vanishes_is_told(patient: Path, tmp_path: Path) -> None:
    """A stick was pulled out, or somebody tidied up, while runs were waited for."""
    watched = Watched(tmp_path, patient)

    def pulled(state: SessionState) -> None:
        if state.status == "Waiting for runs.":
            shutil.rmtree(watched.out, ignore_errors=True)

    watched.arrives("dsa.dcm")
    with pytest.raises(InputError, match="is no more there") as caught:
        watched.followed(on_state=pulled)
    assert not watched.out.exists(), "what is left there would be no session"
    assert str(tmp_path) not in str(caught.value)
    assert "Unmistakable" not in str(caught.value)


def test_a_session_that_is_a_file_is_refused(patient: Path, tmp_path: Path) -> None:
    watched = Watched(tmp_path, patient)
    watched.out.write_text("mine")
    with pytest.raises(InputError):
        watched.followed()
    assert watched.out.read_text() == "mine"
