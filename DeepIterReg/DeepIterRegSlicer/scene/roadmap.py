"""Roadmap in the scene: nodes drawn over the angiogram on the detector, and a pixel's ray with the vessel nearest to it.

From the console::

    from DeepIterRegSlicer.nodes import things
    from DeepIterRegSlicer.scene import results, roadmap
    registered = results.registrationsIn(slicer.mrmlScene)[-1]
    picture = roadmap.showRoadmap(registered, things.thingsOf(slicer.util.getNode("Penumbra")))
    ray, vessel = roadmap.pickRay(registered, 512, 300)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.pose import transform
from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.results.report.images import to_grey
from DeepIterRegLib.results.roadmap import Style, Surface, Thing, layer, nearest_vessel, over, ray
from DeepIterRegLib.results.roadmap.pick import Nearest
from DeepIterRegSlicer.nodes import helpers, volumes
from DeepIterRegSlicer.nodes import things as thingNodes
from DeepIterRegSlicer.scene import fill, removal, results
from DeepIterRegSlicer.scene.results import RegistrationNodes
from DeepIterRegSlicer.scene.view3d import lookFreely, lookFromSource
from DeepIterRegSlicer.words import _

__all__ = [
    "Item",
    "clearPick",
    "itemsOf",
    "keepItems",
    "layerOf",
    "lookFreely",
    "lookFromSource",
    "nearestOn",
    "newItems",
    "pickPoint",
    "pickRay",
    "placedPixel",
    "showLayer",
    "showPick",
    "showRoadmap",
    "vesselPoints",
]

Node = Any  # a vtkMRMLNode
_ROADMAP, _RAY, _VESSEL = "DeepIterReg.roadmap", "DeepIterReg.pickedRay", "DeepIterReg.pickedVessel"
_POINT = "DeepIterReg.pickPoint"
_ITEM, _ITEMS = results.ITEM, "DeepIterReg.roadmapItems"  # references; attribute, JSON: parts and styles
_ON_DETECTOR_MM = 2.0  # off the plane at most


# -- items: what a person wants drawn ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A node, which of its parts (`nodes.things.partsOf`), and how it is drawn."""

    node: Node
    part: str
    style: Style

    @property
    def name(self) -> str:
        """For people."""
        if self.node.IsA("vtkMRMLSegmentationNode"):
            segment = self.node.GetSegmentation().GetSegment(self.part)
            return f"{self.node.GetName()}: {segment.GetName() if segment is not None else self.part}"
        return f"{self.node.GetName()}: {self.part}" if self.part else str(self.node.GetName())

    def thing(self) -> Thing:
        """In the item's style.

        Raises
        ------
        InputError
            Empty, or the part is gone.
        """
        (found,) = thingNodes.thingsOf(self.node, [self.part])
        return replace(found, style=self.style)


def newItems(nodes: RegistrationNodes, node: Node) -> list[tuple[Item, Thing]]:
    """What of a node can be drawn, in the scene's colours; the registered vessels shaded by depth.

    Raises
    ------
    InputError
        The node cannot be drawn, or is empty.
    """
    found = []
    for part, thing in zip(thingNodes.partsOf(node), thingNodes.thingsOf(node), strict=True):
        # A whole tree in one brightness is a tangle; a clot or a catheter keeps its own colour.
        style = replace(thing.style, shaded=node is nodes.vessels)
        found.append((Item(node, part, style), replace(thing, style=style)))
    return found


def itemsOf(nodes: RegistrationNodes) -> list[Item]:
    """The items of a registration, found or moved by hand, whose nodes are still in the scene; the last are on top."""
    held = results.automaticOf(nodes.ctaToCarm)
    items = []
    for n, values in enumerate(json.loads(held.GetAttribute(_ITEMS) or "[]")):
        node = held.GetNodeReference(f"{_ITEM}{n}")
        if node is not None:
            style = {**values["style"], "colour": tuple(values["style"]["colour"])}
            items.append(Item(node, values["part"], Style(**style)))
    return items


def keepItems(nodes: RegistrationNodes, items: Sequence[Item]) -> None:
    """Keep the items of a registration with the scene; without any, its pictures go."""
    # With the transform that was found, so that a pose moved by hand shows the same items.
    held = results.automaticOf(nodes.ctaToCarm)
    for n in range(len(json.loads(held.GetAttribute(_ITEMS) or "[]"))):
        held.RemoveNodeReferenceIDs(f"{_ITEM}{n}")
    for n, item in enumerate(items):
        held.SetNodeReferenceID(f"{_ITEM}{n}", item.node.GetID())
    held.SetAttribute(_ITEMS, json.dumps([{"part": item.part, "style": asdict(item.style)} for item in items]))
    if not items:
        _removePictures(nodes)


