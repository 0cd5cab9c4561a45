"""A procedure followed in the panel: synthetic runs arrive in a folder, or in Slicer's DICOM database."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.files import load_volume
from panels import press, wait
from standin.dicom import ctkDICOMDatabase

standin.install()


def write(source: Path, target: Path, **elements: str) -> Path:
    """A run of the patient, with these elements."""
    dataset = pydicom.dcmread(source)
    values = {"PatientID": "Q77", "PatientName": "Unmistakable^Name", "PatientBirthDate": "19510203"} | elements
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(target)
    return target


def states(panel: SimpleNamespace) -> list[str]:
    """Of the list, from above."""
    table = panel.ui.followTable
    return [table.item(row, 1).text() for row in range(table.rowCount)]


def test_runs_in_a_folder_are_registered_and_shown(
    views: None, panel: SimpleNamespace, patient_folder: Path, tmp_path: Path
) -> None:
    from DeepIterRegSlicer.scene import results, session

    def runs() -> dict[str, Any]:
        return session.runsIn(slicer.mrmlScene)

    incoming, out = tmp_path / "incoming", tmp_path / "session"
    incoming.mkdir()
    cta, vessels = load_volume(patient_folder / "cta.nii.gz"), load_volume(patient_folder / "arteries.nii.gz")
    panel.p.cta = scenes.addVolume(cta.voxels, cta.affine)
    mask = vessels.voxels.astype(np.uint8)
    panel.p.vessels = scenes.addVolume(mask, vessels.affine, "arteries", "vtkMRMLLabelMapVolumeNode")
    panel.p.followIncoming, panel.p.followSession = str(incoming), str(out)
    write(patient_folder / "dsa.dcm", incoming / "a.dcm", AcquisitionDateTime="20261127101500")
    press(panel.ui.followStartButton)
    wait(lambda: "01" in runs(), "the first run does not come")
    first = runs()["01"]
    wait(lambda: panel.p.result is first, "it is not shown")
    assert panel.ui.followStartButton.text == "Stop", panel.ui.messageLabel.text
    assert first.GetNodeReference("DeepIterReg.cta") is panel.p.cta
    found = results.registrationOf(results.nodesOf(first))
    assert panel.ui.scoreValueLabel.text == f"{found.score:.3f}"
    stranger = {"PatientID": "Q78", "PatientName": "Another", "SOPInstanceUID": generate_uid()}
    write(patient_folder / "dsa2.dcm", incoming / "b.dcm", AcquisitionDateTime="20261127101600", **stranger)
    write(patient_folder / "dsa2.dcm", incoming / "c.dcm", AcquisitionDateTime="20261127101730")
    wait(lambda: "02" in runs(), "the second run does not come")
    wait(lambda: panel.p.result is runs()["02"], "it is not shown")
    assert sorted(runs()) == ["01", "02"]
    rows = session.rowsOf(panel.p.followRuns)
    assert [row.name for row in rows if row.name] == ["01", "02"]
    assert [row.since_first_s for row in rows if row.name] == [0.0, 150.0]
    assert "refused" in states(panel)
    assert "Unmistakable" not in panel.p.followRuns
    press(panel.ui.followStartButton)
    wait(lambda: panel.ui.followStartButton.text == "Start", "it does not end")
    # The CTA out of a saved scene is still the session's, and nothing is done twice.
    scenes.saveAndReopen(tmp_path)
    reopened = panels.opened()
    press(reopened.ui.followStartButton)
    wait(lambda: reopened.ui.followStatusLabel.text == "Waiting for runs.", reopened.ui.messageLabel.text)
    assert not reopened.ui.messageLabel.text
    assert sorted(path.name for path in out.iterdir() if path.name.isdigit()) == ["01", "02"]
    # A run whose nodes a person took away comes back from its file.
    reopened.widget.logic.remove(runs()["02"])
    press(reopened.ui.followStartButton)
    wait(lambda: reopened.ui.followStartButton.text == "Start", "it does not end")
    press(reopened.ui.followStartButton)
    wait(lambda: "02" in runs(), "the run does not come back")
    press(reopened.ui.followStartButton)
    wait(lambda: reopened.ui.followStartButton.text == "Start", "it does not end")
    panels.close(reopened)


# -- Slicer's DICOM database ---------------------------------------------------------------------------------------


@pytest.fixture
def database(scene: Any, monkeypatch: pytest.MonkeyPatch) -> ctkDICOMDatabase:
    """Slicer's, open and empty."""
    made = ctkDICOMDatabase()
    monkeypatch.setattr(slicer, "dicomDatabase", made, raising=False)
    return made


