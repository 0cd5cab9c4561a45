"""The module's own test as Slicer runs it, in a process of its own; and that it sees what is wrong. Sample Data."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import types
import unittest
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from repository import ROOT

import standin
from DeepIterRegLib import phantom
from DeepIterRegLib.cases.case import Outcome, register_case
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.phantom import Patient
from DeepIterRegSlicer import dependencies, logic, sample_data, selftest
from DeepIterRegSlicer.scene import prepare as prepared

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
standin.install()

# `slicer.testing.runUnitTest`: the tests of the module's file by unittest's loader.
RUN = """
import sys, unittest
import standin
standin.install()
PRELUDE
standin.loadModule("MODULE")
suite = unittest.TestLoader().loadTestsFromName("DeepIterReg")
print("found", suite.countTestCases())
result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
print("slots", standin.slotErrors)
sys.exit(not result.wasSuccessful() or bool(standin.slotErrors))
"""


def run_selftest(prelude: str = "") -> subprocess.CompletedProcess[str]:
    code = RUN.replace("MODULE", str(ROOT / "DeepIterReg/DeepIterReg.py")).replace("PRELUDE", prelude)
    path = os.pathsep.join(map(str, (ROOT / "Testing/Slicer", ROOT / "DeepIterReg", ROOT)))
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)


def test_selftest_passes() -> None:
    done = run_selftest()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found 2" in done.stdout
    assert "OK\n" in done.stdout
    assert "skipped" not in done.stdout


@pytest.fixture(scope="module")
def outcome(patient_folder: Path) -> Outcome:
    """A right registration of the small patient, from its truth: quick."""
    truth = patient_folder / "truth.tfm"
    job = RegisterJob(
        cta=patient_folder / "cta.nii.gz", dsa=patient_folder / "dsa.dcm", init=str(truth), reference=truth
    )
    return register_case(case_of_files(job), Progress())


def nothing_wrong(nodes: Any) -> None:
    """The scene as it should be."""


def transform_inverted(nodes: Any) -> None:
    matrix = slicer.util.arrayFromTransformMatrix(nodes.ctaToCarm)
    nodes.ctaToCarm.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.linalg.inv(matrix)))


def images_shifted(nodes: Any) -> None:
    for node in (nodes.projection, nodes.minip, nodes.frame):
        node.SetOrigin(*(value + 0.1 for value in node.GetOrigin()))


def vessels_left_behind(nodes: Any) -> None:
    nodes.vessels.SetAndObserveTransformNodeID(None)


@pytest.fixture
def judge(patient_folder: Path, scene: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., unittest.TestResult]:
    """The self-test with a registration that is given, on a scene that something has been done to."""

    def judged(outcome: Outcome, spoil: Callable[[Any], None]) -> unittest.TestResult:
        show = logic.DeepIterRegLogic.show

        def spoilt(self: Any, *arguments: Any) -> Any:
            nodes = show(self, *arguments)
            spoil(nodes)
            return nodes

        monkeypatch.setattr(logic.DeepIterRegLogic, "run", lambda self, case: prepared.prepareToShow(outcome))
        monkeypatch.setattr(logic.DeepIterRegLogic, "show", spoilt)
        monkeypatch.setattr(
            selftest, "makeSmallPatient", lambda folder: shutil.copytree(patient_folder, folder, dirs_exist_ok=True)
        )
        result = unittest.TestResult()
        selftest.DeepIterRegTest("test_registersAPatient").run(result)
        assert result.errors == []
        return result

    return judged


@pytest.mark.parametrize(
    "spoil", [nothing_wrong, transform_inverted, images_shifted, vessels_left_behind], ids=lambda f: f.__name__
)
def test_selftest_sees_what_is_wrong_in_the_scene(spoil: Any, outcome: Outcome, judge: Any) -> None:
    assert len(judge(outcome, spoil).failures) == (spoil is not nothing_wrong)


def test_selftest_sees_a_pose_that_is_off(outcome: Outcome, judge: Any) -> None:
    """Half a centimetre on the detector and more: only the truth tells, scene and record agree."""
    off = replace(outcome, registration=replace(outcome.registration, mpe_mm_to_reference=5.5))
    assert len(judge(off, nothing_wrong).failures) == 1


def test_selftest_without_the_packages_says_so() -> None:
    prelude = """
