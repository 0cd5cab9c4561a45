"""What one training sample is made of by chance: all its random numbers, drawn before anything is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.geometry.arrays import Array
from DeepIterRegLib.registration.network.model import NetworkSettings

Range = tuple[float, float]
Axes = tuple[float, float, float]

# The side injected: as often left as right, seldom the posterior circulation; see `heads.INJECTIONS`.
INJECTED = (0.45, 0.45, 0.1)
NO_PATCHES = -np.inf  # noise is above it everywhere
NOISE = 5  # cells of the patches' noise on a side
LONG_MARKS, LONGEST_MARK = 0.2, 0.6  # share of long marks, and the length of the longest, a share of the image's side


@dataclass(frozen=True)
class SamplingSettings:
    """What training samples vary in. Offsets are drawn per axis of the C-arm frame (x right, y anterior, z up).

    Attributes
    ----------
    rotation_deg, translation_mm
        Largest offset between the two poses.
    small_offsets
        Share of samples with an offset scaled by a uniform number, as the network meets when it is asked again.
    truth_rotation_deg, truth_translation_mm
        Largest offset of the true pose from the radiological one in samples that do not start there.
    from_radiological
        Share of samples that start at the radiological pose, as in use.
    angle_deg
        Largest departure of the C-arm from AP or lateral, both angles.
    sid_mm, sod_mm, field_mm
        Distances and side of the detector's field.
    scale
        Stretch of the head, each axis.
    tilt_deg, shift_mm
        How the head lies in the CTA's field.
    smallest_radius_mm
        Vessels thinner than a number in this range are not in the CTA's veins.
    external
        Chance that the vessels outside the skull are in the CTA's veins.
    missing
        Largest share of pieces missing, of the CTA's veins and of the DSA's.
    faintest
        Veins with less contrast times diameter (mm) than a number in this range are not in the DSA's mask.
    width
        Factor on the width of the DSA's veins: dilation and erosion.
    strength
        Factor on their blood, which decides how much of a coarse pixel a thin vein covers.
    patches
        Share of samples whose DSA lacks whole patches, as where contrast or segmentation fails.
    late_arteries, false_marks
        Largest share of arterial pieces, and largest number of marks of no vessel, in the DSA's mask.
    same_content
        Share of samples whose DSA shows exactly the CTA's veins (A 3.1.3 trains on nothing else).
    """

    rotation_deg: Axes = (35.0, 35.0, 35.0)
    translation_mm: Axes = (45.0, 45.0, 45.0)
    small_offsets: float = 0.35
    truth_rotation_deg: Axes = (20.0, 20.0, 20.0)
    truth_translation_mm: Axes = (25.0, 25.0, 25.0)
    from_radiological: float = 0.6
    angle_deg: float = 15.0
    sid_mm: Range = (950.0, 1300.0)
    sod_mm: Range = (680.0, 820.0)
    field_mm: Range = (190.0, 400.0)
    scale: Range = (0.92, 1.08)
    tilt_deg: float = 8.0
    shift_mm: float = 12.0
    smallest_radius_mm: Range = (0.45, 0.9)
    external: float = 0.2
    missing: float = 0.3
    faintest: Range = (0.1, 0.6)
    width: Range = (0.4, 1.2)
    strength: Range = (0.6, 1.6)
    patches: float = 0.5
    late_arteries: float = 0.06
    false_marks: int = 12
    same_content: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        for name in ("small_offsets", "from_radiological", "external", "missing", "patches", "same_content"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"sampling.{name} is {getattr(self, name):g}: give 0 to 1.")
        for name in ("sid_mm", "sod_mm", "field_mm", "scale", "smallest_radius_mm", "faintest", "width", "strength"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                problems.append(
                    f"sampling.{name} is {low:g} to {high:g}: give two positive numbers, the smaller first."
                )
        if self.sod_mm[1] >= self.sid_mm[0]:
            problems.append("sampling.sod_mm must stay below sampling.sid_mm.")
        if problems:
            raise InputError(problems)


@dataclass(frozen=True)
class Draws:
    """The chance in one sample, NumPy arrays; or in B samples, torch tensors with the axis B before all others.

    Attributes
    ----------
    mirrored : () bool
        Left and right exchanged.
    axes, source_mm, distances_mm : (3, 3), (3,), (2,)
        Of the C-arm: u, v, d; the source; SID and SOD.
    scale : (3,)
        Stretch of the head.
    field_mm : (2,)
        Lowest and highest z of the CTA.
    smallest_radius_mm, external : (), () bool
        What vessels the CTA's veins hold.
    cta_lost, dsa_lost, dsa_late : (K,) bool
        Pieces of vessel missing in the CTA's veins, in the DSA's; pieces of artery in the DSA's.
    start, truth : (4, 4)
        Poses, canonical frame to C-arm.
    same_content : () bool
        The DSA shows the CTA's veins; what follows does not count then, but for `seen_mm` and `jitter`.
    injection, faintest : () int, ()
        Side, and the least contrast times diameter.
    width, capped, strength : (), () bool, ()
        Factor on the veins' width, which may be at most 2.5 mm from the axis; factor on their blood.
    noise, level : (NOISE, NOISE), ()
        Patches are missing where the smooth noise is at most `level`.
    mark_row, mark_column, mark_value : (M, L) int, (M, L) int, (M,)
        Pixels of marks of no vessel; -1 for none.
    seen_mm : (2, 2)
        Of the canvas's rows and columns, from and to where the detector saw, mm from its middle.
    jitter : (P,)
        0 to 1, where in its share of the blood each point of the loss is.
    """

    mirrored: Array
    axes: Array
    source_mm: Array
    distances_mm: Array
    scale: Array
    field_mm: Array
    smallest_radius_mm: Array
    external: Array
    cta_lost: Array
    start: Array
    truth: Array
    same_content: Array
    injection: Array
    faintest: Array
    dsa_lost: Array
    dsa_late: Array
    width: Array
    capped: Array
    strength: Array
    noise: Array
    level: Array
    mark_row: Array
    mark_column: Array
    mark_value: Array
    seen_mm: Array
    jitter: Array


def draw(
    pieces: int, rng: np.random.Generator, network: NetworkSettings, settings: SamplingSettings, n_points: int
) -> tuple[Draws, CArm]:
    """The chance in one sample of a head with so many pieces of vessel, and the view."""
    # Twice as many heads at no cost.
    mirrored = rng.random() < 0.5
    view = draw_view(rng, network, settings)
    scale = rng.uniform(*settings.scale, 3).astype(np.float32)
    low, high = rng.uniform(-125, -80), rng.uniform(80, 105)
    smallest = rng.uniform(*settings.smallest_radius_mm)
    external = rng.random() < settings.external
    lost = rng.random(pieces) < rng.uniform(0, settings.missing) * rng.random()
    centre = np.append(rng.normal(0, 4, 2), (low + high) / 2) + rng.normal(0, settings.shift_mm / 3, 3)
    start, truth = draw_poses(rng, centre, settings)
    same = rng.random() < settings.same_content
    dsa = _no_dsa(pieces, settings, network) if same else _draw_dsa(pieces, rng, settings, network)
    seen = _draw_field(view, rng, settings)
    values = {
        "mirrored": mirrored,
        "axes": view.axes,
        "source_mm": view.source_mm,
        "distances_mm": (view.sid_mm, view.sod_mm),
        "scale": scale,
        "field_mm": (low, high),
        "smallest_radius_mm": smallest,
        "external": external,
        "cta_lost": lost,
        "start": start,
        "truth": truth,
        "same_content": same,
        "seen_mm": seen,
        "jitter": rng.random(n_points),
        **dsa,
    }
    return Draws(**{name: np.asarray(value) for name, value in values.items()}), view


def draw_view(rng: np.random.Generator, network: NetworkSettings, settings: SamplingSettings) -> CArm:
    """A C-arm near AP or lateral, on the network's canvas."""
    primary, secondary = rng.uniform(-settings.angle_deg, settings.angle_deg, 2)
    if rng.random() < 0.5:
        primary += rng.choice([-90.0, 90.0])
    else:
        secondary += rng.uniform(0, 15)
    sid, sod = rng.uniform(*settings.sid_mm), rng.uniform(*settings.sod_mm)
    spacing = network.pixel_mm * sid / sod
    return CArm.from_angles(
        primary,
        secondary,
        sid_mm=sid,
        sod_mm=sod,
        rows=network.rows,
        columns=network.rows,
        pixel_spacing_mm=(spacing, spacing),
    )


