"""What a label map or a segmentation holds: its labels, by number and by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from DeepIterRegLib.common.shown import label_of
from DeepIterRegLib.images.volume import Volume


@dataclass(frozen=True)
class Segment:
    """One label of a map.

    Attributes
    ----------
    number
        By which a person names it: the label, or its place in the file where labels repeat.
    name
        Empty where the file gives none.
    colour
        Red, green, blue 0 to 255, or None.
    mask
        Its voxels (k, j, i), bool, made when asked for.
    count
        Of its voxels.
    """

    number: int
    name: str
    colour: tuple[int, int, int] | None
    mask: Callable[[], np.ndarray]
    count: int

    @property
    def words(self) -> str:
        """For messages: number, the name where it names nobody, voxels."""
        name = label_of(self.name)
        return f"{self.number} ({f'{name}, ' if name else ''}{self.count:,} voxels)"


@dataclass(frozen=True)
class Labelled:
    """The labels of a map that have voxels, on one grid.

    Attributes
    ----------
    segments : tuple of Segment
    shape : (slices, rows, columns)
    affine : (4, 4)
        Voxel index (i, j, k) to RAS mm.
    notes : tuple of str
    """

    segments: tuple[Segment, ...]
    shape: tuple[int, ...]
    affine: np.ndarray
    notes: tuple[str, ...] = ()

    def union(self, segments: Sequence[Segment]) -> Volume:
        """The voxels of some of them, bool."""
        voxels = np.zeros(self.shape, dtype=bool)
        for segment in segments:
            voxels |= segment.mask()
        return Volume(voxels, self.affine, self.notes)
