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
    BetweenRuns,
    Contradiction,
    Corrected,
    Expected,
    HeaderSlack,
    correct_views,
    expectations,
)
from DeepIterRegLib.registration.result import ViewRecord
from DeepIterRegLib.registration.result_warnings import warnings_of_corrections
from DeepIterRegLib.registration.scene import Scene
from DeepIterRegLib.registration.vessels.alignment import levenberg_marquardt
from DeepIterRegLib.registration.vessels.least_squares import twist_between
from DeepIterRegLib.registration.vessels.targets import REFINE, View, make_targets, vessel_channels
from DeepIterRegLib.rendering.splat import SplatProjector

MOVED, DISTANCES, OFF = (
    expectations()
)  # the head a little, with images that misjudge the depth; SID, SOD, spacing; any header
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
    expected = [Expected(None, between)] if between else expectations()
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
    assert found.log_ratio > 10
    assert found.of_headers
    assert max(overlay_mm(AP, AP, before), overlay_mm(LATERAL, header, before)) > 1.5
    first, second = found.views
    assert overlay_mm(AP, first.carm, found.cta_to_carm) < 0.4
    assert overlay_mm(LATERAL, second.carm, found.cta_to_carm) < 0.4


def test_a_distance_that_is_off_moves_the_carm_and_not_the_head() -> None:
    """Where the head lies along a beam the other view tells."""
    found = corrected(scene_of(view_of(AP, AP), view_of(LATERAL, header_off_by(0, 0, sod_mm=785))))
    centre = POINTS.origin_mm[None]
    off = pose.transform(found.cta_to_carm, centre)[0] - pose.transform(TRUTH, centre)[0]
    assert np.abs(off).max() < 1.0
    first, second = ([change[f"head_shift_{axis}_mm"] for axis in ("u", "v", "beam")] for change in found.changes)
    assert np.abs(first).max() < 5
    assert second[2] == pytest.approx(-25, abs=4)  # by an SOD that is too long the head lies nearer to the source
    assert np.abs(second[:2]).max() < 1


def test_the_change_is_that_of_the_header() -> None:
    """A lateral view whose header is turned by 3 deg about its A axis, which is its u: by that header the head is turned."""
    found = corrected(scene_of(view_of(AP, AP), view_of(LATERAL, header_off_by(0, 3))))
    between = found.by_header[1] @ pose.inverse(found.by_header[0])
    assert np.degrees(pose.rotation_angle(between[:3, :3])) == pytest.approx(3, abs=0.4)
    turn = [found.changes[1][f"head_turn_{axis}_deg"] for axis in ("u", "v", "beam")]
    assert np.abs(turn).argmax() == 0
    shift = [found.changes[1][f"head_shift_{axis}_mm"] for axis in ("u", "v", "beam")]
    about_isocentre = abs(POINTS.origin_mm @ TRUTH[:3, :3].T + TRUTH[:3, 3]).max()
    assert np.linalg.norm(shift) < 1 + np.radians(3) * (about_isocentre + 20)


def test_a_corrected_carm_sees_the_pose_as_the_header_sees_the_head() -> None:
    header = header_off_by(2, -2, sod_mm=770)
    found = corrected(scene_of(view_of(AP, AP), view_of(LATERAL, header)))
    for view, own, at in zip(found.views, (AP, header), found.by_header, strict=True):
        seen = view.carm.project(POINTS.positions[:50], found.cta_to_carm)
        assert np.allclose(seen, own.project(POINTS.positions[:50], at), atol=1e-6)


def test_exact_headers_stay() -> None:
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL))
    assert correct_views(scene, found_together(scene), expectations(), 5) is None


