"""Ways from a start to the pose: paper B's optimisers, and ours. All are batched over poses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from DeepIterRegLib.registration.papers import similarity
from DeepIterRegLib.registration.papers.first_order import PAPER_B, refine
from DeepIterRegLib.registration.settings import RefineSettings
from DeepIterRegLib.registration.vessels.alignment import levenberg_marquardt
from DeepIterRegLib.registration.vessels.points import Points, tangents
from DeepIterRegLib.registration.vessels.search import Level, SearchSettings, refine_poses, search
from DeepIterRegLib.registration.vessels.targets import Measure, View, make_target, vessel_channels
from DeepIterRegLib.studies.experiments.paper_b.scene import ROTATION_DEG, TRANSLATION_MM, SceneB

CONVERGED = 1e-6  # of the loss, 1 - ZNCC (B Table 2)
LINEAR_MM = 1e9  # saturation so far away that the image is linear in the path
AMOUNT = Measure(0.0, 1.0)  # plain ZNCC of the amount
METHODS: dict[str, str] = {
    "gradient_descent": "gradient descent",
    "momentum": "with momentum",
    "damped_momentum": "with damped momentum",
    "adam": "Adam",
    "adam_blurred": "Adam, blurred coarse to fine (ours)",
    "second_order": "second order (ours)",
    "search": "search + second order (our default, vessels alone)",
}


@dataclass(frozen=True)
class MethodResult:
    """Poses (B, 4, 4); best loss so far after each iteration (iterations, B), if that is what the method descends; seconds."""

    poses: np.ndarray
    trace: np.ndarray | None
    seconds: float


Method = Callable[
    [SceneB, np.ndarray, bool], MethodResult
]  # of a scene, starts (B, 4, 4), and whether it is a small trial

# Adam, blurred: the image's rows over sigma (0: not blurred), iterations, share of B's rates. 250 iterations together, as B's.
# The first blur is wider than the gaps between vessels, so that from far away there is a slope; it leaves what is large.
_BLURRED_STAGES = ((12, 90, 1.0), (32, 60, 0.4), (0, 100, 0.08))
# Second order: share of the image's rows, blur in px, iterations. The last stages see the image as it is.
_SECOND_ORDER_STAGES = ((0.25, 2.0, 30), (0.5, 1.5, 20), (1.0, 1.0, 15), (1.0, 0.5, 25))
_SMALLEST_ROWS = 32
# Iterations of small trials.
_SHORT, _SHORT_STAGE, _SHORT_SECOND_ORDER = 20, 7, 3
# The default's settings, with a box as large as the starts are far.
DEFAULT_SEARCH = SearchSettings(rotation_deg=ROTATION_DEG, translation_mm=TRANSLATION_MM, saturation_mm=LINEAR_MM)
SMALL_SEARCH = replace(
    DEFAULT_SEARCH,
    rotation_step_deg=15.0,
    depth_step_mm=60.0,
    rows=64,
    points=1500,
    candidates=48,
    levels=(Level(64, 2000, 0.9, 6, 8),),
)


def first_order(settings: RefineSettings) -> Method:
    """Paper B's protocol: ZNCC of the images as they are, 250 iterations."""

    def method(of: SceneB, starts: np.ndarray, small: bool) -> MethodResult:
        begin = time.perf_counter()
        shorter = replace(settings, iterations=_SHORT) if small else settings
        project, fixed = of.projector(), of.image()
        # In double precision: near the truth 1 - ZNCC is smaller than what float32 tells from 0.
        found = refine(
            lambda poses: similarity.zncc(project(poses).double(), fixed),
            torch.from_numpy(starts),
            of.centre_mm,
            shorter,
        )
        trace = 1 - np.maximum.accumulate(found.trace.numpy(), axis=0)
        return MethodResult(found.pose.numpy(), trace, time.perf_counter() - begin)

    return method


