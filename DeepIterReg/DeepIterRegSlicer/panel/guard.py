"""What goes wrong when a button is pressed: a person's mistake is a sentence in the bar, a fault of ours a box."""

from __future__ import annotations

import logging
from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from DeepIterRegSlicer.panel.bar import Bar


class Guard:
    """Does what buttons ask for, and tells what hindered it.

    :param bar: where it is told.
    :param refresh: called once the packages are there.
    """

    def __init__(self, bar: Bar, refresh: Callable[[], None]) -> None:
        self._bar, self._refresh = bar, refresh

    def use(self, action: Callable[[], None]) -> None:
        """Do something that needs the library's packages: at the first use they are installed, after asking."""
        from DeepIterRegSlicer import dependencies

        def ensured() -> None:
            self._bar.say([])  # what hindered an earlier press is over
            dependencies.ensure()
            self._refresh()
            action()

        self.guarded(ensured)

    def guarded(self, action: Callable[[], None]) -> None:
        """Do it, and tell what hindered it."""
        try:
            action()
        except Exception as error:
            self.tell(error)

    def tell(self, error: BaseException) -> None:
        """Say what went wrong."""
        from DeepIterRegLib.common.errors import InputError, RegistrationError
        from DeepIterRegSlicer import wording

        if isinstance(error, (InputError, RegistrationError)):
            self._bar.say(wording.said(error))
        elif isinstance(error, MemoryError):
            self._bar.say(
                [_("Not enough memory for this CTA: crop or resample it (Crop Volume), or close other programs.")]
            )
        else:
            self._tellFault(error)

    def _tellFault(self, error: BaseException) -> None:
        from DeepIterRegLib.common.quiet import debugging
        from DeepIterRegLib.common.shown import fault_words

        # Slicer keeps its log, and what an exception says may quote a header.
        what = fault_words(error)
        logging.error("DeepIterReg failed: %s", what, exc_info=error if debugging() else None)
        self._bar.say([_("Something went wrong inside DeepIterReg: {error}").format(error=what)])
        with slicer.util.tryWithErrorDisplay(_("Something went wrong inside DeepIterReg.")):
            raise error if debugging() else RuntimeError(what) from None
