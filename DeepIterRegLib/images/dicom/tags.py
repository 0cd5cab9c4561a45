"""Values of elements, checked: what is broken is as good as absent where nobody needs it, and refused by its tag where it is needed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.images.dicom.open_file import DAMAGE

_SEVERAL = (MultiValue, list, tuple)


def tag_name(keyword: str) -> str:
    """`Keyword (gggg,eeee)`, as messages name tags."""
    tag = tag_for_keyword(keyword)
    return keyword if tag is None else f"{keyword} {Tag(tag)}".replace(", ", ",")


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The value at the top of a dataset; None if it is absent or empty. Of one that cannot be read, what stands there as text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset.get(keyword)
    except (*DAMAGE, ArithmeticError, LookupError):
        raw = getattr(dataset.get_item(keyword), "value", None)
        value = raw.decode("ascii", "replace") if isinstance(raw, bytes) else None
    return None if value is None or (isinstance(value, (str, bytes, *_SEVERAL)) and len(value) == 0) else value


def uid_of(value: Any) -> UID:
    """A UID from text; pydicom's own way says on the terminal what it thinks of one that is none."""
    return UID(str(value or ""), config.IGNORE)


def syntax_of(dataset: Dataset) -> UID:
    """The transfer syntax that the file names; empty if it names none."""
    with quoting_nothing():
        return uid_of(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))


def bytes_of(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of an element that holds pixels or a table, as they stand in the file; none if it is absent or holds something else."""
    try:
        value = getattr(dataset.get_item(keyword), "value", None)
    except (*DAMAGE, LookupError):
        return b""
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


def table_of(dataset: Dataset) -> Dataset:
    """Another dataset with the same elements, without those that cannot be read; a deep copy would copy the pixels."""
    found: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag in list(dataset.keys()):
        try:
            found[tag] = dataset.get_item(tag)
        except (*DAMAGE, LookupError):
            continue
    return Dataset(found)


def parts_of(value: Any) -> list[Any]:
    """The parts of a value of any multiplicity; none of a sequence."""
    if value is None or isinstance(value, Sequence):
        return []
    return list(value) if isinstance(value, _SEVERAL) else [value]


def text_of(dataset: Dataset, keyword: str) -> str:
    """The first part as text, stripped; empty if absent. Free text: to be compared with, never to be shown."""
    parts = parts_of(value_of(dataset, keyword))
    return _stripped(parts[0]) if parts else ""


def texts_of(value: Any) -> list[str]:
    """The parts of a value as texts, stripped."""
    return [_stripped(part) for part in parts_of(value)]


def number_of(value: Any) -> float:
    """One part as a number; not-a-number for anything else, however it is wrong."""
    if isinstance(value, bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def numbers_of(value: Any) -> tuple[float, ...]:
    """The parts of a value as numbers; a text is parted at backslashes."""
    parts = value.split("\\") if isinstance(value, str) else parts_of(value)
    return tuple(number_of(part) for part in parts)


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; none where it is absent or no sequence."""
    value = value_of(dataset, keyword)
    return list(value) if isinstance(value, Sequence) else []


def elements_of(dataset: Dataset) -> Iterator[DataElement]:
    """Every element that can be read."""
    for tag in list(dataset.keys()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield dataset[tag]
        except (*DAMAGE, ArithmeticError, LookupError):
            continue


def leaves_of(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """Keywords and values in the first items of nested sequences; what cannot be read is left out."""
    for element in elements_of(dataset):
        if element.VR == "SQ":
            if element.value:
                yield from leaves_of(element.value[0])
        elif element.keyword:
            yield element.keyword, element.value


def whole_of(dataset: Dataset, keyword: str, low: int, high: int, usual: int | None = None) -> int:
    """A whole number that is needed.

    Parameters
    ----------
    dataset, keyword
    low, high
        What it can be.
    usual
        In place of an absent one; None where it must be there.

    Raises
    ------
    InputError
        Absent, unreadable, several, not whole, or outside.
    """
    value = value_of(dataset, keyword)
    if value is None and usual is not None:
        return usual
    numbers = numbers_of(value)
    if len(numbers) == 1 and numbers[0].is_integer() and low <= numbers[0] <= high:
        return int(numbers[0])
    raise InputError(
        f"{tag_name(keyword)} is {shown_number(value)}; a whole number from {low} to {high:,} is needed. Copy the file again."
    )


def shown_number(value: Any) -> str:
    """A value that should be a number, for messages: nothing of a text that may be free."""
    numbers = numbers_of(value)
    if value is None:
        return "absent"
    if len(numbers) != 1:
        return f"{len(numbers)} values" if numbers else "unreadable"
    return "unreadable" if math.isnan(numbers[0]) else number_words(numbers[0], ".15g")


def _stripped(value: Any) -> str:
    try:
        return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else str(value).strip("\0 ")
    except (*DAMAGE, LookupError):
        return ""
