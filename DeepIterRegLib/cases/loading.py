"""What a process imports for its first registration, told as steps of their own: the bar would else stand still meanwhile."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.abc import MetaPathFinder
from types import ModuleType

import numpy as np

from DeepIterRegLib.cases.steps import Steps
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.registration.steps import Step

_LOADED_BY = {Step.LOAD: "DeepIterRegLib.registration.pipeline", Step.LOAD_NETWORK: "torch"}
# How many modules the network has looked for, with torch 2.13, when each part of the import's time is over; other versions have a few
# more or less.
_MODULES = (0, 88, 203, 376, 484, 660, 732, 758, 768)
_PARTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)


def loading_steps(*, network: bool) -> list[Step]:
    """Those of the steps that are not over in this process; `network`: whether the network will be asked."""
    wanted = [Step.LOAD, *([Step.LOAD_NETWORK] if network else [])]
    return [step for step in wanted if _LOADED_BY[step] not in sys.modules]


def load(steps: Steps, on_progress: Progress, *, network: bool) -> None:
    """Import what the registration needs."""
    with steps.step(Step.LOAD):
        import DeepIterRegLib.registration.pipeline  # noqa: F401

        _load_compiler()
    if Step.LOAD_NETWORK in loading_steps(network=network):
        with steps.step(Step.LOAD_NETWORK):
            _load_network(on_progress.of(Step.LOAD_NETWORK))


@cache
def _load_compiler() -> None:
    """What numba loads with the first function of a process, which else reading the DSA would wait for."""
    import numba

    numba.njit(lambda: None)()


class _Counted(MetaPathFinder):
    """Finds no module, but tells how many this thread looked for: PyTorch takes seconds, and says nothing itself.

    What the listener raises, as to cancel, waits in `raised`: half of PyTorch could not be imported again in this process.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self.raised: BaseException | None = None
        self._tell, self._count, self._thread = tell, 0, threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """One more."""
        if self.raised is not None or threading.get_ident() != self._thread:
            return
        self._count += 1
        try:
            self._tell(float(np.interp(self._count, _MODULES, _PARTS)))
        except BaseException as error:
            self.raised = error


def _load_network(tell: Callable[[float], None]) -> None:
    counted = _Counted(tell)
    sys.meta_path.insert(0, counted)
    try:
        # Where PyTorch does not work, the network says so when it is asked, and the search goes on without it.
        with suppress(Exception):
            import DeepIterRegLib.registration.network.predict  # noqa: F401
    finally:
        sys.meta_path.remove(counted)
    if counted.raised is not None:
        raise counted.raised
