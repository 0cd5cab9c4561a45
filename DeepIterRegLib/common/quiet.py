"""What libraries print, warn and log while they read a file: it quotes headers and paths, so it stays out of terminals and logs.

With DEEPITERREG_DEBUG in the environment everything is let through.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, TextIO

# Of libjpeg, which decodes what is left of a damaged image and only says so; it speaks to the terminal alone.
_DAMAGE = re.compile(rb"corrupt|premature end", re.IGNORECASE)
_STDERR = 2


def debugging() -> bool:
    """Whether who runs this asked for everything that is known of a fault, whoever it names."""
    return bool(os.environ.get("DEEPITERREG_DEBUG"))


@contextmanager
def quoting_nothing() -> Iterator[None]:
    """Warnings and log lines of libraries are left out within; in all threads, as long as one is within."""
    if debugging():
        yield
        return
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


class _Silence:
    """Kept by those within: what the first one changes is put back by the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._before = ExitStack()

    def begin(self) -> None:
        with self._lock:
            self._within += 1
            if self._within > 1:
                return
            # Errors are still logged, as readers listen to them; without a handler of somebody's they are printed no more.
            self._before.enter_context(warnings.catch_warnings())
            self._before.callback(setattr, logging, "lastResort", logging.lastResort)
            self._before.callback(logging.disable, logging.root.manager.disable)
            warnings.simplefilter("ignore")
            logging.disable(max(logging.root.manager.disable, logging.WARNING))
            logging.lastResort = None

    def end(self) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._before.close()


_SILENCE = _Silence()


@dataclass
class Heard:
    """What libraries printed within `listening`; known when it has ended.

    Attributes
    ----------
    damage
        They complained of damaged data.
    """

    damage: bool = field(default=False)


@contextmanager
def listening() -> Iterator[Heard]:
    """`quoting_nothing`, and what compiled libraries print to the terminal (the process's own stderr) is heard in its place.

    Several threads may listen at a time; then each hears all.
    """
    heard = Heard()
    if debugging():
        yield heard
        return
    with quoting_nothing():
        _EAR.begin()
        try:
            yield heard
        finally:
            heard.damage = bool(_DAMAGE.search(_EAR.end()))


class _Ear:
    """In place of the process's stderr, while somebody listens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners = 0
        self._kept = -1
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        with self._lock:
            self._listeners += 1
            if self._listeners > 1:
                return
            # A process may have no stderr (a window's), and a full disk no room: then nothing is heard.
            with suppress(OSError, ValueError):
                if sys.stderr is not None:
                    sys.stderr.flush()
                file = tempfile.TemporaryFile()  # noqa: SIM115  closed where the last listener ends
                self._kept = os.dup(_STDERR)
                os.dup2(file.fileno(), _STDERR)
                self._file = file

    def end(self) -> bytes:
        with self._lock:
            self._listeners -= 1
            if self._file is None:
                return b""
            said = b""
            with suppress(OSError, ValueError):
                self._file.seek(0)
                said = self._file.read()
                self._file.seek(0, os.SEEK_END)
            if self._listeners == 0:
                os.dup2(self._kept, _STDERR)
                os.close(self._kept)
                self._file.close()
                self._file = None
            return said


_EAR = _Ear()
_OWN: list[TextIO] = []


def own_stderr() -> None:
    """Give this process's Python a way to the terminal of its own, so that `listening` keeps nothing of it back."""
    with suppress(OSError, ValueError, AttributeError):
        encoding = sys.stderr.encoding or "utf-8"
        own = open(os.dup(_STDERR), "w", buffering=1, encoding=encoding, errors="backslashreplace")  # noqa: SIM115
        _OWN.append(own)  # who wraps it goes on by its number, which must not be closed
        sys.stderr = own
