"""A scene that shows its registration as soon as it is opened: layout, views and what the panel keeps. Without views and panel."""

from __future__ import annotations

import slicer

from DeepIterRegSlicer.scene import results, slice_view, view3d
from DeepIterRegSlicer.scene.results import Node, RegistrationNodes

_MODULE = "DeepIterReg"
_VIEW_PX = (400, 400)  # about what a view of four has; another size keeps the millimetres that a pixel shows


def layOut(nodes: RegistrationNodes, cta: Node) -> None:
    """Overlay in the red view (the run alone where the result is rejected), vessels in the 3D view, the result chosen in the panel."""
    scene = slicer.mrmlScene
    sliceNode = _singleton("vtkMRMLSliceNode", "Red", "Red")
    composite = _singleton("vtkMRMLSliceCompositeNode", "Red", "Red")
    sliceNode.SetDimensions(*_VIEW_PX, 1)
    slice_view.showOverlay(nodes, sliceNode, composite)
    rejected = results.isRejected(nodes)
    if rejected:
        composite.SetForegroundVolumeID(None)
    slice_view.setCarmVisible(nodes, False)
    slice_view.setVesselsVisible(nodes, not rejected)
    _singleton("vtkMRMLViewNode", "1", "1")
    camera = slicer.vtkMRMLCameraNode()
    camera.SetLayoutName("1")
    view3d.fit(nodes, scene.AddNode(camera))
    # Without a window nobody has told the node which layouts there are.
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    logic.SetMRMLScene(None)
    _parameters(nodes, cta)


def _parameters(nodes: RegistrationNodes, cta: Node) -> None:
    """What the panel would keep, in its own node; without the panel's classes, which slicer-core does not have."""
    held = _singleton("vtkMRMLScriptedModuleNode", _MODULE)
    held.SetAttribute("ModuleName", _MODULE)
    held.SetNodeReferenceID("result", nodes.ctaToCarm.GetID())
    held.SetNodeReferenceID("cta", cta.GetID())
    held.SetParameter("minipFirst", "1.0")
    held.SetParameter("minipLast", f"{float(nodes.frames.GetNumberOfDataNodes())}")


def _singleton(className: str, tag: str, layoutName: str = "") -> Node:
    scene = slicer.mrmlScene
    node = scene.GetSingletonNode(tag, className)
    if node is not None:
        return node
    node = getattr(slicer, className)()
    node.SetSingletonTag(tag)
    if layoutName:
        node.SetLayoutName(layoutName)
        node.SetName(layoutName)
    return scene.AddNode(node)
