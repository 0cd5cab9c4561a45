"""The backend of the CPU: numba's kernels (`registration.kernels`) and FFTs by SciPy.

Each function hides its kernel's buffers and their layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
from scipy import ndimage
from scipy.fft import fft, ifft, irfft, next_fast_len, rfft, rfft2

from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.compute.drawings import Drawing, SeenDetail, SkullDrawing, VesselDrawing, Window
from DeepIterRegLib.registration.kernels import skull, vessels
from DeepIterRegLib.rendering.cpu_splat import pixel_intrinsics

if TYPE_CHECKING:
    from DeepIterRegLib.registration.skull.targets import SkullTarget
    from DeepIterRegLib.registration.vessels.points import Points
    from DeepIterRegLib.registration.vessels.targets import Target

__all__ = [
    "CpuShiftScores",
    "FftCorrelation",
    "area_means",
    "block_means",
    "draw_skull",
    "draw_vessels",
    "filtered",
    "main_axes",
    "shift_scores",
    "shrunk",
    "skull_changes",
    "skull_products",
    "vessel_products",
]


def area_means(image: np.ndarray, out: np.ndarray) -> None:
    """Means of an image (rows, columns) over each pixel of another grid, written to `out`, float32."""
    in_parts(vessels.area_means, len(out), np.ascontiguousarray(image, dtype=np.float32), out)


def shrunk(images: np.ndarray, part: np.ndarray | None, shape: tuple[int, int], taps: np.ndarray) -> np.ndarray:
    """As `compute.shrunk`, (C, *shape), of images (C, r, c) and a part (r, c)."""
    out = np.empty((len(images), *shape), np.float32)
    for image, means in zip(images, out, strict=True):
        area_means(image if part is None else image * part, means)
    return filtered(out, taps)


def filtered(images: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Images (..., rows, columns) float32 filtered over both by half a symmetric filter (radius + 1,), the centre first. Zero outside."""
    full = np.concatenate([taps[:0:-1], taps])
    for axis in (-2, -1):
        images = ndimage.convolve1d(images, full, axis, mode="constant")
    return images


def main_axes(spread: np.ndarray, out: np.ndarray) -> None:
    """Main axes of symmetric matrices (N, 6: xx, xy, xz, yy, yz, zz), float64, written to `out` (N, 3) float32.

    The square of an axis's length is by how much the largest eigenvalue exceeds the second, relative to the largest.
    """
    in_parts(vessels.main_axes, len(out), spread, out)


def block_means(
    voxels: np.ndarray,
    start: tuple[int, int, int],
    factors: tuple[int, int, int],
    low: np.float32,
    high: np.float32,
    out: np.ndarray,
) -> None:
    """Means of min(voxels, high) - low, at least 0, over blocks of voxels from a first one on, in `out` (K, J, I) float32."""
    in_parts(skull.block_means, len(out), voxels, start, factors, low, high, out)


def vessel_products(
    points: Points, cameras: np.ndarray, centres: np.ndarray, lever_mm: float, target: Target, saturation_mm: float
) -> np.ndarray:
    """As `compute.vessel_products`, (B, 9, 7), for cameras (B, 3, 4) and centres (B, 3)."""
    carm = target.carm
    # A thread takes every n-th pose, so that memory does not grow with their number.
    n_jobs = min(len(cameras), numba.get_num_threads())
    work = np.empty((n_jobs, carm.rows, carm.columns, vessels.CHANNELS * vessels.WIDTH), dtype=np.float32)
    out = np.empty((len(cameras), 9, 7))
    in_parts(
        vessels.products,
        n_jobs,
        points.positions,
        points.tangents,
        points.weights,
        cameras,
        centres,
        np.float32(lever_mm),
        pixel_intrinsics(carm),
        np.float32(target.measure.direction_scale),
        target.image,
        target.valid,
        target.taps,
        np.float32(saturation_mm),
        work,
        work.reshape(*work.shape[:2], -1),
        out,
    )
    return out


