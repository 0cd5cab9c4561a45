"""Runs are loaded beside their lists, named by direction, seen at once and chosen where there is one; helpers are offered nowhere."""

from __future__ import annotations

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
from panels import background, choose, composite, foreground, press

standin.install()


def addCt(name: str = "CTA head") -> Any:
    """Air around a head."""
    voxels = np.full((24, 16, 16), -1000, np.int16)
    voxels[4:20, 4:12, 4:12] = 40
    return scenes.addVolume(voxels, name=name)


def load(panel: SimpleNamespace, button: str, path: Path) -> None:
    standin.answers["getOpenFileName"] = str(path)
    press(getattr(panel.ui, button))


def test_both_runs_are_loaded_beside_their_lists_and_seen_at_once(
    views: None, panel: SimpleNamespace, patient_folder: Path
) -> None:
    load(panel, "loadXaButton", patient_folder / "dsa.dcm")
    first = panel.p.dsa
    assert background() is first
    assert composite().GetForegroundVolumeID() is None
    load(panel, "loadXa2Button", patient_folder / "dsa2.dcm")
    assert (panel.p.dsa, panel.p.dsa2) == (first, background())
    names = {first.GetName(), panel.p.dsa2.GetName()}
    assert names == {"DSA AP", "DSA lateral"}, "by direction; no name of file, series or patient"
    # The whole image is in view, as it is stored.
    columns, rows, _ = first.GetImageData().GetDimensions()
    across, up, _ = panels.sliceNode().GetFieldOfView()
    assert max(across / (columns * panel.p.dsa2.GetSpacing()[0]), up / (rows * panel.p.dsa2.GetSpacing()[1])) >= 0.99


def test_what_is_loaded_is_chosen_where_there_is_one_of_a_kind(
    views: None, panel: SimpleNamespace, patient_folder: Path
) -> None:
    """As after Sample Data or Add Data."""
    cta = addCt()
    dsa = panel.widget.logic.loadAngiogram(patient_folder / "dsa.dcm")
    assert panel.p.cta is None, "not before it is whole"
    standin.processEvents()
    assert (panel.p.cta, panel.p.dsa) == (cta, dsa)
    assert panel.ui.applyButton.text == "Apply"
    panel.p.cta = None
    scenes.addPoints(np.zeros((1, 3)))
    standin.processEvents()
    assert panel.p.cta is None, "put away by a person"
    panel.p.dsa = None
    panel.representation.exit()
    other = panel.widget.logic.loadAngiogram(patient_folder / "dsa2.dcm")
    panel.representation.enter()
    assert panel.p.dsa is None, "there are two"
    slicer.mrmlScene.Clear(0)
    addCt()
    panel.representation.exit()
    panel.representation.enter()
    assert panels.parametersOf(panel.widget).cta is not None, "also what came while another module was shown"
    assert other is not dsa


def test_a_ct_perfusion_series_is_no_run(views: None, panel: SimpleNamespace) -> None:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "CTP")
    for n in range(2):
        sequence.SetDataNodeAtValue(addCt("phase"), str(n))
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "CTP browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    standin.processEvents()
    assert panel.p.dsa is None


def test_helpers_are_offered_nowhere(shown: SimpleNamespace, outcome: Any) -> None:
    from DeepIterRegSlicer.scene import fill, results

    ui = shown.ui
    ui.pickCollapsibleButton.collapsed = False
    at = outcome.registration.carm.pixel_positions(np.array([[100.0, 100.0]]))[0]
    ui.pickPlaceWidget.currentNode().AddControlPoint(*at)
    fill.addManual(shown.nodes.ctaToCarm)
    shown.p.comparison = shown.python.Comparison.checkerboard
    standin.processEvents(0.05)
    own = {node.GetID(): node.GetName() for node in results.ownNodes(shown.nodes.ctaToCarm)}
    offered = {"ctaSelector", "dsaSelector", "dsa2Selector", "ctaLandmarksSelector", "dsaLandmarksSelector"}
    for name in offered:
        listed = [node.GetName() for node in getattr(ui, name)._nodes]
        assert not set(listed) & set(own.values()), f"{name} offers {listed}"
        assert not [each for each in listed if "detector" in each or "projection" in each or "C-arm" in each]
    listed = [node.GetName() for node in ui.roadmapNodeSelector._nodes]
    assert listed == ["CTA vessels"], "the registered vessels can be drawn, nothing else of ours"
    for node in (*results.ownNodes(shown.nodes.ctaToCarm), foreground()):
        if node.IsA("vtkMRMLMarkupsNode") or node.IsA("vtkMRMLModelNode"):
            assert node.GetHideFromEditors(), node.GetName()
    for node in (shown.nodes.minip, shown.nodes.projection, shown.nodes.contrast):
        assert node.GetHideFromEditors(), node.GetName()
    assert not shown.nodes.frames.GetHideFromEditors(), "saved with every kind of scene"


def test_what_is_hidden_is_saved(shown: SimpleNamespace, tmp_path: Path) -> None:
    before = {name: panels.pixels(getattr(shown.nodes, name)) for name in ("minip", "projection", "contrast")}
    scenes.saveAndReopen(tmp_path)
    from DeepIterRegSlicer.scene import results

    (nodes,) = results.registrationsIn(slicer.mrmlScene)
    for name, values in before.items():
        np.testing.assert_allclose(panels.pixels(getattr(nodes, name)), values, atol=1e-6)
        assert getattr(nodes, name).GetHideFromEditors()
    assert nodes.carmPoints.GetNumberOfControlPoints() == 2


