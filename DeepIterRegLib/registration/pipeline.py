"""The main job: a CTA and an angiogram go in, the pose comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from DeepIterRegLib.common import devices
from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.common.installation import versions
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.between_views import STILL, Contradiction, Corrected, correct_views, expectations
from DeepIterRegLib.registration.confidence import MaskedView, announced, assess, check_inputs, with_residue, with_skull
from DeepIterRegLib.registration.context import Clock, Context
from DeepIterRegLib.registration.frames_of_views import Followed, follow_frames, with_frames
from DeepIterRegLib.registration.initial import InitialPoses, initial_poses, level_record, refine_levels
from DeepIterRegLib.registration.joint import refine_with_skull
from DeepIterRegLib.registration.result import Confidence, Registration, StageRecord, ViewRecord
from DeepIterRegLib.registration.result_warnings import (
    CARD_FULL,
    NO_MATCH,
    SKULL_ONLY,
    contradiction_warning,
    refuse_no_match,
    result_warnings,
    skull_agreements,
    skull_warnings,
    view_records,
    warnings_of_corrections,
)
from DeepIterRegLib.registration.scene import Head, Scene, bone_of, make_scene
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.steps import Step, expected, registration_steps
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
from DeepIterRegLib.segmentation.dsa import DsaMasks, segment_dsa

_WITH_SKULL = "ZNCC and gradient correlation"


def register(
    cta: Volume,
    angiograms: Angiogram | Sequence[Angiogram],
    settings: RegistrationSettings | None = None,
    *,
    cta_mask: Volume | None = None,
    dsa_masks: DsaMasks | Sequence[DsaMasks] | None = None,
    initial_pose: np.ndarray | None = None,
    on_progress: Progress | None = None,
    on_warning: Callable[[str], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> Registration:
    """Find the pose of the CTA in the C-arm frame.

    Parameters
    ----------
    cta
        As `prepare_cta` gives it, which knows the head's centre. Another volume is prepared here; with `cta_mask` it is taken as it is, in
        HU, its grid's middle for the head's.
    angiograms
        Subtracted, contrast negative. Several are views of one head that lies still in one C-arm frame, and determine one pose.
    cta_mask, dsa_masks
        Vessels, of each angiogram; made by our own segmentation where not given.
    initial_pose : (4, 4)
        ``cta_to_carm``; needed with init `file`; with `search`, `network` and `auto` it takes the radiological pose's place.
    on_progress
        Told each step.
    on_warning
        Told what is wrong with the inputs before time is spent on them; the result's warnings repeat it.
    should_stop
        Asked often; True ends the work, with `Cancelled`.

    Raises
    ------
    InputError
        Nothing to register, or settings and inputs that do not fit.
    RegistrationError
        No pose explains the image, neither its vessels nor, where mask frames show it, the skull.
    """
    settings = settings or RegistrationSettings()
    progress = on_progress or Progress()
    clock = Clock()
    runs = (angiograms,) if isinstance(angiograms, Angiogram) else tuple(angiograms)
    given_masks = (dsa_masks,) if isinstance(dsa_masks, DsaMasks) else dsa_masks
    _refuse_what_does_not_fit(runs, given_masks, settings, initial_pose)
    progress.expect(_expected(settings, runs, cta_mask is None, given_masks is None))
    compute.begin(settings.device)
    # What the CTA's bone and vessels become is made beside the masks, which a card may make meanwhile.
    with devices.on(settings.device) as place, Beside() as beside:
        cta = cta if cta_mask is not None else prepare_cta(cta)
        bone = bone_of(cta)
        if bone is not None and (settings.init == "auto" or any(run.unsubtracted is not None for run in runs)):
            bone.make_points(beside, to_find=_finds_skull(settings))
        head = Head(cta, cta_mask or _cta_vessels(cta, progress, clock), bone)
        points = beside.start(lambda: head.points)
        masks = tuple(given_masks or _dsa_masks(runs, progress, clock))
        points.result()
    found = register_head(
        head, runs, masks, settings, initial_pose, progress, clock, on_warning=on_warning, should_stop=should_stop
    )
    told = CARD_FULL in found.warnings or not place.full
    return found if told else replace(found, warnings=(*found.warnings, CARD_FULL))


def register_head(
    head: Head,
    runs: Sequence[Angiogram],
    masks: Sequence[DsaMasks],
    settings: RegistrationSettings,
    given: np.ndarray | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
    *,
    on_warning: Callable[[str], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> Registration:
    """`register` where the CTA is ready and the runs have their masks.

    `given` is a pose (4, 4), or with init `earlier` poses (K, 4, 4) of other runs. The seconds are those of `clock`, which may have
    begun before.
    """
    progress, clock, cta = progress or Progress(), clock or Clock(), head.cta
    progress(Step.CHECK_INPUTS, 0.0)
    scene = _scene_with_skull(head, tuple(runs), masks, settings)
    doubts = _doubts(head.vessels, runs, masks, on_warning)
    clock.stop(Step.CHECK_INPUTS.key)
    context = Context(scene, settings, progress, should_stop, clock)
    radiological = pose.radiological(cta.centre_mm)
    # A pose from a file or another run is judged against the radiological one (A eq. 12); for a search it is the middle of the box.
    start = radiological if given is None or settings.init in ("file", "earlier") else given
    with compute.on(settings.device) as computing, context.beside:
        initial, found = _find(context, start, given)
        answer = _answer(context, _first_order_stages(context, found, runs), runs, start, given)
        found, judged = answer.found, answer.judgement()
        views = with_frames(context, judged.views, judged.followed)
    full = (CARD_FULL,) if computing.full else ()
    warnings = result_warnings(runs, judged.views, initial.init, found.cta_to_carm, radiological, settings)
    return Registration(
        cta_to_carm=found.cta_to_carm,
        carm=views[0].carm,
        centre_cta_mm=cta.centre_mm,
        score=views[0].score,
        views=views,
        init=initial.init,
        stages=found.records,
        seconds=clock.seconds(),
        warnings=(*doubts, *initial.warnings, *warnings, *judged.warnings, *full),
        computed_on=computing.name,
        settings=settings.to_json_dict(),
        versions=versions(),
        confidence=judged.confidence,
    )


def find_pose(
    scene: Scene, start: np.ndarray, settings: RegistrationSettings, should_stop: ShouldStop | None = None
) -> np.ndarray:
    """The pose (4, 4) that `register` finds from `start` (4, 4) in the radiological pose's place, without its first-order stages.

    For many starts in one scene: neither confidence nor what else a reader is told is made.

    Raises
    ------
    RegistrationError
        No pose explains the image.
    """
    context = Context(scene, settings, should_stop=should_stop)
    with compute.on(settings.device):
        _, found = _find(context, start, start)
        refuse_no_match(context.score(found.cta_to_carm), skull_agreements(scene, found.cta_to_carm))
    return found.cta_to_carm


# -- before the pose -----------------------------------------------------------------------------------


def _refuse_what_does_not_fit(
    runs: Sequence[Angiogram],
    masks: Sequence[DsaMasks] | None,
    settings: RegistrationSettings,
    initial_pose: np.ndarray | None,
) -> None:
    if not runs:
        raise InputError("No DSA was given: give at least one.")
    if masks is not None and len(masks) != len(runs):
        raise InputError(f"There are {len(runs)} DSAs but masks of {len(masks)}: give the masks of each, or of none.")
    if settings.init == "file" and initial_pose is None:
        raise InputError("Init is `file` but no initial pose was given: give a pose file.")


def _expected(
    settings: RegistrationSettings, runs: Sequence[Angiogram], segment_cta: bool, segment_dsa: bool
) -> dict[Enum, float]:
    """Seconds of the steps to come; what is segmented beforehand is not among them."""
    skull_shown = any(run.unsubtracted is not None for run in runs)
    segmented = [step for step, wanted in ((Step.SEGMENT_CTA, segment_cta), (Step.SEGMENT_DSA, segment_dsa)) if wanted]
    return {
        **expected(*segmented, views=len(runs)),
        **registration_steps(settings, len(runs), skull_shown=skull_shown),
    }


def _doubts(
    vessels: Volume,
    runs: Sequence[Angiogram],
    masks: Sequence[DsaMasks],
    on_warning: Callable[[str], None] | None,
) -> tuple[str, ...]:
    """What is wrong with the inputs, told before time is spent on them."""
    doubts = tuple(check_inputs(vessels, list(zip(runs, masks, strict=True))))
    if on_warning is not None:
        for doubt in doubts:
            on_warning(doubt)
    return doubts


def _scene_with_skull(
    head: Head, runs: tuple[Angiogram, ...], masks: Sequence[DsaMasks], settings: RegistrationSettings
) -> Scene:
    """The scene, and in it the skull, whose points are made meanwhile. Where a volume is not in HU, bone cannot be told."""
    skull = head.skull.in_runs(runs, [found.vessels for found in masks]) if head.skull else None
    with Beside() as beside:
        if skull is not None:
            skull.begin(beside, to_find=_finds_skull(settings))
        scene = make_scene(head.vessels, runs, masks, head.cta.centre_mm, head.points)
    return replace(scene, skull=skull)


def _cta_vessels(cta: Volume, progress: Progress, clock: Clock) -> Volume:
    progress(Step.SEGMENT_CTA, 0.0)
    vessels = segment_vessels(cta, on_progress=progress.of(Step.SEGMENT_CTA))
    clock.stop(Step.SEGMENT_CTA.key)
    return vessels


def _finds_skull(settings: RegistrationSettings) -> bool:
    """Whether the skull is asked where the head is, and not only what it says of a pose."""
    return settings.init in ("skull", "auto", "earlier")


def _dsa_masks(runs: Sequence[Angiogram], progress: Progress, clock: Clock) -> list[DsaMasks]:
    masks = []
    for number, run in enumerate(runs):
        progress(Step.SEGMENT_DSA, number / len(runs))
        masks.append(segment_dsa(run))
    clock.stop(Step.SEGMENT_DSA.key)
    return masks


# -- the pose ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A pose (4, 4), the stages that led to it, and whether the skull had a say in the last, in a mask frame or by the residue."""

    cta_to_carm: np.ndarray
    records: tuple[StageRecord, ...]
    by_skull: bool = False
    by_residue: bool = False


