"""`qt` and `ctk` on PySide6, made as strict as PythonQt: attribute order, no keywords, string signals, tuples for lists.

PySide6's classes are changed in place, in this process only, so that widgets made by a .ui file are strict too.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
import types
import weakref
from collections.abc import Callable
from typing import Any

import slicer

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from .application import answers, messages

# Wrapping these would let Shiboken take them for overrides.
VIRTUAL = frozenset(
    """
    event eventFilter metaObject sizeHint minimumSizeHint heightForWidth hasHeightForWidth setVisible metric devType
    paintEngine initPainter redirected sharedPainter inputMethodQuery nativeEvent focusNextPrevChild connectNotify
    disconnectNotify accept reject done exec open initStyleOption hitButton checkStateSet nextCheckState fixup
    validate stepBy clear stepEnabled valueFromText textFromValue showPopup hidePopup sliderChange addItem itemAt
    takeAt setGeometry invalidate expandingDirections geometry isEmpty maximumSize minimumSize spacerItem widget
    layout createWidget createLayout createAction createActionGroup
    """.split()  # noqa: SIM905
)
VIRTUAL_GETTERS = frozenset({"sizeHint", "minimumSizeHint"})  # as properties they would call themselves
WRAPPED = (types.MethodDescriptorType, staticmethod, types.BuiltinFunctionType)
_connections: list[tuple[Any, str, Callable[..., Any], Callable[..., Any]]] = []
_loading: list[bool] = []  # not empty while a .ui file is read
_getProperty, _setProperty = QtCore.QObject.property, QtCore.QObject.setProperty


# -- attributes ----------------------------------------------------------------------------------------


class StrictMethod:
    """A method that takes no keyword arguments and answers with tuples in place of lists."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __get__(self, instance: Any, owner: type) -> Any:
        bound = self.original.__get__(instance, owner) if hasattr(self.original, "__get__") else self.original

        def call(*args: Any, **keywords: Any) -> Any:
            if keywords:
                name = getattr(bound, "__name__", "method")
                raise TypeError(f"called slot does not support kwargs: {owner.__name__}.{name}({', '.join(keywords)})")
            answer = bound(*args)
            return tuple(answer) if type(answer) is list else answer

        call.__name__ = getattr(bound, "__name__", "method")
        return call


class StrictProperty:
    """A Qt property: read and written without parentheses, checked on writing."""

    def __init__(self, name: str, original: Any) -> None:
        self.name, self.original = name, original

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self.original.__get__(None, owner) if hasattr(self.original, "__get__") else self.original
        value = _getProperty(instance, self.name)
        return tuple(value) if type(value) is list else value

    def __set__(self, instance: Any, value: Any) -> None:
        writeProperty(instance, self.name, value)


def writeProperty(instance: Any, name: str, value: Any) -> None:
    """Set a Qt property as PythonQt does: read-only and ill-typed values are errors."""
    described = instance.metaObject().property(instance.metaObject().indexOfProperty(name))
    if not described.isWritable():
        raise AttributeError(f"Property {name!r} of {type(instance).__name__} is not writable")
    kind = described.typeName()
    wrong = (
        (kind == "bool" and not isinstance(value, (bool, int)))
        or (kind in ("int", "uint") and not isinstance(value, int))
        or (kind in ("double", "float") and not isinstance(value, (int, float)))
        or (kind == "QString" and not isinstance(value, str))
    )
    if wrong or not _setProperty(instance, name, value):
        raise ValueError(
            f"Property {name!r} of type {kind!r} does not accept an object of type {type(value).__name__} ({value!r})"
        )


def _setAttribute(self: Any, name: str, value: Any) -> None:
    kind = type(self)
    known = inspect.getattr_static(kind, name, None)
    if kind.__module__.startswith(("PySide6", __package__)) and not name.startswith("_"):
        if known is None and isinstance(value, QtCore.QObject) and _loading:
            return  # PySide6's loader hangs the children on the top widget; Slicer's does not
        if known is None:
            raise AttributeError(f"{kind.__name__} has no attribute {name!r}")
        if isinstance(value, QtCore.SignalInstance):  # PySide6 keeps a signal where it was asked for
            self.__dict__[name] = value
            return
        if isinstance(known, QtCore.Property):
            return writeProperty(self, name, list(value) if isinstance(value, tuple) else value)
        if not hasattr(known, "__set__"):
            raise AttributeError(f"{name!r} of {kind.__name__} is a method, not a property: it cannot be assigned")
    if known is not None and hasattr(known, "__set__"):
        known.__set__(self, value)
    else:
        self.__dict__[name] = value


