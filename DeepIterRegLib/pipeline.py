"""The main job: a CTA and an angiogram go in, the pose comes out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
import torch

from DeepIterRegLib import similarity
from DeepIterRegLib.alignment import (
    REFINE,
    Points,
    View,
    ascend,
    joint_equations,
    local_radius_mm,
    make_targets,
    move,
    pose_covariances,
    resize_area,
    tangents,
    vessel_channels,
)
from DeepIterRegLib.angiogram import Angiogram
from DeepIterRegLib.bone import BoneAgreement, Skull
from DeepIterRegLib.calibration import BetweenRuns, Corrected, GeometrySlack, correct_views
from DeepIterRegLib.confidence import MaskedView, assess, check_inputs, with_skull
from DeepIterRegLib.errors import InputError, RegistrationError
from DeepIterRegLib.geometry import SUCCESS_MM, CArm, pose
from DeepIterRegLib.initial import NetworkInit, Scene, Started, level_record, scene_zncc, view_znccs
from DeepIterRegLib.initial import initial_pose as find_initial_pose
from DeepIterRegLib.progress import Progress, say_nothing
from DeepIterRegLib.refine import PAPER_A_STAGE_1, PAPER_A_STAGE_2, RefineResult, RefineSettings, refine
from DeepIterRegLib.registration import NAMED_INITS, Init, InitRecord, Registration, StageRecord, ViewRecord
from DeepIterRegLib.rendering.splat import SplatProjector
from DeepIterRegLib.search import Found, Level, SearchSettings, climb
from DeepIterRegLib.segmentation.cta import segment_vessels
from DeepIterRegLib.segmentation.dsa import DsaMasks, segment_dsa
from DeepIterRegLib.volume import Volume

Device = Literal["auto", "cpu", "cuda"]
ShouldStop = Callable[[], bool]

# On the phantoms 95 % of random poses score below 0.05 to 0.15, by patient, and right poses 0.28 to 0.62: below this ZNCC
# nothing was matched. What a search finds with another patient's DSA scores 0.23 to 0.50: that no score can tell.
_NO_MATCH = 0.15
# Resolution at which `ViewRecord.axis_error_mm` is found, and the error above which a reader is told.
_ERROR_ROWS, _ERROR_POINTS, _ERROR_SIGMA_PX = 256, 30000, 1.0
_POORLY_DETERMINED_MM = 2.5
# The last stage with the skull: grid and points of the vessels, steps.
_SKULL_ROWS, _SKULL_POINTS, _SKULL_SIGMA_PX, _SKULL_ITERATIONS = 256, 30000, 1.0, 12
_WITH_SKULL = "ZNCC and gradient correlation"
_SKULL_ONLY = (
    "The vessels hardly match, only the skull does: check that the masks show vessels, "
    "and that the CTA's mask has those of the DSA."
)


@dataclass(frozen=True)
class IntensityStage:
    """One first-order stage of paper A: render, compare, step.

    Attributes
    ----------
    image
        What the DRR is compared with: vessel mask of the DSA, or its MinIP.
    score
        Similarity.
    renderer
        `splat` or `siddon` (DiffDRR).
    rows
        Working grid.
    climb
        Optimiser and rates.
    """

    image: Literal["mask", "minip"]
    score: Literal["ncc", "mutual_information"]
    renderer: Literal["splat", "siddon"]
    rows: int
    climb: RefineSettings


@dataclass(frozen=True)
class RegistrationSettings:
    """All that decides a registration besides its inputs.

    Attributes
    ----------
    name
        Of the preset.
    init
        Where the refinement starts. `file` takes the pose given to `register`.
    search
        Used with init `search` and `auto`; its levels also refine what the network proposes.
    network
        Used with init `network` and `auto`.
    near_levels
        Second-order refinement on the contrast of the MinIP, coarse to fine, where no search has done that work.
    levels
        Second-order refinement on the same contrast to the end.
    skull_weight
        What the skull's gradient correlation counts beside the vessels' ZNCC in the last stage, where the mask frame shows
        the skull and init is `bone` or `auto`; 0 for never.
    stages
        First-order stages after that.
    refine_geometry
        Correct the headers' geometry within these limits, once the pose is found; None leaves it as it is.
    between_runs
        With several views: let the head have moved between their runs, as far as that; None takes it to have lain still.
    device, seed
    """

    name: str = "default"
    init: Init = "auto"
    search: SearchSettings = field(default_factory=SearchSettings)
    network: NetworkInit = field(default_factory=NetworkInit)
    near_levels: tuple[Level, ...] = (
        Level(128, 8000, 1.5, 12, 1),
        Level(256, 30000, 1.0, 8, 1),
    )
    levels: tuple[Level, ...] = (Level(256, 30000, 1.0, 5, 3, REFINE), Level(384, 40000, 0.8, 8, 1, REFINE))
    skull_weight: float = 1.0
    stages: tuple[IntensityStage, ...] = ()
    refine_geometry: GeometrySlack | None = None
    between_runs: BetweenRuns | None = None
    device: Device = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.init not in (*NAMED_INITS, "file"):
            problems.append(f"--init is {self.init!r}: give radiological, search, network, bone, auto or a pose file.")
        if self.device not in ("auto", "cpu", "cuda"):
            problems.append(f"--device is {self.device!r}: give auto, cpu or cuda.")
        if self.device == "cuda" and not torch.cuda.is_available():
            problems.append("--device is cuda, but no CUDA device is available: give --device cpu.")
        if self.seed < 0:
            problems.append(f"--seed is {self.seed}: give 0 or a positive whole number.")
        if problems:
            raise InputError(problems)

    @classmethod
    def preset(
        cls,
        name: str,
        *,
        init: Init | None = None,
        device: Device = "auto",
        seed: int = 0,
        weights: str = "",
        refine_geometry: bool = False,
        between_runs: bool = False,
    ) -> RegistrationSettings:
        """`default`, or `paper`: radiological pose, then A 4.3.4's two stages of Adam on DiffDRR's Siddon images."""
        slack = GeometrySlack() if refine_geometry else None
        motion = BetweenRuns() if between_runs else None
        if name == "default":
            return cls(
                init=init or "auto",
                # Beside search and skull the network needs no many starts.
                network=NetworkInit(weights, 8, 1) if init in (None, "auto") else NetworkInit(weights),
                refine_geometry=slack,
                between_runs=motion,
                device=device,
                seed=seed,
            )
        if name == "paper":
            return cls(
                name="paper",
                init=init or "radiological",
                network=NetworkInit(weights),
                levels=(),
                near_levels=(),
                skull_weight=0.0,
                stages=(
                    IntensityStage("mask", "ncc", "siddon", 128, PAPER_A_STAGE_1),
                    IntensityStage("minip", "mutual_information", "siddon", 128, PAPER_A_STAGE_2),
                ),
                refine_geometry=slack,
                between_runs=motion,
                device=device,
                seed=seed,
            )
        raise InputError(f"There is no preset {name!r}: give default or paper.")

    def torch_device(self) -> torch.device:
        """The device meant by `auto`: CUDA where there is one."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)


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
    found, started, records = _start_and_climb(scene, start, initial_pose, settings, clock, report, should_stop)
    current = found.cta_to_carm
    for number, stage in enumerate(settings.stages, 1):
        name = f"Stage {number}: {'vessel mask' if stage.image == 'mask' else 'MinIP'}"
        current, record = _intensity_stage(
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
    views = _view_records(scene, current, corrected, settings)
    score = float(np.mean([view.score for view in views]))
    skull = _agreements(scene, current)
    _refuse_no_match(score, skull)
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
            *_warnings(runs, views, started.init, current, radiological, settings),
            *((_SKULL_ONLY,) if not score > _NO_MATCH else ()),
            *_skull_warnings(skull, len(runs)),
            *_warnings_of_corrections(views, corrected),
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
    found, _, _ = _start_and_climb(scene, start, start, settings, _Clock(), say_nothing, should_stop)
    current = found.cta_to_carm
    score = scene_zncc(scene, current, settings.search.saturation_mm, settings.seed)
    _refuse_no_match(score, _agreements(scene, current))
    return current


def _start_and_climb(
    scene: Scene,
    start: np.ndarray,
    given: np.ndarray | None,
    settings: RegistrationSettings,
    clock: _Clock,
    report: Progress,
    should_stop: ShouldStop | None,
) -> tuple[Found, Started, list[StageRecord]]:
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
    if settings.near_levels and not started.climbed:
        found = _climb("MinIP, coarse", scene, found, settings.near_levels, settings, report, should_stop)
        records.append(level_record("MinIP, coarse", found, clock.stop("refine_minip_coarse"), settings.near_levels))
    if settings.levels:
        found = _climb("MinIP", scene, found, settings.levels, settings, report, should_stop)
        records.append(level_record("MinIP", found, clock.stop("refine_minip"), settings.levels))
    if settings.skull_weight > 0 and len(started.skull_poses):
        report("Vessels and skull", 0.0)
        poses = np.concatenate([found.poses, started.skull_poses])
        found, trace = climb_with_skull(scene, poses, settings.skull_weight, settings, should_stop)
        seconds = clock.stop("refine_skull")
        records.append(StageRecord("Vessels and skull", _WITH_SKULL, found.score, trace, seconds, len(trace) - 1))
        report("Vessels and skull", 1.0, found.score)
    return found, started, records


def _refuse_no_match(score: float, skull: dict[int, BoneAgreement]) -> None:
    """Refuse a pose that neither the vessels speak for nor the skull, in every run whose mask frame shows it."""
    if score > _NO_MATCH or (skull and all(agreement.fits for agreement in skull.values())):
        return
    raise RegistrationError(
        f"No pose of the CTA explains the DSA (ZNCC of the vessels is {score:.3f}): check that both are of the same "
        "patient, that angles, SID and SOD are right, and look at the masks with `deepiterreg segment`."
    )


def make_scene(
    cta_vessels: Volume, angiograms: Sequence[Angiogram], masks: Sequence[DsaMasks], centre_cta_mm: np.ndarray
) -> Scene:
    """What is registered: the vessels of the CTA, and those of each run.

    Raises
    ------
    InputError
        A mask without vessels.
    """
    points = vessel_points(cta_vessels)
    problems, views = [], []
    for number, (run, found) in enumerate(zip(angiograms, masks, strict=True), 1):
        if not np.any(found.vesselness[run.valid] > 0):
            which = "The DSA's vessel mask" if len(angiograms) == 1 else f"The vessel mask of DSA {number}"
            problems.append(f"{which} is empty: check the frames, or bring a mask with --dsa-mask.")
            continue
        views.append(View(vessel_channels(contrast_image(found, run.valid), run.valid), run.valid, run.carm))
    if problems:
        raise InputError(problems)
    return Scene(points, tuple(views), centre_cta_mm, cta_vessels, tuple(masks))


def vessel_points(mask: Volume) -> Points:
    """Vessel points of a mask: every voxel, about their centroid, weighing less in thicker vessels.

    By volume a sinus outweighs a hundred arteries of which the run shows far more; divided by its
    radius, every vessel's shadow is about as dark, as in a mask of the DSA.
    """
    indices = mask.set_voxels
    if len(indices) < 100:
        raise InputError(
            f"The CTA's vessel mask has {len(indices)} voxels set; at least 100 are needed: check the mask or its threshold."
        )
    positions = mask.to_ras(indices)
    origin = positions.mean(axis=0)
    positions = (positions - origin).astype(np.float32)
    radius_mm = local_radius_mm(positions, mask.voxel_volume_mm3)
    weights = (mask.voxel_volume_mm3 / radius_mm).astype(np.float32)
    return Points(positions, weights, tangents(positions), origin)


def contrast_image(masks: DsaMasks, valid: np.ndarray) -> np.ndarray:
    """Contrast of the MinIP inside the vessel mask (row, column), 0..1, compressed so that branches count beside trunks.

    Half of the contrast's 97th percentile over all valid pixels becomes 0.58, the percentile itself 0.71.
    """
    contrast = np.maximum(-masks.minip, 0)
    half = max(float(np.quantile(contrast[valid], 0.97)), 1e-9)
    image: np.ndarray = np.sqrt(contrast / (contrast + half)) * masks.vessels
    return image


def _climb(
    name: str,
    scene: Scene,
    start: Found,
    levels: tuple[Level, ...],
    settings: RegistrationSettings,
    report: Progress,
    should_stop: ShouldStop | None,
) -> Found:
    """Second-order refinement of the poses kept so far."""
    report(name, 0.0)
    return climb(
        start.poses,
        scene.points,
        scene.views,
        levels,
        settings.search.saturation_mm,
        seed=settings.seed,
        on_progress=lambda done, score: report(name, done, score),
        should_stop=should_stop,
    )


def climb_with_skull(
    scene: Scene,
    poses: np.ndarray,
    weight: float,
    settings: RegistrationSettings,
    should_stop: ShouldStop | None = None,
) -> tuple[Found, tuple[float, ...]]:
    """The best of poses (K, 4, 4) after a climb of vessels and skull together, and the best score after each step.

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

    poses, scores, trace = ascend(
        together,
        lambda at, twists: move(at, twists, points, carm),
        poses,
        iterations=_SKULL_ITERATIONS,
        should_stop=should_stop,
    )
    order = np.argsort(-scores, kind="stable")
    return Found(poses[order], float(scores[order[0]]), tuple(trace)), tuple(trace)


def _intensity_stage(
    name: str,
    stage: IntensityStage,
    start: np.ndarray,
    cta_mask: Volume,
    centre_cta_mm: np.ndarray,
    masks: Sequence[DsaMasks],
    angiograms: Sequence[Angiogram],
    settings: RegistrationSettings,
    report: Progress,
    should_stop: ShouldStop | None,
) -> tuple[np.ndarray, StageRecord]:
    """One stage of A 4.3.4: DRR of the CTA's vessels against the DSA's mask or MinIP, first-order steps; mean of the views."""
    begin = time.perf_counter()
    result = intensity_stage(
        stage,
        start[None],
        cta_mask,
        centre_cta_mm,
        masks,
        angiograms,
        settings.torch_device(),
        on_iteration=lambda n, best: report(name, (n + 1) / stage.climb.iterations, float(best[0])),
        should_stop=should_stop,
    )
    trace = np.maximum.accumulate(result.trace[:, 0].cpu().numpy())
    record = StageRecord(
        name,
        stage.score.replace("_", " "),
        float(result.score[0]),
        tuple(float(value) for value in trace),
        time.perf_counter() - begin,
        len(trace),
    )
    return result.pose[0].cpu().numpy(), record


def intensity_stage(
    stage: IntensityStage,
    starts: np.ndarray,
    cta_mask: Volume,
    centre_cta_mm: np.ndarray,
    masks: Sequence[DsaMasks],
    angiograms: Sequence[Angiogram],
    device: torch.device | str = "cpu",
    on_iteration: Callable[[int, torch.Tensor], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> RefineResult:
    """One stage of A 4.3.4 from poses (B, 4, 4) at once: DRR of the CTA's vessels against each DSA's mask or MinIP; mean of the views."""
    scores = [
        _intensity_score(stage, cta_mask, found, run, device) for found, run in zip(masks, angiograms, strict=True)
    ]

    def mean_score(poses: torch.Tensor) -> torch.Tensor:
        return torch.stack([score(poses) for score in scores]).mean(dim=0)

    return refine(
        mean_score,
        torch.from_numpy(starts).to(device),
        centre_cta_mm,
        stage.climb,
        on_iteration=on_iteration,
        should_stop=should_stop,
    )


def _intensity_score(
    stage: IntensityStage, cta_mask: Volume, masks: DsaMasks, angiogram: Angiogram, device: torch.device | str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Similarity (B,) of one run with the vessels projected at poses (B, 4, 4)."""
    columns = round(stage.rows * angiogram.carm.columns / angiogram.carm.rows)
    carm = angiogram.carm.resampled(stage.rows, columns)
    image = masks.vessels.astype(np.float32) if stage.image == "mask" else -masks.minip
    fixed = torch.from_numpy(resize_area(image, stage.rows, columns)).to(device)
    valid = torch.from_numpy(resize_area(angiogram.valid, stage.rows, columns) >= 0.5).to(device)
    if stage.renderer == "siddon":
        from DeepIterRegLib.rendering.raycast import RaycastProjector

        project: Callable[[torch.Tensor], torch.Tensor] = RaycastProjector(cta_mask, carm, device=device)
    else:
        project = SplatProjector.from_mask(cta_mask, carm, device)
    measure = getattr(similarity, stage.score)
    return lambda poses: measure(project(poses), fixed, valid)


def _view_records(
    scene: Scene, cta_to_carm: np.ndarray, corrected: Corrected | None, settings: RegistrationSettings
) -> tuple[ViewRecord, ...]:
    """Score of each view, how well the pose is determined along its axes, and what was corrected."""
    saturation_mm = settings.search.saturation_mm
    scores = view_znccs(scene, cta_to_carm[None], saturation_mm, settings.seed)[:, 0]
    drawn = scene.points.subset(_ERROR_POINTS, np.random.default_rng(settings.seed))
    targets = make_targets(scene.views, _ERROR_ROWS, _ERROR_SIGMA_PX, REFINE)
    covariances = pose_covariances(drawn, cta_to_carm, targets, saturation_mm)
    changes = corrected.changes if corrected else [{} for _ in scene.views]
    records = []
    for number, (view, score, covariance, change) in enumerate(
        zip(scene.views, scores, covariances, changes, strict=True), 1
    ):
        u, v, beam = (float(error) for error in np.sqrt(np.diag(covariance)[3:]))
        name = f"DSA {number} ({view_direction(view.carm)})"
        records.append(ViewRecord(name, view.carm, float(score), (u, v, beam), changes=change))
    return tuple(records)


def view_direction(carm: CArm) -> str:
    """`AP`, `lateral` or `oblique`, by the larger part of the beam."""
    across, along, _ = np.abs(carm.beam_axis)
    return "AP" if along > 2 * across else "lateral" if across > 2 * along else "oblique"


def _warnings_of_corrections(views: Sequence[ViewRecord], corrected: Corrected | None) -> tuple[str, ...]:
    """What was corrected, in words, and what would have gone further than it may."""
    if corrected is None:
        return ()
    warnings = []
    for view, names in zip(views, corrected.at_limit, strict=True):
        if view.changes:
            said = ", ".join(f"{name.replace('_', ' ')} {value:+.1f}" for name, value in view.changes.items())
            warnings.append(f"{view.name} was corrected: {said}.")
        if names:
            listed = ", ".join(name.replace("_", " ") for name in names)
            warnings.append(
                f"{view.name} would fit better with more than 3 standard deviations of correction ({listed}), which is refused: "
                "check the geometry with `deepiterreg info`."
            )
    return tuple(warnings)


def _warnings(
    angiograms: Sequence[Angiogram],
    views: Sequence[ViewRecord],
    init: InitRecord,
    found: np.ndarray,
    radiological: np.ndarray,
    settings: RegistrationSettings,
) -> tuple[str, ...]:
    """What a reader of the result must know."""
    several = len(views) > 1
    warnings = [
        f"{view.name}: {note}" if several else note
        for view, run in zip(views, angiograms, strict=True)
        for note in run.notes
    ]
    if several:
        warnings.extend(
            f"{view.name} hardly matches at the common pose (ZNCC of the vessels is {view.score:.3f}): the head moved between "
            "the runs, its geometry is wrong, or it is of another patient."
            for view in views
            if not view.score > _NO_MATCH
        )
    worst = max(max(view.axis_error_mm or (0.0,)) for view in views)
    if worst > _POORLY_DETERMINED_MM:
        more = "views from sides further apart fix" if several else "a second view from another side fixes"
        warnings.append(f"How far along the beam the head lies is known only to about {worst:.0f} mm: {more} it.")
    if not init.accepted:
        warnings.append(
            f"The initial pose ({init.method}) scored {init.score:.3f}, below the radiological pose's {init.score_radiological:.3f}; "
            "the refinement started from the radiological pose."
        )
    offset = found @ pose.inverse(radiological)
    angle = float(np.degrees(pose.rotation_angle(offset[:3, :3])))
    if settings.init in ("search", "auto") and angle > 1.6 * settings.search.rotation_deg:
        warnings.append(
            f"The head is turned by {angle:.0f} deg from the radiological pose, outside the search box: check the overlay."
        )
    return tuple(warnings)


def _agreements(scene: Scene, cta_to_carm: np.ndarray) -> dict[int, BoneAgreement]:
    """What the skull says of a pose, by the number of each run whose mask frame shows it."""
    try:
        return scene.skull.agreements(cta_to_carm) if scene.skull else {}
    except InputError:  # no bone in the CTA: said where it was looked for
        return {}


def _skull_warnings(agreements: dict[int, BoneAgreement], count: int) -> tuple[str, ...]:
    """Where the skull, uphill from the pose found, ends elsewhere."""
    return tuple(
        f"Skull and vessels disagree{f' in DSA {number}' if count > 1 else ''}: the skull fits best {agreement.distance_mm:.1f} mm (on "
        f"the detector) from the pose found (gradient correlation {agreement.best_score:.2f} there, {agreement.score:.2f} here): "
        "check the overlay."
        for number, agreement in agreements.items()
        if agreement.distance_mm > SUCCESS_MM
    )


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