def _find(context: Context, start: np.ndarray, given: np.ndarray | None) -> tuple[InitialPoses, _Found]:
    """Initial poses about `start` (4, 4), then second-order refinement: of vessels, and of vessels and skull together."""
    settings = context.settings
    initial = initial_poses(context, start, given)
    found, records = initial.found, list(initial.records)
    context.clock.stop("initial_pose")
    levels_of = (
        (Step.REFINE_COARSE, "MinIP, coarse", () if initial.refined else settings.near_levels),
        (Step.REFINE, "MinIP", settings.levels),
    )
    for step, name, levels in levels_of:
        if levels:
            context.expect(step)  # the coarse one may come unforeseen, where a proposal was refused
            context.progress(step, 0.0)
            found = refine_levels(context, found.poses, levels, step)
            records.append(level_record(name, found, context.clock.stop(step.key), levels))
    by_skull = settings.skull_weight > 0 and len(initial.skull_poses) > 0
    if by_skull:
        context.progress(Step.REFINE_WITH_SKULL, 0.0)
        found = refine_with_skull(
            context.scene,
            np.concatenate([found.poses, initial.skull_poses]),
            settings.skull_weight,
            context.saturation_mm,
            seed=settings.seed,
            should_stop=context.should_stop,
            on_progress=context.progress.of(Step.REFINE_WITH_SKULL),
        )
        seconds = context.clock.stop(Step.REFINE_WITH_SKULL.key)
        trace = found.scores
        records.append(StageRecord("Vessels and skull", _WITH_SKULL, found.score, trace, seconds, len(trace) - 1))
        context.progress(Step.REFINE_WITH_SKULL, 1.0, found.score)
    # The residue of moved bone says where the head is; what a header is off by it is too faint to tell.
    sure = by_skull and context.scene.skull is not None and context.scene.skull.in_mask_frame
    return initial, _Found(found.cta_to_carm, tuple(records), sure, by_skull and not sure)


