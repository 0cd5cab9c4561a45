"""One patient's own vessels as a head to fine-tune on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import called
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume, is_mask
from DeepIterRegLib.registration.network.heads import INJECTIONS, HeadPoints
from DeepIterRegLib.registration.vessels.points import local_radius_mm
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels

PIECE_MM = 12.0
MAX_POINTS = 40000
# A run of one side shows little of the other: contrast falls to 1 / e so far beyond the midline.
FADE_MM = 25.0


def read_patient(path: Path) -> Volume:
    """The CTA, or vessel mask, of a patient.

    Raises
    ------
    InputError
        Absent, unreadable.
    """
    with called("patient"):
        return load_volume(path)


def head_of_patient(volume: Volume) -> HeadPoints:
    """Vessels of a CTA, segmented here, or of a mask, as `HeadPoints` about their middle.

    Which of them are veins a mask does not tell: all take part. A left or right injection shows mostly its side, a
    posterior one mostly what lies behind and below.

    Raises
    ------
    InputError
        Not a head, or empty.
    """
    mask = volume.with_voxels(volume.voxels != 0) if is_mask(volume) else segment_vessels(prepare_cta(volume))
    voxels = mask.set_voxels
    if len(voxels) < 1000:
        raise InputError(
            f"The vessel mask of the patient has {len(voxels)} voxels set: at least 1000 are needed to train on."
        )
    return _head(mask, voxels)


def _head(mask: Volume, voxels: np.ndarray) -> HeadPoints:
    every = max(1, len(voxels) // MAX_POINTS)
    position = mask.to_ras(voxels)
    position -= position.mean(axis=0)
    radius = local_radius_mm(position.astype(np.float32), mask.voxel_volume_mm3)[::every]
    position = position[::every]
    _, piece = np.unique(np.floor(position / PIECE_MM).astype(int), axis=0, return_inverse=True)
    x, y, z = position.T
    fade = np.stack([np.exp(-np.maximum(beyond, 0) / FADE_MM) for beyond in (x, -x, y / 2 + z / 2)])
    assert len(fade) == len(INJECTIONS)
    everywhere = np.ones(len(position), dtype=bool)
    return HeadPoints(
        axis_mm=position.astype(np.float32),
        offset_mm=np.zeros_like(position, dtype=np.float32),
        volume_mm3=np.full(len(position), mask.voxel_volume_mm3 * every, dtype=np.float32),
        radius_mm=radius.astype(np.float32),
        vein=everywhere,
        external=~everywhere,
        piece=piece.ravel().astype(np.int32),
        opacity=(0.5 * fade).astype(np.float32),
    )
