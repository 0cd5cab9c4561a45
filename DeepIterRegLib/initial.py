"""Where the refinement starts: the radiological pose, a given one, search, network, skull, or the best of all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from DeepIterRegLib.alignment import FIND, Points, View, make_targets, zncc
from DeepIterRegLib.bone import Skull
from DeepIterRegLib.errors import InputError
from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.progress import Progress
from DeepIterRegLib.registration import Init, InitRecord, StageRecord
from DeepIterRegLib.search import Found, Level, SearchSettings, climb, search
from DeepIterRegLib.segmentation.cta import vein_voxels
from DeepIterRegLib.segmentation.dsa import DsaMasks
from DeepIterRegLib.volume import Volume

if TYPE_CHECKING:
    from DeepIterRegLib.network.model import PoseNetwork

ShouldStop = Callable[[], bool]

# Resolution at which a proposed pose is compared with the radiological one (A eq. 12).
ACCEPTANCE_ROWS, ACCEPTANCE_POINTS, ACCEPTANCE_SIGMA_PX = 128, 6000, 1.0
# Veins of a run smaller than this on the head tell the network nothing; the arterial phase has none.
_LEAST_VEINS_MM2 = 100.0
# Poses nearer to each other than this, mm on the detector, are left to the last levels to choose from.
_NEAR_MM = 10.0


@dataclass(frozen=True)
class NetworkInit:
    """How the network is asked.

    Attributes
    ----------
    weights
        File of the weights; empty for those that ship.
    starts
        Poses it is asked from: the one to start from, and others about it. The paper has one.
    rounds
        How often it is asked from each, every time at its last answer. The paper has one.
    spread_deg, spread_mm
        Largest offset of the other poses, every axis.
    """

    weights: str = ""
    starts: int = 32
    rounds: int = 2
    spread_deg: float = 30.0
    spread_mm: float = 30.0

    def __post_init__(self) -> None:
        if self.starts < 1 or self.rounds < 1:
            raise InputError("The network must be asked from at least one pose, at least once.")


@dataclass(frozen=True)
class Scene:
    """What every step looks at: the CTA's vessels, the views with the masks of each, and the skull."""

    points: Points
    views: tuple[View, ...]
    centre_cta_mm: np.ndarray
    cta_vessels: Volume
    dsa_masks: tuple[DsaMasks, ...]
    skull: Skull | None = None


@dataclass(frozen=True)
class Started:
    """Where the refinement starts, how that came about, and what a reader must know of it.

    `climbed` tells that the poses stand where a search or its levels left them; `skull_poses` (K, 4, 4) is where the skull
    alone fits best, if it was asked.
    """

    found: Found
    init: InitRecord
    climbed: bool = False
    records: tuple[StageRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    skull_poses: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))


