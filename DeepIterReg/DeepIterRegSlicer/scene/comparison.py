"""Run and CTA compared: tiles of one in the other, and two registrations beside each other. No Qt.

What is made here is for looking only: it is not saved with the scene.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from DeepIterRegSlicer.nodes.volumes import imageOf, voxelsOf
from DeepIterRegSlicer.parameters import LEFT, RIGHT
from DeepIterRegSlicer.scene import results
from DeepIterRegSlicer.scene.display import brighten, fillColours, hiddenNode, showFrom, windowed

Node = Any  # a vtkMRMLNode
BOARD = "DeepIterReg.Checkerboard"  # on what is made here: the view it is for
SIDE_BY_SIDE = slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
GREY, DARK = 0.62, (0.05, 0.05, 0.05)  # background of the CTA's tiles, about as the run's; vessels without colour


def sliceNodes(view: str = LEFT) -> tuple[Node, Node]:
    """Slice and composite node of a slice view; (None, None) where there are no views."""
    scene = slicer.mrmlScene
    return scene.GetSingletonNode(view, "vtkMRMLSliceNode"), scene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")


def threeDRenderer() -> Any:
    """What draws the first 3D view; None where there is none."""
    manager = slicer.app.layoutManager()
    widget = manager.threeDWidget(0) if manager is not None and manager.threeDViewCount else None
    return None if widget is None else widget.threeDView().renderWindow().GetRenderers().GetFirstRenderer()


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
    board = hiddenNode("vtkMRMLScalarVolumeNode", BOARD, view, f"DeepIterReg checkerboard {view}")
    table = hiddenNode("vtkMRMLColorTableNode", BOARD, view, f"DeepIterReg checkerboard colours {view}")
    projection = voxelsOf(nodes.projection.GetImageData())
    # -1 for the tiles of the run: below what is shown, so that the run behind is seen.
    image = np.where(_tiles(nodes.projection, tileMm), projection, np.float32(-1))
    held = board.GetImageData()
    if held is not None and held.GetDimensions() == nodes.projection.GetImageData().GetDimensions():
        np.copyto(voxelsOf(held), image)
        held.GetPointData().GetScalars().Modified()
        held.Modified()
    else:
        board.SetAndObserveImageData(imageOf(image))
    board.CopyOrientation(nodes.projection)
    fillColours(table, np.full(3, GREY), np.array(colour))  # from the background to a vessel
    display = board.GetDisplayNode() or windowed(board, 0.0, 1.0)
    display.SetAndObserveColorNodeID(table.GetID())
    brighten(board, brightness, nodes.projection)
    showFrom(display, -0.5)
    return board


def _tiles(volume: Node, tileMm: float) -> np.ndarray:
    """Which pixels (1, row, column) of an image are in the CTA's tiles; the first tile is the run's."""
    columns, rows, _ = volume.GetImageData().GetDimensions()
    column_mm, row_mm, _ = volume.GetSpacing()
    down, right = ((np.arange(n) * mm // tileMm).astype(int) for n, mm in ((rows, row_mm), (columns, column_mm)))
    return ((down[:, None] + right[None]) % 2 == 1)[None]


# -- side by side -------------------------------------------------------------------------------------------


def splitViews() -> int | None:
    """Slicer's layout of two slice views beside each other, linked; returns the layout before, or None where there are no views."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return None
    before = int(manager.layout)
    manager.setLayout(SIDE_BY_SIDE)
    link(True)
    return before


def joinViews(before: int | None) -> None:
    """Back to the layout before, unless somebody has chosen another since."""
    link(False)
    manager = slicer.app.layoutManager()
    if manager is not None and before is not None and int(manager.layout) == SIDE_BY_SIDE:
        manager.setLayout(before)


def link(linked: bool) -> None:
    """Pan and zoom of one of the two views also in the other."""
    for view in (LEFT, RIGHT):
        _sliceNode, composite = sliceNodes(view)
        if composite is not None:
            composite.SetLinkedControl(linked)
            composite.SetHotLinkedControl(linked)
