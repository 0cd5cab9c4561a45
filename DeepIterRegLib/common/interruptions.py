"""What interrupts the work (Ctrl-C, a signal) waits while a result gets its name: no moment of it can be cut in two."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_depth = 0
_waiting: list[Callable[[], None]] = []


@contextmanager
def held_back() -> Iterator[None]:
    """Interruptions that come through `deliver` wait for the end of the block. In other threads than the main one nothing changes."""
    global _depth
    # Handlers of signals run in the main thread alone: another thread must not delay them, nor be the one they end.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0 and _waiting:
            act = _waiting[0]
            _waiting.clear()
            act()


def deliver(act: Callable[[], None]) -> None:
    """Do what an interruption does (raise, say), now or when nothing holds it back; for handlers of signals."""
    if _depth:
        _waiting.append(act)
    else:
        act()
