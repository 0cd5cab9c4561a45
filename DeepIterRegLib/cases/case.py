"""What the commands and the Slicer module do: one case in, one outcome out; files in, files out.

Paths and patients' names never reach the output.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial, reduce
from typing import TYPE_CHECKING

import numpy as np

from DeepIterRegLib.cases.loading import load, loading_steps
from DeepIterRegLib.cases.readings import Attempt, ReadRun, best_attempt, hashed_beside
from DeepIterRegLib.cases.steps import Steps
from DeepIterRegLib.common import devices
from DeepIterRegLib.common.errors import InputError, RegistrationError, keep_notes
from DeepIterRegLib.common.memory import give_back
from DeepIterRegLib.common.messages import naming, within
from DeepIterRegLib.common.option import part_of
from DeepIterRegLib.common.options import Refinement, Search, Segmentation
from DeepIterRegLib.common.progress import Progress, ShouldStop, between
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.geometry import CArm, mpe_mm
from DeepIterRegLib.geometry.landmarks import pose_from_landmarks
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.head import HeadCta
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.compiled import compiles_meanwhile, compiling_search, helping
from DeepIterRegLib.registration.landmarks import (
    Landmarks,
    PlacedLandmarks,
    landmark_errors,
    landmark_warnings,
)
from DeepIterRegLib.registration.result import Registration, content_hash, hash_name
from DeepIterRegLib.registration.steps import Step, expected, registration_steps
from DeepIterRegLib.results.report.outputs import MAX_VIEWS

if TYPE_CHECKING:
    from DeepIterRegLib.registration.settings import RegistrationSettings
    from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation
    from DeepIterRegLib.segmentation.dsa import DsaMasks


@dataclass(frozen=True)
class FurtherView:
    """Another angiogram of a case, of the head as it lay in the first. The fields are those of `Case`."""

    angiogram: Callable[..., Angiogram]
    dsa_vessels: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class Case(Segmentation, Search, Refinement):
    """One registration, whatever its parts come from: files, or nodes of a scene. What was chosen for options comes with it.

    A part is a function without arguments that gives it, so that everything wrong with all parts is said at once, and so
    that the slow reading happens where `register_case` runs.

    Attributes
    ----------
    cta
        As read; `register_case` checks it and brings it to HU.
    angiogram
        Subtracted, with its C-arm. One that takes `on_progress` is given a function to tell the part that is read.
    init
        A named start, or None for the preset's; an `initial_pose` replaces it.
    cta_vessels, cta_veins
        Masks supplied by a person. Vessels replace the segmentation; veins are added to it.
    dsa_vessels : (row, column)
        A mask supplied by a person; replaces the segmentation's vessels.
    initial_pose, reference : (4, 4)
        ``cta_to_carm``, RAS mm: where to start, and what to measure the result against.
    landmarks
        Pairs of points: they give the initial pose where neither `init` nor `initial_pose` is given, and are measured at
        the result.
    segment_cta
        In place of `segment_vessels`, from somebody who keeps its result.
    further
        Other views, which determine the pose together with the first.
    cta_name
        For what is wrong with the CTA: its file's name, without folders.
    """

    cta: Callable[[], Volume]
    angiogram: Callable[..., Angiogram]
    cta_vessels: Callable[[], Volume] | None = None
    cta_veins: Callable[[], Volume] | None = None
    dsa_vessels: Callable[[], np.ndarray] | None = None
    initial_pose: Callable[[], np.ndarray] | None = None
    reference: Callable[[], np.ndarray] | None = None
    landmarks: Callable[[], Landmarks | PlacedLandmarks] | None = None
    segment_cta: Callable[[Volume, CtaSegmentation], Volume] | None = None
    further: tuple[FurtherView, ...] = ()
    cta_name: str = ""


@dataclass(frozen=True)
class Outcome:
    """What `register_case` found, and what it was found on.

    Attributes
    ----------
    registration
    angiogram
        The run as it was registered: subtracted.
    vessels
        The CTA's vessels that were registered, bool on the CTA's grid.
    dsa_masks
        The run's vessels.
    further
        Other views, each with its masks, in the order of `Case.further`.
    """

    registration: Registration
    angiogram: Angiogram
    vessels: Volume
    dsa_masks: DsaMasks
    further: tuple[tuple[Angiogram, DsaMasks], ...] = ()

    @property
    def angiograms(self) -> tuple[Angiogram, ...]:
        """Of all views."""
        return (self.angiogram, *(angiogram for angiogram, _ in self.further))


def register_case(
    case: Case,
    on_progress: Progress,
    should_stop: ShouldStop | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Outcome:
    """Read, segment and register one case.

    Parameters
    ----------
    case
    on_progress
        Told each step; whoever goes on after it lets it expect the steps to come beforehand.
    should_stop
        Asked often; True ends the work.
    on_warning
        Told what is wrong with the inputs before the search; the result's warnings repeat it.

    Raises
    ------
    InputError
        Everything unusable among the parts, in one message.
    RegistrationError
        No pose found.
    Cancelled
        `should_stop` said so.

    The first two carry what was read and assumed until then: `errors.notes_of`.
    """
    said: list[str] = []
    try:
        with devices.on(case.device):
            return _register(case, on_progress, should_stop, on_warning, said)
    except (InputError, RegistrationError) as error:
        keep_notes(error, said)
        raise


def _register(
    case: Case,
    on_progress: Progress,
    should_stop: ShouldStop | None,
    on_warning: Callable[[str], None] | None,
    said: list[str],
) -> Outcome:
    """As `register_case`; `said` gets the notes of the inputs as they are read."""
    views = (FurtherView(case.angiogram, case.dsa_vessels), *case.further)
    steps = Steps(on_progress, should_stop, said)
    on_progress.expect(steps_foreseen(case))
    compute.begin(case.device)
    given = _given(case, views, steps, on_progress)
    from DeepIterRegLib.registration.pipeline import register

    vessels = given.vessels

    def attempt(runs: Sequence[ReadRun], masks: Sequence[DsaMasks]) -> Attempt:
        if not masks and given.empty is not None:
            raise given.empty
        registration = register(
            given.cta.cta,
            [angiogram for angiogram, _ in runs],
            given.settings,
            cta_mask=vessels,
            dsa_masks=masks,
            initial_pose=given.start.initial_pose,
            on_progress=on_progress,
            on_warning=on_warning,
            should_stop=should_stop,
        )
        return Attempt(runs, masks, registration)

    best, hashes = hashed_beside(
        given.runs,
        lambda: best_attempt(
            given.runs,
            lambda: attempt(given.runs, given.dsa_masks),
            lambda others: attempt(others, _dsa_masks(case, others, on_progress)),
        ),
    )
    angiograms = [angiogram for angiogram, _ in best.runs]
    measured = _measured(best.registration, given.start, given.cta.notes)
    # Exports know their DSA, as it was registered, and their CTA again by it, whatever their files are called.
    of_runs = {hash_name(view): found for view, found in enumerate(hashes)}
    registration = replace(
        measured,
        seconds=steps.seconds_with(measured.seconds),
        input_hashes={"cta": given.cta.content_hash, **of_runs},
    )
    (angiogram, masks), *further = zip(angiograms, best.masks, strict=True)
    return Outcome(registration, angiogram, vessels, masks, tuple(further))


def steps_foreseen(case: Case) -> dict[Enum, float]:
    """Seconds of the steps of `register_case`, as far as they are known before anything is read."""
    steps = [
        *loading_steps(network=_init(case) == "network"),
        Step.READ_POSES,
        Step.READ_DSA,
        Step.READ_CTA,
        Step.SEGMENT_DSA,
    ]
    if case.cta_vessels is None:
        steps += [Step.SEGMENT_CTA]
    if compiles_meanwhile():
        steps += [Step.COMPILE]
    return {**expected(*steps, views=1 + len(case.further)), **_registration_foreseen(case, skull_shown=True)}


def _registration_foreseen(case: Case, *, skull_shown: bool) -> dict[Enum, float]:
    try:
        return registration_steps(_settings(case), 1 + len(case.further), skull_shown=skull_shown)
    except InputError:  # said with the other problems, once the poses are read
        return {}


# -- reading -------------------------------------------------------------------------------------------


def _init(case: Case) -> str | None:
    """The start by its name; to the pipeline landmarks are a pose that was given."""
    return "file" if case.initial_pose or _by_landmarks(case) else case.init


@dataclass(frozen=True)
class _Start:
    """What a person says of the pose.

    Attributes
    ----------
    initial_pose, reference : (4, 4)
        ``cta_to_carm``, RAS mm.
    supplied
        Landmarks as they came.
    landmarks
        The same, on the first DSA.
    """

    initial_pose: np.ndarray | None = None
    reference: np.ndarray | None = None
    supplied: Landmarks | PlacedLandmarks | None = None
    landmarks: Landmarks | None = None


def _read_start(case: Case) -> _Start:
    return _Start(
        case.initial_pose() if case.initial_pose else None,
        case.reference() if case.reference else None,
        case.landmarks() if case.landmarks else None,
    )


def _by_landmarks(case: Case) -> bool:
    """Whether landmarks give the initial pose."""
    return case.landmarks is not None and case.init is None and case.initial_pose is None


def _settings(case: Case) -> RegistrationSettings:
    from DeepIterRegLib.registration.settings import RegistrationSettings

    return RegistrationSettings.of(part_of(case, Search, init=_init(case)), part_of(case, Refinement))


def _placed(case: Case, start: _Start, carm: CArm) -> _Start:
    """The start once the C-arm is known: where landmarks lie on the DSA, and the pose that they give."""
    if start.supplied is None:
        return start
    landmarks = start.supplied.on(carm)
    if not _by_landmarks(case):
        return replace(start, landmarks=landmarks)
    found = pose_from_landmarks(landmarks.points_cta_mm, landmarks.pixels, carm)
    return replace(start, landmarks=landmarks, initial_pose=found.cta_to_carm)


@dataclass(frozen=True)
class ReadCta:
    """The head's part of a CTA, the masks that a person supplied, what was said of them, and what tells the CTA's file again."""

    cta: HeadCta
    supplied: list[Volume]
    notes: tuple[str, ...]
    content_hash: str


def cta_of(case: Case, said: list[str], beside: Beside) -> ReadCta:
    """Of a scan from the arch to the vertex the head is a third: the rest does not stay in memory."""
    from DeepIterRegLib.segmentation.cta.mask import as_cta_mask

    whole = case.cta()
    said += whole.notes  # also where it turns out to be no head
    hashing = beside.start(partial(content_hash, whole.voxels, whole.affine))
    supplied = [as_cta_mask(read(), whole) for read in (case.cta_vessels, case.cta_veins) if read]
    mask_notes = [note for mask in supplied for note in mask.notes]
    with naming(case.cta_name):
        cta = prepare_cta(whole, case.head_centre)
    said += [note for note in cta.notes if note not in whole.notes] + mask_notes
    return ReadCta(cta, supplied, (*cta.notes, *mask_notes), hashing.result())


def _read_view(view: FurtherView, name: str, tell: Callable[[float], None]) -> tuple[Angiogram, np.ndarray | None]:
    """A run and the mask that a person supplied for it; problems begin with `name` where there are several runs."""
    from DeepIterRegLib.segmentation.dsa import as_dsa_mask

    try:
        takes_progress = "on_progress" in inspect.signature(view.angiogram).parameters
        angiogram = view.angiogram(on_progress=tell) if takes_progress else view.angiogram()
        return angiogram, as_dsa_mask(view.dsa_vessels(), angiogram) if view.dsa_vessels else None
    except InputError as error:
        raise InputError([within(problem, f"{name}: " if name else "") for problem in error.problems]) from error


# -- reading and segmentation, side by side -----------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """What a registration is made of.

    Attributes
    ----------
    settings, start
    cta, vessels
    runs, dsa_masks
    empty
        In place of masks: nothing was found in a run that can be read in another way.
    """

    settings: RegistrationSettings
    start: _Start
    cta: ReadCta
    vessels: Volume
    runs: list[ReadRun]
    dsa_masks: list[DsaMasks]
    empty: InputError | None


def _given(case: Case, views: Sequence[FurtherView], steps: Steps, on_progress: Progress) -> _Given:
    """The runs and their masks, and beside them the CTA and its vessels.

    Raises
    ------
    InputError
        All that is wrong with any of the files; if nothing is, with any of the segmentations.
    """
    start, runs = _Start(), list[ReadRun]()
    cta_said: list[str] = []
    # What keeps libraries silent holds for all threads, so that it ends after the last of them.
    with quoting_nothing(), compiling_search() as compiles, Beside() as beside:
        read_cta = steps.beside(beside, Step.READ_CTA, lambda tell: cta_of(case, cta_said, beside))
        segment_cta = steps.beside(beside, Step.SEGMENT_CTA, lambda tell: vessels_of(case, reading.result(), tell))
        reading = beside.start(read_cta)
        segmenting = beside.start(segment_cta, after=reading)
        load(steps, on_progress, network=_init(case) == "network")  # beside the reading of the CTA
        with steps.step(Step.READ_POSES):
            start = _read_start(case)
            settings = _settings(case)
            if len(views) > MAX_VIEWS:
                raise InputError(f"There are {len(views)} DSAs; at most {MAX_VIEWS} can be registered together.")
        for number, view in enumerate(views, 1):
            with steps.step(Step.READ_DSA, number, len(views)):
                tell = between(on_progress.of(Step.READ_DSA), (number - 1) / len(views), number / len(views))
                runs.append(_read_view(view, f"DSA {number}" if len(views) > 1 else "", tell))
                steps.say(runs[-1][0].notes)
                shown = any(run.unsubtracted is not None for run, *_ in runs)
                on_progress.expect(_registration_foreseen(case, skull_shown=shown))
                # Points on the DSA are pixels only by its C-arm, so the start is complete only now.
                if number == 1:
                    start = _placed(case, start, runs[0][0].carm)
        with steps.waiting(Step.READ_CTA) as look:
            try:
                cta = reading.result(look)
            finally:
                steps.say(cta_said)
        # All is read before anything is refused: who mends one file hears of the other at the same time.
        steps.raise_problems()
        dsa_masks: list[DsaMasks] = []
        empty: InputError | None = None  # with vessels of the other brightness, none are found
        with steps.step(Step.SEGMENT_DSA):
            try:
                dsa_masks = _dsa_masks(case, runs, on_progress)
            except InputError as error:
                if not any(angiogram.other_readings for angiogram, _ in runs):
                    raise
                empty = error
        give_back()  # what comes next of the CTA takes the most
        with steps.waiting(Step.SEGMENT_CTA) as look:
            vessels = segmenting.result(look)
        steps.raise_problems()
        give_back()
        steps.wait_for(Step.COMPILE, compiles, helping)
    return _Given(settings, start, cta, vessels, runs, dsa_masks, empty)


# -- vessels -------------------------------------------------------------------------------------------


def vessels_of(case: Case, read: ReadCta, tell: Callable[[float], None]) -> Volume:
    """The vessels to register: those segmented here unless a person supplied vessels, and all that was supplied."""
    from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels

    segment = case.segment_cta or partial(segment_vessels, on_progress=tell)
    found = [] if case.cta_vessels else [segment(read.cta, CtaSegmentation.of(case))]
    supplied = read.supplied
    return _union([*(mask.on_grid_of(supplied[0]) if supplied else mask for mask in found), *supplied])


def _dsa_masks(case: Case, runs: Sequence[ReadRun], on_progress: Progress) -> list[DsaMasks]:
    """The runs' vessels as segmented here, or as a person supplied them (row, column).

    Which frames to use was said of the first run; of the others all are used.
    """
    from DeepIterRegLib.segmentation.dsa import DsaSegmentation, segment_dsa

    first, whole = DsaSegmentation.of(case), DsaSegmentation()
    # Frames are counted in each run for itself: the range of the first says nothing of another.
    others = replace(first, first_frame=whole.first_frame, last_frame=whole.last_frame)
    # The first tells how far it has come, and while it waits for those beside it that it is still there.
    tell = between(on_progress.of(Step.SEGMENT_DSA), 0.0, 1 / len(runs))
    tell(0.0)
    with Beside() as beside:
        works = [partial(segment_dsa, run, others, lambda done: beside.stop_if_ended()) for run, _ in runs[1:]]
        jobs = [beside.start(work) for work in works]
        found = [segment_dsa(runs[0][0], first, tell), *(job.result(partial(tell, 1.0)) for job in jobs)]
    masks = zip(found, runs, strict=True)
    return [mask if own is None else _with_supplied_vessels(mask, own) for mask, (_, own) in masks]


def _union(masks: list[Volume]) -> Volume:
    first, *others = masks
    # A mask is as large as the CTA: of one no copy is made.
    return first.with_voxels(
        reduce(np.logical_or, [mask.voxels for mask in others], first.voxels.astype(bool, copy=False))
    )


def _with_supplied_vessels(found: DsaMasks, vessels: np.ndarray) -> DsaMasks:
    """Every supplied pixel is fully vessel; arteries and veins stay as found where the supplied mask agrees."""
    return replace(
        found,
        vesselness=vessels.astype(np.float32),
        vessels=vessels,
        arteries=found.arteries & vessels,
        veins=found.veins & vessels,
    )


# -- the result ----------------------------------------------------------------------------------------


def _measured(registration: Registration, start: _Start, notes: Sequence[str]) -> Registration:
    """The registration with the CTA's notes, the errors of the landmarks, and each view's MPE against the reference pose."""
    pose, landmarks = registration.cta_to_carm, start.landmarks
    errors = () if landmarks is None else landmark_errors(landmarks, registration.carm, pose)
    warnings = (*notes, *registration.warnings, *landmark_warnings(errors))
    registration = replace(registration, landmarks=errors, warnings=warnings)
    if start.reference is None:
        return registration
    centre = registration.centre_cta_mm
    views = tuple(
        replace(view, mpe_mm_to_reference=float(mpe_mm(view.carm, pose, start.reference, centre)))
        for view in registration.views
    )
    return replace(registration, views=views, mpe_mm_to_reference=views[0].mpe_mm_to_reference)