def _first_order_stages(context: Context, found: _Found, runs: Sequence[Angiogram]) -> _Found:
    """The papers' stages, where the settings have some."""
    if not context.settings.stages:
        return found
    from DeepIterRegLib.registration.papers.stages import run_stage

    for number, stage in enumerate(context.settings.stages, 1):
        name = f"Stage {number}: {'vessel mask' if stage.image == 'mask' else 'MinIP'}"
        pose_found, record = run_stage(context, name, stage, found.cta_to_carm, runs)
        found = _Found(pose_found, (*found.records, record), found.by_skull)  # the stages look at vessels alone
        context.clock.stop(f"stage_{number}")
    return found


# -- after it ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    """A pose with what a reader is told of it, or why it is refused."""

    found: _Found
    judged: _Judgement | None = None
    refused: RegistrationError | None = None

    @property
    def probability(self) -> float:
        """That it is right; 0 where it is refused."""
        return self.judged.confidence.probability if self.judged else 0.0

    @property
    def trusted(self) -> bool:
        return self.judged is not None and self.judged.confidence.state != "rejected"

    def judgement(self) -> _Judgement:
        """What a reader is told.

        Raises
        ------
        RegistrationError
            Nothing speaks for the pose.
        """
        if self.judged is None:
            raise self.refused or RegistrationError("No pose was found.")
        return self.judged


