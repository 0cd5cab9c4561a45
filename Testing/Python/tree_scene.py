"""A small scene for tests of the whole registration: a random vessel tree as a CTA and its mask, and a run of it at any pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.vessels.search import Level, SearchSettings
from DeepIterRegLib.rendering.splat import SplatProjector
from DeepIterRegLib.segmentation.dsa import DsaMasks

CARM = CArm.from_angles(84.0, 6.0, sid_mm=1150, sod_mm=750, rows=256, columns=256, pixel_spacing_mm=(1.2, 1.2))
SMALL_BOX = SearchSettings(
    rotation_deg=18,
    translation_mm=20,
    rotation_step_deg=9,
    rows=64,
    points=2000,
    candidates=24,
    levels=(Level(64, 2000, 1.2, 6, 8), Level(128, 8000, 1.0, 8, 1)),
)


def small(settings: RegistrationSettings) -> RegistrationSettings:
    return replace(settings, search=SMALL_BOX, levels=(Level(256, 20000, 1.0, 10, 1),))


def vessel_volume() -> Volume:
    """Mask of a random tree, one voxel of 1.2 mm wide or more."""
    tree = vessel_tree(2, n_branches=40)
    index = np.rint((tree.positions - tree.positions.min(axis=0)) / 1.2).astype(int) + 3
    voxels = np.zeros(tuple(index.max(axis=0)[::-1] + 4), dtype=bool)
    for step in np.ndindex(2, 2, 2):
        i, j, k = (index + step).T
        voxels[k, j, i] = True
    affine = np.diag([1.2, 1.2, 1.2, 1.0])
    affine[:3, 3] = [30, -80, 700]
    return Volume(voxels, affine)


MASK = vessel_volume()
CTA = MASK.with_voxels(np.where(MASK.voxels, 300, 40).astype(np.int16))


def truth_at(angles_deg: list[float], shift_mm: list[float]) -> np.ndarray:
    start = pose.radiological(MASK.centre_mm)
    return pose.offset_about(
        start, MASK.centre_mm, pose.euler_deg_to_rotation(np.array(angles_deg)), np.array(shift_mm)
    )


def run_at(truth: np.ndarray) -> tuple[Angiogram, DsaMasks]:
    """A run that shows all vessels at a pose, and its masks."""
    image = SplatProjector.from_mask(MASK, CARM)(torch.from_numpy(truth[None]))[0].numpy()
    soft = (image / (image + 3)).astype(np.float32)
    valid = np.ones(image.shape, dtype=bool)
    angiogram = Angiogram(-soft[None], CARM, np.zeros(1), valid)
    vessels = image > 1
    arrival = np.where(vessels, 1.0, np.nan).astype(np.float32)
    return angiogram, DsaMasks(-soft, soft * vessels, vessels, vessels, np.zeros_like(vessels), arrival)