def _removePictures(nodes: RegistrationNodes) -> None:
    automatic = results.automaticOf(nodes.ctaToCarm)
    for transformNode in filter(None, (automatic, results.manualOf(automatic))):
        for view in results.viewsOf(results.nodesOf(transformNode)):
            picture = transformNode.GetNodeReference(_pictureRole(view))
            if picture is not None:
                transformNode.RemoveNodeReferenceIDs(_pictureRole(view))
                removal.removeNodes([picture])


# -- drawn --------------------------------------------------------------------------------------------------


def layerOf(nodes: RegistrationNodes, things: Sequence[Thing]) -> np.ndarray:
    """Things as the C-arm of the view (`results.viewsOf`) sees them: (row, column, 4) uint8, at the pose that `ctaToCarm` has now."""
    return layer(things, results.carmOf(nodes), _poseOf(nodes))


def showLayer(nodes: RegistrationNodes, rgba: np.ndarray, background: Node = None) -> Node:
    """A layer (`layerOf`) over the angiogram of the view.

    :param background: the view's `minip` (usual) or `frame`, in the window that its display has.
    :return: a vtkMRMLVectorVolumeNode (RGB) where the detector stands, in the registration's folder; a second call fills the same.
    """
    image = background or nodes.minip
    if image is None or image.GetImageData() is None:
        raise InputError(_("The registration's MinIP is no longer in the scene: register again, or choose a frame."))
    display = image.GetDisplayNode()
    window = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
    grey = to_grey(volumes.voxelsOf(image.GetImageData())[0], window)
    picture = over(grey, rgba)
    number = results.viewNumber(nodes)
    name = "Roadmap" if number == 1 else f"Roadmap {number}"
    node = _held(nodes, _pictureRole(nodes), "vtkMRMLVectorVolumeNode", name)
    held = node.GetImageData()
    if held is not None and held.GetDimensions() == (*grey.shape[::-1], 1):
        scalars = held.GetPointData().GetScalars()
        np.copyto(numpy_support.vtk_to_numpy(scalars), picture.reshape(-1, 3))
        scalars.Modified()
        held.Modified()
    else:
        node.SetAndObserveImageData(_rgbImage(picture))
    stood = detector_image(grey, results.carmOf(nodes))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(stood.affine))
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def showRoadmap(nodes: RegistrationNodes, things: Sequence[Thing], background: Node = None) -> Node:
    """Draw things (`nodes.things.thingsOf`) over the angiogram at the pose that `ctaToCarm` has now; see `showLayer`."""
    return showLayer(nodes, layerOf(nodes, things), background)


def _pictureRole(nodes: RegistrationNodes) -> str:
    number = results.viewNumber(nodes)
    return _ROADMAP if number == 1 else f"{_ROADMAP}{number}"


# -- from the angiogram into the CTA ----------------------------------------------------------------------------


def pickPoint(nodes: RegistrationNodes) -> Node:
    """The point list for the place on the angiogram that a person asks about; empty at first."""
    node = _held(results.nodesOf(results.automaticOf(nodes.ctaToCarm)), _POINT, "vtkMRMLMarkupsFiducialNode", "Pick")
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetPointLabelsVisibility(False)
    return node


def placedPixel(nodes: RegistrationNodes, point: Node) -> tuple[RegistrationNodes, float, float] | None:
    """Nodes of the view, column and row of the last point placed; None if there is none.

    Raises
    ------
    InputError
        It lies on no angiogram of the registration.
    """
    placed = thingNodes.controlPoints(point)
    if len(placed) == 0:
        return None
    position = placed[-1]
    for view in results.viewsOf(nodes):
        carm = results.carmOf(view)
        pixel = carm.project(position[None])[0]
        # Views share one space: a point is of the view on whose detector it lies.
        if abs(carm.beyond_detector_mm(position)) <= _ON_DETECTOR_MM and carm.contains(pixel):
            return view, float(pixel[0]), float(pixel[1])
    raise InputError(_("The point does not lie on the DSA: place it on the image in the slice view."))


def vesselPoints(nodes: RegistrationNodes, vessels: Node = None) -> np.ndarray:
    """Points (N, 3), CTA RAS mm, of a segmentation, label map, model or markups, or of the registered vessels.

    Raises
    ------
    InputError
        Gone or empty.
    """
    source = vessels or nodes.vessels
    if source is None:
        raise InputError(_("The registered vessels are no longer in the scene: choose a vessel segmentation."))
    shapes = [thing.shape for thing in thingNodes.thingsOf(source)]
    return np.concatenate([s.points if isinstance(s, Surface) else np.concatenate(s.paths) for s in shapes])


