"""A mask as a person names it: a file, and of several labels those that are meant (`FILE:2`, `FILE:1,3`, `FILE:Left ICA`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import name_of, typed
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.images.dicom.image_files import IMAGE_SUFFIXES, read_pixels
from DeepIterRegLib.images.files import VOLUME_SUFFIXES
from DeepIterRegLib.images.labels import labelled, read_labelled
from DeepIterRegLib.images.segments import Labelled, Segment
from DeepIterRegLib.images.volume import Volume

_SUFFIXES = (*VOLUME_SUFFIXES, *IMAGE_SUFFIXES, ".dcm")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def split_labels(text: str) -> tuple[Path, str]:
    """The file, and what stands behind the colon after it; empty where nothing does.

    A colon may belong to the file's name: what exists, or ends as a volume does, is the file. A drive's colon never parts.
    """
    if exists(Path(text)):
        return Path(text), ""
    first = 2 if _DRIVE.match(text) else 1
    colons = [at for at in range(first, len(text)) if text[at] == ":"]
    for at in reversed(colons):
        if exists(Path(text[:at])):
            return Path(text[:at]), text[at + 1 :].strip()
    for at in colons:
        if text[:at].lower().endswith(_SUFFIXES):
            return Path(text[:at]), text[at + 1 :].strip()
    return Path(text), ""


def mask_file(path: Path) -> Path:
    """The file alone of a mask as typed."""
    return split_labels(str(path))[0]


def read_mask(typed: Path, at: str = "") -> Volume:
    """The mask of a file, bool, where the file puts it; with labels behind a colon, those alone.

    Parameters
    ----------
    typed
        A path, perhaps with labels: `FILE:LABEL[,LABEL]`.
    at
        The option that it was typed for.

    Raises
    ------
    InputError
        Absent, unreadable, damaged, empty, several labels of which none is chosen, or labels that are not there.
    """
    path, wanted = split_labels(str(typed))
    found = read_labelled(path)
    return found.union(chosen(found, wanted, name_of(path), at))


def read_image_mask(typed: Path, at: str = "") -> np.ndarray:
    """The mask of a DSA, bool: (row, column) of an image file, or (slice, row, column) of a volume; labels as `read_mask`.

    Raises
    ------
    InputError
        As `read_mask`.
    """
    path, wanted = split_labels(str(typed))
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        if not path.is_file():
            raise InputError(f"DSA mask {name_of(path)} does not exist: give an image file (PNG, TIFF, NIfTI, NRRD).")
        found = read_labelled(path)
    else:
        if not path.is_file():
            raise InputError(f"DSA mask {name_of(path)} does not exist: give an image file (PNG, TIFF, NIfTI, NRRD).")
        found = labelled(Volume(read_pixels(path), np.eye(4)), name_of(path))
    voxels = found.union(chosen(found, wanted, name_of(path), at)).voxels
    return voxels[0] if len(voxels) == 1 else voxels


def chosen(found: Labelled, wanted: str, name: str, at: str = "") -> list[Segment]:
    """The labels that are meant: the only one, or those named by number or by name (`2,3`, `Left ICA`).

    Raises
    ------
    InputError
        Several and none is chosen, or such as are not there: with those that are, their names and voxels.
    """
    listed = "; ".join(segment.words for segment in found.segments)
    if not wanted:
        if len(found.segments) == 1:
            return list(found.segments)
        some = ",".join(str(segment.number) for segment in found.segments[-2:])
        raise InputError(
            Message(
                f"{name} holds {len(found.segments)} labels, and which are meant is not said: {listed}",
                at=at,
                advice=f"Write numbers or names behind the file's name and a colon, as in {name}:{some}.",
            )
        )
    picked: list[Segment] = []
    absent = []
    for part in [wanted] if _named(found.segments, wanted) else [part.strip() for part in wanted.split(",")]:
        if matching := _named(found.segments, part):
            picked += matching
        else:
            absent.append(part)
    if absent:
        raise InputError(
            Message(
                f"{name} holds no label {', '.join(typed(one) for one in absent)}; it holds {listed}",
                at=at,
            )
        )
    return picked


def _named(segments: Sequence[Segment], text: str) -> list[Segment]:
    """Segments of this number or name."""
    by_name = [segment for segment in segments if segment.name and segment.name.casefold() == text.casefold()]
    if by_name or not text.isdecimal():
        return by_name
    return [segment for segment in segments if segment.number == int(text)]
