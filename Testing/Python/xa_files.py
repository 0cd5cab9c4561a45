"""XA files for tests: a run with one vessel, written, and what may be done to its header and its pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.dicom import GeometryOptions, write_xa
from DeepIterRegLib.images.dicom.header import Header

TYPED = GeometryOptions(
    primary_angle_deg=90, secondary_angle_deg=0, sid_mm=1100, sod_mm=720, pixel_spacing_mm=(0.3, 0.3)
)
ROWS, COLUMNS = 48, 64
ALL_FIVE = ["`primary_angle`", "`secondary_angle`", "`sid`", "`sod`", "`pixel_spacing`"]
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"

Change = Callable[[Dataset], None]


def carm(**changes: object) -> CArm:
    values: dict[str, object] = {
        "primary_angle_deg": -28.5,
        "secondary_angle_deg": 21.9,
        "sid_mm": 1193,
        "sod_mm": 720,
        "rows": ROWS,
        "columns": COLUMNS,
        "pixel_spacing_mm": (0.4, 0.5),
    }
    return CArm.from_angles(**(values | changes))  # type: ignore[arg-type]


def counts(frames: int = 5, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A head's shadow with a vessel (30 % of the beam lost) from frame 2 on, along row 20."""
    r, c = np.indices((rows, columns))
    shade = 3000 * np.exp(-((r - rows / 2) ** 2 + (c - columns / 2) ** 2) / 600.0) + 500
    run = np.repeat(shade[None], frames, axis=0)
    run[2:, 20:22, 10:-10] *= 0.7
    return run.round().astype(np.uint16)


def written(path: Path, change: Change | None = None, frames: int = 5, masks: tuple[int, ...] = (0, 1)) -> Path:
    """An XA file, with whatever `change` does to its tags."""
    write_xa(path, counts(frames), carm(), np.arange(frames) * 0.5, masks)
    if change is not None:
        ds = pydicom.dcmread(path)
        change(ds)
        ds.save_as(path)
    return path


def header(**tags: object) -> Header:
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return Header(ds, {})


def same_view(a: CArm, b: CArm) -> None:
    assert (a.rows, a.columns) == (b.rows, b.columns)
    np.testing.assert_allclose(a.projection_matrix, b.projection_matrix, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(a.pixel_spacing_mm, b.pixel_spacing_mm, rtol=1e-6)


def strip_geometry(ds: Dataset) -> None:
    for keyword in list(ds.dir()):
        if keyword.startswith(
            ("Positioner", "Distance", "Imager", "FieldOfView", "Detector", "Estimated", "PatientOrient")
        ):
            delattr(ds, keyword)


def retag(**tags: object) -> Change:
    def change(ds: Dataset) -> None:
        for keyword, value in tags.items():
            setattr(ds, keyword, value)

    return change


def cut(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]


def recode(path: Path, syntax: str) -> None:
    ds = pydicom.dcmread(path)
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        ds.compress(syntax)
        ds.save_as(path)
    elif syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, overwrite=True)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