def test_what_a_head_that_lies_still_explains_as_well_is_no_header() -> None:
    """A motion of that size: the first view's C-arm stays as it is."""
    moved = pose.offset_about(
        np.eye(4), np.zeros(3), pose.so3_exp(np.radians([1.0, 0, 0.5])), np.array([0.5, 1.0, -0.8])
    )
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL, moved))
    together = found_together(scene)
    as_motion, as_header = (correct_views(scene, together, [one], 5) for one in (MOVED, OFF))
    found = correct_views(scene, together, expectations(), 5)
    assert isinstance(as_motion, Corrected)
    assert isinstance(as_header, Corrected)
    assert isinstance(found, Corrected)
    assert found.log_ratio == as_motion.log_ratio > as_header.log_ratio
    assert not found.of_headers
    assert found.changes[0] == {}
    assert found.views[0].carm == AP
    assert correct_views(scene, together, [MOVED], 5, at_least=as_motion.log_ratio + 1) is None


def test_an_image_that_misjudges_the_depth_moves_neither_head_nor_carm() -> None:
    """A lateral view of a head 5 mm larger than it is would put it nearer to the source: the other view knows better."""
    nearer = pose.translation(6.0 * LATERAL.axes[2] * np.sign(LATERAL.axes[2] @ np.array(LATERAL.source_mm)))
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL, nearer))
    together = found_together(scene)
    found, as_distance = (correct_views(scene, together, [one], 5, at_least=-np.inf) for one in (MOVED, DISTANCES))
    assert isinstance(found, Corrected)
    assert isinstance(as_distance, Corrected)
    assert abs(found.changes[1]["head_shift_beam_mm"]) < 0.5
    assert abs(as_distance.changes[1]["head_shift_beam_mm"]) == pytest.approx(6, abs=1)
    centre = POINTS.origin_mm[None]
    for one in (found, as_distance):
        off = pose.transform(one.cta_to_carm, centre)[0] - pose.transform(TRUTH, centre)[0]
        assert np.abs(off).max() < 0.5


OBLIQUE = CArm.from_angles(-40, 10, sid_mm=1100, sod_mm=740, rows=224, columns=224, pixel_spacing_mm=(1.2, 1.2))


@pytest.mark.parametrize("carms", [(AP, LATERAL, OBLIQUE), (LATERAL, OBLIQUE, AP)])
def test_parts_of_offsets_add_up_to_them_and_follow_what_was_expected(carms: tuple[CArm, ...]) -> None:
    """Of three views, one of them mirrored: the first view's own part is in both offsets."""
    rng = np.random.default_rng(3)
    for what in (Expected(HeaderSlack()), Expected(None, BetweenRuns(), 1e-6), Expected(HeaderSlack(), BetweenRuns())):
        offsets = rng.normal(size=(2, 6))
        to_head, to_views = what.explained(carms, offsets)
        assert np.allclose(to_views[1:] + to_head, offsets, atol=1e-6)
        assert np.allclose(to_views[0], -to_head, atol=1e-6)
    # Many draws of what is expected have the covariance that is said, and the parts told are nearest to those drawn.
    what = Expected(HeaderSlack(), BetweenRuns(), 4.0)
    turns = [twist_between(carm, carms[0]) for carm in carms]
    headers = np.stack([rng.normal(size=(40000, 6)) * HeaderSlack().deviations_mm() @ turn.T for turn in turns])
    along = np.zeros((3, 40000, 6))
    along[:, :, 5] = 4.0 * rng.normal(size=(3, 40000))
    depths = np.stack([depth @ turn.T for depth, turn in zip(along, turns, strict=True)])
    moved = rng.normal(size=(3, 40000, 6)) * BetweenRuns().deviations_mm()
    moved[0] = 0
    seen = headers + depths + moved
    drawn = np.concatenate([seen[k] - seen[0] for k in (1, 2)], axis=1)
    said = what.covariance_mm2(carms)
    spread = np.sqrt(np.diag(said))
    assert np.allclose(np.cov(drawn.T), said, atol=0.03 * np.outer(spread, spread))
    told = [what.explained(carms, one.reshape(2, 6)) for one in drawn[:4000]]
    to_head = np.stack([one for one, _ in told])
    to_views = np.stack([one for _, one in told], axis=1)
    for true, found in ((-seen[0], to_head), *zip(headers + moved, to_views, strict=True)):
        left = true[:4000] - found
        assert np.all(left.var(axis=0) <= true[:4000].var(axis=0) * 1.02)
        # What is left has nothing to do with what was seen: no linear answer is nearer.
        alike = left.T @ drawn[:4000] / 4000 / np.outer(true.std(axis=0), spread)
        assert np.abs(alike).max() < 0.08


