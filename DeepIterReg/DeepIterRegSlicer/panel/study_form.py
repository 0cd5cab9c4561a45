"""The section "Reader study": a reader answers which of two registrations is better, and never learns whose they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DeepIterRegLib.common.errors import InputError
from DeepIterRegSlicer.panel.sized import whenSized


class StudyForm:
    """Shows the comparisons of a reader's folder one after the other; each answer is on disk before the next is shown.

    :param uiFile: `DeepIterRegStudy.ui`.
    :param use: does something that needs the library's packages.
    """

    def __init__(self, uiFile: str, use: Callable[[Callable[[], None]], None]) -> None:
        self.widget = slicer.util.loadUI(uiFile)
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._use = use
        self.reading: Any = None
        self._run: Any = None  # frames of the comparison shown
        self._shownAt = 0.0
        self._layoutBefore: int | None = None
        self._rankButtons = {rank: getattr(self.ui, f"rank{rank}Button") for rank in range(1, 6)}
        self.ui.openStudyButton.connect("clicked()", self._onOpen)
        self.ui.closeStudyButton.connect("clicked()", self.close)
        self.ui.studyBackButton.connect("clicked()", partial(self._guarded, self._back))
        self.ui.studyNextButton.connect("clicked()", partial(self._guarded, self._forward))
        for rank, button in self._rankButtons.items():
            button.connect("clicked()", partial(self._guarded, partial(self._answer, rank)))
        for slider in (self.ui.studyOpacitySlider, self.ui.studyBrightnessSlider):
            slider.connect("valueChanged(double)", self._setLook)
        self.ui.studyTintCheckBox.connect("toggled(bool)", self._setLook)
        self.ui.studyMinipCheckBox.connect("toggled(bool)", self._setFrames)
        for slider in self._frameSliders():
            slider.connect("valueChanged(double)", self._setFrames)
        self._refresh()

    def close(self) -> None:
        """Leave the study; its answers are on disk."""
        if self.reading is not None:
            from DeepIterRegSlicer.scene import study_images

            study_images.removeNodes()
            self._restoreLayout()
        self.reading = self._run = None
        self._say([])
        self._refresh()

    # -- what the buttons do ------------------------------------------------------------------------------

    def _onOpen(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(None, _("Open a reader's folder of a study"))
        if folder:
            self._use(partial(self._guarded, partial(self.open, folder)))

    def open(self, folder: str) -> None:
        """Go on with a reader's folder where it was left.

        :raises InputError: it is not one, or its images cannot be read.
        """
        from DeepIterRegLib.studies.reader_study.reading import Reading

        reading = Reading(Path(folder))
        # Only when the new folder could be read: a wrong one leaves the reader where they were.
        self.close()
        self.reading = reading
        self._sideBySide()
        self._show()

    def _answer(self, rank: int) -> None:
        seconds = round(time.perf_counter() - self._shownAt, 1)
        before = self.reading.position
        self.reading.answer(rank, self.ui.studyCommentEdit.text, seconds)
        if self.reading.position != before:
            self._show()
        self._refresh()

    def _back(self) -> None:
        self.reading.back()
        self._show()

    def _forward(self) -> None:
        self.reading.forward()
        self._show()

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            self._say([])
            action()
        except InputError as error:
            self._say(error.problems)
            self._refresh()

    # -- what is shown ---------------------------------------------------------------------------------------

    def _show(self) -> None:
        from DeepIterRegSlicer.scene import study_images

        self._run = None  # the sliders' changes do nothing yet
        run = study_images.showPair(self.reading.current)
        if run is not None:
            for slider, value in zip(self._frameSliders(), (len(run) // 2, 1, len(run) - 1), strict=True):
                slider.maximum = float(len(run) - 1)
                slider.value = float(value)
        self._run = run
        self._setFrames()
        self._setLook()
        given = self.reading.given
        self.ui.studyCommentEdit.text = "" if given is None else given.comment
        self._refresh()
        self._shownAt = time.perf_counter()

    def _setLook(self) -> None:
        if self.reading is None:
            return
        from DeepIterRegSlicer.scene import study_images

        ui = self.ui
        study_images.setLook(ui.studyOpacitySlider.value, ui.studyTintCheckBox.checked, ui.studyBrightnessSlider.value)

    def _setFrames(self) -> None:
        if self._run is None:
            return
        from DeepIterRegSlicer.scene import study_images

        frame, first, last = (round(slider.value) for slider in self._frameSliders())
        study_images.showFrames(
            self._run, self.ui.studyMinipCheckBox.checked, frame, min(first, last), max(first, last)
        )
        self._refresh()

    def _frameSliders(self) -> tuple[Any, Any, Any]:
        return self.ui.studyFrameSlider, self.ui.studyFirstSlider, self.ui.studyLastSlider

    def _refresh(self) -> None:
        reading, ui = self.reading, self.ui
        isOpen = reading is not None
        ui.studyWidget.visible = isOpen
        ui.closeStudyButton.enabled = isOpen
        if not isOpen:
            return
        total, answered = len(reading.comparisons), len(reading.answers)
        ui.studyProgressBar.maximum = total
        ui.studyProgressBar.value = answered
        text = _("Comparison {number} of {total}, {answered} answered").format(
            number=reading.position + 1, total=total, answered=answered
        )
        ui.studyProgressLabel.text = (
            _("{text}. All are answered: thank you.").format(text=text) if reading.done else text
        )
        given = reading.given
        for rank, button in self._rankButtons.items():
            button.checked = given is not None and given.rank == rank
        ui.studyBackButton.enabled = reading.position > 0
        ui.studyNextButton.enabled = given is not None and reading.position < total - 1
        adjustable, minip = (
            reading.current.dsa is not None,
            ui.studyMinipCheckBox.checked,
        )  # a finished overlay is as it is
        for name in ("studyOpacitySlider", "studyBrightnessSlider", "studyTintCheckBox", "studyMinipCheckBox"):
            getattr(ui, name).enabled = adjustable
        ui.studyFrameSlider.enabled = adjustable and not minip
        ui.studyFirstSlider.enabled = ui.studyLastSlider.enabled = adjustable and minip

    def _say(self, sentences: Any) -> None:
        self.ui.studyMessageLabel.text = "\n".join(sentences)
        self.ui.studyMessageLabel.visible = bool(sentences)

    def _sideBySide(self) -> None:
        manager = slicer.app.layoutManager()
        if manager is not None:
            self._layoutBefore = int(manager.layout)
            manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
            # The views get their size later, and a pair that is fitted to the old one is cut off.
            whenSized(("Red", "Yellow"), self._fit)

    def _fit(self) -> None:
        if self.reading is not None:
            from DeepIterRegSlicer.scene import study_images

            study_images.fitPair()

    def _restoreLayout(self) -> None:
        manager = slicer.app.layoutManager()
        if manager is not None and self._layoutBefore is not None:
            manager.setLayout(self._layoutBefore)
