"""How much a bright voxel looks like part of a tube in brain: curvature, and what ends its bright surroundings."""

from __future__ import annotations

import math

import numpy as np

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.common.threads import in_parts
from DeepIterRegLib.segmentation.cta.brain import CAVITY, DEEP, NECK
from DeepIterRegLib.segmentation.cta.grid import POOL

# Above brain: only what is so bright can be a vessel, and only there a rim of bone would look like one.
NOTABLE_HU = 60
RIM_REACH = 2  # voxels around one that are looked at for bone and air
# Squared distances in voxels up to which partial volume and blur of bone, and of air, reach.
BONE_RIM2, AIR_RIM2 = 3, 7
AIR_HU = -200  # air cells of the skull base, even if half filled with bone
_NO_BLUR_PX = 0.2  # a smaller sigma changes nothing
FLAT = 1e-6  # of the Hessian: all three eigenvalues alike
LEAST_CONTRAST_HU = 20.0  # by which curvature is divided: darker voxels are no candidates
RISE_HU = 80  # over the voxel one looks from: what is brighter ends the vessel, as bone does
FAT_HU = -50  # below it a way ends in fat or air, not in brain


def painted_as_brain(hu: np.ndarray, zone: np.ndarray, brain_hu: float, bone_hu: float) -> np.ndarray:
    """Float32 copy (z, y, x) in which bone, air and fat with their rims, and all that is outside, look like brain.

    So only vessels stand out, and the tube filter does not answer to edges of bone. `hu` (z, y, x) int16 is on the working grid, `zone`
    (Z, Y, X) gives the kind of its coarse cells.
    """
    out = np.empty(hu.shape, dtype=np.float32)
    in_parts(_paint, len(hu), hu, zone, brain_hu, bone_hu, out)
    return out


# Of kernels that begin with `first, last`: the part first:last of their loop, as `in_parts` shares it out.
@njit(cache=True, nogil=True)
def _paint(first, last, hu, zone, brain_hu, bone_hu, out):  # type: ignore[no-untyped-def]
    nz, ny, nx = hu.shape
    for z in range(first, last):
        for y in range(ny):
            for x in range(nx):
                v = hu[z, y, x]
                painted = v < brain_hu or v >= bone_hu or not zone[z // POOL, y // POOL, x // POOL]
                if not painted and v > brain_hu + NOTABLE_HU:
                    for a in range(max(z - RIM_REACH, 0), min(z + RIM_REACH + 1, nz)):
                        if painted:
                            break
                        for b in range(max(y - RIM_REACH, 0), min(y + RIM_REACH + 1, ny)):
                            for c in range(max(x - RIM_REACH, 0), min(x + RIM_REACH + 1, nx)):
                                far = (a - z) ** 2 + (b - y) ** 2 + (c - x) ** 2
                                w = hu[a, b, c]
                                if (w >= bone_hu and far < BONE_RIM2) or (w < AIR_HU and far < AIR_RIM2):
                                    painted = True
                out[z, y, x] = brain_hu if painted else v


def gaussian_blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """An image (z, y, x) float32 under a separable Gaussian, in parallel (scipy's runs on one core); edges are repeated.

    In its place, so that segmentation holds one such image and not four.
    """
    kernel = blur_kernel(sigma_px)
    if len(kernel) > 1:
        in_parts(_blur_planes, len(image), image, kernel)
        in_parts(_blur_across, image.shape[1], image, kernel)
    return image


def blur_kernel(sigma_px: float) -> np.ndarray:
    """A Gaussian (n,) float32 of sum 1; a single 1 where the sigma is so small that it changes nothing."""
    radius = math.ceil(3 * sigma_px) if sigma_px >= _NO_BLUR_PX else 0
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma_px, _NO_BLUR_PX)) ** 2).astype(np.float32)
    return np.asarray(kernel / kernel.sum())


