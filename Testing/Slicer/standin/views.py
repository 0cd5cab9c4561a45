"""`slicer.app.layoutManager()`: slice views without windows, and one 3D view that draws nothing.

Layout, slice, link and camera logics are MRML's own, the mouse is an interactor of VTK with the handlers that Slicer hangs into it.
A layout is chosen at once, but its views get their size only when the event loop has run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

SIZE_PX = (400, 400, 1)
BESIDE_PX = (600, 800, 1)  # of each view in Slicer's layout side by side
LATER_MS = 30  # until a new layout is drawn
SLICERS = 0.0  # priority of Slicer's own handlers of the mouse


class SliceView:
    """`qMRMLSliceView`, of which modules take the interactor; Slicer's own handlers are in it."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetSize(*SIZE_PX[:2])
        self._interactor.AddObserver("LeftButtonPressEvent", self._onPress, SLICERS)
        self._interactor.AddObserver("MouseMoveEvent", self._onMove, SLICERS)

    def interactor(self) -> Any:
        return self._interactor

    def _position(self) -> tuple[float, ...]:
        column, row = self._interactor.GetEventPosition()
        return tuple(self._node.GetXYToRAS().MultiplyPoint((column, row, 0, 1))[:3])

    def _onPress(self, caller: Any, event: str) -> None:
        """In Place mode a click adds a point to the list that is active."""
        logic = slicer.app.applicationLogic()
        mode, selection = logic.GetInteractionNode(), logic.GetSelectionNode()
        if mode.GetCurrentInteractionMode() != mode.Place:
            return
        points = slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID() or "")
        if points is not None:
            points.AddControlPoint(vtk.vtkVector3d(*self._position()))
        if not mode.GetPlaceModePersistence():
            mode.SetCurrentInteractionMode(mode.ViewTransform)

    def _onMove(self, caller: Any, event: str) -> None:
        """With Shift the crosshair follows the mouse, and the other slices the crosshair."""
        if caller.GetShiftKey():
            crosshair().SetCrosshairRAS(*self._position())
            for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
                if node is not self._node:
                    node.JumpSliceByCentering(*self._position())


def crosshair() -> Any:
    """Slicer's one crosshair."""
    node = slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode")
    if node is None:
        node = slicer.vtkMRMLCrosshairNode()
        node.SetSingletonTag("default")
        node = slicer.mrmlScene.AddNode(node)
    return node


class SliceWidget:
    """`qMRMLSliceWidget`."""

    def __init__(self, node: Any) -> None:
        node.SetDimensions(*SIZE_PX)
        self._node, self._view = node, SliceView(node)
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSliceNode(node)  # makes the composite node

    def mrmlSliceNode(self) -> Any:
        return self._node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceLogic(self) -> Any:
        return self._logic

    def sliceView(self) -> SliceView:
        return self._view


class ThreeDView:
    """`qMRMLThreeDView`: a render window that is never drawn."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._window: Any = None

    def mrmlViewNode(self) -> Any:
        return self._node

    def renderWindow(self) -> Any:
        if self._window is None:  # a window takes long to make, and few ask for it
            self._window = vtk.vtkRenderWindow()
            self._window.SetOffScreenRendering(1)
            self._window.AddRenderer(vtk.vtkRenderer())
        return self._window


class ThreeDWidget:
    """`qMRMLThreeDWidget`."""

    def __init__(self, node: Any) -> None:
        self._view = ThreeDView(node)

    def threeDView(self) -> ThreeDView:
        return self._view


class LayoutManager:
    """`qSlicerLayoutManager` with slice views and a 3D view."""

    def __init__(self, threeD: bool = True) -> None:
        application = slicer.app.applicationLogic()
        self._logic, self._link = slicer.vtkMRMLLayoutLogic(), slicer.vtkMRMLSliceLinkLogic()
        for logic in (self._logic, self._link):
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(slicer.mrmlScene)
        self._choose(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        self._widgets = {node.GetLayoutName(): SliceWidget(node) for node in nodes}
        logics = vtk.vtkCollection()
        for widget in self._widgets.values():
            logics.AddItem(widget.sliceLogic())
        application.SetSliceLogics(logics)
        self.__dict__["_logics"] = logics
        crosshair()
        self._threeD = [ThreeDWidget(node) for node in slicer.util.getNodesByClass("vtkMRMLViewNode")] if threeD else []
        for widget in self._threeD:
            camera = slicer.vtkMRMLCameraNode()
            camera.SetLayoutName(widget.threeDView().mrmlViewNode().GetLayoutName())
            slicer.mrmlScene.AddNode(camera)

    def close(self) -> None:
        """Of the stand-in: the views go before the logics of their scene do."""
        for widget in self._widgets.values():
            for release in ("SetSliceNode", "SetMRMLScene", "SetMRMLApplicationLogic"):
                getattr(widget.sliceLogic(), release)(None)
        for logic in (self._logic, self._link):
            logic.SetMRMLScene(None)
            logic.SetMRMLApplicationLogic(None)

    @property
    def layout(self) -> int:
        return int(self._logic.GetLayoutNode().GetViewArrangement())

    def setLayout(self, layout: int) -> None:
        from PySide6.QtCore import QTimer

        self._choose(layout)
        QTimer.singleShot(LATER_MS, lambda: self._resize(int(layout)))

    def _choose(self, layout: int) -> None:
        self._logic.GetLayoutNode().SetViewArrangement(int(layout))

    def _resize(self, layout: int) -> None:
        """What Qt does when it draws a layout: Slicer keeps the millimetres that a pixel shows."""
        if slicer.app.layoutManager() is not self:
            return
        beside = layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
        for name, widget in self._widgets.items():
            wide, high, _ = BESIDE_PX if beside and name in ("Red", "Yellow") else SIZE_PX
            widget.sliceView().interactor().SetSize(wide, high)
            widget.sliceLogic().ResizeSliceNode(wide, high)

    @property
    def threeDViewCount(self) -> int:
        return len(self._threeD)

    def threeDWidget(self, number: int) -> ThreeDWidget | None:
        return self._threeD[number] if 0 <= number < len(self._threeD) else None

    def resetThreeDViews(self) -> None:
        """Every camera at everything that is visible, however far apart."""
        boxes = []
        for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode"):
            display = node.GetDisplayNode()
            bounds = [0.0] * 6
            if display is not None and display.GetVisibility() and not node.IsA("vtkMRMLVolumeNode"):
                node.GetRASBounds(bounds)
                if bounds[0] <= bounds[1]:
                    boxes.append(bounds)
        if not boxes:
            return
        low, high = np.min(boxes, axis=0)[::2], np.max(boxes, axis=0)[1::2]
        for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
            camera.SetFocalPoint(*((low + high) / 2))
            distance = np.linalg.norm(high - low) / 2 / np.sin(np.radians(camera.GetViewAngle() / 2))
            camera.SetPosition(*((low + high) / 2 + (0, distance, 0)))

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        if not isinstance(name, str):
            raise TypeError("sliceWidget() wants a view's name")
        return self._widgets.get(name)
