"""`_`: a text in the language of the application. For files that also run on slicer-core, which translates nothing."""

from __future__ import annotations

try:
    from slicer.i18n import tr as _
except ImportError:

    def _(text: str) -> str:
        return text


__all__ = ["_"]
