"""A result taken out of the scene whole."""

from __future__ import annotations

import slicer

from DeepIterRegSlicer.scene import belongings, results
from DeepIterRegSlicer.scene.results import Node


def remove(result: Node) -> None:
    """Take a result, given by its transform, out of the scene with everything that it put there.

    Of a pose set by hand only that pose goes. CTA and DSA stay; a CTA that was moved to the result goes back.
    """
    removeNodes([*leftBehind(result), result])


def leftBehind(result: Node) -> list[Node]:
    """What else has to go when the transform of a result does; what hangs under it and stays is hung elsewhere."""
    automatic, manual = results.automaticOf(result), results.manualOf(result)
    belongings.putBack(result)
    if automatic is not result:
        vessels = results.nodesOf(automatic).vessels
        if vessels is not None:
            vessels.SetAndObserveTransformNodeID(automatic.GetID())
        automatic.RemoveNodeReferenceIDs(results.MANUAL_REFERENCE)
        return results.ownNodes(result)
    if manual is None:
        return results.ownNodes(result)
    belongings.putBack(manual)
    return [*results.ownNodes(result), *results.ownNodes(manual), manual]


def removeNodes(nodes: list[Node]) -> None:
    """Take nodes out of their scene with what belongs to them alone: how they are shown and stored, curves of a chart, an empty folder."""
    here = [node for node in nodes if node.GetScene() is not None]
    if not here:
        return
    scene = here[0].GetScene()
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    items = [tree.GetItemByDataNode(node) for node in here]
    folders = {tree.GetItemParent(item) for item in items if item} - {0, tree.GetSceneItemID()}
    scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    try:
        # A browser first: it follows its sequence, and would make a new proxy.
        for node in sorted(here, key=lambda each: not each.IsA("vtkMRMLSequenceBrowserNode")):
            # The node before its display: a slice view makes a new one for a volume that has none.
            parts = _partsOf(node)
            for part in (node, *parts):
                if part.GetScene() is not scene:
                    continue
                if item := tree.GetItemByDataNode(part):
                    tree.RemoveItem(item, False, False)  # slicer-core keeps it when its node goes
                scene.RemoveNode(part)
    finally:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)
    for folder in folders:
        if tree.GetNumberOfItemChildren(folder) == 0:
            tree.RemoveItem(folder)


def _partsOf(node: Node) -> list[Node]:
    parts = []
    if node.IsA("vtkMRMLDisplayableNode"):
        parts += [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    if node.IsA("vtkMRMLStorableNode"):
        parts += [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
    if node.IsA("vtkMRMLPlotChartNode"):
        parts += [node.GetNthPlotSeriesNode(n) for n in range(node.GetNumberOfPlotSeriesNodes())]
    return [part for part in parts if part is not None]
