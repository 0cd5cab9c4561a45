"""`deepiterreg batch`: the same table and the same files with one process or several; a patient's CTA is read once."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from case_tables import summary, write_table
from repository import ROOT
from typer.testing import CliRunner

from DeepIterRegLib.cases import cta_cache
from DeepIterRegLib.cases.batch import RECORD
from DeepIterRegLib.cases.cta_cache import CtaCache
from DeepIterRegLib.cases.table import SUMMARY, read_cases
from DeepIterRegLib.cli import app
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.results.report.outputs import REGISTRATION_FILES, files_of_frames
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation

# From the truth, and with vessels, which need not be found: quick.
LONG = {"cta": "cta.nii.gz", "dsa": "dsa.dcm"}
UNSEGMENTED = {**LONG, "init": "truth.tfm", "reference": "truth.tfm"}
GOOD = {**UNSEGMENTED, "cta_mask": "arteries.nii.gz"}


@pytest.fixture
def patient(patient_folder: Path, tmp_path: Path) -> Path:
    for name in ("cta.nii.gz", "dsa.dcm", "truth.tfm", "arteries.nii.gz"):
        (tmp_path / name).symlink_to(patient_folder / name)
    return tmp_path


def batch(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["batch", *map(str, arguments)])
    return result.exit_code, result.output


def test_workers_give_what_one_process_gives(patient: Path) -> None:
    """Two cases, a wrong row and a bad case; then nothing is left to do, whoever asks; poses are the same to the bit."""
    good = [{"name": "one", **GOOD}, {"name": "two", **GOOD, "seed": "5"}]
    wrong, bad = {"name": "wrong", **GOOD, "sid": "far"}, {"name": "bad", **GOOD, "dsa": "absent.dcm"}
    table = write_table(patient / "cases.csv", wrong, bad, *good)
    out = patient / "out"
    code, said = batch("--cases", table, "--out", out, "--workers", "2")
    assert code == 2, said
    assert [row["status"] for row in summary(out)] == ["failed", "failed", "done", "done"]
    assert said.count("Row 2, column sid") == 2  # in its turn, and as the error
    assert "Row 3, bad: dsa " in said
    assert all(float(row["mpe_mm"]) >= 0 for row in summary(out)[2:])
    for name in ("one", "two"):
        written = {path.name for path in (out / name).iterdir()} - set(files_of_frames(1))  # where the head moved
        assert written == {*REGISTRATION_FILES, RECORD}
    assert sorted(path.name for path in out.iterdir()) == ["one", SUMMARY, "two"]

    before = (out / "one" / "report.html").stat().st_mtime_ns
    code, said = batch("--cases", write_table(table, *good, bad), "--out", out)
    assert code == 3, said
    assert said.count("done before") == 2
    assert (out / "one" / "report.html").stat().st_mtime_ns == before

    code, said = batch("--cases", write_table(table, good[1]), "--out", patient / "alone")
    assert code == 0, said
    found, alone = (read_pose(folder / "two" / "registration.json") for folder in (out, patient / "alone"))
    assert np.array_equal(found, alone)


def test_a_patients_cta_is_read_and_segmented_once(patient: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cases, counted where it happens."""
    counted: list[str] = []

    def counting(name: str) -> Any:
        function = getattr(cta_cache, name)
        return lambda *arguments: counted.append(name) or function(*arguments)

    for name in ("load_volume", "segment_vessels"):
        monkeypatch.setattr(cta_cache, name, counting(name))
    table = write_table(
        patient / "cases.csv", {"name": "one", **UNSEGMENTED}, {"name": "two", **UNSEGMENTED, "seed": "5"}
    )
    code, said = batch("--cases", table, "--out", patient / "out")
    assert code == 0, said
    assert counted == ["load_volume", "segment_vessels"]


