"""The faults themselves: each meets a command once, and says what was lost, what was left half, and what the exit code said."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fault_commands import Command, Files, damage, files_at, leftovers, names_at
from fault_processes import Forked, typed

LIMIT_S = 240.0  # beyond the time that a command takes alone: it hangs
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
KILLS_IN_A_ROW = 6
CLOSED = ("pipe that nobody reads", "full device", "closed numbers", "both ends gone")


@dataclass
class Finding:
    """What came of one fault."""

    lost: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    told: str = ""
    times: int = 1  # how often the fault came


@dataclass(frozen=True)
class Bench:
    """Where a fault is tried: a fresh folder, the inputs, and what the command does when it is left alone."""

    folder: Path
    inputs: Path
    names: frozenset[str]
    seconds: float
    bytes_all: int
    bytes_largest: int
    whole: Path
    forks: bool
    rng: np.random.Generator
    kills: int = KILLS_IN_A_ROW

    # `whole` is a copy of what the command makes; `forks` leaves out the seconds in which a process imports its libraries.

    def place(self, command: Command) -> Path:
        return self.folder / f"result{command.suffix}"


Fault = Callable[[Command, Bench], Finding]
Process = Forked | subprocess.Popen[str]


# -- running -------------------------------------------------------------------------------------------


def start(command: Command, bench: Bench, out: Path, *, overwrite: bool = False, **streams: Any) -> Process:
    """The command; forked where it may be and nothing is asked of its streams."""
    words = command.typed(bench.inputs, out, overwrite=overwrite)
    if bench.forks and not set(streams) - {"preexec_fn"}:
        return Forked(words, **streams)
    return typed(words, **streams)


def end(process: Process, finding: Finding, seconds: float = LIMIT_S) -> tuple[int, str]:
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill_group(process.pid)
        process.communicate()
        finding.wrong.append("hangs")
        return -1, ""
    if "Traceback" in (said or "") or "a fault of deepiterreg" in (said or ""):
        finding.wrong.append("fault: " + said.strip().splitlines()[-1][:160])
    return process.wait(), said or ""


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(group, signal.SIGKILL)


def run(command: Command, bench: Bench, out: Path, finding: Finding, **more: Any) -> tuple[int, str]:
    return end(start(command, bench, out, **more), finding)


def judge_whole(command: Command, bench: Bench, out: Path, finding: Finding, when: str) -> None:
    """The place holds what the command makes, all of it whole, and nothing of ours is left about."""
    names = names_at(out)
    if not (names >= bench.names if command.keeps else names == bench.names):
        finding.half.append(f"{when}: {sorted(bench.names ^ names)[:4]}")
    finding.half += [f"{when}: {one}" for one in damage(out)]
    if left := leftovers(bench.folder):
        finding.wrong.append(f"{when}: left {left[:3]}")


def judge_kept(command: Command, bench: Bench, out: Path, before: Files, finding: Finding, when: str) -> None:
    """The place holds what stood there before, or something whole in its stead; a long job's done parts are there and as they were."""
    now = files_at(out)
    if command.keeps:
        done = {name: mark for name, mark in before.items() if _is_done_part(name)}
        finding.lost += [f"{when}: {name}" for name, mark in done.items() if now.get(name) != mark]
        finding.half += [f"{when}: {one}" for one in damage(out)]
    elif now != before:
        if names_at(out) == bench.names:
            finding.half += [f"{when}: {one}" for one in damage(out)]
        elif before:
            finding.lost.append(f"{when}: {sorted(set(before) - set(now))[:4]}")
        else:
            finding.half.append(f"{when}: {sorted(bench.names ^ names_at(out))[:4]}")


def _is_done_part(name: str) -> bool:
    """Of a long job: what its next run does not write anew."""
    # Of a session, the poses by all runs and the pictures of a run that is registered again.
    return "/" in name and ".partial/" not in name and not name.startswith(("logs/", "together/", "pictures/"))


# -- faults --------------------------------------------------------------------------------------------


