"""How long work says how far it has come."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called often: a step's name, the fraction of it that is done, and its best score so far where there is a new one."""

    def __call__(self, step: str, done: float, score: float | None = None, /) -> None: ...


def say_nothing(step: str, done: float, score: float | None = None, /) -> None:
    """For whom nobody listens to."""
