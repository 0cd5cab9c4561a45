"""Second-order alignment: derivatives against finite differences, recovery of known poses."""

import numpy as np
import pytest
import torch
from vessel_tree import vessel_tree

from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.registration.compute import VesselDrawing, draw_vessels
from DeepIterRegLib.registration.vessels.alignment import (
    joint_equations,
    levenberg_marquardt,
    normal_equations,
    pose_covariances,
    zncc,
)
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM, camera_matrices, maximise, move
from DeepIterRegLib.registration.vessels.points import Points, tangents
from DeepIterRegLib.registration.vessels.targets import (
    FIND,
    REFINE,
    Measure,
    Target,
    make_target,
    resize_area,
    vessel_channels,
)
from DeepIterRegLib.rendering.splat import SplatProjector

CARM = CArm.from_angles(80.0, 12.0, sid_mm=1100, sod_mm=740, rows=192, columns=224, pixel_spacing_mm=(2.0, 2.0))
VIEWS = {"plain": CARM, "mirrored": CARM.mirrored(), "turned": CARM.turned(3)}


def scene(carm: CArm, points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Truth (4, 4) and the image (rows, columns) seen there."""
    truth = pose.radiological(points.origin_mm)
    projector = SplatProjector(points.positions + points.origin_mm, points.weights, carm)
    return truth, projector(torch.from_numpy(truth[None]))[0].numpy()


def target_of(image: np.ndarray, carm: CArm, rows: int, sigma_px: float, measure: Measure = FIND) -> Target:
    valid = np.ones(image.shape, dtype=bool)
    return make_target(vessel_channels(image, valid), valid, carm, rows, sigma_px, measure)


def channels_at(points: Points, truth: np.ndarray, target: Target, saturation_mm: float) -> np.ndarray:
    """Images (3, rows, columns) that the kernel makes at one pose, blurred as the target is."""
    carm = target.carm
    images = np.empty((1, 3, carm.rows, carm.columns), dtype=np.float32)
    sums = np.zeros((1, 2, carm.rows + 1, carm.columns + 1))
    cameras, _ = camera_matrices(truth[None], points.origin_mm, carm)
    drawing = VesselDrawing(points, target.taps, saturation_mm, target.measure.direction_scale)
    draw_vessels(drawing, cameras, carm, images, sums)
    return images[0]


@pytest.mark.parametrize("measure", [FIND, REFINE, Measure(4.0, 0.0)])
@pytest.mark.parametrize("name", VIEWS)
def test_gradient_equals_finite_differences(name, measure):
    carm, points = VIEWS[name], vessel_tree()
    truth, image = scene(carm, points)
    target = target_of(image, carm, 64, 1.5, measure)
    rng = np.random.default_rng(0)
    poses = move(np.repeat(truth[None], 40, axis=0), rng.normal(size=(40, 6)) * 4, points, carm)
    _, gradient, _ = normal_equations(points, poses, target, 5.0)
    for k in range(6):
        step = np.zeros((40, 6))
        step[:, k] = 0.02
        plus, minus = (normal_equations(points, move(poses, s, points, carm), target, 5.0)[0] for s in (step, -step))
        # float32 images of about 1e4 pixels: a difference of two scores is good to about 1e-6, over 0.04 mm.
        np.testing.assert_allclose(gradient[:, k], (plus - minus) / 0.04, atol=2e-4)


@pytest.mark.parametrize("name", VIEWS)
def test_joint_gradient_equals_finite_differences(name):
    """Two views, each with axes of its own, of which one may be mirrored."""
    carms = [
        VIEWS[name],
        CArm.from_angles(-8.0, 20.0, sid_mm=1000, sod_mm=700, rows=160, columns=160, pixel_spacing_mm=(2.5, 2.5)),
    ]
    points = vessel_tree()
    targets = [target_of(scene(carm, points)[1], carm, 64, 1.5, REFINE) for carm in carms]
    truth = pose.radiological(points.origin_mm)
    rng = np.random.default_rng(0)
    poses = move(np.repeat(truth[None], 20, axis=0), rng.normal(size=(20, 6)) * 3, points, carms[0])
    score, gradient, matrix = joint_equations(points, poses, targets, 5.0)
    alone = [normal_equations(points, poses, target, 5.0) for target in targets]
    np.testing.assert_allclose(score, np.mean([one[0] for one in alone], axis=0))
    for k in range(6):
        step = np.zeros((20, 6))
        step[:, k] = 0.02
        plus, minus = (
            joint_equations(points, move(poses, s, points, carms[0]), targets, 5.0)[0] for s in (step, -step)
        )
        np.testing.assert_allclose(gradient[:, k], (plus - minus) / 0.04, atol=2e-4)
    for order in (targets, targets[::-1]):  # the matrix means the same in the other view's axes
        assert np.linalg.eigvalsh(joint_equations(points, poses, order, 5.0)[2]) == pytest.approx(
            np.linalg.eigvalsh(matrix), abs=1e-9
        )


def test_two_views_find_the_depth_that_one_does_not_see():
    points = vessel_tree()
    carms = [
        CARM,
        CArm.from_angles(-8.0, 20.0, sid_mm=1000, sod_mm=700, rows=160, columns=160, pixel_spacing_mm=(2.5, 2.5)),
    ]
    targets = [target_of(scene(carm, points)[1], carm, 96, 1.0, REFINE) for carm in carms]
    truth, _ = scene(CARM, points)
    off = move(truth[None], np.array([[0.0, 0, 0, 1.0, -1.0, 15.0]]), points, CARM)
    found, _, _ = levenberg_marquardt(points, off, targets, iterations=12, saturation_mm=1e9)
    origins = pose.transform(np.stack([found[0], truth]), points.origin_mm[None])[:, 0]
    np.testing.assert_allclose(*origins, atol=0.3)
    (one,) = pose_covariances(points, truth, targets[:1], 1e9)
    both = pose_covariances(points, truth, targets, 1e9)
    u, v, beam = np.sqrt(np.diag(one)[3:])
    assert beam > 3 * max(u, v)
    assert np.sqrt(np.diag(both[0])[5]) < beam / 3
    assert np.trace(both[0][3:, 3:]) == pytest.approx(np.trace(both[1][3:, 3:]))  # the same ellipsoid from both sides


@pytest.mark.parametrize("name", VIEWS)
def test_score_by_another_road(name):
    """Amounts by the projector, directions by projecting a point and another a little further along its vessel."""
    carm, points = VIEWS[name], vessel_tree()
    truth, image = scene(carm, points)
    target = target_of(image, carm, 96, 1.0)
    off = move(truth[None], np.array([[3.0, -2, 4, 5, -3, 6]]), points, carm)
    world = points.positions + points.origin_mm
    step_mm = 1e-3
    ahead = target.carm.project(world + step_mm * points.tangents, off)[0] - target.carm.project(world, off)[0]
    depth = target.carm.sid_mm / (
        (world @ off[0, :3, :3].T + off[0, :3, 3] - target.carm.source_mm) @ target.carm.axes[2]
    )
    along = ahead * np.array(target.carm.pixel_spacing_mm)[::-1] / depth[:, None] / step_mm  # mm across the beam per mm
    cosine, sine = along[:, 0] ** 2 - along[:, 1] ** 2, 2 * along[:, 0] * along[:, 1]
    factor = np.sqrt(FIND.direction_weight)
    taps = np.concatenate([target.taps[:0:-1], target.taps])
    moving = []
    for values in (np.ones(len(world)), factor * cosine, factor * sine):
        projector = SplatProjector(world, (points.weights * values).astype(np.float32), target.carm)
        blurred = projector(torch.from_numpy(off))[0].numpy()
        for axis in (0, 1):
            blurred = np.apply_along_axis(np.convolve, axis, blurred, taps, mode="same")
        moving.append(blurred)
    moving[0] = moving[0] - moving[0].mean()
    norm = np.sqrt(sum((m**2).sum() for m in moving))
    product = sum((m * t).sum() for m, t in zip(moving, target.image, strict=True))
    assert normal_equations(points, off, target, 1e9)[0][0] == pytest.approx(product / norm**FIND.norm_power, rel=5e-3)
    assert zncc(points, off, target, 1e9)[0] == pytest.approx(product / norm, rel=5e-3)


def test_gauss_newton_matrix_is_the_curvature_at_the_optimum():
    """Where images match, the residual vanishes; at power 1 Gauss-Newton is then Newton: minus the score's Hessian."""
    points = vessel_tree()
    truth, image = scene(CARM, points)
    target = target_of(image, CARM, 96, 1.5, REFINE)
    itself = channels_at(points, truth, target, 1e9)
    itself[0] -= itself[0].mean()
    target = Target(itself / np.linalg.norm(itself), target.valid, target.carm, target.taps, REFINE)
    score, _, matrix = normal_equations(points, truth[None], target, 1e9)
    assert score[0] == pytest.approx(1, abs=1e-3)
    for k in range(6):
        step = np.zeros((1, 6))
        step[:, k] = 0.5
        ahead, behind = (
            normal_equations(points, move(truth[None], s, points, CARM), target, 1e9)[0][0] for s in (step, -step)
        )
        curvature = -(ahead - 2 * score[0] + behind) / 0.25
        assert matrix[0, k, k] == pytest.approx(curvature, rel=0.1, abs=2e-5)


def test_directions_of_image_and_points_agree():
    """Bars at known angles: twice the angle in the image, the same of tubes along them, and nothing sure of a ball."""
    rows, columns = np.mgrid[:200, :200]
    for angle_deg in (0, 30, 90, 135):
        t = np.radians(angle_deg)
        across = (columns - 100) * -np.sin(t) + (rows - 100) * np.cos(t)
        image = np.exp(-0.5 * (across / 2) ** 2).astype(np.float32)
        _, cosine, sine = vessel_channels(image, np.ones(image.shape, bool))[:, 95:106, 95:106].sum(axis=(1, 2))
        assert np.degrees(np.arctan2(sine, cosine)) % 360 == pytest.approx(2 * angle_deg % 360, abs=2)
        line = np.linspace(-20, 20, 400)[:, None] * np.array([np.cos(t), np.sin(t), 0])
        tube = line + np.random.default_rng(0).normal(scale=0.4, size=(400, 3))
        middle = tangents(tube.astype(np.float32))[150:250]
        assert np.all(np.abs(middle @ [np.cos(t), np.sin(t), 0]) > 0.8)
    ball = np.random.default_rng(1).normal(scale=1.0, size=(3000, 3)).astype(np.float32)
    assert np.median(np.linalg.norm(tangents(ball), axis=1)) < 0.6


@pytest.mark.parametrize("name", VIEWS)
def test_known_poses_are_recovered(name):
    carm, points = VIEWS[name], vessel_tree()
    truth, image = scene(carm, points)
    rng = np.random.default_rng(1)
    poses = move(np.repeat(truth[None], 6, axis=0), rng.uniform(-5, 5, size=(6, 6)), points, carm)
    for rows, sigma_px, measure in ((64, 2.0, FIND), (128, 1.0, FIND), (192, 0.8, REFINE)):
        target = target_of(image, carm, rows, sigma_px, measure)
        poses, _, trace = levenberg_marquardt(points, poses, [target], iterations=15, saturation_mm=1e9)
        assert trace == sorted(trace)
    assert np.all(mpe_mm(carm, poses, truth, points.origin_mm) < 0.15)
    assert np.all(zncc(points, poses, target, 1e9) > 0.9)


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
            points,
            truth[None],
            [target_of(image, CARM, 64, 1)],
            iterations=3,
            saturation_mm=5,
            should_stop=lambda: True,
        )


def test_only_the_best_go_on():
    """Three climbs to one top, by steps of at most 25 mm: after the first step the nearest alone goes on."""

    def equations(at):
        return -((at[:, 0] - 100.0) ** 2), -2 * (at - 100.0), np.full((len(at), 1, 1), 2.0)

    def climb(go_on):
        start = np.array([[0.0], [60.0], [20.0]])
        return maximise(equations, lambda at, steps: at + steps, start, iterations=9, go_on=go_on)

    at, scores, _ = climb((1, 1))
    assert at[1, 0] == pytest.approx(100, abs=0.1)
    assert at[[0, 2], 0] == pytest.approx([25, 45])
    assert scores == pytest.approx(-((at[:, 0] - 100.0) ** 2))
    assert climb(None)[0] == pytest.approx(np.full((3, 1), 100.0), abs=0.1)
