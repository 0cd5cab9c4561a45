"""The skull in the mask frame: derivatives, known poses found from far away, on a phantom and on a real head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from repository import shared
from scipy import ndimage
from vessel_tree import vessel_tree

from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.subtraction import SubtractionSettings, subtract
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom import Patient, PhantomSettings, make_patient, second_run
from DeepIterRegLib.phantom.settings import DIFFERENT_SKULL, CtaSettings, OffsetSettings, RunSettings, ViewSettings
from DeepIterRegLib.registration import compute, joint
from DeepIterRegLib.registration.compiled import signatures
from DeepIterRegLib.registration.confidence import with_residue
from DeepIterRegLib.registration.confidence.features import residue_features
from DeepIterRegLib.registration.confidence.model import SHIPPED_RESIDUE, load_model
from DeepIterRegLib.registration.joint import refine_with_skull, sized_equations
from DeepIterRegLib.registration.kernels.skull import changes_of_shadow
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.result import Confidence
from DeepIterRegLib.registration.scene import Scene
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.skull import Skull, SkullSettings
from DeepIterRegLib.registration.skull.gradient_correlation import gradient_equations
from DeepIterRegLib.registration.skull.movement import detail, movement_equations, seen_detail
from DeepIterRegLib.registration.skull.points import about, skull_points
from DeepIterRegLib.registration.skull.residue import (
    make_movement_target,
    make_residue_targets,
    residue_equations,
    residue_of,
)
from DeepIterRegLib.registration.skull.targets import make_skull_target, mask_frame
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM, Equations, camera_matrices, move
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import SATURATION_MM, View, gaussian_taps, vessel_channels
from DeepIterRegLib.rendering.splat import SplatProjector
from DeepIterRegLib.segmentation.dsa import DsaMasks, segment_dsa

# The jaw opened, beam hardening, headrest and wires in the run only, another scanner's blur.
PHANTOM = PhantomSettings(
    cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.2)),
    view=ViewSettings(matrices=(512,)),
    run=RunSettings(duration_s=(1.5, 1.5)),
    offset=OffsetSettings((20.0,) * 3, (20.0,) * 3),
    skull=DIFFERENT_SKULL,
)
SETTINGS = SkullSettings(rotation_deg=22, translation_mm=25)
# Grids of two turns an axis, those at the ends of the box; the finer grid of the latter has the middle too.
EIGHT = SkullSettings(rotation_deg=40, rotation_step_deg=400, translation_mm=25)
FAR = SkullSettings(rotation_deg=60, rotation_step_deg=120, translation_mm=25)


@pytest.fixture(scope="module")
def patient() -> Patient:
    return make_patient(41, PHANTOM)


@pytest.fixture(scope="module")
def angiogram(patient: Patient) -> Angiogram:
    run = patient.run
    valid = run.frames.min(axis=0) > 0
    result = subtract(np.log(np.maximum(run.frames.astype(np.float32), 0.5)), valid, mask_frames=run.mask_frames)
    return Angiogram(result.frames, run.carm, run.frame_times_s, valid, result.unsubtracted)


@pytest.fixture(scope="module")
def truth(patient: Patient) -> np.ndarray:
    """Where the head lay in the mask frame."""
    return np.asarray(patient.run.motion[patient.run.mask_frames[-1]] @ patient.cta_to_carm)


def check_gradient(equations: Equations, at: np.ndarray, points: Points, carm: CArm, within: float = 0.05) -> None:
    """By finite differences at a pose (4, 4)."""
    _, gradient, matrix = equations(at[None])
    step = 0.3  # mm; splatting is piecewise linear, so not too small
    for i in range(6):
        twist = np.zeros((1, 6))
        twist[0, i] = step
        ahead, behind = (move(at[None], s * twist, points, carm) for s in (1, -1))
        numeric = (equations(ahead)[0] - equations(behind)[0]) / (2 * step)
        assert gradient[0, i] == pytest.approx(numeric[0], abs=within * np.abs(gradient).max())
    assert np.linalg.eigvalsh(matrix[0]).min() > 0


def test_gradient_by_finite_differences(patient: Patient, angiogram: Angiogram, truth: np.ndarray) -> None:
    points = about(skull_points(patient.cta, 4.0), patient.cta.centre_mm)
    target = make_skull_target(mask_frame(angiogram), angiogram.valid, angiogram.carm, 64, 1.5, 5.0)
    at = pose.offset_about(
        truth, patient.cta.centre_mm, pose.so3_exp(np.array([0.02, -0.03, 0.01])), np.array([2, -1, 3])
    )
    equations = gradient_equations(points, target, 5.0)
    check_gradient(equations, at, points, angiogram.carm)


def test_what_is_larger_looks_like_what_is_nearer(patient: Patient, angiogram: Angiogram, truth: np.ndarray) -> None:
    """The score of a skull with a size of its own is that of points that were moved outwards."""
    points = about(skull_points(patient.cta, 4.0), patient.cta.centre_mm)
    target = make_skull_target(mask_frame(angiogram), angiogram.valid, angiogram.carm, 96, 1.0, 5.0)
    size_mm = np.array([0.8])
    grown = replace(points, positions=points.positions * np.float32(1 + size_mm[0] / LEVER_MM))
    terms = [(gradient_equations(points, target, 5.0), target.carm)]
    sized = sized_equations(terms, points.origin_mm, angiogram.carm)
    (wanted,), _, _ = gradient_equations(grown, target, 5.0)(truth[None])
    (score,), gradient, matrix = sized(truth[None], size_mm)
    (as_it_is,), _, _ = sized(truth[None], np.zeros(1))
    assert score == pytest.approx(wanted, abs=0.02 * abs(as_it_is - wanted))
    step = 0.3  # mm; splatting is piecewise linear, so not too small
    numeric = (sized(truth[None], size_mm + step)[0] - sized(truth[None], size_mm - step)[0]) / (2 * step)
    assert gradient[0, 6] == pytest.approx(numeric[0], abs=0.05 * np.abs(gradient).max())
    assert np.linalg.eigvalsh(matrix[0]).min() > -1e-12  # a size and a depth are nearly one


def test_a_skull_that_looks_larger_moves_the_head_less_than_it_would(
    patient: Patient, angiogram: Angiogram, truth: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bone that is taken to begin half a millimetre further out; the vessels say how far away the head is."""
    centre, beam = patient.cta.centre_mm, np.array(angiogram.carm.beam_axis)
    larger = np.eye(4)
    larger[:3, :3] *= 1 + 0.5 / 75  # of a head's radius, mm
    larger[:3, 3] = centre - larger[:3, :3] @ centre
    vessels = replace(vessel_tree(2, n_branches=40), origin_mm=centre)
    carm = angiogram.carm.resampled(384, 384)
    projector = SplatProjector(vessels.positions + centre, vessels.weights, carm)
    image = projector(torch.from_numpy(truth[None]))[0].numpy()
    valid = np.ones(image.shape, dtype=bool)
    view = View(vessel_channels(image / (image + SATURATION_MM), valid), valid, carm)
    scene = Scene(vessels, (view,), centre, patient.arteries, ())

    def moved_mm() -> float:
        """How much further from the source the head is said to be."""
        poses = []
        for affine in (patient.cta.affine, larger @ patient.cta.affine):
            skull = Skull(replace(patient.cta, affine=affine), (angiogram,))
            poses.append(refine_with_skull(replace(scene, skull=skull), truth[None], 1.0, SATURATION_MM).cta_to_carm)
        same, further = (pose.transform(found, centre[None])[0] for found in poses)
        return float((further - same) @ beam)

    with_a_size = moved_mm()
    monkeypatch.setattr(joint, "SIZE_PENALTY", 100 * joint.SIZE_PENALTY)
    assert abs(with_a_size) < 0.4 * moved_mm()


