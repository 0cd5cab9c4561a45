"""Training samples made on the fly: a head, a C-arm, two poses; the CTA's veins at one, a DSA-like mask at the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.network.heads import HeadPoints
from DeepIterRegLib.registration.network.model import NetworkSettings
from DeepIterRegLib.registration.network.view import OFF_DETECTOR, coverage
from DeepIterRegLib.rendering.splat import splat

Range = tuple[float, float]
Axes = tuple[float, float, float]


@dataclass(frozen=True)
class SamplingSettings:
    """What training samples vary in. Offsets are drawn per axis of the C-arm frame (x right, y anterior, z up).

    Attributes
    ----------
    rotation_deg, translation_mm
        Largest offset between the two poses.
    small_offsets
        Share of samples with an offset scaled by a uniform number, as the network meets when it is asked again.
    truth_rotation_deg, truth_translation_mm
        Largest offset of the true pose from the radiological one in samples that do not start there.
    from_radiological
        Share of samples that start at the radiological pose, as in use.
    angle_deg
        Largest departure of the C-arm from AP or lateral, both angles.
    sid_mm, sod_mm, field_mm
        Distances and side of the detector's field.
    scale
        Stretch of the head, each axis.
    tilt_deg, shift_mm
        How the head lies in the CTA's field.
    smallest_radius_mm
        Vessels thinner than a number in this range are not in the CTA's veins.
    external
        Chance that the vessels outside the skull are in the CTA's veins.
    missing
        Largest share of pieces missing, of the CTA's veins and of the DSA's.
    faintest
        Veins with less contrast times diameter (mm) than a number in this range are not in the DSA's mask.
    width
        Factor on the width of the DSA's veins: dilation and erosion.
    patches
        Share of samples whose DSA lacks whole patches, as where contrast or segmentation fails.
    late_arteries, false_marks
        Largest share of arterial pieces, and largest number of marks of no vessel, in the DSA's mask.
    same_content
        Share of samples whose DSA shows exactly the CTA's veins (A 3.1.3 trains on nothing else).
    """

    rotation_deg: Axes = (35.0, 35.0, 35.0)
    translation_mm: Axes = (45.0, 45.0, 45.0)
    small_offsets: float = 0.35
    truth_rotation_deg: Axes = (20.0, 20.0, 20.0)
    truth_translation_mm: Axes = (25.0, 25.0, 25.0)
    from_radiological: float = 0.6
    angle_deg: float = 15.0
    sid_mm: Range = (950.0, 1300.0)
    sod_mm: Range = (680.0, 820.0)
    field_mm: Range = (190.0, 400.0)
    scale: Range = (0.92, 1.08)
    tilt_deg: float = 8.0
    shift_mm: float = 12.0
    smallest_radius_mm: Range = (0.45, 0.9)
    external: float = 0.2
    missing: float = 0.3
    faintest: Range = (0.1, 0.6)
    width: Range = (0.4, 1.2)
    patches: float = 0.5
    late_arteries: float = 0.06
    false_marks: int = 12
    same_content: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        for name in ("small_offsets", "from_radiological", "external", "missing", "patches", "same_content"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"sampling.{name} is {getattr(self, name):g}: give 0 to 1.")
        for name in ("sid_mm", "sod_mm", "field_mm", "scale", "smallest_radius_mm", "faintest", "width"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                problems.append(
                    f"sampling.{name} is {low:g} to {high:g}: give two positive numbers, the smaller first."
                )
        if self.sod_mm[1] >= self.sid_mm[0]:
            problems.append("sampling.sod_mm must stay below sampling.sid_mm.")
        if problems:
            raise InputError(problems)


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
    # Twice as many heads at no cost.
    if rng.random() < 0.5:
        head = mirrored(head)
    view = draw_view(rng, network, settings)
    scale = (rng.uniform(*settings.scale, 3)).astype(np.float32)
    field_low, field_high = rng.uniform(-125, -80), rng.uniform(80, 105)
    in_cta = _found_in_cta(head, scale, field_low, field_high, rng, settings)
    cta = ((head.axis_mm + head.offset_mm) * scale)[in_cta]
    middle = np.average(cta, axis=0, weights=head.volume_mm3[in_cta])
    centre = np.append(rng.normal(0, 4, 2), (field_low + field_high) / 2) + rng.normal(0, settings.shift_mm / 3, 3)
    start, truth = (_camera(p, view, middle) for p in draw_poses(rng, centre, settings))

    cta -= middle.astype(np.float32)
    moving = coverage(_image(cta, head.volume_mm3[in_cta], start, view))
    if rng.random() < settings.same_content:
        fixed = coverage(_image(cta, head.volume_mm3[in_cta], truth, view)).numpy()
    else:
        fixed = _dsa_mask(head, scale, middle, truth, view, rng, settings)
    seen = _field(view, rng, settings)
    fixed = np.where(seen, fixed, OFF_DETECTOR).astype(np.float32)

    volume = head.volume_mm3[in_cta]
    cumulative = np.cumsum(volume, dtype=np.float64)
    drawn = np.searchsorted(cumulative, (np.arange(n_points) + rng.random(n_points)) * (cumulative[-1] / n_points))
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


def draw_view(rng: np.random.Generator, network: NetworkSettings, settings: SamplingSettings) -> CArm:
    """A C-arm near AP or lateral, on the network's canvas."""
    primary, secondary = rng.uniform(-settings.angle_deg, settings.angle_deg, 2)
    if rng.random() < 0.5:
        primary += rng.choice([-90.0, 90.0])
    else:
        secondary += rng.uniform(0, 15)
    sid, sod = rng.uniform(*settings.sid_mm), rng.uniform(*settings.sod_mm)
    spacing = network.pixel_mm * sid / sod
    return CArm.from_angles(
        primary,
        secondary,
        sid_mm=sid,
        sod_mm=sod,
        rows=network.rows,
        columns=network.rows,
        pixel_spacing_mm=(spacing, spacing),
    )


