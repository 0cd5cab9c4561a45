"""The working grid: the head at an even spacing, and back to the CTA's own voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.images.cta_checks import MIN_BONE_CM3, no_skull
from DeepIterRegLib.images.volume import AIR_HU, Volume
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation

POOL = 4  # working voxels along the edge of a coarse cell
LOWEST_HU, HIGHEST_HU = -1024, 3071  # what 12 bits hold: beyond it lies only metal
_COARSE_MM = 3.0  # of the look that finds the skull: the vault is thicker
_TISSUE_HU, _SKULL_HU = -300, 300  # above: no air and no foam of a head rest; bone, and little else in such numbers
_HEADREST_STEPS = 2  # of erosion: plates up to 12 mm thick go, a head stays
_SKIN_STEPS = 2  # bone lies within so many voxels of tissue
FAINTEST_HU = 60  # of a vessel voxel on the CTA's grid, whatever surrounds it: brighter than grey matter
UNREACHED = 32767  # a limit that no int16 HU reaches
TOP_REACH = 2  # working voxels around one in which its vessel is brightest: 1.4 mm, half the calibre of a carotid


@dataclass(frozen=True)
class WorkingGrid:
    """Isotropic, axes along RAS; index order z, y, x. `to_source` (3, 4) turns its x, y, z index into the CTA's i, j, k."""

    spacing_mm: float
    shape: tuple[int, int, int]
    to_source: np.ndarray

    @property
    def from_source(self) -> np.ndarray:
        """What turns the CTA's i, j, k into the grid's x, y, z (3, 4)."""
        return np.linalg.inv(np.vstack([self.to_source, [0, 0, 0, 1]]))[:3]


def _grid(cta: Volume, low_mm: np.ndarray, high_mm: np.ndarray, spacing_mm: float, multiple: int) -> WorkingGrid:
    # Counted from the origin of RAS, so that the same head has the same grid in whatever part of its scan it is cut out.
    low_mm = np.floor(low_mm / (spacing_mm * multiple)) * spacing_mm * multiple
    size = np.ceil((high_mm - low_mm) / spacing_mm / multiple).astype(int) * multiple
    own = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    own[:3, 3] = low_mm
    to_source = (np.linalg.inv(cta.affine) @ own)[:3]
    return WorkingGrid(spacing_mm, (int(size[2]), int(size[1]), int(size[0])), to_source)


def head_grid(cta: Volume, settings: CtaSegmentation, resampled: Callable[[WorkingGrid], np.ndarray]) -> WorkingGrid:
    """The box around the skull, from a coarse look at the whole volume, as it is `resampled`: HU (z, y, x) int16 on a grid.

    Raises
    ------
    InputError
        Too little bone for a skull at the upper end, by the measure of `cta_checks`.
    """
    spacing = _COARSE_MM
    k, j, i = cta.voxels.shape
    corners = np.array([[a, b, c] for a in (0, k - 1) for b in (0, j - 1) for c in (0, i - 1)])
    ras = cta.to_ras(corners)
    low, high = ras.min(axis=0), ras.max(axis=0)
    whole = _grid(cta, low, high, spacing, 1)
    hu = resampled(whole)
    # a head rest is thin: opening takes it off before the largest piece is chosen
    body = ndimage.binary_opening(hu > _TISSUE_HU, iterations=_HEADREST_STEPS)
    labels, count = ndimage.label(body)
    if count == 0:
        raise no_skull(0.0)
    body = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    top = int(np.flatnonzero(body.any(axis=(1, 2)))[-1])
    bottom = max(0, top - round(settings.extent_below_vertex_mm / spacing))
    skull = (hu > _SKULL_HU) & ndimage.binary_dilation(body, iterations=_SKIN_STEPS)
    skull[:bottom] = False
    skull_cm3 = skull.sum() * spacing**3 / 1000
    if skull_cm3 < MIN_BONE_CM3:
        raise no_skull(skull_cm3)
    box = bounding_box(skull, margin=2)
    corner = np.floor(low / spacing) * spacing  # of `whole`
    first = np.array([s.start for s in box])[::-1] * spacing + corner
    last = np.array([s.stop - 1 for s in box])[::-1] * spacing + corner
    return _grid(cta, np.maximum(first, low), np.minimum(last, high), settings.working_spacing_mm, POOL)


