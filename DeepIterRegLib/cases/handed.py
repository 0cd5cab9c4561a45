"""A pose that a person set by hand, handed to a session through a file in its folder, whether it is followed just then or not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from DeepIterRegLib.cases.case import Outcome
from DeepIterRegLib.common.atomic_output import output_file
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.pose_files import as_rigid
from DeepIterRegLib.registration.manual import LiveScore
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.scene import contrast_image

HANDED = "handed.json"
_REFUSAL = f"{HANDED} holds no pose of a run, or it is damaged: hand the pose over again."


@dataclass(frozen=True)
class Handed:
    """The pose of a run.

    Attributes
    ----------
    run
        Its name in the session.
    cta_to_carm : (4, 4)
    carm
        With which it was seen to fit.
    """

    run: str
    cta_to_carm: np.ndarray
    carm: CArm


def write_handed(folder: Path, handed: Handed) -> None:
    """Hand a pose to the session of a folder; one that was not taken yet is replaced."""
    values = {"run": handed.run, "ctaToCarm": handed.cta_to_carm.tolist(), "carm": handed.carm.to_dict()}
    with output_file(folder / HANDED, (".json",), overwrite=True) as path:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_handed(folder: Path) -> Handed | None:
    """What waits in the folder of a session; None where nothing does.

    Raises
    ------
    InputError
        The file holds something else.
    """
    if not (folder / HANDED).exists():
        return None
    tree = read_json(folder / HANDED, _REFUSAL)
    try:
        matrix = as_rigid(np.array(tree["ctaToCarm"], dtype=np.float64), HANDED)
        return Handed(str(tree["run"]), matrix, CArm.from_dict(tree["carm"]))
    except MALFORMED:
        raise InputError(_REFUSAL) from None


def taken(folder: Path) -> None:
    """What waited has been done."""
    (folder / HANDED).unlink(missing_ok=True)


def scored(found: Registration, outcome: Outcome, seed: int) -> Registration:
    """A registration whose pose was changed, with the score at that pose."""
    contrast = np.where(outcome.angiogram.valid, contrast_image(outcome.dsa_masks, outcome.angiogram.valid), -1)
    score = LiveScore(outcome.vessels, contrast.astype(np.float32), found.carm, seed=seed)(found.cta_to_carm)
    return replace(found, score=score, views=tuple(replace(view, score=score) for view in found.views))
