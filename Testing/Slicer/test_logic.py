"""The logic on a synthetic patient in the real scene: from nodes to the pose, as the console, the panel and the batch use it."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from repository import ROOT

import DeepIterRegSlicer
import scenes
from DeepIterRegLib.cases.files import RegisterJob, register_files
from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.common.progress import Progress, ProgressEvent, ShouldStop
from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.geometry.pose_files import read_pose, write_tfm
from DeepIterRegLib.registration.steps import Step
from DeepIterRegSlicer.logic import WARMED_UP, DeepIterRegLogic, RegistrationOptions
from DeepIterRegSlicer.nodes import frames, volumes
from DeepIterRegSlicer.scene import results
from DeepIterRegSlicer.worker import Failed, Finished, Worker


def loadCta(folder: Path) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CTA")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(folder / "cta.nii.gz"))
    assert storage.ReadData(node)
    return node


def loadLabels(path: Path) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", path.name.split(".")[0])
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


@pytest.fixture
def patient(scene: Any, patient_folder: Path) -> tuple[Any, Any]:
    """CTA and DSA nodes."""
    return loadCta(patient_folder), DeepIterRegLogic().loadAngiogram(patient_folder / "dsa.dcm")


def nearTruth(folder: Path) -> np.ndarray:
    """A start some degrees and millimetres off: no search is needed, so tests stay short."""
    shift = np.asarray(pose.se3_exp(np.array([0.03, -0.04, 0.03, 3.0, -2.0, 3.0])))
    return shift @ read_pose(folder / "truth.tfm")


def quick(folder: Path, **options: Any) -> RegistrationOptions:
    return RegistrationOptions(init="transform", initialTransform=scenes.addTransform(nearTruth(folder)), **options)


def quickest(folder: Path, **options: Any) -> RegistrationOptions:
    """`quick`, and the CTA's vessels are brought."""
    masks = {
        name: loadLabels(folder / f"{file}.nii.gz") for name, file in (("vessels", "arteries"), ("veins", "veins"))
    }
    return quick(folder, **masks, **options)


def errorOf(registration: Any, folder: Path) -> float:
    truth = read_pose(folder / "truth.tfm")
    return float(mpe_mm(registration.carm, registration.cta_to_carm, truth, registration.centre_cta_mm))


def nodesByName() -> list[str]:
    scene = slicer.mrmlScene
    return sorted(f"{scene.GetNthNode(n).GetID()}" for n in range(scene.GetNumberOfNodes()))


# -- the whole way ----------------------------------------------------------------------------------------------


def test_panel_batch_and_command_line_find_the_same_pose(
    patient: tuple[Any, Any], patient_folder: Path, tmp_path: Path
) -> None:
    logic = DeepIterRegLogic()
    reference = scenes.addTransform(read_pose(patient_folder / "truth.tfm"))
    events: list[ProgressEvent] = []
    options = quick(patient_folder, referenceTransform=reference, seed=3)
    outcome = logic.run(logic.prepare(*patient, options), Progress(events.append))
    registration = outcome.registration
    assert errorOf(registration, patient_folder) < 5
    assert registration.mpe_mm_to_reference == pytest.approx(errorOf(registration, patient_folder), abs=1e-6)
    steps = {event.step for event in events}
    assert {Step.READ_DSA, Step.READ_CTA, Step.SEGMENT_CTA, Step.SEGMENT_DSA, Step.REFINE, Step.PREPARE_VIEWS} <= steps
    overall = [event.overall for event in events]
    assert overall == sorted(overall)
    assert (overall[0], overall[-1]) == (0.0, 1.0)

    start = tmp_path / "start.tfm"
    write_tfm(start, nearTruth(patient_folder))
    job = RegisterJob(cta=patient_folder / "cta.nii.gz", dsa=patient_folder / "dsa.dcm", init=str(start), seed=3)
    (tmp_path / "out").mkdir()
    by_files = register_files(job, tmp_path / "out", Progress())
    assert by_files.input_hashes["dsa"] == registration.input_hashes["dsa"]
    apart = mpe_mm(registration.carm, registration.cta_to_carm, by_files.cta_to_carm, registration.centre_cta_mm)
    assert float(apart) < 0.01


