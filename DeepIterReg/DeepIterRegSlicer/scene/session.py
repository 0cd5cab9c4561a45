"""Runs of a session in the scene: which node stands for which run, their list, and better poses of earlier ones. No Qt."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import slicer

from DeepIterRegLib.cases.session_folder import SESSION
from DeepIterRegLib.common.json_files import MALFORMED
from DeepIterRegLib.common.user_input import is_file
from DeepIterRegLib.images.detector_image import detector_affine
from DeepIterRegLib.registration.session import Together, placed_together
from DeepIterRegLib.results.session_page.page import RunRow
from DeepIterRegSlicer.nodes.transforms import isResultTransform
from DeepIterRegSlicer.scene import fill, manual, results, slice_view
from DeepIterRegSlicer.scene.prepare import ShownOutcome
from DeepIterRegSlicer.scene.results import Node

RUN = "DeepIterReg.SessionRun"  # on the transform of a run of the session: its name there
_ROUNDING = 1e-6  # of a matrix that was saved as text and read again


# -- the list, as the scene keeps it -----------------------------------------------------------------------


def rowsText(rows: tuple[RunRow, ...]) -> str:
    """The rows as the parameter node keeps them."""
    return json.dumps([asdict(row) for row in rows])


def rowsOf(text: str) -> tuple[RunRow, ...]:
    """What `rowsText` wrote; none of a text that something else wrote."""
    try:
        rows = tuple(RunRow(**{**values, "words": tuple(values["words"])}) for values in json.loads(text or "[]"))
    except MALFORMED:
        return ()
    return rows if all(_isPlain(row) for row in rows) else ()


def _isPlain(row: RunRow) -> bool:
    """Whether what the list shows is of its type: a scene may come from anywhere."""
    texts, numbers = (row.name, row.title, row.state, *row.words), (row.since_first_s, row.error_mm)
    return all(isinstance(text, str) for text in texts) and all(
        number is None or (isinstance(number, (int, float)) and math.isfinite(number)) for number in numbers
    )


def keptPath(folder: Path, scene: Node) -> str:
    """A folder as the scene keeps it: from the scene's own folder, where it lies in that, so that both can be moved together."""
    root = Path(scene.GetRootDirectory() or "")
    inside = scene.GetURL() and root.is_absolute() and folder.is_relative_to(root)
    return folder.relative_to(root).as_posix() if inside else str(folder)


def pathOf(text: str, scene: Node) -> Path:
    """The folder that `keptPath` wrote."""
    return Path(scene.GetRootDirectory() or "") / text


def isBegun(folder: Path) -> bool:
    """Whether a folder is that of a session."""
    return is_file(folder / SESSION)


# -- nodes ---------------------------------------------------------------------------------------------------


def runsIn(scene: Node) -> dict[str, Node]:
    """The transform that was found for each run of the session, by the run's name."""
    found = scene.GetNodesByClass("vtkMRMLLinearTransformNode")
    nodes = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    return {node.GetAttribute(RUN): node for node in nodes if isResultTransform(node) and node.GetAttribute(RUN)}


def runOf(result: Node) -> str:
    """Which run of the session a result, found or set by hand, belongs to; empty for any other."""
    return "" if result is None else results.automaticOf(result).GetAttribute(RUN) or ""


def handable(result: Node) -> str:
    """The run whose pose a result can be handed over as: one moved by hand, or another registration of that run, as from landmarks."""
    if result is None:
        return ""
    own, nodes = runOf(result), results.nodesOf(result)
    if own or nodes.registration is None:
        return own if results.isManual(result) else ""
    digest = results.registrationOf(nodes).input_hashes.get("dsa")
    found = {name: results.nodesOf(node).registration for name, node in runsIn(result.GetScene()).items()}
    same = (name for name, text in found.items() if text is not None and digest == _digestIn(text))
    return next(same, "") if digest else ""


def _digestIn(registration: Node) -> str:
    return str(json.loads(registration.GetText()).get("input_hashes", {}).get("dsa", ""))


def forget(scene: Node) -> None:
    """Another session begins: what is in the scene stays, and is a run of none."""
    for node in runsIn(scene).values():
        node.RemoveAttribute(RUN)


def addRun(row: RunRow, outcome: ShownOutcome, cta: Node) -> Node:
    """A run into the scene, not to be seen yet; into its own nodes where it is there already. Its transform."""
    scene = slicer.mrmlScene
    before = runsIn(scene).get(row.name)
    old = None if before is None else results.nodesOf(before)
    if before is not None and old is not None and not _isSameRun(old, outcome):
        before.RemoveAttribute(RUN)
        old = None
    nodes = fill.show(outcome, old)
    slice_view.setVesselsVisible(nodes, False)
    slice_view.setCarmVisible(nodes, False)
    if old is None:
        direction = row.title.partition(",")[0]
        nodes.ctaToCarm.SetName(scene.GenerateUniqueName(f"Run {row.name} {direction}"))
        nodes.ctaToCarm.SetAttribute(RUN, row.name)
    if cta is not None and cta.GetScene() is scene:
        results.keepInputs(nodes, (cta,))
    return nodes.ctaToCarm


def _isSameRun(nodes: results.RegistrationNodes, outcome: ShownOutcome) -> bool:
    if nodes.registration is None:
        return False
    return results.registrationOf(nodes).input_hashes.get("dsa") == outcome.registration.input_hashes.get("dsa")


def isByHand(transform: Node) -> bool:
    """Whether a person moved the head in a run: by the panel, which makes a second transform, or by changing the one found."""
    nodes = results.nodesOf(transform)
    if results.manualOf(transform) is not None or nodes.registration is None:
        return True
    found = results.registrationOf(nodes).cta_to_carm
    return not np.allclose(manual.poseOf(transform), found, rtol=0, atol=_ROUNDING)


def improve(transform: Node, together: Together, projection: np.ndarray) -> None:
    """Put a run where all runs together see it; `projection` (row, column), mm, as that C-arm shows the vessels there."""
    nodes = results.nodesOf(transform)
    found = placed_together(results.registrationOf(nodes), together)
    nodes.registration.SetText(json.dumps(found.to_json_dict(), allow_nan=False))
    manual.setPose(transform, found.cta_to_carm)
    placed = slicer.util.vtkMatrixFromArray(detector_affine(found.carm))
    frames = [nodes.frames.GetNthDataNode(n) for n in range(nodes.frames.GetNumberOfDataNodes())]
    with slicer.util.NodeModify(nodes.frames):
        for node in (*frames, nodes.frame, nodes.minip, nodes.contrast, nodes.projection):
            node.SetIJKToRASMatrix(placed)
    slice_view.setProjection(nodes, projection)
    nodes.projection.RemoveAttribute(results.POSITION)  # not where the head lay in a frame any more
    visible = nodes.carmPoints.GetDisplayNode().GetVisibility()
    fill.fillCarm(nodes.carmPoints, nodes.frustum, found.carm)
    nodes.carmPoints.GetDisplayNode().SetVisibility(visible)
