"""The section that folds: what is in it is hidden with it, and what the panel hid stays hidden when it opens."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6.QtCore import Property, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QStyle, QStyleOptionButton, QWidget


def _hideWithParent(widget: QWidget) -> None:
    """Hide it because its section is folded; Qt does not remember that as somebody's wish."""
    widget.setVisible(False)
    widget.setAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)


def _isHiddenByPanel(widget: QWidget) -> bool:
    """Whether the panel hid it itself, also while its section was folded."""
    return widget.isHidden() and widget.testAttribute(Qt.WidgetAttribute.WA_WState_ExplicitShowHide)


class ctkCollapsibleButton(QWidget):
    contentsCollapsed = Signal(bool)
    clicked = Signal(bool)
    SIGNALS: ClassVar = {"contentsCollapsed(bool)": "contentsCollapsed"}
    HEADER_PX = 24

    def __init__(self, *args: Any) -> None:
        parent = args[-1] if args and not isinstance(args[-1], str) else None
        super().__init__(parent)
        self._text = args[0] if args and isinstance(args[0], str) else ""
        self._collapsed = False
        self._hidden: list[QWidget] = []
        self.setContentsMargins(0, self.HEADER_PX, 0, 0)

    def _getText(self) -> str:
        return self._text

    def _setText(self, text: str) -> None:
        self._text = text
        self.update()

    def _getCollapsed(self) -> bool:
        return self._collapsed

    def _setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        if collapsed:
            self._hidden = [w for w in self.findChildren(QWidget) if w.parent() is self and not w.isHidden()]
        for widget in self._hidden:
            if collapsed:
                _hideWithParent(widget)
            elif not _isHiddenByPanel(widget):  # as ctk does: what was hidden meanwhile stays so
                widget.setVisible(True)
        self.setMaximumHeight(self.HEADER_PX if collapsed else 16777215)
        self.update()
        self.contentsCollapsed.emit(collapsed)

    text = Property(str, _getText, _setText)
    collapsed = Property(bool, _getCollapsed, _setCollapsed)
    flat = Property(bool, lambda self: False, lambda self, value: None)

    def childEvent(self, event: Any) -> None:
        # Not when it is added: in its constructor it is not yet what it will be, and PySide6 would remember it so.
        child = event.child()
        isNew = event.polished() and isinstance(child, QWidget) and child not in self._hidden
        if isNew and self._collapsed and not _isHiddenByPanel(child):
            self._hidden.append(child)
            _hideWithParent(child)
        super().childEvent(event)

    def minimumSizeHint(self) -> QSize:
        return QSize(80, self.HEADER_PX) if self._collapsed else super().minimumSizeHint()

    def sizeHint(self) -> QSize:
        return QSize(200, self.HEADER_PX) if self._collapsed else super().sizeHint()

    def mousePressEvent(self, event: Any) -> None:
        if event.position().y() < self.HEADER_PX:
            self._setCollapsed(not self._collapsed)

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self.HEADER_PX)
        style = QWidget.style(self)
        style.drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = (
            QStyle.PrimitiveElement.PE_IndicatorArrowRight
            if self._collapsed
            else QStyle.PrimitiveElement.PE_IndicatorArrowDown
        )
        option.rect.adjust(6, 7, 0, -7)
        option.rect.setWidth(10)
        style.drawPrimitive(arrow, option, painter, self)
        painter.setPen(option.palette.buttonText().color())
        painter.drawText(24, 0, 600, self.HEADER_PX, Qt.AlignmentFlag.AlignVCenter, self._text)
        painter.end()
