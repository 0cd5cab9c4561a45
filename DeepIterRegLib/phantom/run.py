"""One DSA run of a phantom: which vessels fill and when, what moves, what the detector makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.phantom.centrelines import VERTEBROBASILAR, Centrelines
from DeepIterRegLib.phantom.filling import Filling, fill, gamma_variate
from DeepIterRegLib.phantom.settings import Injection, RunSettings
from DeepIterRegLib.phantom.tubes import Chords, Tubes, tube_chords, tubes
from DeepIterRegLib.phantom.xray import blurred, line_integrals, upsampled

BITS_STORED = 12  # as XA files usually have
BEHIND_HEAD = 900.0  # detector value behind the middle of the head: air, about 15 times brighter, saturates
CATHETER_PER_MM = 0.05  # radiopaque plastic: between soft tissue and contrast
PHOTON_PIXEL_MM2 = 0.09  # of the pixel that `RunSettings.photons` reach
_MIN_FRAMES = 4
_ARTERIAL_PEAK_S = 2.2  # after the injection arteries are fullest: there the head lies at the true pose
_UNSEEN_STRENGTH = 0.004  # contrast below this is lost in quantum noise; its tubes are not drawn
_HEAD_INTEGRAL = 1.0  # line integrals above this are of the head, below it of air and skin
_SCATTER_SIGMA = 0.08  # of the image's width: scatter is spread over some cm

# Capillary blush: contrast that has left the arterial tips, spread over this much tissue, later and longer than in arteries.
_BLUSH_DELAY_S, _BLUSH_RISE_S, _BLUSH_SIGMA_MM = 1.0, 2.6, 10.0
_BLUSH_CELLS = 64  # along each side of the grid on which it is spread
_FAINTEST_BLUSH = 0.01

# Motion: one to five moves, each at a frame; the largest distance from the start is a fifth to all of what the settings allow.
_MOVES, _MOTION_SHARE = (1, 6), (0.2, 1.0)
_CATHETER_RADIUS_MM = (0.8, 1.0)  # 5 to 6 F
_CATHETER_SHARE = (0.4, 0.65)  # of the neck artery that it lies in
_OFF_AXIS_MM = 0.4
_PENUMBRAS = 300  # a collimator edge is blurred over the image's side divided by this
_COLLIMATED_SHARE = 0.5  # edges that a collimator's blade is seen at


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


# -- motion --------------------------------------------------------------------------------------------


def head_motion(
    centre_mm: np.ndarray, frame_count: int, still_frame: int, rng: np.random.Generator, settings: RunSettings
) -> tuple[np.ndarray, np.ndarray]:
    """A few jerks and shifts of the head about a centre (3,), C-arm RAS mm.

    Returns
    -------
    poses : (P, 4, 4)
        Distinct positions in the C-arm frame, relative to the one at `still_frame`.
    which : (t,)
        Position of each frame.
    """
    moves = int(rng.integers(*_MOVES))
    when = np.sort(rng.integers(1, max(2, frame_count), moves))
    which = np.searchsorted(when, np.arange(frame_count), side="right")
    steps = rng.normal(size=(moves + 1, 6))
    steps[0] = 0
    course = np.cumsum(steps, axis=0)
    for part, limit in ((slice(0, 3), settings.motion_deg), (slice(3, 6), settings.motion_mm)):
        span = np.linalg.norm(course[:, part], axis=1).max()
        course[:, part] *= limit * rng.uniform(*_MOTION_SHARE) / max(span, 1e-9)
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
    on_progress: Callable[[float], None] = lambda done: None,
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
    on_progress
        Told the part of the frames that are made.
    """
    rate, duration = rng.uniform(*settings.frames_per_s), rng.uniform(*settings.duration_s)
    count = max(_MIN_FRAMES, int(rate * duration))
    times = np.arange(count) / rate
    masks = int(rng.integers(settings.mask_frames[0], settings.mask_frames[1] + 1))
    injected_s = (masks - 0.5) / rate
    filling = fill(vessels, injection, occluded, rng, settings)
    artery_per_mm = rng.uniform(*settings.artery_attenuation_per_mm)
    peak = int(np.argmin(np.abs(times - injected_s - _ARTERIAL_PEAK_S)))
    centre = pose.transform(cta_to_carm, np.median(vessels.points_mm, axis=0)[None])[0]
    poses, which = head_motion(centre, count, peak, rng, settings)

    shapes = tubes(vessels, filling.strength > _UNSEEN_STRENGTH)
    tool = _catheter(vessels, injection, rng) if settings.catheter and injection != "everything" else None
    contrast = _Contrast(vessels, filling, shapes.node, artery_per_mm, rng.uniform(*settings.blush_fraction))
    detector = _detector(carm, rng, settings)
    frames = np.empty((count, carm.rows, carm.columns), np.uint16)
    reference, made = None, 0
    for p, moved in enumerate(poses):
        placed = moved @ cta_to_carm
        static = line_integrals(attenuation, cta_to_index @ pose.inverse(placed), carm)
        static -= hardening * static**2
        if reference is None:
            # Exposure is set by the head alone: a catheter does not change it, nor does the head's motion.
            reference = _behind_head(static)
        if tool is not None:
            length = tube_chords(tool, carm, placed).image(np.ones(len(tool.node)), carm.rows, carm.columns)
            static = static + CATHETER_PER_MM * length
        scatter = detector.scatter_fraction * _broad(np.exp(-static), _SCATTER_SIGMA * carm.columns)
        chords = tube_chords(shapes, carm, placed)
        for frame in np.flatnonzero(which == p):
            opaque = contrast.image(times[frame] - injected_s, chords, carm, placed)
            frames[frame] = detector.values(int(frame), static + opaque, scatter, reference)
            made += 1
            on_progress(made / count)
    return Run(frames, carm, times, tuple(range(masks)), injection, filling, poses[which])


