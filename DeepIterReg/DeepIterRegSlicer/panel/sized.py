"""Slice views that get their size after the layout was changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def _sizes(views: Sequence[str]) -> list[object]:
    nodes = [slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode") for view in views]
    return [None if node is None else tuple(node.GetDimensions()) for node in nodes]
