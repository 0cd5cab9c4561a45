"""Checks of the inputs, before time is spent on them: sentences on what makes a good result unlikely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from DeepIterRegLib.common.messages import Message, within
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.confidence.features import clipped_share, contrast_to_noise
from DeepIterRegLib.segmentation.dsa import DsaMasks

MOVED_MM, LEFT_MM = 3.0, 1.0  # in the head, undone before subtraction and left of it; less is only noted
CLIPPED_SHARE = 0.15
MIN_VEIN_SHARE = 0.03
MIN_CONTRAST = 2.0  # phantoms: 2.6 and more
MIN_AREA_MM2 = 800.0  # of vessels, in the head; the phantoms' smallest territory has 1,500, a carotid's 4,000 and more
MIN_CTA_ML = 8.0
MAX_RESIDUE = 0.6


def check_inputs(cta_vessels: Volume, runs: Sequence[tuple[Angiogram, DsaMasks]]) -> tuple[str, ...]:
    """Warnings on the CTA's vessel mask and on each run with its masks; none if all is well."""
    found: list[str] = []
    volume_ml = len(cta_vessels.set_voxels) * cta_vessels.voxel_volume_mm3 / 1000
    if volume_ml < MIN_CTA_ML:
        found.append(
            Message(
                f"The CTA's vessel mask holds {volume_ml:.1f} ml, that of a whole head more than {MIN_CTA_ML:.0f}",
                advice="Check the contrast phase and the field of view.",
                give=("cta_mask",),
            )
        )
    for number, (angiogram, masks) in enumerate(runs, 1):
        name = "The DSA" if len(runs) == 1 else f"DSA {number}"
        found += [within(sentence, f"{name} ") for sentence in _run_warnings(angiogram, masks)]
    return tuple(found)


def _run_warnings(angiogram: Angiogram, masks: DsaMasks) -> list[str]:
    """What follows the name of the run."""
    found = []
    carm, valid = angiogram.carm, angiogram.valid
    pixel_mm2 = carm.pixel_spacing_mm[0] * carm.pixel_spacing_mm[1] / carm.magnification**2
    vessels = masks.vessels & valid
    count = int(vessels.sum())
    motion = angiogram.motion
    moved_mm = 0.0 if motion is None else float(motion.undone_mm.max(initial=0.0))
    left_mm = 0.0 if motion is None else float(motion.left_mm.max(initial=0.0))
    if moved_mm > MOVED_MM or left_mm > LEFT_MM:
        found.append(
            f"shows motion: the head moved by up to {moved_mm:.1f} mm, of which {left_mm:.1f} mm could not be undone; choose frames or "
            "mask frames taken while the head lay still, if there are."
        )
    # Not beside motion: what moved leaves residue, and the cause is the better advice.
    elif (residue := _residue(angiogram)) > MAX_RESIDUE:
        found.append(
            Message(
                f"has bright residue of moved bone, {100 * residue:.0f} % as strong as its vessels",
                advice="Other mask frames may show less.",
                give=("mask_frames",),
            )
        )
    if count * pixel_mm2 < MIN_AREA_MM2:
        found.append(
            f"shows few vessels ({count * pixel_mm2:.0f} mm2): many poses may explain them; look at the result closely."
        )
    if len(angiogram.frames) > 1 and masks.veins.sum() < MIN_VEIN_SHARE * max(count, 1):
        found.append(
            "shows no veins, as a run stopped in the arterial phase: there is less to go by; take a run that goes on to the "
            "veins, if there is one."
        )
    contrast = contrast_to_noise(masks, valid)
    if contrast < MIN_CONTRAST:
        found.append(
            f"has little contrast: its vessels stand out by {contrast:.1f} times the background's spread; check mask frames and injection."
        )
    clipped = clipped_share(masks.vessels, valid)
    if clipped > CLIPPED_SHARE:
        found.append(
            f"is cut: vessels cross {100 * clipped:.0f} % of the visible area's border; take a run with a larger field, if there is one."
        )
    return found


def _residue(angiogram: Angiogram) -> float:
    """How strong what turns white is beside what turns dark: contrast only darkens, so white is moved bone or noise."""
    step = max(1, max(angiogram.valid.shape) // 256)
    valid = angiogram.valid[::step, ::step]
    if valid.sum() < 100:
        return 0.0
    low, high = (extreme(angiogram.frames[:, ::step, ::step], axis=0)[valid] for extreme in (np.min, np.max))
    dark = float(np.median(low) - np.quantile(low, 0.005))
    light = float(np.quantile(high, 0.995) - np.median(high))
    return light / max(dark, 1e-9)


__all__ = ["check_inputs"]