def draw_poses(
    rng: np.random.Generator, centre_mm: np.ndarray, settings: SamplingSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Start and truth (4, 4), canonical frame to C-arm, turning about the CTA's centre."""
    straight = pose.euler_deg_to_rotation(rng.uniform(-1, 1, 3) * settings.tilt_deg)
    radiological = pose.matrix(straight, -straight @ centre_mm)
    size = rng.random() if rng.random() < settings.small_offsets else 1.0
    from_radiological = rng.random() < settings.from_radiological

    def moved(start: np.ndarray, rotation_deg: Axes, translation_mm: Axes, size: float) -> np.ndarray:
        turn = pose.euler_deg_to_rotation(rng.uniform(-1, 1, 3) * rotation_deg * size)
        return np.asarray(pose.offset_about(start, centre_mm, turn, rng.uniform(-1, 1, 3) * translation_mm * size))

    if from_radiological:
        return radiological, moved(radiological, settings.rotation_deg, settings.translation_mm, size)
    truth = moved(radiological, settings.truth_rotation_deg, settings.truth_translation_mm, 1.0)
    return moved(truth, settings.rotation_deg, settings.translation_mm, size), truth


def _camera(canonical_to_carm: np.ndarray, view: CArm, middle_mm: np.ndarray) -> np.ndarray:
    centre = pose.transform(canonical_to_carm, middle_mm[None])[0] - np.array(view.source_mm)
    rotation = view.axes @ canonical_to_carm[:3, :3]
    return np.concatenate([rotation, (view.axes @ centre)[:, None]], axis=1).astype(np.float32)


def _image(points_mm: np.ndarray, volume_mm3: np.ndarray, camera: np.ndarray, view: CArm) -> Tensor:
    points, weights = (
        torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)) for values in (points_mm, volume_mm3)
    )
    return splat(torch.from_numpy(camera)[None], points, weights, view)[0]


