"""A lock on a file that only a living process holds: the system lets go of it when the process ends, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

# File systems that have no locks say so by one of these.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_FAR = 1 << 30  # Windows locks bytes and keeps others from reading them: one that no record reaches


@dataclass(frozen=True)
class Owner:
    """Who holds a lock: the number of a process, and the computer that it runs on."""

    process: int
    host: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Taken(Exception):
    """Another process holds the lock; `owner` is None where it has not said yet who it is."""

    def __init__(self, owner: Owner | None) -> None:
        self.owner = owner
        super().__init__(str(owner or "another process"))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock on a file that names its holder, made for the block and removed after it.

    Raises
    ------
    Taken
        Another process, or another part of this one, holds it.
    OSError
        The file cannot be written.
    """
    handle = _take(path)
    try:
        yield
    finally:
        # Removed while it is held, so that nobody removes the file of the next holder. Windows removes no open file.
        if sys.platform != "win32":
            path.unlink(missing_ok=True)
        os.close(handle)
        if sys.platform == "win32":
            with suppress(OSError):
                path.unlink(missing_ok=True)


def is_dead(path: Path) -> bool:
    """Whether the lock's file names a holder that has ended without removing it; False while there is no name in it."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        owner = _owner_in(handle)
        return owner is not None and _lock(handle, owner)
    finally:
        os.close(handle)


def is_alive(process: int) -> bool:
    """Whether a process of this number runs on this computer."""
    if sys.platform == "win32":
        import ctypes

        # `os.kill` would end it there.
        found = ctypes.windll.kernel32.OpenProcess(0x1000, False, process)
        if found:
            ctypes.windll.kernel32.CloseHandle(found)
        return bool(found)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _take(path: Path) -> int:
    """A handle that holds the lock until it is closed."""
    while True:
        # 0666: the umask decides who else may take over a lock that a dead process left.
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            owner = _owner_in(handle)
            if not _lock(handle, owner):
                raise Taken(owner)
            # The holder before may have removed the file between our opening and our locking.
            if _is_same(handle, path):
                _say_who(handle, path)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _say_who(handle: int, path: Path) -> None:
    text = json.dumps(asdict(Owner(os.getpid(), socket.gethostname()))).encode()
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, text)
    except OSError:  # a full disk: an empty file would stay
        if sys.platform != "win32":
            path.unlink(missing_ok=True)
        raise


def _owner_in(handle: int) -> Owner | None:
    os.lseek(handle, 0, os.SEEK_SET)
    try:
        values = json.loads(os.read(handle, 4096))
        return Owner(int(values["process"]), str(values["host"]))
    except (ValueError, KeyError, TypeError):
        return None


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(handle: int, owner: Owner | None) -> bool:
    """Lock an open file for as long as it is open; False if somebody else holds it. `owner` is who says so in it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            return False
    # Without locks only the record tells; of another computer's processes nothing is known here.
    return owner is None or (owner.host == socket.gethostname() and not is_alive(owner.process))
