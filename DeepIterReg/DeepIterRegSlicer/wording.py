"""What the library says, in the panel's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from slicer.i18n import tr as _

from DeepIterRegLib.common.errors import InputError, RegistrationError, keep_notes, notes_of
from DeepIterRegLib.common.messages import Face, word
from DeepIterRegSlicer.option_labels import labels


def _face() -> Face:
    known = labels()
    return Face(
        lambda option: f'"{known[option]}"' if option in known else "",
        _("Set {name}."),
        _("Set {name} to {value}."),
        _("{first} or {last}"),
    )


def worded(messages: Iterable[str]) -> tuple[str, ...]:
    """Messages of the library with the options named as the panel labels them."""
    face = _face()
    return tuple(word(message, face) for message in messages)


@contextmanager
def panelWords() -> Iterator[None]:
    """Errors raised inside speak of the panel."""
    try:
        yield
    except InputError as error:
        raise _noted(InputError(worded(error.problems)), error) from error
    except RegistrationError as error:
        raise _noted(RegistrationError(*worded(error.args)), error) from error


def said(error: Exception) -> tuple[str, ...]:
    """What is wrong, then what was noted of the inputs before it was found."""
    return (*getattr(error, "problems", (str(error),)), *notes_of(error))


def _noted(error: Exception, source: Exception) -> Exception:
    keep_notes(error, worded(notes_of(source)))
    return error
