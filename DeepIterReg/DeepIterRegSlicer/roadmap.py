"""Roadmap in the scene: nodes drawn over the angiogram on the detector, and a pixel's ray with the vessel nearest to it.

From the console::

    from DeepIterRegSlicer import mrml, results, roadmap
    registered = results.registrationsIn(slicer.mrmlScene)[-1]
    picture = roadmap.showRoadmap(registered, mrml.thingsOf(slicer.util.getNode("Penumbra")))
    ray, vessel = roadmap.pickRay(registered, 512, 300)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.errors import InputError
from DeepIterRegLib.export import cameras
from DeepIterRegLib.geometry.pose import transform
from DeepIterRegLib.report.images import to_grey
from DeepIterRegLib.report.outputs import detector_image
from DeepIterRegLib.roadmap import Surface, Thing, layer, nearest_vessel, over, ray
from DeepIterRegSlicer import mrml, results
from DeepIterRegSlicer.results import RegistrationNodes

Node = Any  # a vtkMRMLNode
_ROADMAP, _RAY, _VESSEL = "DeepIterReg.roadmap", "DeepIterReg.pickedRay", "DeepIterReg.pickedVessel"


def showRoadmap(nodes: RegistrationNodes, things: Sequence[Thing], background: Node = None) -> Node:
    """Draw things (`mrml.thingsOf`) over the angiogram at the pose that the transform `ctaToCarm` has now.

    :param background: the registration's `minip` (usual) or `frame`, in the window that its display has.
    :return: a vtkMRMLVectorVolumeNode (RGB) where the detector stands, in the registration's folder; a second call fills the same.
    """
    carm = results.registrationOf(nodes).carm
    image = background or nodes.minip
    if image is None or image.GetImageData() is None:
        raise InputError("The registration's MinIP is no longer in the scene: register again, or choose a frame.")
    display = image.GetDisplayNode()
    window = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
    grey = to_grey(mrml.voxelsOf(image.GetImageData())[0], window)
    picture = over(grey, layer(things, carm, _poseOf(nodes)))
    node = _held(nodes, _ROADMAP, "vtkMRMLVectorVolumeNode", "Roadmap")
    stood = detector_image(grey, carm)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(stood.affine))
    node.SetAndObserveImageData(_rgbImage(picture))
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def pickRay(nodes: RegistrationNodes, column: float, row: float, vessels: Node = None) -> tuple[Node, Node]:
    """The ray of a pixel as a markups line from source to detector, and the nearest point of the vessels as a point.

    :param column, row: of the angiogram; (0, 0) is the centre of the first pixel.
    :param vessels: segmentation, label map, model or markups; else the registered vessels.
    :return: vtkMRMLMarkupsLineNode, and vtkMRMLMarkupsFiducialNode whose label tells distance and depth; in C-arm RAS.
    """
    carm, pose = results.registrationOf(nodes).carm, _poseOf(nodes)
    if not (-0.5 <= column <= carm.columns - 0.5 and -0.5 <= row <= carm.rows - 0.5):
        raise InputError(f"Pixel {column:g}, {row:g} lies outside the image of {carm.columns} x {carm.rows} px.")
    source = vessels or nodes.vessels
    if source is None:
        raise InputError("The registered vessels are no longer in the scene: choose a vessel segmentation.")
    shapes = [thing.shape for thing in mrml.thingsOf(source)]
    points = [s.points if isinstance(s, Surface) else np.concatenate(s.paths) for s in shapes]
    found = nearest_vessel(np.concatenate(points), ray(carm, (column, row), pose))
    line = _held(nodes, _RAY, "vtkMRMLMarkupsLineNode", "Picked ray")
    ends = np.array([carm.source_mm, carm.pixel_positions(np.array([[column, row]], dtype=np.float64))[0]])
    _setPoints(line, ends, ["Source", f"Pixel {column:.0f}, {row:.0f}"])
    at = np.asarray(transform(pose, found.point_mm[None]))
    vessel = _held(nodes, _VESSEL, "vtkMRMLMarkupsFiducialNode", "Picked vessel")
    _setPoints(vessel, at, [f"{found.distance_mm:.1f} mm from the ray, {found.depth_mm:.0f} mm from the source"])
    return line, vessel


def lookFromSource(nodes: RegistrationNodes, cameraNode: Node) -> None:
    """A 3D view's camera at the X-ray source, so that the view shows the angiogram's perspective: pixel for pixel in a view
    as wide and high as the angiogram, cut off at the sides in a narrower one.

    The world is C-arm RAS, where the registered vessels stand under `ctaToCarm`. The picture is mirrored as the angiogram is,
    which is seen from the detector; `lookFreely` ends that. A saved scene keeps the place, not mirroring and principal point.
    """
    cameras.set_vtk_camera(cameraNode.GetCamera(), cameras.vtk_camera(results.registrationOf(nodes).carm))
    cameraNode.Modified()


def lookFreely(cameraNode: Node) -> None:
    """Undo what of `lookFromSource` would disturb looking from elsewhere."""
    camera = cameraNode.GetCamera()
    camera.SetUserTransform(None)
    camera.SetWindowCenter(0, 0)
    camera.SetViewAngle(30)
    cameraNode.Modified()


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
        results.putInFolder([node], nodes.ctaToCarm)
    return node


def _setPoints(node: Node, positions: np.ndarray, labels: Sequence[str]) -> None:
    node.SetLocked(False)
    with slicer.util.NodeModify(node):
        node.RemoveAllControlPoints()
        for position, label in zip(positions, labels, strict=True):
            node.AddControlPoint(vtk.vtkVector3d(*position), label)
    node.SetLocked(True)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()


def _rgbImage(picture: np.ndarray) -> vtk.vtkImageData:
    """A picture (row, column, 3) uint8 as an image of one slice."""
    image = vtk.vtkImageData()
    image.SetDimensions(picture.shape[1], picture.shape[0], 1)
    scalars = numpy_support.numpy_to_vtk(np.ascontiguousarray(picture.reshape(-1, 3)), deep=True)
    image.GetPointData().SetScalars(scalars)
    return image