standin.hidePackages("numba")
import slicer
type(slicer.app).testingEnabled = lambda self: True
"""
    done = run_selftest(prelude)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall("skipped .Python packages are missing: numba", done.stdout)) == 2


# -- Sample Data -----------------------------------------------------------------------------------------


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was registered in `SampleData`, whose functions here have the signatures of Slicer 5.12."""
    registered: list[dict[str, Any]] = []

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataCategory(category: str, title: str) -> None:
            assert title

        @staticmethod
        def registerCustomSampleDataSource(
            category: str = "Custom",
            sampleName: str | None = None,
            uris: Any = None,
            fileNames: Any = None,
            nodeNames: Any = None,
            customDownloader: Any = None,
            thumbnailFileName: str | None = None,
            loadFileTypes: Any = None,
            loadFiles: Any = None,
            loadFileProperties: Any = None,
            checksums: Any = None,
        ) -> None:
            assert isinstance(uris, str)  # Slicer counts the entries of all fields; one string is one of each
            assert isinstance(fileNames, str)
            registered.append({k: v for k, v in locals().items() if k != "registered"})

    module = types.ModuleType("SampleData")
    vars(module)["SampleDataLogic"] = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return registered


def cacheIn(scene: Any, folder: Path) -> None:
    """Give the scene the cache of remote files that Slicer's has."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()
    scene.GetCacheManager().SetRemoteCacheDirectory(str(folder))


def test_sample_data_loads_what_registration_needs(
    sources: list[dict[str, Any]],
    small_patient: Patient,
    scene: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The button makes the patient once, without a network, and loads it from Slicer's cache afterwards."""
    sample_data.register()
    (source,) = sources
    assert Path(source["thumbnailFileName"]).is_file()
    # What Slicer shows on the button; and what `downloadSample` finds a sample by, which would then look for a file in the network.
    assert source["nodeNames"] == "CTA and DSA of a synthetic head"
    assert source["sampleName"] is None
    made = []

    def small(seed: int) -> Patient:
        made.append(seed)
        return small_patient

    monkeypatch.setattr(phantom, "make_patient", small)
    cacheIn(scene, tmp_path)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("network"))
    source["customDownloader"](source)
    source["customDownloader"](source)
    assert made == [sample_data.SEED]
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 2
    cta, truth = scene.GetFirstNodeByName("CTA"), scene.GetFirstNodeByName("true ctaToCarm")
    assert slicer.util.arrayFromVolume(cta).max() > 500
    assert abs(np.linalg.det(slicer.util.arrayFromTransformMatrix(truth)[:3, :3]) - 1) < 1e-6
    from DeepIterRegSlicer.logic import DeepIterRegLogic

    (run, _again) = [
        node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if node.GetName().startswith("DSA")
    ]
    values = DeepIterRegLogic().cArmOf(run)
    assert values["sid_mm"].value > 900


def test_declined_packages_are_a_sentence(
    sources: list[dict[str, Any]], scene: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def decline() -> None:
        raise InputError("Python packages are missing: numba.")

    monkeypatch.setattr(dependencies, "ensure", decline)
    sample_data.register()
    sources[0]["customDownloader"](sources[0])
    assert "could not be made.\n\nPython packages are missing: numba." in caplog.text + "".join(standin.messages)


def test_patient_that_could_not_be_made_leaves_nothing(scene: Any, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "cta.nii.gz").write_text("half")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        sample_data.loadPatient(tmp_path / "patient", fail)
    assert list(tmp_path.iterdir()) == []
    assert scene.GetFirstNodeByName("CTA") is None


def test_sample_data_asks_for_packages_first(scene: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cacheIn(scene, tmp_path)
    called = []
    monkeypatch.setattr(dependencies, "ensure", lambda: called.append("packages"))
    monkeypatch.setattr(sample_data, "loadPatient", lambda folder, make: called.append("patient"))
    sample_data.loadDemoPatient()
    assert called == ["packages", "patient"]
