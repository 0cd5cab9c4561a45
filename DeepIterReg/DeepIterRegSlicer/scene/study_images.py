"""What a reader sees of a comparison: two slice views, the same run behind, the one or the other projection in front. No Qt.

The nodes' names say left and right and nothing else; they are not saved with the scene.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.results.report.images import RED
from DeepIterRegLib.studies.reader_study.reading import Comparison
from DeepIterRegSlicer.nodes.volumes import ijkToRas, imageOf, voxelsOf
from DeepIterRegSlicer.scene.display import brighten, fillHue, hiddenNode, isProjection, lookAt, showVessels, windowed
from DeepIterRegSlicer.words import _

Node = Any  # a vtkMRMLNode
STUDY = "DeepIterReg.Study"  # on the nodes made here: what they are
VIEWS = {"left": "Red", "right": "Yellow"}  # of Slicer's layout side by side
_PICTURE_AXES = np.diag([1.0, -1.0, 1.0, 1.0])  # a picture without a place: columns to the right, rows downwards


def showPair(comparison: Comparison) -> np.ndarray | None:
    """Both sides of a comparison in their slice views, whole and alike; as far as there are views.

    :returns: the run (t, row, column) for `showFrames`; None where the sides are finished overlays.

    Raises
    ------
    InputError
        An image that cannot be read.
    """
    behind, run = {}, None
    if comparison.dsa is None:
        for side in VIEWS:
            behind[side] = _fillPicture(side, getattr(comparison, side))
    else:
        volume = load_volume(comparison.dsa)
        run = volume.voxels
        dsa = _fillVolume("DSA", Volume(run[:1], volume.affine))
        # The study holds pictures of 8 bits, in the window of the run, so that every reader sees the same.
        windowed(dsa, 0.0, 255.0)
        for side in VIEWS:
            behind[side] = dsa
            _fillProjection(side, load_volume(getattr(comparison, side)))
    for side, view in VIEWS.items():
        composite = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")
        if composite is None:
            continue
        composite.SetLinkedControl(False)  # or one view's volumes could become the other's
        composite.SetBackgroundVolumeID(behind[side].GetID())
        composite.SetForegroundVolumeID(_found(side).GetID() if comparison.dsa is not None else None)
        composite.SetLabelVolumeID(None)
    fitPair()
    for view in VIEWS.values():
        composite = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")
        if composite is not None:
            composite.SetLinkedControl(True)
            composite.SetHotLinkedControl(True)
    return run


def fitPair() -> None:
    """Both sides whole in their slice views, at the size that these have now."""
    for view in VIEWS.values():
        sliceNode = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
        composite = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")
        volume = None if composite is None else slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
        if sliceNode is not None and volume is not None and volume.GetAttribute(STUDY) is not None:
            columns, rows, _ = volume.GetImageData().GetDimensions()
            lookAt(sliceNode, ijkToRas(volume), columns, rows)


def showFrames(run: np.ndarray, minip: bool, frame: int, first: int, last: int) -> None:
    """One frame (from 1) behind both projections, or the minimum over frames first..last.

    :param run: (slice, row, column), from `showPair`: the MinIP of the whole run, then frames.
    """
    if not minip:
        image = run[frame]
    elif (first, last) == (1, len(run) - 1):
        image = run[0]  # of all frames, also those that are not in the study
    else:
        image = run[first : last + 1].min(axis=0)
    dsa = _found("DSA")
    if dsa is not None:
        dsa.SetAndObserveImageData(imageOf(image[None].copy()))


def setLook(opacity: float, tint: bool, brightness: float) -> None:
    """Opacity 0..1, red or white, and brightness (1: as shown at first) of both projections alike."""
    table = _colours(tint)
    for side, view in VIEWS.items():
        composite = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")
        if composite is not None:
            composite.SetForegroundOpacity(opacity)
        projection = _found(side)
        if projection is not None and isProjection(projection):
            projection.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
            brighten(projection, brightness)


def removeNodes() -> None:
    """Take everything made here out of the scene."""
    for node in _nodes():
        _remove(node)
    for view in VIEWS.values():
        composite = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")
        if composite is not None:
            composite.SetLinkedControl(False)
            composite.SetHotLinkedControl(False)


# -- nodes --------------------------------------------------------------------------------------------------


def _nodes() -> list[Node]:
    found = []
    for kind in ("vtkMRMLVolumeNode", "vtkMRMLColorTableNode"):
        of_kind = slicer.mrmlScene.GetNodesByClass(kind)
        found += [of_kind.GetItemAsObject(n) for n in range(of_kind.GetNumberOfItems())]
    return [node for node in found if node.GetAttribute(STUDY) is not None]


def _found(name: str) -> Node:
    return next((node for node in _nodes() if node.GetAttribute(STUDY) == name), None)


def _kept(className: str, name: str) -> Node:
    """The node of this kind and name, made at first use; one of another kind is replaced."""
    node = _found(name)
    if node is not None and node.GetClassName() != className:
        _remove(node)
    return hiddenNode(className, STUDY, name, f"Study {name}")


def _remove(node: Node) -> None:
    display = node.GetDisplayNode() if node.IsA("vtkMRMLDisplayableNode") else None
    if display is not None:
        slicer.mrmlScene.RemoveNode(display)
    slicer.mrmlScene.RemoveNode(node)


def _fillVolume(name: str, volume: Volume) -> Node:
    node = _kept("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volume.affine))
    node.SetAndObserveImageData(imageOf(np.ascontiguousarray(volume.voxels)))
    return node


def _fillProjection(side: str, volume: Volume) -> Node:
    node = _fillVolume(side, volume)
    showVessels(node, voxelsOf(node.GetImageData()))
    return node


def _fillPicture(side: str, path: Path) -> Node:
    """A finished overlay: a picture in colour."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise InputError(
            _("{name} of the study cannot be read: copy the study's folder again.").format(name=path.name)
        ) from error
    node = _kept("vtkMRMLVectorVolumeNode", side)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(_PICTURE_AXES))
    node.SetAndObserveImageData(_colourImage(pixels))
    if node.GetDisplayNode() is None:
        display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeDisplayNode")
        display.SetSaveWithScene(False)
        node.SetAndObserveDisplayNodeID(display.GetID())
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    return node


def _colourImage(pixels: np.ndarray) -> Any:
    """Pixels (row, column, 3) uint8 as one slice in index space."""
    import vtk
    from vtk.util import numpy_support

    image = vtk.vtkImageData()
    image.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(pixels.reshape(-1, 3), deep=True))
    return image


def _colours(red: bool) -> Node:
    name = "red" if red else "white"
    table = _found(name)
    if table is None:
        table = _kept("vtkMRMLColorTableNode", name)
        fillHue(table, RED / 255.0 if red else np.ones(3))
    return table
