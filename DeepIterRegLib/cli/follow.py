"""The command on a procedure under way: follow."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from DeepIterRegLib.cli.app import NOTICE, Interrupted, app, asked_to_stop, command, progress
from DeepIterRegLib.cli.options import CtaFile, Quiet, takes
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import place_of

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

    if incoming is None and listen is None:
        raise InputError(
            Message("Neither a folder nor a port is given for the runs to arrive", give=("incoming", "listen"))
        )

    def tell(told: Told) -> None:
        row = told.row
        if quiet:
            return
        took = "" if told.seconds is None else f" ({told.seconds:.1f} s after its last byte)"
        head = f"Run {row.name}: {row.title}: " if row.name else f"{row.title}: "
        typer.secho(f"{head}{row.state}{took if row.picture else ''}", fg=_COLOURS.get(row.state, typer.colors.RED))
        for words in row.words:
            typer.echo(f"  {words}")

    with ExitStack() as stack:
        stop = stack.enter_context(asked_to_stop())
        if listen is not None:
            from DeepIterRegLib.cases.receiver import ReceiverSettings, receiving

            incoming = incoming or out / "received"
            incoming.mkdir(parents=True, exist_ok=True)
            settings = ReceiverSettings(port=listen, bind=bind, allowed=tuple(allow or ()))
            port = stack.enter_context(receiving(incoming, settings))
            typer.echo(f"Receiving on {bind}, port {port}.")
        assert incoming is not None
        job = FollowJob(
            cta, incoming, typed["series"], typed["phase"], typed["cta_mask"], typed["device"].value, typed["seed"]
        )
        if not quiet:
            typer.echo(f"Page: {place_of(out, 'index.html')}")
        try:
            with progress(quiet) as report:
                kept = run_follow(job, out, report, tell, stop.is_set, until_idle)
        except Interrupted:  # the second time it does not wait for the run under way
            kept = []
    if not quiet:
        typer.echo(f"{len(kept)} run{'' if len(kept) == 1 else 's'}: {place_of(out)}")
        typer.echo(NOTICE)
