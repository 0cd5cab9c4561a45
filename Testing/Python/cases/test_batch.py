"""Many cases one after the other: resumed, what comes of a bad one; with a registration that takes no time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from case_tables import summary, write_table
from made_registration import made_registration

from DeepIterRegLib.cases import batch
from DeepIterRegLib.cases.batch import CASE_FILES, run_cases
from DeepIterRegLib.cases.case import Outcome
from DeepIterRegLib.cases.files import RegisterJob
from DeepIterRegLib.cases.table import SUMMARY, BatchCase, read_cases
from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.work_folder import LOCK
from DeepIterRegLib.registration.result import Confidence, Registration
from DeepIterRegLib.results.report.outputs import REGISTRATION_FILES


class Work:
    """Stands for `register_case`: counts, and does what it is told with a case."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.done: list[str] = []
        self.faults: dict[str, Callable[[], None]] = {}

    def register(self, case: Any, on_progress: Any, should_stop: Any) -> Outcome:
        name = Path(case.cta.args[0]).parent.name
        self.done.append(name)
        self.faults.get(name, lambda: None)()
        return self.outcome


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Registering and writing without their seconds; the script's tests below do them in earnest."""
    registration = made_registration(8, "The patient moved.")
    made = Work(Outcome(registration, *[cast(Any, None)] * 3))
    monkeypatch.setattr(batch, "register_case", made.register)
    monkeypatch.setattr(batch, "write_registration", write_quickly)
    return made


def write_quickly(folder: Path, registration: Registration, *rest: Any) -> None:
    for name in REGISTRATION_FILES:
        (folder / name).write_text(json.dumps(registration.to_json_dict()))


def cases_in(folder: Path, *names: str) -> list[BatchCase]:
    rows = []
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        for file in ("cta.nii", "dsa.dcm"):
            if not (folder / name / file).exists():
                (folder / name / file).write_text(name)
        rows.append({"name": name, "cta": f"{name}/cta.nii", "dsa": f"{name}/dsa.dcm"})
    return read_cases(write_table(folder / "cases.csv", *rows))


