"""Models from files (STL, OBJ, PLY, VTK, VTP), read by VTK in a process of its own: a damaged file can end the process that reads it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.own_process import answer, arrays_of
from DeepIterRegLib.common.shown import name_of

MODEL_SUFFIXES = (".stl", ".obj", ".ply", ".vtk", ".vtp")


@dataclass(frozen=True)
class Mesh:
    """What a model's file holds.

    Attributes
    ----------
    points : (N, 3) float64
        mm, as they stand in the file.
    triangles : (M, 3) int
        Indices of points.
    lines : (K,) int
        Indices of points, one line after the other.
    offsets : (L + 1,) int
        Where each line begins in `lines`, and where the last one ends.
    lps
        Whether the file says LPS, or nothing.
    """

    points: np.ndarray
    triangles: np.ndarray
    lines: np.ndarray
    offsets: np.ndarray
    lps: bool


def read_mesh(path: Path) -> Mesh:
    """The surface and the lines of a model.

    Raises
    ------
    InputError
        No VTK, damaged, or neither surface nor lines.
    """
    if not path.is_file():
        raise InputError(f"Model {name_of(path)} does not exist.")
    if importlib.util.find_spec("vtkmodules") is None:
        raise InputError(f"Model {name_of(path)} needs VTK to be read: pip install 'deepiterreg[roadmap]'.")
    died = (
        f"Model {name_of(path)} is damaged: a face names a point that is not there, or it holds less than its header says. "
        "Copy it again, or save it again."
    )
    found = arrays_of(__file__, path, f"Model {name_of(path)}", died)
    return Mesh(found["points"], found["triangles"], found["lines"], found["offsets"], bool(found["lps"]))


# -- in the process of its own -------------------------------------------------------------------------


def _read(path: Path) -> dict[str, np.ndarray]:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkObject
    from vtkmodules.vtkFiltersCore import vtkTriangleFilter

    vtkObject.GlobalWarningDisplayOff()  # what is wrong is said here
    reader = _reader(path)
    reader.SetFileName(str(path))
    reader.Update()
    _check(reader.GetOutput(), path)
    triangulate = vtkTriangleFilter()
    triangulate.SetInputData(reader.GetOutput())
    triangulate.PassVertsOff()
    triangulate.Update()
    mesh = triangulate.GetOutput()
    if mesh.GetNumberOfPoints() == 0 or mesh.GetNumberOfCells() == 0:
        raise InputError(f"Model {name_of(path)} holds neither a surface nor lines, or is damaged.")
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64)
    if not np.isfinite(points).all():
        raise InputError(f"Model {name_of(path)} is damaged: a point is not finite; save it again.")
    return {
        "points": points,
        "triangles": vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3),
        "lines": vtk_to_numpy(mesh.GetLines().GetConnectivityArray()),
        "offsets": vtk_to_numpy(mesh.GetLines().GetOffsetsArray()),
        "lps": np.array(_says_lps(path, reader)),
    }


def _check(mesh: Any, path: Path) -> None:
    """Refuse cells that name points that are not there; VTK's filters do not look."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    count = mesh.GetNumberOfPoints()
    for cells in (mesh.GetVerts(), mesh.GetLines(), mesh.GetPolys(), mesh.GetStrips()):
        if cells.GetNumberOfCells() == 0:
            continue
        named = vtk_to_numpy(cells.GetConnectivityArray())
        strangers = named[(named < 0) | (named >= count)]
        if strangers.size:
            raise InputError(
                f"Model {name_of(path)} is damaged: a face or line names point {int(strangers[0])}, counted from 0, but there are {count}. "
                "Copy it again, or save it again."
            )


def _reader(path: Path) -> Any:
    from vtkmodules.vtkIOGeometry import vtkOBJReader, vtkSTLReader
    from vtkmodules.vtkIOLegacy import vtkPolyDataReader
    from vtkmodules.vtkIOPLY import vtkPLYReader
    from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

    readers: dict[str, Callable[[], Any]] = {
        ".stl": vtkSTLReader,
        ".obj": vtkOBJReader,
        ".ply": vtkPLYReader,
        ".vtk": vtkPolyDataReader,
        ".vtp": vtkXMLPolyDataReader,
    }
    return readers[path.suffix.lower()]()


def _says_lps(path: Path, reader: Any) -> bool:
    """Whether a model is LPS: by the SPACE that Slicer writes into headers and comments, else yes."""
    with path.open("rb") as file:
        head = file.read(4096)
    found = re.search(rb"SPACE\s*=\s*(RAS|LPS)", head)
    if found is None and path.suffix.lower() == ".vtp":
        array = reader.GetOutput().GetFieldData().GetAbstractArray("SPACE")
        return array is None or str(array.GetVariantValue(0)) != "RAS"
    return found is None or found.group(1) == b"LPS"


if __name__ == "__main__":
    answer(_read)
