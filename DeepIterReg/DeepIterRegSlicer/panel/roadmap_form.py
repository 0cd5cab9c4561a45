"""The section "Roadmap": 3D things of the scene over the angiogram, each in its own look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from DeepIterRegLib.common.errors import InputError
from DeepIterRegSlicer.panel.sized import layOutAgain

CONTROLS = (
    "roadmapColourButton",
    "roadmapOpacitySlider",
    "roadmapOutlineCheckBox",
    "roadmapShadedCheckBox",
    "roadmapRemoveButton",
)
FOLLOW_MS, REST_MS = 50, 250  # after a node changed; after the pose moved: the CTA's vessels follow at once meanwhile


class RoadmapForm(VTKObservationMixin):
    """Keeps the items with the registration, and makes its pictures for whoever shows them.

    :param ui: the panel's widgets.
    :param onChanged: called when `picture` answers otherwise than before.
    """

    def __init__(self, ui: Any, onChanged: Any) -> None:
        VTKObservationMixin.__init__(self)
        self._ui, self._onChanged = ui, onChanged
        self._nodes: Any = None
        self.version = 0  # rises with every change
        self._things: dict[tuple[str, str], Any] = {}  # by node and part, until the node changes
        self._problems: dict[tuple[str, str], tuple[str, ...]] = {}  # of what cannot be drawn
        self._layers: dict[tuple[str, int], Any] = {}  # by transform and view
        self._moving = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._onTimer)
        ui.roadmapAddButton.connect("clicked()", self._onAdd)
        ui.roadmapRemoveButton.connect("clicked()", self._onRemove)
        ui.roadmapNodeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._showControls)
        ui.roadmapList.connect("currentRowChanged(int)", self._showControls)
        ui.roadmapColourButton.connect("colorChanged(QColor)", self._onLook)
        ui.roadmapOpacitySlider.connect("valueChanged(double)", self._onLook)
        for name in ("roadmapOutlineCheckBox", "roadmapShadedCheckBox"):
            getattr(ui, name).connect("toggled(bool)", self._onLook)

    def setNodes(self, nodes: Any) -> None:
        """Registration or manual pose shown, or None."""
        self.pause()
        self._nodes = nodes
        self._ui.roadmapCollapsibleButton.enabled = nodes is not None
        if nodes is not None:
            self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self._onNodeRemoved)
            self._watchItems()
        self._showList()

    def pause(self) -> None:
        """Nothing is followed any more, and nothing is remembered."""
        self._timer.stop()
        self.removeObservers()
        self._moving = False
        self._things, self._problems, self._layers = {}, {}, {}

    def picture(self, nodes: Any, background: Any) -> Any:
        """The volume that shows the items of a registration over a frame (or MinIP) of a view; None if the view shows none now."""
        from DeepIterRegSlicer.scene import results, roadmap

        # Drawing takes longer than a movement may: meanwhile the plain projection is shown, which follows at once.
        items = [] if self._moving else roadmap.itemsOf(nodes)
        if not items or background is None:
            return None
        key = (nodes.ctaToCarm.GetID(), results.viewNumber(nodes))
        if key not in self._layers:
            self._layers[key] = roadmap.layerOf(nodes, [thing for item in items if (thing := self._thing(item))])
        self._watch(nodes.ctaToCarm, slicer.vtkMRMLTransformNode.TransformModifiedEvent, self._onPose)
        self._watch(background, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self._onBackground)
        self._watch(background.GetDisplayNode(), vtk.vtkCommand.ModifiedEvent, self._onBackground)
        return roadmap.showLayer(nodes, self._layers[key], background)

    def _thing(self, item: Any) -> Any:
        """In the item's look; None if it cannot be drawn."""
        key = (item.node.GetID(), item.part)
        if key not in self._things and key not in self._problems:
            try:
                self._things[key] = item.thing()
            except InputError as error:
                self._problems[key] = error.problems
        thing = self._things.get(key)
        return None if thing is None else replace(thing, style=item.style)

    def _draw(self) -> None:
        """Anew, also for the view that is not shown, as its picture is saved with the scene."""
        from DeepIterRegSlicer.scene import results

        self.version += 1
        if self._nodes is not None and not self._layers:
            for view in results.viewsOf(self._nodes):
                self.picture(view, view.minip)
        self._onChanged()
        self._showMessage()

    # -- what is followed -------------------------------------------------------------------------------------

    def _watch(self, node: Any, event: int, handle: Any) -> None:
        if node is not None and not self.hasObserver(node, event, handle):
            self.addObserver(node, event, handle)

    def _watchItems(self) -> None:
        from DeepIterRegSlicer.scene import roadmap

        for item in roadmap.itemsOf(self._nodes):
            events = item.node.GetContentModifiedEvents()
            for n in range(events.GetNumberOfValues()):
                self._watch(item.node, events.GetValue(n), self._onContent)
            self._watch(item.node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._onContent)

    def _onContent(self, caller: Any, event: Any) -> None:
        for held in (self._things, self._problems):
            for key in [key for key in held if key[0] == caller.GetID()]:
                del held[key]
        self._layers = {}
        self._timer.start(FOLLOW_MS)

    def _onPose(self, caller: Any, event: Any) -> None:
        self._layers = {}
        if not self._moving:
            self._moving = True
            self.version += 1
            self._onChanged()
        self._timer.start(REST_MS)

    def _onBackground(self, caller: Any, event: Any) -> None:
        # A window that is dragged tells of every step: the first starts the clock, and the rest wait for it.
        if not self._timer.active:
            self._timer.start(FOLLOW_MS)

    def _onTimer(self) -> None:
        self._moving = False
        self._draw()

    def _onNodeRemoved(self, caller: Any, event: Any) -> None:
        from DeepIterRegSlicer.scene import roadmap

        # When a scene closes, its nodes go one by one, and there is nothing left to keep the items with.
        if self._nodes.ctaToCarm.GetScene() is not None and self._ui.roadmapList.count != len(
            roadmap.itemsOf(self._nodes)
        ):
            self._keep(roadmap.itemsOf(self._nodes))

    # -- the controls -----------------------------------------------------------------------------------------

    def _keep(self, items: Any, row: int | None = None) -> None:
        """These are the items now: kept with the scene, listed, and drawn in every view."""
        from DeepIterRegSlicer.scene import roadmap

        roadmap.keepItems(self._nodes, items)
        self._layers = {}
        self._watchItems()
        self._showList(row)
        self._draw()

    def _items(self) -> list[Any]:
        if self._nodes is None:
            return []  # nor is the library asked, whose packages may not be installed yet
        from DeepIterRegSlicer.scene import roadmap

        return list(roadmap.itemsOf(self._nodes))

    def _showList(self, row: int | None = None) -> None:
        listed = self._ui.roadmapList
        row = listed.currentRow if row is None else row
        items = self._items()
        listed.blockSignals(True)
        listed.clear()
        for n, item in enumerate(items):
            swatch = qt.QPixmap(12, 12)
            swatch.fill(qt.QColor(*item.style.colour))
            listed.addItem(item.name)
            listed.item(n).setIcon(qt.QIcon(swatch))
        listed.currentRow = min(max(row, 0), len(items) - 1)
        listed.blockSignals(False)
        self._showControls()
        self._showMessage()

    def _showControls(self) -> None:
        ui = self._ui
        items = self._items()
        row = ui.roadmapList.currentRow
        chosen = items[row] if 0 <= row < len(items) else None
        ui.roadmapAddButton.enabled = self._nodes is not None and ui.roadmapNodeSelector.currentNode() is not None
        for name in CONTROLS:
            getattr(ui, name).enabled = chosen is not None
        if chosen is None:
            return
        for name in CONTROLS:
            getattr(ui, name).blockSignals(True)
        ui.roadmapColourButton.color = qt.QColor(*chosen.style.colour)
        ui.roadmapOpacitySlider.value = chosen.style.opacity
        ui.roadmapOutlineCheckBox.checked = chosen.style.outline
        ui.roadmapShadedCheckBox.checked = chosen.style.shaded
        for name in CONTROLS:
            getattr(ui, name).blockSignals(False)

    def _showMessage(self, problems: Any = ()) -> None:
        lines = [*problems, *(line for each in self._problems.values() for line in each)]
        self._ui.roadmapMessageLabel.text = "\n".join(dict.fromkeys(lines))
        self._ui.roadmapMessageLabel.visible = bool(lines)
        if lines:
            layOutAgain(self._ui.roadmapCollapsibleButton)

    def _onAdd(self) -> None:
        from DeepIterRegSlicer.scene import roadmap

        node = self._ui.roadmapNodeSelector.currentNode()
        if node is None or self._nodes is None:
            return
        items = roadmap.itemsOf(self._nodes)
        listed = {(item.node.GetID(), item.part) for item in items}
        try:
            with slicer.util.WaitCursor():
                found = roadmap.newItems(self._nodes, node)
        except InputError as error:
            self._showMessage(error.problems)
            return
        for item, thing in found:
            self._things[node.GetID(), item.part] = thing
            self._problems.pop((node.GetID(), item.part), None)
        new = [item for item, _thing in found if (node.GetID(), item.part) not in listed]
        self._keep([*items, *new], len(items) + len(new) - 1)

    def _onRemove(self) -> None:
        from DeepIterRegSlicer.scene import roadmap

        items, row = roadmap.itemsOf(self._nodes), self._ui.roadmapList.currentRow
        if not 0 <= row < len(items):
            return
        gone = items.pop(row)
        for held in (self._things, self._problems):
            held.pop((gone.node.GetID(), gone.part), None)
        self._keep(items, row)

    def _onLook(self) -> None:
        ui, row = self._ui, self._ui.roadmapList.currentRow
        items = self._items()
        if not 0 <= row < len(items):
            return
        colour = ui.roadmapColourButton.color
        style = replace(
            items[row].style,
            colour=(colour.red(), colour.green(), colour.blue()),
            opacity=float(ui.roadmapOpacitySlider.value),
            outline=bool(ui.roadmapOutlineCheckBox.checked),
            shaded=bool(ui.roadmapShadedCheckBox.checked),
        )
        items[row] = replace(items[row], style=style)
        self._keep(items, row)
