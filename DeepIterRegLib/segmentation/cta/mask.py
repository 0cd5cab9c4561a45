"""A mask that a person supplied, laid on the grid of the CTA."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.labels import labelled
from DeepIterRegLib.images.masks import chosen
from DeepIterRegLib.images.volume import Volume

_NAME = "The vessel mask"
_EXACT = 0.1  # of a voxel: grids that differ by less are the same lattice, with spacing or origin rounded
_MOSTLY = 0.5  # of the mask's voxels must lie within the CTA
_MIN_CONTRAST_HU = 20.0  # of vessels over what surrounds them: a weak CTA has three times that
_BESIDE_MM, _SAMPLES = 3.0, 20_000
_MOST_ML = 300.0  # the vessels of a head, veins and all, have less


def as_cta_mask(mask: Volume, cta: Volume) -> Volume:
    """A mask supplied by a person, checked and laid on the grid of its CTA, as bool; notes say what was odd.

    A grid that is cropped, padded, flipped or permuted, but the same lattice, is laid in place; another one is resampled
    by nearest neighbour, with a note.

    Raises
    ------
    InputError
        Several labels, grey values, empty, or a place where the CTA is not.
    """
    found = labelled(mask, _NAME)
    mask = found.union(chosen(found, "", _NAME))
    if mask.same_grid(cta):
        laid = cta.with_voxels(mask.voxels)
    else:
        _refuse_elsewhere(mask, cta)
        placed = _on_lattice(mask, cta)
        laid = placed or _resampled(mask, cta)
        if placed is None:
            note = (
                f"{_NAME} stands on another grid than the CTA: {_describe_grid(mask)} against {_describe_grid(cta)}. "
                "It was resampled to the CTA by nearest neighbour."
            )
            laid = replace(laid, notes=(note,))
    notes = (*mask.notes, *laid.notes, *_amount(laid), *_contrast(laid, cta))
    return Volume(laid.voxels, cta.affine, notes)


def _amount(mask: Volume) -> tuple[str, ...]:
    """A note if it holds more than vessels can."""
    ml = float(np.count_nonzero(mask.voxels)) * mask.voxel_volume_mm3 / 1000
    if ml <= _MOST_ML:
        return ()
    return (
        f"{_NAME} holds {ml:.0f} mL, more than all vessels of a head have: is it the right label of the right file?",
    )


def _contrast(mask: Volume, cta: Volume) -> tuple[str, ...]:
    """A note if the CTA is hardly brighter where the mask is than beside it: the mask of another scan, or one turned round."""
    voxels = mask.set_voxels[:: max(1, len(mask.set_voxels) // _SAMPLES)]
    steps = np.rint(_BESIDE_MM / cta.spacing_mm[::-1]).astype(int)
    beside = np.concatenate([voxels + step * sign for step in np.diag(steps) for sign in (-1, 1)])
    beside = beside[((beside >= 0) & (beside < mask.voxels.shape)).all(axis=1)]
    beside = beside[~mask.voxels[tuple(beside.T)]]
    if not len(voxels) or not len(beside):
        return ()
    within, around = cta.voxels[tuple(voxels.T)], cta.voxels[tuple(beside.T)]
    more = float(np.median(within)) - float(np.median(around))
    if more >= _MIN_CONTRAST_HU or within.min() == within.max():
        return ()
    values = f"{np.median(within):.0f} against {np.median(around):.0f} HU"
    return (
        f"Where {_NAME.lower()} lies, the CTA is hardly brighter than beside it ({values}): is it a mask of this CTA?",
    )


def _index_map(mask: Volume, cta: Volume) -> np.ndarray:
    """From the mask's voxel index (i, j, k) to the CTA's (4, 4)."""
    return np.linalg.solve(cta.affine, mask.affine)


def _refuse_elsewhere(mask: Volume, cta: Volume) -> None:
    """Refuse a mask most of whose voxels lie where the CTA is not."""
    to_cta = _index_map(mask, cta)
    every = max(1, len(mask.set_voxels) // 100_000)
    at = mask.set_voxels[::every, ::-1] @ to_cta[:3, :3].T + to_cta[:3, 3]
    inside = ((at > -0.5) & (at < np.array(cta.voxels.shape[::-1]) - 0.5)).all(axis=1)
    if inside.mean() >= _MOSTLY:
        return
    apart = float(np.linalg.norm(mask.to_ras(mask.set_voxels[::every]).mean(axis=0) - cta.centre_mm))
    share = "None" if not inside.any() else f"Only {100 * inside.mean():.0f} %"
    raise InputError(
        f"{share} of the vessel mask lies within the CTA; its middle is {apart:.0f} mm from the CTA's: {_describe_grid(mask)} against "
        f"{_describe_grid(cta)}. Give a mask that was made on this CTA."
    )


def _on_lattice(mask: Volume, cta: Volume) -> Volume | None:
    """The mask's voxels in their places among the CTA's, if they are the same lattice; else None. What lies beyond the CTA is left out."""
    to_cta = _index_map(mask, cta)
    whole = np.rint(to_cta)
    turn = whole[:3, :3].astype(int)
    if not np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]) or not np.array_equal(
        np.abs(turn).sum(axis=1), [1, 1, 1]
    ):
        return None
    last = np.array(mask.voxels.shape[::-1]) - 1
    corners = np.vstack([np.array(np.meshgrid(*[(0, n) for n in last])).reshape(3, -1), np.ones(8)])
    if np.abs((to_cta - whole) @ corners)[:3].max() > _EXACT:
        return None
    order = np.abs(turn).argmax(axis=1)  # of the mask's axes, along the CTA's
    signs = turn[np.arange(3), order]
    voxels = mask.voxels.transpose(2, 1, 0).transpose(order)
    voxels = voxels[tuple(slice(None, None, int(sign)) for sign in signs)]
    size, count = np.array(cta.voxels.shape[::-1]), np.array(voxels.shape)
    start = whole[:3, 3].astype(int) - np.where(signs < 0, count - 1, 0)
    low, high = np.maximum(start, 0), np.minimum(start + count, size)
    laid = np.zeros(cta.voxels.shape, dtype=bool)
    to = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    of = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    laid.transpose(2, 1, 0)[to] = voxels[of]
    return cta.with_voxels(laid)


def _resampled(mask: Volume, cta: Volume) -> Volume:
    """By nearest neighbour, within the box of the CTA that the mask's vessels reach."""
    to_cta = _index_map(mask, cta)
    at = mask.set_voxels[:, ::-1] @ to_cta[:3, :3].T + to_cta[:3, 3]
    reach = np.abs(to_cta[:3, :3]).sum(axis=1)  # half a voxel of the mask, and some
    size = np.array(cta.voxels.shape[::-1])
    low = np.clip(np.floor(at.min(axis=0) - reach).astype(int), 0, size)
    high = np.clip(np.ceil(at.max(axis=0) + reach).astype(int) + 1, 0, size)
    from_cta = np.linalg.inv(to_cta)
    box = ndimage.affine_transform(
        mask.voxels.view(np.uint8).transpose(2, 1, 0),
        from_cta[:3, :3],
        from_cta[:3, :3] @ low + from_cta[:3, 3],
        tuple(high - low),
        order=0,
        mode="constant",
    )
    laid = np.zeros(cta.voxels.shape, dtype=bool)
    laid.transpose(2, 1, 0)[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = box
    return cta.with_voxels(laid)


def _describe_grid(volume: Volume) -> str:
    k, j, i = volume.voxels.shape
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing_mm)
    origin = ", ".join(f"{o:.1f}" for o in volume.affine[:3, 3])
    return f"{i} x {j} x {k} voxels of {spacing} mm from ({origin}) mm RAS"
