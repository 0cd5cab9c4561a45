"""`qt.QUiLoader`: .ui files with the widgets of this stand-in."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6.QtCore import QObject
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import QWidget

from .widgets import CTK, QMRML


class UiLoader:
    """`qt.QUiLoader` that knows the widgets above and, as C++ would, makes the .ui file's connections between them."""

    def load(self, device: Any) -> Any:
        loader = QUiLoader()
        for kind in (*CTK, *(k for k in QMRML if issubclass(k, QWidget))):
            loader.registerCustomWidget(kind)
        text = bytes(device.readAll().data())
        from PySide6.QtCore import QBuffer, QByteArray

        buffer = QBuffer()
        buffer.setData(QByteArray(_withoutConnections(text)))
        buffer.open(QBuffer.OpenModeFlag.ReadOnly)
        from .pythonqt import _loading, giveStringSignals

        _loading.append(True)
        try:
            widget = loader.load(buffer)
        finally:
            _loading.pop()

        held = [widget, *widget.findChildren(QObject)]
        for each in held:
            giveStringSignals(each)
        widget.__dict__["_children"] = (
            held  # the Python objects, with what was put into them, live as long as the panel
        )
        root = ElementTree.fromstring(text)
        declared = {element.text for element in root.iter("class")}
        for element in root.iter("widget"):
            kind = str(element.get("class"))
            if kind.startswith(("q", "ctk")) and kind not in declared:
                raise ValueError(f"{kind} is not among the .ui file's custom widgets")
        for connection in root.iter("connection"):
            sender, signal, receiver, slot = (connection.findtext(t) for t in ("sender", "signal", "receiver", "slot"))
            ends = [widget if _name(widget) == n else widget.findChild(QObject, n) for n in (sender, receiver)]
            method = getattr(ends[1], str(slot).split("(")[0])
            alias = getattr(type(ends[0]), "SIGNALS", {}).get(signal)
            getattr(ends[0], alias or str(signal).split("(")[0]).connect(method)
        return widget


def _name(widget: Any) -> str:
    return str(QObject.property(widget, "objectName"))


def _withoutConnections(text: bytes) -> bytes:
    root = ElementTree.fromstring(text)
    for element in root.findall("connections"):
        root.remove(element)
    return ElementTree.tostring(root)
