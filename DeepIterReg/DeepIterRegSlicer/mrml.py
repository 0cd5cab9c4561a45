"""Nodes to library objects: how Slicer holds a CTA, a mask, a pose, the frames of a run (`angiograms` has the rest of a run).

Every `...Source` is called on the main thread, checks the node, and returns a function without arguments that any thread may
call: it holds voxels and matrices, no node, so that a node deleted or changed afterwards does no harm.

Frames: `world` is Slicer's RAS mm. A transform made by an earlier registration (`isResultTransform`) and what is above it are left
out, so that a CTA that already hangs under its result is registered from where it was scanned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.errors import InputError, RegistrationError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.landmarks import pose_from_landmarks
from DeepIterRegLib.geometry.pose import transform
from DeepIterRegLib.landmarks import Landmarks, pixels_on_image
from DeepIterRegLib.roadmap.shapes import Paths, Style, Surface, Thing, surface_of_mask
from DeepIterRegLib.transforms import as_rigid
from DeepIterRegLib.volume import Volume

Node = Any  # a vtkMRMLNode
RESULT = "DeepIterReg.Result"  # on the transform that stands for a result
_SLAB = 8  # slices resampled at a time: VTK keeps Python's lock, so the panel waits this long

_FIELDS = {
    "--primary-angle": "the primary angle",
    "--secondary-angle": "the secondary angle",
    "--sid": "the source to detector distance",
    "--sod": "the source to isocentre distance",
    "--pixel-spacing": "the pixel spacing",
    "--principal-point": "the principal point",
    "--projection-matrix": "the projection matrix",
    "--cta-mask": "the vessel segmentation of the CTA",
    "--dsa-mask": "the vessel mask of the DSA",
    "--mask-frames": "mask frames",
    "--device": "the device",
    "--seed": "the seed",
    "--init": "the initialisation",
}


def worded(problems: tuple[str, ...]) -> tuple[str, ...]:
    """Problems of the library with the command line's options named as the panel names them."""
    pattern = re.compile("|".join(sorted(map(re.escape, _FIELDS), key=len, reverse=True)) + r"|`deepiterreg segment`")
    return tuple(pattern.sub(lambda m: _FIELDS.get(m.group(), "the segmentation's preview"), p) for p in problems)


@contextmanager
def panelWords() -> Iterator[None]:
    """Errors raised inside speak of the panel, not of the command line."""
    try:
        yield
    except InputError as error:
        raise InputError(worded(error.problems)) from error
    except RegistrationError as error:
        raise RegistrationError(*worded((str(error),))) from error


# -- transforms ---------------------------------------------------------------------------------------------


def isResultTransform(node: Node) -> bool:
    """Whether a transform node stands for the result of a registration."""
    return node is not None and node.GetAttribute(RESULT) is not None


def resultTransformAbove(node: Node) -> Node:
    """The nearest result transform that a node hangs under, or None."""
    parent = node.GetParentTransformNode()
    while parent is not None and not isResultTransform(parent):
        parent = parent.GetParentTransformNode()
    return parent


@dataclass(frozen=True)
class Placement:
    """Where a node's own coordinates stand in the world: `matrix` (4, 4), and what bends them before, if anything does."""

    matrix: np.ndarray
    bentFromWorld: vtk.vtkAbstractTransform | None = None


def placementOf(node: Node) -> Placement:
    """Parent transforms of a node, up to but without a result transform; copies, so safe on any thread."""
    parent, top = node.GetParentTransformNode(), resultTransformAbove(node)
    if parent is None or parent is top:
        return Placement(np.eye(4))
    matrix = vtk.vtkMatrix4x4()
    if slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(parent, top, matrix):
        return Placement(slicer.util.arrayFromVTKMatrix(matrix))
    fromWorld, copy = vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(top, parent, fromWorld)
    copy.DeepCopy(fromWorld)
    return Placement(np.eye(4), copy)


def poseSource(node: Node) -> Callable[[], np.ndarray]:
    """A linear transform node as a pose (4, 4), RAS mm, to the world.

    Raises
    ------
    InputError
        Not linear, or not rigid.
    """
    matrix = vtk.vtkMatrix4x4()
    if not node.IsTransformToWorldLinear() or not node.GetMatrixTransformToWorld(matrix):
        raise InputError(f"Transform {node.GetName()} is not linear; a rigid transform from CTA to C-arm is needed.")
    pose = as_rigid(slicer.util.arrayFromVTKMatrix(matrix), f"Transform {node.GetName()}")
    return lambda: pose


