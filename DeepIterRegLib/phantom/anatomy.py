"""Where the vessels of a head run: laid-out trunks and cortical trees.

Canonical frame: RAS mm, origin in the midline at the level where the carotids end (circle of Willis).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from DeepIterRegLib.phantom.centrelines import (
    EXTERNAL,
    LEFT_ICA,
    RIGHT_ICA,
    VENOUS,
    VERTEBROBASILAR,
    Centrelines,
    Sketch,
    grow,
    lay,
)

BRAIN_CENTRE_MM = np.array([0.0, -18.0, 20.0])
BRAIN_AXES_MM = np.array([66.0, 79.0, 65.0])
CEREBELLUM_CENTRE_MM = np.array([0.0, -57.0, -30.0])
CEREBELLUM_AXES_MM = np.array([49.0, 31.0, 21.0])
SIDES = (("left", -1.0, LEFT_ICA), ("right", 1.0, RIGHT_ICA))


def head_vessels(rng_arteries: np.random.Generator, rng_veins: np.random.Generator) -> Centrelines:
    """Arteries and veins of one head in the canonical frame."""
    sketch = Sketch()
    surfaces = {side: cortex(sign, rng_arteries) for side, sign, _ in SIDES}
    _posterior_circulation(sketch, rng_arteries)
    for side, sign, territory in SIDES:
        _carotid(sketch, rng_arteries, side, sign, territory)
    _cortical_arteries(sketch, rng_arteries, surfaces)
    for side, sign, _ in SIDES:
        _external_carotid(sketch, rng_arteries, side, sign)
    _veins(sketch, rng_veins, surfaces)
    vessels = sketch.finished()
    bend = np.column_stack([_waves(vessels.points_mm, rng_arteries, (60.0, 130.0)) for _ in range(3)])
    return replace(vessels, points_mm=vessels.points_mm + 1.3 * bend)


# -- surfaces ------------------------------------------------------------------------------------------


def _waves(
    points: np.ndarray, rng: np.random.Generator, wavelength_mm: tuple[float, float], count: int = 10
) -> np.ndarray:
    """Smooth random field (N,), about normal with deviation 1."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    k = direction * (2 * np.pi / rng.uniform(*wavelength_mm, size=(count, 1)))
    return np.sin(points @ k.T + rng.uniform(0, 2 * np.pi, count)).sum(axis=1) * np.sqrt(2 / count)


def _base_mm(points: np.ndarray) -> np.ndarray:
    """Height (N,) of the brain's base: frontal floor, temporal floor, tentorium."""
    x, y = np.abs(points[:, 0]), points[:, 1]
    temporal = -24.0 + 14.0 * np.clip((22 - x) / 14, 0, 1)
    front = np.clip((y - 18) / 12, 0, 1)
    back = np.clip((-30 - y) / 20, 0, 1)
    return (1 - front) * ((1 - back) * temporal + back * -8.0) + front * -2.0


