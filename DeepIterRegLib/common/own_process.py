"""A file read in a process of its own, by libraries that a damaged file can crash, hang or make talk: only this process is lost by it.

The reader is a Python file with `answer(...)` at its end, run by its path, since its package would import much.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.scratch import temporary_folder

_REFUSED = 3  # exit code of a process that says on stdout what is wrong
# What a file may cost, whatever counts its header claims. The libraries take 0.45 GB and a second; a million triangles another 0.25 GB
# and some seconds, in files of 15 MB (packed, 16 bytes of memory a byte) to 300 MB (text, one).
_WALL_S, _WALL_S_PER_MB = 60.0, 1.0
_CPU_S, _CPU_S_PER_MB = 6.0, 0.5
_BYTES, _BYTES_EACH = 1 << 30, 100  # of memory, and for each byte of the file
_MOST_BYTES, _MOST_BYTES_EACH = 3 << 30, 16  # of larger files
# Libraries that compute take address space for each processor of the computer, which has nothing to do with the file.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def arrays_of(reader: str, path: Path, called: str, died: str) -> dict[str, np.ndarray]:
    """What the reader makes of a file.

    Parameters
    ----------
    reader
        Path of the Python file.
    path
    called
        The file in messages: `Model a.ply`.
    died
        What to say if the process died of the file.

    Raises
    ------
    InputError
        What the reader raised, `died`, or that it takes longer than a file of that size can.
    """
    with temporary_folder() as folder:
        result = folder / "answer.npz"
        words = [sys.executable, "-P", reader, str(path.absolute()), str(result)]
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        try:
            done = subprocess.run(
                words,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_WALL_S + _WALL_S_PER_MB * _megabytes(path),
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise _too_long(called, path) from None
        if done.returncode == -getattr(signal, "SIGXCPU", 0) != 0:
            raise _too_long(called, path)
        if done.returncode == _REFUSED:
            raise InputError(done.stdout.strip())
        if not result.is_file():
            raise InputError(died)
        with np.load(result) as found:
            return dict(found)


def _too_long(called: str, path: Path) -> InputError:
    return InputError(
        f"{called} is damaged: it takes longer to read than a file of {_megabytes(path):.1f} MB can. Copy it again, or save it again."
    )


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def answer(read: Callable[[Path], Mapping[str, np.ndarray]]) -> None:
    """In the process of its own: read the file that it was started with, and hand the arrays back or say what is wrong."""
    path, result = Path(sys.argv[1]), Path(sys.argv[2])
    size = path.stat().st_size
    _limit("RLIMIT_AS", min(_BYTES + _BYTES_EACH * size, max(_MOST_BYTES, _MOST_BYTES_EACH * size)))
    _limit("RLIMIT_CPU", int(_CPU_S + _CPU_S_PER_MB * _megabytes(path)))
    said, quiet = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # what libraries print is no answer
    try:
        found = dict(read(path))
    except InputError as error:
        os.write(said, str(error).encode())
        # Without the libraries' farewells, at which some of them hang after a damaged file.
        os._exit(_REFUSED)
    part = result.with_suffix(".part.npz")
    np.savez(part, **{name: np.asarray(array) for name, array in found.items()})  # type: ignore[arg-type]
    part.rename(result)
    os._exit(0)


def _limit(name: str, value: int) -> None:
    """What a header claims must not fill the computer, nor keep it; where the system cannot say so, it is not said."""
    try:
        import resource

        kind = getattr(resource, name)
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    except (ImportError, AttributeError, ValueError, OSError):
        return
