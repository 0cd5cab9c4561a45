"""What the views show: the sections "Display" and "Compare", and with their own forms "Roadmap" and "Pick a vessel"."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DeepIterRegSlicer.panel.pick_form import PickForm
from DeepIterRegSlicer.panel.roadmap_form import RoadmapForm
from DeepIterRegSlicer.panel.sized import whenSized
from DeepIterRegSlicer.parameters import LEFT, RIGHT, Comparison, View

NEEDED = ("registration", "frames", "frame", "browser", "minip", "projection")


class ViewerForm:
    """Brings the views to what the parameter node says.

    :param ui: the panel's widgets.
    :param setParameter: called with name and value of a parameter to change.
    """

    def __init__(self, ui: Any, setParameter: Any) -> None:
        self._ui, self._setParameter, self._nodes = ui, setParameter, None
        self._dsas: list[Any] = []  # nodes of the registration for each of its DSAs
        self._dsa: Any = None  # which of them is shown
        self._views: list[tuple[Any, str]] = []  # what is shown: nodes of a registration, slice view
        self._shown: dict[Any, Any] = {}
        self._parameters: Any = None
        self._layoutBefore: int | None = None
        self._split = self._dark = False
        self._looked = False  # the views were pointed at what is shown; before, nothing in them is changed
        self._before: Any = None  # what the slice views showed before
        self._zooms: dict[tuple[str, str], Any] = {}  # by slice view and MinIP: what of the detector was looked at
        self._carm3d: bool | None = None  # whether the C-arm is in the 3D view
        self._inFrames: dict[tuple[str, int | None], Any] = {}  # projections at positions of the head
        self._opaque: dict[str, bool] = {}  # by slice view: whether its overlay is a picture of its own
        self._roadmap, self._pick = RoadmapForm(ui, self._redraw), PickForm(ui)
        self._flicker = qt.QTimer()
        self._flicker.connect("timeout()", self._onFlicker)
        ui.tintColourButton.connect("colorChanged(QColor)", self._onColourChosen)

    def setNodes(self, nodes: Any) -> None:
        """Registration to show, or None."""
        nodes = nodes if nodes is not None and _complete(nodes) else None
        self._nodes, self._shown, self._inFrames = nodes, {}, {}
        self._showMotion(nodes)
        self._views = [] if nodes is None else [(nodes, LEFT)]
        self._dsas, self._dsa = [], None
        self._looked = False
        self._showDsaChoice()
        for section in ("overlayBox", "displayCollapsibleButton", "compareCollapsibleButton", "overlayButton"):
            getattr(self._ui, section).enabled = nodes is not None
        self._roadmap.setNodes(nodes)
        self._pick.setNodes(nodes)
        if nodes is None:
            self.pause()
            return
        from DeepIterRegSlicer.scene import fill, results

        fill.markHelpers(nodes)  # a scene of an earlier version does not say it
        self._dsas = [view for view in results.viewsOf(nodes) if _complete(view)]
        self._showDsaChoice()
        last = max(*(view.frames.GetNumberOfDataNodes() for view in self._dsas), 1)
        for slider in (self._ui.frameSlider, self._ui.minipFirstSlider, self._ui.minipLastSlider):
            slider.maximum = float(last)

    def keepDrawn(self, outcome: Any) -> None:
        """The projections that were made with the result that is shown: none of them is drawn while the window waits."""
        for nodes, view in zip(self._dsas, (outcome, *outcome.furtherViews), strict=False):
            drawn = [(None, view.projection), *enumerate(() if view.inFrames is None else view.inFrames)]
            self._inFrames |= {(nodes.projection.GetID(), position): image for position, image in drawn}

    def _showMotion(self, nodes: Any) -> None:
        """How far the head moved within the run, beside the choice to follow it."""
        motion = None
        if nodes is not None:
            from DeepIterRegSlicer.scene import slice_view

            motion = slice_view.motionOf(nodes)
        self._ui.motionLabel.text = "" if motion is None else motion.sentence
        for widget in (self._ui.motionLabel, self._ui.followCheckBox, self._ui.followCheckBoxLabel):
            widget.visible = motion is not None

    def _showDsaChoice(self) -> None:
        ui, several = self._ui, len(self._dsas) > 1
        ui.viewComboBox.enabled = ui.viewComboBox.visible = ui.viewComboBoxLabel.visible = several

    def openOverlay(self, parameters: Any, fit: bool = True) -> None:
        """Show all as the parameters say; with `fit` slice and 3D view are pointed at the whole detector and the head."""
        self._shown = {}
        if fit:
            self._look(parameters)
            self._carm3d = None
        self._looked = True
        self.update(parameters)

    def showAgain(self, parameters: Any, zoomed: bool = False) -> None:
        """Whatever the slice views show now, the overlay in them; with `zoomed` what of it was seen when the panel was left."""
        self._shown = {}
        self._look(parameters, self._zooms if zoomed else None)
        self.update(parameters)

    def leave(self) -> None:
        """Another module is shown: the views show again what they did before, where nobody has changed them since."""
        if self._before is None:
            return  # nothing was shown, and the packages may not be there
        from DeepIterRegSlicer.scene import comparison, slice_view, view_state

        for nodes, view in self._views:
            state = view_state.SliceState.of(view)
            if state is not None and nodes.minip is not None and isOurs(state):
                sliceNode, _composite = comparison.sliceNodes(view)
                self._zooms[view, nodes.minip.GetID()] = view_state.Zoom.of(sliceNode)
        for nodes, _view in self._views:
            if _complete(nodes):
                slice_view.followHead(nodes, None, self._inFrames)
        if self._split:
            self._join()
            self._views = []  # beside each other again when the panel is
        self._before.giveBack()

    def hide(self) -> None:
        """A registration that came while another module was shown: nothing of it is seen there."""
        from DeepIterRegSlicer.scene import slice_view

        if self._nodes is not None:
            slice_view.setCarmVisible(self._nodes, False)
            slice_view.setVesselsVisible(self._nodes, False)
            self._carm3d = None

    def update(self, parameters: Any) -> None:
        """Apply what differs from what is shown; costs nothing where nothing does."""
        self._parameters = parameters
        if self._nodes is None or not self._looked or not _complete(self._nodes):
            return
        self._arrange(parameters)
        self._pick.update(parameters.pickVessels, self._isHidden(self._nodes, parameters))
        for nodes, view in self._views:
            self._updateView(nodes, view, parameters)
        self._ui.frameSlider.enabled = self._ui.followCheckBox.enabled = not parameters.minip
        self._ui.minipFirstSlider.enabled = self._ui.minipLastSlider.enabled = parameters.minip
        self._ui.tileSlider.enabled = parameters.comparison is Comparison.checkerboard
        self._ui.flickerSlider.enabled = parameters.comparison is Comparison.flicker
        self._ui.secondResultSelector.enabled = parameters.sideBySide
        self._setFlicker(parameters)

    def projectionChanged(self) -> None:
        """The projection has other values: what was made of it is made again."""
        for nodes, view in self._views:
            if isinstance(self._shown.get(("foreground", view)), _Board):
                del self._shown["foreground", view]
                self._updateView(nodes, view, self._parameters)

    def _redraw(self) -> None:
        """The roadmap has changed."""
        if self._parameters is not None and self._nodes is not None and _complete(self._nodes):
            for nodes, view in self._views:
                self._updateView(nodes, view, self._parameters)

    def resume(self, parameters: Any) -> None:
        """The panel is shown again."""
        self._parameters = parameters
        if self._nodes is not None:
            self._setFlicker(parameters)

    def pause(self) -> None:
        """Nothing of the panel changes the views any more, and no view is left dark."""
        self._roadmap.pause()
        self._pick.pause()
        self._stopFlicker()

    def _stopFlicker(self) -> None:
        self._flicker.stop()
        if self._dark:
            self._onFlicker()

    def closeViews(self) -> None:
        """The scene goes: also the views beside each other."""
        self.pause()
        self._zooms, self._carm3d = {}, None
        if self._before is not None:
            self._before.forget()
        if self._split:
            self._join()

    # -- one view -------------------------------------------------------------------------------------------

    def _updateView(self, nodes: Any, view: str, parameters: Any) -> None:
        from DeepIterRegSlicer.scene import comparison, slice_view

        sliceNode, composite = comparison.sliceNodes(view)
        frames = (parameters.minip, parameters.frame, parameters.minipFirst, parameters.minipLast)
        if composite is not None and self._changed("frames", view, frames):
            if parameters.minip:
                slice_view.showMinip(
                    nodes, round(parameters.minipFirst) - 1, round(parameters.minipLast) - 1, composite
                )
            else:
                slice_view.showFrame(nodes, round(parameters.frame) - 1, composite)
        followed = round(parameters.frame) - 1 if parameters.followHead and not parameters.minip else None
        if self._changed("follow", view, followed) and slice_view.followHead(nodes, followed, self._inFrames):
            self._shown.pop(("foreground", view), None)  # tiles are made of the projection
        if self._changed("tint", view, (parameters.tint, parameters.tintColour)):
            slice_view.setTint(nodes, parameters.tint, _rgb(parameters.tintColour))
        if self._changed("brightness", view, parameters.brightness):
            slice_view.setBrightness(nodes, parameters.brightness)
        hidden = self._isHidden(nodes, parameters)
        if composite is not None:
            self._updateForeground(nodes, view, composite, parameters, hidden)
        # There is one 3D view, which shows what the left view does.
        if view == LEFT and self._changed("pose", view, (nodes.ctaToCarm, hidden)):
            self._showPose(nodes, hidden)
        if view == LEFT and self._changed("carm", view, parameters.showCArm):
            slice_view.setCarmVisible(nodes, parameters.showCArm, sliceNode)
            self._fit3d(nodes, parameters.showCArm)

    def _isHidden(self, nodes: Any, parameters: Any) -> bool:
        from DeepIterRegSlicer.scene import results

        return bool(results.isRejected(nodes) and not parameters.showRejected)

    def _updateForeground(self, nodes: Any, view: str, composite: Any, parameters: Any, hidden: bool) -> None:
        """The overlay: nothing, tiles, the roadmap (which holds the frame behind it), or the CTA's vessels."""
        from DeepIterRegSlicer.scene import comparison

        made: Any = None
        if hidden:
            made = "hidden"
        elif parameters.comparison is Comparison.checkerboard:
            colour = _rgb(parameters.tintColour) if parameters.tint else comparison.DARK
            made = _Board((parameters.tileMm, colour, parameters.brightness))
        elif parameters.showRoadmap:
            # A change of the frame behind is a change too: the picture of a roadmap holds it.
            made = ("roadmap", self._roadmap.version, self._shown.get(("frames", view)))
        if self._changed("foreground", view, made):
            node = None if hidden else nodes.projection
            if isinstance(made, _Board):
                node = comparison.showCheckerboard(nodes, view, *made)
            elif made is not None and not hidden:
                frame = nodes.minip if parameters.minip else nodes.frame
                node = self._roadmap.picture(nodes, frame) or node
            composite.SetForegroundVolumeID(None if node is None else node.GetID())
            self._opaque[view] = node is not None and node is not nodes.projection
        # Not while flicker has it dark: the overlay would flash up.
        if self._changed("opacity", view, (parameters.opacity, self._opaque[view])) and not self._dark:
            composite.SetForegroundOpacity(self._opacity(view))

    def _opacity(self, view: str) -> float:
        """Tiles and roadmap are pictures of their own, the CTA's vessels are transparent."""
        return 1.0 if self._opaque.get(view) else float(self._parameters.opacity)

    def _showPose(self, nodes: Any, hidden: bool) -> None:
        """The vessels of the 3D view stand where the pose shown puts them, and no other registration's."""
        from DeepIterRegSlicer.scene import slice_view

        if nodes.vessels is not None:
            nodes.vessels.SetAndObserveTransformNodeID(nodes.ctaToCarm.GetID())
        slice_view.setVesselsVisible(nodes, not hidden)
        slice_view.showOnly(nodes)

    def _fit3d(self, nodes: Any, carm: bool) -> None:
        """The 3D view at the head, with the C-arm where it is shown; not where nothing has changed: a person may have turned it."""
        from DeepIterRegSlicer.scene import view3d

        camera = view3d.cameraNode()
        if camera is not None and carm != self._carm3d:
            view3d.fit(nodes, camera, carm)
        self._carm3d = carm

    def _changed(self, name: str, view: str, value: Any) -> bool:
        changed = bool((name, view) not in self._shown or self._shown[name, view] != value)
        self._shown[name, view] = value
        return changed

    def _look(self, parameters: Any, zooms: Any = None) -> None:
        """At the whole detectors; with `zooms` at what of them was looked at."""
        from DeepIterRegSlicer.scene import comparison, slice_view, view_state

        self._looked = True
        if self._before is None:
            self._before = view_state.Before(isOurs)
        for nodes, view in self._views:
            sliceNode, composite = comparison.sliceNodes(view)
            if sliceNode is not None and composite is not None:
                self._before.keep(view)
                slice_view.showOverlay(nodes, sliceNode, composite, parameters.opacity)
                zoom = (zooms or {}).get((view, nodes.minip.GetID()))
                if zoom is not None:
                    zoom.show(sliceNode)

    # -- two registrations beside each other -----------------------------------------------------------------

    def _arrange(self, parameters: Any) -> None:
        """Which registrations are shown in which views; what hinders it is said."""
        from DeepIterRegSlicer.scene import comparison, results

        second = parameters.secondResult
        nodes = None if second is None else results.nodesOf(second)
        problem = ""
        if parameters.sideBySide and slicer.app.layoutManager() is None:
            problem = _("Side by side needs Slicer's slice views; there are none.")
        elif parameters.sideBySide and (nodes is None or not _complete(nodes)):
            problem = _("Choose the registration for the right slice view.")
        self._ui.compareMessageLabel.text = problem
        self._ui.compareMessageLabel.visible = bool(problem)
        wanted = parameters.sideBySide and not problem
        left = self._dsaShown(parameters)
        views = [(left, LEFT), (nodes, RIGHT)] if wanted else [(left, LEFT)]
        if wanted and not self._split:
            self._layoutBefore, self._split = comparison.splitViews(), True
        elif not wanted and self._split:
            self._join()
        if views != self._views:
            split = len(views) != len(self._views)
            self._views, self._shown = views, {}
            self._look(parameters)
            if split:
                # The views get their size when the layout is drawn, and the image must fit it.
                whenSized((LEFT, RIGHT), self._fit)

    def _dsaShown(self, parameters: Any) -> Any:
        """The nodes of the DSA chosen; when a person goes to another, its own frames come with it."""
        from DeepIterRegSlicer.scene import slice_view

        chosen = self._dsas[1 if parameters.view is View.second and len(self._dsas) > 1 else 0]
        if not _complete(chosen) or any(getattr(chosen, name).GetScene() is None for name in NEEDED):
            chosen = self._dsas[0]
        before, self._dsa = self._dsa, chosen
        if before is not None and before != chosen:
            first, last = slice_view.minipRange(chosen)
            # Told once: three changes would draw the view three times.
            with slicer.util.NodeModify(parameters.parameterNode):
                self._setParameter("minipFirst", first + 1.0)
                self._setParameter("minipLast", last + 1.0)
                self._setParameter("frame", chosen.browser.GetSelectedItemNumber() + 1.0)
        return chosen

    def _join(self) -> None:
        from DeepIterRegSlicer.scene import comparison

        comparison.joinViews(self._layoutBefore)
        self._layoutBefore, self._split = None, False

    def _fit(self) -> None:
        from DeepIterRegSlicer.scene import comparison, results, slice_view

        for nodes, view in self._views:
            sliceNode, _composite = comparison.sliceNodes(view)
            if sliceNode is not None and nodes.registration is not None and nodes.registration.GetScene() is not None:
                slice_view.lookAtDetector(results.carmOf(nodes), sliceNode)

    # -- flicker, colour ---------------------------------------------------------------------------------------

    def _setFlicker(self, parameters: Any) -> None:
        if parameters.comparison is not Comparison.flicker:
            self._stopFlicker()
            return
        # Half the period: the overlay goes, and comes back.
        self._flicker.setInterval(round(500 / parameters.flickerHz))
        if not self._flicker.active:
            self._flicker.start()

    def _onFlicker(self) -> None:
        """Take the overlay away, or bring it back."""
        from DeepIterRegSlicer.scene import comparison

        self._dark = not self._dark
        for _shown, view in self._views or [(None, LEFT)]:
            _sliceNode, composite = comparison.sliceNodes(view)
            if composite is not None and self._parameters is not None:
                composite.SetForegroundOpacity(0.0 if self._dark else self._opacity(view))

    def showColour(self, name: str) -> None:
        """The colour of the parameter node on its button."""
        if self._ui.tintColourButton.color.name() != name:
            self._ui.tintColourButton.color = qt.QColor(name)

    def _onColourChosen(self, colour: Any) -> None:
        self._setParameter("tintColour", colour.name())


class _Board(tuple[Any, ...]):
    """What a checkerboard was made with."""


def isOurs(state: Any) -> bool:
    """Whether a slice view shows a registration, and nobody has changed it since but by zooming and moving it."""
    from DeepIterRegSlicer.nodes import helpers
    from DeepIterRegSlicer.nodes.volumes import ijkToRas

    scene = slicer.mrmlScene
    behind, front = (scene.GetNodeByID(nodeId or "") for nodeId in (state.background, state.foreground))
    if not helpers.isHelper(behind) or state.label or (front is not None and not helpers.isHelper(front)):
        return False
    detector = ijkToRas(behind)[:3, 2]
    looks = [row[2] for row in state.slice_to_ras[:3]]
    along = abs(sum(a * b for a, b in zip(detector, looks, strict=True)))
    return bool(along > 0.999 * sum(a * a for a in detector) ** 0.5)


def _complete(nodes: Any) -> bool:
    return all(getattr(nodes, name) is not None for name in NEEDED)


def _rgb(name: str) -> tuple[float, float, float]:
    colour = qt.QColor(name)
    return colour.redF(), colour.greenF(), colour.blueF()
