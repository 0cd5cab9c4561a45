"""Dark or bright contrast: what tags settle, what pixels may, and that a doubt is said and can be settled by the option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from scipy import ndimage
from xa_files import COLUMNS, ROWS, counts, retag, written

from DeepIterRegLib.common.options import Contrast
from DeepIterRegLib.images.dicom import SubtractionSettings, read_angiogram
from DeepIterRegLib.images.polarity import contrast_sign, rises_and_falls

SIZE = 160
VALID = np.ones((SIZE, SIZE), dtype=bool)


def bone() -> np.ndarray:
    """A head's outline and texture, attenuation."""
    r, c = np.indices((SIZE, SIZE)) - SIZE / 2 + 0.5
    texture = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(SIZE, SIZE)), 2.0)
    return 2.0 / (1 + np.exp((np.hypot(r, 1.2 * c) - 62) / 1.5)) + 0.6 * texture


def vessel(frames: int = 12) -> np.ndarray:
    """A winding vessel that fills in frame 2 and is empty again at the end, attenuation (t, row, column)."""
    r, c = np.indices((SIZE, SIZE))
    line = 0.5 * np.exp(-(((r - 80 - 12 * np.sin(c / 14)) / 2.0) ** 2)) * ((c > 40) & (c < 120))
    course = np.exp(-(((np.arange(frames) - 5) / 2.0) ** 2)) * (np.arange(frames) > 1)
    return course[:, None, None] * line


def noise(frames: int = 12) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.02, (frames, SIZE, SIZE))


def test_bone_that_moved_is_no_vessel_with_its_mask_or_without() -> None:
    mask = -bone()
    steps = np.linspace(0, 0.8, 12)
    moved = np.array([ndimage.shift(mask, (step, 0.7 * step), order=3, mode="nearest") for step in steps])
    left = moved - mask + noise()
    assert contrast_sign(left, VALID, mask) == 0
    assert contrast_sign(left[3:], VALID) == 0
    filled = (left - vessel())[2:]
    for sign in (1, -1):  # turned round as a whole, the answer turns too
        assert contrast_sign(sign * filled, VALID, sign * mask) == -sign


def test_noise_and_blush_are_no_vessels() -> None:
    r, c = np.indices((SIZE, SIZE)) - SIZE / 2
    blush = -0.4 * np.exp(-(r**2 + c**2) / (2 * 25.0**2))
    assert contrast_sign(noise(), VALID) == 0
    assert contrast_sign(noise() + blush, VALID) == 0
    assert contrast_sign(noise()[:, :9, :9], VALID[:9, :9]) == 0


def test_contrast_that_is_washed_out_does_not_fade() -> None:
    assert rises_and_falls(vessel() + noise(), VALID)
    washed = vessel()[5] - vessel()[5:]
    assert not rises_and_falls(washed + noise()[5:], VALID)


# -- by the tags --------------------------------------------------------------------------------------------


def inverted(ds: Dataset) -> None:
    ds.PixelData = (4095 - counts()).tobytes()


@pytest.mark.parametrize("white", [False, True], ids=["dark", "bright"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_sign_decides_whatever_else_is_there(tmp_path: Path, photometric: str, white: bool) -> None:
    def change(ds: Dataset) -> None:
        ds.PhotometricInterpretation = photometric
        if white:
            inverted(ds)
            ds.PixelIntensityRelationshipSign = -1

    run = read_angiogram(written(tmp_path / "run.dcm", change), subtraction=SubtractionSettings(remask=False))
    assert run.frames[3, 20:22, 20:40].mean() < -0.3
    assert run.notes == ()
    assert run.other_readings == ()


def unclear(ds: Dataset) -> None:
    """No sign, and a vessel too short to be told from bone: a speck."""
    del ds.PixelIntensityRelationshipSign
    frames = counts()
    frames[:] = frames[0]
    frames[2:, 20:22, 30:32] = frames[2:, 20:22, 30:32] * 0.7
    ds.PixelData = frames.tobytes()


@pytest.mark.parametrize(
    ("tags", "side"),
    [({"PhotometricInterpretation": "MONOCHROME2"}, -1), ({"PhotometricInterpretation": "MONOCHROME1"}, 1)],
)
def test_what_is_not_clear_is_said_and_the_option_settles_it(tmp_path: Path, tags: dict[str, str], side: int) -> None:
    def change(ds: Dataset) -> None:
        unclear(ds)
        retag(**tags)(ds)

    path = written(tmp_path / "run.dcm", change)

    def speck(contrast: Contrast) -> float:
        run = read_angiogram(path, subtraction=SubtractionSettings(remask=False, contrast=contrast))
        assert (run.other_readings == ()) == (contrast != "auto")
        return float(run.frames[3, 20:22, 30:32].mean())

    run = read_angiogram(path, subtraction=SubtractionSettings(remask=False))
    doubt = next(note for note in run.notes if "not certain" in note)
    assert f"PhotometricInterpretation (0028,0004) is {tags['PhotometricInterpretation']}" in doubt
    assert doubt.endswith("they are read as dark. Give `contrast` bright.")
    assert np.sign(speck("auto")) == np.sign(speck("dark")) == side
    assert np.sign(speck("bright")) == -side
    (other,) = run.other_readings
    assert (other.words, other.always) == ("bright vessels", False)
    assert np.sign(other.read().frames[3, 20:22, 30:32].mean()) == -side


def test_a_shape_that_contradicts_is_named(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        unclear(ds)
        ds.PresentationLUTShape = "INVERSE"

    notes = read_angiogram(written(tmp_path / "run.dcm", change)).notes
    assert any("against which PresentationLUTShape (2050,0020) is INVERSE" in note for note in notes)


def test_pixels_against_the_sign_of_a_subtracted_run_are_said_not_believed(tmp_path: Path) -> None:
    grey = 2048 + np.random.default_rng(3).normal(0, 20, (5, ROWS, COLUMNS))
    grey[2:, 20:22, 10:-10] += 700

    def subtracted(ds: Dataset) -> None:
        ds.PixelData = grey.astype(np.uint16).tobytes()
        ds.ImageType = ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"]
        del ds.MaskSubtractionSequence

    run = read_angiogram(written(tmp_path / "run.dcm", subtracted))
    assert run.frames[3, 20:22, 20:40].mean() > 500
    assert any("in the pixels they look bright" in note and "`contrast` bright" in note for note in run.notes)
    assert run.other_readings[0].read().frames[3, 20:22, 20:40].mean() < -500
