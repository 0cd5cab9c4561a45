"""Similarities against hand-computed cases, NumPy and scikit-learn's definition, and finite differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from DeepIterRegLib.registration.papers.similarity import (
    MI_BINS,
    gradient_correlation,
    mutual_information,
    ncc,
    negative_l2,
    zncc,
)

Similarity = Callable[..., torch.Tensor]
ALL = [ncc, zncc, gradient_correlation, mutual_information, negative_l2]
AFFINE_INVARIANT = [zncc, gradient_correlation, mutual_information]


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    moving, fixed = random_images(3, 9, 11), random_images(9, 11, seed=1)
    return moving + 0.5 * fixed, fixed


# -- values ----------------------------------------------------------------------------------------


def test_zncc_is_pearsons_correlation(pair):
    moving, fixed = pair
    expected = [stats.pearsonr(m.numpy().ravel(), fixed.numpy().ravel()).statistic for m in moving]
    np.testing.assert_allclose(zncc(moving, fixed), expected, rtol=1e-12)


def test_zncc_by_hand():
    moving = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    fixed = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    # deviations (-1.5 -0.5 0.5 1.5) and (-1 -1 -1 3): 6 / sqrt(5 * 12)
    assert zncc(moving, fixed).item() == pytest.approx(6 / math.sqrt(60))


def test_gradient_correlation_is_the_mean_over_scipys_sobel(pair):
    moving, fixed = pair
    expected = []
    for m in moving:
        parts = []
        for axis in (0, 1):
            a, b = (ndimage.sobel(x.numpy(), axis=axis)[1:-1, 1:-1].ravel() for x in (m, fixed))
            parts.append(stats.pearsonr(a, b).statistic)
        expected.append(np.mean(parts))
    np.testing.assert_allclose(gradient_correlation(moving, fixed), expected, rtol=1e-12)


def plug_in_mutual_information(labels_a: np.ndarray, labels_b: np.ndarray) -> float:
    """Textbook sum p log(p / (pa pb)) over label pairs (what scikit-learn's mutual_info_score computes)."""
    joint = np.zeros((labels_a.max() + 1, labels_b.max() + 1))
    np.add.at(joint, (labels_a.ravel(), labels_b.ravel()), 1)
    joint /= joint.sum()
    outer = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    full = joint > 0
    return float((joint[full] * np.log(joint[full] / outer[full])).sum())


def test_mutual_information_of_well_separated_grey_values_is_the_discrete_one():
    """Values 5 bins apart do not meet in the Parzen window (4 bins), so nothing is lost against hard bins."""
    rng = np.random.default_rng(3)
    fixed_label = rng.integers(0, 4, (40, 50))
    moving_label = np.where(rng.random((2, 40, 50)) < 0.6, fixed_label, rng.integers(0, 7, (2, 40, 50)))
    moving_label[:, 0, 0], moving_label[:, 0, 1] = 0, 6
    moving = torch.from_numpy(moving_label * 5 / (MI_BINS - 1))
    moving[:, 0, 2] = 1.0
    moving_label[:, 0, 2] = 7  # the brightest value of all
    value = mutual_information(moving, torch.from_numpy(fixed_label / 3.0))
    expected = [plug_in_mutual_information(label, fixed_label) for label in moving_label]
    # 7 follows 6 at 31 - 30 = 1 bin, so those two overlap for a single pixel: allow what one pixel of 2000 can carry.
    np.testing.assert_allclose(value, expected, atol=math.log(2000) / 2000)


def test_mutual_information_is_that_of_the_histogram_blurred_by_the_window():
    rng = np.random.default_rng(4)
    fixed_label = rng.integers(0, MI_BINS, (30, 30))
    moving_label = np.clip(fixed_label + rng.integers(-6, 7, (30, 30)), 0, MI_BINS - 1)
    fixed_label.flat[:2] = moving_label.flat[:2] = (0, MI_BINS - 1)
    joint = np.zeros((MI_BINS, MI_BINS + 4))
    for offset, weight in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
        np.add.at(joint, (fixed_label.ravel(), moving_label.ravel() + 2 + offset), weight / 900)
    full = joint > 0
    outer = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    expected = (joint[full] * np.log(joint[full] / outer[full])).sum()
    to_unit = 1 / (MI_BINS - 1)
    value = mutual_information(torch.from_numpy(moving_label * to_unit)[None], torch.from_numpy(fixed_label * to_unit))
    # The fixed image's bins are MI_BINS equal parts of its range: label n stands at n / 31, which is in bin n.
    assert value.item() == pytest.approx(expected, rel=1e-9)
    assert value.item() <= plug_in_mutual_information(moving_label, fixed_label) + 1e-12  # blur cannot add information


def test_mutual_information_of_independent_images_is_near_zero_and_of_a_function_is_high():
    fixed = random_images(128, 128)
    moving = torch.stack([random_images(128, 128, seed=5), (fixed - 0.5).abs(), 1 - fixed])
    independent, folded, inverted = mutual_information(moving, fixed).tolist()
    assert independent < (MI_BINS - 1) * (MI_BINS + 1) / (2 * 128**2) * 2  # bias of the plug-in estimate, twice
    assert folded > 1
    assert inverted > folded


def test_negative_l2_by_hand():
    moving = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[0.5, 0.0], [0.0, 0.0]]])
    fixed = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert negative_l2(moving, fixed).tolist() == pytest.approx([-2 / 4, -(0.25 + 2) / 4])


