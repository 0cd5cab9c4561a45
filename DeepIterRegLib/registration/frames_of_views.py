"""Where the head lay in each frame of every view, once the pose is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from DeepIterRegLib.common.threads import Job
from DeepIterRegLib.registration.context import Context
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.result import ViewRecord
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.steps import Step
from DeepIterRegLib.registration.vessels.points import Points

_POINTS = 8000  # of the vessels: over them the head's picture is averaged
# Of each view; None where its skull does not tell it.
Followed = Job[list[FrameMotion | None]]


def follow_frames(context: Context, views: Sequence[ViewRecord], cta_to_carm: np.ndarray) -> Followed | None:
    """Begin to follow the head through the frames of views at a pose (4, 4), beside other work; None where no mask frame shows it."""
    skull = context.scene.skull
    if skull is None or not skull.in_mask_frame:
        return None
    return context.beside.start(partial(_motions, context, skull, tuple(views), cta_to_carm))


def with_frames(context: Context, views: Sequence[ViewRecord], followed: Followed | None) -> tuple[ViewRecord, ...]:
    """The views with what `follow_frames` finds.

    Raises
    ------
    Cancelled
    """
    if followed is None:
        return tuple(views)
    context.progress(Step.FRAMES, 0.0)
    found = followed.result()
    context.clock.stop(Step.FRAMES.key)
    context.progress(Step.FRAMES, 1.0)
    return tuple(replace(view, frames=frames) for view, frames in zip(views, found, strict=True))


def _motions(
    context: Context, skull: Skull, views: Sequence[ViewRecord], cta_to_carm: np.ndarray
) -> list[FrameMotion | None]:
    scene = context.scene
    drawn = scene.points.subset(_POINTS, np.random.default_rng(context.settings.seed))
    found = []
    for number, (view, masks) in enumerate(zip(views, scene.dsa_masks, strict=True), 1):
        pixels = np.rint(view.carm.project(drawn.positions + drawn.origin_mm, cta_to_carm)).astype(np.int64)
        inside = view.carm.contains(pixels)
        column, row = np.where(inside[:, None], pixels, 0).T
        shown = inside & masks.vessels[row, column]
        vessels = Points(drawn.positions[shown], drawn.weights[shown], drawn.tangents[shown], drawn.origin_mm)
        found.append(skull.frame_motion(number, view.carm, cta_to_carm, vessels, context.should_stop))
    return found
