"""Global search and territory hypotheses: known poses far from the start are found."""

import numpy as np
import pytest
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib import territory
from DeepIterRegLib.alignment import Points, make_target
from DeepIterRegLib.errors import Cancelled, InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.rendering.splat import SplatProjector
from DeepIterRegLib.search import Level, SearchSettings, exhaustive, search

CARM = CArm.from_angles(5.0, 12.0, sid_mm=1100, sod_mm=740, rows=256, columns=256, pixel_spacing_mm=(1.1, 1.1))
QUICK = SearchSettings(
    rows=64,
    points=1500,
    candidates=48,
    rotation_step_deg=9,
    levels=(Level(64, 1500, 1.2, 6, 12), Level(128, 2900, 1.0, 8, 1)),
    saturation_mm=1e9,
)


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
    found = search({"all": points}, image, np.ones(image.shape, bool), CARM, start, points.origin_mm, QUICK)
    assert mpe_mm(CARM, found.cta_to_carm, truth, points.origin_mm) < 1.0
    assert found.score > 0.95


def test_exhaustive_pass_comes_within_the_grid():
    """Best of its candidates: within a cell of the rotation grid, half of 9 deg on each axis at 50 mm, magnified."""
    points = vessel_tree(4)
    start, truth, image = displaced(points, [20, -15, 12], [-25, 10, 30])
    target = make_target(image, np.ones(image.shape, bool), CARM, 64, 0.8)
    poses, scores = exhaustive(points, target, start, points.origin_mm, QUICK)
    assert np.all(np.diff(scores) <= 0)
    assert np.min(mpe_mm(CARM, poses, truth, points.origin_mm)) < np.sqrt(3) * np.radians(4.5) * 87 * CARM.magnification


def test_right_hypothesis_wins():
    points = vessel_tree(5)
    right = points.positions[:, 0] > 0
    side = Points(points.positions[right], points.weights[right], points.origin_mm)
    other = Points(points.positions[~right], points.weights[~right], points.origin_mm)
    start, truth, image = displaced(side, [10, 5, -12], [15, -10, 8])
    found = search(
        {"left": other, "right": side}, image, np.ones(image.shape, bool), CARM, start, points.origin_mm, QUICK
    )
    assert found.hypothesis == "right"
    assert mpe_mm(CARM, found.cta_to_carm, truth, points.origin_mm) < 1.5


def test_same_seed_same_pose():
    points = vessel_tree(6)
    start, _, image = displaced(points, [10, 5, -12], [15, -10, 8])
    one, two = (
        search({"all": points}, image, np.ones(image.shape, bool), CARM, start, points.origin_mm, QUICK, seed=7)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.cta_to_carm, two.cta_to_carm)


def test_cancel_and_progress():
    points = vessel_tree(6)
    start, _, image = displaced(points, [0, 0, 0], [0, 0, 0])
    arguments = ({"all": points}, image, np.ones(image.shape, bool), CARM, start, points.origin_mm, QUICK)
    with pytest.raises(Cancelled):
        search(*arguments, should_stop=lambda: True)
    seen: list[float] = []
    search(*arguments, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


def test_nonsense_settings_are_named_together():
    with pytest.raises(InputError) as error:
        SearchSettings(rotation_deg=-1, translation_mm=1e4)
    assert len(error.value.problems) == 2


@pytest.mark.parametrize(("roll_deg", "yaw_deg"), [(0, 0), (8, -6), (-10, 5)])
def test_midline_of_a_tilted_symmetric_head_is_found(roll_deg, yaw_deg):
    tree = vessel_tree(8).positions
    half = tree[tree[:, 0] > 8]
    both = np.concatenate([half, half * [-1, 1, 1]])
    rotation = pose.euler_deg_to_rotation(np.array([0.0, roll_deg, yaw_deg]))
    points = Points((both @ rotation.T).astype(np.float32), np.ones(len(both), np.float32), np.zeros(3))
    plane, front = territory.symmetry_frame(points)
    assert np.degrees(np.arccos(abs(plane[:3] @ rotation[:, 0]))) < 3
    assert abs(plane[3]) < 2
    assert abs(front @ plane[:3]) < 1e-9
    parts = territory.hypotheses(points)
    side = points.positions @ rotation[:, 0]
    assert len(parts["right"].weights) == pytest.approx((side > -territory.MIDLINE_MM).sum(), rel=0.1)
