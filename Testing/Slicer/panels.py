"""The module's panel as the tests use it: opened, waited for, looked at, through what a person or a script can reach."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer
from repository import ROOT
from vtk.util import numpy_support

import scenes
import standin
from DeepIterRegLib.common.errors import InputError

CLICK_S = 0.51  # two clicks within it are a double click
_pressed = [0.0]  # when the last button was
MODULE = ROOT / "DeepIterReg" / "DeepIterReg.py"


def opened() -> SimpleNamespace:
    """The panel, entered: its widget and controls, `p` the scene's parameters, `python` the module's file as Python has it."""
    module = standin.loadModule(MODULE)
    representation = module.widgetRepresentation()
    representation.enter()
    widget = representation.self()
    return SimpleNamespace(
        module=module,
        representation=representation,
        widget=widget,
        ui=widget.ui,
        p=parametersOf(widget),
        python=sys.modules["DeepIterReg"],
    )


def parametersOf(widget: Any) -> Any:
    """The parameters in the scene there is, as a script gets them; the panel observes the same node."""
    wrapper: Any = sys.modules["DeepIterReg"].DeepIterRegParameterNode
    return wrapper(widget.logic.getParameterNode())


def close(panel: SimpleNamespace) -> None:
    """The panel goes, as when Slicer ends; nothing of it may run on."""
    panel.representation.self().cleanup()  # after a reload not the widget it was opened with
    panel.representation.deleteLater()
    standin.processEvents()
    assert not standin.activeTimers()


# -- what a person does --------------------------------------------------------------------------------------


def choose(selector: Any, node: Any) -> None:
    """In a list, where it can be opened: neither it nor what it stands in is grey."""
    assert selector.enabled, f"{selector.name} is disabled: nobody can choose in it"
    assert node is None or node in selector._nodes, f"{selector.name} does not offer {node.GetName()}"
    selector.setCurrentNode(node)


def press(button: Any) -> None:
    """A click on a button that is not grey, some time after the last one."""
    assert button.enabled, f"{button.name} is disabled: nobody can press it"
    time.sleep(max(0.0, _pressed[0] + CLICK_S - time.monotonic()))
    _pressed[0] = time.monotonic()
    button.click()


def doubleClick(button: Any) -> None:
    """Both halves, as fast as a finger is."""
    press(button)
    standin.processEvents(0.05)
    button.click()


def edit(panel: SimpleNamespace, prefix: str, text: str) -> None:
    """Type into a field of the C-arm's geometry."""
    field = getattr(panel.ui, prefix + "Edit")
    field.text = text
    field.editingFinished.emit()


def optionsAsked(panel: SimpleNamespace, monkeypatch: Any) -> Any:
    """The options that Apply hands to the logic, which here only looks at them."""
    asked = []

    def prepare(cta: Any, dsa: Any, options: Any) -> None:
        asked.append(options)
        raise InputError("Nothing is registered.")

    with monkeypatch.context() as patched:
        patched.setattr(panel.widget.logic, "prepare", prepare)
        press(panel.ui.applyButton)
    (options,) = asked
    return options


# -- waiting -------------------------------------------------------------------------------------------------


def wait(until: Callable[[], Any], what: str, seconds: float = 120) -> None:
    """Run the event loop until it is so; a test that would hang fails instead."""
    end = time.monotonic() + seconds
    while not until():
        standin.processEvents(0.01)
        assert time.monotonic() < end, f"in vain: {what}"


def isRunning(panel: SimpleNamespace) -> bool:
    """Whether the panel says that a job runs."""
    return not panel.ui.progressBar.isHidden()


def finish(panel: SimpleNamespace) -> list[str]:
    """Run the event loop until the job has ended; the texts of the button on the way."""
    texts = [panel.ui.applyButton.text]

    def ended() -> bool:
        if panel.ui.applyButton.text != texts[-1]:
            texts.append(panel.ui.applyButton.text)
        return not isRunning(panel)

    wait(ended, "the job does not end")
    return texts


def openManual(panel: SimpleNamespace) -> None:
    """Open "Manual adjustment" and wait until the head can be moved."""
    panel.ui.manualCollapsibleButton.collapsed = False
    wait(lambda: panel.ui.manualResetButton.enabled, "the manual adjustment is not made ready")


def untilOpacity(opacity: float, *views: str) -> None:
    """Wait until the overlay of these slice views, the red one if none is named, flickers to an opacity."""
    wait(
        lambda: all(abs(composite(view).GetForegroundOpacity() - opacity) < 1e-6 for view in views or ("Red",)),
        f"the overlay's opacity does not become {opacity}",
    )


def addResult(outcome: Any) -> Any:
    """A registration in the scene, as a run of the panel leaves it there; its nodes."""
    from DeepIterRegSlicer.scene import fill, results

    nodes = fill.show(outcome)
    cta = scenes.addVolume(np.zeros((4, 4, 4), np.int16), name="CTA")
    dsa = scenes.addVolume(np.zeros((1, 4, 4), np.int16), name="DSA")
    results.keepInputs(nodes, (cta, dsa))
    return nodes


# -- what is shown -------------------------------------------------------------------------------------------


def composite(view: str = "Red") -> Any:
    return slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")


def sliceNode(view: str = "Red") -> Any:
    return slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")


def foreground(view: str = "Red") -> Any:
    return slicer.mrmlScene.GetNodeByID(composite(view).GetForegroundVolumeID() or "")


def background(view: str = "Red") -> Any:
    return slicer.mrmlScene.GetNodeByID(composite(view).GetBackgroundVolumeID() or "")


def picture(view: str = "Red") -> np.ndarray:
    """What the slice view's own pipeline draws: (row from above, column, RGB)."""
    logic = slicer.app.layoutManager().sliceWidget(view).sliceLogic()
    logic.UpdatePipeline()
    logic.GetBlend().Update()
    image = logic.GetBlend().GetOutput()
    columns, rows, _ = image.GetDimensions()
    values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    return values.reshape(rows, columns, -1)[::-1, :, :3].astype(int)


def chooseAgain(panel: SimpleNamespace) -> None:
    """Choose another result and come back: what is shown is shown anew."""
    shown = panel.p.result
    choose(panel.ui.resultSelector, None)
    choose(panel.ui.resultSelector, shown)


def pixels(node: Any) -> np.ndarray:
    """Of a volume of one slice."""
    return np.array(slicer.util.arrayFromVolume(node)[0])


def matrix(node: Any) -> np.ndarray:
    return np.array(slicer.util.arrayFromTransformMatrix(node))
