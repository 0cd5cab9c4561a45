"""Standard output and error that never stop the work: a reader that left, a full disk behind `>`, a closed terminal."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any


class _Steady(io.FileIO):
    """A stream of the system that goes nowhere from its first failure on; `lost` is that failure."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.lost = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            # The number itself, so that libraries in C and the processes that are started have it too.
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def steady_streams() -> Callable[[], OSError | None]:
    """Make stdout and stderr steady for the rest of the process.

    Returns
    -------
    Why stdout was lost, when asked; None while it is whole, and where its reader simply left.
    """
    # A file that the work opens must not get the number of a stream that the caller has closed: it would be printed into.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    out = _steady("stdout")
    _steady("stderr")

    def lost() -> OSError | None:
        with_reader = out is not None and out.lost is not None and out.lost.errno not in (errno.EPIPE, errno.EINVAL)
        return out.lost if out is not None and with_reader else None

    return lost


def _steady(name: str) -> _Steady | None:
    stream = getattr(sys, name)
    if stream is None:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        return None
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:  # the console of Windows has a way of its own
        return None
    steady = _Steady(raw.fileno(), "w", closefd=False)
    text = io.TextIOWrapper(
        io.BufferedWriter(steady),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    setattr(sys, name, text)
    return steady
