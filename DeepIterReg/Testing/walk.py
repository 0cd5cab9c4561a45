"""A walk through the module with the real widgets: what a person does with it, a picture of every step, and an exit code.

In Slicer, with its window (about five minutes)::

    Slicer --python-script DeepIterReg/Testing/walk.py -- --out FOLDER

A synthetic patient is made; nothing is downloaded and nothing is left in the scene. Exit codes: 0 every step did what it says,
1 one did not, which is printed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
import vtk

WAIT_S = 300.0  # for a registration


class Walk:
    """The steps in their order; each leaves the panel as the next one needs it.

    :param patient: folder with cta.nii.gz and dsa.dcm.
    :param out: folder for the pictures, or None.
    """

    def __init__(self, patient: Path, out: Path | None) -> None:
        self.patient, self.out = patient, out
        self.representation = slicer.modules.deepiterreg.widgetRepresentation()
        self.widget = self.representation.self()
        self.ui = self.widget.ui
        self.nodes: Any = None

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """What is done, in words and in fact."""
        return [
            ("the module is opened", self.open),
            ("a CTA and a run are loaded, and chosen by themselves", self.load),
            ("Apply registers them, and the overlay is shown", self.apply),
            ("opacity, frames, MinIP and checkerboard act on the view", self.display),
            ("Axial, and the overlay again by its button", self.overlay),
            ("another module, and back", self.leave),
            ("the head is moved by a slider, and by undo back", self.move),
            ("the head is dragged in the slice view", self.drag),
            ("a click on the run leads to a vessel", self.pick),
            ("the CTA is moved to the result, and back", self.place),
            ("the scene is saved, closed and loaded: it shows its result", self.reopen),
            ("the result is taken away whole", self.remove),
            ("a run that arrives in a folder is followed, listed and shown", self.follow),
        ]

    # -- steps ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        slicer.mrmlScene.Clear(0)
        self.show(True)
        check(self.ui.applyButton.text == "Select a CTA", "the button says what is missing")

    def load(self) -> None:
        from DeepIterRegLib.images.files import load_volume

        scan = load_volume(self.patient / "cta.nii.gz")
        cta = slicer.util.addVolumeFromArray(scan.voxels, scan.affine, "CTA")
        cta.CreateDefaultDisplayNodes()
        self.widget.logic.loadAngiogram(self.patient / "dsa.dcm")
        turn(0.2)
        p = self.parameters()
        check(p.cta is cta, "the CTA is chosen")
        check(p.dsa is not None, "the DSA is chosen")

    def apply(self) -> None:
        from DeepIterRegSlicer.scene import results

        self.ui.applyButton.click()
        self.ui.applyButton.click()  # as a double click
        check(self.ui.applyButton.text == "Cancel", "it runs, and a double click did not cancel it")
        end = time.monotonic() + WAIT_S
        while not self.ui.progressBar.isHidden():
            turn(0.05)
            check(time.monotonic() < end, "the registration ends")
        result = self.parameters().result
        check(result is not None, f"a result is there: {self.ui.messageLabel.text}")
        self.nodes = results.nodesOf(result)
        self.parameters().showRejected = True
        turn(0.2)
        check(bool(self.ui.confidenceValueLabel.text), "the confidence is said")
        check(self.isOverlay(), "the overlay is in the red view")

    def display(self) -> None:
        p, composite = self.parameters(), self.composite()
        self.ui.opacitySlider.value = 0.3
        check(abs(composite.GetForegroundOpacity() - 0.3) < 1e-6, "opacity")
        p.minip, p.frame = False, 2.0
        check(composite.GetBackgroundVolumeID() == self.nodes.frame.GetID(), "a frame")
        p.minip = True
        self.ui.comparisonComboBox.currentIndex = 1
        check(composite.GetForegroundVolumeID() != self.nodes.projection.GetID(), "checkerboard")
        self.ui.comparisonComboBox.currentIndex = 0
        check(self.isOverlay(), "overlay")

    def overlay(self) -> None:
        composite, sliceNode = self.composite(), self.sliceNode()
        sliceNode.SetOrientation("Axial")
        composite.SetBackgroundVolumeID(self.parameters().cta.GetID())
        composite.SetForegroundVolumeID(None)
        turn(0.2)
        self.ui.overlayButton.click()
        check(self.isOverlay(), "the overlay came back")

    def leave(self) -> None:
        self.show(False)
        turn(0.2)
        check(not self.isOverlay(), "what was there before is given back")
        self.show(True)
        check(self.isOverlay(), "the overlay is restored")

    def move(self) -> None:
        self.ui.manualCollapsibleButton.collapsed = False
        end = time.monotonic() + WAIT_S
        while not self.ui.manualResetButton.enabled:
            turn(0.05)
            check(time.monotonic() < end, "the manual adjustment is made ready")
        before = self.pose()
        self.ui.shiftRightSlider.value = 5.0
        turn(0.5)
        check(np.abs(self.pose() - before).max() > 1, "the head moved")
        self.ui.manualUndoButton.click()
        check(np.abs(self.pose() - before).max() < 1e-6, "undo brought it back")

    def drag(self) -> None:
        manager = slicer.app.layoutManager()
        before = self.pose()
        self.ui.manualDragButton.checked = True
        check(not self.ui.manualDragStopButton.isHidden(), "it is in sight that the mouse moves the head")
        interactor = manager.sliceWidget("Red").sliceView().interactor()
        path = (
            ("LeftButtonPressEvent", (200, 200)),
            ("MouseMoveEvent", (220, 190)),
            ("LeftButtonReleaseEvent", (220, 190)),
        )
        for event, at in path:
            interactor.SetEventInformation(*at, 0, 0)
            interactor.InvokeEvent(event)
            turn(0.05)
        check(np.abs(self.pose() - before).max() > 1, "the head was dragged")
        self.ui.manualDragStopButton.click()
        check(not self.ui.manualDragButton.checked, "the mouse is Slicer's again")
        self.ui.manualCollapsibleButton.collapsed = True

    def pick(self) -> None:
        from DeepIterRegSlicer.scene import results

        self.ui.pickCollapsibleButton.collapsed = False
        image = slicer.util.arrayFromVolume(self.nodes.projection)[0]
        row, column = np.unravel_index(np.argmax(image), image.shape)
        at = results.carmOf(self.nodes).pixel_positions(np.array([[float(column), float(row)]]))[0]
        self.ui.pickPlaceWidget.currentNode().AddControlPoint(vtk.vtkVector3d(*at))
        turn(0.2)
        check("mm from the ray" in self.ui.pickResultValueLabel.text, self.ui.pickResultValueLabel.text)
        self.ui.pickCollapsibleButton.collapsed = True

    def place(self) -> None:
        cta = self.parameters().cta
        self.ui.resultSelector.setCurrentNode(self.nodes.ctaToCarm)
        if not self.ui.placeCtaButton.enabled:
            return  # a rejected result does not offer it
        self.ui.placeCtaButton.click()
        check(cta.GetParentTransformNode() is self.nodes.ctaToCarm, "the CTA stands under the result")
        self.ui.placeCtaButton.click()
        check(cta.GetParentTransformNode() is None, "and is back")

    def reopen(self) -> None:
        from DeepIterRegSlicer.scene import results

        score = self.ui.scoreValueLabel.text
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "walk.mrb")
            check(slicer.util.saveScene(path), "the scene is written")
            slicer.mrmlScene.Clear(0)
            slicer.util.loadScene(path)
        turn(0.3)
        (self.nodes,) = results.registrationsIn(slicer.mrmlScene)
        check(self.ui.scoreValueLabel.text == score, "the result is in the panel")
        check(self.isOverlay(), "the overlay is shown with nothing else done")

    def remove(self) -> None:
        from DeepIterRegSlicer.scene import results

        self.widget.logic.remove(self.nodes.ctaToCarm)
        turn(0.2)
        check(not results.registrationsIn(slicer.mrmlScene), "no registration is left")
        check(self.parameters().result is None, "and none is shown")
        slicer.mrmlScene.Clear(0)

    def follow(self) -> None:
        self.load()
        self.ui.followCollapsibleButton.collapsed = False
        with tempfile.TemporaryDirectory() as folder:
            incoming = Path(folder) / "incoming"
            incoming.mkdir()
            p = self.parameters()
            p.followIncoming, p.followSession = str(incoming), str(Path(folder) / "session")
            self.ui.followStartButton.click()
            check(self.ui.followStartButton.text == "Stop", f"it has begun: {self.ui.messageLabel.text}")
            shutil.copy(self.patient / "dsa.dcm", incoming / "run.dcm")
            self.until(lambda: self.parameters().result is not None, "the run is shown")
            check(self.ui.followTable.rowCount == 1, "the run is listed")
            check(self.parameters().result.GetName().startswith("Run 01"), "it is the session's")
            self.ui.followStartButton.click()
            self.until(lambda: self.ui.followStartButton.text == "Start", "the session ends")
        self.ui.followCollapsibleButton.collapsed = True
        slicer.mrmlScene.Clear(0)

    # -- what is looked at ----------------------------------------------------------------------------------------

    def show(self, shown: bool) -> None:
        """The module, or another one."""
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule("DeepIterReg" if shown else "Data")
        elif shown:
            self.representation.enter()
        else:
            self.representation.exit()
        turn(0.1)

    def until(self, so: Callable[[], bool], what: str) -> None:
        """Wait for it."""
        end = time.monotonic() + WAIT_S
        while not so():
            turn(0.05)
            check(time.monotonic() < end, what)

    def parameters(self) -> Any:
        """Of the scene there is."""
        module: Any = sys.modules["DeepIterReg"]
        return module.DeepIterRegParameterNode(self.widget.logic.getParameterNode())

    def pose(self) -> np.ndarray:
        return np.array(slicer.util.arrayFromTransformMatrix(self.parameters().result))

    def composite(self) -> Any:
        return slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceCompositeNode")

    def sliceNode(self) -> Any:
        return slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")

    def isOverlay(self) -> bool:
        """Whether the red view shows run and projection in the detector's plane."""
        composite = self.composite()
        front = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")
        behind = composite.GetBackgroundVolumeID()
        normal = slicer.util.arrayFromVTKMatrix(self.sliceNode().GetSliceToRAS())[:3, 2]
        matrix = vtk.vtkMatrix4x4()
        self.nodes.minip.GetIJKToRASMatrix(matrix)
        along = abs(normal @ slicer.util.arrayFromVTKMatrix(matrix)[:3, 2])
        own = front is not None and front.GetAttribute("DeepIterReg.Helper") is not None
        return bool(own and behind in (self.nodes.minip.GetID(), self.nodes.frame.GetID()) and along > 0.999)

    def picture(self, number: int, words: str) -> None:
        """Of the window, or of the panel where there is none."""
        if self.out is not None:
            name = "".join(letter if letter.isalnum() else "_" for letter in words)[:50]
            (slicer.util.mainWindow() or self.representation).grab().save(str(self.out / f"{number:02d}_{name}.png"))


