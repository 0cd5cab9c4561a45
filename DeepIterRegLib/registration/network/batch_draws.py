"""The chance in a batch of samples, drawn on the device where they are made: `draws.draw` of many at once, from another generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.network.draws import (
    INJECTED,
    LONG_MARKS,
    LONGEST_MARK,
    NO_PATCHES,
    NOISE,
    Axes,
    Draws,
    Range,
    SamplingSettings,
    mark_pixels,
)
from DeepIterRegLib.registration.network.model import NetworkSettings


class Chance:
    """Random tensors of one generator, the first axis of every one the batch."""

    def __init__(self, generator: torch.Generator, batch: int) -> None:
        self.generator, self.batch = generator, batch
        self.device = generator.device

    def share(self, *shape: int) -> Tensor:
        """Uniform 0 to 1 (B, ...)."""
        return torch.rand((self.batch, *shape), generator=self.generator, device=self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform low to high (B, ...)."""
        return low + (high - low) * self.share(*shape)

    def within(self, limits: Axes) -> Tensor:
        """(B, 3), each uniform within plus and minus its limit."""
        return torch.stack([self.uniform(-limit, limit) for limit in limits], dim=1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal (B, ...)."""
        return torch.randn((self.batch, *shape), generator=self.generator, device=self.device)

    def happens(self, probability: float) -> Tensor:
        """(B,) bool."""
        return self.share() < probability

    def pieces(self, count: int, share: Tensor) -> Tensor:
        """(B, count) bool: each with its sample's share (B,)."""
        return self.share(count) < share[:, None]


def draw_batch(
    chance: Chance, pieces: int, network: NetworkSettings, settings: SamplingSettings, n_points: int
) -> Draws:
    """The chance in a batch of samples of heads with at most so many pieces of vessel."""
    axes, distances = _views(chance, settings)
    low, high = chance.uniform(-125, -80), chance.uniform(80, 105)
    shift = chance.normal(3) * (settings.shift_mm / 3)
    centre = torch.cat([4 * chance.normal(2), ((low + high) / 2)[:, None]], dim=1) + shift
    start, truth = _poses(chance, centre, settings)
    same = chance.happens(settings.same_content)
    row, column, value = _marks(chance, network.rows, settings.false_marks)
    patched = chance.happens(settings.patches) & ~same
    missing = chance.uniform(0, settings.missing) * chance.share()
    return Draws(
        mirrored=chance.happens(0.5),
        axes=axes,
        source_mm=-distances[:, 1, None] * axes[:, 2],
        distances_mm=distances,
        scale=_between(chance, settings.scale, 3),
        field_mm=torch.stack([low, high], dim=1),
        smallest_radius_mm=_between(chance, settings.smallest_radius_mm),
        external=chance.happens(settings.external),
        cta_lost=chance.pieces(pieces, missing),
        start=start,
        truth=truth,
        same_content=same,
        injection=torch.bucketize(chance.share(), _limits(INJECTED, chance.device)),
        faintest=_between(chance, settings.faintest) * chance.uniform(0.3, 1),
        dsa_lost=chance.pieces(pieces, chance.uniform(0, settings.missing)),
        dsa_late=chance.pieces(pieces, chance.uniform(0, settings.late_arteries)),
        width=_between(chance, settings.width),
        capped=chance.happens(0.5),
        strength=_between(chance, settings.strength),
        noise=chance.share(NOISE, NOISE),
        level=torch.where(patched, chance.uniform(0.1, 0.45), NO_PATCHES),
        mark_row=torch.where(same[:, None, None], -1, row),
        mark_column=torch.where(same[:, None, None], -1, column),
        mark_value=value,
        seen_mm=_fields(chance, settings),
        jitter=chance.share(n_points),
    )


def stacked(draws: list[Draws], device: torch.device | str) -> Draws:
    """Single samples' chance as a batch on a device; all with equally many pieces, points and marks."""

    def together(name: str) -> Tensor:
        values = np.stack([np.asarray(getattr(one, name)) for one in draws])
        return torch.as_tensor(values.astype(np.float32) if values.dtype == np.float64 else values, device=device)

    names: dict[str, Any] = {name: together(name) for name in Draws.__dataclass_fields__}
    return Draws(**names)


def _between(chance: Chance, limits: Range, *shape: int) -> Tensor:
    return chance.uniform(*limits, *shape)


def _limits(shares: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.cumsum(torch.tensor(shares[:-1], dtype=torch.float64), 0).float().to(device)


def _views(chance: Chance, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
    """Axes (B, 3, 3) of C-arms near AP or lateral, and SID and SOD (B, 2); see `CArm.from_angles`."""
    primary, secondary = (chance.uniform(-settings.angle_deg, settings.angle_deg) for _ in range(2))
    lateral = chance.happens(0.5)
    primary = primary + torch.where(lateral, torch.where(chance.happens(0.5), 90.0, -90.0), 0.0)
    secondary = secondary + torch.where(lateral, 0.0, chance.uniform(0, 15))
    a, b = primary * (math.pi / 180), secondary * (math.pi / 180)
    sa, ca, sb, cb = torch.sin(a), torch.cos(a), torch.sin(b), torch.cos(b)
    rows = [(-ca, -sa, torch.zeros_like(a)), (-sa * sb, ca * sb, -cb), (-sa * cb, ca * cb, sb)]
    axes = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    return axes, torch.stack([_between(chance, settings.sid_mm), _between(chance, settings.sod_mm)], dim=1)


def _poses(chance: Chance, centre_mm: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
    """Start and truth (B, 4, 4); see `draws.draw_poses`."""
    straight = pose.euler_deg_to_rotation(chance.uniform(-1, 1, 3) * settings.tilt_deg)
    radiological = pose.matrix(straight, -(straight @ centre_mm[..., None])[..., 0])
    size = torch.where(chance.happens(settings.small_offsets), chance.share(), 1.0)
    from_radiological = chance.happens(settings.from_radiological)[:, None, None]

    def moved(start: Tensor, rotation_deg: Axes, translation_mm: Axes, size: Tensor) -> Tensor:
        turn = pose.euler_deg_to_rotation(chance.within(rotation_deg) * size)
        return torch.as_tensor(pose.offset_about(start, centre_mm, turn, chance.within(translation_mm) * size))

    whole = torch.ones_like(size)[:, None]
    away = moved(radiological, settings.truth_rotation_deg, settings.truth_translation_mm, whole)
    first = torch.where(from_radiological, radiological, away)
    second = moved(first, settings.rotation_deg, settings.translation_mm, size[:, None])
    return torch.where(from_radiological, first, second), torch.where(from_radiological, second, first)


def _marks(chance: Chance, rows: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (B, count, L) and values (B, count) of as many marks as each sample has; see `draws.Draws`."""
    length = torch.where(
        chance.share(count) < LONG_MARKS,
        chance.uniform(0.15, LONGEST_MARK, count) * rows,
        chance.uniform(1, 0.08 * rows + 2, count),
    )
    along = torch.arange(mark_pixels(rows), device=chance.device)
    number = (chance.share() * (count + 1)).floor()[:, None]
    exists = (torch.arange(count, device=chance.device) < number)[..., None]
    exists = exists & (along + 1 <= length[..., None])
    angle, bend = chance.uniform(0, 2 * math.pi, count), chance.normal(count) * (2.0 / rows)
    turned = angle[..., None] + bend[..., None] * along
    # Sums of whole numbers: on a GPU the order of the others is not always the same.
    path = [
        torch.cumsum((part * 65536).round().int(), dim=-1, dtype=torch.int32).float() / 65536
        for part in (torch.sin(turned), torch.cos(turned))
    ]
    row, column = (torch.where(exists, (chance.uniform(0, rows, count)[..., None] + part).long(), -1) for part in path)
    return row, column, chance.uniform(0.3, 1, count)


def _fields(chance: Chance, settings: SamplingSettings) -> Tensor:
    """(B, 2, 2); see `Draws.seen_mm`."""
    sides = _between(chance, settings.field_mm, 2)
    sides = torch.where(chance.happens(0.3)[:, None], sides, sides[:, :1])
    cut = chance.uniform(0, 0.08, 2, 2) * (chance.share(2, 2) < 0.4) * sides[..., None]
    return torch.stack([-sides / 2 + cut[..., 0], sides / 2 - cut[..., 1]], dim=2)