def _withoutKeywords(kind: type) -> None:
    original = kind.__init__

    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        if keywords:
            raise TypeError(f"{kind.__name__}: constructors take no keyword arguments ({', '.join(keywords)})")
        original(self, *args)
        if isinstance(self, QtCore.QObject):
            giveStringSignals(self)

    kind.__init__ = __init__  # type: ignore[misc]


def makeStrict(kind: type) -> None:
    """Change one class of PySide6, or of this stand-in, in place."""
    properties = []
    if issubclass(kind, QtCore.QObject):
        meta = kind.staticMetaObject
        properties = [meta.property(n).name() for n in range(meta.propertyOffset(), meta.propertyCount())]
        properties = [name for name in properties if name not in VIRTUAL_GETTERS]
    for name, value in list(vars(kind).items()):
        if name.startswith("__") or name in VIRTUAL or name.endswith("Event") or name in properties:
            continue
        if isinstance(value, WRAPPED):
            setattr(kind, name, StrictMethod(value))
    if kind.__module__.startswith("PySide6"):
        for name in properties:
            setattr(kind, name, StrictProperty(name, vars(kind).get(name, getattr(kind, name, None))))
        # A subclass that redeclares a getter would hide the inherited property.
        if issubclass(kind, QtCore.QObject):
            inherited = {meta.property(n).name() for n in range(meta.propertyOffset())}
            for name in (inherited & set(vars(kind))) - VIRTUAL_GETTERS:
                if not isinstance(vars(kind)[name], StrictProperty):
                    original = vars(kind)[name]
                    original = original.original if isinstance(original, StrictMethod) else original
                    setattr(kind, name, StrictProperty(name, original))
    _withoutKeywords(kind)
    kind.__setattr__ = _setAttribute  # type: ignore[assignment]


# -- signals -------------------------------------------------------------------------------------------


def _trimmed(slot: Callable[..., Any]) -> Callable[..., Any]:
    """A slot that gets only as many arguments as a plain function declares, all of them otherwise."""
    function = getattr(slot, "__func__", slot)
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return lambda *args: slot(*args)
    takes = code.co_argcount - (1 if inspect.ismethod(slot) else 0)
    return lambda *args: slot(*args[:takes])


def connect(self: Any, signal: str, slot: Callable[..., Any]) -> bool:
    """`widget.connect("clicked(bool)", fn)`."""
    if not isinstance(signal, str) or not callable(slot):
        raise TypeError("connect() wants a signal's signature and a callable")
    adapter = _trimmed(slot)
    aliases = getattr(type(self), "SIGNALS", {})
    if signal in aliases:
        getattr(self, aliases[signal]).connect(adapter)
    else:
        normalized = QtCore.QMetaObject.normalizedSignature(signal)
        name = normalized.data().decode() if hasattr(normalized, "data") else str(normalized)
        if aliases and type(self).__module__.startswith(__package__ or "") and _isOwnSignal(self, name):
            raise AttributeError(f"{type(self).__name__} has no signal {signal!r}")
        if self.metaObject().indexOfSignal(name) < 0:
            raise AttributeError(f"signal {signal!r} does not exist on {type(self).__name__}")
        _qtConnect(self, QtCore.SIGNAL(name), adapter)
    _connections.append((self, signal, slot, adapter))
    return True


def _isOwnSignal(self: Any, name: str) -> bool:
    """Whether a signature names a signal that the stand-in implements under another one."""
    return name.split("(")[0] in {own for own in type(self).SIGNALS.values()}


def disconnect(self: Any, signal: str, slot: Callable[..., Any]) -> bool:
    """Undo one `connect`; False where there was none, as in Slicer."""
    for n, (sender, name, known, adapter) in enumerate(_connections):
        if sender is self and name == signal and known == slot:
            aliases = getattr(type(self), "SIGNALS", {})
            if signal in aliases:
                getattr(self, aliases[signal]).disconnect(adapter)
            else:
                _qtDisconnect(self, QtCore.SIGNAL(signal), adapter)
            del _connections[n]
            return True
    return False


def giveStringSignals(instance: Any) -> None:
    """Let one object connect by signature. Shiboken answers for these two names before it looks into the class, not into the instance."""
    weak = weakref.ref(instance)

    def connectOne(*args: Any) -> Any:
        # PySide6's own QTimer.singleShot comes by here with (sender, signal, slot).
        return connect(weak(), *args) if len(args) == 2 else _qtConnect(*args)

    instance.__dict__["connect"] = connectOne
    instance.__dict__["disconnect"] = lambda signal, slot: disconnect(weak(), signal, slot)