def nearestOn(nodes: RegistrationNodes, column: float, row: float, points: np.ndarray) -> Nearest:
    """Of points (N, 3), CTA RAS mm, the one nearest to the ray of a pixel of the view.

    :param column, row: of the angiogram; (0, 0) is the centre of the first pixel.
    """
    carm = results.carmOf(nodes)
    if not carm.contains(np.array([column, row])):
        raise InputError(
            _("Pixel {column:g}, {row:g} lies outside the image of {columns} x {rows} px.").format(
                column=column, row=row, columns=carm.columns, rows=carm.rows
            )
        )
    return nearest_vessel(points, ray(carm, (column, row), _poseOf(nodes)))


def showPick(nodes: RegistrationNodes, column: float, row: float, found: Nearest) -> tuple[Node, Node]:
    """The ray of a pixel as a markups line from source to detector, and the vessel found as a point.

    :return: vtkMRMLMarkupsLineNode, and vtkMRMLMarkupsFiducialNode whose label tells distance and depth; in C-arm RAS.
    """
    carm, automatic = results.carmOf(nodes), results.nodesOf(results.automaticOf(nodes.ctaToCarm))
    line = _held(automatic, _RAY, "vtkMRMLMarkupsLineNode", "Picked ray")
    ends = np.array([carm.source_mm, carm.pixel_positions(np.array([[column, row]], dtype=np.float64))[0]])
    _setPoints(line, ends, ["Source", _("Pixel {column:.0f}, {row:.0f}").format(column=column, row=row)])
    if line.GetDisplayNode().GetPropertiesLabelVisibility():
        line.GetDisplayNode().SetPropertiesLabelVisibility(False)  # its length tells nothing
    # Markups stand in the world, which is the C-arm's frame, not the CTA's.
    at = np.asarray(transform(_poseOf(nodes), found.point_mm[None]))
    vessel = _held(automatic, _VESSEL, "vtkMRMLMarkupsFiducialNode", "Picked vessel")
    _setPoints(
        vessel,
        at,
        [
            _("{distance_mm:.1f} mm from the ray, {depth_mm:.0f} mm from the source").format(
                distance_mm=found.distance_mm, depth_mm=found.depth_mm
            )
        ],
    )
    return line, vessel


def pickRay(nodes: RegistrationNodes, column: float, row: float, vessels: Node = None) -> tuple[Node, Node]:
    """`showPick` of a pixel and the point of the vessels nearest to its ray.

    :param vessels: as `vesselPoints`.
    """
    return showPick(nodes, column, row, nearestOn(nodes, column, row, vesselPoints(nodes, vessels)))


def clearPick(nodes: RegistrationNodes) -> None:
    """Take ray and vessel away."""
    automatic = results.automaticOf(nodes.ctaToCarm)
    for role in (_RAY, _VESSEL):
        node = automatic.GetNodeReference(role)
        if node is not None:
            _setPoints(node, np.empty((0, 3)), [])


def _poseOf(nodes: RegistrationNodes) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    nodes.ctaToCarm.GetMatrixTransformToParent(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _held(nodes: RegistrationNodes, role: str, className: str, name: str) -> Node:
    """The registration's node in a role, made and put into its folder if it is not there."""
    node = nodes.ctaToCarm.GetNodeReference(role)
    if node is None:
        scene = nodes.ctaToCarm.GetScene()
        node = scene.AddNewNodeByClass(className, scene.GenerateUniqueName(name))
        nodes.ctaToCarm.SetNodeReferenceID(role, node.GetID())
        fill.putInFolder([node], nodes.ctaToCarm)
    helpers.mark(node, role)
    return node


def _setPoints(node: Node, positions: np.ndarray, labels: Sequence[str]) -> None:
    """Control points of a locked node, told to whoever shows it once: each telling takes Slicer milliseconds."""
    if not node.GetLocked():
        node.SetLocked(True)
    with slicer.util.NodeModify(node):
        if node.GetNumberOfControlPoints() != len(positions):
            node.RemoveAllControlPoints()
            for position in positions:
                node.AddControlPoint(vtk.vtkVector3d(*position))
        for n, (position, label) in enumerate(zip(positions, labels, strict=True)):
            node.SetNthControlPointPositionWorld(n, *position)
            if node.GetNthControlPointLabel(n) != label:
                node.SetNthControlPointLabel(n, label)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()


def _rgbImage(picture: np.ndarray) -> vtk.vtkImageData:
    """A picture (row, column, 3) uint8 as an image of one slice."""
    image = vtk.vtkImageData()
    image.SetDimensions(picture.shape[1], picture.shape[0], 1)
    scalars = numpy_support.numpy_to_vtk(np.ascontiguousarray(picture.reshape(-1, 3)), deep=True)
    image.GetPointData().SetScalars(scalars)
    return image
