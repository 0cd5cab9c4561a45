"""A CTA's file read while the rest of the library is imported: to import takes a second of one core, to inflate half of one of another.

Imported before anything else of a case, so nothing here imports more than reading a file does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from DeepIterRegLib.common.shown import calling
from DeepIterRegLib.common.thread_limit import threads_allowed
from DeepIterRegLib.common.user_input import is_file
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.nifti import NIFTI_SUFFIXES
from DeepIterRegLib.images.volume import Volume


def read_ahead(path: Path, series: str | None = None, phase: int | None = None) -> Callable[[], Volume]:
    """Begin to read a CTA, as `load_volume`; what is returned waits for it, or raises what that raised.

    Only of a NIfTI file: other readers import much while they read, for which two threads would wait in turn. The volume is handed over,
    not kept: who asks again has it read again.
    """
    read = partial(calling("cta", load_volume), path, series, phase)
    if threads_allowed() == 1 or not is_file(path) or not path.name.lower().endswith(NIFTI_SUFFIXES):
        return read
    import nibabel.nifti1
    import nibabel.nifti2  # noqa: F401

    begun: list[Future[Volume]] = [Future()]
    threading.Thread(target=_do, args=(read, begun[0]), daemon=True).start()
    return lambda: begun.pop().result() if begun else read()


def _do(read: Callable[[], Volume], future: Future[Volume]) -> None:
    try:
        future.set_result(read())
    except BaseException as error:  # whatever it is belongs to who asks for the volume
        future.set_exception(error)
