"""The command line on a small synthetic patient: what it writes, says and keeps to itself."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from programs import run
from typer.testing import CliRunner

from DeepIterRegLib import __version__
from DeepIterRegLib.cases import files
from DeepIterRegLib.cases.demo import PHANTOM_FILES
from DeepIterRegLib.cases.segment import CTA_MASK_FILES, DSA_MASK_FILES
from DeepIterRegLib.cli import app
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.registration.result import Confidence, InitRecord, Registration
from DeepIterRegLib.rendering.raycast import RaycastProjector, attenuation_per_mm
from DeepIterRegLib.results.report import REGISTRATION_FILES
from DeepIterRegLib.results.report.outputs import files_of_frames

COMMANDS = ("register", "batch", "segment", "project", "pick", "export", "study", "phantom", "demo", "train", "info")


@dataclass(frozen=True)
class Run:
    folder: Path
    stdout: str
    stderr: str
    registration: Registration


# Long enough not to turn up by chance in a picture's base64.
NAME, PATIENT_ID, BIRTH = "SECRETSON^JANNIKEMARIE", "MRN-0451-77", "19420309"


@pytest.fixture(scope="module")
def registered(patient_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One registration as a process of its own, of a DSA that carries a patient's identity."""
    work = tmp_path_factory.mktemp("register")
    dataset = pydicom.dcmread(patient_folder / "dsa.dcm")
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, PATIENT_ID, BIRTH
    dataset.InstitutionName = "SECRETSON CLINIC"
    dataset.save_as(work / "dsa.dcm")
    files = [str(patient_folder / "cta.nii.gz"), str(work / "dsa.dcm")]
    options = ["--out", str(work / "out"), "--reference", str(patient_folder / "truth.tfm"), "--json", "--seed", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "DeepIterRegLib.cli", "register", *files, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Run(work / "out", done.stdout, done.stderr, Registration.from_json_dict(json.loads(done.stdout)))


def test_help_names_every_command_with_an_example() -> None:
    text = run("--help")
    assert "not a medical device" in text.lower()
    assert "130 cancelled" in " ".join(text.split())
    for command in COMMANDS:
        assert command in text
        assert f"deepiterreg {command}" in run(command, "--help")
    assert run("--version").strip() == f"deepiterreg {__version__}"


def test_threads_are_settled_before_anything_starts_some(patient_folder: Path) -> None:
    code = (
        "import os, sys; from typer.testing import CliRunner; from DeepIterRegLib.cli import app\n"
        "done = CliRunner().invoke(app, sys.argv[1:]); import numba\n"
        "print(done.exit_code, numba.config.NUMBA_NUM_THREADS, os.environ['OMP_NUM_THREADS'])"
    )
    words = [sys.executable, "-c", code, "--threads", "3", "info", str(patient_folder / "dsa.dcm")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() == ["0", "3", "3"]
    assert "--threads" in CliRunner().invoke(app, ["--threads", "0", "info", "dsa.dcm"]).output


def test_register_writes_what_it_promises(registered: Run, patient_folder: Path) -> None:
    frames = registered.registration.views[0].frames
    assert frames is not None, "the run has mask frames, and the skull is clear in them"
    moved = files_of_frames(1) if frames.is_seen else ()
    assert sorted(p.name for p in registered.folder.iterdir()) == sorted((*REGISTRATION_FILES, *moved))
    found = read_pose(registered.folder / "ctaToCarm.tfm")
    assert found == pytest.approx(registered.registration.cta_to_carm, abs=1e-9)
    assert read_pose(registered.folder / "registration.json") == pytest.approx(found, abs=1e-9)
    assert [p.name for p in registered.folder.parent.iterdir() if p.name.startswith(".")] == []


def test_register_says_the_error_to_the_reference(registered: Run, patient_folder: Path) -> None:
    r = registered.registration
    truth = read_pose(patient_folder / "truth.tfm")
    assert r.mpe_mm_to_reference == pytest.approx(float(mpe_mm(r.carm, r.cta_to_carm, truth, r.centre_cta_mm)))
    assert r.centre_cta_mm == pytest.approx(prepare_cta(load_volume(patient_folder / "cta.nii.gz")).centre_mm)


def test_register_finds_the_head(registered: Run) -> None:
    mpe = registered.registration.mpe_mm_to_reference
    assert mpe is not None
    assert mpe < 5


def test_json_goes_to_stdout_and_progress_to_stderr(registered: Run) -> None:
    assert json.loads(registered.stdout)["ctaToCarm"]
    assert "Read CTA" in registered.stderr
    assert "Read CTA" not in registered.stdout


def test_no_identity_in_any_output(registered: Run) -> None:
    texts = [registered.stdout.encode(), registered.stderr.encode()]
    for path in registered.folder.iterdir():
        data = path.read_bytes()
        texts.append(gzip.decompress(data) if path.suffix == ".gz" else data)
    for secret in (*NAME.split("^"), PATIENT_ID, BIRTH):
        assert not any(secret.lower().encode() in text.lower() for text in texts), secret


def test_same_seed_same_pose_and_start_from_a_file(registered: Run, patient_folder: Path, tmp_path: Path) -> None:
    files = (patient_folder / "cta.nii.gz", patient_folder / "dsa.dcm")
    run("register", *files, "--out", tmp_path / "again", "--seed", "3", "--quiet")
    again = read_pose(tmp_path / "again" / "registration.json")
    assert np.array_equal(again, registered.registration.cta_to_carm)
    text = run(
        "register",
        *files,
        "--out",
        tmp_path / "file",
        "--init",
        patient_folder / "truth.tfm",
        "--reference",
        patient_folder / "truth.tfm",
    )
    assert "Mean projection error" in text
    assert "Report: file/report.html" in text  # no folders of the person's


def test_segment_writes_masks_on_the_grid_of_the_source(patient_folder: Path, tmp_path: Path) -> None:
    counts = json.loads(run("segment", patient_folder / "cta.nii.gz", "--out", tmp_path / "cta", "--json"))["set"]
    cta = load_volume(patient_folder / "cta.nii.gz")
    truth = load_volume(patient_folder / "arteries.nii.gz").voxels | load_volume(patient_folder / "veins.nii.gz").voxels
    assert sorted(p.name for p in (tmp_path / "cta").iterdir()) == sorted(CTA_MASK_FILES)
    vessels = load_volume(tmp_path / "cta" / "vessels.nii.gz")
    assert vessels.same_grid(cta)
    assert int(vessels.voxels.sum()) == counts["vessels"] > 1000
    assert truth[vessels.voxels > 0].mean() > 0.4  # most of it is vessel, at 1 mm
    run("segment", patient_folder / "dsa.dcm", "--out", tmp_path / "dsa", "--quiet")
    assert sorted(p.name for p in (tmp_path / "dsa").iterdir()) == sorted(DSA_MASK_FILES)
    image = sitk.ReadImage(str(tmp_path / "dsa" / "vessels.nii.gz"))
    carm = read_angiogram(patient_folder / "dsa.dcm").carm
    assert image.GetSize() == (carm.columns, carm.rows, 1)
    x, y, z = image.TransformIndexToPhysicalPoint((10, 20, 0))
    assert carm.project(np.array([[-x, -y, z]]))[0] == pytest.approx((10, 20), abs=1e-3)


def test_project_a_mask_and_a_cta(patient_folder: Path, tmp_path: Path) -> None:
    truth = patient_folder / "truth.tfm"
    run(
        "project",
        patient_folder / "arteries.nii.gz",
        "--pose",
        truth,
        "--like",
        patient_folder / "dsa.dcm",
        "--out",
        tmp_path / "a.png",
    )
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert picture.shape == (256, 256)
    assert 0.001 < (picture < 128).mean() < 0.5
    cta = patient_folder / "cta.nii.gz"
    options = (
        "--primary-angle",
        "90",
        "--secondary-angle",
        "0",
        "--sid",
        "1200",
        "--sod",
        "750",
        "--pixel-spacing",
        "8",
    )
    run("project", cta, *options, "--size", "32,40", "--out", tmp_path / "drr.nii.gz", "--device", "cpu")
    image = load_volume(tmp_path / "drr.nii.gz").voxels[0]
    volume = load_volume(cta)
    carm = read_angiogram(patient_folder / "dsa.dcm").carm.from_angles(
        90, 0, sid_mm=1200, sod_mm=750, rows=32, columns=40, pixel_spacing_mm=(8, 8)
    )
    radiological = torch.as_tensor(pose.radiological(prepare_cta(volume).centre_mm))[None]
    expected = RaycastProjector(attenuation_per_mm(volume), carm, "joseph")(radiological)[0].numpy()
    assert image == pytest.approx(expected, abs=1e-4)
    assert image.max() > 2  # a head takes most of the rays


def test_info(patient_folder: Path) -> None:
    dsa = json.loads(run("info", patient_folder / "dsa.dcm", "--json"))
    assert dsa["modality"] == "XA"
    assert dsa["size (rows, columns)"] == [256, 256]
    cta = json.loads(run("info", patient_folder / "cta.nii.gz", "--json"))
    assert cta["kind"] == "volume"
    assert np.prod(cta["size (i, j, k)"]) == load_volume(patient_folder / "cta.nii.gz").voxels.size
    assert json.loads(run("info", patient_folder / "veins.nii.gz", "--json"))["kind"] == "mask"
    assert "source to detector" in run("info", patient_folder / "dsa.dcm")


def test_phantom_writes_only_what_overwrite_may_replace(patient_folder: Path) -> None:
    assert {p.name for p in patient_folder.iterdir()} <= set(PHANTOM_FILES)


def test_register_says_the_state_and_warns_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A doubtful result: what was said before the search is not said again."""
    doubt = Confidence(0.03, 23.44, "rejected", ("One reason.", "Another."))
    carm = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=8, columns=8, pixel_spacing_mm=(1.0, 1.0))
    init, warnings = InitRecord("search", True, 0.4, 0.1), ("The DSA is cut.", "Later.")
    found = Registration(np.eye(4), carm, np.zeros(3), 0.4, init, (), {}, warnings, {}, {}, confidence=doubt)

    def register_files(
        job: Any, folder: Path, on_progress: Any, on_warning: Callable[[str], None], cta: Any
    ) -> Registration:
        on_warning("The DSA is cut.")
        return found

    monkeypatch.setattr(files, "register_files", register_files)
    for name in ("cta.nii", "run.dcm"):
        (tmp_path / name).touch()
    command = ["register", str(tmp_path / "cta.nii"), str(tmp_path / "run.dcm"), "--quiet", "--out"]
    loud = CliRunner().invoke(app, [word for word in (*command, str(tmp_path / "loud")) if word != "--quiet"])
    assert loud.exit_code == 0, loud.output
    assert "REJECTED: 3 % likely to be right (within 5 mm)." in loud.stdout
    assert loud.stdout.index("REJECTED") < loud.stdout.index("- One reason.") < loud.stdout.index("- Another.")
    assert [line for line in loud.stderr.splitlines() if "Warning" in line] == [
        "Warning: The DSA is cut.",
        "Warning: Later.",
    ]
    told = CliRunner().invoke(app, [*command, str(tmp_path / "told"), "--json"])
    assert json.loads(told.stdout)["confidence"]["state"] == "rejected"
