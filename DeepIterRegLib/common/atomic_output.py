"""Output that appears whole or not at all: written beside, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import name_of

_ANOTHER = "Give another name."
_OUT = "out"  # what an output is called whose name may not be shown
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def output_folder(path: str | Path, names: Collection[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `path` when the block ends without an error.

    Whatever goes wrong inside, Ctrl-C included, leaves `path` as it was and nothing beside it.

    Parameters
    ----------
    path
        Folder to make; its parents are made too.
    names
        Every name that may be written: `overwrite` replaces a folder only if it holds nothing else,
        so that a mistyped name cannot delete somebody's data.
    overwrite
        Replace the folder of an earlier run.

    Raises
    ------
    InputError
        The folder exists, holds other files, or cannot be written; the disk is full.
    """
    target = Path(os.path.abspath(path))
    _check_folder(target, names, overwrite)
    with _scratch_beside(target) as scratch:
        yield scratch
        for file in scratch.rglob("*"):
            if file.parent == scratch and file.name not in names:
                # A fault of the code: a later --overwrite would refuse a folder with a name that it does not know.
                raise RuntimeError(f"{file.name} is not among the declared output names")
            _flush(file)
        _publish(scratch, target)


@contextmanager
def output_file(path: str | Path, suffixes: Collection[str], *, overwrite: bool = False) -> Iterator[Path]:
    """As `output_folder`, for one file whose name ends in one of `suffixes`.

    Raises
    ------
    InputError
        As `output_folder`, and if the name ends in something else.
    """
    target = Path(os.path.abspath(path))
    if not target.name.endswith(tuple(suffixes)):
        raise InputError(
            Message(f"{name_of(target, _OUT)} has none of the endings {', '.join(suffixes)}", at="out", advice=_ANOTHER)
        )
    if target.is_dir():
        raise InputError(
            Message(f"{name_of(target, _OUT)} is a folder", at="out", advice="The name of a file is needed.")
        )
    if target.exists() and not overwrite:
        raise InputError(Message(f"{name_of(target, _OUT)} exists", at="out", advice=_ANOTHER, give=("overwrite",)))
    with _scratch_beside(target) as scratch:
        yield scratch / target.name
        _flush(scratch / target.name)
        os.replace(scratch / target.name, target)
        scratch.rmdir()


@contextmanager
def _scratch_beside(target: Path) -> Iterator[Path]:
    made = [folder for folder in target.parents if not folder.exists()]
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target and not in /tmp: a rename is whole only within one file system.
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        yield scratch
    # BaseException, as Ctrl-C is one too.
    except BaseException as error:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            _remove_if_empty(folder)
        if isinstance(error, OSError) and (problem := _disk_problem(error, target)):
            raise InputError(problem) from None
        raise


def _check_folder(target: Path, names: Collection[str], overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(Message(f"{name_of(target, _OUT)} exists and is not a folder", at="out", advice=_ANOTHER))
    held = sorted(entry.name for entry in target.iterdir())
    others = [name for name in held if name not in names]
    if held and not overwrite:
        raise InputError(
            Message(
                f"The folder {name_of(target, _OUT)} exists and is not empty",
                at="out",
                advice=_ANOTHER,
                give=("overwrite",),
            )
        )
    if others:
        listed = ", ".join(map(name_of, others[:3])) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise InputError(
            Message(
                f"The folder {name_of(target, _OUT)} holds what this command did not write ({listed})",
                at="out",
                advice=_ANOTHER,
            )
        )


def _flush(file: Path) -> None:
    """Bytes reach the disk before the file gets its name; a full disk may show only here."""
    if file.is_file():
        with file.open("rb+") as handle:  # Windows flushes only what may be written
            os.fsync(handle.fileno())


def _publish(scratch: Path, target: Path) -> None:
    # `mkdtemp` makes folders that only their owner can open; others get what they are used to. The mask can only be
    # read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    scratch.chmod(0o777 & ~mask)
    if not target.exists():
        scratch.rename(target)
        return
    # No rename replaces a folder that is not empty: the old one steps aside first, and comes back if that fails.
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    try:
        os.replace(target, old / target.name)
        try:
            scratch.rename(target)
        except BaseException:
            os.replace(old / target.name, target)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # never made, or somebody else has written into it


def _disk_problem(error: OSError, target: Path) -> str | None:
    """One sentence if the disk or the place is at fault, None if something else is."""
    cause: BaseException = error  # writers wrap the system's error in their own
    while not (isinstance(cause, OSError) and cause.errno) and cause.__cause__ is not None:
        cause = cause.__cause__
    if not isinstance(cause, OSError) or not cause.errno:
        return None
    reason = os.strerror(cause.errno)
    if cause.errno in _FULL:
        return Message(
            f"{name_of(target, _OUT)} cannot be written: {reason}",
            at="out",
            advice="Free some space, or give another name. Nothing is left behind.",
        )
    # It may be any file, one that was read too: only what names the output is blamed on it.
    if cause.filename is None:
        return None
    named = Path(os.path.abspath(cause.filename))
    beside = str(target.parent / f".{target.name}.")
    if str(named).startswith(beside) or named == target or named in target.parents:
        return Message(
            f"{name_of(target, _OUT)} cannot be written: {reason} ({name_of(named)})", at="out", advice=_ANOTHER
        )
    return None
