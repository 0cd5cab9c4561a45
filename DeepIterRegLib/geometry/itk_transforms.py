"""ITK's transforms as matrices: those of text in this process, HDF5 and MATLAB in one of their own, as damage there can end it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.own_process import answer, arrays_of
from DeepIterRegLib.common.quiet import listening
from DeepIterRegLib.common.shown import name_of

_TEXT = (".tfm", ".txt")


def read_linear(path: Path) -> np.ndarray:
    """The map (4, 4) of a linear 3D transform, or of several that follow each other, LPS mm, as the file has it: fixed to moving.

    Raises
    ------
    InputError
        Damaged, no transform, not linear or not 3D.
    """
    if path.suffix.lower() in _TEXT:
        return _matrix(path)
    died = f"{name_of(path)} is damaged: ITK ends while reading it; save the transform again."
    return arrays_of(__file__, path, name_of(path), died)["matrix"]


def _matrix(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    try:
        with listening():
            transform = sitk.ReadTransform(str(path))
        linear = transform.GetDimension() == 3 and transform.IsLinear()
        corners = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
        offset, *ends = (np.array(transform.TransformPoint(corner)) if linear else np.zeros(3) for corner in corners)
    except (RuntimeError, ValueError, TypeError, OverflowError):
        raise InputError(
            f"{name_of(path)} is not a transform file that ITK can read: give a .tfm, .h5, .txt or .mat file of 3D Slicer, ITK or ANTs. "
            "Bare numbers do not say between which coordinates they lead."
        ) from None
    if not linear:
        raise InputError(f"{name_of(path)} does not hold a linear 3D transform; a rigid pose is needed.")
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([end - offset for end in ends], axis=1)
    matrix[:3, 3] = offset
    return matrix


if __name__ == "__main__":
    answer(lambda path: {"matrix": _matrix(path)})
