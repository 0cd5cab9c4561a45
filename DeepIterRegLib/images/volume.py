"""A volume: voxels and where they stand; files in and out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from DeepIterRegLib.common.errors import InputError

# What voxels say: HU (or HU + 1024); or brightness of a scale of its own, in which vessels are brightest.
Values = Literal["HU", "other"]
AIR_HU = -1000


@dataclass(frozen=True)
class Volume:
    """CT in HU, or a mask (bool or uint8, 0 = outside), or an angiogram in 3D whose values are no HU (rotational, MR).

    Attributes
    ----------
    voxels : (k, j, i)
        As SimpleITK and Slicer give arrays: slice, row, column.
    affine : (4, 4) float64
        Voxel index (i, j, k) to RAS mm; index (0, 0, 0) is the CENTRE of the first voxel.
    notes : tuple of str
        What was assumed while reading, for the report.
    values
        `HU` of a CT; masks do not look at it.
    """

    voxels: np.ndarray
    affine: np.ndarray
    notes: tuple[str, ...] = ()
    values: Values = "HU"

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or min(self.voxels.shape) < 1:
            raise InputError(f"The volume has shape {self.voxels.shape}; three dimensions are needed.")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise InputError(
                "The volume's orientation matrix is not an invertible 4x4 matrix; check spacing and directions in its header."
            )
        object.__setattr__(self, "affine", affine)

    @cached_property
    def set_voxels(self) -> np.ndarray:
        """Indices (N, 3), k, j, i, of what is not 0; found once."""
        # On one axis: numpy's argwhere takes six times as long.
        set_ = np.flatnonzero(self.voxels if self.voxels.dtype == bool else self.voxels != 0)
        return np.stack(np.unravel_index(set_, self.voxels.shape), axis=1)

    @property
    def spacing_mm(self) -> np.ndarray:
        """Voxel size (3,) along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def grid_centre_mm(self) -> np.ndarray:
        """Middle (3,) of the voxel grid, RAS mm."""
        k, j, i = self.voxels.shape
        return self.affine[:3, :3] @ ((np.array([i, j, k]) - 1) / 2) + self.affine[:3, 3]

    @property
    def centre_mm(self) -> np.ndarray:
        """What the radiological pose puts at the isocentre (3,), RAS mm: the grid's middle, where no head was looked for."""
        return self.grid_centre_mm

    def to_ras(self, indices_kji: np.ndarray) -> np.ndarray:
        """RAS mm (N, 3) of voxel indices (N, 3) given in array order k, j, i."""
        return np.asarray(indices_kji)[:, ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3]

    def same_grid(self, other: Volume) -> bool:
        """Whether both have the same voxels in the same places (to a hundredth of a voxel)."""
        return self.voxels.shape == other.voxels.shape and bool(
            np.allclose(self.affine, other.affine, atol=0.01 * float(self.spacing_mm.min()), rtol=0)
        )

    def first_of_every(self, steps_kji: np.ndarray) -> np.ndarray:
        """First voxel (k, j, i) of a coarser grid of every so many voxels, counted from the origin of RAS.

        So a head has the same coarse voxels in whatever part of its scan it is cut out.
        """
        origin_kji = np.rint(np.linalg.solve(self.affine[:3, :3], -self.affine[:3, 3])).astype(int)[::-1]
        return np.asarray(origin_kji % steps_kji)

    def on_grid_of(self, whole: Volume) -> Volume:
        """A part of `whole`, cut out by whole voxels, laid in its place; the rest is 0."""
        voxels = np.zeros(whole.voxels.shape, dtype=self.voxels.dtype)
        offset = np.linalg.solve(whole.affine[:3, :3], self.affine[:3, 3] - whole.affine[:3, 3])
        i, j, k = np.rint(offset).astype(int)
        nk, nj, ni = self.voxels.shape
        voxels[k : k + nk, j : j + nj, i : i + ni] = self.voxels
        return whole.with_voxels(voxels)

    def with_voxels(self, voxels: np.ndarray) -> Volume:
        """Other voxels (k, j, i) on the same grid."""
        return Volume(voxels, self.affine)


# -- files -------------------------------------------------------------------------------------------


def is_mask(volume: Volume) -> bool:
    """Whether a volume holds at most one value beside 0, and that one above 0."""
    values = volume.voxels
    if values.dtype == bool:
        return True
    low, high = values.min(), values.max()
    return bool(low == 0 and high > 0 and np.isin(values, (low, high)).all())
