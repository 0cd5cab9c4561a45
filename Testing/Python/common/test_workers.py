"""Items over processes: order, resuming, what is sent, and what survives a killed worker, Ctrl-C and a raising item."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from DeepIterRegLib.common import workers as runner
from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.common.thread_limit import THREAD_VARIABLES
from DeepIterRegLib.common.workers import run_items, stopping, work_through

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


class Payload:
    """Shared data that tells where it was unpacked: a line with the process in a file."""

    def __init__(self, log: Path, values: list[int]) -> None:
        self.log, self.values = log, values

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        note(self.log, os.getpid())


def note(path: Path, line: Any) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def look_up(shared: Payload, item: dict[str, Any]) -> dict[str, Any]:
    time.sleep(item.get("sleep_s", 0))
    if item["n"] < 0:
        raise InputError("A negative number: give one from 0.")
    return {"value": shared.values[item["n"]], "pid": os.getpid()}


def deadly(shared: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Dies as if killed for memory: item 3 the first time, item 1 every time."""
    marker = Path(shared["marker"])
    if item["n"] == 1 or (item["n"] == 3 and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return {"square": item["n"] ** 2}


def picky(shared: Any, item: dict[str, Any]) -> dict[str, Any]:
    if item["n"] == 1:
        raise InputError("Item 1 is wrong: give another.")
    if item["n"] == 2:
        return {"unwritable": object()}
    if item["n"] == 3:
        raise ZeroDivisionError("by nought")
    return {"n": item["n"]}


def surroundings(shared: Any, item: dict[str, Any]) -> dict[str, Any]:
    """Threads this process may use, and the addresses on which it, its parent and its siblings listen."""
    import numba

    time.sleep(1.0)  # long enough that each worker gets one
    family = [parent := psutil.Process().parent(), *parent.children(recursive=True)]
    found = {c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    return {
        "pid": os.getpid(),
        "numba": numba.config.NUMBA_NUM_THREADS,
        "addresses": sorted(found),
        "variables": variables,
    }


def until_stopped(shared: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    note(Path(shared["log"]), "begun")
    while not stopping():
        time.sleep(0.02)
    note(Path(shared["log"]), "asked to stop")
    raise Cancelled


def numbered(n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"n": k, **more} for k in range(n)]


# -- one process -----------------------------------------------------------------------------------------


def test_results_in_order_and_once_for_equal_items(tmp_path: Path) -> None:
    done: list[int] = []
    told: list[tuple[int, int]] = []

    def work(shared: int, item: dict[str, Any]) -> dict[str, Any]:
        done.append(item["n"])
        return {"sum": shared + item["n"]}

    items = [{"n": 2}, {"n": 0}, {"n": 2}]
    results = run_items(work, items, shared=10, record=tmp_path / "a/r.jsonl", on_progress=lambda *at: told.append(at))
    assert [r["sum"] for r in results] == [12, 10, 12]
    assert done == [2, 0]
    assert told == [(0, 3), (2, 3), (3, 3)]


def test_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    record = tmp_path / "r.jsonl"
    done: list[int] = []

    def work(shared: Any, item: dict[str, Any]) -> dict[str, Any]:
        if item["n"] == 2 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(item["n"])
        return {"n": item["n"]}

    with pytest.raises(KeyboardInterrupt):
        run_items(work, numbered(4), record=record)
    with record.open("a") as file:
        file.write('{"key": "", "item": {"n": 3}, "resu')  # torn: the computer went off
    done.append(-1)
    assert [r["n"] for r in run_items(work, numbered(4), record=record)] == [0, 1, 2, 3]
    assert done == [0, 1, -1, 2, 3]
    assert [json.loads(line)["item"]["n"] for n, line in enumerate(lines(record)) if n != 2] == [0, 1, 2, 3]
    run_items(work, numbered(4), record=record)
    assert len(done) == 5
    run_items(work, numbered(1), record=record, key="other settings")
    assert len(done) == 6


def test_stop_keeps_what_is_done(tmp_path: Path) -> None:
    record = tmp_path / "r.jsonl"
    with pytest.raises(Cancelled):
        run_items(picky, numbered(9), record=record, should_stop=lambda: len(lines(record)) >= 2)
    assert len(lines(record)) == 2


def test_raising_item_is_told_and_tried_again(tmp_path: Path) -> None:
    record = tmp_path / "r.jsonl"
    results = run_items(picky, numbered(5), record=record)
    assert results[0] == {"n": 0}
    assert results[4] == {"n": 4}
    assert results[1] == {"error": "Item 1 is wrong: give another."}
    assert "JSON" in results[2]["error"]
    assert results[3]["error"].startswith("ZeroDivisionError (test_workers.py:")
    kept = [json.loads(line) for line in lines(record)]
    assert {line["item"]["n"] for line in kept if "error" in line} == {1, 2, 3}
    run_items(picky, numbered(5), record=record)
    assert len(lines(record)) == 5 + 3


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        run_items(picky, numbered(1), record=tmp_path / "r", workers=0)
    with pytest.raises(InputError, match="exclude each other"):
        run_items(picky, numbered(1), record=tmp_path / "r", workers=2, scheduler="tcp://127.0.0.1:1")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        run_items(picky, numbered(1), record=tmp_path / "file/r.jsonl")


def test_without_dask_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'deepiterreg\[cluster\]'"):
        run_items(picky, numbered(2), record=tmp_path / "r.jsonl", workers=2)


# -- two processes -----------------------------------------------------------------------------------------


def test_two_workers_share_the_work_and_get_the_data_once(tmp_path: Path) -> None:
    """Order of the items, not of the results; every item done by one of two processes, each of which unpacked the data once."""
    shared = Payload(tmp_path / "unpacked", [n * 1.5 for n in range(12)])
    items = [{"n": n, "sleep_s": 0.2 if n < 2 else 0.05} for n in range(12)]
    before = dict(os.environ)
    raising = {"n": -1}
    *results, raised = run_items(look_up, [*items, raising], shared=shared, record=tmp_path / "r.jsonl", workers=2)
    assert [r["value"] for r in results] == shared.values
    assert raised == {"error": "A negative number: give one from 0."}
    pids = {r["pid"] for r in results}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert sorted(lines(tmp_path / "unpacked")) == sorted(map(str, pids))
    assert dict(os.environ) == before
    assert not [p for p in pids if psutil.pid_exists(p)]


def test_killed_worker_loses_nothing(tmp_path: Path) -> None:
    """An item whose process died is done by another; one that kills every process is told, and the rest are done."""
    shared = {"marker": str(tmp_path / "died")}
    results = run_items(deadly, numbered(12), shared=shared, record=tmp_path / "r.jsonl", workers=2)
    assert (tmp_path / "died").exists()
    assert [r.get("square") for r in results] == [None if n == 1 else n**2 for n in range(12)]
    assert "died again and again" in results[1]["error"]
    assert len(lines(tmp_path / "r.jsonl")) == 12


def test_workers_share_the_cores_and_listen_on_loopback_only() -> None:
    first, second = (result for _, result in work_through(surroundings, numbered(2), workers=2))
    assert first["pid"] != second["pid"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    each = max(1, cores // 2)
    for found in (first, second):
        assert set(found["variables"].values()) == {str(each)}
        assert found["numba"] == each
        assert found["addresses"] == ["127.0.0.1"]


def test_work_under_way_is_asked_to_stop(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(Cancelled):
        run_items(
            until_stopped,
            numbered(5),
            shared={"log": str(log)},
            record=tmp_path / "r.jsonl",
            workers=2,
            should_stop=lambda: len(lines(log)) >= 2,
        )
    assert sorted(lines(log)) == ["asked to stop"] * 2 + ["begun"] * 2
    assert lines(tmp_path / "r.jsonl") == []


INTERRUPTED = """
import sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from DeepIterRegLib.common.workers import run_items
from test_workers import Payload, look_up, numbered
if __name__ == "__main__":
    shared = Payload(Path({folder!r}) / "unpacked", list(range(40)))
    run_items(look_up, numbered(40, sleep_s=0.1), shared=shared, record=Path({folder!r}) / "r.jsonl", workers=2)
"""


def test_ctrl_c_in_a_terminal_leaves_a_record_to_go_on_from(tmp_path: Path) -> None:
    """The signal reaches every process of the terminal's group, as Ctrl-C does."""
    (tmp_path / "program.py").write_text(INTERRUPTED.format(here=str(HERE), folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(lines(tmp_path / "r.jsonl")) >= 3)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert stderr.strip().splitlines()[-1] == "KeyboardInterrupt"
    kept = len(lines(tmp_path / "r.jsonl"))
    assert 3 <= kept < 40
    assert all("result" in json.loads(line) for line in lines(tmp_path / "r.jsonl"))
    shared = Payload(tmp_path / "unpacked", list(range(40)))
    results = run_items(look_up, numbered(40, sleep_s=0.1), shared=shared, record=tmp_path / "r.jsonl")
    assert [r["value"] for r in results] == list(range(40))
    assert len(lines(tmp_path / "r.jsonl")) == 40


def wait_for(what: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# -- a scheduler that runs already -----------------------------------------------------------------------------


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler and one worker, started by their own commands."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    where = tmp_path / "scheduler.json"

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(where), "--no-dashboard"]
        return subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    processes = [start("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        wait_for(where.exists)
        processes.append(start("worker", "--nthreads", "1"))
        yield json.loads(where.read_text())["address"]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def test_existing_scheduler_by_address(scheduler: str, tmp_path: Path) -> None:
    """Twice on the same scheduler: each run brings its own shared data and leaves the workers alive."""
    for run in range(2):
        shared = Payload(tmp_path / f"unpacked{run}", [n + 100 * run for n in range(4)])
        results = run_items(look_up, numbered(4), shared=shared, record=tmp_path / f"r{run}.jsonl", scheduler=scheduler)
        assert [r["value"] for r in results] == shared.values
        assert len(lines(tmp_path / f"unpacked{run}")) == 1
        assert os.getpid() not in {r["pid"] for r in results}


def test_no_scheduler_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CONNECT_S", 1)
    with pytest.raises(InputError, match=r"No Dask scheduler answers at tcp://127.0.0.1:9"):
        run_items(picky, numbered(1), record=tmp_path / "r.jsonl", scheduler="tcp://127.0.0.1:9")
