"""Registrations with nobody beside them: seconds cold and warm, of segmentation too, and on what host and card spend a warm one."""

from __future__ import annotations

import cProfile
import json
import os
import pickle
import pstats
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gpu_parts
import numpy as np
from gpu_parts import Part

# How often a warm work is timed, and seconds of a process: less for the CPU.
_MOST, _TIMES, _LONGEST_S, _LIMIT_S = 4, {"cpu": 1}, 75.0, {"cpu": 45.0}
_SHOWN = 60  # functions of a profile


def alone(paths: Sequence[Path], device: str) -> None:
    """Registrations in a process that has done nothing yet, with all cores and nobody beside it: cold, warm, and warm by its parts."""
    begin = time.perf_counter()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    from gpu_patients import find_s, kinds, registered, use

    import DeepIterRegLib.registration.pipeline  # noqa: F401

    imported_s = time.perf_counter() - begin
    records = []
    for path in paths:
        with path.open("rb") as file:
            records.append(pickle.load(file)["made"])
    name, made = use(device), records[0]
    for when in ("cold", *["warm"] * _TIMES.get(device, _MOST)):
        at = time.perf_counter()
        seconds = registered(made, 1, "auto", name, given=False).get("seconds", {})
        tell(f"register, {when}, {device}", time.perf_counter() - at, imports_s=imported_s, **rounded(seconds))
    profile(records[0], name, device)
    for number, made in enumerate(records):
        segmentation(made, name, f"patient {number}, {device}")
    for views, init in kinds()[:1] if made["small"] else kinds():
        lines = [registered(made, views, init, name) for made in records for _ in range(2)][1:]
        parts = [line["seconds"] for line in lines if "seconds" in line]
        medians = {key: round(float(np.median([part.get(key, 0.0) for part in parts])), 4) for key in parts[0]}
        found = float(np.median([find_s(part) for part in parts]))
        tell(f"search and refinement, {init}, {views} views, {device}", found, patients=len(records), **medians)


def tell(what: str, value: float, **more: Any) -> None:
    """A line for who began this process."""
    print(json.dumps({"what": what, "value": value, **more}), flush=True)


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in seconds.items()}


# -- segmentation ------------------------------------------------------------------------------------------------


def masks_apart(made: dict[str, Any], device: str) -> dict[str, Any]:
    """Shares of the voxels of a patient's masks, as the CPU made them, that are others by the device; whether twice it gives the same."""
    found = [masks_of(made, device) for _ in range(2)]
    theirs = made["vessels"].voxels, made["masks"][0].vessels
    apart = [float((a != b).sum() / max(int(b.sum()), 1)) for a, b in zip(found[0], theirs, strict=True)]
    again = sum(int((a != b).sum()) for a, b in zip(*found, strict=True))
    return {"cta_voxels_apart": apart[0], "dsa_voxels_apart": apart[1], "masks_other_bits": again}


def masks_of(made: dict[str, Any], device: str) -> tuple[np.ndarray, np.ndarray]:
    """Vessels of the CTA (k, j, i) and of the first run (row, column) by a device."""
    from DeepIterRegLib.common import devices
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    with devices.on(device):
        return segment_vessels(made["cta"]).voxels, segment_dsa(made["runs"][0]).vessels


def segmentation(made: dict[str, Any], device: str, named: str) -> None:
    """Seconds of both segmentations, of each of their steps where a card does them, and how far the masks are from the CPU's."""
    from DeepIterRegLib.common import devices
    from DeepIterRegLib.segmentation import dsa_tensors
    from DeepIterRegLib.segmentation.cta import tensors
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    works: tuple[tuple[str, Callable[[], Any], ModuleType], ...] = (
        ("segment_cta", lambda: segment_vessels(made["cta"]), tensors),
        ("segment_dsa", lambda: segment_dsa(made["runs"][0]), dsa_tensors),
    )
    apart = masks_apart(made, device)
    with devices.on(device) as place:
        for what, work, steps in works:
            took = [seconds_of(work) for _ in range(_TIMES.get(device, _MOST))]
            tell(f"{what}, {named}", float(np.median(took)), all_s=[round(one, 4) for one in took], **apart)
            if place.card is not None:
                spent = steps_ms(steps, work)
                tell(f"steps of {what}, {named}", sum(spent.values()) / 1000, milliseconds=spent)
                tell(f"host in {what}, {named}", seconds_of(work), functions=functions_of(work))


