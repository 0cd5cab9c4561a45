"""A synthetic patient, written, and registered as a stranger would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report.outputs import REGISTRATION_FILES

if TYPE_CHECKING:
    pass
from DeepIterRegLib.cases.case import Device
from DeepIterRegLib.cases.files import RegisterJob, register_files

PHANTOM_FOLDER = "patient"
MAX_PHANTOM_VIEWS = 4
PHANTOM_FILES = (
    "cta.nii.gz",
    "dsa.dcm",
    *(f"dsa{n}.dcm" for n in range(2, MAX_PHANTOM_VIEWS + 1)),
    "dsa_clean.dcm",
    "arteries.nii.gz",
    "veins.nii.gz",
    "truth.json",
    "truth.tfm",
)
DEMO_FILES = (*REGISTRATION_FILES, PHANTOM_FOLDER)


def write_phantom(seed: int, folder: Path, on_progress: Progress, views: int = 1) -> None:
    """Write a synthetic patient into `folder`; the second view is lateral where the first is AP, and so on in turn."""
    from DeepIterRegLib.phantom import make_patient, second_run, write_patient

    on_progress("Make patient", 0.0)
    patient = make_patient(seed)
    runs = [patient]
    for n in range(1, views):
        on_progress("Make patient", n / views)
        runs.append(second_run(runs[-1], seed=n))
    on_progress("Write patient", 0.0)
    write_patient(runs[0], folder, *runs[1:])
    on_progress("Write patient", 1.0)


def run_demo(seed: int, device: Device, folder: Path, on_progress: Progress) -> Registration:
    """Make a patient, then register it as a stranger would: from its files, with the truth only as reference."""
    patient = folder / PHANTOM_FOLDER
    patient.mkdir()
    write_phantom(seed, patient, on_progress)
    job = RegisterJob(
        cta=patient / "cta.nii.gz",
        dsa=patient / "dsa.dcm",
        reference=patient / "truth.tfm",
        device=device,
        seed=seed,
    )
    return register_files(job, folder, on_progress)
