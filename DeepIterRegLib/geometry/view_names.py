"""What people call a view: its direction, its angles, and which side of the patient each edge of the image shows."""

from __future__ import annotations

from typing import Literal

import numpy as np

from DeepIterRegLib.geometry.carm import CArm

Direction = Literal["AP", "lateral", "oblique"]

# The beam runs more than this many times as far along one axis of the patient as along the other, which is up to 26.6 deg of
# LAO or RAO from a standard view: between such a view and the next one lies an oblique range about as wide as each of them.
_MAIN_AXIS_RATIO = 2.0
# Share of an image axis along a patient axis from which the edge names it: the sine of 20.5 deg, so that a standard view
# keeps one letter an edge and an oblique one gets two.
_NAMED_SHARE = 0.35


def view_direction(carm: CArm) -> Direction:
    """`AP`, `lateral` or `oblique`, by the part of the beam in the axial plane: cranial tilt does not make a view oblique."""
    across, along, _ = np.abs(carm.beam_axis)
    if along > _MAIN_AXIS_RATIO * across:
        return "AP"
    return "lateral" if across > _MAIN_AXIS_RATIO * along else "oblique"


def angle_words(carm: CArm) -> str:
    """Angles as said in the angio suite, for example "LAO 90.0°, CRA 0.0°"."""
    primary, secondary = carm.primary_angle_deg, carm.secondary_angle_deg
    first = "LAO" if primary >= 0 else "RAO"
    second = "CRA" if secondary >= 0 else "CAU"
    return f"{first} {abs(primary):.1f}°, {second} {abs(secondary):.1f}°"


def edge_letters(carm: CArm) -> dict[str, str]:
    """Patient directions at the picture's edges: R/L, A/P, S/I of the larger components, by `left`, `right`, `top`, `bottom`."""

    def letters(axis: np.ndarray) -> str:
        order = np.argsort(-np.abs(axis))
        named = [("RL", "AP", "SI")[i][0 if axis[i] > 0 else 1] for i in order if abs(axis[i]) > _NAMED_SHARE]
        return "".join(named)

    u, v = np.array(carm.column_axis), np.array(carm.row_axis)
    return {"left": letters(-u), "right": letters(u), "top": letters(-v), "bottom": letters(v)}
