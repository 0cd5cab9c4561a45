"""A procedure followed: runs arrive in a folder one after another, each is registered and shown with its overlay.

The CTA is made ready before the first run comes. What is done stands in the session's folder, so that an interrupted session goes on:
nothing is done twice and nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from DeepIterRegLib.cases.case import ReadCta, cta_of, vessels_of
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.cases.incoming import Again, Arrived, Event, Incoming, IncomingSettings, Reach, Refused
from DeepIterRegLib.cases.readings import Attempt, ReadRun, best_attempt
from DeepIterRegLib.cases.receiver import ReceiverSettings, receiving
from DeepIterRegLib.cases.session_folder import (
    KeptRun,
    Session,
    kept_runs,
    open_session,
    write_run,
    write_session,
    write_together,
)
from DeepIterRegLib.common import devices
from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.common.messages import Face, Message, word
from DeepIterRegLib.common.options import Device
from DeepIterRegLib.common.progress import Progress, ProgressEvent, ShouldStop
from DeepIterRegLib.common.shown import calling, name_of
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.common.work_folder import work_folder
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.view_names import angle_words, edge_letters, view_direction
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.dicom.arrivals import Arrival, patient_of
from DeepIterRegLib.registration.compiled import compiling_search
from DeepIterRegLib.registration.result import content_hash, percent
from DeepIterRegLib.registration.scene import Head
from DeepIterRegLib.registration.session import SessionRun, Together, add_run, fitted, known_better, reported
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.results.session_page.page import PICTURES, RunRow, write_page, write_pictures, write_state
from DeepIterRegLib.segmentation.dsa import segment_dsa

# A run has at most 2.5 s: it may be looked at as soon as it is whole by its own lengths and nobody has written for a moment.
_ARRIVING = IncomingSettings(settle_s=0.4, poll_s=0.3)
_LOOK_S = 1.0  # how long is waited for the next run before it is asked whether to stop
_ANOTHER = "It is of another patient than this session, so it is not registered and not shown."
_NOBODY = "The file does not say whose it is: check that it is this patient's."
_WORDS_FACE = Face(lambda option: option.replace("_", " "))


@dataclass(frozen=True)
class FollowJob:
    """What is followed; fields as in `common.options`.

    Attributes
    ----------
    incoming
        Folder that the runs arrive in; made where they are received.
    receive
        By which network, where they come by one.
    """

    cta: Path
    incoming: Path
    receive: ReceiverSettings | None = None
    series: str | None = None
    phase: int | None = None
    cta_mask: Path | None = None
    device: Device = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Told:
    """What happened to a run, for whoever waits: its row on the page, and the seconds since its last byte where that is known."""

    row: RunRow
    seconds: float | None = None


@dataclass
class _Following:
    """A session under way: what is done, and what the page shows."""

    folder: Path
    head: Head
    cta: ReadCta
    session: Session
    settings: RegistrationSettings
    kept: list[KeptRun]
    rows: dict[str, RunRow] = field(default_factory=dict)
    others: list[RunRow] = field(default_factory=list)
    first: datetime | None = None
    status: str = ""

    def show(self, status: str = "", ended: bool = False) -> None:
        """Have the page show what is known now."""
        self.status = status or self.status
        kept = sorted(self.kept, key=lambda one: one.order)
        first_s = next((one.since_first_s for one in kept if one.since_first_s is not None), 0.0)
        ordered = [_counted_from(self.rows[one.name], first_s) for one in kept]
        going_on = [row for name, row in self.rows.items() if name not in {one.name for one in kept}]
        write_state(self.folder, self.status, [*self.others, *ordered, *going_on], ended)


def _counted_from(row: RunRow, first_s: float) -> RunRow:
    """The row with its time from the first run on; an earlier one may have come later."""
    return row if row.since_first_s is None else replace(row, since_first_s=row.since_first_s - first_s)


def follow(
    job: FollowJob,
    out: Path,
    on_progress: Progress,
    tell: Callable[[Told], None],
    should_stop: ShouldStop,
    until_idle_s: float | None = None,
    on_port: Callable[[int], None] = lambda port: None,
) -> list[KeptRun]:
    """Register the runs that arrive until somebody stops it, or nothing has come for `until_idle_s`; the runs of the session.

    `out` is the session's folder, made if needed: `index.html` shows the newest run, and each has a result folder. `on_port` is told
    where runs are received, which begins before the CTA is read.

    Raises
    ------
    InputError
        The CTA cannot be used; the folder to look into does not exist; `out` is another session's, or another process works in it.
    """
    if job.receive is None and not job.incoming.is_dir():
        raise InputError(
            Message("There is no such folder", at="incoming", advice="Give the folder that runs arrive in.")
        )
    with work_folder(out), ExitStack() as stack:
        session = open_session(out)
        if job.receive is not None:
            on_port(stack.enter_context(receiving(job.incoming, job.receive, session.salt)))
        write_page(out)
        write_state(out, "The CTA is being made ready.", [])
        stack.enter_context(devices.on(job.device))
        try:
            following = _begun(job, out, session, on_progress)
        except BaseException:
            write_state(out, "The session could not begin.", [], ended=True)
            raise
        try:
            incoming = stack.enter_context(Incoming(job.incoming, session.salt, _ARRIVING))
            _look_and_register(following, incoming, tell, should_stop, until_idle_s)
        finally:
            with suppress(InputError):  # a full disk: the first fault is told
                following.show("The session has ended.", ended=True)
        return following.kept


def _begun(job: FollowJob, out: Path, session: Session, on_progress: Progress) -> _Following:
    """The session with its CTA made ready and what was done before."""
    head, read = _made_ready(job, on_progress)
    session = _of_this_cta(out, session, read.content_hash, patient_of(job.cta, session.salt))
    settings = RegistrationSettings(device=job.device, seed=job.seed)
    following = _Following(out, head, read, session, settings, kept_runs(out))
    for kept in following.kept:
        following.rows[kept.name] = _row(kept, _picture_of(out, kept.name))
    _put_together(following)
    return following


def _look_and_register(
    following: _Following,
    incoming: Incoming,
    tell: Callable[[Told], None],
    should_stop: ShouldStop,
    until_idle_s: float | None,
) -> None:
    following.show("Waiting for runs.")
    last = time.monotonic()
    while not should_stop():
        events = incoming.next(_LOOK_S)
        for event in events:
            if should_stop():
                return
            if (told := _on(following, event, should_stop)) is not None:
                tell(told)
            following.show("Waiting for runs.")
        if events:
            last = time.monotonic()
        elif until_idle_s is not None and time.monotonic() - last >= until_idle_s:
            return


# -- the CTA -------------------------------------------------------------------------------------------


def _made_ready(job: FollowJob, on_progress: Progress) -> tuple[Head, ReadCta]:
    """The CTA with all that is made of it, so that the first run waits for nothing."""
    on_progress.expect(expected(Step.READ_CTA, Step.SEGMENT_CTA, Step.CHECK_INPUTS))
    case = case_of_files(
        RegisterJob(cta=job.cta, dsa=Path(), series=job.series, phase=job.phase, cta_mask=job.cta_mask)
    )
    with compiling_search(), Beside() as beside:
        on_progress(Step.READ_CTA, 0.0)
        read = cta_of(case, [], beside)
        on_progress(Step.SEGMENT_CTA, 0.0)
        head = Head(read.cta, vessels_of(case, read, on_progress.of(Step.SEGMENT_CTA)))
        on_progress(Step.CHECK_INPUTS, 0.0)
        head.make_ready()
    on_progress(Step.CHECK_INPUTS, 1.0)
    return head, read


def _of_this_cta(out: Path, session: Session, cta_hash: str, patient: str) -> Session:
    """The session, which now knows its CTA and, where its files say it, its patient.

    Raises
    ------
    InputError
        It is a session of another CTA.
    """
    if session.cta and session.cta != cta_hash:
        found = f"{name_of(out, 'out')} is the session of another CTA"
        raise InputError(Message(found, at="out", advice="Give another folder, or that CTA."))
    known = replace(session, cta=cta_hash, patient=session.patient or patient)
    if known != session:
        write_session(out, known)
    return known


# -- one run -------------------------------------------------------------------------------------------


def _on(following: _Following, event: Event, should_stop: ShouldStop) -> Told | None:
    """What is done about something that happened in the folder."""
    if isinstance(event, Arrived):
        return _on_run(following, event.arrival, should_stop)
    if isinstance(event, Refused):
        return _aside(following, RunRow("", "A file", "refused", (event.refusal.words,)))
    if isinstance(event, Again) and not event.identical:
        words = "A run came again with other content. The one that came first is kept."
        return _aside(following, RunRow("", "A run", "refused", (words,)))
    if isinstance(event, Reach) and not event.reached:
        following.show("The folder that runs arrive in cannot be reached. It is looked for again.")
    return None


def _aside(following: _Following, row: RunRow) -> Told:
    """A row of something that is no run of the session."""
    following.others.append(row)
    return Told(row)


def _on_run(following: _Following, arrival: Arrival, should_stop: ShouldStop) -> Told | None:
    known = next((kept for kept in following.kept if kept.run_id == arrival.run_id), None)
    if known is not None:  # of before an interruption: its file tells when the first run was
        _count_from(following, arrival, known)
        return None
    patient = following.session.patient
    if patient and arrival.patient_id and arrival.patient_id != patient:
        return _aside(following, RunRow("", "A run of another patient", "refused", (_ANOTHER,)))
    name = f"{1 + max((int(kept.name) for kept in following.kept), default=0):02d}"
    title = f"{arrival.frames} frame{'s' if arrival.frames > 1 else ''}"
    following.rows[name] = RunRow(name, title, "reading")
    following.show(f"Run {name} is being read.")
    try:
        found = _found(following, arrival, name, should_stop)
    except (InputError, RegistrationError) as error:
        del following.rows[name]
        problems = error.problems if isinstance(error, InputError) else (str(error),)
        words = tuple(word(problem, _WORDS_FACE) for problem in problems)
        return _aside(following, RunRow("", title, "failed", words))
    except Cancelled:
        del following.rows[name]
        return None
    # What cannot be written is no fault of the run: it ends the session, which goes on once there is room.
    seconds = _keep(following, arrival, *found)
    return Told(following.rows[name], seconds)


def _found(following: _Following, arrival: Arrival, name: str, should_stop: ShouldStop) -> tuple[KeptRun, Angiogram]:
    """The run read and registered.

    Raises
    ------
    InputError, RegistrationError, Cancelled
    """
    angiogram = calling("dsa", read_angiogram)(arrival.path)
    since_s = _since_first(following, arrival)
    before = [kept.run for kept in _before(following, since_s)]
    following.rows[name] = replace(following.rows[name], title=_title(angiogram.carm))
    following.show(f"Run {name} is being registered.")
    made: list[SessionRun] = []

    def attempt(runs: Sequence[ReadRun]) -> Attempt:
        (run, _), *_ = runs
        masks = segment_dsa(run)
        made.append(
            add_run(following.head, before, run, masks, following.settings, _stopping(should_stop), should_stop)
        )
        return Attempt(runs, [masks], made[-1].registration)

    as_read = [(angiogram, None)]
    best = best_attempt(as_read, lambda: attempt(as_read), attempt)
    angiogram = best.runs[0][0]
    alone = next(one for one in made if one.registration.cta_to_carm is best.registration.cta_to_carm)
    alone = replace(alone, registration=best.registration)
    together = fitted([*before, alone], following.head.points.origin_mm)[-1]
    hashes = {"cta": following.cta.content_hash, "dsa": content_hash(angiogram.frames)}
    notes = () if arrival.patient_id or not following.session.patient else (_NOBODY,)
    found = reported(alone, together)
    found = replace(found, input_hashes=hashes, warnings=(*following.cta.notes, *found.warnings, *notes))
    return KeptRun(name, arrival.run_id, since_s, replace(alone, registration=found)), angiogram


def _keep(following: _Following, arrival: Arrival, kept: KeptRun, angiogram: Angiogram) -> float | None:
    """Show the run, then write its folder, and what all runs know now; the seconds until it was shown.

    Raises
    ------
    InputError
        It cannot be written.
    """
    found, vessels = kept.run.registration, following.head.vessels
    letters = write_pictures(following.folder, kept.name, angiogram, vessels, found.cta_to_carm, found.carm)
    following.rows[kept.name] = _row(kept, time.time_ns(), letters)
    following.show()
    seconds = _seconds_since(arrival.path)
    write_run(following.folder, kept, angiogram, vessels)
    following.kept.append(kept)
    if arrival.patient_id and not following.session.patient:
        following.session = replace(following.session, patient=arrival.patient_id)
        write_session(following.folder, following.session)
    _put_together(following)
    return seconds


def _stopping(should_stop: ShouldStop) -> Progress:
    def on_step(event: ProgressEvent) -> None:
        if should_stop():
            raise Cancelled("Stopped.")

    return Progress(on_step)


def _before(following: _Following, since_s: float | None) -> list[KeptRun]:
    """The runs that were acquired before, in their order."""
    ordered = sorted(following.kept, key=lambda one: one.order)
    if since_s is None:
        return ordered
    return [kept for kept in ordered if kept.since_first_s is not None and kept.since_first_s <= since_s] or ordered[:0]


def _since_first(following: _Following, arrival: Arrival) -> float | None:
    if arrival.acquired is None:
        return None
    if following.first is None:
        following.first = arrival.acquired
    return (arrival.acquired - following.first).total_seconds()


def _count_from(following: _Following, arrival: Arrival, kept: KeptRun) -> None:
    if following.first is None and arrival.acquired is not None and kept.since_first_s is not None:
        following.first = arrival.acquired - timedelta(seconds=kept.since_first_s)


def _put_together(following: _Following) -> None:
    """The poses by all runs, written; rows tell of those that are known better now."""
    ordered = sorted(following.kept, key=lambda one: one.order)
    together = fitted([kept.run for kept in ordered], following.head.points.origin_mm)
    write_together(following.folder, ordered, together)
    for kept, found in zip(ordered, together, strict=True):
        row = following.rows[kept.name]
        following.rows[kept.name] = replace(row, words=_words(kept.run, found))


# -- words ---------------------------------------------------------------------------------------------


def _seconds_since(path: Path) -> float | None:
    """Since a file was written last."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


