"""Scores while a registration runs, drawn into a label: light enough for every timer tick."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

HEIGHT_PX, BOTTOM_PX, MARGIN_PX = 124, 34, 8
LINE_PX, CHARACTER_PX = 14, 7  # of the names below
MOST = 400  # points of a stage; beyond, every other one goes
LEAST_PX = 200  # of the picture; it shrinks with the panel
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
DARK_COLOURS = ("#6cb6ff", "#ff8f8f", "#6fd36f", "#c9a6f5")  # on a dark ground


class ScorePlot:
    """Dots for each stage, one stage behind the other; scores of different stages cannot be compared, so each has a colour and a name."""

    def __init__(self, label: Any) -> None:
        self._label = label
        self._stages: dict[str, list[float]] = {}
        self._new = False

    def clear(self) -> None:
        self._stages, self._new = {}, False
        self._label.visible = False

    def add(self, stage: str, score: float) -> None:
        """One more score of a stage, which may be new."""
        scores = self._stages.setdefault(stage, [])
        scores.append(score)
        if len(scores) > MOST:
            # The first and the last stay: where the stage began, and where it is.
            del scores[1:-1:2]
        self._new = True

    def setCurves(self, stages: dict[str, list[float]]) -> None:
        """All scores of all stages."""
        self._stages = {name: list(scores) for name, scores in stages.items() if scores}
        self._new = True

    def draw(self) -> None:
        """Show what was added since the last time."""
        if not self._new:
            return
        self._new = False
        self._label.visible = bool(self._stages)
        if not self._stages:
            return
        # Of the parent, as the label is as wide as the picture that it holds and would never become narrower.
        width = max(int(self._label.parent().width) - 2, LEAST_PX)
        pixmap = qt.QPixmap(width, HEIGHT_PX)
        palette = self._label.palette
        pixmap.fill(palette.color(qt.QPalette.Base))
        painter = qt.QPainter()
        painter.begin(pixmap)
        painter.setRenderHint(qt.QPainter.Antialiasing, True)
        self._drawStages(painter, width)
        painter.end()
        self._label.setPixmap(pixmap)

    def _drawStages(self, painter: Any, width: int) -> None:
        """Beside each other, each from 0 to its own highest score."""
        palette = self._label.palette
        ink, base = palette.color(qt.QPalette.Text), palette.color(qt.QPalette.Base)
        colours = DARK_COLOURS if base.lightness() < 128 else COLOURS
        metrics = self._label.fontMetrics()
        line = max(LINE_PX, int(metrics.height()))
        character = max(CHARACTER_PX, int(metrics.averageCharWidth()))
        bottom = HEIGHT_PX - max(BOTTOM_PX, 2 * line + 4)
        least = max(map(len, self._stages.values())) / 3  # wide enough for its name
        counts = {name: max(len(scores), least) for name, scores in self._stages.items()}
        scale, left = (width - 2 * MARGIN_PX) / sum(counts.values()), float(MARGIN_PX)
        for n, (name, scores) in enumerate(self._stages.items()):
            right = left + scale * counts[name]
            painter.setPen(palette.color(qt.QPalette.Mid))
            painter.drawLine(round(left), MARGIN_PX, round(left), bottom)
            painter.drawLine(round(left), bottom, round(right), bottom)
            _drawScores(painter, scores, (left + 8, right - 8), (bottom - 8, MARGIN_PX + 6), colours[n % len(colours)])
            painter.setPen(ink)
            text = _("{stage} {score:.3f}").format(stage=name, score=scores[-1])
            # In two lines by turns, so that a long name does not run into the next.
            start = max(MARGIN_PX, min(round(left), width - character * len(text)))
            painter.drawText(start, HEIGHT_PX - 6 - line * (n % 2 == 0 and len(counts) > 1), text)
            left = right


def _drawScores(
    painter: Any, scores: list[float], across: tuple[float, float], upwards: tuple[float, float], colour: str
) -> None:
    """Scores from left to right as dots, 0 at the bottom and the highest at the top of a box, px.

    Nothing joins them: levels of different resolution do not compare, and a line from one to the next would say that they do.
    """
    low, high = min(0.0, *scores), max(1e-6, *scores)
    painter.setPen(qt.QColor(colour))
    painter.setBrush(qt.QBrush(qt.QColor(colour)))
    for n, score in enumerate(scores):
        x = across[0] + (n + 0.5) / len(scores) * (across[1] - across[0])
        y = upwards[0] + (score - low) / (high - low) * (upwards[1] - upwards[0])
        painter.drawEllipse(round(x) - 2, round(y) - 2, 4, 4)
    painter.setBrush(qt.QBrush())
