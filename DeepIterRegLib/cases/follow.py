"""A procedure followed: runs arrive in a folder one after another, each is registered and shown with its overlay.

The CTA is made ready before the first run comes. What is done stands in the session's folder, so that an interrupted session goes on:
nothing is done twice and nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from DeepIterRegLib.cases.case import Case
from DeepIterRegLib.cases.cta_ready import made_ready
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.cases.followed_by_hand import on_handed
from DeepIterRegLib.cases.followed_run import on_run, put_together
from DeepIterRegLib.cases.following import Following, Told, aside, kept_as, show_page
from DeepIterRegLib.cases.incoming import Again, Arrived, Event, Gone, Incoming, IncomingSettings, Moved, Reach, Refused
from DeepIterRegLib.cases.receiver import ReceiverSettings, receiving
from DeepIterRegLib.cases.session_folder import (
    RECEIVED,
    KeptRun,
    Session,
    kept_runs,
    open_session,
    session_of_cta,
)
from DeepIterRegLib.cases.session_rows import picture_of, row_of
from DeepIterRegLib.common import devices
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.memory import give_back
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import Device
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.common.user_input import is_folder
from DeepIterRegLib.common.work_folder import work_folder
from DeepIterRegLib.images.dicom.arrivals import patient_of
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.results.session_page.page import (
    RunRow,
    SessionState,
    write_page,
)

# A run has at most 2.5 s: it may be looked at as soon as it is whole by its own lengths and nobody has written for a moment.
_ARRIVING = IncomingSettings(settle_s=0.3, poll_s=0.3)
_RECEIVED_WHOLE = IncomingSettings(settle_s=0.0, poll_s=0.3)  # the receiver names a file when it is whole
_LOOK_S = 1.0  # how long is waited for the next run before it is asked whether to stop


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
    if job.receive is None and not own and not is_folder(job.incoming):
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
        show_page(out, on_state, SessionState("The CTA is being made ready."))
        stack.enter_context(devices.on(job.device))
        try:
            following = _begun(job, out, session, on_progress, on_state, wants)
        except BaseException:
            show_page(out, on_state, SessionState("The session could not begin.", ended=True))
            raise
        try:
            incoming = stack.enter_context(Incoming(job.incoming, session.salt, _RECEIVED_WHOLE if own else _ARRIVING))
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
) -> Following:
    """The session with its CTA made ready and what was done before."""
    case = job.cta if isinstance(job.cta, Case) else _case_of_file(job, job.cta)
    head, read = made_ready(case, on_progress)
    file = job.identified_by if isinstance(job.cta, Case) else job.cta
    session = session_of_cta(out, session, read.content_hash, patient_of(file, session.salt) if file else "")
    settings = RegistrationSettings(device=job.device, seed=job.seed)
    following = Following(out, head, read, session, settings, kept_runs(out), on_state, wants)
    for kept in following.kept:
        following.rows[kept.name] = row_of(kept, picture_of(out, kept.name))
    put_together(following)
    return following


def _look_and_register(
    following: Following,
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
        on_handed(following, tell, should_stop)
        if events or following.doubted:
            last = time.monotonic()
        elif until_idle_s is not None and time.monotonic() - last >= until_idle_s:
            return


def _case_of_file(job: FollowJob, cta: Path) -> Case:
    return case_of_files(RegisterJob(cta=cta, dsa=Path(), series=job.series, phase=job.phase, cta_mask=job.cta_mask))


def _on(following: Following, event: Event, should_stop: ShouldStop) -> Told | None:
    """What is done about something that happened in the folder."""
    if isinstance(event, Arrived):
        return on_run(following, event.arrival, should_stop)
    if isinstance(event, Refused):
        return aside(following, RunRow("", "A file", "refused", (event.refusal.words,)))
    if isinstance(event, Again) and not event.identical:
        words = "A run came again with other content. The one that came first is kept."
        return aside(following, RunRow("", "A run", "refused", (words,)))
    if isinstance(event, Moved) and (known := kept_as(following, event.arrival.run_id)) is not None:
        following.arrivals[known.name] = event.arrival
    if isinstance(event, Gone) and (known := kept_as(following, event.run_id)) is not None:
        following.arrivals.pop(known.name, None)
    if isinstance(event, Reach):
        following.reached = event.reached
    return None
