"""Geometry that vendors keep in private elements: one file a vendor, found by lying in this folder.

Such a file has a constant `VALUES` and may have `TAGS`. What they list is read where the standard's own tags are absent, and stays
with a header that is stored without its file (`header_copy`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue


@dataclass(frozen=True)
class PrivateValue:
    """One private element that holds a value of the C-arm's geometry.

    Attributes
    ----------
    name
        Of the field of `GeometryOptions`.
    creator
        The private creator, as the file writes it.
    group, element
        The element's low byte: (gggg,xxee).
    scale
        What the stored number is multiplied by to be in degrees or mm.
    """

    name: str
    creator: str
    group: int
    element: int
    scale: float = 1.0

    @property
    def label(self) -> str:
        """As messages name it."""
        return f"{self.creator} ({self.group:04X},xx{self.element:02X})"


@dataclass(frozen=True)
class PrivateTag:
    """One private element that holds what a standard tag holds, in its units, or what the standard has no tag for.

    Attributes
    ----------
    keyword
        The standard tag's, or a name of the same style.
    creator, group, element
        As in `PrivateValue`.
    """

    keyword: str
    creator: str
    group: int
    element: int


def private_tag(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The numbers of the first private element that is listed for a keyword and is in the file; empty if there is none."""
    for tag in private_tags():
        if tag.keyword == keyword and (numbers := _numbers_of(dataset, tag)):
            return numbers
    return ()


@cache
def private_tags() -> tuple[PrivateTag, ...]:
    """Those of every vendor's file."""
    return tuple(tag for module in _modules() for tag in getattr(module, "TAGS", ()))


@cache
def private_values() -> tuple[PrivateValue, ...]:
    """Those of every vendor's file."""
    return tuple(value for module in _modules() for value in module.VALUES)


def _modules() -> list[ModuleType]:
    return [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]


def _numbers_of(dataset: Dataset, tag: PrivateTag) -> tuple[float, ...]:
    try:
        value = dataset.private_block(tag.group, tag.creator)[tag.element].value
        parts = value if isinstance(value, (MultiValue, list, tuple)) else str(value).split("\\")
        return tuple(float(part) for part in parts)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ()  # absent, or no numbers: as good as absent


def private_numbers(dataset: Dataset, name: str) -> Iterator[tuple[float, PrivateValue]]:
    """What private elements say of one value of the geometry, in degrees or mm, each with where it stands."""
    for value in private_values():
        if value.name != name:
            continue
        try:
            number = float(dataset.private_block(value.group, value.creator)[value.element].value)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue  # absent, or no number: as good as absent
        yield number * value.scale, value


def copy_private_values(dataset: Dataset, target: Dataset) -> None:
    """Put the listed private elements of a file into another dataset, and nothing else that is private."""
    for value in private_values():
        try:
            element = dataset.private_block(value.group, value.creator)[value.element]
            number = float(element.value)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
        block = target.private_block(value.group, value.creator, create=True)
        block.add_new(value.element, "DS", f"{number:.10g}")
    for tag in private_tags():
        if numbers := _numbers_of(dataset, tag):
            block = target.private_block(tag.group, tag.creator, create=True)
            block.add_new(tag.element, "DS", [f"{number:.10g}" for number in numbers])
