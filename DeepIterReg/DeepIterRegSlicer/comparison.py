"""Run and CTA compared: tiles of one in the other, and two registrations beside each other. No Qt.

What is made here is for looking only: it is not saved with the scene.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from DeepIterRegSlicer import results
from DeepIterRegSlicer.mrml import imageOf, voxelsOf
from DeepIterRegSlicer.parameters import LEFT, RIGHT

Node = Any  # a vtkMRMLNode
BOARD = "DeepIterReg.Checkerboard"  # on what is made here: the view it is for
GREY, DARK = 0.62, (0.05, 0.05, 0.05)  # background of the CTA's tiles, about as the run's; vessels without colour


def sliceNodes(view: str = LEFT) -> tuple[Node, Node]:
    """Slice and composite node of a slice view; (None, None) where there are no views."""
    scene = slicer.mrmlScene
    return scene.GetSingletonNode(view, "vtkMRMLSliceNode"), scene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")


def showCheckerboard(
    nodes: results.RegistrationNodes,
    view: str,
    tileMm: float,
    colour: tuple[float, float, float],
    brightness: float,
) -> Node:
    """A volume for a view's foreground: every other tile shows the CTA's vessels on grey, the rest nothing.

    :param tileMm: side of a tile on the detector.
    """
    board = _kept("vtkMRMLScalarVolumeNode", "checkerboard", view)
    table = _kept("vtkMRMLColorTableNode", "checkerboard colours", view)
    projection = voxelsOf(nodes.projection.GetImageData())
    image = np.where(_tiles(nodes.projection, tileMm), projection, np.float32(-1))
    held = board.GetImageData()
    if held is not None and held.GetDimensions() == nodes.projection.GetImageData().GetDimensions():
        np.copyto(voxelsOf(held), image)
        held.GetPointData().GetScalars().Modified()
        held.Modified()
    else:
        board.SetAndObserveImageData(imageOf(image))
    board.CopyOrientation(nodes.projection)
    _fillColours(table, colour)
    display = board.GetDisplayNode()
    if display is None:
        display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        display.SetSaveWithScene(False)
        display.SetDefaultColorMap()
        board.SetAndObserveDisplayNodeID(display.GetID())
    display.SetAndObserveColorNodeID(table.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, results.fullMm(nodes) / max(brightness, 0.01))
    display.SetAutoThreshold(0)
    display.SetThreshold(-0.5, 1e9)
    display.ApplyThresholdOn()
    return board


def _tiles(volume: Node, tileMm: float) -> np.ndarray:
    """Which pixels (1, row, column) of an image are in the CTA's tiles; the first tile is the run's."""
    columns, rows, _ = volume.GetImageData().GetDimensions()
    column_mm, row_mm, _ = volume.GetSpacing()
    down, right = ((np.arange(n) * mm // tileMm).astype(int) for n, mm in ((rows, row_mm), (columns, column_mm)))
    return ((down[:, None] + right[None]) % 2 == 1)[None]


def _kept(className: str, name: str, view: str) -> Node:
    """The node for a view, hidden and never saved; made at first use."""
    found = slicer.mrmlScene.GetNodesByClass(className)
    for n in range(found.GetNumberOfItems()):
        if found.GetItemAsObject(n).GetAttribute(BOARD) == view:
            return found.GetItemAsObject(n)
    node = getattr(slicer, className)()
    node.SetName(f"DeepIterReg {name} {view}")
    node.SetAttribute(BOARD, view)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)


def _fillColours(table: Node, colour: tuple[float, float, float]) -> None:
    """From the background's grey to a vessel's colour."""
    with slicer.util.NodeModify(table):
        table.SetTypeToUser()
        table.SetNumberOfColors(256)
        for n in range(256):
            strength = (n / 255) ** 0.5
            table.SetColor(n, str(n), *(GREY + strength * (c - GREY) for c in colour), 1.0)


# -- side by side -------------------------------------------------------------------------------------------


def splitViews() -> int | None:
    """Slicer's layout of two slice views beside each other, linked; returns the layout before, or None where there are no views."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return None
    before = int(manager.layout)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    link(True)
    return before


def joinViews(before: int | None) -> None:
    """Back to the layout before."""
    link(False)
    manager = slicer.app.layoutManager()
    if manager is not None and before is not None:
        manager.setLayout(before)


def link(linked: bool) -> None:
    """Pan and zoom of one of the two views also in the other."""
    for view in (LEFT, RIGHT):
        _sliceNode, composite = sliceNodes(view)
        if composite is not None:
            composite.SetLinkedControl(linked)
            composite.SetHotLinkedControl(linked)
