"""What the views show when the panel is opened and left, a scene is loaded, a run ends elsewhere, or others have changed them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import scenes
import standin
from DeepIterRegLib.registration.result import Confidence
from panels import addResult, background, choose, composite, foreground, sliceNode

standin.install()


def addHead(name: str = "CTA head") -> Any:
    """A volume as others show it in a slice view."""
    node = scenes.addVolume(np.zeros((6, 40, 40), np.int16), np.diag([5.0, 5.0, 5.0, 1.0]), name)
    node.CreateDefaultDisplayNodes()
    return node


def showAxial(volume: Any, view: str = "Red") -> None:
    """What the Segment Editor, Add Data, or a person does with a slice view."""
    composite(view).SetBackgroundVolumeID(volume.GetID())
    composite(view).SetForegroundVolumeID(None)
    sliceNode(view).SetOrientation("Axial")
    sliceNode(view).SetFieldOfView(200.0, 200.0, 1.0)
    sliceNode(view).SetSliceOffset(15.0)


def isOverlay(nodes: Any, view: str = "Red") -> bool:
    """The run behind, the projection in front, and the slice in the detector's plane."""
    from DeepIterRegSlicer.nodes.volumes import ijkToRas

    plane = slicer.util.arrayFromVTKMatrix(sliceNode(view).GetSliceToRAS())[:3, 2]
    along = abs(plane @ ijkToRas(nodes.minip)[:3, 2])
    return bool(background(view) is nodes.minip and foreground(view) is nodes.projection and along > 0.999)


def lookOf(view: str = "Red") -> tuple[Any, ...]:
    """All of a slice view, but for its size."""
    node, shown = sliceNode(view), composite(view)
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()).round(6).tolist()
    zoom = [round(value, 6) for value in (*node.GetFieldOfView(), *node.GetXYZOrigin())]
    ids = (shown.GetBackgroundVolumeID(), shown.GetForegroundVolumeID(), round(shown.GetForegroundOpacity(), 3))
    return (matrix, zoom, ids, bool(node.GetSliceVisible()))


# -- a scene that holds registrations -----------------------------------------------------------------------------


def test_the_list_is_never_grey_and_none_is_no_dead_end(shown: SimpleNamespace) -> None:
    choose(shown.ui.resultSelector, None)
    assert not shown.ui.overlayButton.enabled
    assert not shown.ui.opacitySlider.enabled
    standin.processEvents()
    assert shown.p.result is None, "put away by a person, it stays away"
    choose(shown.ui.resultSelector, shown.nodes.ctaToCarm)
    assert isOverlay(shown.nodes)
    assert shown.ui.opacitySlider.enabled


@pytest.fixture
def bundle(scene: Any, outcome: Any, tmp_path: Path) -> Path:
    """A scene as a batch writes it."""
    return batchScene(outcome, tmp_path)


def batchScene(outcome: Any, folder: Path) -> Path:
    from DeepIterRegSlicer.scene import batch_scene, fill, results

    nodes = fill.show(outcome)
    cta = addHead("CTA")
    results.placeUnder(nodes.ctaToCarm, cta)
    batch_scene.layOut(nodes, cta)
    path = folder / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(path))
    slicer.mrmlScene.Clear(0)
    return path


def checkShown(panel: SimpleNamespace, outcome: Any) -> None:
    """Overlay, confidence and vessels in 3D, with nothing else done."""
    from DeepIterRegSlicer.scene import results, view3d

    (nodes,) = results.registrationsIn(slicer.mrmlScene)
    assert isOverlay(nodes)
    assert panels.parametersOf(panel.widget).result is nodes.ctaToCarm
    assert panel.ui.resultSelector.currentNode() is nodes.ctaToCarm
    assert panel.ui.scoreValueLabel.text == f"{outcome.registration.score:.3f}"
    assert panel.ui.confidenceValueLabel.text
    assert panel.ui.overlayButton.enabled
    assert nodes.vessels.GetDisplayNode().GetVisibility()
    assert not nodes.frustum.GetDisplayNode().GetVisibility()
    bounds = [0.0] * 6
    nodes.vessels.GetRASBounds(bounds)
    camera = view3d.cameraNode()
    middle = (np.array(bounds[::2]) + np.array(bounds[1::2])) / 2
    np.testing.assert_allclose(camera.GetFocalPoint(), middle, atol=1.0)


