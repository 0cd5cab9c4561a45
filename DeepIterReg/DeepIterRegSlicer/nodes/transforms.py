"""Transform nodes to poses, and what of the transforms above a node belongs to it.

Frames: `world` is Slicer's RAS mm. A transform made by an earlier registration (`isResultTransform`) and what is above it are left
out, so that a CTA that already hangs under its result is registered from where it was scanned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.pose import transform
from DeepIterRegLib.geometry.pose_files import as_rigid
from DeepIterRegSlicer.words import _

Node = Any  # a vtkMRMLNode
RESULT = "DeepIterReg.Result"  # on the transform that stands for a result


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
    nonlinearFromWorld: vtk.vtkAbstractTransform | None = None


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
    # A thread reads it while the node may change.
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
        raise InputError(
            _("Transform {name} is not linear; a rigid transform from CTA to C-arm is needed.").format(
                name=node.GetName()
            )
        )
    # Checked now: a scaled or sheared transform would otherwise only show in a result that fits nowhere.
    pose = as_rigid(slicer.util.arrayFromVTKMatrix(matrix), f"Transform {node.GetName()}")
    return lambda: pose


def fromOwn(node: Node, points: np.ndarray) -> np.ndarray:
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


def fromShown(node: Node, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the world where the CTA was scanned: a result's transform above the node undone."""
    result = resultTransformAbove(node)
    if result is None:
        return points
    matrix = vtk.vtkMatrix4x4()
    result.GetMatrixTransformToWorld(matrix)
    return np.asarray(transform(np.linalg.inv(slicer.util.arrayFromVTKMatrix(matrix)), points))
