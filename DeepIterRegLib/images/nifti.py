"""NIfTI files (.nii, .nii.gz): read whole or not at all, where ITK and 3D Slicer would put them.

ITK's reader looks at neither sizes nor check sums, sets what is not finite to 0, and leaves a sheared orientation out without a word.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.geometry.lps import voxel_affine_lps_ras
from DeepIterRegLib.images.file_checks import Claim, check_plain, inflate
from DeepIterRegLib.images.placement import check_spacing, implausible_spacing
from DeepIterRegLib.images.volume import Volume

NIFTI_SUFFIXES = (".nii.gz", ".nii")
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
_UNIT_MM = {1: 1000.0, 3: 0.001}  # nifti1.h: NIFTI_UNITS_METER, NIFTI_UNITS_MICRON
_SCANNER = 1  # nifti1.h: NIFTI_XFORM_SCANNER_ANAT
_SAME_MM = 0.5  # qform and sform that differ by less agree: both are rounded


def read_nifti(path: Path) -> Volume:
    """A NIfTI-1 or NIfTI-2 file of one three-dimensional image; scaled voxels become float32.

    Notes say where qform and sform disagree, and of a unit other than mm. The axes may be sheared.

    Raises
    ------
    InputError
        Cut short, damaged, no NIfTI, several images, in colour, or no place in space that makes sense.
    """
    start = _start(path)
    header = _header(start, path)
    claim, offset = _claim(header, path)
    flat, told = _voxels(path, claim, offset, header.get_data_dtype(), compressed=_is_gzip(path))
    voxels = _scaled(flat.reshape(_grid(claim.shape, path)), header, path)
    affine, notes = _affine(header, voxels.shape, path)
    check_spacing(affine, voxels.shape, name_of(path))
    return Volume(voxels, affine, (*notes, told) if told else notes)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def _start(path: Path) -> bytes:
    """The first bytes, decompressed; as many as can be had."""
    with path.open("rb") as file:
        packed = file.read(1 << 16)
    if packed[:2] != _GZIP:
        return packed[:_HEADER_BYTES]
    try:
        return zlib.decompressobj(31).decompress(packed, _HEADER_BYTES)
    except zlib.error:
        raise InputError(
            f"{name_of(path)} is damaged from its start and cannot be decompressed; copy it again."
        ) from None


def _header(start: bytes, path: Path) -> Any:
    """Nibabel's header of the version and byte order that the first bytes tell."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for kind in (Nifti1Header, Nifti2Header):
        size = int(kind.sizeof_hdr)
        for order, endian in (("little", "<"), ("big", ">")):
            if len(start) >= size and int.from_bytes(start[:4], order) == size:  # type: ignore[arg-type]
                return kind(start[:size], endianness=endian, check=False)
    if len(start) < 348:
        raise InputError(
            f"{name_of(path)} cannot be read as a volume: it is cut short, with {len(start)} bytes of a header of 348; copy it again."
        )
    raise InputError(f"{name_of(path)} cannot be read as a volume: it does not begin as NIfTI does; copy it again.")


def _claim(header: Any, path: Path) -> tuple[Claim, int]:
    """What the header says of the voxels, and where they begin."""
    magic = bytes(header["magic"]).rstrip(b"\0")[:3]
    if magic in (b"ni1", b"ni2"):
        raise InputError(
            f"{name_of(path)} keeps its voxels in a file of its own (.img); save it as one file, .nii or .nii.gz."
        )
    if magic not in (b"n+1", b"n+2"):
        raise InputError(
            f"{name_of(path)} cannot be read as a volume: it does not say that it is NIfTI; copy it again."
        )
    try:
        dtype = header.get_data_dtype()
    except Exception:  # nibabel's own error, of a code that the standard does not have
        raise InputError(
            f"{name_of(path)} is damaged: its header names a type of voxels that NIfTI does not have."
        ) from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{name_of(path)} holds colours or complex numbers; one value a voxel is needed.")
    count = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : 1 + count]) if 1 <= count <= 7 else ()
    claim = Claim(name_of(path), shape, dtype.itemsize)
    claim.check(path.stat().st_size)
    offset = float(header["vox_offset"])
    if not int(header.sizeof_hdr) <= offset < 1 << 30:
        raise InputError(
            f"{name_of(path)} is damaged: its header says that voxels begin at byte {offset:g}; copy it again."
        )
    return claim, int(offset)


