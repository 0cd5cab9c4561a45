"""The main job on a small scene: known poses, the acceptance rule, the published preset, cancel, faults."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tree_scene import CARM, CTA, MASK, run_at, small, truth_at

from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.common.progress import Progress, ProgressEvent
from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.steps import Step


def error_mm(found: Registration, truth: np.ndarray) -> float:
    return float(mpe_mm(CARM, found.cta_to_carm, truth, MASK.centre_mm))


def test_radiological_start_corrects_a_small_offset():
    truth = truth_at([4, -5, 3], [3, -4, 5])
    angiogram, masks = run_at(truth)
    settings = RegistrationSettings.preset("default", init="radiological")
    found = register(CTA, angiogram, settings, cta_mask=MASK, dsa_masks=masks)
    assert error_mm(found, truth) < 0.5
    assert found.init.accepted
    assert [stage.name for stage in found.stages] == ["MinIP, coarse", "MinIP"]


def test_search_finds_a_large_offset_and_repeats_itself():
    truth = truth_at([16, -15, 14], [-18, 17, 15])
    angiogram, masks = run_at(truth)
    events: list[ProgressEvent] = []
    settings = small(RegistrationSettings.preset("default", seed=3))
    found = register(
        CTA,
        angiogram,
        settings,
        cta_mask=MASK,
        dsa_masks=masks,
        on_progress=Progress(events.append),
    )
    assert error_mm(found, truth) < 0.5
    assert found.score > found.init.score_radiological
    assert {Step.SEARCH, Step.REFINE} <= {event.step for event in events}
    again = register(CTA, angiogram, settings, cta_mask=MASK, dsa_masks=masks)
    np.testing.assert_array_equal(found.cta_to_carm, again.cta_to_carm)


def test_given_pose_is_taken_if_it_scores_higher_and_refused_if_lower():
    truth = truth_at([12, 10, -14], [12, -14, 10])
    angiogram, masks = run_at(truth)
    settings = RegistrationSettings.preset("default", init="file")
    good = register(CTA, angiogram, settings, cta_mask=MASK, dsa_masks=masks, initial_pose=truth)
    assert good.init.accepted
    assert error_mm(good, truth) < 0.5
    angiogram, masks = run_at(truth_at([0, 0, 0], [0, 0, 0]))
    bad = register(
        CTA, angiogram, settings, cta_mask=MASK, dsa_masks=masks, initial_pose=truth_at([90, 0, 0], [0, 0, 80])
    )
    assert not bad.init.accepted
    assert bad.init.score < bad.init.score_radiological
    assert any("radiological pose" in warning for warning in bad.warnings)
    assert error_mm(bad, truth_at([0, 0, 0], [0, 0, 0])) < 0.5


def test_paper_preset_takes_the_published_steps():
    settings = RegistrationSettings.preset("paper")
    first, second = settings.stages
    assert (first.image, first.score, first.renderer) == ("mask", "ncc", "siddon")
    assert (second.image, second.score, second.renderer) == ("minip", "mutual_information", "siddon")
    for stage, rate_rad, rate_mm in ((first, 1e-2, 1.0), (second, 1e-4, 0.04)):
        assert stage.optimisation.optimiser == "adam"
        assert (stage.optimisation.rotation_rate_rad, stage.optimisation.translation_rate_mm) == (rate_rad, rate_mm)
        assert stage.optimisation.iterations == 2000
    assert settings.init == "radiological"

    truth = truth_at([2, -2, 1], [2, 3, -2])
    angiogram, masks = run_at(truth)
    short = tuple(replace(s, rows=32, optimisation=replace(s.optimisation, iterations=12)) for s in settings.stages)
    found = register(CTA, angiogram, replace(settings, stages=short), cta_mask=MASK, dsa_masks=masks)
    assert [stage.iterations for stage in found.stages] == [12, 12]
    for stage in found.stages:
        assert list(stage.scores) == sorted(stage.scores)
    assert found.stages[0].scores[-1] > found.stages[0].scores[0] > 0


def test_result_round_trips_through_json():
    angiogram, masks = run_at(truth_at([0, 0, 0], [1, 1, 1]))
    settings = RegistrationSettings.preset("default", init="radiological")
    found = register(CTA, angiogram, settings, cta_mask=MASK, dsa_masks=masks)
    values = found.to_json_dict()
    assert Registration.from_json_dict(values).to_json_dict() == values
    assert "not a medical device" in values["notice"].lower()


def test_cancel():
    angiogram, masks = run_at(truth_at([0, 0, 0], [0, 0, 0]))
    with pytest.raises(Cancelled):
        register(CTA, angiogram, cta_mask=MASK, dsa_masks=masks, should_stop=lambda: True)


def test_no_pose_is_an_error_of_its_own():
    """One lone bright streak in a corner that no vessel reaches at the radiological pose, where no step follows.

    Steps from a score of nothing are as good as random: with them it would be chance whether the streak is reached.
    """
    angiogram, masks = run_at(truth_at([0, 0, 0], [0, 0, 0]))
    streak = np.zeros_like(masks.vesselness)
    streak[2:5, 2:60] = 1
    lone = replace(masks, vesselness=streak, minip=-streak, vessels=streak > 0)
    settings = replace(RegistrationSettings.preset("default", init="radiological"), near_levels=(), levels=())
    with pytest.raises(RegistrationError, match="No pose of the CTA explains the DSA"):
        register(CTA, angiogram, settings, cta_mask=MASK, dsa_masks=lone)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RegistrationSettings.preset("fast"), 'no preset "fast"'),
        (lambda: RegistrationSettings(init="guess"), "`init`"),
        (lambda: RegistrationSettings(seed=-1), "`seed`"),
        (lambda: register(CTA, run_at(np.eye(4))[0], RegistrationSettings(init="file")), "no initial pose"),
        (
            lambda: register(
                CTA,
                run_at(np.eye(4))[0],
                cta_mask=MASK.with_voxels(np.zeros_like(MASK.voxels)),
                dsa_masks=run_at(np.eye(4))[1],
            ),
            "vessel mask has 0 voxels",
        ),
    ],
)
def test_faults_are_said(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what to do where there is no CUDA device")
def test_cuda_asked_for_where_there_is_none():
    with pytest.raises(InputError, match="Give `device` cpu"):
        RegistrationSettings(device="cuda")


def test_a_result_keeps_what_the_weights_are_not_where_they_lie(tmp_path: Path) -> None:
    weights = tmp_path / "Doe_Jane" / "Doe.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    kept = RegistrationSettings.preset("default", init="network", weights=weights).to_json_dict()
    assert kept["network"]["weights"] == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    assert "Doe" not in json.dumps(kept)
    assert RegistrationSettings().to_json_dict()["network"]["weights"] == ""
