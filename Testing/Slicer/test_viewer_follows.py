"""The viewer follows a head that moves within the run, on real MRML."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import panels
import scenes
import standin
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.session import Together
from DeepIterRegLib.results.report.images import as_shown, vessel_projection
from panels import addResult

standin.install()


@pytest.fixture
def moving() -> Any:
    """A registration of the helix, whose head moves after three of six frames."""
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    outcome = scenes.helixOutcome()
    found = outcome.registration
    there = pose.translation(np.array([6.0, 0.0, -4.0])) @ found.cta_to_carm
    undone = np.zeros((2, 2, 6))
    undone[1, 0, 0] = 2.0
    poses = np.stack([found.cta_to_carm, there])
    motion = FrameMotion(np.arange(6) // 3, poses, undone, np.zeros((2, 2)), 4.2)
    view = replace(found.views[0], frames=motion)
    return prepareToShow(replace(outcome, registration=replace(found, views=(view,))))


def pixels(nodes: Any) -> np.ndarray:
    return np.array(panels.pixels(nodes.projection)).squeeze()


def test_the_vessels_follow_the_head_in_each_frame(shown: SimpleNamespace, moving: Any) -> None:
    ui, p = shown.ui, shown.p
    assert ui.motionLabel.isHidden(), "of the helix that lies still nothing is known"
    assert ui.followCheckBox.isHidden()
    nodes = addResult(moving)
    ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    assert ui.motionLabel.text == "The head moved by up to 4.2 mm within the run."
    assert not ui.followCheckBox.isHidden()
    assert ui.followCheckBox.checked
    assert not ui.followCheckBox.enabled, "the MinIP is of all frames"
    at_pose = pixels(nodes)
    p.minip, p.frame = False, 2.0
    assert ui.followCheckBox.enabled
    np.testing.assert_allclose(pixels(nodes), at_pose, atol=1e-4)
    p.frame = 5.0
    motion = moving.registration.views[0].frames
    seen = vessel_projection(moving.vessels, moving.registration.carm, motion.cta_to_carm[1])
    np.testing.assert_allclose(pixels(nodes), as_shown(seen, motion.undone[1]), atol=1e-4)
    assert np.abs(pixels(nodes) - at_pose).max() > 1
    ui.followCheckBox.click()
    np.testing.assert_allclose(pixels(nodes), at_pose, atol=1e-4)
    ui.followCheckBox.click()
    assert np.abs(pixels(nodes) - at_pose).max() > 1
    p.minip = True
    np.testing.assert_allclose(pixels(nodes), at_pose, atol=1e-4)


def test_who_leaves_the_panel_leaves_the_vessels_at_the_pose(shown: SimpleNamespace, moving: Any) -> None:
    nodes = addResult(moving)
    shown.ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    at_pose = pixels(nodes)
    shown.p.minip, shown.p.frame = False, 6.0
    assert np.abs(pixels(nodes) - at_pose).max() > 1
    shown.representation.exit()
    np.testing.assert_allclose(pixels(nodes), at_pose, atol=1e-4)
    shown.representation.enter()
    assert np.abs(pixels(nodes) - at_pose).max() > 1


def test_a_better_pose_takes_its_frames_along(shown: SimpleNamespace, moving: Any) -> None:
    """Other runs put the head elsewhere while a frame is looked at: the frame's vessels are those of that place."""
    from DeepIterRegSlicer.scene import results, session

    nodes = addResult(moving)
    shown.ui.resultSelector.setCurrentNode(nodes.ctaToCarm)
    shown.p.minip, shown.p.frame = False, 5.0
    found = moving.registration
    there = pose.translation(np.array([9.0, 0.0, 5.0])) @ found.cta_to_carm
    better = Together(there, found.carm, 1.0, 9.0, 0.0)
    session.improve(nodes.ctaToCarm, better, vessel_projection(moving.vessels, found.carm, there))
    shown.widget._onRunMoved(nodes.ctaToCarm)
    motion = results.registrationOf(nodes).views[0].frames
    assert motion is not None
    np.testing.assert_allclose(motion.cta_to_carm[0], there, atol=1e-9)
    seen = vessel_projection(moving.vessels, found.carm, motion.cta_to_carm[1])
    np.testing.assert_allclose(pixels(nodes), as_shown(seen, motion.undone[1]), atol=1e-4)