def _grid(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """Slices, rows, columns; lengths of 1 beyond the third, and a missing third, are no matter."""
    if len(shape) < 2 or any(n > 1 for n in shape[3:]):
        raise InputError(
            f"{name_of(path)} has size {shape}; three dimensions are needed: give one volume of a series, not all of them."
        )
    i, j, k = (*shape, 1)[:3]
    return k, j, i


def _voxels(path: Path, claim: Claim, offset: int, dtype: np.dtype[Any], compressed: bool) -> tuple[np.ndarray, str]:
    """The values as stored, in one row, and a note if there are more of them than there should be."""
    count = claim.total_bytes // claim.value_bytes
    if not compressed:
        told = check_plain(path, claim, offset)
        return np.fromfile(path, dtype, count, offset=offset), told
    with path.open("rb") as file:
        buffer, told = inflate(file, claim, offset)
    return np.frombuffer(buffer, dtype, count, offset=offset), told


def _scaled(stored: np.ndarray, header: Any, path: Path) -> np.ndarray:
    """The values that are meant, in the machine's byte order."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):  # nifti1.h: then nothing is scaled
        slope, intercept = 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise InputError(
            f"{name_of(path)} is damaged: its header scales values by {slope:g} and adds {intercept:g}; save it again."
        )
    if (slope, intercept) == (1.0, 0.0):
        to = np.dtype(np.float32) if stored.dtype.kind == "f" else stored.dtype.newbyteorder("=")
        return stored.astype(to, copy=False)
    values = stored.astype(np.float32)
    values *= np.float32(slope)
    values += np.float32(intercept)
    return values


# -- where the voxels stand ----------------------------------------------------------------------------


def _affine(header: Any, shape: tuple[int, ...], path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Voxel index (i, j, k) to RAS mm (4, 4), and notes.

    As ITK chooses: the sform of the scanner's coordinates, else the qform, else any sform; without either the voxels' axes
    are those of LPS.
    """
    qform, sform = _form(header, "q"), _form(header, "s")
    notes: tuple[str, ...] = ()
    by_sform = sform is not None and (qform is None or int(header["sform_code"]) == _SCANNER)
    chosen = sform if by_sform else qform
    if chosen is None:
        spacing = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
        chosen = voxel_affine_lps_ras(np.diag([*np.where(spacing > 0, spacing, 1.0), 1.0]))
    factor, told = _unit(header, chosen, shape, path)
    chosen = np.diag([factor, factor, factor, 1.0]) @ chosen
    if qform is not None and sform is not None:
        apart = factor * _apart_mm(qform, sform, shape)
        if apart > _SAME_MM:
            used = "sform" if by_sform else "qform"
            notes = (
                f"{name_of(path)} says twice where its voxels stand, and the two differ by up to {apart:.1f} mm (qform and sform); the "
                f"{used} is used, as in 3D Slicer. If left and right or the axes look wrong, save it again from what it was made of.",
            )
    return chosen, (*notes, *told)


def _form(header: Any, which: str) -> np.ndarray | None:
    """The qform or sform (4, 4) as stored; None if the header does not have it, or not one that makes sense."""
    if int(header[f"{which}form_code"]) <= 0:
        return None
    try:
        form = header.get_qform() if which == "q" else header.get_sform()
    except Exception:  # nibabel's own error, of a quaternion that is none
        return None
    usable = np.isfinite(form).all() and abs(np.linalg.det(form[:3, :3])) > 0
    return np.asarray(form, dtype=np.float64) if usable else None


def _unit(header: Any, affine: np.ndarray, shape: tuple[int, ...], path: Path) -> tuple[float, tuple[str, ...]]:
    """Millimetres of the header's unit, and a note if it is another one, or one that cannot be meant."""
    code = int(header["xyzt_units"]) & 7
    factor = _UNIT_MM.get(code, 1.0)
    if factor == 1.0:
        return 1.0, ()
    unit = "metres" if code == 1 else "micrometres"
    scaled = np.diag([factor, factor, factor, 1.0]) @ affine
    if implausible_spacing(scaled, shape) and not implausible_spacing(affine, shape):
        spacing = " x ".join(f"{s:.3g}" for s in np.linalg.norm(affine[:3, :3], axis=0))
        return 1.0, (
            f"{name_of(path)} says that its unit is {unit}; with voxels of {spacing} that must be mm, which is used.",
        )
    return factor, (f"{name_of(path)} is stored in {unit}; its sizes were turned into mm.",)


def _apart_mm(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far two affines put a corner of the grid (k, j, i) apart at most."""
    last = np.array(shape[::-1]) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in last])).reshape(3, -1)
    off = (one - other)[:3, :3] @ corners + (one - other)[:3, 3:]
    return float(np.linalg.norm(off, axis=0).max())
