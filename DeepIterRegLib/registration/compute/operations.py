"""Drawing and inner products by torch's operations: on any device, and the truth for `fused`.

Images are planes (B, C, rows, columns). With derivatives C is 7 for each channel: the value, its change by three rotations about the
camera axes through a centre times a lever, and by three shifts in mm. The formulas are those of `kernels.vessels` and
`kernels.skull`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from DeepIterRegLib.registration.compute.scatter import Grid, Splat
from DeepIterRegLib.rendering.splat_kernels import MIN_DEPTH_MM, WHOLE_PER_MM

BYTES_A_POINT = 2500  # of a point's shares of the pixels with their derivatives, while they are added up
_NO_GRADIENT = 1e-12  # shorter, and its direction is rounding


class _Placed(NamedTuple):
    """Points in the camera (B, N): coordinates, 1 / z, where on the grid, line integral, and whether that is inside."""

    x: Tensor
    y: Tensor
    z: Tensor
    iz: Tensor
    u: Tensor
    v: Tensor
    a: Tensor
    inside: Tensor


def values(splat: Splat, cameras: Tensor, grid: Grid) -> Tensor:
    """Images (B, channels, rows, columns) int64, in `WHOLE_PER_MM`, for cameras (B, 3, 4)."""
    at = _placed(splat, cameras, grid)
    parts = [at.a]
    if splat.tangents is not None:
        gu, gv, *_ = _shadow_of_tangent(splat.tangents, cameras, at)
        scale = splat.direction_scale
        parts += [at.a * scale * (gu * gu - gv * gv), at.a * scale * 2 * gu * gv]
    value = torch.stack(parts, dim=-1)
    zero = torch.zeros_like(value)
    return _scattered(value, zero, zero, at, grid)


def slopes(splat: Splat, cameras: Tensor, centres: Tensor, lever_mm: float, grid: Grid) -> Tensor:
    """Images with derivatives (B, 7 channels, rows, columns) int64, in `WHOLE_PER_MM`, for cameras (B, 3, 4) and centres (B, 3)."""
    at = _placed(splat, cameras, grid)
    x, y, z, iz, a = at.x, at.y, at.z, at.iz, at.a
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rx, ry, rz = ((part - centres[:, i, None]) / lever_mm for i, part in enumerate((x, y, z)))
    # A rotation about x moves (x, y, z) by (0, -z, y), and so on.
    sx = torch.stack([zero, rz, -ry, one, zero, zero], dim=-1)
    sy = torch.stack([-rz, zero, rx, zero, one, zero], dim=-1)
    sz = torch.stack([ry, -rx, zero, zero, zero, one], dim=-1)
    x, y, z, iz, a = (part[..., None] for part in (x, y, z, iz, a))
    du, dv = grid.fu * iz * (sx - x * iz * sz), grid.fv * iz * (sy - y * iz * sz)
    ar = a / (x * x + y * y + z * z)
    da = ar * x * sx + ar * y * sy + (ar * z - 3 * a * iz) * sz
    value, by_u, by_v = [a, da], [0 * a, a * du], [0 * a, a * dv]
    if splat.tangents is not None:
        gu, gv, ex, ey, ez, steep = _shadow_of_tangent(splat.tangents, cameras, at)
        none = zero
        tx = torch.stack([none, ez, -ey, none, none, none], dim=-1) / lever_mm
        ty = torch.stack([-ez, none, ex, none, none, none], dim=-1) / lever_mm
        tz = torch.stack([ey, -ex, none, none, none, none], dim=-1) / lever_mm
        gu, gv, steep = gu[..., None], gv[..., None], steep[..., None]
        d_steep = iz * (tz - steep * sz)
        d_gu, d_gv = tx - sx * steep - x * d_steep, ty - sy * steep - y * d_steep
        scale = splat.direction_scale
        cosine, sine = scale * (gu * gu - gv * gv), scale * 2 * gu * gv
        value += [a * cosine, da * cosine + a * scale * 2 * (gu * d_gu - gv * d_gv)]
        value += [a * sine, da * sine + a * scale * 2 * (d_gu * gv + gu * d_gv)]
        for of in (cosine, sine):
            by_u += [0 * a, a * of * du]
            by_v += [0 * a, a * of * dv]
    return _scattered(torch.cat(value, dim=-1), torch.cat(by_u, dim=-1), torch.cat(by_v, dim=-1), at, grid)


def blurred(images: Tensor, taps: Tensor) -> Tensor:
    """Images (B, C, rows, columns), in `WHOLE_PER_MM`, in mm and blurred by a filter's half `taps` (radius + 1,); 0 outside."""
    rows, columns = images.shape[-2:]
    return bands(taps, rows) @ (images.to(torch.float32) / WHOLE_PER_MM) @ bands(taps, columns)


def vessel_gram(images: Tensor, target: Tensor, valid: Tensor, saturation_mm: float) -> Tensor:
    """Inner products (B, 9, 7) float64 of saturated images (B, 21, rows, columns) and a target (3, rows, columns)."""
    batch, _, rows, columns = images.shape
    by_channel = images.reshape(batch, 3, 7, rows, columns)
    amount = by_channel[:, 0, 0]
    slope = 1 / (1 + amount / saturation_mm)
    curvature = slope * slope / saturation_mm  # minus the change of the slope with the value
    counts = (valid != 0) & (amount != 0)
    seen = by_channel * slope[:, None, None]
    seen[:, :, 1:] -= by_channel[:, :, :1] * (curvature[:, None] * by_channel[:, 0, 1:])[:, None]
    seen = seen * counts[:, None, None]
    sums = seen[:, 0].sum(dim=-1).to(torch.float64).sum(dim=-1)
    gram, cross = _row_products(seen, target)
    return torch.cat([gram, sums[:, None], cross[:, None]], dim=1)


