"""Tubes to voxels: partial volume with the scanner's blur, and the truth mask."""

from __future__ import annotations

import numpy as np
from scipy.special import i0e

from DeepIterRegLib.common.compiler import njit

# Table of a blurred disc: row = radius / blur, column = distance / blur, both in steps of 1 / STEPS, interpolated to better than 1 %.
STEPS = 8
RADII = 8  # from there the edge is as good as straight
DISTANCES = 12  # from there nothing is left of the smaller discs
_FINE = 64  # steps of the integral for one of the blur: a multiple of STEPS
_LOGISTIC = 1.702  # slope with which the logistic function is nearest to the normal one's integral (to 0.01)
_REACH_BLURS = 2.6  # beyond the edge: there less than a hundredth of the contrast is left
_CONNECTED = 0.71  # of the largest spacing: half of a face's diagonal, so that a tube as thin still meets a voxel centre in each layer


def _blurred_disc_table() -> np.ndarray:
    """Disc of radius a convolved with a 2D normal of deviation 1, at distance d: integral of r exp(-(r^2+d^2)/2) I0(rd)."""
    radius = np.arange(RADII * STEPS + 1) / STEPS
    distance = np.arange(DISTANCES * STEPS + 1) / STEPS
    fine = np.linspace(0, RADII, _FINE * RADII + 1)
    integrand = fine[:, None] * np.exp(-0.5 * (fine[:, None] - distance) ** 2) * i0e(fine[:, None] * distance)
    step = fine[1] - fine[0]
    cumulative = np.vstack([np.zeros(len(distance)), np.cumsum((integrand[1:] + integrand[:-1]) * step / 2, axis=0)])
    return cumulative[np.round(radius / step).astype(int)].astype(np.float32)


_TABLE = _blurred_disc_table()


@njit(cache=True)
def _disc(table: np.ndarray, a: float, d: float) -> float:
    """Blurred disc of radius a at distance d, both in units of the blur."""
    if a >= RADII:  # large against the blur: the edge is straight
        x = _LOGISTIC * (a - d)
        return 1.0 / (1.0 + np.exp(-x)) if x > -30 else 0.0
    fa, fd = a * STEPS, d * STEPS
    ia, jd = int(fa), int(fd)
    if jd >= DISTANCES * STEPS:
        return 0.0
    fa -= ia
    fd -= jd
    return (1 - fa) * ((1 - fd) * table[ia, jd] + fd * table[ia, jd + 1]) + fa * (
        (1 - fd) * table[ia + 1, jd] + fd * table[ia + 1, jd + 1]
    )


@njit(cache=True)
def _draw(
    ends: np.ndarray,
    starts: np.ndarray,
    end_radius: np.ndarray,
    start_radius: np.ndarray,
    strength: np.ndarray,
    spacing: np.ndarray,
    blur: float,
    mask_floor: float,
    table: np.ndarray,
    coverage: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Tubes in grid mm (x, y, z = index times spacing) into coverage 0..255 and mask, both (k, j, i); the larger value wins."""
    nk, nj, ni = coverage.shape
    for n in range(len(ends)):
        largest = max(end_radius[n], start_radius[n])
        reach = max(largest, mask_floor) + _REACH_BLURS * blur
        low = np.empty(3, np.int64)
        high = np.empty(3, np.int64)
        size = (ni, nj, nk)
        for axis in range(3):
            low[axis] = max(0, int(np.ceil((min(ends[n, axis], starts[n, axis]) - reach) / spacing[axis])))
            high[axis] = min(
                size[axis] - 1, int(np.floor((max(ends[n, axis], starts[n, axis]) + reach) / spacing[axis]))
            )
        ax = ends[n, 0] - starts[n, 0]
        ay = ends[n, 1] - starts[n, 1]
        az = ends[n, 2] - starts[n, 2]
        squared = ax * ax + ay * ay + az * az
        for k in range(low[2], high[2] + 1):
            pz = k * spacing[2] - starts[n, 2]
            for j in range(low[1], high[1] + 1):
                py = j * spacing[1] - starts[n, 1]
                for i in range(low[0], high[0] + 1):
                    px = i * spacing[0] - starts[n, 0]
                    t = (px * ax + py * ay + pz * az) / squared if squared > 0 else 0.0
                    t = min(1.0, max(0.0, t))
                    dx, dy, dz = px - t * ax, py - t * ay, pz - t * az
                    distance = np.sqrt(dx * dx + dy * dy + dz * dz)
                    if distance > reach:
                        continue
                    radius = start_radius[n] + t * (end_radius[n] - start_radius[n])
                    if distance <= max(radius, mask_floor):
                        mask[k, j, i] = 1
                    value = np.uint8(255.0 * strength[n] * min(1.0, _disc(table, radius / blur, distance / blur)) + 0.5)
                    if value > coverage[k, j, i]:
                        coverage[k, j, i] = value


def draw_tubes(
    starts_mm: np.ndarray,
    ends_mm: np.ndarray,
    start_radius_mm: np.ndarray,
    end_radius_mm: np.ndarray,
    strength: np.ndarray,
    ras_to_index: np.ndarray,
    spacing_mm: np.ndarray,
    shape: tuple[int, int, int],
    blur_mm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """M tubes on a voxel grid.

    Parameters
    ----------
    starts_mm, ends_mm : (M, 3)
        RAS mm.
    start_radius_mm, end_radius_mm, strength : (M,)
        `strength` 0..1 scales the coverage (weaker contrast).
    ras_to_index : (4, 4)
        RAS mm to voxel index i, j, k.
    spacing_mm : (3,)
        Along i, j, k.
    shape
        (k, j, i).
    blur_mm
        Standard deviation of the scanner's point spread: partial volume comes from a disc convolved with it.

    Returns
    -------
    coverage, mask : (k, j, i) uint8
        Coverage 0..255. Mask 1 where the voxel centre lies inside a tube; tubes thinner than a voxel are
        widened so that they stay connected.
    """
    to_mm = np.diag(spacing_mm) @ ras_to_index[:3, :3]
    shift = ras_to_index[:3, 3] * spacing_mm
    coverage = np.zeros(shape, np.uint8)
    mask = np.zeros(shape, np.uint8)
    _draw(
        ends_mm @ to_mm.T + shift,
        starts_mm @ to_mm.T + shift,
        np.asarray(end_radius_mm, np.float64),
        np.asarray(start_radius_mm, np.float64),
        np.asarray(strength, np.float64),
        np.asarray(spacing_mm, np.float64),
        blur_mm,
        _CONNECTED * float(spacing_mm.max()),
        _TABLE,
        coverage,
        mask,
    )
    return coverage, mask
