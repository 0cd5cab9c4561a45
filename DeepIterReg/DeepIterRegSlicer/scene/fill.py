"""A registration into nodes: each made or reused, filled, and put into the registration's folder."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.detector_image import detector_affine, detector_image
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report.curves import level_names
from DeepIterRegLib.results.report.images import RED
from DeepIterRegSlicer.nodes import helpers
from DeepIterRegSlicer.nodes.transforms import RESULT
from DeepIterRegSlicer.nodes.volumes import imageOf, voxelsOf
from DeepIterRegSlicer.scene.display import fillHue, showVessels, windowed
from DeepIterRegSlicer.scene.prepare import SceneView, ShownOutcome
from DeepIterRegSlicer.scene.removal import removeNodes
from DeepIterRegSlicer.scene.results import (
    AUTOMATIC_REFERENCE,
    FIRST_FRAME,
    LAST_FRAME,
    MANUAL,
    MANUAL_REFERENCE,
    NAME,
    OF_VIEW,
    POSITION,
    REFERENCE_PREFIX,
    RUN,
    VIEW_NUMBER,
    Node,
    RegistrationNodes,
    carmOf,
    manualOf,
    nodesOf,
    viewNumber,
    viewsOf,
)
from DeepIterRegSlicer.words import _


def show(outcome: ShownOutcome, old: RegistrationNodes | None = None) -> RegistrationNodes:
    """Fill the nodes of an earlier registration, as far as they are still there, or new ones in a folder of their own."""
    scene = slicer.mrmlScene
    names = {
        "ctaToCarm": ("vtkMRMLLinearTransformNode", "ctaToCarm"),
        "registration": ("vtkMRMLTextNode", "registration"),
        **_namesOfView(1),
        "tint": ("vtkMRMLColorTableNode", "CTA projection red"),
        "plain": ("vtkMRMLColorTableNode", "CTA projection white"),
        "vessels": ("vtkMRMLSegmentationNode", "CTA vessels"),
        "scores": ("vtkMRMLTableNode", "Scores"),
        "chart": ("vtkMRMLPlotChartNode", "Score"),
    }
    oldViews = [] if old is None else viewsOf(old)[1:]
    further = []
    # In one batch: selectors and views would else follow every single node.
    scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    try:
        made = {key: _reused(old, key, scene) or _added(scene, *names[key]) for key in names}
        registration = outcome.registration
        _fillTransform(made["ctaToCarm"], registration)
        made["registration"].SetText(json.dumps(registration.to_json_dict(), allow_nan=False))
        fillVesselHue(made["tint"], RED / 255.0)
        fillVesselHue(made["plain"], np.ones(3))
        _fillView(made, outcome, made["tint"])
        made["frame"] = _frameOf(made["browser"], made["frames"], outcome)
        _fillVessels(made["vessels"], outcome, made["ctaToCarm"])
        for number, view in enumerate(outcome.furtherViews, 2):
            before = oldViews.pop(0) if oldViews else None
            kinds = _namesOfView(number)
            held = {key: _reused(before, key, scene) or _added(scene, *kinds[key]) for key in kinds}
            _fillView(held, view, made["tint"])
            held["frame"] = _frameOf(held["browser"], held["frames"], view)
            held["projection"].SetAttribute(VIEW_NUMBER, str(number))
            further.append(held)
        for surplus in oldViews:
            _remove(surplus, scene)
        series = _fillScores(made["scores"], made["chart"], registration)
    finally:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)
    # Outside the batch: there the proxy is filled by observers.
    _showFullest(made["browser"], outcome)
    nodes = RegistrationNodes(**made)
    for field in fields(nodes):
        node = getattr(nodes, field.name)
        # References lead from the transform to all else: a reopened scene finds the registration again by them,
        # whatever its nodes are called.
        if node is not nodes.ctaToCarm:
            nodes.ctaToCarm.SetNodeReferenceID(REFERENCE_PREFIX + field.name, node.GetID())
    putInFolder([*(getattr(nodes, field.name) for field in fields(nodes)), *series], nodes.ctaToCarm)
    for number, (held, view) in enumerate(zip(further, outcome.furtherViews, strict=True), 2):
        _showFullest(held["browser"], view)
        for key, node in held.items():
            nodes.ctaToCarm.SetNodeReferenceID(f"{REFERENCE_PREFIX}{key}{number}", node.GetID())
        putInFolder(list(held.values()), nodes.ctaToCarm)
    markHelpers(nodes)
    return nodes


def markHelpers(nodes: RegistrationNodes) -> None:
    """Say of the nodes of a registration, in all its views, which are no inputs of another; also in scenes of earlier versions."""
    for view in viewsOf(nodes):
        for key in ("minip", "contrast", "projection", "carmPoints", "frustum"):
            helpers.mark(getattr(view, key), key)
        for key in ("frames", "frame"):
            helpers.mark(getattr(view, key), key, listed=True)


def _namesOfView(number: int) -> dict[str, tuple[str, str]]:
    """Class and name of the nodes that each view has of its own, but for the frame, which the browser's proxy is."""
    which = "" if number == 1 else f" {number}"
    return {
        "frames": ("vtkMRMLSequenceNode", f"DSA{which} on the detector"),
        "browser": ("vtkMRMLSequenceBrowserNode", f"DSA{which} on the detector browser"),
        "minip": ("vtkMRMLScalarVolumeNode", f"DSA{which} MinIP on the detector"),
        "contrast": ("vtkMRMLScalarVolumeNode", f"DSA{which} vessels on the detector"),
        "projection": ("vtkMRMLScalarVolumeNode", f"CTA projection{which}"),
        "carmPoints": ("vtkMRMLMarkupsFiducialNode", f"C-arm{which}"),
        "frustum": ("vtkMRMLModelNode", f"C-arm beam{which}"),
    }


