"""All experiments of both papers at their published size, into results/experiments; interrupted, it goes on where it stopped."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "experiments"
SMALL_FILES = ("summary.json", "*.png")  # the rest, records and tables of every pose, stays in the work folder
ORDER = (
    "drr-time",
    "landscape",
    "pose-statistics",
    "optimisers",
    "losses",
    "pipeline",
    "anatomy",
    "capture-range",
    "monte-carlo",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=ORDER, default=list(ORDER))
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "experiments", help="folder of records and pages")
    known, passed = parser.parse_known_args()
    failed = []
    for name in known.only:
        command = [
            sys.executable,
            "-m",
            "DeepIterRegLib.cli",
            "experiment",
            name,
            "--out",
            str(known.work / name),
            *passed,
        ]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
            continue
        target = RESULTS / name
        target.mkdir(parents=True, exist_ok=True)
        for pattern in SMALL_FILES:
            for file in (known.work / name).glob(pattern):
                shutil.copy(file, target)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
