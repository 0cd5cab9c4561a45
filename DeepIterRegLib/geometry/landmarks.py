"""Pose from landmarks that a person paired: points of the CTA and where they are seen on the detector."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose as poses
from DeepIterRegLib.geometry.carm import CArm

MIN_PAIRS = 4  # three fit up to four poses; a fourth tells them apart
# A click is this good; beyond it a pair pulls only linearly, so that one slip does not spoil the rest.
_CLICK_MM = 3.0
# Points nearer to one line or spot than this do not fix a pose.
_MIN_SPREAD_MM = 5.0
# Median error on the detector beyond which the pairs are taken to be wrong, not clicked badly.
_MAX_RESIDUAL_MM = 25.0
# Starts that are refined, of 24: a rotation of the cube within reach of the truth is among the best third.
_REFINED_STARTS = 8
_MIN_DEPTH_MM = 1.0  # from the source: what lies nearer or behind it is nowhere on the detector
_STEP_SCALE = np.array([0.1, 0.1, 0.1, 10.0, 10.0, 10.0])  # rad, mm: about as much change on the detector


class LandmarkPose(NamedTuple):
    """A pose and how well it fits."""

    cta_to_carm: np.ndarray
    """(4, 4), RAS mm."""
    residuals_mm: np.ndarray
    """(N,) on the detector."""


def pose_from_landmarks(points_cta_mm: np.ndarray, pixels: np.ndarray, carm: CArm) -> LandmarkPose:
    """The pose at which points of the CTA meet the detector nearest to their pixels.

    From each of the 24 rotations of a cube the translation follows linearly; Levenberg-Marquardt with a robust loss refines the
    most promising, and the best of them wins.

    Parameters
    ----------
    points_cta_mm : (N, 3)
        RAS mm of the CTA; at least 4, not on one line.
    pixels : (N, 2)
        The same points in the same order: column, row on the detector.
    carm

    Raises
    ------
    InputError
        Too few pairs, lists of different length, points on a line or in one spot, or pairs that fit no pose.
    """
    points = np.asarray(points_cta_mm, dtype=np.float64).reshape(-1, 3)
    seen = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
    spacing = np.array(carm.pixel_spacing_mm[::-1])
    _check(points, seen, spacing)
    from scipy.optimize import least_squares  # slow to import, and few registrations have landmarks

    centre = points.mean(axis=0)
    # Rays in detector axes, scaled to unit depth.
    rays = (seen - carm.principal_point_px) * spacing / carm.sid_mm

    def residuals(twist: np.ndarray, start: np.ndarray) -> np.ndarray:
        at = poses.transform(_moved(start, twist, centre), points) - carm.source_mm
        across, down, depth = (at @ carm.axes.T).T
        depth = np.maximum(depth, _MIN_DEPTH_MM)  # behind the source: a large error, but a finite one
        mm = carm.sid_mm * (np.stack([across, down], axis=1) / depth[:, None] - rays)
        return np.asarray(mm.ravel())

    starts = [
        start for rotation in _cube_rotations() if (start := _translated(rotation, points, rays, carm)) is not None
    ]
    starts.sort(key=lambda start: float(np.abs(residuals(np.zeros(6), start)).sum()))
    refined = [
        (
            least_squares(
                residuals, np.zeros(6), loss="soft_l1", f_scale=_CLICK_MM, x_scale=_STEP_SCALE, args=(start,)
            ),
            start,
        )
        for start in starts[:_REFINED_STARTS]
    ]
    if not refined:
        raise InputError(
            "The landmarks fit no pose: all would lie behind the X-ray source. Check that the pairs have the same order."
        )
    best, start = min(refined, key=lambda pair: float(pair[0].cost))
    cta_to_carm = _moved(start, best.x, centre)
    off_mm = np.hypot(*residuals(np.zeros(6), cta_to_carm).reshape(-1, 2).T)
    if not np.median(off_mm) <= _MAX_RESIDUAL_MM:
        raise InputError(
            f"The landmarks fit no pose: half of them are off by more than {np.median(off_mm):.0f} mm on the detector. "
            "Check that both lists name the same points in the same order, and the C-arm geometry."
        )
    return LandmarkPose(cta_to_carm, off_mm)


def _check(points: np.ndarray, seen: np.ndarray, spacing: np.ndarray) -> None:
    problems = []
    if len(points) != len(seen):
        problems.append(
            f"There are {len(points)} landmarks on the CTA and {len(seen)} on the DSA; each needs its partner."
        )
    elif len(points) < MIN_PAIRS:
        problems.append(f"There are {len(points)} pairs of landmarks; at least {MIN_PAIRS} are needed.")
    elif not (np.isfinite(points).all() and np.isfinite(seen).all()):
        problems.append("A landmark has a position that is not finite; place it again.")
    else:
        for where, spread in (("CTA", _spread(points)), ("DSA", _spread(seen * spacing))):
            if spread < _MIN_SPREAD_MM:
                problems.append(
                    f"The landmarks on the {where} lie within {spread:.1f} mm of one line; spread them over the head."
                )
    if problems:
        raise InputError(problems)


def _spread(positions: np.ndarray) -> float:
    """Root mean square distance of positions (N, 2 or 3) from the line that fits best."""
    values = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False)
    return float(np.sqrt((values[1:] ** 2).sum() / len(positions)))


def _cube_rotations() -> list[np.ndarray]:
    """The 24 rotations (3, 3) of a cube: no rotation is further than 63 deg from one of them."""
    rotations = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            rotation = np.eye(3)[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(rotation) > 0:
                rotations.append(rotation)
    return rotations


def _translated(rotation: np.ndarray, points: np.ndarray, rays: np.ndarray, carm: CArm) -> np.ndarray | None:
    """A pose with this rotation: its translation solves the projection's linear equations; None if that is behind the source.

    Each pair gives two equations, (shift + turned) . (axis - ray * beam) = 0 along columns and rows (direct linear
    transform with the rotation known); rays (N, 2) are at unit depth.
    """
    turned = (points @ rotation.T - carm.source_mm) @ carm.axes.T
    equations = np.zeros((2 * len(points), 3))
    equations[0::2, 0] = equations[1::2, 1] = 1.0
    equations[0::2, 2], equations[1::2, 2] = -rays[:, 0], -rays[:, 1]
    wanted = (rays * turned[:, 2:] - turned[:, :2]).ravel()
    shift, *_ = np.linalg.lstsq(equations, wanted, rcond=None)
    if not (turned[:, 2] + shift[2]).min() > _MIN_DEPTH_MM:
        shift = carm.axes @ (-rotation @ points.mean(axis=0))  # the isocentre instead
        if not (turned[:, 2] + shift[2]).min() > _MIN_DEPTH_MM:
            return None
    return np.asarray(poses.matrix(rotation, carm.axes.T @ shift))


def _moved(start: np.ndarray, twist: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """A pose turned by a rotation vector about a point of the CTA and shifted, both in C-arm RAS."""
    return np.asarray(poses.offset_about(start, centre, poses.so3_exp(twist[:3]), twist[3:]))