def draw_vessels(drawing: VesselDrawing, cameras: np.ndarray, carm: CArm, images: np.ndarray, sums: np.ndarray) -> None:
    """Draw the vessels.

    Parameters
    ----------
    drawing
    cameras : (B, 3, 4) float32
        CTA mm about the points' origin to camera mm.
    carm
        The view whose grid is drawn on; it may be a wider window than the target's.
    images : (B, 3, at least rows, at least columns) float32
        Overwritten.
    sums : (B, 2, rows + 1, columns + 1)
        Running sums of the images, as `kernels.vessels.local_maxima` takes them; overwritten but for the first row and column.
    """
    in_parts(
        vessels.oriented_images,
        len(cameras),
        drawing.points.positions,
        drawing.points.tangents,
        drawing.points.weights,
        cameras,
        pixel_intrinsics(carm),
        drawing.taps,
        np.float32(drawing.saturation_mm),
        np.float32(drawing.direction_scale),
        images,
        sums,
    )


def skull_products(
    points: Points, cameras: np.ndarray, centres: np.ndarray, lever_mm: float, target: SkullTarget, knee_mm: np.float32
) -> np.ndarray:
    """As `compute.skull_products`, (B, 8, 7), for cameras (B, 3, 4) and centres (B, 3)."""
    carm = target.carm
    n_jobs = min(len(cameras), numba.get_num_threads())
    work = np.empty((n_jobs, 2, carm.rows, carm.columns, vessels.WIDTH), dtype=np.float32)
    out = np.empty((len(cameras), 8, 7))
    in_parts(
        skull.gradient_products,
        n_jobs,
        *_splatted(points, cameras, centres, lever_mm, carm),
        target.image,
        target.valid,
        target.taps,
        knee_mm,
        work,
        work.reshape(*work.shape[:3], -1),
        out,
    )
    return out


def _splatted(
    points: Points, cameras: np.ndarray, centres: np.ndarray, lever_mm: float, carm: CArm
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.float32, np.ndarray]:
    """What the skull's kernels splat: the first of their arguments."""
    return points.positions, points.weights, cameras, centres, np.float32(lever_mm), pixel_intrinsics(carm)


def skull_changes(
    points: Points,
    cameras: np.ndarray,
    centres: np.ndarray,
    lever_mm: float,
    carm: CArm,
    taps: np.ndarray,
    seen: SeenDetail,
) -> np.ndarray:
    """How the six parameters of a twist change the detail of the skull's blurred shadow (B, N, 6), as in `skull_products`.

    By the CPU alone: few poses are asked for, and what becomes of them is computed there.
    """
    n_jobs = min(len(cameras), numba.get_num_threads())
    work = np.empty((n_jobs, 2, carm.rows, carm.columns, vessels.WIDTH), dtype=np.float32)
    out = np.empty((len(cameras), len(seen.pixels), 6), np.float32)
    in_parts(
        skull.changes_of_shadow,
        n_jobs,
        *_splatted(points, cameras, centres, lever_mm, carm),
        taps,
        seen.pixels,
        seen.near,
        seen.taps,
        work,
        work.reshape(*work.shape[:3], -1),
        out,
    )
    return out


def draw_skull(drawing: SkullDrawing, cameras: np.ndarray, carm: CArm, images: np.ndarray, sums: np.ndarray) -> None:
    """Gradients (B, 2, at least rows, at least columns) of the skull's shadow at cameras (B, 3, 4).

    `images` and their running `sums` (B, 2, rows + 1, columns + 1) are overwritten.
    """
    in_parts(
        skull.gradient_images,
        len(cameras),
        drawing.points.positions,
        drawing.points.weights,
        cameras,
        pixel_intrinsics(carm),
        drawing.taps,
        drawing.knee_mm,
        images,
        sums,
    )


