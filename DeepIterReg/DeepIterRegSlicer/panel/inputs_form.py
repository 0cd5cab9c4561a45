"""The rows of the images: loaded from files, chosen by themselves where there is one of a kind, and the lists of points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

SELECTORS = ("ctaSelector", "dsaSelector", "dsa2Selector")


class InputsForm(VTKObservationMixin):
    """Follows what is loaded while the panel is shown.

    :param ui: the panel's widgets.
    :param logic: reads files.
    :param use: does something that needs the library's packages.
    :param parametersOf: gives the parameters of the scene; None while the panel is not shown.
    :param onArrived: called after nodes came into the scene.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        use: Callable[[Callable[[], None]], None],
        parametersOf: Callable[[], Any],
        onArrived: Callable[[], None],
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._logic, self._use = ui, logic, use
        self._parametersOf, self._onArrived = parametersOf, onArrived
        self._waiting = False
        self._had: set[str] = (
            set()
        )  # identifiers of what was chosen before: put away by a person, it is not taken again
        for name, button in (("dsa", ui.loadXaButton), ("dsa2", ui.loadXa2Button)):
            button.connect("clicked()", partial(self._onLoad, name))
        for which in ("cta", "dsa"):
            button = getattr(ui, which + "LandmarksNewButton")
            button.connect("clicked()", partial(self._onNewPoints, which))

    def watch(self, watching: bool) -> None:
        """While the panel is shown: what comes into the scene."""
        scene = slicer.mrmlScene
        self.removeObservers()
        if watching:
            for event in (scene.NodeAddedEvent, scene.EndBatchProcessEvent, scene.EndImportEvent):
                self.addObserver(scene, event, self._onScene)

    def _onScene(self, caller: Any, event: Any) -> None:
        # Once for all that comes at a time, and when it is whole: a node comes before its voxels do.
        if not self._waiting:
            self._waiting = True
            qt.QTimer.singleShot(0, self._onSettled)

    def _onSettled(self) -> None:
        self._waiting = False
        scene = slicer.mrmlScene
        if self._parametersOf() is not None and not (scene.IsBatchProcessing() or scene.IsClosing()):
            self._onArrived()

    def choose(self, parameters: Any) -> None:
        """Take the CTA and the DSA of the scene where nothing is chosen and there is one; leave out what is none."""
        try:
            from DeepIterRegSlicer.nodes import arrivals
        except ImportError:
            return  # the library's packages come with the first use
        scene = slicer.mrmlScene
        hidden = arrivals.helpersAmong(scene)
        for name in SELECTORS:
            model = getattr(self._ui, name).sortFilterProxyModel()
            if list(model.hiddenNodeIDs) != hidden:
                model.hiddenNodeIDs = hidden
        if parameters.cta is None and len(found := arrivals.ctasIn(scene)) == 1 and found[0].GetID() not in self._had:
            parameters.cta = found[0]
        runs = arrivals.runsIn(scene) if parameters.dsa is None else []
        if len(runs) == 1 and arrivals.carrierOf(runs[0]).GetID() not in self._had:
            parameters.dsa = runs[0]

    def forget(self) -> None:
        """Another scene comes."""
        self._had = set()

    def note(self, parameters: Any) -> None:
        """What is chosen now."""
        for node in (parameters.cta, parameters.dsa):
            if node is None or node.GetID() in self._had:
                continue
            try:
                from DeepIterRegSlicer.nodes import arrivals
            except ImportError:
                return
            self._had |= {node.GetID(), arrivals.carrierOf(node).GetID()}

    def showPoints(self, parameters: Any) -> None:
        """The widgets that place landmarks; where there is no list yet, a button that makes one."""
        for which in ("cta", "dsa"):
            points = getattr(parameters, which + "Landmarks")
            widget = getattr(self._ui, which + "LandmarksPlaceWidget")
            widget.setCurrentNode(points)
            widget.visible = points is not None
            getattr(self._ui, which + "LandmarksNewButton").visible = points is None

    def _onNewPoints(self, which: str) -> None:
        """The first press: a list, and the mouse places its points."""
        getattr(self._ui, which + "LandmarksSelector").addNode()
        getattr(self._ui, which + "LandmarksPlaceWidget").setPlaceModeEnabled(True)

    def _onLoad(self, name: str) -> None:
        types = _("Angiograms (*.dcm *.ima *.png *.tif *.tiff);;All files (*)")
        path = qt.QFileDialog.getOpenFileName(None, _("Load an angiogram"), "", types)
        if path:
            self._use(partial(self._load, name, path))

    def _load(self, name: str, path: str) -> None:
        from DeepIterRegSlicer.scene import comparison, slice_view

        node = self._logic.loadAngiogram(path)
        setattr(self._parametersOf(), name, node)
        sliceNode, composite = comparison.sliceNodes()
        if sliceNode is not None and composite is not None:
            slice_view.showVolume(node, sliceNode, composite)
