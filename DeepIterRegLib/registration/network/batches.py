"""Batches of training samples made at once on one device: what `samples.sample_of` makes of each head and its chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.registration.network.batch_draws import Chance, draw_batch
from DeepIterRegLib.registration.network.draws import Draws, SamplingSettings, smoothing
from DeepIterRegLib.registration.network.heads import HeadPoints
from DeepIterRegLib.registration.network.model import NetworkSettings
from DeepIterRegLib.registration.network.samples import FEWEST_POINTS, LATE_MM, NEVER_MISSED_MM, WIDEST_MM
from DeepIterRegLib.registration.network.view import OFF_DETECTOR, coverage
from DeepIterRegLib.rendering.splat_clouds import splat_clouds

# Blood is summed in units of 2^-20 mm^3, as whole numbers have the same sum in any order.
_UNITS = float(2**20)

Item = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Heads:
    """H heads on a device, each filled up to N points by points without blood; fields as in `HeadPoints`.

    Attributes
    ----------
    axis_mm, offset_mm : (H, 3, N) float32
    volume_mm3, radius_mm : (H, N) float32
    vein, external : (H, N) bool
    piece : (H, N) int32
    opacity : (H, 3, N) float32
    pieces
        More than the number of any piece.
    """

    axis_mm: Tensor
    offset_mm: Tensor
    volume_mm3: Tensor
    radius_mm: Tensor
    vein: Tensor
    external: Tensor
    piece: Tensor
    opacity: Tensor
    pieces: int

    def __len__(self) -> int:
        return len(self.volume_mm3)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.volume_mm3.device


def heads_on(heads: Sequence[HeadPoints], device: torch.device | str, least_points: int = 0) -> Heads:
    """The heads on a device; room for at least so many points each."""
    length = max(least_points, *(len(head.volume_mm3) for head in heads), 1)

    def together(values: list[np.ndarray]) -> Tensor:
        filled = [np.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, length - v.shape[-1])]) for v in values]
        return torch.as_tensor(np.stack(filled), device=device)

    return Heads(
        axis_mm=together([head.axis_mm.T for head in heads]),
        offset_mm=together([head.offset_mm.T for head in heads]),
        volume_mm3=together([head.volume_mm3 for head in heads]),
        radius_mm=together([head.radius_mm for head in heads]),
        vein=together([head.vein for head in heads]),
        external=together([head.external for head in heads]),
        piece=together([head.piece for head in heads]),
        opacity=together([head.opacity for head in heads]),
        pieces=1 + max(int(head.piece.max()) for head in heads),
    )


class Batches:
    """`count` batches from number `first` on, made on the device of the heads. The same number and seeds give the same batch there.

    A batch is what `training.Samples` gives of as many samples: images (B, 2, rows, rows), start and truth (B, 3, 4), points
    (B, P, 3) and their weights (B, P), SID and SOD (B, 2).
    """

    def __init__(
        self,
        heads: Heads,
        network: NetworkSettings,
        sampling: SamplingSettings,
        n_points: int,
        batch: int,
        seeds: tuple[int, ...],
        first: int,
        count: int,
    ) -> None:
        self.heads, self.network, self.sampling, self.n_points = heads, network, sampling, n_points
        self.batch, self.seeds, self.first, self.count = batch, seeds, first, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        for number in range(self.first, self.first + self.count):
            yield self.make(number)

    def make(self, number: int) -> Item:
        """Batch `number`."""
        seed = np.random.SeedSequence([*self.seeds, number]).generate_state(1, np.uint64)[0] >> np.uint64(1)
        generator = torch.Generator(self.heads.device).manual_seed(int(seed))
        chance = Chance(generator, self.batch)
        with torch.no_grad(), torch.autocast(self.heads.device.type, enabled=False):
            chosen = (chance.share() * len(self.heads)).long().clamp_max(len(self.heads) - 1)
            draws = draw_batch(chance, self.heads.pieces, self.network, self.sampling, self.n_points)
            return batch_of(self.heads, chosen, draws, self.network)


def batch_of(heads: Heads, chosen: Tensor, draws: Draws, network: NetworkSettings) -> Item:
    """The batch that the chance in `draws` makes of the heads `chosen` (B,)."""
    scale = draws.scale.clone()
    scale[:, 0] *= torch.where(draws.mirrored, -1.0, 1.0)
    axis, offset = heads.axis_mm[chosen], heads.offset_mm[chosen]
    volume, radius = heads.volume_mm3[chosen], heads.radius_mm[chosen]
    piece = heads.piece[chosen].long()
    external = heads.external[chosen]
    blood = volume * _found_in_cta(axis[:, 2], radius, external, piece, volume, draws)
    cta = (axis + offset) * scale[..., None]
    middle = (cta * blood[:, None]).sum(dim=2) / blood.sum(dim=1)[:, None]
    start, truth = (_cameras(p, draws, middle) for p in (draws.start, draws.truth))
    cta -= middle[..., None]

    focal_px = draws.distances_mm[:, 1] / network.pixel_mm
    moving = coverage(splat_clouds(start, cta, blood, focal_px, network.rows))
    shown = _shown(heads.opacity[chosen, _side(draws)], radius, heads.vein[chosen], piece, draws)
    thick = torch.minimum(
        draws.width[:, None], torch.where(draws.capped[:, None], WIDEST_MM / radius.clamp_min(0.1), torch.inf)
    )
    veins = (axis + offset * thick[:, None]) * scale[..., None] - middle[..., None]
    same = draws.same_content
    fixed = splat_clouds(
        truth,
        torch.where(same[:, None, None], cta, veins),
        torch.where(same[:, None], blood, volume * shown * draws.strength[:, None]),
        focal_px,
        network.rows,
    )
    fixed = torch.where(_seen(draws, network), _spoiled(coverage(fixed), draws), OFF_DETECTOR)
    points, weights = _drawn(cta, blood, draws.jitter)
    return torch.stack([moving, fixed], dim=1), start, truth, points, weights, draws.distances_mm


def _found_in_cta(
    z_mm: Tensor, radius: Tensor, external: Tensor, piece: Tensor, volume: Tensor, draws: Draws
) -> Tensor:
    """(B, N) bool; see `samples._found_in_cta`."""
    z = z_mm * draws.scale[:, 2, None]
    found = (radius >= draws.smallest_radius_mm[:, None]) & (z > draws.field_mm[:, :1]) & (z < draws.field_mm[:, 1:])
    found &= draws.external[:, None] | ~external
    found &= ~draws.cta_lost.gather(1, piece) | (radius > NEVER_MISSED_MM)
    found &= volume > 0
    return found | (found.sum(dim=1, keepdim=True) < FEWEST_POINTS)


def _side(draws: Draws) -> Tensor:
    """(B,) the side injected as the head has it that is not mirrored."""
    side: Tensor = torch.where(draws.mirrored & (draws.injection < 2), 1 - draws.injection, draws.injection)
    return side


def _shown(opacity: Tensor, radius: Tensor, vein: Tensor, piece: Tensor, draws: Draws) -> Tensor:
    """(B, N) bool: in the DSA's mask; see `samples._dsa_mask`."""
    shown = opacity * 2 * radius > draws.faintest[:, None]
    shown &= ~draws.dsa_lost.gather(1, piece)
    return shown | (draws.dsa_late.gather(1, piece) & ~vein & (radius > LATE_MM))


