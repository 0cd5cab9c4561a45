"""Veins out of a vessel mask: what is left of it after opening (paper A 4.3.1)."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume


def segment_veins(vessels: Volume, opening_radius_voxels: int = 1, min_component_voxels: int = 1000) -> Volume:
    """Large veins of a vessel mask (A 4.3.1): opening with a ball, then only large connected components.

    Parameters
    ----------
    vessels : Volume
        Mask, 0 = outside.
    opening_radius_voxels
        Radius of the ball; 0 opens nothing.
    min_component_voxels
        Components (26-connected) with fewer voxels are dropped.

    Returns
    -------
    Volume
        Bool on the same grid; may be empty.
    """
    if opening_radius_voxels < 0 or min_component_voxels < 0:
        raise InputError(
            f"Opening radius ({opening_radius_voxels}) and smallest component ({min_component_voxels}) must not be negative."
        )
    veins = np.zeros(vessels.voxels.shape, dtype=bool)
    found = vein_voxels(vessels.set_voxels, opening_radius_voxels, min_component_voxels)
    veins[tuple(found.T)] = True
    return vessels.with_voxels(veins)


def vein_voxels(
    vessel_voxels: np.ndarray, opening_radius_voxels: int = 1, min_component_voxels: int = 1000
) -> np.ndarray:
    """`segment_veins` from voxel to voxel, (N, 3) to (M, 3), k, j, i: the cost is the vessels', not the volume's."""
    if not len(vessel_voxels):
        return vessel_voxels
    # Arrays are the box around the vessels, with room for the ball; the kernels visit only the vessels' own voxels.
    r = opening_radius_voxels
    ball = np.mgrid[-r : r + 1, -r : r + 1, -r : r + 1].reshape(3, -1).T
    ball = ball[(ball**2).sum(axis=1) <= r * r]
    low = vessel_voxels.min(axis=0) - (r + 1)
    shape = vessel_voxels.max(axis=0) + (r + 2) - low
    opened = _opened(vessel_voxels - low, ball, (int(shape[0]), int(shape[1]), int(shape[2])))
    root = _components(opened, (int(shape[0]), int(shape[1]), int(shape[2])))
    size = np.bincount(root, minlength=len(opened))
    return np.asarray(opened[size[root] >= min_component_voxels] + low)


@njit(cache=True, nogil=True)
def _opened(voxels, ball, shape):  # type: ignore[no-untyped-def]
    """Voxels (M, 3) of the morphological opening of voxels (N, 3), none of which is nearer to the border than the ball reaches."""
    mask = np.zeros(shape, dtype=np.uint8)  # 1: set, 3: set and in the opening
    for v in range(len(voxels)):
        mask[voxels[v, 0], voxels[v, 1], voxels[v, 2]] = 1
    out = np.empty((len(voxels), 3), dtype=np.int64)
    n = 0
    for v in range(len(voxels)):
        z, y, x = voxels[v, 0], voxels[v, 1], voxels[v, 2]
        fits = True
        for b in range(len(ball)):
            if mask[z + ball[b, 0], y + ball[b, 1], x + ball[b, 2]] == 0:
                fits = False
                break
        if not fits:
            continue
        for b in range(len(ball)):
            k, j, i = z + ball[b, 0], y + ball[b, 1], x + ball[b, 2]
            if mask[k, j, i] == 1:
                mask[k, j, i] = 3
                out[n, 0], out[n, 1], out[n, 2] = k, j, i
                n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def _components(voxels, shape):  # type: ignore[no-untyped-def]
    """Number (M,) of one voxel of the 26-connected component that each of the voxels (M, 3) belongs to; none at the border."""
    # Union by the smaller number, with path halving.
    number = np.zeros(shape, dtype=np.int32)
    parent = np.arange(len(voxels))
    for v in range(len(voxels)):
        z, y, x = voxels[v, 0], voxels[v, 1], voxels[v, 2]
        number[z, y, x] = v + 1
        for k in range(z - 1, z + 2):
            for j in range(y - 1, y + 2):
                for i in range(x - 1, x + 2):
                    other = number[k, j, i] - 1
                    if other < 0:
                        continue
                    a, b = v, other
                    while parent[a] != a:
                        parent[a] = parent[parent[a]]
                        a = parent[a]
                    while parent[b] != b:
                        parent[b] = parent[parent[b]]
                        b = parent[b]
                    if a != b:
                        parent[max(a, b)] = min(a, b)
    for v in range(len(voxels)):
        a = v
        while parent[a] != a:
            a = parent[a]
        parent[v] = a
    return parent
