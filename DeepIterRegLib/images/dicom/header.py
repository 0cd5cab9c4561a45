"""Open a DICOM file and look values up, wherever classic or enhanced objects keep them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.images.dicom.open_file import DAMAGE, NotDicom, open_dataset


def tag_name(keyword: str) -> str:
    """`Keyword (gggg,eeee)`, as messages name tags."""
    tag = tag_for_keyword(keyword)
    return keyword if tag is None else f"{keyword} {Tag(tag)}".replace(", ", ",")


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
        value = _value(self.dataset, keyword)
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
        value = self.get(keyword)
        parts = value if isinstance(value, (MultiValue, list, tuple)) else [] if value is None else [value]
        return [str(part).strip().upper() for part in parts]

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """The parts of a tag as numbers; what is no number becomes not-a-number; empty if absent."""
        return _numbers(self.get(keyword))

    def number(self, keyword: str) -> float | None:
        """The first part as a number, or None if the tag is absent or not a finite number."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers and math.isfinite(numbers[0]) else None

    def per_frame(self, keyword: str) -> list[tuple[float, ...]]:
        """`numbers` for each of `all`."""
        return [_numbers(value) for value in self.all(keyword)]

    def items(self, keyword: str) -> list[Dataset]:
        """Items of a sequence at the top level."""
        value = self.dataset.get(keyword)
        return list(value) if value is not None and not isinstance(value, (str, bytes)) else []


def open_header(path: str | Path) -> Header:
    """Read a DICOM file.

    Raises
    ------
    InputError
        The file is absent, a folder, not DICOM, or ends in the middle of its header.
    """
    path = Path(path)
    if not path.exists():
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


def functional_groups(dataset: Dataset) -> dict[str, list[Any]]:
    """Values of the functional groups by keyword, those of the frames before the shared ones."""
    groups: dict[str, list[Any]] = {}
    for item in dataset.get("PerFrameFunctionalGroupsSequence") or []:
        for keyword, value in _leaves(item):
            groups.setdefault(keyword, []).append(value)
    for item in (dataset.get("SharedFunctionalGroupsSequence") or [])[:1]:
        for keyword, value in _leaves(item):
            groups.setdefault(keyword, []).append(value)
    return groups


def _leaves(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """Keywords and values in the first items of nested sequences."""
    for element in dataset:
        if element.VR == "SQ":
            if element.value:
                yield from _leaves(element.value[0])
        elif element.keyword:
            yield element.keyword, element.value


def _value(dataset: Dataset, keyword: str) -> Any:
    """A value that may be unreadable (letters in a number): then its raw text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.get(keyword)
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        raw = dataset.get_item(keyword)
        value = getattr(raw, "value", None)
        return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, bytes, MultiValue, list)) and len(value) == 0)


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    parts = value if isinstance(value, (MultiValue, list, tuple)) else str(value).split("\\")
    return tuple(_number(part) for part in parts)


def _number(part: Any) -> float:
    try:
        return float(part)
    except (TypeError, ValueError):
        return math.nan
