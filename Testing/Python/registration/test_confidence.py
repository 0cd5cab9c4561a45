"""Confidence: features that fall as the pose goes wrong, a model that is what its file says, states, reasons, input checks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram, PatientMotion
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.confidence import MaskedView, assess, check_inputs, with_skull
from DeepIterRegLib.registration.confidence.assess import REASONS, reasons_of
from DeepIterRegLib.registration.confidence.features import features, pool, pooled, rivals, view_features
from DeepIterRegLib.registration.confidence.model import (
    SHIPPED,
    SHIPPED_RESIDUE,
    SHIPPED_SKULL,
    ConfidenceModel,
    Linear,
    load_model,
    save_model,
)
from DeepIterRegLib.registration.result import Confidence, Registration
from DeepIterRegLib.registration.scene import contrast_image
from DeepIterRegLib.registration.vessels.points import vessel_points
from DeepIterRegLib.registration.vessels.targets import View, vessel_channels
from DeepIterRegLib.rendering.splat import SplatProjector
from DeepIterRegLib.segmentation.dsa import DsaMasks

CARM = CArm.from_angles(84.0, 6.0, sid_mm=1150, sod_mm=750, rows=256, columns=256, pixel_spacing_mm=(1.0, 1.0))


def tree_mask(seed: int) -> Volume:
    """Mask of a random tree, vessels of 2 voxels of 1 mm."""
    tree = vessel_tree(seed, n_branches=30)
    index = np.rint(tree.positions - tree.positions.min(axis=0)).astype(int) + 3
    voxels = np.zeros(tuple(index.max(axis=0)[::-1] + 4), dtype=bool)
    for step in np.ndindex(2, 2, 2):
        i, j, k = (index + step).T
        voxels[k, j, i] = True
    affine = np.eye(4)
    affine[:3, 3] = [30, -80, 700]
    return Volume(voxels, affine)


MASK = tree_mask(2)
POINTS = vessel_points(MASK)
START = pose.radiological(MASK.centre_mm)
TRUTH = pose.offset_about(
    START, MASK.centre_mm, pose.euler_deg_to_rotation(np.array([6.0, -5, 4])), np.array([4.0, 3, 2])
)


def masks_at(mask: Volume, cta_to_carm: np.ndarray) -> DsaMasks:
    """What a run shows of a mask: veins are the lower half of the image."""
    path = SplatProjector.from_mask(mask, CARM)(torch.from_numpy(cta_to_carm[None]))[0].numpy()
    noise = np.random.default_rng(0).normal(0, 0.01, path.shape)
    soft = (path / (path + 3) + noise).astype(np.float32)
    vessels = path > 1
    late = np.zeros_like(vessels)
    late[128:] = True
    return DsaMasks(-soft, soft * vessels, vessels, vessels & ~late, vessels & late, np.where(late, 6.0, 1.0))


def view_of(masks: DsaMasks) -> MaskedView:
    valid = np.ones(masks.vessels.shape, dtype=bool)
    return MaskedView(View(vessel_channels(contrast_image(masks, valid), valid), valid, CARM), masks)


MASKS = masks_at(MASK, TRUTH)
SKULL = {"skull_score", "skull_distance_mm"}  # known where the mask frame shows the skull
RESIDUE = {"residue_score"}  # known where it came subtracted and bone moved in it
MOVED = PatientMotion(
    undone_mm=np.array([0.0, 3.9, 1.0]), left_mm=np.zeros(3), fields=np.zeros((3, 2, 6)), before=np.zeros((3, 1, 1))
)
VIEW = view_of(MASKS)


def displaced(deg: float) -> np.ndarray:
    turn = pose.euler_deg_to_rotation(np.array([0.6, 1, -0.8]) * deg)
    return np.asarray(pose.offset_about(TRUTH, MASK.centre_mm, turn, np.array([0.5, -1, 0.7]) * deg))


# -- features --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_distance() -> list[dict[str, float]]:
    """Features at the truth, 4 mm, and 15 mm and more away."""
    others = rivals(POINTS, VIEW, MASK.centre_mm)
    poses = [TRUTH, displaced(2.0), displaced(9.0)]
    away = [float(mpe_mm(CARM, p, TRUTH, MASK.centre_mm)) for p in poses]
    assert away[0] == 0
    assert 3 < away[1] < 9 < 15 < away[2]
    return [{**view_features(POINTS, VIEW, p, MASK.centre_mm, others), "views": 1.0} for p in poses]


@pytest.mark.parametrize(
    "name",
    [
        "score",
        "score_fine",
        "profile_contrast",
        "offset_within_1mm",
        "explained",
        "direction_agreement",
    ],
)
def test_agreement_falls_with_distance(by_distance: list[dict[str, float]], name: str) -> None:
    right, near, far = (values[name] for values in by_distance)
    assert right > near > far


@pytest.mark.parametrize("name", ["block_median_mm", "distance_mean_mm", "profile_width_mm", "offset_median_mm"])
def test_residuals_rise_with_distance(by_distance: list[dict[str, float]], name: str) -> None:
    right, near, far = (values[name] for values in by_distance)
    assert right < near
    assert right < far


def test_an_independent_search_tells_of_the_better_pose(by_distance: list[dict[str, float]]) -> None:
    right, _, far = by_distance
    assert right["gap_rival_far"] > 0.3
    assert far["gap_rival_far"] < 0
    assert far["agree_share"] == 0
    assert far["rival_best_mm"] > 10


def test_figures_at_the_truth_are_what_they_are_called(by_distance: list[dict[str, float]]) -> None:
    right = by_distance[0]
    assert right["explained"] > 0.98  # the run shows nothing that the CTA does not
    assert right["block_median_mm"] <= 1.0
    assert right["shift_mm_kinds"] < 2.0
    assert right["rank_controls"] == 1.0
    assert right["agree_share"] > 0
    assert right["refined_shift_mm"] < 2.0
    # one view sees depth worst
    assert right["uncertain_shift_depth"] > max(right["uncertain_shift_u"], right["uncertain_shift_v"]) + 0.3


def test_a_uniform_shift_is_measured_in_mm() -> None:
    """The head moved 2 mm across the beam: blocks lie that far apart on the detector, times the magnification."""
    u = CARM.axes[0]
    moved = TRUTH.copy()
    moved[:3, 3] += 2.0 * u
    seen = view_features(POINTS, VIEW, moved, MASK.centre_mm, rivals(POINTS, VIEW, MASK.centre_mm))
    assert seen["block_median_mm"] == pytest.approx(2.0 * CARM.magnification, abs=0.8)
    assert seen["shift_mm_halves"] == pytest.approx(2.0 * CARM.magnification, rel=0.5)


def test_worst_view_counts() -> None:
    assert pooled("score", [0.5, 0.3]) == 0.3
    assert pooled("block_median_mm", [1.0, 4.0]) == 4.0
    assert pooled("covered", [0.2, 0.4]) == pytest.approx(0.3)
    wrong = view_of(masks_at(MASK, displaced(9.0)))
    one, two = (features(POINTS, views, TRUTH, MASK.centre_mm) for views in ([VIEW], [VIEW, wrong]))
    assert one.keys() == two.keys()
    assert two["score"] < one["score"]
    assert two["block_median_mm"] > one["block_median_mm"]


# -- the model -------------------------------------------------------------------------------------------


def small_model() -> ConfidenceModel:
    """One feature, cut to 0.2 to 0.6, about 0.4 in steps of 0.1."""
    scale = {"low": [0.2], "high": [0.6], "middle": [0.4], "spread": [0.1]}
    right = Linear.from_json({"intercept": -1.0, **scale, "weight": [2.0]})
    error = Linear.from_json({"intercept": 1.0, **scale, "weight": [-0.5]})
    return ConfidenceModel(("score",), right, error, 1.5, 0.1, 0.8, 0.3, {"score": (0.3, 0.6)})


def test_prediction_by_hand() -> None:
    model = small_model()
    # (0.5 - 0.4) / 0.1 = 1: log odds 1.5 (-1 + 2) + 0.1 = 1.6, log mm 1 - 0.5
    assert model.predict({"score": 0.5}) == pytest.approx((1 / (1 + np.exp(-1.6)), np.exp(0.5)))
    assert model.predict({"score": 0.9}) == model.predict({"score": 0.6})  # cut
    assert [model.state(p) for p in (0.8, 0.79, 0.3, 0.29)] == ["accepted", "look closely", "look closely", "rejected"]


def test_model_file_round_trips(tmp_path: Path) -> None:
    model = small_model()
    save_model(model, tmp_path / "m.json", {"data": "none"})
    assert load_model(tmp_path / "m.json").to_json() == model.to_json()
    assert json.loads((tmp_path / "m.json").read_text())["card"] == {"data": "none"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"accept": 0.8', '"accept": 0.1', "SHA-256 differs"),
        ("DeepIterReg confidence 1", "DeepIterReg confidence 9", "not a confidence model of this version"),
        ('"model"', '"nothing"', "cannot be read"),
        ("}", "", "cannot be read"),
    ],
)
def test_a_changed_model_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "m.json"
    save_model(small_model(), path, {})
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=says):
        load_model(path)


def test_weights_that_do_not_fit_are_refused() -> None:
    values = {"intercept": 0.0, "low": [0], "high": [1], "middle": [0.5], "spread": [1], "weight": [1, 2]}
    with pytest.raises(ValueError, match="fit together"):
        Linear.from_json(values)


def test_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        load_model(tmp_path / "absent.json")


def test_shipped_model_is_sane(by_distance: list[dict[str, float]]) -> None:
    """Monotonic: better agreement of any kind never lowers the probability nor raises the expected error."""
    model = load_model(SHIPPED)
    assert 0 < model.reject < model.accept < 1
    assert set(REASONS) - SKULL - RESIDUE == set(model.typical)
    middle = by_distance[1]
    for name in ("score", "profile_contrast", "explained", "block_share_still", "gap_rival_far"):
        values = [model.predict({**middle, name: v}) for v in np.linspace(-0.5, 1.0, 13)]
        probabilities, errors = zip(*values, strict=True)
        assert list(probabilities) == sorted(probabilities)
        assert list(errors) == sorted(errors, reverse=True)
    right, _, far = (model.predict(values)[0] for values in by_distance)
    assert right > far


# -- the answer ------------------------------------------------------------------------------------------


def test_right_pose_against_wrong_ones() -> None:
    right, far = (assess(POINTS, [VIEW], p, MASK.centre_mm) for p in (TRUTH, displaced(9.0)))
    assert right.probability > far.probability
    assert right.expected_error_mm < far.expected_error_mm
    assert far.state != "accepted"
    assert far.reasons
    assert assess(POINTS, [VIEW], TRUTH, MASK.centre_mm) == right


def test_reasons_name_what_is_out_of_range() -> None:
    model = replace(small_model(), typical={"score": (0.3, 0.6), "block_median_mm": (0.5, 2.0)})
    (only,) = reasons_of({"score": 0.2, "block_median_mm": 1.0}, model)
    assert only == "The similarity of the vessels is low (0.20)."
    first, second = reasons_of({"score": 0.28, "block_median_mm": 4.5}, model)
    assert "4.5 mm apart" in first
    assert "similarity" in second
    assert len(reasons_of({"score": 0.5, "block_median_mm": 1.0}, model)) == 1


def test_skull_speaks_for_and_against(by_distance: list[dict[str, float]]) -> None:
    """The better the skull fits at the pose, and the nearer its own optimum, the surer; far off is said."""
    vessels = Confidence(0.6, 3.0, "look closely", ("A reason.",), by_distance[1])
    fits = with_skull(vessels, 0.6, 0.6, 0.3)
    loose = with_skull(vessels, 0.4, 0.55, 4.0)
    elsewhere = with_skull(vessels, 0.05, 0.5, 25.0)
    assert fits.probability > loose.probability > elsewhere.probability
    assert fits.expected_error_mm < elsewhere.expected_error_mm
    assert elsewhere.state == "rejected"
    assert any("skull" in reason.lower() for reason in elsewhere.reasons)
    far = assess(POINTS, [VIEW], displaced(9.0), MASK.centre_mm)
    # What speaks against the vessels is said whatever the skull says.
    assert set(with_skull(far, 0.4, 0.4, 1.0).reasons) & set(far.reasons)
    assert {"skull_score", "skull_loss", "score"} <= set(fits.features)


def test_every_reason_is_a_feature_and_pools_to_its_bad_side(by_distance: list[dict[str, float]]) -> None:
    assert set(REASONS) - SKULL - RESIDUE <= set(by_distance[0])
    assert set(load_model(SHIPPED_SKULL).names) >= SKULL
    assert set(load_model(SHIPPED_RESIDUE).names) >= RESIDUE
    for name, (bad, _) in REASONS.items():
        if name in SKULL | RESIDUE:
            continue
        assert pool(name) in ("mean", "min" if bad < 0 else "max")


def test_confidence_round_trips_through_json() -> None:
    confidence = Confidence(0.9, 1.2, "look closely", ("A reason.",), {"score": 0.4})
    carm, init = CARM, {"method": "search", "accepted": True, "score": 0.4, "score_radiological": 0.1}
    values = {
        "ctaToCarm": np.eye(4).tolist(),
        "carm": carm.to_dict(),
        "centre_cta_mm": [0.0, 0, 0],
        "score": 0.4,
        "init": init,
        "stages": [],
        "seconds": {},
        "warnings": [],
        "settings": {},
        "versions": {},
        "mpe_mm_to_reference": None,
        "input_hashes": {},
    }
    old = Registration.from_json_dict(values)
    assert old.confidence is None  # files of earlier versions
    new = replace(old, confidence=confidence)
    assert Registration.from_json_dict(json.loads(json.dumps(new.to_json_dict()))).confidence == confidence


def test_wrong_patient_is_not_accepted() -> None:
    """Two phantoms: the run of one with the CTA of the other, at the best pose that a search finds."""
    from DeepIterRegLib.images.subtraction import subtract
    from DeepIterRegLib.phantom import PhantomSettings, make_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, RunSettings, ViewSettings
    from DeepIterRegLib.registration.vessels.search import refine_poses, search
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    settings = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.2, 1.2), slice_spacing_mm=(1.2, 1.2)),
        view=ViewSettings(matrices=(256,)),
        run=RunSettings(frames_per_s=(1.5, 1.6)),
    )
    run = (mine := make_patient(40, settings)).run
    other = make_patient(42, replace(settings, view=ViewSettings(matrices=(32,))))  # only its CTA is used
    valid = (run.frames > 0).all(axis=0)
    frames = subtract(np.log(np.maximum(run.frames.astype(np.float32), 1.0)), valid, mask_frames=run.mask_frames).frames
    masks = segment_dsa(Angiogram(frames, run.carm, run.frame_times_s, valid))
    view = MaskedView(View(vessel_channels(contrast_image(masks, valid), valid), valid, run.carm), masks)
    common = ((view,),)
    points, centre = vessel_points(other.vessels), other.cta.centre_mm
    found = search(points, *common, pose.radiological(centre), centre)
    wrong = assess(points, [view], found.cta_to_carm, centre)
    assert wrong.state != "accepted"

    points, centre = vessel_points(mine.vessels), mine.cta.centre_mm
    from DeepIterRegLib.registration.settings import RegistrationSettings

    settled = refine_poses(mine.cta_to_carm[None], points, *common, RegistrationSettings().levels, 5.0).cta_to_carm
    assert mpe_mm(run.carm, settled, mine.cta_to_carm, centre) < 5
    assert assess(points, [view], settled, centre).probability > wrong.probability


# -- inputs ----------------------------------------------------------------------------------------------


def run_of(masks: DsaMasks, frames: np.ndarray | None = None) -> Angiogram:
    frames = np.stack([np.zeros_like(masks.minip), masks.minip]) if frames is None else frames
    return Angiogram(frames, CARM, np.arange(len(frames), dtype=float), np.ones(masks.vessels.shape, dtype=bool))


def test_good_inputs_give_no_warning() -> None:
    assert check_inputs(MASK, [(run_of(MASKS), MASKS)]) == ()


def bright_residue() -> tuple[Angiogram, DsaMasks]:
    frames = np.stack([-1.2 * np.roll(MASKS.minip, 9, axis=1), MASKS.minip])
    return run_of(MASKS, frames), MASKS


def cut() -> tuple[Angiogram, DsaMasks]:
    vessels = MASKS.vessels.copy()
    vessels[:, :40] = True
    return run_of(MASKS), replace(MASKS, vessels=vessels)


def few() -> tuple[Angiogram, DsaMasks]:
    some = MASKS.vessels.copy()
    some[:, 110:] = False
    some[140:] = False
    return run_of(MASKS), replace(MASKS, vessels=some, arteries=some & MASKS.arteries, veins=some & MASKS.veins)


def faint() -> tuple[Angiogram, DsaMasks]:
    noise = np.random.default_rng(1).normal(0, 1.0, MASKS.minip.shape).astype(np.float32)
    masks = replace(MASKS, minip=MASKS.minip + noise)
    return run_of(masks), masks


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: (replace(run_of(MASKS), motion=MOVED), MASKS), "shows motion: the head moved by up to 3.9 mm"),
        (bright_residue, "bright residue of moved bone"),
        (lambda: (run_of(MASKS), replace(MASKS, veins=np.zeros_like(MASKS.veins))), "shows no veins"),
        (faint, "little contrast"),
        (cut, "is cut"),
        (few, "few vessels"),
    ],
)
def test_inputs_are_doubted(make, says: str) -> None:
    found = check_inputs(MASK, [make()])
    assert any(says in sentence for sentence in found), found
    two = check_inputs(MASK, [(run_of(MASKS), MASKS), make()])
    assert {sentence.replace("DSA 2", "The DSA") for sentence in two} == set(found)


def test_small_cta_mask_is_doubted() -> None:
    voxels = MASK.voxels.copy()
    voxels[10:] = False
    assert "vessel mask holds" in check_inputs(MASK.with_voxels(voxels), [(run_of(MASKS), MASKS)])[0]


def test_probabilities_are_never_certain() -> None:
    said = [Confidence(p, 1.0, "accepted", ()).summary for p in (1.0, 0.985, 0.004)]
    assert [text.split(" likely")[0] for text in said] == [
        "ACCEPTED: over 99 %",
        "ACCEPTED: 98 %",
        "ACCEPTED: under 1 %",
    ]
