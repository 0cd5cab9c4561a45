"""Are the numbers of a volume of the type that its header names? Another type of as many bytes changes every voxel and no size.

HU below 0 read without their sign are above 64,000; bytes in the wrong order, or bits of another kind of number, are anything.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from DeepIterRegLib.common.errors import InputError

_SAMPLE = 500_000  # voxels looked at
_CT_NUMBERS = (-4096, 8191)  # HU and HU + 1024 of every scanner, but for metal on an extended scale
_MOST_BEYOND = 0.005  # of the voxels: metal, and what reconstruction leaves at edges
_MOST_MEANT, _FEWER = 0.01, 0.2  # lie beyond in the type that is meant, of all and of those that do so as read, at most
_AIR_OR_FAT, _LEAST_AIR_OR_FAT = -200, 0.005  # HU below, and as much of every CT
_KINDS = {"u": "whole numbers without a sign", "i": "whole numbers with a sign", "f": "floating-point numbers"}


def refuse_another_type(voxels: np.ndarray, name: str) -> None:
    """Refuse a CT (k, j, i) whose values are no CT numbers, where the same bytes read as another type are.

    Parameters
    ----------
    voxels
        As read.
    name
        Of the file, or what it is, as a sentence begins with it.

    Raises
    ------
    InputError
    """
    values = _sample(voxels)
    beyond = _beyond(values)
    if beyond <= _MOST_BEYOND:
        return
    for words, others in _read_otherwise(values):
        with np.errstate(invalid="ignore"):
            dark = float(np.mean(others < _AIR_OR_FAT))
        if _beyond(others) < min(_MOST_MEANT, _FEWER * beyond) and dark > _LEAST_AIR_OR_FAT:
            low, high = _CT_NUMBERS
            raise InputError(
                f"{name} names a wrong type of voxels in its header: read as {_words(values.dtype)}, {beyond:.0%} of the values lie "
                f"beyond {low} to {high}, where CT numbers are; as {words} they are CT numbers. Save it again from what it was made of."
            )


def _sample(voxels: np.ndarray) -> np.ndarray:
    """Voxels of an even lattice (N,), in their own type."""
    step = max(1, int(np.ceil((voxels.size / _SAMPLE) ** (1 / 3))))
    return np.ascontiguousarray(voxels[::step, ::step, ::step]).ravel()


def _beyond(values: np.ndarray) -> float:
    """The part of the values that are no CT numbers; the lowest one may fill what was not scanned."""
    low, high = _CT_NUMBERS
    with np.errstate(invalid="ignore"):
        usual = ((values >= low) & (values <= high)) | (values == values.min())
    return 1.0 - float(np.mean(usual))


def _read_otherwise(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same bytes as numbers of other kinds and in the other order, and what each is called."""
    size = values.dtype.itemsize
    if values.dtype.kind not in "uif" or size < 2:
        return
    for swapped in (False, True):
        stored = values.byteswap() if swapped else values
        for kind in "iuf":
            if (kind == "f" and size < 4) or (kind == values.dtype.kind and not swapped):
                continue
            meant = np.dtype(f"{kind}{size}")
            yield _words(meant) + (" in the other order of bytes" if swapped else ""), stored.view(meant)


def _words(dtype: np.dtype) -> str:
    return f"{_KINDS.get(dtype.kind, 'numbers')} of {8 * dtype.itemsize} bits"
