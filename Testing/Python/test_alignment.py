"""Second-order alignment: derivatives against finite differences, recovery of known poses."""

import numpy as np
import pytest
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib import similarity
from DeepIterRegLib.alignment import (
    LEVER_MM,
    Points,
    Target,
    levenberg_marquardt,
    make_target,
    move,
    normal_equations,
    resize_area,
)
from DeepIterRegLib.errors import Cancelled
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.rendering.splat import SplatProjector

CARM = CArm.from_angles(80.0, 12.0, sid_mm=1100, sod_mm=740, rows=192, columns=224, pixel_spacing_mm=(2.0, 2.0))
VIEWS = {"plain": CARM, "mirrored": CARM.mirrored(), "turned": CARM.turned(3)}


def scene(carm: CArm, points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Truth (4, 4) and the image (rows, columns) seen there."""
    truth = pose.radiological(points.origin_mm)
    projector = SplatProjector(points.positions + points.origin_mm, points.weights, carm)
    return truth, projector(torch.from_numpy(truth[None]))[0].numpy()


def target_of(image: np.ndarray, carm: CArm, rows: int, sigma_px: float) -> Target:
    return make_target(image, np.ones(image.shape, dtype=bool), carm, rows, sigma_px)


@pytest.mark.parametrize("name", VIEWS)
def test_gradient_equals_finite_differences(name):
    carm, points = VIEWS[name], vessel_tree()
    truth, image = scene(carm, points)
    target = target_of(image, carm, 64, 1.5)
    rng = np.random.default_rng(0)
    poses = move(np.repeat(truth[None], 40, axis=0), rng.normal(size=(40, 6)) * 4, points, carm)
    _, gradient, _ = normal_equations(points, poses, target, 5.0)
    for k in range(6):
        step = np.zeros((40, 6))
        step[:, k] = 0.02
        plus, minus = (normal_equations(points, move(poses, s, points, carm), target, 5.0)[0] for s in (step, -step))
        # float32 images of about 1e4 pixels: a difference of two scores is good to about 1e-6, over 0.04 mm.
        np.testing.assert_allclose(gradient[:, k], (plus - minus) / 0.04, atol=2e-4)


def test_score_is_the_zncc_of_blurred_images():
    points = vessel_tree()
    truth, image = scene(CARM, points)
    target = target_of(image, CARM, 64, 1.0)
    off = move(truth[None], np.array([[3.0, -2, 4, 5, -3, 6]]), points, CARM)
    score = normal_equations(points, off, target, 1e9)[0][0]
    projector = SplatProjector(points.positions + points.origin_mm, points.weights, target.carm)
    taps = np.concatenate([target.taps[:0:-1], target.taps])
    moving = projector(torch.from_numpy(off))[0].numpy()
    for axis in (0, 1):
        moving = np.apply_along_axis(np.convolve, axis, moving, taps, mode="same")
    expected = similarity.zncc(torch.from_numpy(moving)[None], torch.from_numpy(target.image))
    assert score == pytest.approx(float(expected[0]), abs=2e-3)


def test_gauss_newton_matrix_is_the_curvature_at_the_optimum():
    """Where images match, the residual vanishes and Gauss-Newton is Newton: the matrix is minus the score's Hessian."""
    points = vessel_tree()
    truth, _ = scene(CARM, points)
    carm = CARM.resampled(96, 112)
    projector = SplatProjector(points.positions + points.origin_mm, points.weights, carm)
    target = make_target(projector(torch.from_numpy(truth[None]))[0].numpy(), np.ones((96, 112), bool), carm, 96, 1.5)
    score, _, matrix = normal_equations(points, truth[None], target, 1e9)
    assert score[0] == pytest.approx(1, abs=1e-3)
    for k in range(6):
        step = np.zeros((1, 6))
        step[:, k] = 0.5
        ahead, behind = (
            normal_equations(points, move(truth[None], s, points, carm), target, 1e9)[0][0] for s in (step, -step)
        )
        curvature = -(ahead - 2 * score[0] + behind) / 0.25
        assert matrix[0, k, k] == pytest.approx(curvature, rel=0.1, abs=2e-5)


@pytest.mark.parametrize("name", VIEWS)
def test_known_poses_are_recovered(name):
    carm, points = VIEWS[name], vessel_tree()
    truth, image = scene(carm, points)
    rng = np.random.default_rng(1)
    poses = move(np.repeat(truth[None], 6, axis=0), rng.uniform(-5, 5, size=(6, 6)), points, carm)
    for rows, sigma_px in ((64, 2.0), (128, 1.0), (192, 0.8)):
        target = target_of(image, carm, rows, sigma_px)
        poses, score, trace = levenberg_marquardt(points, poses, target, iterations=15, saturation_mm=1e9)
        assert trace == sorted(trace)
    assert np.all(mpe_mm(carm, poses, truth, points.origin_mm) < 0.15)
    assert np.all(score > 0.98)


def test_move_turns_about_the_origin_by_lever_units():
    points = vessel_tree()
    truth = pose.radiological(points.origin_mm)
    angle = 0.1
    turned = move(truth[None], np.array([[0, 0, angle * LEVER_MM, 0, 0, 0]]), points, CARM)[0]
    np.testing.assert_allclose(turned[:3, :3] @ points.origin_mm + turned[:3, 3], 0, atol=1e-9)
    assert float(pose.rotation_angle(turned[:3, :3])) == pytest.approx(angle)


def test_resize_keeps_the_mean_also_between_grids_that_do_not_divide():
    image = np.random.default_rng(0).random((97, 130)).astype(np.float32)
    small = resize_area(image, 41, 33)
    assert small.mean() == pytest.approx(image.mean(), rel=1e-5)
    np.testing.assert_allclose(
        resize_area(image[:96, :120], 32, 40), image[:96, :120].reshape(32, 3, 40, 3).mean((1, 3)), rtol=1e-5
    )


def test_subset_keeps_the_total_weight():
    points = vessel_tree()
    fewer = points.subset(500, np.random.default_rng(0))
    assert len(fewer.weights) == 500
    assert fewer.weights.sum() == pytest.approx(points.weights.sum(), rel=1e-4)


def test_cancel():
    points = vessel_tree()
    truth, image = scene(CARM, points)
    with pytest.raises(Cancelled):
        levenberg_marquardt(
            points, truth[None], target_of(image, CARM, 64, 1), iterations=3, saturation_mm=5, should_stop=lambda: True
        )
