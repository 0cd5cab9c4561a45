"""Peak memory of this process, from Linux's own record of it."""

from __future__ import annotations

from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_mb() -> float:
    """Now."""
    return _field_mb("VmRSS")


def peak_mb() -> float:
    """Highest since the process began or since `reset_peak`."""
    return _field_mb("VmHWM")


def reset_peak() -> None:
    """Let the peak begin at what is resident now. (ru_maxrss can not do so and begins with the parent's.)"""
    _RESET.write_text("5")


def _field_mb(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / 1024