def run(cases: list[BatchCase], out: Path, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    lines: list[str] = []
    results = run_cases(
        cases, out, lambda outcome, job, path: path.write_bytes(b"scene") and None, lines.append, should_stop
    )
    return {result.name: result for result in results} | {"lines": lines}


def test_done_cases_are_not_done_again(work: Work, tmp_path: Path) -> None:
    cases, out = cases_in(tmp_path, "a", "b"), tmp_path / "out"
    first = run(cases, out)
    table = (out / "summary.csv").read_bytes()
    assert work.done == ["a", "b"]
    again = run(cases_in(tmp_path, "a", "b"), out)
    assert work.done == ["a", "b"]
    assert "done before" in again["lines"][0]
    assert (out / "summary.csv").read_bytes() == table
    assert again["a"].score == first["a"].score
    assert sorted(path.name for path in (out / "a").iterdir()) == sorted(CASE_FILES)


def changed_input(folder: Path, out: Path) -> list[BatchCase]:
    time.sleep(0.01)
    (folder / "a/dsa.dcm").write_text("A")  # the same size
    return cases_in(folder, "a", "b")


def changed_setting(folder: Path, out: Path) -> list[BatchCase]:
    rows = [{"name": n, "cta": f"{n}/cta.nii", "dsa": f"{n}/dsa.dcm", "sid": "1200" if n == "a" else ""} for n in "ab"]
    return read_cases(write_table(folder / "cases.csv", *rows))


def lost_file(folder: Path, out: Path) -> list[BatchCase]:
    (out / "a/ctaToCarm.tfm").unlink()
    return cases_in(folder, "a", "b")


def damaged_record(folder: Path, out: Path) -> list[BatchCase]:
    (out / "a/case.json").write_text("{")
    return cases_in(folder, "a", "b")


@pytest.mark.parametrize("change", [changed_input, changed_setting, lost_file, damaged_record])
def test_only_what_changed_is_done_again(
    change: Callable[[Path, Path], list[BatchCase]], work: Work, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(cases_in(tmp_path, "a", "b"), out)
    work.done.clear()
    run(change(tmp_path, out), out)
    assert work.done == ["a"]


def test_other_working_folder_is_the_same_case(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(cases_in(tmp_path, "a"), tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    run(read_cases(Path("cases.csv")), Path("out"))
    assert work.done == ["a"]


def bad_input() -> None:
    raise InputError([Message("One thing is wrong", give=("sid",)), "Another too."])


def fault() -> None:
    raise ZeroDivisionError("Doe^Jane")


def no_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize("trouble", [bad_input, fault, no_memory])
def test_bad_case_is_reported_and_the_rest_go_on(trouble: Callable[[], None], work: Work, tmp_path: Path) -> None:
    work.faults["b"] = trouble
    out = tmp_path / "out"
    results = run(cases_in(tmp_path, "a", "b", "c"), out)
    assert [row["status"] for row in summary(out)] == ["done", "failed", "done"]
    assert not (out / "b").exists()
    assert "Doe" not in (out / "summary.csv").read_text() + "".join(results["lines"])
    message = summary(out)[1]["message"]
    if trouble is bad_input:
        assert message == "One thing is wrong. Fill column sid. Another too."
    assert message
    assert work.done == ["a", "b", "c"]
    work.faults.clear()
    run(cases_in(tmp_path, "a", "b", "c"), out)
    assert work.done == ["a", "b", "c", "b"]


def test_earlier_result_survives_a_failure_and_is_told(work: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(cases_in(tmp_path, "a"), out)
    work.faults["a"] = bad_input
    time.sleep(0.01)
    (tmp_path / "a/cta.nii").write_text("changed")
    run(cases_in(tmp_path, "a"), out)
    assert (out / "a/registration.json").is_file()
    assert "result of an earlier run" in summary(out)[0]["message"]


def test_interrupted_batch_goes_on_where_it_stopped(work: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def cancel() -> None:
        raise Cancelled

    work.faults["b"] = cancel
    results = run(cases_in(tmp_path, "a", "b", "c"), out)
    assert [results[name].status for name in "abc"] == ["done", "waiting", "waiting"]
    assert [row["status"] for row in summary(out)] == ["done", "waiting", "waiting"]
    assert sorted(path.name for path in out.iterdir()) == ["a", "summary.csv"]
    work.faults.clear()
    run(cases_in(tmp_path, "a", "b", "c"), out)
    assert work.done == ["a", "b", "b", "c"]


def test_stopped_between_cases(work: Work, tmp_path: Path) -> None:
    results = run(cases_in(tmp_path, "a", "b"), tmp_path / "out", lambda: bool(work.done))
    assert [results[name].status for name in "ab"] == ["done", "waiting"]


def test_scene_that_cannot_be_written_leaves_no_folder(work: Work, tmp_path: Path) -> None:
    def no_scene(outcome: Outcome, job: RegisterJob, path: Path) -> None:
        raise OSError("no scene")

    out = tmp_path / "out"
    (result,) = run_cases(cases_in(tmp_path, "a"), out, no_scene, lambda line: None, lambda: False)
    assert result.status == "failed"
    assert [path.name for path in out.iterdir()] == ["summary.csv"]


def test_summary_has_state_probability_and_error(work: Work, tmp_path: Path) -> None:
    """None of them for a result of a version that did not judge, nor for a case that failed."""
    without = work.outcome
    sure = replace(without.registration, confidence=Confidence(0.98765, 0.8, "accepted", ()))
    work.faults["a"] = lambda: setattr(work, "outcome", replace(without, registration=sure))
    work.faults["b"] = lambda: setattr(work, "outcome", without)
    work.faults["c"] = bad_input
    lines = run(cases_in(tmp_path, "a", "b", "c"), tmp_path / "out")["lines"]
    assert [(row["state"], row["probability"], row["expected_error_mm"]) for row in summary(tmp_path / "out")] == [
        ("accepted", "0.9877", "0.80"),
        ("", "", ""),
        ("", "", ""),
    ]
    assert any("a: ACCEPTED, done in" in line for line in lines)


def test_folder_of_somebody_else_is_not_touched(work: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a/thesis.doc").write_text("years")
    results = run(cases_in(tmp_path, "a", "b"), out)
    assert results["a"].status == "failed"
    assert (out / "a/thesis.doc").read_text() == "years"
    assert results["b"].status == "done"


def test_summary_held_open_by_a_spreadsheet_stops_nothing(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = batch.write_summary
    calls = []

    def sometimes(out: Path, results: list[batch.CaseResult]) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise InputError("The summary is open elsewhere.")
        write(out, results)

    monkeypatch.setattr(batch, "write_summary", sometimes)
    results = run(cases_in(tmp_path, "a", "b"), tmp_path / "out")
    assert any("open elsewhere" in line for line in results["lines"])
    assert [row["status"] for row in summary(tmp_path / "out")] == ["done", "done"]


def test_paths_do_not_reach_the_summary(work: Work, tmp_path: Path) -> None:
    folder = tmp_path / "Doe_Jane 1950"
    series = folder / "CT Doe"
    series.mkdir(parents=True)
    (series / "Doe001.dcm").write_text("")
    (folder / "Doe.dcm").write_text("")

    def named() -> None:
        raise InputError(
            f"{series} is odd; {series / 'Doe001.dcm'} too, so Doe001.dcm goes. {folder / 'Doe.dcm'} and Doe.dcm."
        )

    work.faults[folder.name] = named
    row = {"name": "case1", "cta": "Doe_Jane 1950/CT Doe", "dsa": "Doe_Jane 1950/Doe.dcm"}
    results = run(read_cases(write_table(tmp_path / "cases.csv", row)), tmp_path / "out")
    assert "Doe" not in (tmp_path / "out/summary.csv").read_text() + "".join(results["lines"])
    assert results["case1"].message.startswith("<cta> is odd; <cta>/a file too, so a file goes. <dsa> and <dsa>.")


def test_wrong_rows_are_told_and_the_rest_are_done(work: Work, tmp_path: Path) -> None:
    """By row, in the summary too; of two rows with one name the first is done; too many cells are one row's trouble."""
    cases_in(tmp_path, "a", "b")
    text = (
        "name,cta,dsa,sid\na,a/cta.nii,a/dsa.dcm,far\nb,b/cta.nii,b/dsa.dcm,1200\nB,b/cta.nii,b/dsa.dcm,\nc,x,y,1,2\n"
    )
    (tmp_path / "cases.csv").write_text(text)
    results = run(read_cases(tmp_path / "cases.csv"), tmp_path / "out")
    assert work.done == ["b"]
    rows = summary(tmp_path / "out")
    assert [(row["name"], row["status"]) for row in rows] == [
        ("a", "failed"),
        ("b", "done"),
        ("row 4", "failed"),
        ("c", "failed"),
    ]
    for row, said in zip(rows, ("Row 2, column sid", "", 'Row 4, column name: "B"', "Row 5 has 5 cells"), strict=True):
        assert said in row["message"]
        assert not said or any(said in line for line in results["lines"])


@pytest.mark.parametrize("workers", [1, 2])
def test_started_again_after_it_finished_the_summary_stays(work: Work, tmp_path: Path, workers: int) -> None:
    """Nothing is left to share out among workers; and whatever ends the second run, what is done stands in the summary."""
    cases, out = cases_in(tmp_path, "a", "b"), tmp_path / "out"
    run(cases, out)
    table = (out / SUMMARY).read_bytes()
    again = run_cases(cases, out, no_scene, lambda line: None, lambda: False, workers)
    assert [result.status for result in again] == ["done", "done"]
    assert (out / SUMMARY).read_bytes() == table
    with pytest.raises(InputError, match="exclude each other"):
        run_cases(cases, out, no_scene, lambda line: None, lambda: False, 2, "tcp://127.0.0.1:9")
    assert (out / SUMMARY).read_bytes() == table
    (out / SUMMARY).unlink()
    run_cases(cases, out, no_scene, lambda line: None, lambda: False, workers)
    assert (out / SUMMARY).read_bytes() == table
    assert work.done == ["a", "b"]


def test_the_summary_never_forgets_a_result(work: Work, tmp_path: Path) -> None:
    """Of inputs that have changed, of a row that is wrong now, of a case that the table no longer has."""
    out = tmp_path / "out"
    run(cases_in(tmp_path, "a", "b", "c", "d"), out)
    cases_in(tmp_path, "a", "b", "c")
    changed = [
        {"name": n, "cta": f"{n}/cta.nii", "dsa": f"{n}/dsa.dcm", "sid": s}
        for n, s in zip("abc", ("1200", "far", ""), strict=True)
    ]
    table = write_table(tmp_path / "cases.csv", *changed)
    run(read_cases(table), out, lambda: True)  # stopped before the first
    told = [(row["name"], row["status"], row["score"], row["message"]) for row in summary(out)]
    earlier = "Its folder holds the result of an earlier run, with other inputs or settings."
    assert [row[:3] for row in told] == [
        ("a", "waiting", "0.7000"),
        ("b", "failed", "0.7000"),
        ("c", "done", "0.7000"),
        ("d", "earlier", "0.7000"),
    ]
    assert told[0][3] == earlier
    assert told[1][3].endswith(earlier)
    assert told[2][3] == "The patient moved."
    assert told[3][3] == "Not in the table of the last run."


def test_two_batches_in_one_folder_refuse_each_other(work: Work, tmp_path: Path) -> None:
    cases, out = cases_in(tmp_path, "a"), tmp_path / "out"
    work.faults["a"] = lambda: run_cases(cases, out, no_scene, lambda line: None, lambda: False) and None
    (result,) = run_cases(cases, out, no_scene, lambda line: None, lambda: False)
    assert f"worked in by process {os.getpid()} on {os.uname().nodename}" in result.message
    assert [row["status"] for row in summary(out)] == ["failed"]
    assert not (out / LOCK).exists()


def no_scene(outcome: Outcome, job: RegisterJob, path: Path) -> None:
    path.write_bytes(b"scene")


def test_nobody_who_reads_stops_nothing(work: Work, tmp_path: Path) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError

    results = run_cases(cases_in(tmp_path, "a", "b"), tmp_path / "out", no_scene, gone, lambda: False)
    assert [result.status for result in results] == ["done", "done"]


def test_leftovers_of_a_killed_process_go(work: Work, tmp_path: Path) -> None:
    """What `output_folder` could not clear away; of this case only, not of one whose name begins alike."""
    out = tmp_path / "out"
    for name in (".a.12345678.partial", ".a.b.12345678.partial", ".a.12345678.old"):
        (out / name).mkdir(parents=True)
    run(cases_in(tmp_path, "a"), out)
    assert sorted(path.name for path in out.iterdir()) == [
        ".a.12345678.old",
        ".a.b.12345678.partial",
        "a",
        "summary.csv",
    ]
