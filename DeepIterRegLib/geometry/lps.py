"""The one place where LPS (DICOM, ITK) meets RAS (this library, Slicer, NIfTI)."""

from __future__ import annotations

from DeepIterRegLib.geometry.arrays import Array, like
from DeepIterRegLib.geometry.pose import inverse

_FLIP = (-1.0, -1.0, 1.0, 1.0)


def lps_ras(array: Array) -> Array:
    """Turn LPS into RAS or RAS into LPS: the operation is its own inverse.

    Parameters
    ----------
    array : (..., 4, 4) or (..., 3)
        A transform between two spaces of one convention (both sides are turned, F M F with
        F = diag(-1, -1, 1, 1)), or points / vectors in mm.
    """
    if array.shape[-2:] == (4, 4):
        flip = like(_FLIP, array)
        return flip[:, None] * array * flip
    return array * like(_FLIP[:3], array)


def voxel_affine_lps_ras(affine: Array) -> Array:
    """Turn only the world side of an affine (..., 4, 4) from voxel indices to mm."""
    return like(_FLIP, affine)[:, None] * affine


def from_manual_tool(manual_lps: Array, renderer_from_ras: Array, radiological_pose: Array) -> Array:
    """Final pose from a matrix of paper A's manual registration tool (A 3.8).

    The listing there negates [0,2] [1,2] [2,0] [2,1] [0,3] [1,3], which is F M F; then
    M' = R2w M R2w^-1 and final = radiological pose o inverse(M').

    Parameters
    ----------
    manual_lps, renderer_from_ras, radiological_pose : (..., 4, 4)
        Matrix of the tool in LPS mm; R2w, from scanner axes to those of the renderer (rigid); ``cta_to_carm``.
    """
    manual = renderer_from_ras @ lps_ras(manual_lps) @ inverse(renderer_from_ras)
    return radiological_pose @ inverse(manual)
