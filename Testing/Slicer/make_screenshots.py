"""Pictures of the module for the README: the panel, the slice views with overlay and comparisons, the 3D view with the C-arm.

The panel is drawn by Qt offscreen with stand-ins for ctk's and Slicer's own widgets, so its style differs a little from Slicer's.
The slice view is MRML's slice logic, the 3D view MRML's displayable managers in VTK's offscreen window: what Slicer draws.

    python Testing/Slicer/make_screenshots.py [--patient FOLDER] [--out Resources/Screenshots]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "DeepIterReg"), str(Path(__file__).parent), str(ROOT / "Testing" / "Python")]

import standin  # noqa: E402

standin.install()

import numpy as np  # noqa: E402
import qt  # type: ignore[import-not-found]  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from PIL import Image  # noqa: E402
from vtk.util import numpy_support  # noqa: E402

import panels  # noqa: E402
import scenes  # noqa: E402

SLICE_PX, TOOL_PX, VIEW_PX, PANEL_PX, HIGH_PX = (900, 900), (560, 560), (1400, 520), 420, 640
LAPTOP_PX, DESKTOP_PX = 440, 750  # of the module on screens of 768 and 1080 px


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patient", type=Path, help="folder with cta.nii.gz, dsa.dcm, truth.tfm; else one is made")
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "Screenshots")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.patient or makePatient(Path(made))
        panel = openPanel(folder)
        grab(panel)  # now it has its width, which its plot takes
        running = runRegistration(panel)
    finished = grab(panel)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save(fewerColours(sideBySide([running, finished])), arguments.out / "panel.png")
    for name, picture in screens(panel).items():
        save(fewerColours(picture), arguments.out / f"{name}.png")
    save(sliceView(), arguments.out / "slice_overlay.png")
    save(view3d(panel), arguments.out / "view3d.png")
    for name, picture in {"panel_sections": sections(panel), **tools(panel), **comparisons(panel)}.items():
        save(fewerColours(picture), arguments.out / f"{name}.png")


def makePatient(folder: Path) -> Path:
    """The demo's patient."""
    from DeepIterRegLib.phantom import make_patient, write_patient
    from DeepIterRegSlicer.sample_data import SEED

    write_patient(make_patient(SEED), folder)
    return folder


# -- the panel --------------------------------------------------------------------------------------------


def openPanel(folder: Path) -> Any:
    """The panel with a patient loaded, and a red slice view in the scene."""
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.files import load_volume

    for node in (slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()):
        node.SetSingletonTag("Red")
        node.SetLayoutName("Red")
        added = slicer.mrmlScene.AddNode(node)
        if added.IsA("vtkMRMLSliceNode"):
            added.SetDimensions(*SLICE_PX, 1)
    panel = panels.opened()
    panel.area = inSlicer(panel)
    volume = load_volume(folder / "cta.nii.gz")
    panel.p.cta = scenes.addVolume(volume.voxels, volume.affine, "CTA head")
    panel.p.reference = scenes.addTransform(read_pose(folder / "truth.tfm"), "Truth")
    standin.answers["getOpenFileName"] = str(folder / "dsa.dcm")
    panel.ui.loadXaButton.click()
    return panel


def runRegistration(panel: Any) -> Image.Image:
    """Apply; the panel as it looked late in the search."""
    panel.ui.applyButton.click()
    picture, begin = None, time.perf_counter()
    while panels.isRunning(panel):
        standin.processEvents(0.05)
        if picture is None and panel.ui.progressBar.value > 700:
            picture = grab(panel)
    if panel.ui.messageLabel.text:
        raise SystemExit(panel.ui.messageLabel.text)
    print(f"Registered in {time.perf_counter() - begin:.1f} s, MPE {panel.ui.mpeValueLabel.text}")
    return picture or grab(panel)


def inSlicer(panel: Any) -> Any:
    """The panel in a scroll area, as Slicer holds it."""
    from PySide6.QtWidgets import QScrollArea

    area = QScrollArea()
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setWidgetResizable(True)
    area.setWidget(panel.representation)
    area.resize(PANEL_PX, HIGH_PX)
    area.show()
    standin.processEvents(0.05)
    return area


def grab(panel: Any) -> Image.Image:
    """The panel at twice the pixels."""
    standin.processEvents(0.1)
    return grabbed(panel.area)


