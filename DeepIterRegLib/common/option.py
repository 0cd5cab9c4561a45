"""An option, declared once at the field of a dataclass that holds it; every face is made from the declaration, or checked against it.

The dataclasses are the groups of `common.options`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import quoted
from DeepIterRegLib.common.user_input import frame_numbers, matrix_file, numbers

Kind = Literal[
    "file",
    "number",
    "whole number",
    "numbers",
    "point",
    "frames",
    "text",
    "choice",
    "yes or no",
    "matrix file",
    "start",
]


@dataclass(frozen=True)
class Option:
    """What a person may choose, as every face needs it.

    Attributes
    ----------
    name
        The id: the command line's option with `_` for `-`, the column of the table of cases.
    kind
        What is typed; `start` is one of the choices or else a pose file.
    help
        One or two short sentences.
    default
        Taken from the field.
    unit
    low, high
        Range, both included.
    choices, old_choices
        Words to choose from, and earlier spellings of them, which are still read.
    counts
        How many numbers there may be.
    metavar
        What stands for the value in the command line's help.
    unset
        What is done where nothing is given.
    labels
        A file behind whose name labels may stand: `FILE:2,3`.
    each
        May be given for each DSA: `shared`, once for all or once for each; `own`, only once for each.
    panel
        The label in the panel; empty where the panel does not have it, for the reason `not_in_panel`.
    parameter
        The field of the panel's parameter node; empty where the value lies with the angiogram's node.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    old_choices: Mapping[str, str] = field(default_factory=dict)
    counts: tuple[int, ...] = ()
    metavar: str = ""
    unset: str = ""
    labels: bool = False
    each: Literal["", "shared", "own"] = ""
    panel: str = ""
    parameter: str = ""
    not_in_panel: str = ""

    @property
    def range_words(self) -> str:
        """`20 to 200 HU`, `from 0`; empty where anything goes."""
        if self.low == -math.inf:
            return ""
        unit = f" {self.unit}" if self.unit else ""
        return f"from {self.low:g}{unit}" if self.high == math.inf else f"{self.low:g} to {self.high:g}{unit}"


def declared(option: Option, default: Any = None) -> Any:
    """A field of a frozen dataclass that holds what was chosen for an option."""
    # The default stands once, at the field: two of them would part some day.
    return field(default=default, metadata={"option": replace(option, default=default)})


def options_of(*groups: type) -> dict[str, Option]:
    """The options declared by the fields of dataclasses, by id, in their order."""
    found = (member.metadata.get("option") for group in groups for member in fields(group))
    return {option.name: option for option in found if option is not None}


Group = TypeVar("Group")


def part_of(whole: Any, group: type[Group], **others: Any) -> Group:
    """The group's fields as `whole`, which has fields of the same names, holds them; `others` replace some."""
    return group(**{**{member.name: getattr(whole, member.name) for member in fields(group)}, **others})  # type: ignore[arg-type]


def value_of(option: Option, text: str, folder: Path, at: str = "") -> Any:
    """What was typed, as the group's field holds it.

    Parameters
    ----------
    option
    text
        Not empty.
    folder
        Of which relative paths are meant.
    at
        The id under which it was typed, if not the option's own (`sid2`: for the second DSA).

    Raises
    ------
    InputError
        Not of the option's kind, or out of its range.
    """
    at = at or option.name
    match option.kind:
        case "file":
            return folder / text
        case "matrix file":
            return matrix_file(folder / text, at)
        case "number":
            return in_range(option, numbers(text, at, (1,))[0], at)
        case "whole number":
            # `int` would also take "1_0", " 7" and "-3".
            if not text.isdecimal():
                raise InputError(Message(f"{quoted(text)} is not a whole number from {max(option.low, 0):g}", at=at))
            return in_range(option, int(text), at)
        case "numbers":
            found = numbers(text, at, option.counts)
            # One number stands for both.
            return (found[0], found[-1])
        case "point":
            return tuple(numbers(text, at, (3,)))
        case "frames":
            return frame_numbers(text, at)
        case "yes or no":
            return choice(text, ("no", "yes"), at) == "yes"
        case "choice":
            return choice(option.old_choices.get(text, text), option.choices, at)
        case "start":
            known = option.old_choices.get(text, text)
            # What is no known word is a file. That it is not there is told where it is read.
            return known if known in option.choices else str(folder / text)
        case "text":
            return text


def choice(text: str, known: tuple[str, ...], at: str) -> str:
    """One of the known words.

    Raises
    ------
    InputError
        Another word.
    """
    if text not in known:
        raise InputError(Message(f"{quoted(text, known)} is not one of {', '.join(known)}", at=at))
    return text


def in_range(option: Option, value: float, at: str = "") -> Any:
    """The value, if it is in the option's range.

    Raises
    ------
    InputError
        It is not.
    """
    # Written so that not-a-number is out of every range.
    if not option.low <= value <= option.high:
        raise InputError(Message(f"{value:g} is not in the range {option.range_words}", at=at or option.name))
    return value
