"""A registration into the scene: nodes in one folder, found again after the scene was saved and reopened, and how they are shown.

Everything stands in C-arm RAS mm, the origin at the isocentre: the detector's images where the detector stood, the CTA's
vessels under the transform `ctaToCarm`, which the CTA itself can observe (`placeUnder`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration import Registration
from DeepIterRegLib.report.curves import level_names
from DeepIterRegLib.report.images import RED
from DeepIterRegLib.report.outputs import detector_affine, detector_image
from DeepIterRegLib.volume import Volume
from DeepIterRegSlicer.mrml import RESULT, imageOf, isResultTransform, layersOfSegmentation, voxelsOf
from DeepIterRegSlicer.prepared import ShownOutcome, ShownView
from DeepIterRegSlicer.shown import brighten, fillHue, lookAt, showVessels, windowed

Node = Any  # a vtkMRMLNode
NAME = "DeepIterReg"
_REFERENCE = "DeepIterReg."
_INPUTS = ("DeepIterReg.cta", "DeepIterReg.dsa", "DeepIterReg.dsa2")  # references of a result: what was registered
_VIEW = "DeepIterReg.View"  # on the projection of a further view: its number
OF_VIEW = (
    "frames",
    "browser",
    "frame",
    "minip",
    "contrast",
    "projection",
    "carmPoints",
    "frustum",
)  # each view has its own
_AUTOMATIC, _MANUAL = "DeepIterReg.automatic", "DeepIterReg.manual"  # references between the two transforms
MANUAL = "manual"  # the attribute `RESULT` of a manual pose
_FIRST, _LAST = "DeepIterReg.FirstFrame", "DeepIterReg.LastFrame"  # on the MinIP


@dataclass(frozen=True)
class RegistrationNodes:
    """Nodes of one registration; any of them may have been deleted since (then None).

    Attributes
    ----------
    ctaToCarm
        vtkMRMLLinearTransformNode, CTA to C-arm, RAS mm, to parent.
    registration
        vtkMRMLTextNode: registration.json.
    frames, browser, frame
        The subtracted run on the detector: sequence, its browser, and the frame that it shows.
    minip
        Minimum over a range of frames, on the detector.
    contrast
        The run's vessels that the CTA was compared with, 0..1, on the detector; below 0 where the image is not valid.
    projection
        The vessels as the C-arm would see them, mm, on the detector.
    tint, plain
        Colour tables of the projection: a colour, and white.
    vessels
        vtkMRMLSegmentationNode under `ctaToCarm`.
    carmPoints, frustum
        Markups of source and isocentre; model of the beam's edges.
    scores, chart
        Table and plot of the score by stage.
    """

    ctaToCarm: Node
    registration: Node
    frames: Node
    browser: Node
    frame: Node
    minip: Node
    contrast: Node
    projection: Node
    tint: Node
    plain: Node
    vessels: Node
    carmPoints: Node
    frustum: Node
    scores: Node
    chart: Node


# -- into the scene ---------------------------------------------------------------------------------------


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
    scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    try:
        made = {key: _reused(old, key, scene) or _added(scene, *names[key]) for key in names}
        registration = outcome.registration
        _fillTransform(made["ctaToCarm"], registration)
        made["registration"].SetText(json.dumps(registration.to_json_dict(), allow_nan=False))
        _fillHue(made["tint"], RED / 255.0)
        _fillHue(made["plain"], np.ones(3))
        _fillView(made, outcome, made["tint"])
        _fillVessels(made["vessels"], outcome, made["ctaToCarm"])
        for number, view in enumerate(outcome.furtherViews, 2):
            before = oldViews.pop(0) if oldViews else None
            kinds = _namesOfView(number)
            held = {key: _reused(before, key, scene) or _added(scene, *kinds[key]) for key in kinds}
            _fillView(held, view, made["tint"])
            held["projection"].SetAttribute(_VIEW, str(number))
            further.append(held)
        for surplus in oldViews:
            _remove(surplus, scene)
        series = _fillScores(made["scores"], made["chart"], registration)
    finally:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)
    # Outside the batch: the browser's proxy is made by observers.
    made["frame"] = _fillBrowser(made["browser"], made["frames"], outcome)
    nodes = RegistrationNodes(**made)
    for field in fields(nodes):
        node = getattr(nodes, field.name)
        if node is not nodes.ctaToCarm:
            nodes.ctaToCarm.SetNodeReferenceID(_REFERENCE + field.name, node.GetID())
    putInFolder([*(getattr(nodes, field.name) for field in fields(nodes)), *series], nodes.ctaToCarm)
    for number, (held, view) in enumerate(zip(further, outcome.furtherViews, strict=True), 2):
        held["frame"] = _fillBrowser(held["browser"], held["frames"], view)
        for key, node in held.items():
            nodes.ctaToCarm.SetNodeReferenceID(f"{_REFERENCE}{key}{number}", node.GetID())
        putInFolder(list(held.values()), nodes.ctaToCarm)
    return nodes


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


def _fillView(made: dict[str, Node], view: ShownView, tint: Node) -> None:
    carm = view.angiogram.carm
    _fillFrames(made["frames"], view)
    fillProjection(made["projection"], view.projection, carm, tint)
    _fillMinip(made["minip"], view)
    _place(made["contrast"], view.contrast, carm)
    windowed(made["contrast"], 0.0, 1.0)
    _fillCarm(made["carmPoints"], made["frustum"], carm)


def _remove(view: RegistrationNodes, scene: Node) -> None:
    """Take the nodes of a further view out of the scene."""
    number, manual = viewNumber(view), manualOf(view.ctaToCarm)
    byHand = None if manual is None else manual.GetNodeReference(f"{_REFERENCE}projection{number}")
    for key in OF_VIEW:
        view.ctaToCarm.RemoveNodeReferenceIDs(f"{_REFERENCE}{key}{number}")
    if manual is not None:
        manual.RemoveNodeReferenceIDs(f"{_REFERENCE}projection{number}")
    for node in (*(_reused(view, key, scene) for key in OF_VIEW), byHand):
        if node is not None:
            if node.IsA("vtkMRMLDisplayableNode") and node.GetDisplayNode() is not None:
                scene.RemoveNode(node.GetDisplayNode())
            scene.RemoveNode(node)


def _reused(old: RegistrationNodes | None, key: str, scene: Node) -> Node:
    node = getattr(old, key, None)
    return node if node is not None and node.GetScene() is scene else None


def _added(scene: Node, className: str, name: str) -> Node:
    return scene.AddNewNodeByClass(className, scene.GenerateUniqueName(name))


def _fillTransform(node: Node, registration: Registration) -> None:
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(registration.cta_to_carm))
    node.SetAttribute(RESULT, "ctaToCarm")


def _fillHue(node: Node, colour: np.ndarray) -> None:
    node.SetAttribute("Category", NAME)
    fillHue(node, colour)


def _place(node: Node, image: np.ndarray, carm: CArm) -> None:
    """An image (row, column) as the voxels of a volume node on the detector."""
    stood = detector_image(image, carm)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(stood.affine))
    node.SetAndObserveImageData(imageOf(stood.voxels))


def _fillFrames(node: Node, view: ShownView) -> None:
    run = view.angiogram
    with slicer.util.NodeModify(node):  # or the browser of an earlier run would follow every frame
        node.RemoveAllDataNodes()
        node.SetIndexName("time")
        node.SetIndexUnit("s")
        node.SetIndexTypeFromString("numeric")
        for time_s, image in zip(run.frame_times_s, run.frames, strict=True):
            frame = slicer.vtkMRMLScalarVolumeNode()
            frame.SetName("DSA frame")
            node.SetDataNodeAtValue(frame, f"{time_s:.6g}")  # copies all voxels, so there are none yet
            _place(frame, image, run.carm)
            node.UpdateDataNodeAtValue(frame, f"{time_s:.6g}", True)


def _fillBrowser(browser: Node, frames: Node, view: ShownView) -> Node:
    frame = browser.GetProxyNode(frames)
    with slicer.util.NodeModify(browser):
        browser.SetAndObserveMasterSequenceNodeID(frames.GetID())
        if frame is None:  # the browser would make one itself, and look for a window
            frame = frames.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", frames.GetName())
            browser.AddProxyNode(frame, frames, False)
        windowed(frame, *view.window)
        browser.SetSelectedItemNumber(view.fullest)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return frame


def _fillMinip(node: Node, view: ShownView) -> None:
    _place(node, view.minip.copy(), view.angiogram.carm)  # a copy: `showMinip` writes into it
    node.SetAttribute(_FIRST, "0")
    node.SetAttribute(_LAST, str(len(view.angiogram.frames) - 1))
    windowed(node, *view.window)


def fillProjection(node: Node, image: np.ndarray, carm: CArm, tint: Node) -> None:
    """A projection (row, column), mm, on the detector, in a colour table."""
    _place(node, image, carm)
    showVessels(node, image).SetAndObserveColorNodeID(tint.GetID())


def _fillVessels(node: Node, outcome: ShownOutcome, ctaToCarm: Node) -> None:
    node.CreateDefaultDisplayNodes()
    segmentation = node.GetSegmentation()
    segmentation.RemoveAllSegments()
    labels = slicer.vtkOrientedImageData()
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


def _fillCarm(points: Node, frustum: Node, carm: CArm) -> None:
    points.RemoveAllControlPoints()
    points.AddControlPoint(vtk.vtkVector3d(*carm.source_mm), "Source")
    points.AddControlPoint(vtk.vtkVector3d(0.0, 0.0, 0.0), "Isocentre")
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
    chart.SetTitle("Score by stage")
    chart.SetXAxisTitle("Iteration, or level from coarse to fine")
    chart.SetYAxisTitle("Score")
    return made


def putInFolder(nodes: list[Node], transform: Node) -> None:
    """Nodes into the folder of a registration, which is made if it is not there."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(transform.GetScene())
    held = tree.GetItemByDataNode(transform)
    folder = tree.GetItemParent(held) if held else 0
    if not folder or folder == tree.GetSceneItemID():
        folder = tree.CreateFolderItem(tree.GetSceneItemID(), tree.GenerateUniqueItemName(NAME))
    for node in nodes:
        item = tree.GetItemByDataNode(node) or tree.CreateItem(folder, node)
        tree.SetItemParent(item, folder)