def _behind_head(static: np.ndarray) -> float:
    """Share of the beam that passes the middle of the head, from line integrals (row, column)."""
    head = static[static > _HEAD_INTEGRAL]
    return float(np.exp(-(np.median(head) if len(head) else _HEAD_INTEGRAL)))


@dataclass(frozen=True)
class _Detector:
    """What the detector makes of a beam; `aperture` (row, column) is the collimator's transmission."""

    blur_px: float
    scatter_fraction: float
    photons: float
    aperture: np.ndarray
    noise_seed: int

    def values(self, frame: int, integral: np.ndarray, scatter: np.ndarray, reference: float) -> np.ndarray:
        """Grey values (row, column) uint16 of a frame, from line integrals and scattered radiation (row, column)."""
        primary = blurred(np.exp(-integral), self.blur_px)
        expected = (primary + scatter) * self.aperture / reference
        if self.photons > 0:
            noise = np.random.default_rng([self.noise_seed, frame])
            # Normal approximation of Poisson counts, good above 20 photons.
            expected = expected + np.sqrt(np.maximum(expected, 1e-4) / self.photons) * noise.standard_normal(
                expected.shape, dtype=np.float32
            )
        counts = np.clip(expected * BEHIND_HEAD + 0.5, 1, (1 << BITS_STORED) - 1).astype(np.uint16)
        return np.where(self.aperture > 0, counts, 0)


def _detector(carm: CArm, rng: np.random.Generator, settings: RunSettings) -> _Detector:
    blur_px = rng.uniform(*settings.detector_blur_px)
    scatter_fraction = rng.uniform(*settings.scatter_fraction)
    photons = rng.uniform(*settings.photons) * carm.pixel_spacing_mm[0] * carm.pixel_spacing_mm[1] / PHOTON_PIXEL_MM2
    aperture = _aperture(carm, rng, settings)
    return _Detector(blur_px, scatter_fraction, photons, aperture, int(rng.integers(2**31)))


