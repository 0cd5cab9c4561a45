"""Files by which poses are handed to a session: none is lost, whatever others write meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from DeepIterRegLib.cases.handed import HANDED, Handed, file_of, read_handed, taken, waiting, write_handed
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose

CARM = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=64, columns=64, pixel_spacing_mm=(1.0, 1.0))


def of(run: str, shift_mm: float = 0.0) -> Handed:
    return Handed(run, pose.translation(np.array([shift_mm, 0.0, 0.0])), CARM)


def read(folder: Path) -> list[tuple[str, float]]:
    handed = [read_handed(path) for path, _ in waiting(folder)]
    return [(one.run, float(one.cta_to_carm[0, 3])) for one in handed]


def test_poses_of_two_runs_wait_beside_each_other(tmp_path: Path) -> None:
    write_handed(tmp_path, of("02"))
    write_handed(tmp_path, of("01", 3.0))
    assert read(tmp_path) == [("01", 3.0), ("02", 0.0)]
    write_handed(tmp_path, of("01", 4.0))
    assert read(tmp_path) == [("01", 4.0), ("02", 0.0)], "the last word on a run counts"


def test_another_program_may_hand_one_over_too(tmp_path: Path) -> None:
    write_handed(tmp_path, of("02"))
    (tmp_path / file_of("02")).rename(tmp_path / HANDED)
    assert read(tmp_path) == [("02", 0.0)]


def test_what_is_handed_over_meanwhile_still_waits(tmp_path: Path) -> None:
    write_handed(tmp_path, of("01", 3.0))
    ((path, stamp),) = waiting(tmp_path)
    write_handed(tmp_path, of("01", 4.0))
    taken(path, stamp)
    assert read(tmp_path) == [("01", 4.0)]
    ((path, stamp),) = waiting(tmp_path)
    taken(path, stamp)
    taken(path, stamp)
    assert waiting(tmp_path) == []


def test_a_folder_of_that_name_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / HANDED).mkdir()
    assert waiting(tmp_path) == []


def test_what_is_no_pose_is_refused(tmp_path: Path) -> None:
    write_handed(tmp_path, of("01"))
    path = tmp_path / file_of("01")
    values = json.loads(path.read_text())
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    far = pose.translation(np.array([1e300, 0.0, 0.0]))
    for spoilt in (
        {"ctaToCarm": [[float("nan")] * 4] * 4}, {"ctaToCarm": sheared.tolist()}, {"ctaToCarm": far.tolist()}, {"carm": None},
        {"carm": {**values["carm"], "sid_mm": 0}}, {"ctaToCarm": []},
    ):  # fmt: skip
        path.write_text(json.dumps({**values, **spoilt}))
        with pytest.raises(InputError, match=file_of("01")):
            read_handed(path)
    for text in ("", "[" * 200_000, '{"run": '):
        path.write_text(text)
        with pytest.raises(InputError, match=file_of("01")):
            read_handed(path)
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match=file_of("01")):
        read_handed(path)
