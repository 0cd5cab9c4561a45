"""A procedure followed: runs arrive in a folder one after another, each is registered and shown with its overlay.

The CTA is made ready before the first run comes. What is done stands in the session's folder, so that an interrupted session goes on:
nothing is done twice and nothing is lost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from DeepIterRegLib.cases.case import Case, Outcome, ReadCta
from DeepIterRegLib.cases.cta_ready import made_ready
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.cases.folder_watch import Stamp
from DeepIterRegLib.cases.handed import Handed, read_handed, scored, taken, waiting
from DeepIterRegLib.cases.incoming import Again, Arrived, Event, Gone, Incoming, IncomingSettings, Moved, Reach, Refused
from DeepIterRegLib.cases.readings import Attempt, ReadRun, best_attempt
from DeepIterRegLib.cases.receiver import ReceiverSettings, receiving
from DeepIterRegLib.cases.session_folder import (
    RECEIVED,
    SESSION,
    KeptRun,
    Session,
    kept_runs,
    open_session,
    session_of_cta,
    write_run,
    write_session,
    write_together,
)
from DeepIterRegLib.cases.session_rows import counted_from, picture_of, row_of, title_of, words_of
from DeepIterRegLib.common import devices
from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.common.memory import give_back
from DeepIterRegLib.common.messages import Face, Message, word
from DeepIterRegLib.common.options import Device
from DeepIterRegLib.common.progress import Progress, ProgressEvent, ShouldStop
from DeepIterRegLib.common.shown import calling, name_of
from DeepIterRegLib.common.user_input import is_file
from DeepIterRegLib.common.work_folder import work_folder
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.dicom.arrivals import Arrival, patient_of
from DeepIterRegLib.registration.result import content_hash
from DeepIterRegLib.registration.scene import Head
from DeepIterRegLib.registration.session import SessionRun, Together, add_run, by_hand, fitted, reported
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.results.session_page.page import (
    RunRow,
    SessionState,
    write_page,
    write_pictures,
    write_state,
)
from DeepIterRegLib.segmentation.dsa import segment_dsa

# A run has at most 2.5 s: it may be looked at as soon as it is whole by its own lengths and nobody has written for a moment.
_ARRIVING = IncomingSettings(settle_s=0.4, poll_s=0.3)
_LOOK_S = 1.0  # how long is waited for the next run before it is asked whether to stop
_ANOTHER = "It is of another patient than this session, so it is not registered and not shown."
_UNREACHED = "The folder that runs arrive in cannot be reached. It is looked for again."
_NOBODY = "The file does not say whose it is: check that it is this patient's."
_WORDS_FACE = Face(lambda option: option.replace("_", " "))


@dataclass(frozen=True)
class FollowJob:
    """What is followed; fields as in `common.options`.

    Attributes
    ----------
    cta
        Its file; or a case, of which the CTA, its masks and the options of their segmentation count.
    incoming
        Folder that the runs arrive in. Made where it is the session's own, `session_folder.RECEIVED` in it.
    receive
        By which network, where they come by one.
    identified_by
        A file that says whose the CTA is, where `cta` is none.
    """

    cta: Path | Case
    incoming: Path
    receive: ReceiverSettings | None = None
    series: str | None = None
    phase: int | None = None
    cta_mask: Path | None = None
    device: Device = "auto"
    seed: int = 0
    identified_by: Path | None = None


@dataclass(frozen=True)
class Told:
    """What happened to a run, for whoever waits.

    Attributes
    ----------
    row
        On the page.
    seconds
        Since its last byte, where that is known.
    outcome
        For whoever shows it himself; None where it was not registered.
    together
        Where all runs together see the head in each of them now, by their names.
    """

    row: RunRow
    seconds: float | None = None
    outcome: Outcome | None = None
    together: Mapping[str, Together] = field(default_factory=dict)


@dataclass
class _Following:
    """A session under way: what is done, and what the page shows."""

    folder: Path
    head: Head
    cta: ReadCta
    session: Session
    settings: RegistrationSettings
    kept: list[KeptRun]
    on_state: Callable[[SessionState], None]
    wants: Callable[[str], bool]
    rows: dict[str, RunRow] = field(default_factory=dict)
    others: list[RunRow] = field(default_factory=list)
    together: dict[str, Together] = field(default_factory=dict)
    arrivals: dict[str, Arrival] = field(default_factory=dict)  # by the names of the runs
    doubted: dict[Path, Stamp] = field(
        default_factory=dict
    )  # what was handed over and could not be read at the last look
    first: datetime | None = None
    status: str = ""
    reached: bool = True  # whether the folder that runs arrive in could be looked into

    def check(self) -> None:
        """A folder that was taken away is not made anew in parts: what is in it then would be no session.

        Raises
        ------
        InputError
        """
        if not is_file(self.folder / SESSION):
            found = f"{name_of(self.folder, 'out')} is no more there, or it cannot be reached"
            raise InputError(Message(found, at="out", advice="Once it is there again, the session goes on with it."))

    def wait(self) -> None:
        """Have the page show that runs are waited for, or why none comes."""
        self.show("Waiting for runs." if self.reached else _UNREACHED)

    def show(self, status: str = "", ended: bool = False) -> None:
        """Have the page show what is known now.

        Raises
        ------
        InputError
            The session's folder is gone, or it cannot be written.
        """
        self.check()
        self.status = status or self.status
        kept = sorted(self.kept, key=lambda one: one.order)
        first_s = next((one.since_first_s for one in kept if one.since_first_s is not None), 0.0)
        ordered = [counted_from(self.rows[one.name], first_s) for one in kept]
        going_on = [row for name, row in self.rows.items() if name not in {one.name for one in kept}]
        _show(self.folder, self.on_state, SessionState(self.status, (*self.others, *ordered, *going_on), ended))


def _show(folder: Path, on_state: Callable[[SessionState], None], state: SessionState) -> None:
    write_state(folder, state)
    on_state(state)


def follow(
    job: FollowJob,
    out: Path,
    on_progress: Progress,
    tell: Callable[[Told], None],
    should_stop: ShouldStop,
    until_idle_s: float | None = None,
    on_port: Callable[[int], None] = lambda port: None,
    on_state: Callable[[SessionState], None] = lambda state: None,
    wants: Callable[[str], bool] = lambda name: False,
) -> list[KeptRun]:
    """Register the runs that arrive until somebody stops it, or nothing has come for `until_idle_s`; the runs of the session.

    `out` is the session's folder, made if needed: `index.html` shows the newest run, and each has a result folder. `on_port` is told
    where runs are received, which begins before the CTA is read. `on_state` is told what the page is, whenever that changes. Of a run
    that was done before and whose file is still there, `tell` hears again where `wants` says so of its name.

    Raises
    ------
    InputError
        The CTA cannot be used; the folder to look into does not exist, or `out` lies in it; `out` is another session's, or another
        process works in it.
    """
    own = job.incoming == out / RECEIVED
    if (
        job.receive is None and not own and not os.path.isdir(job.incoming)
    ):  # false too of a share that cannot be reached
        raise InputError(
            Message("There is no such folder", at="incoming", advice="Give the folder that runs arrive in.")
        )
    if not own and job.incoming.resolve() in (out.resolve(), *out.resolve().parents):
        found = "The session lies in the folder that runs arrive in, where its own files would be looked at"
        raise InputError(Message(found, at="out", advice="Give a folder elsewhere."))
    with work_folder(out), ExitStack() as stack:
        session = open_session(out)
        if own:
            job.incoming.mkdir(exist_ok=True)
        if job.receive is not None:
            on_port(stack.enter_context(receiving(job.incoming, job.receive, session.salt)))
        write_page(out)
        _show(out, on_state, SessionState("The CTA is being made ready."))
        stack.enter_context(devices.on(job.device))
        try:
            following = _begun(job, out, session, on_progress, on_state, wants)
        except BaseException:
            _show(out, on_state, SessionState("The session could not begin.", ended=True))
            raise
        try:
            incoming = stack.enter_context(Incoming(job.incoming, session.salt, _ARRIVING))
            _look_and_register(following, incoming, tell, should_stop, until_idle_s)
        finally:
            with suppress(InputError):  # a full disk: the first fault is told
                following.show("The session has ended.", ended=True)
        return following.kept


def _begun(
    job: FollowJob,
    out: Path,
    session: Session,
    on_progress: Progress,
    on_state: Callable[[SessionState], None],
    wants: Callable[[str], bool],
) -> _Following:
    """The session with its CTA made ready and what was done before."""
    case = job.cta if isinstance(job.cta, Case) else _case_of_file(job, job.cta)
    head, read = made_ready(case, on_progress)
    file = job.identified_by if isinstance(job.cta, Case) else job.cta
    session = session_of_cta(out, session, read.content_hash, patient_of(file, session.salt) if file else "")
    settings = RegistrationSettings(device=job.device, seed=job.seed)
    following = _Following(out, head, read, session, settings, kept_runs(out), on_state, wants)
    for kept in following.kept:
        following.rows[kept.name] = row_of(kept, picture_of(out, kept.name))
    _put_together(following)
    return following


def _look_and_register(
    following: _Following,
    incoming: Incoming,
    tell: Callable[[Told], None],
    should_stop: ShouldStop,
    until_idle_s: float | None,
) -> None:
    following.wait()
    last = time.monotonic()
    while not should_stop():
        events = incoming.next(_LOOK_S)
        for event in events:
            if should_stop():
                return
            if (told := _on(following, event, should_stop)) is not None:
                tell(told)
            if isinstance(event, Arrived):
                following.wait()
                give_back()
        if events:  # once for all files that are none, of which there may be thousands
            following.wait()
        _on_handed(following, tell, should_stop)
        if events or following.doubted:
            last = time.monotonic()
        elif until_idle_s is not None and time.monotonic() - last >= until_idle_s:
            return


# -- the CTA -------------------------------------------------------------------------------------------


def _case_of_file(job: FollowJob, cta: Path) -> Case:
    return case_of_files(RegisterJob(cta=cta, dsa=Path(), series=job.series, phase=job.phase, cta_mask=job.cta_mask))


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
    if isinstance(event, Moved) and (known := _kept_as(following, event.arrival.run_id)) is not None:
        following.arrivals[known.name] = event.arrival
    if isinstance(event, Gone) and (known := _kept_as(following, event.run_id)) is not None:
        following.arrivals.pop(known.name, None)
    if isinstance(event, Reach):
        following.reached = event.reached
    return None


def _aside(following: _Following, row: RunRow) -> Told:
    """A row of something that is no run of the session."""
    following.others.append(row)
    return Told(row)


def _kept_as(following: _Following, run_id: str) -> KeptRun | None:
    return next((kept for kept in following.kept if kept.run_id == run_id), None)


def _on_run(following: _Following, arrival: Arrival, should_stop: ShouldStop) -> Told | None:
    known = _kept_as(following, arrival.run_id)
    if known is not None:  # of before an interruption: its file tells when the first run was
        _count_from(following, arrival, known)
        following.arrivals[known.name] = arrival
        return _told_again(following, arrival, known) if following.wants(known.name) else None
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
    return Told(following.rows[name], seconds, found[1], dict(following.together))


def _told_again(following: _Following, arrival: Arrival, kept: KeptRun) -> Told | None:
    """A run that was done before, with its images; None where they cannot be read any more."""
    try:
        outcome = _outcome_of(following, arrival, kept)
    except InputError:
        return None
    return Told(following.rows[kept.name], None, outcome, dict(following.together))


def _outcome_of(following: _Following, arrival: Arrival, kept: KeptRun) -> Outcome:
    """What a run that was done before was found on, read as it was then.

    Raises
    ------
    InputError
    """
    as_read, found = calling("dsa", read_angiogram)(arrival.path), kept.run.registration
    readings = [as_read, *(other.read() for other in as_read.other_readings)]
    known = (one for one in readings if content_hash(one.frames) == found.input_hashes.get("dsa"))
    angiogram = next(known, as_read)
    return Outcome(found, angiogram, following.head.vessels, segment_dsa(angiogram))


def _found(
    following: _Following,
    arrival: Arrival,
    name: str,
    should_stop: ShouldStop,
    known: Sequence[SessionRun] | None = None,
) -> tuple[KeptRun, Outcome]:
    """The run read and registered, from the runs `known`, else from those before it.

    Raises
    ------
    InputError, RegistrationError, Cancelled
    """
    angiogram = calling("dsa", read_angiogram)(arrival.path)
    since_s = _since_first(following, arrival)
    before = [kept.run for kept in _before(following, since_s)] if known is None else known
    following.rows[name] = replace(following.rows[name], title=title_of(angiogram.carm))
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
    outcome = Outcome(found, angiogram, following.head.vessels, best.masks[0])
    return KeptRun(name, arrival.run_id, since_s, replace(alone, registration=found)), outcome


def _keep(following: _Following, arrival: Arrival, kept: KeptRun, outcome: Outcome) -> float | None:
    """Show the run, then write its folder, and what all runs know now; the seconds until it was shown.

    Raises
    ------
    InputError
        It cannot be written.
    """
    following.check()
    found, vessels, angiogram = kept.run.registration, following.head.vessels, outcome.angiogram
    letters = write_pictures(following.folder, kept.name, angiogram, vessels, found.cta_to_carm, found.carm)
    following.rows[kept.name] = row_of(kept, time.time_ns(), letters)
    following.show()
    seconds = _seconds_since(arrival.path)
    write_run(following.folder, kept, angiogram, vessels)
    following.kept = [*(one for one in following.kept if one.name != kept.name), kept]
    following.arrivals[kept.name] = arrival
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
    following.together = {kept.name: one for kept, one in zip(ordered, together, strict=True) if one is not None}
    for kept, found in zip(ordered, together, strict=True):
        row = following.rows[kept.name]
        following.rows[kept.name] = replace(row, words=words_of(kept, found))


# -- a pose set by hand --------------------------------------------------------------------------------


def _on_handed(following: _Following, tell: Callable[[Told], None], should_stop: ShouldStop) -> None:
    """Where a person handed poses over: their runs have them, those not accepted start from them, all are put together anew."""
    before, following.doubted = following.doubted, {}
    for path, stamp in waiting(following.folder):
        if should_stop():
            return
        try:
            given = read_handed(path)
            kept = _kept_run(following, given.run)
        except InputError as error:
            if before.get(path) != stamp:  # it may be under way: at the next look it is whole, or it stays as it is
                following.doubted[path] = stamp
                continue
            taken(path, stamp)
            words = tuple(word(problem, _WORDS_FACE) for problem in error.problems)
            tell(_aside(following, RunRow("", "A pose set by hand", "refused", words)))
            following.show()
            continue
        if _give(following, kept, given, tell, should_stop):
            taken(path, stamp)


def _kept_run(following: _Following, name: str) -> KeptRun:
    found = next((one for one in following.kept if one.name == name), None)
    if found is None:
        raise InputError("The pose set by hand is of no run of this session.")
    return found


def _give(
    following: _Following, kept: KeptRun, given: Handed, tell: Callable[[Told], None], should_stop: ShouldStop
) -> bool:
    """A pose set by hand given to its run, and to those that know less; whether all of it was done.

    Raises
    ------
    InputError
        It cannot be written.
    """
    arrival = following.arrivals.get(kept.name)
    outcome = None
    with suppress(InputError):  # its file cannot be read now
        outcome = None if arrival is None else _outcome_of(following, arrival, kept)
    if arrival is None or outcome is None:
        status = f"The pose set by hand waits for the file of run {kept.name}."
        if following.status != status:
            following.show(status)
        return False
    run = by_hand(kept.run, given.cta_to_carm, given.carm)
    run = replace(run, registration=scored(run.registration, outcome, following.settings.seed))
    outcome = replace(outcome, registration=run.registration)
    _keep(following, arrival, replace(kept, run=run, by_hand=True), outcome)
    tell(Told(following.rows[kept.name], None, outcome, dict(following.together)))
    for other in [one for one in following.kept if _is_doubtful(one) and one.name in following.arrivals]:
        if should_stop():
            return False  # what is not done is begun again with the session
        if (told := _again_from(following, other, run, should_stop)) is not None:
            tell(told)
    following.wait()
    return True


def _is_doubtful(kept: KeptRun) -> bool:
    sure = kept.run.registration.confidence
    return not kept.by_hand and (sure is None or sure.state != "accepted")


def _again_from(following: _Following, kept: KeptRun, run: SessionRun, should_stop: ShouldStop) -> Told | None:
    """A run registered anew from another whose place is known; None where that is not better."""
    row, arrival = following.rows[kept.name], following.arrivals[kept.name]
    following.rows[kept.name] = replace(row, state="reading")
    try:
        found = _found(following, arrival, kept.name, should_stop, [run])
    except (InputError, RegistrationError, Cancelled):
        found = None
    if found is None or _probability(found[0]) < _probability(kept):
        following.rows[kept.name] = row
        return None
    _keep(following, arrival, *found)
    return Told(following.rows[kept.name], None, found[1], dict(following.together))


def _probability(kept: KeptRun) -> float:
    sure = kept.run.registration.confidence
    return sure.probability if sure else 0.0


def _seconds_since(path: Path) -> float | None:
    """Since a file was written last."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None
