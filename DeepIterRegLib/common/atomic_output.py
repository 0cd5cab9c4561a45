"""Output that appears whole or not at all: written beside, flushed, then renamed; what others put there meanwhile is never lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NoReturn

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.interruptions import held_back
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.renaming import flush, flush_names, move_where_free, swap
from DeepIterRegLib.common.scratch import scratch_beside, set_aside
from DeepIterRegLib.common.shown import name_of

_ANOTHER = "Give another name."
_OUT = "out"  # what an output is called whose name may not be shown
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What becomes of the work where an output cannot be written; long jobs keep what they did before.
_NOTHING = "Free some space, or give another name. Nothing is left behind."
_AFTER_FULL: ContextVar[str] = ContextVar("after_full", default=_NOTHING)

# Name (relative, "" for the file itself), size, time of change of what stands at a place.
State = frozenset[tuple[str, int, int]]

_count = 0


def published() -> int:
    """How many outputs of this process have their names by now."""
    return _count


@contextmanager
def output_folder(path: str | Path, names: Collection[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `path` when the block ends without an error.

    Whatever goes wrong inside, Ctrl-C included, leaves `path` as it was and nothing beside it. A link is followed: it stays, and
    what it leads to is made. What others have put there when the block ends stays too; the result is then kept beside it.

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
        The folder exists, holds other files, or cannot be written; the disk is full; somebody else has written there meanwhile.
    """
    target = _resolved(path)
    with disk_faults(target):
        _check_folder(target, names, overwrite)
        seen = state_of(target)
    with disk_faults(target), scratch_beside(target) as scratch:
        new = scratch / target.name
        new.mkdir()
        yield new
        for entry in new.iterdir():
            if entry.name not in names:
                # A fault of the code: a later --overwrite would refuse a folder with a name that it does not know.
                raise RuntimeError(f"{entry.name} is not among the declared output names")
        _publish(new, target, seen, "")


@contextmanager
def output_file(
    path: str | Path, suffixes: Collection[str], *, overwrite: bool = False, alike: bool = False
) -> Iterator[Path]:
    """As `output_folder`, for one file whose name ends in one of `suffixes`.

    `alike` is for files that several processes make with the same content: whichever comes last, no work is lost.

    Raises
    ------
    InputError
        As `output_folder`, and if the name ends in something else.
    """
    suffix = next((suffix for suffix in suffixes if Path(path).name.endswith(suffix)), None)
    if suffix is None:
        raise InputError(
            Message(f"{name_of(path, _OUT)} has none of the endings {', '.join(suffixes)}", at="out", advice=_ANOTHER)
        )
    target = _resolved(path)
    with disk_faults(target):
        _check_file(target, overwrite)
        seen = state_of(target)
    with disk_faults(target), scratch_beside(target) as scratch:
        new = scratch / target.name
        yield new
        if alike and overwrite:
            seen = seen | state_of(target)
        _publish(new, target, seen, suffix)


@contextmanager
def disk_faults(target: Path, after_full: str = "") -> Iterator[None]:
    """A full disk, or a place that cannot be written, is told as a fault of the output `target`.

    `after_full` is of a folder that a job fills bit by bit: what to do and what is left, for this and every output in it.
    """
    token = _AFTER_FULL.set(after_full) if after_full else None
    try:
        yield
    except OSError as error:
        if problem := _disk_problem(error, target, inside=bool(after_full)):
            raise InputError(problem) from None
        raise
    finally:
        if token is not None:
            _AFTER_FULL.reset(token)


def not_whole(path: Path) -> OSError:
    """The error that a writer of another language swallowed, of a file that did not become whole: the disk's, as far as it can be known."""
    try:
        place = os.statvfs(path.parent)
        free = place.f_bavail * place.f_frsize
    except (OSError, AttributeError):  # Windows does not tell it so
        free = 2**20
    number = errno.ENOSPC if free < 2**20 else errno.EFBIG if _files_are_limited() else errno.EIO
    return OSError(number, os.strerror(number), str(path))


def state_of(place: Path) -> State:
    """What stands at a place, to be compared later; empty where nothing does."""
    try:
        if not place.is_dir():
            found = place.lstat()
            return frozenset({("", found.st_size, found.st_mtime_ns)})
        # Of a folder the name alone: its time changes with what is in it, which is listed itself.
        below = {
            str(p.relative_to(place)): None if p.is_dir() and not p.is_symlink() else p.lstat()
            for p in place.rglob("*")
        }
    except FileNotFoundError:
        return frozenset()
    return frozenset((name, -1, -1) if at is None else (name, at.st_size, at.st_mtime_ns) for name, at in below.items())


