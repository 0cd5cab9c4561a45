"""Arteries of the cortex: M4, A4 and P4."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.phantom.anatomy.pen import SIDES, Pen, Side
from DeepIterRegLib.phantom.anatomy.surfaces import waves
from DeepIterRegLib.phantom.centrelines import Sketch

# Borders between the three territories are moved by about this much over such wavelengths: no two people have the same ones.
_BORDER_MM, _BORDER_WAVELENGTH_MM = 4, (40, 90)


def cortical_arteries(sketch: Sketch, rng: np.random.Generator, surfaces: dict[str, dict[str, np.ndarray]]) -> None:
    """Trees over the three cortical territories of each hemisphere, their borders drawn by seed.

    Parameters
    ----------
    sketch
        With the trunks to A3, M3 and P3.
    rng
    surfaces
        Side to the points (N, 3) of `surfaces.cortex`.
    """
    for side in SIDES:
        points, anterior, middle, posterior = _territories(surfaces[side.name], side, rng)
        pen = Pen(sketch, rng, side.territory, side.sign)
        # The posterior cerebral artery belongs to the basilar or, if fetal, to the carotid: as its trunk does.
        trunk = sketch.nodes(f"{side.name}_P3")
        posterior_pen = Pen(sketch, rng, sketch.territory[trunk[0]], side.sign)
        insular = np.concatenate([_tails(sketch, f"{side.name}_M3"), _tails(sketch, f"{side.name}_M2")[:1]])
        callosal = _along(sketch, f"{side.name}_A3", 12)
        calcarine = np.concatenate([_tails(sketch, f"{side.name}_P3"), _along(sketch, f"{side.name}_P3", 14)])
        pen.grow(insular, points[middle], int(rng.integers(46, 60)), 0.4, f"{side.name}_M4")
        pen.grow(callosal, points[anterior], int(rng.integers(22, 30)), 0.38, f"{side.name}_A4")
        posterior_pen.grow(calcarine, points[posterior], int(rng.integers(18, 26)), 0.38, f"{side.name}_P4")


def _territories(
    surface: dict[str, np.ndarray], side: Side, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) of a hemisphere, and which (N,) of them anterior, middle and posterior cerebral artery supply."""
    parts = ("convexity", "medial", "base")
    points = np.vstack([surface[part] for part in parts])
    part = np.repeat(parts, [len(surface[name]) for name in parts])
    medial, base = part == "medial", part == "base"
    moved = _BORDER_MM * np.column_stack([waves(points, rng, _BORDER_WAVELENGTH_MM) for _ in range(3)])
    x, y, z = (points + moved).T
    x = x * side.sign
    before_splenium = (y > -60) & ~((z < 8) & (y < -35))
    beside_falx = (x < 21) & (y > -58) & (z > 0) | base & (x < 14) & (y > 10)
    anterior = np.where(medial, before_splenium, beside_falx)
    occipital_or_below = (y < -80) | base & (y < 2) & (x < 45) | (z < -14) & (y < -15)
    posterior = ~anterior & np.where(medial, True, occipital_or_below)
    return points, anterior, ~anterior & ~posterior & ~medial, posterior


def _tails(sketch: Sketch, segment: str) -> np.ndarray:
    """Last nodes of a segment's tubes: those that no other node of the segment hangs on."""
    members = sketch.nodes(segment)
    parents = {sketch.parent[i] for i in members}
    return np.array([i for i in members if i not in parents], dtype=np.int64)


def _along(sketch: Sketch, segment: str, step: int) -> np.ndarray:
    """Every `step`-th node of a segment, from which branches may leave, and its last nodes."""
    members = sketch.nodes(segment)
    return np.unique(np.concatenate([members[step // 2 :: step], _tails(sketch, segment)]))
