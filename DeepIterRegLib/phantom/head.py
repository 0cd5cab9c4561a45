"""Bone, brain, fluid and air of a head, painted shape by shape on a coarse grid in the canonical frame.

Places and sizes (RAS mm, origin at the circle of Willis) are typical of an adult's head and made to fit the brain of
`anatomy.surfaces`; HU are those of text books at 120 kV. Neither is measured on patients.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.phantom.anatomy.surfaces import (
    BRAIN_AXES_MM,
    BRAIN_CENTRE_MM,
    CEREBELLUM_AXES_MM,
    CEREBELLUM_CENTRE_MM,
)
from DeepIterRegLib.phantom.painting import Painter, textured

AIR_HU, FAT_HU, CSF_HU, BRAIN_HU, SOFT_HU = -1000.0, -90.0, 8.0, 35.0, 45.0
WHITE_HU = BRAIN_HU - 6
EYE_HU, ORBIT_HU = 25.0, FAT_HU + 60  # the orbit is fat with muscles in it
TOOTH_HU, MASTOID_HU, VERTEBRA_HU = 1800.0, 300.0, 350.0
SPACING_MM = 1.0  # finer than the blur of scanner and detector, so that it does not show
LOW_MM = np.array([-92.0, -116.0, -172.0])
HIGH_MM = np.array([92.0, 96.0, 108.0])
_SIDES = (-1.0, 1.0)
_NECK_END_Z = -215.0  # below the grid: rods that leave it
_FAR = 200.0  # outside the head, for a cut that is none
_VERTEBRAE, _FIRST_VERTEBRA_Z, _VERTEBRA_MM = 7, -66.0, 16.5


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


@dataclass(frozen=True)
class _Bone:
    """What skulls differ in: thickness of bone and skin (mm), HU of compact bone and of the marrow between its tables."""

    thickness_mm: float
    skin_mm: float
    compact_hu: float
    marrow_hu: float


def make_head(rng: np.random.Generator) -> Head:
    """Paint a head: skin and fat, skull of varying thickness with diploe, base, face, mandible, spine, then brain and fluid."""
    shape = tuple(np.round((HIGH_MM - LOW_MM) / SPACING_MM).astype(int) + 1)
    hu = np.full(shape, AIR_HU, np.float32)
    painter = textured(hu, LOW_MM, SPACING_MM, rng)
    bone = _Bone(rng.uniform(5.0, 7.5), rng.uniform(4.0, 7.0), rng.uniform(1000, 1500), rng.uniform(450, 750))
    # Each shape covers what was there before: outline first, then bone, then what is carved from it.
    _outline(painter, bone)
    _vault(painter, bone)
    _face(painter, bone)
    _airway(painter)
    _cranial_cavity(painter, bone)
    _petrous_bones(painter, bone)
    _sella(painter, bone, rng)
    _brain(painter, rng)
    _spine(painter, bone)
    return Head(hu, LOW_MM.copy())


def _inner_table() -> np.ndarray:
    """Half axes (3,) of the inside of the skull: some mm of fluid lie around the brain."""
    return np.asarray(BRAIN_AXES_MM + 3.5)


def _outline(painter: Painter, bone: _Bone) -> None:
    """Scalp, face, neck; a fat layer under the skin."""
    scalp = _inner_table() + bone.thickness_mm + bone.skin_mm
    for shrink, value in ((0.0, SOFT_HU), (1.8, FAT_HU), (bone.skin_mm * 0.7, SOFT_HU)):
        painter.ellipsoid(BRAIN_CENTRE_MM, scalp - shrink, value)
        painter.ellipsoid([0, 20, -48], np.array([62, 62, 62]) - shrink, value)
        painter.rod([0, -14, -50], [0, -10, _NECK_END_Z], 58 - shrink, value)
        painter.rod([0, 70, -38], [0, 84, -48], 10 - shrink, value)  # nose


def _vault(painter: Painter, bone: _Bone) -> None:
    """Vault of two tables with diploe between them, and the block from which the base is carved."""
    above_base = [-_FAR, -_FAR, -36.0]
    outer = _inner_table() + bone.thickness_mm
    painter.ellipsoid(BRAIN_CENTRE_MM, outer, bone.compact_hu, 0.7, above_base)
    painter.ellipsoid(BRAIN_CENTRE_MM, outer - 1.8, bone.marrow_hu, 0.7, above_base)
    painter.ellipsoid(BRAIN_CENTRE_MM, _inner_table() + 1.8, bone.compact_hu, 0.0, above_base)
    painter.ellipsoid(CEREBELLUM_CENTRE_MM, CEREBELLUM_AXES_MM + 9, bone.compact_hu * 0.8, 0.7)


def _face(painter: Painter, bone: _Bone) -> None:
    """Below the cranial floor in front: soft tissue, clivus, sphenoid, orbits with eyes, maxillary and frontal sinuses, jaws."""
    painter.ellipsoid([0, 32, -34], [46, 42, 27], SOFT_HU)
    painter.rod([0, 5, -18], [0, -14, -34], 8, bone.compact_hu * 0.7, 100)
    painter.rod([0, -14, -34], [0, -24, -52], 6.5, bone.compact_hu * 0.7, 100)
    painter.ellipsoid([0, 12, -22], [15, 15, 9], bone.compact_hu * 0.7)
    painter.ellipsoid([0, 15, -22], [11, 11, 7], AIR_HU)
    for s in _SIDES:
        painter.rod([18 * s, 26, -4], [50 * s, 12, -14], 3.5, bone.compact_hu)
        painter.rod([10 * s, 60, -4], [50 * s, 46, -8], 4, bone.compact_hu)
        painter.rod([50 * s, 46, -8], [52 * s, 38, -28], 4, bone.compact_hu)
        painter.rod([48 * s, 42, -30], [18 * s, 60, -30], 3.5, bone.compact_hu)
        painter.rod([52 * s, 38, -28], [66 * s, 5, -27], 3, bone.compact_hu)
        painter.ellipsoid([31 * s, 48, -16], [17, 22, 15], ORBIT_HU)
        painter.ellipsoid([31 * s, 54, -16], [12, 12, 12], EYE_HU)
        painter.ellipsoid([26 * s, 40, -45], [18, 18, 18], bone.compact_hu * 0.6)
        painter.ellipsoid([26 * s, 40, -45], [15.5, 15.5, 15.5], AIR_HU)
        painter.rod([6 * s, 62, 4], [14 * s, 60, 12], 6, AIR_HU)
        _mandible(painter, bone, s)


def _mandible(painter: Painter, bone: _Bone, s: float) -> None:
    """Ramus and body of one side, compact around marrow; above it half of the row of upper teeth."""
    corners = [(50, -6, -34), (50, -12, -74), (26, 38, -98), (0, 54, -100)]
    for a, b in itertools.pairwise(corners):
        start, end = [a[0] * s, a[1], a[2]], [b[0] * s, b[1], b[2]]
        painter.rod(start, end, 6, bone.compact_hu)
        painter.rod(start, end, 3, bone.marrow_hu)
    arch = [(27, 28), (18, 52), (0, 60)]
    for (x0, y0), (x1, y1) in itertools.pairwise(arch):
        painter.rod([x0 * s, y0, -72], [x1 * s, y1, -72], 5, bone.compact_hu)
        for t in np.linspace(0.1, 0.9, 4):
            x, y = x0 * (1 - t) + x1 * t, y0 * (1 - t) + y1 * t
            painter.rod([x * s, y, -72], [x * s, y, -84], 2.6, TOOTH_HU)


def _airway(painter: Painter) -> None:
    """Nose, pharynx and windpipe."""
    painter.rod([0, 52, -10], [0, 40, -58], 8, AIR_HU)
    painter.rod([0, 20, -40], [0, 10, -72], 8, AIR_HU)
    painter.rod([0, 10, -72], [0, 14, _NECK_END_Z], 8, AIR_HU)


def _cranial_cavity(painter: Painter, bone: _Bone) -> None:
    """Vault above its floors, middle and posterior fossa, foramen magnum and spinal canal; roof of the orbits."""
    inner = _inner_table()
    painter.ellipsoid(BRAIN_CENTRE_MM, inner, CSF_HU, 0.0, [-_FAR, -_FAR, -10])
    painter.ellipsoid(BRAIN_CENTRE_MM, inner, CSF_HU, 0.0, [-_FAR, -_FAR, -24], [_FAR, -32, _FAR])
    painter.ellipsoid(CEREBELLUM_CENTRE_MM, CEREBELLUM_AXES_MM + 3, CSF_HU)
    painter.rod([0, -30, -20], [0, -36, -62], 14, CSF_HU)
    painter.rod([0, -36, -62], [0, -36, _NECK_END_Z], 8, CSF_HU)
    for s in _SIDES:
        painter.ellipsoid([36 * s, -6, -12], [25, 31, 17], CSF_HU)
    painter.ellipsoid([0, 36, -16], [45, 32, 11], SOFT_HU, high_mm=[_FAR, _FAR, -8])
    painter.ellipsoid([0, 34, -6], [44, 30, 3.0], bone.compact_hu, low_mm=[-_FAR, 14, -_FAR])


def _petrous_bones(painter: Painter, bone: _Bone) -> None:
    """Petrous pyramids and mastoids with their air cells, the surroundings of carotid canal and jugular foramen."""
    for s in _SIDES:
        painter.rod([16 * s, -10, -27], [52 * s, -36, -25], 8.5, bone.compact_hu, 120)
        painter.rod([58 * s, -36, -30], [54 * s, -40, -44], 9, MASTOID_HU, 350)
        painter.rod([44 * s, -30, -25], [66 * s, -30, -27], 3, AIR_HU)
        painter.rod([25 * s, -16, -42], [25 * s, -15, -30], 3.2, SOFT_HU)
        painter.rod([32 * s, -28, -48], [33 * s, -30, -40], 5.5, SOFT_HU)


def _sella(painter: Painter, bone: _Bone, rng: np.random.Generator) -> None:
    """Clinoid processes, pituitary, and calcified plaques around the siphons: they hide the carotids, as in most old patients."""
    painter.rod([9, 14, -4], [9, 18, -4], 2, bone.compact_hu)
    painter.rod([-9, 14, -4], [-9, 18, -4], 2, bone.compact_hu)
    painter.ellipsoid([0, 5, -9], [7, 7, 5], SOFT_HU)
    for _ in range(int(rng.integers(0, 9))):
        at = np.array([rng.choice([-8.5, 8.5, -12.5, 12.5]), rng.uniform(-2, 17), rng.uniform(-17, -5)])
        painter.rod(at, at + rng.normal(0, 1.5, 3), rng.uniform(0.7, 1.4), rng.uniform(500, 1000))


def _brain(painter: Painter, rng: np.random.Generator) -> None:
    """Brain with ventricles and fissures, a little grey and white; cerebellum, brain stem and cord."""
    shrink = rng.uniform(0.5, 2.5)
    painter.ellipsoid(BRAIN_CENTRE_MM, BRAIN_AXES_MM + 2 - shrink, BRAIN_HU, 1.2, [-_FAR, -_FAR, -6])
    for s in _SIDES:
        painter.ellipsoid([36 * s, -6, -12], [23, 29, 14], BRAIN_HU)
        painter.ellipsoid([33 * s, -18, 26], [24, 52, 38], WHITE_HU, 1.0)
        painter.rod([9 * s, 12, 14], [12 * s, -20, 22], rng.uniform(4, 6), CSF_HU)
        painter.rod([12 * s, -20, 22], [24 * s, -38, 12], rng.uniform(4, 6), CSF_HU)
        painter.rod([41 * s, 10, 6], [44 * s, -30, 16], 3, CSF_HU)
        painter.rod([44 * s, 0, 10], [64 * s, -12, 12], 2.5, CSF_HU)
    painter.ellipsoid(BRAIN_CENTRE_MM, BRAIN_AXES_MM - 3, BRAIN_HU, 1.0, [-_FAR, -_FAR, -22], [_FAR, -36, 0])
    painter.ellipsoid(CEREBELLUM_CENTRE_MM, CEREBELLUM_AXES_MM, BRAIN_HU, 1.0)
    painter.rod([0, -24, -12], [0, -28, -45], 12, BRAIN_HU)
    painter.rod([0, -34, -45], [0, -36, _NECK_END_Z], 5, BRAIN_HU)
    painter.ellipsoid([0, -12, -4], [14, 12, 6], CSF_HU)


def _spine(painter: Painter, bone: _Bone) -> None:
    """Cervical spine: bodies, arches, spinous processes; the first has no body, its place is the dens'. Then canal and cord."""
    heights = [_FIRST_VERTEBRA_Z - _VERTEBRA_MM * n for n in range(_VERTEBRAE)]
    for n, z in enumerate(heights):
        body = SOFT_HU if n == 0 else VERTEBRA_HU
        for s in _SIDES:
            painter.rod([10 * s, -26, z], [20 * s, -32, z], 5, bone.compact_hu * 0.6, 80)
            painter.rod([20 * s, -36, z], [4 * s, -52, z - 2], 3.5, bone.compact_hu * 0.7)
            painter.rod([23 * s, -22, z + 3], [23 * s, -22, z - 3], 3, SOFT_HU)
        painter.rod([0, -52, z - 2], [0, -64, z - 6], 3.5, bone.compact_hu * 0.7)
        painter.rod([-5, -20, z + 4], [5, -20, z + 4], 6, body, 80)
        painter.rod([-5, -20, z - 3], [5, -20, z - 3], 6, body, 80)
    painter.rod([0, -20, -60], [0, -20, -80], 5, bone.compact_hu * 0.8)
    for z in heights:
        painter.rod([0, -36, z - 9], [0, -36, z + 9], 7, CSF_HU)
        painter.rod([0, -36, z - 9], [0, -36, z + 9], 5, BRAIN_HU)
