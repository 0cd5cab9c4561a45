"""The command on a procedure under way: follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DeepIterRegLib.cli.app import (
    EXIT_CANCELLED,
    NOTICE,
    STOPPED,
    Interrupted,
    app,
    asked_to_stop,
    command,
    fail,
    progress,
)
from DeepIterRegLib.cli.options import CtaFile, Quiet, takes
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import place_of

if TYPE_CHECKING:
    from DeepIterRegLib.cases.following import Told
    from DeepIterRegLib.cases.session_folder import KeptRun
    from DeepIterRegLib.common.options import Device
    from DeepIterRegLib.common.progress import Progress, ShouldStop
    from DeepIterRegLib.results.session_page.page import RunRow

_COLOURS = {"accepted": typer.colors.GREEN, "look closely": typer.colors.YELLOW}


@app.command(
    epilog="Exit codes: 0 no run came for so many seconds, 1 a fault of this program, 2 wrong use or input, "
    "130 stopped (what is done is kept)."
)
@command
@takes("series", "phase", "cta_mask", "device", "seed")
def follow(
    cta: CtaFile,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of the session; an interrupted one in it goes on.", show_default=False
        ),
    ],
    incoming: Annotated[
        Path | None, typer.Option(help="Folder that the runs arrive in. With --listen: OUT/received if absent.")
    ] = None,
    listen: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Also receive runs by DICOM (C-STORE) on this port; 0: a free one.", metavar="PORT"
        ),
    ] = None,
    bind: Annotated[
        str, typer.Option(help="Address to receive on. The default lets nobody else's computer send.")
    ] = "127.0.0.1",
    allow: Annotated[
        list[str] | None, typer.Option(help="AE title that may send; repeat it for more. Default: any.", metavar="AET")
    ] = None,
    until_idle: Annotated[
        float | None,
        typer.Option(min=0, help="End when no run has come for so many seconds. Default: Ctrl-C ends it.", metavar="S"),
    ] = None,
    quiet: Quiet = False,
    **typed: Any,
) -> None:
    """Register the runs of a procedure as they arrive, and show each with its overlay.

    Open OUT/index.html in a browser: it shows the newest run and refreshes itself. Each run has a result folder as of register.
    A run starts where those before it found the head, so it takes two seconds or three. Runs of other patients are refused.

    Ctrl-C ends it. The same command goes on with what is done.

    [bold]Examples[/]

      deepiterreg follow cta.nii.gz --incoming runs --out session

      deepiterreg follow cta.nii.gz --listen 11112 --out session
    """
    from DeepIterRegLib.cases.follow import FollowJob
    from DeepIterRegLib.cases.follow import follow as run_follow
    from DeepIterRegLib.cases.receiver import AE_TITLE, ReceiverSettings
    from DeepIterRegLib.cases.session_folder import RECEIVED

    if incoming is None and listen is None:
        raise InputError(Message("The runs need a folder or a port to arrive at", give=("incoming", "listen")))

    def listening(port: int) -> None:  # also where it is to be quiet: a free port is known by this line alone
        typer.echo(f"Receiving on {bind}, port {port}, as {AE_TITLE}.")

    receive = None if listen is None else ReceiverSettings(listen, bind, senders=tuple(allow or ()))
    which = (typed["series"], typed["phase"], typed["cta_mask"], typed["device"].value, typed["seed"])
    job = FollowJob(cta, incoming or out / RECEIVED, receive, *which)

    def followed(report: Progress, tell: Callable[[Told], None], should_stop: ShouldStop) -> list[KeptRun]:
        return run_follow(job, out, report, tell, should_stop, until_idle, listening)

    _follow(followed, out, quiet)


def follow_demo(seed: int, device: Device, out: Path, quiet: bool) -> None:
    """A synthetic procedure made, played and followed."""
    from DeepIterRegLib.cases.procedure_demo import SESSION, run_procedure_demo

    def followed(report: Progress, tell: Callable[[Told], None], should_stop: ShouldStop) -> list[KeptRun]:
        return run_procedure_demo(seed, device, out, report, tell, should_stop)

    _follow(followed, out / SESSION, quiet)


def _follow(
    followed: Callable[[Progress, Callable[[Told], None], ShouldStop], list[KeptRun]], session: Path, quiet: bool
) -> None:
    """Follow until it ends, and tell each run as it comes."""
    from DeepIterRegLib.results.session_page.page import PAGE

    if not quiet:
        typer.echo(f"Page: {place_of(session, PAGE)}")
    try:
        with asked_to_stop() as stop, progress(quiet) as report:
            kept = followed(report, lambda told: None if quiet else _tell(told.row, told.seconds), stop.is_set)
    except Interrupted:  # the second time it does not wait for the run under way
        fail(EXIT_CANCELLED, STOPPED)
    if not quiet:
        typer.echo(f"{len(kept)} run{'' if len(kept) == 1 else 's'}: {place_of(session)}")
        typer.echo(NOTICE)
    if stop.is_set():
        fail(EXIT_CANCELLED, STOPPED)


def _tell(row: RunRow, seconds: float | None) -> None:
    """What became of a run, in a line and sentences."""
    took = f" ({seconds:.1f} s after its last byte)" if seconds is not None and row.picture else ""
    head = f"Run {row.name}: {row.title}" if row.name else row.title
    typer.secho(f"{head}: {row.state}{took}", fg=_COLOURS.get(row.state, typer.colors.RED))
    for words in row.words:
        typer.echo(f"  {words}")
