"""Whole DICOM files, from which damaged ones are made: runs in every transfer syntax, tomograms of every build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from seeds import CANARY, Seed

# -- runs ----------------------------------------------------------------------------------------------


def _named(ds: Any) -> None:
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{CANARY}^Jane", f"{CANARY}77", "19610203"
    ds.InstitutionName, ds.AccessionNumber, ds.StudyDescription = f"{CANARY} hospital", f"{CANARY}1", f"{CANARY} s"
    ds.SeriesDescription, ds.StudyDate = f"{CANARY} series", "20260101"


def runs(folder: Path) -> Iterator[Seed]:
    import pydicom
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGLSLossless,
        RLELossless,
    )
    from xa_files import recode, written

    at = folder / "DSA run"
    at.mkdir()

    def change(ds: Any) -> None:
        _named(ds)
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PatientOrientation = ["L", "F"]
        ds.ShutterShape, ds.FrameTimeVector = "RECTANGULAR", [0, 500, 500, 500, 500]
        ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 3, 62
        ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 2, 47

    syntaxes = {
        "native": None,
        "implicit": ImplicitVRLittleEndian,
        "big": ExplicitVRBigEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
        "rle": RLELossless,
        "jpegls": JPEGLSLossless,
        "j2k": JPEG2000Lossless,
    }
    for name, syntax in syntaxes.items():
        path = written(at / f"{name}.dcm", change)
        if syntax:
            recode(path, syntax)
        coded = name in ("deflated", "rle", "jpegls", "j2k")
        yield Seed(at.name, path.name, "coded" if coded else "plain", pixels_at(path))
    _jpeg_run(at, change)
    yield Seed(at.name, "jpeg.dcm", "coded", pixels_at(at / "jpeg.dcm"))
    for name, syntax in (("lossless", "1.2.840.10008.1.2.4.70"), ("extended", "1.2.840.10008.1.2.4.51")):
        if _by_gdcm(at / "native.dcm", at / f"{name}.dcm", syntax):
            yield Seed(at.name, f"{name}.dcm", "coded", pixels_at(at / f"{name}.dcm"))
    whole = pydicom.dcmread(written(at / "frames.dcm", change))
    frames = whole.pixel_array
    (at / "frames.dcm").unlink()
    (at / "frames").mkdir()
    del whole.NumberOfFrames, whole.FrameTimeVector
    for n, frame in enumerate(frames):
        whole.InstanceNumber, whole.SOPInstanceUID = n + 1, f"1.2.3.{n + 1}"
        whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
        whole.AcquisitionDateTime = f"2026010110000{n}.5"
        whole.PixelData = frame.tobytes()
        whole.save_as(at / "frames" / f"f{n}.dcm")
    yield Seed(at.name, "frames", "plain", pixels_at(at / "frames" / "f0.dcm"))


def pixels_at(path: Path) -> int:
    """Where pixels begin in a file; 0 in a deflated one."""
    return max(0, path.read_bytes().rfind(b"\xe0\x7f\x10\x00"), path.read_bytes().rfind(b"\x7f\xe0\x00\x10"))


def _jpeg_run(at: Path, change: Callable[[Any], None]) -> None:
    import io

    import pydicom
    from PIL import Image
    from pydicom.encaps import encapsulate
    from xa_files import written

    ds = pydicom.dcmread(written(at / "jpeg.dcm", change))
    frames = (ds.pixel_array / 16).astype(np.uint8)
    streams = []
    for frame in frames:
        Image.fromarray(frame).save(buffer := io.BytesIO(), "JPEG", quality=95)
        streams.append(buffer.getvalue())
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = encapsulate(streams)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    ds.save_as(at / "jpeg.dcm")


def _by_gdcm(source: Path, target: Path, syntax: str) -> bool:
    """A file in a transfer syntax that pydicom does not write; False where it cannot be written here."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    change = gdcm.ImageChangeTransferSyntax()
    kinds = {
        "1.2.840.10008.1.2.4.70": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        "1.2.840.10008.1.2.4.51": gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    }
    if not reader.Read():
        return False
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    change.SetInput(reader.GetImage())
    if not change.Change():
        return False
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    return bool(writer.Write())


# -- tomograms -----------------------------------------------------------------------------------------


def tomograms(folder: Path) -> Iterator[Seed]:
    from ct_files import head, write_enhanced, write_slices
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

    at = folder / "CT"
    at.mkdir()
    hu = head(300)[::2]

    def named(ds: Any, k: int) -> None:
        _named(ds)

    def packed(syntax: str) -> Callable[[Any, int], None]:
        def change(ds: Any, k: int) -> None:
            _named(ds)
            if syntax == DeflatedExplicitVRLittleEndian:
                ds.file_meta.TransferSyntaxUID = syntax
            else:
                ds.compress(syntax)

        return change

    write_slices(at / "slices", hu, change=named, step_mm=5.0)
    yield Seed(at.name, "slices", "plain", pixels_at(at / "slices" / "IM0000.dcm"))
    write_slices(at / "rle", hu, change=named, rle=True, step_mm=5.0)
    yield Seed(at.name, "rle", "coded", pixels_at(at / "rle" / "IM0000.dcm"))
    for name, syntax in (("j2k", JPEG2000Lossless), ("deflated", DeflatedExplicitVRLittleEndian)):
        write_slices(at / name, hu, change=packed(syntax), step_mm=5.0)
        yield Seed(at.name, name, "coded", 0)
    write_enhanced(at / "enhanced.dcm", hu)
    yield Seed(at.name, "enhanced.dcm", "plain", pixels_at(at / "enhanced.dcm"))
    write_enhanced(at / "enhanced_rle.dcm", hu, rle=True)
    yield Seed(at.name, "enhanced_rle.dcm", "coded", pixels_at(at / "enhanced_rle.dcm"))
