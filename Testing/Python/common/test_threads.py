"""A loop shared out among threads: every part once, whatever their number; and the same bits of a search for every number."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref

import numba
import numpy as np
import pytest
from repository import ROOT

from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.common.shown import called, name_of
from DeepIterRegLib.common.threads import Beside, at_once, in_parts


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_the_parts_make_up_the_whole(count: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    seen: list[tuple[int, int]] = []
    in_parts(lambda first, last, list_: list_.append((first, last)), count, seen)
    assert len(seen) == min(count, threads)
    assert [n for part in sorted(seen) for n in range(*part)] == list(range(count))


def test_a_fault_in_any_part_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: 4)

    def kernel(first: int, last: int, bad: int) -> None:
        if first <= bad < last:
            raise ZeroDivisionError

    for bad in range(4):
        with pytest.raises(ZeroDivisionError):
            in_parts(kernel, 4, bad)


def test_who_calls_does_a_part_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one thread costs nothing, and a full pool of others holds nobody up for all of the work."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: 3)
    names: list[str] = []
    in_parts(lambda first, last: names.append(threading.current_thread().name), 3)
    assert threading.current_thread().name in names


def test_a_full_pool_keeps_no_array_of_a_loop_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of loops that their callers did alone held a hundred megabytes of a large CTA."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    go_on = threading.Event()
    with Beside() as beside:
        for _ in range(numba.config.NUMBA_NUM_THREADS):
            beside.start(lambda: go_on.wait(60))
        array = np.zeros(10)
        kept = weakref.ref(array)
        in_parts(lambda first, last, array: array[first:last].fill(1), len(array), array)
        done = array.all()
        del array
        is_kept = kept() is not None
        go_on.set()
    assert done
    assert not is_kept


def test_a_search_finds_the_same_bits_with_any_number_of_threads() -> None:
    code = """
import numba
import test_vessels_search as t
points = t.vessel_tree(6)
start, _, image = t.displaced(points, [10, 5, -12], [15, -10, 8])
found = []
for threads in (1, 2, 5):
    numba.set_num_threads(threads)
    result = t.found_in(image, points, start)
    found.append((result.cta_to_carm.tobytes(), result.poses.tobytes(), result.scores))
print(all(one == found[0] for one in found), len(found))
"""
    paths = [ROOT, ROOT / "Testing/Python", ROOT / "Testing/Python/registration"]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "5", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "3"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    """In a process of its own, whose child would wait for its parent's threads."""
    code = (
        "import os, numba\n"
        "from DeepIterRegLib.common.threads import in_parts\n"
        "numba.set_num_threads(2)\n"
        "seen = []\n"
        "in_parts(lambda first, last: seen.append(first), 2)\n"
        "child = os.fork()\n"
        "in_parts(lambda first, last: seen.append(first), 2)\n"
        "assert len(seen) == 4\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "NUMBA_NUM_THREADS": "2"})


# -- jobs beside their caller --------------------------------------------------------------------------


def threads(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if numba had so many."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: count)


def test_a_job_goes_on_beside_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2, monkeypatch)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(20)
        return threading.current_thread().name

    with Beside() as beside:
        job = beside.start(work)
        assert begun.wait(20)
        looks: list[int] = []

        def look() -> None:
            looks.append(1)
            if len(looks) == 3:
                go_on.set()

        assert job.result(look) != threading.current_thread().name
    assert len(looks) >= 3


def test_with_one_thread_the_caller_does_it_when_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    threads(1, monkeypatch)
    names: list[str] = []
    with Beside() as beside:
        first = beside.start(lambda: names.append(threading.current_thread().name))
        second = beside.start(first.result)
        assert not names
        second.result()
        first.result()
    assert names == [threading.current_thread().name]


def test_more_jobs_that_wait_for_one_another_than_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2, monkeypatch)
    with Beside() as beside:
        jobs = [beside.start(lambda: 0)]
        for _ in range(4 * numba.config.NUMBA_NUM_THREADS + 8):
            before = jobs[-1]
            jobs.append(beside.start(lambda before=before: before.result() + 1))
        seen: list[tuple[int, int]] = []
        in_parts(lambda first, last: seen.append((first, last)), 2)
        assert jobs[-1].result() == len(jobs) - 1
        assert sorted(seen) == [(0, 1), (1, 2)]


def test_what_a_job_raises_belongs_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2, monkeypatch)
    with Beside() as beside:
        wrong, right = beside.start(lambda: 1 // 0), beside.start(lambda: 1)
        assert right.result() == 1
        with pytest.raises(ZeroDivisionError):
            wrong.result()


def test_leaving_ends_what_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2, monkeypatch)
    begun, ends = threading.Event(), []

    def works_on(beside: Beside) -> None:
        begun.set()
        try:
            while True:
                beside.stop_if_ended()
                time.sleep(0.001)
        except Cancelled:
            ends.append("cancelled")

    with pytest.raises(ZeroDivisionError), Beside() as beside:  # noqa: PT012
        beside.start(lambda: works_on(beside))
        assert begun.wait(20)
        raise ZeroDivisionError
    assert ends == ["cancelled"]
    threads(1, monkeypatch)
    with Beside() as later:
        left = later.start(lambda: ends.append("done"))
    with pytest.raises(Cancelled):
        left.result()
    assert ends == ["cancelled"]


def test_a_job_calls_files_as_its_caller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2, monkeypatch)
    with Beside() as beside, called("cta"):
        assert beside.start(lambda: name_of("Long John.dcm")).result() == "<cta>"


def test_a_job_after_another_takes_no_thread_until_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2, monkeypatch)
    go_on, order = threading.Event(), []
    with Beside() as beside:
        first = beside.start(lambda: go_on.wait(20) and order.append("first"))
        jobs = [
            beside.start(lambda n=n: order.append(n), after=first) for n in range(4 * numba.config.NUMBA_NUM_THREADS)
        ]
        assert beside.start(lambda: "meanwhile").result() == "meanwhile"
        assert not order
        go_on.set()
        for job in jobs:
            job.result()
    assert order[0] == "first"
    assert sorted(order[1:]) == list(range(len(jobs)))


def test_works_at_once_return_in_their_order_and_raise_what_one_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    met = threading.Barrier(2, timeout=10)
    assert at_once(lambda: met.wait() * 0 + 1, lambda: met.wait() * 0 + 2) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        at_once(lambda: 1, lambda: 1 // 0)
    assert at_once(lambda: "alone") == ["alone"]
