"""The section "Reader study" from its real .ui on real MRML, with a study of registrations of a small phantom."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.registration.result import InitRecord, Registration
from DeepIterRegLib.results.report import write_registration
from DeepIterRegLib.studies.reader_study.cases import read_cases
from DeepIterRegLib.studies.reader_study.make import write_study
from DeepIterRegLib.studies.reader_study.ranks import SCALE
from DeepIterRegLib.studies.reader_study.reading import Comparison, Reading

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

import slicer

import panels
import standin

standin.install()

METHODS = ("zorblatt", "quuxify", "plughman")


@pytest.fixture(scope="module")
def made(patient_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three methods on two runs: three comparisons with the DSA, three of finished overlays."""
    work = tmp_path_factory.mktemp("cases")
    angiogram, vessels = read_angiogram(patient_folder / "dsa.dcm"), load_volume(patient_folder / "arteries.nii.gz")
    rows = ["patient,method,folder,dsa"]
    for shift_mm, method in zip((0.0, 5.0, 15.0), METHODS, strict=True):
        moved = pose.translation(np.array([shift_mm, 0.0, shift_mm])) @ read_pose(patient_folder / "truth.tfm")
        init = InitRecord("file", True, 0.5, 0.1)
        found = Registration(moved, angiogram.carm, vessels.centre_mm, 0.5, init, (), {}, (), {}, {})
        (work / method).mkdir()
        write_registration(work / method, found, angiogram, vessels)
        rows += [f"one,{method},{method},{patient_folder / 'dsa.dcm'}", f"two,{method},{method},"]
    (work / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    study = work / "study"
    study.mkdir()
    write_study(study, read_cases(work / "table.csv"), 1, 4, Progress())
    return study


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A reader's folder, without the author's: the panel cannot need the key."""
    shutil.copytree(made / "reader1", tmp_path / "reader1")
    return tmp_path / "reader1"


@pytest.fixture
def study(scene: Any, request: pytest.FixtureRequest) -> SimpleNamespace:
    """The panel with the two slice views of the layout side by side; `ui` the section's own controls."""
    for view in ("Red", "Yellow"):
        addView(view)
    panel = request.getfixturevalue("panel")  # opened with the views there
    return SimpleNamespace(
        representation=panel.representation, ui=slicer.util.childWidgetVariables(panel.representation)
    )


def addView(view: str) -> None:
    for kind in (slicer.vtkMRMLSliceNode, slicer.vtkMRMLSliceCompositeNode):
        node = kind()
        node.SetSingletonTag(view)
        node.SetLayoutName(view)
        if kind is slicer.vtkMRMLSliceNode:
            node.SetDimensions(400, 300, 1)
        slicer.mrmlScene.AddNode(node)


def viewOf(view: str) -> tuple[Any, Any]:
    scene = slicer.mrmlScene
    return scene.GetSingletonNode(view, "vtkMRMLSliceNode"), scene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")


def openStudy(study: SimpleNamespace, folder: Path) -> list[Comparison]:
    """As a reader does; what will be compared, in order."""
    standin.answers["getExistingDirectory"] = str(folder)
    study.ui.studyCollapsibleButton.collapsed = False
    study.ui.openStudyButton.click()
    assert study.ui.studyMessageLabel.text == ""
    assert not study.ui.studyWidget.isHidden()
    return Reading(folder).comparisons


def voxels(nodeId: str) -> np.ndarray:
    return np.asarray(slicer.util.arrayFromVolume(slicer.mrmlScene.GetNodeByID(nodeId)))


def test_both_sides_are_shown_where_the_study_says(study: SimpleNamespace, folder: Path) -> None:
    kinds = set()
    for number, comparison in enumerate(openStudy(study, folder), 1):
        assert study.ui.studyProgressLabel.text.startswith(f"Comparison {number} of 6")
        kinds.add(comparison.dsa is None)
        for view, path in (("Red", comparison.left), ("Yellow", comparison.right)):
            sliceNode, composite = viewOf(view)
            if comparison.dsa is None:
                from PIL import Image

                assert np.array_equal(voxels(composite.GetBackgroundVolumeID())[0], np.asarray(Image.open(path)))
                assert composite.GetForegroundVolumeID() is None
                shape = voxels(composite.GetBackgroundVolumeID()).shape
            else:
                assert np.array_equal(voxels(composite.GetForegroundVolumeID()), load_volume(path).voxels)
                assert np.array_equal(voxels(composite.GetBackgroundVolumeID()), load_volume(comparison.dsa).voxels[:1])
                shape = voxels(composite.GetForegroundVolumeID()).shape
            assert cornersInView(sliceNode, composite.GetBackgroundVolumeID(), shape)
            assert composite.GetLinkedControl()
        study.ui.rank3Button.click()
    assert kinds == {True, False}


def cornersInView(sliceNode: Any, nodeId: str, shape: tuple[int, ...]) -> bool:
    """First pixel up left, last one down right, both inside the view."""
    node = slicer.mrmlScene.GetNodeByID(nodeId)
    toRas = slicer.util.arrayFromVTKMatrix(_matrix(node))
    toView = np.linalg.inv(slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS()))
    rows, columns = shape[1:3]
    first, last = ((toView @ toRas @ [*ij, 0, 1])[:2] for ij in ((0, 0), (columns - 1, rows - 1)))
    wide, high, _ = sliceNode.GetDimensions()
    inside = all(0 <= x <= wide and 0 <= y <= high for x, y in (first, last))
    return bool(inside and first[0] < last[0] and first[1] > last[1])  # y of a view rises upwards