def skull_gram(images: Tensor, target: Tensor, valid: Tensor, knee_mm: float) -> Tensor:
    """Inner products (B, 8, 7) float64 of the shortened gradients of images (B, 7, rows, columns) and a target (2, rows, columns)."""
    across, down = _differences(images)
    x, y = across[:, :1], down[:, :1]
    length = torch.sqrt(x * x + y * y)
    counts = (valid[1:-1, 1:-1] != 0) & (length >= _NO_GRADIENT)
    slope = 1 / (1 + length / knee_mm)
    curvature = slope * slope / (knee_mm * length.clamp_min(_NO_GRADIENT))
    along = (x * across + y * down) * curvature
    along[:, 0] = 0  # the value itself
    seen = torch.stack([slope * across - x * along, slope * down - y * along], dim=1) * counts[:, None]
    gram, cross = _row_products(seen, target[:, 1:-1, 1:-1])
    return torch.cat([gram, cross[:, None]], dim=1)


def compressed_gradient(images: Tensor, knee_mm: float) -> Tensor:
    """Central differences (B, 2, rows, columns) of images (B, rows, columns), shortened by the knee; 0 at the rim."""
    across, down = _differences(images)
    slope = 1 / (1 + torch.sqrt(across * across + down * down) / knee_mm)
    return torch.nn.functional.pad(torch.stack([slope * across, slope * down], dim=1), (1, 1, 1, 1))


def _placed(splat: Splat, cameras: Tensor, grid: Grid) -> _Placed:
    px, py, pz = splat.positions.unbind(dim=1)
    x, y, z = (c[:, 0, None] * px + c[:, 1, None] * py + c[:, 2, None] * pz + c[:, 3, None] for c in cameras.unbind(1))
    nearest = float(MIN_DEPTH_MM)
    iz = 1 / z.clamp_min(nearest)
    u, v = grid.fu * x * iz + grid.cx, grid.fv * y * iz + grid.cy
    inside = (z >= nearest) & (u >= 0) & (v >= 0) & (u < grid.columns - 1) & (v < grid.rows - 1)
    a = splat.weights * (grid.fu * grid.fv) * iz * iz * iz * torch.sqrt(x * x + y * y + z * z)
    return _Placed(x, y, z, iz, u, v, a, inside)


def _shadow_of_tangent(tangents: Tensor, cameras: Tensor, at: _Placed) -> tuple[Tensor, ...]:
    """How a small step along the vessel moves its point on the detector (B, N), twice, and the tangent in the camera, four times."""
    ex, ey, ez = (cameras[:, :, :3] @ tangents.T).unbind(dim=1)
    steep = ez * at.iz
    return ex - at.x * steep, ey - at.y * steep, ex, ey, ez, steep


def _scattered(value: Tensor, by_u: Tensor, by_v: Tensor, at: _Placed, grid: Grid) -> Tensor:
    """Images (B, C, rows, columns) int64 of values (B, N, C); by_u, by_v: the parts of their derivatives that move the point."""
    batch, _, channels = value.shape
    u, v = torch.where(at.inside, at.u, 0), torch.where(at.inside, at.v, 0)
    j, k = u.to(torch.int64), v.to(torch.int64)
    fj, fk = (u - j)[..., None], (v - k)[..., None]
    start = torch.arange(batch, device=value.device)[:, None] * (grid.rows * grid.columns) + k * grid.columns + j
    counts = at.inside[..., None]
    image = torch.zeros(batch * grid.rows * grid.columns, channels, dtype=torch.int64, device=value.device)
    for down in (0, 1):
        for right in (0, 1):
            wu, wv = (fj if right else 1 - fj), (fk if down else 1 - fk)
            share = value * (wu * wv) + by_u * (wv if right else -wv) + by_v * (wu if down else -wu)
            whole = torch.floor(torch.where(counts, share, 0) * WHOLE_PER_MM + 0.5).to(torch.int64)
            place = start + (down * grid.columns + right)
            image.index_add_(0, place.reshape(-1), whole.reshape(-1, channels))
    return image.reshape(batch, grid.rows, grid.columns, channels).permute(0, 3, 1, 2)


def bands(taps: Tensor, count: int) -> Tensor:
    """The filter along one axis as a symmetric matrix (count, count)."""
    place = torch.arange(count, device=taps.device)
    apart = (place[:, None] - place).abs()
    return torch.where(apart < len(taps), taps[apart.clamp_max(len(taps) - 1)], 0)


def _differences(images: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences over columns and over rows, (..., rows - 2, columns - 2) each."""
    across = (images[..., 1:-1, 2:] - images[..., 1:-1, :-2]) / 2
    down = (images[..., 2:, 1:-1] - images[..., :-2, 1:-1]) / 2
    return across, down


def _row_products(seen: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Gram matrix (B, 7, 7) of (B, channels, 7, rows, columns), and its products (B, 7) with a target (channels, rows, columns).

    A row is summed in float32, all rows in float64, as on the CPU.
    """
    rows = seen.permute(0, 3, 2, 1, 4).flatten(3)
    gram = (rows @ rows.transpose(-1, -2)).to(torch.float64).sum(dim=1)
    fixed = target.permute(1, 0, 2).flatten(1)
    cross = (rows @ fixed[..., None])[..., 0].to(torch.float64).sum(dim=1)
    return gram, cross
