"""One case, whatever its parts come from: everything wrong at once, progress, cancel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest
from repository import ROOT

from DeepIterRegLib.cases.case import Case, register_case
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.common.errors import Cancelled, InputError, keep_notes, notes_of
from DeepIterRegLib.common.progress import Progress, ProgressEvent
from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import GeometryOptions, read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.landmarks import read_landmarks
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.steps import Step
from DeepIterRegLib.results.report.outputs import write_registration
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation


def case(folder: Path, **parts: object) -> Case:
    """The patient with true vessels and a start at the truth: no search, no segmentation of the CTA."""
    given = {
        "cta": partial(load_volume, folder / "cta.nii.gz"),
        "angiogram": partial(read_angiogram, folder / "dsa.dcm"),
        "cta_vessels": partial(load_volume, folder / "arteries.nii.gz"),
        "initial_pose": partial(read_pose, folder / "truth.tfm"),
        "reference": partial(read_pose, folder / "truth.tfm"),
    }
    return Case(**{**given, **parts})  # type: ignore[arg-type]


def test_outcome_holds_what_was_registered(patient_folder: Path) -> None:
    events: list[ProgressEvent] = []
    veins = partial(load_volume, patient_folder / "veins.nii.gz")
    outcome = register_case(case(patient_folder, cta_veins=veins, first_frame=2), Progress(events.append))
    found = outcome.registration
    assert found.mpe_mm_to_reference is not None
    assert found.mpe_mm_to_reference < 5
    truth = read_pose(patient_folder / "truth.tfm")
    assert found.mpe_mm_to_reference == pytest.approx(
        float(mpe_mm(found.carm, found.cta_to_carm, truth, found.centre_cta_mm))
    )
    both = load_volume(patient_folder / "arteries.nii.gz").voxels | veins().voxels
    np.testing.assert_array_equal(outcome.vessels.voxels, both != 0)
    assert outcome.angiogram.frames.shape[1:] == outcome.dsa_masks.vessels.shape
    steps = [(event.step, event.done) for event in events]
    assert (Step.READ_DSA, 0.0) in steps
    assert (Step.READ_DSA, 1.0) in steps
    assert {"read_poses", "read_dsa", "read_cta", "segment_cta", "segment_dsa", "total"} <= set(found.seconds)
    beside = ("read_cta", "segment_cta")  # while the run is read and segmented
    assert found.seconds["total"] >= sum(v for k, v in found.seconds.items() if k not in ("total", *beside)) - 1e-6
    assert all(found.seconds["total"] >= found.seconds[name] for name in beside)


def test_all_parts_are_read_before_anything_is_refused(patient_folder: Path) -> None:
    def no_cta() -> Volume:
        raise InputError("No CTA.")

    def no_mask() -> np.ndarray:
        raise InputError("No mask.")

    def no_pose() -> np.ndarray:
        raise InputError("No pose.")

    broken = case(patient_folder, cta=no_cta, dsa_vessels=no_mask, reference=no_pose)
    with pytest.raises(InputError) as caught:
        register_case(broken, Progress())
    assert caught.value.problems == ("No pose.", "No mask.", "No CTA.")


def test_the_number_of_threads_changes_no_bit(patient_folder: Path) -> None:
    """In a process that may have several: with one all is done in turn, with more CTA and run are read and segmented beside each other."""
    code = """
import sys
from pathlib import Path
import numba
from DeepIterRegLib.cases.case import register_case
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.registration.compiled import signatures
folder, found = Path(sys.argv[1]), []
job = RegisterJob(cta=folder / "cta.nii.gz", dsa=folder / "dsa.dcm", init=str(folder / "truth.tfm"))
for threads in (1, 5):
    numba.set_num_threads(threads)
    outcome = register_case(case_of_files(job), Progress())
    result, masks = outcome.registration, outcome.dsa_masks
    arrays = (result.cta_to_carm, outcome.angiogram.frames, outcome.vessels.voxels, masks.vesselness, masks.arrival_time_s)
    found.append((*(array.tobytes() for array in arrays), result.confidence, result.input_hashes, result.warnings))
ahead = {}
for kernel, types in signatures(everything=True):
    ahead.setdefault(kernel, []).append(types)
