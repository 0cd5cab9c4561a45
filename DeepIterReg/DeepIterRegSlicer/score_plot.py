"""Scores while a registration runs, drawn into a label: light enough for every timer tick."""

from __future__ import annotations

import itertools
from typing import Any

import qt
from slicer.i18n import tr as _

HEIGHT_PX = 130
LEFT_PX, BOTTOM_PX, TOP_PX, RIGHT_PX = 38, 20, 8, 8
MOST = 400  # points of a stage; beyond, every other one goes
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


# Where each step ends on the bar; seconds of the demo, roughly. Steps of the paper preset take the part of "MinIP".
_STEPS = {
    "Read poses": (0.0, 0.01),
    "Read DSA": (0.01, 0.04),
    "Read CTA": (0.04, 0.06),
    "Segment CTA": (0.06, 0.3),
    "Segment veins": (0.3, 0.5),
    "Segment DSA": (0.3, 0.4),
    "Search": (0.4, 0.85),
    "Vessels": (0.4, 0.85),
    "Project": (0.95, 1.0),
}


def overallProgress(step: str, done: float) -> float:
    """Fraction of a whole registration, 0..1, from that of one step."""
    low, high = _STEPS.get(step, (0.85, 0.95))
    return low + (high - low) * done


class ScorePlot:
    """A curve for each stage, one behind the other; scores of different stages cannot be compared, so each has a colour and a name."""

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
        width = max(int(self._label.parent().width) - 24, 240)
        pixmap = qt.QPixmap(width, HEIGHT_PX)
        pixmap.fill(qt.QColor("white"))
        painter = qt.QPainter()
        painter.begin(pixmap)
        painter.setRenderHint(qt.QPainter.Antialiasing, True)
        self._drawAxes(painter, width)
        self._drawCurves(painter, width)
        painter.end()
        self._label.setPixmap(pixmap)

    def _range(self) -> tuple[float, float]:
        values = [score for scores in self._stages.values() for score in scores]
        low, high = min(values), max(values)
        margin = max(0.1 * (high - low), 0.02)
        return low - margin, high + margin

    def _drawAxes(self, painter: Any, width: int) -> None:
        low, high = self._range()
        bottom = HEIGHT_PX - BOTTOM_PX
        painter.setPen(qt.QColor("#888888"))
        painter.drawLine(LEFT_PX, TOP_PX, LEFT_PX, bottom)
        painter.drawLine(LEFT_PX, bottom, width - RIGHT_PX, bottom)
        for part in (0.0, 0.5, 1.0):
            y = round(bottom - part * (bottom - TOP_PX))
            painter.setPen(qt.QColor("#e6e6e6"))
            painter.drawLine(LEFT_PX + 1, y, width - RIGHT_PX, y)
            painter.setPen(qt.QColor("#555555"))
            painter.drawText(4, min(max(y + 4, 12), bottom), f"{low + part * (high - low):.2f}")

    def _drawCurves(self, painter: Any, width: int) -> None:
        low, high = self._range()
        bottom, count = HEIGHT_PX - BOTTOM_PX, sum(len(scores) for scores in self._stages.values())
        step, first, nameX = (width - LEFT_PX - RIGHT_PX - 8) / max(count, 2), 0, LEFT_PX
        for n, (name, scores) in enumerate(self._stages.items()):
            colour = qt.QColor(COLOURS[n % len(COLOURS)])
            pen = qt.QPen(colour)
            pen.setWidthF(1.8)
            painter.setPen(pen)
            points = [
                (round(LEFT_PX + 8 + step * (first + m)), round(bottom - (s - low) / (high - low) * (bottom - TOP_PX)))
                for m, s in enumerate(scores)
            ]
            for (x0, y0), (x1, y1) in itertools.pairwise(points):
                painter.drawLine(x0, y0, x1, y1)
            if count <= 60:
                painter.setBrush(qt.QBrush(colour))
                for x, y in points:
                    painter.drawEllipse(x - 2, y - 2, 4, 4)
                painter.setBrush(qt.QBrush())
            painter.drawText(nameX, HEIGHT_PX - 6, _("{stage}: {score:.3f}").format(stage=name, score=scores[-1]))
            nameX += painter.fontMetrics().horizontalAdvance(name) + 60
            first += len(scores)