def landmarkSource(
    ctaLandmarks: Node, dsaLandmarks: Node, ctaNode: Node, dsaNode: Node, carm: CArm
) -> Callable[[], Landmarks]:
    """Paired points that tell a pose: placed on the CTA as it is shown, and on the DSA as loaded or on its detector image.

    Raises
    ------
    InputError
        Points that are missing, off the image, or fix no pose.
    """
    lists = (("CTA", ctaLandmarks), ("DSA", dsaLandmarks))
    missing = [
        f"No landmarks on the {where} are selected: choose a point list." for where, node in lists if node is None
    ]
    if missing:
        raise InputError(missing)
    shownAt = np.eye(4)
    if (result := resultTransformAbove(ctaNode)) is not None:
        matrix = vtk.vtkMatrix4x4()
        result.GetMatrixTransformToWorld(matrix)
        shownAt = slicer.util.arrayFromVTKMatrix(matrix)
    onCta = transform(np.linalg.inv(shownAt), controlPoints(ctaLandmarks))
    pixels = _pixelsOf(controlPoints(dsaLandmarks), dsaNode, carm)
    pose_from_landmarks(onCta, pixels, carm)  # now: all that is wrong is said at once
    found = Landmarks(tuple(_controlPointNames(ctaLandmarks)), onCta, pixels)
    return lambda: found


def _controlPointNames(node: Node) -> list[str]:
    """Labels of the defined control points."""
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    numbers = [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == defined]
    return [node.GetNthControlPointLabel(n) or str(n + 1) for n in numbers]


def controlPoints(node: Node) -> np.ndarray:
    """Defined control points (N, 3), world."""
    points = []
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == slicer.vtkMRMLMarkupsNode.PositionDefined:
            position = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(n, position)
            points.append(position)
    return np.array(points).reshape(-1, 3)


def _pixelsOf(positions: np.ndarray, dsaNode: Node, carm: CArm) -> np.ndarray:
    """Pixels (N, 2), column and row, of positions on the DSA's own slice or on the detector in C-arm RAS."""
    volume = frameNodes(dsaNode)[0]
    matrix = placementOf(dsaNode).matrix if dsaNode.IsA("vtkMRMLVolumeNode") else np.eye(4)
    toPixels = np.linalg.inv(matrix @ ijkToRas(volume))
    loaded = transform(toPixels, positions)
    pixels = pixels_on_image(positions, loaded, carm)
    lost = [str(n + 1) for n in np.flatnonzero(~np.isfinite(pixels).all(axis=1))]
    if lost:
        raise InputError(
            f"DSA landmarks number {', '.join(lost)} do not lie on the angiogram; place them on its image again."
        )
    return pixels


# -- volumes ------------------------------------------------------------------------------------------------


def voxelsOf(image: vtk.vtkImageData) -> np.ndarray:
    """Voxels (k, j, i) of an image of one component; a view that keeps the image's memory alive."""
    scalars = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return scalars.reshape(image.GetDimensions()[::-1])


def imageOf(voxels: np.ndarray, origin: tuple[float, float, float] = (0, 0, 0)) -> vtk.vtkImageData:
    """An image in index space that shares the memory of voxels (k, j, i), and keeps it alive; bool becomes 0 and 1."""
    image = vtk.vtkImageData()
    image.SetDimensions(*voxels.shape[::-1])
    image.SetOrigin(*origin)
    plain = voxels.view(np.uint8) if voxels.dtype == bool else voxels
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(np.ascontiguousarray(plain).ravel(), deep=False))
    return image


