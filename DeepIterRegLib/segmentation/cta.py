"""Vessels and veins of a CTA, from its HU alone; no network, no full-resolution Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from scipy import ndimage

from DeepIterRegLib.errors import InputError
from DeepIterRegLib.segmentation.bridges import bridges, grown
from DeepIterRegLib.volume import Volume

_POOL = 4  # working voxels along the edge of a coarse cell
_AIR_HU = -1000


@dataclass(frozen=True)
class CtaSegmentation:
    """Settings of `segment_vessels`.

    Attributes
    ----------
    working_spacing_mm
        Isotropic RAS grid on which vessels are found; the mask is then drawn on the CTA's own grid.
    extent_below_vertex_mm
        How much of the patient below the top of the head is looked at.
    bone_hu
        At or above this is bone; lowered to 1.3 times the brightest vessels deep in the brain (not below 400), as thin bone is dim.
    contrast_hu
        A vessel is at least this much brighter than brain, after smoothing by `smoothing_mm`.
    smoothing_mm
        Gaussian sigma against noise before candidates are picked.
    vesselness_sigmas_mm
        Scales of the tube filter used beside bone and outside the brain's cavity.
    vesselness_low_hu, vesselness_high_hu
        Hysteresis on the tube filter, whose unit is HU of contrast.
    near_bone_mm
        Within this distance of bone a bright voxel must also be open to the brain.
    min_openness
        Share of directions, from a bright voxel beside bone, in which brain follows; marrow, shut in by bone, has less.
    min_roundness
        Tube filter over contrast, beside bone: a tube has about 0.5, an edge or sheet of bone about 0.
    rim_mm
        How far into the wall of the brain's cavity sinuses are looked for.
    fill_mm
        How far a sinus that is seen in part is filled up to bone.
    min_component_mm3
        Smaller pieces are dropped.
    """

    working_spacing_mm: float = 0.7
    extent_below_vertex_mm: float = 220.0
    bone_hu: float = 600.0
    contrast_hu: float = 45.0
    smoothing_mm: float = 0.6
    vesselness_sigmas_mm: tuple[float, ...] = (0.9, 1.6, 2.8)
    vesselness_low_hu: float = 12.0
    vesselness_high_hu: float = 35.0
    near_bone_mm: float = 4.0
    rim_mm: float = 8.0
    fill_mm: float = 3.0
    min_openness: float = 0.45
    min_roundness: float = 0.3
    min_component_mm3: float = 40.0

    def __post_init__(self) -> None:
        problems = []
        if not 0.3 <= self.working_spacing_mm <= 2:
            problems.append(f"working_spacing_mm is {self.working_spacing_mm:g}; 0.3 to 2 make sense.")
        if not self.extent_below_vertex_mm >= 80:
            problems.append(f"extent_below_vertex_mm is {self.extent_below_vertex_mm:g}; a head needs at least 80.")
        if not 300 <= self.bone_hu <= 1500:
            problems.append(f"bone_hu is {self.bone_hu:g}; 300 to 1500 make sense.")
        if not 20 <= self.contrast_hu < self.bone_hu:
            problems.append(
                f"contrast_hu is {self.contrast_hu:g}; it must be at least 20 and below bone_hu ({self.bone_hu:g})."
            )
        if not self.vesselness_sigmas_mm or not all(0.3 <= s <= 6 for s in self.vesselness_sigmas_mm):
            problems.append(
                f"vesselness_sigmas_mm is {self.vesselness_sigmas_mm}; one or more of 0.3 to 6 mm are needed."
            )
        if list(self.vesselness_sigmas_mm) != sorted(set(self.vesselness_sigmas_mm)):
            problems.append(f"vesselness_sigmas_mm is {self.vesselness_sigmas_mm}; give them rising.")
        if not 0 <= self.smoothing_mm < min(self.vesselness_sigmas_mm, default=math.inf):
            problems.append(
                f"smoothing_mm is {self.smoothing_mm:g}; it must be 0 or more and below the first of vesselness_sigmas_mm."
            )
        if not 0 < self.vesselness_low_hu <= self.vesselness_high_hu:
            problems.append(
                f"vesselness_low_hu ({self.vesselness_low_hu:g}) must be above 0 and not above "
                f"vesselness_high_hu ({self.vesselness_high_hu:g})."
            )
        if not self.near_bone_mm >= 0 or not self.min_component_mm3 >= 0:
            problems.append("near_bone_mm and min_component_mm3 must not be negative.")
        if problems:
            raise InputError(problems)


def segment_vessels(cta: Volume, settings: CtaSegmentation = CtaSegmentation()) -> Volume:
    """Contrast-filled arteries and veins of the head (method.md, 3).

    Inside the brain's cavity and away from bone everything bright is a vessel; beside bone a bright voxel must also look
    like a tube (second eigenvalue of the Hessian, bone painted over first), so that shells of bone stay out. In the neck a
    bright piece is a vessel if soft tissue surrounds it. Through the skull base vessels are followed from neck to brain
    (`bridges`).

    Parameters
    ----------
    cta : Volume
        HU, any spacing and orientation.

    Returns
    -------
    Volume
        Bool on the grid of `cta`.

    Raises
    ------
    InputError
        No head, values that are not HU, or no contrast.
    """
    source, cta = cta, cta.with_voxels(_int16(cta.voxels))
    grid = _head_grid(cta, settings)
    hu = _resample(cta.voxels, grid.to_source, grid.shape)
    zone, enclosed = _cavity(hu, grid.spacing_mm, settings)
    brain_hu, vessel_hu = _brain_and_vessel_hu(hu, enclosed)
    vein_hu, artery_hu = _vein_and_artery_hu(hu, enclosed, brain_hu, vessel_hu)
    bone_hu = min(settings.bone_hu, max(400.0, 1.3 * artery_hu))
    mask = _vessel_mask(hu, zone, brain_hu, vessel_hu, artery_hu, bone_hu, grid.spacing_mm, settings)
    upper, lower = _brain_and_neck_pieces(mask, zone, enclosed, 10 * settings.min_component_mm3 / grid.spacing_mm**3)
    for level_hu in (artery_hu, vein_hu):
        mask |= bridges(hu, upper, lower, brain_hu, level_hu, grid.spacing_mm)
    deep = mask & np.repeat(np.repeat(np.repeat(enclosed, _POOL, 0), _POOL, 1), _POOL, 2)
    deep_ml, all_ml = (float(m.sum()) * grid.spacing_mm**3 / 1000 for m in (deep, mask))
    if deep_ml < 0.7 or all_ml < 2:
        raise InputError(
            f"The CTA shows only {deep_ml:.1f} mL of contrast-filled vessels in the brain, {all_ml:.1f} mL in the head (5 mL and 10 mL "
            f"are usual; brain is at {brain_hu:.0f} HU, the brightest of its vessels at {vessel_hu:.0f} HU). It may be a CT without "
            "contrast, or bone was taken for vessels: give the arterial or venous CTA series, or a vessel mask with --cta-mask."
        )
    return source.with_voxels(_lift(cta, grid, hu, mask, brain_hu, bone_hu))


def segment_veins(vessels: Volume, opening_radius_voxels: int = 1, min_component_voxels: int = 1000) -> Volume:
    """Large veins of a vessel mask (A 4.3.1): opening with a ball, then only large connected components.

    Parameters
    ----------
    vessels : Volume
        Mask, 0 = outside.
    opening_radius_voxels
        Radius of the ball; 0 opens nothing.
    min_component_voxels
        Components (26-connected) with fewer voxels are dropped.

    Returns
    -------
    Volume
        Bool on the same grid; may be empty.
    """
    if opening_radius_voxels < 0 or min_component_voxels < 0:
        raise InputError(
            f"Opening radius ({opening_radius_voxels}) and smallest component ({min_component_voxels}) must not be negative."
        )
    veins = np.zeros(vessels.voxels.shape, dtype=bool)
    found = vein_voxels(vessels.set_voxels, opening_radius_voxels, min_component_voxels)
    veins[tuple(found.T)] = True
    return vessels.with_voxels(veins)


def vein_voxels(
    vessel_voxels: np.ndarray, opening_radius_voxels: int = 1, min_component_voxels: int = 1000
) -> np.ndarray:
    """`segment_veins` from voxel to voxel, (N, 3) to (M, 3), k, j, i: the cost is the vessels', not the volume's."""
    if not len(vessel_voxels):
        return vessel_voxels
    r = opening_radius_voxels
    ball = np.mgrid[-r : r + 1, -r : r + 1, -r : r + 1].reshape(3, -1).T
    ball = ball[(ball**2).sum(axis=1) <= r * r]
    low = vessel_voxels.min(axis=0) - (r + 1)
    shape = vessel_voxels.max(axis=0) + (r + 2) - low
    opened = _opened(vessel_voxels - low, ball, (int(shape[0]), int(shape[1]), int(shape[2])))
    root = _components(opened, (int(shape[0]), int(shape[1]), int(shape[2])))
    size = np.bincount(root, minlength=len(opened))
    return np.asarray(opened[size[root] >= min_component_voxels] + low)


@njit(cache=True, nogil=True)
def _opened(voxels, ball, shape):  # type: ignore[no-untyped-def]
    """Voxels (M, 3) of the morphological opening of voxels (N, 3), none of which is nearer to the border than the ball reaches."""
    mask = np.zeros(shape, dtype=np.uint8)  # 1: set, 3: set and in the opening
    for v in range(len(voxels)):
        mask[voxels[v, 0], voxels[v, 1], voxels[v, 2]] = 1
    out = np.empty((len(voxels), 3), dtype=np.int64)
    n = 0
    for v in range(len(voxels)):
        z, y, x = voxels[v, 0], voxels[v, 1], voxels[v, 2]
        fits = True
        for b in range(len(ball)):
            if mask[z + ball[b, 0], y + ball[b, 1], x + ball[b, 2]] == 0:
                fits = False
                break
        if not fits:
            continue
        for b in range(len(ball)):
            k, j, i = z + ball[b, 0], y + ball[b, 1], x + ball[b, 2]
            if mask[k, j, i] == 1:
                mask[k, j, i] = 3
                out[n, 0], out[n, 1], out[n, 2] = k, j, i
                n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def _components(voxels, shape):  # type: ignore[no-untyped-def]
    """Number (M,) of one voxel of the 26-connected component that each of the voxels (M, 3) belongs to; none at the border."""
    number = np.zeros(shape, dtype=np.int32)
    parent = np.arange(len(voxels))
    for v in range(len(voxels)):
        z, y, x = voxels[v, 0], voxels[v, 1], voxels[v, 2]
        number[z, y, x] = v + 1
        for k in range(z - 1, z + 2):
            for j in range(y - 1, y + 2):
                for i in range(x - 1, x + 2):
                    other = number[k, j, i] - 1
                    if other < 0:
                        continue
                    a, b = v, other
                    while parent[a] != a:
                        parent[a] = parent[parent[a]]
                        a = parent[a]
                    while parent[b] != b:
                        parent[b] = parent[parent[b]]
                        b = parent[b]
                    if a != b:
                        parent[max(a, b)] = min(a, b)
    for v in range(len(voxels)):
        a = v
        while parent[a] != a:
            a = parent[a]
        parent[v] = a
    return parent


def as_cta_mask(mask: Volume, cta: Volume) -> Volume:
    """A mask brought by a person, checked against its CTA, as bool.

    Raises
    ------
    InputError
        Another grid than the CTA's, or empty.
    """
    if not mask.same_grid(cta):
        raise InputError(
            f"The vessel mask stands on another grid than the CTA: {_describe_grid(mask)} against {_describe_grid(cta)}. Resample the mask "
            "to the CTA (Slicer: Resample Scalar/Vector/DWI Volume with nearest neighbour; SimpleITK: Resample(mask, cta, "
            "interpolator=sitkNearestNeighbor)) and give it again."
        )
    voxels = np.nan_to_num(mask.voxels) != 0 if mask.voxels.dtype.kind == "f" else mask.voxels != 0
    if not voxels.any():
        raise InputError(
            "The vessel mask is empty: no voxel differs from 0. Give a mask with vessels, or none to have the CTA segmented."
        )
    return mask.with_voxels(voxels)


def _int16(voxels: np.ndarray) -> np.ndarray:
    """HU as the kernels are compiled for: int16, contiguous, writable; no copy where they are."""
    if voxels.dtype != np.int16:
        if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise InputError("The CTA has voxels that are not finite numbers; export it again without them.")
        voxels = np.clip(np.rint(voxels), -32768, 32767).astype(np.int16)
    return np.require(voxels, requirements=["C", "W"])


# -- working grid --------------------------------------------------------------------------------------


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


def _head_grid(cta: Volume, settings: CtaSegmentation) -> _Grid:
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
    hu = _resample(cta.voxels, whole.to_source, whole.shape)
    # a head rest is thin: opening takes it off before the largest piece is chosen
    body = ndimage.binary_opening(hu > -300, iterations=2)
    labels, count = ndimage.label(body)
    if count == 0:
        raise InputError(
            _no_head(f"no tissue (above -300 HU) was found; its values run from {values.min():g} to {values.max():g}")
        )
    body = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    top = int(np.flatnonzero(body.any(axis=(1, 2)))[-1])
    bottom = max(0, top - round(settings.extent_below_vertex_mm / spacing))
    skull = (hu > 300) & ndimage.binary_dilation(body, iterations=2)
    skull[:bottom] = False
    if skull.sum() * spacing**3 < 30e3:
        raise InputError(
            _no_head(
                f"only {skull.sum() * spacing**3 / 1000:.0f} mL of bone was found in the top {settings.extent_below_vertex_mm:g} mm"
            )
        )
    box = _bounding_box(skull, margin=2)
    first = np.array([s.start for s in box])[::-1] * spacing + low
    last = np.array([s.stop - 1 for s in box])[::-1] * spacing + low
    return _grid(cta, np.maximum(first, low), np.minimum(last, high), settings.working_spacing_mm, _POOL)


def _no_head(found: str) -> str:
    return f"No head was found in the CTA: {found}. Give a CT of the head in HU (air -1000, water 0), or a vessel mask with --cta-mask."


@njit(parallel=True, cache=True, nogil=True)
def _resample(voxels, to_source, shape):  # type: ignore[no-untyped-def]
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


# -- where the brain is --------------------------------------------------------------------------------


def _cavity(hu: np.ndarray, spacing_mm: float, settings: CtaSegmentation) -> tuple[np.ndarray, np.ndarray]:
    """Where the brain is, in coarse cells (`_POOL` working voxels).

    Returns
    -------
    kind : uint8
        0 elsewhere, 1 the brain's cavity, 2 the part of it away from bone, 3 its rim, where sinuses, bone and marrow mix,
        4 soft tissue of the neck.
    enclosed : bool
        The part away from bone with its large arteries.
    """
    mean, bone_fraction = _pool(hu, settings.bone_hu)
    cell = _POOL * spacing_mm
    free = (mean > -20) & (bone_fraction <= 0.1)
    depth = ndimage.distance_transform_edt(np.pad(free, 1), sampling=cell)[1:-1, 1:-1, 1:-1]
    core = _largest_component(depth > 17)
    # 4 mm closes the gaps of the skull base; 40 mm reach ends the flood that leaves by the foramen magnum
    inner = depth > 4
    faces, edges = ndimage.generate_binary_structure(3, 1), ndimage.generate_binary_structure(3, 2)
    cavity = core
    for _ in range(round(40 / cell)):
        cavity = ndimage.binary_dilation(cavity, faces, mask=inner)
    soft = free & (mean < 140)  # marrow, sinuses and the largest arteries are brighter
    cavity = ndimage.binary_dilation(cavity, edges, iterations=math.ceil(5 / cell), mask=soft)
    volume_ml = cavity.sum() * cell**3 / 1000
    if volume_ml < 300:
        tissue = float(np.median(mean[mean > -300])) if (mean > -300).any() else math.nan
        found = f"the largest space inside bone has {volume_ml:.0f} mL (a skull has 1000 mL and more; tissue is at {tissue:.0f} HU)"
        raise InputError(_no_head(found))
    kind = cavity.astype(np.uint8)
    kind[
        ndimage.binary_dilation(cavity, edges, iterations=math.ceil(settings.rim_mm / cell))
        & ~cavity
        & (mean > -200)
        & (bone_fraction < 0.95)
    ] = 3
    depth = ndimage.distance_transform_edt(np.pad(soft, 1), sampling=cell)[1:-1, 1:-1, 1:-1]
    deep = cavity & (depth > settings.near_bone_mm)
    kind[deep] = 2
    # below the brain, in soft tissue: the arteries and veins of the neck
    levels = np.flatnonzero(core.any(axis=(1, 2)))
    neck = (kind == 0) & (mean > -100) & (bone_fraction == 0)
    neck[levels[0] + round(0.25 * len(levels)) :] = False
    # the spinal canal's rim is neck too: there the vertebral arteries run beside bone
    spine = (kind == 3) & (mean > -100) & (bone_fraction < 0.3)
    spine[max(0, levels[0] - round(17 / cell)) :] = False
    kind[neck | spine] = 4
    # large arteries make holes in the deep part; filled, it tells how bright they are
    enclosed = ndimage.binary_closing(deep, edges, iterations=2) & ~ndimage.binary_dilation(bone_fraction > 0, edges)
    return kind, enclosed


@njit(parallel=True, cache=True, nogil=True)
def _pool(hu, bone_hu):  # type: ignore[no-untyped-def]
    """Mean and share of bone in cells of 4 x 4 x 4 voxels."""
    nz, ny, nx = hu.shape[0] // 4, hu.shape[1] // 4, hu.shape[2] // 4
    mean = np.empty((nz, ny, nx), dtype=np.float32)
    bone = np.empty((nz, ny, nx), dtype=np.float32)
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                total, count = 0.0, 0
                for a in range(4):
                    for b in range(4):
                        for c in range(4):
                            v = hu[4 * z + a, 4 * y + b, 4 * x + c]
                            total += v
                            if v >= bone_hu:
                                count += 1
                mean[z, y, x] = total / 64
                bone[z, y, x] = count / 64
    return mean, bone


def _brain_and_vessel_hu(hu: np.ndarray, deep: np.ndarray) -> tuple[float, float]:
    """Median of the brain, and HU of its well-filled vessels (the top few mL)."""
    z, y, x = (n // _POOL for n in hu.shape)
    cells = hu.reshape(z, _POOL, y, _POOL, x, _POOL).transpose(0, 2, 4, 1, 3, 5)[deep]
    if not cells.size:
        raise InputError(_no_head("nothing lies deep inside the skull"))
    brain = float(np.median(cells))
    if not -30 <= brain <= 120:
        raise InputError(
            f"The inside of the skull is at {brain:.0f} in the CTA; brain is at 20 to 60 HU. The values are not HU "
            "(an offset of 1024 is common): export the series with its rescale intercept, or give a vessel mask with --cta-mask."
        )
    return brain, float(np.percentile(cells, 99.95))


def _vein_and_artery_hu(hu: np.ndarray, enclosed: np.ndarray, brain_hu: float, vessel_hu: float) -> tuple[float, float]:
    """HU of large veins and arteries, seen where a vessel of the brain is wide enough to be even; `vessel_hu` where none is."""
    counts = np.cumsum(_even_hu(hu, enclosed, np.float32(brain_hu)).sum(axis=0))
    if counts[-1] < 50:
        return vessel_hu, vessel_hu
    # most of what is even lies in veins; arteries are brighter
    vein_hu, artery_hu = np.searchsorted(counts, np.array([0.5, 0.98]) * counts[-1])
    return float(vein_hu), max(vessel_hu, float(artery_hu))


@njit(parallel=True, cache=True, nogil=True)
def _even_hu(hu, enclosed, brain_hu):  # type: ignore[no-untyped-def]
    """Histogram (z, HU) of the means of 3 x 3 x 3 voxels deep in the brain that are bright and alike."""
    nz, ny, nx = hu.shape
    counts = np.zeros((nz, 1000), dtype=np.int64)
    for z in prange(1, nz - 1):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                v = hu[z, y, x]
                if v < brain_hu + 100 or v > 800 or not enclosed[z // 4, y // 4, x // 4]:
                    continue
                total, low, high = 0.0, v, v
                for a in range(z - 1, z + 2):
                    for b in range(y - 1, y + 2):
                        for c in range(x - 1, x + 2):
                            w = hu[a, b, c]
                            total += w
                            low, high = min(low, w), max(high, w)
                if low > brain_hu + 100 and high - low < 0.5 * (total / 27 - brain_hu):
                    counts[z, int(total / 27)] += 1
    return counts


def _brain_and_neck_pieces(
    mask: np.ndarray, zone: np.ndarray, enclosed: np.ndarray, min_voxels: float
) -> tuple[np.ndarray, np.ndarray]:
    """A mask cut where the neck begins: the pieces that reach into the brain's cavity, and the large ones of the neck."""
    z, y, x = np.nonzero(mask)
    kind = zone[z // _POOL, y // _POOL, x // _POOL]
    # the cavity's narrow lower end leaks into the gaps of the skull base
    area = enclosed.sum(axis=(1, 2))
    wide = int(np.argmax(area > 0.3 * area.max()))
    brain = np.zeros(mask.shape, dtype=bool)
    brain[z, y, x] = ((kind == 1) | (kind == 2)) & (z // _POOL >= wide)
    open_to_brain = np.zeros(mask.shape, dtype=np.uint8)
    open_to_brain[z, y, x] = kind != 4
    upper = grown(brain, open_to_brain, 0, 2, sum(mask.shape))
    lower = mask & ~upper
    if lower.any():
        box = _bounding_box(lower, margin=0)
        lower[box] = _large_components(lower[box], min_voxels)
    return upper, lower


# -- vessels -------------------------------------------------------------------------------------------


def _vessel_mask(
    hu: np.ndarray,
    zone: np.ndarray,
    brain_hu: float,
    vessel_hu: float,
    artery_hu: float,
    bone_hu: float,
    spacing_mm: float,
    settings: CtaSegmentation,
) -> np.ndarray:
    """Bool on the working grid."""
    painted = _painted(hu, zone, brain_hu, bone_hu)
    smooth, sigma = _gaussian(painted, settings.smoothing_mm / spacing_mm), settings.smoothing_mm
    smooth_hu = smooth
    candidates, kinds = _candidates(smooth, hu, zone, brain_hu + settings.contrast_hu, bone_hu)
    response = np.zeros(len(candidates), dtype=np.float32)
    roundness = np.zeros(len(candidates), dtype=np.float32)
    for next_sigma in settings.vesselness_sigmas_mm:
        smooth = _gaussian(smooth, math.sqrt(next_sigma**2 - sigma**2) / spacing_mm)
        sigma = next_sigma
        wide_roundness = _tubeness(
            smooth, candidates, np.float32((sigma / spacing_mm) ** 2), np.float32(brain_hu), response
        )
        roundness = np.maximum(roundness, wide_roundness)
    openness = np.ones(len(candidates), dtype=np.float32)
    _openness(
        hu,
        candidates,
        zone,
        brain_hu + settings.contrast_hu,
        1.2 * vessel_hu,
        bone_hu,
        round(12 / spacing_mm),
        openness,
    )
    level = smooth_hu[tuple(candidates.T)]
    tube = (roundness >= settings.min_roundness) & (openness >= settings.min_openness)
    # a sinus is as bright as a large vessel and round on the largest scale, and bone may hide most of it
    plateau_hu = brain_hu + 0.45 * (vessel_hu - brain_hu)
    sinus = (level >= plateau_hu) & (wide_roundness >= settings.min_roundness) & (openness >= settings.min_openness / 3)
    in_neck = (level >= plateau_hu) & (openness >= settings.min_openness)
    likely = np.where(kinds == 4, in_neck, (kinds == 2) | tube | sinus)
    weak = likely & ((response > settings.vesselness_low_hu) | (kinds == 4))
    strong = likely & (response > settings.vesselness_high_hu)
    mask = np.zeros(hu.shape, dtype=bool)
    flat = np.ravel_multi_index(tuple(candidates[weak].T), hu.shape)
    mask.ravel()[flat] = True
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    own = labels.ravel()[flat]
    size = np.bincount(own, minlength=count + 1)
    seeds = np.bincount(own, weights=strong[weak], minlength=count + 1)
    mean = {
        name: np.bincount(own, weights=values[weak], minlength=count + 1) / np.maximum(size, 1)
        for name, values in {
            "level": level,
            "roundness": roundness,
            "openness": openness,
            "deep": kinds == 2,
            "neck": kinds == 4,
        }.items()
    }
    mm3 = size * spacing_mm**3
    large, sure = 10 * settings.min_component_mm3, mean["deep"] > 0.02
    # what never leaves bone's neighbourhood must be as bright as a large vessel, and round or large
    likely = (mean["level"] >= plateau_hu) & ((mean["roundness"] >= 1.4 * settings.min_roundness) | (mm3 >= large))
    likely &= (mean["neck"] < 0.1) | ((mm3 >= large) & (mean["openness"] >= 0.7))
    keep = (mm3 >= settings.min_component_mm3) & (seeds > 0) & (sure | likely)
    mask.ravel()[flat] = keep[own]
    # a sinus is seen in part where bone hides it: fill it up to bone, as far as it is as bright as a large vessel
    return grown(mask, painted, np.float32(plateau_hu), np.float32(bone_hu), round(settings.fill_mm / spacing_mm))


@njit(parallel=True, cache=True, nogil=True)
def _painted(hu, zone, brain_hu, bone_hu):  # type: ignore[no-untyped-def]
    """Float copy in which bone, air and fat with their rims, and all that is outside, look like brain: only vessels stand out."""
    nz, ny, nx = hu.shape
    out = np.empty((nz, ny, nx), dtype=np.float32)
    for z in prange(nz):
        for y in range(ny):
            for x in range(nx):
                v = hu[z, y, x]
                painted = v < brain_hu or v >= bone_hu or not zone[z // 4, y // 4, x // 4]
                if not painted and v > brain_hu + 60:
                    for a in range(max(z - 2, 0), min(z + 3, nz)):
                        for b in range(max(y - 2, 0), min(y + 3, ny)):
                            for c in range(max(x - 2, 0), min(x + 3, nx)):
                                far = (a - z) ** 2 + (b - y) ** 2 + (c - x) ** 2
                                w = hu[a, b, c]
                                if (w >= bone_hu and far < 3) or (w < -200 and far < 7):
                                    painted = True
                out[z, y, x] = brain_hu if painted else v
    return out


def _gaussian(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Separable Gaussian, in parallel (scipy's runs on one core)."""
    if sigma_px < 0.2:
        return image
    radius = math.ceil(3 * sigma_px)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2).astype(np.float32)
    return _convolve(image, kernel / kernel.sum())


@njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _convolve(image, kernel):  # type: ignore[no-untyped-def]
    nz, ny, nx = image.shape
    r = len(kernel) // 2
    first = np.empty_like(image)
    for z in prange(nz):
        row = np.empty(nx + 2 * r, dtype=np.float32)
        plane = np.empty((ny, nx), dtype=np.float32)
        for y in range(ny):
            row[:r] = image[z, y, 0]
            row[r : r + nx] = image[z, y]
            row[r + nx :] = image[z, y, nx - 1]
            for x in range(nx):
                plane[y, x] = 0.0
            for t in range(2 * r + 1):
                w = kernel[t]
                for x in range(nx):
                    plane[y, x] += w * row[x + t]
        for y in range(ny):
            for x in range(nx):
                first[z, y, x] = 0.0
            for t in range(2 * r + 1):
                w = kernel[t]
                source = min(max(y + t - r, 0), ny - 1)
                for x in range(nx):
                    first[z, y, x] += w * plane[source, x]
    out = np.empty_like(image)
    for y in prange(ny):
        for z in range(nz):
            for x in range(nx):
                out[z, y, x] = 0.0
            for t in range(2 * r + 1):
                w = kernel[t]
                source = min(max(z + t - r, 0), nz - 1)
                for x in range(nx):
                    out[z, y, x] += w * first[source, y, x]
    return out


@njit(parallel=True, cache=True, nogil=True)
def _candidates(smooth, hu, zone, threshold, bone_hu):  # type: ignore[no-untyped-def]
    """Indices (n, 3) of bright voxels and the kind (n,) of their coarse cell."""
    nz, ny, nx = smooth.shape
    counts = np.zeros(nz + 1, dtype=np.int64)
    for z in prange(nz):
        n = 0
        for y in range(ny):
            for x in range(nx):
                if zone[z // 4, y // 4, x // 4] and smooth[z, y, x] > threshold and hu[z, y, x] < bone_hu:
                    n += 1
        counts[z + 1] = n
    starts = np.cumsum(counts)
    indices = np.empty((starts[-1], 3), dtype=np.int32)
    kinds = np.empty(starts[-1], dtype=np.uint8)
    for z in prange(nz):
        n = starts[z]
        for y in range(ny):
            for x in range(nx):
                if zone[z // 4, y // 4, x // 4] and smooth[z, y, x] > threshold and hu[z, y, x] < bone_hu:
                    indices[n, 0], indices[n, 1], indices[n, 2] = z, y, x
                    kinds[n] = zone[z // 4, y // 4, x // 4]
                    n += 1
    return indices, kinds


@njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _tubeness(smooth, indices, scale, brain_hu, response):  # type: ignore[no-untyped-def]
    """Maximum of `response` and minus the second eigenvalue (the weaker curvature across a tube) times scale; sheets give 0."""
    nz, ny, nx = smooth.shape
    roundness = np.zeros(len(indices), dtype=np.float32)
    for n in prange(len(indices)):
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
        if p < 1e-6:
            continue
        a, b, c, d, e, f = (zz - q) / p, (yy - q) / p, (xx - q) / p, zy / p, zx / p, yx / p
        half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
        angle = math.acos(min(1.0, max(-1.0, half))) / 3
        largest = q + 2 * p * math.cos(angle)
        smallest = q + 2 * p * math.cos(angle + 2 * math.pi / 3)
        middle = 3 * q - largest - smallest
        response[n] = max(response[n], -middle * scale)
        roundness[n] = max(-middle * scale / max(smooth[z, y, x] - brain_hu, 20.0), 0.0)
    return roundness


_DIRECTIONS = np.array([d for d in np.ndindex(3, 3, 3) if d != (1, 1, 1)], dtype=np.int64) - 1


@njit(parallel=True, cache=True, nogil=True)
def _openness(hu, indices, zone, soft_hu, artery_hu, bone_hu, reach, openness):  # type: ignore[no-untyped-def]
    """Share of 26 directions in which the bright region around a voxel ends in brain, rather than in bone, air or fat.

    Marrow is shut in by bone; a sinus has bone on one side and brain on the other.
    """
    nz, ny, nx = hu.shape
    for n in prange(len(indices)):
        z, y, x = indices[n]
        here = zone[z // 4, y // 4, x // 4]
        if here == 2:
            continue
        hits = 0
        limit = hu[z, y, x] + 80
        if here == 4:  # veins and arteries of the neck lie side by side
            limit = max(limit, artery_hu)
        limit = min(limit, bone_hu)
        for d in range(26):
            dz, dy, dx = _DIRECTIONS[d]
            a, b, c = z, y, x
            for _ in range(reach):
                a, b, c = a + dz, b + dy, c + dx
                if a < 0 or b < 0 or c < 0 or a >= nz or b >= ny or c >= nx:
                    break
                v = hu[a, b, c]
                if v >= limit:
                    break
                if v < soft_hu:
                    there = zone[a // 4, b // 4, c // 4]
                    if v > -50 and (0 < there < 3 or (there == 4 and here == 4)):
                        hits += 1
                    break
        openness[n] = hits / 26


# -- back to the CTA's grid ----------------------------------------------------------------------------


def _lift(cta: Volume, grid: _Grid, hu: np.ndarray, mask: np.ndarray, brain_hu: float, bone_hu: float) -> np.ndarray:
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


# -- small helpers -------------------------------------------------------------------------------------


def _bounding_box(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    ranges = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append(slice(max(0, int(hit[0]) - margin), min(mask.shape[axis], int(hit[-1]) + 1 + margin)))
    return ranges[0], ranges[1], ranges[2]


def _largest_component(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _large_components(mask: np.ndarray, min_voxels: float) -> np.ndarray:
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(labels.ravel()) >= min_voxels
    keep[0] = False
    return keep[labels]


def _describe_grid(volume: Volume) -> str:
    k, j, i = volume.voxels.shape
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing_mm)
    origin = ", ".join(f"{o:.1f}" for o in volume.affine[:3, 3])
    return f"{i} x {j} x {k} voxels of {spacing} mm from ({origin}) mm RAS"
