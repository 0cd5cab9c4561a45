"""Where the refinement starts: the radiological pose, a given one, search, network, skull, or the best of all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import within
from DeepIterRegLib.common.options import Init
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.registration.network.proposals import NetworkInit, network_poses
from DeepIterRegLib.registration.result import InitRecord, StageRecord
from DeepIterRegLib.registration.scene import Scene, scene_zncc, scene_znccs
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.vessels.search import Level, PoseCandidates, SearchSettings, refine_poses, search

if TYPE_CHECKING:
    pass

ShouldStop = Callable[[], bool]

# Poses nearer to each other than this, mm on the detector, are left to the last levels to choose from.
_NEAR_MM = 10.0


@dataclass(frozen=True)
class InitialPoses:
    """Where the refinement starts, how that came about, and what a reader must know of it.

    `refined` tells that the poses stand where a search or its levels left them; `skull_poses` (K, 4, 4) is where the skull
    alone fits best, if it was asked.
    """

    found: PoseCandidates
    init: InitRecord
    refined: bool = False
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
) -> InitialPoses:
    """Propose poses and take them unless the radiological one, `start` (4, 4), scores higher (A eq. 12).

    `auto`: the skull, where it fits clearly; else search, network and what there is of the skull together. Where the network or
    the skull cannot be asked, the search is, and a warning says why.
    """
    saturation_mm = search_settings.saturation_mm

    def score(cta_to_carm: np.ndarray) -> float:
        return scene_zncc(scene, cta_to_carm, saturation_mm, seed)

    at_start = PoseCandidates(start[None], score(start), ())
    if init == "radiological":
        return InitialPoses(at_start, InitRecord(init, True, at_start.score, at_start.score))
    if init == "file" and given is not None:
        proposed = PoseCandidates(given[None], score(given), ())
        accepted = proposed.score >= at_start.score
        record = InitRecord(init, accepted, proposed.score, at_start.score)
        return InitialPoses(proposed if accepted else at_start, record)

    records: list[StageRecord] = []
    warnings: list[str] = []
    proposals = skull_poses = np.zeros((0, 4, 4))
    by_skull = False
    if init in ("skull", "auto") and scene.skull is not None:
        asked = start if given is None else given
        # By default a run that came subtracted is nothing to warn of.
        told = warnings if init == "skull" else []
        skull_poses, clear = _skull_poses(scene.skull, asked, report, records, told, should_stop)
        by_skull = len(skull_poses) > 0 and (init == "skull" or clear)
        if init == "skull" and not len(skull_poses):
            warnings[-1] = within(warnings[-1], after=" The search was used instead.")
    if by_skull:
        proposals = skull_poses
    elif init in ("network", "auto"):
        begin = time.perf_counter()
        report("Network", 0.0)
        try:
            proposals = network_poses(scene, start if given is None else given, network_settings, seed)
        except InputError as error:
            warnings.extend(
                within(problem, "The network was not asked: ", " The search was used instead.")
                for problem in error.problems
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
                return InitialPoses(at_start, InitRecord(init, False, best, at_start.score), records=tuple(records))
            proposals = proposals[:kept]
        report("Network", 1.0)
    begin = time.perf_counter()
    common = (scene.points, scene.views)
    if by_skull or (init == "network" and len(proposals)):
        name, levels = "Skull, refined" if by_skull else "Network, refined", search_settings.levels
        found = refine_poses(
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
    if init == "auto" and len(skull_poses) and not by_skull and scene.skull is not None:
        refined = refine_poses(skull_poses, *common, levels, saturation_mm, seed=seed, should_stop=should_stop)
        found = _agreed(scene, scene.skull, np.concatenate([found.poses, refined.poses]), found, saturation_mm, seed)
    records.append(level_record(name, found, time.perf_counter() - begin, levels))
    proposed = replace(found, score=score(found.cta_to_carm))
    accepted = proposed.score >= at_start.score
    record = InitRecord(init, accepted, proposed.score, at_start.score)
    return InitialPoses(
        proposed if accepted else at_start, record, accepted, tuple(records), tuple(warnings), skull_poses
    )


def _skull_poses(
    skull: Skull,
    start: np.ndarray,
    report: Progress,
    records: list[StageRecord],
    warnings: list[str],
    should_stop: ShouldStop | None,
) -> tuple[np.ndarray, bool]:
    """Poses (K, 4, 4) of the skull and whether it fits clearly; none, and a warning, where it cannot be seen."""
    begin = time.perf_counter()
    report("Skull", 0.0)
    try:
        found = skull.find(start, should_stop)
    except InputError as error:
        warnings.extend(within(problem, "The skull was not asked: ") for problem in error.problems)
        return np.zeros((0, 4, 4)), False
    finally:
        report("Skull", 1.0)
    seconds = time.perf_counter() - begin
    records.append(StageRecord("Skull", "gradient correlation", found.score, found.scores, seconds, len(found.scores)))
    return found.poses, found.clear


def _agreed(
    scene: Scene, skull: Skull, poses: np.ndarray, found: PoseCandidates, saturation_mm: float, seed: int
) -> PoseCandidates:
    """Of poses (K, 4, 4), those near the one on which vessels and skull together agree best.

    The scores are added as they are: where the skull fits nowhere it has little to say.
    """
    together = scene_znccs(scene, poses, saturation_mm, seed) + skull.scores(poses)
    order = np.argsort(-together, kind="stable")
    near = mpe_mm(scene.views[0].carm, poses, poses[order[0]], scene.centre_cta_mm) < _NEAR_MM
    return replace(found, poses=poses[order[near[order]]])


def level_record(name: str, found: PoseCandidates, seconds: float, levels: tuple[Level, ...]) -> StageRecord:
    """Record of a search or refinement."""
    iterations = sum(level.iterations for level in levels)
    return StageRecord(name, "directed correlation", found.score, found.scores, seconds, iterations)
