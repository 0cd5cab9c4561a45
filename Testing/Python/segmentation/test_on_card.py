"""Segmentation on a card gives the CPU's masks, step by step and as a whole; where there is no card, torch's operations on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import ndimage

from DeepIterRegLib.common import devices
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import GeometryOptions, read_angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom.patient import make_patient, write_patient
from DeepIterRegLib.phantom.settings import CtaSettings, PhantomSettings, RunSettings, ViewSettings
from DeepIterRegLib.segmentation import dsa_cpu, dsa_tensors
from DeepIterRegLib.segmentation.cta import cpu, tensors
from DeepIterRegLib.segmentation.cta.brain import CAVITY, DEEP, NECK, RIM
from DeepIterRegLib.segmentation.cta.grid import POOL, WorkingGrid
from DeepIterRegLib.segmentation.cta.joined import FACES, joined
from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
from DeepIterRegLib.segmentation.dsa import DsaMasks, segment_dsa

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COARSE = CtaSegmentation(working_spacing_mm=1.2)
SAME = 1e-4  # of a mask's voxels may differ, where rounding decides
BRAIN_HU, BONE_HU = 37.5, 441.3
SHAPE = (28, 32, 36)
GRID = WorkingGrid(0.7, SHAPE, np.c_[np.diag([1.13, 0.94, 1.07]), [-2.2, 1.3, -0.8]])
TURNED = WorkingGrid(0.7, SHAPE, np.array([[1.1, 0.2, -0.1, -3.0], [-0.2, 0.9, 0.1, 2.0], [0.1, -0.1, 1.2, -1.0]]))


@pytest.fixture
def card() -> Iterator[devices.Place]:
    """Inside of it a card computes, or what stands in for one."""
    place = devices.Place("auto")
    place.card = devices.Card(DEVICE, "A card")
    with devices.at(place):
        yield place


def there(values: np.ndarray) -> torch.Tensor:
    return tensors.held(values, DEVICE)


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    """Soft noise from air to bone, with tubes of contrast: (z, y, x) int16."""
    rng = np.random.default_rng(5)
    soft = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.6)
    noise = 90 + 260 * soft / soft.std() + rng.normal(0, 8, SHAPE)
    z, y, x = np.indices(SHAPE)
    for row, column in ((8, 9), (20, 25)):
        noise[np.hypot(y - row - 2 * np.sin(z / 4), x - column) < 2.5] = 320
    return noise.clip(-1024, 3071).astype(np.int16)


@pytest.fixture(scope="module")
def zone() -> np.ndarray:
    kinds = np.array([0, CAVITY, DEEP, RIM, NECK], dtype=np.uint8)
    return np.random.default_rng(6).choice(kinds, [n // POOL for n in SHAPE])


def assert_near(found: np.ndarray, expected: np.ndarray, relative: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, atol=relative * float(np.abs(expected).max()), rtol=0)


# -- the steps of a CTA --------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [GRID, TURNED], ids=["along the axes", "turned"])
def test_grids_are_those_of_the_cpu(grid: WorkingGrid, hu: np.ndarray) -> None:
    voxels = np.random.default_rng(7).integers(-1200, 3500, (31, 30, 37)).astype(np.int16)
    working = cpu.resampled(voxels, grid)
    np.testing.assert_array_equal(tensors.host(tensors.resampled(there(voxels), grid)), working)
    assert np.ptp(working) > 3000
    mask = ndimage.binary_opening(hu > 250)
    drawn = cpu.drawn(voxels, grid, hu, mask, BRAIN_HU, BONE_HU)
    np.testing.assert_array_equal(tensors.drawn(there(voxels), grid, there(hu), there(mask), BRAIN_HU, BONE_HU), drawn)
    assert drawn.any()


def test_levels_are_those_of_the_cpu(hu: np.ndarray) -> None:
    calm = (0.1 * (hu.astype(np.float32) - 90) + 40).astype(np.int16)
    z, y, x = np.indices(SHAPE)
    calm[np.hypot(y - 14, x - 18) < 6] = 300 + z[np.hypot(y - 14, x - 18) < 6]
    cells = np.random.default_rng(8).random([n // POOL for n in SHAPE]) < 0.9
    for found, expected in zip(tensors.pooled(there(hu), BONE_HU), cpu.pooled(hu, BONE_HU), strict=True):
        np.testing.assert_array_equal(tensors.host(found), expected)
    expected = cpu.brain_and_vessel_hu(calm, cells)
    assert tensors.brain_and_vessel_hu(there(calm), cells) == pytest.approx(expected, abs=1e-9)
    levels = cpu.vein_and_artery_hu(calm, cells, *expected)
    assert tensors.vein_and_artery_hu(there(calm), cells, *expected) == levels
    assert levels[0] > 290


def test_candidates_are_those_of_the_cpu(hu: np.ndarray, zone: np.ndarray) -> None:
    painted = cpu.painted_as_brain(hu, zone, BRAIN_HU, BONE_HU)
    np.testing.assert_array_equal(tensors.host(tensors.painted_as_brain(there(hu), zone, BRAIN_HU, BONE_HU)), painted)
    for sigma_px in (0.1, 0.9, 2.7):
        smooth = cpu.gaussian_blur(painted.copy(), sigma_px)
        assert_near(tensors.host(tensors.gaussian_blur(there(painted), sigma_px)), smooth, 1e-6)
    index, kind = cpu.bright_voxels(painted, hu, zone, BRAIN_HU + 60, BONE_HU)
    found = tensors.bright_voxels(there(painted), there(hu), zone, BRAIN_HU + 60, BONE_HU)
    for one, other in zip(found, (index, kind), strict=True):
        np.testing.assert_array_equal(tensors.host(one), other)
    assert len(index) > 500
    np.testing.assert_array_equal(tensors.values_at(there(smooth), found[0]), cpu.values_at(smooth, index))
    expected = cpu.tubes(smooth, index, 1.7, BRAIN_HU)
    for one, other in zip(tensors.tubes(there(smooth), found[0], 1.7, BRAIN_HU), expected, strict=True):
        assert_near(one, other)
        assert other.max() > 0
    levels = (BRAIN_HU + 60, 380.0, BONE_HU, 17)
    opened = cpu.openness(hu, index, zone, *levels)
    np.testing.assert_array_equal(tensors.openness(there(hu), found[0], zone, *levels), opened)
    assert 0 < opened[kind != DEEP].mean() < 1


def test_pieces_are_those_of_the_cpu(hu: np.ndarray, zone: np.ndarray) -> None:
    mask = hu > 300
    flat = np.flatnonzero(mask)
    np.testing.assert_array_equal(tensors.pieces(flat, there(hu)), cpu.pieces(flat, hu))
    assert not len(tensors.pieces(flat[:0], there(hu)))
    np.testing.assert_array_equal(tensors.host(tensors.marked(flat, there(hu))), mask)
    by_faces, count = ndimage.label(mask)
    found = tensors.host(joined(there(np.argwhere(mask)), SHAPE, FACES))
    np.testing.assert_array_equal(found + 1, by_faces[mask])
    assert count > 10
    within = (hu > 150) & (hu < 441)
    expected = cpu.grown(mask, within, 3)
    np.testing.assert_array_equal(tensors.host(tensors.grown(there(mask), there(within), 3)), expected)
    for wide in (0, 3):
        parts = cpu.brain_and_neck_pieces(mask, zone, wide, 40.0)
        for one, other in zip(tensors.brain_and_neck_pieces(there(mask), zone, wide, 40.0), parts, strict=True):
            np.testing.assert_array_equal(tensors.host(one), other)
            assert other.any()
    assert tensors.counts(there(mask), zone == DEEP) == cpu.counts(mask, zone == DEEP)


def test_masks_are_dilated_and_measured_as_by_the_cpu() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(10).normal(size=SHAPE), 2.0) > -0.02
    within = ndimage.binary_dilation(mask, iterations=2)
    for most_mm in (4.0, 17.0):
        found, expected = tensors.host(tensors.depth_mm(there(mask), 2.8, most_mm)), cpu.depth_mm(mask, 2.8, most_mm)
        np.testing.assert_array_equal(found > most_mm, expected > most_mm)
        np.testing.assert_allclose(found[expected <= most_mm], expected[expected <= most_mm], rtol=1e-12)
        assert (expected > 4).any()
    small = ndimage.binary_erosion(mask, iterations=2)
    np.testing.assert_array_equal(tensors.host(tensors.largest_piece(there(small))), cpu.largest_piece(small))
    assert not tensors.largest_piece(there(0 * small)).any()
    for structure in ("faces", "edges"):
        for steps in (0, 1, 3):
            for limit in (None, within):
                limited = None if limit is None else there(limit)
                found = tensors.host(tensors.dilated(there(small), structure, steps, limited))
                np.testing.assert_array_equal(found, cpu.dilated(small, structure, steps, limit))
        found = tensors.host(tensors.closed(there(small), structure, 2))
        np.testing.assert_array_equal(found, cpu.closed(small, structure, 2))


def test_a_snake_of_voxels_is_one_piece() -> None:
    """Links of links of links: each round joins what the one before has."""
    snake = np.zeros((3, 41, 40), dtype=bool)
    snake[1, ::2] = True
    snake[1, 1::4, -1] = snake[1, 3::4, 0] = True
    order = np.random.default_rng(9).permutation(int(snake.sum()))
    assert not tensors.host(joined(there(np.argwhere(snake)[order]), snake.shape, FACES)).any()


def test_bridges_are_those_of_the_cpu() -> None:
    z, y, x = np.mgrid[:60, :60, :60] * 0.7
    canal = np.hypot(y - 12 - 6 * np.sin(z / 8), x - 21) < 2.4
    hu = np.where((z > 9) & (z < 33), 1100.0, 45.0)
    hu[canal] = 300
    hu = np.round(ndimage.gaussian_filter(hu, 0.6) + np.random.default_rng(0).normal(0, 10, hu.shape)).astype(np.int16)
    upper, lower = canal & (z > 34), canal & (z < 8)
    expected = cpu.bridges(hu, upper, lower, 40.0, 300.0, 0.7)
    found = tensors.bridges(there(hu), there(upper), there(lower), 40.0, 300.0, 0.7)
    np.testing.assert_array_equal(tensors.host(found), expected)
    assert expected[canal & (z > 10) & (z < 32)].mean() > 0.5
    nothing = np.zeros_like(upper)
    assert not tensors.bridges(there(hu), there(nothing), there(lower), 40.0, 300.0, 0.7).any()


# -- the steps of a run --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 7, 15, 40])
def test_steps_of_a_run_are_those_of_the_cpu(count: int) -> None:
    """From a single frame, which knows no time, to more frames than are told apart."""
    rng = np.random.default_rng(count)
    soft = ndimage.gaussian_filter(rng.normal(size=(150, 141)), 3)
    frames = rng.normal(0, 0.02, (count, 150, 141)) - np.linspace(0, 1, count)[:, None, None] * np.maximum(soft, 0)
    frames[count // 2] += 2 * np.abs(soft)
    frames = frames.astype(np.float32)
    valid = np.ones(frames.shape[1:], dtype=bool)
    valid[:9] = False
    assert_near(dsa_tensors.minip_of(there(frames), valid), dsa_cpu.minip_of(frames, valid), 1e-6)
    groups = [slice(n, n + 2) for n in range(0, count, 2)] if count > 32 else [slice(n, n + 1) for n in range(count)]
    images = dsa_cpu.at_most(dsa_cpu.shrunk(frames, 2), groups)
    found = dsa_tensors.at_most(dsa_tensors.shrunk(there(frames), 2), groups)
    assert_near(dsa_tensors.host(found), images, 1e-6)
    inside = ndimage.binary_erosion(dsa_cpu.shrunk(valid[None], 2)[0] > 0.999, iterations=3)
    contrast, mine = dsa_cpu.contrast_of(images, inside, 20.0), dsa_tensors.contrast_of(found, inside, 20.0)
    assert_near(dsa_tensors.host(mine), contrast)
    assert_near(dsa_tensors.largest(mine), dsa_cpu.largest(contrast))
    assert not dsa_cpu.is_even(contrast, images, inside)
    assert not dsa_tensors.is_even(mine, found, inside)
    assert dsa_tensors.is_even(0 * mine, found, inside)
    noise = dsa_cpu.noise_of(contrast, inside)
    assert_near(dsa_tensors.noise_of(mine, inside), noise)
    times_s = np.arange(len(images)) * 0.4
    strength, trust, arrival_s = dsa_cpu.follow_bolus(contrast, images, inside, noise, times_s)
    followed = dsa_tensors.follow_bolus(mine, found, inside, noise, times_s)
    assert_near(dsa_tensors.host(followed[0]), strength)
    assert_near(followed[1], trust, 1e-4)
    assert np.mean(np.abs(followed[2] - arrival_s)[strength > 0.1 * strength.max()] > 1e-4) < 0.01
    assert_near(dsa_tensors.ridge_strength(followed[0], (1.0, 3.0)), dsa_cpu.ridge_strength(strength, (1.0, 3.0)))


# -- the whole -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, Angiogram]:
    settings = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.3, 1.3), slice_spacing_mm=(1.4, 1.4)),
        view=ViewSettings(matrices=(256,), field_mm=((250.0, 250.0),)),
        run=RunSettings(frames_per_s=(2.0, 2.0), duration_s=(7.0, 7.0)),
    )
    folder = tmp_path_factory.mktemp("patient")
    made = make_patient(7, settings)
    write_patient(made, folder)
    return made.cta, read_angiogram(folder / "dsa.dcm", GeometryOptions())


def assert_same_mask(found: np.ndarray, expected: np.ndarray) -> None:
    assert expected.sum() > 300
    assert (found != expected).sum() <= SAME * expected.sum()


def assert_same_masks(found: DsaMasks, expected: DsaMasks) -> None:
    for name in ("vessels", "arteries", "veins"):
        assert_same_mask(getattr(found, name), getattr(expected, name))
    assert_near(found.minip, expected.minip)
    assert_near(found.vesselness, expected.vesselness, 1e-3)


def test_a_patients_masks_are_those_of_the_cpu(
    patient: tuple[Volume, Angiogram], card: devices.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    cta, run = patient
    with devices.on("cpu"):
        expected = segment_vessels(cta, COARSE), segment_dsa(run)
    monkeypatch.setattr(tensors, "_AT_ONCE", 300_000)  # several slabs
    found = segment_vessels(cta, COARSE), segment_dsa(run)
    assert_same_mask(found[0].voxels, expected[0].voxels)
    assert_same_masks(found[1], expected[1])
    assert not card.full


@pytest.mark.parametrize("step", ["shrunk", "ridge_strength"])
def test_where_the_card_is_full_the_cpu_segments(
    step: str, patient: tuple[Volume, Angiogram], card: devices.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that happens: the masks are the CPU's, and who asked is told."""

    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError

    run, told = patient[1], list[float]()
    monkeypatch.setattr(dsa_tensors, step, full)
    found = segment_dsa(run, on_progress=told.append)
    assert card.full
    with devices.on("cpu"):
        expected = segment_dsa(run)
    for name in ("minip", "vesselness", "vessels", "arteries", "veins", "arrival_time_s"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert told[-1] == 0.95


def test_the_same_place_within_itself_and_none_on_the_cpu() -> None:
    with devices.on("auto") as outer:
        with devices.on("auto") as inner:
            assert inner is outer
        with devices.on("cpu") as other:
            assert other is not outer
            assert devices.by_card(lambda device: "card", lambda: "CPU") == "CPU"
    assert devices.by_card(lambda device: "card", lambda: "CPU") == "CPU"
