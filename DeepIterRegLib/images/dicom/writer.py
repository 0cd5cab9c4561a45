"""Write a run as X-Ray Angiographic Image Storage with full geometry: phantoms and tests."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid

from DeepIterRegLib.common.errors import GeometryError, InputError
from DeepIterRegLib.geometry import CArm

_DATE = "20000101"  # of all that is written: it tells nothing of a person


@dataclass(frozen=True)
class Place:
    """Where a run stands in a study of several runs.

    Attributes
    ----------
    study
        Runs with the same word are of one study; the word itself is not written.
    number
        Of the series, from 1.
    start_s
        Seconds from the beginning of the study to that of the run, on the same day.
    """

    study: str
    number: int
    start_s: float


def write_xa(
    path: str | Path,
    frames: np.ndarray,
    carm: CArm,
    frame_times_s: Sequence[float] | np.ndarray,
    mask_frames: Sequence[int] = (),
    bits_stored: int = 12,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    place: Place | None = None,
) -> None:
    """Write an anonymous, valid XA file whose values are proportional to X-ray intensity.

    Parameters
    ----------
    path
        Replaced as a whole: written beside, then renamed.
    frames : (t, row, column) uint16
        Detector counts, at most 2**bits_stored - 1. Stored as they are, also under MONOCHROME1.
    carm : CArm
        Its angles, distances, spacing, principal point, mirroring and quarter turns are written.
    frame_times_s : (t,)
        Rising; FrameTime if evenly spaced, else FrameTimeVector.
    mask_frames
        Indices from 0 of the frames before contrast; none leaves the run without MaskSubtractionSequence.
    place
        Without it the run is a study of its own.

    Raises
    ------
    InputError
        Frames, times and mask frames that do not fit together.
    GeometryError
        A view that positioner angles and flips cannot express (a detector rolled by other than quarter turns).
    """
    frames = np.ascontiguousarray(frames)
    times = np.asarray(frame_times_s, dtype=np.float64)
    problems = []
    if frames.ndim != 3 or frames.dtype != np.uint16:
        problems.append(f"Frames are {frames.dtype} of shape {frames.shape}; uint16 (time, row, column) is needed.")
    elif frames.shape[1:] != (carm.rows, carm.columns):
        problems.append(f"Frames are {frames.shape[1:]} px but the C-arm has {(carm.rows, carm.columns)}.")
    elif not 8 < bits_stored <= 16 or int(frames.max()) >= 1 << bits_stored:
        problems.append(f"Frames reach {frames.max()}, which {bits_stored} bits (9 to 16 are possible) cannot hold.")
    if times.shape != (len(frames),) or (np.diff(times) <= 0).any():
        problems.append("Frame times must be one rising number of seconds for each frame.")
    if any(not 0 <= m < len(frames) for m in mask_frames):
        problems.append(f"Mask frames {tuple(mask_frames)} are not all among the frames 0 to {len(frames) - 1}.")
    if problems:
        raise InputError(problems)

    ds = _identity(frames, place)
    _put_geometry(ds, carm)
    _put_times(ds, times)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric
    ds.Rows, ds.Columns = frames.shape[1:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits_stored, bits_stored - 1
    ds.PixelRepresentation = 0
    ds.PixelIntensityRelationship = "LIN"
    ds.PixelIntensityRelationshipSign = 1
    ds.LossyImageCompression = "00"
    ds.RecommendedViewingMode = "SUB" if mask_frames else "NAT"
    if mask_frames:
        mask = Dataset()
        mask.MaskOperation = "AVG_SUB"
        mask.MaskFrameNumbers = [int(m) + 1 for m in mask_frames]
        mask.ApplicableFrameRange = [1, len(frames)]
        ds.MaskSubtractionSequence = [mask]
    ds.PixelData = frames.astype("<u2", copy=False).tobytes()

    path = Path(path)
    beside = path.with_name(path.name + ".part")
    try:
        ds.save_as(beside, enforce_file_format=True)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _identity(frames: np.ndarray, place: Place | None) -> FileDataset:
    """The modules that name nobody; UIDs follow from the pixels, so that a phantom's file is the same every time."""
    entropy = [hashlib.sha256(frames.data).hexdigest()]
    if place is not None:
        # Two runs of a study may show the same, and are two all the same.
        entropy += [place.study, str(place.number)]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = XRayAngiographicImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance", *entropy])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    ds.StudyDate = ds.ContentDate = _DATE
    ds.StudyTime = ds.ContentTime = "000000"
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.PatientBirthDate = ds.PatientSex = ds.StudyID = ""
    ds.Modality = "XA"
    ds.Manufacturer = "DeepIterReg"
    ds.PatientName = ds.PatientID = "PHANTOM"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "Synthetic"
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", *entropy])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", *entropy])
    ds.SeriesNumber = ds.InstanceNumber = 1
    ds.KVP = ds.Exposure = None
    ds.RadiationSetting = "GR"
    ds.PatientPosition = "HFS"
    if place is not None:
        _put_place(ds, place)
    return ds


