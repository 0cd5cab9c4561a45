"""One DSA run of a phantom: which vessels fill and when, what moves, what the detector makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.phantom.centrelines import EXTERNAL, TERRITORIES, VERTEBROBASILAR, Centrelines
from DeepIterRegLib.phantom.settings import Injection, RunSettings
from DeepIterRegLib.phantom.xray import Chords, Tubes, blurred, line_integrals, tube_chords, tubes, upsampled

BITS_STORED = 12
BEHIND_HEAD = 900.0  # detector value behind the middle of the head
CATHETER_PER_MM = 0.05


@dataclass(frozen=True)
class Run:
    """A DSA run as the detector gives it.

    Attributes
    ----------
    frames : (t, row, column) uint16
        Proportional to intensity: bone and vessels dark, not subtracted; 12 bits.
    carm : CArm
    frame_times_s : (t,)
    mask_frames : tuple of int
        Frames before contrast.
    injection : str
        Which territory received contrast.
    filling : Filling
    motion : (t, 4, 4)
        Head motion in the C-arm frame relative to the truth pose; identity at peak arterial contrast.
    """

    frames: np.ndarray
    carm: CArm
    frame_times_s: np.ndarray
    mask_frames: tuple[int, ...]
    injection: Injection
    filling: Filling
    motion: np.ndarray


@dataclass(frozen=True)
class Filling:
    """Contrast in every node of `Centrelines`.

    Attributes
    ----------
    arrival_s : (N,)
        Seconds from the injection; meaningless where `strength` is 0.
    strength : (N,)
        Peak concentration relative to undiluted arterial contrast.
    rise_s : (N,)
        Arrival to peak.
    """

    arrival_s: np.ndarray
    strength: np.ndarray
    rise_s: np.ndarray

    def at(self, time_s: float) -> np.ndarray:
        """(N,) concentration `time_s` after the injection: gamma variate."""
        return self.strength * gamma_variate((time_s - self.arrival_s) / self.rise_s)


def gamma_variate(x: np.ndarray, sharpness: float = 2.5) -> np.ndarray:
    """Bolus curve: 0 before x = 0, 1 at x = 1, then washing out."""
    x = np.maximum(x, 0.0)
    return np.asarray(x**sharpness * np.exp(sharpness * (1 - x)))


# -- filling -------------------------------------------------------------------------------------------


def fill(
    vessels: Centrelines, injection: Injection, occluded: np.ndarray, rng: np.random.Generator, settings: RunSettings
) -> Filling:
    """Arteries of the injected territory by path length, then the veins that drain them, mixed with unopacified blood."""
    count = len(vessels.parent)
    path = vessels.from_root(vessels.length_mm / (120.0 + 120.0 * vessels.radius_mm))
    if injection == "everything":
        filled = np.ones(count, dtype=bool)
        tip_path = 0.0
    else:
        filled = vessels.territory == TERRITORIES.index(injection)
        start = vessels.named(
            "vertebral" if injection == "vertebrobasilar" else f"{injection.split('_')[0]}_ICA_cervical"
        )
        start &= vessels.points_mm[:, 2] < np.quantile(vessels.points_mm[start, 2], rng.uniform(0.45, 0.7))
        tip_path = float(path[start].max())
        filled &= (path > tip_path - 0.02) & ~vessels.named("other_vertebral")
    filled &= ~vessels.vein
    arrival = np.where(filled, np.maximum(path - tip_path, 0.0), 0.0)
    dilution = rng.uniform(0.5, 0.75) if injection == "vertebrobasilar" else 1.0
    strength = np.where(filled & ~occluded, dilution, 0.0)
    collateral = rng.uniform(0.1, 0.4) if rng.random() < 0.5 else 0.0
    strength[filled & occluded] = collateral * np.minimum(1.0, rng.uniform(0.3, 1.2))
    arrival[filled & occluded] += rng.uniform(1.5, 3.0)
    rise = np.where(occluded, 2.5, rng.uniform(1.2, 2.0))
    return _drain(vessels, Filling(arrival, strength, rise), rng, settings, injection)


def _drain(
    vessels: Centrelines, arterial: Filling, rng: np.random.Generator, settings: RunSettings, injection: Injection
) -> Filling:
    """Each venous tip drains the arterial tips around it; on the way to the heart, flows add up and mix."""
    vein, tip = vessels.vein, vessels.children_count == 0
    artery_tips = np.flatnonzero(tip & ~vein & (vessels.territory != EXTERNAL))
    vein_tips = np.flatnonzero(tip & vein)
    _, nearest = cKDTree(vessels.points_mm[artery_tips]).query(vessels.points_mm[vein_tips], k=4)
    near = artery_tips[nearest]
    weight = np.minimum(arterial.strength[near], 1.0)
    transit = rng.uniform(2.6, 3.8)
    flow, contrast, moment = (np.zeros(len(vein)) for _ in range(3))
    flow[vein_tips] = 1.0
    contrast[vein_tips] = weight.mean(axis=1)
    moment[vein_tips] = (weight * arterial.arrival_s[near]).mean(axis=1) + contrast[vein_tips] * (
        transit + rng.normal(0, 0.5, len(vein_tips))
    )
    sagittal = np.flatnonzero(vessels.named("superior_sagittal"))
    outlet = int(vessels.parent[sagittal[0]])
    ends = [int(np.flatnonzero(vessels.named(f"{side}_transverse"))[-1]) for side in ("left", "right")]
    lesser = next(e for e in ends if e != outlet)
    share = rng.uniform(0.15, 0.4)
    delay = vessels.length_mm / (60.0 + 25.0 * vessels.radius_mm)
    shared = False
    for n in range(len(vein) - 1, -1, -1):
        if not vein[n]:
            continue
        if n in ends and not shared:  # the confluence: part of the sagittal flow goes to the lesser side
            shared = True
            first = sagittal[0]
            given = share * np.array([flow[first], contrast[first], moment[first]])
            for target, sign in ((lesser, 1.0), (outlet, -1.0)):
                flow[target] += sign * given[0]
                contrast[target] += sign * given[1]
                moment[target] += sign * given[2]
        p = vessels.parent[n]
        if p >= 0:
            flow[p] += flow[n]
            contrast[p] += contrast[n]
            moment[p] += moment[n] + contrast[n] * delay[n]
    arrival, strength, rise = arterial.arrival_s.copy(), arterial.strength.copy(), arterial.rise_s.copy()
    opaque = vein & (contrast > 1e-6)
    strength[vein] = 0.0
    strength[opaque] = rng.uniform(*settings.vein_fraction) * contrast[opaque] / flow[opaque]
    if injection == "everything":
        strength[vein] = np.maximum(strength[vein], 0.3)
    arrival[opaque] = moment[opaque] / contrast[opaque]
    rise[vein] = rng.uniform(2.2, 3.2)
    return Filling(arrival, strength, rise)


# -- motion --------------------------------------------------------------------------------------------


def head_motion(
    centre_mm: np.ndarray, frame_count: int, still_frame: int, rng: np.random.Generator, settings: RunSettings
) -> tuple[np.ndarray, np.ndarray]:
    """A few jerks and shifts of the head.

    Returns
    -------
    poses : (P, 4, 4)
        Distinct positions in the C-arm frame, relative to the one at `still_frame`.
    which : (t,)
        Position of each frame.
    """
    moves = int(rng.integers(1, 6))
    when = np.sort(rng.integers(1, max(2, frame_count), moves))
    which = np.searchsorted(when, np.arange(frame_count), side="right")
    steps = rng.normal(size=(moves + 1, 6))
    steps[0] = 0
    course = np.cumsum(steps, axis=0)
    for part, limit in ((slice(0, 3), settings.motion_deg), (slice(3, 6), settings.motion_mm)):
        span = np.linalg.norm(course[:, part], axis=1).max()
        course[:, part] *= limit * rng.uniform(0.2, 1.0) / max(span, 1e-9)
    if settings.motion_deg == 0 and settings.motion_mm == 0:
        return np.eye(4)[None], np.zeros(frame_count, dtype=np.int64)
    eye = np.broadcast_to(np.eye(4), (moves + 1, 4, 4))
    poses = pose.offset_about(
        eye, np.broadcast_to(centre_mm, (moves + 1, 3)), pose.so3_exp(np.radians(course[:, :3])), course[:, 3:]
    )
    relative = poses @ pose.inverse(poses[which[still_frame]])
    used, which = np.unique(which, return_inverse=True)
    return relative[used], which


# -- images --------------------------------------------------------------------------------------------


def make_run(
    vessels: Centrelines,
    attenuation: np.ndarray,
    cta_to_index: np.ndarray,
    carm: CArm,
    cta_to_carm: np.ndarray,
    injection: Injection,
    occluded: np.ndarray,
    rng: np.random.Generator,
    settings: RunSettings,
    hardening: float = 0.0,
) -> Run:
    """Frames of a run.

    Parameters
    ----------
    vessels
        In the CTA's frame.
    attenuation : (x, y, z)
        Of the head without contrast, per mm; `cta_to_index` (4, 4) maps RAS mm of the CTA to its indices.
    cta_to_carm : (4, 4)
        Truth.
    occluded : (N,) bool
        Nodes that the injection cannot reach.
    hardening
        See `SkullSettings`.
    """
    rate, duration = rng.uniform(*settings.frames_per_s), rng.uniform(*settings.duration_s)
    count = max(4, int(rate * duration))
    times = np.arange(count) / rate
    masks = int(rng.integers(settings.mask_frames[0], settings.mask_frames[1] + 1))
    injected_s = (masks - 0.5) / rate
    filling = fill(vessels, injection, occluded, rng, settings)
    artery_per_mm = rng.uniform(*settings.artery_attenuation_per_mm)
    peak = int(np.argmin(np.abs(times - injected_s - 2.2)))
    centre = pose.transform(cta_to_carm, np.median(vessels.points_mm, axis=0)[None])[0]
    poses, which = head_motion(centre, count, peak, rng, settings)

    shapes = tubes(vessels, filling.strength > 0.004)
    tool = _catheter(vessels, injection, rng) if settings.catheter and injection != "everything" else None
    blush_fraction = rng.uniform(*settings.blush_fraction)
    blur = rng.uniform(*settings.detector_blur_px)
    scatter_fraction = rng.uniform(*settings.scatter_fraction)
    photons = rng.uniform(*settings.photons) * carm.pixel_spacing_mm[0] * carm.pixel_spacing_mm[1] / 0.09
    aperture = _aperture(carm, rng, settings)
    noise_seed = int(rng.integers(2**31))
    frames = np.empty((count, carm.rows, carm.columns), np.uint16)
    reference = None
    for p, moved in enumerate(poses):
        placed = moved @ cta_to_carm
        static = line_integrals(attenuation, cta_to_index @ pose.inverse(placed), carm)
        static -= hardening * static**2
        if reference is None:
            head = static[static > 1.0]
            reference = float(np.exp(-(np.median(head) if len(head) else 1.0)))
        if tool is not None:
            static = static + CATHETER_PER_MM * tube_chords(tool, carm, placed).image(
                np.ones(len(tool.node)), carm.rows, carm.columns
            )
        scatter = scatter_fraction * _broad(np.exp(-static), 0.08 * carm.columns)
        chords = tube_chords(shapes, carm, placed)
        for frame in np.flatnonzero(which == p):
            contrast = _contrast(
                vessels,
                filling,
                chords,
                shapes.node,
                times[frame] - injected_s,
                carm,
                placed,
                artery_per_mm,
                blush_fraction,
            )
            primary = blurred(np.exp(-static - contrast), blur)
            expected = (primary + scatter) * aperture / reference
            if photons > 0:
                noise = np.random.default_rng([noise_seed, int(frame)])
                # Normal approximation of Poisson counts, good above 20 photons.
                expected = expected + np.sqrt(np.maximum(expected, 1e-4) / photons) * noise.standard_normal(
                    expected.shape, dtype=np.float32
                )
            counts = np.clip(expected * BEHIND_HEAD + 0.5, 1, (1 << BITS_STORED) - 1).astype(np.uint16)
            frames[frame] = np.where(aperture > 0, counts, 0)
    return Run(frames, carm, times, tuple(range(masks)), injection, filling, poses[which])


def _contrast(
    vessels: Centrelines,
    filling: Filling,
    chords: Chords,
    node: np.ndarray,
    time_s: float,
    carm: CArm,
    placed: np.ndarray,
    artery_per_mm: float,
    blush_fraction: float,
) -> np.ndarray:
    """Line integral of contrast in vessels and, faintly, in the capillary bed around the arterial tips."""
    concentration = filling.at(time_s)
    image = chords.image(artery_per_mm * concentration[node], carm.rows, carm.columns)
    if blush_fraction <= 0:
        return image
    tips = np.flatnonzero((vessels.children_count == 0) & ~vessels.vein & (filling.strength > 0.004))
    blush = filling.strength[tips] * gamma_variate((time_s - filling.arrival_s[tips] - 1.0) / 2.6)
    if blush.max(initial=0.0) < 0.01:
        return image
    px = carm.project(vessels.points_mm[tips], placed) / [carm.columns, carm.rows]
    size = 64
    seen = np.all((px >= 0) & (px < 1), axis=1)
    grid = np.zeros((size, size))
    np.add.at(grid, ((px[seen, 1] * size).astype(int), (px[seen, 0] * size).astype(int)), blush[seen])
    sigma = 10.0 * carm.magnification / (carm.columns * carm.pixel_spacing_mm[1] / size)
    spread = blurred(grid, sigma)
    return image + upsampled(
        spread * (2 * blush_fraction / max(spread.max() / max(blush.max(), 1e-9), 1e-9)), carm.rows, carm.columns
    )


def _broad(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Wide blur of an image, on an eighth of its grid."""
    small = image[4::8, 4::8]
    return upsampled(blurred(small, sigma_px / 8), *image.shape)


