"""Awkward landmarks, transforms and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from awkward_form import LPS, Made, Plain, kinds

CASES, case = kinds()
COLUMNS = ("name", "x", "y", "z", "column", "row")


# -- tables ----------------------------------------------------------------------------------------------


def _rows(plain: Plain, comma: str, between: str) -> str:
    """A line a landmark, with the comma of decimals and what parts the columns."""
    lines = [between.join(COLUMNS)]
    for n, numbers in enumerate(np.hstack([plain.points_mm, plain.pixels])):
        lines.append(between.join([f"P{n + 1}", *(f"{x:.2f}".replace(".", comma) for x in numbers)]))
    return "\n".join(lines) + "\n"


@case("landmarks", "ok")
def table_of_semicolons_and_commas(plain: Plain, out: Path) -> None:
    (out / "points.csv").write_text(_rows(plain, ",", ";"), encoding="utf-8")


@case("landmarks", "ok")
def table_that_says_its_separator(plain: Plain, out: Path) -> None:
    (out / "points.csv").write_text("sep=;\n" + _rows(plain, ".", ";"), encoding="utf-8")


@case("landmarks", "ok")
def table_of_tabs_in_utf_16(plain: Plain, out: Path) -> None:
    (out / "points.csv").write_text(_rows(plain, ",", "\t"), encoding="utf-16")


@case("landmarks", "ok")
def table_with_a_mark_of_utf_8_and_empty_lines(plain: Plain, out: Path) -> None:
    (out / "points.csv").write_text(
        _rows(plain, ".", ",").replace("\n", "\r\n") + "\r\n,,,,,\r\n", encoding="utf-8-sig"
    )


@case("landmarks", "refused", "UTF-8")
def table_of_cp1252(plain: Plain, out: Path) -> None:
    (out / "points.csv").write_text(_rows(plain, ",", ";").replace("P2", "Abgang rückwärts"), encoding="cp1252")


@case("landmarks", "refused", "line 3")
def table_with_a_word_for_a_number(plain: Plain, out: Path) -> None:
    lines = _rows(plain, ".", ",").splitlines()
    lines[2] = "P2,left,1,2,3,4"
    (out / "points.csv").write_text("\n".join(lines), encoding="utf-8")


# -- points of 3D Slicer ---------------------------------------------------------------------------------


def _fcsv(path: Path, points_mm: np.ndarray, system: str, version: str) -> None:
    lines = [
        f"# Markups fiducial file version = {version}",
        f"# CoordinateSystem = {system}",
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID",
        *(
            f"vtk_{n},{x:.4f},{y:.4f},{z:.4f},0,0,0,1,1,1,0,F-{n},,vtkMRML{n}"
            for n, (x, y, z) in enumerate(points_mm, 1)
        ),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@case("landmarks", "ok")
def points_of_fcsv(plain: Plain, out: Path) -> Made:
    _fcsv(out / "F.fcsv", plain.points_mm @ LPS[:3, :3], "LPS", "4.11")
    _fcsv(out / "G.fcsv", plain.on_dsa_mm @ LPS[:3, :3], "LPS", "4.11")
    return Made(typed=("F.fcsv", "G.fcsv"))


@case("landmarks", "ok")
def points_of_an_old_fcsv(plain: Plain, out: Path) -> Made:
    """Before 4.11 a number names the system: 0 is RAS."""
    _fcsv(out / "F.fcsv", plain.points_mm, "0", "4.10")
    _fcsv(out / "G.fcsv", plain.on_dsa_mm, "0", "4.10")
    return Made(typed=("F.fcsv", "G.fcsv"))


def _mrk(path: Path, points_mm: np.ndarray, **list_: Any) -> None:
    controls = [
        {"id": str(n), "label": f"F-{n}", "position": list(map(float, point)), "positionStatus": "defined"}
        for n, point in enumerate(points_mm, 1)
    ]
    values = {"type": "Fiducial", "coordinateUnits": "mm", "controlPoints": controls, **list_}
    path.write_text(json.dumps({"@schema": "markups-schema-v1.0.0", "markups": [values]}), encoding="utf-8")


@case("landmarks", "ok")
def points_of_slicer_4_11(plain: Plain, out: Path) -> Made:
    _mrk(out / "F.mrk.json", plain.points_mm, coordinateSystem="0")
    _mrk(out / "G.mrk.json", plain.on_dsa_mm @ LPS[:3, :3], coordinateSystem="1")
    return Made(typed=("F.mrk.json", "G.mrk.json"))


@case("landmarks", "refused", "neither LPS nor RAS")
def points_of_voxels(plain: Plain, out: Path) -> Made:
    _mrk(out / "F.mrk.json", plain.points_mm, coordinateSystem="IJK")
    _mrk(out / "G.mrk.json", plain.on_dsa_mm, coordinateSystem="RAS")
    return Made(typed=("F.mrk.json", "G.mrk.json"))


# -- transforms ------------------------------------------------------------------------------------------


def _itk(plain: Plain, scale: float = 1.0) -> sitk.AffineTransform:
    """From the C-arm's points to the CTA's, in LPS, turning about a point that is not the origin."""
    back = LPS @ np.linalg.inv(plain.cta_to_carm) @ LPS
    transform, centre = sitk.AffineTransform(3), np.array([12.0, -30.0, 45.0])
    transform.SetMatrix((back[:3, :3] * scale).ravel().tolist())
    transform.SetCenter(centre.tolist())
    transform.SetTranslation((back[:3, 3] - centre + back[:3, :3] @ centre).tolist())
    return transform


@case("pose", "ok")
def transform_of_ants(plain: Plain, out: Path) -> None:
    sitk.WriteTransform(_itk(plain), str(out / "ants0GenericAffine.mat"))


@case("pose", "ok")
def transform_of_itk_as_hdf5(plain: Plain, out: Path) -> None:
    sitk.WriteTransform(sitk.CompositeTransform([_itk(plain), sitk.Euler3DTransform()]), str(out / "pose.h5"))


@case("pose", "ok")
def transform_of_itk_as_text(plain: Plain, out: Path) -> None:
    sitk.WriteTransform(_itk(plain), str(out / "pose.txt"))


@case("pose", "refused", "not rigid")
def transform_that_scales(plain: Plain, out: Path) -> None:
    sitk.WriteTransform(_itk(plain, 1.03), str(out / "pose.tfm"))


@case("pose", "refused", "Bare numbers")
def transform_of_bare_numbers(plain: Plain, out: Path) -> None:
    np.savetxt(out / "pose.txt", plain.cta_to_carm)


@case("pose", "refused", "linear")
def transform_that_bends(plain: Plain, out: Path) -> None:
    field = sitk.DisplacementFieldTransform(sitk.Image([4, 4, 4], sitk.sitkVectorFloat64))
    sitk.WriteTransform(field, str(out / "warp.h5"))


# -- models ----------------------------------------------------------------------------------------------

_PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
0 1 0
3 0 1 {last}
"""


@case("item", "refused", "bad.ply")
def model_that_names_a_point_too_much(plain: Plain, out: Path) -> None:
    (out / "bad.ply").write_text(_PLY.format(last=88888888))


@case("item", "refused", "bad.stl")
def model_cut(plain: Plain, out: Path) -> None:
    (out / "bad.stl").write_bytes(bytes(80) + (5000).to_bytes(4, "little") + bytes(700))
