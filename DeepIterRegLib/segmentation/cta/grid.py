"""The working grid: the head at an even spacing, and back to the CTA's own voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation

POOL = 4  # working voxels along the edge of a coarse cell
_AIR_HU = -1000


def as_int16(voxels: np.ndarray) -> np.ndarray:
    """HU as the kernels are compiled for: int16, contiguous, writable; no copy where they are."""
    if voxels.dtype != np.int16:
        if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise InputError("The CTA has voxels that are not finite numbers; export it again without them.")
        voxels = np.clip(np.rint(voxels), -32768, 32767).astype(np.int16)
    return np.require(voxels, requirements=["C", "W"])


@dataclass(frozen=True)
class _Grid:
    """Isotropic, axes along RAS; index order z, y, x. `to_source` (3, 4) turns its x, y, z index into the CTA's i, j, k."""

    spacing_mm: float
    shape: tuple[int, int, int]
    to_source: np.ndarray


def _grid(cta: Volume, low_mm: np.ndarray, high_mm: np.ndarray, spacing_mm: float, multiple: int) -> _Grid:
    size = np.ceil((high_mm - low_mm) / spacing_mm / multiple).astype(int) * multiple
    own = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    own[:3, 3] = low_mm
    to_source = (np.linalg.inv(cta.affine) @ own)[:3]
    return _Grid(spacing_mm, (int(size[2]), int(size[1]), int(size[0])), to_source)


def head_grid(cta: Volume, settings: CtaSegmentation) -> _Grid:
    """The box around the skull, from a coarse look at the whole volume."""
    values = cta.voxels[::4, ::4, ::4]
    if float(values.max()) - float(values.min()) < 200:
        raise InputError(
            f"The CTA's values run from {values.min():g} to {values.max():g}: no air and bone are in it. Give a CT in HU."
        )
    spacing = 3.0
    k, j, i = cta.voxels.shape
    corners = np.array([[a, b, c] for a in (0, k - 1) for b in (0, j - 1) for c in (0, i - 1)])
    ras = cta.to_ras(corners)
    low, high = ras.min(axis=0), ras.max(axis=0)
    whole = _grid(cta, low, high, spacing, 1)
    hu = resample_trilinear(cta.voxels, whole.to_source, whole.shape)
    # a head rest is thin: opening takes it off before the largest piece is chosen
    body = ndimage.binary_opening(hu > -300, iterations=2)
    labels, count = ndimage.label(body)
    if count == 0:
        raise InputError(
            no_head_reason(
                f"no tissue (above -300 HU) was found; its values run from {values.min():g} to {values.max():g}"
            )
        )
    body = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    top = int(np.flatnonzero(body.any(axis=(1, 2)))[-1])
    bottom = max(0, top - round(settings.extent_below_vertex_mm / spacing))
    skull = (hu > 300) & ndimage.binary_dilation(body, iterations=2)
    skull[:bottom] = False
    if skull.sum() * spacing**3 < 30e3:
        raise InputError(
            no_head_reason(
                f"only {skull.sum() * spacing**3 / 1000:.0f} mL of bone was found in the top {settings.extent_below_vertex_mm:g} mm"
            )
        )
    box = bounding_box(skull, margin=2)
    first = np.array([s.start for s in box])[::-1] * spacing + low
    last = np.array([s.stop - 1 for s in box])[::-1] * spacing + low
    return _grid(cta, np.maximum(first, low), np.minimum(last, high), settings.working_spacing_mm, POOL)


def no_head_reason(found: str) -> str:
    """The sentence for a CTA in which no head was found."""
    return Message(
        f"No head was found in the CTA: {found}",
        advice="A CT of the head in HU (air -1000, water 0) is needed, or a vessel mask.",
        give=("cta_mask",),
    )


