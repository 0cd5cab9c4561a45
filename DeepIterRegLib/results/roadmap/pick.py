"""From the angiogram back into the CTA: the ray of a pixel, and the vessel nearest to it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose


class Ray(NamedTuple):
    """Where a pixel's X-ray starts, and its unit direction; (3,) each, CTA RAS mm."""

    source_mm: np.ndarray
    direction: np.ndarray


class Nearest(NamedTuple):
    """A point (3,), CTA RAS mm, its distance from the ray, and how far along the ray from the source it lies."""

    point_mm: np.ndarray
    distance_mm: float
    depth_mm: float


def ray(carm: CArm, pixel: tuple[float, float] | np.ndarray, cta_to_carm: np.ndarray) -> Ray:
    """The ray that meets the detector at a pixel (column, row); (0, 0) is the centre of the first pixel."""
    to_cta = pose.inverse(np.asarray(cta_to_carm, dtype=np.float64))
    ends = np.array([carm.source_mm, carm.pixel_positions(np.asarray(pixel, dtype=np.float64)[None])[0]])
    source, at = pose.transform(to_cta, ends)
    return Ray(source, (at - source) / np.linalg.norm(at - source))


def nearest_vessel(points_mm: np.ndarray, beam: Ray) -> Nearest:
    """The point of a vessel (N, 3), CTA RAS mm, nearest to a ray; of those equally near (1 um), that nearest to the detector.

    Raises
    ------
    InputError
        No point lies in front of the source.
    """
    points = np.asarray(points_mm, dtype=np.float64).reshape(-1, 3)
    depth = (points - beam.source_mm) @ beam.direction
    # A ray begins at the source; a straight line would also find what is behind it.
    points, depth = points[depth > 0], depth[depth > 0]
    if len(points) == 0:
        raise InputError("There is no vessel in front of the source: is this the mask of the CTA that was registered?")
    distance = np.linalg.norm(points - beam.source_mm - depth[:, None] * beam.direction, axis=1)
    near = np.flatnonzero(distance <= distance.min() + 1e-3)
    n = near[np.argmax(depth[near])]
    return Nearest(points[n], float(distance[n]), float(depth[n]))
