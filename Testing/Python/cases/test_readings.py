"""Runs that can be read in two ways, registered for real: the better one is taken and said, a hopeless one is said too."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from DeepIterRegLib.cases.case import Case, register_case
from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.angiogram import Angiogram, OtherReading
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume


@pytest.fixture(scope="module")
def run(patient_folder: Path) -> Angiogram:
    return read_angiogram(patient_folder / "dsa.dcm")


def case(folder: Path, angiogram: Angiogram) -> Case:
    """True vessels, a start at the truth."""
    return Case(
        cta=partial(load_volume, folder / "cta.nii.gz"),
        angiogram=lambda: angiogram,
        cta_vessels=partial(load_volume, folder / "arteries.nii.gz"),
        cta_veins=partial(load_volume, folder / "veins.nii.gz"),
        initial_pose=partial(read_pose, folder / "truth.tfm"),
        reference=partial(read_pose, folder / "truth.tfm"),
    )


def other(angiogram: Angiogram, words: str, option: str, value: str, always: bool) -> tuple[OtherReading, ...]:
    return (OtherReading(words, (Remedy(option, value),), always, lambda: angiogram),)


def turned(run: Angiogram) -> Angiogram:
    return replace(run, frames=-run.frames)


def test_grey_values_are_turned_round_only_where_nothing_matches(patient_folder: Path, run: Angiogram) -> None:
    wrong = replace(turned(run), other_readings=other(run, "dark vessels", "contrast", "dark", False))
    outcome = register_case(case(patient_folder, wrong), Progress())
    found = outcome.registration
    (said,) = [warning for warning in found.warnings if "dark vessels" in warning]
    assert isinstance(said, Message)
    assert said.give == (Remedy("contrast", "dark"),)
    np.testing.assert_array_equal(outcome.angiogram.frames, run.frames)

    right = replace(run, other_readings=other(turned(run), "bright vessels", "contrast", "bright", False))
    found = register_case(case(patient_folder, right), Progress()).registration
    assert not any("bright vessels" in warning for warning in found.warnings)


def test_where_no_reading_matches_all_are_said(patient_folder: Path, run: Angiogram) -> None:
    noise = replace(run, frames=np.random.default_rng(0).normal(0, 1, run.frames.shape).astype(np.float32))
    doubtful = replace(noise, other_readings=other(turned(noise), "bright vessels", "contrast", "bright", False))
    with pytest.raises((InputError, RegistrationError), match=r"Read with bright vessels it matches no better."):
        register_case(case(patient_folder, doubtful), Progress())


def test_of_two_scales_the_one_that_matches_is_taken(patient_folder: Path, run: Angiogram) -> None:
    run = replace(run, unsubtracted=None)
    rows, columns = run.carm.pixel_spacing_mm
    halved = replace(run, carm=replace(run.carm, pixel_spacing_mm=(rows / 2, columns / 2)))
    both = replace(halved, other_readings=other(run, "another spacing", "pixel_spacing", "1", True))
    outcome = register_case(case(patient_folder, both), Progress())
    assert outcome.registration.carm.pixel_spacing_mm == pytest.approx((rows, columns))
    (said,) = [warning for warning in outcome.registration.warnings if "another spacing" in warning]
    assert "clearly better" in said
