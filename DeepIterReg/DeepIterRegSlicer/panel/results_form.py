"""The section "Results": what was found, in words and as curves."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DeepIterRegSlicer.panel.score_plot import ScorePlot
from DeepIterRegSlicer.panel.sized import layOutAgain

LABELS = ("scoreValueLabel", "confidenceValueLabel", "reasonsLabel", "mpeValueLabel", "timeValueLabel", "warningsLabel")


def scoreText(scores: Any, views: Any) -> str:
    """A line for each view (`Registration.views`), with its name where there are several."""
    if len(views) == 1:
        return "".join(f"{score:.3f}" for score in scores)
    return "\n".join(f"{view.name}: {score:.3f}" for view, score in zip(views, scores, strict=False))


class ResultsForm:
    """Fills the section from the nodes of a registration.

    :param ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui, self._nodes, self._rejected = ui, None, False
        self.plot = ScorePlot(ui.scorePlotLabel)
        ui.showChartButton.connect("clicked()", self._onShowChart)
        ui.landmarksTable.setHorizontalHeaderLabels([_("Landmark"), _("off, px"), _("off, mm")])

    def show(self, nodes: Any, running: bool) -> None:
        """Of a registration, or nothing for None; while a job runs the curves are its own."""
        ui = self._ui
        self._nodes = nodes
        known = nodes is not None and nodes.registration is not None
        ui.showChartButton.enabled = known and nodes.chart is not None
        self._rejected = known and self._isRejected(nodes)
        ui.placeCtaButton.enabled = known and not self._rejected
        for name in LABELS:
            getattr(ui, name).text = ""
        ui.showRejectedCheckBox.visible = ui.reasonsLabel.visible = False
        self._showLandmarks(())
        if not running:
            self.plot.clear()
        if not known:
            return
        from DeepIterRegSlicer.scene import manual, results

        registration = results.registrationOf(nodes)
        byHand = results.isManual(nodes.ctaToCarm)
        views = registration.views
        scores = manual.scoresOf(nodes.ctaToCarm) if byHand else tuple(view.score for view in views)
        ui.scoreValueLabel.text = scoreText(scores, views)
        if byHand:
            # The figures were of the pose that was found.
            ui.mpeValueLabel.text = ui.confidenceValueLabel.text = _("not measured: a manual pose")
        else:
            names = [f"{view.name}: " if len(views) > 1 else "" for view in views]
            errors = [view.mpe_mm_to_reference for view in views]
            measured = [
                n + _("{mpe:.2f} mm").format(mpe=e) for n, e in zip(names, errors, strict=True) if e is not None
            ]
            ui.mpeValueLabel.text = "\n".join(measured) or _("no reference")
        ui.timeValueLabel.text = _("{seconds:.1f} s").format(seconds=registration.seconds.get("total", 0.0))
        ui.warningsLabel.text = "\n".join(registration.warnings)
        layOutAgain(ui.resultsCollapsibleButton)
        if not byHand:
            self._showConfidence(registration.confidence)
            self._showLandmarks(registration.landmarks)
        if not running:
            self.plot.setCurves({stage.name: list(stage.scores) for stage in registration.stages})
            self.plot.draw()

    def _showConfidence(self, confidence: Any) -> None:
        """State, figures and reasons; a result of an older version has none."""
        ui = self._ui
        if confidence is None:
            ui.confidenceValueLabel.text = _("unknown: registered by an older version")
            return
        from DeepIterRegLib.registration.result import percent

        words = {
            "accepted": _("Accepted"),
            "look closely": _("Look closely"),
            "rejected": _("Rejected: do not rely on it"),
        }
        said = [_("{state}. {percent} likely to be right")]
        # Two lines at most: at 150 % on a small screen the overlay's controls stand below.
        if confidence.error_words and confidence.error_95_mm is None:
            said.append(_("expected error {error:.1f} mm"))
        elif confidence.error_words:
            said.append(_("error {error:.1f} mm ({low:.1f} to {high:.1f})"))
        if confidence.error_words and confidence.depth_95_mm is not None:
            said.append(_("depth within {depth:.1f} mm"))
        low, high = confidence.error_95_mm or (0.0, 0.0)
        ui.confidenceValueLabel.text = "; ".join(said).format(
            state=words[confidence.state],
            percent=percent(confidence.probability).capitalize(),
            error=confidence.expected_error_mm,
            low=low,
            high=high,
            depth=confidence.depth_95_mm,
        )
        ui.confidenceValueLabel.toolTip = _(
            "Error: half of such results are off by less in the overlay, and 95 % lie in the brackets. Depth: 95 % are off by less "
            "along the beam."
        )
        ui.reasonsLabel.text = "\n".join(confidence.reasons)
        ui.reasonsLabel.visible = bool(confidence.reasons)
        ui.showRejectedCheckBox.visible = confidence.state == "rejected"

    def _showLandmarks(self, errors: Any) -> None:
        """A row for each landmark; nothing where there are none."""
        table = self._ui.landmarksTable
        table.rowCount = len(errors)
        table.visible = self._ui.landmarksTableLabel.visible = bool(errors)
        for row, error in enumerate(errors):
            for column, text in enumerate((error.name, f"{error.error_px:.1f}", f"{error.error_mm:.1f}")):
                table.setItem(row, column, qt.QTableWidgetItem(text))

    def _isRejected(self, nodes: Any) -> bool:
        from DeepIterRegSlicer.scene import results

        return bool(results.isRejected(nodes))

    def showMoved(self, cta: Any) -> None:
        """What the button does with the CTA now: to the result, or back."""
        button = self._ui.placeCtaButton
        button.text = _("Move the CTA back") if self._isMoved(cta) else _("Move the CTA to the result")
        button.enabled = self._nodes is not None and cta is not None and (self._isMoved(cta) or not self._rejected)

    def _isMoved(self, cta: Any) -> bool:
        if self._nodes is None or cta is None:
            return False
        from DeepIterRegSlicer.scene import belongings

        return belongings.isMoved(cta, self._nodes.ctaToCarm)

    def placeCta(self, parameters: Any) -> list[str]:
        """Move the CTA with what belongs to it, or all of it back; what is to be said of it."""
        cta = parameters.cta
        if self._nodes is None or cta is None:
            return []
        from DeepIterRegSlicer.scene import belongings, roadmap

        if self._isMoved(cta):
            belongings.putBack(self._nodes.ctaToCarm, cta)
            return [_("{name} is back where it was scanned.").format(name=cta.GetName())]
        items = [item.node for item in roadmap.itemsOf(self._nodes)]
        mine = [*items, parameters.vessels, parameters.veins, parameters.ctaLandmarks]
        moved = belongings.move(cta, self._nodes.ctaToCarm, mine, (parameters.dsaMask, parameters.dsaLandmarks))
        text = _("{name} stands under {transform} now.").format(
            name=cta.GetName(), transform=self._nodes.ctaToCarm.GetName()
        )
        if not moved:
            return [text]
        names = ", ".join(node.GetName() for node in moved)
        return [text, _("Moved with it: {names}.").format(names=names)]

    def _onShowChart(self) -> None:
        if self._nodes is not None and slicer.app.layoutManager() is not None:
            slicer.modules.plots.logic().ShowChartInLayout(self._nodes.chart)
