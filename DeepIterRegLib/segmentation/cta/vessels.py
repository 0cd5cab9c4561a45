"""Vessels and veins of a CTA, from its HU alone; no network, no full-resolution Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta.brain import brain_and_vessel_hu, brain_cavity, vein_and_artery_hu
from DeepIterRegLib.segmentation.cta.bridges import bridges, grown
from DeepIterRegLib.segmentation.cta.grid import (
    POOL,
    as_int16,
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


def segment_vessels(
    cta: Volume, settings: CtaSegmentation = CtaSegmentation(), on_progress: Callable[[float], None] | None = None
) -> Volume:
    """Contrast-filled arteries and veins of the head (method.md, 3).

    Inside the brain's cavity and away from bone everything bright is a vessel; beside bone a bright voxel must also look
    like a tube (second eigenvalue of the Hessian, bone painted over first), so that shells of bone stay out. In the neck a
    bright piece is a vessel if soft tissue surrounds it. Through the skull base vessels are followed from neck to brain
    (`bridges`).

    Parameters
    ----------
    cta : Volume
        HU, any spacing and orientation.
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
    source, cta = cta, cta.with_voxels(as_int16(cta.voxels))
    grid = head_grid(cta, settings)
    hu = resample_trilinear(cta.voxels, grid.to_source, grid.shape)
    zone, enclosed = brain_cavity(hu, grid.spacing_mm, settings)
    brain_hu, vessel_hu = brain_and_vessel_hu(hu, enclosed)
    vein_hu, artery_hu = vein_and_artery_hu(hu, enclosed, brain_hu, vessel_hu)
    bone_hu = min(settings.bone_hu, max(400.0, 1.3 * artery_hu))
    tell(0.25)
    mask = _vessel_mask(hu, zone, brain_hu, vessel_hu, artery_hu, bone_hu, grid.spacing_mm, settings, tell)
    tell(0.7)
    upper, lower = _brain_and_neck_pieces(mask, zone, enclosed, 10 * settings.min_component_mm3 / grid.spacing_mm**3)
    for level_hu in (artery_hu, vein_hu):
        mask |= bridges(hu, upper, lower, brain_hu, level_hu, grid.spacing_mm)
    tell(0.87)
    deep = mask & np.repeat(np.repeat(np.repeat(enclosed, POOL, 0), POOL, 1), POOL, 2)
    deep_ml, all_ml = (float(m.sum()) * grid.spacing_mm**3 / 1000 for m in (deep, mask))
    if deep_ml < 0.7 or all_ml < 2:
        raise InputError(
            f"The CTA shows only {deep_ml:.1f} mL of contrast-filled vessels in the brain, {all_ml:.1f} mL in the head (5 mL and 10 mL "
            f"are usual; brain is at {brain_hu:.0f} HU, the brightest of its vessels at {vessel_hu:.0f} HU). It may be a CT without "
            "contrast, or bone was taken for vessels: give the arterial or venous CTA series, or a vessel mask with --cta-mask."
        )
    return source.with_voxels(draw_on_source_grid(cta, grid, hu, mask, brain_hu, bone_hu))


# -- working grid --------------------------------------------------------------------------------------


# -- where the brain is --------------------------------------------------------------------------------


