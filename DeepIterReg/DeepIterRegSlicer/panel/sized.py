"""Slice views and sections that get their size after the layout was changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import qt
import slicer

_AGAIN_MS, _TIMES = 50, 10


def whenSized(views: Sequence[str], fit: Callable[[], None]) -> None:
    """Fit at the next turn of the event loop, and once more whenever a view's size has changed, for half a second.

    :param views: names of slice views.
    :param fit: may be called when the scene is another or the panel is gone; it looks for itself.
    """

    def look(before: object, left: int) -> None:
        now = _sizes(views)
        if now != before:
            fit()
        if left:
            qt.QTimer.singleShot(_AGAIN_MS, lambda: look(now, left - 1))

    qt.QTimer.singleShot(0, lambda: look(None, _TIMES))


def wholeWhenOpened(section: Any) -> None:
    """Whenever a section is opened, its sentences are whole (`layOutAgain`)."""
    section.connect("contentsCollapsed(bool)", lambda collapsed: layOutAgain(section))


def layOutAgain(section: Any) -> None:
    """Lay a section out once more, a moment after a sentence in it has changed.

    At first Qt's form layout gives a sentence the height that it has at another width, and its last lines are cut off.

    :param section: a collapsible button.
    """

    def again() -> None:
        with suppress(ValueError, RuntimeError):  # the panel is gone
            if not section.collapsed:
                section.layout().invalidate()

    if not section.collapsed:
        qt.QTimer.singleShot(_AGAIN_MS, again)


def _sizes(views: Sequence[str]) -> list[object]:
    nodes = [slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode") for view in views]
    return [None if node is None else tuple(node.GetDimensions()) for node in nodes]
