"""What may be shown of a path, of text that is not ours, or of an exception: nothing that may name a patient.

Whoever writes, prints or raises something takes what came from outside through here. Known words name nobody; what is not
known stays out, and is told in other words.
"""

from __future__ import annotations

import math
import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import wraps
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar

from DeepIterRegLib.common.known_words import KNOWN, OF_SERIES

LARGEST = 100_000
MOST = 16  # printable characters of a text from outside
_DIGITS = 4  # in all: a fifth could be that of a birth date or a number of a patient
_NEARLY = 0.8  # of `difflib`: a slip of the keyboard, not another word
_THICKNESS = re.compile(r"\d(\.\d{1,3})?(mm)?")

P = ParamSpec("P")
T = TypeVar("T")

# -- words -----------------------------------------------------------------------------------------------


def names_nobody(text: str) -> bool:
    """Whether a text is made of known words, single letters and at most four digits (zeros in front do not count)."""
    digits = 0
    for chunk in re.findall(r"[^\W_]+", text):
        if chunk.lower() in KNOWN:
            continue
        for piece in re.findall(r"\d+|[A-ZÄÖÜ]+(?![a-zäöü])|[^\W\d_]?[^\W\d_A-ZÄÖÜ]*", chunk):
            if piece.isdigit():
                digits += len(piece.lstrip("0"))
            elif len(piece) > 1 and piece.lower() not in KNOWN:
                return False
    return digits <= _DIGITS


def short(text: str) -> str:
    """The printable characters of a text, at most `MOST`."""
    plain = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return plain if len(plain) <= MOST else plain[: MOST - 3] + "..."


def typed(text: str, near: Iterable[str] = (), mark: str = "") -> str:
    """A text that a person typed, or that stands in a table, between marks: if it names nobody or is nearly one of `near`."""
    if names_nobody(text) or get_close_matches(text, list(near), 1, _NEARLY):
        return f"{mark}{short(text)}{mark}"
    letters = len(text.strip())
    return f"a text of {letters} letters"


def quoted(text: str, near: Iterable[str] = ()) -> str:
    """`typed`, in quotes."""
    return typed(text, near, '"')


def number_words(value: float, form: str = "g") -> str:
    """A number of a header for a message; from `LARGEST` on, where dates and patients' numbers begin, only that it is so large."""
    if math.isnan(value):
        return "not a number"
    return format(value, form) if abs(value) < LARGEST or math.isinf(value) else f"a number beyond {LARGEST:,}"


def label_of(text: str) -> str:
    """The name of a segment, point or thing from a file, where it names nobody; else empty."""
    return short(text) if names_nobody(text) else ""


def called_by(text: str) -> str:
    """A patient or a method as the author of a table calls it, where that names nobody: the table may hold a real name."""
    return label_of(text) or "of another name"


def known_words(text: str, names: frozenset[str]) -> str:
    """The words of a series' description that name nobody, at most `MOST` characters; empty if there are none.

    A term that is also one of the patient's `names` is left out.
    """
    words: list[str] = []
    for word in re.split(r"[\s,;:/_()\[\]+\-^]+", text):
        plain = word.lower().strip(".")
        if (plain in OF_SERIES or _THICKNESS.fullmatch(plain)) and plain not in names:
            if len(" ".join([*words, word])) > MOST:
                break
            words.append(word)
    return " ".join(words)


# -- paths -----------------------------------------------------------------------------------------------

_ROLE: ContextVar[str] = ContextVar("role", default="")


@contextmanager
def called(role: str) -> Iterator[None]:
    """Within, a file whose name may not be shown is called `<role>`: the id of the option that it was given for."""
    before = _ROLE.set(role)
    try:
        yield
    finally:
        _ROLE.reset(before)


def calling(role: str, function: Callable[P, T]) -> Callable[P, T]:
    """The function, `called(role)` while it works."""

    @wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with called(role):
            return function(*args, **kwargs)

    return within


def name_of(path: str | PurePath, role: str = "") -> str:
    """A file or folder for output: its name as typed, without its folders, where it names nobody; else `<role>`.

    Parameters
    ----------
    path
    role
        What the file is for; without it what `called` says, else file or folder.
    """
    name = PurePath(path).name or "."
    if name in (".", "..") or names_nobody(name):
        return name
    return f"<{role or _ROLE.get() or ('folder' if os.path.isdir(path) else 'file')}>"


def place_of(folder: str | PurePath, *names: str, role: str = "out") -> str:
    """Where an output lies, for whoever asked for it: from the current folder, so that it can be opened; elsewhere the folder's name.

    What is made below the current folder was named by whoever typed the command, and is shown as it was named.
    """
    place, here = os.path.realpath(folder), os.path.realpath(os.curdir)
    below = place.startswith(here.rstrip(os.sep) + os.sep)
    return "/".join((Path(place).relative_to(here).as_posix() if below else name_of(folder, role), *names))


# -- exceptions ------------------------------------------------------------------------------------------

_PACKAGE = str(Path(__file__).resolve().parents[1])


def fault_words(error: BaseException) -> str:
    """The kind of an exception and the last line that it went through outside of other packages; its own text may quote a file."""
    frames = traceback.extract_tb(error.__traceback__)
    # Asked here and not when the module is loaded: the answer imports a file that 3D Slicer need not have.
    others = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib"))
    own = [frame for frame in frames if frame.filename.startswith(_PACKAGE) or not frame.filename.startswith(others)]
    ours: Sequence[Any] = own or frames
    where = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}{where}"
