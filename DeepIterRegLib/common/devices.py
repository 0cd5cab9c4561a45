"""Which device computes: the CPU, or a card that torch knows.

`on` says for all that is done inside it which device is meant; `by_card` asks the card there, or the CPU where there is none.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TypeVar

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message, Remedy

T = TypeVar("T")
CPU = "CPU"
_DRIVERS = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")


@dataclass(frozen=True)
class Card:
    """A card: torch's name of the device, and the card's own."""

    device: str
    name: str


class NoMemory(Exception):
    """The device has too little memory for what it was asked."""


class Place:
    """Where it is computed.

    Parameters
    ----------
    device
        `cpu`, `cuda`, `cuda:1` or `auto`.

    Attributes
    ----------
    full
        Whether a card's memory did not suffice, so that the CPU went on.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.full = False

    @cached_property
    def card(self) -> Card | None:
        """The card, or None; looked for when it is first asked for, as torch takes seconds to import.

        Raises
        ------
        InputError
            There is no such card.
        """
        return named(self.device)


_place: ContextVar[Place] = ContextVar("place", default=Place())  # noqa: B039  # never changed: `on` sets another


@contextmanager
def on(device: str) -> Iterator[Place]:
    """Compute on a device, `cpu`, `cuda`, `cuda:1` or `auto`, for a card where there is one; within the same again it is the same place."""
    here = _place.get()
    with at(here if here.device == device != "cpu" else Place(device)) as place:
        yield place


@contextmanager
def at(place: Place) -> Iterator[Place]:
    """Compute at a place."""
    token = _place.set(place)
    try:
        yield place
    finally:
        _place.reset(token)


def by_card(ask: Callable[[str], T], ask_cpu: Callable[[], T]) -> T:
    """The answer of the card that `on` chose, whose name torch knows; the CPU's where it chose none or the card has no memory left.

    Raises
    ------
    InputError
        There is no such card.
    """
    place = _place.get()
    if place.card is None:
        return ask_cpu()
    try:
        with memory_faults():
            return ask(place.card.device)
    except NoMemory:
        place.full = True
    return ask_cpu()


@contextmanager
def memory_faults() -> Iterator[None]:
    """A card without memory left is `NoMemory`.

    Raises
    ------
    NoMemory
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise NoMemory from error


def named(device: str) -> Card | None:
    """The card that is meant by `cuda`, `cuda:1` or `auto`; None for the CPU.

    Raises
    ------
    InputError
        There is no such card.
    """
    refuse_missing(device)
    # torch takes seconds to import and is not needed where the driver knows no card.
    if device == "cpu" or not cards():
        return None
    try:
        import torch
    except ImportError:
        if device == "auto":
            return None
        raise
    if not torch.cuda.is_available():
        if device == "auto":
            return None
        raise _refusal(device, "PyTorch finds no CUDA device here; it may be a build for the CPU")
    _, _, number = device.partition(":")
    place = f"cuda:{number or 0}"
    return Card(place, torch.cuda.get_device_name(place))


def refuse_missing(device: str) -> None:
    """Refuse `cuda` and `cuda:1` where the driver knows no such card; the driver alone is asked, as torch takes seconds to import.

    Raises
    ------
    InputError
        There is no such card.
    """
    if device in ("auto", "cpu"):
        return
    _, _, number = device.partition(":")
    if int(number or 0) >= cards():
        raise _refusal(device, f"this computer has {cards() or 'no'} CUDA device{'' if cards() == 1 else 's'}")


def _refusal(device: str, why: str) -> InputError:
    return InputError(
        Message(f"{device.upper()} is asked for, but {why}", at="device", give=(Remedy("device", "cpu"),))
    )


@cache
def cards() -> int:
    """How many cards NVIDIA's driver knows; 0 without a driver."""
    for library in _DRIVERS:
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0