def ijkToRas(node: Node) -> np.ndarray:
    """Voxel index (i, j, k) to the node's own RAS mm (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def ctaProblems(node: Node) -> list[str]:
    """Why a node cannot be the CTA, as far as its kind tells; empty if it can."""
    if node is None:
        return ["No CTA is selected: choose the volume of the CT angiogram."]
    name = f"CTA {node.GetName()}"
    if sequenceOf(node) is not None:
        return [
            f"{name} is a time series; a CTA is one volume: choose it, or export the frame with the contrast as a volume."
        ]
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        kind = "label map" if node.IsA("vtkMRMLLabelMapVolumeNode") else node.GetNodeTagName()
        return [f"{name} is a {kind}; the CTA must be a scalar volume in HU."]
    image = node.GetImageData()
    if image is None or not image.GetPointData().GetScalars() or min(image.GetDimensions()) < 1:
        return [f"{name} has no voxels: its file could not be read, or it was emptied; load the CTA again."]
    if image.GetNumberOfScalarComponents() != 1:
        return [f"{name} is in colour ({image.GetNumberOfScalarComponents()} values a voxel); the CTA must be in HU."]
    if image.GetDimensions()[2] < 2:
        return [f"{name} has a single slice; a CTA is a volume of the head."]
    return []


def ctaSource(node: Node) -> Callable[[], Volume]:
    """The CTA as it stands in the world.

    Linear parent transforms turn the affine. Others (the acquisition transform of a tilted or unevenly sliced series, a
    deformation) bend a copy: it is resampled onto a regular grid of the same spacing.

    Raises
    ------
    InputError
        Not one grey volume.
    """
    problems = ctaProblems(node)
    if problems:
        raise InputError(problems)
    voxels, affine, placement = voxelsOf(node.GetImageData()), ijkToRas(node), placementOf(node)
    bent = placement.bentFromWorld
    if bent is None:
        return lambda: _volume(voxels, placement.matrix @ affine)
    grid = _unbentGrid(node, affine)
    name = node.GetParentTransformNode().GetName()

    @cache
    def straightened() -> Volume:
        note = f"The CTA was resampled onto a regular grid, as its transform ({name}) is not linear."
        outside = float(voxels.min())
        return Volume(_sampled(voxels, affine, bent, grid, nearest=False, outside=outside), grid.affine, (note,))

    return straightened


def _volume(voxels: np.ndarray, affine: np.ndarray) -> Volume:
    return Volume(voxels.astype(np.float32) if voxels.dtype == np.float64 else voxels, affine)


def _unbentGrid(node: Node, affine: np.ndarray) -> Volume:
    """An empty grid with the node's spacing and directions, large enough for its bent box."""
    size = np.array(node.GetImageData().GetDimensions())
    toWorld, parent, top = vtk.vtkGeneralTransform(), node.GetParentTransformNode(), resultTransformAbove(node)
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(parent, top, toWorld)
    steps = np.stack(np.meshgrid(*[np.linspace(-0.5, n - 0.5, 9) for n in size], indexing="ij"), axis=-1).reshape(-1, 3)
    world = np.array([toWorld.TransformPoint(p) for p in steps @ affine[:3, :3].T + affine[:3, 3]])
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    along = np.linalg.solve(axes, world.T).T
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    count = np.ceil((along.max(axis=0) - along.min(axis=0)) / spacing).astype(int)
    if not np.isfinite(along).all() or np.prod(count.astype(float)) > 4 * np.prod(size.astype(float)):
        raise InputError(
            f"CTA {node.GetName()} is bent by transform {parent.GetName()} so far that it cannot be put on a regular grid; "
            "take it out of the transform, or harden the transform on a copy and check it."
        )
    grid = np.eye(4)
    grid[:3, :3] = axes * spacing
    grid[:3, 3] = axes @ (along.min(axis=0) + spacing / 2)
    return Volume(np.broadcast_to(np.zeros(1, np.uint8), tuple(count[::-1])), grid)


