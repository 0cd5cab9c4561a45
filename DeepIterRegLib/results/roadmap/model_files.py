"""Models from files (STL, OBJ, PLY, VTK, VTP), read by VTK in a process of its own: a damaged file can end the process that reads it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.scratch import temporary_folder

MODEL_SUFFIXES = (".stl", ".obj", ".ply", ".vtk", ".vtp")
_REFUSED = 3  # exit code of the child that says on stdout what is wrong
_LIMIT_S = 300.0
_BYTES, _BYTES_EACH = 4 << 30, 100  # of memory for the child, and for each byte of the file


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
        raise InputError(f"Model {path.name} does not exist.")
    if importlib.util.find_spec("vtkmodules") is None:
        raise InputError(f"Model {path.name} needs VTK to be read: pip install 'deepiterreg[roadmap]'.")
    with temporary_folder() as folder:
        result = folder / "mesh.npz"
        words = [
            sys.executable,
            "-P",
            __file__,
            str(path.absolute()),
            str(result),
        ]  # by file: its package would import much
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        try:
            done = subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"Model {path.name} was not read within {_LIMIT_S:.0f} s; save it again.") from None
        if done.returncode == _REFUSED:
            raise InputError(done.stdout.strip())
        if done.returncode or not result.is_file():
            raise InputError(
                f"Model {path.name} is damaged: a face names a point that is not there, or it holds less than its header says. "
                "Copy it again, or save it again."
            )
        with np.load(result) as found:
            return Mesh(found["points"], found["triangles"], found["lines"], found["offsets"], bool(found["lps"]))


# -- in the process of its own -------------------------------------------------------------------------


def _main(path: Path, result: Path) -> None:
    _limit_memory(_BYTES + _BYTES_EACH * path.stat().st_size)
    try:
        mesh = _read(path)
    except InputError as error:
        print(error)
        sys.exit(_REFUSED)
    np.savez(result, **vars(mesh))


def _limit_memory(count: int) -> None:
    """What a header claims must not fill the computer; where the system cannot say so, it is not said."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (count, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, ValueError, OSError):
        return


def _read(path: Path) -> Mesh:
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
        raise InputError(f"Model {path.name} holds neither a surface nor lines, or is damaged.")
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64)
    if not np.isfinite(points).all():
        raise InputError(f"Model {path.name} is damaged: a point is not finite; save it again.")
    return Mesh(
        points,
        vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3),
        vtk_to_numpy(mesh.GetLines().GetConnectivityArray()),
        vtk_to_numpy(mesh.GetLines().GetOffsetsArray()),
        _says_lps(path, reader),
    )


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
                f"Model {path.name} is damaged: a face or line names point {int(strangers[0])}, counted from 0, but there are {count}. "
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
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
