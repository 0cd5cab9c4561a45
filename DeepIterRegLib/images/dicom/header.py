"""Open a DICOM file and look values up, wherever classic or enhanced objects keep them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.user_input import exists
from DeepIterRegLib.images.dicom.open_file import DAMAGE, NotDicom, open_dataset
from DeepIterRegLib.images.dicom.tags import items_of, leaves_of, numbers_of, texts_of, value_of, whole_of


@dataclass(frozen=True)
class Header:
    """A dataset with the values of its functional groups (Enhanced XA) gathered by keyword.

    Attributes
    ----------
    dataset
    groups
        Keyword to values: one if shared by all frames, else one for each frame.
    """

    dataset: Dataset
    groups: dict[str, list[Any]]

    def all(self, keyword: str) -> list[Any]:
        """Values of a tag, one for each frame where frames have their own; empty if absent or without value."""
        value = value_of(self.dataset, keyword)
        values = [value] if value is not None else self.groups.get(keyword, [])
        return [v for v in values if not _empty(v)]

    def get(self, keyword: str) -> Any:
        """The first of `all`, or None."""
        return next(iter(self.all(keyword)), None)

    def text(self, keyword: str) -> str:
        value = self.get(keyword)
        return "" if value is None else "\\".join(self.texts(keyword))

    def texts(self, keyword: str) -> list[str]:
        """The parts of a text of many values, upper case."""
        return [part.upper() for part in texts_of(self.get(keyword))]

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The parts of a tag as numbers; what is no number becomes not-a-number; empty if absent."""
        return numbers_of(self.get(keyword))

    def number(self, keyword: str) -> float | None:
        """The first part as a number, or None if the tag is absent or not a finite number."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers and math.isfinite(numbers[0]) else None

    def per_frame(self, keyword: str) -> list[tuple[float, ...]]:
        """`numbers` for each of `all`."""
        return [numbers_of(value) for value in self.all(keyword)]

    def items(self, keyword: str) -> list[Dataset]:
        """Items of a sequence at the top level."""
        return items_of(self.dataset, keyword)


def open_header(path: str | Path) -> Header:
    """Read a DICOM file.

    Raises
    ------
    InputError
        The file is absent, a folder, not DICOM, or ends in the middle of its header.
    """
    path = Path(path)
    if not exists(path):
        raise InputError(f"{name_of(path)} does not exist.")
    if path.is_dir():
        raise InputError(f"{name_of(path)} is a folder; give the one DICOM file of the run.")
    try:
        dataset = open_dataset(path)
        return Header(dataset, functional_groups(dataset))
    except NotDicom as error:
        raise InputError(f"{error} Give an XA file, or a PNG or TIFF with typed-in geometry.") from None
    except DAMAGE as error:  # found where an element is looked at, not before
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name_of(path)} is damaged and cannot be read as DICOM; copy it again.") from None


def size_of(header: Header) -> tuple[int, int]:
    """Rows and columns.

    Raises
    ------
    InputError
        Absent, or none that can be.
    """
    return whole_of(header.dataset, "Rows", 1, 65535), whole_of(header.dataset, "Columns", 1, 65535)


def functional_groups(dataset: Dataset) -> dict[str, list[Any]]:
    """Values of the functional groups by keyword, those of the frames before the shared ones."""
    groups: dict[str, list[Any]] = {}
    for item in (
        *items_of(dataset, "PerFrameFunctionalGroupsSequence"),
        *items_of(dataset, "SharedFunctionalGroupsSequence")[:1],
    ):
        for keyword, value in leaves_of(item):
            groups.setdefault(keyword, []).append(value)
    return groups


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, bytes, MultiValue, list)) and len(value) == 0)
