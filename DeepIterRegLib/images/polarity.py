"""Whether contrast is dark or bright, from pixels: vessels against edges of bone, noise and blush.

Nothing here knows DICOM. What counts is vessel-like: thin, long, of one sign, and more than noise and displaced
edges of bone explain. Bone that moved leaves a dark edge beside a bright one, and noise leaves specks of both kinds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from DeepIterRegLib.images.blocks import binned, eroded

_SIDE_PX = 512  # of the grid on which vessels are looked for
_BINS = 8  # groups of consecutive frames: their means have less noise, and a bolus passes in several
_SIGMAS_PX = (1.5, 3.0)  # of the ridges: vessels of 1 to 4 mm in the usual fields
_LEAST_VISIBLE = 0.05  # of the image
_BORDER_PX = 6  # of the visible image, whose edges are no vessels
_STRONG_PERCENT = 90  # of the gradients of the mask: edges of bone, which tell how far it still is from its place
_EDGES, _EDGE_REACH_PX = 5.0, 5  # times what that displacement makes of an edge, and how far around it, nothing counts
_NOISES, _NOISE_BLUR_PX, _NOISE_PERCENT = (
    2.0,
    8.0,
    95,
)  # times the noise about, and its strongest part, which vessels are
_TINY = 1e-6  # of the largest difference: images without noise
_MOST = 4.0  # times what does not count: more makes no vessel clearer
_LEAST, _FULL = 0.5, 2.0  # ridges, in these units, that count and that count whole
_PARTNER_SIGMAS, _PARTNER = 4.0, 0.4  # a ridge of the other sign so near and so strong makes it an edge of bone
_LONG = 0.04  # of the grid's side: the shortest thing that is taken for a vessel
_THIN = 0.35  # of the square of its length: the largest area of a long thing
_ENOUGH = 0.08  # of the grid's side: the length of vessels below which nothing is told
_CLEARER = 3.0  # times the other sign's
_FADED = 0.6  # of its peak: contrast that has passed
_BRIGHTEST_PERCENT = 99.5


class Vessels(NamedTuple):
    """Length of what looks like vessels, as a share of the image's side."""

    dark: float
    bright: float


def contrast_sign(differences: np.ndarray, valid: np.ndarray, mask: np.ndarray | None = None) -> int:
    """-1 if vessels are clearly darker than their background, +1 if clearly brighter, 0 if the pixels do not tell.

    Turning `differences` and `mask` round turns the sign, so the grey values need not be logarithms.

    Parameters
    ----------
    differences : (t, row, column)
        Subtracted, with motion undone where a mask tells it; background about 0.
    valid : (row, column) bool
    mask : (row, column), optional
        What was subtracted, in the same unit: what motion leaves of its edges is not counted. Without it some frames must be clear
        by themselves and none may say the opposite: until the patient moves there are no edges.
    """
    images, inside = _unexplained(differences, valid, mask)
    ridges = [_both_ridges(image) for image in images]
    if not ridges:
        return 0
    if mask is None:
        signs = {sign for dark, bright in ridges if (sign := _sign(_lengths(dark, bright, inside)))}
        return signs.pop() if len(signs) == 1 else 0
    dark, bright = (np.max([pair[kind] for pair in ridges], axis=0) for kind in (0, 1))
    return _sign(_lengths(dark, bright, inside))


def _sign(lengths: Vessels) -> int:
    dark, bright = lengths
    if dark > max(_ENOUGH, _CLEARER * bright):
        return -1
    return 1 if bright > max(_ENOUGH, _CLEARER * dark) else 0


def _both_ridges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright ridges (row, column) of any width that stand alone."""
    dark = bright = np.zeros(image.shape, np.float32)
    for sigma in _SIGMAS_PX:
        downs, ups = _ridges(image, sigma)
        dark, bright = np.maximum(dark, _alone(downs, ups, sigma)), np.maximum(bright, _alone(ups, downs, sigma))
    return dark, bright


def _lengths(dark: np.ndarray, bright: np.ndarray, inside: np.ndarray) -> Vessels:
    return Vessels(*(_length(np.where(inside, kind, 0)) / max(inside.shape) for kind in (dark, bright)))


def _unexplained(differences: np.ndarray, valid: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Means of groups of frames (g, row, column) as `_beyond_noise` makes them, and where they count (row, column) bool.

    No image where hardly anything is visible.
    """
    factor = max(1, round(max(valid.shape) / _SIDE_PX))
    seen = binned(valid.astype(np.float32), factor) > 0.99
    inside = eroded(seen, _BORDER_PX)
    if inside.mean() < _LEAST_VISIBLE:
        return np.empty((0, *seen.shape), np.float32), inside
    edges = None if mask is None else _edges(np.where(seen, binned(mask, factor), np.median(mask[valid])))
    groups = np.array_split(np.arange(len(differences)), min(_BINS, len(differences)))
    means = (np.where(seen, binned(np.mean(differences[group], axis=0), factor), 0) for group in groups)
    return np.stack([_beyond_noise(image, seen, inside, edges) for image in means]), inside


