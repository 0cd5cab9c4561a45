"""Motion of the patient against the mask: found in the edges of bone, and undone in the image.

A motion is a smooth displacement: coefficients (2, 6), px of rows and of columns, over the terms of `resampling.terms`. Patients turn in
space, so bones at different depths shift differently: a plane image motion cannot undo all of it, a second-order one comes near where the
eye looks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from DeepIterRegLib.images.blocks import binned, eroded
from DeepIterRegLib.images.resampling import displacements, resample, residue, terms

# Estimation works on images no larger than this: motion is smooth, and noise averages out.
_ESTIMATION_SIZE_PX = 512
_KEPT_SIZE_PX = 256  # of the frames kept as they were: what the skull is found at, and some megabytes
_PATCH_PX, _PATCH_STRIDE_PX = 64, 48
_LARGEST_LOCAL_SHIFT_PX = 8  # on the estimation grid, after the whole image has been shifted
_STILL_PX = 0.03  # less motion than this is not worth resampling the frame
_WORTHWHILE = 0.97  # interpolation alone smooths noise away; motion must leave clearly less
_CORRELATED = 8  # the whole image is looked for within an eighth of its side
_BORDER_PX, _BORDER_BLUR_PX = 8, 3  # the visible part fades out before its edge, which does not move with the patient
_FINE_PX, _COARSE_PX = 1.0, 6.0  # edges of bone are what lies between these blurs
_STRONG_PERCENT = 90  # of the edges: what is stronger is flattened
# A patch tells its shift if its peak reaches so much of a perfect match, and it has edges at all.
_CLEAR, _CLEAR_ENERGY = 0.4, 0.1
_MIN_PATCHES, _PATCHES_A_TERM = 8, 3
_ROUNDS, _OUTLIER_PX = 6, 0.3  # of reweighting; an error that halves a patch's weight
_RIDGE = 0.1  # against motion where nothing shows it: edges may line only one side of the image
_MAX_RESIDUE = 0.5  # of a pixel: vessels, which belong to one image alone, count no more
_RESIDUE_STEP = 4  # rows: a quarter of the pixels tells motions apart as well
_PLACES = 16  # px between the places at which displacements are asked for
_THREADS = 4  # more wait for memory


class Motion(NamedTuple):
    """Motion of the patient against the mask, frame by frame, px.

    Attributes
    ----------
    undone : (t,)
        Largest displacement undone in the visible image.
    left : (t,)
        Median over patches with clear edges of how far they still are from where the mask has them: what turning in space
        and swallowing leave, and the estimate's own error (about 0.05 px without motion).
    fields : (t, 2, 6)
        Displacements undone, as `resampling.displacements` takes them: from where the mask has the head to where the frame had it.
    before : (t, r, c) float32
        The frames as they were, in blocks of pixels (`blocks.binned`), for what looks at the head in each.
    """

    undone: np.ndarray
    left: np.ndarray
    fields: np.ndarray
    before: np.ndarray


def undo_motion(
    frames: np.ndarray, mask: np.ndarray, valid: np.ndarray, on_progress: Callable[[float], None] | None = None
) -> Motion:
    """Bring every frame onto the mask, in place; so vessels of all frames and the mask's head agree.

    A translation of the whole image by correlation, then affine and second-order motions fitted robustly to the
    shifts of patches; of these the one is taken that leaves least of the bone behind, if it is clearly less.

    Parameters
    ----------
    frames : (t, row, column) float32
        Overwritten.
    mask : (row, column)
    valid : (row, column) bool
    on_progress
        Told the part of the frames that are done.
    """
    factor = max(1, -(-max(mask.shape) // _ESTIMATION_SIZE_PX))
    seen = binned(valid.astype(np.float32), factor) > 0.99
    weight = ndimage.gaussian_filter(eroded(seen, _BORDER_PX).astype(np.float32), _BORDER_BLUR_PX)
    reference = _Reference.of(_texture(binned(mask, factor), weight))

    def field_of(frame: np.ndarray) -> tuple[np.ndarray, float]:
        field, left = _estimate(reference, _texture(binned(frame, factor), weight))
        return factor * field, factor * left

    kept = max(1, -(-max(mask.shape) // _KEPT_SIZE_PX))
    before = np.stack([binned(frame, kept) for frame in frames])
    # A shutter's black must not leak into the picture: interpolation reaches two pixels.
    usable = valid if valid.all() else ndimage.distance_transform_cdt(valid, metric="chessboard") > 2
    places = np.argwhere(valid[::_PLACES, ::_PLACES]) * _PLACES

    def undone(index: int) -> tuple[float, float, np.ndarray]:
        field, left = field_of(frames[index])
        moved = float(np.abs(displacements(field, places, valid.shape)).max(initial=0))
        if moved <= _STILL_PX:
            return 0.0, left, np.zeros_like(field)
        resample(frames[index].copy(), field, usable, mask, frames[index])
        return moved, left, field

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        found = []
        for one in pool.map(undone, range(len(frames))):
            found.append(one)
            if on_progress is not None:
                on_progress(len(found) / len(frames))
    motion, left, fields = zip(*found, strict=True)
    return Motion(np.array(motion), np.array(left), np.array(fields), before)


def _texture(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Edges of bone, the strongest flattened so that none decides alone, times `weight` (0 outside the visible part)."""
    fine, coarse = (
        ndimage.gaussian_filter(image, _FINE_PX, truncate=3),
        ndimage.gaussian_filter(image, _COARSE_PX, truncate=2.5),
    )
    band = fine - coarse
    inside = np.abs(band[::2, ::2][weight[::2, ::2] > 0.5])
    scale = float(np.percentile(inside, _STRONG_PERCENT)) if inside.size else 1.0
    return (np.tanh(band / max(scale, 1e-9)) * weight).astype(np.float32)


