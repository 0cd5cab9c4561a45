"""A registration into the scene: nodes in one folder, found again after the scene was saved and reopened, and how they are shown.

Everything stands in C-arm RAS mm, the origin at the isocentre: the detector's images where the detector stood, the CTA's
vessels under the transform `ctaToCarm`, which the CTA itself can observe (`placeUnder`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.result import Registration
from DeepIterRegSlicer.nodes.masks import layersOfSegmentation
from DeepIterRegSlicer.nodes.transforms import RESULT, isResultTransform

Node = Any  # a vtkMRMLNode
NAME = "DeepIterReg"
REFERENCE_PREFIX = "DeepIterReg."
_INPUTS = ("DeepIterReg.cta", "DeepIterReg.dsa", "DeepIterReg.dsa2")  # references of a result: what was registered
VIEW_NUMBER = "DeepIterReg.View"  # on the projection of a further view: its number
OF_VIEW = (
    "frames",
    "browser",
    "frame",
    "minip",
    "contrast",
    "projection",
    "carmPoints",
    "frustum",
)  # each view has its own
AUTOMATIC_REFERENCE, MANUAL_REFERENCE = (
    "DeepIterReg.automatic",
    "DeepIterReg.manual",
)  # references between the two transforms
ITEM = "DeepIterReg.roadmapItem"  # + a number: what is drawn in the roadmap
OTHERS = (*_INPUTS, AUTOMATIC_REFERENCE, MANUAL_REFERENCE)  # references of a result to what is not its own
MANUAL = "manual"  # the attribute `RESULT` of a manual pose
RUN = "DeepIterReg.Run"  # on the frames: which run they are, by its values
# On a projection that shows the head elsewhere than at the pose: which of its positions.
POSITION = "DeepIterReg.Position"
FIRST_FRAME, LAST_FRAME = "DeepIterReg.FirstFrame", "DeepIterReg.LastFrame"  # on the MinIP


@dataclass(frozen=True)
class RegistrationNodes:
    """Nodes of one registration; any of them may have been deleted since (then None).

    Attributes
    ----------
    ctaToCarm
        vtkMRMLLinearTransformNode, CTA to C-arm, RAS mm, to parent.
    registration
        vtkMRMLTextNode: registration.json.
    frames, browser, frame
        The subtracted run on the detector: sequence, its browser, and the frame that it shows.
    minip
        Minimum over a range of frames, on the detector.
    contrast
        The run's vessels that the CTA was compared with, 0..1, on the detector; below 0 where the image is not valid.
    projection
        The vessels as the C-arm would see them, mm, on the detector.
    tint, plain
        Colour tables of the projection: a colour, and white.
    vessels
        vtkMRMLSegmentationNode under `ctaToCarm`.
    carmPoints, frustum
        Markups of source and isocentre; model of the beam's edges.
    scores, chart
        Table and plot of the score by stage.
    """

    ctaToCarm: Node
    registration: Node
    frames: Node
    browser: Node
    frame: Node
    minip: Node
    contrast: Node
    projection: Node
    tint: Node
    plain: Node
    vessels: Node
    carmPoints: Node
    frustum: Node
    scores: Node
    chart: Node


# -- found again ------------------------------------------------------------------------------------------


def nodesOf(ctaToCarm: Node) -> RegistrationNodes:
    """The nodes of a registration by its transform, also in a reopened scene.

    A manual pose has transform and projection of its own, and all else from the registration that it was made of.
    """
    automatic = automaticOf(ctaToCarm)
    found = {
        field.name: automatic.GetNodeReference(REFERENCE_PREFIX + field.name) for field in fields(RegistrationNodes)
    }
    if automatic is not ctaToCarm:
        found["projection"] = ctaToCarm.GetNodeReference(REFERENCE_PREFIX + "projection")
    return RegistrationNodes(**{**found, "ctaToCarm": ctaToCarm})


def viewsOf(nodes: RegistrationNodes) -> list[RegistrationNodes]:
    """The nodes of a registration for each of its views: those of `OF_VIEW` differ, the first is `nodes` of the first view.

    A manual pose has a projection of its own in each view; one of an older scene is seen in the first view only.
    """
    automatic, views = automaticOf(nodes.ctaToCarm), [nodesOf(nodes.ctaToCarm)]
    while True:
        number = len(views) + 1
        own = {key: automatic.GetNodeReference(f"{REFERENCE_PREFIX}{key}{number}") for key in OF_VIEW}
        if own["projection"] is not None:
            own["projection"] = nodes.ctaToCarm.GetNodeReference(f"{REFERENCE_PREFIX}projection{number}")
        if own["projection"] is None:
            return views
        views.append(replace(views[0], **own))


def carmOf(nodes: RegistrationNodes) -> CArm:
    """The C-arm of the view whose nodes these are."""
    return registrationOf(nodes).views[viewNumber(nodes) - 1].carm


def viewNumber(nodes: RegistrationNodes) -> int:
    """Which view: 1 is the first."""
    return int((nodes.projection.GetAttribute(VIEW_NUMBER) if nodes.projection is not None else None) or 1)


def automaticOf(ctaToCarm: Node) -> Node:
    """The transform that was found, of a manual pose; any other transform itself."""
    return ctaToCarm.GetNodeReference(AUTOMATIC_REFERENCE) or ctaToCarm


def manualOf(ctaToCarm: Node) -> Node:
    """The manual pose beside a transform that was found; None if there is none."""
    return automaticOf(ctaToCarm).GetNodeReference(MANUAL_REFERENCE)


def keepInputs(nodes: RegistrationNodes, inputs: tuple[Node, ...]) -> None:
    """Remember which CTA, DSA and, where there was one, second DSA were registered."""
    # An earlier result in the same nodes may have had a second DSA.
    nodes.ctaToCarm.RemoveNodeReferenceIDs(_INPUTS[2])
    for name, node in zip(_INPUTS, inputs, strict=False):
        nodes.ctaToCarm.SetNodeReferenceID(name, node.GetID())


def inputsOf(ctaToCarm: Node) -> tuple[Node, ...] | None:
    """CTA, DSA and, where there was one, second DSA that were registered; None if one is gone, or was never told."""
    automatic = automaticOf(ctaToCarm)
    count = 2 if len(viewsOf(nodesOf(automatic))) == 1 else 3
    inputs = tuple(automatic.GetNodeReference(name) for name in _INPUTS[:count])
    return None if None in inputs else inputs


def replaceable(ctaToCarm: Node, inputs: tuple[Node, ...]) -> RegistrationNodes | None:
    """Nodes of a registration (or None) if it is of the same CTA and DSAs; others get nodes of their own."""
    if ctaToCarm is None or inputsOf(ctaToCarm) != tuple(inputs):
        return None
    return nodesOf(automaticOf(ctaToCarm))


def isRejected(nodes: RegistrationNodes) -> bool:
    """Whether a registration says of itself that it is wrong; of a manual pose it says nothing."""
    # The confidence was of the pose that was found, and the hand has left it.
    if isManual(nodes.ctaToCarm):
        return False
    confidence = json.loads(nodes.registration.GetText()).get("confidence")
    return confidence is not None and confidence["state"] == "rejected"


def isManual(ctaToCarm: Node) -> bool:
    """Whether a result's transform was set by hand."""
    return bool(ctaToCarm.GetAttribute(RESULT) == MANUAL)