def _catheter(vessels: Centrelines, injection: Injection, rng: np.random.Generator) -> Tubes:
    """A 5 to 6 F tube up to the tip of injection, along one wall of the neck artery."""
    name = "vertebral" if injection == "vertebrobasilar" else f"{injection.split('_')[0]}_ICA_cervical"
    nodes = np.flatnonzero(vessels.named(name))
    nodes = nodes[: max(3, int(len(nodes) * rng.uniform(0.4, 0.65)))]
    points = vessels.points_mm[nodes] + rng.normal(0, 0.4, 3)
    line = Centrelines(
        points,
        np.full(len(nodes), rng.uniform(0.8, 1.0)),
        np.arange(-1, len(nodes) - 1, dtype=np.int32),
        np.full(len(nodes), VERTEBROBASILAR, np.int8),
        np.zeros(len(nodes), np.int16),
        ("catheter",),
    )
    return tubes(line, np.ones(len(nodes), dtype=bool))


def _aperture(carm: CArm, rng: np.random.Generator, settings: RunSettings) -> np.ndarray:
    """Transmission of the collimator: straight edges with a penumbra; the electronic shutter blackens what lies beyond."""
    edges = rng.uniform(0, settings.collimated_fraction, 4) * (rng.random(4) < 0.5)

    def across(n: int, low: float, high: float) -> np.ndarray:
        x = np.arange(n, dtype=np.float32)
        penumbra = n / 300
        left = 1 / (1 + np.exp(-(x - low * n) / penumbra)) if low > 0 else np.ones(n, np.float32)
        right = 1 / (1 + np.exp(-((1 - high) * n - x) / penumbra)) if high > 0 else np.ones(n, np.float32)
        return np.asarray(left * right, dtype=np.float32)

    transmission = np.outer(across(carm.rows, edges[0], edges[1]), across(carm.columns, edges[2], edges[3]))
    return np.where(transmission < 0.5, 0.0, transmission).astype(np.float32)