class _Reference(NamedTuple):
    """The mask's texture, with what every frame is compared with: its spectrum, its patches' centres (n, 2), energies (n,), spectra."""

    image: np.ndarray
    spectrum: np.ndarray
    places: np.ndarray
    energies: np.ndarray
    spectra: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> _Reference:
        half = _PATCH_PX // 2
        centres = [
            np.arange(half, n - half + 1, _PATCH_STRIDE_PX) + (n - 2 * half) % _PATCH_STRIDE_PX // 2
            for n in image.shape
        ]
        places = np.array([(r, c) for r in centres[0] for c in centres[1]]).reshape(-1, 2)
        patches = _cut_out(image, places)
        energies = (patches**2).sum(axis=(1, 2))
        return cls(image, fft.rfft2(image).conj(), places, energies, fft.rfft2(patches).conj())


def _cut_out(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Patches (n, `_PATCH_PX`, `_PATCH_PX`) about places (n, 2), fading out towards their rims."""
    half = _PATCH_PX // 2
    window = (np.hanning(_PATCH_PX)[:, None] * np.hanning(_PATCH_PX)).astype(np.float32)
    patches = [image[r - half : r + half, c - half : c + half] for r, c in places]
    return np.array(patches, dtype=np.float32).reshape(-1, _PATCH_PX, _PATCH_PX) * window


def _estimate(reference: _Reference, moving: np.ndarray) -> tuple[np.ndarray, float]:
    """Motion (2, 6) that leads from positions in `reference` to those in `moving`, and what it leaves; px of the estimation grid."""
    image, shape = reference.image, reference.image.shape
    spectrum = reference.spectrum * fft.rfft2(moving)
    shift, _ = _peaks(fft.irfft2(spectrum, s=shape)[None], max(shape) // _CORRELATED)
    shifted = np.zeros((2, 6))
    shifted[:, 0] = shift[0]
    whole = np.rint(shift[0]).astype(int)
    patches = _patches(reference, np.roll(moving, -whole, axis=(0, 1)))
    patches = patches._replace(shifts=patches.shifts + whole)
    candidates = [np.zeros((2, 6)), shifted, *_fit_patches(patches, whole, shape)]
    residues = [residue(moving, field, image, _MAX_RESIDUE, _RESIDUE_STEP) for field in candidates]
    best = int(np.argmin(residues))
    field = candidates[best] if residues[best] < _WORTHWHILE * residues[0] else candidates[0]
    if not len(patches.places):
        return field, 0.0
    off = patches.shifts - displacements(field, patches.places, shape)
    return field, float(np.median(np.linalg.norm(off, axis=1)))


class _Patches(NamedTuple):
    """Patches with clear edges: centres and shifts (n, 2), row and column, px, and how clear each is (n,)."""

    places: np.ndarray
    shifts: np.ndarray
    quality: np.ndarray


def _patches(reference: _Reference, moving: np.ndarray) -> _Patches:
    """Shifts of patches between images that are within `_LARGEST_LOCAL_SHIFT_PX` of each other."""
    places = reference.places
    if len(places) < _MIN_PATCHES:
        return _Patches(places[:0], np.zeros((0, 2)), np.zeros(0))
    patches = _cut_out(moving, places)
    energy = np.sqrt(reference.energies * (patches**2).sum(axis=(1, 2)))
    correlations = fft.irfft2(reference.spectra * fft.rfft2(patches), s=(_PATCH_PX, _PATCH_PX))
    shifts, heights = _peaks(correlations, _LARGEST_LOCAL_SHIFT_PX)
    quality = heights / np.maximum(energy, 1e-9)
    clear = (
        (quality > _CLEAR)
        & (energy > _CLEAR_ENERGY * energy.max())
        & (np.abs(shifts).max(axis=1) < _LARGEST_LOCAL_SHIFT_PX)
    )
    return _Patches(places[clear], shifts[clear], quality[clear])


def _fit_patches(patches: _Patches, whole: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Affine and second-order motions (2, 6) through the shifts of patches, which are near `whole` (2,); none if too few are clear.

    Outliers are weighted down.
    """
    places, shifts, quality = patches.places, patches.shifts - whole, patches.quality
    fields = []
    for count in (3, 6):  # terms of an affine and of a second-order motion
        if len(places) < _PATCHES_A_TERM * count:
            break
        design = terms(places, shape)[:, :count]
        weight = quality
        solution = np.zeros((count, 2))
        for _ in range(_ROUNDS):  # iteratively reweighted least squares, Cauchy weights
            w = np.sqrt(weight)[:, None]
            ridge = np.diag([0.0] + [_RIDGE] * (count - 1))
            solution = np.linalg.lstsq(
                np.vstack([design * w, ridge]), np.vstack([shifts * w, np.zeros((count, 2))]), rcond=None
            )[0]
            error = np.linalg.norm(design @ solution - shifts, axis=1)
            weight = quality / (1 + (error / _OUTLIER_PX) ** 2)
        field = np.hstack([solution.T, np.zeros((2, 6 - count))])
        field[:, 0] += whole
        fields.append(field)
    return fields


def _peaks(correlations: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Sub-pixel shifts (n, 2) and heights (n,) of the highest peaks within `reach` of no shift, by parabolas."""
    n, rows, columns = correlations.shape
    reach = min(reach, rows // 2 - 1, columns // 2 - 1)
    take = np.arange(-reach - 1, reach + 2)
    window = correlations[:, take[:, None] % rows, take[None, :] % columns]
    inner = window[:, 1:-1, 1:-1].reshape(n, -1)
    best = inner.argmax(axis=1)
    r, c = best // (2 * reach + 1) + 1, best % (2 * reach + 1) + 1
    i = np.arange(n)
    top = window[i, r, c]

    def vertex(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        curvature = before - 2 * top + after
        return np.where(curvature < 0, 0.5 * (before - after) / np.minimum(curvature, -1e-12), 0.0).clip(-0.5, 0.5)

    dr, dc = vertex(window[i, r - 1, c], window[i, r + 1, c]), vertex(window[i, r, c - 1], window[i, r, c + 1])
    return np.column_stack([take[r] + dr, take[c] + dc]).astype(np.float64), top
