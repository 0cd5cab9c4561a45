"""Real MRML of slicer-core with the stand-in for the rest of Slicer; an empty scene for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import standin

standin.installSlicer()

import panels  # noqa: E402
import scenes  # noqa: E402


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty `slicer.mrmlScene`; exceptions in observers and slots fail the test."""
    standin.slotErrors.clear()
    yield standin.newScene()
    assert not standin.slotErrors


@pytest.fixture
def views(scene: Any) -> None:
    """Slicer's slice views, which a panel opened afterwards finds."""
    standin.install()
    standin.openViews()  # not handed on: the views must go before the scene's logics do, when a test reopens a scene


@pytest.fixture
def panel(scene: Any) -> Iterator[SimpleNamespace]:
    """The module's panel, entered, in an empty scene; without views, unless `views` was asked for before."""
    standin.install()
    standin.answers.clear()
    standin.messages.clear()
    panel = panels.opened()
    yield panel
    panels.close(panel)


@pytest.fixture
def case(panel: SimpleNamespace, patient_folder: Path) -> SimpleNamespace:
    """The panel with a small patient's CTA and its run, loaded as a person does; refined from the radiological pose, the fastest way."""
    from DeepIterRegLib.images.files import load_volume

    volume = load_volume(patient_folder / "cta.nii.gz")
    panel.p.cta = scenes.addVolume(volume.voxels, volume.affine)
    panel.p.init = panel.python.Init.radiological
    standin.answers["getOpenFileName"] = str(patient_folder / "dsa.dcm")
    panel.ui.loadXaButton.click()
    assert panel.ui.applyButton.text == "Apply"
    return panel


@pytest.fixture
def segmented(case: SimpleNamespace, patient_folder: Path) -> SimpleNamespace:
    """The case with the CTA's vessels brought: three of its five seconds are their segmentation."""
    from DeepIterRegLib.images.files import load_volume

    for name, file in (("vessels", "arteries"), ("veins", "veins")):
        mask = load_volume(patient_folder / f"{file}.nii.gz")
        node = scenes.addVolume(mask.voxels.astype(np.uint8), mask.affine, file, "vtkMRMLLabelMapVolumeNode")
        setattr(case.p, name, node)
    return case


@pytest.fixture(scope="session")
def outcome() -> Any:
    """A registration of the helix, ready to be shown."""
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    return prepareToShow(scenes.helixOutcome())


@pytest.fixture
def shown(views: None, panel: SimpleNamespace, outcome: Any) -> SimpleNamespace:
    """The panel with slice views and a registration, chosen by a person."""
    panel.nodes = panels.addResult(outcome)
    panels.choose(panel.ui.resultSelector, panel.nodes.ctaToCarm)
    return panel