def _matrix(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_a_pair_fits_views_that_get_their_size_later(views: None, panel: SimpleNamespace, folder: Path) -> None:
    """The layout is drawn after it was chosen: pictures that were fitted to the old size were cut by half."""
    study = SimpleNamespace(ui=slicer.util.childWidgetVariables(panel.representation))
    openStudy(study, folder)
    panels.wait(lambda: viewOf("Yellow")[0].GetDimensions()[:2] == (600, 800), "the layout is not drawn")
    standin.processEvents(0.15)
    for view in ("Red", "Yellow"):
        sliceNode, composite = viewOf(view)
        volume = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
        size = np.array(volume.GetImageData().GetDimensions()[:2]) * volume.GetSpacing()[:2]
        shown = np.array(sliceNode.GetFieldOfView()[:2]) / size
        assert shown.min() == pytest.approx(1.0, abs=0.01), "whole, and as large as may be"
    study.ui.closeStudyButton.click()


def test_every_answer_is_on_disk_at_once(study: SimpleNamespace, folder: Path) -> None:
    asked = [comparison.id for comparison in openStudy(study, folder)]
    study.ui.studyCommentEdit.text = "sharp at the siphon"
    study.ui.rank2Button.click()
    assert study.ui.studyCommentEdit.text == ""
    study.ui.rank5Button.click()
    assert study.ui.studyProgressLabel.text == "Comparison 3 of 6, 2 answered"
    study.ui.studyBackButton.click()
    study.ui.studyBackButton.click()
    assert not study.ui.studyBackButton.enabled
    assert study.ui.rank2Button.checked
    assert not study.ui.rank5Button.checked
    assert study.ui.studyCommentEdit.text == "sharp at the siphon"
    study.ui.rank4Button.click()
    rows = list(csv.DictReader((folder / "ranks.csv").open(encoding="utf-8")))
    assert [(r["comparison"], r["rank"]) for r in rows] == [(asked[0], "2"), (asked[1], "5"), (asked[0], "4")]
    assert all(float(r["seconds"]) >= 0 for r in rows)
    study.ui.closeStudyButton.click()
    assert study.ui.studyWidget.isHidden()
    openStudy(study, folder)
    assert study.ui.studyProgressLabel.text == "Comparison 3 of 6, 2 answered"
    assert not study.ui.studyNextButton.enabled
    for _ in asked[2:]:
        study.ui.rank1Button.click()
    assert "All are answered" in study.ui.studyProgressLabel.text
    assert study.ui.rank1Button.checked  # the last stays shown, with its answer


def test_keys_answer_and_stay_out_of_the_comment(study: SimpleNamespace, folder: Path) -> None:
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    comparisons = openStudy(study, folder)
    window = study.representation
    window.show()
    window.activateWindow()
    QTest.qWaitForWindowActive(window)
    asked = [comparison.id for comparison in comparisons]
    QTest.keyClick(window, Qt.Key.Key_4)
    standin.processEvents(0.3)
    assert Reading(folder).answers[asked[0]].rank == 4
    study.ui.studyCommentEdit.setFocus()
    QTest.keyClicks(study.ui.studyCommentEdit, "2 veins")
    standin.processEvents(0.3)
    assert study.ui.studyCommentEdit.text == "2 veins"
    assert len(Reading(folder).answers) == 1
    study.ui.closeStudyButton.click()
    QTest.keyClick(window, Qt.Key.Key_1)
    standin.processEvents(0.2)
    rows = list(csv.DictReader((folder / "ranks.csv").open(encoding="utf-8")))
    assert [r["rank"] for r in rows] == ["4"]


def test_the_words_are_the_scale(study: SimpleNamespace) -> None:
    for rank, words in SCALE.items():
        button = getattr(study.ui, f"rank{rank}Button")
        assert button.text == f"{rank}   {words}"
        assert button.toolTip
    assert study.ui.studyWidget.isHidden()


def test_look_of_both_sides_alike(study: SimpleNamespace, folder: Path) -> None:
    openStudy(study, folder)
    while Reading(folder).current.dsa is None:
        assert not study.ui.studyOpacitySlider.enabled
        study.ui.rank3Button.click()
    study.ui.studyOpacitySlider.value = 0.3
    study.ui.studyTintCheckBox.checked = False
    before = [displayOf(view).GetWindowLevelMax() for view in ("Red", "Yellow")]
    study.ui.studyBrightnessSlider.value = 2.0
    for view, full in zip(("Red", "Yellow"), before, strict=True):
        composite = viewOf(view)[1]
        assert composite.GetForegroundOpacity() == pytest.approx(0.3)
        assert displayOf(view).GetWindowLevelMax() == pytest.approx(full / 2)
        assert displayOf(view).GetColorNode().GetName() == "Study white"
    study.ui.rank3Button.click()
    assert study.ui.studyOpacitySlider.value == pytest.approx(0.3)  # the reader's look stays


def test_frames_behind_both_sides(study: SimpleNamespace, folder: Path) -> None:
    openStudy(study, folder)
    while Reading(folder).current.dsa is None:
        study.ui.rank3Button.click()
    run, ui = load_volume(Reading(folder).current.dsa).voxels, study.ui

    def shown() -> np.ndarray:
        left, right = (voxels(viewOf(view)[1].GetBackgroundVolumeID())[0] for view in ("Red", "Yellow"))
        assert np.array_equal(left, right)
        return left

    assert np.array_equal(shown(), run[0])
    assert ui.studyFrameSlider.maximum == len(run) - 1
    assert not ui.studyFrameSlider.enabled
    ui.studyLastSlider.value = 3.0
    ui.studyFirstSlider.value = 2.0
    assert np.array_equal(shown(), run[2:4].min(axis=0))
    ui.studyMinipCheckBox.checked = False
    ui.studyFrameSlider.value = 4.0
    assert np.array_equal(shown(), run[4])
    assert ui.studyFrameSlider.enabled
    assert not ui.studyFirstSlider.enabled


def displayOf(view: str) -> Any:
    return slicer.mrmlScene.GetNodeByID(viewOf(view)[1].GetForegroundVolumeID()).GetDisplayNode()


def test_nothing_in_the_scene_tells_the_method_and_nothing_stays(
    study: SimpleNamespace, folder: Path, tmp_path: Path
) -> None:
    before = slicer.mrmlScene.GetNumberOfNodes()
    for _ in openStudy(study, folder):
        nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
        text = "".join(f"{n.GetName()} {n.GetDescription()} {n}" for n in nodes).lower()
        assert "study left" in text
        assert not any(method in text for method in METHODS)
        study.ui.rank3Button.click()
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.Commit()
    assert "Study" not in (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    study.ui.closeStudyButton.click()
    left = [slicer.mrmlScene.GetNthNode(n) for n in range(before, slicer.mrmlScene.GetNumberOfNodes())]
    assert [node.GetClassName() for node in left] in ([], ["vtkMRMLSubjectHierarchyNode"])


def test_a_scene_closed_meanwhile_and_a_wrong_folder(study: SimpleNamespace, folder: Path, tmp_path: Path) -> None:
    standin.answers["getExistingDirectory"] = str(tmp_path)
    study.ui.openStudyButton.click()
    assert "not a reader's folder" in study.ui.studyMessageLabel.text
    assert study.ui.studyWidget.isHidden()
    openStudy(study, folder)
    slicer.mrmlScene.Clear(0)
    study.ui.rank3Button.click()
    assert len(Reading(folder).answers) == 1
    (folder / "images").rename(folder / "gone")
    study.ui.rank3Button.click()
    assert study.ui.studyMessageLabel.text
    assert len(Reading(folder).answers) == 2  # the answer was given before the next image was looked for
    standin.answers["getExistingDirectory"] = ""
    study.ui.openStudyButton.click()
    assert not study.ui.studyWidget.isHidden()  # cancelled: the study stays open
