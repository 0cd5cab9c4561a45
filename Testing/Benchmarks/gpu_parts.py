"""What the parts of gpu.py share: options, JSON lines, timing on a device."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Part:
    """One part of the benchmark on its way.

    Attributes
    ----------
    name
    device
        torch's name of it.
    small
        Sizes to try the script with; the figures mean nothing.
    seconds
        The part ends by itself before it took longer.
    out
        File of the lines.
    """

    name: str
    device: str
    small: bool
    seconds: float
    out: Path
    begin: float = field(default_factory=time.perf_counter)
    failed: list[str] = field(default_factory=list)

    def left_s(self) -> float:
        """Of the part's time."""
        return self.seconds - (time.perf_counter() - self.begin)

    def check(self, what: str, value: float, limit: float) -> None:
        """A check: what must not exceed its limit."""
        good = bool(value <= limit)
        if not good:
            self.failed.append(what)
        self._write({"check": what, "value": float(value), "limit": limit, "ok": good})

    def figure(self, what: str, value: float | str, unit: str = "", **more: Any) -> None:
        """A figure."""
        self._write({"what": what, "value": value, "unit": unit, **more})

    def _write(self, line: dict[str, Any]) -> None:
        at_s = round(time.perf_counter() - self.begin, 1)
        text = json.dumps({"part": self.name, **line, "at_s": at_s})
        print(text, flush=True)
        with self.out.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def options(name: str, description: str, argv: Sequence[str] | None, *more: str) -> tuple[Part, argparse.Namespace]:
    """The part as asked for, and other options, whose values are words."""
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=description)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--small", action="store_true", help="only to try the script")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    for option in more:
        parser.add_argument(f"--{option}")
    values = parser.parse_args(argv)
    values.out.parent.mkdir(parents=True, exist_ok=True)
    return Part(name, values.device, values.small, values.seconds, values.out), values


def median_s(work: Callable[[], Any], device: str, least: int = 5, seconds: float = 1.0) -> float:
    """Median time of one call, the device waited for each time."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    work()
    wait()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < least or (time.perf_counter() - begin < seconds and len(times) < 200):
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def queued_s(work: Callable[[], Any], device: str, count: int = 20) -> float:
    """Mean time of one of `count` calls that are not waited for one by one: what the device needs, or the host to ask."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    work()
    wait()
    begin = time.perf_counter()
    for _ in range(count):
        work()
    wait()
    return (time.perf_counter() - begin) / count
