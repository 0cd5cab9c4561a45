"""Refinement by the papers' first-order optimisers: poses in, best poses and score traces out; batched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.settings import PAPER_A_STAGE_1, Optimiser, RefineSettings

_RESTART_BELOW = 1e-2  # share of the rate at which `plateau_with_restarts` begins again


# B gives the optimisers and 250 iterations, not the rates. These are for a ZNCC of a head: the squared radius in mm is what
# the two gradients differ by, and plain descent bears no more.
_DESCENT = RefineSettings(
    optimiser="gradient_descent", rotation_rate_rad=0.03, translation_rate_mm=100.0, iterations=250, patience=None
)
PAPER_B: dict[Optimiser, RefineSettings] = {
    "gradient_descent": _DESCENT,
    "momentum": replace(_DESCENT, optimiser="momentum"),
    "damped_momentum": replace(_DESCENT, optimiser="damped_momentum"),
    # Steps long enough to leave small dips, short enough to come to rest within 250: with A's rates a third fewer arrive.
    "adam": replace(PAPER_A_STAGE_1, rotation_rate_rad=0.03, translation_rate_mm=6.0, iterations=250),
}


@dataclass(frozen=True)
class RefineResult:
    """What a refinement found.

    Attributes
    ----------
    pose : (B, 4, 4)
        Best ``cta_to_carm`` of each item, not its last.
    score : (B,)
        Its score; minus infinity where no finite score was met (the pose is the initial one then).
    trace : (iterations, B)
        Score of every pose tried; an item that has stopped repeats its last.
    """

    pose: Tensor
    score: Tensor
    trace: Tensor


def refine(
    score: Callable[[Tensor], Tensor],
    initial: Tensor,
    centre_cta_mm: Any,
    settings: RefineSettings = RefineSettings(),
    on_iteration: Callable[[int, Tensor], None] | None = None,
    should_stop: ShouldStop | None = None,
) -> RefineResult:
    """Raise the scores of a batch of poses; each item is an optimisation of its own.

    A pose is varied by a rotation vector and a translation in the C-arm frame, turning about a point of
    the head (`geometry.pose.offset_about`), in double precision whatever `score` computes in.

    Parameters
    ----------
    score
        Poses (B, 4, 4) to scores (B,), higher is better, differentiable; item b may depend on pose b only.
    initial : (B, 4, 4)
        ``cta_to_carm``.
    centre_cta_mm : (3,) or (B, 3)
        Centre of the head, RAS mm of the CTA.
    settings
        How to step.
    on_iteration
        Called with the iteration's number from 0 and the best scores (B,) so far.
    should_stop
        Asked before every iteration.

    Raises
    ------
    Cancelled
        `should_stop` said so.
    """
    start = initial.detach().to(torch.float64)
    centre = torch.as_tensor(centre_cta_mm, dtype=torch.float64, device=start.device)
    rotation = start.new_zeros(len(start), 3, requires_grad=True)
    shift_mm = start.new_zeros(len(start), 3, requires_grad=True)
    optimiser = _torch_optimiser(settings, rotation, shift_mm)

    best_pose, best = start.clone(), start.new_full((len(start),), -torch.inf)
    flat_since_best = start.new_full((len(start),), -torch.inf)  # last score that counted as a rise
    flat = torch.zeros(len(start), dtype=torch.long, device=start.device)
    flat_at_this_rate = torch.zeros_like(flat)
    share = torch.ones_like(best)  # of the rates, by item; 0: stopped
    trace = []
    for iteration in range(settings.iterations):
        if should_stop is not None and should_stop():
            raise Cancelled(f"Refinement was cancelled after {iteration} of {settings.iterations} iterations.")
        poses = pose.offset_about(start, centre, pose.so3_exp(rotation), shift_mm)
        value = score(poses)
        optimiser.zero_grad()
        (-value.sum()).backward()
        value = value.detach().to(best)

        better = value > best  # False for not-a-number
        best = torch.where(better, value, best)
        best_pose = torch.where(better[:, None, None], poses.detach(), best_pose)
        trace.append(value)
        if on_iteration is not None:
            on_iteration(iteration, best)

        risen = best > flat_since_best + settings.tolerance
        flat_since_best = torch.where(risen, best, flat_since_best)
        flat = torch.where(risen, 0, flat + 1)
        flat_at_this_rate = torch.where(risen, 0, flat_at_this_rate + 1)
        if settings.scheduler != "none":
            lower = flat_at_this_rate >= settings.scheduler_patience
            share = torch.where(lower, share * settings.scheduler_factor, share)
            flat_at_this_rate = torch.where(lower, 0, flat_at_this_rate)
            if settings.scheduler == "plateau_with_restarts":
                share = torch.where((share > 0) & (share < _RESTART_BELOW), 1.0, share)
        if settings.patience is not None:
            share = torch.where(flat >= settings.patience, 0.0, share)
        if not share.any():
            break
        _step(optimiser, share)
    return RefineResult(best_pose.to(initial.dtype), best, torch.stack(trace))


def _torch_optimiser(settings: RefineSettings, rotation: Tensor, shift_mm: Tensor) -> torch.optim.Optimizer:
    groups = [
        {"params": [rotation], "lr": settings.rotation_rate_rad},
        {"params": [shift_mm], "lr": settings.translation_rate_mm},
    ]
    if settings.optimiser == "adam":
        return torch.optim.Adam(groups)
    momentum = 0.0 if settings.optimiser == "gradient_descent" else settings.momentum
    dampening = settings.dampening if settings.optimiser == "damped_momentum" else 0.0
    return torch.optim.SGD(groups, momentum=momentum, dampening=dampening)


def _step(optimiser: torch.optim.Optimizer, share: Tensor) -> None:
    """One step of PyTorch's optimiser, shortened to each item's share of the rates.

    A step of SGD and of Adam is proportional to the rate, so this is a rate for every item, which
    PyTorch's own schedulers cannot give; a share of 0 freezes the item although velocity is left.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)  # one item's bad pose must not spoil its velocity for good
    optimiser.step()
    with torch.no_grad():
        for p, old in zip(parameters, before, strict=True):
            p.copy_(old + share[:, None] * (p - old))