# -- properties ------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", AFFINE_INVARIANT)
@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (1e-4, 5.0), (1e5, -1e4)])
def test_gain_and_offset_of_either_image_do_not_count(similarity, gain, offset, pair):
    moving, fixed = pair
    expected = similarity(moving, fixed)
    torch.testing.assert_close(similarity(gain * moving + offset, fixed), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(similarity(moving, gain * fixed + offset), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("similarity", [zncc, gradient_correlation])
def test_correlation_changes_sign_with_contrast(similarity, pair):
    moving, fixed = pair
    torch.testing.assert_close(similarity(-moving, fixed), -similarity(moving, fixed))


@pytest.mark.parametrize("similarity", ALL)
def test_equal_images_score_highest(similarity):
    """Against shifted copies of a smooth image; correlations and Dice reach 1, L2 reaches 0."""
    image = torch.from_numpy(ndimage.gaussian_filter(random_images(40, 40).numpy(), 2))
    image = (image - image.min()) / (image.max() - image.min())
    shifts = list(itertools.product((-2, 0, 2), repeat=2))
    moving = torch.stack([torch.roll(image, shift, (0, 1)) for shift in shifts])
    scores = similarity(moving, image)
    assert shifts[int(scores.argmax())] == (0, 0)
    best = {negative_l2: 0.0}.get(similarity, 1.0)
    if similarity is not mutual_information:
        assert scores.max().item() == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("similarity", ALL)
def test_gradient_agrees_with_finite_differences(similarity, pair):
    moving, fixed = pair
    valid = random_images(9, 11, seed=7) > 0.1
    assert torch.autograd.gradcheck(lambda m: similarity(m, fixed), moving.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda m: similarity(m, fixed, valid), moving.clone().requires_grad_())


@pytest.mark.parametrize("similarity", ALL)
def test_batch_equals_one_by_one(similarity, pair):
    moving, fixed = pair
    one_by_one = torch.cat([similarity(m[None], fixed) for m in moving])
    torch.testing.assert_close(similarity(moving, fixed), one_by_one)
    torch.testing.assert_close(similarity(moving, fixed.expand(3, -1, -1)), one_by_one)


@pytest.mark.parametrize("similarity", ALL)
def test_only_valid_pixels_count(similarity, pair):
    moving, fixed = pair
    valid = torch.zeros(9, 11, dtype=torch.bool)
    valid[2:8, 1:9] = True
    expected = similarity(moving[:, 2:8, 1:9], fixed[2:8, 1:9])
    spoiled = torch.where(valid, moving, 1e6)
    torch.testing.assert_close(similarity(spoiled, fixed, valid), expected)
    torch.testing.assert_close(similarity(moving, torch.where(valid, fixed, math.nan), valid), expected)


@pytest.mark.parametrize("similarity", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4 / 3])
def test_constant_images_have_a_defined_score_and_gradient(similarity, dtype, value, pair):
    fixed = pair[1].to(dtype)
    constant = torch.full((2, 9, 11), value, dtype=dtype, requires_grad=True)
    neutral = similarity is not negative_l2
    for other in (fixed, torch.full((9, 11), value, dtype=dtype)):
        score = similarity(constant, other)
        (gradient,) = torch.autograd.grad(score.sum(), constant)
        assert torch.isfinite(score).all()
        assert torch.isfinite(gradient).all()
        if neutral:
            assert (score == 0).all()
            assert (gradient == 0).all()
    moving = fixed[None].clone().requires_grad_()
    score = similarity(moving, torch.full((9, 11), value, dtype=dtype))
    assert torch.isfinite(torch.autograd.grad(score.sum(), moving)[0]).all()


@pytest.mark.parametrize("similarity", ALL)
def test_single_precision_is_close_to_double(similarity, pair):
    moving, fixed = pair
    value = similarity(moving.float(), fixed.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), similarity(moving, fixed), rtol=1e-4, atol=1e-5)