def screens(panel: Any) -> dict[str, Image.Image]:
    """The panel where Slicer's own has room for it on two screens, at two sizes of the fonts, and in a dark style."""
    from PySide6.QtGui import QColor, QPalette
    from PySide6.QtWidgets import QApplication

    usual, font = QApplication.palette(), QApplication.font()
    dark = QPalette()
    roles = QPalette.ColorRole
    for role, colour in (
        (roles.Window, "#353535"),
        (roles.WindowText, "#f0f0f0"),
        (roles.Base, "#232323"),
        (roles.Text, "#f0f0f0"),
        (roles.Button, "#404040"),
        (roles.ButtonText, "#f0f0f0"),
        (roles.Mid, "#606060"),
    ):
        dark.setColor(role, QColor(colour))
    # Else what is disabled would look as if it could be used.
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        dark.setColor(QPalette.ColorGroup.Disabled, role, QColor("#808080"))
    pictures = {}
    for percent in (100, 150):
        rows = []
        for high in LAPTOP_PX, DESKTOP_PX:
            for palette in (usual, dark):
                QApplication.setPalette(palette)
                larger = QApplication.font()
                larger.setPointSizeF(font.pointSizeF() * percent / 100)
                QApplication.setFont(larger)
                panel.area.resize(420 if percent == 100 else 600, high)
                standin.processEvents(0.1)
                panel.widget._results.plot._new = True
                panel.widget._results.plot.draw()
                rows.append(grab(panel))
                QApplication.setFont(font)
        pictures[f"panel_{percent}"] = sideBySide(rows)
    QApplication.setPalette(usual)
    panel.area.resize(PANEL_PX, HIGH_PX)
    return pictures


def sideBySide(pictures: list[Image.Image]) -> Image.Image:
    """Pictures beside each other, tops aligned, on the panel's own grey."""
    background = pictures[0].getpixel((2, pictures[0].height - 3))  # of the panel, not of a heading's rim
    whole = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), background)
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width
    return whole


def fewerColours(picture: Image.Image) -> Image.Image:
    return picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, optimize=True)
    print(
        f"Written: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} ({path.stat().st_size // 1024} kB)"
    )


def comparisons(panel: Any) -> dict[str, Image.Image]:
    """Checkerboard, the manual adjustment of a pose, and both poses side by side, as the panel's controls bring them about."""
    ui = panel.ui
    standin.openViews()
    ui.comparisonComboBox.currentIndex = 1
    ui.tileSlider.value = 25.0
    pictures = {"checkerboard": zoomed("Red")}
    ui.comparisonComboBox.currentIndex = 0
    panels.openManual(panel)
    ui.turnBeamSlider.value = 4.0
    ui.shiftRightSlider.value = 5.0
    standin.processEvents(1.0)
    section = ui.manualCollapsibleButton
    grab(panel)
    pictures["manual"] = besideAtHeight(grabbed(section), zoomed("Red"))
    ui.sideBySideCheckBox.click()
    ui.secondResultSelector.setCurrentNode(ui.resultSelector.currentNode().GetNodeReference("DeepIterReg.automatic"))
    standin.processEvents(0.2)
    pictures["side_by_side"] = sideBySide([zoomed("Red"), Image.new("RGB", (6, TOOL_PX[1]), "white"), zoomed("Yellow")])
    return pictures


def tools(panel: Any) -> dict[str, Image.Image]:
    """Sections Roadmap and Pick a vessel with what they show on the run: vessels shaded by depth, a region in outline, a vessel."""
    from DeepIterRegSlicer.scene import results

    ui = panel.ui
    standin.openViews()
    nodes = results.nodesOf(panel.p.result)
    found = results.registrationOf(nodes)
    centre = found.centre_cta_mm + np.array([32.0, 8.0, 42.0])
    region = scenes.addBall(centre, 22.0, (0.0, 0.6, 1.0), "Tissue at risk", 60)
    for section in (ui.roadmapCollapsibleButton, ui.pickCollapsibleButton):
        section.collapsed = False
    for node, tick in ((nodes.vessels, ui.roadmapShadedCheckBox), (region, ui.roadmapOutlineCheckBox)):
        ui.roadmapNodeSelector.setCurrentNode(node)
        ui.roadmapAddButton.click()
        if not tick.checked:
            tick.click()
    # A click on the run, where it shows most contrast.
    row, column = np.unravel_index(
        np.argmax(slicer.util.arrayFromVolume(nodes.contrast)[0]), (found.carm.rows, found.carm.columns)
    )
    at = found.carm.pixel_positions(np.array([[float(column), float(row)]]))[0]
    ui.pickPlaceWidget.currentNode().AddControlPoint(vtk.vtkVector3d(*at))
    standin.processEvents(0.3)
    grab(panel)
    opened = stacked([grabbed(ui.roadmapCollapsibleButton), grabbed(ui.pickCollapsibleButton)])
    picture = besideAtHeight(opened, zoomed("Red"))
    while ui.roadmapList.count:
        ui.roadmapList.currentRow = 0
        ui.roadmapRemoveButton.click()
    slicer.mrmlScene.RemoveNode(region)
    for section in (ui.roadmapCollapsibleButton, ui.pickCollapsibleButton):
        section.collapsed = True
    return {"roadmap_panel": picture}


