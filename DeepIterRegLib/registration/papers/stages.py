"""The first-order stages of paper A (4.3.4): render, compare, step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.context import Context
from DeepIterRegLib.registration.papers import similarity
from DeepIterRegLib.registration.papers.first_order import RefineResult, refine
from DeepIterRegLib.registration.result import StageRecord
from DeepIterRegLib.registration.settings import IntensityStage
from DeepIterRegLib.registration.steps import Step
from DeepIterRegLib.registration.vessels.targets import resize_area
from DeepIterRegLib.rendering.splat import SplatProjector
from DeepIterRegLib.segmentation.dsa import DsaMasks


def run_stage(
    context: Context, name: str, stage: IntensityStage, start: np.ndarray, angiograms: Sequence[Angiogram]
) -> tuple[np.ndarray, StageRecord]:
    """A stage as a step of a registration: the pose (4, 4) that `optimise_poses` finds from `start` (4, 4), and its record under a name."""
    begin, scene, step = time.perf_counter(), context.scene, Step.of_stage(stage)
    context.progress(step, 0.0)
    result = optimise_poses(
        stage,
        start[None],
        scene.cta_vessels,
        scene.centre_cta_mm,
        scene.dsa_masks,
        angiograms,
        context.settings.torch_device(),
        on_iteration=lambda n, best: context.progress(step, (n + 1) / stage.optimisation.iterations, float(best[0])),
        should_stop=context.should_stop,
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


def optimise_poses(
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
    """One stage of A 4.3.4 from poses (B, 4, 4) at once: DRR of the CTA's vessels against each DSA's mask or MinIP; mean of the views.

    Parameters
    ----------
    stage
    starts : (B, 4, 4)
        ``cta_to_carm``.
    cta_mask
        Vessels.
    centre_cta_mm : (3,)
        Point of the CTA about which poses turn.
    masks, angiograms
        Of each view.
    on_iteration
        Told the number of each iteration, from 0, and the best scores (B,) so far.
    """
    scores = [
        _intensity_score(stage, cta_mask, found, run, device) for found, run in zip(masks, angiograms, strict=True)
    ]

    def mean_score(poses: torch.Tensor) -> torch.Tensor:
        return torch.stack([score(poses) for score in scores]).mean(dim=0)

    return refine(
        mean_score,
        torch.from_numpy(starts).to(device),
        centre_cta_mm,
        stage.optimisation,
        on_iteration=on_iteration,
        should_stop=should_stop,
    )


def _intensity_score(
    stage: IntensityStage, cta_mask: Volume, masks: DsaMasks, angiogram: Angiogram, device: torch.device | str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Similarity (B,) of one run with the vessels projected at poses (B, 4, 4)."""
    carm = angiogram.carm.working_grid(stage.rows)
    # Turned round: in a DRR vessels are bright, in the MinIP dark.
    image = masks.vessels.astype(np.float32) if stage.image == "mask" else -masks.minip
    fixed = torch.from_numpy(resize_area(image, carm.rows, carm.columns)).to(device)
    valid = torch.from_numpy(resize_area(angiogram.valid, carm.rows, carm.columns) >= 0.5).to(device)
    if stage.renderer == "siddon":
        from DeepIterRegLib.rendering.raycast import RaycastProjector

        project: Callable[[torch.Tensor], torch.Tensor] = RaycastProjector(cta_mask, carm, device=device)
    else:
        project = SplatProjector.from_mask(cta_mask, carm, device)
    measure = getattr(similarity, stage.score)
    return lambda poses: measure(project(poses), fixed, valid)
