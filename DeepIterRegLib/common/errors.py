"""Errors whose text is meant for the person who made the input, not for the programmer."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Something a person supplied cannot be used.

    Each problem says what was found, where (tag, file, field) and what to do; one that an option mends or causes is a
    `messages.Message`, which faces word. All problems known at that point are raised together.

    Parameters
    ----------
    problems
        One or several.

    Attributes
    ----------
    problems : tuple of str
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class GeometryError(InputError):
    """The C-arm geometry is missing, contradictory or out of range."""


class RegistrationError(RuntimeError):
    """The input could be read but no pose could be found; one sentence says why."""


def keep_notes(error: Exception, notes: Iterable[str]) -> None:
    """Let an error carry what was said of the inputs until then (which series was read, say), for `notes_of`."""
    for note in notes:
        error.add_note(note)


def notes_of(error: BaseException) -> tuple[str, ...]:
    """What `keep_notes` left there; each face says it beside the problems."""
    return tuple(getattr(error, "__notes__", ()))


class Cancelled(Exception):
    """The caller's `should_stop` asked to end the work."""