def _sampled(
    voxels: np.ndarray,
    affine: np.ndarray,
    fromWorld: vtk.vtkAbstractTransform | None,
    grid: Volume,
    *,
    nearest: bool,
    outside: float,
) -> np.ndarray:
    """Voxels at the places of another grid, which stands in the world; slab by slab."""
    toVoxels = vtk.vtkTransform() if fromWorld is None else vtk.vtkGeneralTransform()
    toVoxels.PostMultiply()
    toVoxels.Concatenate(slicer.util.vtkMatrixFromArray(grid.affine))
    if fromWorld is not None:
        toVoxels.Concatenate(fromWorld)
    toVoxels.Concatenate(slicer.util.vtkMatrixFromArray(np.linalg.inv(affine)))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(imageOf(voxels))
    reslice.SetResliceTransform(toVoxels)
    reslice.SetInterpolationMode(vtk.VTK_RESLICE_NEAREST if nearest else vtk.VTK_RESLICE_LINEAR)
    reslice.SetBackgroundLevel(outside)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputOrigin(0, 0, 0)
    k, j, i = grid.voxels.shape
    result = np.empty(grid.voxels.shape, dtype=voxels.dtype)
    for first in range(0, k, _SLAB):
        last = min(first + _SLAB, k)
        reslice.SetOutputExtent(0, i - 1, 0, j - 1, first, last - 1)
        reslice.Update()
        result[first:last] = voxelsOf(reslice.GetOutput())
    return result


# -- masks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """Voxels, where they stand, and the label that counts (None: any but 0)."""

    voxels: np.ndarray
    affine: np.ndarray
    label: int | None


def maskSource(node: Node, grid: Callable[[], Volume]) -> Callable[[], Volume]:
    """A segmentation (all its segments) or a label map as a mask on the grid of a volume; bool.

    Raises
    ------
    InputError
        No mask, or an empty one.
    """
    layers, placement = _layersOf(node), placementOf(node)
    worldFromNode = placement.matrix

    @cache
    def mask() -> Volume:
        target = grid()
        united = np.zeros(target.voxels.shape, dtype=bool)
        for layer in layers:
            united |= _onGrid(layer, worldFromNode, placement.bentFromWorld, target)
        return target.with_voxels(united)

    return mask


def _onGrid(layer: Layer, matrix: np.ndarray, bent: vtk.vtkAbstractTransform | None, grid: Volume) -> np.ndarray:
    affine = matrix @ layer.affine
    voxels = layer.voxels
    here = (voxels != 0 if layer.label is None else voxels == layer.label).view(np.uint8)
    if bent is None and Volume(here, affine).same_grid(grid):
        return here.view(bool)
    return _sampled(here, affine, bent, grid, nearest=True, outside=0).view(bool)


def _layersOf(node: Node) -> list[Layer]:
    if node.IsA("vtkMRMLSegmentationNode"):
        return layersOfSegmentation(node)
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{node.GetName()} is neither a segmentation nor a label map.")
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfScalarComponents() != 1:
        raise InputError(f"Mask {node.GetName()} has no voxels, or is in colour; give a segmentation or a label map.")
    return [Layer(voxelsOf(image), ijkToRas(node), None)]


def layersOfSegmentation(node: Node) -> list[Layer]:
    """The segments of a segmentation that have voxels, in the node's own frame."""
    return list(_segmentLayers(node).values())


def _segmentLayers(node: Node) -> dict[str, Layer]:
    """Segments that have a voxel, by their identifiers."""
    segmentation = node.GetSegmentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segmentation.GetNumberOfSegments() == 0:
        raise InputError(f"Segmentation {node.GetName()} has no segments.")
    if not segmentation.ContainsRepresentation(name) and not segmentation.CreateRepresentation(name):
        raise InputError(f"Segmentation {node.GetName()} cannot be turned into a binary label map.")
    layers = {}
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        image = segment.GetRepresentation(name)
        if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
            continue  # a segment without a single voxel
        matrix, extent = vtk.vtkMatrix4x4(), image.GetExtent()
        image.GetImageToWorldMatrix(matrix)
        affine = slicer.util.arrayFromVTKMatrix(matrix)
        affine[:3, 3] += affine[:3, :3] @ np.array(extent[::2])
        layers[segmentId] = Layer(voxelsOf(image), affine, segment.GetLabelValue())
    if not layers:
        raise InputError(f"Segmentation {node.GetName()} is empty: no segment has a voxel.")
    return layers


def dsaMaskSource(node: Node, dsaNode: Node) -> Callable[[], np.ndarray]:
    """A mask drawn on the DSA as shown, on the pixels of its frames (row, column)."""
    volume = frameNodes(dsaNode)[0]
    shape = volume.GetImageData().GetDimensions()[::-1]
    affine = placementOf(dsaNode).matrix @ ijkToRas(volume) if dsaNode.IsA("vtkMRMLVolumeNode") else ijkToRas(volume)
    image = Volume(np.broadcast_to(np.zeros(1, np.uint8), (1, *shape[1:])), affine)
    mask = maskSource(node, lambda: image)
    return lambda: mask().voxels[0]


