"""Poses that a person set by hand, handed to a session through files in its folder, whether it is followed just then or not.

A file for each run, so that none takes another's place before it was taken. Other programs may write one too, as `handed.json`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from DeepIterRegLib.cases.case import Outcome
from DeepIterRegLib.cases.folder_watch import Stamp, stamp_of
from DeepIterRegLib.common.atomic_output import output_file
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.pose_files import as_rigid
from DeepIterRegLib.registration.manual import LiveScore
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.scene import contrast_image

HANDED = "handed.json"


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
    """Hand a pose to the session of a folder; one of the same run that was not taken yet is replaced."""
    values = {"run": handed.run, "ctaToCarm": handed.cta_to_carm.tolist(), "carm": handed.carm.to_dict()}
    with output_file(folder / file_of(handed.run), (".json",), overwrite=True) as path:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def file_of(run: str) -> str:
    """Name of the file by which a run's pose is handed over."""
    return f"handed-{run}.json"


def waiting(folder: Path) -> list[tuple[Path, Stamp]]:
    """The files that wait in the folder of a session, by name, and what shows later whether another was written in their place."""
    found = []
    for path in [folder / HANDED, *sorted(folder.glob(file_of("*")))]:
        with suppress(OSError):  # none, or taken just now
            if path.is_file():
                found.append((path, stamp_of(path)))
    return found


def read_handed(path: Path) -> Handed:
    """The pose in a file.

    Raises
    ------
    InputError
        It holds something else.
    """
    refusal = f"{path.name} holds no pose of a run, or it is damaged: hand the pose over again."
    tree = read_json(path, refusal)
    try:
        found = Handed(str(tree["run"]), np.array(tree["ctaToCarm"], dtype=np.float64), CArm.from_dict(tree["carm"]))
    except MALFORMED:
        raise InputError(refusal) from None
    return replace(found, cta_to_carm=as_rigid(found.cta_to_carm, path.name))


def taken(path: Path, stamp: Stamp) -> None:
    """What waited has been done, or can never be; what was handed over meanwhile still waits."""
    with suppress(OSError):
        if stamp_of(path) == stamp:
            path.unlink()


def scored(found: Registration, outcome: Outcome, seed: int) -> Registration:
    """A registration whose pose was changed, with the score at that pose."""
    contrast = np.where(outcome.angiogram.valid, contrast_image(outcome.dsa_masks, outcome.angiogram.valid), -1)
    score = LiveScore(outcome.vessels, contrast.astype(np.float32), found.carm, seed=seed)(found.cta_to_carm)
    return replace(found, score=score, views=tuple(replace(view, score=score) for view in found.views))
