"""A strict stand-in for the parts of Slicer that `slicer-core` lacks: PythonQt (`qt`, `ctk`, qMRML widgets) on PySide6, some of `slicer.*`.

MRML is always the real one of `slicer-core`. This is a test tool, not Slicer: code that PythonQt would reject must not pass here.

Use: `standin.installSlicer()` for code without Qt (scene, application, modules, base classes, parameter node, packaging);
`standin.install()` for everything. Both may be called again. `standin.newScene()` swaps in an empty scene. `standin.loadModule(path)`
does what Slicer's module factory does. `standin.slotErrors` holds every exception raised in a slot, an observer or a timer: Slicer
prints these and goes on, so a test must look.

It rejects: keyword arguments to methods and constructors; unknown attributes set on widgets; values of the wrong type for a property;
parentheses on properties; string signals that do not exist (Slicer only warns); scoped enums of `qt.Qt`; `qt.Signal`, `qt.Slot` and
names of PySide6 that are not Qt's; node types that do not exist; parameter node values of the wrong type or out of range; widgets whose
exact type has no connector.

As in Slicer, the left button of a slice view places points in Place mode and Shift moves the crosshair, unless an observer of
higher priority aborts the event; a layout's views get their size later; place widgets are grey without a list; a scene may be
opened into a panel that is open (`scenes.openInto`); `charged` counts what changes of nodes cost there. `panels.choose` and
`panels.press` refuse what is grey, as a person's hand does.

It does not know: which enum names of other classes than `Qt` PythonQt scopes; overload resolution of PythonQt; Qt 5 against Qt 6 beyond
what PySide6 itself rejects; keyword arguments to virtual methods such as `setVisible`; `sizeHint` as a property; layout and look of the
real ctk and qMRML widgets; modal boxes (they answer at once); what is drawn in a 3D view
(`openViews` brings views without windows; before there is no layout manager, as with `--no-main-window`).
Green here means "not known to be wrong", not "seen in Slicer".
"""

from __future__ import annotations

from typing import Any

from .application import (
    answers,
    hidePackages,
    installSlicer,
    messages,
    newScene,
    openViews,
    packagingCalls,
    slotErrors,
)
from .costs import charged
from .modules import loadModule

__all__ = [
    "activeTimers",
    "answers",
    "charged",
    "hidePackages",
    "install",
    "installSlicer",
    "loadModule",
    "messages",
    "newScene",
    "openViews",
    "packagingCalls",
    "processEvents",
    "slotErrors",
]


def install() -> None:
    """Put `qt`, `ctk`, the qMRML widgets and what `installSlicer` brings where module code imports them from."""
    installSlicer()
    from .pythonqt import installQt

    installQt()


def activeTimers() -> list[Any]:
    """Every `qt.QTimer` of the module that is running, whoever holds it."""
    from .pythonqt import activeTimers

    return activeTimers()


def processEvents(seconds: float = 0.0) -> None:
    """Run the event loop for a while, as Slicer's would."""
    from .pythonqt import processEvents

    processEvents(seconds)
