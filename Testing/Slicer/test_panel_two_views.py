"""A second DSA in the panel on real MRML: chosen, registered together with the first, looked at, cancelled, saved and reopened."""

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
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.results.report.images import vessel_projection
from panels import background, chooseAgain, finish, foreground, optionsAsked, press, sliceNode

standin.install()


@pytest.fixture
def pair(views: None, segmented: SimpleNamespace, patient_folder: Path) -> SimpleNamespace:
    """The panel with views, CTA, an AP and a lateral run, masks of the CTA, and a start near the truth."""
    panel, p = segmented, segmented.p
    p.dsa2 = panel.widget.logic.loadAngiogram(patient_folder / "dsa2.dcm")
    truth = read_pose(patient_folder / "truth.tfm")
    off = np.asarray(pose.se3_exp(np.array([0.03, -0.04, 0.03, 3.0, -2.0, 3.0])))
    p.init, p.initialTransform = panel.python.Init.transform, scenes.addTransform(off @ truth)
    p.reference = scenes.addTransform(truth, "truth")
    return panel


def look() -> tuple[Any, ...]:
    """What the slice view shows behind and before, and where it looks."""
    return background(), foreground(), slicer.util.arrayFromVTKMatrix(sliceNode().GetSliceToRAS())


def test_both_views_are_registered_shown_saved_and_reopened(
    pair: SimpleNamespace, patient_folder: Path, tmp_path: Path
) -> None:
    from DeepIterRegSlicer.nodes import volumes
    from DeepIterRegSlicer.scene import results

    ui, p = pair.ui, pair.p
    assert not ui.viewComboBox.enabled
    press(ui.applyButton)
    finish(pair)
    assert ui.messageLabel.text == ""
    nodes = results.nodesOf(p.result)
    registration = results.registrationOf(nodes)
    truth = read_pose(patient_folder / "truth.tfm")
    assert len(registration.views) == 2
    for label, unit in ((ui.scoreValueLabel, ""), (ui.mpeValueLabel, " mm")):
        lines = label.text.split("\n")
        assert [line.split(":")[0] for line in lines] == [v.name for v in registration.views]
        assert all(line.endswith(unit) for line in lines)
    assert all(v.mpe_mm_to_reference is not None and v.mpe_mm_to_reference < 3 for v in registration.views)
    off = pose.transform(registration.cta_to_carm, registration.centre_cta_mm[None])[0]
    off = off - pose.transform(truth, registration.centre_cta_mm[None])[0]
    assert np.linalg.norm(off) < 3, "two views know the depth"

    first, second = results.viewsOf(nodes)
    assert not [key for key in results.OF_VIEW if getattr(second, key) is None]
    assert not {getattr(first, key) for key in results.OF_VIEW} & {getattr(second, key) for key in results.OF_VIEW}
    for shown, record in zip((first, second), registration.views, strict=True):
        drawn = vessel_projection(results.vesselsOf(nodes), record.carm, registration.cta_to_carm)
        np.testing.assert_allclose(slicer.util.arrayFromVolume(shown.projection)[0], drawn, atol=1e-4)
        corner = record.carm.pixel_positions(np.array([[0.0, 0.0]]))[0]
        for image in (shown.projection, shown.minip, shown.frame, shown.contrast):
            np.testing.assert_allclose(volumes.ijkToRas(image)[:3, 3], corner, atol=1e-3)
        assert not shown.frustum.GetDisplayNode().GetVisibility()
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    held = [getattr(v, key) for v in (first, second) for key in results.OF_VIEW]
    assert len({tree.GetItemParent(tree.GetItemByDataNode(node)) for node in held}) == 1

    assert look()[:2] == (first.minip, first.projection)
    p.minipFirst = 2.0
    assert ui.viewComboBox.enabled
    ui.viewComboBox.currentIndex = 1
    background, foreground, matrix = look()
    assert (background, foreground) == (second.minip, second.projection)
    np.testing.assert_allclose(np.abs(matrix[:3, 2] @ registration.views[1].carm.axes[2]), 1, atol=1e-6)
    assert (p.minipFirst, p.minipLast) == (1, second.frames.GetNumberOfDataNodes()), "its own frames"
    p.minip, p.frame = False, 3.0
    assert look()[0] is second.frame
    assert second.browser.GetSelectedItemNumber() == 2
    ui.show3dCheckBox.checked = True
    assert all(v.frustum.GetDisplayNode().GetVisibility() for v in (first, second))
    ui.show3dCheckBox.checked = False
    assert not any(v.frustum.GetDisplayNode().GetVisibility() for v in (first, second))

    texts = (ui.scoreValueLabel.text, ui.mpeValueLabel.text)
    again = scenes.saveAndReopen(tmp_path)
    standin.openViews()
    reopened = panels.opened()
    (found,) = results.registrationsIn(again)
    _, second = results.viewsOf(found)
    assert (reopened.ui.scoreValueLabel.text, reopened.ui.mpeValueLabel.text) == texts
    assert reopened.p.dsa2 is not None
    assert reopened.ui.viewComboBox.currentIndex == 1
    chooseAgain(reopened)
    assert look()[:2] == (second.frame, second.projection)
    assert results.inputsOf(found.ctaToCarm) == tuple(getattr(reopened.p, n) for n in ("cta", "dsa", "dsa2"))
    panels.close(reopened)


