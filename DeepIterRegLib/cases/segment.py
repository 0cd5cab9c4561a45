"""Segmentations as files: of a CTA or of a DSA."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DeepIterRegLib.common.messages import naming
from DeepIterRegLib.common.options import Contrast, SubtractionMode
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.shown import calling, name_of
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.images.dicom import GeometryOptions, SubtractionSettings, read_angiogram
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.masks import read_mask
from DeepIterRegLib.registration.steps import Step, expected

CTA_MASK_FILES = ("vessels.nii.gz", "veins.nii.gz")
DSA_MASK_FILES = (
    "minip.nii.gz",
    "vesselness.nii.gz",
    "vessels.nii.gz",
    "arteries.nii.gz",
    "veins.nii.gz",
    "arrival_time_s.nii.gz",
)


def segment_cta_file(
    path: Path,
    series: str | None,
    phase: int | None,
    vessel_mask: Path | None,
    opening_radius_voxels: int,
    min_component_voxels: int,
    folder: Path,
    on_progress: Progress,
) -> dict[str, int]:
    """Write `CTA_MASK_FILES`; how many voxels each holds."""
    from DeepIterRegLib.segmentation.cta.mask import as_cta_mask
    from DeepIterRegLib.segmentation.cta.veins import segment_veins
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels

    on_progress.expect(expected(Step.READ_CTA, Step.SEGMENT_CTA, Step.SEGMENT_VEINS, Step.WRITE))
    on_progress(Step.READ_CTA, 0.0)
    whole = calling("cta", load_volume)(path, series, phase)
    with naming(name_of(path, "cta")):
        cta = prepare_cta(whole)
    on_progress(Step.SEGMENT_CTA, 0.0)
    vessels = (
        as_cta_mask(calling("cta_mask", read_mask)(vessel_mask, "cta_mask"), whole)
        if vessel_mask
        else segment_vessels(cta, on_progress=on_progress.of(Step.SEGMENT_CTA)).on_grid_of(whole)
    )
    on_progress(Step.SEGMENT_VEINS, 0.0)
    veins = segment_veins(vessels, opening_radius_voxels, min_component_voxels)
    on_progress(Step.WRITE, 0.0)
    for name, mask in zip(CTA_MASK_FILES, (vessels, veins), strict=True):
        # NIfTI has no type for bool.
        save_volume(mask.with_voxels(mask.voxels.astype(np.uint8)), folder / name)
    on_progress(Step.WRITE, 1.0)
    return {"vessels": int(vessels.voxels.sum()), "veins": int(veins.voxels.sum())}


def segment_dsa_file(
    path: Path,
    geometry: GeometryOptions,
    mask_frames: tuple[int, ...] | None,
    subtraction: SubtractionMode,
    folder: Path,
    on_progress: Progress,
    contrast: Contrast = "auto",
) -> dict[str, int]:
    """Write `DSA_MASK_FILES`; how many pixels each mask holds."""
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    on_progress.expect(expected(Step.READ_DSA, Step.SEGMENT_DSA, Step.WRITE))
    on_progress(Step.READ_DSA, 0.0)
    angiogram = calling("dsa", read_angiogram)(
        path, geometry, SubtractionSettings(mask_frames, mode=subtraction, contrast=contrast)
    )
    on_progress(Step.SEGMENT_DSA, 0.0)
    masks = segment_dsa(angiogram)
    on_progress(Step.WRITE, 0.0)
    for name in DSA_MASK_FILES:
        image = getattr(masks, name.removesuffix(".nii.gz"))
        image = image.astype(np.uint8) if image.dtype == bool else image.astype(np.float32)
        save_volume(detector_image(image, angiogram.carm), folder / name)
    on_progress(Step.WRITE, 1.0)
    return {name: int(getattr(masks, name).sum()) for name in ("vessels", "arteries", "veins")}
