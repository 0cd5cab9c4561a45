"""What can be drawn on an angiogram: surfaces and paths, each in one style; where they meet the detector, and how deep."""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.pose import transform
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.results.roadmap.kernels import draw_capsules, draw_triangles

Colour = tuple[int, int, int]
RED: Colour = (225, 38, 46)


@dataclass(frozen=True)
class Surface:
    """Triangles (M, 3) of points (N, 3), CTA RAS mm."""

    points: np.ndarray
    triangles: np.ndarray

    def __post_init__(self) -> None:
        triangles = np.asarray(self.triangles)
        if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(self.points)):
            raise InputError("A surface names points that it does not have.")


@dataclass(frozen=True)
class Paths:
    """Lines through points, CTA RAS mm; a path of one point is a dot.

    Attributes
    ----------
    paths : each (N, 3)
    radii_mm : each (N,), or none
        Of the vessel that the path runs in; a line is at least as wide as the style says.
    """

    paths: tuple[np.ndarray, ...]
    radii_mm: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Style:
    """How a thing is drawn.

    Attributes
    ----------
    colour
        Red, green, blue, 0..255.
    opacity
        0..1.
    outline
        Its edge alone instead of its area.
    shaded
        Bright near the detector, dark near the source: the image is seen from the detector.
    width_px
        Of lines and outlines; dots are 2.5 times as wide.
    """

    colour: Colour = RED
    opacity: float = 0.7
    outline: bool = False
    shaded: bool = False
    width_px: float = 2.0

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.opacity <= 1:
            problems.append(f"The opacity is {self.opacity:g}; 0 to 1 make sense.")
        if not 0.5 <= self.width_px <= 100:
            problems.append(f"The width is {self.width_px:g} px; 0.5 to 100 make sense.")
        if problems:
            raise InputError(problems)


@dataclass(frozen=True)
class Thing:
    """A shape with its name and style."""

    name: str
    shape: Surface | Paths
    style: Style = field(default_factory=Style)


def depth_image(
    shape: Surface | Paths, carm: CArm, cta_to_carm: np.ndarray, line_px: float = 2.0, dot_px: float = 5.0
) -> np.ndarray:
    """Depth (row, column) float32, mm from the source along the beam, of what is nearest to the detector; 0 where nothing is."""
    depths = np.zeros((carm.rows, carm.columns), dtype=np.float32)
    # More than threads: things lie in some rows and not in others, and a thread that is done takes the next.
    buckets = 4 * numba.get_num_threads()
    if isinstance(shape, Surface):
        draw_triangles(_on_detector(shape.points, carm, cta_to_carm), _indices(shape.triangles), depths, buckets)
        return depths
    ends = _capsules(shape, carm, cta_to_carm, line_px, dot_px)
    if len(ends):
        draw_capsules(ends, depths, buckets)
    return depths


def surface_of_mask(mask: Volume) -> Surface:
    """The outer faces of a mask's voxels, two triangles each: exactly what the mask covers, no more and no less."""
    box, first = _box(mask.voxels)
    # A margin, so that every voxel has its six neighbours and a step never leads into another row.
    padded = np.pad(box, 1)
    flat, shape = padded.ravel(), np.array(padded.shape)
    here = np.flatnonzero(flat)
    places = np.stack(np.unravel_index(here, padded.shape), axis=1)
    steps = (padded.shape[1] * padded.shape[2], padded.shape[2], 1)
    quads = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        for side in (0, 1):
            faces = places[~flat[here + (2 * side - 1) * steps[axis]]]
            faces[:, axis] += side
            ring = []
            for step in ((0, 0), (1, 0), (1, 1), (0, 1)):
                corner = faces.copy()
                corner[:, others] += step
                ring.append(np.ravel_multi_index(tuple(corner.T), tuple(shape + 1)))
            quads.append(np.stack(ring, axis=1))
    found = np.concatenate(quads)
    used, compact = np.unique(found, return_inverse=True)
    compact = compact.reshape(found.shape)
    corners = np.stack(np.unravel_index(used, tuple(shape + 1)), axis=1)
    # Lattice corner n of the padded box lies half a voxel before padded voxel n, which is voxel n - 1 of the box.
    points = mask.to_ras(corners - 1.5 + first)
    return Surface(points, np.concatenate([compact[:, [0, 1, 2]], compact[:, [0, 2, 3]]]))


def _box(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest box that holds all that is not 0, as bool, and its first index (k, j, i)."""
    here = voxels if voxels.dtype == bool else voxels != 0
    slices = []
    for axis in range(3):
        full = np.flatnonzero(here.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(int(full[0]), int(full[-1]) + 1) if full.size else slice(0, 0))
    return here[tuple(slices)], np.array([s.start for s in slices])


def _indices(triangles: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(triangles, dtype=np.int32).reshape(-1, 3)


def _on_detector(points: np.ndarray, carm: CArm, cta_to_carm: np.ndarray) -> np.ndarray:
    """Column, row, depth mm (N, 3) of points; not-a-number behind the source."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    pixels = carm.project(points, cta_to_carm)
    depth = (transform(cta_to_carm, points) - np.array(carm.source_mm)) @ np.array(carm.beam_axis)
    return np.column_stack([pixels, depth])


def _capsules(paths: Paths, carm: CArm, cta_to_carm: np.ndarray, line_px: float, dot_px: float) -> np.ndarray:
    pieces = [np.empty((0, 2, 4))]
    spacing = float(np.sqrt(np.prod(carm.pixel_spacing_mm)))
    for n, points in enumerate(paths.paths):
        if len(points) == 0:
            continue
        at = _on_detector(points, carm, cta_to_carm)
        radii = np.full(len(at), (dot_px if len(at) == 1 else line_px) / 2)
        if paths.radii_mm:
            # A thin vessel would be less than a pixel wide and vanish.
            radii = np.maximum(radii, paths.radii_mm[n] * carm.sid_mm / (at[:, 2] * spacing))
        ends = np.column_stack([at, radii])
        pieces.append(np.stack([ends, ends] if len(at) == 1 else [ends[:-1], ends[1:]], axis=1))
    ends = np.concatenate(pieces)
    # A piece that goes behind the source has no picture.
    return np.ascontiguousarray(ends[np.isfinite(ends).all(axis=(1, 2))])
