"""The ctk and qMRML widgets that the module's .ui uses: their properties, methods and signals, not their looks."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import slicer
import vtk
from PySide6.QtCore import Property, QObject, Qt, Signal
from PySide6.QtGui import QColor, QPainter
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from shiboken6 import isValid

from .sections import ctkCollapsibleButton


class ctkSliderWidget(QWidget):
    valueChanged = Signal(float)
    SIGNALS: ClassVar = {"valueChanged(double)": "valueChanged"}
    STEPS = 1000

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider, self._box = QSlider(Qt.Orientation.Horizontal), QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._slider.setRange(0, self.STEPS)
        self._box.setRange(0.0, 99.0)
        self._page, self._tracking = 10.0, True
        self._box.valueChanged.connect(self._onValue)
        self._slider.valueChanged.connect(self._onSlider)

    def _onValue(self, value: float) -> None:
        self._place(value)
        self.valueChanged.emit(value)

    def _place(self, value: float) -> None:
        low, high = self._getMinimum(), self._getMaximum()
        self._slider.blockSignals(True)
        self._slider.setValue(round((value - low) / max(high - low, 1e-9) * self.STEPS))
        self._slider.blockSignals(False)

    def _onSlider(self, step: int) -> None:
        low, high = self._getMinimum(), self._getMaximum()
        self._box.setValue(low + (high - low) * step / self.STEPS)

    def _getValue(self) -> float:
        return float(QObject.property(self._box, "value"))

    def _setValue(self, value: float) -> None:
        self._box.setValue(value)

    def _getMinimum(self) -> float:
        return float(QObject.property(self._box, "minimum"))

    def _setMinimum(self, value: float) -> None:
        self._box.setMinimum(value)
        self._place(self._getValue())

    def _getMaximum(self) -> float:
        return float(QObject.property(self._box, "maximum"))

    def _setMaximum(self, value: float) -> None:
        self._box.setMaximum(value)
        self._place(self._getValue())

    value = Property(float, _getValue, _setValue)
    minimum = Property(float, _getMinimum, _setMinimum)
    maximum = Property(float, _getMaximum, _setMaximum)
    singleStep = Property(
        float, lambda self: QObject.property(self._box, "singleStep"), lambda self, v: self._box.setSingleStep(v)
    )
    pageStep = Property(float, lambda self: self._page, lambda self, v: setattr(self, "_page", v))
    decimals = Property(
        int, lambda self: QObject.property(self._box, "decimals"), lambda self, v: self._box.setDecimals(v)
    )
    prefix = Property(str, lambda self: QObject.property(self._box, "prefix"), lambda self, v: self._box.setPrefix(v))
    suffix = Property(str, lambda self: QObject.property(self._box, "suffix"), lambda self, v: self._box.setSuffix(v))
    tracking = Property(bool, lambda self: self._tracking, lambda self, v: setattr(self, "_tracking", v))

    def setValue(self, value: float) -> None:
        self._setValue(value)


class qMRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)
    SIGNALS: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not None and not isinstance(scene, slicer.vtkMRMLScene):
            raise TypeError("setMRMLScene() wants a vtkMRMLScene")
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The module panel's parent: calls `setup`, `enter`, `exit` of the Python widget."""

    def __init__(self, name: str) -> None:
        super().__init__(None)
        QVBoxLayout(self)
        self._name, self._entered, self._python = name, False, None

    isEntered = Property(bool, lambda self: self._entered)

    def self(self) -> Any:
        return self._python

    def reload(self) -> None:
        """A new Python widget in this one."""
        import sys

        self._python = getattr(sys.modules[self._name], self._name + "Widget")(self)
        setattr(slicer.modules, self._name + "Widget", self._python)
        self._python.setup()

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._python, "exit"):
            self._python.exit()


class qMRMLSortFilterProxyModel(QObject):
    """Which nodes a selector leaves out."""

    def __init__(self, selector: Any) -> None:
        super().__init__(selector)
        self._ids: list[str] = []

    def _setIds(self, ids: Any) -> None:
        self._ids = list(ids)
        self.parent()._refresh()

    hiddenNodeIDs = Property("QStringList", lambda self: list(self._ids), _setIds)  # type: ignore[arg-type]