def _put_place(ds: Dataset, place: Place) -> None:
    """Study, series and times of a run among others."""
    start = datetime.datetime.strptime(_DATE, "%Y%m%d") + datetime.timedelta(seconds=place.start_s)
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", place.study])
    ds.SeriesNumber = ds.AcquisitionNumber = place.number
    ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = start.strftime("%Y%m%d")
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = start.strftime("%H%M%S.%f")


def _put_geometry(ds: Dataset, carm: CArm) -> None:
    turns, flipped = _storage(carm)
    # Spacing and principal point of the stored image; angles do not depend on how it is stored.
    ds.PositionerMotion = "STATIC"
    ds.PositionerPrimaryAngle = _ds(carm.primary_angle_deg)
    ds.PositionerSecondaryAngle = _ds(carm.secondary_angle_deg)
    ds.DistanceSourceToDetector = _ds(carm.sid_mm)
    ds.DistanceSourceToPatient = _ds(carm.sod_mm)
    ds.EstimatedRadiographicMagnificationFactor = _ds(carm.magnification)
    ds.TableMotion = "STATIC"
    ds.ImagerPixelSpacing = [_ds(s) for s in carm.pixel_spacing_mm]
    ds.FieldOfViewShape = "RECTANGLE"
    ds.FieldOfViewRotation = 90 * turns
    ds.FieldOfViewHorizontalFlip = "YES" if flipped else "NO"
    ds.PatientOrientation = [orientation_code(carm.column_axis), orientation_code(carm.row_axis)]

    # The isocentre falls on the middle of the active area, so an area centred there says where it falls.
    upright = _upright(carm, turns, flipped)
    ds.FieldOfViewDimensions = [
        round(s * n) for s, n in zip(carm.pixel_spacing_mm, (carm.rows, carm.columns), strict=True)
    ]
    rows, columns = upright.rows, upright.columns
    cx, cy = upright.principal_point_px
    half = (max(cy + 0.5, rows - 0.5 - cy), max(cx + 0.5, columns - 0.5 - cx))
    ds.DetectorElementSpacing = [_ds(s) for s in upright.pixel_spacing_mm]
    ds.DetectorActiveDimensions = [_ds(2 * h * s) for h, s in zip(half, upright.pixel_spacing_mm, strict=True)]
    ds.FieldOfViewOrigin = [_ds(half[0] - cy - 0.5), _ds(half[1] - cx - 0.5)]


def _storage(carm: CArm) -> tuple[int, bool]:
    """Quarter turns clockwise and then left-right flip that lead from the upright view to `carm`."""
    base = CArm.from_angles(
        carm.primary_angle_deg,
        carm.secondary_angle_deg,
        sid_mm=carm.sid_mm,
        sod_mm=carm.sod_mm,
        rows=carm.rows,
        columns=carm.columns,
        pixel_spacing_mm=carm.pixel_spacing_mm,
    )
    for flipped in (False, True):
        for turns in range(4):
            view = base.turned(turns)
            view = view.mirrored() if flipped else view
            if np.allclose(view.axes, carm.axes, atol=1e-3):
                return turns, flipped
    raise GeometryError(
        "This view's detector is rolled about the beam by other than quarter turns, which DICOM positioner angles cannot express."
    )


def _upright(carm: CArm, turns: int, flipped: bool) -> CArm:
    """The view before `turns` and the flip."""
    return (carm.mirrored() if flipped else carm).turned(-turns)


def _put_times(ds: Dataset, times: np.ndarray) -> None:
    ds.NumberOfFrames = len(times)
    if len(times) < 2:
        return
    steps_ms = np.diff(times) * 1000
    if np.allclose(steps_ms, steps_ms[0], atol=1e-3):
        ds.FrameTime = _ds(float(steps_ms[0]))
        ds.FrameIncrementPointer = 0x00181063
    else:
        ds.FrameTimeVector = [0] + [_ds(float(step)) for step in steps_ms]
        ds.FrameIncrementPointer = 0x00181065


def orientation_code(axis: Sequence[float]) -> str:
    """PatientOrientation code of a RAS direction: letters in order of size, parts under 0.1 left out."""
    letters = ("RL", "AP", "HF")
    order = sorted(range(3), key=lambda i: -abs(axis[i]))
    return "".join(letters[i][0 if axis[i] > 0 else 1] for i in order if abs(axis[i]) > 0.1)


def _ds(value: float) -> str:
    """A DICOM decimal string: at most 16 characters."""
    if not math.isfinite(value):
        raise GeometryError(f"{value} cannot be written to a DICOM file.")
    return f"{value:.9g}"
