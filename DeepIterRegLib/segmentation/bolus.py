"""Contrast that comes and goes: noise, the courses of a bolus, residue of motion, and arteries and veins by arrival time."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.threads import at_once
from DeepIterRegLib.segmentation.ridges import enlarged

_MAD = 0.6745  # median of the size of a normal deviate of deviation 1
_LEAST_NOISE = 0.01  # of a strong vessel: saturated air has no noise at all
_STRONG, _EVERY = 0.995, 3  # quantile of the brightest, and every how many pixels are asked for it
_DIFFERENCES = 12  # of successive frames, at most, that tell the noise
_BLOCK_PX = 16  # noise is told apart between so large blocks: its level follows the head's thickness
TRUST_WITHOUT_COURSE = 1 / 15  # too few frames for a bolus: the ridge alone must rise above the noise
MIN_COURSE = 6  # frames
FEW_FRAMES = 3  # fewer tell no noise by their differences
_RISES_S = (1.2, 2.0, 3.2)  # arteries to veins
_SHARPNESS = 2.5  # of the gamma variate, as dilution curves have it
_HALF_RISE = 0.42  # of the rise: there such a curve reaches half of its peak
_FIRST_ARRIVAL_S, _ARRIVAL_STEP_S = -2.0, 0.5  # before the first frame: contrast may be there already
_MIN_PEAK = 0.5  # a bolus whose peak lies beyond the run is not told from drift
TRUST_PX = 5  # side of the window in which the explained share is measured
# Courses that turn white: clearly above noise, and not the rebound of a dark one.
WHITE_SIGMAS, WHITE_OVER_DARK, MIN_WHITE_PX = 5, -1.5, 300
_ALONG_PX = 7  # side of the window in which arrival is evened out: about twice a vessel's width
_BINS = 64
_PIXELS = 8192  # that are followed at a time
_MIN_CLASS = 0.05  # share of either class of Otsu's


def noise_of(contrast: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Standard deviation (row, column) of one pixel of one frame, locally: from differences in time, or in space where frames are few.

    `contrast` (t, row, column) float32 is positive in vessels; `inside` (row, column) bool.
    """
    least = least_noise(contrast.max(axis=0), inside)
    if len(contrast) < FEW_FRAMES:
        sideways = np.abs(np.diff(contrast, axis=2))[:, inside[:, 1:] & inside[:, :-1]]
        noise = max(least, float(lower_median(sideways.ravel())) / (_MAD * math.sqrt(2)))
        return np.full(inside.shape, noise, dtype=np.float32)
    step = step_of_differences(len(contrast))
    block, (rows, columns) = _BLOCK_PX, inside.shape
    typical = np.empty((rows, columns), dtype=np.float32)
    # A band at a time: of a whole run the differences would fill as much memory as the run.
    for first in range(0, rows, block):
        band = contrast[:, first : first + block]
        later = band[1::step]
        typical[first : first + block] = lower_median(np.abs(later - band[:-1:step]))
    return noise_by_blocks(typical, least)


def least_noise(highest: np.ndarray, inside: np.ndarray) -> float:
    """The least that is taken for noise, from the highest contrast (row, column)."""
    return max(_LEAST_NOISE * float(np.quantile(highest[inside][::_EVERY], _STRONG)), 1e-12)