# -- giving the name -------------------------------------------------------------------------------


def _publish(new: Path, target: Path, seen: State, suffix: str) -> None:
    """Give a finished file or folder its name, unless something stands there that was not `seen` when the work began."""
    if not new.exists():
        raise RuntimeError(f"{target.name} was not written")
    flush(new)
    with held_back():
        if _taken(target, seen) or not _named(new, target, seen):
            _keep_beside(new, target, suffix)
        flush_names(target.parent)
        global _count
        _count += 1


def _taken(target: Path, seen: State) -> bool:
    return bool(state_of(target) - seen)


def _named(new: Path, target: Path, seen: State) -> bool:
    """Put the new in the place of the old; False if somebody was quicker, whose work then stands there."""
    if not seen or not os.path.lexists(target):
        try:
            move_where_free(new, target)
        except FileExistsError:
            return False
        return True
    if swap(new, target):
        if state_of(new) - seen:  # written between looking and swapping
            swap(new, target)
            return False
        return True
    if new.is_file():
        os.replace(new, target)
        return True
    # Where names cannot be swapped, the old one steps aside first, and comes back if that fails.
    aside = set_aside(target, new.parent)
    try:
        move_where_free(new, target)
    except BaseException:
        os.rename(aside, target)
        raise
    return True


def _keep_beside(new: Path, target: Path, suffix: str) -> NoReturn:
    """The result of hours is not thrown away because its name is taken: it gets the next free one."""
    stem = target.name.removesuffix(suffix) if suffix else target.name
    for number in range(2, 10_000):
        beside = target.with_name(f"{stem}-{number}{suffix}")
        try:
            if not os.path.lexists(beside):
                move_where_free(new, beside)
                break
        except FileExistsError:
            continue
    flush_names(target.parent)
    raise InputError(
        Message(
            f"Somebody else wrote {name_of(target, _OUT)} while this ran, and it is left as it is",
            at="out",
            advice=f"What this run made is kept beside it as {name_of(beside, _OUT)}.",
        )
    )


# -- what is in the way ----------------------------------------------------------------------------


def _resolved(path: str | Path) -> Path:
    """Where an output goes, behind links: it is their target that is written, and they stay."""
    try:
        target = Path(os.path.realpath(path))
    except OSError as error:
        whole = "The current folder was deleted: go to another one, or give a whole path."
        raise InputError(
            Message(f"{name_of(path, _OUT)} cannot be found: {error.strerror}", at="out", advice=whole)
        ) from None
    if target.is_symlink():
        raise InputError(
            Message(f"{name_of(path, _OUT)} is a link that leads back to itself", at="out", advice=_ANOTHER)
        )
    return target


def _check_file(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise InputError(
            Message(f"{name_of(target, _OUT)} is a folder", at="out", advice="The name of a file is needed.")
        )
    if target.exists() and not target.is_file():
        raise InputError(
            Message(f"{name_of(target, _OUT)} is a device or a pipe, not a file", at="out", advice=_ANOTHER)
        )
    if target.exists() and not overwrite:
        raise InputError(Message(f"{name_of(target, _OUT)} exists", at="out", advice=_ANOTHER, give=("overwrite",)))


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
    if os.path.ismount(target):  # said before the work, as no rename can replace it afterwards
        raise InputError(
            Message(
                f"{name_of(target, _OUT)} is where a disk begins and cannot be replaced",
                at="out",
                advice="Give a folder in it.",
            )
        )


def _disk_problem(error: OSError, target: Path, inside: bool) -> str | None:
    """One sentence if the disk or the place is at fault, None if something else is."""
    cause: BaseException = error  # writers wrap the system's error in their own
    while not (isinstance(cause, OSError) and cause.errno) and cause.__cause__ is not None:
        cause = cause.__cause__
    if not isinstance(cause, OSError) or not cause.errno:
        return None
    reason = os.strerror(cause.errno)
    if cause.errno in DISK_IS_FULL:
        return Message(f"{name_of(target, _OUT)} cannot be written: {reason}", at="out", advice=_AFTER_FULL.get())
    # It may be any file, one that was read too: only what names the output is blamed on it.
    if cause.filename is None:
        return None
    named = Path(os.path.abspath(cause.filename))
    beside = str(target.parent / f".{target.name}.")
    ours = str(named).startswith(beside) or named == target or (inside and target in named.parents)
    if ours or named in target.parents:
        return Message(
            f"{name_of(target, _OUT)} cannot be written: {reason} ({name_of(named)})", at="out", advice=_ANOTHER
        )
    return None


def _files_are_limited() -> bool:
    """Whether this process may write only files up to some size."""
    try:
        import resource
    except ImportError:
        return False
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
