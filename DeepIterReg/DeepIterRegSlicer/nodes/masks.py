"""Segmentations and label maps to masks on the grid of a CTA or of a DSA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import slicer
import vtk

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.labels import labelled
from DeepIterRegLib.images.volume import Volume
from DeepIterRegSlicer.nodes.frames import frameNodes
from DeepIterRegSlicer.nodes.transforms import Node, placementOf
from DeepIterRegSlicer.nodes.volumes import ijkToRas, sampledOn, voxelsOf
from DeepIterRegSlicer.words import _


@dataclass(frozen=True)
class Layer:
    """Voxels, where they stand, and the label that counts (None: any but 0)."""

    voxels: np.ndarray
    affine: np.ndarray
    label: int | None


def maskSource(node: Node, grid: Callable[[], Volume]) -> Callable[[], Volume]:
    """A segmentation (all its segments) or a label map of one label as a mask on the grid of a volume; bool.

    Raises
    ------
    InputError
        No mask, an empty one, or a label map of several labels: in a segmentation a person sees which they are.
    """
    layers, placement = layersOf(node), placementOf(node)
    notes: tuple[str, ...] = ()
    if not node.IsA("vtkMRMLSegmentationNode"):
        layers, notes = _onlyLabel(node, layers[0])
    worldFromNode = placement.matrix

    @cache
    def mask() -> Volume:
        target = grid()
        united = np.zeros(target.voxels.shape, dtype=bool)
        for layer in layers:
            united |= _onGrid(layer, worldFromNode, placement.nonlinearFromWorld, target)
        return replace(target.with_voxels(united), notes=notes)

    return mask


def _onlyLabel(node: Node, layer: Layer) -> tuple[list[Layer], tuple[str, ...]]:
    """The one label of a label map, and what is to be said of it."""
    name = f"Mask {node.GetName()}"
    found = labelled(Volume(layer.voxels, layer.affine), name)
    if len(found.segments) > 1:
        table = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() is not None else None
        listed = "; ".join(
            replace(segment, name=table.GetColorName(segment.number) or "").words
            if table is not None
            else segment.words
            for segment in found.segments
        )
        raise InputError(
            _(
                "{name} holds {count} labels, and which are meant is not said: {listed}. Convert it to a segmentation "
                "(right click in the module Data), keep the segments that are meant, and choose that."
            ).format(name=name, count=len(found.segments), listed=listed)
        )
    return [replace(layer, voxels=found.segments[0].mask(), label=None)], found.notes


def _onGrid(layer: Layer, matrix: np.ndarray, nonlinear: vtk.vtkAbstractTransform | None, grid: Volume) -> np.ndarray:
    affine = matrix @ layer.affine
    voxels = layer.voxels
    here = (voxels != 0 if layer.label is None else voxels == layer.label).view(np.uint8)
    # Most masks are drawn on the CTA itself, and are taken to the voxel.
    if nonlinear is None and Volume(here, affine).same_grid(grid):
        return here.view(bool)
    return sampledOn(here, affine, nonlinear, grid, nearest=True, outside=0).view(bool)


def layersOf(node: Node) -> list[Layer]:
    """The masks of a segmentation or label map, one for each segment or label."""
    if node.IsA("vtkMRMLSegmentationNode"):
        return layersOfSegmentation(node)
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(_("{name} is neither a segmentation nor a label map.").format(name=node.GetName()))
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            _("Mask {name} has no voxels, or is in colour; give a segmentation or a label map.").format(
                name=node.GetName()
            )
        )
    return [Layer(voxelsOf(image), ijkToRas(node), None)]


def layersOfSegmentation(node: Node) -> list[Layer]:
    """The segments of a segmentation that have voxels, in the node's own frame."""
    return list(segmentLayers(node).values())


def segmentLayers(node: Node) -> dict[str, Layer]:
    """Segments that have a voxel, by their identifiers."""
    segmentation = node.GetSegmentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segmentation.GetNumberOfSegments() == 0:
        raise InputError(_("Segmentation {name} has no segments.").format(name=node.GetName()))
    if not segmentation.ContainsRepresentation(name) and not segmentation.CreateRepresentation(name):
        raise InputError(_("Segmentation {name} cannot be turned into a binary label map.").format(name=node.GetName()))
    layers = {}
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        image = segment.GetRepresentation(name)
        if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
            continue  # a segment without a single voxel
        matrix, extent = vtk.vtkMatrix4x4(), image.GetExtent()
        image.GetImageToWorldMatrix(matrix)
        affine = slicer.util.arrayFromVTKMatrix(matrix)
        # Segments are stored as the box around their voxels: the extent says where it begins.
        affine[:3, 3] += affine[:3, :3] @ np.array(extent[::2])
        layers[segmentId] = Layer(voxelsOf(image), affine, segment.GetLabelValue())
    if not layers:
        raise InputError(_("Segmentation {name} is empty: no segment has a voxel.").format(name=node.GetName()))
    return layers


def dsaMaskSource(node: Node, dsaNode: Node) -> Callable[[], np.ndarray]:
    """A mask drawn on the DSA as shown, on the pixels of its frames (row, column)."""
    volume = frameNodes(dsaNode)[0]
    shape = volume.GetImageData().GetDimensions()[::-1]
    affine = placementOf(dsaNode).matrix @ ijkToRas(volume) if dsaNode.IsA("vtkMRMLVolumeNode") else ijkToRas(volume)
    image = Volume(np.broadcast_to(np.zeros(1, np.uint8), (1, *shape[1:])), affine)
    mask = maskSource(node, lambda: image)
    return lambda: mask().voxels[0]
