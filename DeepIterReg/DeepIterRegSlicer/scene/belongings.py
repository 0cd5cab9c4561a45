"""The CTA moved to a result, with what stands in the CTA; and back to where it was scanned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from DeepIterRegSlicer.nodes import helpers
from DeepIterRegSlicer.nodes.transforms import resultTransformAbove
from DeepIterRegSlicer.scene import results
from DeepIterRegSlicer.scene.results import Node

MOVED = "DeepIterReg.Moved"  # on a node that was moved
BEFORE = "DeepIterReg.movedFrom"  # reference of such a node: the transform that it hung under before
KINDS = ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode", "vtkMRMLModelNode", "vtkMRMLMarkupsNode")


def isMoved(cta: Node, result: Node) -> bool:
    """Whether a CTA stands where a result puts it."""
    return cta is not None and result is not None and resultTransformAbove(cta) is result


def move(cta: Node, result: Node, more: Sequence[Node] = (), others: Sequence[Node] = ()) -> list[Node]:
    """Hang a CTA under a result with what belongs to it, each with the transforms it has of its own.

    Parameters
    ----------
    cta, result
    more
        Nodes that belong to the CTA, wherever they are: items of the roadmap, landmarks.
    others
        Nodes that do not, though they stand where the CTA does: those of the DSA.

    Returns
    -------
    What was moved besides the CTA.
    """
    top = results.topOf(cta)
    parent = top.GetParentTransformNode()
    found = [node for node in _standingIn(cta, parent, more, others) if node is not cta]
    for each in dict.fromkeys([top, *map(results.topOf, found)]):
        if each.GetAttribute(MOVED) is None:
            each.SetAttribute(MOVED, "1")
            each.SetNodeReferenceID(BEFORE, None if parent is None else parent.GetID())
        each.SetAndObserveTransformNodeID(result.GetID())
    return found


def putBack(result: Node, cta: Node = None) -> None:
    """Hang what was moved to a result back to where it was; of a CTA that hangs there by itself, as in a batch's scene, also that."""
    hung = [node for node in _transformables(result.GetScene()) if node.GetParentTransformNode() is result]
    mine = None if cta is None else results.topOf(cta)
    for node in hung:
        if node.GetAttribute(MOVED) is not None or node is mine:
            before = node.GetNodeReference(BEFORE)
            node.SetAndObserveTransformNodeID(None if before is None else before.GetID())
            node.RemoveNodeReferenceIDs(BEFORE)
            node.RemoveAttribute(MOVED)


def _standingIn(cta: Node, parent: Node, more: Sequence[Node], others: Sequence[Node]) -> list[Node]:
    """Nodes that hang where the CTA hangs, and were made in it."""
    scene = cta.GetScene()
    known = {node.GetID() for node in others if node is not None}
    for registration in results.registrationsIn(scene):
        for transform in (registration.ctaToCarm, results.manualOf(registration.ctaToCarm)):
            if transform is not None:
                known |= {node.GetID() for node in results.ownNodes(transform)}
    wanted = {node.GetID() for node in more if node is not None}
    found = []
    for node in _transformables(scene):
        if node.GetID() in known or helpers.isHelper(node) or node.GetHideFromEditors():
            continue
        if results.topOf(node).GetParentTransformNode() is not parent:
            continue
        if node.GetID() in wanted or (any(node.IsA(kind) for kind in KINDS) and _isInside(node, cta)):
            found.append(node)
    return found


def _transformables(scene: Node) -> list[Node]:
    found = scene.GetNodesByClass("vtkMRMLTransformableNode")
    return [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]


def _isInside(node: Node, cta: Node) -> bool:
    """Whether the middle of a node lies in the CTA, in whose frame it would be drawn, segmented or placed."""
    box, head = [0.0] * 6, [0.0] * 6
    if node.IsA("vtkMRMLVolumeNode") and (node.GetImageData() is None or node.GetImageData().GetDimensions()[2] < 2):
        return False  # a mask of the DSA
    node.GetRASBounds(box)
    cta.GetRASBounds(head)
    low, high = np.array(box[::2]), np.array(box[1::2])
    middle = (low + high) / 2
    return bool(
        (low <= high).all() and (np.array(head[::2]) <= middle).all() and (middle <= np.array(head[1::2])).all()
    )
