"""The section "Results": what was found, in words and as curves."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from DeepIterRegSlicer.score_plot import ScorePlot


class ResultsForm:
    """Fills the section from the nodes of a registration.

    :param ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui, self._nodes = ui, None
        self.plot = ScorePlot(ui.scorePlotLabel)
        ui.showChartButton.connect("clicked()", self._onShowChart)

    def show(self, nodes: Any, running: bool) -> None:
        """Of a registration, or nothing for None; while a job runs the curves are its own."""
        ui = self._ui
        self._nodes = nodes
        known = nodes is not None and nodes.registration is not None
        ui.showChartButton.enabled = known and nodes.chart is not None
        ui.placeCtaButton.enabled = known
        for name in ("scoreValueLabel", "mpeValueLabel", "timeValueLabel", "warningsLabel"):
            getattr(ui, name).text = ""
        if not running:
            self.plot.clear()
        if not known:
            return
        from DeepIterRegSlicer import manual, results

        registration = results.registrationOf(nodes)
        byHand = results.isManual(nodes.ctaToCarm)
        score = manual.scoreOf(nodes.ctaToCarm) if byHand else registration.score
        ui.scoreValueLabel.text = "" if score is None else f"{score:.3f}"
        mpe = registration.mpe_mm_to_reference
        if byHand:
            ui.mpeValueLabel.text = _("not measured: a manual pose")
        else:
            ui.mpeValueLabel.text = _("no reference") if mpe is None else _("{mpe:.2f} mm").format(mpe=mpe)
        ui.timeValueLabel.text = _("{seconds:.1f} s").format(seconds=registration.seconds.get("total", 0.0))
        ui.warningsLabel.text = "\n".join(registration.warnings)
        if not running:
            self.plot.setCurves({stage.name: list(stage.scores) for stage in registration.stages})
            self.plot.draw()

    def _onShowChart(self) -> None:
        if self._nodes is not None and slicer.app.layoutManager() is not None:
            slicer.modules.plots.logic().ShowChartInLayout(self._nodes.chart)
