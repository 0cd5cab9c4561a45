"""The main job: a CTA and an angiogram go in, the pose comes out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
import torch

from DeepIterRegLib import similarity
from DeepIterRegLib.alignment import (
    REFINE,
    Points,
    local_radius_mm,
    resize_area,
    tangents,
    vessel_channels,
)
from DeepIterRegLib.angiogram import Angiogram
from DeepIterRegLib.errors import InputError, RegistrationError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.initial import NetworkInit, Scene, level_record, scene_zncc
from DeepIterRegLib.initial import initial_pose as find_initial_pose
from DeepIterRegLib.progress import Progress, say_nothing
from DeepIterRegLib.refine import PAPER_A_STAGE_1, PAPER_A_STAGE_2, RefineResult, RefineSettings, refine
from DeepIterRegLib.registration import NAMED_INITS, Init, InitRecord, Registration, StageRecord
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
    stages
        First-order stages after that.
    device, seed
    """

    name: str = "default"
    init: Init = "search"
    search: SearchSettings = field(default_factory=SearchSettings)
    network: NetworkInit = field(default_factory=NetworkInit)
    near_levels: tuple[Level, ...] = (
        Level(128, 8000, 1.5, 12, 1),
        Level(256, 30000, 1.0, 8, 1),
    )
    levels: tuple[Level, ...] = (Level(256, 30000, 1.0, 5, 3, REFINE), Level(384, 40000, 0.8, 8, 1, REFINE))
    stages: tuple[IntensityStage, ...] = ()
    device: Device = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.init not in (*NAMED_INITS, "file"):
            problems.append(f"--init is {self.init!r}: give radiological, search, network, auto or a pose file.")
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
        cls, name: str, *, init: Init | None = None, device: Device = "auto", seed: int = 0, weights: str = ""
    ) -> RegistrationSettings:
        """`default`, or `paper`: radiological pose, then A 4.3.4's two stages of Adam on DiffDRR's Siddon images."""
        if name == "default":
            return cls(init=init or "search", network=NetworkInit(weights), device=device, seed=seed)
        if name == "paper":
            return cls(
                name="paper",
                init=init or "radiological",
                network=NetworkInit(weights),
                levels=(),
                near_levels=(),
                stages=(
                    IntensityStage("mask", "ncc", "siddon", 128, PAPER_A_STAGE_1),
                    IntensityStage("minip", "mutual_information", "siddon", 128, PAPER_A_STAGE_2),
                ),
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
    angiogram: Angiogram,
    settings: RegistrationSettings | None = None,
    *,
    cta_mask: Volume | None = None,
    dsa_masks: DsaMasks | None = None,
    initial_pose: np.ndarray | None = None,
    on_progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Registration:
    """Find the pose of the CTA in the C-arm frame.

    Parameters
    ----------
    cta
        In HU; only its grid is used where `cta_mask` is given.
    angiogram
        Subtracted, contrast negative.
    cta_mask, dsa_masks
        Vessels; made by our own segmentation where not given.
    initial_pose : (4, 4)
        ``cta_to_carm``; needed with init `file`; with `search`, `network` and `auto` it takes the radiological pose's place.
    on_progress
        See `Progress`.
    should_stop
        Asked often; True ends the work.

    Raises
    ------
    InputError
        Nothing to register, or settings and inputs that do not fit.
    RegistrationError
        No pose explains the image.
    Cancelled
        `should_stop` said so.
    """
    settings = settings or RegistrationSettings()
    report = on_progress or say_nothing
    clock = _Clock()
    if settings.init == "file" and initial_pose is None:
        raise InputError("Init is `file` but no initial pose was given: give a pose file.")
    if cta_mask is None:
        report("Segment CTA", 0.0)
        cta_mask = segment_vessels(cta)
        clock.stop("segment_cta")
    if dsa_masks is None:
        report("Segment DSA", 0.0)
        dsa_masks = segment_dsa(angiogram)
        clock.stop("segment_dsa")
    points = vessel_points(cta_mask)
    valid, carm = angiogram.valid, angiogram.carm
    if not np.any(dsa_masks.vesselness[valid] > 0):
        raise InputError("The DSA's vessel mask is empty: check the frames, or bring a mask with --dsa-mask.")
    radiological = pose.radiological(cta.centre_mm)
    channels = vessel_channels(contrast_image(dsa_masks, valid), valid)
    scene = Scene(points, channels, valid, carm, cta.centre_mm, cta_mask, dsa_masks)
    started = find_initial_pose(
        scene,
        radiological if initial_pose is None or settings.init == "file" else initial_pose,
        initial_pose,
        settings.init,
        settings.search,
        settings.network,
        settings.seed,
        report,
        should_stop,
    )
    found, init, records = started.found, started.init, list(started.records)
    clock.stop("initial_pose")
    if settings.near_levels and not started.climbed:
        found = _climb("MinIP, coarse", scene, found, settings.near_levels, settings, report, should_stop)
        records.append(level_record("MinIP, coarse", found, clock.stop("refine_minip_coarse"), settings.near_levels))
    if settings.levels:
        found = _climb("MinIP", scene, found, settings.levels, settings, report, should_stop)
        records.append(level_record("MinIP", found, clock.stop("refine_minip"), settings.levels))
    current = found.cta_to_carm
    for number, stage in enumerate(settings.stages, 1):
        name = f"Stage {number}: {'vessel mask' if stage.image == 'mask' else 'MinIP'}"
        current, record = _intensity_stage(
            name, stage, current, cta_mask, cta.centre_mm, dsa_masks, angiogram, settings, report, should_stop
        )
        records.append(record)
        clock.stop(f"stage_{number}")
    score = scene_zncc(scene, current, settings.search.saturation_mm, settings.seed)
    if not score > _NO_MATCH:
        raise RegistrationError(
            f"No pose of the CTA explains the DSA (ZNCC of the vessels is {score:.3f}): check that both are of the same "
            "patient, that angles, SID and SOD are right, and look at the masks with `deepiterreg segment`."
        )
    return Registration(
        cta_to_carm=current,
        carm=carm,
        centre_cta_mm=cta.centre_mm,
        score=score,
        init=init,
        stages=tuple(records),
        seconds=clock.seconds(),
        warnings=(
            *started.warnings,
            *_warnings(angiogram, init, current, radiological, cta.centre_mm, settings),
        ),
        settings=asdict(settings),
        versions=_versions(),
    )


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
        scene.channels,
        scene.valid,
        scene.carm,
        levels,
        settings.search.saturation_mm,
        seed=settings.seed,
        on_progress=lambda done, score: report(name, done, score),
        should_stop=should_stop,
    )


