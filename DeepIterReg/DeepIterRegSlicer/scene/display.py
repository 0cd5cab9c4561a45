"""How images look in slice views, whoever shows them: window, hue, transparency, and where the view looks. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from DeepIterRegSlicer.nodes import helpers

Node = Any  # a vtkMRMLNode
_FULL_MM = "DeepIterReg.FullMm"  # on a projection: length of vessel that is shown at full brightness 1
_DIM = 0.55  # of a hue's full strength: no vessel is black on a dark one


def windowed(node: Node, low: float, high: float) -> Node:
    """A volume's display node with a window of ours. The usual one first looks for a window of its own, 6 ms at 1024 x 1024."""
    display = node.GetDisplayNode()
    if display is None:
        display = node.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        # A display without its volume would stay behind in a saved scene.
        display.SetSaveWithScene(node.GetSaveWithScene())
        display.AutoWindowLevelOff()
        display.SetDefaultColorMap()
        node.SetAndObserveDisplayNodeID(display.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, high)
    return display


def showFrom(display: Node, lowest: float) -> None:
    """Transparent below `lowest`: alpha is all or nothing in a slice view."""
    display.SetAutoThreshold(0)
    display.SetThreshold(lowest, 1e9)
    display.ApplyThresholdOn()


def showVessels(node: Node, image: np.ndarray) -> Node:
    """Display node of a projection (row, column), mm: bright from its thick vessels on, transparent where there is none."""
    seen = image[image > 0]
    full = max(float(np.percentile(seen, 98)), 1e-3) if seen.size else 1.0
    node.SetAttribute(_FULL_MM, f"{full:.6g}")
    display = windowed(node, 0.0, full)
    showFrom(display, 0.03 * full)
    return display


def isProjection(node: Node) -> bool:
    """Whether `showVessels` was told of this volume."""
    return node.GetAttribute(_FULL_MM) is not None


def brighten(node: Node, brightness: float, projection: Node = None) -> None:
    """1: a projection as `showVessels` shows it; more makes thin vessels brighter.

    :param projection: whose window it is, if another's.
    """
    full = float((projection or node).GetAttribute(_FULL_MM))
    node.GetDisplayNode().SetWindowLevelMinMax(0.0, full / max(brightness, 0.01))


def fillHue(table: Node, colour: np.ndarray) -> None:
    """One hue (red, green, blue, 0..1), from dim to full: thin vessels stay visible beside thick ones."""
    fillColours(table, _DIM * colour, colour)


def fillColours(table: Node, first: np.ndarray, last: np.ndarray) -> None:
    """A table of 256 colours from the first to the last (red, green, blue, 0..1), fast at first."""
    with slicer.util.NodeModify(table):  # or a view that shows it would follow every colour
        table.SetTypeToUser()
        table.SetNumberOfColors(256)
        for n in range(256):
            table.SetColor(n, str(n), *(first + (n / 255) ** 0.5 * (last - first)), 1.0)


def hiddenNode(className: str, attribute: str, value: str, name: str) -> Node:
    """The node of this kind with an attribute, made at first use; for looking only: not listed and not saved."""
    found = slicer.mrmlScene.GetNodesByClass(className)
    for n in range(found.GetNumberOfItems()):
        if found.GetItemAsObject(n).GetAttribute(attribute) == value:
            return found.GetItemAsObject(n)
    node = getattr(slicer, className)()
    node.SetName(name)
    node.SetAttribute(attribute, value)
    helpers.mark(node, attribute)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)


def lookAt(sliceNode: Node, affine: np.ndarray, columns: int, rows: int) -> None:
    """Columns to the right, rows downwards, the whole image in view.

    Parameters
    ----------
    sliceNode
    affine
        Pixel (column, row, 0, 1) to RAS mm (4, 4).
    columns, rows
    """
    column_mm, row_mm = np.linalg.norm(affine[:3, :2], axis=0)
    across, up = affine[:3, 0] / column_mm, -affine[:3, 1] / row_mm
    middle = (affine @ [(columns - 1) / 2, (rows - 1) / 2, 0, 1])[:3]
    sliceNode.SetXYZOrigin(0.0, 0.0, sliceNode.GetXYZOrigin()[2])
    sliceNode.SetSliceToRASByNTP(*np.cross(across, up), *across, *middle, 0)
    wide, high, _ = sliceNode.GetDimensions()
    scale = max(columns * column_mm / max(wide, 1), rows * row_mm / max(high, 1))
    sliceNode.SetFieldOfView(wide * scale, high * scale, sliceNode.GetFieldOfView()[2])
    sliceNode.SetSliceOffset(sliceNode.GetSliceOffset())
