"""Damaged inputs of every kind, thousands of them, each read as commands read it: what becomes of the process and of the pixels.

Inputs are read in processes of their own, each many, with a limit of memory; one that takes longer than `LIMIT_S` or dies is told of
its process, and another one goes on. Records are kept in `out/robustness`, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from damage import Damage
from mutators import damaged
from readers import IMAGES, READERS, SHARES, Read, ask_info
from seeds import CANARY, ROOT, Seed, make_seeds, place, read_seeds

sys.path.insert(0, str(ROOT / "Testing" / "Benchmarks"))
import benchmarking

NAME = "mutations"
LIMIT_S = 10.0
LIMIT_BYTES = 3 << 30
TARGET = 10_000
_START_S = 240.0  # of a process: imports, and kernels that may have to be compiled
_CHUNK = 400  # inputs of one process
_SMALL, _SMALL_SECONDS = 300, 20.0
_ROUND = 1000
BAD = ("traceback", "death", "hang", "memory", "silent", "identity")


def main(argv: Sequence[str] | None = None) -> int:
    """0 if nothing bad became of any input on record."""
    parser = argparse.ArgumentParser(prog=f"{NAME}.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--small", action="store_true", help="a quick pass with fixed seeds")
    parser.add_argument("--count", type=int, default=TARGET, help="inputs on record at the end (default: %(default)s)")
    parser.add_argument("--only", action="append", help="one reader, by its row of the table")
    parser.add_argument("--fresh", action="store_true", help="forget what is on record")
    parser.add_argument("--table", action="store_true", help="write the table of what is on record, and no more")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    values = parser.parse_args(argv)
    if values.child:
        _child(*values.child)
        return 0
    folder = ROOT / "out" / "robustness"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}{'_small' if values.small else ''}.jsonl"
    if values.fresh or values.small:
        path.unlink(missing_ok=True)
    count = _SMALL if values.small else values.count
    seconds = values.seconds or (_SMALL_SECONDS if values.small else None)
    # What was badly dealt with is tried again: it may have been mended.
    known = {case for case, record in _records(path).items() if record["outcome"] not in BAD}
    cases = [case for case in _cases(count) if case not in known and (not values.only or case[0] in values.only)]
    print(f"{NAME}: {len(known)} inputs on record, {len(cases)} to come", flush=True)
    for record in () if values.table else _work(cases, _Deadline(seconds)):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if record["outcome"] in BAD:
            print(
                f"  {record['outcome']}: {record['reader']} {record['n']} {record['seed']}: {record['what']}: {record['detail']}",
                flush=True,
            )
    records = list(_records(path).values())
    if not values.small:
        _write(records)
    worst = sum(record["outcome"] in BAD for record in records)
    print(f"{NAME}: {len(records)} inputs, {worst} of them badly dealt with")
    return int(worst > 0)


def _cases(count: int) -> list[tuple[str, int]]:
    """Reader and number of each input; the first ones of every reader come first."""
    cases = []
    for turn in range(-(-count // _ROUND)):
        for reader, share in SHARES.items():
            cases += [(reader, turn * share + n) for n in range(share)]
    if count < _ROUND:
        per = {reader: max(1, share * count // _ROUND) for reader, share in SHARES.items()}
        few = [(reader, n) for reader, n in cases if n < per[reader]]
        random.Random(0).shuffle(few)  # whatever time there is, every reader gets its share
        return few
    return cases[:count]


def _records(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            found[record["reader"], record["n"]] = record
    return found


# -- the process that watches ------------------------------------------------------------------------------


class _Deadline:
    """So many seconds from the first input on: what is made before takes as long as it takes."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._began = seconds, 0.0

    def begin(self) -> None:
        self._began = self._began or time.monotonic()

    @property
    def over(self) -> bool:
        return self._seconds is not None and bool(self._began) and time.monotonic() > self._began + self._seconds


def _work(cases: list[tuple[str, int]], until: _Deadline) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="mutations-") as name:
        source = Path(name, "seeds")
        make_seeds(source)
        at = benchmarking.commit()
        left = collections.deque(cases)
        while left and not until.over:
            chunk = [left.popleft() for _ in range(min(_CHUNK, len(left)))]
            done = 0
            for record in _of_process(chunk, source, Path(name, "work"), until):
                done += 1
                yield {**record, "commit": at}
            left.extendleft(reversed(chunk[done:]))


