"""The worker: progress in order, cancel, every end as a value. Plain Python: neither Slicer nor Qt is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from enum import Enum

import pytest
from repository import ROOT

from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.common.progress import Progress, ProgressEvent, ShouldStop
from DeepIterRegSlicer.worker import Failed, Finished, Worker


class Work(Enum):
    ONE = "one"
    TWO = "two"
    THREE = "three"


def test_progress_comes_in_order_and_the_end_last() -> None:
    def job(progress: Progress, stop: ShouldStop) -> int:
        progress.expect({Work.ONE: 1.0, Work.TWO: 2.0, Work.THREE: 1.0})
        for step in Work:
            progress(step, 0.0)
            progress(step, 1.0)
        return 42

    worker = Worker(job)
    assert worker.wait(10)
    told = [ProgressEvent(Work.ONE, 1.0, 0.25), ProgressEvent(Work.TWO, 1.0, 0.75), ProgressEvent(Work.THREE, 1.0, 1.0)]
    assert worker.events() == [*told, Finished(42)]
    assert worker.events() == []
    assert not worker.running


def test_events_never_waits_and_the_job_runs_beside() -> None:
    go = threading.Event()

    def job(progress: Progress, stop: ShouldStop) -> str:
        progress.expect({Work.ONE: 1.0})
        progress(Work.ONE, 0.5)
        assert threading.current_thread() is not threading.main_thread()
        go.wait(60)
        return "done"

    worker = Worker(job)
    seen: list[object] = []

    def look() -> None:
        while not seen:
            seen.extend(worker.events())
        seen.append(worker.events())

    # In a thread of its own, so that a call that waited for the job, which waits for `go`, fails the test instead of hanging it.
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(10)
    assert seen == [ProgressEvent(Work.ONE, 0.5, 0.5), []]
    assert worker.running
    assert not worker.wait(0.01)
    go.set()
    assert worker.wait(10)
    assert worker.events() == [Finished("done")]


def test_cancel_is_seen_by_the_job_that_asks() -> None:
    def job(progress: Progress, stop: ShouldStop) -> None:
        while not stop():
            time.sleep(0.001)
        raise Cancelled

    worker = Worker(job)
    assert not worker.cancelling
    worker.cancel()
    worker.cancel()
    assert worker.cancelling
    assert worker.wait(10)
    (end,) = worker.events()
    assert isinstance(end, Failed)
    assert end.cancelled


def test_cancel_ends_a_job_that_only_tells_its_progress() -> None:
    started = threading.Event()

    def job(progress: Progress, stop: ShouldStop) -> None:
        while True:
            progress(Work.ONE, 0.5)
            started.set()
            time.sleep(0.001)

    worker = Worker(job)
    assert started.wait(10)
    worker.cancel()
    assert worker.wait(10)
    end = worker.events()[-1]
    assert isinstance(end, Failed)
    assert end.cancelled


@pytest.mark.parametrize(
    "error", [InputError(["One.", "Two."]), ZeroDivisionError("a bug"), MemoryError(), SystemExit(3)]
)
def test_every_error_is_handed_over_with_its_traceback(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    def job(progress: Progress, stop: ShouldStop) -> None:
        progress(Work.ONE, 0.0)
        raise error

    worker = Worker(job)
    assert worker.wait(10)
    progress, end = worker.events()
    assert progress == ProgressEvent(Work.ONE, 0.0, 0.0)
    assert isinstance(end, Failed)
    assert end.error is error
    assert not end.cancelled
    assert end.error.__traceback__ is not None
    assert capfd.readouterr().err == ""


def test_cancel_after_the_end_changes_nothing() -> None:
    worker = Worker(lambda tell, stop: "result")
    assert worker.wait(10)
    worker.cancel()
    assert worker.events() == [Finished("result")]


def test_a_hanging_job_does_not_keep_the_process_alive() -> None:
    code = (
        "import time\nfrom DeepIterRegSlicer.worker import Worker\n"
        "Worker(lambda tell, stop: time.sleep(600))\nprint('left')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "left"


def test_worker_needs_neither_slicer_nor_qt_nor_third_parties() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport DeepIterRegSlicer.worker\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\nprint(sorted(new))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "['DeepIterRegLib', 'DeepIterRegSlicer']", done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "DeepIterReg")])}
