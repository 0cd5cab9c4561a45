"""Batches of training samples made at once: the same samples as one by one, from the same chance, and as they are distributed."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.network.batch_draws import stacked
from DeepIterRegLib.registration.network.batches import Batches, Heads, batch_of, heads_on
from DeepIterRegLib.registration.network.draws import SamplingSettings, draw
from DeepIterRegLib.registration.network.heads import HeadPoints, make_head_points
from DeepIterRegLib.registration.network.model import NetworkSettings, correction_between
from DeepIterRegLib.registration.network.patient_heads import head_of_patient
from DeepIterRegLib.registration.network.samples import make_sample, sample_of
from DeepIterRegLib.registration.network.schedule import cycle_by_time, one_cycle
from DeepIterRegLib.registration.network.view import OFF_DETECTOR
from DeepIterRegLib.rendering.splat import splat
from DeepIterRegLib.rendering.splat_clouds import splat_clouds

NETWORK = NetworkSettings(rows=64, pixel_mm=4.0)


@pytest.fixture(scope="module")
def heads() -> list[HeadPoints]:
    return [make_head_points(seed) for seed in (5, 6)]


@pytest.fixture(scope="module")
def on_cpu(heads: list[HeadPoints]) -> Heads:
    return heads_on(heads, "cpu")


# -- the splat -------------------------------------------------------------------------------------------


def test_clouds_are_splatted_as_one_by_one_and_with_the_same_gradient() -> None:
    rng = np.random.default_rng(1)
    rows, pixel_mm, sid, sod = 48, 4.0, np.array([1000.0, 1250.0]), np.array([700.0, 780.0])
    # Some of them off the image, and some behind the source.
    points = torch.from_numpy(rng.normal(0, [60, 60, 400], (2, 800, 3)).astype(np.float32))
    weights = torch.from_numpy(rng.uniform(0, 5, (2, 800)).astype(np.float32))
    cameras = torch.eye(3, 4).repeat(2, 1, 1)
    cameras[:, 2, 3] = torch.from_numpy(sod).float()
    smooth = torch.sin(torch.arange(rows) / 9)[:, None] * torch.cos(torch.arange(rows) / 7)
    together = cameras.clone().requires_grad_()
    focal = torch.from_numpy(sod / pixel_mm).float()
    images = splat_clouds(together, points.transpose(1, 2), weights, focal, rows)
    (images * smooth).sum().backward()
    for n in range(2):
        spacing = pixel_mm * sid[n] / sod[n]
        view = CArm.from_angles(
            0, 0, sid_mm=sid[n], sod_mm=sod[n], rows=rows, columns=rows, pixel_spacing_mm=(spacing, spacing)
        )
        alone = cameras[n : n + 1].clone().requires_grad_()
        image = splat(alone, points[n], weights[n], view)
        (image * smooth).sum().backward()
        assert torch.allclose(images[n], image[0], rtol=1e-4, atol=1e-3)
        assert alone.grad is not None
        assert together.grad is not None
        assert float((together.grad[n] - alone.grad[0]).norm() / alone.grad.norm()) < 1e-2


# -- samples ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_content", [0.0, 1.0])
def test_a_batch_is_the_samples_of_the_same_chance(heads: list[HeadPoints], on_cpu: Heads, same_content: float) -> None:
    settings = dataclasses.replace(SamplingSettings(), same_content=same_content, patches=1.0, external=0.5)
    chances = [draw(on_cpu.pieces, np.random.default_rng(seed), NETWORK, settings, 300) for seed in range(8)]
    alone = [sample_of(heads[n % 2], draws, view) for n, (draws, view) in enumerate(chances)]
    draws = stacked([draws for draws, _ in chances], "cpu")
    images, start, truth, points, weights, distances = batch_of(on_cpu, torch.arange(8) % 2, draws, NETWORK)
    for n, sample in enumerate(alone):
        assert torch.allclose(images[n], sample.images, atol=1e-3)
        assert torch.allclose(start[n], sample.start, atol=1e-3)
        assert torch.allclose(truth[n], sample.truth, atol=1e-3)
        # A number that falls on the border between two points' shares may go to the other.
        assert float(((points[n] - sample.points).norm(dim=1) > 1e-2).float().mean()) < 0.01
        assert torch.allclose(weights[n], sample.weights, rtol=1e-4)
        assert distances[n].tolist() == pytest.approx([sample.view.sid_mm, sample.view.sod_mm])


def test_batches_are_distributed_as_samples_are(heads: list[HeadPoints], on_cpu: Heads) -> None:
    settings, count = SamplingSettings(), 96
    made = [make_sample(heads[n % 2], np.random.default_rng(n), NETWORK, settings, 10) for n in range(count)]
    alone = facts(*(torch.stack([getattr(s, name) for s in made]) for name in ("images", "start", "truth")))
    together = Batches(on_cpu, NETWORK, settings, 10, count, seeds=(3,), first=0, count=1).make(0)
    batch = facts(*together[:3])
    for name, values in alone.items():
        error = math.hypot(values.std(), batch[name].std()) / math.sqrt(count)
        assert abs(values.mean() - batch[name].mean()) < 3.5 * error, name
        assert 0.7 < values.std() / batch[name].std() < 1.4, name


def facts(images: torch.Tensor, start: torch.Tensor, truth: torch.Tensor) -> dict[str, np.ndarray]:
    """Of each sample what its images show and how far its poses are apart."""
    cta, dsa = images[:, 0], images[:, 1]
    seen = dsa != OFF_DETECTOR
    apart = correction_between(start.double(), truth.double())
    return {
        "cover of the CTA": cta.mean(dim=(1, 2)).numpy(),
        "cover of the DSA": (dsa * seen).mean(dim=(1, 2)).numpy(),
        "share seen": seen.float().mean(dim=(1, 2)).numpy(),
        "share of pixels with vein": (dsa > 0.5).float().mean(dim=(1, 2)).numpy(),
        "middle of the DSA's veins": ((dsa * seen).sum(1) @ torch.arange(64.0) / (dsa * seen).sum((1, 2)).clamp_min(1)).numpy(),
        "turn": apart[:, :3].norm(dim=1).numpy(),
        "shift": apart[:, 3:].norm(dim=1).numpy(),
        "depth": truth[:, 2, 3].numpy(),
    }  # fmt: skip


def test_the_same_number_gives_the_same_batch(on_cpu: Heads) -> None:
    batches = Batches(on_cpu, NETWORK, SamplingSettings(), 50, 3, seeds=(1, 2), first=4, count=2)
    first, second = batches
    again = Batches(on_cpu, NETWORK, SamplingSettings(), 50, 3, seeds=(1, 2), first=5, count=1).make(5)
    assert all(torch.equal(a, b) for a, b in zip(second, again, strict=True))
    assert not torch.equal(first[0], second[0])
    other = Batches(on_cpu, NETWORK, SamplingSettings(), 50, 3, seeds=(1, 3), first=5, count=1).make(5)
    assert not torch.equal(other[0], second[0])


# -- the rate --------------------------------------------------------------------------------------------


def test_the_cycle_of_the_rate_is_torchs() -> None:
    steps = 50
    optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], 1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, steps, pct_start=0.1)
    for step in range(steps):
        # torch's cycle begins its first step at 0 and its last at 1; its peak is after a tenth of the steps less one.
        expected = optimiser.param_groups[0]["lr"]
        share = step / (0.1 * steps - 1) * 0.1 if step <= 0.1 * steps - 1 else 0.1 + 0.9 * (step - 4) / (steps - 1 - 4)
        assert one_cycle(share) == pytest.approx(expected, rel=1e-6)
        optimiser.step()
        cycle.step()


def test_a_training_with_a_limit_of_time_ends_its_cycle_with_it() -> None:
    clock = [0.0]
    rate = cycle_by_time(1000, 60.0, lambda: clock[0])
    assert rate(0) == pytest.approx(1 / 25)
    clock[0] = 6.0
    assert rate(3) == pytest.approx(1.0)
    clock[0] = 59.99
    assert rate(100) < 1e-4
    clock[0] = 0.0
    assert rate(1000) < 1e-4  # all steps were made before


# -- a patient -------------------------------------------------------------------------------------------


def test_a_patients_head_lies_about_the_middle_of_the_field_and_shows_its_large_veins() -> None:
    voxels = np.zeros((60, 50, 50), dtype=np.uint8)
    voxels[5:55, 30:37, 30:37] = 1  # thick
    voxels[5:55, 10:12, 10:12] = 1  # thin
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (100, -300, 900)
    head = head_of_patient(Volume(voxels, affine))
    thick = head.axis_mm[:, 0] > 0
    assert not head.vein[~thick].any()
    assert head.vein[thick].mean() > 0.8  # its edges are rounded
    assert np.array_equal(head.opacity.all(axis=0), head.vein)
    index = np.argwhere(voxels)[:, ::-1]
    assert np.allclose(head.axis_mm, (index - np.array([24.5, 24.5, 29.5])) * 2.0)
    assert head.volume_mm3.sum() == pytest.approx(8.0 * voxels.sum())