@pytest.fixture(scope="module")
def moved(patient: Patient) -> tuple[Angiogram, np.ndarray]:
    """A run that came subtracted, in which the head moved by up to a degree and a millimetre, and its vessels."""
    run = replace(PHANTOM.run, motion_mm=1.0, motion_deg=1.0)
    shown = second_run(replace(patient, settings=replace(PHANTOM, run=run)), "lateral", seed=3)
    frames = np.log(np.maximum(shown.run.frames.astype(np.float32), 0.5))
    valid = shown.run.frames.min(axis=0) > 0
    result = subtract(frames, valid, mask_frames=shown.run.mask_frames, settings=SubtractionSettings(remask=False))
    angiogram = Angiogram(result.frames, shown.carm, shown.run.frame_times_s, valid)
    return angiogram, segment_dsa(angiogram).vessels


def test_bone_that_moved_shows_the_skull(patient: Patient, moved: tuple[Angiogram, np.ndarray]) -> None:
    angiogram, vessels = moved
    centre = patient.cta.centre_mm
    skull = Skull(patient.cta, (), SETTINGS).in_runs((angiogram,), (vessels,))
    found = skull.find(pose.radiological(centre), residue=True)
    assert mpe_mm(angiogram.carm, found.poses[0], patient.cta_to_carm, centre) < 3
    assert found.clear
    assert not skull.agreements(patient.cta_to_carm)  # of mask frames alone
    with pytest.raises(InputError, match="came subtracted"):
        skull.find(pose.radiological(centre))


