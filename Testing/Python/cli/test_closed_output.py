"""Nobody reads what is printed, or its disk is full: the work on files is done, and the exit code says what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from case_tables import summary, write_table
from repository import ROOT

from DeepIterRegLib.common.work_folder import LOCK

CLI = [sys.executable, "-m", "DeepIterRegLib.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two comparisons, of which one is answered."""
    folder = tmp_path / "study"
    for name in ("author", "reader1"):
        (folder / name).mkdir(parents=True)
    asked = {"reader": "reader1", "patient": "p1", "left": "A", "right": "B"}
    write_table(folder / "author/key.csv", *({**asked, "comparison": name} for name in ("one", "two")))
    write_table(folder / "reader1/ranks.csv", {"reader": "reader1", "comparison": "one", "rank": 1})
    return folder


def started(*words: str | Path, **streams: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*CLI, *map(str, words)], env=ENVIRONMENT, text=True, **streams)


@pytest.mark.parametrize("where", ["closed numbers", "full device"])
def test_files_are_whole_and_the_exit_code_says_so(study: Path, tmp_path: Path, where: str) -> None:
    words = ("study", "unblind", study, "--out", tmp_path / "ranks.csv")
    told = ""
    if where == "closed numbers":
        process = started(*words, preexec_fn=lambda: [os.close(number) for number in (0, 1, 2)])
    else:
        with Path("/dev/full").open("w") as full:
            process = started(*words, stdout=full, stderr=subprocess.PIPE)
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.wait() == 0
    assert (tmp_path / "ranks.csv").read_text().splitlines()[1:] == ["reader1,p1,A,B,1"]
    assert ("Warning: Standard output could not be written (No space left on device)" in told) == (
        where == "full device"
    )


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