def test_points_are_placed_without_making_a_list_first(views: None, panel: SimpleNamespace) -> None:
    ui = panel.ui
    panel.p.init = panel.python.Init.landmarks
    assert ui.ctaLandmarksPlaceWidget.isHidden()
    press(ui.ctaLandmarksNewButton)
    points = panel.p.ctaLandmarks
    assert points.GetName().startswith("CTA points")
    assert ui.ctaLandmarksNewButton.isHidden()
    assert not ui.ctaLandmarksPlaceWidget.isHidden()
    interactor = slicer.app.layoutManager().sliceWidget("Yellow").sliceView().interactor()
    for at in ((100, 100), (150, 120)):
        interactor.SetEventInformation(*at, 0, 0)
        interactor.InvokeEvent("LeftButtonPressEvent")
    assert points.GetNumberOfControlPoints() == 2
    choose(ui.ctaLandmarksSelector, None)
    assert not ui.ctaLandmarksNewButton.isHidden()


def test_a_second_result_of_a_run_shares_its_frames(scene: Any, outcome: Any) -> None:
    """Five registrations of one run hold its frames once: each of them was a copy."""
    import gc

    from DeepIterRegSlicer.scene import fill
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    results = [fill.show(prepareToShow(scenes.helixOutcome(64, 5))) for _again in range(3)]
    gc.collect()

    def memory(nodes: Any) -> list[int]:
        frames = [nodes.frames.GetNthDataNode(n) for n in range(nodes.frames.GetNumberOfDataNodes())]
        return [slicer.util.arrayFromVolume(frame).__array_interface__["data"][0] for frame in frames]

    assert memory(results[0]) == memory(results[1]) == memory(results[2])
    other = fill.show(outcome)
    assert not set(memory(other)) & set(memory(results[0]))
    slicer.mrmlScene.RemoveNode(results[0].frames)
    gc.collect()
    np.testing.assert_array_equal(
        panels.pixels(results[1].frames.GetNthDataNode(2)), scenes.helixOutcome(64, 5).angiogram.frames[2]
    )


def everything() -> dict[str, str]:
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    # The parameters stay, and with the panel open its lists of points.
    return {node.GetID(): node.GetName() for node in nodes if not node.IsA("vtkMRMLScriptedModuleNode")}


def folders() -> int:
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    return int(tree.GetNumberOfItemChildren(tree.GetSceneItemID()))


@pytest.mark.parametrize("how", ["at the console", "in the list's menu"])
def test_a_result_is_taken_away_whole(views: None, panel: SimpleNamespace, outcome: Any, how: str) -> None:
    from DeepIterRegSlicer.scene import belongings, fill, results

    ui = panel.ui
    cta, kept = addCt(), scenes.addBall(np.zeros(3))
    before, items = everything(), folders()
    nodes = fill.show(outcome)
    choose(ui.resultSelector, nodes.ctaToCarm)
    ui.pickCollapsibleButton.collapsed = False
    at = outcome.registration.carm.pixel_positions(np.array([[100.0, 100.0]]))[0]
    ui.pickPlaceWidget.currentNode().AddControlPoint(*at)
    choose(ui.roadmapNodeSelector, kept)
    ui.roadmapAddButton.click()
    belongings.move(cta, nodes.ctaToCarm)
    fill.addManual(nodes.ctaToCarm)
    standin.processEvents(0.1)
    assert len(everything()) > len(before) + 25
    if how == "at the console":
        panel.widget.logic.remove(nodes.ctaToCarm)
    else:
        assert ui.resultSelector.removeEnabled
        slicer.mrmlScene.RemoveNode(ui.resultSelector.currentNode())
    standin.processEvents(0.05)
    assert panel.p.result is None
    assert set(everything().values()) - {"Slice"} <= {*before.values(), "Volume"}, set(everything().values()) - set(
        before.values()
    )
    assert folders() == items
    assert cta.GetParentTransformNode() is None
    assert results.registrationsIn(slicer.mrmlScene) == []


def test_a_pose_set_by_hand_is_taken_away_alone(shown: SimpleNamespace) -> None:
    from DeepIterRegSlicer.scene import fill, results

    count = slicer.mrmlScene.GetNumberOfNodes()
    manual = fill.addManual(shown.nodes.ctaToCarm)
    choose(shown.ui.resultSelector, manual)
    shown.widget.logic.remove(manual)
    standin.processEvents()
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert results.manualOf(shown.nodes.ctaToCarm) is None
    assert shown.nodes.vessels.GetParentTransformNode() is shown.nodes.ctaToCarm
    assert shown.p.result is shown.nodes.ctaToCarm, "the one that is left is shown"


def test_only_results_are_removed(panel: SimpleNamespace) -> None:
    from DeepIterRegLib.common.errors import InputError

    for wrong in (scenes.addTransform(np.eye(4)), "ctaToCarm", None):
        with pytest.raises(InputError, match="Only a result"):
            panel.widget.logic.remove(wrong)
