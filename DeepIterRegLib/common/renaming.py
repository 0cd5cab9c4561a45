"""Names that change in one step: two swapped, one given only where nothing has it; and bytes that are on the disk before."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_SWAP = 2  # of Linux's renameat2 and macOS's renamex_np alike
_HERE = -100  # AT_FDCWD: paths are as the process means them
_CANNOT_SWAP = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)
_CANNOT_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def swap(one: Path, other: Path) -> bool:
    """Exchange two files or folders of one file system: at no moment does either name lack something whole.

    Returns
    -------
    False where the system or the file system cannot; nothing has changed then.

    Raises
    ------
    OSError
        It failed for another reason.
    """
    if sys.platform == "win32":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_HERE, first, _HERE, second, _SWAP)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(first, second, _SWAP)
    else:
        return False
    if failed:
        number = ctypes.get_errno()
        if number in _CANNOT_SWAP:
            return False
        raise OSError(number, os.strerror(number), str(one), None, str(other))
    return True


def move_where_free(new: Path, target: Path) -> None:
    """Give a file or folder its name only if nothing but an empty folder has it.

    Raises
    ------
    FileExistsError
        Something else has it, since whenever.
    OSError
        It cannot be renamed.
    """
    try:
        if new.is_dir():
            if sys.platform == "win32" and target.is_dir():
                target.rmdir()  # refuses a folder that holds something
            os.rename(new, target)  # the system lets it replace an empty folder, and no other
        elif sys.platform == "win32":
            os.rename(new, target)
        else:
            _link(new, target)
    except OSError as error:
        if error.errno in _OCCUPIED:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise


def _link(new: Path, target: Path) -> None:
    """A plain rename would replace a file that came meanwhile; a second name for the same file never does."""
    try:
        os.link(new, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.rename(new, target)
        return
    new.unlink()


def flush(path: Path) -> None:
    """A file, or a folder with all that is in it, reaches the disk; what the disk refuses may show only here.

    Raises
    ------
    OSError
    """
    if path.is_dir() and not path.is_symlink():
        for entry in path.iterdir():
            flush(entry)
        flush_names(path)
    elif path.is_file():
        # Windows flushes only what may be written.
        handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_names(folder: Path) -> None:
    """The names of a folder reach the disk, where the system can do that."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP):  # of file systems that do it by themselves
            raise
    finally:
        os.close(handle)