@njit(parallel=True, cache=True, nogil=True)
def resample_trilinear(voxels, to_source, shape):  # type: ignore[no-untyped-def]
    """Trilinear, int16; outside the source is air."""
    nz, ny, nx = shape
    sk, sj, si = voxels.shape
    out = np.empty((nz, ny, nx), dtype=np.int16)
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                i = to_source[0, 0] * x + to_source[0, 1] * y + to_source[0, 2] * z + to_source[0, 3]
                j = to_source[1, 0] * x + to_source[1, 1] * y + to_source[1, 2] * z + to_source[1, 3]
                k = to_source[2, 0] * x + to_source[2, 1] * y + to_source[2, 2] * z + to_source[2, 3]
                if i < -0.5 or j < -0.5 or k < -0.5 or i > si - 0.5 or j > sj - 0.5 or k > sk - 0.5:
                    out[z, y, x] = -1000
                    continue
                i = min(max(i, 0.0), si - 1.0)
                j = min(max(j, 0.0), sj - 1.0)
                k = min(max(k, 0.0), sk - 1.0)
                i0, j0, k0 = int(i), int(j), int(k)
                i1, j1, k1 = min(i0 + 1, si - 1), min(j0 + 1, sj - 1), min(k0 + 1, sk - 1)
                a, b, c = i - i0, j - j0, k - k0
                v00 = voxels[k0, j0, i0] * (1 - a) + voxels[k0, j0, i1] * a
                v01 = voxels[k0, j1, i0] * (1 - a) + voxels[k0, j1, i1] * a
                v10 = voxels[k1, j0, i0] * (1 - a) + voxels[k1, j0, i1] * a
                v11 = voxels[k1, j1, i0] * (1 - a) + voxels[k1, j1, i1] * a
                v = (v00 * (1 - b) + v01 * b) * (1 - c) + (v10 * (1 - b) + v11 * b) * c
                out[z, y, x] = int(min(max(v, -1024.0), 3071.0))
    return out


def draw_on_source_grid(
    cta: Volume, grid: _Grid, hu: np.ndarray, mask: np.ndarray, brain_hu: float, bone_hu: float
) -> np.ndarray:
    """Draw the mask on the CTA's grid: voxels near it that reach half of the local maximum."""
    limits = _half_maximum(hu, mask, np.float32(brain_hu), np.float32(bone_hu))
    to_grid = np.linalg.inv(np.vstack([grid.to_source, [0, 0, 0, 1]]))[:3]
    return _draw(cta.voxels, limits, to_grid, bone_hu)


@njit(parallel=True, cache=True, nogil=True)
def _half_maximum(hu, mask, brain_hu, bone_hu):  # type: ignore[no-untyped-def]
    """HU that a voxel must reach, on the working grid: half way from brain to the brightest vessel voxel within two; 32767 off the mask."""
    nz, ny, nx = hu.shape
    out = np.full((nz, ny, nx), 32767, dtype=np.int16)
    rows = np.zeros((nz, ny), dtype=np.bool_)
    for z in prange(nz):
        for y in range(ny):
            rows[z, y] = mask[z, y].any()
    for z in prange(nz):
        for y in range(ny):
            if not rows[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2].any():
                continue
            for x in range(nx):
                near = False
                for a in range(max(z - 1, 0), min(z + 2, nz)):
                    for b in range(max(y - 1, 0), min(y + 2, ny)):
                        for c in range(max(x - 1, 0), min(x + 2, nx)):
                            if mask[a, b, c] and abs(a - z) + abs(b - y) + abs(c - x) < 2:
                                near = True
                if not near:
                    continue
                top = brain_hu
                for a in range(max(z - 2, 0), min(z + 3, nz)):
                    for b in range(max(y - 2, 0), min(y + 3, ny)):
                        for c in range(max(x - 2, 0), min(x + 3, nx)):
                            if mask[a, b, c] and hu[a, b, c] > top:
                                top = hu[a, b, c]
                out[z, y, x] = int(min((brain_hu + top) / 2, bone_hu))
    return out


@njit(parallel=True, cache=True, nogil=True)
def _draw(voxels, limits, to_grid, bone_hu):  # type: ignore[no-untyped-def]
    sk, sj, si = voxels.shape
    nz, ny, nx = limits.shape
    out = np.zeros((sk, sj, si), dtype=np.bool_)
    for k in prange(sk):
        for j in range(sj):
            for i in range(si):
                v = voxels[k, j, i]
                if v < 60 or v >= bone_hu:
                    continue
                x = int(round(to_grid[0, 0] * i + to_grid[0, 1] * j + to_grid[0, 2] * k + to_grid[0, 3]))
                y = int(round(to_grid[1, 0] * i + to_grid[1, 1] * j + to_grid[1, 2] * k + to_grid[1, 3]))
                z = int(round(to_grid[2, 0] * i + to_grid[2, 1] * j + to_grid[2, 2] * k + to_grid[2, 3]))
                if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz and v >= limits[z, y, x]:
                    out[k, j, i] = True
    return out


def bounding_box(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The box (k, j, i) around what is set, with a margin of so many voxels inside the array."""
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append(slice(max(0, int(hit[0]) - margin), min(mask.shape[axis], int(hit[-1]) + 1 + margin)))
    return ranges[0], ranges[1], ranges[2]
