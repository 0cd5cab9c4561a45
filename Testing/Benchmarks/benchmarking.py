"""What the benchmarks share: options, the machine's description, resumable cases, tables and result files."""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from DeepIterRegLib.common.thread_limit import THREAD_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "bench-cache"

Case = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What every benchmark is told.

    Attributes
    ----------
    limit
        At most so many cases; None for all.
    jobs
        Processes; each gets its share of the cores.
    fresh
        Measure again what is on record.
    small
        Coarse phantoms and few repeats, to try a script; the figures mean nothing.
    results
        Folder of the tables and records.
    command
        As typed, for the result file.
    """

    limit: int | None
    jobs: int
    fresh: bool
    small: bool
    results: Path
    command: str


def parse(name: str, description: str, argv: Sequence[str] | None, *, jobs: int = 1) -> Options:
    """Options of the script `name`.py; `jobs` is the default number of processes."""
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=description)
    parser.add_argument("--limit", type=int, metavar="N", help="at most N cases")
    parser.add_argument("--jobs", type=int, default=jobs, metavar="J", help="processes (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is on record")
    parser.add_argument("--small", action="store_true", help="coarse and quick, only to try the script")
    parser.add_argument(
        "--results", type=Path, help="folder of the tables (default: results, or out/bench-small with --small)"
    )
    typed = list(sys.argv[1:] if argv is None else argv)
    values = parser.parse_args(typed)
    if values.jobs < 1:
        parser.error("--jobs must be at least 1")
    results = values.results or (ROOT / "out/bench-small" if values.small else Path(__file__).parent / "results")
    results.mkdir(parents=True, exist_ok=True)
    return Options(
        values.limit,
        values.jobs,
        values.fresh,
        values.small,
        results,
        " ".join(["python", f"Testing/Benchmarks/{name}.py", *typed]),
    )


# -- cases -------------------------------------------------------------------------------------------


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads_per_process(jobs: int) -> Iterator[None]:
    """Processes started inside share the cores evenly. A single job keeps the library's own choice."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    if jobs > 1:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(max(1, cores() // jobs))))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_cases(
    name: str, cases: list[Case], work: Callable[[Case], Result], settings: dict[str, Any], options: Options
) -> list[dict[str, Any]]:
    """Measure every case that is not on record yet; the records of all, in order of the cases.

    Each record is one JSON line in `<name>.jsonl`, written as soon as the case is done, so an interrupted run goes on
    where it stopped. A record counts if its case and `settings` are the same, whatever the commit; the
    commit is in the record, and `provenance` tells if several took part.
    """
    cases = cases[: options.limit]
    path = options.results / f"{name}.jsonl"
    key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    known = {} if options.fresh else _read_records(path, key)
    pending = [case for case in cases if _identity(case) not in known]
    print(f"{name}: {len(cases)} cases, {len(cases) - len(pending)} on record, {options.jobs} processes", flush=True)
    at = commit()
    begin = time.perf_counter()
    for done, (case, result) in enumerate(_work_all(pending, work, options.jobs), 1):
        record = {"case": case, "settings": key, "commit": at, "jobs": options.jobs, **result}
        known[_identity(case)] = record
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        left_s = (time.perf_counter() - begin) / done * (len(pending) - done)
        shown = ", ".join(f"{k} {_short(v)}" for k, v in result.items() if isinstance(v, (int, float, str)))
        print(f"  {json.dumps(case)}: {shown}   [{done}/{len(pending)}, {left_s / 60:.0f} min left]", flush=True)
    return [known[_identity(case)] for case in cases]


def _work_all(pending: list[Case], work: Callable[[Case], Result], jobs: int) -> Iterator[tuple[Case, Result]]:
    if jobs == 1 or len(pending) < 2:
        for case in pending:
            yield case, work(case)
        return
    context = multiprocessing.get_context("spawn")
    with threads_per_process(jobs), concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(work, case): case for case in pending}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _identity(case: Case) -> str:
    return json.dumps(case, sort_keys=True)


def records_of(name: str, options: Options) -> list[dict[str, Any]]:
    """What the script `name`.py has on record, the last of each case, whatever its settings."""
    return list(_read_records(options.results / f"{name}.jsonl").values())


def _read_records(path: Path, key: str | None = None) -> dict[str, dict[str, Any]]:
    """Records, of these settings if given, the last of each case; a line cut short by an interruption is left out."""
    records = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if key is None or record.get("settings") == key:
            records[_identity(record["case"])] = record
    return records


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# -- where it was measured ------------------------------------------------------------------------------


def commit() -> str:
    """Short hash of the code, with a mark if the library differs from it."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--", "DeepIterRegLib", "Testing/Benchmarks/*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> str:
    """CPU, cores, memory."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return f"{model}, {cores()} cores, {memory_gb('MemTotal'):.0f} GB"


def memory_gb(field: str) -> float:
    """A line of /proc/meminfo, in GB of 10^9 bytes; not-a-number elsewhere."""
    path = Path("/proc/meminfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e9
    return float("nan")


def provenance(options: Options, records: Sequence[dict[str, Any]] = ()) -> str:
    """Date, machine, load, commit and command, as a Markdown list."""
    versions = []
    for package in ("torch", "numpy", "numba", "scipy", "SimpleITK", "diffdrr", "nanodrr", "itk-rtk", "distributed"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    lines = [
        f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- Machine: {machine()}; {platform.system()}, Python {platform.python_version()}; {', '.join(versions)}",
        f"- Load average at the end: {load} (beyond what this benchmark uses itself, others were working too)",
        f"- Commit: {commit()}",
        f"- Command: `{options.command}`",
    ]
    commits = sorted({record["commit"] for record in records})
    if commits and commits != [commit()]:
        lines.append(f"- **Cases were measured at {', '.join(commits)}**; `--fresh` measures them again")
    if any(record["jobs"] > 1 for record in records):
        lines.append("- Times with several processes at once are longer than those of one registration alone")
    if options.small:
        lines.append("- **Small trial: these figures mean nothing**")
    return "\n".join(lines)


# -- results -------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown table with padded columns, readable as text too."""
    cells = [[str(value) for value in row] for row in [header, *rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    lines = [
        "| " + " | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def write_result(name: str, title: str, body: str, options: Options, records: Sequence[dict[str, Any]] = ()) -> Path:
    """Print `body` and write it with its provenance to `<name>.md`."""
    path = options.results / f"{name}.md"
    print(f"\n{title}\n\n{body}\n", flush=True)
    path.write_text(f"# {title}\n\n{body}\n\n{provenance(options, records)}\n", encoding="utf-8")
    print(f"Written: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}", flush=True)
    return path


def verdict(reached: bool) -> str:
    """How a figure stands to its target."""
    return "reached" if reached else "**missed**"
