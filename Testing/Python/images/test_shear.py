"""Sheared volumes on upright axes: every point stays where it was, whatever the order of the axes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from DeepIterRegLib.images.shear import shear_deg, upright
from DeepIterRegLib.images.volume import Volume

RADIUS_MM, CENTRE_MM = 9.0, np.array([7.3, -21.9, 55.2])


def tilted(degrees: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Affine of a gantry tilted by `degrees` about the patient's x; slices advance along the table."""
    tilt = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:3, 0] = -spacing[0], 0, 0
    affine[:3, 1] = 0, -spacing[1] * np.cos(tilt), spacing[1] * np.sin(tilt)
    affine[:3, 2] = 0, 0, spacing[2]
    return affine


def centred(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    affine = affine.copy()
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ (np.array(shape[::-1]) // 2)
    return affine


def ball(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """HU of a ball with an edge one mm wide, in air."""
    places = np.indices(shape)[::-1].reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(places - CENTRE_MM, axis=1)
    share = np.clip((RADIUS_MM - distance) / 1.0 + 0.5, 0, 1)
    return (-1000 + 1300 * share).reshape(shape)


def centroid(volume: Volume) -> np.ndarray:
    weight = volume.voxels.astype(np.float64) + 1000
    kji = np.array([(weight * index).sum() for index in np.indices(volume.voxels.shape)]) / weight.sum()
    return volume.to_ras(kji[None])[0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_ball_keeps_its_place_and_size(order: tuple[int, int, int]) -> None:
    affine = tilted(22, (0.7, 0.8, 1.5))
    affine[:3, :3] = affine[:3, order]
    shape = tuple(int(n) for n in np.ceil(34 / np.linalg.norm(affine[:3, :3], axis=0)))[::-1]
    affine = centred(affine, shape)
    sheared = Volume(np.round(ball(affine, shape)).astype(np.int16), affine, ("kept",))
    assert shear_deg(sheared.affine) == pytest.approx(22, abs=1e-6)
    result = upright(sheared)
    assert shear_deg(result.affine) < 1e-9
    assert result.voxels.dtype == np.int16
    assert result.notes == ("kept",)
    np.testing.assert_allclose(centroid(result), CENTRE_MM, atol=0.02)
    truth = ball(result.affine, result.voxels.shape)
    assert np.abs(result.voxels - truth).mean() < 6  # of 1300 HU, interpolation of an edge included
    litres = (result.voxels.astype(float) + 1000).sum() * result.voxel_volume_mm3 / 1300
    assert litres == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.02)


def test_a_thin_line_keeps_its_place() -> None:
    affine, shape = tilted(15, (0.5, 0.5, 1.0)), (40, 60, 60)
    affine = centred(affine, shape)
    places = np.indices(shape)[::-1].reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    direction = np.array([0.2, 0.3, 1.0]) / np.linalg.norm([0.2, 0.3, 1.0])
    away = np.linalg.norm(np.cross(places - CENTRE_MM, direction), axis=1)
    hu = (-1000 + 1400 * np.exp(-0.5 * (away / 0.7) ** 2)).reshape(shape)
    result = upright(Volume(hu.astype(np.float32), affine))
    bright = result.to_ras(np.argwhere(result.voxels > 0)) - CENTRE_MM
    offsets = bright - np.outer(bright @ direction, direction)
    assert np.linalg.norm(offsets.mean(axis=0)) < 0.05
    assert np.linalg.norm(offsets, axis=1).max() < 1.2


def test_what_is_outside_is_filled_and_labels_are_taken() -> None:
    affine = tilted(20, (1, 1, 2))
    labels = np.full((20, 16, 16), 7, np.uint8)
    labels[:, 8:] = 3
    result = upright(Volume(labels, affine), outside=0, nearest=True)
    assert set(np.unique(result.voxels)) == {0, 3, 7}
    mask = upright(Volume(labels == 7, affine), outside=0)
    assert mask.voxels.dtype == bool
    assert mask.voxels.sum() * mask.voxel_volume_mm3 == pytest.approx(
        (labels == 7).sum() * 2 * np.cos(np.deg2rad(20)), rel=0.03
    )
    assert upright(Volume(np.full((20, 16, 16), 40, np.int16), affine)).voxels.min() == -1000


def test_perpendicular_axes_come_back_untouched() -> None:
    affine = tilted(0, (1, 1, 2))
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    volume = Volume(np.zeros((3, 4, 5), np.int16), turn @ affine)
    assert upright(volume) is volume


def test_slices_stay_slices() -> None:
    """Along the coarsest axis nothing is interpolated: a slice of one value keeps that value."""
    hu = np.repeat(np.arange(10, dtype=np.int16) * 100, 8 * 8).reshape(10, 8, 8)
    result = upright(Volume(hu, tilted(12, (0.5, 0.5, 3))), outside=-1000)
    for k, one in enumerate(result.voxels):
        assert set(np.unique(one)) == {-1000, 100 * k}


def test_big_endian_voxels() -> None:
    hu = np.full((5, 6, 7), 300, ">i2")
    assert set(np.unique(upright(Volume(hu, tilted(12, (0.5, 0.5, 3)))).voxels)) == {-1000, 300}
