"""What the library says, in the panel's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from DeepIterRegLib.common.errors import InputError, RegistrationError

_FIELDS = {
    "--primary-angle": "the primary angle",
    "--secondary-angle": "the secondary angle",
    "--sid": "the source to detector distance",
    "--sod": "the source to isocentre distance",
    "--pixel-spacing": "the pixel spacing",
    "--principal-point": "the principal point",
    "--projection-matrix": "the projection matrix",
    "--cta-mask": "the vessel segmentation of the CTA",
    "--dsa-mask": "the vessel mask of the DSA",
    "--mask-frames": "mask frames",
    "--device": "the device",
    "--seed": "the seed",
    "--init": "the initialisation",
}


def worded(problems: tuple[str, ...]) -> tuple[str, ...]:
    """Problems of the library with the command line's options named as the panel names them."""
    pattern = re.compile("|".join(sorted(map(re.escape, _FIELDS), key=len, reverse=True)) + r"|`deepiterreg segment`")
    return tuple(pattern.sub(lambda m: _FIELDS.get(m.group(), "the segmentation's preview"), p) for p in problems)


@contextmanager
def panelWords() -> Iterator[None]:
    """Errors raised inside speak of the panel, not of the command line."""
    try:
        yield
    except InputError as error:
        raise InputError(worded(error.problems)) from error
    except RegistrationError as error:
        raise RegistrationError(*worded((str(error),))) from error
