"""What Slicer's views, lists and trees cost when nodes tell of changes, in milliseconds as they were measured there.

Nobody listens to the nodes of this process but MRML itself, so that every change looks free. Here it is charged, whatever the
machine: as much as it took in a Slicer on two cores with subject hierarchy, displayable managers and views listening.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import slicer
import vtk

RENDER_MS = 30.0  # of the red view, once a turn of the event loop
LOCK_MS, POINTS_MS, ATTRIBUTE_MS, VOLUME_MS = 9.0, 18.0, 8.0, 5.0
PARAMETER_MS = 2.0  # of a node that no list and no view shows
VIEW_KINDS = ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode", "vtkMRMLDisplayNode", "vtkMRMLVolumeNode")


class Bill:
    """What a person waits for."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, float]] = []
        self._dirty = False

    def charge(self, what: str, ms: float) -> None:
        self.lines.append((what, ms))

    @property
    def ms(self) -> float:
        """All of it, with one picture of the red view if anything in it has changed."""
        return sum(ms for _what, ms in self.lines) + (RENDER_MS if self._dirty else 0.0)

    def draw(self) -> None:
        """The red view has to be drawn again."""
        self._dirty = True


@contextmanager
def charged() -> Iterator[Bill]:
    """The bill of what is done within, for the nodes that are in the scene when it begins."""
    bill, tags = Bill(), []
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    for node in nodes:
        for event, ms in _prices(node):
            tags.append((node, node.AddObserver(event, _charge(bill, node, ms))))
        if node.IsA("vtkMRMLVolumeNode"):
            tags.append((node, node.AddObserver(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, _drawn(bill))))
    try:
        yield bill
    finally:
        for node, tag in tags:
            node.RemoveObserver(tag)


def _prices(node: Any) -> list[tuple[int, float]]:
    modified = vtk.vtkCommand.ModifiedEvent
    if node.IsA("vtkMRMLMarkupsNode"):
        return [(modified, POINTS_MS), (slicer.vtkMRMLMarkupsNode.LockModifiedEvent, LOCK_MS)]
    if any(node.IsA(kind) for kind in VIEW_KINDS):
        return [(modified, VOLUME_MS if node.IsA("vtkMRMLVolumeNode") else 0.0)]
    return [(modified, PARAMETER_MS if node.IsA("vtkMRMLScriptedModuleNode") else ATTRIBUTE_MS)]


def _charge(bill: Bill, node: Any, ms: float) -> Any:
    seen = any(node.IsA(kind) for kind in VIEW_KINDS)

    def onEvent(caller: Any, event: str) -> None:
        bill.charge(f"{node.GetName()}: {event}", ms)
        if seen:
            bill.draw()

    return onEvent


def _drawn(bill: Bill) -> Any:
    return lambda caller, event: bill.draw()
