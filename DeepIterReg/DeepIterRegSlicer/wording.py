"""What the library says, in the panel's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from slicer.i18n import tr as _

from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.common.messages import Face, word


def labels() -> dict[str, str]:
    """The panel's label of each option that the panel has, by the option's id; a test compares them with the declarations."""
    return {
        "cta": _("CTA"),
        "dsa": _("DSA"),
        "landmarks": _("Points on the CTA"),
        "dsa_landmarks": _("Points on the DSA"),
        "reference": _("Reference transform"),
        "mask_frames": _("Mask frames"),
        "dsa_mask": _("DSA vessels"),
        "primary_angle": _("Primary angle"),
        "secondary_angle": _("Secondary angle"),
        "sid": _("Source to detector"),
        "sod": _("Source to isocentre"),
        "pixel_spacing": _("Pixel spacing"),
        "principal_point": _("Principal point"),
        "cta_mask": _("CTA vessels"),
        "cta_vein_mask": _("CTA veins"),
        "contrast_hu": _("Threshold above brain"),
        "subtraction": _("Subtraction"),
        "first_frame": _("First frame"),
        "last_frame": _("Last frame"),
        "init": _("Start from"),
        "weights": _("Weights file"),
        "preset": _("Preset"),
        "refine_geometry": _("Refine geometry"),
        "between_runs": _("Moved between runs"),
        "device": _("Device"),
        "seed": _("Seed"),
    }


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
        raise InputError(worded(error.problems)) from error
    except RegistrationError as error:
        raise RegistrationError(*worded(error.args)) from error
