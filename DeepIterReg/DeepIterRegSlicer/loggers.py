"""The log of Slicer, which keeps every line of every package: numba alone wrote 19,000 into one session's."""

from __future__ import annotations

import logging

from DeepIterRegLib.common.quiet import debugging

# What the library imports, and what that imports: each tells at its lower levels what only its makers can use.
PACKAGES = ("h5py", "llvmlite", "nibabel", "numba", "PIL", "pydicom", "safetensors", "SimpleITK", "torch")


def calm() -> None:
    """Warnings and errors of packages reach Slicer's log, nothing below; a level that somebody chose stays."""
    if debugging():
        return
    for name in PACKAGES:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
