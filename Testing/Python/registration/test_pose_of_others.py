"""A run whose pose comes from other runs, or from a hand: what else it knows of the head stays true of that pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from made_registration import made_registration

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.session import SessionRun, Together, by_hand, placed_together

STIRRED = pose.matrix(pose.so3_exp(np.array([0.0, 0.03, 0.01])), np.array([1.0, 2.0, 0.5]))
ELSEWHERE = pose.matrix(pose.so3_exp(np.array([0.1, 0.0, -0.05])), np.array([0.0, 30.0, 4.0]))


def of_moving_head() -> Registration:
    """A registration whose head lay at the pose first, then elsewhere."""
    found = made_registration(64)
    poses = np.stack([found.cta_to_carm, found.cta_to_carm @ STIRRED])
    motion = FrameMotion(np.array([0, 0, 1]), poses, np.zeros((2, 2, 6)), np.zeros((2, 2)), 2.0)
    return replace(found, views=(replace(found.views[0], frames=motion),))


def frames_of(found: Registration) -> FrameMotion:
    frames = found.views[0].frames
    assert frames is not None
    return frames


def test_frames_go_along_where_all_runs_put_the_head_elsewhere() -> None:
    found = of_moving_head()
    carm = found.carm.moved(pose.translation(np.array([0.0, 5.0, 0.0])))
    placed = placed_together(found, Together(ELSEWHERE, carm, 1.0, 30.0, 0.0))
    assert placed.views[0].carm == carm
    np.testing.assert_allclose(frames_of(placed).cta_to_carm, [ELSEWHERE, ELSEWHERE @ STIRRED], atol=1e-12)
    np.testing.assert_array_equal(frames_of(placed).of_frame, [0, 0, 1])


def test_frames_go_along_with_a_hand_and_it_is_said_once() -> None:
    run = SessionRun(of_moving_head(), None, 0, None)
    once = by_hand(run, ELSEWHERE, run.registration.carm)
    np.testing.assert_allclose(frames_of(once.registration).cta_to_carm, [ELSEWHERE, ELSEWHERE @ STIRRED], atol=1e-12)
    twice = by_hand(once, np.eye(4), run.registration.carm)
    np.testing.assert_allclose(frames_of(twice.registration).cta_to_carm, [np.eye(4), STIRRED], atol=1e-12)
    assert len([said for said in twice.registration.warnings if "by hand" in said]) == 1
