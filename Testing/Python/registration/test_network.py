"""The initial pose network: geometry of its answers, what it sees, its losses, samples, weights."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import logm

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.resources import MODELS
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.network.backbone import ResNet18
from DeepIterRegLib.registration.network.config import (
    TrainSettings,
    read_settings,
    settings_from,
    training_settings,
)
from DeepIterRegLib.registration.network.draws import SamplingSettings
from DeepIterRegLib.registration.network.heads import HeadPoints, load_head, make_head_points, save_head
from DeepIterRegLib.registration.network.loss import (
    dice_loss,
    double_geodesic,
    geodesic,
    image_loss,
    projection_error_mm,
)
from DeepIterRegLib.registration.network.model import (
    NetworkSettings,
    PoseNetwork,
    corrected,
    correction_between,
    pose_of_camera,
)
from DeepIterRegLib.registration.network.predict import predict
from DeepIterRegLib.registration.network.samples import make_sample, mirrored
from DeepIterRegLib.registration.network.view import OFF_DETECTOR, canvas, coverage, dsa_channel
from DeepIterRegLib.registration.network.weights import card_of, load_network, save_network
from DeepIterRegLib.rendering.splat import splat

CARM = CArm.from_angles(
    80.0,
    7.0,
    sid_mm=1120,
    sod_mm=740,
    rows=400,
    columns=512,
    pixel_spacing_mm=(0.55, 0.6),
    principal_point_px=(250, 203),
)
SMALL = NetworkSettings(rows=32, pixel_mm=8.0)


@pytest.fixture(scope="module")
def head() -> HeadPoints:
    return make_head_points(5)


def cameras(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation = pose.so3_exp(rng.normal(0, 0.5, (n, 3)))
    centre = rng.normal(0, 20, (n, 3)) + np.array([0, 0, 740])
    return np.concatenate([rotation, centre[..., None]], axis=-1)


# -- the model -------------------------------------------------------------------------------------------


def test_the_architecture_is_the_published_one() -> None:
    network = PoseNetwork(NetworkSettings())
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes["backbone.conv1.weight"] == (64, 2, 7, 7)
    assert shapes["hidden.weight"] == (2048, 512)
    assert shapes["rotation.weight"] == shapes["translation.weight"] == (3, 2048)
    assert (
        sum(name.endswith("conv1.weight") or name.endswith("conv2.weight") for name in shapes) == 17
    )  # and 1 + 16 of ResNet18
    assert network.dropout.p == 0.1
    deviation = float(network.hidden.weight.detach().std())
    assert deviation == pytest.approx(math.sqrt(2 / 512), rel=0.02)  # He et al. 2015


def test_the_backbone_is_monais_resnet18() -> None:
    """The same names, shapes and answer, in training (where it counts its means) as in use."""
    resnet18 = pytest.importorskip("monai.networks.nets.resnet").resnet18
    theirs = resnet18(spatial_dims=2, n_input_channels=2, conv1_t_stride=2, feed_forward=False)
    ours = ResNet18(channels=2)
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand((3, 2, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for training in (True, False):
            answers = [network.train(training)(images) for network in (ours, theirs)]
            torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-5)
    for name, values in ours.state_dict().items():
        torch.testing.assert_close(values, theirs.state_dict()[name])


def test_answers_stay_within_their_scale() -> None:
    settings = dataclasses.replace(SMALL, rotation_deg=(10.0, 20.0, 30.0), translation_mm=(5.0, 6.0, 7.0))
    network = PoseNetwork(settings).eval()
    with torch.no_grad():
        network.rotation.bias += torch.tensor([100.0, -100.0, 100.0])
        network.translation.bias += 100
        answer = network(torch.rand(2, 2, 32, 32))
    assert torch.allclose(answer[0], torch.tensor([*np.radians([10, -20, 30]), 5, 6, 7]).float())


def test_correction_between_undoes_corrected() -> None:
    start = cameras(20)
    correction = np.random.default_rng(1).normal(0, 1, (20, 6)) * [0.8, 0.8, 0.8, 40, 40, 40]
    assert np.allclose(correction_between(start, corrected(start, correction)), correction)


@pytest.mark.parametrize("carm", [CARM, CARM.mirrored(), CARM.turned(1)])
def test_a_corrected_camera_is_a_rigid_pose_that_projects_the_same(carm: CArm) -> None:
    middle = np.array([30.0, -12.0, 55.0])
    rng = np.random.default_rng(2)
    start = pose.offset_about(
        pose.radiological(middle), middle, pose.euler_deg_to_rotation(rng.normal(0, 10, 3)), rng.normal(0, 9, 3)
    )
    source = np.array(carm.source_mm)
    camera = np.concatenate(
        [carm.axes @ start[:3, :3], (carm.axes @ (start[:3, :3] @ middle + start[:3, 3] - source))[:, None]], axis=1
    )
    moved = corrected(camera, np.array([0.2, -0.3, 0.4, 10, -20, 30]))
    cta_to_carm = pose_of_camera(moved, carm.axes, source, middle)
    assert np.allclose(cta_to_carm[:3, :3] @ cta_to_carm[:3, :3].T, np.eye(3))
    assert np.linalg.det(cta_to_carm[:3, :3]) == pytest.approx(1)
    points = middle + rng.normal(0, 40, (30, 3))
    seen = (points - middle) @ moved[:, :3].T + moved[:, 3]
    k = carm.intrinsics
    px = seen[:, :2] / seen[:, 2:] * [k[0, 0], k[1, 1]] + [k[0, 2], k[1, 2]]
    assert np.allclose(px, carm.project(points, cta_to_carm))


# -- what it sees ----------------------------------------------------------------------------------------


def test_a_point_stands_on_the_same_canvas_pixel_in_both_channels() -> None:
    view = canvas(CARM, 128, 2.0)
    middle = np.zeros(3)
    start = pose.radiological(middle)
    points = np.array([[20.0, 31.0, -40.0], [-50.0, 10.0, 33.0], [5.0, -60.0, 2.0]])
    mask = np.zeros((CARM.rows, CARM.columns), dtype=bool)
    for column, row in CARM.project(points, start):
        rows, columns = np.ogrid[: CARM.rows, : CARM.columns]
        mask |= (rows - row) ** 2 + (columns - column) ** 2 <= 4**2
    channel = dsa_channel(mask, np.ones_like(mask), CARM, view)
    for column, row in view.project(points, start):
        k, j = round(float(row)), round(float(column))
        window = channel[k - 3 : k + 4, j - 3 : j + 4]
        weights = np.maximum(window, 0) / np.maximum(window, 0).sum()
        found = (weights.sum(axis=0) @ np.arange(j - 3, j + 4), weights.sum(axis=1) @ np.arange(k - 3, k + 4))
        assert np.allclose(found, (column, row), atol=0.15)


def test_off_the_detector_is_not_empty() -> None:
    view = canvas(CARM, 128, 3.0)
    valid = np.ones((CARM.rows, CARM.columns), dtype=bool)
    valid[:, 300:] = False
    channel = dsa_channel(np.ones_like(valid), valid, CARM, view)
    width_mm = view.pixel_spacing_mm[0]
    seen = (channel != OFF_DETECTOR).sum() * width_mm**2
    assert seen == pytest.approx(valid.sum() * 0.55 * 0.6, rel=0.02)
    assert np.allclose(channel[channel != OFF_DETECTOR], 1, atol=1e-5)


def test_zoom_does_not_change_what_is_seen() -> None:
    near, far = (
        CARM,
        dataclasses.replace(
            CARM, sid_mm=1300, pixel_spacing_mm=(0.3, 0.3), rows=900, columns=900, principal_point_px=(450, 450)
        ),
    )
    point = np.array([[12.0, -9.0, 20.0]])
    start = pose.radiological(np.zeros(3))
    assert np.allclose(canvas(near, 128, 2.0).project(point, start), canvas(far, 128, 2.0).project(point, start))


# -- losses ----------------------------------------------------------------------------------------------


def test_dice_of_known_overlaps() -> None:
    a = torch.zeros(3, 4, 4)
    a[:, 0] = 1
    b = a.clone()
    b[1], b[2] = 0, 0
    b[1, 0, :2], b[2, 1] = 1, 1
    assert torch.allclose(dice_loss(a, b), torch.tensor([0.0, 1 - 4 / 6, 1.0]))


def test_geodesics_against_the_matrix_logarithm() -> None:
    correction = torch.tensor(
        [[0.0, 0.3, 0.4, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0, 4.0, 12.0], [0.1, -0.2, 0.3, 5.0, 6.0, -7.0]]
    )
    assert torch.allclose(double_geodesic(correction, 100.0)[:2], torch.tensor([50.0, 13.0]))
    for row, value in zip(correction.double().numpy(), geodesic(correction, 100.0), strict=True):
        log = logm(np.asarray(pose.matrix(pose.so3_exp(row[:3]), row[3:]))).real
        twist = np.array([log[2, 1], log[0, 2], log[1, 0]]) * 100
        assert float(value) == pytest.approx(math.hypot(*twist, *log[:3, 3]), rel=1e-4)


def test_projection_error_is_the_mpe_of_a_cube() -> None:
    from DeepIterRegLib.geometry import mpe_mm

    middle = np.array([3.0, 4.0, 5.0])
    a = pose.radiological(middle)
    b = pose.offset_about(
        a, middle, pose.euler_deg_to_rotation(np.array([5.0, -8.0, 11.0])), np.array([7.0, 1.0, -6.0])
    )
    source = np.array(CARM.source_mm)
    seen = [
        torch.from_numpy(
            np.concatenate(
                [CARM.axes @ p[:3, :3], (CARM.axes @ (p[:3, :3] @ middle + p[:3, 3] - source))[:, None]], axis=1
            )
        )[None]
        for p in (a, b)
    ]
    error = projection_error_mm(seen[0], seen[1], torch.tensor([CARM.sid_mm], dtype=torch.float64))
    assert float(error) == pytest.approx(float(mpe_mm(CARM, b, a, middle)), rel=1e-6)


def test_the_image_loss_has_the_gradient_of_finite_differences() -> None:
    rng = np.random.default_rng(4)
    points = torch.from_numpy(rng.normal(0, 30, (4000, 3)).astype(np.float32))
    weights = torch.full((4000,), 3.0)
    view = canvas(CARM, 64, 4.0)
    truth = torch.from_numpy(cameras(1, 5)).float()
    fixed = splat(truth, points, weights, view)

    def loss(correction: torch.Tensor) -> torch.Tensor:
        return image_loss(splat(corrected(truth, correction), points, weights, view), fixed, 4).sum()

    at = torch.tensor([[0.1, -0.05, 0.08, 4.0, -3.0, 10.0]], requires_grad=True)
    loss(at).backward()
    assert at.grad is not None
    # Bilinear weights have kinks; over a good part of a pixel they average out.
    steps = torch.tensor([0.01, 0.01, 0.01, 1.0, 1.0, 10.0])
    change = []
    for delta in torch.diag(steps):
        with torch.no_grad():
            change.append(float(loss(at + delta) - loss(at - delta)) / 2)
    analytic, finite = at.grad[0] * steps, torch.tensor(change)
    assert float(analytic @ finite / (analytic.norm() * finite.norm())) > 0.99
    assert float(analytic.norm() / finite.norm()) == pytest.approx(1, abs=0.1)


# -- samples ---------------------------------------------------------------------------------------------


def test_a_head_holds_the_blood_of_its_vessels_and_survives_the_disk(head: HeadPoints, tmp_path: Path) -> None:
    assert 15_000 < head.volume_mm3.sum() < 60_000  # all vessels of a head: some tens of mL
    across = np.linalg.norm(head.offset_mm, axis=1)
    assert np.all(across <= head.radius_mm * 1.001)
    assert not head.opacity[:, ~head.vein].any()
    left, right = head.opacity[0], head.opacity[1]
    side = head.axis_mm[:, 0]
    assert left[side < -30].sum() > 3 * left[side > 30].sum()
    assert right[side > 30].sum() > 3 * right[side < -30].sum()
    save_head(head, tmp_path / "head.npz")
    again = load_head(tmp_path / "head.npz")
    for field in dataclasses.fields(head):
        assert np.array_equal(getattr(again, field.name), getattr(head, field.name))


def test_mirroring_twice_changes_nothing(head: HeadPoints) -> None:
    twice = mirrored(mirrored(head))
    for field in dataclasses.fields(head):
        assert np.array_equal(getattr(twice, field.name), getattr(head, field.name))


def test_a_sample_is_the_head_at_its_two_poses(head: HeadPoints) -> None:
    settings = dataclasses.replace(SamplingSettings(), same_content=1.0)
    network = NetworkSettings()
    sample = make_sample(head, np.random.default_rng(6), network, settings, 30_000)
    for camera, image in zip((sample.start, sample.truth), sample.images, strict=True):
        rendered = coverage(splat(camera[None], sample.points, sample.weights, sample.view)[0])
        seen = image != OFF_DETECTOR
        assert float(dice_loss((rendered * seen)[None], (image * seen)[None])) < 0.2
    offset = correction_between(sample.start.double().numpy(), sample.truth.double().numpy())
    assert np.degrees(np.linalg.norm(offset[:3])) <= 35 * math.sqrt(3) * 1.05


def test_the_same_numbers_give_the_same_sample(head: HeadPoints) -> None:
    a, b = (make_sample(head, np.random.default_rng(7), SMALL, SamplingSettings(), 100) for _ in range(2))
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.truth, b.truth)


def test_offsets_keep_to_their_axes(head: HeadPoints) -> None:
    settings = dataclasses.replace(
        SamplingSettings(), rotation_deg=(0.0, 0.0, 0.0), translation_mm=(0.0, 0.0, 30.0), from_radiological=1.0
    )
    shifts = []
    for seed in range(8):
        sample = make_sample(head, np.random.default_rng(seed), SMALL, settings, 10)
        left = correction_between(sample.start.double().numpy(), sample.truth.double().numpy())
        assert np.allclose(left[:3], 0, atol=1e-6)
        shifts.append(sample.view.axes.T @ left[3:])
    assert np.allclose(np.array(shifts)[:, :2], 0, atol=1e-3)
    assert np.ptp(np.array(shifts)[:, 2]) > 10


# -- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["initial_pose", "paper", "patient"])
def test_shipped_settings_are_read(name: str) -> None:
    assert isinstance(read_settings(MODELS / f"{name}.toml"), TrainSettings)


def test_everything_wrong_with_settings_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "[network]\nrows = 100\n[sampling]\nwidht = [1, 2]\nmissing = 'all'\n[training]\nrate = 0\n[other]\nx = 1\n"
    )
    with pytest.raises(InputError) as caught:
        read_settings(path)
    text = str(caught.value)
    for part in (
        "network.rows is 100",
        "[sampling] has no setting",
        "sampling.missing is ",
        "training.rate is 0",
        'table "other"',
    ):
        assert part in text
    with pytest.raises(InputError, match="do not exist"):
        read_settings(tmp_path / "absent.toml")
    path.write_text("[network\n")
    with pytest.raises(InputError, match="cannot be read as TOML"):
        read_settings(path)


def test_fine_tuning_starts_from_the_shipped_weights(tmp_path: Path) -> None:
    cta = tmp_path / "cta.nii.gz"
    cta.write_bytes(b"")
    training = training_settings(None, cta, None, 5).training
    assert (training.patient, training.minutes) == (str(cta), 5)
    assert training.start_from == str(MODELS / "initial_pose.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        training_settings(None, tmp_path / "absent.nii", None, 0)


# -- weights ---------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_network(PoseNetwork(SMALL), path, {"settings": {"network": dataclasses.asdict(SMALL)}})
    return path


def test_weights_survive_the_disk_to_half_precision(weights: Path) -> None:
    torch.manual_seed(0)
    network = PoseNetwork(SMALL).eval()
    save_network(network, weights, {"settings": {"network": dataclasses.asdict(SMALL)}})
    images = torch.rand(3, 2, 32, 32)
    with torch.no_grad():
        assert torch.allclose(load_network(weights)(images), network(images), rtol=0.05, atol=0.05)


def test_weights_that_cannot_be_used_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not exist"):
        load_network(tmp_path / "absent.safetensors")
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"not a \.safetensors file"):
        load_network(pickle)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    with pytest.raises(InputError, match="SHA-256 differs"):
        load_network(weights)
    weights.write_bytes(whole)
    card = json.loads(card_of(weights).read_text())
    card["settings"]["network"]["rows"] = 33
    card_of(weights).write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"network.rows is 33"):
        load_network(weights)
    card_of(weights).write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        load_network(weights)
    card_of(weights).unlink()
    with pytest.raises(InputError, match=r"card mine\.json is missing"):
        load_network(weights)


def test_another_architecture_is_refused(weights: Path) -> None:
    import hashlib

    from safetensors.torch import save

    content = save({"layer.weight": torch.zeros(3)})
    weights.write_bytes(content)
    card = json.loads(card_of(weights).read_text())
    card_of(weights).write_text(json.dumps({**card, "sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(InputError, match="another architecture"):
        load_network(weights)


def test_a_network_that_corrects_nothing_gives_back_the_poses() -> None:
    network = PoseNetwork(SMALL).eval()
    for layer in (network.rotation, network.translation):
        torch.nn.init.zeros_(layer.weight)
    rng = np.random.default_rng(9)
    veins = rng.normal(0, 30, (500, 3)) + np.array([40, 900, -70])
    start = pose.radiological(veins.mean(axis=0) + 5)
    starts = pose.offset_about(
        start[None], veins.mean(axis=0)[None], pose.so3_exp(rng.normal(0, 0.3, (4, 3))), rng.normal(0, 9, (4, 3))
    )
    mask = np.zeros((CARM.rows, CARM.columns), dtype=bool)
    found = predict(network, veins, 1.0, mask, ~mask, CARM, starts)
    assert np.allclose(found, starts, atol=2e-3)


def test_settings_of_a_card_are_checked_like_a_file() -> None:
    with pytest.raises(InputError, match=r"card: network.dropout is a text of 4 letters; a number is needed"):
        settings_from({"network": {"dropout": "much"}}, "card")
