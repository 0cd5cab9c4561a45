"""What the panel keeps in the scene."""

from __future__ import annotations

import enum
from typing import Annotated

from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLLinearTransformNode,
    vtkMRMLMarkupsCurveNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Minimum, WithinRange, parameterNodeWrapper

LEFT, RIGHT = "Red", "Yellow"  # slice views: of the registration shown, and of a second one beside it


class Init(enum.Enum):
    """Where the refinement starts; stored by name."""

    search = "search"
    network = "network"
    skull = "skull"
    bone = "skull"  # its name in scenes of earlier versions
    auto = "auto"
    radiological = "radiological"
    transform = "transform"
    landmarks = "landmarks"

    def label(self) -> str:
        """As the panel shows it."""
        return {
            "search": _("Search around the radiological pose"),
            "network": _("Network"),
            "skull": _("Skull in the mask frame"),
            "auto": _("Search, network and skull"),
            "radiological": _("Radiological pose"),
            "transform": _("A transform"),
            "landmarks": _("Paired landmarks"),
        }[self.value]


class Preset(enum.Enum):
    """How the pose is refined; stored by name."""

    default = "default"
    paper = "paper"

    def label(self) -> str:
        """As the panel shows it."""
        return {"default": _("Default"), "paper": _("Paper (slow)")}[self.value]


class Device(enum.Enum):
    """What computes; stored by name."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"

    def label(self) -> str:
        """As the panel shows it."""
        return {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("CUDA")}[self.value]


class Subtraction(enum.Enum):
    """What is done with the frames; stored by name."""

    auto = "auto"
    subtract = "subtract"
    as_is = "as_is"

    def label(self) -> str:
        """As the panel shows it."""
        return {"auto": _("Automatic"), "subtract": _("Subtract"), "as_is": _("Leave as they are")}[self.value]


class Comparison(enum.Enum):
    """How run and CTA are compared; stored by name."""

    overlay = "overlay"
    checkerboard = "checkerboard"
    flicker = "flicker"

    def label(self) -> str:
        """As the panel shows it."""
        return {"overlay": _("Overlay"), "checkerboard": _("Checkerboard"), "flicker": _("Flicker")}[self.value]


class View(enum.Enum):
    """Which of two DSAs the slice view shows; stored by name."""

    first = "first"
    second = "second"

    def label(self) -> str:
        """As the panel shows it."""
        return {"first": _("First DSA"), "second": _("Second DSA")}[self.value]


@parameterNodeWrapper
class DeepIterRegParameterNode:
    """What the panel keeps in the scene. Frames count from 1; `lastFrame` 0 is the run's last."""

    cta: vtkMRMLScalarVolumeNode
    dsa: vtkMRMLScalarVolumeNode | vtkMRMLSequenceNode | None
    dsa2: vtkMRMLScalarVolumeNode | vtkMRMLSequenceNode | None
    vessels: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    veins: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    dsaMask: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    reference: vtkMRMLLinearTransformNode

    contrastHu: Annotated[float, WithinRange(20, 200)] = 45.0
    openingRadiusVoxels: Annotated[int, WithinRange(0, 10)] = 1
    minComponentVoxels: Annotated[int, WithinRange(0, 100000)] = 1000
    firstFrame: Annotated[int, WithinRange(1, 9999)] = 1
    lastFrame: Annotated[int, WithinRange(0, 9999)] = 0
    maskFrames: str = ""
    subtraction: Subtraction = Subtraction.auto

    init: Init = Init.auto
    networkWeights: str = ""
    initialTransform: vtkMRMLLinearTransformNode
    ctaLandmarks: vtkMRMLMarkupsFiducialNode
    dsaLandmarks: vtkMRMLMarkupsFiducialNode

    preset: Preset = Preset.default
    device: Device = Device.auto
    seed: Annotated[int, Minimum(0)] = 0
    refineGeometry: bool = False
    betweenRuns: bool = False

    result: vtkMRMLLinearTransformNode
    view: View = View.first
    frame: Annotated[float, WithinRange(1, 9999)] = 1.0
    minip: bool = True
    minipFirst: Annotated[float, WithinRange(1, 9999)] = 1.0
    minipLast: Annotated[float, WithinRange(1, 9999)] = 9999.0
    opacity: Annotated[float, WithinRange(0, 1)] = 0.6
    tint: bool = True
    tintColour: str = "#e1262e"
    brightness: Annotated[float, WithinRange(0.1, 5)] = 1.0
    showCArm: bool = True
    showRejected: bool = False

    showRoadmap: bool = True
    pickVessels: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | vtkMRMLModelNode | vtkMRMLMarkupsCurveNode | None

    comparison: Comparison = Comparison.overlay
    tileMm: Annotated[float, WithinRange(5, 100)] = 20.0
    flickerHz: Annotated[float, WithinRange(0.5, 3)] = 1.5
    sideBySide: bool = False
    secondResult: vtkMRMLLinearTransformNode
