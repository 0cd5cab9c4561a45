"""Line integrals in closed form: the truth for every renderer's tests. Plain NumPy, independent of the library's renderers."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume


def rays_cta(carm: CArm, cta_to_carm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Source (3,) and pixel positions (rows, columns, 3) in RAS mm of the CTA."""
    rows, columns = np.mgrid[: carm.rows, : carm.columns]
    pixels = carm.pixel_positions(np.stack([columns, rows], axis=-1).astype(np.float64))
    rotation, shift = cta_to_carm[:3, :3], cta_to_carm[:3, 3]
    return (np.array(carm.source_mm) - shift) @ rotation, (pixels - shift) @ rotation


def sphere_integral(carm: CArm, cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Chord lengths (rows, columns) in mm of a sphere of value 1."""
    source, pixels = rays_cta(carm, cta_to_carm)
    direction = pixels - source
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    distance = np.linalg.norm(np.cross(direction, np.asarray(centre_cta_mm) - source), axis=-1)
    return 2 * np.sqrt(np.maximum(radius_mm**2 - distance**2, 0))


def box_integral(
    carm: CArm, cta_to_carm: np.ndarray, affine: np.ndarray, low_ijk: np.ndarray, high_ijk: np.ndarray
) -> np.ndarray:
    """Chord lengths (rows, columns) in mm of the box between two corners in the index space of `affine`, value 1.

    A single voxel reaches from index - 1/2 to index + 1/2.
    """
    source, pixels = rays_cta(carm, cta_to_carm)
    to_ijk = np.linalg.inv(affine)
    start = source @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    direction = (pixels - source) @ to_ijk[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        at_low, at_high = (low_ijk - start) / direction, (high_ijk - start) / direction
    entry = np.minimum(at_low, at_high).max(axis=-1)
    leave = np.maximum(at_low, at_high).min(axis=-1)
    return np.maximum(leave - entry, 0) * np.linalg.norm(pixels - source, axis=-1)


def voxel_integral(carm: CArm, cta_to_carm: np.ndarray, volume: Volume) -> np.ndarray:
    """Exact integrals (rows, columns) in value x mm of a small volume of constant voxels: voxel by voxel."""
    image = np.zeros((carm.rows, carm.columns))
    for k, j, i in np.argwhere(volume.voxels != 0):
        ijk = np.array([i, j, k])
        image += float(volume.voxels[k, j, i]) * box_integral(carm, cta_to_carm, volume.affine, ijk - 0.5, ijk + 0.5)
    return image


def voxelised_sphere(
    radius_mm: float, spacing_mm: tuple[float, float, float], rotation: np.ndarray, centre_mm: np.ndarray
) -> Volume:
    """Mask of the voxels whose centre lies within a sphere, on a grid of any orientation that holds it."""
    spacing = np.array(spacing_mm)
    counts = 2 * np.ceil(radius_mm / spacing).astype(int) + 3
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((counts - 1) / 2 + 0.2)  # the centre is no voxel's
    volume = Volume(np.zeros(counts[::-1], dtype=bool), affine)
    distance = np.linalg.norm(volume.to_ras(np.argwhere(~volume.voxels)) - centre_mm, axis=1)
    return volume.with_voxels((distance <= radius_mm).reshape(volume.voxels.shape))