@njit(cache=True, nogil=True, fastmath=True)
def _blur_planes(first, last, image, kernel):  # type: ignore[no-untyped-def]
    ny, nx = image.shape[1:]
    r = len(kernel) // 2
    row = np.empty(nx + 2 * r, dtype=np.float32)
    plane = np.empty((ny, nx), dtype=np.float32)
    for z in range(first, last):
        for y in range(ny):
            for x in range(r):
                row[x], row[r + nx + x] = image[z, y, 0], image[z, y, nx - 1]
            for x in range(nx):
                row[r + x] = image[z, y, x]
            for x in range(nx):
                plane[y, x] = 0.0
            for t in range(2 * r + 1):
                w = kernel[t]
                for x in range(nx):
                    plane[y, x] += w * row[x + t]
        for y in range(ny):
            for x in range(nx):
                image[z, y, x] = 0.0
            for t in range(2 * r + 1):
                w = kernel[t]
                source = min(max(y + t - r, 0), ny - 1)
                for x in range(nx):
                    image[z, y, x] += w * plane[source, x]


@njit(cache=True, nogil=True, fastmath=True)
def _blur_across(first, last, image, kernel):  # type: ignore[no-untyped-def]
    nz, _, nx = image.shape
    r = len(kernel) // 2
    sheet = np.empty((nz, nx), dtype=np.float32)
    for y in range(first, last):
        for z in range(nz):
            for x in range(nx):
                sheet[z, x] = image[z, y, x]
        for z in range(nz):
            for x in range(nx):
                image[z, y, x] = 0.0
            for t in range(2 * r + 1):
                w = kernel[t]
                source = min(max(z + t - r, 0), nz - 1)
                for x in range(nx):
                    image[z, y, x] += w * sheet[source, x]


