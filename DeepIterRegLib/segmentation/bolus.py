"""Contrast that comes and goes: noise, the courses of a bolus, residue of motion, and arteries and veins by arrival time."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

_MAD = 0.6745  # median of the size of a normal deviate of deviation 1
_LEAST_NOISE = 0.01  # of a strong vessel: saturated air has no noise at all
_STRONG, _EVERY = 0.995, 3  # quantile of the brightest, and every how many pixels are asked for it
_DIFFERENCES = 12  # of successive frames, at most, that tell the noise
_BLOCK_PX = 16  # noise is told apart between so large blocks: its level follows the head's thickness
_TRUST_WITHOUT_COURSE = 1 / 15  # too few frames for a bolus: the ridge alone must rise above the noise
_MIN_COURSE = 6  # frames
_RISES_S = (1.2, 2.0, 3.2)  # arteries to veins
_SHARPNESS = 2.5  # of the gamma variate, as dilution curves have it
_HALF_RISE = 0.42  # of the rise: there such a curve reaches half of its peak
_FIRST_ARRIVAL_S, _ARRIVAL_STEP_S = -2.0, 0.5  # before the first frame: contrast may be there already
_MIN_PEAK = 0.5  # a bolus whose peak lies beyond the run is not told from drift
_TRUST_PX = 5  # side of the window in which the explained share is measured
# Courses that turn white: clearly above noise, and not the rebound of a dark one.
_WHITE_SIGMAS, _WHITE_OVER_DARK, _MIN_WHITE_PX = 5, -1.5, 300
_ALONG_PX = 7  # side of the window in which arrival is evened out: about twice a vessel's width
_BINS = 64
_MIN_CLASS = 0.05  # share of either class of Otsu's


def noise_of(contrast: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Standard deviation (row, column) of one pixel of one frame, locally: from differences in time, or in space where frames are few.

    `contrast` (t, row, column) is positive in vessels; `inside` (row, column) bool.
    """
    strongest = torch.quantile(contrast.amax(dim=0)[inside][::_EVERY], _STRONG)
    least = max(_LEAST_NOISE * float(strongest), 1e-12)
    if len(contrast) < 3:
        sideways = (contrast[:, :, 1:] - contrast[:, :, :-1]).abs()[:, inside[:, 1:] & inside[:, :-1]]
        return torch.full(inside.shape, max(least, float(sideways.median()) / (_MAD * math.sqrt(2))))
    step = max(1, len(contrast) // _DIFFERENCES)
    differences = (contrast[1::step] - contrast[:-1:step]).abs().median(dim=0).values
    block = _BLOCK_PX
    rows, columns = differences.shape
    cells = F.pad(differences[None, None], (0, -columns % block, 0, -rows % block), mode="replicate")
    cells = (
        F.unfold(cells, block, stride=block).median(dim=1).values.reshape(1, 1, -(-rows // block), -(-columns // block))
    )
    cells = F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    local = F.interpolate(cells, scale_factor=block, mode="bilinear", align_corners=False)[0, 0, :rows, :columns] / (
        _MAD * math.sqrt(2)
    )
    return local.clamp(min=least)


def follow_bolus(
    contrast: torch.Tensor, images: torch.Tensor, inside: torch.Tensor, noise: torch.Tensor, times_s: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How strongly each pixel follows a bolus, whatever moved bone does.

    `contrast` (t, row, column) is positive in vessels, its background taken away; `images` (t, row, column) are the frames; `inside`
    (row, column) bool, `noise` (row, column), `times_s` (t,).

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
    if len(contrast) < _MIN_COURSE:
        strength, frame = contrast.clamp(min=0).max(dim=0)
        return strength, torch.full(shape, _TRUST_WITHOUT_COURSE), torch.from_numpy(times_s.astype(np.float32))[frame]
    curves, half_rise_s = _curves(times_s)
    whitening = _whitening(images, inside, noise)
    matched = curves @ whitening.T
    matched = matched / matched.norm(dim=1, keepdim=True)
    courses = whitening @ contrast.reshape(len(contrast), -1)
    strength, best = (matched @ courses).max(dim=0)
    strength = strength.clamp(min=0)
    energy = F.avg_pool2d(
        torch.stack([strength**2, (courses**2).sum(dim=0)]).reshape(2, 1, *shape),
        _TRUST_PX,
        stride=1,
        padding=_TRUST_PX // 2,
    )[:, 0]
    trust = (energy[0] / energy[1].clamp(min=1e-20)) ** 2
    return strength.reshape(shape), trust, half_rise_s[best].reshape(shape)


def _curves(times_s: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Gamma variates (n, t) that reach at least half of their peak during the run, and their half rise (n,) in seconds."""
    curves, half_rise_s = [], []
    for rise in _RISES_S:
        for arrival in np.arange(_FIRST_ARRIVAL_S, times_s[-1], _ARRIVAL_STEP_S):
            x = np.maximum((times_s - arrival) / rise, 0)
            curve = x**_SHARPNESS * np.exp(_SHARPNESS * (1 - x))
            if curve.max() >= _MIN_PEAK:
                curves.append(curve)
                half_rise_s.append(arrival + _HALF_RISE * rise)
    return torch.from_numpy(np.array(curves, dtype=np.float32)), torch.from_numpy(
        np.array(half_rise_s, dtype=np.float32)
    )


def _whitening(images: torch.Tensor, inside: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Square root (t, t) of the inverse of noise + residue covariance, in units of noise."""
    pixels = images[:, inside]
    pixels = pixels - pixels.median(dim=1, keepdim=True).values
    highest, lowest = pixels.amax(dim=0), pixels.amin(dim=0)
    sigma = noise[inside]
    white = (highest > _WHITE_SIGMAS * sigma) & (highest > _WHITE_OVER_DARK * lowest)
    identity = torch.eye(len(images))
    if int(white.sum()) < _MIN_WHITE_PX:
        return identity
    courses = pixels[:, white]
    energy = (courses**2).sum(dim=0)
    scaled = courses / energy.sqrt()
    residue = scaled @ scaled.T / scaled.shape[1]
    ratio = float(energy.median() / (sigma[white] ** 2).mean())
    values, vectors = torch.linalg.eigh(identity + ratio * residue)
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T


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