# -- found again ------------------------------------------------------------------------------------------


def nodesOf(ctaToCarm: Node) -> RegistrationNodes:
    """The nodes of a registration by its transform, also in a reopened scene.

    A manual pose has transform and projection of its own, and all else from the registration that it was made of.
    """
    automatic = automaticOf(ctaToCarm)
    found = {field.name: automatic.GetNodeReference(_REFERENCE + field.name) for field in fields(RegistrationNodes)}
    if automatic is not ctaToCarm:
        found["projection"] = ctaToCarm.GetNodeReference(_REFERENCE + "projection")
    return RegistrationNodes(**{**found, "ctaToCarm": ctaToCarm})


def viewsOf(nodes: RegistrationNodes) -> list[RegistrationNodes]:
    """The nodes of a registration for each of its views: those of `OF_VIEW` differ, the first is `nodes` of the first view.

    A manual pose has a projection of its own in each view; one of an older scene is seen in the first view only.
    """
    automatic, views = automaticOf(nodes.ctaToCarm), [nodesOf(nodes.ctaToCarm)]
    while True:
        number = len(views) + 1
        own = {key: automatic.GetNodeReference(f"{_REFERENCE}{key}{number}") for key in OF_VIEW}
        if own["projection"] is not None:
            own["projection"] = nodes.ctaToCarm.GetNodeReference(f"{_REFERENCE}projection{number}")
        if own["projection"] is None:
            return views
        views.append(replace(views[0], **own))


