"""Compiled CPU projectors by others, forward only: RTK's Joseph (package itk-rtk) and plastimatch's exact Siddon (a program).

Each takes a volume and a view, and gives a function of the pose (4, 4), numpy, to an image (rows, columns). Both work in a
frame of their own: the volume's box, mm along i, j, k from the first voxel's centre.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Render = Callable[[np.ndarray], np.ndarray]


def rtk_joseph(volume: Any, carm: Any) -> Render:
    import itk
    from itk import RTK as rtk

    image = itk.Image[itk.F, 3]
    voxels = itk.image_from_array(np.ascontiguousarray(volume.voxels.astype(np.float32)))
    voxels.SetSpacing([float(s) for s in volume.spacing_mm])
    row_mm, column_mm = carm.pixel_spacing_mm
    empty = rtk.ConstantImageSource[image].New(
        Size=[carm.columns, carm.rows, 1], Spacing=[column_mm, row_mm, 1.0], Origin=[0.0, 0.0, 0.0], Constant=0.0
    )
    project = rtk.JosephForwardProjectionImageFilter[image, image].New()

    def render(pose: np.ndarray) -> np.ndarray:
        to_box = _carm_to_box(volume, pose)
        source, corner = _points(to_box, np.array([carm.source_mm, carm.pixel_positions(np.zeros((1, 2)))[0]]))
        along_columns, along_rows = (to_box[:3, :3] @ np.array(axis) for axis in (carm.column_axis, carm.row_axis))
        geometry = rtk.ThreeDCircularProjectionGeometry.New()
        if not geometry.AddProjection(*([float(x) for x in v] for v in (source, corner, along_columns, along_rows))):
            raise RuntimeError("RTK does not take this view")
        project.SetInput(0, empty.GetOutput())
        project.SetInput(1, voxels)
        project.SetGeometry(geometry)
        project.Modified()
        project.Update()
        return np.array(itk.array_from_image(project.GetOutput())[0])

    return render


def plastimatch_exact(volume: Any, carm: Any) -> Render:
    """Its own clock for the projection counts (`last_seconds`), not the start of the program and the reading of its input."""
    import SimpleITK as sitk

    if shutil.which("plastimatch") is None:
        raise RuntimeError("plastimatch is not installed (Debian: apt-get install plastimatch)")
    folder = Path(tempfile.mkdtemp(prefix="plastimatch"))
    image = sitk.GetImageFromArray(volume.voxels.astype(np.float32))
    image.SetSpacing([float(s) for s in volume.spacing_mm])
    sitk.WriteImage(image, str(folder / "volume.mha"))
    row_mm, column_mm = carm.pixel_spacing_mm

    def render(pose: np.ndarray) -> np.ndarray:
        to_box = _carm_to_box(volume, pose)
        source = _points(to_box, np.array([carm.source_mm]))[0]
        towards_source, up = (-to_box[:3, :3] @ np.array(axis) for axis in (carm.axes[2], carm.row_axis))
        options = {
            "-i": "exact",
            "-P": "none",
            "-t": "pfm",
            "--sad": "500",
            "--sid": f"{carm.sid_mm}",
            "-r": f"{carm.rows} {carm.columns}",
            "-z": f"{carm.rows * row_mm} {carm.columns * column_mm}",
            "-n": _typed(towards_source),
            "--vup": _typed(up),
            "-o": _typed(source - 500 * towards_source),
            "-O": str(folder / "drr"),
            "-I": str(folder / "volume.mha"),
        }
        done = subprocess.run(
            ["plastimatch", "drr", *(word for pair in options.items() for word in pair)],
            capture_output=True,
            text=True,
            check=True,
        )
        io_s, total_s = (
            float(re.search(rf"{name} time: ([-+.e0-9]+)", done.stdout).group(1))  # type: ignore[union-attr]
            for name in ("I/O", "Total")
        )
        render.last_seconds = total_s - io_s  # type: ignore[attr-defined]
        # It looks from the other side (rows from right to left), and integrates in cm. A left-handed box mirrors once more.
        drawn = 10 * _pfm(next(folder.glob("drr*.pfm")))
        return drawn[:, ::-1] if np.linalg.det(to_box[:3, :3]) > 0 else drawn

    return render


def _carm_to_box(volume: Any, pose: np.ndarray) -> np.ndarray:
    return np.diag([*volume.spacing_mm, 1.0]) @ np.linalg.inv(volume.affine) @ np.linalg.inv(pose)


def _points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _typed(vector: np.ndarray) -> str:
    return " ".join(f"{x:.9g}" for x in vector)


def _pfm(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        file.readline()
        columns, rows = map(int, file.readline().split())
        order = "<f4" if float(file.readline()) < 0 else ">f4"
        return np.frombuffer(file.read(), order).reshape(rows, columns).astype(np.float32)