def seconds_of(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def steps_ms(steps: ModuleType, work: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of each public function of a module while the work is done, the card waited for before and after each."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    spent: dict[str, float] = {}
    kept = {name: step for name, step in vars(steps).items() if callable(step) and _is_step(name, step)}

    def timed(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            wait()
            begin = time.perf_counter()
            found = step(*arguments, **named)
            wait()
            spent[name] = round(spent.get(name, 0.0) + 1000 * (time.perf_counter() - begin), 3)
            return found

        return call

    try:
        for name, step in kept.items():
            setattr(steps, name, timed(name, step))
        work()
    finally:
        for name, step in kept.items():
            setattr(steps, name, step)
    return dict(sorted(spent.items(), key=lambda one: -one[1]))


def _is_step(name: str, step: Any) -> bool:
    return not name.startswith("_") and getattr(step, "__module__", "").startswith("DeepIterRegLib.segmentation")


# -- on what a warm registration spends its time -----------------------------------------------------------------


def profile(made: dict[str, Any], name: str, device: str) -> None:
    """Functions of the host, and what the card works, in a warm registration whose masks are made too."""
    from gpu_patients import registered

    def work() -> None:
        registered(made, 1, "auto", name, given=False)

    tell(f"host in register, {device}", seconds_of(work), functions=functions_of(work))
    if device.startswith("cuda"):
        import torch

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            work()
            torch.cuda.synchronize()
        spent = sorted(((event.device_time_total / 1000, event.key) for event in seen.key_averages()), reverse=True)
        kernels = {key[:60]: round(ms, 3) for ms, key in spent[:25]}
        tell(f"card in register, {device}", sum(ms for ms, _ in spent) / 1000, milliseconds=kernels)


def functions_of(work: Callable[[], Any]) -> list[tuple[str, int, float, float]]:
    """Functions on which this thread spends most: name, calls, ms in themselves, ms with what they call."""
    seen = cProfile.Profile()
    seen.runcall(work)
    found = []
    for (file, line, function), (_, calls, own_s, all_s, _) in pstats.Stats(seen).stats.items():  # type: ignore[attr-defined]
        where = f"{'/'.join(Path(file).parts[-2:])}:{line} {function}"
        found.append((where, calls, round(1000 * own_s, 2), round(1000 * all_s, 2)))
    ours = [one for one in found if one[3] > 1]
    most = sorted(ours, key=lambda one: -one[2])[: _SHOWN // 2] + sorted(ours, key=lambda one: -one[3])[:_SHOWN]
    return list(dict.fromkeys(most))


# -- the part ----------------------------------------------------------------------------------------------------


def run_alone(part: Part, folder: Path) -> None:
    """`alone` on the card and on the CPU."""
    limits = () if part.small else ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in limits}
    paths = [str(path) for path in sorted(folder.glob("*.pkl"))[:2]]
    for device in (part.device,) if part.small else (part.device, "cpu"):
        if not paths or part.left_s() < 15:
            return
        command = [sys.executable, __file__, "--device", device, "--out", str(part.out), "--alone", ",".join(paths)]
        limit_s = part.left_s() - 5 if part.small else min(_LIMIT_S.get(device, _LONGEST_S), part.left_s())
        _figures_of(part, device, command, environment, limit_s)


def _figures_of(part: Part, device: str, command: list[str], environment: dict[str, str], limit_s: float) -> None:
    """The figures that a process tells, each as it comes; it is ended if it takes too long."""
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        ending = threading.Timer(limit_s, process.kill)
        ending.start()
        assert process.stdout is not None
        for line in process.stdout:
            values = json.loads(line)
            part.figure(values.pop("what"), values.pop("value"), "s", **values)
        process.wait()
        ending.cancel()
        if process.returncode:
            said.seek(0)
            part.failed.append(f"alone on {device}")
            part.figure(f"alone on {device} ended early", f"{process.returncode}: {said.read()[-400:]}")


def main(argv: Sequence[str] | None = None) -> None:
    part, more = gpu_parts.options("alone", __doc__ or "", argv, "folder", "alone")
    if more.alone:
        alone([Path(path) for path in more.alone.split(",")], part.device)
        return
    if not part.device.startswith("cuda"):
        os.environ["DEEPITERREG_NO_CARD"] = "1"
    folder = Path(more.folder)
    # Nobody beside it: all patients are made first, or as many as half of the time allows.
    while not (folder / "done").exists() and (part.left_s() > part.seconds / 2 or part.small):
        time.sleep(0.2)
    run_alone(part, folder)
    sys.exit(1 if part.failed else 0)


if __name__ == "__main__":
    main()
