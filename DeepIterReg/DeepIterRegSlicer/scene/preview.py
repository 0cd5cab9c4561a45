"""Segment without registering, and show what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from DeepIterRegLib.cases.case import Case
from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation
from DeepIterRegLib.segmentation.cta.veins import segment_veins
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
from DeepIterRegLib.segmentation.dsa import DsaSegmentation, segment_dsa
from DeepIterRegSlicer.nodes.frames import frameNodes
from DeepIterRegSlicer.nodes.volumes import ijkToRas

Node = Any
ATTRIBUTE = "DeepIterReg.Preview"
COLOURS = {"Vessels": (0.86, 0.2, 0.18), "Veins": (0.2, 0.45, 0.85)}


@dataclass(frozen=True)
class Preview:
    """Masks of the CTA, bool on its grid, and of the DSA (row, column)."""

    vessels: Volume
    veins: Volume
    dsaVessels: np.ndarray


def run(
    case: Case,
    openingRadiusVoxels: int,
    minComponentVoxels: int,
    progress: Progress,
    shouldStop: ShouldStop,
) -> Preview:
    """Segment both images of a case. Touches no node.

    :raises InputError: an image that cannot be used.
    :raises Cancelled: `shouldStop` said so.
    """

    def report(step: Step, done: float) -> None:
        # The segmentation only tells its progress, so it is asked here.
        if shouldStop():
            raise Cancelled
        progress(step, done)

    progress.expect(expected(Step.READ_DSA, Step.READ_CTA, Step.SEGMENT_CTA, Step.SEGMENT_VEINS, Step.SEGMENT_DSA))
    report(Step.READ_DSA, 0.0)
    angiogram = case.angiogram()
    report(Step.READ_CTA, 0.0)
    cta = prepare_cta(case.cta())
    report(Step.SEGMENT_CTA, 0.0)
    vessels = segment_vessels(cta, CtaSegmentation.of(case), on_progress=lambda done: report(Step.SEGMENT_CTA, done))
    report(Step.SEGMENT_VEINS, 0.0)
    veins = segment_veins(vessels, openingRadiusVoxels, minComponentVoxels)
    report(Step.SEGMENT_DSA, 0.0)
    masks = segment_dsa(angiogram, DsaSegmentation.of(case))
    report(Step.SEGMENT_DSA, 1.0)
    return Preview(vessels, veins, masks.vessels)


def show(preview: Preview, ctaNode: Node, dsaNode: Node) -> tuple[Node, Node]:
    """A segmentation on the CTA and a label map on the DSA; an earlier preview is replaced."""
    segmentation = _node("vtkMRMLSegmentationNode", _("Preview of the CTA's vessels"))
    segmentation.CreateDefaultDisplayNodes()
    segmentation.GetSegmentation().RemoveAllSegments()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(ctaNode)
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation.GetSegmentation().SetSourceRepresentationName(name)
    for label, mask in (("Vessels", preview.vessels), ("Veins", preview.veins)):
        image = slicer.vtkOrientedImageData()
        image.ShallowCopy(_image(mask.voxels))
        image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(mask.affine))
        segment = slicer.vtkSegment()
        segment.SetName(label)
        segment.SetColor(*COLOURS[label])
        segment.AddRepresentation(name, image)
        segmentation.GetSegmentation().AddSegment(segment, label)
    labels = _node("vtkMRMLLabelMapVolumeNode", _("Preview of the DSA's vessels"))
    # On the DSA as it was loaded: there is no pose yet that would say where the detector stood.
    labels.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRas(frameNodes(dsaNode)[0])))
    labels.SetAndObserveImageData(_image(preview.dsaVessels[None]))
    labels.CreateDefaultDisplayNodes()
    return segmentation, labels


def _node(className: str, name: str) -> Node:
    scene = slicer.mrmlScene
    found = scene.GetNodesByClass(className)
    for n in range(found.GetNumberOfItems()):
        if found.GetItemAsObject(n).GetAttribute(ATTRIBUTE):
            return found.GetItemAsObject(n)
    node = scene.AddNewNodeByClass(className, name)
    node.SetAttribute(ATTRIBUTE, "1")
    return node


def _image(mask: np.ndarray) -> vtk.vtkImageData:
    image = vtk.vtkImageData()
    image.SetDimensions(*mask.shape[::-1])
    voxels = np.ascontiguousarray(mask).view(np.uint8).ravel()
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(voxels, deep=True))
    return image