def test_a_batchs_scene_shows_its_result_before_the_panel_is_opened(bundle: Path, outcome: Any, tmp_path: Path) -> None:
    standin.install()
    standin.newScene()
    standin.openViews()
    scenes.openInto(bundle, tmp_path)
    from DeepIterRegSlicer.scene import results

    (nodes,) = results.registrationsIn(slicer.mrmlScene)
    assert isOverlay(nodes)
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    panel = panels.opened()
    checkShown(panel, outcome)
    panels.close(panel)


def test_a_scene_loaded_into_the_open_panel_is_shown(bundle: Path, outcome: Any, tmp_path: Path) -> None:
    standin.install()
    standin.newScene()
    standin.openViews()
    panel = panels.opened()
    scenes.openInto(bundle, tmp_path)
    standin.processEvents()
    checkShown(panel, outcome)
    # Loaded again: every parameter is already what it becomes, and no event tells of it.
    scenes.openInto(bundle, tmp_path)
    standin.processEvents()
    checkShown(panel, outcome)
    panels.close(panel)


def test_a_rejected_batch_result_is_not_laid_over_the_run(scene: Any, outcome: Any, tmp_path: Path) -> None:
    confidence = Confidence(0.1, 9.0, "rejected", ("They cross.",), {})
    rejected = replace(outcome, registration=replace(outcome.registration, confidence=confidence))
    bundle = batchScene(rejected, tmp_path)
    standin.newScene()
    standin.openViews()
    scenes.openInto(bundle, tmp_path)
    from DeepIterRegSlicer.scene import results

    (nodes,) = results.registrationsIn(slicer.mrmlScene)
    assert (background(), foreground()) == (nodes.minip, None)
    assert not nodes.vessels.GetDisplayNode().GetVisibility()


def test_one_registration_is_taken_by_itself_and_several_are_offered(
    views: None, panel: SimpleNamespace, outcome: Any
) -> None:
    first = addResult(outcome)
    standin.processEvents()
    assert panel.p.result is first.ctaToCarm, "made at the console, while the panel is open"
    panel.p.result = None
    addResult(outcome)
    panel.representation.exit()
    panel.representation.enter()
    assert panel.p.result is None
    assert panel.ui.resultSelector.noneDisplay == "2 registrations: choose one"
    assert panel.ui.resultSelector.enabled


# -- elsewhere meanwhile --------------------------------------------------------------------------------------------


def finishElsewhere(panel: SimpleNamespace, outcome: Any, monkeypatch: pytest.MonkeyPatch, meanwhile: Any) -> None:
    """A run that ends while another module is shown."""
    panel.p.cta, panel.p.dsa = addHead(), scenes.addVolume(np.zeros((1, 8, 8), np.int16), name="DSA")
    monkeypatch.setattr(panel.widget.logic, "prepare", lambda *inputs: None)
    monkeypatch.setattr(panel.widget.logic, "run", lambda *inputs, **options: outcome)
    panel.ui.applyButton.click()
    panel.representation.exit()
    meanwhile()
    panels.finish(panel)


