"""CTs as DICOM files of every build, for tests: slices, enhanced objects, phases; and a small head whose vessels may be filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

STEP_MM = 2.5


def head(contrast_hu: float = 0.0) -> np.ndarray:
    """HU (k, j, i) int16, 2.5 mm apart, head first last: skull, brain, and arteries with so much contrast."""
    z, y, x = (np.indices((72, 84, 76)) - np.array([34.0, 42.0, 38.0])[:, None, None, None]) * STEP_MM
    skull = np.sqrt((x / 74) ** 2 + (y / 90) ** 2 + (z / 74) ** 2)
    hu = np.full(z.shape, -1000.0)
    hu[skull < 1] = 1100
    hu[skull < 0.88] = 35
    hu += np.random.default_rng(0).normal(0, 4, hu.shape)
    tubes = [np.hypot(x - a, y - b) for a, b in ((-30, 10), (30, 10), (0, 40), (0, -30), (18, -20), (-18, -20))]
    vessel = (np.minimum.reduce(tubes) < 3.5) & (skull < 0.8)
    hu[vessel] += contrast_hu
    return hu.round().astype(np.int16)


def _dataset(sop_class: str, modality: str, rows: int, columns: int, series: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = series, series, modality
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Doe^Jane", "SECRET77", "19610203"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return ds


def write_slices(
    folder: Path,
    hu: np.ndarray,
    number: int = 1,
    description: str = "",
    step_mm: float = STEP_MM,
    change: Callable[[Dataset, int], Any] = lambda ds, k: None,
    rle: bool = False,
    series: str = "",
    prefix: str = "IM",
) -> str:
    """A file for each slice of HU (k, j, i); `change` is called with each dataset and its number from 0. The series' UID."""
    folder.mkdir(exist_ok=True, parents=True)
    series = series or generate_uid()
    for k, one in enumerate(hu):
        ds = _dataset(CTImageStorage, "CT", *one.shape, series)
        ds.SeriesNumber, ds.SeriesDescription, ds.InstanceNumber = number, description, k + 1
        ds.PixelSpacing, ds.SliceThickness = [STEP_MM, STEP_MM], step_mm
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-90.0, -100.0, k * step_mm]
        ds.RescaleSlope, ds.RescaleIntercept = 1, -24
        ds.PixelData = (one + 24).astype("<i2").tobytes()
        ds["PixelData"].VR = "OW"
        change(ds, k)
        if rle:
            ds.compress(RLELossless)
        ds.save_as(folder / f"{prefix}{k:04d}.dcm", enforce_file_format=True)
    return series


def write_enhanced(
    path: Path,
    hu: np.ndarray,
    order: Sequence[int] | None = None,
    sop_class: str = EnhancedCTImageStorage,
    modality: str = "CT",
    change: Callable[[Dataset, int], Any] = lambda frame, k: None,
    rle: bool = False,
    slopes: Sequence[float] | None = None,
) -> None:
    """One file with all slices of HU (k, j, i), stored in an order; `change` is called with each frame's groups and its k."""
    order = list(range(len(hu))) if order is None else list(order)
    ds = _dataset(UID(sop_class), modality, *hu.shape[1:], generate_uid())
    ds.NumberOfFrames = len(order)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [STEP_MM, STEP_MM]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames, stored = [], []
    for k in order:
        slope = slopes[k] if slopes else 1
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-90.0, -100.0, k * STEP_MM]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, k, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [values]
        change(frame, k)
        frames.append(frame)
        stored.append(((hu[k] - k) / slope).round().astype("<i2"))
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = np.stack(stored).tobytes()
    ds["PixelData"].VR = "OW"
    if rle:
        ds.compress(RLELossless)
    ds.save_as(path, enforce_file_format=True)
