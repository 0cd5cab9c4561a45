"""Folders to write in, beside what they are to become; those of processes that were killed are cleared away."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from DeepIterRegLib.common.interruptions import held_back
from DeepIterRegLib.common.locks import held, is_alive, is_dead

# Before 0.1 a name had no number of a process in it.
_SCRATCH = re.compile(r"\.(?P<name>.+)\.(?:(?P<process>\d+)-)?[a-z0-9_]{8}\.partial")
_OWNER, _BEFORE = ".owner", ".before"


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """An empty folder in the folder of `target`, which is made if needed; gone after the block, however that ends.

    What a killed process left there for the same target is cleared first. A process that is killed inside leaves a folder
    that names it; the next one knows by its lock that it is gone.

    Raises
    ------
    OSError
        It cannot be written.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    scratch: Path | None = None
    done = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(target.parent, (target.name,))
        # Beside the target and not in /tmp: a rename is whole only within one file system.
        prefix = f".{target.name}.{os.getpid()}-"
        with held_back():
            scratch = Path(tempfile.mkdtemp(prefix=prefix, suffix=".partial", dir=target.parent))
        with held(scratch / (target.name + _OWNER)):
            yield scratch
        done = True
    finally:
        with held_back():
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
            for folder in made if not done else ():
                with suppress(OSError):  # never made, or somebody else has written into it
                    folder.rmdir()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder among the system's temporary files; gone after the block, or when the next process of ours needs one.

    What is unpacked there may be of a patient: it must not stay behind when the process is killed.

    Raises
    ------
    OSError
        It cannot be written.
    """
    with scratch_beside(Path(tempfile.gettempdir(), "deepiterreg")) as scratch:
        folder = scratch / "files"
        folder.mkdir()
        yield folder


def set_aside(target: Path, scratch: Path) -> Path:
    """Move what stands at `target` into the scratch folder; `clear_leftovers` puts it back if the process dies before it is replaced.

    Returns
    -------
    Where it is now.
    """
    aside = scratch / (target.name + _BEFORE)
    os.rename(target, aside)
    return aside


def clear_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the scratch folders of processes that are gone.

    Parameters
    ----------
    folder
        In which they are; need not exist.
    names
        Of the targets they were for; None for all.
    """
    try:
        entries = [entry.name for entry in os.scandir(folder) if entry.name.endswith(".partial")]
    except OSError:
        return
    for entry in entries:
        found = _SCRATCH.fullmatch(entry)
        if found is None or (names is not None and found["name"] not in names):
            continue
        scratch = folder / entry
        if _is_abandoned(scratch, found["name"], found["process"]):
            _put_back(scratch, folder / found["name"])
            shutil.rmtree(scratch, ignore_errors=True)


def _is_abandoned(scratch: Path, name: str, process: str | None) -> bool:
    owner = scratch / (name + _OWNER)
    if is_dead(owner):
        return True
    with suppress(OSError):
        if owner.stat().st_size:
            return False
    # Killed before its lock named it, or about to take the lock.
    return process is None or not is_alive(int(process))


def _put_back(scratch: Path, target: Path) -> None:
    """A process that died between setting aside and renaming has left the place of the earlier result empty."""
    aside = scratch / (target.name + _BEFORE)
    if aside.exists() and not target.exists():
        with suppress(OSError):
            os.rename(aside, target)
