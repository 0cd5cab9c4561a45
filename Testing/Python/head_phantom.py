"""A head drawn from a few ellipsoids, for tests of where it lies and which way it looks."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.images.volume import Volume


def head(spacing_mm: float = 2.0) -> Volume:
    """Skull, brain, face with sinuses, neck with an airway: RAS axes, feet first."""
    z, y, x = (np.indices((130, 110, 90)) * spacing_mm).astype(np.float32)
    x, y, z = x - 90, y - 110, z - 170  # middle of the skull at z 0, vault at 75
    hu = np.full(x.shape, -1000, np.float32)
    neck = (np.hypot(x, y + 10) < 60) & (z < -20)
    face = (np.abs(x) < 60) & (np.abs(y - 45) < 45) & (z < -20) & (z > -110)
    hu[neck | face] = 50
    skull = (x / 75) ** 2 + (y / 92) ** 2 + (z / 75) ** 2
    hu[skull < 1] = 1000
    hu[(x / 67) ** 2 + (y / 84) ** 2 + (z / 67) ** 2 < 1] = 35
    hu[np.hypot(x, y + 25) < 14] = np.where(z < -75, 700, hu)[np.hypot(x, y + 25) < 14]  # spine
    air = (np.hypot(x, y - 20) < 10) & (z < -60)
    sinus = (np.hypot(np.abs(x) - 30, y - 60) < 14) & (z < -30) & (z > -70)
    hu[air | sinus] = -1000
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (-90, -110, -170)
    noise = np.random.default_rng(0).normal(0, 10, hu.shape)
    return Volume((hu + noise).astype(np.int16), affine)