def bright_voxels(
    smooth: np.ndarray, hu: np.ndarray, zone: np.ndarray, threshold: float, bone_hu: float
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (n, 3), z, y, x, of bright voxels of the working grid (z, y, x) and the kind (n,) of their coarse cell (Z, Y, X)."""
    ends, none = np.zeros(len(smooth) + 1, dtype=np.int64), np.empty((0, 3), dtype=np.int32)
    # Counted first, so that every plane knows where in the list it begins.
    in_parts(_list_bright, len(smooth), smooth, hu, zone, threshold, bone_hu, ends, none, np.empty(0, np.uint8))
    ends = np.cumsum(ends)
    indices, kinds = np.empty((ends[-1], 3), dtype=np.int32), np.empty(ends[-1], dtype=np.uint8)
    in_parts(_list_bright, len(smooth), smooth, hu, zone, threshold, bone_hu, ends[:-1].copy(), indices, kinds)
    return indices, kinds


@njit(cache=True, nogil=True)
def _list_bright(first, last, smooth, hu, zone, threshold, bone_hu, ends, indices, kinds):  # type: ignore[no-untyped-def]
    """List the bright voxels of a plane from its place in `ends` on; without a list they are counted into the next plane's."""
    ny, nx = smooth.shape[1:]
    for z in range(first, last):
        n = ends[z] if len(kinds) else 0
        for y in range(ny):
            for x in range(nx):
                kind = zone[z // POOL, y // POOL, x // POOL]
                if kind and smooth[z, y, x] > threshold and hu[z, y, x] < bone_hu:
                    if len(kinds):
                        indices[n, 0], indices[n, 1], indices[n, 2] = z, y, x
                        kinds[n] = kind
                    n += 1
        if not len(kinds):
            ends[z + 1] = n


def tube_response(
    smooth: np.ndarray, indices: np.ndarray, scale: np.float32, brain_hu: np.float32, response: np.ndarray
) -> np.ndarray:
    """Raise `response` (n,) to minus the second eigenvalue (the weaker curvature across a tube) times scale; sheets give 0.

    Returns that over the contrast (n,): how round a voxel's surroundings are. `smooth` (z, y, x) float32 is at one scale, `indices`
    (n, 3) are z, y, x; `scale` is sigma in voxels, squared, which makes scales comparable (Lindeberg 1998).
    """
    roundness = np.zeros(len(indices), dtype=np.float32)
    in_parts(_respond, len(indices), smooth, indices, scale, brain_hu, response, roundness)
    return roundness


@njit(cache=True, nogil=True, fastmath=True)
def _respond(first, last, smooth, indices, scale, brain_hu, response, roundness):  # type: ignore[no-untyped-def]
    nz, ny, nx = smooth.shape
    for n in range(first, last):
        z, y, x = indices[n]
        if z < 1 or y < 1 or x < 1 or z > nz - 2 or y > ny - 2 or x > nx - 2:
            continue
        centre = 2 * smooth[z, y, x]
        zz = smooth[z + 1, y, x] + smooth[z - 1, y, x] - centre
        yy = smooth[z, y + 1, x] + smooth[z, y - 1, x] - centre
        xx = smooth[z, y, x + 1] + smooth[z, y, x - 1] - centre
        zy = (smooth[z + 1, y + 1, x] + smooth[z - 1, y - 1, x] - smooth[z + 1, y - 1, x] - smooth[z - 1, y + 1, x]) / 4
        zx = (smooth[z + 1, y, x + 1] + smooth[z - 1, y, x - 1] - smooth[z + 1, y, x - 1] - smooth[z - 1, y, x + 1]) / 4
        yx = (smooth[z, y + 1, x + 1] + smooth[z, y - 1, x - 1] - smooth[z, y + 1, x - 1] - smooth[z, y - 1, x + 1]) / 4
        # closed-form eigenvalues of a symmetric 3x3 matrix (Smith 1961)
        q = (zz + yy + xx) / 3
        p2 = (zz - q) ** 2 + (yy - q) ** 2 + (xx - q) ** 2 + 2 * (zy * zy + zx * zx + yx * yx)
        p = math.sqrt(p2 / 6)
        if p < FLAT:
            continue
        a, b, c, d, e, f = (zz - q) / p, (yy - q) / p, (xx - q) / p, zy / p, zx / p, yx / p
        half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
        angle = math.acos(min(1.0, max(-1.0, half))) / 3
        largest = q + 2 * p * math.cos(angle)
        smallest = q + 2 * p * math.cos(angle + 2 * math.pi / 3)
        middle = 3 * q - largest - smallest
        response[n] = max(response[n], -middle * scale)
        roundness[n] = max(-middle * scale / max(smooth[z, y, x] - brain_hu, LEAST_CONTRAST_HU), 0.0)


DIRECTIONS = np.array([d for d in np.ndindex(3, 3, 3) if d != (1, 1, 1)], dtype=np.int64) - 1


def open_directions(
    hu: np.ndarray,
    indices: np.ndarray,
    zone: np.ndarray,
    soft_hu: float,
    artery_hu: float,
    bone_hu: float,
    reach: int,
    openness: np.ndarray,
) -> None:
    """Share (n,) of 26 directions in which the bright region around a voxel ends in brain, rather than in bone, air or fat.

    Marrow is shut in by bone; a sinus has bone on one side and brain on the other. Written to `openness` (n,) float32; voxels deep in
    the brain keep what is there. `hu` (z, y, x) int16 is on the working grid, `indices` (n, 3) are z, y, x, `zone` (Z, Y, X) gives the
    kind of coarse cells, `reach` is how many voxels are looked along.
    """
    in_parts(_look_around, len(indices), hu, indices, zone, soft_hu, artery_hu, bone_hu, reach, openness)


@njit(cache=True, nogil=True)
def _look_around(first, last, hu, indices, zone, soft_hu, artery_hu, bone_hu, reach, openness):  # type: ignore[no-untyped-def]
    nz, ny, nx = hu.shape
    for n in range(first, last):
        z, y, x = indices[n]
        here = zone[z // POOL, y // POOL, x // POOL]
        if here == DEEP:
            continue
        hits = 0
        limit = hu[z, y, x] + RISE_HU
        if here == NECK:  # veins and arteries of the neck lie side by side
            limit = max(limit, artery_hu)
        limit = min(limit, bone_hu)
        for d in range(26):
            dz, dy, dx = DIRECTIONS[d]
            a, b, c = z, y, x
            for _ in range(reach):
                a, b, c = a + dz, b + dy, c + dx
                if a < 0 or b < 0 or c < 0 or a >= nz or b >= ny or c >= nx:
                    break
                v = hu[a, b, c]
                if v >= limit:
                    break
                if v < soft_hu:
                    there = zone[a // POOL, b // POOL, c // POOL]
                    if v > FAT_HU and (there in (CAVITY, DEEP) or (there == NECK and here == NECK)):
                        hits += 1
                    break
        openness[n] = hits / 26