def _edges(mask: np.ndarray) -> np.ndarray:
    """How steep an image (row, column) is."""
    return np.hypot(*(ndimage.gaussian_filter(mask, 1.0, order) for order in ((0, 1), (1, 0)))).astype(np.float32)


def _beyond_noise(image: np.ndarray, seen: np.ndarray, inside: np.ndarray, edges: np.ndarray | None) -> np.ndarray:
    """A difference (row, column) in units of what noise and displaced edges explain at each place, less one; 0 where they explain it."""
    fine = (image - ndimage.gaussian_filter(image, 1.0)) ** 2
    fine = ndimage.gaussian_filter(np.minimum(fine, np.percentile(fine[seen], _NOISE_PERCENT)), _NOISE_BLUR_PX)
    share = ndimage.gaussian_filter(seen.astype(np.float32), _NOISE_BLUR_PX)
    explained = _NOISES * np.sqrt(fine / np.maximum(share, 0.1)) + _TINY * float(np.abs(image).max()) + 1e-12
    if edges is not None:
        strong = inside & (edges > np.percentile(edges[inside], _STRONG_PERCENT))
        if strong.any():
            displaced_px = np.median(np.abs(image[strong]) / edges[strong])
            explained += _EDGES * displaced_px * ndimage.maximum_filter(edges, _EDGE_REACH_PX)
    return np.asarray(np.sign(image) * np.clip(np.abs(image) / explained - 1, 0, _MOST), np.float32)


def _ridges(image: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Strength of dark and of bright ridges (row, column), 0 where the blurred image has the other sign."""
    blurred = ndimage.gaussian_filter(image, sigma)
    rr, cc, rc = (sigma**2 * ndimage.gaussian_filter(image, sigma, order) for order in ((2, 0), (0, 2), (1, 1)))
    middle, spread = (rr + cc) / 2, np.sqrt(((rr - cc) / 2) ** 2 + rc**2)
    high, low = middle + spread, middle - spread
    dark = np.where(blurred < 0, high - np.abs(low) / 2, 0)
    bright = np.where(blurred > 0, -low - np.abs(high) / 2, 0)
    return np.maximum(dark, 0).astype(np.float32), np.maximum(bright, 0).astype(np.float32)


def _alone(ridges: np.ndarray, others: np.ndarray, sigma: float) -> np.ndarray:
    """Ridges without those that have one of the other sign beside them."""
    near = ndimage.maximum_filter(others, size=2 * int(_PARTNER_SIGMAS * sigma) + 1)
    return np.where(near < _PARTNER * ridges, ridges, 0).astype(np.float32)


def _length(ridges: np.ndarray) -> float:
    """Sum of the lengths, px, of the long and thin parts of ridges (row, column); faint ones count in part."""
    labels, count = ndimage.label(ridges > _LEAST, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    strengths = np.asarray(ndimage.mean(ridges, labels, numbers)).reshape(-1)
    total = 0.0
    for box, area, strength in zip(ndimage.find_objects(labels), areas, strengths, strict=True):
        length = float(np.hypot(*(side.stop - side.start for side in box)))
        if length > _LONG * max(ridges.shape) and area < _THIN * length**2:
            total += length * min(float(strength) / _FULL, 1.0)
    return total


def rises_and_falls(differences: np.ndarray, valid: np.ndarray, mask: np.ndarray | None = None) -> bool:
    """Whether what is brightest in a run, as `contrast_sign` takes it, fades again.

    What contrast in the first frame leaves behind when it is washed out does not: it stays.
    """
    images, inside = _unexplained(differences, valid, mask)
    if len(images) < 3:
        return False
    courses = np.array([ndimage.gaussian_filter(image, _SIGMAS_PX[0])[inside] for image in images])
    highest = courses.max(axis=0)
    strong = courses[:, highest >= max(np.percentile(highest, _BRIGHTEST_PERCENT), 1e-6)]
    return bool(strong.size and np.median(strong[-1] / strong.max(axis=0)) < _FADED)
