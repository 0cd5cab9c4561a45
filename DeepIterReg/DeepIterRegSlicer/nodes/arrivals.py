"""Which nodes of a scene are most likely the CTA and the DSA that a person wants to register."""

from __future__ import annotations

from DeepIterRegSlicer.nodes import helpers
from DeepIterRegSlicer.nodes.angiograms import HEADER, looksLikeCt
from DeepIterRegSlicer.nodes.frames import sequenceOf
from DeepIterRegSlicer.nodes.transforms import Node


def ctasIn(scene: Node) -> list[Node]:
    """Volumes that look like a CT of a head."""
    return [node for node in _volumesIn(scene) if looksLikeCt(node)]


def carrierOf(run: Node) -> Node:
    """What a run is, whichever of its nodes was chosen: its sequence, else the volume itself."""
    return sequenceOf(run) or run


def runsIn(scene: Node) -> list[Node]:
    """Angiograms, each once, as the volume that shows it."""
    found: dict[str, Node] = {}
    for node in _volumesIn(scene):
        carrier = carrierOf(node)
        image = node.GetImageData()
        flat = image is not None and image.GetDimensions()[2] == 1
        if not helpers.isHelper(carrier) and (
            carrier.GetAttribute(HEADER) is not None or (carrier is not node and flat)
        ):
            found.setdefault(carrier.GetID(), node)
    return list(found.values())


def helpersAmong(scene: Node) -> list[str]:
    """Identifiers of the nodes that only show a registration."""
    found = [scene.GetNodesByClass(kind) for kind in ("vtkMRMLVolumeNode", "vtkMRMLSequenceNode")]
    nodes = [each.GetItemAsObject(n) for each in found for n in range(each.GetNumberOfItems())]
    return [node.GetID() for node in nodes if helpers.isHelper(node)]


def _volumesIn(scene: Node) -> list[Node]:
    found = scene.GetNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    return [
        node
        for node in nodes
        if not (node.IsA("vtkMRMLLabelMapVolumeNode") or node.GetHideFromEditors() or helpers.isHelper(node))
    ]
