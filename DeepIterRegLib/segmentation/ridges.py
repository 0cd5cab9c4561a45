"""Lines in images: the ridge filter, and Gaussian kernels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

_REACH = 3.5  # sigmas: beyond it less than a thousandth of the kernel is left


def ridge_strength(images: torch.Tensor, sigmas_px: tuple[float, ...]) -> torch.Tensor:
    """Ridge strength (n, row, column) >= 0 of images (n, row, column), bright lines.

    The largest over the scales of minus the lowest Hessian eigenvalue times sigma squared, which makes scales comparable
    (Lindeberg 1998). Half of the other eigenvalue is taken away, so that blobs count less than lines.
    """
    best = torch.zeros_like(images)
    for sigma in sigmas_px:
        g, d1, d2 = gaussian_kernel(sigma), gaussian_kernel(sigma, 1), gaussian_kernel(sigma, 2)
        rr, cc, rc = separable(images, d2, g), separable(images, g, d2), separable(images, d1, d1)
        mean, spread = (rr + cc) / 2, torch.sqrt(((rr - cc) / 2) ** 2 + rc**2)
        across, along = spread - mean, -(mean + spread)
        best = torch.maximum(best, sigma**2 * (across - along.abs() / 2))
    return best


def gaussian_kernel(sigma: float, order: int = 0) -> torch.Tensor:
    """A Gaussian (n,) of sum 1, or its first or second derivative, sampled as far as it counts."""
    radius = math.ceil(_REACH * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    g = torch.exp(-0.5 * (x / sigma) ** 2)
    g = g / g.sum()
    if order == 1:
        return x / sigma**2 * g
    if order == 2:
        g2 = (x**2 / sigma**4 - 1 / sigma**2) * g
        return g2 - g2.mean()  # sampled, it would answer to an even image
    return g


def separable(images: torch.Tensor, down: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """Images (n, row, column) correlated with one kernel (a,) down the columns and one (b,) along the rows; edges repeated."""
    a, b = len(down) // 2, len(along) // 2
    x = F.pad(images[:, None], (b, b, a, a), mode="replicate")
    return F.conv2d(F.conv2d(x, down[None, None, :, None]), along[None, None, None, :])[:, 0]
