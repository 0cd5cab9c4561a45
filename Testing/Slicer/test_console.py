"""At the Python console: names for nodes, misspelt options and values of another kind are one sentence each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

import scenes
import standin
from DeepIterRegLib.common.errors import InputError
from DeepIterRegSlicer.logic import DeepIterRegLogic, RegistrationOptions

standin.installSlicer()


@pytest.fixture
def cta(scene: Any) -> Any:
    return scenes.addVolume(np.zeros((8, 8, 8), np.int16), name="CTA")


@pytest.fixture
def dsa(scene: Any) -> Any:
    return scenes.addVolume(np.zeros((1, 8, 8), np.int16), name="DSA")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dsa_2": None}, "There is no option dsa_2; did you mean dsa2?"),
        ({"refineGeometry": True}, "There is no option refineGeometry; did you mean refine_geometry?"),
        ({"xyz": 1}, "There is no option xyz; there are "),
        ({"vessels": "arteries"}, "vessels is given as text; give the node: slicer.util.getNode finds it by its name."),
        ({"referenceTransform": np.eye(4)}, "referenceTransform is of the kind ndarray; give a node of the scene."),
        ({"init": 3}, "init must be radiological or search or network or skull or auto or landmarks or transform."),
        ({"init": "serach"}, "init must be "),
        ({"seed": 1.5}, "seed must be a whole number."),
        ({"contrast_hu": "45"}, "contrast_hu must be a number."),
        ({"between_runs": "yes"}, "between_runs must be True or False."),
        ({"refine_geometry": True}, "refine_geometry must be auto or on or off."),
        ({"device": "gpu"}, "device must be auto or cpu or cuda or cuda:1 or cuda:2 or cuda:3."),
        ({"geometry": {"sid_mm": 1000}}, "geometry must be a GeometryOptions"),
        ({"mask_frames": 1}, "mask_frames must be numbers of frames"),
    ],
)
def test_wrong_options_are_one_sentence(cta: Any, dsa: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        DeepIterRegLogic().register(cta, dsa, **options)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert caught.value.problems[0].startswith(said)


def test_a_node_of_another_kind_is_named(cta: Any, dsa: Any) -> None:
    with pytest.raises(InputError, match=r"ctaLandmarks is a node of the kind Volume; a Markups is needed\."):
        DeepIterRegLogic().register(cta, dsa, ctaLandmarks=dsa)


@pytest.mark.parametrize(
    ("given", "kind"), [("CTA", "text"), (7, "int"), ([], "list"), (Path("cta.nii.gz"), "PosixPath")]
)
@pytest.mark.parametrize("which", ["CTA", "DSA"])
def test_what_is_no_node_is_one_sentence(cta: Any, dsa: Any, which: str, given: Any, kind: str) -> None:
    nodes = {"CTA": cta, "DSA": dsa, which: given}
    with pytest.raises(InputError) as caught:
        DeepIterRegLogic().prepare(nodes["CTA"], nodes["DSA"], RegistrationOptions())
    (problem,) = caught.value.problems
    assert problem.startswith(f"{which} is ")
    assert kind in problem


def test_all_that_is_wrong_is_said_at_once(cta: Any) -> None:
    with pytest.raises(InputError) as caught:
        DeepIterRegLogic().register(cta, "DSA", seed="x", device="gpu")
    assert len(caught.value.problems) == 3


def test_names_are_not_quoted(cta: Any) -> None:
    """A node may be called as the patient is."""
    with pytest.raises(InputError) as caught:
        DeepIterRegLogic().register(cta, "Doe^Jane")
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("call", ["lookFromSource", "lookFreely"])
def test_cameras_without_a_window_are_a_sentence(scene: Any, outcome: Any, call: str) -> None:
    from DeepIterRegSlicer.scene import fill, roadmap

    nodes = fill.show(outcome)
    look: Callable[..., None] = getattr(roadmap, call)
    assert slicer.app.layoutManager() is None
    with pytest.raises(InputError, match="no 3D view"):
        look(*((nodes,) if call == "lookFromSource" else ()))