def initial_pose(
    scene: Scene,
    start: np.ndarray,
    given: np.ndarray | None,
    init: Init,
    search_settings: SearchSettings,
    network_settings: NetworkInit,
    seed: int,
    report: Progress,
    should_stop: ShouldStop | None,
) -> Started:
    """Propose poses and take them unless the radiological one, `start` (4, 4), scores higher (A eq. 12).

    `auto`: the skull, where it fits clearly; else search, network and what there is of the skull together. Where the network or
    the skull cannot be asked, the search is, and a warning says why.
    """
    saturation_mm = search_settings.saturation_mm

    def score(cta_to_carm: np.ndarray) -> float:
        return scene_zncc(scene, cta_to_carm, saturation_mm, seed)

    at_start = Found(start[None], score(start), ())
    if init == "radiological":
        return Started(at_start, InitRecord(init, True, at_start.score, at_start.score))
    if init == "file" and given is not None:
        proposed = Found(given[None], score(given), ())
        accepted = proposed.score >= at_start.score
        record = InitRecord(init, accepted, proposed.score, at_start.score)
        return Started(proposed if accepted else at_start, record)

    records: list[StageRecord] = []
    warnings: list[str] = []
    proposals = bone = np.zeros((0, 4, 4))
    by_skull = False
    if init in ("bone", "auto") and scene.skull is not None:
        asked = start if given is None else given
        # By default a run that came subtracted is nothing to warn of.
        bone, clear = _bone_poses(scene.skull, asked, report, records, warnings if init == "bone" else [], should_stop)
        by_skull = len(bone) > 0 and (init == "bone" or clear)
        if init == "bone" and not len(bone):
            warnings[-1] += " The search was used instead."
    if by_skull:
        proposals = bone
    elif init in ("network", "auto"):
        begin = time.perf_counter()
        report("Network", 0.0)
        try:
            proposals = network_poses(scene, start if given is None else given, network_settings, seed)
        except InputError as error:
            warnings.extend(
                f"The network was not asked: {problem} The search was used instead." for problem in error.problems
            )
        else:
            scores = scene_znccs(scene, proposals, saturation_mm, seed)
            best = float(scores.max())
            records.append(
                StageRecord(
                    "Network",
                    "ZNCC of the vessels",
                    best,
                    (float(scores[0]), best),
                    time.perf_counter() - begin,
                    len(proposals),
                )
            )
            proposals = proposals[np.argsort(-scores, kind="stable")]
            kept = int((scores >= at_start.score).sum())
            if init == "network" and not kept:
                return Started(at_start, InitRecord(init, False, best, at_start.score), records=tuple(records))
            proposals = proposals[:kept]
        report("Network", 1.0)
    begin = time.perf_counter()
    common = (scene.points, scene.views)
    if by_skull or (init == "network" and len(proposals)):
        name, levels = "Skull, refined" if by_skull else "Network, refined", search_settings.levels
        found = climb(
            proposals,
            *common,
            levels,
            saturation_mm,
            seed=seed,
            on_progress=lambda done, value: report(name, done, value),
            should_stop=should_stop,
        )
    else:
        name, levels = "Search", search_settings.levels
        found = search(
            *common,
            start,
            scene.centre_cta_mm,
            search_settings,
            also=proposals,
            seed=seed,
            on_progress=lambda done, value: report(name, done, value),
            should_stop=should_stop,
        )
    if init == "auto" and len(bone) and not by_skull and scene.skull is not None:
        refined = climb(bone, *common, levels, saturation_mm, seed=seed, should_stop=should_stop)
        found = _agreed(scene, scene.skull, np.concatenate([found.poses, refined.poses]), found, saturation_mm, seed)
    records.append(level_record(name, found, time.perf_counter() - begin, levels))
    proposed = replace(found, score=score(found.cta_to_carm))
    accepted = proposed.score >= at_start.score
    record = InitRecord(init, accepted, proposed.score, at_start.score)
    return Started(proposed if accepted else at_start, record, accepted, tuple(records), tuple(warnings), bone)


def _bone_poses(
    skull: Skull,
    start: np.ndarray,
    report: Progress,
    records: list[StageRecord],
    warnings: list[str],
    should_stop: ShouldStop | None,
) -> tuple[np.ndarray, bool]:
    """Poses (K, 4, 4) of the skull and whether it fits clearly; none, and a warning, where it cannot be seen."""
    begin = time.perf_counter()
    report("Bone", 0.0)
    try:
        found = skull.find(start, should_stop)
    except InputError as error:
        warnings.extend(f"The skull was not asked: {problem}" for problem in error.problems)
        return np.zeros((0, 4, 4)), False
    finally:
        report("Bone", 1.0)
    seconds = time.perf_counter() - begin
    records.append(StageRecord("Bone", "gradient correlation", found.score, found.scores, seconds, len(found.scores)))
    return found.poses, found.clear


def _agreed(scene: Scene, skull: Skull, poses: np.ndarray, found: Found, saturation_mm: float, seed: int) -> Found:
    """Of poses (K, 4, 4), those near the one on which vessels and skull together agree best.

    The scores are added as they are: where the skull fits nowhere it has little to say.
    """
    together = scene_znccs(scene, poses, saturation_mm, seed) + skull.scores(poses)
    order = np.argsort(-together, kind="stable")
    near = mpe_mm(scene.views[0].carm, poses, poses[order[0]], scene.centre_cta_mm) < _NEAR_MM
    return replace(found, poses=poses[order[near[order]]])


