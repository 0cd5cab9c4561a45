"""The panel where Slicer puts it: in a scroll area of a laptop's height, at usual and at large fonts, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer
from PySide6.QtCore import QObject, QPoint
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QScrollArea

import standin

standin.install()

HEIGHT_PX = 464 - 24  # of Slicer's scroll area on a screen of 1366 x 768, less the header of its help
ESSENTIALS = ("ctaSelector", "dsaSelector", "loadXaButton", "resultSelector", "overlayButton", "confidenceValueLabel")
ESSENTIALS += ("opacitySlider", "frameSlider", "minipCheckBox")
CALM_ROUNDS = 5  # of the event loop, in which nothing is moved
ALWAYS = ("applyButton", "progressBar", "noticeLabel")
SECTIONS = (
    "inputs",
    "carm",
    "segmentation",
    "init",
    "refinement",
    "display",
    "results",
    "compare",
    "roadmap",
    "pick",
    "manual",
    "follow",
)


@pytest.fixture(params=[1.0, 1.5], ids=["100 %", "150 %"])
def font(request: pytest.FixtureRequest) -> Iterator[float]:
    """Size of the fonts."""
    app = QApplication.instance()
    before = QApplication.font()
    larger = QApplication.font()
    larger.setPointSizeF(before.pointSizeF() * request.param)
    QApplication.setFont(larger)
    assert app is not None
    yield request.param
    QApplication.setFont(before)


class InSlicer:
    """Slicer's module panel: a scroll area that gives the module its width and never scrolls sideways."""

    def __init__(self, panel: SimpleNamespace, wide: int, high: int = HEIGHT_PX) -> None:
        self.panel, self.area = panel, QScrollArea()
        self.area.setWidgetResizable(True)
        self.area.setWidget(panel.representation)
        self.area.resize(wide, high)
        self.area.show()
        self.settle()

    def settle(self) -> None:
        """Until nothing is moved any more: sections unfold, and areas take their sizes, one event after another."""
        calm, before = 0, None
        while calm < CALM_ROUNDS:
            standin.processEvents(0.01)
            now = [self.bottomOf(name) for name in (*ALWAYS, "scrollArea")]
            calm, before = (calm + 1 if now == before else 0), now

    def leastWidth(self) -> int:
        """That the panel asks for, with what stands in it now."""
        standin.processEvents(0.01)
        inner = self.panel.ui.panelContents.minimumSizeHint().width()
        margins = self.panel.representation.layout().contentsMargins
        return int(
            max(inner, self.panel.ui.barWidget.minimumSizeHint().width()) + margins.left() + margins.right() + 16
        )

    def bottomOf(self, name: str) -> int:
        widget = getattr(self.panel.ui, name)
        return int(widget.mapTo(self.panel.representation, QPoint(0, 0)).y() + widget.height)

    def isSeen(self, name: str) -> bool:
        """Whole, without scrolling."""
        return not getattr(self.panel.ui, name).isHidden() and self.bottomOf(name) <= self.area.viewport().height

    def close(self) -> None:
        """The module goes back to whoever made it."""
        self.panel.representation.setParent(None)
        self.area.close()


def limit(font: float) -> int:
    """Width of the panel, px, at most."""
    return 420 if font == 1.0 else 600


@pytest.fixture
def inSlicer(shown: SimpleNamespace, font: float) -> Iterator[InSlicer]:
    held = InSlicer(shown, limit(font))
    yield held
    held.close()


@pytest.fixture
def laptop(shown: SimpleNamespace) -> Iterator[InSlicer]:
    """At usual fonts."""
    held = InSlicer(shown, 420)
    yield held
    held.close()


def test_the_essentials_are_seen_without_scrolling(inSlicer: InSlicer, font: float) -> None:
    ui = inSlicer.panel.ui
    bar = inSlicer.bottomOf("barWidget") - ui.barWidget.height
    for name in ESSENTIALS if font == 1.0 else ESSENTIALS[:5]:
        assert inSlicer.bottomOf(name) <= bar, name
    assert inSlicer.isSeen("applyButton")
    assert inSlicer.isSeen("noticeLabel")


def test_apply_and_its_state_stay_in_sight_whatever_is_open(inSlicer: InSlicer) -> None:
    ui = inSlicer.panel.ui
    before = inSlicer.bottomOf("applyButton")
    for name in SECTIONS:
        getattr(ui, name + "CollapsibleButton").collapsed = False
    ui.progressBar.visible = True
    ui.messageLabel.parent()
    inSlicer.panel.widget._bar.say(
        [f"Sentence {n}, which is long enough to need more than one line." for n in range(12)]
    )
    inSlicer.settle()
    for name in ALWAYS:
        assert inSlicer.isSeen(name), name
    assert inSlicer.bottomOf("applyButton") == pytest.approx(before, abs=1)
    assert ui.messageArea.height <= 100, "what is long is scrolled"
    assert ui.scrollArea.height > 120, "the panel is not pushed away"
    ui.scrollArea.verticalScrollBar().value = 10000
    inSlicer.settle()
    assert all(inSlicer.isSeen(name) for name in ALWAYS)


