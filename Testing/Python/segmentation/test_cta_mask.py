"""Masks on other grids than their CTA's: the same lattice in place to the voxel, another one by nearest neighbour, elsewhere refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta.mask import as_cta_mask

AFFINE = np.eye(4)
AFFINE[:3, :3] = pose.euler_deg_to_rotation(np.array([4.0, -7.0, 11.0])) * (0.48828125, 0.5, 0.625)
AFFINE[:3, 3] = (-60, 40, -12)
SHAPE = (40, 50, 60)  # k, j, i
CTA = Volume(np.zeros(SHAPE, np.int16), AFFINE)


def blob() -> np.ndarray:
    """No symmetry, away from the borders."""
    voxels = np.zeros(SHAPE, bool)
    voxels[8:30, 20:24, 15:19] = voxels[12:15, 12:40, 16:18] = voxels[20:22, 22:24, 17:50] = True
    return voxels


def turned(order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The blob with its axes (i, j, k) in another order and direction, physically the same."""
    voxels = blob().transpose(2, 1, 0).transpose(order)
    affine = AFFINE.copy()
    affine[:3, :3] = AFFINE[:3, list(order)]
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
            voxels = np.flip(voxels, axis)
    return Volume(np.ascontiguousarray(voxels.transpose(2, 1, 0)), affine)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_axes_in_any_order_and_direction(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    laid = as_cta_mask(turned(order, flips), CTA)
    np.testing.assert_array_equal(laid.voxels, blob())
    assert laid.same_grid(CTA)
    assert laid.notes == ()


@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_cropped_and_padded_grids(flips: tuple[bool, ...]) -> None:
    mask = turned((0, 1, 2), flips)
    box = tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(mask.voxels))
    affine = mask.affine.copy()
    affine[:3, 3] = mask.to_ras(np.array([[s.start for s in box]]))[0]
    laid = as_cta_mask(Volume(mask.voxels[box], affine), CTA)
    np.testing.assert_array_equal(laid.voxels, blob())
    affine[:3, 3] = mask.to_ras(np.array([[-3, -4, -5]]))[0]
    laid = as_cta_mask(Volume(np.pad(mask.voxels, ((3, 9), (4, 2), (5, 0))), affine), CTA)
    np.testing.assert_array_equal(laid.voxels, blob())
    assert laid.notes == ()


def test_the_cta_may_be_the_cropped_one() -> None:
    cropped = Volume(CTA.voxels[10:], AFFINE.copy())
    cropped.affine[:3, 3] += 10 * AFFINE[:3, 2]
    np.testing.assert_array_equal(as_cta_mask(Volume(blob(), AFFINE), cropped).voxels, blob()[10:])


@pytest.mark.parametrize("digits", [4, 5])
def test_rounded_spacing_is_the_same_lattice(digits: int) -> None:
    spacing = np.linalg.norm(AFFINE[:3, :3], axis=0)
    rounded = AFFINE.copy()
    rounded[:3, :3] *= np.round(spacing, digits) / spacing
    rounded[:3, 3] = np.round(AFFINE[:3, 3] + 0.004, 2)
    laid = as_cta_mask(Volume(blob()[5:], rounded @ shift_k(5)), CTA)
    np.testing.assert_array_equal(laid.voxels, blob())
    assert laid.notes == ()


def shift_k(slices: int) -> np.ndarray:
    shift = np.eye(4)
    shift[2, 3] = slices
    return shift


@pytest.mark.parametrize("finer", [0.5, 1.4])
def test_another_grid_is_resampled_with_a_note(finer: float) -> None:
    """Against the blob's boxes themselves, asked at the CTA's voxels through the mask's grid."""
    other = np.eye(4)
    other[:3, :3] = pose.euler_deg_to_rotation(np.array([10.0, 5.0, -3.0])) * finer * 0.5
    centre = CTA.centre_mm
    shape = (100, 110, 120) if finer < 1 else (40, 44, 48)
    other[:3, 3] = centre - other[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    index = np.linalg.inv(AFFINE) @ other
    kji = np.indices(shape).reshape(3, -1)
    at = np.rint(index[:3, :3] @ kji[::-1] + index[:3, 3:]).astype(int)[::-1]
    inside = ((at >= 0) & (at < np.array(SHAPE)[:, None])).all(axis=0)
    voxels = np.zeros(shape, bool)
    voxels[tuple(kji[:, inside])] = blob()[tuple(at[:, inside])]
    laid = as_cta_mask(Volume(voxels, other), CTA)
    (note,) = laid.notes
    assert "resampled to the CTA by nearest neighbour" in note
    assert laid.same_grid(CTA)
    back = np.linalg.inv(index)
    kji = np.argwhere(np.ones(SHAPE, bool)).T
    near = np.rint(back[:3, :3] @ kji[::-1] + back[:3, 3:]).astype(int)[::-1]
    known = ((near >= 0) & (near < np.array(shape)[:, None])).all(axis=0)
    expected = np.zeros(SHAPE, bool)
    expected[tuple(kji[:, known])] = voxels[tuple(near[:, known])]
    assert (laid.voxels != expected).mean() < 1e-4  # ties of rounding
    dice = 2 * (laid.voxels & blob()).sum() / (laid.voxels.sum() + blob().sum())
    assert dice > (0.9 if finer < 1 else 0.7)


def test_a_mask_of_another_place_is_refused() -> None:
    for mm, says in ((400, "None of"), (15, "Only [1-4]?[0-9] % of")):
        far = AFFINE.copy()
        far[2, 3] += mm
        with pytest.raises(InputError, match=f"{says} the vessel mask lies within the CTA"):
            as_cta_mask(Volume(blob(), far), CTA)


def test_too_much_is_said() -> None:
    coarse = np.diag([3.0, 3, 3, 1])
    cta = Volume(np.zeros(SHAPE, np.int16), coarse)
    some = np.zeros(SHAPE, np.uint8)
    some[5:25, 5:30, 5:29] = 1  # 12000 voxels of 27 mm3
    assert "324 mL" in as_cta_mask(Volume(some, coarse), cta).notes[0]
    some[5:8] = 0
    assert as_cta_mask(Volume(some, coarse), cta).notes == ()


def test_several_labels_are_refused_whoever_gives_them() -> None:
    voxels = blob().astype(np.uint8)
    voxels[0, 0, :7] = 2
    with pytest.raises(InputError, match=r"holds 2 labels.*2 \(7 voxels\)"):
        as_cta_mask(Volume(voxels, AFFINE), CTA)


def test_a_mask_that_misses_the_vessels_is_said() -> None:
    rng = np.random.default_rng(0)
    hu = rng.normal(40, 30, SHAPE)
    hu[blob()] += 150
    cta = Volume(hu.astype(np.int16), AFFINE)
    assert as_cta_mask(Volume(blob(), AFFINE), cta).notes == ()
    (note,) = as_cta_mask(Volume(np.roll(blob(), 12, axis=1), AFFINE), cta).notes
    assert "hardly brighter than beside it" in note
