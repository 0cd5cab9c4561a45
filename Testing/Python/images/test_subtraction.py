"""Mask frames, motion and polarity on runs whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.angiogram import PatientMotion
from DeepIterRegLib.images.motion import undo_motion
from DeepIterRegLib.images.polarity import contrast_sign
from DeepIterRegLib.images.resampling import displacements, resample
from DeepIterRegLib.images.subtraction import (
    SubtractionSettings,
    background_spread,
    choose_mask_frames,
    looks_subtracted,
    subtract,
)
from DeepIterRegLib.phantom import PhantomSettings, make_patient
from DeepIterRegLib.phantom.settings import CtaSettings, RunSettings, ViewSettings

SIZE = 256
STILL = SubtractionSettings(remask=False)


def skull(seed: int = 0) -> np.ndarray:
    """Attenuation of a head: an ellipse with bone texture at several scales."""
    rng = np.random.default_rng(seed)
    r, c = np.indices((SIZE, SIZE)) / SIZE
    head = 3 * np.exp(-((r - 0.5) ** 2 + (c - 0.5) ** 2) / 0.12)
    for amount, sigma in ((1.5, 2), (1.5, 5), (1.5, 13)):
        head += amount * sigma * ndimage.gaussian_filter(rng.normal(size=head.shape), sigma)
    return head - head.min()


def vessel() -> np.ndarray:
    c = np.arange(SIZE)
    centre = 128 + 50 * np.sin(c / 30)
    return np.exp(-((np.arange(SIZE)[:, None] - centre) ** 2) / 4.0)


def moved(image: np.ndarray, shift: tuple[float, float], turn_deg: float = 0.0) -> np.ndarray:
    a = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    centre = np.full(2, (SIZE - 1) / 2)
    return ndimage.affine_transform(image, turn, centre - turn @ centre + shift, order=3, mode="nearest")


def log_run(shifts: list[tuple[float, float]], arrival: int, seed: int = 1, photons: float = 20000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    head = skull()
    run = []
    for t, shift in enumerate(shifts):
        attenuation = 0.5 * moved(head + (0.8 * vessel() if t >= arrival else 0), shift)
        run.append(np.log(np.maximum(rng.poisson(photons * np.exp(-attenuation)), 1)))
    return np.array(run, dtype=np.float32)


VALID = np.ones((SIZE, SIZE), dtype=bool)


# -- resampling --------------------------------------------------------------------------------------


def test_resampling_is_exact_on_quadratics() -> None:
    r, c = np.indices((30, 40)).astype(float)

    def surface(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return 1 + 0.3 * y - 0.2 * x + 0.05 * y**2 + 0.02 * x * y - 0.01 * x**2

    field = np.array([[0.4, 0.3, 0.2, 0.5, -0.3, 0.2], [-0.3, -0.4, 0.6, 0.2, 0.1, -0.4]])
    out = np.zeros((30, 40), np.float32)
    fill = np.full((30, 40), np.float32(np.nan))
    resample(surface(r, c).astype(np.float32), field, np.ones((30, 40), dtype=bool), fill, out)
    places = np.column_stack([r.ravel(), c.ravel()])
    y, x = (places + displacements(field, places, (30, 40))).T.reshape(2, 30, 40)
    inner = (y >= 1) & (y <= 28) & (x >= 1) & (x <= 38)
    np.testing.assert_allclose(out[inner], surface(y, x)[inner], rtol=1e-5, atol=1e-4)
    outside = (y < 0) | (y > 29) | (x < 0) | (x > 39)
    assert outside.any()
    assert np.isnan(out[outside]).all()
    assert np.isfinite(out[~outside]).all()


# -- motion ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [(0.3, -0.4), (1.7, 2.2), (-6.0, 3.5), (12.4, -9.1)])
def test_translation_is_recovered_under_contrast_and_noise(shift: tuple[float, float]) -> None:
    run = log_run([(0, 0), shift], arrival=1)
    still = log_run([(0, 0), (0, 0)], arrival=1, seed=5)
    mask = run[0].copy()
    motion = undo_motion(run, mask, VALID)
    assert motion.undone[0] == 0
    assert motion.undone[1] == pytest.approx(max(np.abs(shift)), abs=0.15)
    inner = np.s_[20:-20, 20:-20]
    left, noise = run[1][inner] - still[1][inner], still[0][inner] - mask[inner]
    assert left.std() < 1.15 * noise.std()


def test_rotation_about_the_neck_is_undone() -> None:
    head = skull()
    run = np.array([head, moved(head, (1.0, -0.5), turn_deg=1.0)], dtype=np.float32) * np.float32(-0.5)
    before = np.abs(run[1] - run[0])[30:-30, 30:-30].mean()
    undo_motion(run, run[0].copy(), VALID)
    assert np.abs(run[1] - run[0])[30:-30, 30:-30].mean() < 0.1 * before


def test_still_frames_are_left_as_they_are() -> None:
    run = log_run([(0, 0)] * 4, arrival=2)
    before = run.copy()
    assert not undo_motion(run, run[0].copy(), VALID).undone.any()
    np.testing.assert_array_equal(run, before)


def test_motion_under_a_shutter() -> None:
    run = log_run([(0, 0), (1.5, -2.5)], arrival=9)
    valid = np.hypot(*(np.indices((SIZE, SIZE)) - SIZE / 2)) < 100
    run[:, ~valid] = -50
    result = subtract(run, valid, mask_frames=(0,))
    assert result.motion is not None
    assert result.motion.undone[1] == pytest.approx(2.5, abs=0.2)
    assert not result.frames[:, ~valid].any()
    assert np.abs(result.frames[1]).max() < 1  # nothing of the black shutter


def test_vessels_of_all_frames_meet_after_motion() -> None:
    shifts = [(0, 0), (0, 0), (0, 0), (1.5, 0.5), (3.0, 1.0), (4.5, 1.5)]
    result = subtract(log_run(shifts, arrival=2), VALID, mask_frames=(0, 1))
    crooked = subtract(log_run(shifts, arrival=2), VALID, mask_frames=(0, 1), settings=STILL)
    inner = np.zeros_like(VALID)
    inner[20:-20, 20:-20] = True
    truth = vessel() > 0.5
    assert result.frames[2:, truth & inner].mean() == pytest.approx(-0.34, abs=0.05)
    away = inner & (vessel() < 1e-4)
    assert result.frames[5][away].std() < 0.5 * crooked.frames[5][away].std()
    assert result.motion is not None
    assert result.motion.undone[5] == pytest.approx(4.5, abs=0.2)
    assert result.motion.left[5] < 0.15  # a shift is undone all over


@pytest.mark.parametrize("motion_mm", [2.0, 5.0])
def test_shifts_of_a_phantom_are_estimated_within_a_pixel(motion_mm: float) -> None:
    coarse = CtaSettings(in_plane_spacing_mm=(2.0, 2.0), slice_spacing_mm=(2.0, 2.0))
    frames = RunSettings(frames_per_s=(1.5, 1.5), duration_s=(6.0, 6.0), motion_mm=motion_mm, motion_deg=0.0)
    patient = make_patient(41, PhantomSettings(cta=coarse, view=ViewSettings(matrices=(256,)), run=frames))
    run, carm = patient.run, patient.carm
    valid = run.frames.min(axis=0) > 0
    log = np.log(np.maximum(run.frames.astype(np.float32), 0.5))
    crooked = subtract(log.copy(), valid, mask_frames=run.mask_frames, settings=STILL)
    result = subtract(log, valid, mask_frames=run.mask_frames)
    middle = patient.cta.centre_mm[None]
    at = np.array([carm.project(middle, m @ patient.cta_to_carm)[0] for m in run.motion])
    truth_px = np.abs(at - at[run.mask_frames[-1]]).max(axis=1)
    assert truth_px.max() > 0.5
    assert result.motion is not None
    np.testing.assert_allclose(result.motion.undone, truth_px, atol=1.0)
    moved_most = int(np.argmax(truth_px))
    left, before = (np.abs(r.frames[moved_most][valid]).mean() for r in (result, crooked))
    assert left < 0.8 * before
    assert result.motion.left.max() < 0.5 * truth_px.max()


def test_motion_that_no_bending_undoes_is_said() -> None:
    """Four bands slide to and fro, which no smooth bending follows; a plain shift leaves next to nothing."""
    head = skull()
    slipped = np.where(np.arange(SIZE)[:, None] * 4 // SIZE % 2, moved(head, (0, 2.5)), moved(head, (0, -2.5)))
    run = np.array([head, slipped, moved(head, (1.0, 2.0))], dtype=np.float32) * np.float32(-0.5)
    motion = undo_motion(run, run[0].copy(), VALID)
    assert motion.left[1] > 3 * max(motion.left[2], 0.05)
    much = PatientMotion(0.5 * motion.undone, 0.5 * motion.left, motion.fields, motion.before).note()
    assert "more than shifting and bending" in much
    little = PatientMotion(
        0.5 * motion.undone[[0, 2]], 0.5 * motion.left[[0, 2]], motion.fields[[0, 2]], motion.before
    ).note()
    assert little.startswith("The patient moved")
    assert "more than" not in little
    assert not PatientMotion(np.zeros(3), np.zeros(3), np.zeros((3, 2, 6)), motion.before).note()


def test_mask_shift_of_the_file_is_used_when_motion_is_not_estimated() -> None:
    run = log_run([(0, 0), (0, 0), (-3, 2), (-3, 2)], arrival=9)
    shifted = subtract(run.copy(), VALID, mask_frames=(0, 1), mask_shift_px=(3, -2), settings=STILL)
    plain = subtract(run.copy(), VALID, mask_frames=(0, 1), settings=STILL)
    inner = np.s_[10:-10, 10:-10]
    assert shifted.frames[3][inner].std() < 0.4 * plain.frames[3][inner].std()


# -- mask frames -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrival", [1, 2, 5])
def test_frames_before_contrast_are_found(arrival: int) -> None:
    frames = log_run([(0, 0)] * 9, arrival)
    assert choose_mask_frames(frames, VALID) == tuple(range(max(0, arrival - 4), arrival))


def test_exposure_that_varies_is_not_contrast() -> None:
    frames = log_run([(0, 0)] * 8, 4)
    frames += np.float32([0, 0.2, -0.1, 0.05, 0, 0.3, 0, -0.2])[:, None, None]
    assert choose_mask_frames(frames, VALID) == (0, 1, 2, 3)
    result = subtract(frames, VALID)
    assert abs(np.median(result.frames, axis=(1, 2))).max() < 1e-3


def test_run_with_contrast_from_the_start_has_no_mask() -> None:
    frames = log_run([(0, 0)] * 8, 4)[::-1].copy()
    assert choose_mask_frames(frames, VALID) is None
    result = subtract(frames, VALID)
    assert result.mask_frames == ()
    assert result.frames[0][vessel() > 0.8].mean() < -0.3
    assert any("stands in" in note for note in result.notes)


def test_mask_frames_out_of_range() -> None:
    with pytest.raises(InputError, match=r"\(1, 10\).*frames 1 to 4"):
        subtract(log_run([(0, 0)] * 4, 2), VALID, settings=SubtractionSettings(mask_frames=(0, 9)))


def test_settings_win_over_the_file() -> None:
    result = subtract(log_run([(0, 0)] * 4, 2), VALID, mask_frames=(3,), settings=SubtractionSettings(mask_frames=(0,)))
    assert result.mask_frames == (0,)
    assert result.frames[3][vessel() > 0.8].mean() < -0.3


# -- polarity and kind -------------------------------------------------------------------------------


def test_contrast_sign() -> None:
    frames = log_run([(0, 0)] * 6, 2)
    differences = frames - frames[0]
    assert contrast_sign(differences, VALID) == -1
    assert contrast_sign(-differences, VALID) == 1
    assert contrast_sign(np.random.default_rng(0).normal(size=(4, 64, 64)), np.ones((64, 64), dtype=bool)) == 0


def test_subtracted_and_unsubtracted_runs_look_different() -> None:
    frames = log_run([(0, 0)] * 6, 2)
    assert not looks_subtracted(frames, VALID)
    assert not looks_subtracted(np.exp(frames), VALID)
    result = subtract(frames, VALID, mask_frames=(0, 1), settings=STILL)
    assert looks_subtracted(result.frames, VALID)
    assert background_spread(result.frames, VALID) < 0.1


def test_one_frame_loses_its_slow_background() -> None:
    frame = log_run([(0, 0)], 0)
    result = subtract(frame, VALID)
    assert abs(np.median(result.frames)) < 0.05
    assert result.frames[0][vessel() > 0.8].mean() < result.frames[0].mean() - 0.1
    assert "no mask" in result.notes[0]
    assert result.unsubtracted is not None
    assert result.unsubtracted.min() == 0
