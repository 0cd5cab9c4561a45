"""Point lists on the CTA and on the DSA to paired landmarks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import slicer
import vtk

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.landmarks import pose_from_landmarks
from DeepIterRegLib.geometry.pose import transform
from DeepIterRegLib.registration.landmarks import Landmarks, pixels_on_image
from DeepIterRegSlicer.nodes.frames import frameNodes
from DeepIterRegSlicer.nodes.things import controlPoints
from DeepIterRegSlicer.nodes.transforms import Node, placementOf, resultTransformAbove
from DeepIterRegSlicer.nodes.volumes import ijkToRas
from DeepIterRegSlicer.words import _


def landmarkSource(
    ctaLandmarks: Node, dsaLandmarks: Node, ctaNode: Node, dsaNode: Node, carm: CArm
) -> Callable[[], Landmarks]:
    """Paired points that tell a pose: placed on the CTA as it is shown, and on the DSA as loaded or on its detector image.

    Raises
    ------
    InputError
        Points that are missing, off the image, or fix no pose.
    """
    lists = (("CTA", ctaLandmarks), ("DSA", dsaLandmarks))
    missing = [
        _(
            "No landmarks on the {where} are selected: press Place points in the section Initialisation, or choose a point list there."
        ).format(where=where)
        for where, node in lists
        if node is None
    ]
    if missing:
        raise InputError(missing)
    shownAt = np.eye(4)
    # Points are placed where the CTA is seen. Under an earlier result that is not where it was scanned.
    if (result := resultTransformAbove(ctaNode)) is not None:
        matrix = vtk.vtkMatrix4x4()
        result.GetMatrixTransformToWorld(matrix)
        shownAt = slicer.util.arrayFromVTKMatrix(matrix)
    onCta = transform(np.linalg.inv(shownAt), controlPoints(ctaLandmarks))
    pixels = _pixelsOf(controlPoints(dsaLandmarks), dsaNode, carm)
    pose_from_landmarks(onCta, pixels, carm)  # now: all that is wrong is said at once
    found = Landmarks(tuple(_controlPointNames(ctaLandmarks)), onCta, pixels)
    return lambda: found


def _controlPointNames(node: Node) -> list[str]:
    """Labels of the defined control points."""
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    numbers = [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == defined]
    return [node.GetNthControlPointLabel(n) or str(n + 1) for n in numbers]


def _pixelsOf(positions: np.ndarray, dsaNode: Node, carm: CArm) -> np.ndarray:
    """Pixels (N, 2), column and row, of positions on the DSA's own slice or on the detector in C-arm RAS."""
    volume = frameNodes(dsaNode)[0]
    matrix = placementOf(dsaNode).matrix if dsaNode.IsA("vtkMRMLVolumeNode") else np.eye(4)
    toPixels = np.linalg.inv(matrix @ ijkToRas(volume))
    loaded = transform(toPixels, positions)
    pixels = pixels_on_image(positions, loaded, carm)
    lost = [str(n + 1) for n in np.flatnonzero(~np.isfinite(pixels).all(axis=1))]
    if lost:
        raise InputError(
            _("DSA landmarks number {numbers} do not lie on the DSA; place them on its image again.").format(
                numbers=", ".join(lost)
            )
        )
    return pixels
