"""The command on a procedure under way: follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DeepIterRegLib.cli.app import NOTICE, Interrupted, app, asked_to_stop, command, progress
from DeepIterRegLib.cli.options import CtaFile, Quiet, takes
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import place_of

if TYPE_CHECKING:
    from DeepIterRegLib.results.session_page.page import RunRow

_COLOURS = {"accepted": typer.colors.GREEN, "look closely": typer.colors.YELLOW}


@app.command()
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
    from DeepIterRegLib.cases.follow import FollowJob, Told
    from DeepIterRegLib.cases.follow import follow as run_follow
    from DeepIterRegLib.cases.receiver import AE_TITLE, ReceiverSettings
    from DeepIterRegLib.cases.session_folder import RECEIVED
    from DeepIterRegLib.results.session_page.page import PAGE

    if incoming is None and listen is None:
        raise InputError(Message("The runs need a folder or a port to arrive at", give=("incoming", "listen")))

    def tell(told: Told) -> None:
        if not quiet:
            _tell(told.row, told.seconds)

    def listening(port: int) -> None:  # also where it is to be quiet: a free port is known by this line alone
        typer.echo(f"Receiving on {bind}, port {port}, as {AE_TITLE}.")

    receive = None if listen is None else ReceiverSettings(listen, bind, senders=tuple(allow or ()))
    which = (typed["series"], typed["phase"], typed["cta_mask"], typed["device"].value, typed["seed"])
    job = FollowJob(cta, incoming or out / RECEIVED, receive, *which)
    if not quiet:
        typer.echo(f"Page: {place_of(out, PAGE)}")
    try:
        with asked_to_stop() as stop, progress(quiet) as report:
            kept = run_follow(job, out, report, tell, stop.is_set, until_idle, listening)
    except Interrupted:  # the second time it does not wait for the run under way
        return
    if not quiet:
        typer.echo(f"{len(kept)} run{'' if len(kept) == 1 else 's'}: {place_of(out)}")
        typer.echo(NOTICE)


def _tell(row: RunRow, seconds: float | None) -> None:
    """What became of a run, in a line and sentences."""
    took = f" ({seconds:.1f} s after its last byte)" if seconds is not None and row.picture else ""
    head = f"Run {row.name}: {row.title}" if row.name else row.title
    typer.secho(f"{head}: {row.state}{took}", fg=_COLOURS.get(row.state, typer.colors.RED))
    for words in row.words:
        typer.echo(f"  {words}")
