"""The one job that runs at a time: started, followed by a timer, cancelled, and what is said when it ends."""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import partial
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DeepIterRegSlicer.panel.bar import Bar
from DeepIterRegSlicer.panel.guard import Guard
from DeepIterRegSlicer.panel.score_plot import ScorePlot

TICK_MS = 50


class Job:
    """Runs in a thread; all that is told of it happens on the main thread.

    :param bar: where progress and end are told.
    :param guard: does what is to be done with a result.
    :param plot: of the scores.
    :param onChanged: called when a job has begun, is asked to end, or has ended.
    """

    def __init__(self, bar: Bar, guard: Guard, plot: ScorePlot, onChanged: Callable[[], None]) -> None:
        self._bar, self._guard, self._plot, self._onChanged = bar, guard, plot, onChanged
        self.worker: Any = None
        self.nodes: tuple[Any, ...] = ()  # what it works on: without them its result is of nothing
        self.warnings: Any = queue.SimpleQueue()  # doubts about the inputs, while it runs
        self._onResult: Any = None
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.connect("timeout()", self._onTick)

    def start(self, work: Any, nodes: tuple[Any, ...], onResult: Callable[[Any], None]) -> None:
        """Begin.

        :param work: called in the thread with progress and shouldStop (`worker.Worker`); its warnings go into `warnings`.
        :param onResult: called with what it returns.
        """
        from DeepIterRegSlicer.worker import Worker

        self.nodes, self._onResult = nodes, onResult
        self._bar.say([])
        self._plot.clear()
        self._bar.showProgress("", 0.0)
        self.worker = Worker(work)
        self._timer.start()
        self._onChanged()

    def cancel(self) -> None:
        """Ask it to end."""
        if self.worker is not None:
            self.worker.cancel()
            self._onChanged()

    def drop(self) -> None:
        """Forget it; its thread ends by itself."""
        if self.worker is not None:
            self.worker.cancel()
        self.worker = None
        self._timer.stop()
        self._onChanged()

    def _lost(self) -> bool:
        return any(node.GetScene() is not slicer.mrmlScene for node in self.nodes)

    def _onTick(self) -> None:
        """Main thread, every `TICK_MS`: what the worker has to say."""
        from DeepIterRegLib.common.progress import ProgressEvent
        from DeepIterRegSlicer.worker import Finished

        worker = self.worker
        if worker is None:
            self._timer.stop()
            return
        if self._lost() and not worker.cancelling:
            worker.cancel()
            self._bar.say([_("The CTA or the DSA was deleted; cancelling.")])
            self._onChanged()
        while not self.warnings.empty():
            self._bar.add(self.warnings.get())
        for event in worker.events():
            if isinstance(event, ProgressEvent):
                self._showProgress(event)
                continue
            self.worker = None
            self._timer.stop()
            self._onChanged()
            if isinstance(event, Finished) and not worker.cancelling:
                self._bar.say([])  # the result repeats the doubts
                self._guard.guarded(partial(self._onResult, event.result))
            else:
                self._tellEnd(None if isinstance(event, Finished) else event.error)
        if self.worker is not None:
            self._plot.draw()

    def _showProgress(self, event: Any) -> None:
        from DeepIterRegSlicer.panel.steps import stepWords

        words = stepWords()[event.step]
        self._bar.showProgress(words, event.overall)
        if event.score is not None:
            self._plot.add(words, event.score)

    def _tellEnd(self, error: BaseException | None) -> None:
        """It brought nothing; None where it was too late to be cancelled."""
        from DeepIterRegLib.common.errors import Cancelled

        if error is None or isinstance(error, Cancelled):
            gone = _("The CTA or the DSA was deleted while it ran; it was cancelled.")
            self._bar.say([gone if self._lost() else _("Cancelled.")])
        else:
            self._guard.tell(error)
