"""Which part of the CTA's vessels a run may show: it shows one injected territory, the CTA shows all."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, optimize

from DeepIterRegLib.alignment import Points
from DeepIterRegLib.geometry import pose

# Across the midline lie the anterior cerebral arteries and the sagittal sinuses: either side's run may show them.
MIDLINE_MM = 12.0
_CELL_MM = 6.0


def hypotheses(points: Points) -> dict[str, Points]:
    """Left, right, posterior part and the whole of the vessels, by the plane of their mirror symmetry.

    Named by the patient's side, RAS: right is +x.
    """
    right, front = symmetry_frame(points)
    side = points.positions @ right[:3] - right[3]
    ahead = points.positions @ front
    chosen = {
        "right": side > -MIDLINE_MM,
        "left": side < MIDLINE_MM,
        "posterior": ahead < np.quantile(ahead, 0.6),
        "whole": np.ones(len(side), dtype=bool),
    }
    return {
        name: Points(points.positions[mask], points.weights[mask], points.origin_mm)
        for name, mask in chosen.items()
        if mask.sum() >= 50
    }


def symmetry_frame(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Plane of best mirror symmetry (4,): unit normal towards the right and offset in mm; and the forward direction (3,).

    Heads lie turned and tilted in the scanner by some degrees; the best plane is where a blurred count of the points
    matches its own mirror image.
    """
    x = points.positions[:: max(1, len(points.positions) // 20000)].astype(np.float64)
    low = x.min(axis=0) - 5 * _CELL_MM
    shape = np.ceil((x.max(axis=0) + 5 * _CELL_MM - low) / _CELL_MM).astype(int)
    density, _ = np.histogramdd(x, bins=shape, range=list(zip(low, low + shape * _CELL_MM, strict=True)))
    density = np.sqrt(ndimage.gaussian_filter(density, 1.0))
    sample = x[:: max(1, len(x) // 3000)]

    def mismatch(parameters: np.ndarray) -> float:
        roll, yaw, offset = parameters[0] / 60, parameters[1] / 60, parameters[2]
        normal = _normal(roll, yaw)
        mirrored = sample - 2 * ((sample @ normal - offset)[:, None]) * normal
        cells = ((mirrored - low) / _CELL_MM - 0.5).T
        return -float(ndimage.map_coordinates(density, cells, order=1, mode="constant").mean())

    middle = float(np.median(x[:, 0]))
    starts = [
        np.array([roll, yaw, middle + shift]) for roll in (-10, 0, 10) for yaw in (-10, 0, 10) for shift in (-6, 6)
    ]
    start = min(starts, key=mismatch)
    simplex = start + np.vstack([np.zeros(3), 5 * np.eye(3)])
    best = optimize.minimize(mismatch, start, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 150})
    normal = _normal(best.x[0] / 60, best.x[1] / 60)
    front = np.array([0.0, 1.0, 0.0]) - normal[1] * normal
    return np.append(normal, best.x[2]), front / np.linalg.norm(front)


def _normal(roll: float, yaw: float) -> np.ndarray:
    normal: np.ndarray = pose.euler_to_rotation(np.array([0.0, roll, yaw]))[:, 0]
    return normal
