"""Angiograms in 3D whose values are no HU: rotational runs, MR. Vessels are the brightest there, and there is no skull to rely on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.images.head import HeadCta
from DeepIterRegLib.images.volume import Volume, is_mask

_SAMPLE = 2_000_000  # voxels looked at
_AIR_OF_HU = -200  # a hundredth of every CT in HU is air or fat, below this
_MIN_VALUES = 40  # different ones; label maps have fewer
_PLATEAU_ML = 2.0  # as much of the volume is brighter than what counts as a well-filled vessel: carotid and middle cerebral artery
_HALF, _FAINT = 0.5, 0.3  # of the way from tissue to a well-filled vessel: the edge of a wide one; a thin one's middle
_NOISES = 4.0  # standard deviations of tissue, which a vessel exceeds
_CLEAR = 8.0  # of them between tissue and well-filled vessels, where they are to be believed without a word in the file
_FEWEST_ML, _MOST_ML = 1.0, 200.0  # of vessels in a head; bone and fat are more
_SMALLEST_MM = 30.0  # slabs of MR are thin
NOT_HU = (
    "The CTA's values are not HU (no air at -1000, no skull), but show bright vessels on dark, as rotational and MR angiograms do: vessels "
    "are taken by their brightness, and the skull is not used."
)


@dataclass(frozen=True)
class Brightness:
    """Values of tissue, its noise (standard deviation), and of well-filled vessels."""

    tissue: float
    noise: float
    vessels: float

    @property
    def sure(self) -> float:
        """From here on a voxel is vessel."""
        return self.tissue + max(_HALF * (self.vessels - self.tissue), _NOISES * self.noise)

    @property
    def faint(self) -> float:
        """From here on one beside a vessel is."""
        return self.tissue + max(_FAINT * (self.vessels - self.tissue), _NOISES * self.noise)


def brightness(volume: Volume) -> Brightness:
    """How bright tissue and vessels are, from the histogram; no scale is assumed."""
    sample = _sample(volume)
    head = sample[sample > _otsu(sample)]
    share = _PLATEAU_ML * 1000 / (volume.voxel_volume_mm3 * volume.voxels.size)
    vessels = float(np.quantile(sample, max(0.0, 1 - share)))
    tissue = float(np.median(head)) if head.size else vessels
    below = head[head <= tissue]
    # Vessels lie above the middle only, so noise is measured below it.
    noise = 1.4826 * float(np.median(tissue - below)) if below.size else 0.0
    return Brightness(tissue, noise, vessels)


def looks_angiographic(volume: Volume) -> bool:
    """Whether values cannot be HU, but a small part of the volume is far brighter than the rest."""
    if is_mask(volume):
        return False
    sample = _sample(volume)
    if not np.isfinite(sample).all() or np.percentile(sample, 1) < _AIR_OF_HU or len(np.unique(sample)) < _MIN_VALUES:
        return False
    seen = brightness(volume)
    if not seen.vessels - seen.tissue > _CLEAR * seen.noise > 0:
        return False
    bright_ml = float(np.mean(sample > seen.sure)) * volume.voxels.size * volume.voxel_volume_mm3 / 1000
    return _FEWEST_ML <= bright_ml <= _MOST_ML


def prepare_angiographic(volume: Volume, head_centre_mm: Sequence[float] | None = None) -> HeadCta:
    """The volume, marked as no HU, with notes; its middle is the head's: such volumes are taken about the isocentre.

    Raises
    ------
    InputError
        Not finite, all one value, or too small for a head.
    """
    voxels = volume.voxels
    if voxels.dtype.kind == "f" and not all(np.isfinite(piece).all() for piece in voxels):
        raise InputError("The CTA holds values that are not finite numbers (NaN or infinite); export it again.")
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        raise InputError(f"All voxels of the CTA have the value {number_words(low)}: it is empty.")
    extent = np.array(voxels.shape) * volume.spacing_mm[::-1]
    if extent.min() < _SMALLEST_MM:
        size = " x ".join(number_words(e, ".0f") for e in extent[::-1])
        raise InputError(
            f"The CTA measures {size} mm; the vessels of a head need at least {_SMALLEST_MM:.0f} mm on every axis."
        )
    notes = volume.notes if volume.values != "HU" else (*volume.notes, NOT_HU)
    centre = volume.grid_centre_mm if head_centre_mm is None else np.array(head_centre_mm, dtype=np.float64)
    return HeadCta(voxels, volume.affine, notes, "other", head_centre_mm=centre)


def _sample(volume: Volume) -> np.ndarray:
    """Values of voxels on an even lattice, float32."""
    step = max(1, int(np.ceil((volume.voxels.size / _SAMPLE) ** (1 / 3))))
    return volume.voxels[::step, ::step, ::step].astype(np.float32).ravel()


def _otsu(values: np.ndarray) -> float:
    """What parts values into two classes best (Otsu 1979); the brightest do not count, as they would pull it up."""
    low, high = np.quantile(values, (0.0, 0.98))
    if not high > low:
        return float(low)
    counts, edges = np.histogram(values, 256, (low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    weight = np.cumsum(counts)
    total = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total[-1] * weight / weight[-1] - total) ** 2 / (weight * (weight[-1] - weight))
    return float(edges[1 + int(np.nanargmax(between[:-1]))])
