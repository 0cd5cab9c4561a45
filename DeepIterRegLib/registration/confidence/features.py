"""What tells a right registration from a wrong one: numbers of one view at one pose, pooled over the views.

None of them knows the truth, the sizes of the images or the number of voxels: each is a share, a ratio, a distance on
the detector in mm, or a score relative to others of the same case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.registration.confidence.profiles import (
    NEAR_MM,
    Centreline,
    centreline,
    explained_features,
    profile_features,
    shadow,
)
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.vessels.alignment import levenberg_marquardt, normal_equations, zncc
from DeepIterRegLib.registration.vessels.least_squares import move
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.search import SearchSettings, exhaustive
from DeepIterRegLib.registration.vessels.targets import (
    FIND,
    REFINE,
    SATURATION_MM,
    Measure,
    View,
    make_target,
    target_of,
)
from DeepIterRegLib.segmentation.dsa import DsaMasks

CONTROLS, _RESIDUE_CONTROLS = 64, 24
AXES = ("turn_u", "turn_v", "turn_depth", "shift_u", "shift_v", "shift_depth")
AXIS_NAMES = {
    "turn_u": "the rotation about the image's horizontal",
    "turn_v": "the rotation about the image's vertical",
    "turn_depth": "the rotation in the image plane",
    "shift_u": "the shift across the image",
    "shift_v": "the shift up and down the image",
    "shift_depth": "the depth along the beam",
}
AMOUNT = Measure(0.0, 1.0)
# An independent, coarser search over the same box as the default one.
_RIVALS = SearchSettings(translation_mm=40.0, rotation_step_deg=10.0, rows=72, points=2000, candidates=24)


@dataclass(frozen=True, eq=False)
class MaskedView:
    """A view as vessels were aligned to it, of the contrast in the vessel mask, with the DSA's masks."""

    seen: View
    masks: DsaMasks

    @property
    def channels(self) -> np.ndarray:
        """Of the view (3, rows, columns)."""
        return self.seen.channels

    @property
    def valid(self) -> np.ndarray:
        """Of the view (rows, columns)."""
        return self.seen.valid

    @property
    def carm(self) -> CArm:
        """Of the view."""
        return self.seen.carm


