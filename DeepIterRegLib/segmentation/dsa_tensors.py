"""The steps of `segment_dsa` on a card, by torch's operations; those on the CPU, `dsa_cpu`, have the same names.

The run stays on the card; single images come back. The formulas are those of `dsa_cpu`, `bolus` and `ridges`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.segmentation import bolus
from DeepIterRegLib.segmentation.dsa_cpu import (
    BACKGROUND_CELLS,
    BACKGROUND_SIGMA,
    EVEN,
    FLICKER_FRAMES,
    LEAST_SEEN,
    LONG_FRAMES,
)
from DeepIterRegLib.segmentation.ridges import gaussian_kernel

_ROWS, _COLUMNS = -2, -1


def held(frames: np.ndarray, device: str) -> Tensor:
    """Frames (t, row, column) float32 on the card."""
    return torch.tensor(np.asarray(frames, dtype=np.float32), device=device)


def minip_of(frames: Tensor, valid: np.ndarray) -> np.ndarray:
    """As `dsa_cpu.minip_of`, (row, column) of frames (t, row, column)."""
    count = len(frames)
    if count < FLICKER_FRAMES:
        lowest = frames.amin(dim=0)
    else:
        lowest = frames[0].clone()
        for n in range(count - 2):
            a, b, c = frames[n], frames[n + 1], frames[n + 2]
            typical = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
            torch.minimum(lowest, typical, out=lowest)
        if count < LONG_FRAMES:
            torch.minimum(lowest, frames[-1], out=lowest)
    inside = torch.tensor(valid, device=frames.device)
    seen = lowest[inside].sort().values
    middle = (seen[(len(seen) - 1) // 2] + seen[len(seen) // 2]) / 2
    return torch.where(inside, lowest - middle, 0).cpu().numpy()


def shrunk(images: Tensor, factor: int) -> Tensor:
    """As `dsa_cpu.shrunk`, of images (t, row, column)."""
    rows, columns = images.shape[1:]
    return _binned(_edged(_edged(images, 0, -rows % factor, _ROWS), 0, -columns % factor, _COLUMNS), factor)


def at_most(images: Tensor, groups: list[slice]) -> Tensor:
    """As `dsa_cpu.at_most`, of images (t, row, column)."""
    return images if len(groups) == len(images) else torch.stack([images[group].mean(dim=0) for group in groups])


def contrast_of(frames: Tensor, valid: np.ndarray, background_px: float) -> Tensor:
    """As `dsa_cpu.contrast_of`, (t, row, column) of frames (t, row, column)."""
    step = max(1, round(background_px / BACKGROUND_CELLS))
    blur = gaussian_kernel(BACKGROUND_SIGMA)
    weight = torch.tensor(valid, device=frames.device).to(torch.float32)[None]
    rows, columns = valid.shape
    padding = (0, -columns % step, 0, -rows % step)
    filled = _binned(torch.nn.functional.pad(torch.ones_like(weight), padding), step)

    def smooth(images: Tensor) -> Tensor:
        cells = _binned(torch.nn.functional.pad(images, padding), step) / filled
        return _separable(cells, blur, blur)

    seen = smooth(weight).clamp_min(float(LEAST_SEEN))
    images = -frames * weight
    return (images - _enlarged(smooth(images) / seen, step, valid.shape)) * weight


def largest(contrast: Tensor) -> np.ndarray:
    """As `dsa_cpu.largest`, (row, column)."""
    return torch.maximum(contrast.amax(dim=0), -contrast.amin(dim=0)).cpu().numpy()


def is_even(contrast: Tensor, images: Tensor, inside: np.ndarray) -> bool:
    """As `dsa_cpu.is_even`."""
    spread = float(contrast[:, torch.tensor(inside, device=contrast.device)].std(correction=0))
    return spread <= EVEN * max(1.0, float(images.abs().max()))


def noise_of(contrast: Tensor, inside: np.ndarray) -> np.ndarray:
    """As `bolus.noise_of`, (row, column)."""
    if len(contrast) < bolus.FEW_FRAMES:
        return bolus.noise_of(contrast.cpu().numpy(), inside)
    step = bolus.step_of_differences(len(contrast))
    typical = (contrast[1::step] - contrast[:-1:step]).abs().median(dim=0).values  # the lower one
    least = bolus.least_noise(contrast.amax(dim=0).cpu().numpy(), inside)
    return bolus.noise_by_blocks(typical.cpu().numpy(), least)


def follow_bolus(
    contrast: Tensor, images: Tensor, inside: np.ndarray, noise: np.ndarray, times_s: np.ndarray
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """As `bolus.follow_bolus`, three images (row, column), the first on the card."""
    shape = contrast.shape[1:]
    if len(contrast) < bolus.MIN_COURSE:
        strength, trust, arrival_s = bolus.follow_bolus(host(contrast), host(images), inside, noise, times_s)
        return torch.tensor(strength, device=contrast.device), trust, arrival_s
    whitening = _whitening(images, inside, noise)
    matched, half_rise_s = bolus.matched_filters(times_s, whitening)
    courses = torch.tensor(whitening, device=contrast.device) @ contrast.flatten(1)
    answers = torch.tensor(matched, device=contrast.device) @ courses
    answer, best = answers.amax(dim=0).clamp_min(0).view(shape), host(answers.argmax(dim=0).view(shape))
    energy = courses.square().sum(dim=0).view(shape)
    explained, whole = (_window_sums(image) for image in (answer.square(), energy))
    return answer, host((explained / whole.clamp_min(1e-20)).square()), half_rise_s[best]


def ridge_strength(image: Tensor, sigmas_px: tuple[float, ...]) -> np.ndarray:
    """As `ridges.ridge_strength`, (row, column) of an image (row, column)."""
    best = torch.zeros_like(image)
    for sigma in sigmas_px:
        g, d1, d2 = (gaussian_kernel(sigma, order) for order in range(3))
        rr, cc, rc = _separable(image, d2, g), _separable(image, g, d2), _separable(image, d1, d1)
        mean, spread = (rr + cc) / 2, (((rr - cc) / 2).square() + rc.square()).sqrt()
        best = torch.maximum(best, float(np.float32(sigma**2)) * (spread - mean - (mean + spread).abs() / 2))
    return host(best)


def host(image: Tensor) -> np.ndarray:
    """An image (...) of a step as an array."""
    return image.cpu().numpy()


def _whitening(images: Tensor, inside: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """As on the CPU, (t, t) float32."""
    pixels = images[:, torch.tensor(inside, device=images.device)]
    pixels = pixels - pixels.median(dim=1, keepdim=True).values  # the lower one
    sigma = torch.tensor(noise[inside], device=images.device)
    highest, lowest = pixels.amax(dim=0), pixels.amin(dim=0)
    white = (highest > bolus.WHITE_SIGMAS * sigma) & (highest > bolus.WHITE_OVER_DARK * lowest)
    courses = pixels[:, white]
    if courses.shape[1] < bolus.MIN_WHITE_PX:
        return np.eye(len(images), dtype=np.float32)
    energy = courses.square().sum(dim=0)
    scaled = courses / energy.sqrt()
    residue = scaled @ scaled.T / scaled.shape[1]
    return bolus.inverse_root(host(residue), float(energy.median()) / float(sigma[white].square().mean()))


# -- filters -------------------------------------------------------------------------------------------


def _edged(images: Tensor, before: int, after: int, axis: int) -> Tensor:
    """Images (..., row, column) with their first and last line along an axis repeated so often."""
    ends = [-1] * images.dim()
    parts = [images]
    for count, place, at in ((before, 0, 0), (after, 1, images.shape[axis] - 1)):
        if count:
            ends[axis] = count
            parts.insert(place * len(parts), images.narrow(axis, at, 1).expand(ends))
    return torch.cat(parts, dim=axis) if len(parts) > 1 else images


def _correlated(images: Tensor, taps: np.ndarray, axis: int) -> Tensor:
    """Images (..., row, column) float32 correlated with taps (n,) along an axis, edges repeated; summed in float64, as on the CPU."""
    reach, count = len(taps) // 2, images.shape[axis]
    wide = _edged(images, reach, reach, axis).to(torch.float64)
    total = torch.zeros_like(wide.narrow(axis, 0, count))
    for tap, weight in enumerate(taps):
        total.add_(wide.narrow(axis, tap, count), alpha=float(weight))
    return total.to(torch.float32)


def _separable(images: Tensor, down: np.ndarray, along: np.ndarray) -> Tensor:
    return _correlated(_correlated(images, down, _ROWS), along, _COLUMNS)


def _window_sums(image: Tensor) -> Tensor:
    """Sums (row, column) in a window about each pixel; outside of the image is 0."""
    reach, window = bolus.TRUST_PX // 2, np.ones(bolus.TRUST_PX)
    sums = _separable(torch.nn.functional.pad(image, (reach,) * 4), window, window)
    return sums[reach:-reach, reach:-reach]


def _binned(images: Tensor, factor: int) -> Tensor:
    """As `blocks.binned`, of images (t, row, column) that blocks fill."""
    parts = [images[:, i::factor, j::factor] for i in range(factor) for j in range(factor)]
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total / (factor * factor)


def _enlarged(images: Tensor, factor: int, shape: tuple[int, ...]) -> Tensor:
    """As `ridges.enlarged`, of images (t, row, column)."""
    for axis, count in ((_COLUMNS, shape[1]), (_ROWS, shape[0])):
        last = images.shape[axis] - 1
        place = ((torch.arange(count, dtype=torch.float64, device=images.device) + 0.5) / factor - 0.5).clamp(0, last)
        low = place.to(torch.int64)
        share = (place - low).to(torch.float32)
        share = share if axis == _COLUMNS else share[:, None]
        high = (low + 1).clamp_max(last)
        images = images.index_select(axis, low) * (1 - share) + images.index_select(axis, high) * share
    return images
