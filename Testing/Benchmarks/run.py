"""All benchmarks in order; options are passed on. Interrupted, it goes on where it stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

# First what needs a quiet machine and minutes, then the many registrations.
SCRIPTS = (
    "renderer",
    "roadmap",
    "scaling",
    "end_to_end",
    "panel",
    "progress",
    "paper_preset",
    "training",
    "docs",
    "real_vessels",
    "clean",
    "robustness",
    "awkward",
    "polarity",
    "fields",
    "session",
    "moving_frames",
    "network",
    "ablation",
)


def main() -> int:
    """Each script in a process of its own, so that none measures another's memory; the number that failed."""
    failed = []
    for script in SCRIPTS:
        print(f"\n== {script} ==", flush=True)
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{script}.py")), *sys.argv[1:]])
        print(f"== {script}: {(time.perf_counter() - begin) / 60:.1f} min ==", flush=True)
        if done.returncode:
            failed.append(script)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
