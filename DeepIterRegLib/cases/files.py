"""A case whose parts are files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from DeepIterRegLib.cases.case import Case, FurtherView, register_case
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.option import part_of
from DeepIterRegLib.common.options import (
    LANDMARKS,
    NAMED_INITS,
    Inputs,
    Refinement,
    Run,
    Search,
    Segmentation,
)
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.shown import calling, name_of
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.dicom import SubtractionSettings, loaded_spacing_mm, read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.masks import read_image_mask, read_mask
from DeepIterRegLib.registration.landmarks import (
    Landmarks,
    PlacedLandmarks,
    read_landmarks,
)
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.results.report.outputs import write_registration

if TYPE_CHECKING:
    from DeepIterRegLib.cases.cta_cache import CtaCache
    from DeepIterRegLib.images.volume import Volume


@dataclass(frozen=True, kw_only=True)
class RegisterJob(Inputs, Run, Segmentation, Search, Refinement):
    """One registration of files: what was chosen for each option, and the further runs."""

    further: tuple[Run, ...] = ()


def register_files(
    job: RegisterJob,
    folder: Path,
    on_progress: Progress,
    on_warning: Callable[[str], None] | None = None,
    cta: Callable[[], Volume] | None = None,
) -> Registration:
    """Read, segment, register and write `report.outputs.registration_files`; `on_warning` as in `register_case`.

    `cta` gives the job's CTA if somebody began to read it, as `ahead.read_ahead`.

    Raises
    ------
    InputError
        Anything unusable among the files and options.
    RegistrationError
        No pose found.
    """
    on_progress.expect(expected(Step.WRITE_REPORT, views=1 + len(job.further)))
    case = case_of_files(job)
    outcome = register_case(case if cta is None else replace(case, cta=cta), on_progress, on_warning=on_warning)
    tell = on_progress.of(Step.WRITE_REPORT)
    tell(0.0)
    write_registration(folder, outcome.registration, outcome.angiograms, outcome.vessels, tell)
    return outcome.registration


def case_of_files(job: RegisterJob, ctas: CtaCache | None = None) -> Case:
    """The case whose parts are read from the files of a job when `register_case` asks for them, or come from `ctas`."""
    if job.init == LANDMARKS and job.landmarks is None:
        raise InputError(Message("The start is landmarks, but there are none", give=("landmarks",)))
    if job.dsa_landmarks is not None and job.landmarks is None:
        raise InputError(
            Message(
                "These points are one end of pairs; those on the CTA are missing",
                at="dsa_landmarks",
                give=("landmarks",),
            )
        )
    # None, as `register_case` takes the landmarks only where no start is named.
    init = None if job.init == LANDMARKS else job.init
    from_file = init is not None and init not in NAMED_INITS

    def view(run: Run) -> FurtherView:
        subtraction = SubtractionSettings(mask_frames=run.mask_frames, mode=job.subtraction, contrast=run.contrast)
        return FurtherView(
            partial(calling("dsa", read_angiogram), run.dsa, run.geometry, subtraction),
            partial(calling("dsa_mask", read_image_mask), run.dsa_mask, "dsa_mask") if run.dsa_mask else None,
        )

    first = view(job)
    chosen = {**vars(part_of(job, Segmentation)), **vars(part_of(job, Search)), **vars(part_of(job, Refinement))}
    chosen["init"] = None if from_file else init
    return Case(
        cta=partial(calling("cta", ctas.volume if ctas else load_volume), job.cta, job.series, job.phase),
        segment_cta=partial(ctas.vessels, job.cta, series=job.series, phase=job.phase) if ctas else None,
        angiogram=first.angiogram,
        cta_vessels=partial(calling("cta_mask", read_mask), job.cta_mask, "cta_mask") if job.cta_mask else None,
        cta_veins=partial(calling("cta_vein_mask", read_mask), job.cta_vein_mask, "cta_vein_mask")
        if job.cta_vein_mask
        else None,
        dsa_vessels=first.dsa_vessels,
        initial_pose=partial(calling("init", read_pose), str(init)) if from_file else None,
        reference=partial(calling("reference", read_pose), job.reference) if job.reference else None,
        landmarks=partial(calling("landmarks", _read_landmarks), job.landmarks, job.dsa_landmarks, job.dsa)
        if job.landmarks
        else None,
        further=tuple(view(run) for run in job.further),
        cta_name=name_of(job.cta, "cta"),
        **chosen,
    )


def _read_landmarks(path: Path, dsa_path: Path | None, dsa: Path) -> Landmarks | PlacedLandmarks:
    """Points placed on the DSA lie where its file's own spacing put it, not one that was typed."""
    spacing_mm = None
    if dsa_path is not None:
        with suppress(InputError):  # said where the DSA itself is read
            spacing_mm = loaded_spacing_mm(dsa)
    return read_landmarks(path, dsa_path, spacing_mm)