def test_the_width_never_grows_by_itself(inSlicer: InSlicer, font: float) -> None:
    ui = inSlicer.panel.ui
    for name in SECTIONS:
        getattr(ui, name + "CollapsibleButton").collapsed = False
    for box in (
        "ctaLandmarksBox",
        "dsaLandmarksBox",
        "geometryOfComboBox",
        "landmarksTable",
        "progressBar",
        "followTable",
        "followNewestButton",
    ):
        getattr(ui, box).visible = True
    empty = inSlicer.leastWidth()
    assert empty <= limit(font)
    for name in ("sid", "sod", "primaryAngle", "pixelSpacing"):
        getattr(ui, name + "SourceLabel").text = "typed; the file says 1111"
    long = "DistanceSourceToDetector (0018,1110) is missing: type it here, or choose another run of the same head. " * 3
    for name in (
        "carmMessageLabel",
        "reasonsLabel",
        "warningsLabel",
        "confidenceValueLabel",
        "pickResultValueLabel",
        "followStatusLabel",
    ):
        getattr(ui, name).text = long
        getattr(ui, name).visible = True
    ui.scoreValueLabel.text = ui.mpeValueLabel.text = ui.manualScoreValueLabel.text = (
        "DSA 1 (lateral): 0.123\nDSA 2 (AP): 0.456"
    )
    ui.progressBar.format = "Vessels and skull: %p%"
    plot = inSlicer.panel.widget._results.plot
    plot.setCurves({"Search": [0.1, 0.2, 0.3], "Vessels and skull": [0.2, 0.4], "MinIP, coarse": [0.2]})
    plot.draw()
    assert inSlicer.leastWidth() <= limit(font)


def test_the_plot_shrinks_with_the_panel(laptop: InSlicer) -> None:
    panel = laptop.panel
    plot, label = panel.widget._results.plot, panel.ui.scorePlotLabel
    for wide in (900, 420):
        laptop.area.resize(wide, HEIGHT_PX)
        laptop.settle()
        plot.setCurves({"Search": [0.1, 0.2]})
        plot.draw()
        assert wide - 60 < label.pixmap.width() <= wide


def test_the_panel_is_at_its_top_after_the_scene_was_closed(laptop: InSlicer) -> None:
    shown = laptop.panel
    for name in SECTIONS:
        getattr(shown.ui, name + "CollapsibleButton").collapsed = False
    laptop.settle()
    shown.ui.scrollArea.verticalScrollBar().value = 700
    assert shown.ui.scrollArea.verticalScrollBar().value == 700
    slicer.mrmlScene.Clear(0)
    assert shown.ui.scrollArea.verticalScrollBar().value == 0


def test_what_is_missing_of_the_geometry_unfolds_it(panel: SimpleNamespace) -> None:
    import numpy as np

    import scenes

    assert panel.ui.carmCollapsibleButton.collapsed
    panel.p.dsa = scenes.addVolume(np.full((1, 64, 64), 100, np.uint16), name="picture")
    assert not panel.ui.carmCollapsibleButton.collapsed


def test_the_plot_has_the_colours_of_the_style(shown: SimpleNamespace) -> None:
    plot, label = shown.widget._results.plot, shown.ui.scorePlotLabel

    def drawn() -> tuple[Any, set[str]]:
        plot.setCurves({"Search": [0.1, 0.2]})
        plot.draw()
        image = label.pixmap.toImage()
        inked = {image.pixelColor(x, y).name() for y in range(image.height()) for x in range(image.width())}
        return image.pixelColor(1, 1), inked

    ground, inked = drawn()
    assert ground.lightness() > 200
    assert "#1f77b4" in inked
    dark = QPalette()
    dark.setColor(QPalette.ColorRole.Base, QColor("#202020"))
    dark.setColor(QPalette.ColorRole.Text, QColor("#f0f0f0"))
    label.setPalette(dark)
    ground, inked = drawn()
    assert ground.lightness() < 50
    assert "#1f77b4" not in inked, "too dark to be seen on it"
    assert isinstance(label, QObject)


@pytest.mark.parametrize(
    ("section", "label"),
    [
        ("carm", "carmMessageLabel"),
        ("results", "warningsLabel"),
        ("pick", "pickResultValueLabel"),
        ("roadmap", "roadmapMessageLabel"),
        ("follow", "followStatusLabel"),
    ],
)
def test_sentences_of_a_section_are_whole(inSlicer: InSlicer, section: str, label: str) -> None:
    from DeepIterRegSlicer.panel.sized import layOutAgain

    ui = inSlicer.panel.ui
    told, button = getattr(ui, label), getattr(ui, section + "CollapsibleButton")
    sentence = "One sentence that takes more than a line in a panel of this width. "

    def isWhole() -> bool:
        standin.processEvents(0.1)
        inSlicer.settle()
        return bool(told.height >= told.heightForWidth(told.width))

    button.collapsed = True
    inSlicer.settle()
    button.collapsed = False
    told.text, told.visible = 7 * sentence, True
    assert isWhole(), "when the section is opened"
    told.text = 12 * sentence
    layOutAgain(button)  # as the forms do
    assert isWhole(), "when it changes"
    button.collapsed = True
    inSlicer.settle()
    button.collapsed = False
    assert isWhole(), "when the section is opened again"


def test_what_is_picked_is_said_whole(inSlicer: InSlicer) -> None:
    """The words change while the section is open."""
    ui = inSlicer.panel.ui
    ui.pickCollapsibleButton.collapsed = False
    standin.processEvents(0.1)
    ui.pickPlaceWidget.currentNode().AddControlPoint(0.0, 0.0, 0.0)
    standin.processEvents(0.2)
    inSlicer.settle()
    told = ui.pickResultValueLabel
    assert "does not lie" in told.text
    assert told.height >= told.heightForWidth(told.width)
