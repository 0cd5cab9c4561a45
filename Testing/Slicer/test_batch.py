"""The batch: table, resuming, what comes of a bad case; the script as it is started, on slicer-core alone and in Slicer's place."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import slicer

import standin
from DeepIterRegLib.cases import batch
from DeepIterRegLib.cases.batch import CASE_FILES, run_cases
from DeepIterRegLib.cases.case import Outcome
from DeepIterRegLib.cases.files import RegisterJob
from DeepIterRegLib.cases.table import BatchCase, read_cases
from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.registration.result import InitRecord, Registration
from DeepIterRegLib.results.report.outputs import REGISTRATION_FILES

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "DeepIterReg/Scripts/register_cases.py"


def write_table(path: Path, *rows: dict[str, Any], columns: tuple[str, ...] = ()) -> Path:
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def problems_of(text: str, folder: Path) -> list[str]:
    table = folder / "cases.csv"
    table.write_bytes(text.encode("utf-8"))
    with pytest.raises(InputError) as caught:
        read_cases(table)
    return list(caught.value.problems)


# -- the table -----------------------------------------------------------------------------------------


def test_table_becomes_jobs(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "matrix.txt", np.eye(3, 4))
    row = {
        "name": "case 1",
        "cta": "scans/cta.nii.gz",
        "dsa": "/runs/dsa.dcm",
        "init": "start.tfm",
        "pixel_spacing": "0.3, 0.2",
        "primary_angle": "-28.5",
        "sid": "1200",
        "sod": "",
        "mask_frames": "1,2",
        "seed": "7",
        "projection_matrix": "matrix.txt",
    }
    second = {"name": "case2", "cta": "a", "dsa": "b", "init": "search", "preset": "paper", "subtraction": "as_is"}
    columns = tuple(dict.fromkeys([*row, *second]))
    first, other = read_cases(write_table(tmp_path / "cases.csv", row, second, columns=columns), "cpu")
    assert first.job.cta == tmp_path / "scans/cta.nii.gz"
    assert first.job.dsa == Path("/runs/dsa.dcm")
    assert first.job.init == str(tmp_path / "start.tfm")
    assert first.job.geometry.pixel_spacing_mm == (0.3, 0.2)
    assert (first.job.geometry.primary_angle_deg, first.job.geometry.sid_mm, first.job.geometry.sod_mm) == (
        -28.5,
        1200,
        None,
    )
    assert first.job.geometry.projection_matrix is not None
    assert first.job.mask_frames == (0, 1)
    assert (first.job.seed, first.job.device) == (7, "cpu")
    assert (other.job.init, other.job.preset, other.job.subtraction) == ("search", "paper", "as_is")


def test_spreadsheets_of_other_countries(tmp_path: Path) -> None:
    """Excel's byte order mark, semicolons, capitals, spaces, empty lines."""
    (tmp_path / "cases.csv").write_bytes("\ufeffName; CTA ;dsa;sid\r\n\r\none;a.nii;b.dcm;1200\r\n;;;\r\n".encode())
    (case,) = read_cases(tmp_path / "cases.csv")
    assert (case.name, case.job.cta.name, case.job.geometry.sid_mm) == ("one", "a.nii", 1200)


def test_everything_wrong_with_a_table_is_said_at_once(tmp_path: Path) -> None:
    text = """name,cta,dsa,sid,pixel_spacing,mask_frames,preset,seed,subtraction,sod,projection_matrix
one,a,b,far,1 2 3,0,quick,-1,perhaps,inf,absent.txt
,a,,,,,,,,,
ONE,a,b,,,,,,,,
../up,a,b,,,,,,,,
"""
    problems = problems_of(text, tmp_path)
    for row, column in [
        (2, name)
        for name in ("sid", "pixel_spacing", "mask_frames", "preset", "seed", "subtraction", "projection_matrix")
    ] + [(3, "name"), (3, "dsa"), (4, "name"), (5, "name")]:
        assert [p for p in problems if p.startswith(f"Row {row}, column {column}")], (row, column, problems)
    assert any("quick" in p and "default, paper" in p for p in problems)
    assert any('"ONE" stands in row 2' in p for p in problems)
    assert len(problems) == 11


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