def _cameras(canonical_to_carm: Tensor, draws: Draws, middle_mm: Tensor) -> Tensor:
    """Cameras (B, 3, 4) about the middle of the CTA's veins."""
    rotation = draws.axes @ canonical_to_carm[:, :3, :3]
    centre = (canonical_to_carm[:, :3, :3] @ middle_mm[..., None])[..., 0] + canonical_to_carm[:, :3, 3]
    return torch.cat([rotation, draws.axes @ (centre - draws.source_mm)[..., None]], dim=2)


def _spoiled(mask: Tensor, draws: Draws) -> Tensor:
    """The mask (B, rows, rows) without what lies in patches, and with marks of no vessel."""
    rows = mask.shape[1]
    smooth = torch.as_tensor(smoothing(rows), dtype=mask.dtype, device=mask.device)
    mask = mask * (smooth @ draws.noise @ smooth.T > draws.level[:, None, None])
    row, column = draws.mark_row, draws.mark_column
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < rows)
    # One place more takes what is off the image.
    place = torch.where(inside, row * rows + column, rows * rows).flatten(1)
    values = draws.mark_value[..., None].expand(row.shape).flatten(1).to(mask.dtype)
    flat = torch.cat([mask.flatten(1), torch.zeros_like(mask[:, 0, :1])], dim=1)
    return flat.scatter_reduce(1, place, values, "amax")[:, :-1].view(mask.shape)


def _seen(draws: Draws, network: NetworkSettings) -> Tensor:
    """(B, rows, rows) bool: canvas pixels that lie on the detector."""
    spacing = network.pixel_mm * draws.distances_mm[:, 0] / draws.distances_mm[:, 1]
    index = torch.arange(network.rows, device=spacing.device) - (network.rows - 1) / 2
    position = index * spacing[:, None]
    low, high = draws.seen_mm[:, :, :1], draws.seen_mm[:, :, 1:]
    down, across = ((position > low[:, n]) & (position < high[:, n]) for n in range(2))
    return down[:, :, None] & across[:, None]


def _drawn(cta: Tensor, blood: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, P, 3) drawn so that all stand for as much blood, and how much (B, P)."""
    count = jitter.shape[1]
    cumulative = torch.cumsum((blood * _UNITS).long(), dim=1)
    total = cumulative[:, -1:].double()
    share = (torch.arange(count, device=jitter.device) + jitter.double()) / count
    drawn = torch.searchsorted(cumulative, (share * total).long(), right=True).clamp_max(blood.shape[1] - 1)
    points = cta.gather(2, drawn[:, None].expand(-1, 3, -1)).transpose(1, 2)
    return points, (total / _UNITS / count).float().expand(-1, count)
