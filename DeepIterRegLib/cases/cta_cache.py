"""The last CTAs read and segmented, for cases of one patient that follow each other."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels

FileState = list[tuple[str, int, int]]


def file_state(path: Path) -> FileState:
    """Path, size and time of change in ns, of a file or of every file in a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    # Not a hash of the content: to read hundreds of megabytes is what the cache saves.
    return [(str(f.absolute()), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]


class CtaCache:
    """CTAs of files with their vessels; of a few, as each is some hundred megabytes.

    A file that changed is read again, other settings segment again. Pickled, it arrives empty.

    Parameters
    ----------
    at_most
        So many CTAs are kept.
    """

    def __init__(self, at_most: int = 2) -> None:
        self._at_most = at_most
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # A lock cannot be pickled, and the volumes would be sent to every worker.
        return CtaCache, (self._at_most,)

    def volume(self, path: Path, series: str | None = None, phase: int | None = None) -> Volume:
        """As `load_volume`."""
        kept: Volume = self._of(path, series, phase, "volume", lambda: load_volume(path, series, phase))
        return kept

    def vessels(
        self,
        path: Path,
        cta: Volume,
        settings: CtaSegmentation,
        series: str | None = None,
        phase: int | None = None,
    ) -> Volume:
        """As `segment_vessels` of `cta`, which is what `path` holds in this series and phase, in HU."""
        kept: Volume = self._of(path, series, phase, repr(settings), lambda: segment_vessels(cta, settings))
        return kept

    def _of(self, path: Path, series: str | None, phase: int | None, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:  # who comes second waits and finds it made
            key = repr((file_state(path), series, phase))
            parts = self._kept.setdefault(key, {})
            self._kept.move_to_end(key)
            while len(self._kept) > self._at_most:
                self._kept.popitem(last=False)
            if name not in parts:
                parts[name] = make()
            return parts[name]
