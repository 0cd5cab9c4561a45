"""Surfaces that vessels run on: cortex with its sulci, cerebellum, inside of the vault. Canonical frame, RAS mm."""

from __future__ import annotations

import numpy as np

# An adult brain of average size: 132 x 158 x 130 mm without cerebellum, its middle behind and above the circle of Willis.
BRAIN_CENTRE_MM = np.array([0.0, -18.0, 20.0])
BRAIN_AXES_MM = np.array([66.0, 79.0, 65.0])
CEREBELLUM_CENTRE_MM = np.array([0.0, -57.0, -30.0])
CEREBELLUM_AXES_MM = np.array([49.0, 31.0, 21.0])

# Sulci as folds of a random field: neighbouring gyri lie about 1 to 2 cm apart, sulci are about 1 cm deep.
_SULCUS_WAVELENGTH_MM = (12.0, 26.0)
_SULCUS_DEPTH_MM = 5.0  # for each deviation of the field above 0, two at most
_MEDIAL_SULCUS_WAVELENGTH_MM = (14.0, 30.0)
_BRAIN_RADIUS_MM = 70.0  # mean of the axes: turns depth into a share of the way to the centre
_FALX_MM = 3.0  # nearer to the midline lies the falx
_CALLOSUM_CENTRE_MM, _CALLOSUM_AXES_MM = np.array([-8.0, 10.0]), np.array([38.0, 24.0])  # y, z; with the ventricles


def waves(
    points: np.ndarray, rng: np.random.Generator, wavelength_mm: tuple[float, float], count: int = 10
) -> np.ndarray:
    """Smooth random field (N,) at points (N, 3), about normal with deviation 1: a sum of `count` plane waves."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    k = direction * (2 * np.pi / rng.uniform(*wavelength_mm, size=(count, 1)))
    return np.sin(points @ k.T + rng.uniform(0, 2 * np.pi, count)).sum(axis=1) * np.sqrt(2 / count)


def cortex(sign: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Scattered points (N, 3) of one hemisphere's surface, some down in the sulci, keyed convexity, medial, base."""
    direction = rng.normal(size=(16000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 0] = sign * np.abs(direction[:, 0])
    points = BRAIN_CENTRE_MM + direction * BRAIN_AXES_MM
    # Ellipsoid directions crowd at the ends: thin out to an even density, 3 mm apart or so.
    crowding = np.linalg.norm(direction / BRAIN_AXES_MM, axis=1)
    points = points[rng.random(len(points)) < 0.35 * crowding / crowding.max()]
    fold = np.clip(waves(points, rng, _SULCUS_WAVELENGTH_MM), 0, 2)
    depth = fold * _SULCUS_DEPTH_MM + np.abs(rng.normal(0, 1.2, len(points)))
    inward = 1 - depth[:, None] / _BRAIN_RADIUS_MM
    points = BRAIN_CENTRE_MM + (points - BRAIN_CENTRE_MM) * inward
    points = points[np.abs(points[:, 0]) > _FALX_MM]
    under = points[:, 2] < _floor_mm(points)
    return {"convexity": points[~under], "base": _base(points[under], rng), "medial": _medial_face(sign, rng)}


def _base(under: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What fell below the brain's floor, laid on it."""
    base = under[under[:, 2] > -60].copy()
    base[:, 2] = _floor_mm(base) + np.abs(rng.normal(0, 1.5, len(base)))
    return base[(np.abs(base[:, 0]) > 8)]


def _floor_mm(points: np.ndarray) -> np.ndarray:
    """Height (N,) of the brain's base: frontal floor, temporal floor, tentorium."""
    x, y = np.abs(points[:, 0]), points[:, 1]
    temporal = -24.0 + 14.0 * np.clip((22 - x) / 14, 0, 1)
    front = np.clip((y - 18) / 12, 0, 1)
    back = np.clip((-30 - y) / 20, 0, 1)
    return (1 - front) * ((1 - back) * temporal + back * -8.0) + front * -2.0


def _medial_face(sign: float, rng: np.random.Generator) -> np.ndarray:
    """The midline cut of the ellipsoid, without callosum and ventricles."""
    yz = rng.uniform([-98, -12], [62, 86], size=(3200, 2))
    inside = (((yz - BRAIN_CENTRE_MM[1:]) / (BRAIN_AXES_MM[1:] - 1.5)) ** 2).sum(axis=1) < 1
    callosum = (((yz - _CALLOSUM_CENTRE_MM) / _CALLOSUM_AXES_MM) ** 2).sum(axis=1) < 1
    yz = yz[inside & ~callosum]
    flat = np.column_stack([np.zeros(len(yz)), yz])
    depth = 2.0 + 4.0 * np.clip(waves(flat, rng, _MEDIAL_SULCUS_WAVELENGTH_MM), 0, 2) * 0.5
    medial = np.column_stack([sign * depth, yz])
    return medial[medial[:, 2] > np.where(medial[:, 1] < -35, -6.0, -2.0)]  # tentorium behind, frontal floor in front


def cerebellum(sign: float, rng: np.random.Generator) -> np.ndarray:
    """Scattered points (N, 3) of one half of the cerebellum."""
    direction = rng.normal(size=(900, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 0] = sign * np.abs(direction[:, 0])
    return CEREBELLUM_CENTRE_MM + direction * CEREBELLUM_AXES_MM * (1 - 0.06 * rng.random((900, 1)))


def vault(x: float, angle_deg: float, depth_mm: float = 1.5) -> list[float]:
    """Point (x, y, z) on the inside of the vault over the midline cut: 0 deg frontal, 90 deg top, 180 deg occipital."""
    a = np.radians(angle_deg)
    y = BRAIN_CENTRE_MM[1] + (BRAIN_AXES_MM[1] + depth_mm) * np.cos(a)
    z = BRAIN_CENTRE_MM[2] + (BRAIN_AXES_MM[2] + depth_mm) * np.sin(a)
    return [x, float(y), float(z)]