def _fillView(made: dict[str, Node], view: SceneView, tint: Node) -> None:
    carm = view.angiogram.carm
    _fillFrames(made["frames"], view)
    fillProjection(made["projection"], view.projection, carm, tint)
    _fillMinip(made["minip"], view)
    _place(made["contrast"], view.contrast, carm)
    windowed(made["contrast"], 0.0, 1.0)
    fillCarm(made["carmPoints"], made["frustum"], carm)


def _remove(view: RegistrationNodes, scene: Node) -> None:
    """Take the nodes of a further view out of the scene."""
    number, manual = viewNumber(view), manualOf(view.ctaToCarm)
    byHand = None if manual is None else manual.GetNodeReference(f"{REFERENCE_PREFIX}projection{number}")
    # The references first: one that leads to a removed node would be taken for a view that is there.
    for key in OF_VIEW:
        view.ctaToCarm.RemoveNodeReferenceIDs(f"{REFERENCE_PREFIX}{key}{number}")
    if manual is not None:
        manual.RemoveNodeReferenceIDs(f"{REFERENCE_PREFIX}projection{number}")
    own = (*(_reused(view, key, scene) for key in OF_VIEW), byHand)
    removeNodes([node for node in own if node is not None])


def _reused(old: RegistrationNodes | None, key: str, scene: Node) -> Node:
    node = getattr(old, key, None)
    # A node that was deleted, or is of a closed scene, still exists for Python.
    return node if node is not None and node.GetScene() is scene else None


def _added(scene: Node, className: str, name: str) -> Node:
    return scene.AddNewNodeByClass(className, scene.GenerateUniqueName(name))


def _fillTransform(node: Node, registration: Registration) -> None:
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(registration.cta_to_carm))
    node.SetAttribute(RESULT, "ctaToCarm")


def fillVesselHue(node: Node, colour: np.ndarray) -> None:
    """The colour table of the CTA's projection: black to `colour` (3,), 0 to 1."""
    node.SetAttribute("Category", NAME)
    fillHue(node, colour)


def _place(node: Node, image: np.ndarray, carm: CArm) -> None:
    """An image (row, column) as the voxels of a volume node on the detector."""
    stood = detector_image(image, carm)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(stood.affine))
    node.SetAndObserveImageData(imageOf(stood.voxels))


def _fillFrames(node: Node, view: SceneView) -> None:
    run = view.angiogram
    images = _imagesOfRun(node.GetScene(), view.digest) or [imageOf(image[None]) for image in run.frames]
    placed = slicer.util.vtkMatrixFromArray(detector_affine(run.carm))
    with slicer.util.NodeModify(node):  # or the browser of an earlier run would follow every frame
        node.RemoveAllDataNodes()
        node.SetIndexName("time")
        node.SetIndexUnit("s")
        node.SetIndexTypeFromString("numeric")
        for time_s, image in zip(run.frame_times_s, images, strict=True):
            frame = slicer.vtkMRMLScalarVolumeNode()
            frame.SetName("DSA frame")
            node.SetDataNodeAtValue(frame, f"{time_s:.6g}")  # copies all voxels, so there are none yet
            frame.SetIJKToRASMatrix(placed)
            frame.SetAndObserveImageData(image)
            node.UpdateDataNodeAtValue(frame, f"{time_s:.6g}", True)
        node.SetAttribute(RUN, view.digest)