def carmOf(nodes: RegistrationNodes) -> CArm:
    """The C-arm of the view whose nodes these are."""
    return registrationOf(nodes).views[viewNumber(nodes) - 1].carm


def viewNumber(nodes: RegistrationNodes) -> int:
    """Which view: 1 is the first."""
    return int((nodes.projection.GetAttribute(_VIEW) if nodes.projection is not None else None) or 1)


def automaticOf(ctaToCarm: Node) -> Node:
    """The transform that was found, of a manual pose; any other transform itself."""
    return ctaToCarm.GetNodeReference(_AUTOMATIC) or ctaToCarm


def manualOf(ctaToCarm: Node) -> Node:
    """The manual pose beside a transform that was found; None if there is none."""
    return automaticOf(ctaToCarm).GetNodeReference(_MANUAL)


def addManual(automatic: Node) -> Node:
    """A transform for a manual pose beside the one that was found, with a projection of its own; at first both are the same."""
    scene, nodes = automatic.GetScene(), nodesOf(automatic)
    manual = slicer.vtkMRMLLinearTransformNode()
    manual.SetName(scene.GenerateUniqueName(automatic.GetName() + " manual"))
    manual.SetAttribute(RESULT, MANUAL)  # before it is in the scene: selectors look when it comes
    manual = scene.AddNode(manual)
    manual.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(slicer.util.arrayFromTransformMatrix(automatic)))
    manual.SetNodeReferenceID(_AUTOMATIC, automatic.GetID())
    automatic.SetNodeReferenceID(_MANUAL, manual.GetID())
    made = [manual]
    for view in viewsOf(nodes):
        number = viewNumber(view)
        projection = _added(scene, "vtkMRMLScalarVolumeNode", view.projection.GetName() + " manual")
        image = voxelsOf(view.projection.GetImageData())[0]
        fillProjection(projection, image.copy(), carmOf(view), nodes.tint)
        if number > 1:
            projection.SetAttribute(_VIEW, str(number))
        which = "" if number == 1 else str(number)
        manual.SetNodeReferenceID(f"{_REFERENCE}projection{which}", projection.GetID())
        made.append(projection)
    putInFolder(made, automatic)
    return manual


