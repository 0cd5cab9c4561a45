"""Which pixels show the patient: display shutters and collimators by tag, constant borders by sight."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import ndimage

from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.open_file import DAMAGE
from DeepIterRegLib.images.dicom.tags import tag_name

_SMALLEST_VISIBLE = 0.1  # a smaller visible part is a faulty tag


def read_valid(header: Header, values: np.ndarray, lossy: bool) -> tuple[np.ndarray, list[str]]:
    """Valid pixels (row, column) of frames (t, row, column), and notes."""
    shape = values.shape[1:]
    valid = np.ones(shape, dtype=bool)
    notes: list[str] = []
    for kind in ("Shutter", "Collimator"):
        mask = _opening(header, kind, shape)
        if mask is None:
            continue
        if mask.mean() < _SMALLEST_VISIBLE:
            notes.append(
                f"{tag_name(kind + 'Shape')} would leave {mask.mean():.0%} of the image visible and is ignored."
            )
        else:
            valid &= mask
    # Lossy compression lets the image ripple into its border.
    inverted = header.text("PhotometricInterpretation") == "MONOCHROME1"
    border = constant_border(values, 0.02 if lossy else 0.0, inverted) & valid
    if border.mean() > 0.005 and (valid & ~border).mean() >= _SMALLEST_VISIBLE:
        valid &= ~border
        notes.append(
            f"{border.mean():.0%} of the image is a border of one constant value without a shutter tag; it is left out."
        )
    return valid, notes


def _opening(header: Header, kind: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The visible part by the tags of a shutter or collimator; None if there are none. Pixels count from 1 in the tags."""
    shapes = header.texts(kind + "Shape")
    if not shapes:
        return None
    rows, columns = np.indices(shape, sparse=True)
    visible = np.ones(shape, dtype=bool)
    edges = [
        header.number(kind + edge)
        for edge in ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")
    ]
    if "RECTANGULAR" in shapes and None not in edges:
        left, right, upper, lower = (float(edge) for edge in edges if edge is not None)
        visible &= (columns + 1 >= left) & (columns + 1 <= right) & (rows + 1 >= upper) & (rows + 1 <= lower)
    centre, radius = header.numbers("CenterOfCircular" + kind), header.number("RadiusOfCircular" + kind)
    if "CIRCULAR" in shapes and len(centre) == 2 and radius:
        visible &= (rows + 1 - centre[0]) ** 2 + (columns + 1 - centre[1]) ** 2 <= radius**2
    vertices = header.numbers("VerticesOfThePolygonal" + kind)
    if "POLYGONAL" in shapes and np.isfinite(vertices).all() and len(vertices) >= 6 and len(vertices) % 2 == 0:
        from skimage.draw import polygon2mask  # slow to import, and few shutters are polygons

        visible &= polygon2mask(shape, np.array(vertices).reshape(-1, 2) - 1)
    if "BITMAP" in shapes and kind == "Shutter":
        group = header.number("ShutterOverlayGroup")
        bitmap = _overlay(header, int(group)) if group and 0x6000 <= group <= 0x60FF else None
        if bitmap is not None and bitmap.shape == shape:
            visible &= ~bitmap
    return visible


def _overlay(header: Header, group: int) -> np.ndarray | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return header.dataset.overlay_array(group).astype(bool)
    except DAMAGE:
        return None


def constant_border(values: np.ndarray, tolerance: float, inverted: bool = False) -> np.ndarray:
    """Pixels (row, column) of one extreme value in all frames, joined to the image's edge.

    Black may have any shape. White may also be air beside the head, so it counts only where it fills whole rows or
    columns, or all four corners.

    Parameters
    ----------
    values : (t, row, column)
    tolerance
        As a part of the range of values; 0 for lossless files.
    inverted
        Large values are black, as in MONOCHROME1.
    """
    low, high = values.min(axis=0), values.max(axis=0)
    least, most = float(low.min()), float(high.max())
    slack = tolerance * (most - least)
    border = np.zeros(low.shape, dtype=bool)
    always_least, always_most = high <= least + slack, low >= most - slack
    dark = _joined_to_edge(always_most if inverted else always_least)
    if dark.sum() > 0.005 * dark.size:
        border |= dark
    light = _joined_to_edge(always_least if inverted else always_most)
    if light[0, 0] and light[0, -1] and light[-1, 0] and light[-1, -1]:
        border |= light
    else:
        border |= light & (np.all(light, axis=1, keepdims=True) | np.all(light, axis=0, keepdims=True))
    return border


def _joined_to_edge(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    keep = np.zeros(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        keep[edge] = True
    keep[0] = False
    return keep[labels]
