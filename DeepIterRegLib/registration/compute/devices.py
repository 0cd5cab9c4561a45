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
    # torch takes seconds to import and is not needed where there is no driver.
    if device == "cpu" or (device == "auto" and not _driver()):
        return None
    try:
        import torch
    except ImportError:
        if device == "auto":
            return None
        raise
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto" and not count:
        return None
    _, _, number = device.partition(":")
    if int(number or 0) >= count:
        found = f"this computer has {count or 'no'} CUDA device{'' if count == 1 else 's'}"
        raise InputError(
            Message(f"{device.upper()} is asked for, but {found}", at="device", give=(Remedy("device", "cpu"),))
        )
    place = f"cuda:{number or 0}"
    return Card(place, torch.cuda.get_device_name(place))


@cache
def _driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    for library in _DRIVERS:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def card_backend(device: str) -> Backend:
    """The backend of a card; one for all registrations of the process."""
    with _making:
        return _made_backend(device)


@cache
def _made_backend(device: str) -> Backend:
    from DeepIterRegLib.registration.compute.tensors import TorchBackend

    return TorchBackend(device)