def check(so: bool, what: str) -> None:
    """Stop where something is not so."""
    if not so:
        raise AssertionError(what)


def turn(seconds: float) -> None:
    """Let Slicer draw and answer for a while."""
    end = time.monotonic() + seconds
    while True:
        slicer.app.processEvents()
        if time.monotonic() >= end:
            return
        time.sleep(0.005)


def walk(patient: Path, out: Path | None) -> int:
    """All steps; the exit code."""
    taken = Walk(patient, out)
    steps = taken.steps()
    for number, (words, step) in enumerate(steps, 1):
        begin = time.monotonic()
        try:
            step()
        except Exception:
            traceback.print_exc()
            print(f"NOT SO {number}/{len(steps)}: {words}", flush=True)
            return 1
        finally:
            taken.picture(number, words)
        print(f"{number}/{len(steps)} {words} ({time.monotonic() - begin:.1f} s)", flush=True)
    return 0


def main(argv: list[str]) -> int:
    """Make a patient and walk."""
    parser = argparse.ArgumentParser(prog="walk.py", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    arguments = parser.parse_args(argv[1:] if argv[:1] == ["--"] else argv)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    from DeepIterRegSlicer import dependencies
    from DeepIterRegSlicer.selftest import makeSmallPatient

    dependencies.ensure()
    with tempfile.TemporaryDirectory() as folder:
        makeSmallPatient(Path(folder))
        return walk(Path(folder), arguments.out)


def begin() -> None:
    """Once Slicer stands: walk, and end it."""
    code = 1
    try:
        code = main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
    slicer.util.exit(code)


if __name__ == "__main__":
    qt.QTimer.singleShot(0, begin)
