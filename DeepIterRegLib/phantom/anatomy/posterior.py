"""Vertebral and basilar arteries, the cerebellum's, and the posterior cerebral arteries."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.phantom.anatomy.pen import SIDES, Course, Pen, Side
from DeepIterRegLib.phantom.anatomy.surfaces import cerebellum
from DeepIterRegLib.phantom.centrelines import VERTEBROBASILAR, Sketch

# Up the neck through the transverse foramina, round the atlas, into the skull by the foramen magnum.
_VERTEBRAL: Course = [
    [21, -20, -165],
    [21, -21, -135],
    [22, -22, -105],
    [24, -25, -88],
    [30, -27, -77],
    [29, -35, -69],
    [20, -45, -64],
    [11, -38, -57],
    [6, -29, -50],
]
_BASILAR: Course = [[0, -20, -36], [0, -16, -26], [0, -13, -16], [0, -12.5, -8]]
_PICA: Course = [
    [9, -38, -56],
    [12, -44, -48],
    [8, -48, -55],
    [6, -52, -47],
    [6, -60, -52],
    [8, -68, -50],
]  # its two loops

_PICA_SHARE = 0.85  # about every sixth has none, its neighbour supplies both
_FETAL_SHARE = 0.2  # posterior cerebral arteries that come from the carotid: a tenth to a third of people have one


def posterior_circulation(sketch: Sketch, rng: np.random.Generator) -> int:
    """Both vertebrals, basilar, cerebellar arteries; the node where the basilar ends.

    The dominant vertebral is the tree's root; the other one ends in it.
    """
    dominant = rng.choice([-1.0, 1.0])
    calibre = rng.uniform(1.5, 1.9)
    pen, across = (Pen(sketch, rng, VERTEBROBASILAR, sign) for sign in (dominant, -dominant))
    main = pen.lay(-1, _VERTEBRAL, (calibre, calibre * 0.9), "vertebral", 1.5)
    joined = pen.lay(main[-1], [[2, -23, -43]], (calibre * 0.9, calibre * 0.9), "vertebral", 0.5)
    thinner = calibre * rng.uniform(0.5, 0.9)
    other = across.lay(-1, _VERTEBRAL, (thinner, thinner * 0.9), "other_vertebral", 1.5)
    across.join(other[-1], joined[-1], (thinner * 0.9, thinner * 0.9), "other_vertebral")
    basilar = pen.lay(joined[-1], _BASILAR, (1.7, 1.4), "basilar", 1.0)
    for side in SIDES:
        vertebral = main if side.sign == dominant else other
        _cerebellar_arteries(Pen(sketch, rng, VERTEBROBASILAR, side.sign), side, basilar, vertebral)
    return int(basilar[-1])


def _cerebellar_arteries(pen: Pen, side: Side, basilar: np.ndarray, vertebral: np.ndarray) -> None:
    """Superior, anterior inferior and, in most, posterior inferior cerebellar artery of one side."""
    surface = cerebellum(side.sign, pen.rng)
    y, z = surface[:, 1], surface[:, 2]

    sca = pen.lay(basilar[-3], [[10, -17, -10], [18, -28, -9], [16, -42, -8]], (0.8, 0.65), f"{side.name}_SCA", 1.2)
    pen.grow(sca[[-1, len(sca) // 2]], surface[z > -28], 8, 0.4, f"{side.name}_SCA")

    middle = basilar[len(basilar) // 2]
    aica = pen.lay(middle, [[12, -20, -27], [25, -28, -28], [34, -38, -33]], (0.7, 0.5), f"{side.name}_AICA", 1.5)
    pen.grow(aica[[-1]], surface[(y > -58) & (z < -22)], 4, 0.35, f"{side.name}_AICA")

    if pen.rng.random() < _PICA_SHARE:
        pica = pen.lay(vertebral[-8], _PICA, (0.8, 0.6), f"{side.name}_PICA", 1.2)
        pen.grow(pica[[-1]], surface[(z < -30) & (y < -50)], 6, 0.35, f"{side.name}_PICA")


def posterior_cerebral(pen: Pen, side: Side, communicating_origin: int, basilar_tip: int) -> None:
    """PCom and PCA to P3: the PCA is supplied by the basilar, or (fetal) by the carotid through a thick PCom.

    Parameters
    ----------
    pen
        Of the carotid's territory.
    side
    communicating_origin
        Node of the carotid that the PCom leaves.
    basilar_tip
        Node where the basilar ends.
    """
    fetal = pen.rng.random() < _FETAL_SHARE
    calibre = 1.1 if fetal else pen.rng.uniform(0.4, 0.8)
    pcom = pen.lay(communicating_origin, [[10, -5, -4.5], [9, -13, -4]], (calibre, calibre), f"{side.name}_PCom", 0.6)
    basilar = Pen(pen.sketch, pen.rng, VERTEBROBASILAR, side.sign)
    p1 = basilar.join(basilar_tip, pcom[-1], (0.5, 0.5) if fetal else (1.2, 1.1), f"{side.name}_P1")

    owner, supply = (pen, pcom[-1]) if fetal else (basilar, p1[-1])
    around_midbrain = [[15, -21, -4], [19, -32, -1], [15, -44, 2], [10, -53, 3]]
    p2 = owner.lay(supply, around_midbrain, (1.1, 0.9), f"{side.name}_P2", 1.0)
    calcarine, parieto_occipital = [[8, -64, 3], [6, -78, 4], [8, -92, 8]], [[7, -62, 14], [4, -70, 26], [5, -76, 40]]
    for course in (calcarine, parieto_occipital):
        owner.lay(p2[-1], course, (0.7, 0.45), f"{side.name}_P3", 1.5)
    anterior_temporal, posterior_temporal = [[25, -28, -12], [35, -32, -19]], [[24, -42, -8], [33, -55, -9]]
    owner.lay(p2[len(p2) // 3], anterior_temporal, (0.65, 0.5), f"{side.name}_P3", 1.2)
    owner.lay(p2[len(p2) // 2], posterior_temporal, (0.65, 0.5), f"{side.name}_P3", 1.2)
