"""What the slice view shows of a registration: a frame or the MinIP, and the CTA's projection over it."""

from __future__ import annotations

import numpy as np
import slicer

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.detector_image import detector_affine
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.results.report.images import RED, as_shown, vessel_projection
from DeepIterRegSlicer.nodes.volumes import ijkToRas, voxelsOf
from DeepIterRegSlicer.scene.display import brighten, lookAt
from DeepIterRegSlicer.scene.fill import fillVesselHue
from DeepIterRegSlicer.scene.results import (
    FIRST_FRAME,
    LAST_FRAME,
    POSITION,
    Node,
    RegistrationNodes,
    automaticOf,
    carmOf,
    isManual,
    registrationOf,
    registrationsIn,
    vesselsOf,
    viewNumber,
    viewsOf,
)


def showOverlay(nodes: RegistrationNodes, sliceNode: Node, compositeNode: Node, opacity: float = 0.75) -> None:
    """A slice view that looks at the detector as the angiogram is stored: run behind, projection in front."""
    compositeNode.SetBackgroundVolumeID(nodes.minip.GetID())
    compositeNode.SetForegroundVolumeID(nodes.projection.GetID())
    # A label map of something else would lie over the run.
    compositeNode.SetLabelVolumeID(None)
    compositeNode.SetForegroundOpacity(opacity)
    lookAtDetector(carmOf(nodes), sliceNode)


def lookAtDetector(carm: CArm, sliceNode: Node) -> None:
    """Columns to the right, rows downwards, the whole detector in view."""
    lookAt(sliceNode, detector_affine(carm), carm.columns, carm.rows)


def showVolume(volume: Node, sliceNode: Node, compositeNode: Node) -> None:
    """A run or image as it was loaded, alone and whole in a slice view."""
    compositeNode.SetBackgroundVolumeID(volume.GetID())
    compositeNode.SetForegroundVolumeID(None)
    compositeNode.SetLabelVolumeID(None)
    columns, rows, _ = volume.GetImageData().GetDimensions()
    lookAt(sliceNode, ijkToRas(volume), columns, rows)


def showFrame(nodes: RegistrationNodes, number: int, compositeNode: Node) -> None:
    """A frame (from 0; beyond the end the last) of the run behind the projection."""
    nodes.browser.SetSelectedItemNumber(min(number, nodes.frames.GetNumberOfDataNodes() - 1))
    compositeNode.SetBackgroundVolumeID(nodes.frame.GetID())


def showMinip(nodes: RegistrationNodes, first: int, last: int, compositeNode: Node) -> None:
    """The minimum over frames first..last (from 0, both included) behind the projection."""
    count = nodes.frames.GetNumberOfDataNodes()
    first, last = min(max(0, min(first, last)), count - 1), min(max(first, last), count - 1)
    asked = (str(first), str(last))
    if (nodes.minip.GetAttribute(FIRST_FRAME), nodes.minip.GetAttribute(LAST_FRAME)) != asked:
        image = voxelsOf(nodes.minip.GetImageData())
        frames = [voxelsOf(nodes.frames.GetNthDataNode(n).GetImageData()) for n in range(first, last + 1)]
        # Into the image that is shown, and only when the range is another: sliders ask for this many times a second.
        np.copyto(image, frames[0])
        for frame in frames[1:]:
            np.minimum(image, frame, out=image)
        with slicer.util.NodeModify(nodes.minip):
            nodes.minip.SetAttribute(FIRST_FRAME, asked[0])
            nodes.minip.SetAttribute(LAST_FRAME, asked[1])
        nodes.minip.GetImageData().GetPointData().GetScalars().Modified()
        nodes.minip.GetImageData().Modified()
    compositeNode.SetBackgroundVolumeID(nodes.minip.GetID())


def minipRange(nodes: RegistrationNodes) -> tuple[int, int]:
    """First and last frame (from 0) of the MinIP shown."""
    return int(nodes.minip.GetAttribute(FIRST_FRAME)), int(nodes.minip.GetAttribute(LAST_FRAME))


