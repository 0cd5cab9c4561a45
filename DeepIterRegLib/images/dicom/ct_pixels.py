"""Voxels of a stack, slice by slice into one array; bytes are counted before they are used, as other readers fill what is missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import naming
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.images.dicom.ct_planes import Plane
from DeepIterRegLib.images.dicom.ct_stacks import Series
from DeepIterRegLib.images.dicom.decoding import decoded_frames
from DeepIterRegLib.images.dicom.kinds import Kind
from DeepIterRegLib.images.dicom.layout import layout_of
from DeepIterRegLib.images.dicom.open_file import open_dataset
from DeepIterRegLib.images.dicom.tags import tag_name

_MOST_VOXELS = 2**30  # 1024 x 1024 x 1024: no scanner makes more, a damaged header may
_MOST_SLOPE, _MOST_INTERCEPT = 1 << 10, 1 << 24
_INT16 = np.iinfo(np.int16)


def read_voxels(series: Series) -> np.ndarray:
    """HU (k, j, i): int16 where slopes and intercepts are whole, as nearly always, else float32. No second copy is made.

    Raises
    ------
    InputError
        Fewer bytes than a header says, colour, no decoder, damaged fragments.
    """
    planes = series.planes
    refuse_short(series)
    rows, columns = series.head.rows, series.head.columns
    if len(planes) * rows * columns > _MOST_VOXELS:
        raise InputError(
            f"The series claims {len(planes)} slices of {rows}x{columns} ({series.words}), more than can be read; copy it again."
        )
    dtype = _dtype(series)
    volume: np.ndarray | None = None
    for plane, stored in _stored(planes):
        if stored.shape != (rows, columns):
            raise InputError(
                f"{name_of(plane.file)} holds pixels of {stored.shape[0]}x{stored.shape[1]}, its header says {rows}x{columns}; "
                "copy the series again."
            )
        if volume is None:  # only now is it known that such pixels are really there
            volume = np.empty((len(planes), rows, columns), dtype)
            index = {id(one): n for n, one in enumerate(planes)}
        volume[index[id(plane)]] = _values(stored, plane, dtype)
    assert volume is not None
    return volume


def sampled(series: Series, most: int, factor: int) -> np.ndarray:
    """At most so many slices, evenly chosen, of means of blocks of `factor` x `factor` pixels, float32 (slice, row, column)."""
    planes = series.planes
    chosen = [planes[n] for n in np.unique(np.linspace(0, len(planes) - 1, min(most, len(planes))).round().astype(int))]
    index = {id(one): n for n, one in enumerate(chosen)}
    rows, columns = (n // factor for n in (series.head.rows, series.head.columns))
    out = np.zeros((len(chosen), rows, columns), np.float32)
    for plane, stored in _stored(chosen):
        blocks = stored[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
        out[index[id(plane)]] = blocks.mean(axis=(1, 3), dtype=np.float32) * plane.slope + plane.intercept
    return out


def refuse_short(series: Series) -> None:
    """Raise InputError if a file holds fewer bytes of pixels than its header says."""
    short = [p for p in series.planes if p.pixels.native and p.pixels.found < p.pixels.expected]
    files = list(dict.fromkeys(plane.file for plane in short))
    if not files:
        return
    pixels = short[0].pixels
    count = f"{len(files)} of {len(series.files)} files of the CT series ({series.words}) cannot be decoded"
    raise InputError(
        f"{count}: {name_of(files[0])} holds {pixels.found} bytes of pixels, its header says {pixels.expected} "
        f"({tag_name('Rows')} {series.head.rows} x {tag_name('Columns')} {series.head.columns} x "
        f"{pixels.frames} x {pixels.bits_allocated // 8} bytes). Copy the series again."
    )


def surplus_note(series: Series) -> str:
    """A note on files with more bytes of pixels than their headers say; empty where there are none."""
    # A byte may be added to make the number even.
    more = [p for p in series.planes if p.pixels.native and p.pixels.length > p.pixels.expected + p.pixels.expected % 2]
    if not more:
        filled = [plane for plane in series.planes if plane.pixels.native and _is_filled_up(plane)]
        return (
            f"Zeros stand behind the pixels in {len(filled)} files of the CT, the first is {name_of(filled[0].file)}: bytes may have been "
            "added on the way. If the images look wrong, copy the series again."
            if filled
            else ""
        )
    pixels = more[0].pixels
    return (
        f"{name_of(more[0].file)} of the CT holds {pixels.length:,} bytes of pixels where its header says {pixels.expected:,}: its header "
        "may be damaged. If the images look wrong, copy the series again."
    )


def _is_filled_up(plane: Plane) -> bool:
    """Whether zeros stand behind the pixels of its file, where another element may."""
    place = plane.pixels.place
    if place is None or place.length is None or place.present <= place.length:
        return False
    with plane.file.open("rb") as file:
        file.seek(place.offset + place.length)
        return not any(file.read(8))


def _dtype(series: Series) -> type[np.int16 | np.uint16 | np.float32]:
    planes = series.planes
    if not all(_whole(p.slope, _MOST_SLOPE) and _whole(p.intercept, _MOST_INTERCEPT) for p in planes):
        return np.float32
    if series.head.kind in (Kind.CT, Kind.ENHANCED_CT):
        return np.int16  # no HU lies beyond it, whatever the bits could hold
    ends = [
        (
            0 if not p.pixels.signed else -(1 << (p.pixels.bits_stored - 1)),
            (1 << (p.pixels.bits_stored - p.pixels.signed)) - 1,
        )
        for p in planes
    ]
    values = [end * p.slope + p.intercept for p, pair in zip(planes, ends, strict=True) for end in pair]
    if min(values) >= _INT16.min and max(values) <= _INT16.max:
        return np.int16
    return np.uint16 if min(values) >= 0 and max(values) <= np.iinfo(np.uint16).max else np.float32


def _whole(number: float, most: int) -> bool:
    """Whether a slope or an intercept can be applied to integers without leaving 32 bits."""
    return float(number).is_integer() and abs(number) <= most


def _values(stored: np.ndarray, plane: Plane, dtype: type) -> np.ndarray:
    """Stored values (row, column) after slope and intercept, within the range of the type."""
    if dtype is np.float32:
        return stored.astype(np.float32) * np.float32(plane.slope) + np.float32(plane.intercept)
    if (plane.slope, plane.intercept) == (1, 0) and stored.dtype == dtype:
        return stored
    wide = stored.astype(np.int32)
    if plane.slope != 1:
        wide *= int(plane.slope)
    wide += int(plane.intercept)
    ends = np.iinfo(dtype)
    return np.clip(wide, ends.min, ends.max, out=wide)


def _stored(planes: Sequence[Plane]) -> Iterator[tuple[Plane, np.ndarray]]:
    """Stored values (row, column) of each plane, file by file."""
    by_file: dict[Path, list[Plane]] = defaultdict(list)
    for plane in planes:
        by_file[plane.file].append(plane)
    for path, members in by_file.items():
        members.sort(key=lambda plane: plane.frame)
        if members[0].pixels.native:
            yield from _native(path, members)
        else:
            yield from _decoded(path, members)


def _native(path: Path, members: list[Plane]) -> Iterator[tuple[Plane, np.ndarray]]:
    pixels = members[0].pixels
    assert pixels.place is not None
    size = pixels.bits_allocated // 8
    floating = pixels.place.keyword != "PixelData"
    kind = "f" if floating else "i" if pixels.signed else "u"
    dtype = np.dtype(f"{'>' if pixels.big_endian else '<'}{kind}{size}")
    shape = members[0].head.rows, members[0].head.columns
    try:
        with path.open("rb") as file:
            for plane in members:
                file.seek(pixels.place.offset + plane.frame * pixels.frame_bytes)
                stored = np.fromfile(file, dtype, shape[0] * shape[1])
                if stored.size != shape[0] * shape[1]:
                    raise InputError(f"{name_of(path)} of the CT series is cut short; copy the series again.")
                stored = stored.reshape(shape)
                yield plane, stored if floating else _used_bits(stored, plane)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name_of(path)} of the CT series cannot be decoded; copy the series again.") from None


def _used_bits(stored: np.ndarray, plane: Plane) -> np.ndarray:
    """Without bits above or below those that hold the value: overlays stood there."""
    pixels = plane.pixels
    left = pixels.bits_allocated - 1 - pixels.high_bit
    right = pixels.bits_allocated - pixels.bits_stored
    if right <= 0 or left < 0:
        return stored
    native = stored.astype(stored.dtype.newbyteorder("="))
    native <<= left
    native >>= right  # of signed ones with their sign
    return native


def _decoded(path: Path, members: list[Plane]) -> Iterator[tuple[Plane, np.ndarray]]:
    """By the installed decoders."""
    with naming(name_of(path)):
        dataset = open_dataset(path)
        layout = layout_of(dataset)
        if max(plane.frame for plane in members) >= layout.frames:
            raise InputError(
                f"{tag_name('NumberOfFrames')} is {layout.frames}, but places of more frames are told; copy it again."
            )
        yield from zip(members, decoded_frames(dataset, layout, [plane.frame for plane in members]), strict=True)
