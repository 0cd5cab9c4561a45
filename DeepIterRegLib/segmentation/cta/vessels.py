"""Vessels and veins of a CTA, from its HU alone; no network, no full-resolution Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta.angiographic import segment_by_brightness
from DeepIterRegLib.segmentation.cta.brain import (
    CAVITY,
    DEEP,
    NECK,
    brain_and_vessel_hu,
    brain_cavity,
    vein_and_artery_hu,
)
from DeepIterRegLib.segmentation.cta.bridges import bridges, grown
from DeepIterRegLib.segmentation.cta.grid import (
    POOL,
    bounding_box,
    draw_on_source_grid,
    head_grid,
    resample_trilinear,
)
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation
from DeepIterRegLib.segmentation.cta.tubes import (
    bright_voxels,
    gaussian_blur,
    open_directions,
    painted_as_brain,
    tube_response,
)

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
    tell = on_progress or (lambda done: None)  # the fractions are of the seconds on a phantom
    source, cta = cta, prepare_cta(cta)
    if cta.values != "HU":
        return _without_hu(cta, settings, on_progress)
    grid = head_grid(cta, settings)
    hu = resample_trilinear(cta.voxels, grid.to_source, grid.shape)
    zone, enclosed = brain_cavity(hu, grid.spacing_mm, settings)
    brain_hu, vessel_hu = brain_and_vessel_hu(hu, enclosed)
    vein_hu, artery_hu = vein_and_artery_hu(hu, enclosed, brain_hu, vessel_hu)
    bone_hu = min(settings.bone_hu, max(_THINNEST_BONE_HU, _BONE_OVER_ARTERY * artery_hu))
    levels = _Levels(brain_hu, vessel_hu, bone_hu)
    tell(0.25)
    mask = _vessel_mask(hu, zone, levels, grid.spacing_mm, settings, tell)
    tell(0.7)
    min_voxels = _LARGE * settings.min_component_mm3 / grid.spacing_mm**3
    upper, lower = _brain_and_neck_pieces(mask, zone, enclosed, min_voxels)
    for level_hu in (artery_hu, vein_hu):
        mask |= bridges(hu, upper, lower, brain_hu, level_hu, grid.spacing_mm)
    tell(0.87)
    _refuse_without_contrast(mask, enclosed, levels, grid.spacing_mm)
    found = cta.with_voxels(draw_on_source_grid(cta, grid, hu, mask, brain_hu, bone_hu))
    return found if source is cta else found.on_grid_of(source)


def _without_hu(cta: Volume, settings: CtaSegmentation, on_progress: Callable[[float], None] | None) -> Volume:
    """Vessels of an angiogram that says it is not in HU: as of a CTA where its values are as good as HU, else by brightness."""
    try:
        prepared = prepare_cta(Volume(cta.voxels, cta.affine))
        if prepared.values == "HU":
            return segment_vessels(prepared, settings, on_progress).on_grid_of(cta)
    except InputError:  # no skull, no brain, no HU
        pass
    return segment_by_brightness(cta, settings.min_component_mm3)


def _refuse_without_contrast(mask: np.ndarray, enclosed: np.ndarray, levels: _Levels, spacing_mm: float) -> None:
    brain_hu, vessel_hu = levels.brain_hu, levels.vessel_hu
    deep = mask & np.repeat(np.repeat(np.repeat(enclosed, POOL, 0), POOL, 1), POOL, 2)
    deep_ml, all_ml = (float(m.sum()) * spacing_mm**3 / 1000 for m in (deep, mask))
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


def _brain_and_neck_pieces(
    mask: np.ndarray, zone: np.ndarray, enclosed: np.ndarray, min_voxels: float
) -> tuple[np.ndarray, np.ndarray]:
    """A mask cut where the neck begins: the pieces that reach into the brain's cavity, and the large ones of the neck."""
    z, y, x = np.nonzero(mask)
    kind = zone[z // POOL, y // POOL, x // POOL]
    area = enclosed.sum(axis=(1, 2))
    wide = int(np.argmax(area > _WIDE * area.max()))
    brain = np.zeros(mask.shape, dtype=bool)
    brain[z, y, x] = ((kind == CAVITY) | (kind == DEEP)) & (z // POOL >= wide)
    open_to_brain = np.zeros(mask.shape, dtype=np.uint8)
    open_to_brain[z, y, x] = kind != NECK
    upper = grown(brain, open_to_brain, 0, 2, sum(mask.shape))
    lower = mask & ~upper
    if lower.any():
        box = bounding_box(lower, margin=0)
        lower[box] = _large_components(lower[box], min_voxels)
    return upper, lower


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
    hu: np.ndarray,
    zone: np.ndarray,
    levels: _Levels,
    spacing_mm: float,
    settings: CtaSegmentation,
    tell: Callable[[float], None],
) -> np.ndarray:
    """Bool (z, y, x) on the working grid."""
    painted = painted_as_brain(hu, zone, levels.brain_hu, levels.bone_hu)
    found = _candidates(hu, painted, zone, levels, spacing_mm, settings)
    tell(0.6)
    weak, strong = _likely(found, levels, settings)
    mask = np.zeros(hu.shape, dtype=bool)
    flat = np.ravel_multi_index(tuple(found.index[weak].T), hu.shape)
    mask.ravel()[flat] = True
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    piece = labels.ravel()[flat]
    keep = _vessels_among(found, weak, strong, piece, count, levels, spacing_mm, settings)
    mask.ravel()[flat] = keep[piece]
    # a sinus is seen in part where bone hides it: fill it up to bone, as far as it is as bright as a large vessel
    steps = round(settings.fill_mm / spacing_mm)
    return grown(mask, painted, np.float32(levels.plateau_hu), np.float32(levels.bone_hu), steps)


def _candidates(
    hu: np.ndarray,
    painted: np.ndarray,
    zone: np.ndarray,
    levels: _Levels,
    spacing_mm: float,
    settings: CtaSegmentation,
) -> _Candidates:
    threshold_hu = levels.brain_hu + settings.contrast_hu
    sigma = settings.smoothing_mm
    smooth = level_hu = gaussian_blur(painted, sigma / spacing_mm)
    index, kind = bright_voxels(smooth, hu, zone, threshold_hu, levels.bone_hu)
    response, roundness, wide_roundness = (np.zeros(len(index), dtype=np.float32) for _ in range(3))
    for next_sigma in settings.vesselness_sigmas_mm:
        # Blurs add up as squares, so that each scale starts from the one before.
        smooth = gaussian_blur(smooth, math.sqrt(next_sigma**2 - sigma**2) / spacing_mm)
        sigma = next_sigma
        scale = np.float32((sigma / spacing_mm) ** 2)
        wide_roundness = tube_response(smooth, index, scale, np.float32(levels.brain_hu), response)
        roundness = np.maximum(roundness, wide_roundness)
    openness = np.ones(len(index), dtype=np.float32)
    neck_hu, steps = _NECK_OVER_VESSEL * levels.vessel_hu, round(_LOOK_MM / spacing_mm)
    open_directions(hu, index, zone, threshold_hu, neck_hu, levels.bone_hu, steps, openness)
    return _Candidates(index, kind, level_hu[tuple(index.T)], response, roundness, wide_roundness, openness)


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
    count: int,
    levels: _Levels,
    spacing_mm: float,
    settings: CtaSegmentation,
) -> np.ndarray:
    """Which pieces (count + 1,) are vessels; `piece` is the number of each weak candidate's, from 1."""
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


def _large_components(mask: np.ndarray, min_voxels: float) -> np.ndarray:
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(labels.ravel()) >= min_voxels
    keep[0] = False
    return keep[labels]
