"""The CTA of a phantom: its grid in the scanner, enhancement, noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.compiler import njit
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom.centrelines import Centrelines
from DeepIterRegLib.phantom.head import AIR_HU, SPACING_MM, Head
from DeepIterRegLib.phantom.raster import draw_tubes
from DeepIterRegLib.phantom.settings import CtaSettings

# Directions of i, j, k in RAS: as DICOM stores axial slices, as NIfTI likes them, feet last, sagittal.
ORIENTATIONS = (
    ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    ((0, -1, 0), (0, 0, 1), (1, 0, 0)),
)
ORIENTATION_WEIGHTS = (0.6, 0.2, 0.1, 0.1)
# Deviations of the field from the head's middle and axes; how many are oblique.
_OFF_CENTRE_MM, _ROLL_DEG, _OBLIQUE_SHARE = 4, 3, 0.5
_HEAD_MIDDLE_Y_MM = -12.0
_UNENHANCED_HU = 50  # blood without contrast; enhancement is counted from there
_NOISE_VOXELS = 128  # along each side of a block of noise, which is repeated
_NOISE_MASK = _NOISE_VOXELS - 1  # of the bits of an index that tell the place in the block: 128 is a power of 2
# Sigmas: reconstruction blurs noise, and takes most of its slow part away.
_GRAIN_VOXELS, _SLOW_VOXELS, _SLOW_SHARE = 0.8, 2.5, 0.8
_LOW_HU, _HIGH_HU = -1024.0, 3071.0  # what 12 bits hold


def make_grid(
    head_to_cta: np.ndarray, rng: np.random.Generator, settings: CtaSettings
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Affine (4, 4) and shape (k, j, i) of a scan of a head placed by `head_to_cta` (4, 4); half the scans are a little oblique."""
    in_plane, slice_mm = rng.uniform(*settings.in_plane_spacing_mm), rng.uniform(*settings.slice_spacing_mm)
    field, bottom, top = (
        rng.uniform(*settings.field_mm),
        rng.uniform(*settings.bottom_mm),
        rng.uniform(*settings.top_mm),
    )
    shift = rng.normal(0, _OFF_CENTRE_MM, 3)
    roll = np.radians(rng.normal(0, _ROLL_DEG, 3)) * (rng.random() < _OBLIQUE_SHARE)
    directions = np.array(ORIENTATIONS[rng.choice(len(ORIENTATIONS), p=ORIENTATION_WEIGHTS)], dtype=np.float64)
    centre = pose.transform(head_to_cta, np.array([[0.0, _HEAD_MIDDLE_Y_MM, (bottom + top) / 2]]))[0] + shift * [
        1,
        1,
        0,
    ]
    extent = np.array([field, field, top - bottom])
    spacing = np.array([in_plane, in_plane, slice_mm])
    along = np.argmax(np.abs(directions), axis=1)  # RAS axis of i, j, k
    size = np.minimum(np.round(extent / spacing)[along], settings.max_voxels).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = pose.so3_exp(roll) @ directions.T * spacing[along]
    affine[:3, 3] = centre - affine[:3, :3] @ ((size - 1) / 2)
    return affine, (int(size[2]), int(size[1]), int(size[0]))