@dataclass(frozen=True)
class _Contrast:
    """Contrast of a run; `node` (M,) is the node of each tube that is drawn."""

    vessels: Centrelines
    filling: Filling
    node: np.ndarray
    artery_per_mm: float
    blush_fraction: float

    def image(self, time_s: float, chords: Chords, carm: CArm, placed: np.ndarray) -> np.ndarray:
        """Line integral (row, column) in vessels and, faintly, in the capillary bed around the arterial tips, at a pose (4, 4)."""
        vessels, filling = self.vessels, self.filling
        concentration = filling.at(time_s)
        image = chords.image(self.artery_per_mm * concentration[self.node], carm.rows, carm.columns)
        if self.blush_fraction <= 0:
            return image
        tips = np.flatnonzero((vessels.children_count == 0) & ~vessels.vein & (filling.strength > _UNSEEN_STRENGTH))
        since_s = time_s - filling.arrival_s[tips] - _BLUSH_DELAY_S
        blush = filling.strength[tips] * gamma_variate(since_s / _BLUSH_RISE_S)
        if blush.max(initial=0.0) < _FAINTEST_BLUSH:
            return image
        px = carm.project(vessels.points_mm[tips], placed) / [carm.columns, carm.rows]
        seen = np.all((px >= 0) & (px < 1), axis=1)
        cell = (px[seen] * _BLUSH_CELLS).astype(int)
        grid = np.zeros((_BLUSH_CELLS, _BLUSH_CELLS))
        np.add.at(grid, (cell[:, 1], cell[:, 0]), blush[seen])
        sigma = _BLUSH_SIGMA_MM * carm.magnification / (carm.columns * carm.pixel_spacing_mm[1] / _BLUSH_CELLS)
        spread = blurred(grid, sigma)
        # The brightest place of the blush is to be `blush_fraction` of the contrast of two mm of artery.
        scale = 2 * self.blush_fraction / max(spread.max() / max(blush.max(), 1e-9), 1e-9)
        return image + upsampled(spread * scale, carm.rows, carm.columns)


def _broad(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Wide blur of an image, on an eighth of its grid."""
    small = image[4::8, 4::8]  # the middle pixel of each block
    return upsampled(blurred(small, sigma_px / 8), *image.shape)


def _catheter(vessels: Centrelines, injection: Injection, rng: np.random.Generator) -> Tubes:
    """A 5 to 6 F tube up to the tip of injection, along one wall of the neck artery."""
    name = "vertebral" if injection == "vertebrobasilar" else f"{injection.split('_')[0]}_ICA_cervical"
    nodes = np.flatnonzero(vessels.named(name))
    nodes = nodes[: max(3, int(len(nodes) * rng.uniform(*_CATHETER_SHARE)))]
    points = vessels.points_mm[nodes] + rng.normal(0, _OFF_AXIS_MM, 3)
    line = Centrelines(
        points,
        np.full(len(nodes), rng.uniform(*_CATHETER_RADIUS_MM)),
        np.arange(-1, len(nodes) - 1, dtype=np.int32),
        np.full(len(nodes), VERTEBROBASILAR, np.int8),
        np.zeros(len(nodes), np.int16),
        ("catheter",),
    )
    return tubes(line, np.ones(len(nodes), dtype=bool))


def _aperture(carm: CArm, rng: np.random.Generator, settings: RunSettings) -> np.ndarray:
    """Transmission of the collimator: straight edges with a penumbra; the electronic shutter blackens what lies beyond."""
    edges = rng.uniform(0, settings.collimated_fraction, 4) * (rng.random(4) < _COLLIMATED_SHARE)

    def across(n: int, low: float, high: float) -> np.ndarray:
        x = np.arange(n, dtype=np.float32)
        penumbra = n / _PENUMBRAS
        left = 1 / (1 + np.exp(-(x - low * n) / penumbra)) if low > 0 else np.ones(n, np.float32)
        right = 1 / (1 + np.exp(-((1 - high) * n - x) / penumbra)) if high > 0 else np.ones(n, np.float32)
        return np.asarray(left * right, dtype=np.float32)

    transmission = np.outer(across(carm.rows, edges[0], edges[1]), across(carm.columns, edges[2], edges[3]))
    return np.where(transmission < 0.5, 0.0, transmission).astype(np.float32)