def step_of_differences(frames: int) -> int:
    """Of how many frames one is compared with the next, so that no more are than are needed."""
    return max(1, frames // _DIFFERENCES)


def noise_by_blocks(typical: np.ndarray, least: float) -> np.ndarray:
    """Noise (row, column) from the typical size of a difference (row, column) and the least noise there is."""
    block, (rows, columns) = _BLOCK_PX, typical.shape
    cells = np.pad(typical, ((0, -rows % block), (0, -columns % block)), mode="edge")
    down, across = cells.shape[0] // block, cells.shape[1] // block
    cells = cells.reshape(down, block, across, block).transpose(1, 3, 0, 2).reshape(block**2, down, across)
    local = enlarged(ndimage.uniform_filter(lower_median(cells), 3, mode="nearest"), block, (rows, columns))
    return np.maximum(local / np.float32(_MAD * math.sqrt(2)), np.float32(least))


def lower_median(values: np.ndarray) -> np.ndarray:
    """Medians (...) over the first axis of values (n, ...): of an even number the lower of the two in the middle."""
    lanes = np.ascontiguousarray(np.moveaxis(values, 0, -1))
    middle = (lanes.shape[-1] - 1) // 2
    lanes.partition(middle, axis=-1)
    return np.asarray(lanes[..., middle])


def follow_bolus(
    contrast: np.ndarray, images: np.ndarray, inside: np.ndarray, noise: np.ndarray, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How strongly each pixel follows a bolus, whatever moved bone does.

    `contrast` (t, row, column) float32 is positive in vessels, its background taken away; `images` (t, row, column) are the frames;
    `inside` (row, column) bool, `noise` (row, column), `times_s` (t,).

    Contrast only darkens, so courses of pixels that turn white are residue of motion. Residue is first order in the few motions of the
    head: all of it shares their courses. The matched filter is therefore whitened by the covariance of the white pixels.

    Returns
    -------
    strength : (row, column)
        Output of the best of the filters, in units of contrast.
    trust : (row, column)
        0..1: share of the (whitened) course that the bolus explains, locally, to the fourth power.
    arrival_s : (row, column)
        Half rise of that bolus.
    """
    shape = contrast.shape[1:]
    if len(contrast) < MIN_COURSE:
        strength = np.maximum(contrast, 0).max(axis=0)
        arrival_s = times_s.astype(np.float32)[np.maximum(contrast, 0).argmax(axis=0)]
        return strength, np.full(shape, TRUST_WITHOUT_COURSE, dtype=np.float32), arrival_s
    whitening = _whitening(images, inside, noise)
    matched, half_rise_s = matched_filters(times_s, whitening)
    pixels = contrast.reshape(len(contrast), -1)
    strength, energy, best = (np.empty(pixels.shape[1], dtype=kind) for kind in (np.float32, np.float32, np.intp))

    def follow(first: int) -> None:
        some = slice(first, first + _PIXELS)
        # The answers of a pixel beside each other: the best of them is found twice as fast.
        courses = pixels[:, some].T @ whitening.T
        answers = courses @ matched.T
        best[some] = answers.argmax(axis=1)
        strength[some] = np.maximum(answers[np.arange(len(answers)), best[some]], 0)
        energy[some] = np.einsum("pt,pt->p", courses, courses)

    # Some at a time: the answers of all filters would else fill several times the memory of the run.
    at_once(*(partial(follow, first) for first in range(0, pixels.shape[1], _PIXELS)))
    explained, whole = (_window_sums(image.reshape(shape)) for image in (strength**2, energy))
    trust = (explained / np.maximum(whole, np.float32(1e-20))) ** 2
    return strength.reshape(shape), trust, half_rise_s[best].reshape(shape)


def matched_filters(times_s: np.ndarray, whitening: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filters (n, t) float32 for whitened courses, each of length 1, and the half rise (n,) of the bolus that each is for, s."""
    curves, half_rise_s = _curves(times_s)
    matched = curves @ whitening.T
    matched /= np.linalg.norm(matched, axis=1, keepdims=True)
    return matched, half_rise_s


def _window_sums(image: np.ndarray) -> np.ndarray:
    """Sums (row, column) in a window about each pixel. No running sums: what they leave beside large values would pass for contrast."""
    window = np.ones(TRUST_PX)
    down = ndimage.correlate1d(image, window, axis=0, mode="constant")
    return np.asarray(ndimage.correlate1d(down, window, axis=1, mode="constant"))


def _curves(times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gamma variates (n, t) that reach at least half of their peak during the run, and their half rise (n,) in seconds; float32."""
    curves, half_rise_s = [], []
    for rise in _RISES_S:
        for arrival in np.arange(_FIRST_ARRIVAL_S, times_s[-1], _ARRIVAL_STEP_S):
            x = np.maximum((times_s - arrival) / rise, 0)
            curve = x**_SHARPNESS * np.exp(_SHARPNESS * (1 - x))
            if curve.max() >= _MIN_PEAK:
                curves.append(curve)
                half_rise_s.append(arrival + _HALF_RISE * rise)
    return np.array(curves, dtype=np.float32), np.array(half_rise_s, dtype=np.float32)


def _whitening(images: np.ndarray, inside: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Square root (t, t) float32 of the inverse of noise + residue covariance, in units of noise."""
    pixels = images[:, inside]
    for frame in pixels:
        frame -= lower_median(frame)
    highest, lowest = pixels.max(axis=0), pixels.min(axis=0)
    sigma = noise[inside]
    white = (highest > WHITE_SIGMAS * sigma) & (highest > WHITE_OVER_DARK * lowest)
    if int(white.sum()) < MIN_WHITE_PX:
        return np.eye(len(images), dtype=np.float32)
    courses = pixels[:, white]
    energy = (courses**2).sum(axis=0)
    scaled = courses / np.sqrt(energy)
    residue = scaled @ scaled.T / np.float32(scaled.shape[1])
    return inverse_root(residue, float(lower_median(energy)) / float((sigma[white] ** 2).mean()))


def inverse_root(residue: np.ndarray, ratio: float) -> np.ndarray:
    """Square root (t, t) of the inverse of noise 1 with so many times the residue's covariance (t, t) float32."""
    values, vectors = np.linalg.eigh(np.eye(len(residue), dtype=np.float32) + np.float32(ratio) * residue)
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def along_vessels(arrival_s: np.ndarray, strength: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Arrival (row, column), s, evened out along vessels (row, column) bool, not-a-number off them.

    Pixels with more `strength` (row, column) count more.
    """
    weight = strength**2 * vessels
    mean = ndimage.uniform_filter(arrival_s * weight, _ALONG_PX) / np.maximum(
        ndimage.uniform_filter(weight, _ALONG_PX), 1e-20
    )
    return np.where(vessels, mean, np.nan).astype(np.float32)


def late_vessels(arrival: np.ndarray, vessels: np.ndarray, min_delay_s: float) -> np.ndarray:
    """Vessels (row, column) bool of the later of two classes of arrival (row, column), s (Otsu 1979); none where they are not apart."""
    values = arrival[vessels]
    edges = np.linspace(values.min(), values.max() + 1e-6, _BINS + 1)
    counts, _ = np.histogram(values, edges)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    mean_below = np.cumsum(counts * centres)[:-1] / np.maximum(below, 1)
    mean_above = ((counts * centres).sum() - np.cumsum(counts * centres)[:-1]) / np.maximum(above, 1)
    share = below / counts.sum()
    between = below * above * (mean_above - mean_below) ** 2 * ((share >= _MIN_CLASS) & (share <= 1 - _MIN_CLASS))
    best = int(np.argmax(between))
    if mean_above[best] - mean_below[best] < min_delay_s:
        return np.zeros_like(vessels)
    return vessels & (np.nan_to_num(arrival) > edges[best + 1])
