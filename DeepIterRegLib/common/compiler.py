"""The compiler of kernels, and where it keeps them: a folder for each state of their sources.

numba looks at the file of a kernel alone. What a kernel calls in another file, and the constants that it takes from there, are compiled
into it: after an update of these alone the old kernel would still be used.

What numba keeps are pickles, which can run code. So they lie only where this user alone, or who installed the code, may write.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config

_PACKAGE = Path(__file__).resolve().parents[1]
_HAS_KERNELS = re.compile(rb"^\s*@(nb\.|numba\.)?njit\b", re.MULTILINE)
_IMPORTS = re.compile(rb"^from DeepIterRegLib\.([a-z0-9_.]+) import \(?([^)\n]*(?:\n    [^)\n]*)*)", re.MULTILINE)
_CONSTANT = re.compile(rb"\b[A-Z][A-Z0-9_]+\b")
_KEPT = 4  # states: those of a few checkouts and versions
_DECORATING = threading.Lock()  # modules may be imported by several threads at a time
if "NUMBA_OPT" not in os.environ:
    config.OPT = type(config.OPT)(2)  # LLVM's level 3 makes no faster kernels, and takes a tenth longer to make them


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As `numba.njit`, with what is kept in the folder of these sources."""

    def decorate(function: Callable[..., Any]) -> Any:
        with _DECORATING:
            before = config.CACHE_DIR
            config.CACHE_DIR = str(kernel_folder())
            try:
                # Without what C would call: nobody does, and it takes 4 % of the time to compile.
                return numba.njit(no_cfunc_wrapper=True, **options)(function)
            finally:
                config.CACHE_DIR = before

    return decorate


@cache
def kernel_folder() -> Path:
    """Where this version's kernels are kept: in numba's own folder for it if one is set, beside the code, or in the user's cache.

    Where none of these can be written, in a folder of this process's own, which goes with it.
    """
    name = f"kernels-{_state()[:16]}"
    for base in _bases():
        folder = base / name
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            folder.touch()
            _drop_old(base)
            return folder
    own = Path(tempfile.mkdtemp(prefix="deepiterreg-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    (own / name).mkdir()
    return own / name


def _bases() -> Iterator[Path]:
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR)
        return
    yield _PACKAGE / "__pycache__"
    with suppress(RuntimeError):  # nobody's home
        of_user = {"win32": "AppData/Local", "darwin": "Library/Caches"}.get(sys.platform, ".cache")
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / of_user) / "deepiterreg"


def _state() -> str:
    """What the kernels are compiled from: their files, and those of constants that these import."""
    files = {path: path.read_bytes() for path in sorted(_PACKAGE.rglob("*.py"))}
    of_kernels = {path for path, text in files.items() if _HAS_KERNELS.search(text)}
    for path in sorted(of_kernels):
        for module, names in _IMPORTS.findall(files[path]):
            if _CONSTANT.search(names):
                of_kernels.add(_PACKAGE.joinpath(*module.decode().split(".")).with_suffix(".py"))
    digest = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    for path in sorted(of_kernels & set(files)):
        digest.update(hashlib.sha256(files[path]).digest())
    return digest.hexdigest()


def _drop_old(base: Path) -> None:
    """Leave the states that were used last."""
    with suppress(OSError):
        states = sorted(base.glob("kernels-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in states[_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)
