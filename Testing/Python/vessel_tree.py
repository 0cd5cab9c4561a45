"""A small random vessel tree for tests of alignment and search: asymmetric, so that its pose is seen."""

import numpy as np

from DeepIterRegLib.registration.vessels.points import Points, tangents


def vessel_tree(seed: int = 0, n_branches: int = 24) -> Points:
    """Points of smooth random branches within a head-sized ellipsoid, RAS mm about an origin far from the scanner's."""
    rng = np.random.default_rng(seed)
    branches = []
    for _ in range(n_branches):
        start, heading, bend = rng.normal(size=(3, 3))
        t = np.linspace(0, 1, 120)[:, None]
        branches.append(start * [22, 28, 22] + heading * 35 * t + bend * 25 * t**2)
    positions = np.concatenate(branches)
    positions = (positions - positions.mean(axis=0)).astype(np.float32)
    return Points(
        positions, np.full(len(positions), 0.3, np.float32), tangents(positions), np.array([40.0, -25.0, 900.0])
    )