def _found_in_cta(
    head: HeadPoints,
    scale: np.ndarray,
    low_mm: float,
    high_mm: float,
    rng: np.random.Generator,
    settings: SamplingSettings,
) -> np.ndarray:
    """(N,) bool: in the vein mask of the CTA, which holds all that is thick enough (A 4.3.1), arteries too."""
    z = head.axis_mm[:, 2] * scale[2]
    found = (head.radius_mm >= rng.uniform(*settings.smallest_radius_mm)) & (z > low_mm) & (z < high_mm)
    if rng.random() >= settings.external:
        found &= ~head.external
    lost = rng.random(head.piece.max() + 1) < rng.uniform(0, settings.missing) * rng.random()
    found &= ~lost[head.piece] | (head.radius_mm > 1.8)
    return found if found.sum() >= 100 else head.radius_mm > 0


def _dsa_mask(
    head: HeadPoints,
    scale: np.ndarray,
    middle_mm: np.ndarray,
    camera: np.ndarray,
    view: CArm,
    rng: np.random.Generator,
    settings: SamplingSettings,
) -> np.ndarray:
    """A mask (rows, rows), 0 to 1, as our segmentation makes it of a run's veins."""
    opacity = head.opacity[int(rng.choice(3, p=[0.45, 0.45, 0.1]))]
    shown = opacity * 2 * head.radius_mm > rng.uniform(*settings.faintest) * rng.uniform(0.3, 1)
    lost = rng.random(head.piece.max() + 1) < rng.uniform(0, settings.missing)
    shown &= ~lost[head.piece]
    late = rng.random(head.piece.max() + 1) < rng.uniform(0, settings.late_arteries)
    shown |= late[head.piece] & ~head.vein & (head.radius_mm > 0.45)
    width = rng.uniform(*settings.width)
    thick = np.minimum(width, 2.5 / np.maximum(head.radius_mm[shown], 0.1)) if rng.random() < 0.5 else width
    points = (head.axis_mm[shown] + head.offset_mm[shown] * np.reshape(thick, (-1, 1))) * scale - middle_mm
    mask = coverage(_image(points, head.volume_mm3[shown] * rng.uniform(0.6, 1.6), camera, view)).numpy()
    rows = view.rows
    if rng.random() < settings.patches:
        noise = ndimage.zoom(rng.random((5, 5), dtype=np.float32), rows / 5, order=3, mode="nearest", grid_mode=True)
        mask *= noise[:rows, :rows] > rng.uniform(0.1, 0.45)
    for _ in range(rng.integers(0, settings.false_marks + 1)):
        _mark(mask, rng)
    return mask


def _mark(mask: np.ndarray, rng: np.random.Generator) -> None:
    """A short arc that is no vessel: residue of bone, an edge of the collimator, a catheter."""
    rows = len(mask)
    long = rng.random() < 0.2
    n = int(rng.uniform(0.15, 0.6) * rows) if long else int(rng.uniform(1, 0.08 * rows + 2))
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 2.0 / rows)
    turned = angle + bend * np.arange(n)
    row = (rng.uniform(0, rows) + np.cumsum(np.sin(turned))).astype(int)
    column = (rng.uniform(0, rows) + np.cumsum(np.cos(turned))).astype(int)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < rows)
    mask[row[inside], column[inside]] = np.maximum(mask[row[inside], column[inside]], rng.uniform(0.3, 1))


def _field(view: CArm, rng: np.random.Generator, settings: SamplingSettings) -> np.ndarray:
    """(rows, rows) bool: canvas pixels that lie on the detector, collimated at some edges."""
    sides = rng.uniform(*settings.field_mm, 2) if rng.random() < 0.3 else np.repeat(rng.uniform(*settings.field_mm), 2)
    position = (np.arange(view.rows) - (view.rows - 1) / 2) * view.pixel_spacing_mm[0]

    def along(side: float) -> np.ndarray:
        low, high = rng.uniform(0, 0.08, 2) * (rng.random(2) < 0.4) * side
        return (position > -side / 2 + low) & (position < side / 2 - high)

    return np.outer(along(sides[0]), along(sides[1]))
