"""Heads to train on: vessels of the phantom as points, made once and kept in a folder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.atomic_output import output_file
from DeepIterRegLib.phantom.anatomy import head_vessels
from DeepIterRegLib.phantom.centrelines import EXTERNAL, Centrelines
from DeepIterRegLib.phantom.filling import fill
from DeepIterRegLib.phantom.settings import Injection, RunSettings

INJECTIONS: tuple[Injection, ...] = ("left_ica", "right_ica", "vertebrobasilar")
POINT_MM3 = 2.0  # blood per point
MAX_POINTS = 16  # per tube of about a mm: enough for a sinus on pixels of 1 to 2 mm
NODES_PER_PIECE = 12


@dataclass(frozen=True)
class HeadPoints:
    """Vessels of one head in the canonical frame (RAS mm), N points that fill them.

    Attributes
    ----------
    axis_mm : (N, 3) float32
        Where on the centreline.
    offset_mm : (N, 3) float32
        From there to the point.
    volume_mm3 : (N,) float32
        Blood that the point stands for.
    radius_mm : (N,) float32
        Of the vessel.
    vein, external : (N,) bool
    piece : (N,) int32
        Pieces of vessel about a cm long, that are missed or found together.
    opacity : (3, N) float32
        Contrast in the venous phase after an injection into each of `INJECTIONS`, relative to undiluted; arteries 0.
    """

    axis_mm: np.ndarray
    offset_mm: np.ndarray
    volume_mm3: np.ndarray
    radius_mm: np.ndarray
    vein: np.ndarray
    external: np.ndarray
    piece: np.ndarray
    opacity: np.ndarray

    def part(self, chosen: np.ndarray) -> HeadPoints:
        """The points chosen by mask or index."""
        values = {f.name: getattr(self, f.name)[..., chosen] for f in fields(self) if not f.name.endswith("_mm")}
        return HeadPoints(
            axis_mm=self.axis_mm[chosen], offset_mm=self.offset_mm[chosen], radius_mm=self.radius_mm[chosen], **values
        )


def make_head_points(seed: int) -> HeadPoints:
    """One head; the same seed gives the same head, another than the phantom patient of that seed."""
    rng_arteries, rng_veins, rng = (np.random.default_rng(s) for s in np.random.SeedSequence([seed, 1]).spawn(3))
    vessels = head_vessels(rng_arteries, rng_veins)
    node = np.flatnonzero(vessels.parent >= 0)
    start, end, length = vessels.points_mm[vessels.parent[node]], vessels.points_mm[node], vessels.length_mm[node]
    radius = vessels.radius_mm[node]
    volume = np.pi * radius**2 * length
    count = np.clip(np.ceil(volume / POINT_MM3), 1, MAX_POINTS).astype(int)
    tube = np.repeat(np.arange(len(node)), count)
    along = rng.random(len(tube))[:, None]
    axis = start[tube] * (1 - along) + end[tube] * along
    # A uniform disc across the tube: a normal deviate without its part along, scaled.
    beam = (end - start)[tube] / np.maximum(length[tube], 1e-6)[:, None]
    across = rng.normal(size=axis.shape)
    across -= (across * beam).sum(axis=1, keepdims=True) * beam
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    offset = across * (radius[tube] * np.sqrt(rng.random(len(tube))))[:, None]
    return HeadPoints(
        axis_mm=axis.astype(np.float32),
        offset_mm=offset.astype(np.float32),
        volume_mm3=(volume / count)[tube].astype(np.float32),
        radius_mm=radius[tube].astype(np.float32),
        vein=vessels.vein[node][tube],
        external=(vessels.territory == EXTERNAL)[node][tube],
        piece=(node // NODES_PER_PIECE)[tube].astype(np.int32),
        opacity=_venous_opacity(vessels, rng)[:, node][:, tube],
    )


def _venous_opacity(vessels: Centrelines, rng: np.random.Generator) -> np.ndarray:
    """(3, nodes) float32; see `HeadPoints.opacity`."""
    none = np.zeros(len(vessels.parent), dtype=bool)
    strengths = [fill(vessels, injection, none, rng, RunSettings()).strength for injection in INJECTIONS]
    return np.where(vessels.vein, strengths, 0).astype(np.float32)


def head_file(folder: Path, number: int) -> Path:
    """File of a head."""
    return folder / f"head{number:05d}.npz"


def save_head(head: HeadPoints, path: Path) -> None:
    """Write a head, whole or not at all."""
    # Several processes of one training may make the same head.
    with output_file(path, (".npz",), overwrite=True, alike=True) as beside:
        np.savez(beside, **{f.name: getattr(head, f.name) for f in fields(head)})


def load_head(path: Path) -> HeadPoints:
    """Read a head written by `save_head`."""
    with np.load(path) as arrays:
        return HeadPoints(**arrays)
