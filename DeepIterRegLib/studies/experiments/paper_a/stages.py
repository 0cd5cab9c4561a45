"""What paper A's experiments share: its two stages here, starts about the truth, our own ways of registering."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import RegistrationError
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.papers.stages import optimise_poses
from DeepIterRegLib.registration.pipeline import find_pose
from DeepIterRegLib.registration.settings import PAPER_A_STAGE_1, PAPER_A_STAGE_2, IntensityStage, RegistrationSettings
from DeepIterRegLib.registration.vessels.search import Level, SearchSettings
from DeepIterRegLib.studies.experiments.experiment import rounded
from DeepIterRegLib.studies.experiments.objects import Item, Study, Subject, coarsened, random_starts

ROTATION_DEG, TRANSLATION_PX = 35.0, 45.0  # A 4.3.3
STARTS, SMALL_STARTS = 10, 4  # of each patient; the paper does not say how many it took
TEST_SET = 20  # patients, A 4.1
REFUSED = 1e9  # the error of a refused registration: JSON has no infinity
_ROWS, _SMALL_ROWS = 128, 64  # of the stages' images; A takes about 256, but ray-cast on a GPU
_SHORT = 8  # iterations of a small trial

STAGES_PROTOCOL = (
    "The paper's stages with its settings (NCC of the vessel mask, then mutual information of the MinIP; Adam, 2000 iterations each), but "
    "splatted at 128 rows instead of ray-cast, which takes half an hour a patient on a processor, and batched over poses. "
    "Phantoms: one injected territory, occlusion, motion, noise; the CTA's masks are the truth, the run is segmented by this software; "
    "its skull differs from the CTA's (jaw, headrest, beam hardening, a blurred CT). "
    "px are of a grid of 256 rows, about the paper's."
)
STARTS_PROTOCOL = f" Starts are up to {ROTATION_DEG:g} deg and {TRANSLATION_PX:g} px from the truth on every axis, {STARTS} a patient (the paper does not say how many), near and far alike, the same for all."


def paper_stages(small: bool) -> tuple[IntensityStage, IntensityStage]:
    """A 4.3.4, splatted instead of ray-cast."""
    stages = (
        IntensityStage("mask", "ncc", "splat", _ROWS, PAPER_A_STAGE_1),
        IntensityStage("minip", "mutual_information", "splat", _ROWS, PAPER_A_STAGE_2),
    )
    if not small:
        return stages
    first, second = (
        replace(s, rows=_SMALL_ROWS, optimisation=replace(s.optimisation, iterations=_SHORT)) for s in stages
    )
    return first, second


def descend(
    study: Study,
    of: Subject,
    stage: IntensityStage,
    starts: np.ndarray,
    mask: Volume | None = None,
    drawn: str = "vessels",
) -> Any:
    """One of the paper's stages from poses (B, 4, 4), with the CTA's `mask` against the run's mask of that name."""
    # Voxels as large as a pixel's share of the head tell all that the grid shows (ZNCC with the image of finer ones 0.998 to 0.999).
    pixel_mm = of.carm.rows / stage.rows * of.carm.pixel_spacing_mm[0] / of.carm.magnification
    thinned = coarsened(_floats(of.vessels if mask is None else mask), pixel_mm)
    masks = replace(of.masks, vessels=getattr(of.masks, drawn))
    return optimise_poses(stage, starts, thinned, of.cta.centre_mm, [masks], [of.angiogram])


def _floats(mask: Volume) -> Volume:
    return mask.with_voxels((mask.voxels > 0).astype(np.float32))


def patient_starts(study: Study, of: Subject, item: Item) -> np.ndarray:
    """The same starts (B, 4, 4) about the truth whatever is compared; near and far ones alike."""
    count = SMALL_STARTS if study.small else STARTS
    shift_mm = TRANSLATION_PX * of.px_mm / of.carm.magnification
    # Patients have seeds a thousand apart, so that no two share a start.
    seed = study.seed * 1000 + _number(study, item)
    return random_starts(of.truth, of.cta.centre_mm, ROTATION_DEG, shift_mm, range(count), seed, shrink=True)


def _number(study: Study, item: Item) -> int:
    """Of the item's patient in the study."""
    who = item["subject"]
    if "case" in who:
        return [name for name, _, _ in study.cases].index(who["case"])
    return int(who["phantom"] - study.seed)


def our_settings(study: Study, init: Any) -> RegistrationSettings:
    """The default preset from another start; small: a small box and few points."""
    settings = RegistrationSettings.preset("default", init=init)
    if not study.small:
        return settings
    box = SearchSettings(rotation_deg=10, translation_mm=10, levels=(Level(64, 2000, 0.8, 5, 4),))
    network = replace(settings.network, starts=2, rounds=1)
    return replace(settings, search=box, network=network, levels=(Level(128, 5000, 1.0, 6, 1),))


def registered(of: Subject, settings: RegistrationSettings, start: np.ndarray) -> np.ndarray | None:
    """The pose (4, 4) found from a start (4, 4), or None where it is refused."""
    try:
        return find_pose(of.scene, start, settings)
    except RegistrationError:
        return None


def errors_of(of: Subject, poses: np.ndarray) -> dict[str, list[float]]:
    """MPE of poses (B, 4, 4) in mm on the detector and in px, as records hold them."""
    mm = np.atleast_1d(of.mpe_mm(poses))
    return {"mm": rounded(mm), "px": rounded(mm / of.px_mm)}