def test_a_run_that_ends_elsewhere_disturbs_nothing_and_is_shown_on_return(
    views: None, panel: SimpleNamespace, outcome: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from DeepIterRegSlicer.scene import results, view3d

    looks: list[Any] = []
    head = addHead("elsewhere")

    def meanwhile() -> None:
        showAxial(head)
        view3d.cameraNode().SetPosition(1.0, 2.0, 3.0)
        looks.append((lookOf(), view3d.cameraNode().GetPosition()))

    finishElsewhere(panel, outcome, monkeypatch, meanwhile)
    (nodes,) = results.registrationsIn(slicer.mrmlScene)
    assert (lookOf(), view3d.cameraNode().GetPosition()) == looks[0]
    for node in (nodes.vessels, nodes.frustum, nodes.carmPoints):
        assert not node.GetDisplayNode().GetVisibility(), "not even in 3D"
    standin.processEvents(0.1)
    assert lookOf() == looks[0][0]
    panel.representation.enter()
    assert isOverlay(nodes)
    assert panel.ui.scoreValueLabel.text
    assert nodes.vessels.GetDisplayNode().GetVisibility()
    assert view3d.cameraNode().GetPosition() != looks[0][1]


# -- the way back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["axial", "another volume", "a label map", "cleared"])
def test_the_overlay_comes_back_by_its_button(shown: SimpleNamespace, change: str) -> None:
    before = lookOf()
    if change == "axial":
        sliceNode().SetOrientation("Axial")
    elif change == "another volume":
        showAxial(addHead())
    elif change == "a label map":
        labels = scenes.addVolume(np.zeros((4, 4, 4), np.uint8), name="m", className="vtkMRMLLabelMapVolumeNode")
        composite().SetLabelVolumeID(labels.GetID())
    else:
        for layer in ("Background", "Foreground"):
            getattr(composite(), f"Set{layer}VolumeID")(None)
    sliceNode().SetXYZOrigin(30.0, 10.0, 0.0)
    shown.ui.overlayButton.click()
    assert isOverlay(shown.nodes)
    assert lookOf() == before
    assert composite().GetLabelVolumeID() is None


def test_what_was_there_before_is_given_back_and_the_overlay_restored(
    views: None, panel: SimpleNamespace, outcome: Any
) -> None:
    head = addHead()
    showAxial(head)
    before = lookOf()
    nodes = addResult(outcome)
    choose(panel.ui.resultSelector, nodes.ctaToCarm)
    panel.ui.opacitySlider.value = 0.35
    panel.ui.minipCheckBox.click()
    panel.ui.frameSlider.value = 2.0
    sliceNode().SetFieldOfView(60.0, 60.0, 1.0)
    sliceNode().SetXYZOrigin(12.0, -7.0, 0.0)
    overlay = lookOf()
    for _twice in range(2):
        panel.representation.exit()
        assert lookOf() == before
        panel.representation.enter()
        assert lookOf() == overlay
    # In a view of another size a millimetre is as wide as it is high, and no part is lost sight of.
    panel.representation.exit()
    slicer.app.layoutManager().sliceWidget("Red").sliceLogic().ResizeSliceNode(800, 400)
    panel.representation.enter()
    across, up, _ = sliceNode().GetFieldOfView()
    assert (across / 800, up / 400) == pytest.approx((60 / 400, 60 / 400))


@pytest.mark.parametrize("change", ["axial", "another volume"])
def test_what_a_person_has_changed_is_not_given_back(
    views: None, panel: SimpleNamespace, outcome: Any, change: str
) -> None:
    showAxial(addHead())
    nodes = addResult(outcome)
    choose(panel.ui.resultSelector, nodes.ctaToCarm)
    if change == "axial":
        sliceNode().SetOrientation("Coronal")
    else:
        showAxial(addHead("other"))
    changed = lookOf()
    panel.representation.exit()
    assert lookOf() == changed
    panel.representation.enter()
    assert isOverlay(nodes)
    panel.representation.exit()
    assert lookOf() == changed, "now this is what was there before"


def test_a_volume_that_is_gone_is_not_given_back(views: None, panel: SimpleNamespace, outcome: Any) -> None:
    head = addHead()
    showAxial(head)
    choose(panel.ui.resultSelector, addResult(outcome).ctaToCarm)
    slicer.mrmlScene.RemoveNode(head)
    panel.representation.exit()
    assert background() is None, background().GetName()
    slicer.mrmlScene.Clear(0)
    panel.representation.enter()


def test_the_layout_before_comes_back_with_the_views(shown: SimpleNamespace, outcome: Any) -> None:
    manager, layouts = slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    second = addResult(outcome)
    shown.ui.sideBySideCheckBox.click()
    choose(shown.ui.secondResultSelector, second.ctaToCarm)
    assert manager.layout == layouts.SlicerLayoutSideBySideView
    shown.representation.exit()
    assert manager.layout == layouts.SlicerLayoutConventionalView
    shown.representation.enter()
    assert manager.layout == layouts.SlicerLayoutSideBySideView
    assert isOverlay(second, "Yellow")
    manager.setLayout(layouts.SlicerLayoutOneUpRedSliceView)
    shown.representation.exit()
    assert manager.layout == layouts.SlicerLayoutOneUpRedSliceView, "chosen by the person since"


def test_the_image_fits_views_that_get_their_size_later(shown: SimpleNamespace, outcome: Any) -> None:
    second = addResult(outcome)
    shown.ui.sideBySideCheckBox.click()
    choose(shown.ui.secondResultSelector, second.ctaToCarm)
    panels.wait(lambda: sliceNode("Yellow").GetDimensions()[:2] == (600, 800), "the layout is not drawn")
    standin.processEvents(0.15)
    for view in ("Red", "Yellow"):
        across, up, _ = sliceNode(view).GetFieldOfView()
        assert (across, up) == pytest.approx((240.0, 320.0), abs=0.5), "240 x 200 mm in 600 x 800 px"


# -- two registrations in one scene ----------------------------------------------------------------------------------


def test_only_the_chosen_registration_is_in_the_3d_view(shown: SimpleNamespace, outcome: Any) -> None:
    from DeepIterRegSlicer.scene import view3d

    shown.ui.show3dCheckBox.click()
    other = addResult(outcome)
    choose(shown.ui.resultSelector, other.ctaToCarm)
    for nodes, visible in ((shown.nodes, False), (other, True)):
        for node in (nodes.vessels, nodes.frustum, nodes.carmPoints):
            assert bool(node.GetDisplayNode().GetVisibility()) is visible
    choose(shown.ui.resultSelector, shown.nodes.ctaToCarm)
    assert shown.nodes.frustum.GetDisplayNode().GetVisibility()
    assert not other.vessels.GetDisplayNode().GetVisibility()
    # The C-arm is a choice: with it the view is wide, without it the vessels fill it.
    camera = view3d.cameraNode()

    def distance() -> float:
        return float(np.linalg.norm(np.subtract(camera.GetPosition(), camera.GetFocalPoint())))

    wide = distance()
    shown.ui.show3dCheckBox.click()
    assert distance() < wide / 3
    bounds = [0.0] * 6
    shown.nodes.vessels.GetRASBounds(bounds)
    radius = np.linalg.norm(np.subtract(bounds[1::2], bounds[::2])) / 2
    shownMm = 2 * distance() * np.tan(np.radians(camera.GetViewAngle() / 2))
    assert 2 * radius < shownMm < 3 * radius
    # Turned by a person, it stays so.
    camera.SetPosition(0.0, -900.0, 0.0)
    shown.ui.opacitySlider.value = 0.2
    shown.representation.exit()
    shown.representation.enter()
    assert camera.GetPosition() == (0.0, -900.0, 0.0)


def test_without_a_3d_view_nothing_is_missed(scene: Any, outcome: Any) -> None:
    from DeepIterRegLib.common.errors import InputError
    from DeepIterRegSlicer.scene import roadmap, view3d

    standin.install()
    standin.openViews(threeD=False)
    panel = panels.opened()
    nodes = addResult(outcome)
    choose(panel.ui.resultSelector, nodes.ctaToCarm)
    assert isOverlay(nodes)
    assert view3d.cameraNode() is None
    with pytest.raises(InputError, match="no 3D view"):
        roadmap.lookFromSource(nodes)
    panels.close(panel)