def test_gradient_of_the_residue_by_finite_differences(patient: Patient, moved: tuple[Angiogram, np.ndarray]) -> None:
    angiogram, vessels = moved
    points = about(skull_points(patient.cta, 4.0), patient.cta.centre_mm)
    targets = make_residue_targets(residue_of(angiogram, vessels), 64, 1.5, 5.0)
    equations = residue_equations(points, targets, 5.0)
    turn = pose.so3_exp(np.array([0.02, -0.03, 0.01]))
    at = pose.offset_about(patient.cta_to_carm, patient.cta.centre_mm, turn, np.array([2, -1, 3]))
    check_gradient(equations, at, points, angiogram.carm)


def test_the_residue_speaks_for_the_pose_that_left_it(patient: Patient, moved: tuple[Angiogram, np.ndarray]) -> None:
    """More of it is explained there than at poses off, and the confidence is as much higher; a run in which nothing moved says nothing."""
    angiogram, vessels = moved
    truth, centre = patient.cta_to_carm, patient.cta.centre_mm
    skull = Skull(patient.cta, (), SETTINGS).in_runs((angiogram,), (vessels,))
    off = pose.offset_about(truth, centre, pose.so3_exp(np.radians([4.0, 3.0, -4.0])), np.array([6.0, -5.0, 4.0]))
    right, wrong = (residue_features(skull, at, centre) for at in (truth, off))
    assert all(right[name] > 1.3 * wrong[name] for name in right)
    by_vessels = Confidence(0.5, 3.0, "look closely", (), {name: 0.0 for name in load_model(SHIPPED_RESIDUE).names})
    said = [with_residue(by_vessels, skull, at, centre) for at in (truth, off)]
    assert said[0].probability > said[1].probability
    assert said[0].features == pytest.approx({**by_vessels.features, **right}, rel=1e-4)
    # Not even noise: a run with noise alone is told by `find`.
    still = replace(angiogram, frames=np.zeros_like(angiogram.frames))
    assert with_residue(by_vessels, skull.in_runs((still,), (vessels,)), truth, centre) is by_vessels


def test_detail_of_the_changes_is_that_of_their_images(patient: Patient) -> None:
    """The kernel's, which looks at some pixels alone, and that of whole images, by finite differences of a drawn skull."""
    carm = second_run(patient, "lateral", seed=3).carm.working_grid(96)
    points, at = about(skull_points(patient.cta, 4.0), patient.cta.centre_mm), patient.cta_to_carm[None]
    rng = np.random.default_rng(0)
    inside = ndimage.gaussian_filter(rng.normal(size=(carm.rows, carm.columns)), 6) > 0
    taps = gaussian_taps(2.0)  # splatting is piecewise linear
    cameras, centres = camera_matrices(at, points.origin_mm, carm)
    found = compute.skull_changes(points, cameras, centres, LEVER_MM, carm, taps, seen_detail(inside))[0]
    draw = SplatProjector(points.positions + points.origin_mm, points.weights, carm)
    for n in range(6):
        steps = 0.25 * np.outer([1.0, -1.0], np.eye(6)[n])
        images = draw(torch.from_numpy(move(np.repeat(at, 2, axis=0), steps, points, carm))).numpy()
        both = np.concatenate([taps[:0:-1], taps])
        blurred = [
            ndimage.convolve1d(ndimage.convolve1d(image, both, 0, mode="constant"), both, 1, mode="constant")
            for image in images
        ]
        expected = detail(np.stack([(blurred[0] - blurred[1]) / 0.5]), inside)[0]
        assert np.corrcoef(found[:, n], expected)[0, 1] > 0.98
        assert np.linalg.norm(found[:, n]) == pytest.approx(np.linalg.norm(expected), rel=0.05)


