"""Folders that a long job fills bit by bit and goes on in after an interruption: one process at a time works in each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from DeepIterRegLib.common.atomic_output import disk_faults
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.locks import Taken, held
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.scratch import clear_leftovers
from DeepIterRegLib.common.shown import name_of

LOCK = ".deepiterreg.lock"
AFTER_FULL = "Free some space: the same command then goes on. What is done is kept."


@contextmanager
def work_folder(folder: Path, names: Collection[str] | None = None) -> Iterator[None]:
    """The folder is this process's for the block; made if needed, and removed afterwards if nothing is in it that was not there.

    Leftovers of killed processes in it are cleared.

    Parameters
    ----------
    folder
    names
        Of the outputs whose leftovers are cleared; None for all.

    Raises
    ------
    InputError
        Another process works in it (told with its host); it cannot be written; the disk is full.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        with disk_faults(folder.absolute(), AFTER_FULL):
            folder.mkdir(parents=True, exist_ok=True)
            with held(folder / LOCK):
                clear_leftovers(folder, names)
                yield
    except Taken as taken:
        raise InputError(
            Message(
                f"{name_of(folder, 'out')} is being worked in by {taken}",
                at="out",
                advice="Wait until it has ended, or give another folder.",
            )
        ) from None
    finally:
        for one in made:
            with suppress(OSError):  # never made, or something is in it
                one.rmdir()