def _intensity_stage(
    name: str,
    stage: IntensityStage,
    start: np.ndarray,
    cta_mask: Volume,
    centre_cta_mm: np.ndarray,
    masks: DsaMasks,
    angiogram: Angiogram,
    settings: RegistrationSettings,
    report: Progress,
    should_stop: ShouldStop | None,
) -> tuple[np.ndarray, StageRecord]:
    """One stage of A 4.3.4: DRR of the CTA's vessels against the DSA's mask or MinIP, first-order steps."""
    begin = time.perf_counter()
    result = intensity_stage(
        stage,
        start[None],
        cta_mask,
        centre_cta_mm,
        masks,
        angiogram,
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
    masks: DsaMasks,
    angiogram: Angiogram,
    device: torch.device | str = "cpu",
    on_iteration: Callable[[int, torch.Tensor], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> RefineResult:
    """One stage of A 4.3.4 from poses (B, 4, 4) at once: DRR of the CTA's vessels against the DSA's mask or MinIP."""
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
    return refine(
        lambda poses: measure(project(poses), fixed, valid),
        torch.from_numpy(starts).to(device),
        centre_cta_mm,
        stage.climb,
        on_iteration=on_iteration,
        should_stop=should_stop,
    )


def _warnings(
    angiogram: Angiogram,
    init: InitRecord,
    found: np.ndarray,
    radiological: np.ndarray,
    centre_cta_mm: np.ndarray,
    settings: RegistrationSettings,
) -> tuple[str, ...]:
    """What a reader of the result must know."""
    warnings = list(angiogram.notes)
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
