"""Files to things: label maps, segmentations, models, curves, points, centrelines; and items as a person types them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import within
from DeepIterRegLib.common.shown import label_of, name_of, quoted
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.geometry import lps_ras
from DeepIterRegLib.geometry.markup_files import FAR_MM, MARKUP_SUFFIXES, Markup, read_markup_lists
from DeepIterRegLib.images.files import VOLUME_SUFFIXES
from DeepIterRegLib.images.labels import read_labelled
from DeepIterRegLib.images.masks import mask_file, read_mask
from DeepIterRegLib.results.roadmap.model_files import MODEL_SUFFIXES, read_mesh
from DeepIterRegLib.results.roadmap.shapes import RED, Colour, Paths, Style, Surface, Thing, surface_of_mask

# Of the labels of a map without colours of its own, told apart by people with any colour vision (Okabe and Ito).
PALETTE: tuple[Colour, ...] = (
    RED,
    (86, 180, 233),
    (240, 228, 66),
    (0, 158, 115),
    (230, 159, 0),
    (204, 121, 167),
    (0, 114, 178),
)
ITEM = "FILE[:COLOUR][:outline|filled][:shaded][:OPACITY][:WIDTHpx][:only=NAME][:ras|lps]"


@dataclass(frozen=True)
class Item:
    """What a person asked for: a file, and what replaces the usual style.

    Attributes
    ----------
    only
        Name (or number) of the one segment, label or markup wanted.
    lps
        Whether the file's coordinates are LPS, where it does not say; None for what is usual for its kind.
    """

    path: Path
    style: dict[str, Any]
    only: str | None = None
    lps: bool | None = None


def parse_item(text: str) -> Item:
    """An item as typed; see `ITEM`.

    Raises
    ------
    InputError
        A part that means nothing, or no such file.
    """
    parts = text.split(":")
    if len(parts) > 1 and len(parts[0]) == 1 and parts[1][:1] in ("\\", "/"):  # a drive's letter
        parts = [f"{parts[0]}:{parts[1]}", *parts[2:]]
    path, item = Path(parts[0]), Item(Path(parts[0]), {})
    problems = [] if exists(path) else [f"Item {name_of(path)} does not exist."]
    for part in parts[1:]:
        word = part.strip()
        low = word.lower()
        if low in ("outline", "filled"):
            item.style["outline"] = low == "outline"
        elif low == "shaded":
            item.style["shaded"] = True
        elif low in ("ras", "lps"):
            item = replace(item, lps=low == "lps")
        elif low.startswith("only="):
            item = replace(item, only=word[5:])
        elif re.fullmatch(r"(\d+\.?\d*|\.\d+)px", low):
            item.style["width_px"] = float(low[:-2])
        elif re.fullmatch(r"\d+\.?\d*|\.\d+", low):
            item.style["opacity"] = float(low)
        elif (colour := _colour(low)) is not None:
            item.style["colour"] = colour
        else:
            problems.append(
                f"Item {name_of(path)}: {quoted(word)} is no colour (red, #ffcc00), and no other part of {ITEM}."
            )
    try:
        # Only to check opacity and width, together with what else is wrong with the item.
        Style(**item.style)
    except InputError as error:
        problems += [within(problem, f"Item {name_of(path)}: ") for problem in error.problems]
    if problems:
        raise InputError(problems)
    return item


def parse_items(texts: Sequence[str]) -> list[Item]:
    """Items as typed.

    Raises
    ------
    InputError
        All that is wrong with all of them.
    """
    items: list[Item] = []
    problems: list[str] = []
    for text in texts:
        try:
            items.append(parse_item(text))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return items


def _colour(text: str) -> Colour | None:
    from PIL import ImageColor

    try:
        # Without alpha, which #rrggbbaa has: opacity is a part of its own.
        return ImageColor.getrgb(text)[:3]
    except ValueError:
        return None


def things_of(items: Sequence[Item]) -> list[Thing]:
    """The things of all items, in their order.

    Raises
    ------
    InputError
        All files that cannot be read or used, in one message.
    """
    things: list[Thing] = []
    problems: list[str] = []
    for item in items:
        try:
            things += _read(item)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return things


def _read(item: Item) -> list[Thing]:
    name = item.path.name.lower()
    if item.path.is_dir() or name.endswith(VOLUME_SUFFIXES):
        found = _segments(item.path)
    elif name.endswith(MODEL_SUFFIXES):
        found = [Thing(item.path.stem, read_model(item.path, item.lps))]
    elif name.endswith(MARKUP_SUFFIXES):
        found = read_markups(item.path)
    elif name.endswith(".swc"):
        found = [Thing(item.path.stem, read_swc(item.path, item.lps), Style(shaded=True))]
    else:
        kinds = ", ".join((*VOLUME_SUFFIXES, *MODEL_SUFFIXES, ".mrk.json", ".fcsv", ".swc"))
        raise InputError(f"Item {name_of(item.path)} is none of {kinds}.")
    if item.only is not None:
        wanted = [thing for thing in found if thing.name == item.only]
        if not wanted:
            listed = ", ".join(label_of(thing.name) or "one of another name" for thing in found)
            raise InputError(f"Item {name_of(item.path)} holds nothing named {quoted(item.only)}; it holds {listed}.")
        found = wanted
    return [replace(thing, style=replace(thing.style, **item.style)) for thing in found]


# -- label maps and segmentations --------------------------------------------------------------------------


def _segments(path: Path) -> list[Thing]:
    """A thing for each label of a map, or each segment of a segmentation by its name and in its own colour."""
    found = read_labelled(path)
    stem, alone = path.name.split(".")[0], len(found.segments) == 1
    return [
        Thing(
            segment.name or (stem if alone else str(segment.number)),
            surface_of_mask(found.union([segment])),
            Style(colour=segment.colour or PALETTE[n % len(PALETTE)], shaded=alone and not segment.name),
        )
        for n, segment in enumerate(found.segments)
    ]


# -- models --------------------------------------------------------------------------------------------------


def read_model(path: Path, lps: bool | None = None) -> Surface | Paths:
    """A surface, or the lines of a model without one, from STL, OBJ, PLY, VTK or VTP.

    A file that does not say its coordinate system, as those written by 3D Slicer do, is LPS as Slicer takes it.

    Raises
    ------
    InputError
        No VTK, unreadable, damaged, or neither surface nor lines.
    """
    mesh = read_mesh(path)
    _refuse_far(mesh.points, f"Model {name_of(path)}")
    points = np.asarray(lps_ras(mesh.points)) if (mesh.lps if lps is None else lps) else mesh.points
    if len(mesh.triangles):
        return Surface(points, mesh.triangles)
    return Paths(tuple(points[mesh.lines[a:b]] for a, b in pairwise(mesh.offsets)))


def _refuse_far(points: np.ndarray, called: str) -> None:
    """Raise InputError for points (N, 3) that lie where no head is, as damage and other units put them."""
    far = float(np.abs(points).max(initial=0.0))
    if far > FAR_MM:
        raise InputError(
            f"{called} lies {far / 1000:.0f} m from the origin: it is damaged, or not in mm; save it again in mm."
        )


# -- paths ---------------------------------------------------------------------------------------------------


def read_markups(path: Path) -> list[Thing]:
    """Points, lines and curves of Slicer's .mrk.json. Curves run through their points as Slicer's usual splines do.

    Raises
    ------
    InputError
        Not a markups file, or without points.
    """
    lists = read_markup_lists(path)
    things = [_thing_of(markup, n, path) for n, markup in enumerate(lists) if markup.count]
    if not things:
        raise InputError(f"Markups {name_of(path)} hold no points.")
    return things


def _thing_of(markup: Markup, number: int, path: Path) -> Thing:
    points = markup.points_mm[markup.placed]
    if markup.kind in ("Curve", "ClosedCurve"):
        paths: tuple[np.ndarray, ...] = (smooth_curve(points, closed=markup.kind == "ClosedCurve"),)
    elif markup.kind in ("Line", "Angle"):
        paths = (points,)
    else:
        paths = tuple(points[:, None])
    colour = PALETTE[number % len(PALETTE)]
    if markup.colour is not None:
        red, green, blue = (round(255 * part) for part in markup.colour)
        colour = (red, green, blue)
    name = markup.name or (path.name.split(".")[0] if number == 0 else f"markup {number + 1}")
    return Thing(name, Paths(paths), Style(colour=colour, opacity=1.0))


def smooth_curve(points: np.ndarray, closed: bool = False, steps: int = 10) -> np.ndarray:
    """A cubic spline (M, 3) through points (N, 3), `steps` pieces between two; flat at open ends, as vtkCardinalSpline."""
    from scipy.interpolate import CubicSpline

    if closed and len(points) > 2:
        points = np.vstack([points, points[:1]])
    if len(points) < 3:
        return points
    kind = "periodic" if closed else "clamped"
    spline = CubicSpline(np.arange(len(points)), points, bc_type=kind)
    return np.asarray(spline(np.linspace(0, len(points) - 1, steps * (len(points) - 1) + 1)))


def read_swc(path: Path, lps: bool | None = None) -> Paths:
    """A centreline tree (SWC: number, type, x, y, z, radius, parent) as a path from each point to its parent; RAS mm unless `lps`.

    Raises
    ------
    InputError
        Not a table of seven columns, or parents that do not exist.
    """
    try:
        table = np.loadtxt(path, comments="#", ndmin=2)
    except (OSError, ValueError, OverflowError):
        raise InputError(f"Centreline {name_of(path)} is not a table of numbers (SWC).") from None
    if table.shape[0] == 0 or table.shape[1] != 7:
        raise InputError(f"Centreline {name_of(path)} has {table.shape[1]} columns; SWC has 7.")
    if not np.isfinite(table).all() or np.abs(table).max() > 2**31:
        raise InputError(
            f"Centreline {name_of(path)} is damaged: a number in it is not finite, or too large; save it again."
        )
    _refuse_far(table[:, 2:5], f"Centreline {name_of(path)}")
    points, radii, parents = table[:, 2:5], np.maximum(table[:, 5], 0), table[:, 6].astype(int)
    points = np.asarray(lps_ras(points)) if lps else points
    row = {int(number): n for n, number in enumerate(table[:, 0])}
    strangers = sorted({int(p) for p in parents if p >= 0} - set(row))
    if strangers:
        raise InputError(f"Centreline {name_of(path)} names parents that it does not have: {strangers[:5]}.")
    # A negative parent marks a root (SWC). A file of roots alone is drawn as dots.
    pairs = [[row[int(p)], n] for n, p in enumerate(parents) if p >= 0] or [[n] for n in range(len(table))]
    return Paths(tuple(points[pair] for pair in pairs), tuple(radii[pair] for pair in pairs))


def vessel_points(path: Path) -> np.ndarray:
    """Points (N, 3), CTA RAS mm, of a vessel mask's voxels (perhaps `FILE:LABEL`), or of a model, curve or centreline.

    Raises
    ------
    InputError
        Unreadable, or empty.
    """
    file = mask_file(path)
    if file.is_dir() or file.name.lower().endswith(VOLUME_SUFFIXES):
        mask = read_mask(path)
        return mask.to_ras(mask.set_voxels)
    shapes = [thing.shape for thing in things_of([Item(path, {})])]
    return np.concatenate([s.points if isinstance(s, Surface) else np.concatenate(s.paths) for s in shapes])
