"""A DICOMDIR: the list of files that stands at the top of a CD or an export."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.user_input import exists, is_file
from DeepIterRegLib.images.dicom.open_file import DAMAGE, open_dataset
from DeepIterRegLib.images.dicom.tags import items_of, texts_of, value_of

_DIRECTORY = "1.2.840.10008.1.3.10"


def is_dicomdir(path: Path) -> bool:
    """By its name; archives hardly ever use another."""
    return path.is_file() and path.stem.upper() == "DICOMDIR"


def files_of_dicomdir(path: Path) -> list[Path]:
    """The image files that a DICOMDIR lists, sorted; a name that leads out of its folder is none.

    Raises
    ------
    InputError
        Damaged, lists none, or files that are not there: how many of how many.
    """
    try:
        records = items_of(open_dataset(path, ["DirectoryRecordSequence"]), "DirectoryRecordSequence")
        listed = [texts_of(value_of(record, "ReferencedFileID")) for record in records]
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name_of(path)} is damaged and cannot be read as a DICOMDIR; give the folder instead."
        ) from None
    found: list[Path] = []
    absent: list[Path] = []
    for parts in listed:
        if not any(parts) or ".." in parts or any(PurePosixPath(part).is_absolute() or "/" in part for part in parts):
            continue
        file = _existing(path.parent, parts)
        if file is None:
            absent.append(Path(*parts))
        else:
            found.append(file)
    if not found and not absent:
        raise InputError(f"{name_of(path)} lists no image; give the folder of the CTA.")
    if absent:
        raise InputError(
            f"{len(absent)} of {len(found) + len(absent)} files that {name_of(path)} lists are not there, "
            f"the first is {name_of(absent[0])}: copy the whole folder, or give the folder of the CTA instead."
        )
    return sorted(set(found))


def _existing(folder: Path, parts: list[str]) -> Path | None:
    """A file by its parts, whatever copying made of upper and lower case."""
    place = folder
    for part in parts:
        exact = place / part
        if not exists(exact):
            if not place.is_dir():
                return None
            same = [one for one in place.iterdir() if one.name.lower() == part.lower()]
            if not same:
                return None
            exact = same[0]
        place = exact
    return place if is_file(place) else None
