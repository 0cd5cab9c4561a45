"""Everything that tries to break the program, for an hour; interrupted, it goes on where it stopped. Other options are passed on."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

# Each with its share of the time.
SCRIPTS = {"mutations": 0.45, "faults": 0.35, "identity": 0.2}
SECONDS, SMALL_SECONDS = 3600.0, 60.0


def main(argv: list[str] | None = None) -> int:
    """Each script in a process of its own, so that none meets what another left; the number that failed."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--seconds", type=float, metavar="S", help="of all together (default: an hour)")
    parser.add_argument("--small", action="store_true", help="a minute with fixed seeds, as `make test` does")
    parser.add_argument("--script", choices=SCRIPTS, help="this one alone, for its share of the seconds (default: all)")
    values, passed = parser.parse_known_args(argv)
    seconds = values.seconds or (SMALL_SECONDS if values.small else SECONDS)
    failed = []
    for script in [values.script] if values.script else SCRIPTS:
        share = SCRIPTS[script]
        print(f"\n== {script} ==", flush=True)
        begin = time.perf_counter()
        path = Path(__file__).with_name(f"{script}.py")
        command = [
            sys.executable,
            str(path),
            "--seconds",
            f"{share * seconds:.0f}",
            *(["--small"] if values.small else []),
        ]
        if subprocess.run([*command, *passed]).returncode:
            failed.append(script)
        print(f"== {script}: {(time.perf_counter() - begin) / 60:.1f} min ==", flush=True)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
