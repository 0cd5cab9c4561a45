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
from DeepIterRegLib.segmentation.cta.veins import vein_voxels
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
    """Vessels of a CTA, segmented here, or of a mask, as `HeadPoints` about the centre that poses to start from have.

    The CTA's large veins alone are shown to the network in use and count as veins here; the others are arteries, of which
    a run's venous phase shows few. A left or right injection shows mostly its side, a posterior one mostly what lies behind
    and below.

    Raises
    ------
    InputError
        Not a head, or empty.
    """
    if is_mask(volume):
        centre_mm, mask = volume.centre_mm, volume.with_voxels(volume.voxels != 0)
    else:
        cta = prepare_cta(volume)
        centre_mm, mask = cta.centre_mm, segment_vessels(cta)
    voxels = mask.set_voxels
    if len(voxels) < 1000:
        raise InputError(
            f"The vessel mask of the patient has {len(voxels)} voxels set: at least 1000 are needed to train on."
        )
    return head_of_points(*vessel_points_of(mask, centre_mm), mask.voxel_volume_mm3 * _every(len(voxels)))


def _every(voxels: int) -> int:
    return max(1, voxels // MAX_POINTS)


def vessel_points_of(mask: Volume, centre_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some voxels of a vessel mask.

    Returns
    -------
    Where they are, (N, 3) mm about `centre_mm` (3,), RAS mm; the radius (N,) of their vessel, mm; whether they belong to the
    large veins, (N,) bool: all do where no large vein is found.
    """
    voxels = mask.set_voxels
    position = mask.to_ras(voxels)
    about_mean = (position - position.mean(axis=0)).astype(np.float32)
    every = _every(len(voxels))
    radius = local_radius_mm(about_mean, mask.voxel_volume_mm3)[::every]
    shape = mask.voxels.shape
    large = np.ravel_multi_index(tuple(vein_voxels(voxels).T), shape)
    vein = np.isin(np.ravel_multi_index(tuple(voxels[::every].T), shape), large)
    return (position - centre_mm)[::every].astype(np.float32), radius.astype(np.float32), vein | ~vein.any()


def head_of_points(position_mm: np.ndarray, radius_mm: np.ndarray, vein: np.ndarray, blood_mm3: float) -> HeadPoints:
    """A head of points (N, 3) about its centre, their vessels' radii (N,), veins (N,) bool, and the blood of each."""
    _, piece = np.unique(np.floor(position_mm / PIECE_MM).astype(int), axis=0, return_inverse=True)
    x, y, z = position_mm.T
    fade = np.stack([np.exp(-np.maximum(beyond, 0) / FADE_MM) for beyond in (x, -x, y / 2 + z / 2)])
    assert len(fade) == len(INJECTIONS)
    return HeadPoints(
        axis_mm=position_mm.astype(np.float32),
        offset_mm=np.zeros(position_mm.shape, dtype=np.float32),
        volume_mm3=np.full(len(position_mm), blood_mm3, dtype=np.float32),
        radius_mm=radius_mm.astype(np.float32),
        vein=vein,
        external=np.zeros(len(position_mm), dtype=bool),
        piece=piece.ravel().astype(np.int32),
        opacity=(0.5 * fade * vein).astype(np.float32),
    )
