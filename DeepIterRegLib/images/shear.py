"""Volumes whose axes are not perpendicular: how far they lean, and the same object on upright axes.

A CT scanned with a tilted gantry is such a volume, and so is a NIfTI made of one.
"""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.images.volume import AIR_HU, Volume


def shear_deg(affine: np.ndarray) -> float:
    """How far two axes of an affine (4, 4) are from perpendicular at most, degrees."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = (directions.T @ directions)[np.triu_indices(3, 1)]
    return float(np.degrees(np.arcsin(np.clip(np.abs(cosines).max(), 0, 1))))


def upright(volume: Volume, outside: float = AIR_HU, nearest: bool = False) -> Volume:
    """The volume on perpendicular axes, with every point of the object where it was in RAS mm.

    The axis with the largest steps loses only its lean: its slices stay the slices that were scanned, each shifted within itself.
    So nothing is blurred across slices. The grid grows until it holds all of the volume.

    Parameters
    ----------
    volume
        Any invertible affine; one with perpendicular axes comes back as it is.
    outside
        What stands where the volume shows nothing: air of a CT, 0 of a mask.
    nearest
        For labels: values are taken, not interpolated. A bool mask is always taken so.

    Returns
    -------
    Volume
        The type of the voxels and the notes are those of `volume`; other values are interpolated linearly.
    """
    if shear_deg(volume.affine) < 1e-6:
        return volume
    affine, shape, matrix, offset = _plan(volume.affine, volume.voxels.shape)
    voxels = volume.voxels.view(np.uint8) if volume.voxels.dtype == bool else volume.voxels
    native = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("="))
    out = np.empty(shape, native.dtype)
    taken = nearest or volume.voxels.dtype == bool
    _resample(native, matrix, offset, out.dtype.type(outside), taken, out.dtype.kind in "iu", out)
    return Volume(out.view(bool) if volume.voxels.dtype == bool else out, affine, volume.notes, volume.values)


def _plan(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...], np.ndarray, np.ndarray]:
    """The upright affine (4, 4) and shape (k, j, i), and what leads from its index (i, j, k) to the sheared one's: matrix, offset."""
    axes = affine[:3, :3]
    order = np.argsort(np.linalg.norm(axes, axis=0), kind="stable")  # finest first: the coarsest stays unresampled
    rotation, triangle = np.linalg.qr(axes[:, order])
    signs = np.sign(np.diag(triangle))
    rotation, triangle = rotation * signs, triangle * signs[:, None]
    steps = np.diag(triangle)
    back = np.argsort(order)
    # From sheared to upright index, both in the order of the file.
    forth = (triangle / steps[:, None])[np.ix_(back, back)]
    upright_axes = (rotation * steps)[:, back]
    last = np.array(shape[::-1]) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in last])).reshape(3, -1)
    places = forth @ corners
    low = np.floor(places.min(axis=1) + 1e-6)
    count = (np.ceil(places.max(axis=1) - 1e-6) - low).astype(int) + 1
    result = np.eye(4)
    result[:3, :3] = upright_axes
    result[:3, 3] = affine[:3, 3] + upright_axes @ low
    matrix = np.linalg.inv(forth)
    return result, tuple(int(n) for n in count[::-1]), matrix, matrix @ low


@njit(cache=True, nogil=True)
def _resample(voxels, matrix, offset, outside, nearest, whole, out):  # type: ignore[no-untyped-def]
    """out[k, j, i] = voxels at matrix (i, j, k) + offset, linearly or nearest; up to half a voxel beyond its edge counts as the edge."""
    depth, rows, columns = voxels.shape
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + offset[0]
                y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + offset[1]
                z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + offset[2]
                if x < -0.5 or y < -0.5 or z < -0.5 or x > columns - 0.5 or y > rows - 0.5 or z > depth - 0.5:
                    out[k, j, i] = outside
                    continue
                x, y, z = min(max(x, 0.0), columns - 1.0), min(max(y, 0.0), rows - 1.0), min(max(z, 0.0), depth - 1.0)
                if nearest:
                    out[k, j, i] = voxels[int(z + 0.5), int(y + 0.5), int(x + 0.5)]
                    continue
                x0, y0, z0 = int(x), int(y), int(z)
                x1, y1, z1 = min(x0 + 1, columns - 1), min(y0 + 1, rows - 1), min(z0 + 1, depth - 1)
                x, y, z = x - x0, y - y0, z - z0
                value = 0.0
                for slice_, share in ((z0, 1 - z), (z1, z)):
                    if share > 1e-9:  # slices lie on slices: the other one's values are not fetched
                        value += share * (
                            (1 - y) * ((1 - x) * voxels[slice_, y0, x0] + x * voxels[slice_, y0, x1])
                            + y * ((1 - x) * voxels[slice_, y1, x0] + x * voxels[slice_, y1, x1])
                        )
                out[k, j, i] = math.floor(value + 0.5) if whole else value
