"""Bytes read as numbers of another type: no size tells it, the values do; and values that a header scales wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.cta_checks import check_cta, prepare_cta
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    """Air, a head of tissue and bone, with noise: int16 (k, j, i)."""
    k, j, i = np.ogrid[-12:12, -14:14, -16:16]
    r = np.sqrt(k**2 + j**2 + i**2)
    made = np.where(r < 9, 40, np.where(r < 11, 900, -1000))
    return (made + np.random.default_rng(0).normal(0, 15, made.shape)).astype(np.int16)


def nifti(path: Path, voxels: np.ndarray, code: int) -> Path:
    """The bytes as they are, under a header that names another type."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(voxels.shape[::-1])
    header["datatype"], header["bitpix"], header["vox_offset"] = code, 8 * voxels.dtype.itemsize, 352
    header["magic"], header["pixdim"][1:4] = b"n+1", 6.0
    path.write_bytes(bytes(header.binaryblock) + bytes(4) + voxels.tobytes())
    return path


@pytest.mark.parametrize(
    ("stored", "swapped", "code", "meant"),
    [
        ("int16", False, 512, "whole numbers with a sign of 16 bits"),
        ("int16", True, 4, "whole numbers with a sign of 16 bits in the other order"),
        ("int16", True, 512, "whole numbers with a sign of 16 bits in the other order"),
        ("int32", False, 768, "whole numbers with a sign of 32 bits"),
        ("int32", False, 16, "whole numbers with a sign of 32 bits"),
        ("int32", True, 8, "whole numbers with a sign of 32 bits in the other order"),
        ("float32", False, 8, "floating-point numbers of 32 bits"),
        ("float32", False, 768, "floating-point numbers of 32 bits"),
        ("float64", False, 1024, "floating-point numbers of 64 bits"),
    ],
)
def test_another_type_of_as_many_bytes_is_refused(
    stored: str, swapped: bool, code: int, meant: str, hu: np.ndarray, tmp_path: Path
) -> None:
    voxels = hu.astype(stored)
    path = nifti(tmp_path / "a.nii", voxels.byteswap() if swapped else voxels, code)
    with pytest.raises(InputError, match=rf"a\.nii names a wrong type of voxels.*; as {meant}"):
        load_volume(path)


def test_headers_of_text_too(hu: np.ndarray, tmp_path: Path) -> None:
    for name, right, wrong in (
        ("a.nrrd", b"type: short", b"type: ushort"),
        ("a.mha", b"MET_SHORT", b"MET_USHORT"),
        ("b.nrrd", b"endian: little", b"endian: big"),
        ("b.mha", b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = True"),
    ):
        path = tmp_path / name
        sitk.WriteImage(sitk.GetImageFromArray(hu), str(path))
        content = path.read_bytes()
        assert content.count(right) == 1
        load_volume(path)
        path.write_bytes(content.replace(right, wrong))
        with pytest.raises(InputError, match="a wrong type of voxels"):
            load_volume(path)


def test_what_can_be_meant_is_read(hu: np.ndarray, tmp_path: Path) -> None:
    """HU + 1024 without a sign, floating point, a fill value far below, metal, a rotational volume's whole range, a mask."""
    filled, metal = hu.copy(), hu.copy()
    filled[:3], metal[11:13, 13:15, 15] = -32768, 30000
    rotational = np.random.default_rng(1).integers(0, 65536, hu.shape).astype(np.uint16)
    mask = (hu > 500).astype(np.uint16)
    for voxels, code in (
        (hu, 4), ((hu + 1024).astype(np.uint16), 512), (hu.astype(np.float32), 16), (filled, 4), (metal, 4), (rotational, 512), (mask, 512),
    ):  # fmt: skip
        assert np.array_equal(load_volume(nifti(tmp_path / "a.nii", voxels, code)).voxels, voxels)


def test_volumes_that_were_read_elsewhere_are_looked_at(hu: np.ndarray) -> None:
    with pytest.raises(InputError, match="The CTA names a wrong type of voxels"):
        prepare_cta(Volume(hu.view(np.uint16), np.diag([6.0, 6.0, 6.0, 1.0])))


@pytest.mark.parametrize(("slope", "intercept", "air"), [(2.0, 0.0, -2000), (0.5, 0.0, -500), (1.0, 0.0, None)])
def test_air_that_is_not_where_air_is_is_said(
    slope: float, intercept: float, air: float | None, patient_folder: Path
) -> None:
    volume = load_volume(patient_folder / "cta.nii.gz")
    scaled = replace(volume, voxels=volume.voxels.astype(np.float32) * slope + intercept)
    said = [note for note in check_cta(scaled) if "scaled wrongly" in note]
    assert len(said) == (air is not None)
    if air is not None:
        assert abs(float(said[0].split()[3]) - air) <= 20


@pytest.mark.parametrize(("slope", "intercept"), [(1e30, 0.0), (352.0, 0.0), (1.0, -1e6)])
def test_values_beyond_every_scanner_are_refused(slope: float, intercept: float, hu: np.ndarray) -> None:
    scaled = hu.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    with pytest.raises(InputError, match="not CT numbers"):
        prepare_cta(Volume(scaled, np.diag([6.0, 6.0, 6.0, 1.0])))
