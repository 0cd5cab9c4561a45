"""Rotational and MR angiograms made of a phantom, at scales of their own: told from CTs, masks, windowed copies; found by brightness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom import Patient
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels


@pytest.fixture(scope="module")
def arteries(small_patient: Patient, patient_folder: Path) -> Volume:
    mask = load_volume(patient_folder / "arteries.nii.gz")
    return mask.with_voxels(mask.voxels > 0)


@pytest.fixture(scope="module")
def shares(arteries: Volume, patient_folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where the head is (bool), and how much of each voxel contrast fills (0 to about 1)."""
    hu = load_volume(patient_folder / "cta.nii.gz").voxels.astype(np.float32)
    filled = np.where(ndimage.binary_dilation(arteries.voxels), np.clip((hu - 40) / 350, 0, 1.2), 0)
    return ndimage.binary_fill_holes(hu > -300), filled


def time_of_flight(head: np.ndarray, filled: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """MR, 8 bits: noise is never negative, tissue a quarter of a vessel."""
    return np.clip(np.abs(200 * (0.25 * head + filled) + 6 * noise), 0, 255).astype(np.uint8)


def rotational(head: np.ndarray, filled: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Contrast straight into the artery, 16 bits, tissue near 1000."""
    return np.clip(1000 * head + 6000 * filled + 120 * noise, 0, 65535).astype(np.uint16)


def linear(head: np.ndarray, filled: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Attenuation in a unit of its own, with an offset, no difference between tissue and air."""
    return (-3 + filled + 0.03 * noise).astype(np.float32)


KINDS = [time_of_flight, rotational, linear]


@pytest.mark.parametrize("kind", KINDS)
def test_vessels_are_found_at_any_scale(
    kind: Callable[..., np.ndarray], shares: tuple[np.ndarray, np.ndarray], arteries: Volume
) -> None:
    noise = np.random.default_rng(4).standard_normal(arteries.voxels.shape).astype(np.float32)
    volume = prepare_cta(arteries.with_voxels(kind(*shares, noise)))
    notes = volume.notes
    assert volume.values == "other"
    assert sum("not HU" in note and "skull is not used" in note for note in notes) == 1
    again = prepare_cta(volume)
    same = again.notes
    assert (again.values, same) == ("other", notes)
    mask = segment_vessels(volume).voxels
    truth = arteries.voxels
    wide = truth & (shares[1] > 0.6)
    assert mask[wide].mean() > 0.95
    near = ndimage.binary_dilation(truth, iterations=2)
    assert (mask & ~near).sum() < 0.01 * mask.sum()


def test_a_rotational_volume_in_hu_is_segmented_as_a_cta(patient_folder: Path) -> None:
    cta = load_volume(patient_folder / "cta.nii.gz")
    as_rotational = Volume(cta.voxels, cta.affine, ("Not HU.",), "other")
    prepared = prepare_cta(as_rotational)
    notes = prepared.notes
    assert (prepared.values, notes) == ("other", ("Not HU.",))
    np.testing.assert_array_equal(segment_vessels(as_rotational).voxels, segment_vessels(cta).voxels)


@pytest.mark.parametrize("window", [(-100, 300), (0, 600), (-1000, 1000)])
def test_a_windowed_copy_of_a_cta_is_refused_as_before(patient_folder: Path, window: tuple[int, int]) -> None:
    cta = load_volume(patient_folder / "cta.nii.gz")
    grey = np.clip((cta.voxels.astype(np.float32) - window[0]) / (window[1] - window[0]), 0, 1) * 255
    with pytest.raises(InputError, match="not CT numbers"):
        prepare_cta(cta.with_voxels(grey.astype(np.uint8)))


def test_labels_and_noise_are_no_angiogram(arteries: Volume) -> None:
    rng = np.random.default_rng(5)
    for voxels in (arteries.voxels * np.uint8(3), rng.normal(500, 40, arteries.voxels.shape).astype(np.float32)):
        with pytest.raises(InputError, match=r"not CT numbers|above 300"):
            prepare_cta(arteries.with_voxels(voxels))


def test_nothing_bright_enough_is_refused(arteries: Volume, shares: tuple[np.ndarray, np.ndarray]) -> None:
    noise = np.random.default_rng(6).standard_normal(arteries.voxels.shape)
    voxels = (100 * shares[0] + 10 * noise).astype(np.float32)
    with pytest.raises(InputError, match="may show no contrast"):
        segment_vessels(Volume(voxels, arteries.affine, (), "other"))
