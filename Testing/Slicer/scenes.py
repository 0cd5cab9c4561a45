"""Nodes that several tests of the Slicer module start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

import helix
from DeepIterRegLib.cases.case import Outcome
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.segmentation.dsa import DsaMasks


def addVolume(
    voxels: np.ndarray, affine: np.ndarray | None = None, name: str = "CTA", className: str = "vtkMRMLScalarVolumeNode"
) -> Any:
    """A volume node from voxels (k, j, i) or (k, j, i, component)."""
    node = slicer.mrmlScene.AddNewNodeByClass(className, name)
    slicer.util.updateVolumeFromArray(node, voxels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.eye(4) if affine is None else affine))
    return node


def addTransform(matrix: np.ndarray, name: str = "moved") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def addGridTransform(displacement: Any, name: str = "acquisition transform") -> Any:
    """A grid transform, to parent, whose displacement (mm) is a function of position (..., 3) RAS; 10 mm apart over +-150 mm."""
    count, step, origin = 31, 10.0, -150.0
    image = vtk.vtkImageData()
    image.SetDimensions(count, count, count)
    image.SetSpacing(step, step, step)
    image.SetOrigin(origin, origin, origin)
    at = np.stack(np.meshgrid(*[origin + step * np.arange(count)] * 3, indexing="ij"), axis=-1)
    values = np.ascontiguousarray(displacement(at).transpose(2, 1, 0, 3).reshape(-1, 3))
    image.GetPointData().SetScalars(vtk.util.numpy_support.numpy_to_vtk(values, deep=True))
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", name)
    node.SetAndObserveTransformToParent(grid)
    return node


def addSegmentation(masks: dict[str, np.ndarray], affine: np.ndarray, name: str = "masks") -> Any:
    """A segmentation node with a segment for each mask (k, j, i)."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    for segment, mask in masks.items():
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*mask.shape[::-1])
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
        image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(affine))
        node.AddSegmentFromBinaryLabelmapRepresentation(image, segment)
    return node


def addPoints(positions: np.ndarray, name: str = "points") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for position in positions:
        node.AddControlPoint(vtk.vtkVector3d(*position))
    return node


def saveAndReopen(folder: Path) -> Any:
    """The scene written to an .mrb and read into an empty one, which becomes `slicer.mrmlScene`."""
    import standin

    bundle = folder / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(bundle))
    scene = standin.newScene()
    reader = slicer.vtkMRMLRemoteIOLogic()
    reader.SetMRMLScene(scene)
    reader.GetCacheManager().SetRemoteCacheDirectory(str(folder))
    reader.AddDataIOToScene()
    assert scene.ReadFromMRB(str(bundle))
    return scene


def openInto(bundle: Path, folder: Path) -> None:
    """Open an .mrb as a person does, in a Slicer that runs: the scene there is, is closed and filled again."""
    scene = slicer.mrmlScene
    reader = slicer.vtkMRMLRemoteIOLogic()
    reader.SetMRMLScene(scene)
    reader.GetCacheManager().SetRemoteCacheDirectory(str(folder))
    reader.AddDataIOToScene()
    scene.Clear(0)
    assert scene.ReadFromMRB(str(bundle))


def helixOutcome(size: int = 200, frames: int = 6) -> Outcome:
    """A registration of the helix to its own run, seen obliquely."""
    carm = CArm.from_angles(
        60, 15, sid_mm=1200, sod_mm=750, rows=size, columns=size + 40, pixel_spacing_mm=(200 / size, 200 / size)
    )
    bolus = np.interp(np.arange(frames), [0, frames / 2, frames - 1], [0.05, 1.0, 0.1])
    registration, angiogram, vessels = helix.registered(carm, bolus)
    return Outcome(registration, angiogram, vessels, _masksOf(angiogram))


def _masksOf(angiogram: Angiogram) -> DsaMasks:
    """What is dark is a vessel."""
    minip = angiogram.minip()
    dark = minip < -0.1
    return DsaMasks(minip, dark.astype(np.float32), dark, dark, ~dark, np.zeros(minip.shape, np.float32))


def helixOutcomeOfTwo(size: int = 200, frames: int = 6) -> Outcome:
    """The helix registered to two runs of it, the second from another side."""
    first = helixOutcome(size, frames)
    carm = CArm.from_angles(
        -25, -5, sid_mm=1150, sod_mm=740, rows=size, columns=size, pixel_spacing_mm=(220 / size, 220 / size)
    )
    registration, angiogram, _ = helix.registered(carm, np.interp(np.arange(frames), [0, frames - 1], [0.1, 1.0]))
    records = (first.registration.views[0], replace(registration.views[0], name="DSA 2", score=0.75))
    return replace(
        first, registration=replace(first.registration, views=records), further=((angiogram, _masksOf(angiogram)),)
    )


def addBall(
    centre: np.ndarray,
    radius: float = 15.0,
    colour: tuple[float, float, float] = (0.2, 0.4, 1.0),
    name: str = "ball",
    resolution: int = 40,
) -> Any:
    """A model node: a sphere, RAS mm."""
    source = vtk.vtkSphereSource()
    source.SetCenter(*centre)
    source.SetRadius(radius)
    source.SetThetaResolution(resolution)
    source.SetPhiResolution(resolution)
    source.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", name)
    node.SetAndObservePolyData(source.GetOutput())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetColor(*colour)
    return node
