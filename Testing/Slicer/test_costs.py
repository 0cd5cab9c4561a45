"""What a movement and a control of the panel cost in a Slicer whose views, lists and trees listen (`standin.charged`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import scenes
import standin
from panels import choose, openManual

standin.install()

UPDATE_MS = 50.0  # twenty movements a second
DISPLAY_MS = 50.0  # of a control of the overlay


@pytest.fixture(params=[1, 2], ids=["one view", "two views"])
def moving(request: pytest.FixtureRequest, views: None, panel: SimpleNamespace) -> SimpleNamespace:
    """A registration of one or two views, the head ready to be moved, and a picked vessel in the scene."""
    from DeepIterRegSlicer.scene import fill
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    made = scenes.helixOutcome(96, 3) if request.param == 1 else scenes.helixOutcomeOfTwo(96, 3)
    panel.nodes = fill.show(prepareToShow(made))
    choose(panel.ui.resultSelector, panel.nodes.ctaToCarm)
    openManual(panel)
    panel.ui.pickCollapsibleButton.collapsed = False
    at = made.registration.carm.pixel_positions(np.array([[48.0, 48.0]]))[0]
    panel.ui.pickPlaceWidget.currentNode().AddControlPoint(*at)
    panel.ui.shiftRightSlider.value = 0.5  # the manual pose is made
    standin.processEvents(0.3)
    return panel


def test_twenty_movements_a_second_with_a_picked_vessel(moving: SimpleNamespace) -> None:
    count = 20
    with standin.charged() as bill:
        pictures = 0.0
        for n in range(count):
            with standin.charged() as one:
                moving.ui.shiftRightSlider.value = 1.0 + 0.2 * n
            pictures += one.ms
    assert pictures / count <= UPDATE_MS, sorted({what for what, _ms in bill.lines})
    assert not [what for what, _ms in bill.lines if "LockModified" in what], "locked once, when they are made"


def test_scores_are_kept_when_the_movement_is_over(moving: SimpleNamespace) -> None:
    from DeepIterRegSlicer.scene import manual, results

    node = results.manualOf(moving.nodes.ctaToCarm)
    before = manual.scoresOf(node)
    moving.ui.turnDownSlider.value = 5.0
    assert manual.scoresOf(node) == before, "to write an attribute takes as long as a picture"
    standin.processEvents(0.4)
    now = manual.scoresOf(node)
    assert now != before
    assert moving.ui.scoreValueLabel.text.split("\n")[0].endswith(f"{now[0]:.3f}")


def test_the_pick_follows_the_pose_once_it_rests(moving: SimpleNamespace) -> None:
    for n in range(10):
        moving.ui.shiftRightSlider.value = 2.0 + n
    standin.processEvents(0.3)
    from DeepIterRegSlicer.scene import roadmap

    placed = roadmap.placedPixel(moving.nodes, moving.ui.pickPlaceWidget.currentNode())
    assert placed is not None
    shown = results_of(moving)
    found = roadmap.nearestOn(shown, placed[1], placed[2], roadmap.vesselPoints(moving.nodes))
    assert moving.ui.pickResultValueLabel.text.startswith(f"{found.distance_mm:.1f} mm from the ray")


def results_of(panel: SimpleNamespace) -> Any:
    from DeepIterRegSlicer.scene import results

    return results.nodesOf(panel.p.result)


def test_every_control_of_the_overlay_is_cheap(shown: SimpleNamespace) -> None:
    import qt

    ui = shown.ui
    steps = {
        "opacity": lambda: setattr(ui.opacitySlider, "value", 0.3),
        "brightness": lambda: setattr(ui.brightnessSlider, "value", 2.0),
        "tint": lambda: ui.tintCheckBox.click(),
        "colour": lambda: setattr(ui.tintColourButton, "color", qt.QColor("#20c040")),
        "MinIP": lambda: setattr(ui.minipFirstSlider, "value", 3.0),
        "frames": lambda: ui.minipCheckBox.click(),
        "frame": lambda: setattr(ui.frameSlider, "value", 4.0),
        "checkerboard": lambda: setattr(ui.comparisonComboBox, "currentIndex", 1),
        "tile": lambda: setattr(ui.tileSlider, "value", 50.0),
    }
    bills = {}
    for name, step in steps.items():
        with standin.charged() as bill:
            step()
            standin.processEvents()
        bills[name] = bill
    dear = {name: (bill.ms, bill.lines) for name, bill in bills.items() if bill.ms > DISPLAY_MS}
    assert not dear, dear
    assert all(bill.ms > 0 for name, bill in bills.items() if name != "colour"), "each is seen"