def cortex(sign: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Scattered points (N, 3) of one hemisphere's surface, some down in the sulci, keyed convexity, medial, base."""
    direction = rng.normal(size=(16000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 0] = sign * np.abs(direction[:, 0])
    points = BRAIN_CENTRE_MM + direction * BRAIN_AXES_MM
    # Ellipsoid directions crowd at the ends: thin out to an even density, 3 mm apart or so.
    crowding = np.linalg.norm(direction / BRAIN_AXES_MM, axis=1)
    points = points[rng.random(len(points)) < 0.35 * crowding / crowding.max()]
    sulcus = np.clip(_waves(points, rng, (12.0, 26.0)), 0, 2) * 5.0 + np.abs(rng.normal(0, 1.2, len(points)))
    inward = 1 - sulcus[:, None] / 70.0
    points = BRAIN_CENTRE_MM + (points - BRAIN_CENTRE_MM) * inward
    points = points[np.abs(points[:, 0]) > 3]
    floor = _base_mm(points)
    under = points[:, 2] < floor
    base = points[under & (points[:, 2] > -60)].copy()
    base[:, 2] = _base_mm(base) + np.abs(rng.normal(0, 1.5, len(base)))
    base = base[(np.abs(base[:, 0]) > 8)]
    # Medial face: the midline cut of the ellipsoid, without callosum and ventricles.
    yz = rng.uniform([-98, -12], [62, 86], size=(3200, 2))
    inside = (((yz - BRAIN_CENTRE_MM[1:]) / (BRAIN_AXES_MM[1:] - 1.5)) ** 2).sum(axis=1) < 1
    callosum = (((yz - np.array([-8.0, 10.0])) / np.array([38.0, 24.0])) ** 2).sum(axis=1) < 1
    yz = yz[inside & ~callosum]
    depth = 2.0 + 4.0 * np.clip(_waves(np.column_stack([np.zeros(len(yz)), yz]), rng, (14.0, 30.0)), 0, 2) * 0.5
    medial = np.column_stack([sign * depth, yz])
    medial = medial[medial[:, 2] > np.where(medial[:, 1] < -35, -6.0, -2.0)]
    return {"convexity": points[~under], "medial": medial, "base": base}


def _cerebellum(sign: float, rng: np.random.Generator) -> np.ndarray:
    """Scattered points (N, 3) of one half of the cerebellum."""
    direction = rng.normal(size=(900, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 0] = sign * np.abs(direction[:, 0])
    return CEREBELLUM_CENTRE_MM + direction * CEREBELLUM_AXES_MM * (1 - 0.06 * rng.random((900, 1)))


# -- arteries ------------------------------------------------------------------------------------------


def _posterior_circulation(sketch: Sketch, rng: np.random.Generator) -> None:
    """Both vertebrals, basilar, cerebellar arteries. The dominant vertebral is the tree's root; the other one ends in it."""
    vb = VERTEBROBASILAR
    dominant = rng.choice([-1.0, 1.0])
    calibre = rng.uniform(1.5, 1.9)

    def vertebral(s: float) -> list[list[float]]:
        return [
            [21 * s, -20, -165],
            [21 * s, -21, -135],
            [22 * s, -22, -105],
            [24 * s, -25, -88],
            [30 * s, -27, -77],
            [29 * s, -35, -69],
            [20 * s, -45, -64],
            [11 * s, -38, -57],
            [6 * s, -29, -50],
        ]

    main = lay(sketch, rng, -1, vertebral(dominant), (calibre, calibre * 0.9), vb, "vertebral", 1.5)
    joined = lay(
        sketch, rng, main[-1], [[2 * dominant, -23, -43]], (calibre * 0.9, calibre * 0.9), vb, "vertebral", 0.5
    )
    other_calibre = calibre * rng.uniform(0.5, 0.9)
    other = lay(sketch, rng, -1, vertebral(-dominant), (other_calibre, other_calibre * 0.9), vb, "other_vertebral", 1.5)
    lay(
        sketch,
        rng,
        other[-1],
        [sketch.points[joined[-1]]],
        (other_calibre * 0.9, other_calibre * 0.9),
        vb,
        "other_vertebral",
        0.0,
    )
    basilar = lay(
        sketch,
        rng,
        joined[-1],
        [[0, -20, -36], [0, -16, -26], [0, -13, -16], [0, -12.5, -8]],
        (1.7, 1.4),
        vb,
        "basilar",
        1.0,
    )
    for side, s, _ in SIDES:
        halves = _cerebellum(s, rng)
        sca = lay(
            sketch,
            rng,
            basilar[-3],
            [[10 * s, -17, -10], [18 * s, -28, -9], [16 * s, -42, -8]],
            (0.8, 0.65),
            vb,
            f"{side}_SCA",
            1.2,
        )
        grow(sketch, rng, sca[[-1, len(sca) // 2]], halves[halves[:, 2] > -28], 8, 0.4, vb, f"{side}_SCA")
        start = basilar[len(basilar) // 2]
        aica = lay(
            sketch,
            rng,
            start,
            [[12 * s, -20, -27], [25 * s, -28, -28], [34 * s, -38, -33]],
            (0.7, 0.5),
            vb,
            f"{side}_AICA",
            1.5,
        )
        grow(sketch, rng, aica[[-1]], halves[(halves[:, 1] > -58) & (halves[:, 2] < -22)], 4, 0.35, vb, f"{side}_AICA")
        if rng.random() < 0.85:
            origin = main[-8] if s == dominant else other[-8]
            loops = [
                [9 * s, -38, -56],
                [12 * s, -44, -48],
                [8 * s, -48, -55],
                [6 * s, -52, -47],
                [6 * s, -60, -52],
                [8 * s, -68, -50],
            ]
            pica = lay(sketch, rng, origin, loops, (0.8, 0.6), vb, f"{side}_PICA", 1.2)
            grow(
                sketch,
                rng,
                pica[[-1]],
                halves[(halves[:, 2] < -30) & (halves[:, 1] < -50)],
                6,
                0.35,
                vb,
                f"{side}_PICA",
            )


def _carotid(sketch: Sketch, rng: np.random.Generator, side: str, s: float, territory: int) -> None:
    """One internal carotid with ophthalmic, PCom, anterior choroidal, M1 to M3, A1 to the callosal arteries, and the PCA."""
    calibre = rng.uniform(2.0, 2.5)
    fork = rng.uniform(-118, -100)
    bow = rng.normal(0, 3)
    cervical = lay(
        sketch,
        rng,
        -1,
        [
            [20 * s, -8, -170],
            [21 * s, -10, -140],
            [22 * s, -13, fork],
            [(26 + bow) * s, -19, -88],
            [(28 - bow) * s, -18 + bow, -70],
            [26 * s, -16, -52],
            [25 * s, -16, -40],
        ],
        (3.0, calibre),
        territory,
        f"{side}_ICA_cervical",
        1.8,
    )
    siphon = lay(
        sketch,
        rng,
        cervical[-1],
        [
            [24 * s, -15, -32],
            [20 * s, -10, -28.5],
            [14 * s, -4, -27],
            [11 * s, -1, -22],
            [10.5 * s, 0, -16],
            [10.5 * s, 6, -13],
            [10.5 * s, 13, -13],
            [10 * s, 16, -8.5],
            [10 * s, 11, -5],
            [10 * s, 5, -4],
            [9.5 * s, 1, 0],
        ],
        (calibre, calibre * 0.8),
        territory,
        f"{side}_ICA",
        0.7,
    )
    end = siphon[-1]
    tip = np.array(sketch.points[end])
    backwards = np.array([sketch.points[i] for i in siphon])
    genu = siphon[int(np.argmax(backwards[:, 1]))]
    lay(
        sketch,
        rng,
        genu,
        [[13 * s, 22, -9], [19 * s, 32, -7], [17 * s, 42, -3], [14 * s, 50, 0]],
        (0.8, 0.5),
        territory,
        f"{side}_ophthalmic",
    )
    lay(
        sketch,
        rng,
        siphon[-3],
        [[13 * s, -8, -1], [20 * s, -17, 2], [22 * s, -27, 10]],
        (0.5, 0.4),
        territory,
        f"{side}_choroidal",
        0.8,
    )

    # PCA: from the basilar, or fetal from the carotid.
    junction = [9 * s, -13, -4]
    fetal = rng.random() < 0.2
    pcom_radius = 1.1 if fetal else rng.uniform(0.4, 0.8)
    pcom = lay(
        sketch,
        rng,
        siphon[-5],
        [[10 * s, -5, -4.5], junction],
        (pcom_radius, pcom_radius),
        territory,
        f"{side}_PCom",
        0.6,
    )
    basilar = [i for i, n in enumerate(sketch.segment) if sketch.segments[n] == "basilar"][-1]
    p1 = lay(
        sketch,
        rng,
        basilar,
        [sketch.points[pcom[-1]]],
        (0.5 if fetal else 1.2, 0.5 if fetal else 1.1),
        VERTEBROBASILAR,
        f"{side}_P1",
        0.0,
    )
    supply, owner = (pcom[-1], territory) if fetal else (p1[-1], VERTEBROBASILAR)
    p2 = lay(
        sketch,
        rng,
        supply,
        [[15 * s, -21, -4], [19 * s, -32, -1], [15 * s, -44, 2], [10 * s, -53, 3]],
        (1.1, 0.9),
        owner,
        f"{side}_P2",
        1.0,
    )
    lay(sketch, rng, p2[-1], [[8 * s, -64, 3], [6 * s, -78, 4], [8 * s, -92, 8]], (0.7, 0.45), owner, f"{side}_P3", 1.5)
    lay(
        sketch,
        rng,
        p2[-1],
        [[7 * s, -62, 14], [4 * s, -70, 26], [5 * s, -76, 40]],
        (0.7, 0.45),
        owner,
        f"{side}_P3",
        1.5,
    )
    lay(sketch, rng, p2[len(p2) // 3], [[25 * s, -28, -12], [35 * s, -32, -19]], (0.65, 0.5), owner, f"{side}_P3", 1.2)
    lay(sketch, rng, p2[len(p2) // 2], [[24 * s, -42, -8], [33 * s, -55, -9]], (0.65, 0.5), owner, f"{side}_P3", 1.2)

    # MCA: M1, two trunks on the insula, loops around the opercula out of the Sylvian fissure.
    reach = rng.uniform(33, 39)
    m1 = lay(
        sketch,
        rng,
        end,
        [np.add(tip, (9 * s, 2, rng.normal(0, 2))), np.add(tip, (18 * s, 3, rng.normal(0, 2))), (reach * s, 4, 1)],
        (1.4, 1.2),
        territory,
        f"{side}_M1",
    )
    early = lay(
        sketch,
        rng,
        m1[len(m1) * 2 // 3],
        [[38 * s, 13, -6], [46 * s, 20, -11], [53 * s, 14, -15]],
        (0.7, 0.5),
        territory,
        f"{side}_M2",
        1.2,
    )
    upper = lay(
        sketch,
        rng,
        m1[-1],
        [[39 * s, 2, 6], [39.5 * s, -3, 11], [40 * s, -10, 14]],
        (1.1, 0.95),
        territory,
        f"{side}_M2",
    )
    lower = lay(
        sketch, rng, m1[-1], [[39 * s, -2, 3], [40 * s, -12, 6], [41 * s, -24, 11]], (1.1, 0.9), territory, f"{side}_M2"
    )
    ends = [early[-1]]
    for k, y in enumerate(np.array([18, 8, -2, -12, -22]) + rng.normal(0, 2.5, 5)):
        roof = 25 + rng.normal(0, 2) - 0.01 * y * y
        fissure = 4 + 0.32 * (18 - y)
        start = upper[min(len(upper) - 1, 1 + k * len(upper) // 5)]
        course = [
            [40 * s, 0.6 * y, 0.55 * roof + 2],
            [41.5 * s, y, roof - 2],
            [46 * s, y - 1, roof + 0.5],
            [52 * s, y - 3, 0.5 * (roof + fissure)],
            [60 * s, y - 4, fissure + 1],
            [63.5 * s, y - 5, fissure + 6],
        ]
        ends.append(lay(sketch, rng, start, course, (0.85, 0.65), territory, f"{side}_M3", 1.4)[-1])
    for k, y in enumerate(np.array([-6, -18, -30, -42]) + rng.normal(0, 2.5, 4)):
        fissure = 4 + 0.32 * (18 - y)
        start = lower[min(len(lower) - 1, 2 + k * len(lower) // 4)]
        course = [
            [41 * s, y, fissure - 4],
            [47 * s, y - 2, fissure - 6],
            [55 * s, y - 3, fissure - 1],
            [61 * s, y - 5, fissure - 2],
            [63 * s, y - 7, fissure - 9 + 3 * k],
        ]
        ends.append(lay(sketch, rng, start, course, (0.85, 0.65), territory, f"{side}_M3", 1.4)[-1])

    # ACA: A1, A2 around the knee of the callosum, pericallosal and callosomarginal.
    a1 = lay(sketch, rng, end, [[6 * s, 6, 1.5], [2.2 * s, 11, 2]], (1.1, 1.0), territory, f"{side}_A1", 0.8)
    if side == "right":
        other = [i for i, n in enumerate(sketch.segment) if sketch.segments[n] == "left_A1"][-1]
        lay(sketch, rng, a1[-1], [sketch.points[other]], (0.6, 0.6), territory, "ACom", 0.0)
    near = rng.uniform(1.6, 2.6) * s
    a2 = lay(
        sketch, rng, a1[-1], [[near, 16, 0], [near, 26, 3], [near, 32, 11]], (1.0, 0.9), territory, f"{side}_A2", 0.8
    )
    lay(
        sketch,
        rng,
        a2[-1],
        [[near, 34, 20], [near, 28, 30], [near, 14, 35.5], [near, -6, 37.5], [near, -26, 36], [near, -42, 30]],
        (0.9, 0.5),
        territory,
        f"{side}_A3",
        1.2,
    )
    lay(
        sketch,
        rng,
        a2[-2],
        [[near, 38, 18], [near * 1.3, 41, 30], [near * 1.3, 32, 42], [near * 1.3, 14, 48], [near * 1.3, -8, 50]],
        (0.8, 0.45),
        territory,
        f"{side}_A3",
        1.5,
    )


def _cortical_arteries(sketch: Sketch, rng: np.random.Generator, surfaces: dict[str, dict[str, np.ndarray]]) -> None:
    """M4, A4 and P4: trees over the three cortical territories of each hemisphere, their borders drawn by seed."""
    for side, s, territory in SIDES:
        surface = surfaces[side]
        points = np.vstack([surface["convexity"], surface["medial"], surface["base"]])
        medial = np.repeat(
            [False, True, False], [len(surface["convexity"]), len(surface["medial"]), len(surface["base"])]
        )
        based = np.repeat(
            [False, False, True], [len(surface["convexity"]), len(surface["medial"]), len(surface["base"])]
        )
        x, y, z = (points + 4 * np.column_stack([_waves(points, rng, (40, 90)) for _ in range(3)])).T
        x = x * s
        aca = np.where(
            medial, (y > -60) & ~((z < 8) & (y < -35)), (x < 21) & (y > -58) & (z > 0) | based & (x < 14) & (y > 10)
        )
        pca = ~aca & np.where(medial, True, (y < -80) | based & (y < 2) & (x < 45) | (z < -14) & (y < -15))
        mca = ~aca & ~pca & ~medial
        indices = {name: _tails(sketch, f"{side}_{name}") for name in ("M3", "A3", "P3")}
        early = _tails(sketch, f"{side}_M2")[:1]
        supply = next(
            t for t, n in zip(sketch.territory, sketch.segment, strict=True) if sketch.segments[n] == f"{side}_P3"
        )
        along = _along(sketch, f"{side}_A3", 12)
        grow(
            sketch,
            rng,
            np.concatenate([indices["M3"], early]),
            points[mca],
            int(rng.integers(46, 60)),
            0.4,
            territory,
            f"{side}_M4",
        )
        grow(sketch, rng, along, points[aca], int(rng.integers(22, 30)), 0.38, territory, f"{side}_A4")
        calcarine = np.concatenate([indices["P3"], _along(sketch, f"{side}_P3", 14)])
        grow(sketch, rng, calcarine, points[pca], int(rng.integers(18, 26)), 0.38, supply, f"{side}_P4")


def _tails(sketch: Sketch, segment: str) -> np.ndarray:
    """Last nodes of a segment's tubes: those that no other node of the segment hangs on."""
    members = [i for i, n in enumerate(sketch.segment) if sketch.segments[n] == segment]
    parents = {sketch.parent[i] for i in members}
    return np.array([i for i in members if i not in parents], dtype=np.int64)


def _along(sketch: Sketch, segment: str, step: int) -> np.ndarray:
    """Every `step`-th node of a segment, from which branches may leave, and its last nodes."""
    members = np.array([i for i, n in enumerate(sketch.segment) if sketch.segments[n] == segment])
    return np.unique(np.concatenate([members[step // 2 :: step], _tails(sketch, segment)]))


def _external_carotid(sketch: Sketch, rng: np.random.Generator, side: str, s: float) -> None:
    """Branches outside the skull: never injected here, but in every CTA."""
    trunk = lay(
        sketch,
        rng,
        -1,
        [[24 * s, -9, -102], [32 * s, -6, -80], [45 * s, -8, -60], [52 * s, -6, -45]],
        (1.9, 1.4),
        EXTERNAL,
        f"{side}_ECA",
        1.5,
    )
    for course in (
        [[66 * s, -2, -28], [70 * s, 0, -8], [71 * s, 8, 15], [64 * s, 22, 45]],
        [[70 * s, -10, 0], [74 * s, -22, 25], [66 * s, -35, 55]],
        [[38 * s, 12, -42], [26 * s, 24, -38], [14 * s, 34, -40]],
    ):
        lay(sketch, rng, trunk[-1], course, (1.0, 0.5), EXTERNAL, f"{side}_ECA_branch", 2.0)
    lay(
        sketch,
        rng,
        trunk[len(trunk) // 3],
        [[40 * s, 15, -88], [44 * s, 38, -80], [30 * s, 58, -60], [18 * s, 66, -40]],
        (1.1, 0.6),
        EXTERNAL,
        f"{side}_ECA_branch",
        2.0,
    )
    lay(
        sketch,
        rng,
        trunk[len(trunk) // 2],
        [[50 * s, -35, -55], [50 * s, -66, -48], [38 * s, -95, -25], [28 * s, -106, 5]],
        (1.1, 0.5),
        EXTERNAL,
        f"{side}_ECA_branch",
        2.0,
    )
    lay(
        sketch,
        rng,
        trunk[-4],
        [[36 * s, -4, -28], [48 * s, 0, -20], [63 * s, 2, 5], [62 * s, -5, 35]],
        (0.7, 0.4),
        EXTERNAL,
        f"{side}_meningeal",
        1.0,
    )


# -- veins ---------------------------------------------------------------------------------------------


def _vault(x: float, angle_deg: float, depth_mm: float = 1.5) -> list[float]:
    """Point on the inside of the vault over the midline cut: 0 deg frontal, 90 deg top, 180 deg occipital."""
    a = np.radians(angle_deg)
    y = BRAIN_CENTRE_MM[1] + (BRAIN_AXES_MM[1] + depth_mm) * np.cos(a)
    z = BRAIN_CENTRE_MM[2] + (BRAIN_AXES_MM[2] + depth_mm) * np.sin(a)
    return [x, float(y), float(z)]


def _veins(sketch: Sketch, rng: np.random.Generator, surfaces: dict[str, dict[str, np.ndarray]]) -> None:
    """Sinuses, deep and cortical veins. Roots are the jugulars; the superior sagittal sinus ends in the dominant transverse."""
    dominant = "right" if rng.random() < 0.65 else "left"
    torcula = np.array([0.0, -98.0, 2.0]) + rng.normal(0, [3, 0.5, 2])
    transverse: dict[str, np.ndarray] = {}
    for side, s, _ in SIDES:
        calibre = rng.uniform(3.6, 4.5) if side == dominant else rng.uniform(1.4, 3.4)
        jugular = lay(
            sketch,
            rng,
            -1,
            [[32 * s, -18, -170], [33 * s, -17, -130], [33 * s, -19, -95], [32 * s, -22, -65], [31 * s, -25, -48]],
            (calibre * 1.3, calibre * 1.1),
            VENOUS,
            f"{side}_jugular",
            1.5,
        )
        sigmoid = lay(
            sketch,
            rng,
            jugular[-1],
            [[33 * s, -30, -41], [40 * s, -35, -39], [49 * s, -40, -32], [54 * s, -47, -20], [55.5 * s, -57, -8]],
            (calibre * 1.1, calibre),
            VENOUS,
            f"{side}_sigmoid",
            1.2,
        )
        transverse[side] = lay(
            sketch,
            rng,
            sigmoid[-1],
            [[52 * s, -69, -4], [42 * s, -83, -2], [26 * s, -93, 0], [12 * s, -97, 1], torcula],
            (calibre, calibre * 0.9),
            VENOUS,
            f"{side}_transverse",
            1.0,
        )
    outlet = transverse[dominant][-1]
    angles = np.linspace(200, 18, 15)[1:]
    course = [_vault(rng.normal(0, 1.0), a) for a in angles]
    sagittal = lay(sketch, rng, outlet, course, (rng.uniform(3.4, 4.2), 1.0), VENOUS, "superior_sagittal", 0.7)
    lesser = "left" if dominant == "right" else "right"
    straight = lay(
        sketch,
        rng,
        transverse[lesser][-1] if rng.random() < 0.5 else outlet,
        [[0, -82, 8], [0, -66, 14], [0, -55, 17]],
        (2.3, 2.1),
        VENOUS,
        "straight",
        0.7,
    )
    galen = lay(sketch, rng, straight[-1], [[0, -48, 19], [0, -43, 15.5]], (2.1, 1.8), VENOUS, "galen", 0.5)
    lay(
        sketch,
        rng,
        straight[-1],
        [[0, -45, 33], [0, -25, 42], [0, 0, 44], [0, 20, 40]],
        (1.1, 0.5),
        VENOUS,
        "inferior_sagittal",
        1.0,
    )
    for side, s, _ in SIDES:
        internal = lay(
            sketch,
            rng,
            galen[-1],
            [[2 * s, -32, 17], [2 * s, -14, 18.5], [2 * s, 1, 14]],
            (1.2, 0.9),
            VENOUS,
            "internal_cerebral",
            0.7,
        )
        lay(
            sketch,
            rng,
            internal[-1],
            [[9 * s, -1, 20], [16 * s, -10, 25], [20 * s, -22, 27]],
            (0.8, 0.45),
            VENOUS,
            "thalamostriate",
            1.0,
        )
        lay(sketch, rng, internal[-1], [[3 * s, 10, 14], [5 * s, 22, 17]], (0.6, 0.4), VENOUS, "septal", 1.0)
        lay(
            sketch,
            rng,
            galen[-1],
            [[9 * s, -42, 8], [17 * s, -33, 1], [19 * s, -20, -4], [16 * s, -6, -6]],
            (1.1, 0.6),
            VENOUS,
            "basal_vein",
            1.0,
        )
        # Superficial middle cerebral vein along the fissure, joined to the vault by Trolard and to the transverse sinus by Labbe.
        bottom = transverse[side][len(transverse[side]) // 5]
        labbe = lay(
            sketch,
            rng,
            bottom,
            [[61 * s, -52, 0], [65 * s, -42, 8], [66 * s, -30, 14]],
            (rng.uniform(0.9, 1.8), 0.9),
            VENOUS,
            f"{side}_labbe",
            2.0,
        )
        sylvian = lay(
            sketch,
            rng,
            labbe[-1],
            [[66 * s, -14, 12], [63 * s, 3, 4], [54 * s, 16, -5]],
            (1.0, 0.6),
            VENOUS,
            f"{side}_sylvian_vein",
            1.5,
        )
        top = sagittal[int(len(sagittal) * rng.uniform(0.5, 0.62))]
        z = np.array([70, 54, 36, 20]) + rng.normal(0, 2, 4)
        y = np.array(sketch.points[top])[1] + np.array([-3, -8, -12, -14])
        x = BRAIN_AXES_MM[0] * np.sqrt(np.clip(1 - ((z - 20) / 66) ** 2 - ((y + 18) / 80) ** 2, 0.02, 1))
        trolard = lay(
            sketch,
            rng,
            top,
            np.column_stack([x * s, y, z]).tolist(),
            (rng.uniform(1.0, 1.8), 0.7),
            VENOUS,
            f"{side}_trolard",
            1.5,
        )
        surface = surfaces[side]
        points = np.vstack([surface["convexity"], surface["medial"][surface["medial"][:, 2] > 20]])
        bridges = sagittal[rng.permutation(np.linspace(8, len(sagittal) - 4, 11).astype(int))[:9]]
        roots = np.concatenate(
            [bridges, trolard[::10], labbe[::8], sylvian[::8], transverse[side][4 : len(transverse[side]) // 2 : 9]]
        )
        grow(sketch, rng, roots, points, int(rng.integers(95, 125)), 0.5, VENOUS, "cortical_vein", 0.7)
        halves = _cerebellum(s, rng)
        grow(sketch, rng, transverse[side][10:-6:10], halves[halves[:, 1] < -40], 8, 0.45, VENOUS, "cerebellar_vein")
