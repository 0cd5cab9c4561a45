"""The section "Follow": runs come in, the list fills, the newest is shown, and nobody is disturbed. The session is a script here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.session import Together
from DeepIterRegLib.results.session_page.page import RunRow
from panels import press, wait
from scripted_session import Script

standin.install()

REFUSED = RunRow("", "A run of another patient", "refused", ("It is of another patient than this session.",))


@pytest.fixture(scope="module")
def plain() -> Any:
    return scenes.helixOutcome(96, 3)


@pytest.fixture
def script(views: None, panel: SimpleNamespace, plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A panel with a CTA and the section open; what it follows is a script."""
    from DeepIterRegSlicer import following

    script = Script(plain)
    monkeypatch.setattr(following, "follow", script.follow)
    monkeypatch.setattr(slicer.app.__class__, "temporaryPath", str(tmp_path))
    panel.p.cta = scenes.addVolume(np.full((30, 8, 8), -1000, np.int16), name="CTA")
    panel.p.followIncoming = str(tmp_path)
    panel.ui.followCollapsibleButton.collapsed = False
    return script


def texts(panel: SimpleNamespace) -> list[tuple[str, ...]]:
    """The list as a person reads it, from above."""
    table = panel.ui.followTable
    return [tuple(table.item(row, column).text() for column in range(3)) for row in range(table.rowCount)]


def started(panel: SimpleNamespace) -> None:
    press(panel.ui.followStartButton)
    assert panel.ui.followStartButton.text == "Stop", panel.ui.messageLabel.text
    wait(lambda: panel.ui.followStatusLabel.text == "Waiting for runs.", "it does not begin")


def stopped(panel: SimpleNamespace) -> None:
    press(panel.ui.followStartButton)
    wait(lambda: panel.ui.followStartButton.text == "Start", "it does not end")


def runs() -> dict[str, Any]:
    from DeepIterRegSlicer.scene import session

    return session.runsIn(slicer.mrmlScene)


def came(script: Script, panel: SimpleNamespace, **more: Any) -> Any:
    """A run comes; its transform, once it is in the scene."""
    name = script.arrives(**more)
    wait(lambda: name in runs(), f"run {name} is not in the scene")
    standin.processEvents(0.05)
    return runs()[name]


def click(panel: SimpleNamespace, row: int) -> None:
    panel.ui.followTable.cellClicked.emit(row, 0)
    standin.processEvents(0.01)


