"""The section "Display": what a person changes here acts at once on the views."""

from __future__ import annotations

from typing import Any

import slicer


def sliceNodes(view: str = "Red") -> tuple[Any, Any]:
    """Slice and composite node of a slice view; (None, None) where there are no views."""
    scene = slicer.mrmlScene
    return scene.GetSingletonNode(view, "vtkMRMLSliceNode"), scene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")


class DisplayForm:
    """Brings the views to what the parameter node says.

    :param ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui, self._nodes = ui, None
        self._shown: dict[str, Any] = {}

    def setNodes(self, nodes: Any) -> None:
        """Registration to show, or None."""
        self._nodes, self._shown = nodes, {}
        self._ui.displayCollapsibleButton.enabled = nodes is not None
        if nodes is None:
            return
        last = max(nodes.frames.GetNumberOfDataNodes(), 1)
        for slider in (self._ui.frameSlider, self._ui.minipFirstSlider, self._ui.minipLastSlider):
            slider.maximum = float(last)

    def openOverlay(self, opacity: float) -> None:
        """Point the slice view at the detector."""
        from DeepIterRegSlicer import results

        sliceNode, composite = sliceNodes()
        if self._nodes is not None and sliceNode is not None and composite is not None:
            results.showOverlay(self._nodes, sliceNode, composite, opacity)
        if slicer.app.layoutManager() is not None:
            slicer.util.resetThreeDViews()

    def update(self, parameters: Any) -> None:
        """Apply what differs from what is shown; costs nothing where nothing does."""
        nodes = self._nodes
        if nodes is None or any(getattr(nodes, name) is None for name in ("frames", "minip", "projection")):
            return
        from DeepIterRegSlicer import results

        _sliceNode, composite = sliceNodes()
        frames = (parameters.minip, parameters.frame, parameters.minipFirst, parameters.minipLast)
        if composite is not None and self._changed("frames", frames):
            if parameters.minip:
                results.showMinip(nodes, round(parameters.minipFirst) - 1, round(parameters.minipLast) - 1, composite)
            else:
                results.showFrame(nodes, round(parameters.frame) - 1, composite)
        if composite is not None and self._changed("opacity", parameters.opacity):
            composite.SetForegroundOpacity(parameters.opacity)
        if self._changed("tint", parameters.tint):
            results.setTint(nodes, parameters.tint)
        if self._changed("brightness", parameters.brightness):
            results.setBrightness(nodes, parameters.brightness)
        if self._changed("carm", parameters.showCArm):
            results.setCarmVisible(nodes, parameters.showCArm, _sliceNode)
        self._ui.frameSlider.enabled = not parameters.minip
        self._ui.minipFirstSlider.enabled = self._ui.minipLastSlider.enabled = parameters.minip

    def _changed(self, name: str, value: Any) -> bool:
        changed = self._shown.get(name) != value
        self._shown[name] = value
        return changed
