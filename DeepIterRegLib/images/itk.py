"""Between ITK's images (LPS) and voxels with an affine to RAS mm."""

from __future__ import annotations

from typing import Any

import numpy as np

from DeepIterRegLib.geometry.lps import voxel_affine_lps_ras


def voxels_of(image: Any) -> np.ndarray:
    """Voxels (k, j, i) of a SimpleITK image; float64 becomes float32."""
    import SimpleITK as sitk

    voxels: np.ndarray = sitk.GetArrayFromImage(image)
    return voxels.astype(np.float32) if voxels.dtype == np.float64 else voxels


def affine_of(image: Any) -> np.ndarray:
    """Voxel index (i, j, k) to RAS mm (4, 4) of a SimpleITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    result: np.ndarray = voxel_affine_lps_ras(affine)
    return result
