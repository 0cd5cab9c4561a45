"""A file read in a process of its own, by libraries that a damaged file can crash, hang or make talk: only this process is lost by it.

The reader is a Python file with `answer(...)` at its end, run by its path, since its package would import much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.scratch import temporary_folder

_REFUSED = 3  # exit code of a process that says on stdout what is wrong
_LIMIT_S = 300.0
_BYTES, _BYTES_EACH = 4 << 30, 100  # of memory for the process, and for each byte of the file


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
        What the reader raised, or `died`.
    """
    with temporary_folder() as folder:
        result = folder / "answer.npz"
        words = [sys.executable, "-P", reader, str(path.absolute()), str(result)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        try:
            done = subprocess.run(
                words,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT_S,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{called} was not read within {_LIMIT_S:.0f} s; save it again.") from None
        if done.returncode == _REFUSED:
            raise InputError(done.stdout.strip())
        if not result.is_file():
            raise InputError(died)
        with np.load(result) as found:
            return dict(found)


def answer(read: Callable[[Path], Mapping[str, np.ndarray]]) -> None:
    """In the process of its own: read the file that it was started with, and hand the arrays back or say what is wrong."""
    path, result = Path(sys.argv[1]), Path(sys.argv[2])
    _limit_memory(_BYTES + _BYTES_EACH * path.stat().st_size)
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


def _limit_memory(count: int) -> None:
    """What a header claims must not fill the computer; where the system cannot say so, it is not said."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (count, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, ValueError, OSError):
        return
