"""Training samples made on the fly: a head, a C-arm, two poses; the CTA's veins at one, a DSA-like mask at the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.network.draws import Draws, SamplingSettings, draw, smoothing
from DeepIterRegLib.registration.network.heads import HeadPoints
from DeepIterRegLib.registration.network.model import NetworkSettings
from DeepIterRegLib.registration.network.view import OFF_DETECTOR, coverage
from DeepIterRegLib.rendering.splat import splat

# A DSA's mask made wider reaches at most so far from a vessel's axis.
WIDEST_MM = 2.5
# The CTA's segmentation misses no vessel as thick as this; what shows late of an artery is at least so thick.
NEVER_MISSED_MM, LATE_MM = 1.8, 0.45
# With fewer points the sample shows the whole head instead.
FEWEST_POINTS = 100


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes
    ----------
    images : (2, rows, rows)
        CTA at the start, DSA at the truth.
    start, truth : (3, 4)
        Cameras about the middle of the CTA's veins.
    points, weights : (P, 3), (P,)
        The CTA's veins about their middle, drawn so that all weigh the same.
    view
        The canvas.
    """

    images: Tensor
    start: Tensor
    truth: Tensor
    points: Tensor
    weights: Tensor
    view: CArm


def make_sample(
    head: HeadPoints, rng: np.random.Generator, network: NetworkSettings, settings: SamplingSettings, n_points: int
) -> Sample:
    """Draw one sample of a head."""
    draws, view = draw(int(head.piece.max()) + 1, rng, network, settings, n_points)
    return sample_of(head, draws, view)


def sample_of(head: HeadPoints, draws: Draws, view: CArm) -> Sample:
    """The sample that the chance in `draws` makes of a head seen in `view`."""
    if draws.mirrored:
        head = mirrored(head)
    in_cta = _found_in_cta(head, draws)
    volume = head.volume_mm3[in_cta]
    cta = ((head.axis_mm + head.offset_mm) * draws.scale)[in_cta]
    middle = np.average(cta, axis=0, weights=volume)
    start, truth = (_camera(p, view, middle) for p in (draws.start, draws.truth))

    cta -= middle.astype(np.float32)
    moving = coverage(_image(cta, volume, start, view))
    if draws.same_content:
        fixed = coverage(_image(cta, volume, truth, view)).numpy()
    else:
        fixed = _dsa_mask(head, draws, middle, truth, view)
    fixed = np.where(_seen(view, draws), fixed, OFF_DETECTOR).astype(np.float32)

    n_points = len(draws.jitter)
    cumulative = np.cumsum(volume, dtype=np.float64)
    drawn = np.searchsorted(cumulative, (np.arange(n_points) + draws.jitter) * (cumulative[-1] / n_points))
    return Sample(
        images=torch.stack([moving, torch.from_numpy(fixed)]),
        start=torch.from_numpy(start),
        truth=torch.from_numpy(truth),
        points=torch.from_numpy(cta[np.minimum(drawn, len(cta) - 1)]),
        weights=torch.full((n_points,), float(cumulative[-1] / n_points)),
        view=view,
    )


def mirrored(head: HeadPoints) -> HeadPoints:
    """Left and right exchanged."""
    flip = np.array([-1, 1, 1], dtype=np.float32)
    return HeadPoints(
        head.axis_mm * flip,
        head.offset_mm * flip,
        head.volume_mm3,
        head.radius_mm,
        head.vein,
        head.external,
        head.piece,
        head.opacity[[1, 0, 2]],
    )


def _camera(canonical_to_carm: np.ndarray, view: CArm, middle_mm: np.ndarray) -> np.ndarray:
    centre = pose.transform(canonical_to_carm, middle_mm[None])[0] - np.array(view.source_mm)
    rotation = view.axes @ canonical_to_carm[:3, :3]
    return np.concatenate([rotation, (view.axes @ centre)[:, None]], axis=1).astype(np.float32)


def _image(points_mm: np.ndarray, volume_mm3: np.ndarray, camera: np.ndarray, view: CArm) -> Tensor:
    points, weights = (
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)) for values in (points_mm, volume_mm3)
    )
    return splat(torch.from_numpy(camera)[None], points, weights, view)[0]


def _found_in_cta(head: HeadPoints, draws: Draws) -> np.ndarray:
    """(N,) bool: in the vein mask of the CTA, which holds all that is thick enough (A 4.3.1), arteries too."""
    z = head.axis_mm[:, 2] * draws.scale[2]
    low, high = draws.field_mm
    found = (head.radius_mm >= draws.smallest_radius_mm) & (z > low) & (z < high)
    if not draws.external:
        found &= ~head.external
    found &= ~draws.cta_lost[head.piece] | (head.radius_mm > NEVER_MISSED_MM)
    return found if found.sum() >= FEWEST_POINTS else head.radius_mm > 0


def _dsa_mask(head: HeadPoints, draws: Draws, middle_mm: np.ndarray, camera: np.ndarray, view: CArm) -> np.ndarray:
    """A mask (rows, rows), 0 to 1, as our segmentation makes it of a run's veins."""
    shown = head.opacity[int(draws.injection)] * 2 * head.radius_mm > draws.faintest
    shown &= ~draws.dsa_lost[head.piece]
    shown |= draws.dsa_late[head.piece] & ~head.vein & (head.radius_mm > LATE_MM)
    width = float(draws.width)
    thick = np.minimum(width, WIDEST_MM / np.maximum(head.radius_mm[shown], 0.1)) if draws.capped else width
    points = (head.axis_mm[shown] + head.offset_mm[shown] * np.reshape(thick, (-1, 1))) * draws.scale - middle_mm
    mask = coverage(_image(points, head.volume_mm3[shown] * float(draws.strength), camera, view)).numpy()
    smooth = smoothing(view.rows)
    mask *= smooth @ draws.noise @ smooth.T > draws.level
    for row, column, value in zip(draws.mark_row, draws.mark_column, draws.mark_value, strict=True):
        inside = (row >= 0) & (row < view.rows) & (column >= 0) & (column < view.rows)
        mask[row[inside], column[inside]] = np.maximum(mask[row[inside], column[inside]], value)
    return mask


def _seen(view: CArm, draws: Draws) -> np.ndarray:
    """(rows, rows) bool: canvas pixels that lie on the detector."""
    position = (np.arange(view.rows) - (view.rows - 1) / 2) * view.pixel_spacing_mm[0]
    down, across = ((position > low) & (position < high) for low, high in draws.seen_mm)
    return np.outer(down, across)
