"""Where NIfTI and other headers put a volume: two orientations, shears, units, sizes, coordinates far away."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import ArrayLike

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.shear import shear_deg

SHAPE = (40, 50, 60)  # i, j, k
AFFINE = np.eye(4)
AFFINE[:3, :3] = pose.euler_deg_to_rotation(np.array([4.0, -7.0, 11.0])) * (0.5, 0.6, 0.7)
AFFINE[:3, 3] = (-90, 40, -12)


def ramp() -> np.ndarray:
    i, j, k = np.indices(SHAPE)
    return (10 * i + 7 * j - 5 * k).astype(np.int16)


def write(
    path: Path, qform: ArrayLike | None, sform: ArrayLike | None, codes: tuple[int, int], unit: str = "mm"
) -> Path:
    image = nibabel.Nifti1Image(ramp(), None)
    image.header.set_qform(qform if qform is None else np.array(qform), codes[0], strip_shears=True)
    image.header.set_sform(sform if sform is None else np.array(sform), codes[1])
    image.header.set_xyzt_units(unit)
    image.to_filename(path)
    return path


def sheared(degrees: float) -> np.ndarray:
    """The third axis leans towards the second, as the slices of a tilted gantry do."""
    affine = AFFINE.copy()
    affine[:3, 2] += np.tan(np.radians(degrees)) * 0.7 * affine[:3, 1] / 0.6
    return affine


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 2), (0, 1), (1, 0), (0, 2), (4, 3)])
def test_the_same_orientation_as_itk(codes: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", moved(8), AFFINE, codes)
    volume = load_volume(path)
    image = sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (39, 49, 59)):
        there = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose(volume.to_ras(np.array([index[::-1]]))[0], there, atol=1e-3)
    told = [note for note in volume.notes if "differ by up to 8.0 mm" in note]
    assert len(told) == (0 not in codes) == len(volume.notes)
    if told:
        assert ("the sform is used" in told[0]) == (codes[1] == 1)


def test_rounded_orientations_are_no_matter(tmp_path: Path) -> None:
    assert load_volume(write(tmp_path / "a.nii", moved(0.2), AFFINE, (1, 1))).notes == ()


def test_no_orientation_is_read_as_itk_does(tmp_path: Path) -> None:
    volume = load_volume(write(tmp_path / "a.nii", AFFINE, AFFINE, (0, 0)))
    np.testing.assert_allclose(volume.affine, np.diag([-0.5, -0.6, 0.7, 1]), atol=1e-6)


@pytest.mark.parametrize("degrees", [0.05, 0.3])
def test_a_shear_of_rounding_is_undone_and_told(degrees: float, tmp_path: Path) -> None:
    volume = load_volume(write(tmp_path / "a.nii", None, sheared(degrees), (0, 1)))
    assert shear_deg(volume.affine) < 1e-4
    np.testing.assert_array_equal(volume.voxels, ramp().T)
    centre = (sheared(degrees) @ [*(np.array(SHAPE) - 1) / 2, 1])[:3]
    np.testing.assert_allclose(volume.centre_mm, centre, atol=1e-3)
    corner = volume.to_ras(np.array([[59, 49, 39]]))[0]
    there = (sheared(degrees) @ [39, 49, 59, 1])[:3]
    assert np.linalg.norm(corner - there) < 25 * np.radians(degrees)  # half the diagonal is 24 mm
    (note,) = volume.notes
    assert f"{degrees:.2f} deg" in note


def test_a_rounded_header_is_not_touched(tmp_path: Path) -> None:
    volume = load_volume(write(tmp_path / "a.nii", None, sheared(0.003), (0, 1)))
    np.testing.assert_allclose(volume.affine, sheared(0.003), atol=1e-5)
    assert volume.notes == ()


def test_a_tilted_gantry_is_resampled_and_told(tmp_path: Path) -> None:
    """dcm2niix leaves the tilt in the sform and cannot say it in the qform: the sform counts."""
    affine = sheared(12)
    volume = load_volume(write(tmp_path / "a.nii", affine, affine, (1, 1)))
    assert shear_deg(volume.affine) < 1e-4
    assert "12.0 deg" in volume.notes[-1]
    inside = np.array([[30, 25, 20], [10, 30, 10], [50, 20, 30]])  # k, j, i
    at = inside[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    index = np.linalg.solve(volume.affine[:3, :3], (at - volume.affine[:3, 3]).T).T
    for (k, j, i), place in zip(inside, index, strict=True):
        near = np.rint(place).astype(int)
        assert abs(float(volume.voxels[tuple(near[::-1])]) - (10 * i + 7 * j - 5 * k)) < 10  # within half a voxel
    itk_too = sitk.GetImageFromArray(ramp().T)
    lps = np.diag([-1, -1, 1]) @ affine[:3, :3]
    spacing = np.linalg.norm(lps, axis=0)
    itk_too.SetSpacing(spacing.tolist())
    itk_too.SetDirection((lps / spacing).ravel().tolist())
    itk_too.SetOrigin((np.diag([-1, -1, 1]) @ affine[:3, 3]).tolist())
    sitk.WriteImage(itk_too, str(tmp_path / "a.nrrd"))
    by_nrrd = load_volume(tmp_path / "a.nrrd")
    np.testing.assert_allclose(by_nrrd.affine, volume.affine, atol=1e-3)
    assert "12.0 deg" in by_nrrd.notes[-1]


def test_units(tmp_path: Path) -> None:
    metres = np.diag([0.001, 0.001, 0.001, 1]) @ AFFINE
    told = load_volume(write(tmp_path / "a.nii", None, metres, (0, 1), "meter"))
    np.testing.assert_allclose(told.affine, AFFINE, atol=1e-4)
    assert "stored in metres" in told.notes[0]
    wrong = load_volume(write(tmp_path / "a.nii", None, AFFINE, (0, 1), "meter"))
    np.testing.assert_allclose(wrong.affine, AFFINE, atol=1e-4)
    assert "must be mm" in wrong.notes[0]
    for factor, unit in ((0.001, "metres"), (1000, "micrometres")):
        affine = np.diag([factor, factor, factor, 1]) @ AFFINE
        with pytest.raises(InputError, match=f"as if it were stored in {unit}"):
            load_volume(write(tmp_path / "a.nii", None, affine, (0, 1)))


def test_coordinates_far_away_are_told(tmp_path: Path) -> None:
    volume = load_volume(write(tmp_path / "a.nii", None, moved(25_000), (0, 1)))
    assert "25 m from the origin" in volume.notes[0]
    assert load_volume(write(tmp_path / "a.nii", None, moved(9_000), (0, 1))).notes == ()
