"""The stand-in rejects what PythonQt rejects: the list of differences between PythonQt and PySide6, each tried once."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import standin  # makes qt and ctk importable

standin.install()

import ctk  # type: ignore[import-not-found]  # noqa: E402
import qt  # type: ignore[import-not-found]  # noqa: E402
import slicer  # noqa: E402
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper  # noqa: E402

import standin  # noqa: E402


def filledComboBox() -> Any:
    combo = qt.QComboBox()
    for text in ("a", "b"):
        combo.addItem(text)
    return combo


def selectorOf(nodeType: str) -> Any:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = (nodeType, "")
    return selector


# -- what works in Slicer works here ------------------------------------------------------------------------


def test_properties_are_read_and_written_without_parentheses() -> None:
    button, combo, slider = qt.QPushButton("text"), filledComboBox(), qt.QSlider()
    button.toolTip, button.enabled, button.checkable, button.checked = "tip", False, True, True
    assert (button.text, button.toolTip, button.enabled, button.checked) == ("text", "tip", False, True)
    assert (combo.count, combo.currentText, combo.currentIndex) == (2, "a", 0)
    slider.maximum = 7
    slider.value = 9
    assert (slider.minimum, slider.maximum, slider.value) == (0, 7, 7)
    button.name = "applyButton"
    assert button.objectName == button.name == "applyButton"
    assert qt.QTimer().singleShot is False
    assert (slicer.app.majorVersion, slicer.app.minorVersion) >= (5, 12)


def test_methods_are_called(scene: Any) -> None:
    combo, widget, layout = filledComboBox(), qt.QWidget(), qt.QVBoxLayout()
    widget.setLayout(layout)
    layout.addWidget(combo)
    assert layout.count() == 1
    assert widget.layout() is layout
    assert combo.parent() is widget
    assert combo.findText("b") == 1
    assert slicer.app.layoutManager() is None
    assert slicer.app.testingEnabled() is False


def test_signals_connect_by_signature_and_by_name_and_disconnect() -> None:
    button, calls = qt.QPushButton(), []

    def plain() -> None:
        calls.append("plain")

    def withArgument(checked: bool) -> None:
        calls.append(checked)

    assert button.connect("clicked(bool)", plain)
    button.connect("clicked(bool)", withArgument)
    button.connect("clicked()", lambda *arguments: calls.append(arguments))
    button.clicked.connect(plain)
    button.click()
    assert sorted(map(str, calls)) == ["()", "False", "plain", "plain"]
    assert button.disconnect("clicked(bool)", plain)
    assert not button.disconnect("clicked(bool)", plain)
    calls.clear()
    button.click()
    assert sorted(map(str, calls)) == ["()", "False", "plain"]


def test_timers() -> None:
    calls: list[str] = []
    timer = qt.QTimer()
    timer.setInterval(1)
    timer.connect("timeout()", lambda: calls.append("timer"))
    timer.start()
    qt.QTimer.singleShot(1, lambda: calls.append("once"))
    # A busy machine may give it few turns in 50 ms; more turns than one is what is asked, not how soon.
    for _ in range(100):
        standin.processEvents(0.05)
        if calls.count("timer") > 2:
            break
    timer.stop()
    assert calls.count("once") == 1
    assert calls.count("timer") > 2
    assert timer.active is False


def test_lists_come_as_tuples() -> None:
    assert isinstance(qt.QWidget().children(), tuple)


def test_unscoped_names() -> None:
    assert qt.Qt.AlignLeft is not None
    assert qt.QMessageBox.Yes is not None
    assert qt.QFile.ReadOnly is not None


def test_modal_boxes_answer_at_once() -> None:
    standin.messages.clear()
    box = ctk.ctkMessageBox()
    box.text = "Really?"
    assert box.exec_() == qt.QMessageBox.Ok
    assert standin.messages == ["Really?"]


def test_a_section_shows_what_was_not_hidden_meanwhile() -> None:
    """As ctk does: a row that the panel hides, while its section is folded or before, is not there when it is opened."""
    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    usual, before, meanwhile, shown = (qt.QLabel(text) for text in ("usual", "before", "meanwhile", "shown"))
    for label in (usual, before, meanwhile, shown):
        layout.addWidget(label)
    before.visible = shown.visible = False
    section.show()
    section.collapsed = True
    assert usual.isHidden()
    meanwhile.visible, shown.visible = False, True
    section.collapsed = False
    assert [label.isHidden() for label in (usual, before, meanwhile, shown)] == [False, True, True, False]
    section.deleteLater()


# -- what PythonQt rejects is rejected -------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "property called": (lambda: qt.QPushButton("x").text(), TypeError),
    "count called": (lambda: filledComboBox().count(), TypeError),
    "wasCanceled called": (lambda: qt.QProgressDialog().wasCanceled(), TypeError),
    "property of ctk called": (lambda: ctk.ctkSliderWidget().value(), TypeError),
    "keyword to a constructor": (lambda: qt.QPushButton(text="x"), TypeError),
    "keyword to a constructor of ctk": (lambda: ctk.ctkCollapsibleButton(text="x"), TypeError),
    "keyword to a method": (lambda: qt.QLabel().setText(text="x"), TypeError),
    "keyword to a layout": (lambda: qt.QHBoxLayout().addWidget(qt.QLabel(), stretch=1), TypeError),
    "unknown attribute": (lambda: setattr(qt.QPushButton(), "tooltip", "x"), AttributeError),
    "unknown attribute of ctk": (lambda: setattr(ctk.ctkCollapsibleButton(), "colapsed", True), AttributeError),
    "unknown attribute of qMRML": (lambda: setattr(slicer.qMRMLNodeComboBox(), "nodeType", "x"), AttributeError),
    "method assigned": (lambda: setattr(qt.QLabel(), "setText", "x"), AttributeError),
    "read-only property assigned": (lambda: setattr(filledComboBox(), "count", 3), AttributeError),
    "wrong type for a bool": (lambda: setattr(qt.QLabel(), "enabled", "yes"), ValueError),
    "wrong type for a string": (lambda: setattr(qt.QLabel(), "text", 5), ValueError),
    "wrong type for a number": (lambda: setattr(qt.QSlider(), "value", 0.5), ValueError),
    "None for a string": (lambda: setattr(qt.QLabel(), "toolTip", None), ValueError),
    "no such signal": (lambda: qt.QPushButton().connect("pushed()", print), AttributeError),
    "wrong signature": (lambda: qt.QPushButton().connect("clicked(int)", print), AttributeError),
    "wrong signature of qMRML": (
        lambda: slicer.qMRMLNodeComboBox().connect("currentNodeChanged(object)", print),
        AttributeError,
    ),
    "signal that is no text": (lambda: qt.QPushButton().connect(5, print), TypeError),
    "scoped enum": (lambda: qt.Qt.AlignmentFlag.AlignLeft, AttributeError),
    "qt.Signal": (lambda: qt.Signal, AttributeError),
    "qt.Slot": (lambda: qt.Slot, AttributeError),
    "gone in Qt 6": (lambda: qt.QTextCodec, AttributeError),
    "application property called": (lambda: slicer.app.majorVersion(), TypeError),
    "application attribute set": (lambda: setattr(slicer.app, "version", 1), AttributeError),
    "no such module": (lambda: slicer.modules.elastix, AttributeError),
    "no such node type": (lambda: selectorOf("vtkMRMLVolume").setMRMLScene(slicer.mrmlScene), ValueError),
    "node for a scene": (lambda: slicer.qMRMLWidget().setMRMLScene("scene"), TypeError),
    "translation of a number": (lambda: slicer.i18n.tr(5), TypeError),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_rejected(mistake: str) -> None:
    make, error = MISTAKES[mistake]
    with pytest.raises(error):
        make()


def test_an_exception_in_a_slot_is_kept_not_raised() -> None:
    standin.slotErrors.clear()
    button = qt.QPushButton()

    def fails() -> None:
        raise ZeroDivisionError("in a slot")

    button.connect("clicked()", fails)
    button.click()
    assert "ZeroDivisionError: in a slot" in standin.slotErrors.pop()
    assert not standin.slotErrors


def test_a_ui_file_is_as_strict(tmp_path: Path) -> None:
    file = tmp_path / "x.ui"
    file.write_text(
        '<ui version="4.0"><class>X</class><widget class="qMRMLWidget" name="X"><layout class="QVBoxLayout" name="l"><item>'
        '<widget class="qMRMLNodeComboBox" name="selector"><property name="nodeTypes"><stringlist>'
        "<string>vtkMRMLScalarVolumeNode</string></stringlist></property></widget></item><item>"
        '<widget class="QSpinBox" name="spin"><property name="SlicerParameterName" stdset="0"><string>n</string></property>'
        "</widget></item></layout></widget><customwidgets><customwidget><class>qMRMLWidget</class><extends>QWidget</extends>"
        "<header>h</header><container>1</container></customwidget><customwidget><class>qMRMLNodeComboBox</class>"
        "<extends>QWidget</extends><header>h</header></customwidget></customwidgets><connections><connection>"
        "<sender>X</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>selector</receiver>"
        "<slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"
    )
    widget = slicer.util.loadUI(str(file))
    ui = slicer.util.childWidgetVariables(widget)
    assert type(ui.spin) is qt.QSpinBox
    assert ui.spin.property("SlicerParameterName") == "n"
    widget.setMRMLScene(slicer.mrmlScene)
    assert ui.selector.mrmlScene() is slicer.mrmlScene
    with pytest.raises(AttributeError):
        ui.spin.tooltip = "x"
    with pytest.raises(TypeError):
        ui.spin.value()


def test_a_selector_lists_its_types_and_follows_the_scene(scene: Any) -> None:
    selector, changes = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ("vtkMRMLScalarVolumeNode", "")
    selector.noneEnabled = True
    selector.showChildNodeTypes = False
    selector.setMRMLScene(scene)
    selector.connect("currentNodeChanged(vtkMRMLNode*)", changes.append)
    scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "grey")
    assert selector.nodeCount() == 1
    assert selector.currentNode() is None
    selector.setCurrentNode(volume)
    scene.RemoveNode(volume)
    assert selector.currentNode() is None
    assert changes == [volume, None]


# -- parameter node -----------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


@parameterNodeWrapper
class Parameters:
    count: Annotated[int, WithinRange(1, 5)] = 2
    ratio: float = 0.5
    name: str
    flag: bool = True
    colour: Colour = Colour.blue
    word: Annotated[str, Choice(["a", "b"])] = "a"
    volume: slicer.vtkMRMLScalarVolumeNode


@pytest.fixture
def parameters(scene: Any) -> Any:
    return Parameters(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def test_parameters_keep_their_types_in_the_node(scene: Any, parameters: Any) -> None:
    assert (parameters.count, parameters.ratio, parameters.name, parameters.flag) == (2, 0.5, "", True)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.colour, parameters.volume, parameters.count = Colour.red, volume, 4
    again = Parameters(parameters.parameterNode)
    assert (again.colour, again.volume, again.count) == (Colour.red, volume, 4)
    assert parameters.parameterNode.GetParameter("colour") == "red"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 0),
        ("count", 2.5),
        ("ratio", "half"),
        ("name", 5),
        ("flag", 1),
        ("colour", "red"),
        ("word", "c"),
        ("volume", "vtkMRMLScalarVolumeNode1"),
    ],
)
def test_parameters_reject_what_does_not_fit(parameters: Any, name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        setattr(parameters, name, value)


def test_parameters_of_other_types_and_reserved_names_are_refused() -> None:
    with pytest.raises(Exception, match="serializer"):

        @parameterNodeWrapper
        class Wrong:
            values: set

    with pytest.raises(TypeError, match="None"):

        @parameterNodeWrapper
        class Union:
            node: slicer.vtkMRMLModelNode | slicer.vtkMRMLScalarVolumeNode

    with pytest.raises(ValueError, match="reserved"):

        @parameterNodeWrapper
        class Reserved:
            default: int


def test_parameters_follow_their_widgets_both_ways(parameters: Any) -> None:
    spin, check, combo = qt.QSpinBox(), qt.QCheckBox(), qt.QComboBox()
    tag = parameters.connectParametersToGui({"count": spin, "flag": check, "colour": combo})
    assert (spin.minimum, spin.maximum, spin.value) == (1, 5, 2)
    spin.value = 3
    combo.currentIndex = 0
    assert (parameters.count, parameters.colour) == (3, Colour.red)
    parameters.flag = False
    assert check.checked is False
    parameters.disconnectGui(tag)
    spin.value = 5
    assert parameters.count == 3


def test_widgets_without_a_connector_are_refused(parameters: Any) -> None:
    with pytest.raises(Exception, match="No connector"):
        parameters.connectParametersToGui({"ratio": qt.QSlider()})
    with pytest.raises(Exception, match="No connector"):
        parameters.connectParametersToGui({"name": qt.QPlainTextEdit()})

    class Special(qt.QSpinBox):  # Slicer looks at the exact type
        pass

    with pytest.raises(Exception, match="No connector"):
        parameters.connectParametersToGui({"count": Special()})
