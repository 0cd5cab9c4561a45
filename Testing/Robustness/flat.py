"""A batch of many cases: do memory, open files and seconds a case stay as they are, with one worker and with two?

    python Testing/Robustness/flat.py --cases 60

Coarse phantoms, each with its own files; cases turn over the CTAs that a process keeps. Takes minutes; not part of `make robustness`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "Testing" / "Benchmarks", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from benchmarking import Options, provenance, table, verdict  # noqa: E402
from fault_commands import ENVIRONMENT  # noqa: E402

RESULTS = Path(__file__).parent / "results"
ABOUT = (
    "The ten cases after each process has done ten, against the last ten. Memory: of all processes together, resident, its lower "
    "quartile (every fourth case segments its CTA and takes more). Seconds: those of a machine on which others work too."
)
HEAD = (
    "workers",
    "cases",
    "MB then",
    "MB at the end",
    "growth",
    "open files",
    "seconds a case",
    "failed",
    "memory and files",
)
PATIENTS, SETTLED, MOST = 11, 10, 1.05  # an odd number: each patient is met with a mask and without


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="flat.py", description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="measured; others stay on record")
    parser.add_argument("--table", action="store_true", help="only write the table of what is on record")
    typed = list(sys.argv[1:] if argv is None else argv)
    given = parser.parse_args(typed)
    RESULTS.mkdir(exist_ok=True)
    record = RESULTS / "flat.json"
    if not given.table:
        inputs = ROOT / "out" / "flat-inputs"
        _make_patients(inputs)
        measured = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        measured |= {str(workers): _measured(inputs, given.cases, workers) for workers in given.workers}
        record.write_text(json.dumps(measured) + "\n", encoding="utf-8")
    rows = [_row(int(workers), samples) for workers, samples in json.loads(record.read_text(encoding="utf-8")).items()]
    options = Options(None, 1, False, False, RESULTS, " ".join(["python Testing/Robustness/flat.py", *typed]))
    text = f"# A batch stays as it is\n\n{ABOUT}\n\n{table(HEAD, rows)}\n\n{provenance(options)}\n"
    (RESULTS / "flat.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if all("missed" not in row[-1] for row in rows) else 1


def _make_patients(folder: Path) -> None:
    from DeepIterRegLib.phantom import PhantomSettings, make_patient, write_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

    coarse = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.8, 1.8), slice_spacing_mm=(1.8, 1.8)), view=ViewSettings(matrices=(128,))
    )
    for seed in range(PATIENTS):
        if not (folder / f"p{seed}" / "truth.json").exists():
            write_patient(make_patient(seed, coarse), folder / f"p{seed}")


def _measured(inputs: Path, count: int, workers: int) -> list[dict[str, Any]]:
    """After each case: seconds since the start, memory (MB) and open files of all processes."""
    with tempfile.TemporaryDirectory() as place:
        with Path(place, "cases.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("name", "cta", "dsa", "init", "reference", "seed", "cta_mask"))
            for n in range(count):
                at = inputs / f"p{n % PATIENTS}"
                # Every fourth segments the CTA, which takes longer than all the rest.
                mask = "" if n % 4 == 0 else at / "arteries.nii.gz"
                writer.writerow((f"case{n}", at / "cta.nii.gz", at / "dsa.dcm", *[at / "truth.tfm"] * 2, n, mask))
        words = [
            sys.executable,
            "-m",
            "DeepIterRegLib.cli",
            "batch",
            "--cases",
            f"{place}/cases.csv",
            "--out",
            f"{place}/out",
        ]
        process = subprocess.Popen(
            [*words, "--workers", str(workers)],
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        peak = _Peak(process.pid)
        begun, samples = time.perf_counter(), []
        for line in process.stdout:
            if "done in" in line or "FAILED" in line:
                megabytes, files = peak.take()
                samples.append(
                    {
                        "seconds": round(time.perf_counter() - begun, 2),
                        "mb": round(megabytes, 1),
                        "files": files,
                        "failed": "FAILED" in line,
                    }
                )
                print(workers, len(samples), samples[-1], flush=True)
        peak.stop()
        assert process.wait() in (0, 3)
        return samples


class _Peak:
    """The most memory and open files of a process and its children since the last time it was asked."""

    def __init__(self, pid: int) -> None:
        import psutil

        self._process, self._most, self._ended = psutil.Process(pid), (0.0, 0), False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        import psutil

        while not self._ended:
            memory, files = 0.0, 0
            try:
                for one in (self._process, *self._process.children(recursive=True)):
                    memory += one.memory_info().rss / 1e6
                    files += one.num_fds()
            except psutil.Error:
                pass
            with self._lock:
                self._most = (max(self._most[0], memory), max(self._most[1], files))
            time.sleep(0.1)

    def take(self) -> tuple[float, int]:
        with self._lock:
            most, self._most = self._most, (0.0, 0)
        return most

    def stop(self) -> None:
        self._ended = True
        self._thread.join()


def _row(workers: int, samples: list[dict[str, Any]]) -> tuple[Any, ...]:
    memory, files = ([sample[what] for sample in samples] for what in ("mb", "files"))
    each = np.diff([sample["seconds"] for sample in samples], prepend=0.0)
    # Each process has its own first ten cases, in which it loads its libraries and fills its caches.
    second, last = slice(SETTLED * workers, SETTLED * (workers + 1)), slice(-SETTLED, None)
    then, now = (float(np.percentile(memory[part], 25)) for part in (second, last))
    return (
        workers,
        len(samples),
        f"{then:.0f}",
        f"{now:.0f}",
        f"{100 * (now / then - 1):+.1f} %",
        f"{max(files[second])} to {max(files[last])}",
        f"{float(np.mean(each[second])):.1f} to {float(np.mean(each[last])):.1f}",
        sum(sample["failed"] for sample in samples),
        verdict(now <= MOST * then and max(files[last]) <= MOST * max(files[second])),
    )


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
