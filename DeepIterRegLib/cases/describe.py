"""What is read from a file, and what is missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.cta_checks import check_cta
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume, is_mask

if TYPE_CHECKING:
    pass
from DeepIterRegLib.cases.files import is_angiogram


def describe_file(path: Path) -> dict[str, Any]:
    """What is read from a file, and what is missing, by plain names; no patient identity."""
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if is_angiogram(path):
        from DeepIterRegLib.images.dicom import describe

        return describe(path)
    return describe_volume(load_volume(path))


def describe_volume(volume: Volume) -> dict[str, Any]:
    """Grid, orientation and values of a volume."""
    # About 64 slices: the range is for orientation, and a whole head would only take longer.
    values = volume.voxels[:: max(1, volume.voxels.shape[0] // 64)]
    mask = is_mask(volume)
    codes = "".join(
        ("RL", "AP", "SI")[int(np.argmax(np.abs(axis)))][0 if axis[int(np.argmax(np.abs(axis)))] > 0 else 1]
        for axis in volume.affine[:3, :3].T
    )
    k, j, i = volume.voxels.shape
    return {
        "kind": "mask" if mask else "volume",
        "size (i, j, k)": [i, j, k],
        "spacing (mm)": [round(float(s), 4) for s in volume.spacing_mm],
        "axes run towards": codes,
        "centre (RAS mm)": [round(float(c), 2) for c in volume.centre_mm],
        "extent (mm)": [round(n * float(s), 1) for n, s in zip((i, j, k), volume.spacing_mm, strict=True)],
        "values": f"{_short(float(np.nanmin(values)))} to {_short(float(np.nanmax(values)))}"
        + ("" if mask else " (HU)"),
        **({"voxels set": int(np.count_nonzero(volume.voxels))} if mask else {}),
        "notes": list(volume.notes) if mask else _cta_notes(volume),
    }


def _cta_notes(volume: Volume) -> list[str]:
    try:
        return list(check_cta(volume))
    except InputError as error:
        # `info` is asked just when a file does not work: what `register` would refuse is a note here.
        return list(error.problems)


def _short(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.4g}"
