"""Global search: known poses far from the start are found, also where the image shows only part of the vessels."""

from typing import Any

import numpy as np
import pytest
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.search import (
    Level,
    PoseCandidates,
    SearchSettings,
    exhaustive,
    proposals,
    search,
)
from DeepIterRegLib.registration.vessels.targets import FIND, View, make_target, vessel_channels
from DeepIterRegLib.rendering.splat import SplatProjector

CARM = CArm.from_angles(5.0, 12.0, sid_mm=1100, sod_mm=740, rows=256, columns=256, pixel_spacing_mm=(1.1, 1.1))
QUICK = SearchSettings(
    rows=64,
    points=1500,
    candidates=48,
    rotation_step_deg=9,
    levels=(Level(64, 1500, 1.2, 6, 12), Level(128, 2900, 1.0, 8, 1)),
    saturation_mm=1e9,
)


def found_in(image: np.ndarray, points: Points, start: np.ndarray, **options: Any) -> PoseCandidates:
    """Search with quick settings."""
    valid = np.ones(image.shape, dtype=bool)
    view = View(vessel_channels(image, valid), valid, CARM)
    return search(points, [view], start, points.origin_mm, QUICK, **options)


def displaced(
    points: Points, angles_deg: list[float], shift_mm: list[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, truth and the image there."""
    start = pose.radiological(points.origin_mm)
    rotation = pose.euler_deg_to_rotation(np.array(angles_deg))
    truth = pose.offset_about(start, points.origin_mm, rotation, np.array(shift_mm))
    projector = SplatProjector(points.positions + points.origin_mm, points.weights, CARM)
    return start, truth, projector(torch.from_numpy(truth[None]))[0].numpy()


@pytest.mark.parametrize(
    ("angles_deg", "shift_mm"),
    [([0, 0, 0], [0, 0, 0]), ([31, -28, 25], [-30, 35, 20]), ([-33, 12, -30], [38, -30, -38])],
)
def test_finds_poses_at_the_edge_of_the_box(angles_deg, shift_mm):
    points = vessel_tree(3)
    start, truth, image = displaced(points, angles_deg, shift_mm)
    found = found_in(image, points, start)
    assert mpe_mm(CARM, found.cta_to_carm, truth, points.origin_mm) < 1.0


def test_exhaustive_pass_comes_within_the_grid():
    """Best of its candidates: within a cell of the rotation grid, half of 9 deg on each axis at 50 mm, magnified."""
    points = vessel_tree(4)
    start, truth, image = displaced(points, [20, -15, 12], [-25, 10, 30])
    valid = np.ones(image.shape, dtype=bool)
    target = make_target(vessel_channels(image, valid), valid, CARM, 64, 0.8, FIND)
    poses, scores = exhaustive(points, target, start, points.origin_mm, QUICK)
    assert np.all(np.diff(scores) <= 0)
    assert np.min(mpe_mm(CARM, poses, truth, points.origin_mm)) < np.sqrt(3) * np.radians(4.5) * 87 * CARM.magnification


def test_image_of_one_side_finds_its_place_in_the_whole():
    points = vessel_tree(5, n_branches=48)
    side = points.positions[:, 0] > 0
    one_side = Points(points.positions[side], points.weights[side], points.tangents[side], points.origin_mm)
    start, truth, image = displaced(one_side, [10, 5, -12], [15, -10, 8])
    found = found_in(image, points, start)
    assert mpe_mm(CARM, found.cta_to_carm, truth, points.origin_mm) < 1.5


def test_same_seed_same_pose():
    points = vessel_tree(6)
    start, _, image = displaced(points, [10, 5, -12], [15, -10, 8])
    one, two = (found_in(image, points, start, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.cta_to_carm, two.cta_to_carm)


def test_cancel_and_progress():
    points = vessel_tree(6)
    start, _, image = displaced(points, [0, 0, 0], [0, 0, 0])
    with pytest.raises(Cancelled):
        found_in(image, points, start, should_stop=lambda: True)
    seen: list[float] = []
    found_in(image, points, start, on_progress=lambda done, score: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


def test_nonsense_settings_are_named_together():
    with pytest.raises(InputError) as error:
        SearchSettings(rotation_deg=-1, translation_mm=1e4)
    assert len(error.value.problems) == 2


def test_two_views_find_the_head_along_both_beams():
    """Far off along each beam, where one view alone is wrong by millimetres."""
    points = vessel_tree(3)
    other = CArm.from_angles(-84.0, 10.0, sid_mm=1000, sod_mm=720, rows=150, columns=150, pixel_spacing_mm=(2.4, 2.4))
    start, truth, image = displaced(points, [20, -18, 15], [-30, 28, 20])
    projector = SplatProjector(points.positions + points.origin_mm, points.weights, other)
    across = projector(torch.from_numpy(truth[None]))[0].numpy()
    views = [
        View(vessel_channels(seen, valid), valid, carm)
        for seen, carm in ((image, CARM), (across, other))
        for valid in [np.ones(seen.shape, dtype=bool)]
    ]
    found = search(points, views, start, points.origin_mm, QUICK)
    off = pose.transform(np.stack([found.cta_to_carm, truth]), points.origin_mm[None])[:, 0]
    assert np.abs(off[0] - off[1]).max() < 0.5
    for carm in (CARM, other):
        assert mpe_mm(carm, found.cta_to_carm, truth, points.origin_mm) < 1.0
    # What the exhaustive pass proposes for both is placed along the beams better than its grid of depths could.
    targets = [make_target(view.channels, view.valid, view.carm, 64, 0.8, FIND) for view in views]
    poses, scores = proposals(points, targets, start, points.origin_mm, QUICK)
    assert np.all(np.diff(scores) <= 0)
    beams = np.array([CARM.beam_axis, other.beam_axis])
    along = (pose.transform(poses, points.origin_mm[None])[:, 0] - off[1]) @ beams.T
    assert np.abs(along).max(axis=1).min() < 6