def features(
    points: Points, views: Sequence[MaskedView], cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """Features of a registration, each pooled over the views (see `pool`): the worst view counts, or their mean.

    `views` is how many there are: what the worst of two shows speaks less against a pose than what the only one shows.
    """
    found = []
    for n, view in enumerate(views):
        # About the radiological pose and not the one found: it must be able to come to another answer.
        others = rivals(points, view, centre_cta_mm, seed + n)
        found.append(view_features(points, view, cta_to_carm, centre_cta_mm, others, seed + n))
    return {name: pooled(name, [values[name] for values in found]) for name in found[0]} | {"views": float(len(views))}


_WORST_IS_LOW = ("score", "gap", "explained", "profile_contrast", "direction", "offset_within", "block_share", "rank")
_WORST_IS_HIGH = ("distance", "offset_median", "block_median", "block_scatter", "shift_mm", "rival", "uncertain")


def pool(name: str) -> Literal["min", "max", "mean"]:
    """How a feature of several views becomes one."""
    if name.startswith(_WORST_IS_LOW):
        return "min"
    return "max" if name.startswith(_WORST_IS_HIGH) else "mean"


def pooled(name: str, values: Sequence[float]) -> float:
    """One value of a feature's values in each view."""
    how = pool(name)
    return float(min(values) if how == "min" else max(values) if how == "max" else np.mean(values))


def view_features(
    points: Points,
    view: MaskedView,
    cta_to_carm: np.ndarray,
    centre_cta_mm: np.ndarray,
    others: np.ndarray,
    seed: int = 0,
) -> dict[str, float]:
    """All features of one view at the pose (4, 4); `others` (K, 4, 4) come from `rivals`."""
    rng = np.random.default_rng(seed)
    out = _score_features(points, view, cta_to_carm, centre_cta_mm, rng)
    out |= _rival_features(points, view, cta_to_carm, centre_cta_mm, others, rng)
    out |= _half_features(points, view, cta_to_carm, centre_cta_mm, rng)
    line = centreline(view.channels[0], view.masks.vessels & view.valid, view.valid, view.carm)
    if len(line.index) < 20:
        line = centreline(view.channels[0], view.channels[0] > 0, view.valid, view.carm)
    image = shadow(points.subset(60000, rng), cta_to_carm, line.carm)
    out |= profile_features(line, image) | explained_features(line, image)
    out |= _content_features(points, view, line)
    return out


def residue_features(
    skull: Skull, cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """What the residue of moved bone says of a pose (4, 4), the most of any run: in the others little may have moved.

    None where no run shows any, or mask frames show the skull.
    """
    elsewhere = near_and_far(cta_to_carm, centre_cta_mm, _RESIDUE_CONTROLS, np.random.default_rng(seed))
    try:
        shares = skull.residue_shares(cta_to_carm, elsewhere).values()
    except InputError:  # no bone in the CTA: said where it was looked for
        return {}
    if not shares:
        return {}
    above = [(run.one_way - run.one_way_elsewhere.mean()) / max(run.one_way_elsewhere.std(), 0.01) for run in shares]
    return {
        "residue_score": max(run.one_way for run in shares),
        "residue_above_controls": float(max(above)),
        "residue_explained": max(run.by_movement for run in shares),
    }


def near_and_far(
    cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Misposed controls (count, 4, 4): half at 5 to 30 deg and mm around the pose, half anywhere in the box around it."""
    half = count // 2
    sizes = np.concatenate([np.linspace(5, 30, half), np.full(count - half, 0.0)])[:, None]
    directions = rng.normal(size=(count, 6))
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    offsets = directions * sizes * np.sqrt(3)
    offsets[half:] = rng.uniform(-1, 1, (count - half, 6)) * ([35.0] * 3 + [40.0] * 3)
    turns = pose.euler_deg_to_rotation(offsets[:, :3])
    return np.asarray(pose.offset_about(cta_to_carm, centre_cta_mm, turns, offsets[:, 3:]))


def _score_features(
    points: Points, view: MaskedView, cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """ZNCC at two resolutions, against misposed controls, and its curvature."""
    coarse, amount = target_of(view.seen, 128, 1.0, FIND), target_of(view.seen, 128, 1.0, AMOUNT)
    fine = target_of(view.seen, 384, 0.8, REFINE)
    drawn = points.subset(6000, rng)
    poses = np.concatenate([cta_to_carm[None], near_and_far(cta_to_carm, centre_cta_mm, CONTROLS, rng)])
    scores = zncc(drawn, poses, coarse, SATURATION_MM)
    score, controls = float(scores[0]), scores[1:]
    spread = max(float(controls.std()), 1e-3)
    dense = points.subset(40000, rng)
    at = cta_to_carm[None]
    fine_score = float(zncc(dense, at, fine, SATURATION_MM)[0])
    out = {
        "score": score,
        "score_amount": float(zncc(drawn, at, amount, SATURATION_MM)[0]),
        "score_fine": fine_score,
        "score_kept": fine_score / max(score, 1e-3),
        "score_above_controls": (score - float(controls.mean())) / spread,
        "gap_best_control": score - float(controls.max()),
        "rank_controls": float((controls < score).mean()),
    }
    target = target_of(view.seen, 256, 1.0, REFINE)
    value, _, matrix = normal_equations(points.subset(16000, rng), at, target, SATURATION_MM)
    # Inverse curvature: how far (mm, rotations at the head's rim) an axis may go, all others following, for a loss of
    # 0.005 in score.
    curvature = matrix[0] / max(float(value[0]), 0.02) + 1e-9 * np.eye(6)
    slack = np.sqrt(0.01 * np.clip(np.diag(np.linalg.inv(curvature)), 0, None) / max(float(value[0]), 0.02))
    out |= {f"uncertain_{axis}": float(np.log10(np.clip(s, 1e-3, 1e3))) for axis, s in zip(AXES, slack, strict=True)}
    return out


def rivals(points: Points, view: MaskedView, centre_cta_mm: np.ndarray, seed: int = 0) -> np.ndarray:
    """Best poses (K, 4, 4) of an independent, coarser search over the whole box about the radiological pose."""
    rng = np.random.default_rng(seed)
    target = target_of(view.seen, _RIVALS.rows, 0.8, FIND)
    drawn = points.subset(_RIVALS.points, rng)
    candidates, _ = exhaustive(drawn, target, pose.radiological(centre_cta_mm), centre_cta_mm, _RIVALS)
    sharper = target_of(view.seen, 96, 0.9, FIND)
    rough, scores, _ = levenberg_marquardt(
        points.subset(2500, rng), candidates, (sharper,), iterations=3, saturation_mm=SATURATION_MM
    )
    kept: np.ndarray = rough[np.argsort(-scores, kind="stable")[:8]]
    return kept


def _rival_features(
    points: Points,
    view: MaskedView,
    cta_to_carm: np.ndarray,
    centre_cta_mm: np.ndarray,
    others: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Does the independent search come to the same pose, and how good is the best other one?"""
    sharp = target_of(view.seen, 128, 0.8, FIND)
    poses, scores, _ = levenberg_marquardt(
        points.subset(5000, rng),
        np.concatenate([cta_to_carm[None], others]),
        (sharp,),
        iterations=3,
        saturation_mm=SATURATION_MM,
    )
    own = float(scores[0])
    away_mm = np.nan_to_num(mpe_mm(view.carm, poses[1:], cta_to_carm, centre_cta_mm), nan=300.0)
    same, apart = away_mm < 5.0, away_mm >= 5.0
    rival = float(scores[1:][apart].max()) if apart.any() else 0.0
    far = away_mm >= 15.0
    rival_far = float(scores[1:][far].max()) if far.any() else 0.0
    best = int(np.argmax(scores[1:]))
    return {
        "gap_rival": (own - rival) / max(own, 1e-3),
        "gap_rival_far": (own - rival_far) / max(own, 1e-3),
        "agree_share": float(same.mean()),
        "rival_best_mm": float(min(away_mm[best], 60.0)),
        "rival_basins": float(_basins(poses[1:], scores[1:], own, view.carm, centre_cta_mm)),
        "refined_shift_mm": float(min(mpe_mm(view.carm, poses[0], cta_to_carm, centre_cta_mm), 60.0)),
    }


def _basins(poses: np.ndarray, scores: np.ndarray, own: float, carm: CArm, centre_cta_mm: np.ndarray) -> int:
    """Number of poses over 5 mm apart that score at least nine tenths of `own`."""
    distinct: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] < 0.9 * own:
            break
        if all(float(mpe_mm(carm, poses[i], poses[j], centre_cta_mm)) > 5.0 for j in distinct):
            distinct.append(int(i))
    return len(distinct)


def _half_features(
    points: Points, view: MaskedView, cta_to_carm: np.ndarray, centre_cta_mm: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """How far (MPE, mm) a step on part of the evidence leads away: arteries, veins, halves of the image, half of the points."""
    image = view.channels[0]
    shown = np.argwhere(image > 0)
    row, column = np.median(shown, axis=0) if len(shown) else np.array(image.shape) / 2
    rows, columns = np.indices(image.shape, sparse=True)
    parts = {
        "arteries": view.masks.arteries,
        "veins": view.masks.veins,
        "left": np.broadcast_to(columns < column, image.shape),
        "right": np.broadcast_to(columns >= column, image.shape),
        "top": np.broadcast_to(rows < row, image.shape),
        "bottom": np.broadcast_to(rows >= row, image.shape),
    }
    total = max(float(image.sum()), 1e-9)
    drawn = points.subset(6000, rng)
    at = cta_to_carm[None]

    def shift(part: np.ndarray, valid: np.ndarray) -> float:
        target = make_target(view.channels, valid, view.carm, 128, 1.0, REFINE, part)
        _, gradient, matrix = normal_equations(drawn, at, target, SATURATION_MM)
        # A Gauss-Newton step, damped a little where the part says nothing of an axis (mostly depth).
        scale = float(np.trace(matrix[0])) / 6
        step = np.linalg.solve(matrix[0] + (0.02 * scale + 1e-9) * np.eye(6), gradient[0])
        step *= min(1.0, 40.0 / max(float(np.linalg.norm(step)), 1e-9))
        moved = move(at, step[None], drawn, view.carm)
        away = float(mpe_mm(view.carm, moved[0], cta_to_carm, centre_cta_mm))
        return min(away, 40.0) if np.isfinite(away) else 40.0

    shifts = {}
    for name, part in parts.items():
        if (image * part).sum() < 0.08 * total:
            continue
        if name in ("arteries", "veins"):
            shifts[name] = shift(part, view.valid)
        else:
            shifts[name] = shift(part, view.valid & part)
    kinds = [shifts[k] for k in ("arteries", "veins") if k in shifts]
    halves = [shifts[k] for k in ("left", "right", "top", "bottom") if k in shifts]
    return {
        "shift_mm_kinds": max(kinds, default=10.0),
        "shift_mm_kinds_least": min(kinds, default=10.0),
        "shift_mm_halves": float(np.median(halves)) if halves else 10.0,
        "shift_mm_halves_worst": max(halves, default=10.0),
    }


def _content_features(points: Points, view: MaskedView, line: Centreline) -> dict[str, float]:
    """What there is to go by: amount of vessel, contrast, veins, vessels cut by the image's edge."""
    valid, masks = view.valid, view.masks
    length_mm = len(line.index) * line.pixel_mm / view.carm.magnification
    return {
        # Logarithms, as the model is linear and these go over decades.
        "content_length": float(np.log10(max(length_mm, 1.0))),
        "content_contrast": float(np.log10(np.clip(contrast_to_noise(masks, valid), 0.1, 1e3))),
        "content_veins": float(masks.veins.sum() / max(masks.vessels.sum(), 1)),
        "content_clipped": clipped_share(masks.vessels, valid),
        "content_cta": float(np.log10(max(float(points.weights.sum()), 1.0))),
    }


def contrast_to_noise(masks: DsaMasks, valid: np.ndarray) -> float:
    """Median contrast of the vessels over the spread of the background (row, column), both of the MinIP."""
    depth = -masks.minip
    off, on = depth[valid & ~masks.vessels][::7], depth[masks.vessels & valid]
    if not len(off) or not len(on):
        return 0.0
    middle = float(np.median(off))
    low, high = np.quantile(
        off, (0.02, 0.98)
    )  # over saturated air the background does not vary at all: no median of it
    noise = float(np.clip(off, low, high).std())
    return (float(np.median(on)) - middle) / max(noise, 1e-9)


def clipped_share(vessels: np.ndarray, valid: np.ndarray) -> float:
    """Share of the visible area's border (2 % of its size wide) that vessels cross, 0..1."""
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if len(rows) < 8 or len(columns) < 8:
        return 0.0
    inner = vessels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    band = max(2, round(0.02 * min(inner.shape)))
    sides = [inner[:band].any(0), inner[-band:].any(0), inner[:, :band].any(1), inner[:, -band:].any(1)]
    return float(np.concatenate(sides).mean())


__all__ = [
    "AXES",
    "AXIS_NAMES",
    "NEAR_MM",
    "MaskedView",
    "clipped_share",
    "contrast_to_noise",
    "features",
    "pool",
    "pooled",
    "residue_features",
    "rivals",
    "view_features",
]
