"""Headers that are off by known amounts, and heads that moved between runs by known amounts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, cube_corners, pose
from DeepIterRegLib.registration.between_views import (
    LIMIT,
    UNASKED,
    BetweenRuns,
    Contradiction,
    Corrected,
    Expected,
    HeaderSlack,
    correct_views,
)
from DeepIterRegLib.registration.scene import Scene
from DeepIterRegLib.registration.vessels.alignment import levenberg_marquardt
from DeepIterRegLib.registration.vessels.targets import REFINE, View, make_targets, vessel_channels
from DeepIterRegLib.rendering.splat import SplatProjector

OFF = UNASKED[0]  # headers may be off
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


def scene_of(*views: View) -> Scene:
    """What `correct_views` looks at: vessels and views."""
    unused: Any = None
    return Scene(POINTS, views, POINTS.origin_mm, unused, ())


def found_together(scene: Scene) -> np.ndarray:
    targets = make_targets(scene.views, 192, 1.0, REFINE)
    found, _, _ = levenberg_marquardt(POINTS, TRUTH[None], targets, iterations=12, saturation_mm=5)
    return found[0]


def corrected(scene: Scene, between: BetweenRuns | None = None) -> Corrected:
    expected = [Expected(None, between, OFF.keep_from)] if between else UNASKED
    found = correct_views(scene, found_together(scene), expected, 5)
    assert isinstance(found, Corrected)
    return found


def header_off_by(primary_deg: float, secondary_deg: float, sod_mm: float = 760) -> CArm:
    return CArm.from_angles(
        88 + primary_deg,
        2 + secondary_deg,
        sid_mm=1200,
        sod_mm=sod_mm,
        rows=256,
        columns=224,
        pixel_spacing_mm=(1.2, 1.2),
    ).mirrored()


def overlay_mm(truth: CArm, header: CArm, at: np.ndarray) -> float:
    """How far the overlay of a pose lies from where the image shows the head, mm on the detector."""
    cube = cube_corners(POINTS.origin_mm)
    off = np.linalg.norm(header.project(cube, at) - truth.project(cube, TRUTH), axis=-1)
    return float(off.mean() * truth.pixel_spacing_mm[0])


@pytest.mark.parametrize("header", [header_off_by(0, 3), header_off_by(-2.5, 1), header_off_by(0, 0, sod_mm=785)])
def test_headers_that_are_off_are_corrected(header: CArm) -> None:
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, header))
    before = found_together(scene)
    found = corrected(scene)
    assert found.log_ratio > OFF.keep_from
    assert max(overlay_mm(AP, AP, before), overlay_mm(LATERAL, header, before)) > 1.5
    first, second = found.views
    assert first.carm == AP
    assert overlay_mm(AP, first.carm, found.cta_to_carm) < 0.4
    assert overlay_mm(LATERAL, second.carm, found.cta_to_carm) < 0.4
    assert found.changes[0] == {}


def test_the_change_is_that_of_the_header() -> None:
    """A lateral view whose header is turned by 3 deg about its A axis, which is its u: by that header the head is turned."""
    found = corrected(scene_of(view_of(AP, AP), view_of(LATERAL, header_off_by(0, 3))))
    turn = [found.changes[1][f"head_turn_{axis}_deg"] for axis in ("u", "v", "beam")]
    assert np.linalg.norm(turn) == pytest.approx(3, abs=0.4)
    assert np.abs(turn).argmax() == 0
    shift = [found.changes[1][f"head_shift_{axis}_mm"] for axis in ("u", "v", "beam")]
    about_isocentre = abs(POINTS.origin_mm @ TRUTH[:3, :3].T + TRUTH[:3, 3]).max()
    assert np.linalg.norm(shift) < 1 + np.radians(3) * (about_isocentre + 20)


def test_a_corrected_carm_sees_the_pose_as_the_header_sees_the_head() -> None:
    header = header_off_by(2, -2, sod_mm=770)
    found = corrected(scene_of(view_of(AP, AP), view_of(LATERAL, header)))
    seen = found.views[1].carm.project(POINTS.positions[:50], found.cta_to_carm)
    assert np.allclose(seen, header.project(POINTS.positions[:50], found.by_header[1]), atol=1e-6)


def test_exact_headers_stay() -> None:
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL))
    assert correct_views(scene, found_together(scene), UNASKED, 5) is None


def test_what_a_head_that_lies_still_explains_as_well_is_no_header() -> None:
    """A motion of that size: kept only if it is sure, and then as a motion, which leaves the depth as it is."""
    moved = pose.offset_about(
        np.eye(4), np.zeros(3), pose.so3_exp(np.radians([1.0, 0, 0.5])), np.array([0.5, 1.0, -0.8])
    )
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL, moved))
    together, (headers, still) = found_together(scene), UNASKED
    as_header, as_motion = (
        correct_views(scene, together, [replace(one, keep_from=-np.inf)], 5) for one in (headers, still)
    )
    found = correct_views(scene, together, UNASKED, 5)
    assert isinstance(as_header, Corrected)
    assert isinstance(as_motion, Corrected)
    assert isinstance(found, Corrected)
    assert as_header.log_ratio > headers.keep_from
    assert as_motion.log_ratio > still.keep_from
    assert found.log_ratio == as_motion.log_ratio
    assert correct_views(scene, together, [headers, replace(still, keep_from=as_motion.log_ratio + 1)], 5) is None


def test_exact_headers_are_hardly_changed_by_force() -> None:
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL))
    found = correct_views(scene, found_together(scene), [Expected(HeaderSlack())], 5)
    assert isinstance(found, Corrected)
    assert found.log_ratio < OFF.keep_from
    assert overlay_mm(AP, found.views[0].carm, found.cta_to_carm) < 0.3
    assert overlay_mm(LATERAL, found.views[1].carm, found.cta_to_carm) < 0.3


def test_views_that_lie_too_far_apart_are_not_corrected() -> None:
    """From a pose by each view, as where headers contradict each other too much for a common one."""
    header = header_off_by(20, 0)
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, header))
    turn = pose.inverse(pose.matrix(LATERAL.axes.T @ header.axes, np.zeros(3)))
    by_each = np.stack([TRUTH, turn @ TRUTH])
    assert overlay_mm(LATERAL, header, by_each[1]) < 0.1
    for expected in ([OFF], UNASKED):
        found = correct_views(scene, by_each, expected, 5)
        assert isinstance(found, Contradiction)
        assert found.deviations > LIMIT


def test_motion_between_runs_is_found() -> None:
    shift = np.array([0.5, 1.5, -2.0])
    moved = pose.offset_about(np.eye(4), np.zeros(3), pose.so3_exp(np.radians([1.5, 0, 0.5])), shift)
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL, moved))
    before = found_together(scene)
    found = corrected(scene, BetweenRuns())
    motion = found.by_header[1] @ pose.inverse(found.by_header[0])
    assert np.degrees(pose.so3_log(motion[:3, :3]))[0] == pytest.approx(1.5, abs=0.4)  # about the lateral beam
    assert motion[2, 3] == pytest.approx(-2.0, abs=0.5)
    assert overlay_mm(AP, AP, found.cta_to_carm) < overlay_mm(AP, AP, before)


def test_views_that_show_nothing_of_the_head_are_corrected_by_nothing() -> None:
    """Where nothing matches, there is no curvature to invert."""
    blank = np.zeros((3, 224, 224), np.float32)
    away = pose.offset_about(TRUTH, POINTS.origin_mm, np.eye(3), np.array([400.0, 0.0, 400.0]))
    valid = np.ones(blank.shape[1:], dtype=bool)
    scene = scene_of(View(blank, valid, AP), View(blank, valid, AP))
    assert correct_views(scene, away, [OFF], 5) is None
    found = correct_views(scene, away, [Expected(HeaderSlack())], 5)
    assert isinstance(found, Corrected)
    assert np.isfinite(found.by_header).all()


def test_deviations_must_be_positive() -> None:
    with pytest.raises(InputError):
        HeaderSlack(along_mm=0)