def _imagesOfRun(scene: Node, digest: str) -> list[vtk.vtkImageData]:
    """The images of a run that is in the scene already, for another result to share: nobody writes into them, and they are large."""
    found = scene.GetNodesByClass("vtkMRMLSequenceNode")
    for n in range(found.GetNumberOfItems()):
        held = found.GetItemAsObject(n)
        if held.GetAttribute(RUN) == digest:
            images = [held.GetNthDataNode(k).GetImageData() for k in range(held.GetNumberOfDataNodes())]
            if images and None not in images:
                return images
    return []


def _frameOf(browser: Node, frames: Node, view: SceneView) -> Node:
    """The volume that shows the browser's frame, with its window."""
    frame = browser.GetProxyNode(frames)
    with slicer.util.NodeModify(browser):
        browser.SetAndObserveMasterSequenceNodeID(frames.GetID())
        if frame is None:  # the browser would make one itself, and look for a window
            frame = frames.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", frames.GetName())
            browser.AddProxyNode(frame, frames, False)
        windowed(frame, *view.window)
    return frame


def _showFullest(browser: Node, view: SceneView) -> None:
    browser.SetSelectedItemNumber(view.fullest)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def _fillMinip(node: Node, view: SceneView) -> None:
    _place(node, view.minip.copy(), view.angiogram.carm)  # a copy: `showMinip` writes into it
    node.SetAttribute(FIRST_FRAME, "0")
    node.SetAttribute(LAST_FRAME, str(len(view.angiogram.frames) - 1))
    windowed(node, *view.window)


def fillProjection(node: Node, image: np.ndarray, carm: CArm, tint: Node) -> None:
    """A projection (row, column), mm, on the detector, in a colour table."""
    _place(node, image, carm)
    node.RemoveAttribute(POSITION)
    showVessels(node, image).SetAndObserveColorNodeID(tint.GetID())


def _fillVessels(node: Node, outcome: ShownOutcome, ctaToCarm: Node) -> None:
    node.CreateDefaultDisplayNodes()
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    labels = slicer.vtkOrientedImageData()
    # Labels and surface were made in the job's thread. To convert one into the other here would hold the window up.
    labels.ShallowCopy(imageOf(outcome.labels.voxels))
    labels.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(outcome.labels.affine))
    segment = slicer.vtkSegment()
    segment.SetName("Vessels")
    segment.SetColor(*(RED / 255.0))
    converter = slicer.vtkSegmentationConverter
    segment.AddRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName(), labels)
    segment.AddRepresentation(converter.GetSegmentationClosedSurfaceRepresentationName(), outcome.surface)
    segmentation.SetSourceRepresentationName(converter.GetSegmentationBinaryLabelmapRepresentationName())
    segmentation.AddSegment(segment, "Vessels")
    node.SetAndObserveTransformNodeID(ctaToCarm.GetID())
    node.GetDisplayNode().SetVisibility2D(False)  # the projection is what the slice view shows


def fillCarm(points: Node, frustum: Node, carm: CArm) -> None:
    """Markups of source and isocentre, and the model of the beam."""
    points.RemoveAllControlPoints()
    points.AddControlPoint(vtk.vtkVector3d(*carm.source_mm), "Source")
    points.AddControlPoint(vtk.vtkVector3d(0.0, 0.0, 0.0), "Isocentre")
    # Source and isocentre are where the C-arm had them: a drag by accident would move only the picture.
    points.SetLocked(True)
    points.CreateDefaultDisplayNodes()
    points.GetDisplayNode().SetVisibility2D(False)
    frustum.SetAndObservePolyData(_frustum(carm))
    frustum.CreateDefaultDisplayNodes()
    display = frustum.GetDisplayNode()
    display.SetColor(0.95, 0.75, 0.1)
    display.SetLineWidth(2)
    display.SetLighting(False)
    display.SetVisibility2D(False)


