"""The backend of a card: torch tensors from points and targets to inner products, batched over poses.

Only cameras go to the card and only scores or inner products come back. Images are summed as whole numbers, since sums of those do
not depend on their order: the same seed gives the same bits. What is scattered and summed is either torch's operations
(`operations`), on any device, or Triton's kernels (`fused`), on a card.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from DeepIterRegLib.common.devices import memory_faults
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.compute import operations
from DeepIterRegLib.registration.compute.drawings import Drawing, VesselDrawing, Window
from DeepIterRegLib.registration.compute.scatter import Grid, Splat
from DeepIterRegLib.rendering.cpu_splat import pixel_intrinsics
from DeepIterRegLib.rendering.triton_check import triton_runs

if TYPE_CHECKING:
    from DeepIterRegLib.registration.skull.targets import SkullTarget
    from DeepIterRegLib.registration.vessels.points import Points
    from DeepIterRegLib.registration.vessels.targets import Target

T = TypeVar("T")
# Of the images with derivatives of so many poses as are made at once.
_AT_ONCE_BYTES = 600_000_000
_BYTES_A_VALUE = 16  # of such an image: the whole number, and its blurred copies
# Variance and neighbourhood of the maxima as in `kernels.vessels.local_maxima`.
_VARIANCE_FLOOR, _PEAK_RADIUS_PX, _NO_SCORE = 0.05, 2, -2.0


class TorchBackend:
    """`drawings.Backend` on a torch device.

    Parameters
    ----------
    device
    made_by
        Module that scatters and sums: `operations` or `fused`; None for the faster one that there is.
    """

    def __init__(self, device: str, made_by: ModuleType | None = None) -> None:
        self.device = torch.device(device)
        self._kept: dict[int, Tensor] = {}
        self._matrices: dict[tuple[int, int, bytes], Tensor] = {}
        self._made_by = made_by or _fastest(self.device)

    def shrunk(
        self, images: np.ndarray, part: np.ndarray | None, shape: tuple[int, int], taps: np.ndarray
    ) -> np.ndarray:
        """As `compute.shrunk`, (C, *shape), of images (C, r, c) and a part (r, c)."""
        with memory_faults():
            seen = self.keep(images)
            if part is not None:
                seen = seen * self.to_device(np.ascontiguousarray(part))
            down, across = (
                self._narrowing(old, new, taps.tobytes()) for old, new in zip(images.shape[1:], shape, strict=True)
            )
            return (down @ seen.to(torch.float32) @ across.T).cpu().numpy()

    def vessel_products(
        self,
        points: Points,
        cameras: np.ndarray,
        centres: np.ndarray,
        lever_mm: float,
        target: Target,
        saturation_mm: float,
    ) -> np.ndarray:
        """As `compute.vessel_products`, (B, 9, 7), for cameras (B, 3, 4) and centres (B, 3)."""
        splat = self._splat(points, target.measure.direction_scale, with_tangents=True)
        image, valid, taps = self.keep(target.image), self.keep(target.valid), self.keep(target.taps)

        def made(at: Tensor, about: Tensor) -> Tensor:
            drawn = self._made_by.slopes(splat, at, about, lever_mm, _grid(target.carm))
            blurred = self._made_by.blurred(drawn, taps)
            return torch.as_tensor(self._made_by.vessel_gram(blurred, image, valid, saturation_mm))

        return self._in_parts(made, cameras, centres, 21 * target.valid.size, len(points.weights))

    def skull_products(
        self,
        points: Points,
        cameras: np.ndarray,
        centres: np.ndarray,
        lever_mm: float,
        target: SkullTarget,
        knee_mm: np.float32,
    ) -> np.ndarray:
        """As `compute.skull_products`, (B, 8, 7), for cameras (B, 3, 4) and centres (B, 3)."""
        splat = self._splat(points, 0.0, with_tangents=False)
        image, valid, taps = self.keep(target.image), self.keep(target.valid), self.keep(target.taps)

        def made(at: Tensor, about: Tensor) -> Tensor:
            drawn = self._made_by.slopes(splat, at, about, lever_mm, _grid(target.carm))
            blurred = self._made_by.blurred(drawn, taps)
            return torch.as_tensor(self._made_by.skull_gram(blurred, image, valid, float(knee_mm)))

        return self._in_parts(made, cameras, centres, 7 * target.valid.size, len(points.weights))

    def shift_scores(self, drawing: Drawing, window: Window) -> TorchShiftScores:
        """As `compute.shift_scores`."""
        return TorchShiftScores(self, drawing, window)

    def drawn(self, drawing: Drawing, cameras: Tensor, carm: CArm) -> Tensor:
        """Images (B, channels, rows, columns) for cameras (B, 3, 4)."""
        taps, grid = self.keep(drawing.taps), _grid(carm)
        if isinstance(drawing, VesselDrawing):
            splat = self._splat(drawing.points, drawing.direction_scale, with_tangents=True)
            images = self._made_by.blurred(self._made_by.values(splat, cameras, grid), taps)
            return torch.as_tensor(images / (1 + images[:, :1] / drawing.saturation_mm))
        splat = self._splat(drawing.points, 0.0, with_tangents=False)
        shadow = self._made_by.blurred(self._made_by.values(splat, cameras, grid), taps)[:, 0]
        return operations.compressed_gradient(shadow, float(drawing.knee_mm))

    def to_device(self, values: np.ndarray) -> Tensor:
        """Values (...) on the device."""
        return torch.tensor(values, device=self.device)

    def keep(self, values: np.ndarray) -> Tensor:
        """Values (...) on the device, which stay there as long as the array lives: nobody changes it."""
        key = id(values)
        if key not in self._kept:
            self._kept[key] = self.to_device(np.ascontiguousarray(values))
            weakref.finalize(values, self._kept.pop, key, None)
        return self._kept[key]

    def _narrowing(self, old: int, new: int, taps: bytes) -> Tensor:
        """Means over pixels and the blur after it along one axis, as a matrix (new, old)."""
        key = old, new, taps
        if key not in self._matrices:
            share = np.arange(old + 1) * (new / old)
            # Of each old pixel, the part that lies in each new one.
            inside = np.diff(np.clip(share - np.arange(new)[:, None], 0, 1), axis=1).astype(np.float32)
            half = self.to_device(np.frombuffer(taps, np.float32).copy())
            self._matrices[key] = operations.bands(half, new) @ self.to_device(inside)
        return self._matrices[key]

    def _splat(self, points: Points, direction_scale: float, *, with_tangents: bool) -> Splat:
        tangents = self.keep(points.tangents) if with_tangents else None
        return Splat(self.keep(points.positions), self.keep(points.weights), tangents, direction_scale)

    def _in_parts(
        self,
        made: Callable[[Tensor, Tensor], Tensor],
        cameras: np.ndarray,
        centres: np.ndarray,
        values: int,
        points: int,
    ) -> np.ndarray:
        """Inner products (B, M, 7) float64 of cameras (B, 3, 4), so many at a time as memory allows; images have `values` each."""
        a_pose = _BYTES_A_VALUE * values + int(self._made_by.BYTES_A_POINT) * points
        batch = max(1, _AT_ONCE_BYTES // a_pose)
        with memory_faults():
            # One transfer: each costs as much as it takes to draw a pose.
            both = self.to_device(np.concatenate([cameras.ravel(), centres.ravel()]))
            at, about = both[: cameras.size].reshape(cameras.shape), both[cameras.size :].reshape(centres.shape)
            parts = [
                made(at[first : first + batch], about[first : first + batch]) for first in range(0, len(cameras), batch)
            ]
            return (parts[0] if len(parts) == 1 else torch.cat(parts)).cpu().numpy()


class TorchShiftScores:
    """`drawings.ShiftScores` on a torch device."""

    batch = 256

    def __init__(self, backend: TorchBackend, drawing: Drawing, window: Window) -> None:
        self._backend, self._drawing, self._window = backend, drawing, window
        wide = window.wide
        self._shape = (next_fast_len(wide.rows, real=True), next_fast_len(wide.columns, real=True))
        with memory_faults():
            self._spectra = torch.fft.rfft2(backend.keep(window.image), s=self._shape).conj()
            first, last, left, right = (int(value) for value in window.box)
            # Sums over the box at every shift, as products with matrices of 0 and 1: one for rows, one for columns.
            self._rows = self._bands(first, last, wide.rows)
            self._columns = self._bands(left, right, wide.columns).T.contiguous()
            self._pixels = (last - first) * (right - left)

    def best(self, cameras: np.ndarray, peaks: int) -> tuple[np.ndarray, np.ndarray]:
        """As `drawings.ShiftScores.best`."""
        found = [self._best(part, peaks) for part in self._scores(cameras)]
        return torch.cat([score for score, _ in found]).cpu().numpy(), torch.cat([s for _, s in found]).cpu().numpy()

    def maps(self, cameras: np.ndarray) -> np.ndarray:
        """As `drawings.ShiftScores.maps`, for cameras (B, 3, 4)."""
        return torch.cat(list(self._scores(cameras))).cpu().numpy()

    def _bands(self, first: int, last: int, count: int) -> Tensor:
        shift = torch.arange(self._window.shifts, device=self._backend.device)[:, None]
        place = torch.arange(count, device=self._backend.device)
        return ((place >= first + shift) & (place < last + shift)).to(torch.float64)

    def _scores(self, cameras: np.ndarray) -> Iterator[Tensor]:
        """Scores (n, S, S) of cameras (B, 3, 4), part by part."""
        window, size = self._window, self._window.shifts
        with memory_faults():
            there = self._backend.to_device(cameras)
            for part in there.split(self.batch):
                images = self._backend.drawn(self._drawing, part, window.wide)
                spectra = torch.fft.rfft2(images, s=self._shape) * self._spectra
                if window.apart:
                    products = torch.fft.irfft2(spectra, s=self._shape)[:, :, :size, :size].norm(dim=1)
                else:
                    products = torch.fft.irfft2(spectra.sum(dim=1), s=self._shape)[:, :size, :size]
                squares = self._rows @ images.to(torch.float64).square().sum(dim=1) @ self._columns
                variance = squares
                if isinstance(self._drawing, VesselDrawing):  # a gradient has no mean to speak of
                    amount = self._rows @ images[:, 0].to(torch.float64) @ self._columns
                    variance = squares - amount.square() / self._pixels
                top = variance.amax(dim=(1, 2), keepdim=True).clamp_min(0)
                floor = _VARIANCE_FLOOR * top + 1e-20
                yield products / (variance.clamp_min(0) + floor).pow(window.norm_power / 2).to(torch.float32)

    def _best(self, scores: Tensor, peaks: int) -> tuple[Tensor, Tensor]:
        """Of scores (n, S, S): the highest local maxima (n, peaks) and their (column, row) (n, peaks, 2)."""
        around = 2 * _PEAK_RADIUS_PX + 1
        highest = torch.nn.functional.max_pool2d(scores[:, None], around, 1, _PEAK_RADIUS_PX)[:, 0]
        size = scores.shape[-1]
        flat = torch.where(scores >= highest, scores, _NO_SCORE).flatten(1)
        values, shifts = [], []
        for _ in range(peaks):
            # One after the other and not by `topk`, which may give equal ones in any order.
            at = flat.argmax(dim=1, keepdim=True)
            value = flat.gather(1, at)
            flat = flat.scatter(1, at, _NO_SCORE)
            place = torch.cat([at % size, at // size], dim=1)
            shifts.append(torch.where(value > _NO_SCORE, place, size // 2))
            values.append(value[:, 0])
        return torch.stack(values, dim=1), torch.stack(shifts, dim=1)


@lru_cache(maxsize=64)
def _grid(carm: CArm) -> Grid:
    fu, fv, cx, cy = (float(value) for value in pixel_intrinsics(carm))
    return Grid(carm.rows, carm.columns, fu, fv, cx, cy)


def _fastest(device: torch.device) -> ModuleType:
    """Triton's kernels where they run, else torch's operations."""
    if device.type == "cuda" and triton_runs(str(device)):
        from DeepIterRegLib.registration.compute import fused

        return fused
    return operations
