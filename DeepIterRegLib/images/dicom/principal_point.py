"""Where the isocentre falls on the image, from what tags say of the detector and of the part of it that the image shows."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.vendors import private_tag

_WHOLE = 0.02  # sides that differ by less are the same: sizes are rounded to mm


def isocentre_projection(header: Header, upright: CArm) -> tuple[float, float] | None:
    """Where the isocentre falls on the upright image (column, row) in px, if the tags tell (PS3.17 FFF.1.2.5.2).

    Classic XA has no tag for it: there the beam is centred on the detector's active area.
    """
    origin, element = _origin(header), header.numbers("DetectorElementSpacing")
    if len(origin) != 2 or len(element) != 2 or not np.isfinite([*origin, *element]).all() or not min(element) > 0:
        return _middle_of_whole_detector(header, upright)
    isocentre = header.numbers("PositionOfIsocenterProjection")
    if len(isocentre) != 2:
        isocentre = _middle_of_detector(header, (element[0], element[1]))
    if len(isocentre) != 2 or not np.isfinite(isocentre).all():
        return None
    ratio = [e / s for e, s in zip(element, upright.pixel_spacing_mm, strict=True)]
    row, column = ((i - o) * r - (1 - r) / 2 for i, o, r in zip(isocentre, origin, ratio, strict=True))
    inside = -0.5 * upright.rows < row < 1.5 * upright.rows and -0.5 * upright.columns < column < 1.5 * upright.columns
    return (column, row) if inside else None


def _origin(header: Header) -> tuple[float, ...]:
    """First element (row, column) of the field of view, counted in detector elements."""
    return header.numbers("FieldOfViewOrigin") or private_tag(header.dataset, "FieldOfViewOrigin")


def _middle_of_detector(header: Header, element: tuple[float, float]) -> tuple[float, ...]:
    """Middle (row, column) of the active area, or of the whole detector, in detector elements; empty if no tag has its size."""
    active = header.numbers("DetectorActiveDimensions")
    start = header.numbers("DetectorActiveOrigin") or (0.0, 0.0)
    if active and len(start) == 2:
        sides = (active[0], active[-1])
        return tuple(s + side / e / 2 - 0.5 for s, side, e in zip(start, sides, element, strict=True))
    size = (*private_tag(header.dataset, "DetectorRows"), *private_tag(header.dataset, "DetectorColumns"))
    return tuple(n / 2 - 0.5 for n in size) if len(size) == 2 and min(size) > 1 else ()


def _middle_of_whole_detector(header: Header, upright: CArm) -> tuple[float, float] | None:
    """The middle of an image that is as large as the detector's active area, of which nothing can be cut off."""
    active = header.numbers("DetectorActiveDimensions")
    if not active:
        return None
    shown = np.array([upright.rows, upright.columns]) * upright.pixel_spacing_mm
    if np.all(np.abs(shown / (active[0], active[-1]) - 1) < _WHOLE):
        return (upright.columns - 1) / 2, (upright.rows - 1) / 2
    return None
