"""Everything that is measured on a card, in minutes: checks first, then figures, each part a process with a limit of its own.

Needs Python with torch (and Triton), numpy, scipy, numba, scikit-image, array-api-compat and pydicom; each part says what else it
needs. `--small --device cpu` tries the script without a card.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Seconds of each part. The patients are made beside the others, and the checks go on beside the training.
PARTS = {"kernels": 100.0, "raycast": 50.0, "checks": 90.0, "training": 70.0, "alone": 150.0, "patients": 230.0}
_FILES = {"kernels": ("gpu_kernels.py", "--what", "figures"), "checks": ("gpu_kernels.py", "--what", "checks")}


def main() -> None:
    values = options()
    values.out.mkdir(parents=True, exist_ok=True)
    parts = values.parts.split(",")
    begin = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="gpu-patients-"))
    one_thread = {**environment(), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    beside: list[subprocess.Popen[bytes]] = []
    if {"alone", "patients"} & set(parts):
        words = ["--folder", str(folder), "--make-jobs", str(values.make_jobs), "--count", str(values.patients)]
        words += ["--poses", "yes" if "patients" in parts else "no"]
        command = command_of("patients", values, 0.6 * values.seconds)
        command[command.index("--out") + 1] = str(folder / "making.jsonl")
        hidden = {**one_thread, "CUDA_VISIBLE_DEVICES": ""}
        beside.append(start([*command, *words], hidden, folder / "making.log", slice(values.make_jobs)))
        pin(slice(values.make_jobs, None))
    try:
        for part in parts:
            left_s = values.seconds - (time.perf_counter() - begin)
            limit_s = min(left_s - 5, left_s if part in ("alone", "patients", "training") else PARTS[part])
            if limit_s < 15:
                print(f"no time left for {part}", flush=True)
                continue
            command = command_of(part, values, limit_s)
            if part == "training" and values.train_seconds:
                command += ["--train-seconds", str(values.train_seconds), "--tune-seconds", str(values.tune_seconds)]
                command += ["--patients", str(values.training_data), "--processes", str(values.head_jobs)]
                limit_s = values.train_seconds + values.tune_seconds + 30
            if part in ("alone", "patients"):
                command += ["--folder", str(folder)]
            there = one_thread if part in ("alone", "patients", "checks", "training") else environment()
            process = start(command, there, folder / f"{part}.log", slice(None))
            if part == "checks":
                beside.append(process)
            else:
                wait(part, process, limit_s + 10, folder / f"{part}.log")
    finally:
        for process in beside:
            end(process)
        shutil.rmtree(folder, ignore_errors=True)
    show(values.out, parts)


def options() -> argparse.Namespace:
    """As typed."""
    parser = argparse.ArgumentParser(prog="gpu.py", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument(
        "--parts", default=",".join(part for part in PARTS if part != "alone"), help="`alone` is part of `patients`"
    )
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "out/gpu", help="folder of the JSON lines")
    parser.add_argument("--make-jobs", type=int, default=max(1, (os.cpu_count() or 2) - 6), help="that make patients")
    parser.add_argument("--patients", type=int, default=40, help="so many")
    parser.add_argument("--train-seconds", type=float, default=0.0, help="train so long in place of training's checks")
    parser.add_argument("--tune-seconds", type=float, default=0.0)
    parser.add_argument("--training-data", type=Path, help="folder of gpu_training_data.py")
    parser.add_argument("--head-jobs", type=int, default=max(1, (os.cpu_count() or 2) - 6), help="that make heads")
    return parser.parse_args()


def environment() -> dict[str, str]:
    """That the parts find this library in."""
    return {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def command_of(part: str, values: argparse.Namespace, seconds: float) -> list[str]:
    """A part's command line."""
    file, *more = _FILES.get(part, (f"gpu_{part}.py",))
    words = [sys.executable, str(HERE / file), *more, "--device", values.device, *(["--small"] if values.small else [])]
    return [*words, "--out", str(values.out / f"{part}.jsonl"), "--seconds", str(seconds)]


def pin(which: slice) -> None:
    """Keep this process, and what it begins, to some of the cores, so that patients made beside a measurement do not disturb it."""
    if hasattr(os, "sched_setaffinity") and (cores := sorted(os.sched_getaffinity(0))[which]):
        os.sched_setaffinity(0, cores)


def start(command: list[str], there: dict[str, str], log: Path, cores: slice) -> subprocess.Popen[bytes]:
    """A process with all of its own, on some of the cores; what it says goes to the log."""
    with log.open("w") as file:
        return subprocess.Popen(
            command,
            env=there,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: pin(cores),
        )


def wait(part: str, process: subprocess.Popen[bytes], limit_s: float, log: Path) -> None:
    """Wait for a part, which is ended with all of its own if it takes too long."""
    begin = time.perf_counter()
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        end(process)
    print(f"{part}: exit code {process.returncode}, {time.perf_counter() - begin:.0f} s", flush=True)
    if process.returncode:
        print(log.read_text()[-1500:], flush=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it began."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def show(out: Path, parts: list[str]) -> None:
    """What did not hold, and the figures in short."""
    for part in parts:
        path = out / f"{part}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        checks = [line for line in lines if "check" in line]
        print(f"{part}: {sum(bool(line['ok']) for line in checks)} of {len(checks)} checks hold", flush=True)
        for line in checks:
            if not line["ok"]:
                print(f"  NOT {line['check']}: {line['value']:.3g}, limit {line['limit']:g}")
        for line in lines:
            if "what" in line and line["what"] not in ("registration", "made"):
                value = line.get("value", "")
                shown = f"{value:.4g}" if isinstance(value, float) else value
                more = {
                    k: v for k, v in line.items() if k not in ("part", "what", "value", "unit", "at_s", "functions")
                }
                print(f"  {line['what']}: {shown} {line.get('unit', '')}", json.dumps(more) if more else "", flush=True)


if __name__ == "__main__":
    main()
