"""Names of views: borders between AP, lateral and oblique, angles, edges of the image."""

from __future__ import annotations

import pytest

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.view_names import angle_words, edge_letters, view_direction


def view(primary_deg: float, secondary_deg: float) -> CArm:
    return CArm.from_angles(
        primary_deg, secondary_deg, sid_mm=1200, sod_mm=750, rows=8, columns=8, pixel_spacing_mm=(1, 1)
    )


@pytest.mark.parametrize("secondary_deg", [0, -25, 40])
@pytest.mark.parametrize(
    ("beside_deg", "direction"),
    [(0, "AP"), (21, "AP"), (26.5, "AP"), (26.6, "oblique"), (45, "oblique"), (63.4, "oblique"), (63.5, "lateral")],
)
def test_direction_has_one_border_on_all_sides_and_tilts(
    beside_deg: float, direction: str, secondary_deg: float
) -> None:
    for primary in (beside_deg, -beside_deg, 180 - beside_deg, beside_deg - 180):
        assert view_direction(view(primary, secondary_deg)) == direction
    assert view_direction(view(90, secondary_deg)) == view_direction(view(-90, secondary_deg)) == "lateral"


@pytest.mark.parametrize(
    ("angles", "expected", "said"),
    [
        ((0, 0), {"left": "R", "right": "L", "top": "S", "bottom": "I"}, "LAO 0.0°, CRA 0.0°"),
        ((90, 0), {"left": "A", "right": "P", "top": "S", "bottom": "I"}, "LAO 90.0°, CRA 0.0°"),
        ((-28.5, 21.9), {"left": "RP", "right": "LA", "top": "S", "bottom": "I"}, "RAO 28.5°, CRA 21.9°"),
    ],
)
def test_edges_carry_the_patients_directions(angles: tuple[float, float], expected: dict[str, str], said: str) -> None:
    """AP has the patient's left on the right, a left lateral has the face on the left, and GE's header says LA at the right."""
    carm = view(*angles)
    assert edge_letters(carm) == expected
    assert angle_words(carm) == said