class FftCorrelation:
    """Sum of products of a target with images in a wider window, for all shifts, by FFT.

    Attributes
    ----------
    images : (batch, channels, rows, columns) float32
        To be drawn into; as large as the transforms like it.
    """

    def __init__(self, target: np.ndarray, wide: CArm, batch: int) -> None:
        """`target` (channels, rows, columns) on the grid of which `wide` is the window."""
        self._shape = (next_fast_len(wide.rows, real=True), next_fast_len(wide.columns, real=True))
        self._shifts = wide.rows - target.shape[1] + 1
        self._spectra = np.conj(rfft2(np.asarray(target, dtype=np.float32), s=self._shape))
        self.images = np.zeros((batch, len(target), *self._shape), dtype=np.float32)

    def products(self, count: int) -> np.ndarray:
        """Products (count, row shifts, columns) with the first images, summed over the channels; the first index is no shift."""
        return self._back(self._multiplied(count).sum(axis=1))

    def lengths(self, count: int) -> np.ndarray:
        """As `products`, of each channel apart: the length of their vector."""
        channels = np.moveaxis(self._multiplied(count), 1, 0)
        return np.asarray(np.sqrt(sum(self._back(channel) ** 2 for channel in channels)))

    def _multiplied(self, count: int) -> np.ndarray:
        """Spectra (count, channels, rows, columns) of the first images times the target's."""
        threads = numba.get_num_threads()
        # By hand and not by `rfft2`: the second transform takes the memory of the first, and of the last only rows that count are made.
        spectra = fft(rfft(self.images[:count], workers=threads), axis=-2, overwrite_x=True, workers=threads)
        spectra *= self._spectra
        return np.asarray(spectra)

    def _back(self, spectra: np.ndarray) -> np.ndarray:
        """Products (count, row shifts, columns) of spectra (count, rows, columns), which are overwritten."""
        threads = numba.get_num_threads()
        rows = ifft(spectra, axis=-2, overwrite_x=True, workers=threads)[:, : self._shifts]
        return np.asarray(irfft(rows, n=self._shape[1], workers=threads))


def shift_scores(drawing: Drawing, window: Window) -> CpuShiftScores:
    """As `compute.shift_scores`."""
    return CpuShiftScores(drawing, window)


class CpuShiftScores:
    """`drawings.ShiftScores`.

    The norm of what lies under the target is taken over the box of its valid pixels, which running sums give at once; shutters are
    nearly rectangular, and the refinement scores by the valid pixels themselves.
    """

    batch = 16  # small enough for its arrays to come from memory already held: fresh pages cost more than arithmetic

    def __init__(self, drawing: Drawing, window: Window) -> None:
        self._drawing, self._window = drawing, window
        self._correlation = FftCorrelation(window.image, window.wide, self.batch)
        self._sums = np.zeros((self.batch, 2, window.wide.rows + 1, window.wide.columns + 1))

    def best(self, cameras: np.ndarray, peaks: int) -> tuple[np.ndarray, np.ndarray]:
        """As `drawings.ShiftScores.best`."""
        score, shift = np.empty((len(cameras), peaks), np.float32), np.empty((len(cameras), peaks, 2), np.int64)
        for first in range(0, len(cameras), self.batch):
            part = slice(first, first + self.batch)
            self._local_maxima(cameras[part], score[part], shift[part])
        return score, shift

    def maps(self, cameras: np.ndarray) -> np.ndarray:
        """As `drawings.ShiftScores.maps`, for cameras (B, 3, 4)."""
        size = self._window.shifts
        found = np.empty((len(cameras), size, size), np.float32)
        for first in range(0, len(cameras), self.batch):
            part = slice(first, first + self.batch)
            n = len(cameras[part])
            # Not for the maxima: on its way it divides the products by the norms, in place.
            products = self._local_maxima(cameras[part], np.empty((n, 1), np.float32), np.empty((n, 1, 2), np.int64))
            found[part] = products[:, :size, :size]
        return found

    def _local_maxima(self, cameras: np.ndarray, score: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Overwrite scores (B, K) and shifts (B, K, 2) for cameras (B, 3, 4); the divided products (B, >= size, >= size)."""
        n, window = len(cameras), self._window
        images, sums = self._correlation.images[:n], self._sums[:n]
        if isinstance(self._drawing, VesselDrawing):
            draw_vessels(self._drawing, cameras, window.wide, images, sums)
        else:
            draw_skull(self._drawing, cameras, window.wide, images, sums)
        products = self._correlation.lengths(n) if window.apart else self._correlation.products(n)
        in_parts(vessels.local_maxima, n, products, sums, window.box, window.shifts, window.norm_power, score, shift)
        return products