def test_registered_cta_is_registered_again_from_where_it_was_scanned(
    patient: tuple[Any, Any], patient_folder: Path
) -> None:
    logic, (cta, dsa) = DeepIterRegLogic(), patient
    options = quickest(patient_folder)
    nodes = logic.show(logic.run(logic.prepare(cta, dsa, options)))
    results.placeUnder(nodes.ctaToCarm, cta)
    again = replace(options, initialTransform=nodes.ctaToCarm)
    outcome = logic.run(logic.prepare(cta, dsa, again))
    assert outcome.registration.init.accepted
    assert errorOf(outcome.registration, patient_folder) < 5
    nodes = logic.show(outcome, nodes)
    assert cta.GetParentTransformNode() is nodes.ctaToCarm


def test_brought_masks_replace_the_segmentation(patient: tuple[Any, Any], patient_folder: Path) -> None:
    arteries, veins = (loadLabels(patient_folder / f"{name}.nii.gz") for name in ("arteries", "veins"))
    shape = slicer.util.arrayFromVolume(patient[1])[0].shape
    drawn = np.zeros((1, *shape), bool)
    drawn[0, 60:-60, 60:-60] = True
    dsaMask = scenes.addSegmentation({"drawn": drawn}, volumes.ijkToRas(patient[1]))
    logic = DeepIterRegLogic()
    options = quick(patient_folder, vessels=arteries, veins=veins, dsaMask=dsaMask)
    outcome = logic.run(logic.prepare(*patient, options))
    wanted = (slicer.util.arrayFromVolume(arteries) != 0) | (slicer.util.arrayFromVolume(veins) != 0)
    np.testing.assert_array_equal(outcome.vessels.voxels, wanted)
    np.testing.assert_array_equal(outcome.dsa_masks.vessels, drawn[0])


# -- on a thread, stopped, and with the scene changing underneath ------------------------------------------------


