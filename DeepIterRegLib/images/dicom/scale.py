"""Contradictions of scale: tags that say how large a pixel is, or how much larger the head appears, and do not agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from DeepIterRegLib.common.errors import GeometryError
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.dicom.geometry_tags import look_up, read_carm
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.tags import tag_name

_SAME = 0.1  # tags that differ by less agree: sizes are rounded to mm, spacings to that of one frame
# A single length may be the diagonal or a nominal size: only a factor beyond that of a diagonal speaks against a spacing.
_DIAGONAL = 1.5
_SAME_MAGNIFICATION = 0.03
_SPACING, _MAGNIFICATION = "ImagerPixelSpacing", "EstimatedRadiographicMagnificationFactor"


@dataclass(frozen=True)
class OtherScale:
    """A scale that tags give beside the one that is used.

    Attributes
    ----------
    contradiction
        Both tags with their values.
    note
        The same, which is used, and the option that decides.
    words
        What the other one takes, for a sentence.
    remedies
        The options that make it.
    carm
        The view with it.
    """

    contradiction: str
    note: Message
    words: str
    remedies: tuple[Remedy, ...]
    carm: CArm


def other_scales(header: Header, rows: int, columns: int, options: GeometryOptions) -> list[OtherScale]:
    """Scales that contradict the one used, each only once; none for what was typed.

    Raises
    ------
    GeometryError
        As `read_carm`.
    """
    if options.projection_matrix is not None:
        return []
    found = look_up(header, rows, columns, options).found
    scales: list[OtherScale] = []
    if options.pixel_spacing_mm is None and "pixel_spacing_mm" in found:
        used, source = found["pixel_spacing_mm"].value, found["pixel_spacing_mm"].source
        seen = [used]
        for spacing, said in (*_by_field_of_view(header, rows, columns, used), *_by_element(header, used)):
            if any(_agree(spacing, other) for other in seen):
                continue
            seen.append(spacing)
            contradiction = (
                f"The pixel spacing is {_pair(used)} mm by {source}, but {_pair(spacing)} mm by {said}: the images may have been "
                "made smaller or larger on export"
            )
            remedy = Remedy("pixel_spacing", ",".join(f"{s:.4g}" for s in spacing))
            scales += _scale(
                header,
                rows,
                columns,
                replace(options, pixel_spacing_mm=spacing),
                contradiction,
                remedy,
                f"a pixel spacing of {_pair(spacing)} mm",
            )
    if options.sid_mm is None and options.sod_mm is None and {"sid_mm", "sod_mm"} <= found.keys():
        sid, sod, stated = found["sid_mm"].value, found["sod_mm"].value, header.number(_MAGNIFICATION)
        if stated is not None and 1 < stated < 5 and abs(stated * sod / sid - 1) > _SAME_MAGNIFICATION:
            other = sid / stated
            contradiction = (
                f"SID over SOD is {sid / sod:.4g} ({found['sid_mm'].source} {sid:g}, {found['sod_mm'].source} {sod:g}), but "
                f"{tag_name(_MAGNIFICATION)} is {stated:g}, as for a SOD of {other:.4g} mm"
            )
            remedy = Remedy("sod", f"{other:.4g}")
            scales += _scale(
                header, rows, columns, replace(options, sod_mm=other), contradiction, remedy, f"a SOD of {other:.4g} mm"
            )
    return scales


def _scale(
    header: Header,
    rows: int,
    columns: int,
    options: GeometryOptions,
    contradiction: str,
    remedy: Remedy,
    words: str,
) -> list[OtherScale]:
    """The other scale; only the contradiction where it makes no view."""
    try:
        carm, _ = read_carm(header, rows, columns, options)
    except GeometryError:
        return []
    note = Message(f"{contradiction}; the former is used", give=(remedy,))
    return [OtherScale(f"{contradiction}.", note, words, (remedy,), carm)]


def _by_field_of_view(
    header: Header, rows: int, columns: int, used: tuple[float, float]
) -> Iterator[tuple[tuple[float, float], str]]:
    """Spacings (row, column) by which the image is as large as the field of view, if it clearly is another."""
    for keyword in ("FieldOfViewDimensions", "FieldOfViewDimensionsInFloat"):
        sizes = [size for size in header.numbers(keyword) if 0 < size < np.inf]
        if not sizes:
            continue
        said = f"{tag_name(keyword)} {' x '.join(map(number_words, sizes))} over {rows} x {columns} pixels"
        if len(sizes) == 2 and header.text("FieldOfViewShape") != "ROUND":
            # Rows before columns by the standard; a quarter turn of the image, and some writers, exchange them.
            for pair in ((sizes[0], sizes[1]), (sizes[1], sizes[0])):
                spacing = (pair[0] / rows, pair[1] / columns)
                ratios = np.array(spacing) / used
                if abs(ratios[0] / ratios[1] - 1) < _SAME:  # enlarged alike: no crop
                    if abs(ratios.mean() - 1) > _SAME:
                        yield spacing, said
                    return
            continue
        ratio = max(sizes) / max(rows * used[0], columns * used[1])
        if not 1 / _DIAGONAL < ratio < _DIAGONAL:
            yield (used[0] * ratio, used[1] * ratio), said
        return


def _by_element(header: Header, used: tuple[float, float]) -> Iterator[tuple[tuple[float, float], str]]:
    """The detector's own spacing: that of its elements times how many are binned, where both are told."""
    element, binning = header.numbers("DetectorElementSpacing"), header.numbers("DetectorBinning")
    if (
        len(element) != 2
        or len(binning) != 2
        or not np.isfinite([*element, *binning]).all()
        or not min(*element, *binning) > 0
    ):
        return
    spacing = (element[0] * binning[0], element[1] * binning[1])
    if not _agree(spacing, used):
        yield (
            spacing,
            f"{tag_name('DetectorElementSpacing')} {_pair(element)} times {tag_name('DetectorBinning')} {_pair(binning)}",
        )


def _agree(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return bool(np.all(np.abs(np.array(a) / b - 1) <= _SAME))


def _pair(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
