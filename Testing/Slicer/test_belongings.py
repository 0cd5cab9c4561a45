"""The CTA moved to the result in the panel: with what stands in it, said, undone, and not for a rejected result."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer
import vtk

import scenes
import standin
from DeepIterRegLib.registration.result import Confidence
from panels import addResult, choose, press

standin.install()


@pytest.fixture
def head(shown: SimpleNamespace) -> SimpleNamespace:
    """A CTA of 100 mm with what a person made in it, and what only stands nearby."""
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    affine[:3, 3] = -50.0
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    shown.p.cta = shown.cta = scenes.addVolume(mask.astype(np.int16), affine, "CTA head")
    shown.mask = scenes.addSegmentation({"clot": mask}, affine, "Clot")
    shown.curve = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsCurveNode", "Catheter")
    for n in range(4):
        shown.curve.AddControlPoint(vtk.vtkVector3d(5.0 * n, 0.0, 0.0))
    shown.item = scenes.addBall(np.array([400.0, 0, 0]), 5.0, name="Item of the roadmap")
    choose(shown.ui.roadmapNodeSelector, shown.item)
    shown.ui.roadmapAddButton.click()
    shown.far = scenes.addBall(np.array([0.0, 900.0, 0]), 5.0, name="Elsewhere")
    shown.onDsa = scenes.addPoints(np.zeros((2, 3)), "DSA points")
    shown.p.dsaLandmarks = shown.onDsa
    shown.moving = (shown.cta, shown.mask, shown.curve, shown.item)
    shown.staying = (shown.far, shown.onDsa)
    return shown


def parents(nodes: Any) -> list[Any]:
    return [node.GetParentTransformNode() for node in nodes]


def test_it_moves_with_what_belongs_to_it_and_back(head: SimpleNamespace) -> None:
    ui, result = head.ui, head.nodes.ctaToCarm
    assert ui.placeCtaButton.text == "Move the CTA to the result"
    press(ui.placeCtaButton)
    assert parents(head.moving) == [result] * 4
    assert parents(head.staying) == [None] * 2
    assert ui.messageLabel.text.startswith("CTA head stands under ctaToCarm now.")
    for name in ("Clot", "Catheter", "Item of the roadmap"):
        assert name in ui.messageLabel.text
    assert ui.placeCtaButton.text == "Move the CTA back"
    press(ui.placeCtaButton)
    assert parents(head.moving) == [None] * 4
    assert ui.messageLabel.text == "CTA head is back where it was scanned."
    assert head.nodes.vessels.GetParentTransformNode() is result, "what is the result's own, stays"


def test_a_tilted_gantry_stays_between_and_another_result_takes_over(head: SimpleNamespace, outcome: Any) -> None:
    tilt = scenes.addTransform(np.diag([1.0, -1, -1, 1]), "acquisition transform")
    for node in (head.cta, head.mask):
        node.SetAndObserveTransformNodeID(tilt.GetID())
    press(head.ui.placeCtaButton)
    assert tilt.GetParentTransformNode() is head.nodes.ctaToCarm
    assert parents((head.cta, head.mask)) == [tilt, tilt]
    other = addResult(outcome)
    choose(head.ui.resultSelector, other.ctaToCarm)
    assert head.ui.placeCtaButton.text == "Move the CTA to the result"
    press(head.ui.placeCtaButton)
    assert tilt.GetParentTransformNode() is other.ctaToCarm
    assert head.nodes.vessels.GetParentTransformNode() is head.nodes.ctaToCarm
    press(head.ui.placeCtaButton)
    assert tilt.GetParentTransformNode() is None, "where it was scanned, not where it was moved from"


def test_not_offered_for_a_rejected_result(head: SimpleNamespace, outcome: Any) -> None:
    confidence = Confidence(0.1, 9.0, "rejected", ("They cross.",), {})
    nodes = addResult(replace(outcome, registration=replace(outcome.registration, confidence=confidence)))
    choose(head.ui.resultSelector, nodes.ctaToCarm)
    assert not head.ui.placeCtaButton.enabled
    head.ui.showRejectedCheckBox.click()
    assert not head.ui.placeCtaButton.enabled
    choose(head.ui.resultSelector, head.nodes.ctaToCarm)
    assert head.ui.placeCtaButton.enabled
    head.p.cta = None
    assert not head.ui.placeCtaButton.enabled, "there is nothing to move"