@njit(cache=True)
def _compose(
    tissue: np.ndarray,
    to_index: np.ndarray,
    arteries: np.ndarray,
    veins: np.ndarray,
    artery_hu: float,
    vein_hu: float,
    noise: np.ndarray,
    noise_hu: float,
    out: np.ndarray,
) -> None:
    """Tissue (trilinear, air outside its grid) with vessels blended in and noise added, as int16 HU."""
    nk, nj, ni = out.shape
    sx, sy, sz = tissue.shape
    for k in range(nk):
        for j in range(nj):
            x = to_index[0, 1] * j + to_index[0, 2] * k + to_index[0, 3]
            y = to_index[1, 1] * j + to_index[1, 2] * k + to_index[1, 3]
            z = to_index[2, 1] * j + to_index[2, 2] * k + to_index[2, 3]
            for i in range(ni):
                value = np.float32(AIR_HU)
                if 0 <= x < sx - 1 and 0 <= y < sy - 1 and 0 <= z < sz - 1:
                    a, b, c = int(x), int(y), int(z)
                    fx, fy, fz = np.float32(x - a), np.float32(y - b), np.float32(z - c)
                    gx, gy, gz = np.float32(1) - fx, np.float32(1) - fy, np.float32(1) - fz
                    value = gx * (
                        gy * (gz * tissue[a, b, c] + fz * tissue[a, b, c + 1])
                        + fy * (gz * tissue[a, b + 1, c] + fz * tissue[a, b + 1, c + 1])
                    ) + fx * (
                        gy * (gz * tissue[a + 1, b, c] + fz * tissue[a + 1, b, c + 1])
                        + fy * (gz * tissue[a + 1, b + 1, c] + fz * tissue[a + 1, b + 1, c + 1])
                    )
                if veins[k, j, i] > 0:
                    value += np.float32(veins[k, j, i] / 255.0) * (np.float32(vein_hu) - value)
                if arteries[k, j, i] > 0:
                    value += np.float32(arteries[k, j, i] / 255.0) * (np.float32(artery_hu) - value)
                value += np.float32(noise_hu) * noise[k & _NOISE_MASK, j & _NOISE_MASK, i & _NOISE_MASK]
                out[k, j, i] = np.int16(min(_HIGH_HU, max(_LOW_HU, value)))
                x += to_index[0, 0]
                y += to_index[1, 0]
                z += to_index[2, 0]


def _ct_noise(rng: np.random.Generator) -> np.ndarray:
    """A periodic block (k, j, i) of deviation 1: smoothed, without its slowest parts, as reconstruction leaves it."""
    white = rng.standard_normal((_NOISE_VOXELS,) * 3, dtype=np.float32)
    fine = ndimage.gaussian_filter(white, _GRAIN_VOXELS, mode="wrap", truncate=3)
    fine -= _SLOW_SHARE * ndimage.gaussian_filter(white, _SLOW_VOXELS, mode="wrap", truncate=2)
    return fine / fine.std()


def make_cta(
    vessels: Centrelines,
    head: Head,
    head_to_cta: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    enhancement: np.ndarray,
    rng: np.random.Generator,
    settings: CtaSettings,
) -> tuple[Volume, Volume, Volume]:
    """CTA (int16 HU) and the truth masks of arteries and veins (bool) on its grid.

    Parameters
    ----------
    vessels
        In the CTA's frame.
    head
    head_to_cta : (4, 4)
        Canonical frame to RAS mm of the CTA.
    affine : (4, 4)
        Voxel index (i, j, k) to RAS mm.
    shape
        (k, j, i).
    enhancement : (N,)
        0..1, of each node: weaker beyond an occlusion.
    rng, settings
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    to_index = np.linalg.inv(affine)
    blur = rng.uniform(*settings.resolution_mm)
    artery_hu = rng.uniform(*settings.artery_hu)
    vein_hu = _UNENHANCED_HU + rng.uniform(*settings.vein_fraction) * (artery_hu - _UNENHANCED_HU)
    drawn = []
    for chosen in (~vessels.vein, vessels.vein):
        n = np.flatnonzero(chosen & (vessels.parent >= 0))
        p = vessels.parent[n]
        drawn.append(
            draw_tubes(
                vessels.points_mm[p],
                vessels.points_mm[n],
                vessels.radius_mm[p],
                vessels.radius_mm[n],
                enhancement[n],
                to_index,
                spacing,
                shape,
                blur,
            )
        )
    (arteries, artery_mask), (veins, vein_mask) = drawn
    voxels = np.empty(shape, np.int16)
    cta_to_head = np.linalg.inv(head_to_cta) @ affine
    cta_to_head[:3, 3] -= head.origin_mm
    _compose(
        head.hu,
        cta_to_head[:3] / SPACING_MM,
        arteries,
        veins,
        artery_hu,
        vein_hu,
        _ct_noise(rng),
        rng.uniform(*settings.noise_hu),
        voxels,
    )
    return Volume(voxels, affine), Volume(artery_mask.view(bool), affine), Volume(vein_mask.view(bool), affine)