def _of_process(chunk: list[tuple[str, int]], source: Path, work: Path, until: _Deadline) -> Iterator[dict[str, Any]]:
    """Records of the inputs that one process got through; of one that it died or hung at, that."""
    work.mkdir(exist_ok=True)
    with (work / "stderr").open("wb") as noise:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--child", str(source), str(work)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])},
        )  # fmt: skip
        lines: queue.Queue[str | None] = queue.Queue()
        assert process.stdout is not None
        assert process.stdin is not None
        reader = threading.Thread(target=lambda: [*map(lines.put, process.stdout), lines.put(None)], daemon=True)  # type: ignore[arg-type]
        reader.start()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(chunk))
            process.stdin.close()
        try:
            yield from _listened(process, lines, work, until)
        finally:
            process.kill()
            process.wait()


def _listened(
    process: subprocess.Popen[str], lines: queue.Queue[str | None], work: Path, until: _Deadline
) -> Iterator[dict[str, Any]]:
    current: dict[str, Any] | None = None
    while True:
        try:
            line = lines.get(timeout=_START_S if current is None else LIMIT_S)
        except queue.Empty:
            if current is None:
                raise RuntimeError("A process did not start within its time.") from None
            yield {**current, "outcome": "hang", "detail": f"over {LIMIT_S:.0f} s"}
            return
        if line is None:
            if current is not None:
                last = (work / "stderr").read_text(errors="replace")[-300:]
                yield {**current, "outcome": "death", "detail": f"exit {process.wait()}: {last}"}
            elif process.wait():
                raise RuntimeError(
                    f"A process ended at its start: {(work / 'stderr').read_text(errors='replace')[-3000:]}"
                )
            return
        if not line.startswith("{"):
            continue
        values = json.loads(line)
        if "outcome" in values:
            yield {**(current or {}), **values}
            current = None
            if until.over:
                return
        else:
            current = values
            until.begin()


# -- the process that reads --------------------------------------------------------------------------------


def _child(source: Path, work: Path) -> None:
    chunk = json.loads(sys.stdin.read())
    out = os.fdopen(os.dup(1), "w")  # what libraries print does not come between
    os.dup2(2, 1)
    seeds = collections.defaultdict(list)
    for seed in read_seeds(source):
        seeds[seed.reader].append(seed)
    wanted = {reader for reader, _ in chunk}
    whole = {
        (seed.reader, seed.name): READERS[seed.reader](place(seed, source, work / "whole"))
        for reader in wanted
        for seed in seeds[reader]
    }
    limited = _limit_memory()
    for reader, n in chunk:
        rng = random.Random(int(hashlib.sha256(f"{reader} {n}".encode()).hexdigest()[:12], 16))
        seed = rng.choice(seeds[reader])
        path = place(seed, source, work / "case")
        file, damage = _damage(seed, path, rng)
        begin = {
            "reader": reader,
            "n": n,
            "seed": seed.name,
            "what": f"{file.name}: {damage.what}",
            "kind": damage.kind,
        }
        print(json.dumps(begin), file=out, flush=True)
        ask_info(n)
        started, before = time.perf_counter(), _reset_peak()
        outcome, detail = _outcome(seed, path, damage, whole[reader, seed.name])
        peak = _peak() - before
        if peak > LIMIT_BYTES and limited:
            outcome, detail = "memory", f"{peak / 1e9:.1f} GB"
        values = {
            "outcome": outcome,
            "detail": detail,
            "s": round(time.perf_counter() - started, 3),
            "mb": round(peak / 1e6),
        }
        print(json.dumps(values), file=out, flush=True)


def _damage(seed: Seed, path: Path, rng: random.Random) -> tuple[Path, Damage]:
    """Damage one file of the input, or take it away."""
    files = sorted(path.rglob("*")) if path.is_dir() else sorted(path.parent.iterdir())
    files = [file for file in files if file.is_file()]
    if seed.name == "disc":
        files = [file for file in files if file.name == "DICOMDIR"]
    file = rng.choice(files)
    damage = damaged(file.read_bytes(), file.name, rng)
    file.unlink()  # a link to the whole one
    file.write_bytes(damage.content)
    return file, damage


def _outcome(seed: Seed, path: Path, damage: Damage, whole: Read) -> tuple[str, str]:
    from DeepIterRegLib.common.errors import InputError, notes_of

    try:
        read = READERS[seed.reader](path)
    except InputError as error:
        said = [*error.problems, *notes_of(error)]
        return _spoken("refused", said, " | ".join(error.problems)[:300], seed)
    except MemoryError:
        return "memory", traceback.format_exc()[-600:]
    except Exception:
        return "traceback", "".join(traceback.format_exc()[-900:])
    noted = any(note not in whole.notes for note in read.notes)
    if _same(read, whole):
        return _spoken("noted" if noted else "same", [*read.notes, read.said], "", seed)
    if noted:
        return _spoken("noted", [*read.notes, read.said], "", seed)
    known = seed.reader in IMAGES and _knowable(seed, damage)
    return ("silent", _difference(read, whole)) if known else _spoken("unknowable", [*read.notes, read.said], "", seed)


