"""Sinuses, deep and cortical veins."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.phantom.anatomy.pen import SIDES, Course, Pen, Side
from DeepIterRegLib.phantom.anatomy.surfaces import BRAIN_AXES_MM, cerebellum, vault
from DeepIterRegLib.phantom.centrelines import VENOUS, Sketch

_RIGHT_DOMINANT_SHARE = 0.65  # the right transverse sinus is the larger one in about two of three people
_TORCULA_MM = np.array([0.0, -98.0, 2.0])

_JUGULAR: Course = [[32, -18, -170], [33, -17, -130], [33, -19, -95], [32, -22, -65], [31, -25, -48]]
_SIGMOID: Course = [[33, -30, -41], [40, -35, -39], [49, -40, -32], [54, -47, -20], [55.5, -57, -8]]
_TRANSVERSE: Course = [[52, -69, -4], [42, -83, -2], [26, -93, 0], [12, -97, 1]]
_BASAL_VEIN: Course = [[9, -42, 8], [17, -33, 1], [19, -20, -4], [16, -6, -6]]  # around the midbrain


def veins(sketch: Sketch, rng: np.random.Generator, surfaces: dict[str, dict[str, np.ndarray]]) -> None:
    """All veins of a head. Roots are the jugulars; the superior sagittal sinus ends in the dominant transverse.

    Parameters
    ----------
    sketch
    rng
    surfaces
        Side to the points (N, 3) of `surfaces.cortex`.
    """
    dominant, lesser = ("right", "left") if rng.random() < _RIGHT_DOMINANT_SHARE else ("left", "right")
    transverse = _lateral_sinuses(sketch, rng, dominant)
    middle = Pen(sketch, rng, VENOUS)
    outlet = transverse[dominant][-1]
    # From the torcula over the vertex to the forehead, where it begins as a small vein.
    course = [vault(rng.normal(0, 1.0), angle) for angle in np.linspace(200, 18, 15)[1:]]
    sagittal = middle.lay(outlet, course, (rng.uniform(3.4, 4.2), 1.0), "superior_sagittal", 0.7)
    galen = _straight_sinus(middle, transverse[lesser][-1] if rng.random() < 0.5 else outlet)
    for side in SIDES:
        pen = Pen(sketch, rng, VENOUS, side.sign)
        _deep_veins(pen, galen)
        _superficial_veins(pen, side, sagittal, transverse[side.name], surfaces[side.name])


def _lateral_sinuses(sketch: Sketch, rng: np.random.Generator, dominant: str) -> dict[str, np.ndarray]:
    """Jugular, sigmoid and transverse sinus of each side; side to the nodes of the transverse sinus."""
    torcula = _TORCULA_MM + rng.normal(0, [3, 0.5, 2])
    transverse = {}
    for side in SIDES:
        pen = Pen(sketch, rng, VENOUS, side.sign)
        calibre = rng.uniform(3.6, 4.5) if side.name == dominant else rng.uniform(1.4, 3.4)
        jugular = pen.lay(-1, _JUGULAR, (calibre * 1.3, calibre * 1.1), f"{side.name}_jugular", 1.5)
        sigmoid = pen.lay(jugular[-1], _SIGMOID, (calibre * 1.1, calibre), f"{side.name}_sigmoid", 1.2)
        course = [*_TRANSVERSE, pen.outwards(torcula)]
        transverse[side.name] = pen.lay(sigmoid[-1], course, (calibre, calibre * 0.9), f"{side.name}_transverse", 1.0)
    return transverse


def _straight_sinus(pen: Pen, outlet: int) -> int:
    """Straight and inferior sagittal sinus, and the great vein: its last node."""
    straight = pen.lay(outlet, [[0, -82, 8], [0, -66, 14], [0, -55, 17]], (2.3, 2.1), "straight", 0.7)
    galen = pen.lay(straight[-1], [[0, -48, 19], [0, -43, 15.5]], (2.1, 1.8), "galen", 0.5)
    under_falx = [[0, -45, 33], [0, -25, 42], [0, 0, 44], [0, 20, 40]]
    pen.lay(straight[-1], under_falx, (1.1, 0.5), "inferior_sagittal", 1.0)
    return int(galen[-1])


def _deep_veins(pen: Pen, galen: int) -> None:
    """Internal cerebral vein with its two sources, and the basal vein."""
    internal = pen.lay(galen, [[2, -32, 17], [2, -14, 18.5], [2, 1, 14]], (1.2, 0.9), "internal_cerebral", 0.7)
    pen.lay(internal[-1], [[9, -1, 20], [16, -10, 25], [20, -22, 27]], (0.8, 0.45), "thalamostriate", 1.0)
    pen.lay(internal[-1], [[3, 10, 14], [5, 22, 17]], (0.6, 0.4), "septal", 1.0)
    pen.lay(galen, _BASAL_VEIN, (1.1, 0.6), "basal_vein", 1.0)


def _superficial_veins(
    pen: Pen, side: Side, sagittal: np.ndarray, transverse: np.ndarray, surface: dict[str, np.ndarray]
) -> None:
    """Middle cerebral vein along the fissure, joined to the vault by Trolard and to the transverse sinus by Labbe; cortical veins."""
    rng = pen.rng
    low = transverse[len(transverse) // 5]
    course: Course = [[61, -52, 0], [65, -42, 8], [66, -30, 14]]
    labbe = pen.lay(low, course, (rng.uniform(0.9, 1.8), 0.9), f"{side.name}_labbe", 2.0)
    course = [[66, -14, 12], [63, 3, 4], [54, 16, -5]]
    sylvian = pen.lay(labbe[-1], course, (1.0, 0.6), f"{side.name}_sylvian_vein", 1.5)
    top = sagittal[int(len(sagittal) * rng.uniform(0.5, 0.62))]
    course = _trolard(float(pen.sketch.points[top][1]), rng)
    trolard = pen.lay(top, course, (rng.uniform(1.0, 1.8), 0.7), f"{side.name}_trolard", 1.5)

    points = np.vstack([surface["convexity"], surface["medial"][surface["medial"][:, 2] > 20]])
    bridging = sagittal[rng.permutation(np.linspace(8, len(sagittal) - 4, 11).astype(int))[:9]]
    lateral = transverse[4 : len(transverse) // 2 : 9]
    roots = np.concatenate([bridging, trolard[::10], labbe[::8], sylvian[::8], lateral])
    pen.grow(roots, points, int(rng.integers(95, 125)), 0.5, "cortical_vein", 0.7)
    below = cerebellum(side.sign, rng)
    pen.grow(transverse[10:-6:10], below[below[:, 1] < -40], 8, 0.45, "cerebellar_vein")


def _trolard(top_y: float, rng: np.random.Generator) -> list[list[float]]:
    """Course down the convexity from the sagittal sinus at `top_y`, x outwards."""
    z = np.array([70, 54, 36, 20]) + rng.normal(0, 2, 4)
    y = top_y + np.array([-3, -8, -12, -14])
    x = BRAIN_AXES_MM[0] * np.sqrt(np.clip(1 - ((z - 20) / 66) ** 2 - ((y + 18) / 80) ** 2, 0.02, 1))
    course: list[list[float]] = np.column_stack([x, y, z]).tolist()
    return course
