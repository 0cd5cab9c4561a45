"""Where the head lay in each frame of every view, once the pose is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from DeepIterRegLib.registration.context import Context
from DeepIterRegLib.registration.result import ViewRecord
from DeepIterRegLib.registration.steps import Step
from DeepIterRegLib.registration.vessels.points import Points

_POINTS = 8000  # of the vessels: over them the head's picture is averaged


def with_frames(context: Context, views: Sequence[ViewRecord], cta_to_carm: np.ndarray) -> tuple[ViewRecord, ...]:
    """The views with `ViewRecord.frames`, where the skull tells them, for a pose (4, 4).

    Raises
    ------
    Cancelled
    """
    scene = context.scene
    if scene.skull is None or not scene.skull.in_mask_frame:
        return tuple(views)
    drawn = scene.points.subset(_POINTS, np.random.default_rng(context.settings.seed))
    found = []
    context.progress(Step.FRAMES, 0.0)
    for number, (view, masks) in enumerate(zip(views, scene.dsa_masks, strict=True), 1):
        pixels = np.rint(view.carm.project(drawn.positions + drawn.origin_mm, cta_to_carm)).astype(np.int64)
        inside = view.carm.contains(pixels)
        column, row = np.where(inside[:, None], pixels, 0).T
        shown = inside & masks.vessels[row, column]
        vessels = Points(drawn.positions[shown], drawn.weights[shown], drawn.tangents[shown], drawn.origin_mm)
        frames = scene.skull.frame_motion(number, view.carm, cta_to_carm, vessels, context.should_stop)
        found.append(replace(view, frames=frames))
        context.progress(Step.FRAMES, number / len(views))
    context.clock.stop(Step.FRAMES.key)
    return tuple(found)