def test_gradient_of_the_movements_by_finite_differences(patient: Patient, moved: tuple[Angiogram, np.ndarray]) -> None:
    angiogram, vessels = moved
    points = about(skull_points(patient.cta, 4.0), patient.cta.centre_mm)
    target = make_movement_target(residue_of(angiogram, vessels), 64, 1.5, 5.0)
    turn = pose.so3_exp(np.array([0.02, -0.03, 0.01]))
    at = pose.offset_about(patient.cta_to_carm, patient.cta.centre_mm, turn, np.array([2, -1, 3]))
    check_gradient(
        movement_equations(points, target), at, points, angiogram.carm, within=0.1
    )  # made of differences too


@pytest.fixture(scope="module")
def turned(patient: Patient) -> Angiogram:
    """From the side, with no vessels: the picture that a head leaves which has turned by a degree about its own axis."""
    carm = second_run(patient, "lateral", seed=3).carm.working_grid(256)
    bone = skull_points(patient.cta, 1.8)
    draw = SplatProjector(bone.positions + bone.origin_mm, bone.weights, carm)
    turns = (pose.so3_exp(np.radians([0, 0, angle])) for angle in (-0.5, 0.5))
    poses = np.stack(
        [pose.offset_about(patient.cta_to_carm, patient.cta.centre_mm, turn, np.zeros(3)) for turn in turns]
    )
    before, after = draw(torch.from_numpy(poses)).numpy()
    frames = np.stack([np.zeros_like(before), after - before]).astype(np.float32)
    return Angiogram(frames, carm, (0.0, 1.0), np.ones(before.shape, dtype=bool))


def test_a_head_that_turned_is_explained_where_its_halves_moved_apart(patient: Patient, turned: Angiogram) -> None:
    """Seen from the side, one half moves one way and the other half the other: no one direction explains that."""
    residue, truth = residue_of(turned, np.zeros(turned.valid.shape, dtype=bool)), patient.cta_to_carm
    points = about(skull_points(patient.cta, 3.0), patient.cta.centre_mm)
    moved = movement_equations(points, make_movement_target(residue, 128, 1.0, 5.0))
    one_way = residue_equations(points, make_residue_targets(residue, 128, 1.0, 5.0), 5.0)
    twists = np.vstack([np.zeros(6), 4 * np.eye(6)[:5], -4 * np.eye(6)[:5]])  # not along the beam, which hardly shows
    poses = move(np.repeat(truth[None], len(twists), axis=0), twists, points, turned.carm)
    explained = moved(poses)[0]
    assert explained[0] > 0.45
    assert explained[1:].max() < 0.85 * explained[0]
    assert one_way(truth[None])[0][0] < 0.3 * explained[0]
    # It was called with what is compiled ahead.
    (types,) = (types for kernel, types in signatures(everything=True) if kernel is changes_of_shadow)
    assert changes_of_shadow.signatures == [types]


def test_what_its_movements_left_brings_the_head_to_its_place(patient: Patient, turned: Angiogram) -> None:
    """From a pose so far off that uphill leads elsewhere, with vessels that are next to nothing."""
    centre, truth = patient.cta.centre_mm, patient.cta_to_carm
    vessels = replace(vessel_tree(2, n_branches=3), origin_mm=centre)
    carm = turned.carm.resampled(384, 384)
    image = SplatProjector(vessels.positions + centre, vessels.weights, carm)(torch.from_numpy(truth[None]))[0].numpy()
    valid = np.ones(image.shape, dtype=bool)
    view = View(vessel_channels(image / (image + SATURATION_MM), valid), valid, carm)
    skull = Skull(patient.cta, (turned,), vessels=(np.zeros(turned.valid.shape, dtype=bool),))
    scene = Scene(vessels, (view,), centre, patient.arteries, (), skull)
    start = move(truth[None], np.array([[4.0, -5.0, 3.0, 2.0, -3.0, 8.0]]), vessels, carm)
    found = refine_with_skull(scene, start, 2.0, SATURATION_MM)
    assert mpe_mm(carm, start[0], truth, centre) > 6
    assert mpe_mm(carm, found.cta_to_carm, truth, centre) < 1.5


