"""The features of `slicer.parameterNodeWrapper` that the module uses, written from its documentation, strictly."""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Maximum",
    "Minimum",
    "SingleStep",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

RESERVED = frozenset(
    """
    allParameters default isCached dataType getValue setValue connectGui connectParametersToGui disconnectGui
    StartModify EndModify AddObserver RemoveObserver Modified parameterNode
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Minimum:
    minimum: float

    def check(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be greater than or equal to {self.minimum}, not {value}")


@dataclass(frozen=True)
class Maximum:
    maximum: float

    def check(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be less than or equal to {self.maximum}, not {value}")


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float

    def check(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], not {value}")


class Choice:
    def __init__(self, choices: Any) -> None:
        self.choices = tuple(choices)

    def check(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, not {value!r}")


@dataclass(frozen=True)
class Decimals:
    value: int


@dataclass(frozen=True)
class SingleStep:
    value: float


class Default:
    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self.value = generator() if generator else value


ANNOTATIONS = (Minimum, Maximum, WithinRange, Choice, Decimals, SingleStep, Default)
PLAIN: dict[type, Any] = {int: 0, float: 0.0, str: "", bool: False, pathlib.Path: pathlib.Path()}


class Parameter:
    """One typed value in a parameter node."""

    def __init__(self, owner: type, name: str, annotated: Any) -> None:
        arguments = (
            list(typing.get_args(annotated)) if typing.get_origin(annotated) is typing.Annotated else [annotated]
        )
        self.name, self.annotated, kind = name, annotated, arguments[0]
        self.kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
        self.hints = arguments[1:]
        unknown = [hint for hint in self.hints if not isinstance(hint, ANNOTATIONS)]
        known = [k for k in self.kinds if k is not type(None)]
        self.isNode = all(isinstance(k, type) and issubclass(k, slicer.vtkMRMLNode) for k in known)
        self.isEnum = len(self.kinds) == 1 and isinstance(kind, type) and issubclass(kind, enum.Enum)
        if unknown or not (self.isNode or self.isEnum or (len(self.kinds) == 1 and kind in PLAIN)):
            raise Exception(f"Unable to create serializer for {owner} member {name}")
        if len(self.kinds) > 1 and type(None) not in self.kinds:
            raise TypeError(f"{name}: a union of nodes without None has no default; None cannot be written to it")
        given = [hint.value for hint in self.hints if isinstance(hint, Default)]
        if name in vars(owner):
            self.default = vars(owner)[name]
        elif given:
            self.default = given[0]
        else:
            self.default = None if self.isNode else next(iter(kind)) if self.isEnum else PLAIN[kind]

    def isIn(self, node: Any) -> bool:
        if self.isNode:
            return node.GetParameter(self.name) != "" or node.GetNodeReferenceID(self.name) is not None
        return (
            bool(node.HasParameter(self.name))
            if hasattr(node, "HasParameter")
            else self.name in node.GetParameterNames()
        )

    def write(self, node: Any, value: Any) -> None:
        kind = self.kinds[0]
        if self.isNode:
            if value is not None and not isinstance(value, self.kinds):
                raise TypeError(f"{self.name} wants {[k.__name__ for k in self.kinds]}, not {type(value).__name__}")
            node.SetNodeReferenceID(self.name, None if value is None else value.GetID())
            return
        if self.isEnum:
            if not isinstance(value, kind):
                raise TypeError(f"{self.name} wants a {kind.__name__}, not {value!r}")
            node.SetParameter(self.name, value.name)
            return
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{self.name} wants {kind.__name__}, not {type(value).__name__} ({value!r})")
        for hint in self.hints:
            if hasattr(hint, "check"):
                hint.check(value)
        node.SetParameter(self.name, str(float(value)) if kind is float else str(value))

    def read(self, node: Any) -> Any:
        if self.isNode:
            return node.GetNodeReference(self.name)
        if not self.isIn(node):
            return self.default
        text, kind = node.GetParameter(self.name), self.kinds[0]
        if self.isEnum:
            return kind[text]
        return text == "True" if kind is bool else kind(text)

    def range(self) -> tuple[float | None, float | None]:
        low = [h.minimum for h in self.hints if isinstance(h, (Minimum, WithinRange))]
        high = [h.maximum for h in self.hints if isinstance(h, (Maximum, WithinRange))]
        return (low[0] if low else None), (high[0] if high else None)


class Connector:
    """Two-way binding of one widget, by the widget's exact type as in Slicer."""

    def __init__(self, widget: Any, parameter: Parameter) -> None:
        import ctk
        import qt

        self.widget, self.parameter, kind = widget, parameter, parameter.kinds[0]
        low, high = parameter.range()
        number = kind in (int, float)
        choices = parameter.isEnum or any(isinstance(h, Choice) for h in parameter.hints)
        table: list[tuple[type, bool, str, str]] = [
            (qt.QCheckBox, kind is bool, "checked", "toggled(bool)"),
            (qt.QPushButton, kind is bool, "checked", "toggled(bool)"),
            (qt.QSlider, kind is int and None not in (low, high), "value", "valueChanged(int)"),
            (qt.QSpinBox, kind is int, "value", "valueChanged(int)"),
            (qt.QDoubleSpinBox, number, "value", "valueChanged(double)"),
            (ctk.ctkSliderWidget, number and None not in (low, high), "value", "valueChanged(double)"),
            (qt.QComboBox, bool(choices), "", "currentIndexChanged(int)"),
            (qt.QLineEdit, kind is str, "text", "textChanged(QString)"),
            (slicer.qMRMLNodeComboBox, parameter.isNode, "", "currentNodeChanged(vtkMRMLNode*)"),
        ]
        found = [row for row in table if type(widget) is row[0] and row[1]]
        if not found:
            raise Exception(f"No connector for {type(widget).__name__} and {parameter.annotated} ({parameter.name})")
        _, _, self.attribute, self.signal = found[0]
        if number and type(widget) is not qt.QLineEdit:
            if low is not None:
                widget.minimum = kind(low)
            if high is not None:
                widget.maximum = kind(high)
            for hint in parameter.hints:
                if isinstance(hint, Decimals):
                    widget.decimals = hint.value
                if isinstance(hint, SingleStep):
                    widget.singleStep = kind(hint.value)
        if choices:
            self.items = (
                list(kind) if parameter.isEnum else next(h for h in parameter.hints if isinstance(h, Choice)).choices
            )
            widget.clear()
            for item in self.items:
                label = item.label() if hasattr(item, "label") else item.name if parameter.isEnum else str(item)
                widget.addItem(label, item if isinstance(item, str) else None)
        self.slot: Callable[[], None] | None = None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        if self.slot is not None:
            self.widget.disconnect(self.signal, self.slot)
        self.slot = callback
        if callback is not None:
            self.widget.connect(self.signal, callback)

    def read(self) -> Any:
        if self.parameter.isNode:
            return self.widget.currentNode()
        if not self.attribute:
            return self.items[self.widget.currentIndex]
        value = getattr(self.widget, self.attribute)
        return int(value) if self.parameter.kinds[0] is int else value

    def write(self, value: Any) -> None:
        if self.parameter.isNode:
            self.widget.setCurrentNode(value)
        elif not self.attribute:
            self.widget.currentIndex = list(self.items).index(value)
        elif getattr(self.widget, self.attribute) != value:
            setattr(self.widget, self.attribute, value)


class _Wrapper:
    allParameters: typing.ClassVar[dict[str, Parameter]]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        if not isinstance(parameterNode, slicer.vtkMRMLScriptedModuleNode):
            raise TypeError("a parameter node wrapper wants a vtkMRMLScriptedModuleNode")
        state = self.__dict__
        state.update(parameterNode=parameterNode, _guis={}, _nextTag=0, _updating=False)
        for parameter in self.allParameters.values():
            if not parameter.isIn(parameterNode):
                parameter.write(parameterNode, parameter.default)

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(self.parameterNode, value)

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        return self.allParameters[name]

    def default(self, name: str) -> Default:
        return Default(self._parameter(name).default)

    def dataType(self, name: str) -> Any:
        return self._parameter(name).annotated

    def isCached(self, name: str) -> bool:
        self._parameter(name)
        return False

    def connectGui(self, gui: Any) -> int:
        widgets = {}
        for widget in vars(gui).values():
            name = widget.property("SlicerParameterName")
            if name:
                widgets[name] = widget
        return self.connectParametersToGui(widgets)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = {name: Connector(widget, self._parameter(name)) for name, widget in mapping.items()}
        state = self.__dict__
        tag: int = state["_nextTag"]
        state["_nextTag"] += 1
        state["_guis"][tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._reader(name, connector))
        self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._updateGui())
        return tag

    def _reader(self, name: str, connector: Connector) -> Callable[[], None]:
        def callback() -> None:
            if not self.__dict__["_updating"]:
                self.setValue(name, connector.read())

        return callback

    def _updateGui(self) -> None:
        state = self.__dict__
        if state["_updating"]:
            return
        state["_updating"] = True
        try:
            for connectors in state["_guis"].values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            state["_updating"] = False

    def disconnectGui(self, tag: int) -> None:
        for connector in self.__dict__["_guis"].pop(tag, {}).values():
            connector.onChanged(None)

    def StartModify(self) -> int:
        return int(self.parameterNode.StartModify())

    def EndModify(self, wasModified: int) -> None:
        self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Class decorator."""
    if classtype is None:
        return parameterNodeWrapper
    parameters = {}
    for name, annotated in typing.get_type_hints(classtype, include_extras=True).items():
        if name in RESERVED:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        parameters[name] = Parameter(classtype, name, annotated)
    members = {k: v for k, v in vars(classtype).items() if k not in ("__dict__", "__weakref__", *parameters)}
    for name in parameters:
        members[name] = property(
            lambda self, name=name: self.getValue(name), lambda self, value, name=name: self.setValue(name, value)
        )
    members.update(allParameters=parameters, _is_parameter_node_wrapper=True)
    return type(classtype.__name__, (_Wrapper,), members)


def isParameterNodeWrapper(classOrObject: Any) -> bool:
    return bool(getattr(classOrObject, "_is_parameter_node_wrapper", False))