print(*(one == found[0] for one in found), all(set(kernel.signatures) <= set(types) for kernel, types in ahead.items()))
"""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "5", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(patient_folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * 3


@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_that_cannot_be_read_is_told_whatever_the_cta_shows(
    threads: int, patient_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_run() -> Angiogram:
        raise InputError("No run.")

    def no_vessels(cta: Volume, settings: CtaSegmentation) -> Volume:
        raise InputError("No vessels.")

    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    broken = case(patient_folder, angiogram=no_run, cta_vessels=None, segment_cta=no_vessels)
    with pytest.raises(InputError) as caught:
        register_case(broken, Progress())
    assert caught.value.problems == ("No run.",)


@pytest.mark.parametrize("step", [Step.READ_DSA, Step.SEGMENT_DSA, Step.REFINE])
def test_cancel_at_any_step(patient_folder: Path, step: Step) -> None:
    reached: list[ProgressEvent] = []
    with pytest.raises(Cancelled):
        register_case(
            case(patient_folder), Progress(reached.append), lambda: any(event.step is step for event in reached)
        )
    assert reached[-1].step is step


def test_what_was_read_is_said_also_where_the_case_then_fails(patient_folder: Path) -> None:
    cta = load_volume(patient_folder / "cta.nii.gz")
    neck = replace(cta, voxels=cta.voxels[:60], notes=("Series 3 was read.",))

    def none_read() -> Volume:
        error = InputError("The slices make no volume.")
        keep_notes(error, ["Series 4 was chosen."])
        raise error

    for broken, said in ((lambda: neck, "Series 3 was read."), (none_read, "Series 4 was chosen.")):
        with pytest.raises(InputError) as caught:
            register_case(case(patient_folder, cta=broken), Progress())
        assert said in notes_of(caught.value)


def test_a_rotational_angiogram_is_registered_without_its_skull(patient_folder: Path) -> None:
    cta, arteries = (load_volume(patient_folder / f"{name}.nii.gz") for name in ("cta", "arteries"))
    noise = np.random.default_rng(1).normal(0, 60, cta.voxels.shape)
    grey = (1000 * (cta.voxels > -300) + 4000 * (arteries.voxels > 0) + noise).clip(0).astype(np.uint16)
    angiogram = case(patient_folder, cta=lambda: cta.with_voxels(grey), cta_vessels=None)
    outcome = register_case(angiogram, Progress())
    np.testing.assert_array_equal(outcome.vessels.voxels, arteries.voxels > 0)
    found = outcome.registration
    assert any("not HU" in warning for warning in found.warnings)
    assert found.confidence is not None
    assert not any("skull" in name for name in found.confidence.features)


def test_a_fault_of_ours_is_not_taken_for_bad_input(patient_folder: Path) -> None:
    def fault() -> Volume:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        register_case(case(patient_folder, cta=fault), Progress())


def landmark_table(folder: Path, path: Path) -> Path:
    """Eight points around the head where the truth puts them; the fourth is clicked 40 px aside."""
    carm = read_angiogram(folder / "dsa.dcm").carm
    points = load_volume(folder / "cta.nii.gz").centre_mm + np.random.default_rng(2).uniform(-50, 50, (8, 3))
    pixels = carm.project(points, read_pose(folder / "truth.tfm"))
    pixels[3, 0] += 40
    rows = [
        f"P{n},{','.join(f'{v:.4f}' for v in (*p, *q))}" for n, (p, q) in enumerate(zip(points, pixels, strict=True))
    ]
    path.write_text("\n".join(["name,x,y,z,column,row", *rows]), encoding="utf-8")
    return path


def test_landmarks_are_the_start_and_each_is_measured(patient_folder: Path, tmp_path: Path) -> None:
    table = landmark_table(patient_folder, tmp_path / "points.csv")
    veins = partial(load_volume, patient_folder / "veins.nii.gz")
    read = partial(read_landmarks, table)
    outcome = register_case(case(patient_folder, initial_pose=None, cta_veins=veins, landmarks=read), Progress())
    found = outcome.registration
    assert found.init.method == "file"
    assert found.mpe_mm_to_reference is not None
    assert found.mpe_mm_to_reference < 5
    worst = max(found.landmarks, key=lambda error: error.error_px)
    assert worst.name == "P3"
    assert worst.error_px == pytest.approx(40, abs=12)
    assert [warning for warning in found.warnings if "Landmark P3 lies" in warning]
    again = Registration.from_json_dict(json.loads(json.dumps(found.to_json_dict())))
    assert again.landmarks == found.landmarks
    write_registration(tmp_path, found, outcome.angiogram, outcome.vessels)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<tr><th>P3</th><td>{worst.error_px:.1f}</td><td>{worst.error_mm:.2f}</td></tr>" in page


def test_landmarks_beside_another_start_only_check(patient_folder: Path, tmp_path: Path) -> None:
    table = partial(read_landmarks, landmark_table(patient_folder, tmp_path / "points.csv"))
    plain = register_case(case(patient_folder), Progress()).registration
    checked = register_case(case(patient_folder, landmarks=table), Progress()).registration
    np.testing.assert_array_equal(checked.cta_to_carm, plain.cta_to_carm)
    assert len(checked.landmarks) == 8
    assert not plain.landmarks


def test_landmarks_are_asked_for_by_name(patient_folder: Path) -> None:
    job = RegisterJob(cta=patient_folder / "cta.nii.gz", dsa=patient_folder / "dsa.dcm", init="landmarks")
    with pytest.raises(InputError, match="Give `landmarks`"):
        case_of_files(job)


def test_points_on_the_dsa_as_loaded_keep_their_pixels(patient_folder: Path, tmp_path: Path) -> None:
    """Slicer placed the DSA by its file's spacing, whatever a typed spacing corrects it to."""
    carm = read_angiogram(patient_folder / "dsa.dcm").carm
    pixels = np.random.default_rng(4).uniform(20, 200, (6, 2))
    row_mm, column_mm = carm.pixel_spacing_mm
    places = {"cta": np.zeros((6, 3)), "dsa": np.c_[pixels * (column_mm, row_mm), np.zeros(6)]}
    for name, positions in places.items():
        points = [{"position": p.tolist(), "label": str(n)} for n, p in enumerate(positions)]
        lists = {"markups": [{"coordinateSystem": "LPS", "controlPoints": points}]}
        (tmp_path / f"{name}.mrk.json").write_text(json.dumps(lists), encoding="utf-8")
    corrected = GeometryOptions(pixel_spacing_mm=(0.5 * row_mm, 0.5 * column_mm))
    job = RegisterJob(
        cta=patient_folder / "cta.nii.gz",
        dsa=patient_folder / "dsa.dcm",
        geometry=corrected,
        landmarks=tmp_path / "cta.mrk.json",
        dsa_landmarks=tmp_path / "dsa.mrk.json",
    )
    read = case_of_files(job).landmarks
    assert read is not None
    placed = read().on(read_angiogram(job.dsa, corrected).carm)
    np.testing.assert_allclose(placed.pixels, pixels, atol=1e-6)
    absent = case_of_files(replace(job, dsa=tmp_path / "absent.dcm")).landmarks
    assert absent is not None
    absent()  # that there is no DSA is said where it is read