def test_depth_that_an_image_misjudges_goes_to_neither_head_nor_carm() -> None:
    nearly_still = Expected(None, BetweenRuns(1e-3, 1e-3), 4.0)
    turn = twist_between(LATERAL, AP)
    offset = turn @ np.array([0, 0, 0, 0, 0, 5.0])  # along the second view's beam
    to_head, to_views = nearly_still.explained((AP, LATERAL), offset[None])
    assert np.abs(to_views).max() < 1e-3
    assert np.abs(to_head).max() < 0.3  # the beams are 84 deg apart


@pytest.mark.parametrize("count", [3, 4])
def test_one_of_many_views_that_is_off_is_corrected(count: int) -> None:
    """The more views, the more a narrow expectation gains by its narrowness; what lies beyond it lies within headers."""
    header = header_off_by(0, 3)
    exact = [
        AP,
        OBLIQUE,
        CArm.from_angles(50, -8, sid_mm=1100, sod_mm=740, rows=224, columns=224, pixel_spacing_mm=(1.2, 1.2)),
    ]
    scene = scene_of(*(view_of(carm, carm) for carm in exact[: count - 1]), view_of(LATERAL, header))
    found = corrected(scene)
    assert found.of_headers
    assert overlay_mm(LATERAL, found.views[-1].carm, found.cta_to_carm) < 0.4
    for view, carm in zip(found.views[:-1], exact[: count - 1], strict=True):
        assert overlay_mm(carm, view.carm, found.cta_to_carm) < 0.4


def test_exact_headers_are_hardly_changed_by_force() -> None:
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, LATERAL))
    found = correct_views(scene, found_together(scene), [Expected(HeaderSlack())], 5, at_least=-np.inf)
    assert isinstance(found, Corrected)
    assert found.log_ratio < 0
    assert overlay_mm(AP, found.views[0].carm, found.cta_to_carm) < 0.3
    assert overlay_mm(LATERAL, found.views[1].carm, found.cta_to_carm) < 0.3


def test_views_that_lie_too_far_apart_are_not_corrected() -> None:
    """From a pose by each view, as where headers contradict each other too much for a common one."""
    header = header_off_by(20, 0)
    scene = scene_of(view_of(AP, AP), view_of(LATERAL, header))
    turn = pose.inverse(pose.matrix(LATERAL.axes.T @ header.axes, np.zeros(3)))
    by_each = np.stack([TRUTH, turn @ TRUTH])
    assert overlay_mm(LATERAL, header, by_each[1]) < 0.1
    for expected in ([OFF], expectations()):
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
    found = correct_views(scene, away, [Expected(HeaderSlack())], 5, at_least=-np.inf)
    assert isinstance(found, Corrected)
    assert np.isfinite(found.by_header).all()


def test_deviations_must_be_positive() -> None:
    with pytest.raises(InputError):
        HeaderSlack(along_mm=0)


@pytest.mark.parametrize("log_ratio", [5.0, 40.0])
def test_a_head_that_moved_is_said_where_it_is_sure(log_ratio: float) -> None:
    changes: tuple[dict[str, float], ...] = (
        {},
        {"head_turn_u_deg": 0.3, "head_turn_v_deg": 0.4, "head_shift_u_mm": 1.2},
    )
    views = tuple(
        ViewRecord(f"DSA {n}", carm, 0.5, changes=change)
        for n, carm, change in zip((1, 2), (AP, LATERAL), changes, strict=True)
    )
    moved = Corrected(TRUTH, np.stack([TRUTH, TRUTH]), (), changes, log_ratio, of_headers=False)
    said = warnings_of_corrections(views, moved)
    assert len(said) == (1 if log_ratio > 20 else 0)
    assert all(
        "DSA 2 shows the head 0.5 deg and 1.2 mm from the pose found" in one and "DSA 1" not in one for one in said
    )
    assert len(warnings_of_corrections(views, replace(moved, of_headers=True))) == 1  # a header is said in any case
    assert warnings_of_corrections(views, None) == ()