def _frustum(carm: CArm) -> vtk.vtkPolyData:
    """Lines from the source to the detector's corners, round the detector, and along the beam to its middle."""
    # Pixel 0 is a centre, so the image begins half a pixel before it.
    right, bottom = carm.columns - 0.5, carm.rows - 0.5
    corners = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom], carm.principal_point_px])
    positions = np.vstack([carm.source_mm, carm.pixel_positions(corners)])
    points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
    for position in positions:
        points.InsertNextPoint(*position)
    for path in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2, 3, 4, 1), (0, 5)):
        lines.InsertNextCell(len(path))
        for n in path:
            lines.InsertCellPoint(n)
    mesh = vtk.vtkPolyData()
    mesh.SetPoints(points)
    mesh.SetLines(lines)
    return mesh


def _fillScores(table: Node, chart: Node, registration: Registration) -> list[Node]:
    """A column for each stage; neither stages nor levels of one stage can be compared. Returns the plot series."""
    scene = table.GetScene()
    old = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    chart.RemoveAllPlotSeriesNodeIDs()
    table.RemoveAllColumns()
    longest = max((len(stage.scores) for stage in registration.stages), default=0)
    columns = {"Step": np.arange(1.0, longest + 1)}
    for stage in registration.stages:
        # A table has columns of one length, and a plot leaves out what is not-a-number.
        columns[stage.name] = np.concatenate([stage.scores, np.full(longest - len(stage.scores), np.nan)])
    for name, values in columns.items():
        array = numpy_support.numpy_to_vtk(np.ascontiguousarray(values, dtype=np.float64), deep=True)
        array.SetName(name)
        table.AddColumn(array)
    made = []
    colours = ((0.12, 0.47, 0.71), (0.84, 0.15, 0.16), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74))
    for n, stage in enumerate(registration.stages):
        series = old.pop(0) if old else _added(scene, "vtkMRMLPlotSeriesNode", stage.name)
        names = level_names(stage, registration.settings)
        series.SetName(": ".join([stage.name, ", ".join(names)] if names else [stage.name]))
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("Step")
        series.SetYColumnName(stage.name)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        # Levels do not compare, so nothing joins their points.
        series.SetLineStyle(series.LineStyleNone if names else series.LineStyleSolid)
        series.SetMarkerStyle(series.MarkerStyleCircle if names else series.MarkerStyleNone)
        series.SetColor(*colours[n % len(colours)])
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        made.append(series)
    for series in old:
        scene.RemoveNode(series)
    chart.SetTitle(_("Score by stage"))
    chart.SetXAxisTitle(_("Iteration, or level from coarse to fine"))
    chart.SetYAxisTitle(_("Score"))
    return made


def putInFolder(nodes: list[Node], transform: Node) -> None:
    """Nodes into the folder of a registration, which is made if it is not there."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(transform.GetScene())
    held = tree.GetItemByDataNode(transform)
    folder = tree.GetItemParent(held) if held else 0
    # Also where a person dragged the transform out of its folder: the top of the scene is everybody's.
    if not folder or folder == tree.GetSceneItemID():
        folder = tree.CreateFolderItem(tree.GetSceneItemID(), tree.GenerateUniqueItemName(NAME))
    for node in nodes:
        item = tree.GetItemByDataNode(node) or tree.CreateItem(folder, node)
        tree.SetItemParent(item, folder)


def addManual(automatic: Node) -> Node:
    """A transform for a manual pose beside the one that was found, with a projection of its own; at first both are the same."""
    scene, nodes = automatic.GetScene(), nodesOf(automatic)
    manual = slicer.vtkMRMLLinearTransformNode()
    manual.SetName(scene.GenerateUniqueName(automatic.GetName() + " manual"))
    manual.SetAttribute(RESULT, MANUAL)  # before it is in the scene: selectors look when it comes
    manual = scene.AddNode(manual)
    manual.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(slicer.util.arrayFromTransformMatrix(automatic)))
    manual.SetNodeReferenceID(AUTOMATIC_REFERENCE, automatic.GetID())
    automatic.SetNodeReferenceID(MANUAL_REFERENCE, manual.GetID())
    made = [manual]
    for view in viewsOf(nodes):
        number = viewNumber(view)
        projection = _added(scene, "vtkMRMLScalarVolumeNode", view.projection.GetName() + " manual")
        image = voxelsOf(view.projection.GetImageData())[0]
        fillProjection(projection, image.copy(), carmOf(view), nodes.tint)
        if number > 1:
            projection.SetAttribute(VIEW_NUMBER, str(number))
        which = "" if number == 1 else str(number)
        manual.SetNodeReferenceID(f"{REFERENCE_PREFIX}projection{which}", projection.GetID())
        helpers.mark(projection, "projection")
        made.append(projection)
    putInFolder(made, automatic)
    return manual