def test_one_dsa_after_two_leaves_nothing_of_the_second(scene: Any, patient_folder: Path) -> None:
    from dataclasses import replace

    from DeepIterRegLib.cases.case import Outcome
    from DeepIterRegSlicer.scene import fill, results
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    one = scenes.helixOutcome(64, 4)
    first = one.registration.views[0]
    registration = replace(one.registration, views=(first, replace(first, name="DSA 2")))
    further = ((one.angiogram, one.dsa_masks),)
    two = Outcome(registration, one.angiogram, one.vessels, one.dsa_masks, further)
    alone = prepareToShow(one)
    nodes = fill.show(alone)
    count = scene.GetNumberOfNodes()
    nodes = fill.show(prepareToShow(two), nodes)
    assert len(results.viewsOf(nodes)) == 2
    second = results.viewsOf(nodes)[1]
    assert results.viewsOf(fill.show(prepareToShow(two), nodes))[1] == second, "filled again, not made again"
    nodes = fill.show(alone, nodes)
    assert len(results.viewsOf(nodes)) == 1
    assert scene.GetNumberOfNodes() == count


def test_cancelled_and_its_run_deleted(pair: SimpleNamespace) -> None:
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    press(pair.ui.applyButton)
    standin.processEvents(0.2)
    press(pair.ui.applyButton)
    finish(pair)
    assert pair.ui.messageLabel.text == "Cancelled."
    assert pair.p.result is None
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    press(pair.ui.applyButton)
    slicer.mrmlScene.RemoveNode(pair.p.dsa2)
    finish(pair)
    assert "deleted while it ran" in pair.ui.messageLabel.text
    assert pair.ui.applyButton.text == "Apply"


def test_each_dsa_has_its_own_geometry(pair: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    ui = pair.ui
    assert not ui.geometryOfComboBox.isHidden()
    shown = ui.primaryAngleEdit.text
    ui.geometryOfComboBox.currentIndex = 1
    assert ui.primaryAngleEdit.text != shown
    ui.sidEdit.text = "1111"
    ui.sidEdit.editingFinished.emit()
    options = optionsAsked(pair, monkeypatch)
    assert (options.geometry.sid_mm, options.geometry2.sid_mm) == (None, 1111)
    pair.p.dsa2 = None
    assert ui.geometryOfComboBox.isHidden()
    assert ui.primaryAngleEdit.text == shown
    assert optionsAsked(pair, monkeypatch).geometry2.sid_mm is None


@pytest.mark.parametrize("which", ["DSA 1: ", "DSA 2: "])
@pytest.mark.parametrize(
    ("kind", "said"),
    [("colour", "in colour"), ("picture", "DistanceSourceToDetector"), ("same", "is the first DSA too")],
)
def test_what_is_wrong_says_with_which(pair: SimpleNamespace, which: str, kind: str, said: str) -> None:
    name = "dsa" if which == "DSA 1: " else "dsa2"
    if kind == "colour":
        node = scenes.addVolume(np.zeros((1, 8, 8, 3), np.uint8), name="shot", className="vtkMRMLVectorVolumeNode")
    elif kind == "picture":
        node = scenes.addVolume(np.full((1, 64, 64), 100, np.uint16), name="picture")
    else:
        node, which = pair.p.dsa if name == "dsa2" else pair.p.dsa2, "DSA 2: "
    setattr(pair.p, name, node)
    press(pair.ui.applyButton)
    finish(pair)
    lines = pair.ui.messageLabel.text.split("\n")
    assert any(said in line for line in lines), lines
    assert all(line.startswith(which) for line in lines), lines
    assert pair.p.result is None
    assert not standin.messages
