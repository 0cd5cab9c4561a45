"""`slicer.app.layoutManager()`: slice views without windows.

Layout, slice and link logics are MRML's own, the mouse is an interactor of VTK.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk

SIZE_PX = (400, 400, 1)


class SliceView:
    """`qMRMLSliceView`, of which modules take the interactor."""

    def __init__(self) -> None:
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetSize(*SIZE_PX[:2])

    def interactor(self) -> Any:
        return self._interactor


class SliceWidget:
    """`qMRMLSliceWidget`."""

    def __init__(self, node: Any) -> None:
        node.SetDimensions(*SIZE_PX)
        self._node, self._view = node, SliceView()
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


class LayoutManager:
    """`qSlicerLayoutManager` with slice views only."""

    def __init__(self) -> None:
        application = slicer.app.applicationLogic()
        self._logic, self._link = slicer.vtkMRMLLayoutLogic(), slicer.vtkMRMLSliceLinkLogic()
        for logic in (self._logic, self._link):
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(slicer.mrmlScene)
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        self._widgets = {node.GetLayoutName(): SliceWidget(node) for node in nodes}
        logics = vtk.vtkCollection()
        for widget in self._widgets.values():
            logics.AddItem(widget.sliceLogic())
        application.SetSliceLogics(logics)
        self.__dict__["_logics"] = logics

    @property
    def layout(self) -> int:
        return int(self._logic.GetLayoutNode().GetViewArrangement())

    def setLayout(self, layout: int) -> None:
        self._logic.GetLayoutNode().SetViewArrangement(int(layout))

    def resetThreeDViews(self) -> None:
        pass  # there are none

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        if not isinstance(name, str):
            raise TypeError("sliceWidget() wants a view's name")
        return self._widgets.get(name)