@pytest.fixture
def loaded(database: ctkDICOMDatabase, patient_folder: Path, tmp_path: Path) -> Any:
    """A CTA's node as the DICOM module leaves it: it names its file in the database."""
    slice_ = write(patient_folder / "dsa.dcm", tmp_path / "ct.dcm", Modality="CT", **newUids())
    node = scenes.addVolume(np.full((30, 8, 8), -1000, np.int16), name="CTA")
    node.SetAttribute("DICOM.instanceUIDs", database.importFile(slice_))
    return node


def newUids() -> dict[str, str]:
    return {name: generate_uid() for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")}


def test_the_patients_runs_of_the_database_are_handed_on(
    loaded: Any, database: ctkDICOMDatabase, patient_folder: Path, tmp_path: Path
) -> None:
    from DeepIterRegSlicer.nodes.dicom_database import DatabaseRuns

    def imported(name: str, **elements: str) -> None:
        database.importFile(write(patient_folder / "dsa.dcm", tmp_path / name, **(newUids() | elements)))

    received = tmp_path / "received"
    imported("before.dcm")
    imported("stranger.dcm", PatientID="Q78")
    taken = DatabaseRuns(loaded)
    taken.take(received)
    assert not received.exists(), "the session has not made its folder"
    received.mkdir()
    taken.take(received)
    (first,) = received.iterdir()
    assert first.read_bytes() == (tmp_path / "before.dcm").read_bytes()
    taken.take(received)
    assert len(list(received.iterdir())) == 1, "nothing is taken twice"
    imported("later.dcm")
    imported("text.dcm", Modality="SR")
    imported("stranger2.dcm", PatientID="Q78")
    taken.take(received)
    assert len(list(received.iterdir())) == 2
    # Who stands in the database under another spelling is told by the session itself.
    imported("again.dcm", PatientName="UNMISTAKABLE^NAME")
    taken.take(received)
    assert len(list(received.iterdir())) == 3
    assert all(path.suffix == ".dcm" and len(path.stem) == 16 for path in received.iterdir())
    DatabaseRuns(loaded).take(received)
    assert len(list(received.iterdir())) == 3, "after an interruption neither"


def test_a_cta_that_the_database_does_not_know_is_refused(database: ctkDICOMDatabase) -> None:
    from DeepIterRegSlicer.nodes.dicom_database import DatabaseRuns

    node = scenes.addVolume(np.zeros((2, 4, 4), np.int16))
    with pytest.raises(InputError, match="not loaded from Slicer's DICOM database"):
        DatabaseRuns(node)
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    with pytest.raises(InputError, match="not loaded from Slicer's DICOM database"):
        DatabaseRuns(node)
    database.closeDatabase()
    with pytest.raises(InputError, match="is not open"):
        DatabaseRuns(node)


def test_the_panel_follows_the_database(
    views: None,
    panel: SimpleNamespace,
    loaded: Any,
    database: ctkDICOMDatabase,
    patient_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from DeepIterRegSlicer import following

    jobs = []

    def follow(job: Any, out: Path, progress: Any, tell: Any, should_stop: Any, **more: Any) -> None:
        jobs.append(job)
        job.incoming.mkdir(parents=True)
        while not should_stop():
            time.sleep(0.01)

    monkeypatch.setattr(following, "follow", follow)
    panel.p.cta, panel.p.followSession = loaded, str(tmp_path / "session")
    panel.ui.followCollapsibleButton.collapsed = False
    panel.ui.followSourceComboBox.currentIndex = 1
    assert panel.ui.followIncomingBox.isHidden()
    press(panel.ui.followStartButton)
    assert not panel.ui.messageLabel.text
    wait(lambda: jobs, "it does not begin")
    received = tmp_path / "session" / "received"
    assert jobs[0].incoming == received
    assert jobs[0].identified_by == tmp_path / "ct.dcm"
    database.importFile(write(patient_folder / "dsa.dcm", tmp_path / "run.dcm", **newUids()))
    wait(lambda: list(received.glob("*.dcm")), "the run is not handed on")
    press(panel.ui.followStartButton)
    wait(lambda: panel.ui.followStartButton.text == "Start", "it does not end")
