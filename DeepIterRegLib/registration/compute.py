"""All that search and refinement ask of the hardware: the one seam behind which another backend would stand.

Each function hides its kernel's buffers and their layout. Today there is one backend, numba's on the CPU (`registration.kernels`),
and FFTs by SciPy. Points and targets are those of the vessels or the skull; cameras come from `least_squares.camera_matrices`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
from scipy.fft import fft, ifft, irfft, next_fast_len, rfft, rfft2

from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.kernels import skull, vessels
from DeepIterRegLib.rendering.cpu_splat import pixel_intrinsics

if TYPE_CHECKING:
    from DeepIterRegLib.registration.skull.targets import SkullTarget
    from DeepIterRegLib.registration.vessels.points import Points
    from DeepIterRegLib.registration.vessels.targets import Target

__all__ = [
    "FftCorrelation",
    "area_means",
    "block_means",
    "draw_skull",
    "draw_vessels",
    "local_maxima",
    "main_axes",
    "skull_products",
    "vessel_products",
]


def area_means(image: np.ndarray, out: np.ndarray) -> None:
    """Means of an image (rows, columns) over each pixel of another grid, written to `out`, both float32."""
    in_parts(vessels.area_means, len(out), image, out)


def main_axes(spread: np.ndarray, out: np.ndarray) -> None:
    """Main axes of symmetric matrices (N, 6: xx, xy, xz, yy, yz, zz), float64, written to `out` (N, 3) float32.

    The square of an axis's length is by how much the largest eigenvalue exceeds the second, relative to the largest.
    """
    in_parts(vessels.main_axes, len(out), spread, out)


def block_means(
    voxels: np.ndarray, factors: tuple[int, int, int], low: np.float32, high: np.float32, out: np.ndarray
) -> None:
    """Means of min(voxels, high) - low, at least 0, over blocks of so many voxels; written to `out` (K, J, I) float32."""
    in_parts(skull.block_means, len(out), voxels, factors, low, high, out)


def local_maxima(
    products: np.ndarray,
    sums: np.ndarray,
    box: np.ndarray,
    size: int,
    norm_power: float,
    score: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Strongest local maxima over shifts of `FftCorrelation.products`, divided by the norms; see `kernels.vessels.local_maxima`."""
    in_parts(vessels.local_maxima, len(products), products, sums, box, size, norm_power, score, shift)


def vessel_products(
    points: Points, cameras: np.ndarray, centres: np.ndarray, lever_mm: float, target: Target, saturation_mm: float
) -> np.ndarray:
    """Inner products (B, 9, 7) of the oriented image at cameras (B, 3, 4), its six pose derivatives, and the target.

    Rows 0 to 6 are the Gram matrix over the valid pixels of all channels, row 7 the sums of the first channel, row 8 the
    products with the target; centres (B, 3), camera mm, are what rotations turn about, in units of `lever_mm`.
    """
    carm = target.carm
    # A thread takes every n-th pose, so that memory does not grow with their number.
    n_jobs = min(len(cameras), numba.get_num_threads())
    work = np.empty((n_jobs, 2, carm.rows, carm.columns, vessels.CHANNELS * vessels.WIDTH), dtype=np.float32)
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
        work.reshape(*work.shape[:3], -1),
        out,
    )
    return out


def draw_vessels(
    points: Points,
    cameras: np.ndarray,
    carm: CArm,
    target: Target,
    saturation_mm: float,
    images: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Draw the vessels blurred, saturated and weighted as the target was made.

    Parameters
    ----------
    points
    cameras : (B, 3, 4) float32
        CTA mm about the points' origin to camera mm.
    carm
        The view whose grid is drawn on; it may be a wider window than the target's.
    target
    saturation_mm
    images : (B, 3, at least rows, at least columns) float32
        Overwritten.
    sums : (B, 2, rows + 1, columns + 1)
        Running sums of the images, as `local_maxima` takes them; overwritten but for the first row and column.
    """
    in_parts(
        vessels.oriented_images,
        len(cameras),
        points.positions,
        points.tangents,
        points.weights,
        cameras,
        pixel_intrinsics(carm),
        target.taps,
        np.float32(saturation_mm),
        np.float32(target.measure.direction_scale),
        images,
        sums,
    )


def skull_products(
    points: Points, cameras: np.ndarray, centres: np.ndarray, lever_mm: float, target: SkullTarget, knee_mm: np.float32
) -> np.ndarray:
    """Inner products (B, 8, 7) of the skull's shortened gradients at cameras (B, 3, 4), their derivatives, and the target.

    Rows 0 to 6 are the Gram matrix over the valid pixels of both components, row 7 the products with the target; else as
    `vessel_products`.
    """
    carm = target.carm
    n_jobs = min(len(cameras), numba.get_num_threads())
    work = np.empty((n_jobs, 2, carm.rows, carm.columns, vessels.WIDTH), dtype=np.float32)
    out = np.empty((len(cameras), 8, 7))
    in_parts(
        skull.gradient_products,
        n_jobs,
        points.positions,
        points.weights,
        cameras,
        centres,
        np.float32(lever_mm),
        pixel_intrinsics(carm),
        target.image,
        target.valid,
        target.taps,
        knee_mm,
        work,
        work.reshape(*work.shape[:3], -1),
        out,
    )
    return out


def draw_skull(
    points: Points,
    cameras: np.ndarray,
    carm: CArm,
    taps: np.ndarray,
    knee_mm: np.float32,
    images: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Gradients (B, 2, at least rows, at least columns) of the skull's shadow at cameras (B, 3, 4), blurred by taps (radius + 1,).

    `images` and their running `sums` (B, 2, rows + 1, columns + 1) are overwritten.
    """
    in_parts(
        skull.gradient_images,
        len(cameras),
        points.positions,
        points.weights,
        cameras,
        pixel_intrinsics(carm),
        taps,
        knee_mm,
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
        threads = numba.get_num_threads()
        # By hand and not by `rfft2`: the second transform takes the memory of the first, and of the last only rows that count are made.
        spectra = fft(rfft(self.images[:count], workers=threads), axis=-2, overwrite_x=True, workers=threads)
        spectra *= self._spectra
        rows = ifft(spectra.sum(axis=1), axis=-2, overwrite_x=True, workers=threads)[:, : self._shifts]
        return np.asarray(irfft(rows, n=self._shape[1], workers=threads))
