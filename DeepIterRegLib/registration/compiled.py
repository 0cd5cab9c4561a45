"""Kernels compiled ahead, by a process of their own: beside what comes before the search, or once and for all after an installation.

By a process and not by a thread, since the compiler lets one thread in at a time, and what is read and segmented needs it too.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numba
from numba.core.sigutils import normalize_signature

from DeepIterRegLib.common.compiler import kernel_folder

# What the kernels are called with, so that they can be compiled without a patient. Of arrays, `[:, ::1]` says that rows follow each other.
_LINE, _IMAGE, _GRID = "float32[::1]", "float32[:,::1]", "float32[:,:,::1]"
_IMAGES, _WORK, _SUMS = "float32[:,:,:,::1]", "float32[:,:,:,:,::1]", "float64[:,:,:,::1]"
_PART = "int64,int64"
_BLOCKS = "UniTuple(int64,3),UniTuple(int64,3)"  # where they begin, and their sizes
_HU, _MASK, _ZONE, _PLANE = "int16[:,:,::1]", "boolean[:,:,::1]", "uint8[:,:,::1]", "boolean[:,::1]"
# The search and the report: about as much work as what comes before, which is compiled when it is called. The longest first, as what is
# left in the end is shared out (`helping`).
_MEANWHILE = (
    (
        *("registration.kernels.skull", "gradient_products", _PART, _IMAGE, _LINE, _GRID, _IMAGE, "float32", _LINE),
        *(_GRID, _IMAGE, _LINE, "float32", _WORK, _IMAGES, "float64[:,:,::1]"),
    ),
    (
        *("registration.kernels.vessels", "products", _PART, _IMAGE, _IMAGE, _LINE, _GRID, _IMAGE, "float32", _LINE),
        *("float32", _GRID, _IMAGE, _LINE, "float32", _IMAGES, _GRID, "float64[:,:,::1]"),
    ),
    (
        *("registration.kernels.vessels", "oriented_images", _PART, _IMAGE, _IMAGE, _LINE, _GRID, _LINE, _LINE),
        *("float32,float32", _IMAGES, _SUMS),
    ),
    (
        *("registration.kernels.skull", "gradient_images", _PART, _IMAGE, _LINE, _GRID, _LINE, _LINE, "float32"),
        *(_IMAGES, _SUMS),
    ),
    (
        *("registration.kernels.vessels", "local_maxima", _PART, _GRID, _SUMS, "int64[::1],int64,float64", _IMAGE),
        "int64[:,:,::1]",
    ),
    ("rendering.voxels", "splat_halves", _PART, _IMAGE, "float32", _GRID, _GRID, _LINE, _IMAGES),
    ("registration.kernels.skull", "block_means", _PART, _HU, _BLOCKS, "float32,float32", _GRID),
    ("registration.kernels.vessels", "main_axes", _PART, "float64[:,::1]", _IMAGE),
    ("registration.kernels.vessels", "area_means", _PART, _IMAGE, _IMAGE),
)
_FIRST = (
    ("images.head_kernels", "_sweep", _MASK, _MASK, "int64[::1]", _ZONE),
    ("images.head_kernels", "_sweep", "boolean[:,:,:],boolean[:,:,:]", "int64[::1]", "uint8[:,:,:]"),
    ("images.resampling", "resample", _IMAGE, "float64[:,::1]", _PLANE, _IMAGE, _IMAGE),
    ("segmentation.cta.brain", "_pool", _PART, _HU, "float64", _GRID, _GRID),
    ("segmentation.cta.brain", "_even_hu", _PART, _HU, _MASK, "float32", "int64[:,::1]"),
    ("segmentation.cta.bridges", "grown", _MASK, _MASK, "int64"),
    ("segmentation.cta.bridges", "_cost", _PART, _HU, "float32,float32", _GRID),
    (
        *("segmentation.cta.bridges", "_front", "int32[::1]", _LINE, "boolean[::1],boolean[::1]"),
        "int64,int64,int64,float32",
    ),
    ("segmentation.cta.grid", "_resample", _PART, _HU, "float64[:,::1]", _HU),
    ("segmentation.cta.grid", "_resample_along_axes", _PART, _HU, "float64[:,::1]", _HU),
    ("segmentation.cta.grid", "_half_maximum", _PART, _HU, _MASK, _PLANE, "float32,float32", _HU),
    ("segmentation.cta.grid", "_draw", _PART, _HU, _HU, "float64[:,::1]", "float64", _MASK),
    ("segmentation.cta.tubes", "_paint", _PART, _HU, _ZONE, "float64,float64", _GRID),
    ("segmentation.cta.tubes", "_blur_planes", _PART, _GRID, _LINE),
    ("segmentation.cta.tubes", "_blur_across", _PART, _GRID, _LINE),
    (
        *("segmentation.cta.tubes", "_list_bright", _PART, _GRID, _HU, _ZONE, "float64,float64"),
        "int64[::1],int32[:,::1],uint8[::1]",
    ),
    ("segmentation.cta.tubes", "_respond", _PART, _GRID, "int32[:,::1]", "float32,float32", _LINE, _LINE),
    (
        *("segmentation.cta.tubes", "_look_around", _PART, _HU, "int32[:,::1]", _ZONE),
        *("float64,float64,float64,int64", _LINE),
    ),
)
# Of runs that came subtracted alone, so with what is compiled once and for all.
_LATER = (
    (
        *("registration.kernels.skull", "changes_of_shadow", _PART, _IMAGE, _LINE, _GRID, _IMAGE, "float32", _LINE),
        *(_LINE, "int64[::1]", _IMAGE, _LINE, _WORK, _IMAGES, _GRID),
    ),
)
_ALL = "all"
_DONE = "compiled"  # a file beside the kernels
_started: list[subprocess.Popen[bytes]] = []
_of_all: list[subprocess.Popen[bytes]] = []  # those of them that compile everything


def signatures(everything: bool) -> list[tuple[Any, tuple[Any, ...]]]:
    """Kernels and the types that each is called with: those compiled meanwhile, or of a whole registration."""
    return [
        (
            getattr(importlib.import_module(f"DeepIterRegLib.{module}"), name),
            # Not the words themselves: what is compiled for them is kept under another key than what a call compiles.
            normalize_signature(f"({','.join(types)},)")[0],
        )
        for module, name, *types in (*_MEANWHILE, *((*_FIRST, *_LATER) if everything else ()))
    ]


def compile_kernels(everything: bool) -> None:
    """Compile them, or find them compiled; then remember that they are."""
    for kernel, types in signatures(everything):
        kernel.compile(types)
    _note_done()


def _note_done() -> None:
    with suppress(OSError):
        (kernel_folder() / _DONE).touch()


def compiles_meanwhile() -> bool:
    """Whether `begin` would: not if it was done before, nor with one thread, which leaves nothing to do meanwhile."""
    return numba.get_num_threads() > 1 and not (kernel_folder() / _DONE).exists()


def begin(everything: bool = False) -> subprocess.Popen[bytes] | None:
    """Have the kernels of the search, or all, compiled meanwhile by a process, where they are not yet and none is at it."""
    return _start(everything) if compiles_meanwhile() and not _at_work() else None


@contextmanager
def compiling_search() -> Iterator[Callable[[], bool]]:
    """As `begin`, for as long as this lasts at most; gives what tells whether a process goes on.

    Where it does not, each kernel is compiled when it is first called.
    """
    own = begin()
    try:
        yield _at_work
    finally:
        if own is not None:
            _end(own)


def helping() -> Iterator[None]:
    """Take what the process has compiled, and compile the rest from the other end, one kernel at a time.

    Then a process that compiles no more than these is not needed any more.
    """
    for kernel, types in reversed(signatures(everything=False)):
        kernel.compile(types)
        yield
    if any(process.poll() is None for process in _of_all):
        return
    _note_done()
    for process in _started:
        _end(process)


def _start(everything: bool) -> subprocess.Popen[bytes] | None:
    """A process that compiles, says nothing, and ends with this one at the latest; None where there can be none."""
    path = os.pathsep.join(part for part in sys.path if part)
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(kernel_folder().parent)}
    words = [sys.executable, "-P", "-m", __name__, *([_ALL] if everything else [])]
    no_window = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            words, env=environment, stdin=nothing, stdout=nothing, stderr=nothing, creationflags=no_window
        )
    except (OSError, ValueError):
        return None
    _started.append(process)
    if everything:
        _of_all.append(process)
    atexit.register(process.kill)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _at_work() -> bool:
    return any(process.poll() is None for process in _started)


if __name__ == "__main__":
    gc.disable()  # the process is short: to look for garbage takes 5 % of its time
    compile_kernels(_ALL in sys.argv)