def _answer(
    context: Context, found: _Found, runs: Sequence[Angiogram], start: np.ndarray, given: np.ndarray | None
) -> _Answer:
    """The answer at the pose found; where nothing is to be trusted there, that of each view alone. `start`, `given` as in `_find`."""
    together = _answer_at(context, found, runs)
    # Without the skull one view alone is too often wrong to tell what its header is off by.
    if together.trusted or len(runs) == 1 or context.settings.refine_geometry == "off" or not found.by_skull:
        context.progress(Step.CONFIDENCE, 1.0)
        return together
    answer = _answer_by_each_view(context, start, given, runs, together)
    context.progress(Step.EACH_VIEW, 1.0)
    return answer


def _answer_at(
    context: Context, found: _Found, runs: Sequence[Angiogram], by_each: np.ndarray | None = None
) -> _Answer:
    """The pose found, corrected where views contradict each other, and judged; `by_each` (V, 4, 4) as in `_correct_views`."""
    # Before the judgement: scores and confidence are those of the C-arms that are reported.
    context, found, corrected, said = _correct_views(context, found, by_each)
    try:
        judged = _judge(context, found, corrected, runs)
    except RegistrationError as error:
        return _Answer(found, refused=error)
    return _Answer(found, replace(judged, warnings=(*judged.warnings, *said)))


def _answer_by_each_view(
    context: Context, start: np.ndarray, given: np.ndarray | None, runs: Sequence[Angiogram], together: _Answer
) -> _Answer:
    """Where all views together find nothing to trust, each is asked alone: their headers may contradict each other too much.

    What is found is taken if it is the more probable. `start` and `given` as in `_find`.
    """
    scene, poses, by_skull = context.scene, [], True
    context.expect(Step.EACH_VIEW)
    for number, (view, masks, run) in enumerate(zip(scene.views, scene.dsa_masks, runs, strict=True)):
        context.progress(Step.EACH_VIEW, number / (len(runs) + 1))
        skull = scene.skull.in_runs((run,), (masks.vessels,)) if scene.skull else None
        alone = replace(scene, views=(view,), dsa_masks=(masks,), skull=skull)
        _, found = _find(replace(context, scene=alone, progress=Progress(), clock=Clock()), start, given)
        poses.append(found.cta_to_carm)
        by_skull = by_skull and found.by_skull
    context.progress(Step.EACH_VIEW, len(runs) / (len(runs) + 1))
    first = _Found(poses[0], together.found.records, by_skull)
    apart = _answer_at(replace(context, progress=Progress(), clock=Clock()), first, runs, np.stack(poses))
    seconds = context.clock.stop(Step.EACH_VIEW.key)
    if apart.judged is None or apart.probability <= together.probability:
        return together
    score = float(np.mean([view.score for view in apart.judged.views]))
    record = StageRecord("Each view alone", "ZNCC of the vessels", score, (score,), seconds, len(runs))
    return replace(apart, found=replace(apart.found, records=(*apart.found.records, record)))


