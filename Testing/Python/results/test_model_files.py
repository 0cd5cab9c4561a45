"""Damaged models: VTK's readers end their process on some of them; here each is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.results.roadmap.files import read_model

PLY = (
    "ply\nformat ascii 1.0\nelement vertex {points}\nproperty float x\nproperty float y\nproperty float z\nelement face {faces}\n"
    "property list uchar int vertex_indices\nend_header\n"
)
CORNERS = "0 0 0\n1 0 0\n0 1 0\n"
VTK = "# vtk DataFile Version 3.0\nx\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n0 0 0 1 0 0 0 1 0\nPOLYGONS 1 4\n"
VTP = """<?xml version="1.0"?>
<VTKFile type="PolyData" version="0.1" byte_order="LittleEndian"><PolyData>
<Piece NumberOfPoints="3" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" NumberOfPolys="1">
<Points><DataArray type="Float32" NumberOfComponents="3" format="ascii">0 0 0 1 0 0 0 1 0</DataArray></Points>
<Polys><DataArray type="Int32" Name="connectivity" format="ascii">0 1 {index}</DataArray>
<DataArray type="Int32" Name="offsets" format="ascii">3</DataArray></Polys></Piece></PolyData></VTKFile>"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("far.ply", PLY.format(points=3, faces=1) + CORNERS + "3 0 1 99999999\n"),
        ("near.ply", PLY.format(points=3, faces=1) + CORNERS + "3 0 1 3\n"),
        ("short.ply", PLY.format(points=3, faces=1).replace("ascii", "binary_little_endian") + "\0" * 20),
        ("claims.ply", PLY.format(points=2_000_000_000, faces=1) + CORNERS),
        ("far.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 99999999\n"),
        ("far.vtk", VTK + "3 0 1 99999999\n"),
        ("negative.vtk", VTK + "3 0 1 -7\n"),
        ("longer.vtk", VTK + "300 0 1 2\n"),
        ("far.vtp", VTP.format(index=99999999)),
        ("text.stl", "no model"),
    ],
)
def test_a_damaged_model_is_a_sentence(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        read_model(tmp_path / name)
    (problem,) = caught.value.problems
    assert name in problem
    assert "damaged" in problem
    assert str(tmp_path) not in problem