def test_typed_geometry_that_is_no_number_is_named_by_its_column(tmp_path: Path) -> None:
    (problem,) = problems_of("name,cta,dsa,sod\none,a,b,inf\n", tmp_path)
    assert problem == "Row 2: column sod needs finite numbers, not inf."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,cta,dsa\n", "has no case"),
        ("", "lacks the columns name, cta, dsa"),
        ("name,cta\nx,y\n", "lacks the column dsa"),
        ("name,cta,dsa,refrence\na,b,c,d\n", '"refrence" is not a column of this table; reference is meant?'),
        ("name,cta,dsa,cta\na,b,c,d\n", '"cta" stands there twice'),
        ("name,cta,dsa\na,b,c,0.3,0.3\n", "Row 2 has 5 cells for 3 columns"),
        ("name,cta,dsa\nsummary.csv,b,c\n", "cannot be the name of a folder"),
    ],
)
def test_bad_tables(text: str, expected: str, tmp_path: Path) -> None:
    assert any(expected in problem for problem in problems_of(text, tmp_path))


def test_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_cases(tmp_path / "no.csv")
    (tmp_path / "latin.csv").write_bytes("name,cta,dsa\nM\xfcller,a,b\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_cases(tmp_path / "latin.csv")


# -- resuming, with a registration that takes no time ----------------------------------------------------


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
    carm = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=8, columns=8, pixel_spacing_mm=(1.0, 1.0))
    registration = Registration(
        cta_to_carm=np.eye(4),
        carm=carm,
        centre_cta_mm=np.zeros(3),
        score=0.7,
        init=InitRecord("search", True, 0.6, 0.1),
        stages=(),
        seconds={"total": 1.0},
        warnings=("The patient moved.",),
        settings={},
        versions={},
    )
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