def keepInputs(nodes: RegistrationNodes, inputs: tuple[Node, ...]) -> None:
    """Remember which CTA, DSA and, where there was one, second DSA were registered."""
    nodes.ctaToCarm.RemoveNodeReferenceIDs(_INPUTS[2])
    for name, node in zip(_INPUTS, inputs, strict=False):
        nodes.ctaToCarm.SetNodeReferenceID(name, node.GetID())


def inputsOf(ctaToCarm: Node) -> tuple[Node, ...] | None:
    """CTA, DSA and, where there was one, second DSA that were registered; None if one is gone, or was never told."""
    automatic = automaticOf(ctaToCarm)
    count = 2 if len(viewsOf(nodesOf(automatic))) == 1 else 3
    inputs = tuple(automatic.GetNodeReference(name) for name in _INPUTS[:count])
    return None if None in inputs else inputs


def replaceable(ctaToCarm: Node, inputs: tuple[Node, ...]) -> RegistrationNodes | None:
    """Nodes of a registration (or None) if it is of the same CTA and DSAs; others get nodes of their own."""
    if ctaToCarm is None or inputsOf(ctaToCarm) != tuple(inputs):
        return None
    return nodesOf(automaticOf(ctaToCarm))


def isRejected(nodes: RegistrationNodes) -> bool:
    """Whether a registration says of itself that it is wrong; of a manual pose it says nothing."""
    if isManual(nodes.ctaToCarm):
        return False
    confidence = json.loads(nodes.registration.GetText()).get("confidence")
    return confidence is not None and confidence["state"] == "rejected"


def isManual(ctaToCarm: Node) -> bool:
    """Whether a result's transform was set by hand."""
    return bool(ctaToCarm.GetAttribute(RESULT) == MANUAL)


def vesselsOf(nodes: RegistrationNodes) -> Volume:
    """The vessels that were registered, in the CTA's own frame."""
    layer = layersOfSegmentation(nodes.vessels)[0]
    return Volume(layer.voxels != 0 if layer.label is None else layer.voxels == layer.label, layer.affine)


def registrationsIn(scene: Node) -> list[RegistrationNodes]:
    """All registrations of a scene, oldest first; manual poses are not among them."""
    found = scene.GetNodesByClass("vtkMRMLLinearTransformNode")
    transforms = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    return [nodesOf(node) for node in transforms if isResultTransform(node) and not isManual(node)]


