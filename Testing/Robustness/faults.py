"""Kills, signals, full and read-only disks, closed pipes and rivals meet every command that writes: nothing lost, nothing half-written.

    python Testing/Robustness/faults.py --seconds 3600

Goes on where it stopped; the table is `results/faults.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "Testing" / "Benchmarks", ROOT / "Testing" / "Python", Path(__file__).parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from benchmarking import Options, commit, provenance, table  # noqa: E402
from fault_commands import Command, commands, make_inputs, names_at  # noqa: E402
from fault_kinds import FAULTS, KILLS_IN_A_ROW, Bench, Finding, can_mount, run  # noqa: E402
from fault_processes import load_libraries  # noqa: E402

NAME = "faults"
RESULTS = Path(__file__).parent / "results"
# Others start processes as a person does, whose time is mostly that of imports.
FORKED = ("kill", "full disk", "small files", "read-only")
NEEDS_MOUNT = ("full disk", "read-only")
ROUNDS = 8  # of each fault but kills, whose number is the command's weight
SMALL = (("kill", 1), ("small files", 1), ("closed output", 1), ("work of others", 1))


def main(argv: Sequence[str] | None = None) -> int:
    """0 if nothing was lost, half-written or told wrongly, in this run and those before it."""
    parser = argparse.ArgumentParser(prog="faults.py", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="stop after so long (default: %(default)s)")
    parser.add_argument("--small", action="store_true", help="a quick pass with fixed seeds over commands of a second")
    parser.add_argument("--only", default="", help="faults or commands whose names hold this")
    parser.add_argument("--results", type=Path, help="folder of the table (default: results, or out/robustness-small)")
    typed = list(sys.argv[1:] if argv is None else argv)
    given = parser.parse_args(typed)
    results = given.results or (ROOT / "out/robustness-small" if given.small else RESULTS)
    results.mkdir(parents=True, exist_ok=True)
    record = results / f"{NAME}.jsonl"
    if given.small:
        record.unlink(missing_ok=True)
    # No TemporaryDirectory: forked commands would remove it when they end.
    place = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        _try_all(given, record, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    lines = _lines(record)
    options = Options(None, 1, False, given.small, results, " ".join(["python Testing/Robustness/faults.py", *typed]))
    _write_table(lines, options)
    bad = [line for line in lines if line["bad"]]
    for line in bad:
        print(f"BAD {line['fault']}: {line['command']} {line['number']}: {line['bad']}")
    return 1 if bad else 0


def _try_all(given: argparse.Namespace, record: Path, place: Path) -> None:
    """What is not on record yet, until the time is over."""
    ends = time.monotonic() + given.seconds
    inputs = place / "inputs" if given.small else ROOT / "out" / "robustness-inputs"
    make_inputs(inputs, small=given.small)
    if not given.small:
        load_libraries()
    alone: dict[str, dict[str, Any]] = {}
    done = {_key_of(line) for line in _lines(record)}
    for command, fault, number in _cases(given.small):
        if _key(command, fault, number) in done or (given.only and given.only not in f"{fault}: {command.name}"):
            continue
        if time.monotonic() > ends:
            return
        if command.name not in alone:
            alone[command.name] = _alone(command, inputs, place, not given.small and command.forks)
        forks = not given.small and command.forks and fault in FORKED
        line = _tried(
            command, fault, number, inputs, place, forks, 2 if given.small else KILLS_IN_A_ROW, alone[command.name]
        )
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(
            f"{fault}: {command.name} {number}: {line['bad'] or 'well'} [{line['told']}] {line['seconds']} s",
            flush=True,
        )


def _cases(small: bool) -> list[tuple[Command, str, int]]:
    """Interleaved, so that a run that stops early has met every command."""
    listed = commands(small=small)
    if small:
        return [(command, fault, n) for fault, count in SMALL for n in range(count) for command in listed]
    faults = [fault for fault in FAULTS if can_mount() or fault not in NEEDS_MOUNT]
    found = []
    for n in range(max(ROUNDS, *(command.weight for command in listed))):
        for fault in faults:
            for command in listed:
                count = -(-command.weight // KILLS_IN_A_ROW) if fault == "kill" else min(ROUNDS, command.weight // 2)
                # A second rival or a second read-only disk tells nothing new.
                count = min(count, 2) if fault in ("read-only", "two at once", "work of others") else count
                skipped = fault == "work of others" and command.keeps
                if n < count and not skipped:
                    found.append((command, fault, n))
    return found


def _alone(command: Command, inputs: Path, place: Path, forks: bool) -> dict[str, Any]:
    """What the command makes, and in how long, when nothing disturbs it."""
    folder = Path(tempfile.mkdtemp(dir=place))
    out = folder / f"result{command.suffix}"
    bench = Bench(folder, inputs, frozenset(), 0, 0, 0, out, forks, np.random.default_rng(0))
    finding = Finding()
    begun = time.perf_counter()
    code, said = run(command, bench, out, finding)
    assert code == 0, f"{command.name}: {code} {said}"
    seconds = time.perf_counter() - begun
    sizes = (
        [out.stat().st_size] if command.suffix else [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    )
    pages = sum(-(-size // 4096) * 4096 for size in sizes)
    return {"names": names_at(out), "seconds": seconds, "bytes_all": pages, "bytes_largest": max(sizes), "whole": out}


def _tried(
    command: Command, fault: str, number: int, inputs: Path, place: Path, forks: bool, kills: int, alone: dict[str, Any]
) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(dir=place))
    seed = [number, *f"{fault}: {command.name}".encode()]
    bench = Bench(folder=folder, inputs=inputs, forks=forks, rng=np.random.default_rng(seed), kills=kills, **alone)
    begun = time.perf_counter()
    finding = FAULTS[fault](command, bench)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "fault": fault,
        "command": command.name,
        "number": number,
        "commit": commit(),
        "jobs": 1,
        "seconds": round(time.perf_counter() - begun, 1),
        "lost": len(finding.lost),
        "half": len(finding.half),
        "wrong": len(finding.wrong),
        "bad": "; ".join([*finding.lost, *finding.half, *finding.wrong]).replace(str(place), "..."),
        "told": finding.told,
        "times": finding.times,
    }


def _key(command: Command, fault: str, number: int) -> tuple[str, str, int]:
    return fault, command.name, number


def _key_of(line: dict[str, Any]) -> tuple[str, str, int]:
    return line["fault"], line["command"], line["number"]


def _lines(record: Path) -> list[dict[str, Any]]:
    found = []
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _write_table(lines: list[dict[str, Any]], options: Options) -> None:
    rows = []
    for fault in FAULTS:
        mine = [line for line in lines if line["fault"] == fault]
        if mine:
            sums = [sum(line[what] for line in mine) for what in ("lost", "half", "wrong")]
            rows.append((fault, sum(line["times"] for line in mine), len({line["command"] for line in mine}), *sums))
    body = table(("fault", "times", "commands", "lost", "half-written", "told wrongly, or left about"), rows)
    names = sorted({line["command"] for line in lines})
    head = ("command", "kills", "full disks refused", "all faults", "bad")
    each = [
        (
            name,
            sum(line["times"] for line in lines if line["command"] == name and line["fault"] == "kill"),
            _share(lines, name),
            sum(line["times"] for line in lines if line["command"] == name),
            sum(bool(line["bad"]) for line in lines if line["command"] == name),
        )
        for name in names
    ]
    text = (
        "# Faults\n\nEvery command that writes is killed, stopped, met by full and read-only disks, "
        "closed pipes and rivals. *Lost*: something finished is not there any more. *Half-written*: something stands "
        "under its name and is not whole. After each fault the same command must work.\n\n"
        f"{body}\n\n{table(head, each)}\n\n{provenance(options, lines)}\n"
    )
    (options.results / f"{NAME}.md").write_text(text, encoding="utf-8")
    print(f"\n{body}\n")


def _share(lines: list[dict[str, Any]], name: str) -> str:
    full = [line for line in lines if line["command"] == name and line["fault"] in ("full disk", "small files")]
    return f"{sum(not line['bad'] for line in full)} of {len(full)}"


if __name__ == "__main__":
    sys.exit(main())
