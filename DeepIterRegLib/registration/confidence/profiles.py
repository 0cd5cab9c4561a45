"""How the CTA's vessels lie about the DSA's centrelines: profiles across them, distances to them, directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import SATURATION_MM, resize_area, vessel_channels

REACH_MM = 12.0  # of a profile to either side, on the detector
STEP_MM = 0.5
NEAR_MM = 2.0  # a DSA vessel so near to a CTA vessel is explained by it
_MAX_SAMPLES = 4000


@dataclass(frozen=True)
class Centreline:
    """Middle of the DSA's vessels on a working grid.

    Attributes
    ----------
    pixel_mm
        Of the working grid, on the detector.
    carm
        The view on that grid.
    index : (n, 2) int
        Row and column of each sample.
    normal : (n, 2)
        Unit vector (row, column) across the vessel.
    cosine, sine : (n,)
        Direction as in `vessels.targets.vessel_channels`, of unit length.
    weight : (n,)
        Contrast, 0..1.
    width_mm : (n,)
        Of the vessel, on the detector.
    valid : (rows, columns) bool
    vessels : (rows, columns) bool
    """

    pixel_mm: float
    carm: CArm
    index: np.ndarray
    normal: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    weight: np.ndarray
    width_mm: np.ndarray
    valid: np.ndarray
    vessels: np.ndarray


def centreline(contrast: np.ndarray, vessels: np.ndarray, valid: np.ndarray, carm: CArm, rows: int = 384) -> Centreline:
    """Centreline of the vessels (row, column) bool, whose `contrast` (row, column) weighs 0..1."""
    small = carm.working_grid(rows)
    image = resize_area(contrast, rows, small.columns)
    inside = resize_area(valid, rows, small.columns) >= 0.5
    mask = (resize_area(vessels, rows, small.columns) >= 0.5) & inside
    pixel_mm = float(np.mean(small.pixel_spacing_mm))
    channels = vessel_channels(image, inside)
    index = np.argwhere(skeletonize(mask))
    if len(index) > _MAX_SAMPLES:
        index = index[np.linspace(0, len(index) - 1, _MAX_SAMPLES).astype(int)]
    at = tuple(index.T)
    cosine, sine = channels[1][at], channels[2][at]
    size = np.maximum(np.hypot(cosine, sine), 1e-9)
    cosine, sine = cosine / size, sine / size
    half = np.arctan2(sine, cosine) / 2  # of the vessel, from the column axis to the row axis
    width = 2 * ndimage.distance_transform_edt(mask)[at] * pixel_mm
    return Centreline(
        pixel_mm,
        small,
        index,
        np.stack([np.cos(half), -np.sin(half)], axis=1),
        cosine,
        sine,
        np.clip(image[at], 0, None).astype(np.float64) + 1e-6,
        width,
        inside,
        mask,
    )


def shadow(points: Points, cta_to_carm: np.ndarray, carm: CArm) -> np.ndarray:
    """Path through vessels (row, column), saturated, 0..1, on the grid of `carm`; holes between voxels are closed by a blur."""
    px = carm.project(points.positions.astype(np.float64) + points.origin_mm, cta_to_carm)
    column, row = px[:, 0], px[:, 1]
    c0, r0 = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    inside = (c0 >= 0) & (r0 >= 0) & (c0 < carm.columns - 1) & (r0 < carm.rows - 1)
    c0, r0, weight = c0[inside], r0[inside], points.weights[inside]
    fc, fr = column[inside] - c0, row[inside] - r0
    flat, size = r0 * carm.columns + c0, carm.rows * carm.columns
    image = np.zeros(size)
    for dr, dc, part in ((0, 0, (1 - fr) * (1 - fc)), (0, 1, (1 - fr) * fc), (1, 0, fr * (1 - fc)), (1, 1, fr * fc)):
        image += np.bincount(flat + dr * carm.columns + dc, part * weight, minlength=size)
    scale = carm.magnification**2 / (carm.pixel_spacing_mm[0] * carm.pixel_spacing_mm[1])
    path = ndimage.gaussian_filter((image * scale).reshape(carm.rows, carm.columns), 0.8)
    return np.asarray(path / (path + SATURATION_MM), dtype=np.float32)


def profile_features(line: Centreline, image: np.ndarray) -> dict[str, float]:
    """Features of the CTA's `image` (row, column), from `shadow`, about the DSA's centreline; every mm is on the detector."""
    steps_mm = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    at = line.index.T[:, :, None] + line.normal.T[:, :, None] * (steps_mm / line.pixel_mm)
    profiles = ndimage.map_coordinates(image, at, order=1, mode="constant")
    weight = line.weight / line.weight.sum()
    large = line.width_mm >= np.quantile(line.width_mm, 0.7)
    out = {}
    for name, chosen in (("", np.ones(len(weight), dtype=bool)), ("_large", large)):
        w = weight * chosen
        w = w / max(w.sum(), 1e-12)
        mean = w @ profiles
        far = float(mean[np.abs(steps_mm) > 4].mean())
        centre = float(mean[np.abs(steps_mm) <= 0.75].mean())
        out[f"profile_contrast{name}"] = (centre - far) / max(centre + far, 1e-6)
        # width of the mean profile: second moment of what rises above the far level
        rise = np.clip(mean - far, 0, None)
        out[f"profile_width_mm{name}"] = float(np.sqrt((rise @ steps_mm**2) / max(rise.sum(), 1e-9)))
        out[f"profile_shift_mm{name}"] = abs(float((rise @ steps_mm) / max(rise.sum(), 1e-9)))
    near = np.abs(steps_mm) <= 5
    peak = profiles[:, near].argmax(axis=1)
    offset_mm = steps_mm[near][peak]
    strong = profiles[:, near].max(axis=1) > 0.05
    out["offset_missing"] = float(weight[~strong].sum())
    if strong.any():
        w = weight[strong] / weight[strong].sum()
        size = np.abs(offset_mm[strong])
        order = np.argsort(size)
        out["offset_median_mm"] = float(size[order][np.searchsorted(np.cumsum(w[order]), 0.5)])
        out["offset_within_1mm"] = float(weight[strong][size <= 1.0].sum())
    else:
        out["offset_median_mm"], out["offset_within_1mm"] = 5.0, 0.0
    out |= _block_features(line, profiles, steps_mm, weight)
    channels = vessel_channels(image, line.valid)
    at_line = tuple(line.index.T)
    amount = channels[0][at_line].astype(np.float64)
    agreement = channels[1][at_line] * line.cosine + channels[2][at_line] * line.sine
    out["direction_agreement"] = float((weight * agreement).sum() / max((weight * amount).sum(), 1e-6))
    return out


def _block_features(
    line: Centreline, profiles: np.ndarray, steps_mm: np.ndarray, weight: np.ndarray
) -> dict[str, float]:
    """Residual displacement block by block, 4 x 4 blocks of as many rows and columns of the centreline each.

    Of each block, the small shift of the CTA's image that raises its mean on the centreline most; the profiles are
    blurred by 1 mm, so that single vessels beside the right one do not decide.
    """
    cell = [np.searchsorted(np.quantile(x, (0.25, 0.5, 0.75)), x) for x in line.index.T]
    block = cell[0] * 4 + cell[1]
    profiles = ndimage.gaussian_filter1d(profiles, 1.0 / STEP_MM, axis=1)
    shifts = np.array([(r, c) for r in np.arange(-4, 4.1, 1.0) for c in np.arange(-4, 4.1, 1.0)])
    along = shifts @ line.normal.T  # (shifts, samples) mm across the vessel
    at = np.clip(np.rint((along - steps_mm[0]) / STEP_MM).astype(int), 0, len(steps_mm) - 1)
    gain = profiles[np.arange(len(weight)), at] * weight  # (shifts, samples)
    sums = np.stack([np.bincount(block, g, minlength=16) for g in gain])  # (shifts, blocks)
    mass = np.bincount(block, weight, minlength=16)
    still = sums[len(shifts) // 2]
    used = (mass > 0.01) & (sums.max(axis=0) > 0)
    if not used.any():
        return {"block_median_mm": 4.0, "block_scatter_mm": 4.0, "block_share_still": 0.0, "block_gain": 1.0}
    best = shifts[sums.argmax(axis=0)]
    size = np.linalg.norm(best, axis=1)
    w = mass[used] / mass[used].sum()
    mean = w @ best[used]
    return {
        "block_median_mm": float(np.median(size[used])),
        "block_scatter_mm": float(np.sqrt(w @ ((best[used] - mean) ** 2).sum(axis=1))),
        "block_share_still": float(w @ (size[used] <= 1.5)),
        "block_gain": float(1 - still[used].sum() / max(sums.max(axis=0)[used].sum(), 1e-9)),
    }


def explained_features(line: Centreline, image: np.ndarray) -> dict[str, float]:
    """One-sided shares and distances, both ways; `image` (row, column) from `shadow`."""
    cta = image > 0.08
    out = {}
    distance = ndimage.distance_transform_edt(~cta) * line.pixel_mm if cta.any() else np.full(cta.shape, 99.0)
    at_line = distance[tuple(line.index.T)]
    weight = line.weight / line.weight.sum()
    large = line.width_mm >= np.quantile(line.width_mm, 0.7)
    out["explained"] = float(weight @ (at_line <= NEAR_MM))
    out["explained_large"] = float((weight * large) @ (at_line <= NEAR_MM) / max((weight * large).sum(), 1e-9))
    # The more of the picture the CTA's vessels cover, the more is explained by chance.
    covered = float((distance[line.valid] <= NEAR_MM).mean())
    out["covered"] = covered
    out["explained_above_chance"] = (out["explained"] - covered) / max(1 - covered, 1e-3)
    out["distance_mean_mm"] = float(weight @ np.minimum(at_line, 10.0))
    dsa_mm = ndimage.distance_transform_edt(~line.vessels) * line.pixel_mm
    total = float(image[line.valid].sum())
    out["cta_explained"] = float(image[line.valid & (dsa_mm <= NEAR_MM)].sum() / max(total, 1e-9))
    near_share = float((dsa_mm[line.valid] <= NEAR_MM).mean())
    out["cta_explained_above_chance"] = (out["cta_explained"] - near_share) / max(1 - near_share, 1e-3)
    return out