def registrationOf(nodes: RegistrationNodes) -> Registration:
    """The registration itself: pose, C-arm, scores, warnings."""
    return Registration.from_json_dict(json.loads(nodes.registration.GetText()))


def placeUnder(ctaToCarm: Node, node: Node) -> None:
    """Hang a CTA (or a mask of it), with the transforms it already has, under `ctaToCarm`; an earlier result is replaced."""
    while node.GetParentTransformNode() is not None and not isResultTransform(node.GetParentTransformNode()):
        node = node.GetParentTransformNode()
    node.SetAndObserveTransformNodeID(ctaToCarm.GetID())


# -- shown ------------------------------------------------------------------------------------------------


def showOverlay(nodes: RegistrationNodes, sliceNode: Node, compositeNode: Node, opacity: float = 0.75) -> None:
    """A slice view that looks at the detector as the angiogram is stored: run behind, projection in front."""
    compositeNode.SetBackgroundVolumeID(nodes.minip.GetID())
    compositeNode.SetForegroundVolumeID(nodes.projection.GetID())
    compositeNode.SetLabelVolumeID(None)
    compositeNode.SetForegroundOpacity(opacity)
    lookAtDetector(carmOf(nodes), sliceNode)


def lookAtDetector(carm: CArm, sliceNode: Node) -> None:
    """Columns to the right, rows downwards, the whole detector in view."""
    lookAt(sliceNode, detector_affine(carm), carm.columns, carm.rows)


def showFrame(nodes: RegistrationNodes, number: int, compositeNode: Node) -> None:
    """A frame (from 0; beyond the end the last) of the run behind the projection."""
    nodes.browser.SetSelectedItemNumber(min(number, nodes.frames.GetNumberOfDataNodes() - 1))
    compositeNode.SetBackgroundVolumeID(nodes.frame.GetID())


def showMinip(nodes: RegistrationNodes, first: int, last: int, compositeNode: Node) -> None:
    """The minimum over frames first..last (from 0, both included) behind the projection."""
    count = nodes.frames.GetNumberOfDataNodes()
    first, last = min(max(0, min(first, last)), count - 1), min(max(first, last), count - 1)
    asked = (str(first), str(last))
    if (nodes.minip.GetAttribute(_FIRST), nodes.minip.GetAttribute(_LAST)) != asked:
        image = voxelsOf(nodes.minip.GetImageData())
        frames = [voxelsOf(nodes.frames.GetNthDataNode(n).GetImageData()) for n in range(first, last + 1)]
        np.copyto(image, frames[0])
        for frame in frames[1:]:
            np.minimum(image, frame, out=image)
        nodes.minip.SetAttribute(_FIRST, asked[0])
        nodes.minip.SetAttribute(_LAST, asked[1])
        nodes.minip.GetImageData().GetPointData().GetScalars().Modified()
        nodes.minip.GetImageData().Modified()
    compositeNode.SetBackgroundVolumeID(nodes.minip.GetID())


def minipRange(nodes: RegistrationNodes) -> tuple[int, int]:
    """First and last frame (from 0) of the MinIP shown."""
    return int(nodes.minip.GetAttribute(_FIRST)), int(nodes.minip.GetAttribute(_LAST))


def setTint(nodes: RegistrationNodes, coloured: bool, colour: tuple[float, float, float] = tuple(RED / 255.0)) -> None:
    """The projection, and the vessels in 3D, in a colour (red, green, blue, 0..1), or the projection in white."""
    brightest = [0.0] * 4
    if coloured and nodes.tint is not None:
        nodes.tint.GetColor(255, brightest)
    if coloured and nodes.tint is not None and not np.allclose(brightest[:3], colour, atol=1e-3):
        _fillHue(nodes.tint, np.array(colour))
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


def setCarmVisible(nodes: RegistrationNodes, visible: bool, sliceNode: Node = None) -> None:
    """Source, isocentre and beam of every view in the 3D view; with a slice view of the overlay, its image where the detector stood."""
    for node in (node for view in viewsOf(nodes) for node in (view.carmPoints, view.frustum)):
        if node is not None and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(visible)
    if sliceNode is not None:
        sliceNode.SetSliceVisible(visible)
