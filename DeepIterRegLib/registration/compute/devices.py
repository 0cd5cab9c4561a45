"""Which device computes: the CPU, or a card that torch knows."""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass
from functools import cache

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.registration.compute.drawings import Backend

CPU = "CPU"
_making = threading.Lock()
_DRIVERS = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")


@dataclass(frozen=True)
class Card:
    """A card: torch's name of the device, and the card's own."""

    device: str
    name: str


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


def card_backend(device: str) -> Backend:
    """The backend of a card; one for all registrations of the process."""
    with _making:
        return _made_backend(device)


@cache
def _made_backend(device: str) -> Backend:
    from DeepIterRegLib.registration.compute.tensors import TorchBackend

    return TorchBackend(device)