# -- frames --------------------------------------------------------------------------------------------------


def sequenceOf(node: Node) -> Node:
    """The sequence node behind a sequence, a browser, or a browser's proxy; None if there is none."""
    if node.IsA("vtkMRMLSequenceNode"):
        return node
    if node.IsA("vtkMRMLSequenceBrowserNode"):
        return node.GetMasterSequenceNode()
    scene = node.GetScene()
    if scene is None:
        return None
    browsers = scene.GetNodesByClass("vtkMRMLSequenceBrowserNode")
    for n in range(browsers.GetNumberOfItems()):
        sequence = browsers.GetItemAsObject(n).GetSequenceNode(node)
        if sequence is not None:
            return sequence
    return None


def frameNodes(node: Node) -> list[Node]:
    """The volume nodes that hold the frames of an angiogram: one for each, or one for all.

    Raises
    ------
    InputError
        Not grey images.
    """
    if node is None:
        raise InputError("No DSA is selected: choose the angiogram, or load its XA file.")
    sequence = sequenceOf(node)
    volumes = (
        [node] if sequence is None else [sequence.GetNthDataNode(n) for n in range(sequence.GetNumberOfDataNodes())]
    )
    name = f"DSA {node.GetName()}"
    if not volumes:
        raise InputError(f"{name} is a sequence without frames; load the angiogram again.")
    for volume in volumes:
        if volume is None or not volume.IsA("vtkMRMLScalarVolumeNode"):
            raise InputError(f"{name} does not hold images; choose an angiogram: a sequence of images, or one image.")
        image = volume.GetImageData()
        if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
            raise InputError(f"{name} has no pixels: its file could not be read, or it was emptied; load it again.")
        if image.GetNumberOfScalarComponents() != 1:
            raise InputError(f"{name} is in colour: a screenshot or report, not a run; give the original XA file.")
        if sequence is not None and image.GetDimensions() != volumes[0].GetImageData().GetDimensions():
            raise InputError(f"{name} has frames of different sizes; choose a run of one view.")
    return volumes


# -- things to draw ------------------------------------------------------------------------------------------


