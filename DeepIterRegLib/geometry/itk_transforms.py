"""ITK's transforms as matrices: those of text in this process, HDF5 and MATLAB in one of their own, as damage there can end it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.own_process import answer, arrays_of
from DeepIterRegLib.common.quiet import listening
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.tables import read_text

_TEXT = (".tfm", ".txt")
# ITK's linear transforms in 3D, by how many parameters they have (itkTransformFactoryBase.cxx).
_COUNTS = {
    "AffineTransform": 12,
    "CenteredAffineTransform": 15,
    "CenteredEuler3DTransform": 9,
    "CompositeTransform": 0,
    "Euler3DTransform": 6,
    "FixedCenterOfRotationAffineTransform": 12,
    "IdentityTransform": 0,
    "MatrixOffsetTransformBase": 12,
    "QuaternionRigidTransform": 7,
    "Rigid3DTransform": 12,
    "ScalableAffineTransform": 12,
    "ScaleLogarithmicTransform": 3,
    "ScaleSkewVersor3DTransform": 15,
    "ScaleTransform": 3,
    "ScaleVersor3DTransform": 9,
    "Similarity3DTransform": 7,
    "TranslationTransform": 3,
    "VersorRigid3DTransform": 6,
    "VersorTransform": 3,
}
_MOST_FIXED = 4  # the centre, and in some versions of Euler's angles their order
NUMBER = r"[-+]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][-+]?\d{1,3})?"  # that ITK's parsers of text survive


def read_linear(path: Path) -> np.ndarray:
    """The map (4, 4) of a linear 3D transform, or of several that follow each other, LPS mm, as the file has it: fixed to moving.

    Raises
    ------
    InputError
        Damaged, no transform, not linear or not 3D.
    """
    if path.suffix.lower() in _TEXT:
        _check_text(path)
        return _matrix(path)
    died = f"{name_of(path)} is damaged: ITK ends while reading it; save the transform again."
    return arrays_of(__file__, path, name_of(path), died)["matrix"]


def _check_text(path: Path) -> None:
    """Refuse a text that is no transform of ITK, or no linear one: its parser dies of letters among numbers, and of too few."""
    try:
        lines = [line.strip() for line in read_text(path, "Transform").splitlines()]
    except (InputError, OSError):
        lines = []
    if not lines or not re.fullmatch(r"#Insight Transform File V1\.\d", lines[0]):
        raise _no_transform(path)
    lines = [line for line in lines if line and not line.startswith("#")]
    kind, wanted, seen = "", 0, False
    for line in lines:
        field, _, text = line.partition(":")
        if field == "Transform":
            match = re.fullmatch(r"([A-Za-z0-9]{1,60})_(?:double|float)_(\d)_(\d)", text.strip())
            if match is None:
                raise _no_transform(path)
            kind = match.group(1)
            if kind not in _COUNTS or match.groups()[1:] != ("3", "3"):
                raise _not_linear(path)
            wanted, seen = _COUNTS[kind], True
            continue
        numbers = text.split()
        if (
            field not in ("Parameters", "FixedParameters")
            or not kind
            or not all(re.fullmatch(NUMBER, one) for one in numbers)
        ):
            raise _no_transform(path)
        if (field == "Parameters" and len(numbers) != wanted) or (
            field == "FixedParameters" and len(numbers) > _MOST_FIXED
        ):
            raise InputError(
                f"{name_of(path)} is damaged: its {kind} has {len(numbers)} {field} where {wanted} are needed; save the transform again."
            )
    if not seen:
        raise _no_transform(path)


def _no_transform(path: Path) -> InputError:
    return InputError(
        f"{name_of(path)} is not a transform file that ITK can read: give a .tfm, .h5, .txt or .mat file of 3D Slicer, ITK or ANTs. "
        "Bare numbers do not say between which coordinates they lead."
    )


def _not_linear(path: Path) -> InputError:
    return InputError(f"{name_of(path)} does not hold a linear 3D transform; a rigid pose is needed.")


def _matrix(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    try:
        with listening():
            transform = sitk.ReadTransform(str(path))
        linear = transform.GetDimension() == 3 and transform.IsLinear()
        corners = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
        offset, *ends = (np.array(transform.TransformPoint(corner)) if linear else np.zeros(3) for corner in corners)
    except (RuntimeError, ValueError, TypeError, OverflowError):
        raise _no_transform(path) from None
    if not linear:
        raise _not_linear(path)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([end - offset for end in ends], axis=1)
    matrix[:3, 3] = offset
    return matrix


if __name__ == "__main__":
    answer(lambda path: {"matrix": _matrix(path)})
