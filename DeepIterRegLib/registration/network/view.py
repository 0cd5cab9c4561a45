"""What the network looks at: both images on one canvas, the same for every C-arm.

The canvas is centred on the ray through the isocentre; its pixels have the same size there whatever the zoom of the
detector. The CTA's veins show whole, also where the detector ends; the DSA's show what the detector saw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.geometry import CArm

HALF_MM = 0.5  # of vessel along a ray covers 63 % of a pixel: thin veins stay visible on coarse pixels
OFF_DETECTOR = -1.0  # in the DSA's channel, beside 0 (nothing) and 1 (vein): unknown is not empty


def canvas(carm: CArm, rows: int, pixel_mm: float) -> CArm:
    """The C-arm's view on the canvas: `rows` x `rows` px of `pixel_mm` at the isocentre."""
    spacing = pixel_mm * carm.magnification
    middle = (rows - 1) / 2
    return replace(
        carm, rows=rows, columns=rows, pixel_spacing_mm=(spacing, spacing), principal_point_px=(middle, middle)
    )


def coverage(path_mm: Tensor) -> Tensor:
    """How much of each pixel is vein, 0 to 1, from line integrals (..., rows, columns) in mm."""
    return 1 - torch.exp(-path_mm / HALF_MM)


def dsa_channel(mask: np.ndarray, valid: np.ndarray, carm: CArm, view: CArm) -> np.ndarray:
    """A mask (row, column) on the detector as the network sees it: (rows, rows) float32 on the canvas `view`.

    Share of each pixel that is vein among what the detector saw of it; `OFF_DETECTOR` where that is less than half.
    """
    down = _overlap(view.rows, view.pixel_spacing_mm[0], view.principal_point_px[1], carm, axis=0)
    across = _overlap(view.columns, view.pixel_spacing_mm[1], view.principal_point_px[0], carm, axis=1)
    seen = down @ valid.astype(np.float32) @ across.T
    vein = down @ (mask & valid).astype(np.float32) @ across.T
    return np.where(seen >= 0.5, vein / np.maximum(seen, 0.5), OFF_DETECTOR).astype(np.float32)


def _overlap(n: int, spacing_mm: float, principal_px: float, carm: CArm, axis: int) -> np.ndarray:
    """Share (n, pixels of the detector) of each canvas pixel that lies on each detector pixel, along one axis."""
    pixels = (carm.rows, carm.columns)[axis]
    own_mm, own_principal = carm.pixel_spacing_mm[axis], carm.principal_point_px[1 - axis]
    edges = (np.arange(n + 1) - 0.5 - principal_px) * (spacing_mm / own_mm) + own_principal + 0.5
    cells = np.arange(pixels)[None]
    overlap = np.clip(np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells), 0, None)
    return np.asarray(overlap * (own_mm / spacing_mm), dtype=np.float32)