def _title(carm: CArm) -> str:
    return f"{view_direction(carm)}, {angle_words(carm)}"


def _row(kept: KeptRun, picture: int, letters: dict[str, str] | None = None) -> RunRow:
    registration = kept.run.registration
    state = registration.confidence.state if registration.confidence else "look closely"
    edges = letters or edge_letters(registration.carm)
    words = _words(kept.run, None)
    return RunRow(kept.name, _title(registration.carm), state, words, kept.since_first_s, picture, edges)


def _words(run: SessionRun, together: Together | None) -> tuple[str, ...]:
    """What the page says of a result; its depth as it is known by all runs so far."""
    sure = run.registration.confidence
    if sure is None:
        return ()
    if together is not None:
        sure = known_better(sure, together)
    words = [f"{percent(sure.probability).capitalize()} likely to be right, that is within 5 mm on the detector."]
    if run.motion is not None and run.motion.repositioned:
        words.insert(0, "The head lies elsewhere than in the run before.")
    if sure.error_words:
        words.append(f"{sure.error_words.capitalize()}.")
    words += [view.frames.sentence for view in run.registration.views if view.frames and view.frames.is_seen]
    return (*words, *sure.reasons)


def _picture_of(folder: Path, name: str) -> int:
    try:
        return (folder / PICTURES / f"{name}_overlay.jpg").stat().st_mtime_ns
    except OSError:
        return 0
