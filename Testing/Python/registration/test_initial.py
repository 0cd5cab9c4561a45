"""Where the refinement starts: the network beside the search, its acceptance, and what happens when it cannot be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from repository import ROOT
from tree_scene import CTA, MASK, run_at, small, truth_at

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.options import Refinement, Search
from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.network.model import NetworkSettings, PoseNetwork
from DeepIterRegLib.registration.network.proposals import NetworkInit, network_poses
from DeepIterRegLib.registration.network.weights import card_of, save_network
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.scene import make_scene
from DeepIterRegLib.registration.settings import RegistrationSettings

SMALL = NetworkSettings(rows=32, pixel_mm=8.0)


def finer(mask: Volume) -> Volume:
    """Each voxel as 2 x 2 x 2: wide enough to survive opening."""
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    half[:3, 3] = -0.25
    return Volume(mask.voxels.repeat(2, 0).repeat(2, 1).repeat(2, 2), mask.affine @ half)


FINE = finer(MASK)


def fixed_answer(path: Path, rotation: float, translation: float) -> str:
    """Weights of a network that always answers the same: its heads are biases alone."""
    network = PoseNetwork(SMALL)
    for layer, bias in ((network.rotation, rotation), (network.translation, translation)):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, bias)
    save_network(network, path, {"settings": {"network": asdict(SMALL)}})
    return str(path)


def run(init: str, weights: str, truth: np.ndarray, *, veins: bool = True, starts: int = 4) -> Registration:
    angiogram, masks = run_at(truth)
    settings = small(
        RegistrationSettings(init=init, network=NetworkInit(weights, starts=starts, spread_deg=6, spread_mm=6))
    )  # type: ignore[arg-type]
    masks = replace(masks, veins=masks.vessels) if veins else masks
    return register(CTA, angiogram, settings, cta_mask=FINE, dsa_masks=masks)


def error_mm(found: Registration, truth: np.ndarray) -> float:
    return float(mpe_mm(found.carm, found.cta_to_carm, truth, MASK.centre_mm))


def test_the_networks_answers_are_refined(tmp_path: Path) -> None:
    truth = truth_at([4, -5, 3], [4, 3, -5])
    found = run("network", fixed_answer(tmp_path / "still.safetensors", 0, 0), truth)
    assert found.init.method == "network"
    assert found.init.accepted
    assert not found.warnings
    assert [stage.name for stage in found.stages][:2] == ["Network", "Network, refined"]
    assert error_mm(found, truth) < 2


def test_answers_worse_than_the_radiological_pose_are_discarded(tmp_path: Path) -> None:
    truth = truth_at([3, -2, 2], [2, 3, -2])
    found = run("network", fixed_answer(tmp_path / "away.safetensors", 10, 10), truth)
    assert error_mm(found, truth) < 2
    assert not found.init.accepted
    assert found.init.score < found.init.score_radiological
    assert "the refinement started from the radiological pose" in found.warnings[0]


def test_by_default_the_network_is_not_asked() -> None:
    found = run("auto", "", truth_at([8, -9, 10], [9, -7, 12]))
    assert [stage.name for stage in found.stages][:1] == ["Search"]


@pytest.mark.parametrize(
    ("init", "preset"), [("auto", "default"), ("search", "default"), (None, "default"), (None, "paper")]
)
def test_weights_without_the_network_are_refused(init: str | None, preset: str) -> None:
    with pytest.raises(InputError, match=r"network.* is not asked where init is") as refused:
        RegistrationSettings.of(Search(init=init, weights=Path("mine.safetensors")), Refinement(preset=preset))  # type: ignore[arg-type]
    assert refused.value.problems[0].give[0].value == "network"  # type: ignore[attr-defined]


def test_without_veins_the_search_is_used_and_said(tmp_path: Path) -> None:
    truth = truth_at([8, -9, 10], [9, -7, 12])
    found = run("network", fixed_answer(tmp_path / "still.safetensors", 0, 0), truth, veins=False)
    assert error_mm(found, truth) < 2
    assert found.warnings == (
        "The network was not asked: The DSA shows no veins (a run stopped early shows arteries only). "
        "The search was used instead.",
    )


BROKEN = """
import sys, sysconfig
real = sysconfig.get_path
sysconfig.get_path = lambda name, *rest, **more: sys.argv[1] if name == "purelib" else real(name, *rest, **more)
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from test_initial import FINE
from tree_scene import CTA, run_at, small, truth_at
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.settings import RegistrationSettings
angiogram, masks = run_at(truth_at([8, -9, 10], [9, -7, 12]))
settings = small(RegistrationSettings(init="network"))
found = register(CTA, angiogram, settings, cta_mask=FINE, dsa_masks=replace(masks, veins=masks.vessels))
print(found.init.accepted, *found.warnings, sep="|")
"""


def test_a_network_that_cannot_be_imported_is_left_out_and_said(tmp_path: Path) -> None:
    """Safetensors is what the network alone needs; here its files are half gone."""
    (tmp_path / "safetensors").mkdir()
    (tmp_path / "safetensors" / "__init__.py").write_text("import gone_part\n")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "Testing/Python"), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    accepted, *warnings = done.stdout.strip().split("|")
    assert accepted == "True"
    told = [warning for warning in warnings if "safetensors" in warning]
    assert told == [
        "The network was not asked: The Python package safetensors is installed but broken: its part gone_part is missing, as after an "
        "installation that was interrupted. The search was used instead."
    ]


@pytest.mark.parametrize("fault", ["absent", "truncated", "no card"])
def test_weights_that_cannot_be_used_lead_to_the_search(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    fixed_answer(path, 0, 0)
    if fault == "absent":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        card_of(path).unlink()
    truth = truth_at([8, -9, 10], [9, -7, 12])
    found = run("network", str(path), truth)
    assert error_mm(found, truth) < 2
    assert len([warning for warning in found.warnings if "network" in warning]) == 1
    assert "mine.safetensors" in found.warnings[0]
    assert found.warnings[0].endswith("The search was used instead.")


def test_a_cta_without_large_veins_is_said(tmp_path: Path) -> None:
    thin = MASK.with_voxels(np.zeros_like(MASK.voxels))
    thin.voxels[10:-10, 20, 20] = thin.voxels[20, 10:-10, 30] = True
    angiogram, masks = run_at(pose.radiological(MASK.centre_mm))
    masks = replace(masks, veins=masks.vessels)
    scene = replace(make_scene(MASK, [angiogram], [masks], MASK.centre_mm), cta_vessels=thin)
    weights = fixed_answer(tmp_path / "still.safetensors", 0, 0)
    with pytest.raises(InputError, match="no large veins"):
        network_poses(scene, pose.radiological(MASK.centre_mm), NetworkInit(weights), 0)


def test_network_is_asked_with_every_view_that_shows_veins(tmp_path: Path) -> None:
    start = pose.radiological(FINE.centre_mm)
    angiogram, arteries = run_at(start)
    veins = replace(arteries, veins=arteries.vessels)
    settings = NetworkInit(fixed_answer(tmp_path / "still.safetensors", 0, 0), starts=3, rounds=1)
    one = network_poses(make_scene(FINE, [angiogram], [veins], FINE.centre_mm), start, settings, 0)
    three = make_scene(FINE, [angiogram] * 3, [veins, arteries, veins], FINE.centre_mm)
    np.testing.assert_allclose(network_poses(three, start, settings, 0), np.concatenate([one, one]))
