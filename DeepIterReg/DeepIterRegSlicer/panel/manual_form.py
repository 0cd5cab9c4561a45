"""The section "Manual adjustment": the head is moved by hand, and the picture follows."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

TURNS = ("turnRightSlider", "turnDownSlider", "turnBeamSlider")
SHIFTS = ("shiftRightSlider", "shiftDownSlider", "shiftBeamSlider")
REST_MS, POLL_MS = 200, 30


class ManualForm:
    """Moves the manual pose of the registration shown, which is made at the first movement.

    The transform node is the truth: whoever changes it, sliders, pictures and scores follow, in every view. Sliders and mouse
    move along the axes of the view that is shown.

    :param ui: the panel's widgets.
    :param onShow: called with a manual pose's transform that is to be shown.
    :param onProjection: called after the projection got other values.
    :param onRefine: called to refine from the pose shown.
    """

    def __init__(self, ui: Any, onShow: Any, onProjection: Any, onRefine: Any) -> None:
        self._ui, self._onShow, self._onProjection = ui, onShow, onProjection
        self._nodes: Any = None
        self._registration: Any = None
        self._text = ""  # of the registration: another one needs other things made ready
        self._busy = False
        self._history: Any = None
        self._views: list[Any] = []  # nodes of each view
        self._live: Any = None  # projector and score of each view, once they are ready
        self._worker: Any = None
        self._sharp: list[Any] = []  # the sharp images in the making
        self._isSharp = False  # they were begun for the pose that there is
        self._moving = False
        self._scores: Any = None  # of a manual pose that has not come to rest
        self._observed: Any = None  # transform and tag
        self._drag: Any = None
        self._dragFrom: Any = None
        self._dragged = False  # in this press of the button
        self._mode: Any = None  # node of Slicer's mouse mode, and tag
        self._rest, self._poll, self._work = qt.QTimer(), qt.QTimer(), qt.QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._poll.setInterval(POLL_MS)
        self._work.setInterval(0)
        self._rest.connect("timeout()", self._onRest)
        self._poll.connect("timeout()", self._onPoll)
        self._work.connect("timeout()", self._onWork)
        for name in (*TURNS, *SHIFTS):
            getattr(ui, name).connect("valueChanged(double)", self._onSlider)
        ui.viewComboBox.connect("currentIndexChanged(int)", self._showSliders)
        ui.manualUndoButton.connect("clicked()", self._onUndo)
        ui.manualRedoButton.connect("clicked()", self._onRedo)
        ui.manualResetButton.connect("clicked()", self._onReset)
        ui.manualDragButton.connect("toggled(bool)", self._onDragToggled)
        ui.manualDragStopButton.connect("clicked()", self._stopDrag)
        ui.manualRefineButton.connect("clicked()", onRefine)
        ui.manualCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)

    # -- what is shown ----------------------------------------------------------------------------------------

    def setNodes(self, nodes: Any) -> None:
        """Registration or manual pose shown, or None."""
        usable = nodes is not None and all(
            getattr(nodes, n) is not None for n in ("registration", "vessels", "projection")
        )
        # Between a registration and its manual pose everything made ready stays: only another registration needs its
        # own.
        if not usable or self._nodes is None or not self._isOfSame(nodes):
            self.stop()
            self._history = self._live = None
        self._observe(None)
        self._nodes, self._views = nodes if usable else None, []
        if usable:
            from DeepIterRegSlicer.scene import results

            self._views = results.viewsOf(nodes)
            registration = results.registrationOf(nodes)
            if self._registration is None or nodes.registration.GetText() != self._text:
                self._live = None
            self._registration, self._text = registration, nodes.registration.GetText()
            self._observe(nodes.ctaToCarm if results.isManual(nodes.ctaToCarm) else None)
            if not self._ui.manualCollapsibleButton.collapsed:
                self._prepare()
        self._showAll()

    def _isOfSame(self, nodes: Any) -> bool:
        """Whether these nodes are of the registration that is shown already, automatic or by hand."""
        from DeepIterRegSlicer.scene import results

        return results.automaticOf(nodes.ctaToCarm) is self._automatic()

    def setBusy(self, busy: bool) -> None:
        """While a registration runs nothing is moved."""
        if busy != self._busy:
            self._busy = busy
            self._ui.manualRefineButton.text = _("Refine from here")
            self._showAll()
            self._showScore()

    def showRefining(self) -> None:
        """What was pressed is under way, until nothing runs any more."""
        self._ui.manualRefineButton.text = _("Refining...")
        self._ui.manualScoreValueLabel.text = _("Refining from here: the bar below shows how far.")

    def stop(self) -> None:
        """No timer, no thread, no observer of the mouse goes on."""
        for timer in (self._rest, self._poll, self._work):
            timer.stop()
        if self._worker is not None:
            self._worker.cancel()
        self._worker, self._sharp = None, []
        self._moving = False
        self._scores = self._dragFrom = None
        self._stopDrag()

    def leave(self) -> None:
        """The panel goes or another scene comes."""
        self.stop()
        self._observe(None)

    def _automatic(self) -> Any:
        from DeepIterRegSlicer.scene import results

        return results.automaticOf(self._nodes.ctaToCarm)

    def _pose(self) -> Any:
        from DeepIterRegSlicer.scene import manual

        return manual.poseOf(self._nodes.ctaToCarm)

    def _carm(self) -> Any:
        """Of the view that is shown."""
        return self._registration.views[min(max(self._ui.viewComboBox.currentIndex, 0), len(self._views) - 1)].carm

    def _observe(self, node: Any) -> None:
        if self._observed is not None:
            held, tag = self._observed
            held.RemoveObserver(tag)
        self._observed = None
        if node is not None:
            # Not only the sliders move it: the module Transforms, a script and undo do so too.
            event = slicer.vtkMRMLTransformNode.TransformModifiedEvent
            self._observed = (node, node.AddObserver(event, self._onPose))

    def _showAll(self) -> None:
        ui, shown = self._ui, self._nodes is not None
        ready = shown and self._live is not None and not self._busy
        ui.manualCollapsibleButton.enabled = shown and not self._busy
        for name in (*TURNS, *SHIFTS, "manualRefineButton", "manualResetButton"):
            getattr(ui, name).enabled = ready
        views = slicer.app.layoutManager() is not None
        ui.manualDragButton.enabled = ready and views
        self._showButtons()
        if not shown:
            ui.manualScoreValueLabel.text = ""
        elif self._live is None:
            ui.manualScoreValueLabel.text = _("Preparing...") if self._worker is not None else ""
        self._showSliders()

    def _showSliders(self) -> None:
        values = [0.0] * 6
        if self._nodes is not None:
            from DeepIterRegLib.registration.manual import offset_between
            from DeepIterRegSlicer.scene import manual

            centre = self._registration.centre_cta_mm
            offset = offset_between(manual.poseOf(self._automatic()), self._pose(), centre, self._carm())
            values = [*offset.turn_deg, *offset.shift_mm]
        for name, value in zip((*TURNS, *SHIFTS), values, strict=True):
            slider = getattr(self._ui, name)
            # The sliders follow the transform. Told as movements, they would move it again.
            slider.blockSignals(True)
            slider.value = value
            slider.blockSignals(False)

    # -- made ready in a thread ----------------------------------------------------------------------------------

    def _onCollapsed(self, collapsed: bool) -> None:
        if not collapsed and self._nodes is not None:
            self._prepare()
            self._showAll()

    def _prepare(self) -> None:
        if self._live is not None or self._worker is not None or self._busy:
            return
        from DeepIterRegSlicer.scene import manual
        from DeepIterRegSlicer.worker import Worker

        self._worker = Worker(manual.liveJob(self._views))
        self._poll.start()

    def _onPoll(self) -> None:
        from DeepIterRegSlicer.worker import Failed, Finished

        if self._worker is None:
            self._poll.stop()
            return
        for event in self._worker.events():
            if isinstance(event, (Finished, Failed)):
                self._worker = None
                self._poll.stop()
                if isinstance(event, Failed):
                    self._ui.manualScoreValueLabel.text = str(event.error)
                    return
                self._live = event.result
                self._showAll()
                self._showScore()

    # -- movements -------------------------------------------------------------------------------------------------

    def _onSlider(self) -> None:
        from DeepIterRegLib.registration.manual import Offset, moved

        if self._nodes is None or self._live is None:
            return
        from DeepIterRegSlicer.scene import manual

        values = [getattr(self._ui, name).value for name in (*TURNS, *SHIFTS)]
        offset = Offset((values[0], values[1], values[2]), (values[3], values[4], values[5]))
        centre = self._registration.centre_cta_mm
        self._move(moved(manual.poseOf(self._automatic()), centre, self._carm(), offset))

    def _move(self, pose: Any, new: bool = False) -> None:
        """The manual pose is this; what follows within the rest time, unless `new`, is the same movement for undo."""
        if new or not self._moving:
            self._remember()
        self._moving = True
        self._put(pose)

    def _remember(self) -> None:
        """What is seen can be had again; also the manual pose where another is seen."""
        from DeepIterRegLib.registration.manual import History
        from DeepIterRegSlicer.scene import manual, results

        if self._history is None:
            self._history = History()
        made = results.manualOf(self._nodes.ctaToCarm)
        # To begin anew from the automatic pose overwrites the manual one, which would be lost.
        if made is not None and made is not self._nodes.ctaToCarm:
            self._history.add(manual.poseOf(made))
        self._history.add(self._pose())

    def _put(self, pose: Any) -> None:
        """Into the manual pose's transform, which is made, and shown, where it is not yet."""
        from DeepIterRegSlicer.scene import fill, manual, results

        node = results.manualOf(self._nodes.ctaToCarm) or fill.addManual(self._automatic())
        seen = node is self._nodes.ctaToCarm
        manual.setPose(node, pose)
        if not seen:
            self._onShow(node)
            self._onPose()

    def _onPose(self, caller: Any = None, event: Any = None) -> None:
        """The transform has changed, by whomever."""
        if self._nodes is None or self._nodes.projection is None:
            return
        self._sharp, self._isSharp = [], False
        self._work.stop()
        if self._live is not None:
            for view, live in zip(self._views, self._live, strict=False):
                self._write(view, live.projector.draft(self._pose()))
            self._onProjection()
            self._rest.start()
        self._showSliders()
        self._showScore()
        self._showButtons()

    def _showButtons(self) -> None:
        history = self._history
        ready = self._nodes is not None and self._live is not None and not self._busy
        self._ui.manualUndoButton.enabled = bool(ready and history is not None and history.can_undo)
        self._ui.manualRedoButton.enabled = bool(ready and history is not None and history.can_redo)

    def _write(self, view: Any, image: Any) -> None:
        from DeepIterRegSlicer.scene import slice_view

        # The node may have been deleted while its image was made.
        if view.projection.GetScene() is not None:
            slice_view.setProjection(view, image)

    def _showScore(self) -> None:
        from DeepIterRegSlicer.panel.results_form import scoreText
        from DeepIterRegSlicer.scene import results

        if self._live is None or self._nodes is None:
            return
        if any(live.score is None for live in self._live):
            self._ui.manualScoreValueLabel.text = _("unknown: registered by an older version; apply again")
            return
        views, pose = self._registration.views[: len(self._live)], self._pose()
        scores = [live.score(pose) for live in self._live]
        text = _("{score}; found automatically: {automatic:.3f}")
        lines = zip(scoreText(scores, views).split("\n"), views, strict=True)
        self._ui.manualScoreValueLabel.text = "\n".join(
            text.format(score=line, automatic=view.score) for line, view in lines
        )
        if results.isManual(self._nodes.ctaToCarm):
            self._scores = scores
            self._ui.scoreValueLabel.text = scoreText(scores, views)

    def _keepScores(self) -> None:
        """With the pose, once it rests: to write an attribute takes Slicer as long as to draw a picture."""
        from DeepIterRegSlicer.scene import manual, results

        if self._scores is not None and self._nodes is not None and results.isManual(self._nodes.ctaToCarm):
            manual.keepScores(self._nodes.ctaToCarm, self._scores)
        self._scores = None

    def _isPressed(self) -> bool:
        """Whether a mouse button is down: on a slider, or in the slice view."""
        return self._dragFrom is not None or qt.QApplication.mouseButtons() != qt.Qt.NoButton

    def _onRest(self) -> None:
        """No movement for a while: this one is over, unless the button is still down, and the picture is made sharp."""
        self._moving = self._isPressed()
        if self._moving:
            self._rest.start()  # the button will be up some time
        else:
            self._keepScores()
        if self._nodes is not None and self._live is not None and not self._isSharp:
            pose, self._isSharp = self._pose(), True
            self._sharp = [
                (view, live.projector.sharpen(pose)) for view, live in zip(self._views, self._live, strict=False)
            ]
            self._work.start()

    def _onWork(self) -> None:
        """A piece of the sharp image of a view; some milliseconds."""
        if not self._sharp or self._nodes is None:
            self._sharp = []
            self._work.stop()
            return
        view, pieces = self._sharp[0]
        image = next(pieces, None)
        if image is not None:
            self._write(view, image)
            self._onProjection()
            self._sharp.pop(0)

    def _onUndo(self) -> None:
        self._go(self._history.undo(self._pose()))

    def _onRedo(self) -> None:
        self._go(self._history.redo(self._pose()))

    def _go(self, pose: Any) -> None:
        self._moving = False
        if pose is not None:
            self._put(pose)
            self._keepScores()

    def _onReset(self) -> None:
        from DeepIterRegSlicer.scene import manual

        self._move(manual.poseOf(self._automatic()), new=True)
        self._moving = False
        self._keepScores()

    # -- dragging ------------------------------------------------------------------------------------------------

    def _onDragToggled(self, checked: bool) -> None:
        if self._drag is not None:
            self._drag.remove()
            self._drag = None
        self._observeMode(None)
        self._ui.manualDragStopButton.visible = False
        manager = slicer.app.layoutManager()
        if not checked or manager is None or self._nodes is None:
            return
        from DeepIterRegSlicer.parameters import LEFT
        from DeepIterRegSlicer.scene import manual

        widget = manager.sliceWidget(LEFT)
        if widget is None:
            return
        mode = manual.interactionNode()
        if mode is not None:
            # The tool chosen last is the one that the mouse has.
            mode.SetCurrentInteractionMode(mode.ViewTransform)
            self._observeMode(mode)
        interactor = widget.sliceView().interactor()
        sliceNode = widget.mrmlSliceNode()
        self._drag = manual.SliceDrag(interactor, sliceNode, self._onPress, self._onMove, self._onRelease)
        self._ui.manualDragStopButton.visible = True

    def _observeMode(self, node: Any) -> None:
        if self._mode is not None:
            held, tag = self._mode
            held.RemoveObserver(tag)
        self._mode = None if node is None else (node, node.AddObserver(node.InteractionModeChangedEvent, self._onMode))

    def _onMode(self, caller: Any, event: Any) -> None:
        """Another tool of the mouse was chosen, to place points or to window."""
        if caller.GetCurrentInteractionMode() != caller.ViewTransform:
            self._stopDrag()

    def _stopDrag(self) -> None:
        self._ui.manualDragButton.checked = False

    def _onPress(self) -> None:
        self._dragFrom, self._dragged = self._pose(), False

    def _onRelease(self) -> None:
        self._dragFrom, self._moving = None, False

    def _onMove(self, first: Any, last: Any, kind: str) -> None:
        from DeepIterRegLib.registration.manual import dragged, moved, tilted, turned_in_picture

        if self._nodes is None or self._live is None or self._dragFrom is None:
            return
        centre, carm, begin = self._registration.centre_cta_mm, self._carm(), self._dragFrom
        if kind == "tilt":
            offset = tilted(carm, first, last)
        else:
            follow = turned_in_picture if kind == "turn" else dragged
            offset = follow(begin, centre, carm, first, last)
        # From where the drag began, so that rounding of many small steps does not add up. A press is one movement for undo.
        self._move(moved(begin, centre, carm, offset), new=not self._dragged)
        self._dragged = True
