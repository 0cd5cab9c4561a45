"""The module's own test as Slicer runs it, in a process of its own; and that it sees what is wrong. Sample Data."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import types
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

import standin
from DeepIterRegLib.cases.case import Outcome, register_case
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.progress import Progress
from DeepIterRegSlicer import dependencies, logic, sample_data, selftest
from DeepIterRegSlicer.scene import fill as fillNodes
from DeepIterRegSlicer.scene import prepare as prepared

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
standin.install()

ROOT = Path(__file__).resolve().parents[2]

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


def nothing_wrong(right: Outcome, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    return right


def pose_off(right: Outcome, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Half a centimetre on the detector and more: only the truth tells, scene and record agree."""
    return replace(right, registration=replace(right.registration, mpe_mm_to_reference=5.5))


def transform_inverted(right: Outcome, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    fill = fillNodes._fillTransform
    inverted = np.linalg.inv(right.registration.cta_to_carm)
    monkeypatch.setattr(fillNodes, "_fillTransform", lambda node, r: fill(node, replace(r, cta_to_carm=inverted)))
    return right


def images_shifted(right: Outcome, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    place = fillNodes._place

    def shifted(node: Any, image: Any, carm: Any) -> None:
        place(node, image, carm)
        node.SetOrigin(*(value + 0.1 for value in node.GetOrigin()))

    monkeypatch.setattr(fillNodes, "_place", shifted)
    return right


def vessels_left_behind(right: Outcome, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    fill = fillNodes._fillVessels

    def loose(node: Any, *rest: Any) -> None:
        fill(node, *rest)
        node.SetAndObserveTransformNodeID(None)

    monkeypatch.setattr(fillNodes, "_fillVessels", loose)
    return right


@pytest.mark.parametrize(
    "fault",
    [nothing_wrong, pose_off, transform_inverted, images_shifted, vessels_left_behind],
    ids=lambda f: f.__name__,
)
def test_selftest_sees_what_is_wrong(
    fault: Any, outcome: Outcome, patient_folder: Path, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fault(outcome, monkeypatch)
    monkeypatch.setattr(logic.DeepIterRegLogic, "run", lambda self, case: prepared.prepareToShow(made))
    monkeypatch.setattr(
        selftest, "makeSmallPatient", lambda folder: shutil.copytree(patient_folder, folder, dirs_exist_ok=True)
    )
    result = unittest.TestResult()
    selftest.DeepIterRegTest("test_registersAPatient").run(result)
    assert result.errors == []
    assert len(result.failures) == (fault is not nothing_wrong)


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


def test_sample_data_loads_what_registration_needs(
    sources: list[dict[str, Any]], scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The button makes the patient once, without a network, and loads it from Slicer's cache afterwards."""
    sample_data.register()
    (source,) = sources
    assert Path(source["thumbnailFileName"]).is_file()
    made = []

    def small(folder: Path) -> None:
        made.append(folder)
        selftest.makeSmallPatient(folder)

    monkeypatch.setattr(sample_data, "_makeDemoPatient", small)
    remote = slicer.vtkMRMLRemoteIOLogic()  # Slicer has one
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()
    scene.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("network"))
    source["customDownloader"](source)
    source["customDownloader"](source)
    assert len(made) == 1
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 2
    cta, truth = scene.GetFirstNodeByName("CTA"), scene.GetFirstNodeByName("true ctaToCarm")
    assert slicer.util.arrayFromVolume(cta).max() > 500
    assert abs(np.linalg.det(slicer.util.arrayFromTransformMatrix(truth)[:3, :3]) - 1) < 1e-6
    from DeepIterRegSlicer.logic import DeepIterRegLogic

    values = DeepIterRegLogic().cArmOf(scene.GetFirstNodeByName("DSA"))
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


def test_sample_data_asks_for_packages_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(dependencies, "ensure", lambda: asked.append(1))
    monkeypatch.setattr(sample_data, "loadPatient", lambda folder, make: None)
    monkeypatch.setattr(sample_data, "_cacheFolder", lambda: tmp_path)
    sample_data.loadDemoPatient()
    assert asked == [1]