def test_cache_is_bounded_and_knows_changed_files_and_settings(tmp_path: Path, patient_folder: Path) -> None:
    cache = CtaCache(2)
    paths = [tmp_path / f"{n}.nii.gz" for n in range(3)]
    for path in paths:
        shutil.copy2(patient_folder / "cta.nii.gz", path)
    first = cache.volume(paths[0])
    assert cache.volume(paths[0]) is first
    second = weakref.ref(cache.volume(paths[1]))
    assert second() is not first
    assert cache.volume(paths[0]) is first
    cache.volume(paths[2])  # the second, used longest ago, goes
    gc.collect()
    assert second() is None
    assert cache.volume(paths[0]) is first
    os.utime(paths[0], ns=(1, 1))
    assert cache.volume(paths[0]) is not first
    cta = prepare_cta(load_volume(paths[2]))
    vessels = cache.vessels(paths[2], cta, CtaSegmentation())
    assert cache.vessels(paths[2], cta, CtaSegmentation()) is vessels
    assert cache.vessels(paths[2], cta, CtaSegmentation(working_spacing_mm=2.0)) is not vessels


def test_interrupted_by_ctrl_c_it_goes_on(patient: Path) -> None:
    """Whole folders only, whatever the moment; the same command ends the work."""
    table = write_table(
        patient / "cases.csv", {"name": "quick", **GOOD}, *({"name": n, **LONG} for n in ("long", "next"))
    )
    command = [
        sys.executable,
        "-m",
        "DeepIterRegLib.cli",
        "batch",
        "--cases",
        str(table),
        "--out",
        str(patient / "out"),
    ]
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert re.search(r"quick: (REJECTED, )?done", process.stdout.readline())  # whatever confidence says of it
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.strip() == "Error: Stopped. What is done is kept: the same command goes on."
    states = {row["name"]: row["status"] for row in summary(patient / "out")}
    assert states["quick"] == "done"
    assert "waiting" in states.values()
    assert sorted(path.name for path in (patient / "out").iterdir()) == sorted(
        [SUMMARY, *(name for name, state in states.items() if state == "done")]
    )
    assert json.loads((patient / "out/quick" / RECORD).read_text())["fingerprint"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", "2", "--scheduler", "tcp://127.0.0.1:9"), "exclude each other"),
        (("--cases", "absent.csv"), "does not exist"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], said: str, patient: Path) -> None:
    table = write_table(patient / "cases.csv", {"name": "one", **GOOD})
    code, output = batch("--cases", table, "--out", patient / "out", *arguments)
    assert code == 2
    assert said in output


def test_page_s_example_is_a_table_and_options_that_exist(tmp_path: Path) -> None:
    page = (ROOT / "Resources/Docs/many_patients.md").read_text(encoding="utf-8")
    (text,) = (
        block for block in re.findall(r"```csv cases\.csv\n(.*?)```", page, re.S) if block.startswith("name,cta,dsa")
    )
    (tmp_path / "cases.csv").write_text(text)
    cases = read_cases(tmp_path / "cases.csv")
    assert [(case.name, case.problems) for case in cases] == [("patient1", ()), ("patient2", ())]
    typed = re.findall(r"^deepiterreg batch (.*?)(?:#.*)?$", page, re.M)
    assert len(typed) == 3
    known = {name for parameter in typer.main.get_command(app).commands["batch"].params for name in parameter.opts}  # type: ignore[attr-defined]
    assert {word for line in typed for word in line.split() if word.startswith("-")} <= known


def test_page_s_cluster_starts_workers_of_one_thread() -> None:
    """The job that dask-jobqueue would hand to SLURM."""
    page = (ROOT / "Resources/Docs/many_patients.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python[^\n]*\n(.*?)```", page, re.S) if "SLURMCluster" in block)
    (call,) = re.findall(r"cluster = (SLURMCluster\(.*?\n    \))", code, re.S)
    from dask_jobqueue import SLURMCluster

    local = partial(SLURMCluster, scheduler_options={"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"})
    with eval(call, {"SLURMCluster": local}) as cluster:
        script = cluster.job_script()
    assert "--nthreads 1 " in script
    assert "--nworkers 4 " in script
    assert "export NUMBA_NUM_THREADS=1" in script
    assert "#SBATCH --cpus-per-task=4" in script
