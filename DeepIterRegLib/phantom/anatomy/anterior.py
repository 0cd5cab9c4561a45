"""Internal carotid, middle and anterior cerebral arteries of one side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.phantom.anatomy.pen import Course, Pen, Side

# Petrous part, cavernous bends forwards and back, up to where the carotid ends.
_SIPHON: Course = [
    [24, -15, -32],
    [20, -10, -28.5],
    [14, -4, -27],
    [11, -1, -22],
    [10.5, 0, -16],
    [10.5, 6, -13],
    [10.5, 13, -13],
    [10, 16, -8.5],
    [10, 11, -5],
    [10, 5, -4],
    [9.5, 1, 0],
]
# Where loops of the M3 leave the upper and the lower trunk, from front to back: y of the loop.
_UPPER_LOOPS_Y, _LOWER_LOOPS_Y = (18, 8, -2, -12, -22), (-6, -18, -30, -42)


@dataclass(frozen=True)
class Carotid:
    """Nodes of an internal carotid from which others leave.

    Attributes
    ----------
    end
        Where it divides into M1 and A1.
    communicating_origin
        Where the PCom leaves.
    """

    end: int
    communicating_origin: int


def carotid(pen: Pen, side: Side) -> Carotid:
    """One internal carotid from the neck to its end, with ophthalmic and anterior choroidal artery."""
    calibre = pen.rng.uniform(2.0, 2.5)
    fork, bow = pen.rng.uniform(-118, -100), pen.rng.normal(0, 3)
    neck: Course = [
        [20, -8, -170],
        [21, -10, -140],
        [22, -13, fork],
        [26 + bow, -19, -88],
        [28 - bow, -18 + bow, -70],
        [26, -16, -52],
        [25, -16, -40],
    ]
    cervical = pen.lay(-1, neck, (3.0, calibre), f"{side.name}_ICA_cervical", 1.8)
    siphon = pen.lay(cervical[-1], _SIPHON, (calibre, calibre * 0.8), f"{side.name}_ICA", 0.7)
    # The ophthalmic leaves the foremost point of the siphon.
    genu = siphon[int(np.argmax([pen.sketch.points[node][1] for node in siphon]))]
    eye = [[13, 22, -9], [19, 32, -7], [17, 42, -3], [14, 50, 0]]
    pen.lay(genu, eye, (0.8, 0.5), f"{side.name}_ophthalmic")
    pen.lay(siphon[-3], [[13, -8, -1], [20, -17, 2], [22, -27, 10]], (0.5, 0.4), f"{side.name}_choroidal", 0.8)
    return Carotid(int(siphon[-1]), int(siphon[-5]))


def middle_cerebral(pen: Pen, side: Side, carotid_end: int) -> None:
    """M1, two trunks on the insula, loops around the opercula out of the Sylvian fissure."""
    rng = pen.rng
    reach = rng.uniform(33, 39)
    tip = pen.outwards(pen.sketch.points[carotid_end])
    halfway = [np.add(tip, (9, 2, rng.normal(0, 2))), np.add(tip, (18, 3, rng.normal(0, 2)))]
    m1 = pen.lay(carotid_end, [*halfway, (reach, 4, 1)], (1.4, 1.2), f"{side.name}_M1")

    trunk = f"{side.name}_M2"
    pen.lay(m1[len(m1) * 2 // 3], [[38, 13, -6], [46, 20, -11], [53, 14, -15]], (0.7, 0.5), trunk, 1.2)
    upper = pen.lay(m1[-1], [[39, 2, 6], [39.5, -3, 11], [40, -10, 14]], (1.1, 0.95), trunk)
    lower = pen.lay(m1[-1], [[39, -2, 3], [40, -12, 6], [41, -24, 11]], (1.1, 0.9), trunk)

    loop = f"{side.name}_M3"
    for k, y in enumerate(np.array(_UPPER_LOOPS_Y) + rng.normal(0, 2.5, 5)):
        roof = 25 + rng.normal(0, 2) - 0.01 * y * y  # the insula's upper edge, highest in its middle
        start = upper[min(len(upper) - 1, 1 + k * len(upper) // 5)]
        pen.lay(start, _under_the_operculum(y, roof), (0.85, 0.65), loop, 1.4)
    for k, y in enumerate(np.array(_LOWER_LOOPS_Y) + rng.normal(0, 2.5, 4)):
        start = lower[min(len(lower) - 1, 2 + k * len(lower) // 4)]
        pen.lay(start, _over_the_temporal_lobe(y, k), (0.85, 0.65), loop, 1.4)


def _fissure_mm(y: float) -> float:
    """Height of the Sylvian fissure, which rises backwards."""
    return 4 + 0.32 * (18 - y)


def _under_the_operculum(y: float, roof: float) -> list[list[float]]:
    """Course of a loop of the upper trunk: up the insula, down along the frontal operculum, out of the fissure."""
    fissure = _fissure_mm(y)
    return [
        [40, 0.6 * y, 0.55 * roof + 2],
        [41.5, y, roof - 2],
        [46, y - 1, roof + 0.5],
        [52, y - 3, 0.5 * (roof + fissure)],
        [60, y - 4, fissure + 1],
        [63.5, y - 5, fissure + 6],
    ]


def _over_the_temporal_lobe(y: float, number: int) -> list[list[float]]:
    """Course of a loop of the lower trunk: out of the fissure and down, less so the further back."""
    fissure = _fissure_mm(y)
    return [
        [41, y, fissure - 4],
        [47, y - 2, fissure - 6],
        [55, y - 3, fissure - 1],
        [61, y - 5, fissure - 2],
        [63, y - 7, fissure - 9 + 3 * number],
    ]


def anterior_cerebral(pen: Pen, side: Side, carotid_end: int) -> None:
    """A1, A2 around the knee of the callosum, pericallosal and callosomarginal artery; on the right also the ACom."""
    a1 = pen.lay(carotid_end, [[6, 6, 1.5], [2.2, 11, 2]], (1.1, 1.0), f"{side.name}_A1", 0.8)
    if side.name == "right":
        pen.join(a1[-1], pen.sketch.last("left_A1"), (0.6, 0.6), "ACom")
    near = pen.rng.uniform(1.6, 2.6)  # from the midline: both run beside the falx
    a2 = pen.lay(a1[-1], [[near, 16, 0], [near, 26, 3], [near, 32, 11]], (1.0, 0.9), f"{side.name}_A2", 0.8)
    pericallosal = [(34, 20), (28, 30), (14, 35.5), (-6, 37.5), (-26, 36), (-42, 30)]
    pen.lay(a2[-1], [[near, y, z] for y, z in pericallosal], (0.9, 0.5), f"{side.name}_A3", 1.2)
    callosomarginal = [(1.0, 38, 18), (1.3, 41, 30), (1.3, 32, 42), (1.3, 14, 48), (1.3, -8, 50)]
    course = [[near * further, y, z] for further, y, z in callosomarginal]
    pen.lay(a2[-2], course, (0.8, 0.45), f"{side.name}_A3", 1.5)