class qMRMLNodeComboBox(QWidget):
    currentNodeChanged = Signal(object)
    nodeAddedByUser = Signal(object)
    SIGNALS: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observers: list[tuple[Any, int]] = []
        self._types: list[str] = []
        self._attributes: list[tuple[str, str, str | None]] = []
        self._flags = {
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
        }
        self._noneDisplay, self._baseName = "None", ""
        self._nodes: list[Any] = []
        self._current: Any = None
        self._combo = QComboBox()
        self._combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.activated.connect(self._onActivated)
        self._model = qMRMLSortFilterProxyModel(self)
        self._refresh()

    def sortFilterProxyModel(self) -> Any:
        return self._model

    def _fits(self, node: Any) -> bool:
        kind = node.GetClassName()
        fits = kind in self._types or (self._flags["showChildNodeTypes"] and any(node.IsA(t) for t in self._types))
        for wanted, name, value in self._attributes:
            if node.IsA(wanted):
                fits = fits and node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
        hidden = node.GetID() in self._model._ids
        return bool(fits and not hidden and (self._flags["showHidden"] or not node.GetHideFromEditors()))

    def _refresh(self) -> None:
        nodes = (
            [] if self._scene is None else [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
        )
        self._nodes = [node for node in nodes if self._fits(node)]
        lost = self._current is not None and self._current not in self._nodes
        self._combo.blockSignals(True)
        self._combo.clear()
        if self._flags["noneEnabled"] or not self._nodes:
            QComboBox.addItem(self._combo, self._noneDisplay if self._flags["noneEnabled"] else self._prompt())
        for node in self._nodes:
            QComboBox.addItem(self._combo, node.GetName() or "")
        self._combo.blockSignals(False)
        if lost or (self._current is None and self._nodes and not self._flags["noneEnabled"]):
            self.setCurrentNode(None if self._flags["noneEnabled"] or not self._nodes else self._nodes[0])
        else:
            self._showCurrent()

    def _prompt(self) -> str:
        return "Select a " + (self._types[0].removeprefix("vtkMRML").removesuffix("Node") if self._types else "node")

    def _showCurrent(self) -> None:
        first = self._combo.itemText(0) if not self._nodes or self._flags["noneEnabled"] else None
        offset = 0 if first is None else 1
        index = 0 if self._current is None else self._nodes.index(self._current) + offset
        self._combo.blockSignals(True)
        self._combo.setCurrentIndex(index)
        self._combo.blockSignals(False)

    def _onActivated(self, index: int) -> None:
        index -= 1 if self._flags["noneEnabled"] else 0
        self.setCurrentNode(self._nodes[index] if 0 <= index < len(self._nodes) else None)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        unknown = [name for name in self._types if not hasattr(slicer, name)]
        if unknown:
            raise ValueError(f"there are no node types {unknown}")
        for held, tag in self._observers:
            held.RemoveObserver(tag)
        self._observers, self._scene, self._current = [], scene, None
        if scene is not None:
            weak = weakref.ref(self)

            def onScene(caller: Any, event: str) -> None:
                widget = weak()
                if widget is not None and isValid(widget) and not scene.IsBatchProcessing():
                    widget._refresh()

            events = (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent)
            closing = (slicer.vtkMRMLScene.EndBatchProcessEvent, slicer.vtkMRMLScene.EndCloseEvent)
            self._observers = [(scene, scene.AddObserver(event, onScene)) for event in (*events, *closing)]
        self._refresh()

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            node = None if self._scene is None else self._scene.GetNodeByID(node)
        if node is not None and not isinstance(node, vtk.vtkObject):
            raise TypeError("setCurrentNode() wants a node")
        if node is not None and node not in self._nodes:
            node = None
        if node is self._current:
            return self._showCurrent()
        self._current = node
        self._showCurrent()
        self.currentNodeChanged.emit(node)

    def setCurrentNodeID(self, nodeID: str | None) -> None:
        self.setCurrentNode(None if not nodeID or self._scene is None else self._scene.GetNodeByID(nodeID))

    def addNode(self, className: str = "") -> Any:
        node = self._scene.AddNewNodeByClass(className or self._types[0], self._baseName or "")
        if self._flags["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def addAttribute(self, nodeType: str, name: str, value: str | None = None) -> None:
        self._attributes.append((nodeType, name, value))
        self._refresh()

    def nodeCount(self) -> int:
        return len(self._nodes)

    def _setTypes(self, types: Any) -> None:
        self._types = [t for t in types if t]
        self._refresh()

    def _setFlag(self, name: str, value: bool) -> None:
        self._flags[name] = value
        self._refresh()

    nodeTypes = Property("QStringList", lambda self: list(self._types), _setTypes)  # type: ignore[arg-type]
    noneDisplay = Property(str, lambda self: self._noneDisplay, lambda self, v: self._setText("_noneDisplay", v))
    baseName = Property(str, lambda self: self._baseName, lambda self, v: self._setText("_baseName", v))
    currentNodeID = Property(
        str,
        lambda self: "" if self._current is None else self._current.GetID(),
        lambda self, v: self.setCurrentNodeID(v),
    )

    def _setText(self, name: str, text: str) -> None:
        setattr(self, name, text)
        self._refresh()

    noneEnabled = Property(bool, lambda s: s._flags["noneEnabled"], lambda s, v: s._setFlag("noneEnabled", v))
    addEnabled = Property(bool, lambda s: s._flags["addEnabled"], lambda s, v: s._setFlag("addEnabled", v))
    removeEnabled = Property(bool, lambda s: s._flags["removeEnabled"], lambda s, v: s._setFlag("removeEnabled", v))
    editEnabled = Property(bool, lambda s: s._flags["editEnabled"], lambda s, v: s._setFlag("editEnabled", v))
    renameEnabled = Property(bool, lambda s: s._flags["renameEnabled"], lambda s, v: s._setFlag("renameEnabled", v))
    showHidden = Property(bool, lambda s: s._flags["showHidden"], lambda s, v: s._setFlag("showHidden", v))
    showChildNodeTypes = Property(
        bool, lambda s: s._flags["showChildNodeTypes"], lambda s, v: s._setFlag("showChildNodeTypes", v)
    )
    selectNodeUponCreation = Property(
        bool, lambda s: s._flags["selectNodeUponCreation"], lambda s, v: s._setFlag("selectNodeUponCreation", v)
    )


class qSlicerMarkupsPlaceWidget(QWidget):
    activeMarkupsFiducialPlaceModeChanged = Signal(bool)
    SIGNALS: ClassVar = {"activeMarkupsFiducialPlaceModeChanged(bool)": "activeMarkupsFiducialPlaceModeChanged"}
    ShowPlaceMultipleMarkupsOption, HidePlaceMultipleMarkupsOption = 0, 1
    ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = 2, 3

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None
        self._placing, self._multiple = False, self.ShowPlaceMultipleMarkupsOption
        button = QToolButton()
        button.setText("✛")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def currentNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        self._node = node
        self.setEnabled(node is not None)  # grey until there is a list

    def setPlaceModeEnabled(self, placing: bool) -> None:
        mode, selection = (
            getattr(slicer.app.applicationLogic(), f"Get{n}Node")() for n in ("Interaction", "Selection")
        )
        if placing and self._node is None:
            return
        if placing:
            selection.SetReferenceActivePlaceNodeClassName(self._node.GetClassName())
            selection.SetActivePlaceNodeID(self._node.GetID())
            mode.SetPlaceModePersistence(0 if self._multiple == self.ForcePlaceSingleMarkup else 1)
            mode.SetCurrentInteractionMode(mode.Place)
        elif self._placing:
            mode.SetCurrentInteractionMode(mode.ViewTransform)
        self._placing = placing
        self.activeMarkupsFiducialPlaceModeChanged.emit(placing)

    placeModeEnabled = Property(bool, lambda self: self._placing, setPlaceModeEnabled)
    placeMultipleMarkups = Property(int, lambda self: self._multiple, lambda self, v: setattr(self, "_multiple", v))
    buttonsVisible = Property(bool, lambda self: True, lambda self, v: None)
    deleteAllControlPointsOptionVisible = Property(bool, lambda self: True, lambda self, v: None)


class ctkColorPickerButton(QPushButton):
    colorChanged = Signal(QColor)
    SIGNALS: ClassVar = {"colorChanged(QColor)": "colorChanged"}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._color, self._named = QColor("black"), True

    def _getColor(self) -> QColor:
        return self._color

    def _setColor(self, color: QColor) -> None:
        if color == self._color:
            return
        self._color = color
        self.update()
        self.colorChanged.emit(color)

    def paintEvent(self, event: Any) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        painter.fillRect(6, 5, 14, 14, self._color)
        painter.end()

    color = Property(QColor, _getColor, _setColor)
    displayColorName = Property(bool, lambda self: self._named, lambda self, v: setattr(self, "_named", v))


CTK = (ctkCollapsibleButton, ctkSliderWidget, ctkColorPickerButton)
QMRML = (
    qMRMLWidget,
    qMRMLSortFilterProxyModel,
    qSlicerScriptedLoadableModuleWidget,
    qMRMLNodeComboBox,
    qSlicerMarkupsPlaceWidget,
)
