"""Commands as processes of their own: started as a person does, or forked from this one, which has the libraries loaded."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from fault_commands import ENVIRONMENT


def typed(words: list[str], **streams: Any) -> subprocess.Popen[str]:
    """A process as a shell starts it, in a session of its own."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(words, env=ENVIRONMENT, text=True, start_new_session=True, **both)


def load_libraries() -> None:
    """What commands import, so that forked ones begin with their work: a fault within an import tells nothing."""
    import lightning
    import matplotlib.pyplot
    import nibabel
    import numba
    import pydicom
    import scipy.ndimage
    import SimpleITK
    import torch

    import DeepIterRegLib.cases.batch
    import DeepIterRegLib.cases.demo
    import DeepIterRegLib.cases.project
    import DeepIterRegLib.cases.segment
    import DeepIterRegLib.cli
    import DeepIterRegLib.registration.network.training
    import DeepIterRegLib.results.export.files
    import DeepIterRegLib.studies.experiments.experiments
    import DeepIterRegLib.studies.reader_study.make  # noqa: F401

    assert all((lightning, matplotlib.pyplot, nibabel, numba, pydicom, scipy.ndimage, SimpleITK, torch))


class Forked:
    """A command in a fork of this process; asked like a `subprocess.Popen` whose stdout goes nowhere."""

    def __init__(self, words: list[str], preexec_fn: Callable[[], None] = lambda: None) -> None:
        self.returncode: int | None = None
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be(words, write, preexec_fn)
        os.close(write)
        self._said = read

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 1e9) -> int:
        ends = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired("forked", timeout)
            time.sleep(0.002)
        return code

    def communicate(self, timeout: float = 1e9) -> tuple[str, str]:
        self.wait(timeout)  # what is said fits into the pipe
        os.set_blocking(self._said, False)  # a child that lives on may hold the other end
        try:
            said = os.read(self._said, 2**16)
        except BlockingIOError:
            said = b""
        os.close(self._said)
        return "", said.decode(errors="replace")

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _be(words: list[str], write: int, preexec_fn: Callable[[], None]) -> None:
    """In the fork: be the command, and never come back."""
    code = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number, stream in ((0, nowhere), (1, nowhere), (2, write)):
            os.dup2(stream, number)
        os.environ.update(ENVIRONMENT)
        preexec_fn()
        from DeepIterRegLib.cli import main

        sys.argv = ["deepiterreg", *words[3:]]
        main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException as error:
        os.write(2, f"Traceback: {type(error).__name__} {error}".encode())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            atexit._run_exitfuncs()
        finally:
            os._exit(code)
