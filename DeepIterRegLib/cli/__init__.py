"""The command line `deepiterreg`. Parsing and messages only; whatever takes time to import is imported where it is used.

`app` is the program, `options` what commands share; every other file holds commands, and is imported here to be known.
"""

from DeepIterRegLib.cli import (  # noqa: F401
    batch,
    cases,
    experiments,
    export,
    follow,
    roadmap,
    study,
)
from DeepIterRegLib.cli.app import EXIT_CANCELLED, EXIT_INPUT, EXIT_INTERNAL, EXIT_REGISTRATION, app, main

__all__ = ["EXIT_CANCELLED", "EXIT_INPUT", "EXIT_INTERNAL", "EXIT_REGISTRATION", "app", "main"]
