"""Files that are no images: transforms, tables, points, weights, models; by their suffix and what stands in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import read_json
from DeepIterRegLib.common.tables import read_sheet
from DeepIterRegLib.geometry.pose_files import read_pose

_TRANSFORMS = (".tfm", ".h5", ".hdf5", ".mat", ".txt", ".json")
_START = "start, or reference, of a registration"
_POINTS = "landmarks, or item of a roadmap"
_BY_SUFFIX = {
    ".mrk.json": ("points or curves of 3D Slicer", _POINTS),
    ".fcsv": ("points of 3D Slicer", "landmarks"),
    ".safetensors": ("weights of the network", "weights"),
    **dict.fromkeys((".stl", ".obj", ".ply", ".vtk", ".vtp"), ("model (surface or lines)", "item of a roadmap")),
    ".swc": ("centrelines", "item of a roadmap"),
    ".toml": ("settings of a training", "settings of a training"),
    ".mrb": ("scene of 3D Slicer", "nothing here; 3D Slicer opens it"),
    ".mrml": ("scene of 3D Slicer", "nothing here; 3D Slicer opens it"),
    ".html": ("page for a browser", "nothing here; a browser opens it"),
    ".pdf": ("document", "nothing"),
    **dict.fromkeys(
        (".mp4", ".avi", ".mov", ".wmv", ".mpg"),
        ("video", "nothing: give the run's DICOM file, which has its geometry"),
    ),
}


def describe_other(path: Path) -> dict[str, Any] | None:
    """What a file that is no image is and how it would be used; None of what may be an image.

    Raises
    ------
    InputError
        A transform or table that cannot be read.
    """
    name = path.name.lower()
    for suffix, (kind, use) in _BY_SUFFIX.items():
        if name.endswith(suffix):
            return {"kind": kind, "used as": use}
    if name.endswith((".csv", ".tsv")):
        return _table(path)
    if not name.endswith(_TRANSFORMS):
        return None
    try:
        pose = read_pose(path)
    except InputError:
        if name.endswith((".txt", ".json")):
            return _text(path)
        raise
    turn = np.degrees(np.arccos(np.clip((np.trace(pose[:3, :3]) - 1) / 2, -1, 1)))
    return {
        "kind": "transform (rigid)",
        "used as": _START,
        "turns by (deg)": round(float(turn), 3),
        "moves the origin to (RAS mm)": [round(float(x), 3) for x in pose[:3, 3]],
    }


def _table(path: Path) -> dict[str, Any]:
    from DeepIterRegLib.cases.table import COLUMNS, REQUIRED

    sheet = read_sheet(path, "Table", "a CSV file is needed")
    known = [name for name in sheet.header if name in COLUMNS]
    facts = {"rows": len(sheet.rows), "columns": len(sheet.header)}
    if set(REQUIRED) <= set(known):
        return {"kind": "table of cases", "used as": "table of a batch", **facts}
    if {"x", "y", "z"} <= set(sheet.header):
        return {"kind": "points", "used as": "landmarks", **facts}
    return {"kind": "table", "used as": "nothing: it has neither the columns of cases nor of landmarks", **facts}


def _text(path: Path) -> dict[str, Any] | None:
    """Text that is no transform: a projection matrix, settings, or something else; None where it is no text."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            read_json(path, "No JSON.")
            return {"kind": "JSON file without a pose", "used as": "nothing"}
        rows = [[float(cell) for cell in line.replace(",", " ").split()] for line in text.splitlines() if line.strip()]
    except ValueError:
        return None
    if len(rows) == 3 and all(len(row) == 4 for row in rows):
        return {"kind": "matrix of 3 rows of 4", "used as": "projection matrix of the C-arm"}
    return None