def sections(panel: Any) -> Image.Image:
    """Sections that are folded at first, opened: how vessels are found and where the search begins; what is shown, and compared."""
    ui = panel.ui
    before, panel.p.init = panel.p.init, type(panel.p.init)["landmarks"]
    columns = (
        (ui.segmentationCollapsibleButton, ui.initCollapsibleButton),
        (ui.displayCollapsibleButton, ui.compareCollapsibleButton),
    )
    for section in (section for column in columns for section in column):
        section.collapsed = False
    standin.processEvents(0.3)
    grab(panel)
    picture = sideBySide([stacked([grabbed(section) for section in column]) for column in columns])
    for section in (section for column in columns for section in column):
        section.collapsed = True
    panel.p.init = before
    standin.processEvents(0.3)
    return picture


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one width below each other."""
    whole = Image.new("RGB", (pictures[0].width, sum(p.height for p in pictures)), pictures[0].getpixel((2, 2)))
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole


def zoomed(view: str) -> Image.Image:
    """A slice view of moderate size, its middle enlarged."""
    node = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
    from DeepIterRegSlicer.scene import results, slice_view

    node.SetDimensions(*TOOL_PX, 1)
    slice_view.lookAtDetector(results.registrationOf(results.registrationsIn(slicer.mrmlScene)[-1]).carm, node)
    across, up, deep = node.GetFieldOfView()
    node.SetFieldOfView(across * 0.72, up * 0.72, deep)
    return sliceView(view)


def grabbed(widget: Any) -> Image.Image:
    """One widget at twice the pixels."""
    pixmap = qt.QPixmap(2 * widget.width, 2 * widget.height)
    pixmap.setDevicePixelRatio(2.0)
    widget.render(pixmap)
    with tempfile.TemporaryDirectory() as folder:
        pixmap.save(f"{folder}/widget.png")
        return Image.open(f"{folder}/widget.png").convert("RGB").copy()


def besideAtHeight(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures beside each other, the left one as high as the right one."""
    width = round(left.width * right.height / left.height)
    return sideBySide([left.resize((width, right.height), Image.Resampling.LANCZOS), right])


# -- the views ------------------------------------------------------------------------------------------


def sliceLogic(view: str = "Red") -> Any:
    """Slice logic of a view, with its model for the 3D view."""
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetSliceNode(slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode"))
    logic.SetSliceCompositeNode(slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode"))
    return logic


def sliceView(view: str = "Red") -> Image.Image:
    """What a slice view shows, as its own pipeline blends it."""
    logic = sliceLogic(view)
    logic.UpdatePipeline()
    blend = logic.GetBlend()
    blend.Update()
    return Image.fromarray(pixelsOf(blend.GetOutput())[::-1, :, :3])


def pixelsOf(image: Any) -> np.ndarray:
    """Image (row from below, column, component) of VTK as an array."""
    values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    columns, rows, _ = image.GetDimensions()
    return np.ascontiguousarray(values.reshape(rows, columns, -1))


def view3d(panel: Any) -> Image.Image:
    """The C-arm with the image on its detector and the vessels registered, by the 3D view's displayable managers."""
    scene = slicer.mrmlScene
    panel.p.showCArm = True
    view = slicer.vtkMRMLViewNode()
    view.SetName("View1")
    view.SetLayoutName("1")
    view.SetBoxVisible(False)
    view.SetAxisLabelsVisible(False)
    view.SetBackgroundColor(0.08, 0.09, 0.12)
    view.SetBackgroundColor2(0.32, 0.36, 0.44)
    view = scene.AddNode(view)
    keep = sliceLogic()
    renderer, window, interactor = vtk.vtkRenderer(), vtk.vtkRenderWindow(), vtk.vtkRenderWindowInteractor()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(8)
    window.SetSize(*VIEW_PX)
    window.AddRenderer(renderer)
    interactor.SetRenderWindow(window)
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in (
        "vtkMRMLCameraDisplayableManager",
        "vtkMRMLViewDisplayableManager",
        "vtkMRMLModelDisplayableManager",
        "vtkMRMLMarkupsDisplayableManager",
        "vtkMRMLSegmentationsDisplayableManager3D",
    ):
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = factory.InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(view)
    keep.UpdatePipeline()
    window.Render()
    placeCamera(renderer)
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.SetInputBufferTypeToRGB()
    grabber.ReadFrontBufferOff()
    grabber.Update()
    return Image.fromarray(pixelsOf(grabber.GetOutput())[::-1])


def placeCamera(renderer: Any) -> None:
    """From beside the beam, a little behind the head and above, so that the detector's image is seen; all of it in the picture."""
    from DeepIterRegSlicer.scene import results

    carm = results.registrationOf(results.registrationsIn(slicer.mrmlScene)[-1]).carm
    middle = carm.pixel_positions(np.array([[(carm.columns - 1) / 2, (carm.rows - 1) / 2]]))[0]
    beam = (middle - carm.source_mm) / np.linalg.norm(middle - carm.source_mm)
    side = np.cross(beam, (0, 0, 1))
    camera = renderer.GetActiveCamera()
    camera.SetFocalPoint(*(carm.source_mm + 0.55 * (middle - carm.source_mm)))
    camera.SetPosition(*(np.array(camera.GetFocalPoint()) + 1000 * (side - 0.5 * beam + np.array((0, 0, 0.35)))))
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCamera()
    camera.Zoom(2.5)
    camera.SetWindowCenter(0, 0.2)
    renderer.ResetCameraClippingRange()


if __name__ == "__main__":
    main()