def vesselsOf(nodes: RegistrationNodes) -> Volume:
    """The vessels that were registered, in the CTA's own frame."""
    layer = layersOfSegmentation(nodes.vessels)[0]
    return Volume(layer.voxels != 0 if layer.label is None else layer.voxels == layer.label, layer.affine)


def registrationsIn(scene: Node) -> list[RegistrationNodes]:
    """All registrations of a scene, oldest first; manual poses are not among them."""
    found = scene.GetNodesByClass("vtkMRMLLinearTransformNode")
    transforms = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    return [nodesOf(node) for node in transforms if isResultTransform(node) and not isManual(node)]


def registrationOf(nodes: RegistrationNodes) -> Registration:
    """The registration itself: pose, C-arm, scores, warnings."""
    return Registration.from_json_dict(json.loads(nodes.registration.GetText()))


def ownNodes(ctaToCarm: Node) -> list[Node]:
    """All nodes that a result, found or set by hand, has made for itself; without the transform, and without what it was made from."""
    found: dict[str, Node] = {}
    for n in range(ctaToCarm.GetNumberOfNodeReferenceRoles()):
        role = ctaToCarm.GetNthNodeReferenceRole(n)
        if role in OTHERS or not role.startswith(REFERENCE_PREFIX) or role.startswith(ITEM):
            continue
        for k in range(ctaToCarm.GetNumberOfNodeReferences(role)):
            node = ctaToCarm.GetNthNodeReference(role, k)
            if node is not None:
                found[node.GetID()] = node
    return list(found.values())


def topOf(node: Node) -> Node:
    """A node, or the topmost of the transforms that it has of its own: what has to hang under a result if the node shall."""
    # A tilted gantry's correction must stay between CTA and pose.
    while node.GetParentTransformNode() is not None and not isResultTransform(node.GetParentTransformNode()):
        node = node.GetParentTransformNode()
    return node


def placeUnder(ctaToCarm: Node, node: Node) -> None:
    """Hang a CTA (or a mask of it), with the transforms it already has, under `ctaToCarm`; an earlier result is replaced."""
    topOf(node).SetAndObserveTransformNodeID(ctaToCarm.GetID())
