"""Everything that tries to break the program, for an hour; interrupted, it goes on where it stopped. Options are passed on."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

# Each with its share of the time.
SCRIPTS = {"mutations": 0.5, "faults": 0.35, "identity": 0.15}
SECONDS = 3600.0


def main(argv: list[str] | None = None) -> int:
    """Each script in a process of its own, so that none meets what another left; the number that failed."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help="of all together (default: %(default)g)"
    )
    values, passed = parser.parse_known_args(argv)
    failed = []
    for script, share in SCRIPTS.items():
        print(f"\n== {script} ==", flush=True)
        begin = time.perf_counter()
        command = [
            sys.executable,
            str(Path(__file__).with_name(f"{script}.py")),
            "--seconds",
            f"{share * values.seconds:.0f}",
        ]
        if subprocess.run([*command, *passed]).returncode:
            failed.append(script)
        print(f"== {script}: {(time.perf_counter() - begin) / 60:.1f} min ==", flush=True)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