def _brain_and_neck_pieces(
    mask: np.ndarray, zone: np.ndarray, enclosed: np.ndarray, min_voxels: float
) -> tuple[np.ndarray, np.ndarray]:
    """A mask cut where the neck begins: the pieces that reach into the brain's cavity, and the large ones of the neck."""
    z, y, x = np.nonzero(mask)
    kind = zone[z // POOL, y // POOL, x // POOL]
    # the cavity's narrow lower end leaks into the gaps of the skull base
    area = enclosed.sum(axis=(1, 2))
    wide = int(np.argmax(area > 0.3 * area.max()))
    brain = np.zeros(mask.shape, dtype=bool)
    brain[z, y, x] = ((kind == 1) | (kind == 2)) & (z // POOL >= wide)
    open_to_brain = np.zeros(mask.shape, dtype=np.uint8)
    open_to_brain[z, y, x] = kind != 4
    upper = grown(brain, open_to_brain, 0, 2, sum(mask.shape))
    lower = mask & ~upper
    if lower.any():
        box = bounding_box(lower, margin=0)
        lower[box] = _large_components(lower[box], min_voxels)
    return upper, lower


# -- vessels -------------------------------------------------------------------------------------------


def _vessel_mask(
    hu: np.ndarray,
    zone: np.ndarray,
    brain_hu: float,
    vessel_hu: float,
    artery_hu: float,
    bone_hu: float,
    spacing_mm: float,
    settings: CtaSegmentation,
    tell: Callable[[float], None],
) -> np.ndarray:
    """Bool on the working grid."""
    painted = painted_as_brain(hu, zone, brain_hu, bone_hu)
    smooth, sigma = gaussian_blur(painted, settings.smoothing_mm / spacing_mm), settings.smoothing_mm
    smooth_hu = smooth
    candidates, kinds = bright_voxels(smooth, hu, zone, brain_hu + settings.contrast_hu, bone_hu)
    response = np.zeros(len(candidates), dtype=np.float32)
    roundness = np.zeros(len(candidates), dtype=np.float32)
    for next_sigma in settings.vesselness_sigmas_mm:
        smooth = gaussian_blur(smooth, math.sqrt(next_sigma**2 - sigma**2) / spacing_mm)
        sigma = next_sigma
        wide_roundness = tube_response(
            smooth, candidates, np.float32((sigma / spacing_mm) ** 2), np.float32(brain_hu), response
        )
        roundness = np.maximum(roundness, wide_roundness)
    tell(0.5)
    openness = np.ones(len(candidates), dtype=np.float32)
    open_directions(
        hu,
        candidates,
        zone,
        brain_hu + settings.contrast_hu,
        1.2 * vessel_hu,
        bone_hu,
        round(12 / spacing_mm),
        openness,
    )
    level = smooth_hu[tuple(candidates.T)]
    tube = (roundness >= settings.min_roundness) & (openness >= settings.min_openness)
    # a sinus is as bright as a large vessel and round on the largest scale, and bone may hide most of it
    plateau_hu = brain_hu + 0.45 * (vessel_hu - brain_hu)
    sinus = (level >= plateau_hu) & (wide_roundness >= settings.min_roundness) & (openness >= settings.min_openness / 3)
    in_neck = (level >= plateau_hu) & (openness >= settings.min_openness)
    likely = np.where(kinds == 4, in_neck, (kinds == 2) | tube | sinus)
    weak = likely & ((response > settings.vesselness_low_hu) | (kinds == 4))
    strong = likely & (response > settings.vesselness_high_hu)
    mask = np.zeros(hu.shape, dtype=bool)
    flat = np.ravel_multi_index(tuple(candidates[weak].T), hu.shape)
    mask.ravel()[flat] = True
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    own = labels.ravel()[flat]
    size = np.bincount(own, minlength=count + 1)
    seeds = np.bincount(own, weights=strong[weak], minlength=count + 1)
    mean = {
        name: np.bincount(own, weights=values[weak], minlength=count + 1) / np.maximum(size, 1)
        for name, values in {
            "level": level,
            "roundness": roundness,
            "openness": openness,
            "deep": kinds == 2,
            "neck": kinds == 4,
        }.items()
    }
    mm3 = size * spacing_mm**3
    large, sure = 10 * settings.min_component_mm3, mean["deep"] > 0.02
    # what never leaves bone's neighbourhood must be as bright as a large vessel, and round or large
    likely = (mean["level"] >= plateau_hu) & ((mean["roundness"] >= 1.4 * settings.min_roundness) | (mm3 >= large))
    likely &= (mean["neck"] < 0.1) | ((mm3 >= large) & (mean["openness"] >= 0.7))
    keep = (mm3 >= settings.min_component_mm3) & (seeds > 0) & (sure | likely)
    mask.ravel()[flat] = keep[own]
    # a sinus is seen in part where bone hides it: fill it up to bone, as far as it is as bright as a large vessel
    return grown(mask, painted, np.float32(plateau_hu), np.float32(bone_hu), round(settings.fill_mm / spacing_mm))


# -- back to the CTA's grid ----------------------------------------------------------------------------


# -- small helpers -------------------------------------------------------------------------------------


def _large_components(mask: np.ndarray, min_voxels: float) -> np.ndarray:
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(labels.ravel()) >= min_voxels
    keep[0] = False
    return keep[labels]
