"""JSON of any shape and size is read or refused in one sentence, wherever it is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from xa_files import carm

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.markup_files import read_markup_lists
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.registration.result import InitRecord, Registration
from DeepIterRegLib.results.report.outputs import read_registration

SHAPES = [
    b"[" * 100_000 + b"]" * 100_000,
    b'{"ctaToCarm": ' + b"[" * 100_000,
    b'{"ctaToCarm": [[' + b"1" * 6000 + b"]]}",
    b'{"ctaToCarm": [[1e999,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}',
    b'{"ctaToCarm": [[NaN,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}',
    b'{"markups": null}',
    b'{"markups": [null]}',
    b'{"markups": [{"controlPoints": [null]}]}',
    b'{"markups": [{"controlPoints": [{"position": [1e300, 0, 0]}]}]}',
    b"null",
    b"1",
    b"",
    b"\xff\xff\xff",
    b"\0" * 1000,
]


@pytest.mark.parametrize("content", SHAPES, ids=range(len(SHAPES)))
def test_every_shape_is_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    for name, read in (
        ("pose.json", read_pose),
        ("points.mrk.json", read_markup_lists),
        ("registration.json", read_registration),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert len(caught.value.problems) == 1
        assert name in str(caught.value)


def test_a_file_that_says_to_be_huge_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "pose.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="no 4x4 matrix"):
        read_pose(tmp_path / "pose.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_pose_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "pose.json").write_text(json.dumps({"ctaToCarm": np.eye(4).tolist()}), encoding=encoding)
    np.testing.assert_array_equal(read_pose(tmp_path / "pose.json"), np.eye(4))


def test_a_result_of_other_types_is_refused(tmp_path: Path) -> None:
    init = InitRecord("search", True, 0.4, 0.1)
    found = Registration(np.eye(4), carm(), np.zeros(3), 0.4, init, (), {"total": 1.0}, (), {}, {})
    path = tmp_path / "registration.json"
    tree = found.to_json_dict()
    path.write_text(json.dumps(tree))
    assert read_registration(path).carm == found.carm
    for key, value in (
        ("ctaToCarm", [[1, 0], [0, 1]]),
        ("ctaToCarm", np.diag([2, 1, 1, 1]).tolist()),
        ("score", None),
        ("seconds", {"total": "long"}),
        ("centre_cta_mm", [1, 2]),
        ("views", [None]),
        ("views", 5),
        ("carm", {**tree["carm"], "rows": 1e400}),
        ("warnings", [[1]]),
        ("confidence", {"probability": "high"}),
    ):
        path.write_text(json.dumps({**tree, key: value}))
        with pytest.raises(InputError):
            read_registration(path)


def test_a_colour_that_cannot_be_does_not_matter(tmp_path: Path) -> None:
    point = {"label": "a", "position": [1, 2, 3]}
    for display in (None, {}, {"selectedColor": None}, {"selectedColor": [1, 2]}, {"selectedColor": ["x", 0, 0]}, 5):
        markup = {"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": [point], "display": display}
        (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": [markup]}))
        (found,) = read_markup_lists(tmp_path / "a.mrk.json")
        assert found.colour is None
        np.testing.assert_array_equal(found.points_mm, [[1, 2, 3]])