def kills(command: Command, bench: Bench) -> Finding:
    """Several kills in a row at random moments of one place, then the same command left alone."""
    finding, out = Finding(times=bench.kills), bench.place(command)
    if bench.rng.random() < 0.5 and command.replaces:  # over an earlier result
        (shutil.copy2 if command.suffix else shutil.copytree)(bench.whole, out)
    moments = []
    for number in range(bench.kills):
        before = files_at(out)
        process = start(
            command, bench, out, overwrite=bool(before), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        moments.append(_wait_for_a_moment(process, command, bench, out))
        if bench.rng.random() < 0.5:
            process.kill()
        else:
            _kill_group(process.pid)
        end(process, finding)
        if not _is_gone(process.pid):
            finding.wrong.append("processes live on")
            _kill_group(process.pid)
        judge_kept(command, bench, out, before, finding, f"kill {number + 1} ({moments[-1]})")
    _left_alone(command, bench, out, finding)
    finding.told = ", ".join(moments)
    return finding


def _left_alone(command: Command, bench: Bench, out: Path, finding: Finding) -> None:
    """The same command once more, without a fault."""
    code, said = run(command, bench, out, finding, overwrite=out.exists())
    refused = code == 2 and "exists" in said  # the result got its name before the fault came
    if code and not (refused and not command.replaces and not command.keeps):
        finding.wrong.append(f"next run: {code} {said.strip()[-160:]}")
    judge_whole(command, bench, out, finding, "next run")


def _wait_for_a_moment(process: Process, command: Command, bench: Bench, out: Path) -> str:
    """Anywhere, soon after something is written, or about when the result gets its name."""
    kind = ("anywhere", "writing", "publishing")[int(bench.rng.integers(3))]
    if kind == "anywhere":
        _sleep(process, bench.rng.uniform(0.05, 1.05) * bench.seconds)
        return kind
    # Names that are drawn at random cannot be waited for.
    ready = {out.name} if command.suffix else {Path(name).name for name in bench.names if "#" not in name}
    last = bench.seconds * 3 + 20
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < last:
        names = set(_names_written(bench.folder))
        if names and (kind == "writing" or command.keeps or names >= ready):
            break
        time.sleep(0.0005)
    if kind == "writing":
        _sleep(process, bench.rng.uniform(0, 0.15) * bench.seconds)
    else:
        _sleep(process, bench.rng.uniform(0, 0.02))
    return kind


def _names_written(folder: Path) -> Iterator[str]:
    """Of the files that lie in scratch folders, their locks apart."""
    for scratch in _scratches(folder):
        for _, _, files in os.walk(scratch):
            yield from (name for name in files if not name.endswith(".owner"))


def _scratches(folder: Path) -> Iterator[Path]:
    for place, names, _ in os.walk(folder):
        for name in names:
            if name.endswith(".partial"):
                yield Path(place, name)


def _sleep(process: Process, seconds: float) -> None:
    try:
        process.wait(timeout=max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return


def _is_gone(group: int) -> bool:
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def signals(command: Command, bench: Bench) -> Finding:
    """Ctrl-C, a queue's end, a closed terminal: the exit code says what became of the files, and nothing is left about."""
    finding, out = Finding(), bench.place(command)
    name = str(bench.rng.choice(list(SIGNALS)))
    process = start(command, bench, out)
    # After Python itself has started, which has no handlers yet.
    _sleep(process, 0.4 + bench.rng.uniform(0, 1.05) * bench.seconds)
    process.send_signal(SIGNALS[name])
    code, said = end(process, finding)
    if code == 0:
        judge_whole(command, bench, out, finding, name)
    elif code == 130:
        judge_kept(command, bench, out, {}, finding, name)
        if not command.keeps and out.exists():
            finding.wrong.append(f"{name}: 130, and the result is there")
        if left := leftovers(bench.folder):
            finding.wrong.append(f"{name}: left {left[:3]}")
    elif code not in (-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP) or out.exists():
        finding.wrong.append(f"{name}: {code} {said.strip()[-160:]}")
    _left_alone(command, bench, out, finding)
    finding.told = f"{name}, {code}"
    return finding


def full_disk(command: Command, bench: Bench) -> Finding:
    """A disk that takes a share of what the command writes: refused, nothing half; with room the same command works."""
    share = float(bench.rng.choice([0.0, 0.02, 0.2, 0.5, 0.8, 0.95]))
    room = int(share * bench.bytes_all) // 4096 * 4096
    finding = Finding(told=f"{share:.0%}")
    with _small_disk(bench.folder / "disk", max(room, 4096)) as disk:
        if not room:
            (disk / "filler").write_bytes(bytes(4096))
        out = disk / f"result{command.suffix}"
        _expect_refusal(command, bench, out, disk, finding, *run(command, bench, out, finding))
        (disk / "filler").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", f"remount,size={bench.bytes_all * 4 + 2**20}", str(disk)], check=True)
        code, said = run(command, bench, out, finding)
        if code:
            finding.wrong.append(f"next run: {code} {said.strip()[-160:]}")
        judge_whole(command, bench, out, finding, "next run")
    return finding


def small_files(command: Command, bench: Bench) -> Finding:
    """Files that may not grow beyond a share of the largest: refused, nothing half."""
    share = float(bench.rng.choice([0.05, 0.4, 0.9]))
    limit = max(1, int(share * bench.bytes_largest))
    finding, out = Finding(told=f"{share:.0%}"), bench.place(command)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code, said = run(command, bench, out, finding, preexec_fn=limited)
    _expect_refusal(command, bench, out, bench.folder, finding, code, said)
    return finding


def _expect_refusal(
    command: Command, bench: Bench, out: Path, place: Path, finding: Finding, code: int, said: str
) -> None:
    # A case of a batch that could not be written is told in its row.
    if code not in ((2, 3) if command.name.startswith("batch") else (2,)):
        finding.wrong.append(f"not refused: {code} {said.strip()[-160:]}")
    elif code == 2 and "cannot be written" not in said and "No space" not in said:
        finding.wrong.append(f"refused for another reason: {said.strip()[-160:]}")
    judge_kept(command, bench, out, {}, finding, "full")
    if left := leftovers(place):
        finding.wrong.append(f"left {left[:3]}")
    if not command.keeps and out.exists():
        finding.wrong.append("refused, and the result is there")


def read_only(command: Command, bench: Bench) -> Finding:
    """A folder that cannot be written: refused, and as it was."""
    finding = Finding()
    with _small_disk(bench.folder / "disk", 4 * bench.bytes_all + 2**20) as disk:
        (disk / "theirs").write_text("years")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        code, said = run(command, bench, disk / f"result{command.suffix}", finding)
        if code != 2 or "cannot be written" not in said:
            finding.wrong.append(f"{code} {said.strip()[-160:]}")
        if list(files_at(disk)) != ["theirs"]:
            finding.wrong.append("something was written")
    return finding


def closed_output(command: Command, bench: Bench) -> Finding:
    """Nobody reads what is printed: the files are whole, and the exit code says so."""
    finding, out = Finding(), bench.place(command)
    kind = CLOSED[int(bench.rng.integers(len(CLOSED)))]
    finding.told = kind
    if kind == "full device":
        with Path("/dev/full").open("w") as full:
            code, said = run(command, bench, out, finding, stdout=full)
    elif kind == "closed numbers":

        def closed() -> None:
            os.close(1)
            os.close(2)

        code, said = run(command, bench, out, finding, stdout=None, stderr=None, preexec_fn=closed)
    else:
        process = typed(command.typed(bench.inputs, out))
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdout = None
        if kind == "both ends gone":
            process.stderr.close()
            process.stderr = None
        code, said = end(process, finding)
    if code:
        finding.wrong.append(f"{kind}: {code} {said.strip()[-160:]}")
    judge_whole(command, bench, out, finding, kind)
    return finding


def two_at_once(command: Command, bench: Bench) -> Finding:
    """Two of the same into one new place: no result is lost, and the loser says so."""
    finding, out = Finding(), bench.place(command)
    both = [start(command, bench, out) for _ in range(2)]
    ends = [end(process, finding) for process in both]
    codes = sorted(code for code, _ in ends)
    beside = out.with_name(f"result-2{command.suffix}")
    finding.told = f"{codes}{', one beside' if beside.exists() else ''}"
    said = next((said for code, said in ends if code), "")
    if codes == [0, 2]:
        if "worked in by process" not in said and "exists" not in said and beside.name not in said:
            finding.wrong.append(f"the loser says: {said.strip()[-160:]}")
        if "kept beside" in said and names_at(beside) != bench.names:
            finding.lost.append("the loser's result")
    elif not (codes == [0, 0] and command.keeps) and not (codes == [0, 0] and command.name == "demo"):
        finding.lost.append(f"exit codes {codes}: {said.strip()[-160:]}")
    judge_whole(command, bench, out, finding, "two")
    return finding


def work_of_others(command: Command, bench: Bench) -> Finding:
    """A person writes into the place while the command works: what they wrote stays, the result is kept beside."""
    finding, out = Finding(), bench.place(command)
    process = start(command, bench, out)
    while process.poll() is None and not list(_scratches(bench.folder)):
        time.sleep(0.005)
    theirs = out if command.suffix else out / "thesis.doc"
    theirs.parent.mkdir(exist_ok=True)
    late = theirs.exists()
    if not late:
        theirs.write_text("years")
    code, said = end(process, finding)
    if late or command.keeps:
        return finding
    if theirs.read_text() != "years":
        finding.lost.append("what they wrote")
    beside = out.with_name(f"result-2{command.suffix}")
    if (
        code != 2
        or beside.name not in said
        or names_at(beside) != (frozenset(["."]) if command.suffix else bench.names)
    ):
        finding.lost.append(f"the result: {code} {said.strip()[-160:]}")
    if left := leftovers(bench.folder):
        finding.wrong.append(f"left {left[:3]}")
    return finding


FAULTS: dict[str, Fault] = {
    "kill": kills,
    "full disk": full_disk,
    "small files": small_files,
    "read-only": read_only,
    "signal": signals,
    "closed output": closed_output,
    "two at once": two_at_once,
    "work of others": work_of_others,
}


def can_mount() -> bool:
    """Whether this user may mount a small disk; else its faults are left out."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@contextmanager
def _small_disk(place: Path, size: int) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
