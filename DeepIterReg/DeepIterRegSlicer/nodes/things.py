"""Segmentations, models and markups to what the roadmap draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.results.roadmap.shapes import Paths, Style, Surface, Thing, surface_of_mask
from DeepIterRegSlicer.nodes.masks import Layer, layersOf, segmentLayers
from DeepIterRegSlicer.nodes.transforms import Node, fromOwn, fromShown
from DeepIterRegSlicer.words import _


def controlPoints(node: Node) -> np.ndarray:
    """Defined control points (N, 3), world."""
    points = []
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == slicer.vtkMRMLMarkupsNode.PositionDefined:
            position = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(n, position)
            points.append(position)
    return np.array(points).reshape(-1, 3)


def partsOf(node: Node) -> list[str]:
    """What of a node is drawn in a style of its own: segments by identifier, labels by number, else one part without a name.

    Raises
    ------
    InputError
        As `thingsOf`.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        return list(segmentLayers(node))
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        (layer,) = layersOf(node)
        labels = [str(int(label)) for label in np.unique(layer.voxels) if label]
        if not labels:
            raise InputError(_("Label map {name} is empty: no voxel is set.").format(name=node.GetName()))
        return labels
    if node.IsA("vtkMRMLModelNode") or node.IsA("vtkMRMLMarkupsNode"):
        return [""]
    raise InputError(
        _("{name} is neither a segmentation, a label map, a model nor markups.").format(name=node.GetName())
    )


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
        for segmentId, layer in segmentLayers(node).items():
            if parts is None or segmentId in parts:
                segment = segmentation.GetSegment(segmentId)
                things.append(_maskThing(node, layer, segment.GetName(), segment.GetColor()))
        if not things:
            raise InputError(_("Segmentation {name} has none of the segments wanted.").format(name=name))
        return things
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        (layer,), labels = layersOf(node), partsOf(node)
        wanted = [label for label in labels if parts is None or label in parts]
        if not wanted:
            raise InputError(_("Label map {name} has none of the labels wanted.").format(name=name))
        colours = display.GetColorNode() if display is not None else None
        return [_labelThing(node, replace(layer, label=int(label)), colours, len(labels) == 1) for label in wanted]
    if node.IsA("vtkMRMLModelNode"):
        # 0.7 as other things have, so that the angiogram shows through an opaque model.
        style = Style() if display is None else Style(_rgb(display.GetColor()), 0.7 * display.GetOpacity())
        return [Thing(name, _modelShape(node), style)]
    if node.IsA("vtkMRMLMarkupsNode"):
        points = controlPoints(node)
        if len(points) == 0:
            raise InputError(_("Markups {name} have no points.").format(name=name))
        paths = tuple(fromShown(node, path) for path in _markupPaths(node, points))
        colour = Style().colour if display is None else _rgb(display.GetSelectedColor())
        return [Thing(name, Paths(paths), Style(colour, 1.0))]
    raise InputError(_("{name} is neither a segmentation, a label map, a model nor markups.").format(name=name))


def _rgb(colour: Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def _maskThing(node: Node, layer: Layer, name: str, colour: Sequence[float]) -> Thing:
    here = layer.voxels != 0 if layer.label is None else layer.voxels == layer.label
    shape = surface_of_mask(Volume(here, layer.affine))
    return Thing(name, Surface(fromOwn(node, shape.points), shape.triangles), Style(_rgb(colour)))


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
        raise InputError(_("Model {name} has neither a surface nor lines.").format(name=node.GetName()))
    points = fromOwn(node, numpy_support.vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64))
    if mesh.GetNumberOfPolys():
        return Surface(points, numpy_support.vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3))
    offsets = numpy_support.vtk_to_numpy(mesh.GetLines().GetOffsetsArray())
    order = numpy_support.vtk_to_numpy(mesh.GetLines().GetConnectivityArray())
    return Paths(tuple(points[order[a:b]] for a, b in pairwise(offsets)))


def _markupPaths(node: Node, points: np.ndarray) -> tuple[np.ndarray, ...]:
    """World: a curve as Slicer draws it, a line from end to end, or single points."""
    if node.IsA("vtkMRMLMarkupsCurveNode"):
        # The drawn curve and not its control points: Slicer interpolates in several ways.
        curve = node.GetCurvePointsWorld()
        if curve is not None and curve.GetNumberOfPoints() > 1:
            return (numpy_support.vtk_to_numpy(curve.GetData()).astype(np.float64),)
    if node.IsA("vtkMRMLMarkupsLineNode") or node.IsA("vtkMRMLMarkupsAngleNode"):
        return (points,)
    return tuple(points[:, None])
