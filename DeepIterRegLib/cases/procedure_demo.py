"""A synthetic thrombectomy, played run by run into a watched folder, and followed as a stranger's would be."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from DeepIterRegLib.cases.demo import PHANTOM_FILES, write_phantom_procedure
from DeepIterRegLib.cases.follow import FollowJob, follow
from DeepIterRegLib.cases.following import Told
from DeepIterRegLib.cases.session_folder import KeptRun
from DeepIterRegLib.common.atomic_output import output_folder
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import Device
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.common.shown import name_of

PROCEDURE, INCOMING, SESSION = "procedure", "incoming", "session"
_BETWEEN_RUNS_S = 3.0  # so that people see one before the next comes; in practice it is minutes


def run_procedure_demo(
    seed: int,
    device: Device,
    out: Path,
    on_progress: Progress,
    tell: Callable[[Told], None],
    should_stop: ShouldStop,
    between_runs_s: float = _BETWEEN_RUNS_S,
) -> list[KeptRun]:
    """Make a procedure in `out`, let its runs arrive one after another, and follow them; the runs that were registered.

    Raises
    ------
    InputError
        Something is in `out` already.
    """
    if out.exists() and any(out.iterdir()):
        found = f"{name_of(out, 'out')} is not empty"
        raise InputError(Message(found, at="out", advice="Give a new folder: a procedure takes 400 MB."))
    with output_folder(out / PROCEDURE, PHANTOM_FILES) as folder:
        write_phantom_procedure(seed, folder, on_progress)
    incoming = out / INCOMING
    incoming.mkdir()
    coming = sorted((out / PROCEDURE / "runs").iterdir())
    told_runs: list[Told] = []
    count = len(coming)

    def arrives() -> None:
        """The next run is copied under another name first, as senders do."""
        run = coming.pop(0)
        partial = incoming / f"{run.name}.part"
        shutil.copyfile(run, partial)
        partial.rename(incoming / run.name)

    def on_told(told: Told) -> None:
        told_runs.append(told)
        tell(told)
        if coming:
            timer = threading.Timer(between_runs_s, arrives)
            timer.daemon = True
            timer.start()

    arrives()
    job = FollowJob(out / PROCEDURE / "cta.nii.gz", incoming, device=device, seed=seed)
    return follow(job, out / SESSION, on_progress, on_told, lambda: should_stop() or len(told_runs) >= count)
