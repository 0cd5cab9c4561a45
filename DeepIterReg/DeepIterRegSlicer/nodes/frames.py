"""The frames of a run: a sequence, its proxy volume, or a single volume."""

from __future__ import annotations

from DeepIterRegLib.common.errors import InputError
from DeepIterRegSlicer.nodes.transforms import Node
from DeepIterRegSlicer.words import _


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
        # A proxy does not know its sequence, so each browser is asked.
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
        raise InputError(_("No DSA is selected: choose the angiogram, or load its XA file."))
    sequence = sequenceOf(node)
    volumes = (
        [node] if sequence is None else [sequence.GetNthDataNode(n) for n in range(sequence.GetNumberOfDataNodes())]
    )
    name = f"DSA {node.GetName()}"
    if not volumes:
        raise InputError(_("{name} is a sequence without frames; load the angiogram again.").format(name=name))
    for volume in volumes:
        if volume is None or not volume.IsA("vtkMRMLScalarVolumeNode"):
            raise InputError(
                _("{name} does not hold images; choose an angiogram: a sequence of images, or one image.").format(
                    name=name
                )
            )
        image = volume.GetImageData()
        if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
            raise InputError(
                _("{name} has no pixels: its file could not be read, or it was emptied; load it again.").format(
                    name=name
                )
            )
        if image.GetNumberOfScalarComponents() != 1:
            raise InputError(
                _("{name} is in colour: a screenshot or report, not a run; give the original XA file.").format(
                    name=name
                )
            )
        if sequence is not None and image.GetDimensions() != volumes[0].GetImageData().GetDimensions():
            raise InputError(_("{name} has frames of different sizes; choose a run of one view.").format(name=name))
    return volumes