def setTint(nodes: RegistrationNodes, coloured: bool, colour: tuple[float, float, float] = tuple(RED / 255.0)) -> None:
    """The projection, and the vessels in 3D, in a colour (red, green, blue, 0..1), or the projection in white."""
    brightest = [0.0] * 4
    if coloured and nodes.tint is not None:
        nodes.tint.GetColor(255, brightest)
    # Not for the same colour again: every view that shows the table would follow.
    if coloured and nodes.tint is not None and not np.allclose(brightest[:3], colour, atol=1e-3):
        fillVesselHue(nodes.tint, np.array(colour))
        if nodes.vessels is not None and nodes.vessels.GetSegmentation().GetNumberOfSegments():
            nodes.vessels.GetSegmentation().GetNthSegment(0).SetColor(*colour)
    table = nodes.tint if coloured else nodes.plain
    if table is not None:
        nodes.projection.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())


def setBrightness(nodes: RegistrationNodes, brightness: float) -> None:
    """1 as shown at first; more makes thin vessels brighter."""
    brighten(nodes.projection, brightness)


def setProjection(nodes: RegistrationNodes, image: np.ndarray) -> None:
    """Other values (row, column), mm, for the projection shown; copied."""
    voxels = voxelsOf(nodes.projection.GetImageData())
    np.copyto(voxels[0], image)
    nodes.projection.GetImageData().GetPointData().GetScalars().Modified()
    nodes.projection.GetImageData().Modified()


def motionOf(nodes: RegistrationNodes) -> FrameMotion | None:
    """Where the head lay in each frame of the view; None where the result does not say it, as of a pose set by hand."""
    if isManual(nodes.ctaToCarm) or nodes.registration is None:
        return None
    return registrationOf(nodes).views[viewNumber(nodes) - 1].frames


def followHead(nodes: RegistrationNodes, frame: int | None, drawn: dict[tuple[str, int | None], np.ndarray]) -> bool:
    """The projection where the head lay in a frame (from 0), as far as it is known; None: where the pose shows it. Whether it changed.

    :param drawn: by projection and position: a picture (row, column) once made is used again.
    """
    motion = motionOf(nodes)
    position = None
    if frame is not None and motion is not None and motion.is_seen and nodes.vessels is not None:
        position = int(motion.of_frame[min(frame, len(motion.of_frame) - 1)])
    before = nodes.projection.GetAttribute(POSITION)
    if before == (None if position is None else str(position)):
        return False
    key = (nodes.projection.GetID(), position)
    if key not in drawn:
        found, vessels, carm = registrationOf(nodes), vesselsOf(nodes), carmOf(nodes)
        if motion is None or position is None:
            drawn[key] = vessel_projection(vessels, carm, found.cta_to_carm)
        else:
            seen = vessel_projection(vessels, carm, motion.cta_to_carm[position])
            drawn[key] = as_shown(seen, motion.undone[position])
    setProjection(nodes, drawn[key])
    nodes.projection.SetAttribute(POSITION, None if position is None else str(position))
    return True


def setCarmVisible(nodes: RegistrationNodes, visible: bool, sliceNode: Node = None) -> None:
    """Source, isocentre and beam of every view in the 3D view; with a slice view of the overlay, its image where the detector stood."""
    for view in viewsOf(nodes):
        for node in (view.carmPoints, view.frustum):
            _setVisible(node, visible)
    if sliceNode is not None and bool(sliceNode.GetSliceVisible()) != visible:
        sliceNode.SetSliceVisible(visible)


def setVesselsVisible(nodes: RegistrationNodes, visible: bool) -> None:
    """The registered vessels in the 3D view."""
    _setVisible(nodes.vessels, visible)


def showOnly(nodes: RegistrationNodes) -> None:
    """Of all registrations in the scene, only this one's C-arm and vessels in the 3D view; what of them, is not touched."""
    shown = automaticOf(nodes.ctaToCarm)
    for other in registrationsIn(shown.GetScene()):
        if other.ctaToCarm is not shown:
            setCarmVisible(other, False)
            setVesselsVisible(other, False)


def _setVisible(node: Node, visible: bool) -> None:
    display = node.GetDisplayNode() if node is not None else None
    # Not for the same again: every view would follow.
    if display is not None and bool(display.GetVisibility()) != visible:
        display.SetVisibility(visible)
