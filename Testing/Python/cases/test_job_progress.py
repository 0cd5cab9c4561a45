"""Progress of whole jobs on files: every step in its order, and a bar that ends full."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from test_cases import landmark_table

from DeepIterRegLib.cases.demo import run_demo
from DeepIterRegLib.cases.files import RegisterJob, register_files
from DeepIterRegLib.cases.project import project_file, roadmap_file
from DeepIterRegLib.cases.segment import segment_cta_file, segment_dsa_file
from DeepIterRegLib.common.options import Run
from DeepIterRegLib.common.progress import Progress, ProgressEvent
from DeepIterRegLib.images.dicom import GeometryOptions
from DeepIterRegLib.registration.compiled import signatures
from DeepIterRegLib.registration.steps import Step

READ = (Step.LOAD, Step.READ_POSES, Step.READ_DSA, Step.READ_CTA)
SEGMENTED = (Step.SEGMENT_DSA, Step.SEGMENT_CTA, Step.CHECK_INPUTS)
# They may be over before anybody waits for them; what is loaded already takes nothing.
NO_WAIT = (Step.LOAD, Step.READ_CTA, Step.SEGMENT_CTA)
BY_SKULL = (Step.SKULL, Step.REFINE_SKULL, Step.REFINE, Step.REFINE_WITH_SKULL, Step.CONFIDENCE, Step.FRAMES)


def check(events: list[ProgressEvent], *steps: Step) -> None:
    """Those steps in that order; the bar never goes back, moves in each of them, and is full at the end."""
    overall = [event.overall for event in events]
    assert overall == sorted(overall)
    assert overall[0] == 0.0
    assert overall[-1] == 1.0
    events = [event for event in events if event.step is not Step.COMPILE]  # only before anything was compiled
    begins = [next(event.overall for event in events if event.step is step) for step in steps]
    assert tuple(dict.fromkeys(event.step for event in events)) == steps
    for step, before, after in zip(steps, begins, [*begins[1:], 1.0], strict=True):
        assert before < after or (step in NO_WAIT and before == after), step


@pytest.mark.parametrize("views", [1, 2])
def test_registration_from_landmarks(views: int, patient_folder: Path, tmp_path: Path) -> None:
    job = RegisterJob(
        cta=patient_folder / "cta.nii.gz",
        dsa=patient_folder / "dsa.dcm",
        landmarks=landmark_table(patient_folder, tmp_path / "points.csv"),
        further=(Run(dsa=patient_folder / "dsa2.dcm"),) if views == 2 else (),
    )
    events: list[ProgressEvent] = []
    register_files(job, tmp_path, Progress(events.append))
    found = (Step.REFINE_COARSE, Step.REFINE, Step.CONFIDENCE, Step.FRAMES, Step.WRITE_REPORT)
    check(events, *READ, *SEGMENTED, *found)
    read = [event.done for event in events if event.step is Step.READ_DSA]
    assert (read[0], read[-1]) == (0.0, 1.0)
    # Frame by frame, and each run in its part.
    assert all(0 <= after - before < 0.1 for before, after in pairwise(read))
    assert views == 1 or read.count(0.5) >= 2


def test_demo(tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    run_demo(1, "cpu", tmp_path, Progress(events.append))
    # What is compiled ahead is what it has called, but for those of a CTA whose axes are the body's and of a run that came subtracted.
    ahead, others = signatures(everything=True), ("_resample_along_axes", "changes_of_shadow")
    assert all(types in kernel.signatures or kernel.__name__ in others for kernel, types in ahead)
    check(events, Step.MAKE_PATIENT, Step.WRITE_PATIENT, *READ, *SEGMENTED, *BY_SKULL, Step.WRITE_REPORT)


def test_segmentations_and_pictures(patient_folder: Path, tmp_path: Path) -> None:
    cta, dsa, pose = (patient_folder / name for name in ("cta.nii.gz", "dsa.dcm", "truth.tfm"))
    arteries, png = patient_folder / "arteries.nii.gz", tmp_path / "image.png"
    geometry = GeometryOptions()
    jobs = {
        (Step.READ_CTA, Step.SEGMENT_CTA, Step.SEGMENT_VEINS, Step.WRITE): (
            lambda progress: segment_cta_file(cta, None, None, arteries, 1, 100, tmp_path, progress)
        ),
        (Step.READ_DSA, Step.SEGMENT_DSA, Step.WRITE): (
            lambda progress: segment_dsa_file(dsa, geometry, None, "auto", tmp_path, progress)
        ),
        (Step.READ_VOLUME, Step.PROJECT, Step.WRITE): (
            lambda progress: project_file(arteries, pose, dsa, geometry, None, "cpu", png, progress)
        ),
        (Step.READ_DSA, Step.READ_ITEMS, Step.DRAW): (
            lambda progress: roadmap_file([f"{arteries}:red"], pose, dsa, None, geometry, None, png, None, progress)
        ),
    }
    for steps, job in jobs.items():
        events: list[ProgressEvent] = []
        job(Progress(events.append))
        check(events, *steps)
