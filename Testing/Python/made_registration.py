"""A registration.json without the seconds of a registration: enough for what needs a pose alone."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.result import InitRecord, Registration


def made_registration(side_px: int, *warnings: str) -> Registration:
    """The identity in a C-arm with so many rows and columns."""
    carm = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=side_px, columns=side_px, pixel_spacing_mm=(1.0, 1.0))
    return Registration(
        cta_to_carm=np.eye(4),
        carm=carm,
        centre_cta_mm=np.zeros(3),
        score=0.7,
        init=InitRecord("search", True, 0.6, 0.1),
        stages=(),
        seconds={"total": 1.0},
        warnings=warnings,
        settings={},
        versions={},
    )