def test_runs_fill_the_list_and_the_newest_is_shown(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    first = came(script, panel)
    assert panel.p.result is first
    assert first.GetName() == "Run 01 AP"
    second = came(script, panel, title="lateral, LAO 90.0°, CRA 0.0°", state="look closely")
    assert panel.p.result is second
    assert texts(panel) == [("02  1:15  lateral", "look closely", "1.2 mm"), ("01  0:00  AP", "accepted", "1.2 mm")]
    assert panels.foreground() is second.GetNodeReference("DeepIterReg.projection")
    assert panel.ui.followTable.selectedItems()[0].row() == 0
    assert panel.ui.followNewestButton.isHidden()
    visible = [
        node.GetNodeReference("DeepIterReg.vessels").GetDisplayNode().GetVisibility() for node in (first, second)
    ]
    assert visible == [0, 1], "the 3D view has the one that is shown"
    stopped(panel)


def test_who_reads_another_run_keeps_it(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    first, second = came(script, panel), came(script, panel)
    click(panel, 1)
    assert panel.p.result is first
    assert panel.ui.followNewestButton.text == "A newer run is there: show run 02"
    third = came(script, panel)
    assert panel.p.result is first
    assert panel.ui.followNewestButton.text == "A newer run is there: show run 03"
    press(panel.ui.followNewestButton)
    assert panel.p.result is third
    assert panel.ui.followNewestButton.isHidden()
    fourth = came(script, panel)
    assert panel.p.result is fourth, "the newest is followed again"
    panels.choose(panel.ui.resultSelector, second)
    came(script, panel)
    assert panel.p.result is second, "chosen in the other list, it is kept too"
    stopped(panel)


def test_who_adjusts_picks_or_places_is_not_disturbed(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    first = came(script, panel)
    panels.openManual(panel)
    before = panels.pixels(first.GetNodeReference("DeepIterReg.projection"))
    came(script, panel)
    assert panel.p.result is first
    assert not panel.ui.followNewestButton.isHidden()
    assert np.array_equal(panels.pixels(panels.foreground()), before)
    panel.ui.manualCollapsibleButton.collapsed = True
    third = came(script, panel)
    assert panel.p.result is third
    panel.ui.pickCollapsibleButton.collapsed = False
    came(script, panel)
    assert panel.p.result is third
    panel.ui.pickCollapsibleButton.collapsed = True
    points = scenes.addPoints(np.zeros((0, 3)))
    panel.p.dsaLandmarks = points
    panel.ui.dsaLandmarksPlaceWidget.setPlaceModeEnabled(True)
    came(script, panel)
    assert panel.p.result is third
    panel.ui.dsaLandmarksPlaceWidget.setPlaceModeEnabled(False)
    sixth = came(script, panel)
    assert panel.p.result is sixth
    stopped(panel)


def test_another_patients_run_is_named_and_never_shown(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    came(script, panel)
    script.row(REFUSED)
    wait(lambda: panel.ui.followTable.rowCount == 2, "the refused run is not in the list")
    assert texts(panel)[0] == ("A run of another patient", "refused", "")
    before = panel.p.result
    click(panel, 0)
    assert panel.p.result is before
    assert panel.ui.followStatusLabel.text == "It is of another patient than this session."
    assert list(runs()) == ["01"]
    stopped(panel)


def together(outcome: Any, shift_mm: float) -> Together:
    found = outcome.registration
    moved = pose.translation(np.array([shift_mm, 0.0, 0.0])) @ found.cta_to_carm
    return Together(moved, found.carm.moved(pose.translation(np.array([0.0, 0.0, shift_mm]))), 1.0, shift_mm, 0.0)


def test_better_poses_of_earlier_runs_come_in(script: Script, panel: SimpleNamespace, plain: Any) -> None:
    from DeepIterRegSlicer.scene import results

    started(panel)
    first = came(script, panel)
    better = together(plain, 3.0)
    before = panels.pixels(first.GetNodeReference("DeepIterReg.projection"))
    came(script, panel, **{"01": better})
    wait(lambda: np.allclose(panels.matrix(first), better.cta_to_carm), "the first run is not moved")
    nodes = results.nodesOf(first)
    found = results.registrationOf(nodes)
    np.testing.assert_allclose(found.cta_to_carm, better.cta_to_carm)
    np.testing.assert_allclose(found.carm.source_mm, better.carm.source_mm)
    assert not np.array_equal(panels.pixels(nodes.projection), before)
    placed = [slicer.util.arrayFromVTKMatrix(ijk(node)) for node in (nodes.minip, nodes.frame, nodes.projection)]
    for each in placed[1:]:
        np.testing.assert_allclose(each, placed[0])
    assert panel.p.result is not first
    stopped(panel)


def ijk(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_where_a_hand_was_nothing_is_moved(script: Script, panel: SimpleNamespace, plain: Any) -> None:
    started(panel)
    first = came(script, panel)
    panels.openManual(panel)
    better = {"01": together(plain, 3.0)}
    came(script, panel, **better)
    found = plain.registration.cta_to_carm
    np.testing.assert_allclose(panels.matrix(first), found)  # not while it is worked on
    panel.ui.shiftRightSlider.value = 5.0
    standin.processEvents(0.3)
    byHand = panels.matrix(panel.p.result)
    panel.ui.manualCollapsibleButton.collapsed = True
    standin.processEvents(0.5)
    np.testing.assert_allclose(panels.matrix(first), found)
    np.testing.assert_allclose(panels.matrix(panel.p.result), byHand)
    click(panel, 0)
    click(panel, 1)
    np.testing.assert_allclose(panels.matrix(panel.p.result), byHand)  # the list shows what the hand made
    stopped(panel)


def test_it_is_stopped_and_goes_on(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    assert not panel.ui.followIncomingBox.enabled
    came(script, panel)
    session = Path(panel.p.followSession)
    assert session.is_dir()
    stopped(panel)
    assert panel.ui.followIncomingBox.enabled
    assert "ended" in panel.ui.followStatusLabel.text
    started(panel)
    assert Path(panel.p.followSession) == session
    assert script.wanted == [True, False], "what the scene shows is not told again"
    second = came(script, panel)
    assert panel.p.result is second
    assert len(texts(panel)) == 2
    stopped(panel)


def test_another_session_begins_with_an_empty_list(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    first = came(script, panel)
    stopped(panel)
    panel.p.followSession = ""
    script.rows = []
    started(panel)
    assert texts(panel) == []
    assert first.GetScene() is not None, "what was there stays"
    other = came(script, panel)
    assert other is not first
    assert script.wanted == [True, True]
    stopped(panel)


def test_a_saved_scene_shows_list_and_runs_again(script: Script, panel: SimpleNamespace, tmp_path: Path) -> None:
    started(panel)
    came(script, panel)
    came(script, panel, title="lateral, LAO 90.0°, CRA 0.0°")
    stopped(panel)
    before, folder = texts(panel), panel.p.followSession
    (tmp_path / "saved").mkdir()
    scenes.saveAndReopen(tmp_path / "saved")
    standin.openViews()
    reopened = panels.opened()
    assert texts(reopened) == before
    assert not reopened.ui.followTable.isHidden()
    assert reopened.p.followSession == folder
    assert sorted(runs()) == ["01", "02"]
    assert reopened.p.result is runs()["02"]
    click(reopened, 1)
    assert reopened.p.result is runs()["01"]
    assert reopened.ui.followNewestButton.text == "A newer run is there: show run 02"
    assert panels.foreground() is runs()["01"].GetNodeReference("DeepIterReg.projection")
    reopened.p.followIncoming = str(tmp_path)
    started(reopened)
    assert script.wanted[-1] is False
    third = came(script, reopened)
    assert reopened.p.result is not third, "the first is being read"
    stopped(reopened)
    panels.close(reopened)


def test_closing_the_scene_ends_it(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    came(script, panel)
    worker = panel.widget._follow._worker
    slicer.mrmlScene.Clear(0)
    standin.processEvents(0.1)
    assert worker.wait(5)
    assert panel.ui.followStartButton.text == "Start"
    assert texts(panel) == []
    assert panel.ui.followTable.isHidden()
    assert "cancelled" in panel.ui.messageLabel.text


def test_it_goes_on_while_another_module_is_shown(script: Script, panel: SimpleNamespace) -> None:
    started(panel)
    first = came(script, panel)
    panel.representation.exit()
    before = panels.foreground(), panels.background()
    second = came(script, panel)
    assert (panels.foreground(), panels.background()) == before, "the views are another module's"
    assert not second.GetNodeReference("DeepIterReg.vessels").GetDisplayNode().GetVisibility()
    panel.representation.enter()
    standin.processEvents(0.05)
    assert panel.p.result is second
    assert first is not second
    assert panels.foreground() is second.GetNodeReference("DeepIterReg.projection")
    stopped(panel)


def test_what_is_missing_is_said(script: Script, panel: SimpleNamespace, tmp_path: Path) -> None:
    panel.p.followIncoming = ""
    press(panel.ui.followStartButton)
    assert (
        panel.ui.messageLabel.text
        == "No folder is chosen for the runs: under Folder choose the one that they arrive in."
    )
    standin.answers["getExistingDirectory"] = str(tmp_path)
    press(panel.ui.followIncomingButton)
    assert panel.ui.followIncomingEdit.text == str(tmp_path)
    started(panel)
    assert not panel.ui.messageLabel.text
    script.fails(InputError("No space left on device: free some space."))
    wait(lambda: panel.ui.followStartButton.text == "Start", "it does not end")
    assert panel.ui.messageLabel.text == "No space left on device: free some space."
    assert panel.ui.followStatusLabel.text == "The session has stopped: the reason stands at the bottom of the panel."
    panel.p.cta = None
    assert not panel.ui.followStartButton.enabled


def test_late_progress_does_not_hide_that_the_session_waits(script: Script, panel: SimpleNamespace) -> None:
    from DeepIterRegLib.registration.steps import Step

    started(panel)
    script.progresses(Step.CHECK_INPUTS, 1.0)
    standin.processEvents(0.6)
    assert panel.ui.followStatusLabel.text == "Waiting for runs."
    stopped(panel)


def test_the_folder_is_kept_beside_the_scene(script: Script, panel: SimpleNamespace, tmp_path: Path) -> None:
    from DeepIterRegSlicer.scene import session

    scene = slicer.mrmlScene
    scene.SetURL(str(tmp_path / "case.mrml"))
    scene.SetRootDirectory(str(tmp_path))
    assert session.keptPath(tmp_path / "runs" / "one", scene) == "runs/one"
    assert session.pathOf("runs/one", scene) == tmp_path / "runs" / "one"
    assert session.keptPath(Path("/elsewhere"), scene) == "/elsewhere"
    assert session.pathOf("/elsewhere", scene) == Path("/elsewhere")


def test_a_pose_set_by_hand_is_handed_to_all(script: Script, panel: SimpleNamespace, plain: Any) -> None:
    from DeepIterRegLib.cases.handed import file_of, read_handed
    from DeepIterRegSlicer.scene import results

    started(panel)
    first = came(script, panel)
    assert not panel.ui.followHandButton.enabled
    panels.openManual(panel)
    panel.ui.shiftRightSlider.value = 5.0
    standin.processEvents(0.3)
    byHand = panels.matrix(panel.p.result)
    press(panel.ui.followHandButton)
    assert panel.ui.followStatusLabel.text == "The pose is handed to the session."
    folder = Path(panel.p.followSession)
    handed = read_handed(folder / file_of("01"))
    assert handed.run == "01"
    np.testing.assert_allclose(handed.cta_to_carm, byHand)
    np.testing.assert_allclose(handed.carm.source_mm, plain.registration.carm.source_mm)
    # What the session makes of it comes into the nodes that there are; the hand's own stays, and is still seen.
    (folder / file_of("01")).unlink()
    script.again("01", replace(plain.registration, cta_to_carm=byHand))
    wait(lambda: np.allclose(panels.matrix(first), byHand), "the run does not get the pose")
    assert panel.p.result is results.manualOf(first)
    np.testing.assert_allclose(panels.matrix(panel.p.result), byHand)
    vessels = first.GetNodeReference("DeepIterReg.vessels")
    assert vessels.GetParentTransformNode() is panel.p.result
    assert vessels.GetDisplayNode().GetVisibility()
    stopped(panel)
    assert panel.ui.followHandButton.enabled
    press(panel.ui.followHandButton)
    assert "when it is started" in panel.ui.followStatusLabel.text


def test_a_pose_from_landmarks_is_handed_to_all(script: Script, panel: SimpleNamespace, plain: Any) -> None:
    """Found by Apply for the same run: the same frames, whatever the node is called."""
    from DeepIterRegLib.cases.handed import file_of, read_handed
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    started(panel)
    came(script, panel)
    for digest, same in (("of another", False), ("01", True)):
        found = replace(plain.registration, input_hashes={"cta": "c", "dsa": digest})
        nodes = panels.addResult(prepareToShow(replace(plain, registration=found)))
        panels.choose(panel.ui.resultSelector, nodes.ctaToCarm)
        assert panel.ui.followHandButton.enabled is same
    press(panel.ui.followHandButton)
    handed = read_handed(Path(panel.p.followSession) / file_of("01"))
    assert handed.run == "01"
    stopped(panel)


def test_a_list_that_something_else_wrote_is_none(script: Script, panel: SimpleNamespace) -> None:
    from DeepIterRegSlicer.scene import session

    for text in (
        "{", "[1]", '[{"words": []}]', '[{"name": 1, "title": null, "state": [], "words": []}]', "[" * 100_000,
        '[{"name": "01", "title": "AP", "state": "accepted", "words": [], "since_first_s": NaN}]',
        '[{"name": "01", "title": "AP", "state": "accepted", "words": [], "error_mm": "x"}]',
    ):  # fmt: skip
        assert session.rowsOf(text) == ()
    row = RunRow("01", "AP", "accepted", ("said",), 0.0, 1, None, 1.25)
    assert session.rowsOf(session.rowsText((row, REFUSED))) == (row, REFUSED)


@pytest.mark.parametrize("folder", ["/nowhere/of/a/share", "x" * 5000, "a\0b"])
def test_a_session_folder_that_went_away_hinders_nobody(script: Script, panel: SimpleNamespace, folder: str) -> None:
    """The scene is opened again where its session is not: deleted, on a share that is down, or on another system."""
    started(panel)
    first = came(script, panel)
    stopped(panel)
    panels.openManual(panel)
    panel.ui.shiftRightSlider.value = 5.0
    standin.processEvents(0.3)
    panel.p.followListed = panel.p.followSession = folder
    standin.processEvents(0.05)
    assert not panel.ui.followHandButton.enabled, "there is nobody to hand it to"
    assert len(texts(panel)) == 1
    click(panel, 0)
    assert panel.p.result is not None
    assert first.GetScene() is not None


def test_very_many_rows_are_shown_once(script: Script, panel: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of other things: what came between two looks is shown together."""
    filled = []
    fill = panel.widget._follow._fillTable
    monkeypatch.setattr(panel.widget._follow, "_fillTable", lambda shown: (filled.append(shown), fill(shown)))
    started(panel)
    filled.clear()
    script.manyRows(REFUSED, 400)
    wait(lambda: panel.ui.followTable.rowCount == 400, "the rows are not listed", 60)
    assert len(filled) < 20
    stopped(panel)


def test_nodes_that_a_person_deletes_hinder_nobody(script: Script, panel: SimpleNamespace) -> None:
    """The CTA, the run that is shown, and one that is not, while others come."""
    started(panel)
    first, second = came(script, panel), came(script, panel, **{"01": together(script.outcome, 3.0)})
    slicer.mrmlScene.RemoveNode(panel.p.cta)
    slicer.mrmlScene.RemoveNode(second)
    standin.processEvents(0.05)
    third = came(script, panel)
    assert panel.p.result is third
    assert not panel.ui.messageLabel.text
    slicer.mrmlScene.RemoveNode(first)
    fourth = came(script, panel, **{"01": together(script.outcome, 5.0), "02": together(script.outcome, 5.0)})
    click(panel, 3)  # the first, which is gone
    assert "in the session's folder" in panel.ui.followStatusLabel.text
    assert fourth.GetScene() is not None
    assert not panel.ui.messageLabel.text
    assert panel.ui.followStartButton.enabled, "it can be stopped without a CTA"
    stopped(panel)


def test_a_session_folder_with_any_letters(script: Script, panel: SimpleNamespace, tmp_path: Path) -> None:
    from DeepIterRegLib.cases.handed import waiting

    folder = tmp_path / "Sitzung Müller-Ωμέγα 患者 #1 %20 'a'"
    panel.p.followSession = f"  {folder} "
    started(panel)
    assert folder.is_dir()
    came(script, panel)
    panels.openManual(panel)
    panel.ui.shiftRightSlider.value = 5.0
    standin.processEvents(0.3)
    press(panel.ui.followHandButton)
    assert [path.name for path, _ in waiting(folder)] == ["handed-01.json"]
    shown = [panel.ui.followStatusLabel.text, panel.ui.messageLabel.text, *sum(texts(panel), ())]
    assert not [text for text in shown if "Müller" in text]
    stopped(panel)