def resample_trilinear(voxels: np.ndarray, to_source: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """HU (z, y, x) int16, trilinear, on a grid of that shape; outside the source is air.

    `voxels` (k, j, i) int16; `to_source` (3, 4) turns the grid's index (x, y, z) into the source's (i, j, k).
    """
    out = np.empty(shape, dtype=np.int16)
    along_axes = not (to_source[:, :3] - np.diag(np.diag(to_source))).any()
    in_parts(_resample_along_axes if along_axes else _resample, len(out), voxels, to_source, out)
    return out


@njit(cache=True, nogil=True)
def _between(at, count):  # type: ignore[no-untyped-def]
    """The two of `count` voxels between which a place lies, the nearest where it is outside, and the share of the second."""
    at = min(max(at, 0.0), count - 1.0)
    lower = int(at)
    return lower, min(lower + 1, count - 1), at - lower


# Of kernels that begin with `first, last`: the part first:last of their loop, as `in_parts` shares it out.
@njit(cache=True, nogil=True)
def _resample(first, last, voxels, to_source, out):  # type: ignore[no-untyped-def]
    ny, nx = out.shape[1:]
    sk, sj, si = voxels.shape
    for z in range(first, last):
        for y in range(ny):
            for x in range(nx):
                i = to_source[0, 0] * x + to_source[0, 1] * y + to_source[0, 2] * z + to_source[0, 3]
                j = to_source[1, 0] * x + to_source[1, 1] * y + to_source[1, 2] * z + to_source[1, 3]
                k = to_source[2, 0] * x + to_source[2, 1] * y + to_source[2, 2] * z + to_source[2, 3]
                if i < -0.5 or j < -0.5 or k < -0.5 or i > si - 0.5 or j > sj - 0.5 or k > sk - 0.5:
                    out[z, y, x] = AIR_HU
                    continue
                i0, i1, a = _between(i, si)
                j0, j1, b = _between(j, sj)
                k0, k1, c = _between(k, sk)
                v00 = voxels[k0, j0, i0] * (1 - a) + voxels[k0, j0, i1] * a
                v01 = voxels[k0, j1, i0] * (1 - a) + voxels[k0, j1, i1] * a
                v10 = voxels[k1, j0, i0] * (1 - a) + voxels[k1, j0, i1] * a
                v11 = voxels[k1, j1, i0] * (1 - a) + voxels[k1, j1, i1] * a
                v = (v00 * (1 - b) + v01 * b) * (1 - c) + (v10 * (1 - b) + v11 * b) * c
                out[z, y, x] = int(min(max(v, float(LOWEST_HU)), float(HIGHEST_HU)))


@njit(cache=True, nogil=True)
def _resample_along_axes(first, last, voxels, to_source, out):  # type: ignore[no-untyped-def]
    """As `_resample`, to the bit, where the axes of both grids are parallel: a row is interpolated once for all that lie beside it."""
    ny, nx = out.shape[1:]
    sk, sj, si = voxels.shape
    lower, upper, part = np.empty(nx, np.int64), np.empty(nx, np.int64), np.empty(nx)
    begin, end = nx, 0  # of what is not outside
    for x in range(nx):
        i = to_source[0, 0] * x + to_source[0, 3]
        if i >= -0.5 and i <= si - 0.5:
            begin, end = min(begin, x), x + 1
        lower[x], upper[x], part[x] = _between(i, si)
    rows = np.empty((2, sj, nx))  # of two slices of the source, interpolated along x
    held = np.full((2, sj), -1)  # of which slice each is
    for z in range(first, last):
        out[z] = AIR_HU
        k = to_source[2, 2] * z + to_source[2, 3]
        if k < -0.5 or k > sk - 0.5:
            continue
        k0, k1, c = _between(k, sk)
        for y in range(ny):
            j = to_source[1, 1] * y + to_source[1, 3]
            if j < -0.5 or j > sj - 0.5:
                continue
            j0, j1, b = _between(j, sj)
            for source_k in (k0, k1):
                for source_j in (j0, j1):
                    if held[source_k % 2, source_j] != source_k:
                        held[source_k % 2, source_j] = source_k
                        for x in range(nx):
                            one, other = voxels[source_k, source_j, lower[x]], voxels[source_k, source_j, upper[x]]
                            rows[source_k % 2, source_j, x] = one * (1 - part[x]) + other * part[x]
            v00, v01, v10, v11 = rows[k0 % 2, j0], rows[k0 % 2, j1], rows[k1 % 2, j0], rows[k1 % 2, j1]
            for x in range(begin, end):
                v = (v00[x] * (1 - b) + v01[x] * b) * (1 - c) + (v10[x] * (1 - b) + v11[x] * b) * c
                out[z, y, x] = int(min(max(v, float(LOWEST_HU)), float(HIGHEST_HU)))


def draw_on_source_grid(
    voxels: np.ndarray, grid: WorkingGrid, hu: np.ndarray, mask: np.ndarray, brain_hu: float, bone_hu: float
) -> np.ndarray:
    """The mask on the CTA's grid, (k, j, i) bool: voxels near it that reach half of the local maximum.

    Parameters
    ----------
    voxels : (k, j, i)
        HU of the CTA, int16.
    grid
    hu, mask : (z, y, x)
        On the working grid, int16 and bool.
    brain_hu, bone_hu
    """
    limits = np.full(hu.shape, UNREACHED, dtype=np.int16)
    in_parts(_half_maximum, len(hu), hu, mask, mask.any(axis=2), np.float32(brain_hu), np.float32(bone_hu), limits)
    out = np.zeros(voxels.shape, dtype=bool)
    in_parts(_draw, len(out), voxels, limits, grid.from_source, bone_hu, out)
    return out


@njit(cache=True, nogil=True)
def _half_maximum(first, last, hu, mask, rows, brain_hu, bone_hu, out):  # type: ignore[no-untyped-def]
    """HU (z, y, x) int16 that a voxel must reach: half way from brain to the brightest vessel voxel around; `UNREACHED` off the mask.

    Half way is where the edge of a wide vessel lies, whatever the blur. `rows` (z, y) bool says where any voxel is set.
    """
    nz, ny, nx = hu.shape
    for z in range(first, last):
        for y in range(ny):
            near = False
            for a in range(max(z - 1, 0), min(z + 2, nz)):
                for b in range(max(y - 1, 0), min(y + 2, ny)):
                    near |= rows[a, b]
            if not near:
                continue
            for x in range(nx):
                near = mask[z, y, x] or (x > 0 and mask[z, y, x - 1]) or (x < nx - 1 and mask[z, y, x + 1])
                near = near or (y > 0 and mask[z, y - 1, x]) or (y < ny - 1 and mask[z, y + 1, x])
                near = near or (z > 0 and mask[z - 1, y, x]) or (z < nz - 1 and mask[z + 1, y, x])
                if not near:
                    continue
                top = brain_hu
                for a in range(max(z - TOP_REACH, 0), min(z + TOP_REACH + 1, nz)):
                    for b in range(max(y - TOP_REACH, 0), min(y + TOP_REACH + 1, ny)):
                        for c in range(max(x - TOP_REACH, 0), min(x + TOP_REACH + 1, nx)):
                            if mask[a, b, c] and hu[a, b, c] > top:
                                top = hu[a, b, c]
                out[z, y, x] = int(min((brain_hu + top) / 2, bone_hu))


@njit(cache=True, nogil=True)
def _draw(first, last, voxels, limits, to_grid, bone_hu, out):  # type: ignore[no-untyped-def]
    sj, si = voxels.shape[1:]
    nz, ny, nx = limits.shape
    for k in range(first, last):
        for j in range(sj):
            for i in range(si):
                v = voxels[k, j, i]
                if v < FAINTEST_HU or v >= bone_hu:
                    continue
                x = int(round(to_grid[0, 0] * i + to_grid[0, 1] * j + to_grid[0, 2] * k + to_grid[0, 3]))
                y = int(round(to_grid[1, 0] * i + to_grid[1, 1] * j + to_grid[1, 2] * k + to_grid[1, 3]))
                z = int(round(to_grid[2, 0] * i + to_grid[2, 1] * j + to_grid[2, 2] * k + to_grid[2, 3]))
                if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz and v >= limits[z, y, x]:
                    out[k, j, i] = True


def bounding_box(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The box (k, j, i) around what is set in a mask (k, j, i), with a margin of so many voxels inside the array."""
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append(slice(max(0, int(hit[0]) - margin), min(mask.shape[axis], int(hit[-1]) + 1 + margin)))
    return ranges[0], ranges[1], ranges[2]
