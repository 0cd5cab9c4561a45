"""A synthetic patient, written, and registered as a stranger would."""

from __future__ import annotations

from pathlib import Path

from DeepIterRegLib.cases.case import steps_foreseen
from DeepIterRegLib.cases.files import RegisterJob, case_of_files, register_files
from DeepIterRegLib.common.options import Device
from DeepIterRegLib.common.progress import Progress, between
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.results.report.outputs import REGISTRATION_FILES, files_of_frames

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
    # Of a procedure: one may take the place of the other.
    "runs",
    "truth",
    "procedure.json",
)
_PHANTOM_STEPS = (Step.MAKE_PATIENT, Step.WRITE_PATIENT)
DEMO_FILES = (*REGISTRATION_FILES, *files_of_frames(2), PHANTOM_FOLDER)


def write_phantom(seed: int, folder: Path, on_progress: Progress, views: int = 1) -> None:
    """Write a synthetic patient into `folder`; the second view is lateral where the first is AP, and so on in turn."""
    from DeepIterRegLib.phantom import make_patient, second_run, write_patient

    on_progress.expect(expected(*_PHANTOM_STEPS, views=views))
    on_progress(Step.MAKE_PATIENT, 0.0)
    first = Step.MAKE_PATIENT.seconds() / Step.MAKE_PATIENT.seconds(
        views
    )  # the head and the CTA are made with the first run
    runs = [make_patient(seed, on_progress=between(on_progress.of(Step.MAKE_PATIENT), 0.0, first))]
    for n in range(1, views):
        on_progress(Step.MAKE_PATIENT, first + (1 - first) * (n - 1) / (views - 1))
        runs.append(second_run(runs[-1], seed=n))
    on_progress(Step.WRITE_PATIENT, 0.0)
    write_patient(runs[0], folder, *runs[1:], on_progress=on_progress.of(Step.WRITE_PATIENT))
    on_progress(Step.WRITE_PATIENT, 1.0)


def write_phantom_procedure(seed: int, folder: Path, on_progress: Progress) -> None:
    """Write a synthetic thrombectomy into `folder`: one CTA, eight runs, the truth of each."""
    from DeepIterRegLib.phantom import make_procedure, write_procedure
    from DeepIterRegLib.phantom.procedure import PLAN

    on_progress.expect(expected(*_PHANTOM_STEPS, views=len(PLAN)))
    procedure = make_procedure(seed, on_progress=on_progress.of(Step.MAKE_PATIENT))
    on_progress(Step.WRITE_PATIENT, 0.0)
    write_procedure(procedure, folder)
    on_progress(Step.WRITE_PATIENT, 1.0)


def run_demo(seed: int, device: Device, folder: Path, on_progress: Progress) -> Registration:
    """Make a patient, then register it as a stranger would: from its files, with the truth only as reference."""
    patient = folder / PHANTOM_FOLDER
    job = RegisterJob(
        cta=patient / "cta.nii.gz",
        dsa=patient / "dsa.dcm",
        reference=patient / "truth.tfm",
        device=device,
        seed=seed,
    )
    # The files do not exist yet. A case reads nothing until it is asked, so its steps can be told now.
    on_progress.expect(
        {
            **expected(*_PHANTOM_STEPS, Step.WRITE_REPORT),
            **steps_foreseen(case_of_files(job)),
        }
    )
    patient.mkdir()
    write_phantom(seed, patient, on_progress)
    return register_files(job, folder, on_progress)