def partsOf(node: Node) -> list[str]:
    """What of a node is drawn in a style of its own: segments by identifier, labels by number, else one part without a name.

    Raises
    ------
    InputError
        As `thingsOf`.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        return list(_segmentLayers(node))
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        (layer,) = _layersOf(node)
        labels = [str(int(label)) for label in np.unique(layer.voxels) if label]
        if not labels:
            raise InputError(f"Label map {node.GetName()} is empty: no voxel is set.")
        return labels
    if node.IsA("vtkMRMLModelNode") or node.IsA("vtkMRMLMarkupsNode"):
        return [""]
    raise InputError(f"{node.GetName()} is neither a segmentation, a label map, a model nor markups.")


def thingsOf(node: Node, parts: Sequence[str] | None = None) -> list[Thing]:
    """What a node holds as things in the CTA's RAS mm, wherever it hangs, in the colours that the scene shows.

    Parameters
    ----------
    node
        A segmentation, a label map, a model, or markups.
    parts
        Those of `partsOf` that are wanted; else all.

    Raises
    ------
    InputError
        Another kind of node, or an empty one.
    """
    display, name = node.GetDisplayNode(), node.GetName()
    if node.IsA("vtkMRMLSegmentationNode"):
        segmentation, things = node.GetSegmentation(), []
        for segmentId, layer in _segmentLayers(node).items():
            if parts is None or segmentId in parts:
                segment = segmentation.GetSegment(segmentId)
                things.append(_maskThing(node, layer, segment.GetName(), segment.GetColor()))
        if not things:
            raise InputError(f"Segmentation {name} has none of the segments wanted.")
        return things
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        (layer,), labels = _layersOf(node), partsOf(node)
        wanted = [label for label in labels if parts is None or label in parts]
        if not wanted:
            raise InputError(f"Label map {name} has none of the labels wanted.")
        colours = display.GetColorNode() if display is not None else None
        return [_labelThing(node, replace(layer, label=int(label)), colours, len(labels) == 1) for label in wanted]
    if node.IsA("vtkMRMLModelNode"):
        style = Style() if display is None else Style(_rgb(display.GetColor()), 0.7 * display.GetOpacity())
        return [Thing(name, _modelShape(node), style)]
    if node.IsA("vtkMRMLMarkupsNode"):
        points = controlPoints(node)
        if len(points) == 0:
            raise InputError(f"Markups {name} have no points.")
        paths = tuple(_fromShown(node, path) for path in _markupPaths(node, points))
        colour = Style().colour if display is None else _rgb(display.GetSelectedColor())
        return [Thing(name, Paths(paths), Style(colour, 1.0))]
    raise InputError(f"{name} is neither a segmentation, a label map, a model nor markups.")


def _rgb(colour: Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def _maskThing(node: Node, layer: Layer, name: str, colour: Sequence[float]) -> Thing:
    here = layer.voxels != 0 if layer.label is None else layer.voxels == layer.label
    shape = surface_of_mask(Volume(here, layer.affine))
    return Thing(name, Surface(_fromOwn(node, shape.points), shape.triangles), Style(_rgb(colour)))


def _labelThing(node: Node, layer: Layer, colours: Node, alone: bool) -> Thing:
    rgba = [0.0, 0.0, 0.0, 0.0]
    known = colours is not None and colours.GetColor(layer.label, rgba)
    name = node.GetName() if alone else (colours.GetColorName(layer.label) if known else "") or str(layer.label)
    return _maskThing(node, layer, name, rgba[:3] if known else [part / 255 for part in Style().colour])


def _modelShape(node: Node) -> Surface | Paths:
    triangulate = vtk.vtkTriangleFilter()
    triangulate.SetInputData(node.GetPolyData() or vtk.vtkPolyData())
    triangulate.PassVertsOff()
    triangulate.Update()
    mesh = triangulate.GetOutput()
    if mesh.GetNumberOfCells() == 0:
        raise InputError(f"Model {node.GetName()} has neither a surface nor lines.")
    points = _fromOwn(node, numpy_support.vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64))
    if mesh.GetNumberOfPolys():
        return Surface(points, numpy_support.vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3))
    offsets = numpy_support.vtk_to_numpy(mesh.GetLines().GetOffsetsArray())
    order = numpy_support.vtk_to_numpy(mesh.GetLines().GetConnectivityArray())
    return Paths(tuple(points[order[a:b]] for a, b in pairwise(offsets)))


def _markupPaths(node: Node, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """World: a curve as Slicer draws it, a line from end to end, or single points."""
    if node.IsA("vtkMRMLMarkupsCurveNode"):
        curve = node.GetCurvePointsWorld()
        if curve is not None and curve.GetNumberOfPoints() > 1:
            return (numpy_support.vtk_to_numpy(curve.GetData()).astype(np.float64),)
    if node.IsA("vtkMRMLMarkupsLineNode") or node.IsA("vtkMRMLMarkupsAngleNode"):
        return (points,)
    return tuple(points[:, None])


def _fromOwn(node: Node, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of a node's own coordinates where the CTA was scanned: through its transforms, but for a result's."""
    parent, top = node.GetParentTransformNode(), resultTransformAbove(node)
    if parent is None or parent is top:
        return points
    general, before, after = vtk.vtkGeneralTransform(), vtk.vtkPoints(), vtk.vtkPoints()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(parent, top, general)
    before.SetData(numpy_support.numpy_to_vtk(np.ascontiguousarray(points, dtype=np.float64), deep=True))
    after.SetDataTypeToDouble()
    general.TransformPoints(before, after)
    return numpy_support.vtk_to_numpy(after.GetData()).copy()


def _fromShown(node: Node, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the world where the CTA was scanned: a result's transform above the node undone."""
    result = resultTransformAbove(node)
    if result is None:
        return points
    matrix = vtk.vtkMatrix4x4()
    result.GetMatrixTransformToWorld(matrix)
    return np.asarray(transform(np.linalg.inv(slicer.util.arrayFromVTKMatrix(matrix)), points))
