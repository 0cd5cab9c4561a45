"""What makes the skull in the CTA and the skull in the run differ: the jaw, the scanner, things around the head."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.phantom.head import AIR_HU, LOW_MM, SPACING_MM, Head
from DeepIterRegLib.phantom.painting import even
from DeepIterRegLib.phantom.settings import SkullSettings

_HINGE_MM = np.array([0.0, -6.0, -34.0])  # between the condyles; the jaw turns about x
_JAW_END_Z = -30.0  # all of the jaw lies under the skull base
_JAW_EDGE_MM = 3.0  # sigma of the soft transition from what turns to what stays: skin and muscle stretch
# HU above this count as bone: contrast-filled vessels are not in this head.
_SOFT_END_HU = 100
_DENSITY_GAIN = (0.92, 1.08)  # scanners differ by some per cent in the HU of bone (tube voltage, hardening correction)
_PLATE_HU, _WIRE_HU, _WIRE_RADIUS_MM = 150.0, 6000.0, 0.7  # carbon fibre; metal, beyond what a CT stores


def head_in_run(head: Head, seed: int, settings: SkullSettings) -> Head:
    """The head as the X-rays meet it: its jaw opened, on a headrest, with wires beside it."""
    rng = np.random.default_rng([seed, 1])
    angle_deg = rng.uniform(0, settings.jaw_deg)
    if angle_deg > 0:
        head = opened_jaw(head, angle_deg)
    return with_headrest(head, rng) if settings.headrest else head


def head_in_scan(head: Head, seed: int, settings: SkullSettings) -> Head:
    """The head as the CT scanner shows it: blurred, its bone a little too dense or too light."""
    rng = np.random.default_rng([seed, 2])
    if settings.scan_blur_mm <= 0:
        return head
    hu = ndimage.gaussian_filter(head.hu, settings.scan_blur_mm / SPACING_MM, truncate=3.0)
    gain = rng.uniform(*_DENSITY_GAIN)
    denser = np.where(hu > _SOFT_END_HU, _SOFT_END_HU + gain * (hu - _SOFT_END_HU), hu)
    return Head(denser.astype(np.float32), head.origin_mm)


def opened_jaw(head: Head, angle_deg: float) -> Head:
    """The mandible, and what is around it, turned down about the axis through its condyles."""
    below = int((_JAW_END_Z - LOW_MM[2]) / SPACING_MM)
    part = head.hu[:, :, :below]
    grid = (
        np.stack(np.meshgrid(*(np.arange(count) * SPACING_MM for count in part.shape), indexing="ij"), axis=-1) + LOW_MM
    )
    x, y, z = np.moveaxis(grid, -1, 0)
    jaw = ((z < -86) | ((np.abs(x) > 40) & (z < -38))) & (y > -20)  # body below the upper teeth, rami beside them
    share = ndimage.gaussian_filter(jaw.astype(np.float32), _JAW_EDGE_MM)
    turn = pose.so3_exp(np.radians([-angle_deg, 0.0, 0.0]))
    opened = (grid - _HINGE_MM) @ turn  # inverse turn: where the opened jaw's voxels come from
    source = grid + share[..., None] * (opened + _HINGE_MM - grid)
    index = np.moveaxis((source - LOW_MM) / SPACING_MM, -1, 0)
    hu = head.hu.copy()
    hu[:, :, :below] = ndimage.map_coordinates(part, index, order=1, mode="nearest")
    return Head(hu, head.origin_mm)


def with_headrest(head: Head, rng: np.random.Generator) -> Head:
    """A thin plate behind the head and two metal wires beside it."""
    things = np.full(head.hu.shape, AIR_HU, np.float32)
    tilt = rng.uniform(-8, 8)
    low, high = np.array([-75.0 + tilt, -115.5, -150.0]), np.array([75.0 + tilt, -112.5, rng.uniform(20, 80)])
    painter = even(things, LOW_MM, SPACING_MM)
    painter.box(low, high, _PLATE_HU)
    for _ in range(2):
        side = rng.choice([-1.0, 1.0])
        start = np.array([side * rng.uniform(60, 88), rng.uniform(-110, 60), rng.uniform(-150, -60)])
        end = start + np.array([0, rng.uniform(-60, 60), rng.uniform(60, 160)])
        painter.rod(start, end, _WIRE_RADIUS_MM, _WIRE_HU)
    return Head(np.maximum(head.hu, things), head.origin_mm)