def draw_poses(
    rng: np.random.Generator, centre_mm: np.ndarray, settings: SamplingSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Start and truth (4, 4), canonical frame to C-arm, turning about the CTA's centre."""
    straight = pose.euler_deg_to_rotation(rng.uniform(-1, 1, 3) * settings.tilt_deg)
    radiological = pose.matrix(straight, -straight @ centre_mm)
    size = rng.random() if rng.random() < settings.small_offsets else 1.0
    from_radiological = rng.random() < settings.from_radiological

    def moved(start: np.ndarray, rotation_deg: Axes, translation_mm: Axes, size: float) -> np.ndarray:
        turn = pose.euler_deg_to_rotation(rng.uniform(-1, 1, 3) * rotation_deg * size)
        return np.asarray(pose.offset_about(start, centre_mm, turn, rng.uniform(-1, 1, 3) * translation_mm * size))

    if from_radiological:
        return radiological, moved(radiological, settings.rotation_deg, settings.translation_mm, size)
    truth = moved(radiological, settings.truth_rotation_deg, settings.truth_translation_mm, 1.0)
    return moved(truth, settings.rotation_deg, settings.translation_mm, size), truth


def _draw_dsa(
    pieces: int, rng: np.random.Generator, settings: SamplingSettings, network: NetworkSettings
) -> dict[str, Array]:
    """What `Draws` holds of the DSA's mask."""
    injection = int(rng.choice(3, p=INJECTED))
    faintest = rng.uniform(*settings.faintest) * rng.uniform(0.3, 1)
    lost = rng.random(pieces) < rng.uniform(0, settings.missing)
    late = rng.random(pieces) < rng.uniform(0, settings.late_arteries)
    width = rng.uniform(*settings.width)
    capped = rng.random() < 0.5
    strength = rng.uniform(*settings.strength)
    noise, level = np.zeros((NOISE, NOISE), dtype=np.float32), NO_PATCHES
    if rng.random() < settings.patches:
        noise = rng.random((NOISE, NOISE), dtype=np.float32)
        level = rng.uniform(0.1, 0.45)
    row, column, value = _no_marks(settings, network)
    for mark in range(rng.integers(0, settings.false_marks + 1)):
        row[mark], column[mark], value[mark] = _draw_mark(network.rows, rng)
    return {
        "injection": injection,
        "faintest": faintest,
        "dsa_lost": lost,
        "dsa_late": late,
        "width": width,
        "capped": capped,
        "strength": strength,
        "noise": noise,
        "level": level,
        "mark_row": row,
        "mark_column": column,
        "mark_value": value,
    }


def _no_dsa(pieces: int, settings: SamplingSettings, network: NetworkSettings) -> dict[str, Array]:
    """As `_draw_dsa`, where nothing of it counts."""
    row, column, value = _no_marks(settings, network)
    return {
        **{name: np.zeros(pieces, dtype=bool) for name in ("dsa_lost", "dsa_late")},
        **{name: 0.0 for name in ("faintest", "width", "strength")},
        "injection": 0,
        "capped": False,
        "noise": np.zeros((NOISE, NOISE), dtype=np.float32),
        "level": NO_PATCHES,
        "mark_row": row,
        "mark_column": column,
        "mark_value": value,
    }


def mark_pixels(rows: int) -> int:
    """How many pixels a mark has at most in an image of so many rows."""
    return max(int(LONGEST_MARK * rows), int(0.08 * rows + 2))


def _no_marks(settings: SamplingSettings, network: NetworkSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (settings.false_marks, mark_pixels(network.rows))
    row, column = (np.full(shape, -1, dtype=np.int64) for _ in range(2))
    return row, column, np.zeros(shape[0], dtype=np.float32)


def _draw_mark(rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A short arc that is no vessel: residue of bone, an edge of the collimator, a catheter."""
    long = rng.random() < LONG_MARKS
    n = int(rng.uniform(0.15, LONGEST_MARK) * rows) if long else int(rng.uniform(1, 0.08 * rows + 2))
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 2.0 / rows)
    turned = angle + bend * np.arange(n)
    row, column = (np.full(mark_pixels(rows), -1, dtype=np.int64) for _ in range(2))
    row[:n] = rng.uniform(0, rows) + np.cumsum(np.sin(turned))
    column[:n] = rng.uniform(0, rows) + np.cumsum(np.cos(turned))
    return row, column, rng.uniform(0.3, 1)


def _draw_field(view: CArm, rng: np.random.Generator, settings: SamplingSettings) -> np.ndarray:
    """(2, 2): from and to where the detector saw, rows and columns, mm from the middle; collimated at some edges."""
    sides = rng.uniform(*settings.field_mm, 2) if rng.random() < 0.3 else np.repeat(rng.uniform(*settings.field_mm), 2)

    def along(side: float) -> tuple[float, float]:
        low, high = rng.uniform(0, 0.08, 2) * (rng.random(2) < 0.4) * side
        return -side / 2 + low, side / 2 - high

    return np.array([along(sides[0]), along(sides[1])])


@lru_cache(maxsize=4)
def smoothing(rows: int) -> np.ndarray:
    """(rows, NOISE): what makes smooth noise of `rows` px out of NOISE cells along one axis, by cubic splines."""
    whole = ndimage.zoom(np.eye(NOISE, dtype=np.float64), (1, rows / NOISE), order=3, mode="nearest", grid_mode=True)
    return np.ascontiguousarray(whole[:, :rows].T)
