"""Nobody reads what is printed, or its disk is full: the work on files is done, and the exit code says what became of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from case_tables import summary, write_table
from repository import ROOT

from DeepIterRegLib.common.work_folder import LOCK
from DeepIterRegLib.studies.reader_study.analysis_files import ANALYSIS_FILES

CLI = [sys.executable, "-m", "DeepIterRegLib.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    return write_table(
        tmp_path / "ranks.csv",
        *({"reader": "r", "patient": f"p{n}", "left": "A", "right": "B", "rank": 1 + n % 3} for n in range(9)),
    )


def started(*words: str | Path, **streams: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*CLI, *map(str, words)], env=ENVIRONMENT, text=True, **streams)


@pytest.mark.parametrize("where", ["closed pipes", "closed numbers", "full device"])
def test_files_are_whole_and_the_exit_code_says_so(ranks: Path, tmp_path: Path, where: str) -> None:
    words = ("study", "analyse", ranks, "--out", tmp_path / "analysis")
    told = ""
    if where == "closed pipes":
        read, write = os.pipe()
        os.close(read)
        process = started(*words, stdout=write, stderr=write)
        os.close(write)
    elif where == "closed numbers":
        process = started(*words, preexec_fn=lambda: [os.close(number) for number in (0, 1, 2)])
    else:
        with Path("/dev/full").open("w") as full:
            process = started(*words, stdout=full, stderr=subprocess.PIPE)
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.wait() == 0
    assert sorted(path.name for path in (tmp_path / "analysis").iterdir()) == sorted(ANALYSIS_FILES)
    assert ("Warning: Standard output could not be written (No space left on device)" in told) == (
        where == "full device"
    )
    assert len(told.splitlines()) == (where == "full device")


def test_a_batch_goes_on_when_its_reader_leaves(tmp_path: Path) -> None:
    """Three cases that fail at once, each in its row; `head` would leave after the first line."""
    rows = ({"name": name, "cta": "absent.nii", "dsa": "absent.dcm"} for name in ("a", "b", "c"))
    table, out = write_table(tmp_path / "cases.csv", *rows), tmp_path / "out"
    process = started("batch", "--cases", table, "--out", out, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 3
    assert [row["status"] for row in summary(out)] == ["failed"] * 3
    assert not (out / LOCK).exists()


def test_a_terminal_that_is_closed_cancels(tmp_path: Path) -> None:
    """SIGHUP as SIGTERM; nohup has it ignored."""
    words = ("phantom", "--out", tmp_path / "patient")
    process = started(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not list(tmp_path.iterdir()):
        pass
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, list(tmp_path.iterdir())) == (130, [])
    assert "Cancelled; nothing was written." in said
