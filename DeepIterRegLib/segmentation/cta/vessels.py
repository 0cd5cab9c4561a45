"""Vessels and veins of a CTA, from its HU alone; no network, no full-resolution Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from DeepIterRegLib.common.devices import by_card
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta import cpu
from DeepIterRegLib.segmentation.cta.angiographic import segment_by_brightness
from DeepIterRegLib.segmentation.cta.brain import DEEP, NECK, brain_cavity
from DeepIterRegLib.segmentation.cta.grid import head_grid
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation

# "Measured" below: on the candidate voxels of phantoms 0 and 11, whose vessels are known.
# No artery is brighter than the first; thin bone is dimmed to the second.
_BONE_OVER_ARTERY, _THINNEST_BONE_HU = 1.3, 400.0
# Share of the vessels' contrast from which a voxel is as bright as a large vessel. Measured in the rim: vessels 0.68 (median; a quarter
# is below 0.44), bone and marrow 0.33 (three quarters are below 0.54).
_PLATEAU = 0.45
_NECK_OVER_VESSEL = 1.2  # arteries of the neck are brighter than the brain's, as contrast comes there first
_LOOK_MM = 12  # how far directions are looked along: beyond the width of a sinus
_SINUS_SHUT = 3  # a sinus lies in a groove of bone: it needs a third of the openness of others
_LARGE = 10  # times the smallest piece: 0.4 mL, a few cm of a large vessel
_SURE_DEEP = 0.02  # share of a piece in the deep part that proves it a vessel: bone's rims are never there
_ROUNDER = 1.4  # times the roundness of a voxel, for the mean of a piece that never leaves bone's neighbourhood
_NECK_PIECE = 0.1  # share of a piece in the neck from which it is judged as one
# Measured in the neck: nine tenths of the vessels' voxels have more, three quarters of the others' have less.
_NECK_OPENNESS = 0.7
_WIDE = 0.3  # of the largest area: below it the cavity's narrow lower end leaks into the gaps of the skull base
_MIN_DEEP_ML, _MIN_ML = 0.7, 2  # 5 and 10 mL are usual; a CT without contrast shows only falx and bone


@dataclass(frozen=True)
class _Levels:
    """HU of brain, of its well-filled vessels, and from where on it is bone."""

    brain_hu: float
    vessel_hu: float
    bone_hu: float

    @property
    def plateau_hu(self) -> float:
        return self.brain_hu + _PLATEAU * (self.vessel_hu - self.brain_hu)


def segment_vessels(
    cta: Volume, settings: CtaSegmentation = CtaSegmentation(), on_progress: Callable[[float], None] | None = None
) -> Volume:
    """Contrast-filled arteries and veins of the head (Resources/Docs/method.md, section 3).

    Inside the brain's cavity and away from bone everything bright is a vessel; beside bone a bright voxel must also look
    like a tube (second eigenvalue of the Hessian, bone painted over first), so that shells of bone stay out. In the neck a
    bright piece is a vessel if soft tissue surrounds it. Through the skull base vessels are followed from neck to brain
    (`bridges`).

    Parameters
    ----------
    cta : Volume
        As read, or as `cta_checks.prepare_cta` gives it; any spacing and orientation.
    settings
    on_progress
        Told the fraction done.

    Returns
    -------
    Volume
        Bool on the grid of `cta`.

    Raises
    ------
    InputError
        No head, values that are not HU, or no contrast.
    """
    source, cta = cta, prepare_cta(cta)
    if cta.values != "HU":
        return _without_hu(cta, settings, on_progress)
    tell = on_progress or (lambda done: None)
    found = cta.with_voxels(
        by_card(
            lambda device: _on_card(cta, settings, tell, device),
            lambda: _vessels(cta, settings, tell, cpu, cta.voxels),
        )
    )
    return found if source is cta else found.on_grid_of(source)


def _on_card(cta: Volume, settings: CtaSegmentation, tell: Callable[[float], None], device: str) -> np.ndarray:
    from DeepIterRegLib.segmentation.cta import tensors

    return _vessels(cta, settings, tell, tensors, tensors.held(cta.voxels, device))


def _vessels(
    cta: Volume, settings: CtaSegmentation, tell: Callable[[float], None], by: ModuleType, voxels: Any
) -> np.ndarray:
    """Vessels (k, j, i) bool of a CTA in HU, whose voxels are held where the steps of `by` work."""
    # The fractions are of the seconds on a phantom.
    grid = head_grid(cta, settings, lambda whole: by.host(by.resampled(voxels, whole)))
    hu = by.resampled(voxels, grid)
    mean, bone_fraction = by.pooled(hu, settings.bone_hu)
    zone, enclosed = brain_cavity(by, mean, bone_fraction, grid.spacing_mm, settings)
    brain_hu, vessel_hu = by.brain_and_vessel_hu(hu, enclosed)
    vein_hu, artery_hu = by.vein_and_artery_hu(hu, enclosed, brain_hu, vessel_hu)
    bone_hu = min(settings.bone_hu, max(_THINNEST_BONE_HU, _BONE_OVER_ARTERY * artery_hu))
    levels = _Levels(brain_hu, vessel_hu, bone_hu)
    tell(0.25)
    mask = _vessel_mask(by, hu, zone, levels, grid.spacing_mm, settings, tell)
    tell(0.7)
    min_voxels = _LARGE * settings.min_component_mm3 / grid.spacing_mm**3
    area = enclosed.sum(axis=(1, 2))
    wide = int(np.argmax(area > _WIDE * area.max()))
    upper, lower = by.brain_and_neck_pieces(mask, zone, wide, min_voxels)
    with Beside() as beside:
        between = partial(by.bridges, hu, upper, lower, brain_hu, spacing_mm=grid.spacing_mm)
        for job in [beside.start(partial(between, level_hu)) for level_hu in (artery_hu, vein_hu)]:
            mask |= job.result()
    del between, job, upper, lower  # the last step takes as much memory
    tell(0.87)
    deep, found = by.counts(mask, enclosed)
    _refuse_without_contrast(deep, found, levels, grid.spacing_mm)
    return np.asarray(by.drawn(voxels, grid, hu, mask, brain_hu, bone_hu))


def _without_hu(cta: Volume, settings: CtaSegmentation, on_progress: Callable[[float], None] | None) -> Volume:
    """Vessels of an angiogram that says it is not in HU: as of a CTA where its values are as good as HU, else by brightness."""
    try:
        prepared = prepare_cta(Volume(cta.voxels, cta.affine))
        if prepared.values == "HU":
            return segment_vessels(prepared, settings, on_progress).on_grid_of(cta)
    except InputError:  # no skull, no brain, no HU
        pass
    return segment_by_brightness(cta, settings.min_component_mm3)


def _refuse_without_contrast(deep: int, found: int, levels: _Levels, spacing_mm: float) -> None:
    """Refuse a mask of so many voxels, of which so many lie deep in the brain, if they are too few."""
    brain_hu, vessel_hu = levels.brain_hu, levels.vessel_hu
    deep_ml, all_ml = (count * spacing_mm**3 / 1000 for count in (deep, found))
    if deep_ml < _MIN_DEEP_ML or all_ml < _MIN_ML:
        raise InputError(
            Message(
                f"The CTA shows only {deep_ml:.1f} mL of contrast-filled vessels in the brain, {all_ml:.1f} mL in the head (5 mL and 10 mL "
                f"are usual; brain is at {brain_hu:.0f} HU, the brightest of its vessels at {vessel_hu:.0f} HU). It may be a CT without "
                "contrast, or bone was taken for vessels",
                advice="The arterial or venous series of the CTA is needed, or a vessel mask.",
                give=("cta_mask",),
            )
        )


@dataclass(frozen=True)
class _Candidates:
    """Bright voxels of the working grid, and how much each (N,) is like a vessel.

    Attributes
    ----------
    index : (N, 3)
        z, y, x.
    kind : (N,)
        Of its coarse cell.
    level : (N,)
        HU, smoothed.
    response, roundness : (N,)
        Largest over the scales: HU of contrast of a tube, and that over the contrast.
    wide_roundness : (N,)
        On the largest scale.
    openness : (N,)
    """

    index: np.ndarray
    kind: np.ndarray
    level: np.ndarray
    response: np.ndarray
    roundness: np.ndarray
    wide_roundness: np.ndarray
    openness: np.ndarray


def _vessel_mask(
    by: ModuleType,
    hu: Any,
    zone: np.ndarray,
    levels: _Levels,
    spacing_mm: float,
    settings: CtaSegmentation,
    tell: Callable[[float], None],
) -> Any:
    """Bool (z, y, x) on the working grid, where `by` works."""
    painted = by.painted_as_brain(hu, zone, levels.brain_hu, levels.bone_hu)
    # a sinus is seen in part where bone hides it: fill it up to bone, as far as it is as bright as a large vessel
    bright = (painted > float(levels.plateau_hu)) & (painted < float(levels.bone_hu))
    found = _candidates(by, hu, painted, zone, levels, spacing_mm, settings)
    del painted  # what follows takes as much memory
    tell(0.6)
    weak, strong = _likely(found, levels, settings)
    flat = np.ravel_multi_index(tuple(found.index[weak].T), hu.shape)
    piece = by.pieces(flat, hu)
    keep = _vessels_among(found, weak, strong, piece, levels, spacing_mm, settings)
    mask = by.marked(flat[keep[piece]], hu)
    return by.grown(mask, bright, round(settings.fill_mm / spacing_mm))


def _candidates(
    by: ModuleType,
    hu: Any,
    painted: Any,
    zone: np.ndarray,
    levels: _Levels,
    spacing_mm: float,
    settings: CtaSegmentation,
) -> _Candidates:
    threshold_hu = levels.brain_hu + settings.contrast_hu
    sigma = settings.smoothing_mm
    smooth = by.gaussian_blur(painted, sigma / spacing_mm)
    index, kind = by.bright_voxels(smooth, hu, zone, threshold_hu, levels.bone_hu)
    level_hu = by.values_at(smooth, index)
    responses, roundnesses = [], []
    for next_sigma in settings.vesselness_sigmas_mm:
        # Blurs add up as squares, so that each scale starts from the one before.
        smooth = by.gaussian_blur(smooth, math.sqrt(next_sigma**2 - sigma**2) / spacing_mm)
        sigma = next_sigma
        response, roundness = by.tubes(smooth, index, (sigma / spacing_mm) ** 2, levels.brain_hu)
        responses.append(response)
        roundnesses.append(roundness)
    neck_hu, steps = _NECK_OVER_VESSEL * levels.vessel_hu, round(_LOOK_MM / spacing_mm)
    openness = by.openness(hu, index, zone, threshold_hu, neck_hu, levels.bone_hu, steps)
    return _Candidates(
        by.host(index),
        by.host(kind),
        level_hu,
        np.maximum.reduce(responses),
        np.maximum.reduce(roundnesses),
        roundnesses[-1],
        openness,
    )


def _likely(found: _Candidates, levels: _Levels, settings: CtaSegmentation) -> tuple[np.ndarray, np.ndarray]:
    """Which candidates (N,) may be vessels, and which of them are strong enough to prove it for their piece."""
    bright = found.level >= levels.plateau_hu
    is_open = found.openness >= settings.min_openness
    tube = (found.roundness >= settings.min_roundness) & is_open
    # a sinus is as bright as a large vessel and round on the largest scale, and bone may hide most of it
    least_open = found.openness >= settings.min_openness / _SINUS_SHUT
    sinus = bright & (found.wide_roundness >= settings.min_roundness) & least_open
    in_neck = found.kind == NECK
    likely = np.where(in_neck, bright & is_open, (found.kind == DEEP) | tube | sinus)
    weak = likely & ((found.response > settings.vesselness_low_hu) | in_neck)
    return weak, likely & (found.response > settings.vesselness_high_hu)


def _vessels_among(
    found: _Candidates,
    weak: np.ndarray,
    strong: np.ndarray,
    piece: np.ndarray,
    levels: _Levels,
    spacing_mm: float,
    settings: CtaSegmentation,
) -> np.ndarray:
    """Which pieces (count + 1,) are vessels; `piece` is the number of each weak candidate's, from 1."""
    count = int(piece.max(initial=0))
    size = np.bincount(piece, minlength=count + 1)
    seeds = np.bincount(piece, weights=strong[weak], minlength=count + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.bincount(piece, weights=values[weak], minlength=count + 1) / np.maximum(size, 1))

    mm3 = size * spacing_mm**3
    large = mm3 >= _LARGE * settings.min_component_mm3
    sure = mean(found.kind == DEEP) > _SURE_DEEP
    # what never leaves bone's neighbourhood must be as bright as a large vessel, and round or large
    round_piece = mean(found.roundness) >= _ROUNDER * settings.min_roundness
    likely = (mean(found.level) >= levels.plateau_hu) & (round_piece | large)
    likely &= (mean(found.kind == NECK) < _NECK_PIECE) | (large & (mean(found.openness) >= _NECK_OPENNESS))
    return np.asarray((mm3 >= settings.min_component_mm3) & (seeds > 0) & (sure | likely))
