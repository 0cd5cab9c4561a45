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
# Seconds of each part; the patients are made beside the first ones.
PARTS = {"kernels": 70.0, "raycast": 50.0, "training": 70.0, "patients": 230.0}


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu.py", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument(
        "--out", type=Path, default=HERE.parents[1] / "out/gpu", help="folder of the JSON lines and logs"
    )
    parser.add_argument("--make-jobs", type=int, default=max(1, (os.cpu_count() or 2) - 5))
    values = parser.parse_args()
    values.out.mkdir(parents=True, exist_ok=True)
    parts = values.parts.split(",")
    begin = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="gpu-patients-"))
    common = ["--device", values.device, *(["--small"] if values.small else [])]
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    one_thread = {**environment, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    making = None
    if "patients" in parts:
        command = [sys.executable, str(HERE / "gpu_patients.py"), *common, "--out", str(values.out / "making.jsonl")]
        command += ["--folder", str(folder), "--make-jobs", str(1 if values.small else values.make_jobs)]
        command += ["--seconds", str(0.6 * values.seconds)]
        making = subprocess.Popen(
            command,
            env={**one_thread, "CUDA_VISIBLE_DEVICES": ""},
            preexec_fn=lambda: pin(slice(values.make_jobs)),
            stdout=(values.out / "making.log").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        pin(slice(values.make_jobs, None))
    try:
        for part in parts:
            left_s = values.seconds - (time.perf_counter() - begin)
            limit_s = min(left_s - 5, PARTS[part] if part != "patients" else left_s)
            if limit_s < 15:
                print(f"no time left for {part}", flush=True)
                continue
            command = [sys.executable, str(HERE / f"gpu_{part}.py"), *common]
            command += ["--out", str(values.out / f"{part}.jsonl"), "--seconds", str(limit_s)]
            if part == "patients":
                command += ["--folder", str(folder)]
            run(
                part,
                command,
                one_thread if part == "patients" else environment,
                limit_s + 10,
                values.out / f"{part}.log",
            )
    finally:
        if making is not None:
            end(making)
        shutil.rmtree(folder, ignore_errors=True)
    show(values.out, parts)


def pin(which: slice) -> None:
    """Keep this process, and what it begins, to some of the cores, so that patients made beside a measurement do not disturb it."""
    if hasattr(os, "sched_setaffinity") and (cores := sorted(os.sched_getaffinity(0))[which]):
        os.sched_setaffinity(0, cores)


def run(part: str, command: list[str], environment: dict[str, str], limit_s: float, log: Path) -> None:
    """A part as a process, ended with all of its own if it takes too long."""
    begin = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
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
                more = {k: v for k, v in line.items() if k not in ("part", "what", "value", "unit", "at_s")}
                print(f"  {line['what']}: {shown} {line.get('unit', '')}", json.dumps(more) if more else "", flush=True)


if __name__ == "__main__":
    main()
