"""Which registration of the scene is shown: the list, the way back to its overlay, and taking one away."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin
from vtk import VTK_OBJECT, calldata_type

RESULT = "DeepIterReg.Result"  # attribute of a result's transform, as in DeepIterRegSlicer.nodes.transforms


class ResultChoice(VTKObservationMixin):
    """The list is never disabled: it is the only way to a registration that is in the scene already.

    :param ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._ui = ui
        self._refused: Any = None  # a registration that a person put away by choosing none
        self._orphans: list[Any] = []  # of results that were just removed
        for selector in (ui.resultSelector, ui.secondResultSelector):
            selector.addAttribute("vtkMRMLLinearTransformNode", RESULT)

    def watch(self, watching: bool) -> None:
        """While the panel is there: what a result leaves behind when its transform is deleted, in the list's menu or elsewhere."""
        self.removeObservers()
        if watching:
            self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAboutToBeRemovedEvent, self._onRemoved)

    def take(self, parameters: Any) -> None:
        """The one registration of the scene is shown, several are offered."""
        found = self._transforms()
        texts = {0: _("None yet"), 1: _("None")}
        self._ui.resultSelector.noneDisplay = texts.get(
            len(found), _("{count} registrations: choose one").format(count=len(found))
        )
        if parameters.result is None and len(found) == 1 and found[0] is not self._refused:
            parameters.result = found[0]

    def chosen(self, before: Any, now: Any) -> None:
        """Another one is shown, or none."""
        if now is None and before is not None:
            self._refused = before

    def _transforms(self) -> list[Any]:
        """Of registrations; without the library, whose packages may not be installed yet."""
        found = slicer.mrmlScene.GetNodesByClass("vtkMRMLLinearTransformNode")
        nodes = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
        return [node for node in nodes if node.GetAttribute(RESULT) not in (None, "manual")]

    @calldata_type(VTK_OBJECT)
    def _onRemoved(self, caller: Any, event: Any, node: Any) -> None:
        if caller.IsClosing() or caller.IsBatchProcessing() or node is None or node.GetAttribute(RESULT) is None:
            return
        from DeepIterRegSlicer.scene import removal

        self._orphans += removal.leftBehind(node)
        if self._orphans:
            qt.QTimer.singleShot(0, self._removeOrphans)  # not while the scene tells that the node goes

    def _removeOrphans(self) -> None:
        from DeepIterRegSlicer.scene import removal

        orphans, self._orphans = self._orphans, []
        removal.removeNodes(orphans)
