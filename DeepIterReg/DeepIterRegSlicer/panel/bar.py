"""The bar below the scrolled part of the panel: what is wrong, how far a job has come, and the button that starts and cancels it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from slicer.i18n import tr as _

CLICK_S = 0.5  # a double click is one click
MESSAGE_PX = 96  # at most; what is longer is scrolled, so that the panel above keeps its place


class Bar:
    """Always in sight, whatever sections are open.

    :param ui: the panel's widgets.
    :param onClick: called when the button is pressed.
    """

    def __init__(self, ui: Any, onClick: Callable[[], None]) -> None:
        self._ui, self._onClick = ui, onClick
        self._pressed = -math.inf
        ui.applyButton.connect("clicked()", self._onClicked)

    def say(self, sentences: Iterable[str]) -> None:
        """Tell the person; what was told before goes."""
        text = "\n".join(sentences)
        label, area = self._ui.messageLabel, self._ui.messageArea
        label.text = text
        label.visible = area.visible = bool(text)
        if text:
            # A scroll area does not ask its text how high it is at the width that there is.
            wide = max(int(self._ui.barWidget.width) - 24, 200)
            area.setFixedHeight(min(max(int(label.heightForWidth(wide)) + 4, 20), MESSAGE_PX))

    def add(self, sentence: str) -> None:
        """Tell one thing more."""
        self.say([*filter(None, self._ui.messageLabel.text.split("\n")), sentence])

    def showProgress(self, words: str, done: float) -> None:
        """A step and the fraction of the whole."""
        bar = self._ui.progressBar
        bar.value = round(bar.maximum * done)
        bar.format = f"{words}: %p%" if words else "%p%"

    def showState(self, worker: Any, missing: str) -> None:
        """What the button does now.

        :param worker: the job that runs, or None.
        :param missing: what has to be chosen before one can start, as the button says it; else empty.
        """
        ui = self._ui
        if worker is not None:
            ui.applyButton.text = _("Cancelling...") if worker.cancelling else _("Cancel")
            ui.applyButton.enabled = not worker.cancelling
        else:
            ui.applyButton.text = missing or _("Apply")
            ui.applyButton.enabled = not missing
        ui.progressBar.visible = worker is not None

    def _onClicked(self) -> None:
        # The second half of a double click would cancel what the first began, or begin anew what it cancelled.
        now = time.monotonic()
        if now - self._pressed >= CLICK_S:
            self._pressed = now
            self._onClick()
