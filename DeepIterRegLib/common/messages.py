"""What a person is told, as data: faults, warnings and notes that name the options concerned, for each face to word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from DeepIterRegLib.common.errors import InputError, keep_notes, notes_of


@dataclass(frozen=True)
class Remedy:
    """An option that mends what is wrong, and the value to give it; empty where only the person knows the value."""

    option: str
    value: str = ""


@dataclass(frozen=True)
class Face:
    """How a face (command line, table, panel, console) speaks of options.

    Attributes
    ----------
    name
        From an option's id to its name there; empty where this face does not have it.
    give, give_value
        The request to give `{name}`, and to give it a `{value}`.
    """

    name: Callable[[str], str]
    give: str = "Give {name}."
    give_value: str = "Give {name} {value}."
    either: str = "{first} or {last}"


class Message(str):
    """A sentence or more for a person, in neutral words, that remembers what it is made of.

    As a string it names options by their id; `word` names them as a face does.

    Parameters
    ----------
    found
        What was found and where (tag, file, field), without a full stop.
    at
        The option whose value is at fault.
    advice
        What to do where no option helps: a whole sentence.
    give
        Options that mend it, any one of them.
    before, after
        What stands around it: the run or the row that it is about, what was done instead.
    """

    found: str
    at: str
    advice: str
    give: tuple[Remedy, ...]
    before: str
    after: str

    def __new__(
        cls,
        found: str,
        *,
        at: str = "",
        advice: str = "",
        give: Iterable[str | Remedy] = (),
        before: str = "",
        after: str = "",
    ) -> Message:
        remedies = tuple(Remedy(one) if isinstance(one, str) else one for one in give)
        text = _worded(found, at, advice, remedies, before, after, NEUTRAL)
        self = super().__new__(cls, text)
        self.found, self.at, self.advice, self.give = found, at, advice, remedies
        self.before, self.after = before, after
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # By its parts: pickle's own way makes it of its text, which may get another full stop.
        return _remade, (self.found, self.at, self.advice, self.give, self.before, self.after)


NEUTRAL = Face(lambda option: f"`{option}`")


def word(message: str, face: Face) -> str:
    """A message with its options named as `face` names them; advice that the face cannot follow is left out."""
    if not isinstance(message, Message):
        return message
    return _worded(message.found, message.at, message.advice, message.give, message.before, message.after, face)


def within(message: str, before: str = "", after: str = "") -> str:
    """The message with words around it; it stays what it is."""
    if not isinstance(message, Message):
        return before + message + after
    return Message(
        message.found,
        at=message.at,
        advice=message.advice,
        give=message.give,
        before=before + message.before,
        after=message.after + after,
    )


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Problems raised within begin with the name of the file that they are of, unless they have it already; nothing without a name."""
    try:
        yield
    except InputError as error:
        if not name or all(name in problem for problem in error.problems):
            raise
        named = [problem if name in problem else within(problem, f"{name}: ") for problem in error.problems]
        renamed = InputError(named)
        keep_notes(renamed, notes_of(error))
        raise renamed from error


def _worded(found: str, at: str, advice: str, give: tuple[Remedy, ...], before: str, after: str, face: Face) -> str:
    where = f"{face.name(at)}: " if at and face.name(at) else ""
    if where and not before:
        where = where[0].upper() + where[1:]
    sentences = [before + where + _ended(found), advice, _request(give, face)]
    return " ".join(sentence for sentence in sentences if sentence) + after


def _request(give: tuple[Remedy, ...], face: Face) -> str:
    """The sentence that asks for any one of the options that the face has."""
    offered = [remedy for remedy in give if face.name(remedy.option)]
    if not offered:
        return ""
    if len(offered) == 1 and offered[0].value:
        return face.give_value.format(name=face.name(offered[0].option), value=offered[0].value)
    names = [face.name(remedy.option) + (f" {remedy.value}" if remedy.value else "") for remedy in offered]
    listed = names[0] if len(names) == 1 else face.either.format(first=", ".join(names[:-1]), last=names[-1])
    return face.give.format(name=listed)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else sentence + "."


def _remade(found: str, at: str, advice: str, give: tuple[Remedy, ...], before: str, after: str) -> Message:
    return Message(found, at=at, advice=advice, give=give, before=before, after=after)