_qtConnect: Any = None
_qtDisconnect: Any = None


def _exec(self: Any, *args: Any) -> Any:
    return self.exec(*args)


# -- modules -------------------------------------------------------------------------------------------


class QtModule(types.ModuleType):
    """`qt`: Qt's classes only, nothing of PySide6's own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("Q"):
            for module in (QtCore, QtGui, QtWidgets):
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"qt has no attribute {name!r}")


def _qtNamespace() -> Any:
    """`qt.Qt`: unscoped names only, as the scoped ones are not safe in PythonQt."""
    members: dict[str, Any] = {}
    for value in vars(QtCore.Qt).values():
        if isinstance(value, type) and hasattr(value, "__members__"):
            members.update(value.__members__)
    return type("Qt", (), members)


class FileDialog:
    """`qt.QFileDialog`: answers what the test laid down in `standin.answers`."""

    @staticmethod
    def getOpenFileName(*args: Any) -> str:
        return str(answers.get("getOpenFileName", ""))

    @staticmethod
    def getExistingDirectory(*args: Any) -> str:
        return str(answers.get("getExistingDirectory", ""))


class MessageBox(QtWidgets.QMessageBox):
    """`ctk.ctkMessageBox`: never waits; the text is kept in `standin.messages`."""

    def exec(self) -> Any:
        messages.append(_getProperty(self, "text"))
        return answers.get("messageBox", QtWidgets.QMessageBox.Ok)

    exec_ = exec


application: Any = None


def installQt() -> None:
    """Make PySide6 strict and put `qt` and `ctk` into `sys.modules`."""
    global application, _qtConnect, _qtDisconnect
    if "qt" in sys.modules:
        return
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    _qtConnect, _qtDisconnect = QtCore.QObject.connect, QtCore.QObject.disconnect
    from . import loader, widgets

    strict: list[type] = []
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):  # PySide6 makes its types when they are first asked for
            kind = getattr(module, name)
            if name.startswith("Q") and isinstance(kind, type) and _canChange(kind):
                makeStrict(kind)
                strict.append(kind)
    for kind in (*widgets.CTK, *widgets.QMRML, MessageBox):
        kind.__setattr__ = _setAttribute  # type: ignore[method-assign,assignment]
        _withoutKeywords(kind)
    QtCore.QObject.name = StrictProperty("objectName", None)  # type: ignore[attr-defined]
    QtCore.QObject.className = lambda self: self.metaObject().className()  # type: ignore[attr-defined]
    QtWidgets.QDialog.exec_ = _exec  # type: ignore[attr-defined]
    QtWidgets.QMenu.exec_ = _exec  # type: ignore[attr-defined]
    qt = QtModule("qt")
    qt.Qt = _qtNamespace()  # type: ignore[attr-defined]
    qt.QUiLoader = loader.UiLoader  # type: ignore[attr-defined]
    qt.QFileDialog = FileDialog  # type: ignore[attr-defined]
    ctk = types.ModuleType("ctk")
    for kind in widgets.CTK:
        setattr(ctk, kind.__name__, kind)
    ctk.ctkMessageBox = MessageBox  # type: ignore[attr-defined]
    for kind in widgets.QMRML:
        setattr(slicer, kind.__name__, kind)
    sys.modules.update(qt=qt, ctk=ctk)


def _canChange(kind: type) -> bool:
    return not hasattr(kind, "__members__") and not issubclass(
        kind, (QtCore.QCoreApplication, QtCore.QMetaObject, QtCore.QMetaProperty, QtCore.QEvent, BaseException)
    )


def processEvents(seconds: float) -> None:
    """Run the event loop for at least `seconds`, deleting what is to be deleted later."""
    end = time.perf_counter() + seconds
    while True:
        QtCore.QCoreApplication.processEvents()
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
        if time.perf_counter() >= end:
            return
        time.sleep(0.002)


def activeTimers() -> list[Any]:
    """Timers that something is connected to, and that run."""
    timers = [sender for sender, *_ in _connections if isinstance(sender, QtCore.QTimer)]
    return [timer for timer in timers if timer.active]


def topLevelWidgets() -> tuple[Any, ...]:
    return tuple(QtWidgets.QApplication.topLevelWidgets())


def newModuleWidget(name: str) -> Any:
    from .widgets import qSlicerScriptedLoadableModuleWidget

    return qSlicerScriptedLoadableModuleWidget(name)


UiToolsLoader = QtUiTools.QUiLoader
