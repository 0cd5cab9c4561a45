"""Pose files: ITK transforms (.tfm, .h5, .txt, .mat), as 3D Slicer, ITK and ANTs write them, and our own JSON, both ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DeepIterRegLib.common.atomic_output import not_whole
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.geometry import lps_ras, pose
from DeepIterRegLib.geometry.itk_transforms import read_linear

# Files hold 6 or more digits; what differs from a rotation by more than this was scaled or sheared.
_RIGID_TOLERANCE = 1e-3
_SINGULAR = 1e-6
_FAR_MM = 1e6  # a head lies within metres of the origin of its CT


def write_tfm(path: str | Path, cta_to_carm: np.ndarray) -> None:
    """Write a pose (4, 4), RAS mm, so that Slicer shows the same matrix on load.

    ITK files hold the map of resampling, from fixed to moving, in LPS; Slicer therefore inverts on
    reading (Resources/Docs/method.md, section 1: the node moves the CTA into the C-arm frame).

    Raises
    ------
    OSError
        The file did not become whole.
    """
    import SimpleITK as sitk

    matrix_lps = lps_ras(pose.inverse(np.asarray(cta_to_carm, dtype=np.float64)))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix_lps[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix_lps[:3, 3].tolist())
    try:
        sitk.WriteTransform(transform, str(path))
        # ITK says nothing of a full disk, and leaves a file of 0 bytes.
        whole = np.allclose(sitk.ReadTransform(str(path)).GetParameters(), transform.GetParameters(), rtol=0, atol=1e-9)
    except RuntimeError as error:
        raise not_whole(Path(path)) from error
    if not whole:
        raise not_whole(Path(path))


def read_pose(path: str | Path) -> np.ndarray:
    """Pose ``cta_to_carm`` (4, 4), RAS mm, from an ITK transform file or a JSON file with `ctaToCarm`.

    ITK's file may hold any linear transform with any centre, or several that follow each other, as long as all in all it is rigid.
    Its direction is that of `write_tfm`, whoever wrote it: Slicer and ANTs keep to it.

    Raises
    ------
    InputError
        If the file cannot be read, holds no linear transform, or one that is not rigid.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"Pose file {name_of(path)} does not exist: give an ITK transform (.tfm, .h5, .txt, .mat) or a registration.json."
        )
    return as_rigid(_from_json(path) if path.suffix.lower() == ".json" else _from_itk(path), name_of(path))


def as_rigid(matrix: np.ndarray, name: str) -> np.ndarray:
    """A matrix (4, 4) that turns and shifts, as it came.

    Raises
    ------
    InputError
        Anything else; `name` says whose it is.
    """
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError(f"{name}: the pose is not a 4x4 matrix of finite numbers.")
    if np.abs(matrix[:3, 3]).max() > _FAR_MM:
        raise InputError(
            f"{name}: the pose shifts by {np.abs(matrix[:3, 3]).max() / 1000:.0f} m; it is damaged, or not in mm."
        )
    rotation = matrix[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=_RIGID_TOLERANCE) or np.linalg.det(rotation) < 0:
        raise InputError(
            f"{name}: the matrix is not rigid (it scales, shears or mirrors); a pose only turns and shifts."
        )
    return matrix


def _from_json(path: Path) -> np.ndarray:
    refusal = f"{name_of(path)}: no 4x4 matrix named `ctaToCarm` can be read from this JSON file."
    values = read_json(path, refusal)
    try:
        return np.array(values["ctaToCarm"], dtype=np.float64)
    except MALFORMED:
        raise InputError(refusal) from None


def _from_itk(path: Path) -> np.ndarray:
    matrix = read_linear(path)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < _SINGULAR:
        raise InputError(
            f"{name_of(path)}: the matrix is not rigid (it scales, shears or mirrors); a pose only turns and shifts."
        )
    return pose.inverse(lps_ras(matrix))
