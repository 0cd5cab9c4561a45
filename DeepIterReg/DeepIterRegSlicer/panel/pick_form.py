"""The section "Pick a vessel": a place on the angiogram, its ray in the 3D view, and the vessel nearest to it."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from DeepIterRegLib.common.errors import InputError
from DeepIterRegSlicer.panel.sized import layOutAgain

POSE_MS = 100  # between two looks while the head is moved


class PickForm(VTKObservationMixin):
    """Follows a point that a person places or drags on the angiogram in the slice view.

    :param ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._hidden = ui, False
        self._nodes: Any = None
        self._vessels: Any = None  # chosen by a person
        self._points: Any = None  # of the vessels, until they change
        self._point: Any = None  # point list
        self._watched: Any = None  # vessels whose changes are followed
        self._again = False  # the pose has moved since the last look
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(POSE_MS)
        self._timer.connect("timeout()", self._onTimer)
        ui.pickPlaceWidget.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceSingleMarkup
        ui.pickCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)

    def setNodes(self, nodes: Any) -> None:
        """Registration or manual pose shown, or None."""
        self.pause()
        self._nodes = nodes
        self._ui.pickCollapsibleButton.enabled = nodes is not None
        self._open()

    def update(self, vessels: Any, hidden: bool) -> None:
        """Vessels to look among (None: those registered), and whether the overlay of the registration is not to be seen."""
        if vessels is not self._vessels or hidden != self._hidden:
            self._vessels, self._hidden, self._points = vessels, hidden, None
            self._show()

    def pause(self) -> None:
        """Nothing is followed any more."""
        self._ui.pickPlaceWidget.setPlaceModeEnabled(False)
        self.removeObservers()
        self._timer.stop()
        self._again = False
        self._points = self._point = self._watched = None

    def _onCollapsed(self, collapsed: bool) -> None:
        if collapsed:
            self._ui.pickPlaceWidget.setPlaceModeEnabled(False)
        else:
            self._open()

    def _open(self) -> None:
        """The point is there as soon as the section is open."""
        if self._nodes is None or self._ui.pickCollapsibleButton.collapsed:
            self._ui.pickPlaceWidget.setCurrentNode(None)
            self._ui.pickResultValueLabel.text = ""
            return
        from DeepIterRegSlicer.scene import roadmap

        self._point = roadmap.pickPoint(self._nodes)
        self._ui.pickPlaceWidget.setCurrentNode(self._point)
        for event in ("PointPositionDefinedEvent", "PointModifiedEvent", "PointRemovedEvent"):
            self._watch(self._point, getattr(slicer.vtkMRMLMarkupsNode, event), self._onPoint)
        self._watch(self._nodes.ctaToCarm, slicer.vtkMRMLTransformNode.TransformModifiedEvent, self._onPose)
        self._show()

    def _watch(self, node: Any, event: int, handle: Any) -> None:
        if not self.hasObserver(node, event, handle):
            self.addObserver(node, event, handle)

    def _onPoint(self, caller: Any, event: Any) -> None:
        if self._point is not None and len(self._placed()) > 1:
            qt.QTimer.singleShot(0, self._keepLast)  # not while the list tells of its new point
        self._show()

    def _onPose(self, caller: Any, event: Any) -> None:
        # While the head is moved not every step is followed: to draw ray and vessel takes longer than to move the picture.
        if self._timer.active:
            self._again = True
            return
        self._timer.start()
        self._show()

    def _onTimer(self) -> None:
        if self._again:
            self._again = False
            self._timer.start()
            self._show()

    def _placed(self) -> list[int]:
        """Numbers of the points that are placed; another may be under the mouse."""
        defined = slicer.vtkMRMLMarkupsNode.PositionDefined
        count = self._point.GetNumberOfControlPoints()
        return [n for n in range(count) if self._point.GetNthControlPointPositionStatus(n) == defined]

    def _keepLast(self) -> None:
        """A new place replaces the one before."""
        if self._point is not None:
            for n in reversed(self._placed()[:-1]):
                self._point.RemoveNthControlPoint(n)

    def _onVessels(self, caller: Any, event: Any) -> None:
        self._points = None
        self._show()

    def _vesselPoints(self) -> Any:
        """Of the vessels chosen; worked out once, and again when they change."""
        from DeepIterRegSlicer.scene import roadmap

        if self._points is None:
            source = self._vessels or self._nodes.vessels
            if self._watched is not None and self._watched is not source:
                self.removeObservers(self._onVessels)
            self._watched = source
            if source is not None:
                events = source.GetContentModifiedEvents()
                for n in range(events.GetNumberOfValues()):
                    self._watch(source, events.GetValue(n), self._onVessels)
            with slicer.util.WaitCursor():
                self._points = roadmap.vesselPoints(self._nodes, self._vessels)
        return self._points

    def _show(self) -> None:
        """Ray, vessel and words for the point as it is now."""
        if self._nodes is None or self._point is None or self._point.GetScene() is None:
            return
        from DeepIterRegSlicer.scene import roadmap

        try:
            text = self._found()
        except InputError as error:
            text = "\n".join(error.problems)
        if text is None:
            text = _("Press the button beside On the DSA, then click on the DSA in the slice view.")
        if text != self._ui.pickResultValueLabel.text:
            self._ui.pickResultValueLabel.text = text
            layOutAgain(self._ui.pickCollapsibleButton)
        # Where nothing is asked, no ray of an earlier question may stand.
        if not self._placed() or self._hidden:
            roadmap.clearPick(self._nodes)

    def _found(self) -> str | None:
        from DeepIterRegSlicer.scene import results, roadmap

        if self._hidden:
            # A ray through a wrong pose leads to a wrong vessel.
            raise InputError(_("The result is rejected: tick Show anyway below Confidence to pick all the same."))
        try:
            placed = roadmap.placedPixel(self._nodes, self._point)
            if placed is None:
                return None
            view, column, row = placed
            found = roadmap.nearestOn(view, column, row, self._vesselPoints())
        except InputError:
            roadmap.clearPick(self._nodes)
            raise
        roadmap.showPick(view, column, row, found)
        x, y, z = (float(value) for value in found.point_mm)
        text = _(
            "{distance:.1f} mm from the ray, {depth:.0f} mm from the source; in the CTA at {x:.1f}, {y:.1f}, {z:.1f} mm (RAS). "
            "Column {column:.0f}, row {row:.0f} of {view}."
        )
        name = results.registrationOf(view).views[results.viewNumber(view) - 1].name
        return text.format(
            distance=found.distance_mm, depth=found.depth_mm, x=x, y=y, z=z, column=column, row=row, view=name
        )
