"""The section "Follow": the runs of a procedure, registered as they arrive, in a list from which each can be shown."""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DeepIterRegSlicer.panel.sized import layOutAgain
from DeepIterRegSlicer.parameters import FollowSource

TICK_MS = 200
_LOOK_TICKS = 10  # between two looks into the DICOM database
_WORKING = ("waiting", "reading")
_COLUMNS_PX = (178, 88)  # the last one takes what is left


class FollowForm:
    """Starts and stops the session, which goes on while other modules are shown, and puts its runs into the scene.

    :param ui: the panel's widgets.
    :param bar: where is told what goes wrong.
    :param guard: does what a button asks for.
    :param parametersOf: gives the parameters of the scene there is.
    :param optionsOf: gives the options that are chosen in the panel.
    :param onShow: called with the transform of a run that is to be shown.
    :param onChanged: called with the transform of a run that stands elsewhere now.
    """

    def __init__(
        self,
        ui: Any,
        bar: Any,
        guard: Any,
        parametersOf: Callable[[], Any],
        optionsOf: Callable[[], Any],
        onShow: Callable[[Any], None],
        onChanged: Callable[[Any], None],
    ) -> None:
        self._ui, self._bar, self._guard = ui, bar, guard
        self._parametersOf, self._optionsOf = parametersOf, optionsOf
        self._onShow, self._onChanged = onShow, onChanged
        self._worker: Any = None
        self._ending: Any = None  # a worker that was dropped and has not ended yet: its folder is still held
        self._news: Any = queue.SimpleQueue()
        self._cta: Any = None
        self._database: Any = None  # what was taken from it, where runs come from there
        self._folder = Path()
        self._rows: tuple[Any, ...] = ()
        self._listed: Any = None  # what the table shows
        self._asked: Any = None  # of which result it is known whether it can be handed over
        self._handable = False
        self._followed: Any = None  # the run that was shown because it was the newest
        self._better: dict[str, Any] = {}  # poses of runs that a person works on
        self._ticks = self._states = 0  # the states that the session told
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.connect("timeout()", self._onTick)
        ui.followTable.setHorizontalHeaderLabels([_("Run"), _("State"), _("Error")])
        ui.followTable.horizontalHeader().stretchLastSection = True
        ui.followTable.verticalHeader().visible = False
        for column, wide in enumerate(_COLUMNS_PX):
            ui.followTable.setColumnWidth(column, wide)
        ui.followTable.connect("cellClicked(int,int)", self._onCell)
        ui.followStartButton.connect("clicked()", self._onStart)
        ui.followNewestButton.connect("clicked()", self._onNewest)
        ui.followHandButton.connect("clicked()", partial(guard.guarded, self._hand))
        ui.followIncomingButton.connect("clicked()", partial(self._onChoose, "followIncoming"))
        ui.followSessionButton.connect("clicked()", partial(self._onChoose, "followSession"))

    @property
    def running(self) -> bool:
        """Whether runs are looked for."""
        return self._worker is not None

    # -- life cycle ---------------------------------------------------------------------------------------

    def resume(self, parameters: Any) -> None:
        """The scene's session, in the list; one that runs is of this scene."""
        if not self.running:
            self._rows = self._rowsIn(parameters)
        self.refresh()

    def _rowsIn(self, parameters: Any) -> tuple[Any, ...]:
        if parameters is None or not parameters.followRuns:
            return ()
        try:
            from DeepIterRegSlicer.scene import session
        except ImportError:
            return ()  # the library's packages come with the first use
        return session.rowsOf(parameters.followRuns)

    def drop(self) -> None:
        """The scene or the panel goes: the session ends by itself, and what it did is kept in its folder."""
        if self._worker is not None:
            self._worker.cancel()
            self._ending = self._worker
        self._worker = self._database = self._cta = self._followed = None
        self._news, self._rows, self._better = queue.SimpleQueue(), (), {}
        self._timer.stop()
        self._say("")

    # -- start, stop ----------------------------------------------------------------------------------------

    def _onStart(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            self.refresh()
        else:
            self._guard.use(self._start)

    def _start(self) -> None:
        from DeepIterRegLib.cases.follow import FollowJob
        from DeepIterRegLib.cases.session_folder import RECEIVED
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer import following
        from DeepIterRegSlicer.nodes.angiograms import fileBehind
        from DeepIterRegSlicer.nodes.dicom_database import DatabaseRuns
        from DeepIterRegSlicer.scene import session
        from DeepIterRegSlicer.worker import Worker

        if self._ending is not None and self._ending.running:
            raise InputError(_("The session before is still ending: try again in a moment."))
        parameters, options, scene = self._parametersOf(), self._optionsOf(), slicer.mrmlScene
        cta, arriving = parameters.cta, parameters.followIncoming.strip()
        if cta is None:
            raise InputError(_("No CTA is selected: choose the volume of the CT angiogram."))
        database = DatabaseRuns(cta) if parameters.followSource is FollowSource.database else None
        if database is None and not arriving:
            raise InputError(_("No folder is chosen for the runs: under Folder choose the one that they arrive in."))
        case = following.caseOf(cta, options)
        folder = session.pathOf(parameters.followSession.strip(), scene) if parameters.followSession.strip() else _new()
        incoming = folder / RECEIVED if database is not None else Path(arriving)
        job = FollowJob(case, incoming, device=options.device, seed=options.seed, identified_by=fileBehind(cta))
        kept = session.keptPath(folder, scene)
        listed = parameters.followListed and session.pathOf(parameters.followListed, scene) == folder
        if not listed or not session.isBegun(folder):
            session.forget(scene)
            self._rows = ()
        self._folder, self._cta, self._database = folder, cta, database
        self._ticks = self._states = 0
        self._news, self._better = queue.SimpleQueue(), {}
        # What is shown makes room for the newest, unless it is an earlier run, which somebody reads.
        reading = session.runOf(parameters.result) and parameters.result is not self._newest()
        self._followed = None if reading else parameters.result
        parameters.followSession = parameters.followListed = kept
        self._worker = Worker(following.jobOf(job, folder, frozenset(session.runsIn(scene)), self._news))
        self._bar.say([])
        self._timer.start()
        self.refresh()

    def _onChoose(self, name: str) -> None:
        titles = {
            "followIncoming": _("Choose the folder that runs arrive in"),
            "followSession": _("Choose the folder of the session"),
        }
        folder = qt.QFileDialog.getExistingDirectory(None, titles[name])
        if folder:
            setattr(self._parametersOf(), name, folder)

    # -- what the session tells ---------------------------------------------------------------------------------

    def _onTick(self) -> None:
        """Main thread, every `TICK_MS`."""
        scene = slicer.mrmlScene
        if scene.IsImporting() or scene.IsBatchProcessing() or scene.IsClosing():
            return
        # Fetched before the news: what was told before the end is among them.
        events = [] if self._worker is None else self._worker.events()
        self._showProgress(events)
        self._guard.guarded(self._takeNews)
        if self._database is not None and self._ticks % _LOOK_TICKS == 0:
            self._guard.guarded(self._lookIntoDatabase)
        self._ticks += 1
        self._takeEnd(events)
        if self._worker is None and not self._better:
            self._timer.stop()

    def _showProgress(self, events: Any) -> None:
        """How far the CTA is made ready; what comes late does not hide that the session waits for runs since."""
        from DeepIterRegLib.common.progress import ProgressEvent
        from DeepIterRegSlicer.panel.steps import stepWords

        steps = [event for event in events if isinstance(event, ProgressEvent)]
        if steps and self._states <= 1:  # the first says that the CTA is being made ready
            words = stepWords()[steps[-1].step]
            self._say(_("{step}: {percent} %").format(step=words, percent=round(100 * steps[-1].overall)))

    def _takeEnd(self, events: Any) -> None:
        """Of the session, if it is among the events."""
        from DeepIterRegSlicer.worker import Failed, Finished

        for event in events:
            if not isinstance(event, (Failed, Finished)):
                continue
            self._worker = self._database = None
            text = _("The session has ended. Start goes on with it.")
            if isinstance(event, Failed) and not event.cancelled:
                self._guard.tell(event.error)
                text = _("The session has stopped: the reason stands at the bottom of the panel.")
            self._say(text)
            self.refresh()

    def _lookIntoDatabase(self) -> None:
        from DeepIterRegLib.cases.session_folder import RECEIVED

        self._database.take(self._folder / RECEIVED)

    def _takeNews(self) -> None:
        from DeepIterRegSlicer.following import BetterPose, NewRun

        state = None  # of those that came one after another only the last is shown
        while not self._news.empty():
            news = self._news.get()
            if not isinstance(news, (NewRun, BetterPose)):
                state, self._states = news, self._states + 1
                continue
            if state is not None:
                self._takeState(state)
                state = None
            if isinstance(news, NewRun):
                self._addRun(news)
            else:
                self._better[news.name] = news
        if state is not None:
            self._takeState(state)
        if self._better:
            self._improve()

    def _takeState(self, state: Any) -> None:
        from DeepIterRegSlicer.scene import session

        if state.rows or not self._rows:  # before the CTA is ready nothing is known of the runs that there are
            self._rows = state.rows
            parameters, text = self._parametersOf(), session.rowsText(state.rows)
            if parameters.followRuns != text:
                parameters.followRuns = text
        self._say(state.status)
        self.refresh()

    def _addRun(self, news: Any) -> None:
        from DeepIterRegSlicer.scene import session

        shown = self._parametersOf().result
        if self._followed is not None and self._followed.GetScene() is None and shown is self._newest():
            self._followed = shown  # deleted, and the one before it took its place
        transform = session.addRun(news.row, news.outcome, self._cta)
        follows = shown is None or shown is self._followed
        if session.runOf(shown) == news.row.name:  # registered anew, from a pose that was handed over
            self._onChanged(transform)
        elif follows and transform is self._newest() and not self._isEngaged():
            self._show(transform)
        self.refresh()

    def _improve(self) -> None:
        """Better poses of earlier runs; not under the hands of who works on one, and not where a hand was before."""
        from DeepIterRegSlicer.scene import session

        runs, shown = session.runsIn(slicer.mrmlScene), session.runOf(self._parametersOf().result)
        for name, better in list(self._better.items()):
            if name == shown and self._isEngaged():
                continue
            del self._better[name]
            transform = runs.get(name)
            if transform is not None and not session.isByHand(transform):
                session.improve(transform, better.together, better.projection)
                if name == shown:
                    self._onChanged(transform)

    def _isEngaged(self) -> bool:
        """Whether a person adjusts, picks a vessel or places points: what is seen stays."""
        from DeepIterRegSlicer.scene import manual

        sections = (self._ui.manualCollapsibleButton, self._ui.pickCollapsibleButton)
        return any(each.enabled and not each.collapsed for each in sections) or bool(manual.placing())

    # -- which run is shown ---------------------------------------------------------------------------------------

    def _newest(self) -> Any:
        """The transform of the last run that is in the scene; None where there is none."""
        from DeepIterRegSlicer.scene import session

        runs = session.runsIn(slicer.mrmlScene)
        return next((runs[row.name] for row in reversed(self._rows) if row.name in runs), None)

    def _show(self, transform: Any) -> None:
        from DeepIterRegSlicer.scene import results

        # Another than the newest is being read: what comes does not take its place.
        chosen = results.manualOf(transform) or transform
        self._followed = chosen if transform is self._newest() else None
        self._onShow(chosen)

    def _onNewest(self) -> None:
        newest = self._newest()
        if newest is not None:
            self._guard.guarded(partial(self._show, newest))
        self.refresh()

    def _onCell(self, row: int) -> None:
        from DeepIterRegSlicer.scene import session

        shown = self._rows[len(self._rows) - 1 - row]
        transform = session.runsIn(slicer.mrmlScene).get(shown.name)
        if transform is not None:
            self._guard.guarded(partial(self._show, transform))
            self._say("")
        elif shown.words and shown.state in ("refused", "failed"):
            self._say(" ".join(shown.words))
        elif shown.state not in _WORKING:
            self._say(_("This run is in the session's folder, not in the scene. Start the session to bring it here."))
        self.refresh()

    def _hand(self) -> None:
        """The pose shown, to the session: set by hand in one of its runs, or found in another way for the same run."""
        from DeepIterRegLib.cases.handed import Handed, write_handed
        from DeepIterRegSlicer.scene import manual, results, session

        parameters = self._parametersOf()
        result, folder = parameters.result, session.pathOf(parameters.followListed, slicer.mrmlScene)
        carm = results.carmOf(results.nodesOf(result))
        write_handed(folder, Handed(session.handable(result), manual.poseOf(result), carm))
        self._say(
            _("The pose is handed to the session.")
            if self.running
            else _("The pose is handed to the session, which takes it when it is started.")
        )

    def _canHand(self, parameters: Any) -> bool:
        if not (self._rows and parameters.followListed):
            return False
        from DeepIterRegSlicer.scene import session

        if self._asked != (parameters.result, self._rows):  # not for every step of a slider
            self._asked = (parameters.result, self._rows)
            self._handable = bool(session.handable(parameters.result))
        return self._handable and session.isBegun(session.pathOf(parameters.followListed, slicer.mrmlScene))

    # -- what is seen of it -----------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._ui.followStatusLabel.text = text
        self._ui.followStatusLabel.visible = bool(text)
        layOutAgain(self._ui.followCollapsibleButton)

    def refresh(self) -> None:
        """Bring the section up to what is chosen, shown and known."""
        ui, parameters = self._ui, self._parametersOf()
        stopping = self.running and self._worker.cancelling
        ui.followStartButton.text = _("Stopping...") if stopping else _("Stop") if self.running else _("Start")
        ui.followStartButton.enabled = not stopping and (self.running or parameters.cta is not None)
        ui.followStartButton.toolTip = (
            _("Register what arrives, until Stop. A session that was stopped goes on.")
            if parameters.cta is not None
            else _("Select a CTA above first.")
        )
        for name in ("followSourceComboBox", "followIncomingBox", "followSessionBox"):
            getattr(ui, name).enabled = not self.running
        for name in ("followIncomingLabel", "followIncomingBox"):
            getattr(ui, name).visible = parameters.followSource is FollowSource.folder
        ui.followHandButton.enabled = self._canHand(parameters)
        self._showRows(parameters.result)

    def _showRows(self, result: Any) -> None:
        ui, newest, shown = self._ui, None, ""
        if self._rows:
            from DeepIterRegSlicer.scene import session

            newest, shown = self._newest(), session.runOf(result)
        ui.followTable.visible = bool(self._rows)
        listed = (self._rows, shown)
        if listed != self._listed:  # not for every step of a slider
            self._listed = listed
            self._fillTable(shown)
        name = "" if newest is None else session.runOf(newest)
        ui.followNewestButton.visible = name not in ("", shown)
        ui.followNewestButton.text = _("A newer run is there: show run {name}").format(name=name)

    def _fillTable(self, shown: str) -> None:
        table = self._ui.followTable
        table.rowCount = len(self._rows)
        table.clearSelection()
        for number, row in enumerate(reversed(self._rows)):
            for column, text in enumerate((_runText(row), _stateText(row.state), _errorText(row))):
                item = qt.QTableWidgetItem(text)
                item.setToolTip("\n".join((row.title, *row.words)))
                table.setItem(number, column, item)
            if row.name and row.name == shown:
                table.selectRow(number)


def _new() -> Path:
    """A folder for a session among Slicer's temporary files, not made yet."""
    place, number = Path(slicer.app.temporaryPath), 1
    while (found := place / f"DeepIterReg session {number}").exists():
        number += 1
    return found


def _runText(row: Any) -> str:
    """Number, time from the first run on, and direction; of what is no run, what it is."""
    direction = row.title.partition(",")[0]
    if not row.name:
        return str(row.title)
    if row.since_first_s is None:
        return f"{row.name}  {direction}"
    minutes, seconds = divmod(round(row.since_first_s), 60)
    return f"{row.name}  {minutes}:{seconds:02d}  {direction}"


def _stateText(state: str) -> str:
    return {
        "waiting": _("working"),
        "reading": _("working"),
        "accepted": _("accepted"),
        "look closely": _("look closely"),
        "rejected": _("rejected"),
        "failed": _("failed"),
        "refused": _("refused"),
    }.get(state, state)


def _errorText(row: Any) -> str:
    known = row.error_mm is not None and row.state in ("accepted", "look closely")
    return _("{error:.1f} mm").format(error=row.error_mm) if known else ""