def test_run_touches_no_node(patient: tuple[Any, Any], patient_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logic = DeepIterRegLogic()
    case = logic.prepare(*patient, quickest(patient_folder))
    before, changed = nodesByName(), slicer.mrmlScene.GetMTime()
    monkeypatch.setattr(slicer, "mrmlScene", None)
    worker = Worker(lambda tell, stop: logic.run(case, tell, stop))
    assert worker.wait(120)
    monkeypatch.undo()
    assert isinstance(worker.events()[-1], Finished)
    assert nodesByName() == before
    assert slicer.mrmlScene.GetMTime() == changed


@pytest.mark.parametrize("step", [Step.READ_DSA, Step.SEGMENT_CTA, Step.REFINE])
def test_cancel_at_any_step_leaves_the_scene_alone(patient: tuple[Any, Any], patient_folder: Path, step: Step) -> None:
    logic = DeepIterRegLogic()
    case = logic.prepare(*patient, quick(patient_folder))
    before = nodesByName()
    stop = threading.Event()

    def tell(event: ProgressEvent) -> None:
        if event.step is step:
            stop.set()

    with pytest.raises(Cancelled):
        logic.run(case, Progress(tell), stop.is_set)
    assert nodesByName() == before


def test_worker_cancels_a_search(patient: tuple[Any, Any]) -> None:
    logic = DeepIterRegLogic()
    case = logic.prepare(*patient, RegistrationOptions(init="search"))
    reached = threading.Event()

    def job(progress: Progress, stop: ShouldStop) -> Any:
        def report(event: ProgressEvent) -> None:
            if event.step is Step.SEARCH:
                reached.set()
            progress(event.step, event.done)

        return logic.run(case, Progress(report), stop)

    worker = Worker(job)
    while worker.running and not reached.wait(0.1):
        pass
    assert reached.is_set(), worker.events()
    worker.cancel()
    assert worker.wait(20)
    end = worker.events()[-1]
    assert isinstance(end, Failed)
    assert end.cancelled


@pytest.mark.parametrize("event", ["nodes deleted", "scene closed"])
def test_inputs_gone_between_prepare_and_show(patient: tuple[Any, Any], patient_folder: Path, event: str) -> None:
    logic = DeepIterRegLogic()
    case = logic.prepare(*patient, quickest(patient_folder))
    if event == "nodes deleted":
        for node in (frames.sequenceOf(patient[1]), *patient):
            slicer.mrmlScene.RemoveNode(node)
    else:
        slicer.mrmlScene.Clear(0)
    outcome = logic.run(case)
    assert errorOf(outcome.registration, patient_folder) < 5
    nodes = logic.show(outcome)
    assert all(getattr(nodes, field.name) is not None for field in fields(nodes))


# -- bad input ----------------------------------------------------------------------------------------------------


def test_everything_wrong_with_the_voxels_is_said_at_once_in_the_panels_words(
    patient: tuple[Any, Any], patient_folder: Path
) -> None:
    cta, dsa = patient
    slicer.util.arrayFromVolume(cta)[:] = 40
    for n in range(frames.sequenceOf(dsa).GetNumberOfDataNodes()):
        slicer.util.arrayFromVolume(frames.sequenceOf(dsa).GetNthDataNode(n))[:] = 7
    logic = DeepIterRegLogic()
    case = logic.prepare(cta, dsa, quick(patient_folder, device="cuda", seed=-1))
    with pytest.raises(InputError) as caught:
        logic.run(case)
    text = "\n".join(caught.value.problems)
    for part in ("All voxels of the CTA have the value 40", "All pixels of all frames", '"Seed": -1'):
        assert part in text
    assert "--" not in text


def test_mask_instead_of_a_cta(patient: tuple[Any, Any], patient_folder: Path) -> None:
    cta = loadLabels(patient_folder / "arteries.nii.gz")
    plain = scenes.addVolume(slicer.util.arrayFromVolume(cta), volumes.ijkToRas(cta), "arteries as a volume")
    logic = DeepIterRegLogic()
    with pytest.raises(InputError, match=r'these are not CT numbers.*Set "CTA vessels"'):
        logic.run(logic.prepare(plain, patient[1], quick(patient_folder)))


def test_nothing_matches_is_a_sentence_in_the_panels_words(
    patient: tuple[Any, Any], patient_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from DeepIterRegLib.registration import result_warnings
    from DeepIterRegLib.registration.skull.register import SkullAgreement

    monkeypatch.setattr(result_warnings, "NO_MATCH", 2.0)  # no score is that high
    monkeypatch.setattr(SkullAgreement, "fits", False)
    logic = DeepIterRegLogic()
    with pytest.raises(
        RegistrationError, match=r"No pose of the CTA explains the DSA.*Look at the vessels found in both"
    ) as caught:
        logic.run(logic.prepare(*patient, quickest(patient_folder)))
    assert "`deepiterreg" not in str(caught.value)


def test_warming_up_imports_what_is_slow_and_says_nothing_where_it_is_missing() -> None:
    code = """
import sys
import standin
standin.installSlicer()
from DeepIterRegSlicer.logic import DeepIterRegLogic
slow = {"numba", "scipy", "pydicom", "SimpleITK", "skimage", "PIL"}
assert not slow & set(sys.modules), slow & set(sys.modules)
if sys.argv[1] == "absent":
    sys.modules["numba"] = None
DeepIterRegLogic().warmUp().join()
assert (sys.modules["numba"] is None) == (sys.argv[1] == "absent")
assert "torch" not in sys.modules
"""
    paths = [str(ROOT), str(ROOT / "DeepIterReg"), str(ROOT / "Testing" / "Slicer")]
    for numba in ("present", "absent"):
        done = subprocess.run(
            [sys.executable, "-c", code, numba],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_what_is_warmed_up_is_there() -> None:
    for name in WARMED_UP:
        assert importlib.util.find_spec(name) is not None, name


def test_no_qt_in_logic() -> None:
    folder = Path(DeepIterRegSlicer.__file__).parent
    for path in (folder / "logic.py", folder / "worker.py", *folder.glob("nodes/*.py"), *folder.glob("scene/*.py")):
        name, tree = path.stem, ast.parse(path.read_text(encoding="utf-8"))
        # Side by side is a layout of Slicer's views.
        allowed = {"layoutManager"} if path == folder / "scene" / "comparison.py" else set()
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
        }
        assert not imported & {"qt", "ctk", "PySide6", "PythonQt"}, name
        words = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not words & {"layoutManager", "mainWindow", "errorDisplay", "processEvents"} - allowed, name
