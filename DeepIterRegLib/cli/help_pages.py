"""Help that is there at once: typer draws it by rich, of which it imports twice as much as it uses here."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import ModuleType

# What only help in Markdown and typer's own tracebacks need: a parser of Markdown, and highlighters of source code.
_UNUSED = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}


def import_drawing() -> None:
    """Import what draws help; what it never uses is stood in for while it is imported, and found by whoever wants it later."""
    stood_in = {name: _stand_in(name, needed) for name, needed in _UNUSED.items() if name not in sys.modules}
    sys.modules.update(stood_in)
    try:
        # Another version of typer may draw it otherwise, and then imports what it needs when it needs it.
        with suppress(ImportError):
            import typer.rich_utils  # noqa: F401
    finally:
        for name in stood_in:
            del sys.modules[name]


def _stand_in(name: str, needed: str) -> ModuleType:
    module = ModuleType(name)
    setattr(module, needed, type(needed, (), {}))
    return module
