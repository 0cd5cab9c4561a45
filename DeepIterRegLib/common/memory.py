"""Memory that is free again, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give free memory back, after work that needed much of it and whose like will be done again in this process.

    The C library of Linux keeps what was freed, in pieces between what is in use, so that a process grows with each volume for tens of
    cases: a batch from 0.50 to 0.82 GB, where this holds 0.40 GB and takes 5 ms a case. Other systems give it back by themselves.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