def test_a_run_in_which_nothing_moved_shows_no_skull(patient: Patient, moved: tuple[Angiogram, np.ndarray]) -> None:
    angiogram, vessels = moved
    still = replace(angiogram, frames=np.zeros_like(angiogram.frames))
    skull = Skull(patient.cta, (), SETTINGS).in_runs((still,), (vessels,))
    noise = replace(still, frames=np.random.default_rng(0).normal(size=still.frames.shape).astype(np.float32))
    with pytest.raises(InputError, match="No bone moved"):
        skull.in_runs((noise,), (vessels,)).find(pose.radiological(patient.cta.centre_mm), residue=True)
    with pytest.raises(InputError, match="came subtracted"):
        skull.find(pose.radiological(patient.cta.centre_mm), residue=True)


def test_skull_of_a_phantom_is_found(patient: Patient, angiogram: Angiogram, truth: np.ndarray) -> None:
    start = pose.radiological(patient.cta.centre_mm)
    found = Skull(patient.cta, (angiogram,), SETTINGS).find(start)
    assert mpe_mm(angiogram.carm, start, truth, patient.cta.centre_mm) > 20
    assert mpe_mm(angiogram.carm, found.poses[0], truth, patient.cta.centre_mm) < 3
    assert found.runner_up < 0.9


