"""Registrations a minute by one worker and by two on the same cases, and by one process that has all cores to itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import benchmarking
from benchmarking import ROOT, Options, table, verdict

from DeepIterRegLib.common.thread_limit import THREAD_VARIABLES

TARGET_RATIO = 1.7
PATIENT_SEED, CASES, SMALL_CASES = 1, 24, 4
# Name, workers, threads of the process (0: all).
MODES = {
    "one": ("1 worker, 1 thread", 1, 1),
    "two": ("2 workers, 1 thread each", 2, 0),
    "whole": ("no worker: one process, all cores", 1, 0),
}


def patient(small: bool) -> dict[str, Any]:
    """One patient, segmented: what all cases share."""
    import robustness

    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegLib.phantom import make_patient, write_patient
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    with tempfile.TemporaryDirectory() as folder:
        write_patient(make_patient(PATIENT_SEED, robustness.phantom_settings(small)), folder)
        cta = prepare_cta(load_volume(Path(folder, "cta.nii.gz")))
        angiogram = read_angiogram(Path(folder, "dsa.dcm"))
    settings = robustness.registration_settings(small)
    return {
        "cta": cta,
        "angiogram": angiogram,
        "vessels": segment_vessels(cta),
        "masks": segment_dsa(angiogram),
        "settings": settings,
    }


def register_once(shared: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """A registration whose search begins from another seed."""
    from dataclasses import replace

    from DeepIterRegLib.registration.pipeline import register

    settings = replace(shared["settings"], seed=item["seed"])
    found = register(
        shared["cta"], shared["angiogram"], settings, cta_mask=shared["vessels"], dsa_masks=shared["masks"]
    )
    return {"score": found.score, "ctaToCarm": found.cta_to_carm.tolist()}


def measure(mode: str, cases: int, small: bool) -> dict[str, Any]:
    """Seconds of all cases, from the first call to the last result; of the workers' start, their first case included."""
    from DeepIterRegLib.common.workers import run_items

    _, workers, threads = MODES[mode]
    if threads:
        import torch

        torch.set_num_threads(threads)
    shared = patient(small)
    register_once(shared, {"seed": 1000})  # compiled, read and warm before the clock
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        results = run_items(
            register_once,
            [{"seed": n} for n in range(cases)],
            shared=shared,
            record=Path(folder) / "record.jsonl",
            workers=workers,
            on_progress=lambda done, total: times.append(time.perf_counter() - begin),
        )
        seconds = time.perf_counter() - begin
    errors = [result["error"] for result in results if "error" in result]
    if errors:
        raise RuntimeError(errors[0])
    # From the first results, one of each worker, to the last: without the start.
    steady_s = times[cases] - times[workers]
    return {
        "seconds": seconds,
        "a_minute": 60 * (cases - workers) / steady_s,
        "start_s": times[1],
        "scores": [round(result["score"], 6) for result in results],
    }


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("scaling", __doc__ or "", argv)
    cases = min(SMALL_CASES if options.small else CASES, options.limit or CASES)
    figures = {}
    for mode, (_, _, threads) in MODES.items():
        environment = {**os.environ, **(dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {})}
        done = subprocess.run(
            [sys.executable, __file__, "--one", mode, str(cases), str(int(options.small))],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        figures[mode] = json.loads(done.stdout.splitlines()[-1])
        print(f"  {MODES[mode][0]}: {figures[mode]}", flush=True)
    _write(options, cases, figures)


def _write(options: Options, cases: int, figures: dict[str, dict[str, Any]]) -> None:
    one = figures["one"]
    rows = [
        [
            MODES[mode][0],
            f"{values['a_minute']:.1f}",
            f"{values['a_minute'] / one['a_minute']:.2f}",
            f"{values['seconds']:.1f}",
            f"{values['start_s']:.1f}",
        ]
        for mode, values in figures.items()
    ]
    ratio = figures["two"]["a_minute"] / one["a_minute"]
    body = "\n".join(
        [
            f"{cases} registrations of one patient, default preset, other seeds of the search; CTA, run and masks go to each "
            "worker once.",
            "",
            table(
                ["", "registrations a minute", "against 1 worker", "s in all", "s to the first result"],
                rows,
            ),
            "",
            f"2 workers against 1: {ratio:.2f} times the throughput; target {TARGET_RATIO}: {verdict(ratio >= TARGET_RATIO)}. "
            f"Against one process with all cores: {figures['two']['a_minute'] / figures['whole']['a_minute']:.2f} times. "
            f"Same scores with one worker as with two: {'yes' if one['scores'] == figures['two']['scores'] else 'no'}.",
            "",
            "A minute's worth is counted from the first result of each worker to the last of all, so without the start of the "
            "processes, which the last column tells.",
        ]
    )
    benchmarking.write_result("scaling", "Scaling: two workers against one", body, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), bool(int(sys.argv[4])))))
    else:
        main()
