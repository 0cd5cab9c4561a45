"""The script for many cases as it is started: on slicer-core alone, and in Slicer's place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from case_tables import summary, write_table
from repository import ROOT

import standin
from DeepIterRegLib.cases.batch import CASE_FILES
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.results.report.outputs import files_of_frames

SCRIPT = ROOT / "DeepIterReg/Scripts/register_cases.py"


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
    assert "dsa <dsa> does not exist" in stdout
    assert "Doe" not in stdout
    assert float(good["mpe_mm"]) < 5
    written = {path.name for path in (out / "good").iterdir()} - set(files_of_frames(1))  # where the head moved
    assert written == set(CASE_FILES)
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