def _knowable(seed: Seed, damage: Damage) -> bool:
    """Whether a reader could know that the pixels are others than they were."""
    text_header = seed.name.endswith((".nrrd", ".nhdr", ".mha", ".mhd"))
    if damage.kind == "header" or (damage.at < seed.data_at and (damage.kind != "size" or text_header)):
        return False
    if damage.kind == "cut":
        return True
    if seed.shelter == "sums":
        return True
    return seed.shelter == "plain" and damage.kind == "size"


def _spoken(outcome: str, said: Sequence[str], detail: str, seed: Seed) -> tuple[str, str]:
    """The outcome, unless what was said has the patient in it."""
    text = " ".join(said) if seed.reader in IMAGES else ""  # what a person typed into a table may be quoted
    for secret in (CANARY, "19610203"):
        if secret in text:
            return "identity", text[max(0, text.index(secret) - 100) :][:200]
    return outcome, detail


def _same(one: Read, other: Read) -> bool:
    return len(one.arrays) == len(other.arrays) and all(
        a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f")
        for a, b in zip(one.arrays, other.arrays, strict=True)
    )


def _difference(one: Read, other: Read) -> str:
    a, b = one.arrays[0], other.arrays[0]
    return f"{a.shape} for {b.shape}" if a.shape != b.shape else f"{np.mean(a != b):.2%} of {a.shape} differ"


# -- memory ------------------------------------------------------------------------------------------------


def _limit_memory() -> bool:
    """So much more than now; False where the system cannot say so."""
    try:
        import resource

        now = _status("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (now + LIMIT_BYTES + (256 << 20), resource.RLIM_INFINITY))
    except (ImportError, OSError, ValueError):
        return False
    return True


def _reset_peak() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


# -- the table ---------------------------------------------------------------------------------------------


def _write(records: list[dict[str, Any]]) -> None:
    columns = ("refused", "same", "noted", "unknowable", *BAD)
    shown = (
        "refused",
        "read, whole",
        "read, noted",
        "unknowable",
        "tracebacks",
        "deaths",
        "hangs",
        "over 3 GB",
        "silent",
        "identity",
    )
    rows = []
    for reader in (*READERS, None):
        of = [record for record in records if reader in (None, record["reader"])]
        counts = collections.Counter(record["outcome"] for record in of)
        slowest = max((record.get("s", LIMIT_S) for record in of), default=0.0)
        most = max((record.get("mb", 0) for record in of), default=0)
        rows.append([reader or "all", len(of), *(counts[name] for name in columns), f"{slowest:.1f}", most])
    bad = sum(record["outcome"] in BAD for record in records)
    text = benchmarking.table(["reader", "inputs", *shown, "slowest s", "most MB"], rows)
    verdicts = benchmarking.table(
        ["figure", "target", "measured", ""],
        [
            ["inputs", f"{TARGET:,}", f"{len(records):,}", benchmarking.verdict(len(records) >= TARGET)],
            ["badly dealt with", "0", bad, benchmarking.verdict(bad == 0)],
        ],
    )
    options = benchmarking.Options(
        None, 1, False, False, Path(__file__).parent / "results", f"python Testing/Robustness/{NAME}.py"
    )
    options.results.mkdir(exist_ok=True)
    body = "\n\n".join([_WORDS, verdicts, text])
    benchmarking.write_result(NAME, "Damaged inputs", body, options, [{**record, "jobs": 1} for record in records])


_WORDS = """Whole files of every kind, one of them damaged in each input: bytes flipped, cut, lost, doubled, exchanged; values, lengths and
types of elements and fields of headers; check sums, claims, nesting. Each is read as `register` and `info` read it.

- *refused*: with a sentence, exit code 2. *read, whole*: the same pixels as before. *read, noted*: something was said of it.
- *unknowable*: other pixels, and no reader can know: a byte of pixels that no check sum protects (plain NIfTI, NRRD, MHA, DICOM), one
  that decodes to something else (JPEG, RLE, deflated DICOM), a header that says something else that makes sense, text.
- *silent*: other pixels although sizes or check sums tell it, and not a word."""


if __name__ == "__main__":
    sys.exit(main())