def blurred_adam(of: SceneB, starts: np.ndarray, small: bool) -> MethodResult:
    """Adam from starts (B, 4, 4) in as many iterations, on images blurred less and less and with smaller and smaller steps (ours)."""
    begin = time.perf_counter()
    project, fixed = of.projector(), of.image()
    rows = of.carm.rows
    poses, traces = torch.from_numpy(starts), []
    for sigmas, iterations, rate in _BLURRED_STAGES:
        # Only where images are not blurred does 1 - ZNCC become smaller than what float32 tells from 0.
        blur = _blur_matrix(rows, rows / sigmas) if sigmas else None
        blurred = fixed if blur is None else blur @ fixed.float() @ blur.T

        def score(
            tried: torch.Tensor, blur: torch.Tensor | None = blur, blurred: torch.Tensor = blurred
        ) -> torch.Tensor:
            image = project(tried)
            return similarity.zncc(image.double() if blur is None else blur @ image @ blur.T, blurred)

        base = PAPER_B["adam"]
        settings = replace(
            base,
            rotation_rate_rad=base.rotation_rate_rad * rate,
            translation_rate_mm=base.translation_rate_mm * rate,
            iterations=_SHORT_STAGE if small else iterations,
        )
        found = refine(score, poses, of.centre_mm, settings)
        poses = found.pose
        traces.append(found.trace.numpy())
    # Only the last stage's score is that of the images themselves.
    trace = 1 - np.maximum.accumulate(traces[-1], axis=0)
    return MethodResult(poses.numpy(), trace, time.perf_counter() - begin)


def _blur_matrix(n: int, sigma: float) -> torch.Tensor:
    """Gaussian blur along one axis as a matrix (n, n): two products are far cheaper on a CPU than conv2d backwards."""
    offset = torch.arange(n, dtype=torch.float32)
    kernel = torch.exp(-0.5 * ((offset[:, None] - offset[None, :]) / sigma) ** 2)
    return kernel / kernel.sum(dim=1, keepdim=True).max()


def second_order(of: SceneB, starts: np.ndarray, small: bool) -> MethodResult:
    """Levenberg-Marquardt on the same ZNCC, coarse to fine, from each start (B, 4, 4) alone (ours)."""
    begin = time.perf_counter()
    points, image, valid = _for_alignment(of)
    channels = np.stack([image, np.zeros_like(image), np.zeros_like(image)])
    rows, poses = of.carm.rows, starts
    for share, sigma, iterations in _SECOND_ORDER_STAGES:
        target = make_target(channels, valid, of.carm, max(_SMALLEST_ROWS, round(rows * share)), sigma, AMOUNT)
        poses, _, _ = levenberg_marquardt(
            points, poses, [target], iterations=_SHORT_SECOND_ORDER if small else iterations, saturation_mm=LINEAR_MM
        )
    return MethodResult(poses, None, time.perf_counter() - begin)


def search_and_second_order(of: SceneB, starts: np.ndarray, small: bool) -> MethodResult:
    """What this software does by default from starts (B, 4, 4): search of the box, second-order refinement; then plain ZNCC."""
    begin = time.perf_counter()
    points, image, valid = _for_alignment(of)
    views = [View(vessel_channels(image, valid), valid, of.carm)]
    exact = Level(of.carm.rows, len(of.weights), 0.5, 25, 1, AMOUNT)
    found = []
    for start in starts:
        first = search(points, views, start, of.centre_mm, SMALL_SEARCH if small else DEFAULT_SEARCH)
        found.append(refine_poses(first.poses, points, views, (exact,), LINEAR_MM).cta_to_carm)
    return MethodResult(np.stack(found), None, time.perf_counter() - begin)


def _for_alignment(of: SceneB) -> tuple[Points, np.ndarray, np.ndarray]:
    """Points, the image (rows, columns) float32, and all of it valid."""
    origin = of.points_mm.mean(axis=0)
    positions = (of.points_mm - origin).astype(np.float32)
    points = Points(positions, of.weights.astype(np.float32), tangents(positions), origin)
    image = of.image().numpy().astype(np.float32)
    return points, image, np.ones(image.shape, dtype=bool)


def losses(of: SceneB, poses: np.ndarray) -> np.ndarray:
    """1 - ZNCC (B,) of the images themselves at poses (B, 4, 4): one criterion for every method."""
    with torch.no_grad():
        return 1 - similarity.zncc(of.projector()(torch.from_numpy(poses)).double(), of.image()).numpy()


def method_named(name: str) -> Method:
    """Of `METHODS`."""
    if name in PAPER_B:
        return first_order(_published(name))
    ours: dict[str, Method] = {
        "adam_blurred": blurred_adam,
        "second_order": second_order,
        "search": search_and_second_order,
    }
    return ours[name]


def _published(name: str) -> RefineSettings:
    """The paper's optimiser with rates that suit a head: dampening leaves a tenth of the gradient, so ten times the rates."""
    settings = next(settings for known, settings in PAPER_B.items() if known == name)
    if name == "damped_momentum":
        return replace(settings, rotation_rate_rad=0.3, translation_rate_mm=1000.0)
    return settings


def settings_of(name: str) -> dict[str, Any]:
    """The rates of a first-order method, for the page."""
    settings = _published(name)
    return {"rad": settings.rotation_rate_rad, "mm": settings.translation_rate_mm}
