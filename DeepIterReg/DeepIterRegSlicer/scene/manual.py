"""A pose moved by hand, in the scene, and the pointer that drags it. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.registration.manual import LiveScore
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.registration.vessels.targets import SATURATION_MM
from DeepIterRegLib.rendering.live import LiveProjector
from DeepIterRegSlicer.nodes.volumes import voxelsOf
from DeepIterRegSlicer.scene import results

Node = Any  # a vtkMRMLNode
_SCORE = "DeepIterReg.Score"  # on a manual pose
_DRAFT_MS = 25.0  # of all views together
_FIRST = 100.0  # before Slicer's own handling of the mouse, whose priority is 0


def poseOf(node: Node) -> np.ndarray:
    """Matrix (4, 4) to parent of a transform."""
    return np.array(slicer.util.arrayFromTransformMatrix(node))


def setPose(node: Node, cta_to_carm: np.ndarray) -> None:
    """Matrix (4, 4) to parent of a transform."""
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(cta_to_carm))


def scoresOf(node: Node) -> tuple[float, ...]:
    """Scores kept with a manual pose, one for each view; none where they are unknown."""
    return tuple(float(text) for text in (node.GetAttribute(_SCORE) or "").split())


def keepScores(node: Node, scores: Sequence[float]) -> None:
    """Keep the scores with the pose."""
    node.SetAttribute(_SCORE, " ".join(f"{score:.6f}" for score in scores))


@dataclass(frozen=True)
class LiveView:
    """What live updates of one view need; a scene of an older version has no score."""

    projector: LiveProjector
    score: LiveScore | None


def liveJob(views: Sequence[results.RegistrationNodes]) -> Callable[..., tuple[LiveView, ...]]:
    """A job for `Worker` that makes ready, away from any node, what live updates of the views (`results.viewsOf`) need."""
    registration, vessels = results.registrationOf(views[0]), results.vesselsOf(views[0])
    search = registration.settings.get("search", {})
    saturation_mm, seed = search.get("saturation_mm", SATURATION_MM), registration.settings.get("seed", 0)
    parts = [
        # Copied here: the thread may not touch a node.
        (record.carm, None if view.contrast is None else voxelsOf(view.contrast.GetImageData())[0].copy())
        for record, view in zip(registration.views, views, strict=False)
    ]

    def make(progress: Progress, shouldStop: ShouldStop) -> tuple[LiveView, ...]:
        progress.expect(expected(Step.PREPARE_VIEWS))
        made = []
        for number, (carm, contrast) in enumerate(parts, 1):
            projector = LiveProjector(vessels, carm, draft_ms=_DRAFT_MS / len(parts))
            projector.draft(registration.cta_to_carm)  # compiled now
            progress(Step.PREPARE_VIEWS, (number - 0.5) / len(parts))
            score = None if contrast is None else LiveScore(vessels, contrast, carm, saturation_mm, seed)
            if score is not None:
                # Also for the compiler's sake: the first movement of a slider must not wait for it.
                score(registration.cta_to_carm)
            made.append(LiveView(projector, score))
        return tuple(made)

    return make


def interactionNode() -> Node:
    """Slicer's mouse mode: the node that holds it; None without an application."""
    logic = slicer.app.applicationLogic() if getattr(slicer, "app", None) is not None else None
    return None if logic is None else logic.GetInteractionNode()


def placing() -> bool:
    """Whether a click in a view places a point."""
    node = interactionNode()
    return node is not None and node.GetCurrentInteractionMode() == node.Place


class SliceDrag:
    """The left button in a slice view: onPress(), onMove(first, last, kind) with positions (3,), RAS mm, and onRelease().

    `kind` is "shift", with Shift "turn", with Control "tilt", as the keys were when the button went down. In Slicer's mode to
    place points the button is Slicer's. Shift, with which Slicer moves its crosshair and the other views, is kept from it.
    """

    def __init__(
        self,
        interactor: Any,
        sliceNode: Node,
        onPress: Callable[[], None],
        onMove: Callable[[Any, Any, str], None],
        onRelease: Callable[[], None],
    ) -> None:
        self._interactor, self._sliceNode = interactor, sliceNode
        self._onPress, self._onMove, self._onRelease = onPress, onMove, onRelease
        self._first: np.ndarray | None = None
        self._kind = "shift"
        events = {
            "LeftButtonPressEvent": self._press,
            "MouseMoveEvent": self._move,
            "LeftButtonReleaseEvent": self._release,
        }
        self._tags = {name: interactor.AddObserver(name, handle, _FIRST) for name, handle in events.items()}

    def remove(self) -> None:
        """Leave the view as it was."""
        for tag in self._tags.values():
            self._interactor.RemoveObserver(tag)
        self._tags, self._first = {}, None

    def _press(self, caller: Any, event: str) -> None:
        if placing():
            return
        self._kind = "turn" if caller.GetShiftKey() else "tilt" if caller.GetControlKey() else "shift"
        self._first = self._position()
        self._onPress()
        self._keep(event)

    def _move(self, caller: Any, event: str) -> None:
        if self._first is not None:
            self._onMove(self._first, self._position(), self._kind)
            self._keep(event)
        elif caller.GetShiftKey() and not placing():
            self._keep(event)

    def _release(self, caller: Any, event: str) -> None:
        if self._first is not None:
            self._first = None
            self._onRelease()
            self._keep(event)

    def _position(self) -> np.ndarray:
        column, row = self._interactor.GetEventPosition()
        return np.array(self._sliceNode.GetXYToRAS().MultiplyPoint((column, row, 0, 1))[:3])

    def _keep(self, event: str) -> None:
        """From Slicer, which else moves the image or its window."""
        command = self._interactor.GetCommand(self._tags[event]) if event in self._tags else None
        if command is not None:
            command.SetAbortFlag(1)