def network_poses(scene: Scene, start: np.ndarray, settings: NetworkInit, seed: int) -> np.ndarray:
    """Poses (K, 4, 4) that the network leads to, asked with every view that shows veins; the first from `start` (4, 4) itself.

    Raises
    ------
    InputError
        Weights that cannot be used, or images without veins.
    """
    from DeepIterRegLib.network.predict import predict

    shown = [
        (view, masks)
        for view, masks in zip(scene.views, scene.dsa_masks, strict=True)
        if _veins_mm2(view, masks) >= _LEAST_VEINS_MM2
    ]
    if not shown:
        raise InputError("The DSA shows no veins (a run stopped early shows arteries only).")
    veins = vein_voxels(scene.cta_vessels.set_voxels)
    if not len(veins):
        raise InputError("The CTA's vessel mask has no large veins (nothing is left of it after opening by one voxel).")
    positions_mm = scene.cta_vessels.to_ras(veins)
    starts = _starts(start, scene.centre_cta_mm, settings, seed)
    answers = [
        predict(
            _network(settings.weights),
            positions_mm,
            scene.cta_vessels.voxel_volume_mm3,
            masks.veins,
            view.valid,
            view.carm,
            starts,
            settings.rounds,
        )
        for view, masks in shown
    ]
    return np.concatenate(answers)


def _veins_mm2(view: View, masks: DsaMasks) -> float:
    """Area of the veins that a view shows, on the head."""
    carm = view.carm
    pixel_mm2 = carm.pixel_spacing_mm[0] * carm.pixel_spacing_mm[1] / carm.magnification**2
    return float((masks.veins & view.valid).sum() * pixel_mm2)


def _starts(start: np.ndarray, centre_cta_mm: np.ndarray, settings: NetworkInit, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    offsets = rng.uniform(-1, 1, (settings.starts, 6))
    offsets[0] = 0
    turns = pose.euler_deg_to_rotation(offsets[:, :3] * settings.spread_deg)
    return np.asarray(pose.offset_about(start, centre_cta_mm, turns, offsets[:, 3:] * settings.spread_mm))


def _network(weights: str) -> PoseNetwork:
    from DeepIterRegLib.network.weights import SHIPPED

    path = Path(weights) if weights else SHIPPED
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    return _loaded_network(path, stamp)


@lru_cache(maxsize=1)
def _loaded_network(path: Path, stamp: int) -> PoseNetwork:
    """Read once as long as the file stays the same: reading and building take longer than the answer."""
    from DeepIterRegLib.network.weights import load_network

    return load_network(path).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def scene_zncc(scene: Scene, cta_to_carm: np.ndarray, saturation_mm: float, seed: int) -> float:
    """ZNCC of vessels and directions at a pose (4, 4), as it is reported: mean of the views."""
    return float(scene_znccs(scene, cta_to_carm[None], saturation_mm, seed)[0])


def scene_znccs(scene: Scene, poses: np.ndarray, saturation_mm: float, seed: int) -> np.ndarray:
    """`scene_zncc` (K,) of poses (K, 4, 4)."""
    mean: np.ndarray = view_znccs(scene, poses, saturation_mm, seed).mean(axis=0)
    return mean


def view_znccs(scene: Scene, poses: np.ndarray, saturation_mm: float, seed: int) -> np.ndarray:
    """`scene_zncc` (V, K) of each view at poses (K, 4, 4)."""
    targets = make_targets(scene.views, ACCEPTANCE_ROWS, ACCEPTANCE_SIGMA_PX, FIND)
    drawn = scene.points.subset(ACCEPTANCE_POINTS, np.random.default_rng(seed))
    return np.stack([zncc(drawn, poses, target, saturation_mm) for target in targets])


def level_record(name: str, found: Found, seconds: float, levels: tuple[Level, ...]) -> StageRecord:
    """Record of a search or climb."""
    iterations = sum(level.iterations for level in levels)
    return StageRecord(name, "directed correlation", found.score, found.scores, seconds, iterations)