def test_where_the_grid_shows_only_the_reverse_the_skull_is_found(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid of eight rotations, one of them the head's reverse in depth, the others far off: the answer is on none of them."""
    lateral = second_run(patient, "lateral", seed=0)
    run, centre = lateral.run, patient.cta.centre_mm
    valid = run.frames.min(axis=0) > 0
    result = subtract(np.log(np.maximum(run.frames.astype(np.float32), 0.5)), valid, mask_frames=run.mask_frames)
    angiogram = Angiogram(result.frames, run.carm, run.frame_times_s, valid, result.unsubtracted)
    truth = np.asarray(run.motion[run.mask_frames[-1]] @ lateral.cta_to_carm)
    reverse = pose.depth_reversed(truth, centre, np.array(run.carm.source_mm))
    assert mpe_mm(run.carm, reverse, truth, centre) > 20
    # The corner of the box from which the truth lies inwards.
    inwards = pose.rotation_to_euler_deg(truth[:3, :3] @ reverse[:3, :3].T)
    turn = pose.euler_deg_to_rotation(np.where(inwards > 0, -EIGHT.rotation_deg, EIGHT.rotation_deg))
    start = pose.offset_about(reverse, centre, turn.T, np.zeros(3))
    skull = Skull(patient.cta, (angiogram,), EIGHT)
    assert mpe_mm(run.carm, skull.find(start).poses[0], truth, centre) < 3
    monkeypatch.setattr(pose, "depth_reversed", lambda poses, *_: poses)
    assert mpe_mm(run.carm, skull.find(start).poses[0], truth, centre) > 20, "it is the reverse that leads there"


def test_where_no_fit_is_clear_the_skull_is_looked_for_again(
    patient: Patient, angiogram: Angiogram, truth: np.ndarray
) -> None:
    """Eight rotations, all far off, and only the finer grid has the one in their middle."""

    class Once(SkullSettings):
        def finer(self) -> SkullSettings:
            return self

    def off_mm(settings: SkullSettings) -> float:
        match = Skull(patient.cta, (angiogram,), settings).find(truth)
        return float(mpe_mm(angiogram.carm, match.poses[0], truth, patient.cta.centre_mm))

    assert off_mm(FAR) < 3
    assert off_mm(Once(**vars(FAR))) > 20


def test_agreement_knows_a_wrong_pose(patient: Patient, angiogram: Angiogram, truth: np.ndarray) -> None:
    skull = Skull(patient.cta, (replace(angiogram, unsubtracted=None), angiogram))
    near = skull.agreements(truth)[2]
    assert near.distance_mm < 3
    assert near.best_score == pytest.approx(near.score, rel=0.1)
    off = pose.offset_about(
        truth, patient.cta.centre_mm, pose.so3_exp(np.array([0.0, 0.0, 0.15])), np.array([8.0, 8, 8])
    )
    (number, wrong), *_ = skull.agreements(off).items()
    assert number == 2
    assert wrong.score < 0.6 * near.score
    assert wrong.best_score > wrong.score
    right_score, wrong_score = skull.scores(np.stack([truth, off]))
    assert wrong_score < 0.8 * right_score


def test_where_only_the_skull_matches_there_is_a_result_and_no_error(
    patient: Patient, angiogram: Angiogram, truth: np.ndarray
) -> None:
    """Masks that show something else than vessels, once with the mask frame and once without."""
    streak = np.zeros(angiogram.valid.shape, dtype=np.float32)
    streak[250:254, 60:460] = 1
    nothing = np.zeros(streak.shape, dtype=bool)
    wrong = DsaMasks(-streak, streak, streak > 0, streak > 0, nothing, np.where(streak > 0, 0, np.nan))
    vessels = patient.cta.with_voxels(patient.cta.voxels > 1000)
    settings = RegistrationSettings(init="file", levels=(), near_levels=())
    result = register(patient.cta, angiogram, settings, cta_mask=vessels, dsa_masks=wrong, initial_pose=truth)
    assert result.score < 0.15
    assert any("only the skull does" in warning for warning in result.warnings)
    assert result.confidence is not None
    assert result.confidence.state != "accepted"
    subtracted = replace(angiogram, unsubtracted=None)
    with pytest.raises(RegistrationError, match="No pose of the CTA explains the DSA"):
        register(patient.cta, subtracted, settings, cta_mask=vessels, dsa_masks=wrong, initial_pose=truth)


def test_what_has_no_skull_is_refused(patient: Patient, angiogram: Angiogram) -> None:
    start = pose.radiological(patient.cta.centre_mm)
    with pytest.raises(InputError, match="came subtracted"):
        Skull(patient.cta, (replace(angiogram, unsubtracted=None),)).find(start)
    with pytest.raises(InputError, match="next to no bone"):
        Skull(patient.cta.with_voxels(np.minimum(patient.cta.voxels, 100)), (angiogram,)).find(start)


def test_real_head_in_its_own_radiograph() -> None:
    """A real head CT ray cast, all tissue, scatter and noise: its bone alone finds the pose."""
    head = load_volume(shared("head_ct/cranium.nrrd"))
    from DeepIterRegLib.phantom.xray import attenuation_per_mm, line_integrals

    carm = CArm.from_angles(90, 0, sid_mm=1150, sod_mm=750, rows=512, columns=512, pixel_spacing_mm=(0.7, 0.7))
    rng = np.random.default_rng(4)
    start = pose.radiological(head.centre_mm)
    turn = pose.euler_deg_to_rotation(rng.uniform(-20, 20, 3))
    truth = pose.offset_about(start, head.centre_mm, turn, rng.uniform(-20, 20, 3))
    # The scanner's headrest is not in the angiography room.
    pieces, _ = ndimage.label(ndimage.binary_erosion(head.voxels > -300, iterations=2))
    body = ndimage.binary_dilation(pieces == np.bincount(pieces[pieces > 0]).argmax(), iterations=3)
    shown = np.where(body, head.voxels, -1000)
    values = attenuation_per_mm(np.ascontiguousarray(shown.transpose(2, 1, 0), dtype=np.float32))
    shadow = line_integrals(values, np.linalg.inv(truth @ head.affine), carm)
    counts = np.exp(-shadow) + 0.2 * np.exp(-np.median(shadow[shadow > 1]))
    shadow = -np.log(counts) + 0.01 * rng.standard_normal(shadow.shape)
    valid = np.ones(shadow.shape, dtype=bool)
    angiogram = Angiogram(np.zeros((1, 512, 512), np.float32), carm, np.zeros(1), valid, shadow.astype(np.float32))
    found = Skull(Volume(head.voxels, head.affine), (angiogram,), SETTINGS).find(start)
    assert mpe_mm(carm, found.poses[0], truth, head.centre_mm) < 2
