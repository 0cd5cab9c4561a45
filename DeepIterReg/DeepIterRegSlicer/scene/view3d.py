"""Where the 3D view looks from: at the head, at head and C-arm, from the X-ray source. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.results.export import cameras
from DeepIterRegSlicer.scene import results
from DeepIterRegSlicer.scene.results import Node, RegistrationNodes
from DeepIterRegSlicer.words import _

_MARGIN = 1.1  # between what is shown and the edge of the view
_FILL = "DeepIterReg fill light"  # name of the light of `lookFromSource`


def cameraNode() -> Node:
    """The camera of the first 3D view; None where there is no 3D view, as without a main window."""
    view, cameras_module = (
        slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLViewNode"),
        getattr(slicer.modules, "cameras", None),
    )
    if view is None or cameras_module is None:
        return None
    return cameras_module.logic().GetViewActiveCameraNode(view)


def fit(nodes: RegistrationNodes, camera: Node, carm: bool = False) -> None:
    """The registered vessels fill the view, seen from where it looks now.

    :param carm: source, isocentre and beam too.
    """
    held = [nodes.vessels]
    if carm:
        held += [node for view in results.viewsOf(nodes) for node in (view.carmPoints, view.frustum)]
    boxes = [box for node in held if node is not None and (box := _box(node)) is not None]
    if not boxes:
        return
    low, high = np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)
    lookFreely(camera)
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    away = np.array(camera.GetPosition()) - np.array(camera.GetFocalPoint())
    away = away / np.linalg.norm(away) if np.linalg.norm(away) > 0 else np.array([0.0, 1.0, 0.0])
    distance = _MARGIN * radius / np.sin(np.radians(camera.GetViewAngle()) / 2)
    with slicer.util.NodeModify(camera):
        camera.SetFocalPoint(*middle)
        camera.SetPosition(*(middle + distance * away))
        camera.SetParallelScale(_MARGIN * radius)
    camera.ResetClippingRange()


def _box(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    return (low, high) if (low <= high).all() else None


def lookFromSource(nodes: RegistrationNodes, camera: Node = None) -> None:
    """A 3D view's camera at the X-ray source, so that the view shows the angiogram's perspective: pixel for pixel in a view
    as wide and high as the angiogram, cut off at the sides in a narrower one.

    The world is C-arm RAS, where the registered vessels stand under `ctaToCarm`. The picture is mirrored as the angiogram is,
    which is seen from the detector; `lookFreely` ends that. A saved scene keeps the place, not mirroring and principal point.

    :param camera: of a view; else that of the first.
    :raises InputError: there is none.
    """
    camera = _given(camera)
    cameras.set_vtk_camera(camera.GetCamera(), cameras.vtk_camera(results.carmOf(nodes)))
    # A mirrored surface turns its inside to the lamp beside the camera, and would be black.
    light(_rendererOf(camera), True)
    camera.Modified()


def lookFreely(camera: Node = None) -> None:
    """Undo what of `lookFromSource` would disturb looking from elsewhere.

    :param camera: as there.
    :raises InputError: as there.
    """
    camera = _given(camera)
    held = camera.GetCamera()
    if held.GetUserTransform() is None:
        return  # nothing was done
    held.SetUserTransform(None)
    held.SetWindowCenter(0, 0)
    # VTK's own default.
    held.SetViewAngle(30)
    light(_rendererOf(camera), False)
    camera.Modified()


def _given(camera: Node) -> Node:
    found = camera or cameraNode()
    if found is None:
        raise InputError(_("There is no 3D view whose camera could be moved: Slicer has no window."))
    return found


def _rendererOf(camera: Node) -> Any:
    """The renderer that a camera node's camera is of; None where it is of no view here."""
    if getattr(slicer, "app", None) is None or cameraNode() is not camera:
        return None
    from DeepIterRegSlicer.scene.comparison import threeDRenderer

    return threeDRenderer()


def light(renderer: Any, on: bool) -> None:
    """A second lamp, which shines towards the camera from behind what it looks at; or none.

    :param renderer: may be None.
    """
    if renderer is None:
        return
    lights = renderer.GetLights()
    for n in reversed(range(lights.GetNumberOfItems())):
        if lights.GetItemAsObject(n).GetObjectName() == _FILL:
            renderer.RemoveLight(lights.GetItemAsObject(n))
    if on:
        renderer.CreateLight() if lights.GetNumberOfItems() == 0 else None
        lamp = vtk.vtkLight()
        lamp.SetObjectName(_FILL)
        lamp.SetLightTypeToCameraLight()
        lamp.SetPosition(0, 0, -1)
        lamp.SetFocalPoint(0, 0, 0)
        renderer.AddLight(lamp)
