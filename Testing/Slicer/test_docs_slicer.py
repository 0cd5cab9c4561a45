"""What the documentation tells people to run in 3D Slicer: the console's page as printed, and the example script."""

from __future__ import annotations

import runpy
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import slicer

import scenes
import standin
from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegSlicer.scene import fill, results, view3d
from DeepIterRegSlicer.scene.prepare import prepareToShow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Benchmarks"))

from docs import PAGES, ROOT, blocks_of

SCRIPT = ROOT / "Resources" / "Docs" / "examples" / "script_in_slicer.py"


def errorOf(nodes: Any, folder: Path) -> float:
    registration = results.registrationOf(nodes)
    truth = read_pose(folder / "truth.tfm")
    return float(mpe_mm(registration.carm, registration.cta_to_carm, truth, registration.centre_cta_mm))


def test_the_console_s_page_runs_as_printed(scene: Any, patient_folder: Path) -> None:
    """Its blocks in order, in one console; a ball stands for the penumbra."""
    blocks = [block for page in PAGES for block in blocks_of(page) if block.when == "slicer"]
    assert {block.page.name for block in blocks} == {"slicer_console.md"}
    standin.install()
    slicer.util.loadVolume(str(patient_folder / "cta.nii.gz"), {"name": "CTA"})
    names: dict[str, Any] = {"slicer": slicer}
    for block in blocks:
        if "Penumbra" in block.text:
            centre = results.registrationOf(names["nodes"]).centre_cta_mm
            scenes.addBall(centre).SetName("Penumbra")
            standin.openViews()
        code = block.text.replace("/data/run.dcm", str(patient_folder / "dsa.dcm"))
        exec(compile(code, f"{block.page.name}:{block.line}", "exec"), names)
    first, last = results.registrationsIn(scene)
    assert errorOf(first, patient_folder) < 5
    assert all(getattr(first, field.name) is not None for field in fields(first))
    assert all(getattr(last, field.name) is not None for field in fields(last))
    assert names["picture"].IsA("vtkMRMLVectorVolumeNode")
    assert names["ray"].GetNumberOfControlPoints() == 2
    assert names["vessel"].GetNumberOfControlPoints() == 1
    assert view3d.cameraNode().GetCamera().GetUserTransform() is not None


@pytest.fixture
def example() -> dict[str, Any]:
    standin.install()
    return runpy.run_path(str(SCRIPT))


def test_the_example_registers_and_saves(
    scene: Any, example: dict[str, Any], patient_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "scene.mrb"
    cta, dsa = patient_folder / "cta.nii.gz", patient_folder / "dsa.dcm"
    nodes = example["registerAndSave"](str(cta), str(dsa), str(bundle))
    assert errorOf(nodes, patient_folder) < 5
    assert capsys.readouterr().out.startswith("accepted: ")
    assert bundle.stat().st_size > 10_000
    (found,) = results.registrationsIn(scenes.saveAndReopen(tmp_path))
    assert errorOf(found, patient_folder) < 5


def test_the_example_shows_the_overlay(scene: Any, example: dict[str, Any]) -> None:
    layout = standin.openViews()
    nodes = fill.show(prepareToShow(scenes.helixOutcome()))
    example["show"](nodes)
    composite = layout.sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == nodes.minip.GetID()
    assert composite.GetForegroundVolumeID() == nodes.projection.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.6)


def test_the_example_says_what_is_wrong_and_ends_slicer(
    scene: Any, example: dict[str, Any], patient_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ended = []
    monkeypatch.setattr(slicer.util, "exit", ended.append)
    monkeypatch.setattr(
        sys, "argv", ["script_in_slicer.py", "--", str(patient_folder / "cta.nii.gz"), "absent.dcm", "x.mrb"]
    )
    example["main"]()
    assert ended == [2]
    assert "absent.dcm" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["script_in_slicer.py", "cta.nii.gz"])
    with pytest.raises(SystemExit, match="three files"):
        example["main"]()
