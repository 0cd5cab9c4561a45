"""Awkward masks of the CTA's vessels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from awkward_form import FREE_TEXT, LPS, Made, Plain, kinds, save_nifti
from scipy import ndimage

CASES, case = kinds()


def _labels(plain: Plain) -> np.ndarray:
    """1 and 2: two blocks; 3: the arteries."""
    labels = np.zeros(plain.arteries.shape, np.uint8)
    labels[:30, :30, :30], labels[-30:, -30:, :30] = 1, 2
    labels[plain.arteries] = 3
    return labels


def _moved(affine: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """An affine whose first voxel is another one (3,)."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ voxels
    return moved


@case("cta_mask", "refused", "3 labels")
def mask_of_several_labels(plain: Plain, out: Path) -> None:
    save_nifti(out / "labels.nii.gz", _labels(plain), plain.arteries_affine)


@case("cta_mask", "ok")
def mask_by_its_label(plain: Plain, out: Path) -> Made:
    save_nifti(out / "labels.nii.gz", _labels(plain), plain.arteries_affine)
    return Made(typed=("labels.nii.gz:3",))


@case("cta_mask", "ok")
def mask_by_the_name_of_a_segment(plain: Plain, out: Path) -> Made:
    image = sitk.GetImageFromArray(_labels(plain).transpose(2, 1, 0))
    lps = LPS @ plain.arteries_affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    for n, name in enumerate(("Bone", "Skin", "Arteries")):
        for what, value in (("ID", f"Segment_{n + 1}"), ("Name", name), ("LabelValue", str(n + 1)), ("Layer", "0")):
            image.SetMetaData(f"Segment{n}_{what}", value)
    image.SetMetaData("Comment", FREE_TEXT)
    sitk.WriteImage(image, str(out / "vessels.seg.nrrd"), useCompression=True)
    return Made(typed=("vessels.seg.nrrd:Arteries",))


@case("cta_mask", "ok")
def mask_cropped(plain: Plain, out: Path) -> None:
    (box,) = ndimage.find_objects(plain.arteries.astype(np.uint8))
    first = np.array([side.start for side in box])
    save_nifti(out / "mask.nii.gz", plain.arteries[box].astype(np.uint8), _moved(plain.arteries_affine, first))


@case("cta_mask", "ok")
def mask_with_an_axis_turned_round(plain: Plain, out: Path) -> None:
    last = np.array([0, plain.arteries.shape[1] - 1, 0])
    affine = _moved(plain.arteries_affine, last) @ np.diag([1, -1, 1, 1])
    save_nifti(out / "mask.nii.gz", plain.arteries[:, ::-1].astype(np.uint8), affine)


@case("cta_mask", "ok")
def mask_with_permuted_axes(plain: Plain, out: Path) -> None:
    save_nifti(
        out / "mask.nii.gz", plain.arteries.transpose(1, 2, 0).astype(np.uint8), plain.arteries_affine[:, [1, 2, 0, 3]]
    )


@case("cta_mask", "ok")
def mask_of_value_255(plain: Plain, out: Path) -> None:
    save_nifti(out / "mask.nii.gz", plain.arteries.astype(np.uint8) * np.uint8(255), plain.arteries_affine)


@case("cta_mask", "ok")
def mask_of_rounded_spacing(plain: Plain, out: Path) -> None:
    affine = plain.arteries_affine.copy()
    affine[:3, :3] *= 1.0002
    save_nifti(out / "mask.nii.gz", plain.arteries.astype(np.uint8), affine)


@case("cta_mask", "said", "probabilities")
def mask_of_probabilities(plain: Plain, out: Path) -> None:
    sure = np.where(plain.arteries, np.float32(0.93), np.float32(0.04))
    save_nifti(out / "mask.nii.gz", sure, plain.arteries_affine)


@case("cta_mask", "said", "another grid", alike=True)
def mask_of_another_grid(plain: Plain, out: Path) -> None:
    """Of 0.8 of the CTA's voxels, shifted by a third of one."""
    affine = plain.arteries_affine @ np.diag([0.8, 0.8, 0.8, 1.0])
    shape = [round(n / 0.8) for n in plain.arteries.shape]
    near = [
        np.clip(np.rint(0.8 * np.arange(n) + 0.3).astype(int), 0, full - 1)
        for n, full in zip(shape, plain.arteries.shape, strict=True)
    ]
    save_nifti(
        out / "mask.nii.gz", plain.arteries[np.ix_(*near)].astype(np.uint8), _moved(affine, np.full(3, 0.3 / 0.8))
    )


@case("cta_mask", "said", "[34][0-9][0-9] mL", alike=True, pose=False)
def mask_of_400_ml(plain: Plain, out: Path) -> None:
    """The arteries and what lies around them: nobody's vessels."""
    ml = abs(np.linalg.det(plain.arteries_affine[:3, :3])) / 1000
    near = ndimage.gaussian_filter(plain.arteries.astype(np.float32), 4 / np.cbrt(1000 * ml), truncate=2)
    n = near.size - round(400 / ml)
    save_nifti(
        out / "mask.nii.gz", (near > np.partition(near, n, axis=None)[n]).astype(np.uint8), plain.arteries_affine
    )


@case("cta_mask", "refused", "lies within the CTA")
def mask_elsewhere(plain: Plain, out: Path) -> None:
    save_nifti(
        out / "mask.nii.gz", plain.arteries.astype(np.uint8), _moved(plain.arteries_affine, np.array([0, 0, 900]))
    )


@case("cta_mask", "refused", "empty")
def mask_that_is_empty(plain: Plain, out: Path) -> None:
    save_nifti(out / "mask.nii.gz", np.zeros(plain.arteries.shape, np.uint8), plain.arteries_affine)


@case("cta_mask", "refused", "cut short|check sum")
def mask_cut(plain: Plain, out: Path) -> None:
    save_nifti(out / "mask.nii.gz", plain.arteries.astype(np.uint8), plain.arteries_affine)
    content = (out / "mask.nii.gz").read_bytes()
    (out / "mask.nii.gz").write_bytes(content[: len(content) // 2])


@case("cta_mask", "refused", "grey values")
def a_cta_for_a_mask(plain: Plain, out: Path) -> None:
    save_nifti(out / "mask.nii.gz", plain.hu, plain.affine)
