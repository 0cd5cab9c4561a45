"""Where the head lies in a CT, however much of the patient the file shows.

Brain is soft tissue from which bone is met before air, whichever way one looks. Nothing else is: muscle reaches the skin, the heart
reaches the lungs, a table and a head rest hold no tissue.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume

COARSE_MM = 3.0  # enough to see a skull, and a hundredth of the voxels
BONE_HU, TISSUE_HU, BRAIN_HU = 300, -300, -100  # above: bone; no air; no fat, whatever the noise
# Of the 26 directions to a voxel's neighbours, this many must meet bone: the great hole and a trepanation leave the others.
_ENCLOSED_DIRECTIONS = 22
_NARROW_MM = 9.0  # half of it: what is narrower (spinal canal, orbit) comes off the brain
# Slices this wide, against the widest, are of the brain's middle, which neither a vertex nor a skull base that is cut off moves much.
_WIDE_SHARE = 0.75
# The circle of Willis, about which a neuroangiogram turns, lies this far below the brain's widest slices. Measured: on phantoms whose
# volumes are centred as a head CTA is, the middle lies 30 to 40 mm below them.
_CIRCLE_BELOW_MM = 35.0
# The head's part of a file, from the brain's edges: face and skin in front, skin behind and beside, air above.
_BESIDE_MM, _IN_FRONT_MM, _BEHIND_MM, _ABOVE_MM = 45.0, 70.0, 50.0, 30.0
_BELOW_VERTEX_MM = 220.0  # as far down as vessels are segmented: head and upper neck
_GIVEN_REACH_MM = np.array([110.0, 130.0, 150.0])  # about a centre that a person gave: the largest heads, on every side
_CUT_CM2 = 20.0  # of brain in the outermost slice: the file ends within the skull


@dataclass(frozen=True)
class CoarseCt:
    """A CT (z, y, x) about 3 mm apart, on the file's axes in the order of RAS: z rises to the head, y to the front, x to the right.

    Attributes
    ----------
    hu
        Voxels picked.
    peak
        The largest of each block in the file's slices, so that thin bone is not missed.
    affine : (4, 4)
        Index (x, y, z) to RAS mm.
    """

    hu: np.ndarray
    peak: np.ndarray
    affine: np.ndarray

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) along z, y, x."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)[::-1]

    @property
    def voxel_cm3(self) -> float:
        return float(self.spacing_mm.prod() / 1000)

    def to_ras(self, indices_zyx: np.ndarray) -> np.ndarray:
        """RAS mm (..., 3) of indices (..., 3)."""
        return np.asarray(indices_zyx)[..., ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3]


@dataclass(frozen=True)
class Head:
    """Where a head lies.

    Attributes
    ----------
    centre_mm : (3,)
        RAS mm: about where the circle of Willis is.
    low_mm, high_mm : (3,)
        Corners of the head's part, RAS mm; they may lie outside the file.
    cut : tuple of str
        At which ends the file stops within the skull: `vertex`, `skull base`.
    brain_mm : (3,)
        Its extent along R, A and S; None where it was not looked for.
    """

    centre_mm: np.ndarray
    low_mm: np.ndarray
    high_mm: np.ndarray
    cut: tuple[str, ...] = ()
    brain_mm: np.ndarray | None = None


@dataclass(frozen=True)
class HeadCta(Volume):
    """The head's part of a CTA: HU as int16 (k, j, i), checked; `notes` say what was found odd.

    Attributes
    ----------
    head_centre_mm : (3,)
        RAS mm: what the radiological pose puts at the isocentre, and about what the MPE is measured.
    """

    head_centre_mm: np.ndarray = field(kw_only=True)

    @property
    def centre_mm(self) -> np.ndarray:
        """The head's (3,), RAS mm, whatever the grid's is."""
        return self.head_centre_mm


def find_head(coarse: CoarseCt, brain: np.ndarray) -> Head:
    """The head about a brain (z, y, x) bool that is not empty."""
    area = brain.sum(axis=(1, 2))
    wide = np.flatnonzero(area >= _WIDE_SHARE * area.max())
    middle = brain.copy()
    middle[: wide[0]] = middle[wide[-1] + 1 :] = False
    centre = coarse.to_ras(np.argwhere(middle).mean(axis=0)) - (0, 0, _CIRCLE_BELOW_MM)
    ends = coarse.to_ras(np.stack([np.argwhere(brain).min(axis=0), np.argwhere(brain).max(axis=0)]))
    low, high = ends.min(axis=0), ends.max(axis=0)
    slice_cm2 = coarse.voxel_cm3 * 10 / coarse.spacing_mm[0]
    cut = [name for name, end in (("vertex", -1), ("skull base", 0)) if area[end] * slice_cm2 > _CUT_CM2]
    return Head(
        centre,
        np.array([low[0] - _BESIDE_MM, low[1] - _BEHIND_MM, high[2] - _BELOW_VERTEX_MM]),
        np.array([high[0] + _BESIDE_MM, high[1] + _IN_FRONT_MM, high[2] + _ABOVE_MM]),
        tuple(cut),
        high - low,
    )


def head_about(centre_mm: np.ndarray) -> Head:
    """The head about a centre (3,), RAS mm, that a person gave."""
    centre = np.asarray(centre_mm, dtype=np.float64)
    return Head(centre, centre - _GIVEN_REACH_MM, centre + _GIVEN_REACH_MM)


def cropped(volume: Volume, low_mm: np.ndarray, high_mm: np.ndarray) -> Volume:
    """The part of a volume within a box of RAS, corners (3,) mm: a view of its voxels, whole voxels.

    Raises
    ------
    InputError
        The box lies outside the volume.
    """
    corners = np.array([[low_mm, high_mm][n >> axis & 1][axis] for n in range(8) for axis in range(3)]).reshape(8, 3)
    to_index = np.linalg.inv(volume.affine)
    index = corners @ to_index[:3, :3].T + to_index[:3, 3]
    size = np.array(volume.voxels.shape[::-1])
    first = np.clip(np.floor(index.min(axis=0)), 0, size).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, size).astype(int)
    if (stop <= first).any():
        raise InputError("The head's centre lies outside the CTA.")
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    return Volume(volume.voxels[k, j, i], affine, volume.notes)


def coarse_ct(volume: Volume) -> CoarseCt:
    """A CT at about 3 mm; of a file in HU + 1024 the same values."""
    steps = np.clip(np.floor(COARSE_MM / volume.spacing_mm[::-1]), 1, volume.voxels.shape).astype(int)
    first = np.where(np.array(volume.voxels.shape) > 2 * steps, volume.first_of_every(steps), 0)
    k, j, i = steps
    slices = volume.voxels[first[0] :: k, first[1] :, first[2] :]
    rows, columns = slices.shape[1] // j * j, slices.shape[2] // i * i
    hu = slices[:, :rows:j, :columns:i].astype(np.float32)
    blocks = slices[:, :rows, :columns].reshape(len(slices), rows // j, j, columns // i, i)
    peak = blocks.max(axis=(2, 4)).astype(np.float32)
    affine = volume.affine @ np.diag([i, j, k, 1.0])
    affine[:3, 3] += volume.affine[:3, :3] @ first[::-1]
    return _towards_ras(hu, peak, affine)


def _towards_ras(hu: np.ndarray, peak: np.ndarray, affine: np.ndarray) -> CoarseCt:
    """Axes (k, j, i) exchanged and turned round so that they run as nearly along RAS as exchanging can make them."""
    axes = _nearest_axes(affine[:3, :3])
    order = tuple(2 - axes[2 - n] for n in range(3))  # array axes count from k, the affine's columns from i
    columns = affine[:, [*axes, 3]].copy()
    hu, peak = hu.transpose(order), peak.transpose(order)
    for n in range(3):
        if columns[n, n] < 0:
            hu, peak = np.flip(hu, 2 - n), np.flip(peak, 2 - n)
            columns[:3, 3] += columns[:3, n] * (hu.shape[2 - n] - 1)
            columns[:3, n] *= -1
    return CoarseCt(np.ascontiguousarray(hu), np.ascontiguousarray(peak), columns)


def _nearest_axes(directions: np.ndarray) -> list[int]:
    """For x, y and z of RAS the column (3, 3) that lies nearest to it; each is used once."""
    cosines = np.abs(directions / np.linalg.norm(directions, axis=0))
    axes = [-1, -1, -1]
    for _ in range(3):
        row, column = np.unravel_index(int(cosines.argmax()), cosines.shape)
        axes[int(row)] = int(column)
        cosines[row, :] = cosines[:, column] = -1
    return axes


def brain_of(coarse: CoarseCt) -> np.ndarray:
    """The brain (z, y, x) bool of a coarse CT, as far as it shows; all False without one.

    Of several enclosed pieces the largest: a heart between bright vessels and ribs may leave crumbs.
    """
    # Compiled code, which runs need not wait for.
    from DeepIterRegLib.images.head_kernels import directions_to_bone

    bone = coarse.peak > BONE_HU
    soft = (coarse.hu > BRAIN_HU) & ~bone
    met = directions_to_bone(bone, coarse.hu > TISSUE_HU)
    inside = soft & (met >= _ENCLOSED_DIRECTIONS)
    steps = max(1, round(_NARROW_MM / float(coarse.spacing_mm.mean())))
    ball = _ball(steps)
    # The edge of the file is none of the brain's, so it must not be eroded there.
    eroded = ndimage.binary_erosion(inside, ball, border_value=1)
    labels, count = ndimage.label(eroded)
    if count == 0:
        return np.zeros(bone.shape, dtype=bool)
    core = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_dilation(core, ball) & inside)


def _ball(radius: int) -> np.ndarray:
    z, y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
    return np.asarray(z * z + y * y + x * x <= radius * radius)
