"""What becomes of outputs when others write there too, processes are killed, disks are full and nobody reads what is printed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from limits import files_of_at_most
from repository import ROOT

from DeepIterRegLib.common.atomic_output import not_whole, output_file, output_folder
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.interruptions import deliver, held_back
from DeepIterRegLib.common.locks import Taken, held, is_dead
from DeepIterRegLib.common.renaming import move_where_free, swap
from DeepIterRegLib.common.scratch import clear_leftovers, temporary_folder
from DeepIterRegLib.common.work_folder import LOCK, work_folder
from DeepIterRegLib.common.workers import run_items

HEAD = """
import sys, time
from pathlib import Path
from DeepIterRegLib.common.atomic_output import output_folder
from DeepIterRegLib.common.scratch import scratch_beside, set_aside, temporary_folder
from DeepIterRegLib.common.work_folder import work_folder
target = Path(sys.argv[1])
def wait():
    print("there", flush=True)
    time.sleep(60)
"""


@contextmanager
def other_process(body: str, target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has come to its `wait()`; killed at the end, as by the system."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + body, str(target)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"there\n"
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(target: Path, text: str, *, overwrite: bool = False, meanwhile: Callable[[], object] = lambda: None) -> None:
    with output_folder(target, ("x",), overwrite=overwrite) as folder:
        (folder / "x").write_text(text)
        meanwhile()


# -- others who write there ----------------------------------------------------------------------------


def test_of_two_runs_into_a_new_folder_both_results_stay(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(InputError, match=r"Somebody else wrote .*out.* kept beside it as out-2\."):
        write(target, "slow", meanwhile=lambda: write(target, "quick"))
    assert (target / "x").read_text() == "quick"
    assert (tmp_path / "out-2/x").read_text() == "slow"
    assert names(tmp_path) == ["out", "out-2"]


@pytest.mark.parametrize("earlier", ["absent", "empty", "result"])
def test_what_appears_while_a_run_works_is_not_deleted(tmp_path: Path, earlier: str) -> None:
    target = tmp_path / "out"
    if earlier == "empty":
        target.mkdir()
    if earlier == "result":
        write(target, "old")

    def appear() -> None:
        target.mkdir(exist_ok=True)
        (target / "thesis.doc").write_text("years")

    with pytest.raises(InputError, match="kept beside it as out-2"):
        write(target, "new", overwrite=earlier == "result", meanwhile=appear)
    assert (target / "thesis.doc").read_text() == "years"
    assert (target / "x").exists() == (earlier == "result")
    assert (tmp_path / "out-2/x").read_text() == "new"


def test_what_a_person_changes_while_it_is_made_anew_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write(target, "old")
    with pytest.raises(InputError, match="kept beside it as out-2"):
        write(target, "new", overwrite=True, meanwhile=lambda: (target / "x").write_text("a person's correction"))
    assert (target / "x").read_text() == "a person's correction"
    assert (tmp_path / "out-2/x").read_text() == "new"
    write(target, "newer", overwrite=True, meanwhile=lambda: shutil.rmtree(target))  # nothing of it is left to lose
    assert (target / "x").read_text() == "newer"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_or_changes_meanwhile_stays(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "map.nii.gz"
    if overwrite:
        target.write_text("old")
    (tmp_path / "map-2.nii.gz").write_text("of another time")

    def make() -> None:
        with output_file(target, (".png", ".nii.gz"), overwrite=overwrite) as path:
            path.write_text("ours")
            target.write_text("theirs, later")

    with pytest.raises(InputError, match=r"kept beside it as map-3\.nii\.gz"):
        make()
    assert target.read_text() == "theirs, later"
    assert (tmp_path / "map-3.nii.gz").read_text() == "ours"
    assert names(tmp_path) == ["map-2.nii.gz", "map-3.nii.gz", "map.nii.gz"]


def test_links_stay_and_what_they_lead_to_is_written(tmp_path: Path) -> None:
    disk, home = tmp_path / "disk", tmp_path / "home"
    (disk / "folder").mkdir(parents=True)
    home.mkdir()
    (home / "folder").symlink_to(disk / "folder")
    (home / "absent").symlink_to(disk / "absent")
    (home / "file.png").symlink_to(disk / "file.png")
    for text in ("one", "two"):
        for name in ("folder", "absent"):
            write(home / name, text, overwrite=text == "two")
            assert (disk / name / "x").read_text() == text
        with output_file(home / "file.png", (".png",), overwrite=True) as path:
            path.write_text(text)
        assert (disk / "file.png").read_text() == text
    assert all(path.is_symlink() for path in home.iterdir())
    assert names(disk) == ["absent", "file.png", "folder"]
    (home / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="leads back to itself"):
        write(home / "loop", "x")


def test_what_is_no_file_is_no_output(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with (
        pytest.raises(InputError, match="a device or a pipe"),
        output_file(tmp_path / "pipe.png", (".png",), overwrite=True),
    ):
        pass


def test_names_swap_at_once_and_are_given_only_where_they_are_free(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if swap(tmp_path / "a", tmp_path / "b"):  # not every file system can
        assert (names(tmp_path / "a"), names(tmp_path / "b")) == (["b"], ["a"])
    (tmp_path / "file").write_text("file")
    for new, target in (("a", "b"), ("a", "file"), ("file", "a")):
        with pytest.raises(FileExistsError):
            move_where_free(tmp_path / new, tmp_path / target)
    (tmp_path / "empty").mkdir()
    move_where_free(tmp_path / "a", tmp_path / "empty")
    move_where_free(tmp_path / "file", tmp_path / "new")
    assert names(tmp_path) == ["b", "empty", "new"]


# -- processes that are killed -------------------------------------------------------------------------


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    body = "with output_folder(target, ('x',)) as folder:\n    (folder / 'x').write_text('half')\n    wait()\n"
    with other_process(body, tmp_path / "out") as process:
        write(tmp_path / "out", "whole")
        assert [name for name in names(tmp_path) if f".out.{process.pid}-" in name]
    # Of another target whose name begins alike; and of a process killed before it could say who it is.
    (tmp_path / ".out.b.12345678.partial").mkdir()
    (tmp_path / f".out.{process.pid}-abcdefgh.partial").mkdir()
    write(tmp_path / "out", "again", overwrite=True)
    assert names(tmp_path) == [".out.b.12345678.partial", "out"]
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out/x").read_text() == "again"


def test_killed_while_the_earlier_result_is_set_aside_it_comes_back(tmp_path: Path) -> None:
    """Where names cannot be swapped there is a moment in which the place is empty."""
    write(tmp_path / "out", "years")
    with other_process(
        "with scratch_beside(target) as scratch:\n    set_aside(target, scratch)\n    wait()\n", tmp_path / "out"
    ):
        assert not (tmp_path / "out").exists()
    clear_leftovers(tmp_path, ("out",))
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out/x").read_text() == "years"


def test_temporary_files_of_a_killed_process_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with other_process("with temporary_folder() as folder:\n    (folder / 'Doe').touch()\n    wait()\n", tmp_path):
        assert len(names(tmp_path)) == 1
    with temporary_folder() as folder:
        assert names(folder) == []
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []


def test_a_folder_is_worked_in_by_one_process_which_is_named(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with other_process("with work_folder(target):\n    wait()\n", out) as process:
        with (
            pytest.raises(InputError, match=rf"worked in by process {process.pid} on {os.uname().nodename}"),
            work_folder(out),
        ):
            pass
        assert names(out) == [LOCK]
    with work_folder(out):
        assert not is_dead(out / LOCK)
        with pytest.raises(Taken, match=f"process {os.getpid()} on"), held(out / LOCK):
            pass
    assert names(out) == []
    shutil.rmtree(tmp_path / "a")
    with work_folder(out):
        pass
    assert names(tmp_path) == [], "made for nothing"


def test_an_interruption_waits_until_the_name_is_given() -> None:
    class Stop(BaseException):
        pass

    def stop() -> None:
        raise Stop

    reached = []

    def name() -> None:
        with held_back():
            with held_back():
                deliver(stop)
            reached.append("end")

    with pytest.raises(Stop):
        name()
    assert reached == ["end"]
    with pytest.raises(Stop):
        deliver(stop)
    thread = threading.Thread(target=lambda: held_back().__enter__())  # of no matter for the main thread
    thread.start()
    thread.join()
    with pytest.raises(Stop):
        deliver(stop)


# -- full disks ----------------------------------------------------------------------------------------


def test_a_record_on_a_full_disk_keeps_whole_lines(tmp_path: Path) -> None:
    record, items = tmp_path / "record.jsonl", [{"n": n} for n in range(40)]
    with (
        files_of_at_most(1000),
        pytest.raises(InputError, match=r"cannot be written: File too large.* What is done is kept"),
    ):
        run_items(_word, items, record=record)
    lines = record.read_text().splitlines(keepends=True)
    assert len(lines) > 5
    assert all(line.endswith("}\n") for line in lines)
    assert [result["word"] for result in run_items(_word, items, record=record)] == ["word"] * 40
    assert len(record.read_text().splitlines()) == 40


def _word(shared: object, item: dict[str, object]) -> dict[str, object]:
    return {"word": "word"}


def test_the_error_that_a_foreign_writer_swallowed(tmp_path: Path) -> None:
    with files_of_at_most(10):
        assert "File too large" in str(not_whole(tmp_path / "x"))
    target = tmp_path / "f.tfm"
    with pytest.raises(InputError, match=r"f\.tfm cannot be written"), output_file(target, (".tfm",)) as path:
        raise not_whole(path)
    with pytest.raises(InputError, match="File too large"), files_of_at_most(0), work_folder(tmp_path / "new"):
        pass
    assert names(tmp_path) == []
    with pytest.raises(InputError, match="What is done is kept"), work_folder(tmp_path), files_of_at_most(0):
        (tmp_path / "line").write_text("x" * 10)
    assert names(tmp_path) == ["line"]
