"""What the panel keeps in the scene."""

from __future__ import annotations

import enum
import math
from typing import Annotated, Any

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

from DeepIterRegLib.common.option import Option
from DeepIterRegLib.common.options import OPTIONS

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
            "auto": _("Skull, else search"),
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
    cuda_1 = "cuda:1"
    cuda_2 = "cuda:2"
    cuda_3 = "cuda:3"

    def label(self) -> str:
        """As the panel shows it."""
        return {
            "auto": _("Automatic"),
            "cpu": _("CPU"),
            "cuda": _("CUDA"),
            "cuda:1": _("CUDA, card 1"),
            "cuda:2": _("CUDA, card 2"),
            "cuda:3": _("CUDA, card 3"),
        }[self.value]


class Subtraction(enum.Enum):
    """What is done with the frames; stored by name."""

    auto = "auto"
    subtract = "subtract"
    as_is = "as_is"

    def label(self) -> str:
        """As the panel shows it."""
        return {"auto": _("Automatic"), "subtract": _("Subtract"), "as_is": _("Leave as they are")}[self.value]


class GeometryRefinement(enum.Enum):
    """Whether headers that contradict each other are corrected; stored by name."""

    auto = "auto"
    on = "on"
    off = "off"

    def label(self) -> str:
        """As the panel shows it."""
        return {"auto": _("Where they contradict each other"), "on": _("Always"), "off": _("Never")}[self.value]


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


class FollowSource(enum.Enum):
    """Where the runs of a procedure arrive; stored by name."""

    folder = "folder"
    database = "database"

    def label(self) -> str:
        """As the panel shows it."""
        return {"folder": _("A folder"), "database": _("Slicer's DICOM database")}[self.value]


class _Choice(enum.Enum):
    """The words of an option that no class above names; stored by name."""

    def label(self) -> str:
        """As the panel shows it."""
        return str(self.value).capitalize()


def withDeclaredOptions(cls: type) -> type:
    """Add a field for each declared option that the class does not name: its type, range and default as they are declared."""
    for option in OPTIONS.values():
        name = option.parameter
        if name and name not in cls.__annotations__ and option.kind != "start":
            # Before the wrapper sees the class: it reads annotations and defaults once, when it decorates.
            cls.__annotations__[name], default = _field(option)
            setattr(cls, name, default)
    return cls


def _field(option: Option) -> tuple[Any, Any]:
    """Annotation and default of the field for an option."""
    limits = [] if option.low == -math.inf else [Minimum(option.low)]
    if option.high < math.inf:
        limits = [WithinRange(option.low, option.high)]
    match option.kind:
        case "yes or no":
            return bool, option.default
        case "number":
            return Annotated[(float, *limits)] if limits else float, float(option.default)
        case "whole number":
            return Annotated[(int, *limits)] if limits else int, int(option.default)
        case "choice":
            words = _Choice(option.name, {word: word for word in option.choices})  # type: ignore[call-arg]
            return words, words(option.default)  # type: ignore[operator]
        case _:
            return str, option.default or ""


@parameterNodeWrapper
@withDeclaredOptions
class DeepIterRegParameterNode:
    """What the panel keeps in the scene; the options' own fields (`common.options`, `parameter`) come with `withDeclaredOptions`."""

    cta: vtkMRMLScalarVolumeNode
    # `| None` belongs to a union of nodes: Slicer's wrapper asks for it there, while a single class may be None as it
    # is.
    dsa: vtkMRMLScalarVolumeNode | vtkMRMLSequenceNode | None
    dsa2: vtkMRMLScalarVolumeNode | vtkMRMLSequenceNode | None
    vessels: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    veins: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    dsaMask: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | None
    reference: vtkMRMLLinearTransformNode

    openingRadiusVoxels: Annotated[int, WithinRange(0, 10)] = 1
    minComponentVoxels: Annotated[int, WithinRange(0, 100000)] = 1000
    subtraction: Subtraction = Subtraction.auto

    init: Init = Init.auto
    initialTransform: vtkMRMLLinearTransformNode
    ctaLandmarks: vtkMRMLMarkupsFiducialNode
    dsaLandmarks: vtkMRMLMarkupsFiducialNode

    preset: Preset = Preset.default
    geometryRefinement: GeometryRefinement = GeometryRefinement.auto
    device: Device = Device.auto

    result: vtkMRMLLinearTransformNode
    view: View = View.first
    # Numbers of frames are floats, as the values of ctk's sliders are.
    frame: Annotated[float, WithinRange(1, 9999)] = 1.0
    followHead: bool = True
    minip: bool = True
    minipFirst: Annotated[float, WithinRange(1, 9999)] = 1.0
    minipLast: Annotated[float, WithinRange(1, 9999)] = 9999.0
    opacity: Annotated[float, WithinRange(0, 1)] = 0.6
    tint: bool = True
    tintColour: str = "#e1262e"
    brightness: Annotated[float, WithinRange(0.1, 5)] = 1.0
    showCArm: bool = False
    showRejected: bool = False

    showRoadmap: bool = True
    pickVessels: vtkMRMLSegmentationNode | vtkMRMLLabelMapVolumeNode | vtkMRMLModelNode | vtkMRMLMarkupsCurveNode | None

    comparison: Comparison = Comparison.overlay
    tileMm: Annotated[float, WithinRange(5, 100)] = 20.0
    flickerHz: Annotated[float, WithinRange(0.5, 3)] = 1.5
    sideBySide: bool = False
    secondResult: vtkMRMLLinearTransformNode

    followSource: FollowSource = FollowSource.folder
    followIncoming: str = ""
    followSession: str = ""
    followRuns: str = ""  # rows of the list, as `scene.session` writes them
    followListed: str = ""  # the session whose runs they are
