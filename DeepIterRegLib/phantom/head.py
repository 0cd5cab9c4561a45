"""Bone, brain, fluid and air of a head, painted shape by shape on a coarse grid in the canonical frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from scipy import ndimage

from DeepIterRegLib.phantom.anatomy import BRAIN_AXES_MM, BRAIN_CENTRE_MM, CEREBELLUM_AXES_MM, CEREBELLUM_CENTRE_MM

AIR_HU, FAT_HU, CSF_HU, BRAIN_HU, SOFT_HU = -1000.0, -90.0, 8.0, 35.0, 45.0
SPACING_MM = 1.0
LOW_MM = np.array([-92.0, -116.0, -172.0])
HIGH_MM = np.array([92.0, 96.0, 108.0])

Vector = ArrayLike


@dataclass(frozen=True)
class Head:
    """HU on a grid of `SPACING_MM` in the canonical frame.

    Attributes
    ----------
    hu : (x, y, z) float32
        Index order is the frame's.
    origin_mm : (3,)
        Position of element (0, 0, 0).
    """

    hu: np.ndarray
    origin_mm: np.ndarray


@njit(cache=True)
def blend_ellipsoid(
    hu: np.ndarray,
    origin: np.ndarray,
    spacing: float,
    centre: np.ndarray,
    axes: np.ndarray,
    value: float,
    noise: np.ndarray,
    noise_mm: float,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Blend `value` into an ellipsoid cut to the box low..high; its surface is displaced by noise times noise_mm."""
    first = np.empty(3, np.int64)
    last = np.empty(3, np.int64)
    for a in range(3):
        reach = axes[a] + 2 * spacing + 3 * noise_mm
        first[a] = max(0, int((max(centre[a] - reach, low[a] - spacing) - origin[a]) / spacing))
        last[a] = min(hu.shape[a] - 1, int((min(centre[a] + reach, high[a] + spacing) - origin[a]) / spacing) + 1)
    for i in range(first[0], last[0] + 1):
        x = origin[0] + spacing * i
        for j in range(first[1], last[1] + 1):
            y = origin[1] + spacing * j
            for k in range(first[2], last[2] + 1):
                z = origin[2] + spacing * k
                px, py, pz = (x - centre[0]) / axes[0], (y - centre[1]) / axes[1], (z - centre[2]) / axes[2]
                k0 = np.sqrt(px * px + py * py + pz * pz)
                gx, gy, gz = px / axes[0], py / axes[1], pz / axes[2]
                k1 = np.sqrt(gx * gx + gy * gy + gz * gz)
                distance = k0 * (k0 - 1) / k1 if k1 > 1e-9 else -axes[0]
                if noise_mm > 0 and abs(distance) < 4 * noise_mm + spacing:
                    distance += noise_mm * noise[i // 4, j // 4, k // 4]
                distance = max(distance, low[0] - x, x - high[0], low[1] - y, y - high[1], low[2] - z, z - high[2])
                cover = 0.5 - distance / spacing
                if cover >= 1:
                    hu[i, j, k] = value
                elif cover > 0:
                    hu[i, j, k] += cover * (value - hu[i, j, k])


@njit(cache=True)
def blend_rod(
    hu: np.ndarray,
    origin: np.ndarray,
    spacing: float,
    start: np.ndarray,
    end: np.ndarray,
    radius: float,
    value: float,
    noise: np.ndarray,
    noise_hu: float,
) -> None:
    """Blend `value` (+ noise times noise_hu) into a rod with round ends."""
    first = np.empty(3, np.int64)
    last = np.empty(3, np.int64)
    for a in range(3):
        first[a] = max(0, int((min(start[a], end[a]) - radius - spacing - origin[a]) / spacing))
        last[a] = min(hu.shape[a] - 1, int((max(start[a], end[a]) + radius + spacing - origin[a]) / spacing) + 1)
    along = end - start
    squared = max((along**2).sum(), 1e-9)
    for i in range(first[0], last[0] + 1):
        x = origin[0] + spacing * i - start[0]
        for j in range(first[1], last[1] + 1):
            y = origin[1] + spacing * j - start[1]
            for k in range(first[2], last[2] + 1):
                z = origin[2] + spacing * k - start[2]
                t = min(1.0, max(0.0, (x * along[0] + y * along[1] + z * along[2]) / squared))
                dx, dy, dz = x - t * along[0], y - t * along[1], z - t * along[2]
                cover = min(1.0, 0.5 - (np.sqrt(dx * dx + dy * dy + dz * dz) - radius) / spacing)
                if cover > 0:
                    local = value + noise_hu * noise[i // 2, j // 2, k // 2]
                    hu[i, j, k] += cover * (local - hu[i, j, k])


def _texture(shape: tuple[int, ...], rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Smooth noise of deviation 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap")
    return noise / noise.std()


def make_head(rng: np.random.Generator) -> Head:
    """Paint a head: skin and fat, skull of varying thickness with diploe, base, face, mandible, spine, then brain and fluid."""
    shape = tuple(np.round((HIGH_MM - LOW_MM) / SPACING_MM).astype(int) + 1)
    hu = np.full(shape, AIR_HU, np.float32)
    quarter = _texture(tuple(s // 4 + 1 for s in shape), rng, 3.0)
    cells = _texture(tuple(s // 2 + 1 for s in shape), rng, 1.0)
    everywhere = (np.full(3, -1e3), np.full(3, 1e3))

    def ellipsoid(
        centre: Vector,
        axes: Vector,
        value: float,
        noise_mm: float = 0.0,
        low: Vector | None = None,
        high: Vector | None = None,
    ) -> None:
        box = tuple(
            np.array(b, dtype=np.float64) if b is not None else e for b, e in zip((low, high), everywhere, strict=True)
        )
        blend_ellipsoid(
            hu,
            LOW_MM,
            SPACING_MM,
            np.array(centre, dtype=np.float64),
            np.array(axes, dtype=np.float64),
            value,
            quarter,
            noise_mm,
            *box,
        )

    def rod(start: Vector, end: Vector, radius: float, value: float, noise_hu: float = 0.0) -> None:
        blend_rod(
            hu,
            LOW_MM,
            SPACING_MM,
            np.array(start, dtype=np.float64),
            np.array(end, dtype=np.float64),
            radius,
            value,
            cells,
            noise_hu,
        )

    thickness = rng.uniform(5.0, 7.5)
    skin = rng.uniform(4.0, 7.0)
    inner = BRAIN_AXES_MM + 3.5
    outer = inner + thickness
    cortical, diploe = rng.uniform(1000, 1500), rng.uniform(450, 750)

    # Outline: scalp, face, neck; a fat layer under the skin.
    for shrink, value in ((0.0, SOFT_HU), (1.8, FAT_HU), (skin * 0.7, SOFT_HU)):
        ellipsoid(BRAIN_CENTRE_MM, outer + skin - shrink, value)
        ellipsoid([0, 20, -48], np.array([62, 62, 62]) - shrink, value)
        rod([0, -14, -50], [0, -10, -215], 58 - shrink, value)
        rod([0, 70, -38], [0, 84, -48], 10 - shrink, value)

    # Vault and the block from which the base is carved.
    vault = [-200.0, -200.0, -36.0]
    ellipsoid(BRAIN_CENTRE_MM, outer, cortical, 0.7, low=vault)
    ellipsoid(BRAIN_CENTRE_MM, outer - 1.8, diploe, 0.7, low=vault)
    ellipsoid(BRAIN_CENTRE_MM, inner + 1.8, cortical, 0.0, low=vault)
    ellipsoid(CEREBELLUM_CENTRE_MM, CEREBELLUM_AXES_MM + 9, cortical * 0.8, 0.7)

    # Below the cranial floor in front: soft tissue, then facial bones.
    ellipsoid([0, 32, -34], [46, 42, 27], SOFT_HU)
    rod([0, 5, -18], [0, -14, -34], 8, cortical * 0.7, 100)
    rod([0, -14, -34], [0, -24, -52], 6.5, cortical * 0.7, 100)
    ellipsoid([0, 12, -22], [15, 15, 9], cortical * 0.7)
    ellipsoid([0, 15, -22], [11, 11, 7], AIR_HU)
    for s in (-1.0, 1.0):
        rod([18 * s, 26, -4], [50 * s, 12, -14], 3.5, cortical)
        rod([10 * s, 60, -4], [50 * s, 46, -8], 4, cortical)
        rod([50 * s, 46, -8], [52 * s, 38, -28], 4, cortical)
        rod([48 * s, 42, -30], [18 * s, 60, -30], 3.5, cortical)
        rod([52 * s, 38, -28], [66 * s, 5, -27], 3, cortical)
        ellipsoid([31 * s, 48, -16], [17, 22, 15], FAT_HU + 60)
        ellipsoid([31 * s, 54, -16], [12, 12, 12], 25)
        ellipsoid([26 * s, 40, -45], [18, 18, 18], cortical * 0.6)
        ellipsoid([26 * s, 40, -45], [15.5, 15.5, 15.5], AIR_HU)
        rod([6 * s, 62, 4], [14 * s, 60, 12], 6, AIR_HU)
        for a, b in (((50, -6, -34), (50, -12, -74)), ((50, -12, -74), (26, 38, -98)), ((26, 38, -98), (0, 54, -100))):
            rod([a[0] * s, a[1], a[2]], [b[0] * s, b[1], b[2]], 6, cortical)
            rod([a[0] * s, a[1], a[2]], [b[0] * s, b[1], b[2]], 3, diploe)
        for a, b in (((27, 28, -72), (18, 52, -72)), ((18, 52, -72), (0, 60, -72))):
            rod([a[0] * s, a[1], a[2]], [b[0] * s, b[1], b[2]], 5, cortical)
            for t in np.linspace(0.1, 0.9, 4):
                x, y = a[0] * (1 - t) + b[0] * t, a[1] * (1 - t) + b[1] * t
                rod([x * s, y, -72], [x * s, y, -84], 2.6, 1800)
    rod([0, 52, -10], [0, 40, -58], 8, AIR_HU)
    rod([0, 20, -40], [0, 10, -72], 8, AIR_HU)
    rod([0, 10, -72], [0, 14, -215], 8, AIR_HU)

    # Cranial cavity: vault above its floors, middle and posterior fossa, foramen magnum.
    ellipsoid(BRAIN_CENTRE_MM, inner, CSF_HU, 0.0, low=[-200, -200, -10])
    ellipsoid(BRAIN_CENTRE_MM, inner, CSF_HU, 0.0, low=[-200, -200, -24], high=[200, -32, 200])
    ellipsoid(CEREBELLUM_CENTRE_MM, CEREBELLUM_AXES_MM + 3, CSF_HU)
    rod([0, -30, -20], [0, -36, -62], 14, CSF_HU)
    rod([0, -36, -62], [0, -36, -215], 8, CSF_HU)
    for s in (-1.0, 1.0):
        ellipsoid([36 * s, -6, -12], [25, 31, 17], CSF_HU)
    ellipsoid([0, 36, -16], [45, 32, 11], SOFT_HU, high=[200, 200, -8])  # roof of the orbits
    ellipsoid([0, 34, -6], [44, 30, 3.0], cortical, low=[-200, 14, -200])

    # Petrous pyramids and mastoids with their air cells, carotid canals' surroundings.
    for s in (-1.0, 1.0):
        rod([16 * s, -10, -27], [52 * s, -36, -25], 8.5, cortical, 120)
        rod([58 * s, -36, -30], [54 * s, -40, -44], 9, 300, 350)
        rod([44 * s, -30, -25], [66 * s, -30, -27], 3, AIR_HU)
        rod([25 * s, -16, -42], [25 * s, -15, -30], 3.2, SOFT_HU)
        rod([32 * s, -28, -48], [33 * s, -30, -40], 5.5, SOFT_HU)
    rod([9, 14, -4], [9, 18, -4], 2, cortical)
    rod([-9, 14, -4], [-9, 18, -4], 2, cortical)
    ellipsoid([0, 5, -9], [7, 7, 5], SOFT_HU)
    for _ in range(int(rng.integers(0, 9))):  # calcified plaques around the siphons
        at = np.array([rng.choice([-8.5, 8.5, -12.5, 12.5]), rng.uniform(-2, 17), rng.uniform(-17, -5)])
        rod(at, at + rng.normal(0, 1.5, 3), rng.uniform(0.7, 1.4), rng.uniform(500, 1000))

    # Brain with ventricles, a little grey and white.
    white = BRAIN_HU - 6
    shrink = rng.uniform(0.5, 2.5)
    ellipsoid(BRAIN_CENTRE_MM, BRAIN_AXES_MM + 2 - shrink, BRAIN_HU, 1.2, low=[-200, -200, -6])
    for s in (-1.0, 1.0):
        ellipsoid([36 * s, -6, -12], [23, 29, 14], BRAIN_HU)
        ellipsoid([33 * s, -18, 26], [24, 52, 38], white, 1.0)
        rod([9 * s, 12, 14], [12 * s, -20, 22], rng.uniform(4, 6), CSF_HU)
        rod([12 * s, -20, 22], [24 * s, -38, 12], rng.uniform(4, 6), CSF_HU)
        rod([41 * s, 10, 6], [44 * s, -30, 16], 3, CSF_HU)
        rod([44 * s, 0, 10], [64 * s, -12, 12], 2.5, CSF_HU)
    ellipsoid(BRAIN_CENTRE_MM, BRAIN_AXES_MM - 3, BRAIN_HU, 1.0, low=[-200, -200, -22], high=[200, -36, 0])
    ellipsoid(CEREBELLUM_CENTRE_MM, CEREBELLUM_AXES_MM, BRAIN_HU, 1.0)
    rod([0, -24, -12], [0, -28, -45], 12, BRAIN_HU)
    rod([0, -34, -45], [0, -36, -215], 5, BRAIN_HU)
    ellipsoid([0, -12, -4], [14, 12, 6], CSF_HU)

    # Cervical spine: bodies, arches, spinous processes.
    for n in range(7):
        z = -66.0 - 16.5 * n
        body = SOFT_HU if n == 0 else 350.0
        for s in (-1.0, 1.0):
            rod([10 * s, -26, z], [20 * s, -32, z], 5, cortical * 0.6, 80)
            rod([20 * s, -36, z], [4 * s, -52, z - 2], 3.5, cortical * 0.7)
            rod([23 * s, -22, z + 3], [23 * s, -22, z - 3], 3, SOFT_HU)
        rod([0, -52, z - 2], [0, -64, z - 6], 3.5, cortical * 0.7)
        rod([-5, -20, z + 4], [5, -20, z + 4], 6, body, 80)
        rod([-5, -20, z - 3], [5, -20, z - 3], 6, body, 80)
    rod([0, -20, -60], [0, -20, -80], 5, cortical * 0.8)
    for n in range(7):
        z = -66.0 - 16.5 * n
        rod([0, -36, z - 9], [0, -36, z + 9], 7, CSF_HU)
        rod([0, -36, z - 9], [0, -36, z + 9], 5, BRAIN_HU)
    return Head(hu, LOW_MM.copy())
