"""Files that 3D Slicer's own storage nodes write are read as Slicer means them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.markup_files import read_markup_lists
from DeepIterRegLib.geometry.pose_files import read_pose

POINTS = [(1.5, -20.25, 30.0), (-4.0, 5.0, -60.5), (70.0, 8.0, 9.0)]  # RAS


def point_list(scene: Any) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "F")
    for n, point in enumerate(POINTS):
        node.AddControlPoint(point, f"P, {n}")
    return node


@pytest.mark.parametrize("system", ["LPS", "RAS"])
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".mrk.json", "vtkMRMLMarkupsJsonStorageNode"), (".fcsv", "vtkMRMLMarkupsFiducialStorageNode")],
)
def test_point_lists(suffix: str, kind: str, system: str, scene: Any, tmp_path: Path) -> None:
    node = point_list(scene)
    node.UnsetNthControlPointPosition(1)
    storage = scene.AddNewNodeByClass(kind)
    storage.SetFileName(str(tmp_path / f"F{suffix}"))
    getattr(storage, f"Use{system}On")()
    assert storage.WriteData(node)
    (found,) = read_markup_lists(tmp_path / f"F{suffix}")
    assert found.labels == ("P, 0", "P, 1", "P, 2")
    assert found.placed.tolist() == [True, False, True]
    np.testing.assert_allclose(found.points_mm[[0, 2]], [POINTS[0], POINTS[2]], atol=1e-6)


def test_number_of_the_coordinate_system_is_slicers(scene: Any, tmp_path: Path) -> None:
    """Before names came, files had a number; Slicer's own reader says which."""
    for number in ("0", "1"):
        (tmp_path / "a.mrk.json").write_text(
            json.dumps(
                {
                    "markups": [
                        {
                            "type": "Fiducial",
                            "coordinateSystem": number,
                            "controlPoints": [{"label": "a", "position": POINTS[0]}],
                        }
                    ]
                }
            )
        )
        (tmp_path / "a.fcsv").write_text(
            f"# Markups fiducial file version = 4.10\n# CoordinateSystem = {number}\n"
            "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
            f"vtkMRMLMarkupsFiducialNode_0,{','.join(map(str, POINTS[0]))},0,0,0,1,1,1,0,a,,\n"
        )
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
        storage = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialStorageNode")
        storage.SetFileName(str(tmp_path / "a.fcsv"))
        assert storage.ReadData(node)
        there = node.GetNthControlPointPosition(0)
        for name in ("a.fcsv", "a.mrk.json"):
            (found,) = read_markup_lists(tmp_path / name)
            np.testing.assert_allclose(found.points_mm[0], there)


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".txt", ".mat"])
def test_transforms(suffix: str, scene: Any, tmp_path: Path) -> None:
    matrix = pose.se3_exp(np.array([0.3, -0.5, 0.2, 30.0, -12.0, 45.0]))
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    storage = scene.AddNewNodeByClass("vtkMRMLTransformStorageNode")
    storage.SetFileName(str(tmp_path / f"a{suffix}"))
    assert storage.WriteData(node)
    np.testing.assert_allclose(read_pose(tmp_path / f"a{suffix}"), matrix, atol=1e-6)
