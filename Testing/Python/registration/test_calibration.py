"""Headers that are off by known amounts, and heads that moved between runs by known amounts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.registration.calibration import BetweenRuns, Corrected, GeometrySlack, correct_views
from DeepIterRegLib.registration.vessels.alignment import levenberg_marquardt
from DeepIterRegLib.registration.vessels.targets import REFINE, View, make_targets, vessel_channels
from DeepIterRegLib.rendering.splat import SplatProjector

POINTS = vessel_tree(2, n_branches=40)
TRUTH = pose.radiological(POINTS.origin_mm)
AP = CArm.from_angles(4, 12, sid_mm=1100, sod_mm=740, rows=224, columns=224, pixel_spacing_mm=(1.2, 1.2))
LATERAL = CArm.from_angles(
    88, 2, sid_mm=1200, sod_mm=760, rows=256, columns=224, pixel_spacing_mm=(1.2, 1.2)
).mirrored()


def view_of(truth: CArm, header: CArm, moved: np.ndarray | None = None) -> View:
    """What a C-arm sees of a head that may have moved (4, 4, C-arm frame), and what its header says."""
    projector = SplatProjector(POINTS.positions + POINTS.origin_mm, POINTS.weights, truth)
    at = TRUTH if moved is None else moved @ TRUTH
    image = projector(torch.from_numpy(at[None]))[0].numpy()
    noise = np.random.default_rng(1).normal(0, 0.3, image.shape)
    valid = np.ones(image.shape, dtype=bool)
    return View(vessel_channels(np.maximum(image / (image + 5) + noise * 0.1, 0), valid), valid, header)


def registered(views: list[View], **options: GeometrySlack | BetweenRuns | None) -> tuple[np.ndarray, Corrected]:
    """Pose with the views as they are, and with corrections."""
    targets = make_targets(views, 192, 1.0, REFINE)
    found, _, _ = levenberg_marquardt(POINTS, TRUTH[None], targets, iterations=12, saturation_mm=5)
    given = {"slack": None, "between_runs": None, **options}
    return found[0], correct_views(POINTS, views, found[0], saturation_mm=5, **given)  # type: ignore[arg-type]


def header_off_by(primary_deg: float, secondary_deg: float) -> CArm:
    return CArm.from_angles(
        88 + primary_deg,
        2 + secondary_deg,
        sid_mm=1200,
        sod_mm=760,
        rows=256,
        columns=224,
        pixel_spacing_mm=(1.2, 1.2),
    ).mirrored()


def mean_mpe_mm(found: np.ndarray) -> float:
    return float(np.mean([mpe_mm(carm, found, TRUTH, POINTS.origin_mm) for carm in (AP, LATERAL)]))


def test_header_that_is_off_is_corrected_and_the_pose_with_it() -> None:
    """The AP view sees the turn about the A axis in its plane, so that the lateral view's header must be what is off."""
    found, corrected = registered([view_of(AP, AP), view_of(LATERAL, header_off_by(0, 3))], slack=GeometrySlack())
    assert mean_mpe_mm(corrected.cta_to_carm) < 0.6 * mean_mpe_mm(found)
    assert corrected.changes[1]["secondary_angle_deg"] == pytest.approx(-3, abs=0.7)
    assert corrected.at_limit == ((), ())


def test_what_a_turn_of_the_head_may_explain_as_well_is_shared() -> None:
    """Primary angles are known relative to each other only: the head may be turned about its long axis."""
    _, corrected = registered([view_of(AP, AP), view_of(LATERAL, header_off_by(-2.5, 0))], slack=GeometrySlack())
    first, second = corrected.changes
    assert second["primary_angle_deg"] - first["primary_angle_deg"] == pytest.approx(2.5, abs=0.7)
    assert second["primary_angle_deg"] > 0.5


def test_exact_headers_stay() -> None:
    found, corrected = registered([view_of(AP, AP), view_of(LATERAL, LATERAL)], slack=GeometrySlack())
    for change in corrected.changes:
        for name, deviation in GeometrySlack().deviations().items():
            assert abs(change[name]) < 0.25 * deviation, name
    moved = mpe_mm(AP, corrected.cta_to_carm, found, POINTS.origin_mm)
    assert moved < 0.3


def test_no_correction_beyond_its_limit() -> None:
    header = replace(LATERAL, principal_point_px=(LATERAL.principal_point_px[0], LATERAL.principal_point_px[1] + 4))
    slack = GeometrySlack(angle_deg=0.1, sid_mm=0.5, principal_point_mm=0.3)
    _, corrected = registered([view_of(AP, AP), view_of(LATERAL, header)], slack=slack)
    assert "principal_point_row_mm" in corrected.at_limit[1]
    assert corrected.changes[1]["principal_point_row_mm"] == pytest.approx(-0.9)


def test_motion_between_runs_is_found() -> None:
    shift = np.array([0.5, 1.5, -2.0])
    moved = pose.offset_about(np.eye(4), np.zeros(3), pose.so3_exp(np.radians([1.5, 0, 0.5])), shift)
    found, corrected = registered([view_of(AP, AP), view_of(LATERAL, LATERAL, moved)], between_runs=BetweenRuns())
    assert corrected.changes[0] == {}
    change = corrected.changes[1]
    assert change["head_turn_r_deg"] == pytest.approx(1.5, abs=0.6)  # about the lateral beam, in its image plane
    assert change["head_shift_s_mm"] == pytest.approx(-2.0, abs=0.6)
    assert mpe_mm(AP, corrected.cta_to_carm, TRUTH, POINTS.origin_mm) < mpe_mm(AP, found, TRUTH, POINTS.origin_mm)


def test_deviations_must_be_positive() -> None:
    with pytest.raises(InputError):
        GeometrySlack(sid_mm=0)