def _correct_views(
    context: Context, found: _Found, start: np.ndarray | None = None
) -> tuple[Context, _Found, Corrected | None, tuple[str, ...]]:
    """Scene and pose after each view was let see the head where its image shows it, how far that is, and warnings.

    None where the settings or the images want no correction. `start` (V, 4, 4) are poses found by each view alone.
    """
    settings, scene = context.settings, context.scene
    asked = settings.refine_geometry == "on" or settings.between_runs is not None
    # By vessels alone the images seldom say so, and of 3 of 40 patients of whom they did the pose was wrong: free views fit it too.
    if not settings.corrects_views(len(scene.views)) or not (asked or found.by_skull):
        return context, found, None, ()
    context.progress(Step.CORRECT_VIEWS, 0.0)
    what = expectations(settings.between_runs or STILL)
    only = {"auto": what, "on": what[1:], "off": what[:1]}[
        settings.refine_geometry
    ]  # the first says that the head moved
    corrected = correct_views(
        scene,
        found.cta_to_carm if start is None else start,
        only,
        context.saturation_mm,
        at_least=-np.inf if asked else 0.0,
        skull_weight=settings.skull_weight if found.by_skull else 0.0,
        seed=settings.seed,
        should_stop=context.should_stop,
    )
    context.clock.stop(Step.CORRECT_VIEWS.key)
    if corrected is None:
        return context, found, None, ()
    if isinstance(corrected, Contradiction):
        return context, found, None, (contradiction_warning(corrected),)
    context = replace(context, scene=replace(scene, views=corrected.views))
    return context, replace(found, cta_to_carm=corrected.cta_to_carm), corrected, ()


@dataclass(frozen=True)
class _Judgement:
    """What a reader is told of a pose, and what follows the head through the frames."""

    views: tuple[ViewRecord, ...]
    confidence: Confidence
    warnings: tuple[str, ...]
    followed: Followed | None


def _judge(context: Context, found: _Found, corrected: Corrected | None, runs: Sequence[Angiogram]) -> _Judgement:
    """Each view's score, the confidence and the warnings of a pose.

    Raises
    ------
    RegistrationError
        Nothing speaks for it.
    """
    context.progress(Step.CONFIDENCE, 0.0)
    scene, cta_to_carm = context.scene, found.cta_to_carm
    views = view_records(scene, cta_to_carm, corrected, context.settings)
    score = float(np.mean([view.score for view in views]))
    # The skull knows the runs by their own headers.
    skull = skull_agreements(scene, corrected.by_header if corrected else cta_to_carm)
    # Before the confidence, which would judge a pose that nothing speaks for.
    refuse_no_match(score, skull)
    followed = follow_frames(context, views, cta_to_carm)  # most of the confidence is work for one thread
    context.progress(Step.CONFIDENCE, 0.4)
    shown = [MaskedView(v, m) for v, m in zip(scene.views, scene.dsa_masks, strict=True)]
    confidence = assess(scene.points, shown, cta_to_carm, scene.centre_cta_mm, seed=context.settings.seed)
    if skull:
        worst = max(skull.values(), key=lambda agreement: agreement.distance_mm)
        confidence = with_skull(confidence, worst.score, worst.best_score, worst.distance_mm)
    elif scene.skull and found.by_residue and corrected is None:  # as those that it was trained on
        confidence = with_residue(confidence, scene.skull, cta_to_carm, scene.centre_cta_mm, seed=context.settings.seed)
    along_beam_mm = (views[0].axis_error_mm or (1.0, 1.0, 1.0))[2]
    confidence = announced(
        confidence, len(views), along_beam_mm, corrected=corrected is not None and corrected.of_headers
    )
    context.clock.stop(Step.CONFIDENCE.key)
    warnings = (
        *((SKULL_ONLY,) if not score > NO_MATCH else ()),
        *skull_warnings(skull, len(runs)),
        *warnings_of_corrections(views, corrected),
    )
    return _Judgement(views, confidence, warnings, followed)