def summary(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
    raise InputError(["One thing is wrong: give --sid.", "Another too."])


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
        assert message == "One thing is wrong: give column sid. Another too."
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


# -- the script ----------------------------------------------------------------------------------------


def start(*arguments: str | Path, prelude: str = "", **environment: str) -> subprocess.Popen[str]:
    """The script as a program of its own; `prelude` runs before it, in the same interpreter."""
    code = f"import runpy, sys\n{prelude}\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    command = [sys.executable, "-c", code] if prelude else [sys.executable]
    return subprocess.Popen(
        [*command, str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


# From its truth: quick.
GOOD = {"name": "good", "cta": "cta.nii.gz", "dsa": "dsa.dcm", "init": "truth.tfm", "reference": "truth.tfm"}
BAD = {"name": "bad", "cta": "dsa.dcm", "dsa": "absent_Doe.dcm"}


@pytest.fixture
def patients(patient_folder: Path, tmp_path: Path) -> Path:
    """A folder with a table of a bad case and a good one."""
    for name in ("cta.nii.gz", "dsa.dcm", "truth.tfm"):
        shutil.copy2(patient_folder / name, tmp_path / name)
    write_table(tmp_path / "cases.csv", BAD, GOOD, columns=tuple(GOOD))
    return tmp_path


def test_script_outside_slicer(patients: Path) -> None:
    """On slicer-core alone: summary, the command line's files, a scene that opens with CTA and result; then nothing left to do."""
    out = patients / "out"
    code, stdout, stderr = finish(start("--cases", patients / "cases.csv", "--out", out, "--device", "cpu"))
    assert code == 3, stderr
    bad, good = summary(out)
    assert (bad["status"], good["status"]) == ("failed", "done")
    assert "Doe" not in (out / "summary.csv").read_text()
    assert "absent_Doe.dcm does not exist" in stdout  # said to the person at once, kept nowhere
    assert float(good["mpe_mm"]) < 5
    assert sorted(path.name for path in (out / "good").iterdir()) == sorted(CASE_FILES)
    found = json.loads((out / "good/registration.json").read_text())
    np.testing.assert_allclose(read_pose(out / "good/ctaToCarm.tfm"), found["ctaToCarm"], atol=1e-6)
    check_scene(out / "good/scene.mrb", np.array(found["ctaToCarm"]), patients / "cache")
    changed = (out / "good/scene.mrb").stat().st_mtime_ns
    for rows, expected in (((GOOD,), 0), (({**GOOD, "name": "wrong", "seed": "x"}, GOOD), 2)):
        write_table(patients / "cases.csv", *rows)
        code, stdout, stderr = finish(start("--cases", patients / "cases.csv", "--out", out, "--device", "cpu"))
        assert (code, stderr) == (expected, "")
        assert "done before" in stdout
    assert "wrong: FAILED. Row 2, column seed" in stdout
    assert (out / "good/scene.mrb").stat().st_mtime_ns == changed


def check_scene(path: Path, ctaToCarm: np.ndarray, cache: Path) -> None:
    """Opened again, the CTA lies in the C-arm's frame under the transform found, beside what else a result has."""
    cache.mkdir()
    scene = standin.newScene()
    reader = slicer.vtkMRMLRemoteIOLogic()
    reader.SetMRMLScene(scene)
    reader.GetCacheManager().SetRemoteCacheDirectory(str(cache))
    reader.AddDataIOToScene()
    assert scene.ReadFromMRB(str(path))
    cta = scene.GetFirstNodeByName("CTA")
    assert slicer.util.arrayFromVolume(cta).shape[0] > 100
    from DeepIterRegSlicer.scene.results import registrationsIn

    (nodes,) = registrationsIn(scene)
    assert cta.GetParentTransformNode() is nodes.ctaToCarm
    np.testing.assert_allclose(slicer.util.arrayFromTransformMatrix(nodes.ctaToCarm), ctaToCarm, atol=1e-6)
    assert nodes.frames.GetNumberOfDataNodes() > 1
    assert slicer.util.arrayFromVolume(nodes.projection).max() > 0
    standin.newScene()


# What `Slicer --no-main-window --python-script` has: an application without layout manager, and an exit of its own.
IN_SLICER = f"""
sys.path[:0] = [{str(ROOT / "Testing/Slicer")!r}]
import standin
standin.installSlicer()
import slicer
def leave(status=0):
    print("slicer.util.exit", status, flush=True)
    import os
    os._exit(40 + status if status < 100 else 99)
slicer.util.exit = leave
"""


def test_script_in_slicer_ends_slicer_by_itself(patients: Path) -> None:
    write_table(patients / "cases.csv", BAD)
    arguments = ("--", "--cases", patients / "cases.csv", "--out", patients / "out")
    code, stdout, stderr = finish(start(*arguments, prelude=IN_SLICER))
    assert code == 43, stderr
    assert stdout.splitlines()[-1] == "slicer.util.exit 3"
    assert [row["status"] for row in summary(patients / "out")] == ["failed"]


@pytest.mark.parametrize(
    ("arguments", "expected", "said"),
    [
        (("--", "--help"), 0, "--cases"),
        (("--", "--cases", "absent.csv", "--out", "out"), 2, "absent.csv does not exist"),
        (("--", "--out", "out"), 2, "required: --cases"),
        (("--", "--cases", "absent.csv", "--out", "out", "--quick"), 2, "unrecognized"),
    ],
)
def test_script_in_slicer_always_ends(arguments: tuple[str, ...], expected: int, said: str, tmp_path: Path) -> None:
    code, stdout, stderr = finish(
        start(*arguments, prelude=IN_SLICER + f"\nos = __import__('os'); os.chdir({str(tmp_path)!r})")
    )
    assert code == 40 + expected, stderr
    assert said in stdout + stderr
    assert "Traceback" not in stderr


def test_script_says_what_is_missing_in_slicer(patients: Path) -> None:
    """In Slicer's testing mode, or without --install, nothing is installed; a sentence, no traceback."""
    prelude = IN_SLICER + 'standin.hidePackages("numba")\n'
    code, _, stderr = finish(start("--", "--cases", patients / "cases.csv", "--out", patients / "out", prelude=prelude))
    assert code == 42
    assert stderr.startswith("Error: Python packages are missing: numba>=0.61.")
    assert not (patients / "out").exists()


def test_ctrl_c_leaves_whole_cases_only(patients: Path) -> None:
    """Stopped in the middle of a case: exit code 130, no half a folder, and the next run does it."""
    row = {"name": "good", "cta": "cta.nii.gz", "dsa": "dsa.dcm"}
    write_table(patients / "cases.csv", row, {**row, "name": "next"})
    process = start("--cases", patients / "cases.csv", "--out", patients / "out")
    assert process.stdout is not None
    assert "good: started" in process.stdout.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    code, _, stderr = finish(process)
    assert code == 130, stderr
    assert stderr == ""
    assert [row["status"] for row in summary(patients / "out")] == ["waiting", "waiting"]
    assert [path.name for path in (patients / "out").iterdir()] == ["summary.csv"]
