"""Nodes to library objects: how Slicer holds a CTA, a mask, a pose, the frames of a run (`angiograms` has the rest of a run).

Every `...Source` is called on the main thread, checks the node, and returns a function without arguments that any thread may
call: it holds voxels and matrices, no node, so that a node deleted or changed afterwards does no harm.

Frames: `world` is Slicer's RAS mm. A transform made by an earlier registration (`isResultTransform`) and what is above it are left
out, so that a CTA that already hangs under its result is registered from where it was scanned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume
from DeepIterRegSlicer.nodes.frames import sequenceOf
from DeepIterRegSlicer.nodes.transforms import Node, placementOf, resultTransformAbove
from DeepIterRegSlicer.words import _

_SLAB = 8  # slices resampled at a time: VTK keeps Python's lock, so the panel waits this long


# -- transforms ---------------------------------------------------------------------------------------------


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
    # VTK has no bool; the bytes are the same.
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
        return [_("No CTA is selected: choose the volume of the CT angiogram.")]
    name = f"CTA {node.GetName()}"
    if sequenceOf(node) is not None:
        return [
            _(
                "{name} is a time series; a CTA is one volume: choose it, or export the frame with the contrast as a volume."
            ).format(name=name)
        ]
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        kind = "label map" if node.IsA("vtkMRMLLabelMapVolumeNode") else node.GetNodeTagName()
        return [_("{name} is a {kind}; the CTA must be a scalar volume in HU.").format(name=name, kind=kind)]
    image = node.GetImageData()
    if image is None or not image.GetPointData().GetScalars() or min(image.GetDimensions()) < 1:
        return [
            _("{name} has no voxels: its file could not be read, or it was emptied; load the CTA again.").format(
                name=name
            )
        ]
    if image.GetNumberOfScalarComponents() != 1:
        return [
            _("{name} is in colour ({count} values a voxel); the CTA must be in HU.").format(
                name=name, count=image.GetNumberOfScalarComponents()
            )
        ]
    if image.GetDimensions()[2] < 2:
        return [_("{name} has a single slice; a CTA is a volume of the head.").format(name=name)]
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
    nonlinear = placement.nonlinearFromWorld
    if nonlinear is None:
        return lambda: _volume(voxels, placement.matrix @ affine)
    grid = _regularGrid(node, affine)
    name = node.GetParentTransformNode().GetName()

    @cache
    def straightened() -> Volume:
        note = _("The CTA was resampled onto a regular grid, as its transform ({name}) is not linear.").format(
            name=name
        )
        outside = float(voxels.min())
        return Volume(sampledOn(voxels, affine, nonlinear, grid, nearest=False, outside=outside), grid.affine, (note,))

    return straightened


def _volume(voxels: np.ndarray, affine: np.ndarray) -> Volume:
    # HU need no more digits, and half the memory is saved.
    return Volume(voxels.astype(np.float32) if voxels.dtype == np.float64 else voxels, affine)


def _regularGrid(node: Node, affine: np.ndarray) -> Volume:
    """An empty grid with the node's spacing and directions, large enough for its bent box."""
    size = np.array(node.GetImageData().GetDimensions())
    toWorld, parent, top = vtk.vtkGeneralTransform(), node.GetParentTransformNode(), resultTransformAbove(node)
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(parent, top, toWorld)
    # Nine points along each axis, as a bent box may bulge between its corners.
    steps = np.stack(np.meshgrid(*[np.linspace(-0.5, n - 0.5, 9) for n in size], indexing="ij"), axis=-1).reshape(-1, 3)
    world = np.array([toWorld.TransformPoint(p) for p in steps @ affine[:3, :3].T + affine[:3, 3]])
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    along = np.linalg.solve(axes, world.T).T
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    count = np.ceil((along.max(axis=0) - along.min(axis=0)) / spacing).astype(int)
    # Four times the volume: a tilted gantry needs less, a transform gone wrong would fill the memory.
    if not np.isfinite(along).all() or np.prod(count.astype(float)) > 4 * np.prod(size.astype(float)):
        raise InputError(
            _(
                "CTA {name} is bent by transform {name2} so far that it cannot be put on a regular grid; "
                "take it out of the transform, or harden the transform on a copy and check it."
            ).format(name=node.GetName(), name2=parent.GetName())
        )
    grid = np.eye(4)
    grid[:3, :3] = axes * spacing
    grid[:3, 3] = axes @ (along.min(axis=0) + spacing / 2)
    return Volume(np.broadcast_to(np.zeros(1, np.uint8), tuple(count[::-1])), grid)


def sampledOn(
    voxels: np.ndarray,
    affine: np.ndarray,
    fromWorld: vtk.vtkAbstractTransform | None,
    grid: Volume,
    *,
    nearest: bool,
    outside: float,
) -> np.ndarray:
    """Voxels (k, j, i) at the places of another grid, which stands in the world; slab by slab, on that grid (k, j, i)."""
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


# -- frames --------------------------------------------------------------------------------------------------


# -- things to draw ------------------------------------------------------------------------------------------
