"""A registration as DICOM objects: Spatial Registration, and a picture of the overlay as Secondary Capture.

Without `identify` they belong to nobody: a patient "Anonymous" and UIDs that come from the registration's numbers alone, so
that they refer to no image. With it they join the angiogram's study: `IDENTITY` is copied from its header, and the images
registered are referred to.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DS

from DeepIterRegLib import __version__
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.geometry import CArm, lps_ras
from DeepIterRegLib.images.dicom.ct_series import chosen_series
from DeepIterRegLib.images.dicom.header import open_header
from DeepIterRegLib.images.dicom.run_files import check_xa
from DeepIterRegLib.images.dicom.writer import orientation_code

# Copied from the angiogram's header with `identify`: the patient and study modules, nothing else that names somebody.
IDENTITY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
NOTICE = "Research use only. Not a medical device."
SPATIAL_REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.1"


@dataclass(frozen=True)
class Instance:
    """An image that an object refers to."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frames: int = 1


@dataclass(frozen=True)
class Study:
    """Where derived objects belong, and what they came from.

    Attributes
    ----------
    header
        The `IDENTITY` of the objects.
    run
        The angiogram; None if it must not be named.
    ct
        Slices of the CTA; none if it must not be named, or is no DICOM.
    cta_frame_uid, carm_frame_uid
        Frames of reference: the CTA's, and the C-arm's, whose origin is the isocentre.
    burned_in
        Whether the angiogram's pixels name the patient, as its header says: YES or NO; empty where it does not say.
    salt
        What UIDs are made from.
    """

    header: Dataset
    run: Instance | None
    ct: tuple[Instance, ...]
    cta_frame_uid: str
    carm_frame_uid: str
    burned_in: str
    salt: str

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of what was copied from the angiogram's header and is not empty."""
        return tuple(k for k in IDENTITY if self.run is not None and str(self.header.get(k, "")))

    def uid(self, *words: str) -> str:
        """The same for the same words and registration."""
        return str(generate_uid(entropy_srcs=[self.salt, *words]))


@quoting_nothing()
def read_study(
    dsa: Path, cta: Path | None, salt: str, identify: bool, series: str = "", phase: int | None = None
) -> Study:
    """The study of the angiogram, or nobody's.

    Parameters
    ----------
    dsa
        The XA file.
    cta
        Folder of the CT series; without `identify` it is not looked at.
    salt
        Text of the registration, from which anonymous UIDs come.
    identify
        Copy `IDENTITY` and refer to the images.
    series, phase
        Of the CTA's folder, as `load_volume` takes them.

    Raises
    ------
    InputError
        Not an XA file, no CT series, or UIDs that are missing.
    """
    header = open_header(dsa)
    check_xa(header.dataset, dsa)
    ds = header.dataset
    burned_in = header.text("BurnedInAnnotation")
    burned_in = burned_in if burned_in in ("YES", "NO") else ""
    if not identify:
        own = Dataset()
        own.PatientName, own.PatientID = "Anonymous^", "Anonymous"
        own.PatientIdentityRemoved = "YES"
        own.DeidentificationMethod = "No attribute of the source images is copied"
        own.StudyInstanceUID = generate_uid(entropy_srcs=[salt, "study"])
        cta_frame, carm_frame = (str(generate_uid(entropy_srcs=[salt, word])) for word in ("cta frame", "carm frame"))
        return Study(own, None, (), cta_frame, carm_frame, burned_in, salt)
    lacking = [k for k in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID") if not ds.get(k)]
    if lacking:
        raise InputError(
            Message(f"{name_of(dsa)} has no {', '.join(lacking)}, so nothing can refer to it", at="identify")
        )
    own = Dataset()
    for keyword in IDENTITY:
        if keyword in ds:
            own[keyword] = ds[keyword]
    run = Instance(
        str(ds.SOPClassUID),
        str(ds.SOPInstanceUID),
        str(ds.SeriesInstanceUID),
        str(ds.StudyInstanceUID),
        int(ds.get("NumberOfFrames") or 1),
    )
    salt = f"{salt} {run.sop_instance_uid}"
    ct, frame = _ct_instances(cta, series, phase) if cta is not None and cta.is_dir() else ((), "")
    frame = frame or str(generate_uid(entropy_srcs=[salt, "cta frame"]))
    # Of its own: an XA's frame of reference, where it has one, need not have its origin at the isocentre.
    return Study(own, run, ct, frame, str(generate_uid(entropy_srcs=[salt, "carm frame"])), burned_in, salt)


def _ct_instances(folder: Path, series: str, phase: int | None) -> tuple[tuple[Instance, ...], str]:
    tags = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]
    found, frames = [], set()
    for path in chosen_series(folder, series, phase).files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=True)
        found.append(
            Instance(
                str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), str(ds.get("StudyInstanceUID"))
            )
        )
        frames.add(str(ds.get("FrameOfReferenceUID") or ""))
    if len(frames) > 1:
        raise InputError(
            f"The CT slices in {name_of(folder)} name different frames of reference: give the folder of one series."
        )
    return tuple(found), frames.pop()


# -- Spatial Registration ----------------------------------------------------------------------------------


def write_spatial_registration(path: Path, study: Study, cta_to_carm: np.ndarray) -> None:
    """Write the pose (4, 4), RAS mm, as a Spatial Registration (PS3.3 A.39.1): the CTA's frame to the C-arm's, LPS, RIGID.

    The C-arm's frame is the registered one: its matrix is the identity; the CTA's brings its points there.
    """
    ds = _object(study, SPATIAL_REGISTRATION, "REG", 9001, "DeepIterReg registration")
    ds.FrameOfReferenceUID = study.carm_frame_uid
    ds.PositionReferenceIndicator = ""
    ds.InstanceNumber = 1
    ds.ContentLabel = "CTA_TO_CARM"
    ds.ContentDescription = "CTA to C-arm, origin at the isocentre"
    ds.ContentCreatorName = ""
    matrix = np.asarray(lps_ras(np.asarray(cta_to_carm, dtype=np.float64)))
    runs = () if study.run is None else (study.run,)
    ds.RegistrationSequence = [
        _registered(study.carm_frame_uid, np.eye(4), runs, "125021", "Frame of Reference Identity"),
        _registered(study.cta_frame_uid, matrix, study.ct, "125024", "Image Content-based Alignment"),
    ]
    _refer(ds, [*runs, *study.ct], str(study.header.StudyInstanceUID))
    ds.save_as(path, enforce_file_format=True)


def _registered(frame_uid: str, matrix: np.ndarray, images: Sequence[Instance], code: str, meaning: str) -> Dataset:
    inner = Dataset()
    # Shortened where needed: a decimal string has at most 16 characters (PS3.5 6.2).
    inner.FrameOfReferenceTransformationMatrix = [DS(float(value), auto_format=True) for value in matrix.ravel()]
    inner.FrameOfReferenceTransformationMatrixType = "RIGID"
    outer = Dataset()
    outer.RegistrationTypeCodeSequence = [_code(code, meaning)]
    outer.MatrixSequence = [inner]
    item = Dataset()
    item.FrameOfReferenceUID = frame_uid
    if images:
        item.ReferencedImageSequence = [_reference(image, tuple(range(1, image.frames + 1))) for image in images]
    item.MatrixRegistrationSequence = [outer]
    return item


# -- images ------------------------------------------------------------------------------------------------


def write_secondary_capture(
    path: Path, study: Study, picture: np.ndarray, carm: CArm, frames: Sequence[int], words: str
) -> None:
    """Write a picture (row, column, 3) uint8 of the overlay as a Secondary Capture in colour.

    Parameters
    ----------
    path
    study
    picture
    carm
        The angiogram's view, on the picture's grid.
    frames
        Of the angiogram, from 0, that the picture shows.
    words
        What the picture shows.

    Raises
    ------
    InputError
        highdicom is not installed.
    """
    try:
        from highdicom.sc import SCImage
    except ImportError as missing:
        raise InputError("DICOM images of the overlay need highdicom: pip install 'deepiterreg[dicom]'.") from missing
    orientation = [orientation_code(carm.column_axis), orientation_code(carm.row_axis)]
    frame = _object(study, "1.2.840.10008.5.1.4.1.1.7", "OT", 9002, "DeepIterReg overlay")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = SCImage(
            pixel_array=np.ascontiguousarray(picture),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=(orientation[0][0], orientation[1][0]),
            study_instance_uid=str(frame.StudyInstanceUID),
            series_instance_uid=str(frame.SeriesInstanceUID),
            series_number=int(frame.SeriesNumber),
            sop_instance_uid=study.uid("overlay", words, hashlib.sha256(picture.tobytes()).hexdigest()),
            instance_number=1,
            manufacturer="DeepIterReg",
        )
    _put_common(ds, frame)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = orientation
    ds.ConversionType = "WSD"
    if study.burned_in:
        ds.BurnedInAnnotation = study.burned_in
    elif "BurnedInAnnotation" in ds:  # highdicom's own: what nobody knows must not be said
        del ds.BurnedInAnnotation
    ds.DerivationDescription = f"{words}. {NOTICE}"
    if study.run is not None:
        source = _reference(study.run, tuple(n + 1 for n in frames))
        source.PurposeOfReferenceCodeSequence = [_code("121322", "Source of Image Processing Operation")]
        ds.SourceImageSequence = [source]
        _refer(ds, [study.run], study.run.study_uid)
    ds.save_as(path, enforce_file_format=True)


# -- what all objects share --------------------------------------------------------------------------------


def _object(study: Study, sop_class: str, modality: str, series_number: int, series: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(study.uid(series, "instance"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(ds, keyword, "")  # must be there, may be empty
    ds.PatientName = ds.PatientID = ds.ReferringPhysicianName = ""
    for element in study.header:
        ds[element.tag] = element
    now = datetime.now()
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality = modality
    ds.SeriesInstanceUID = study.uid(series)
    ds.SeriesNumber = series_number
    ds.SeriesDescription = series
    ds.BodyPartExamined = "HEAD"
    ds.ContentDate, ds.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.Manufacturer = ds.ManufacturerModelName = "DeepIterReg"
    ds.DeviceSerialNumber = "none"
    ds.SoftwareVersions = __version__
    return ds


def _put_common(ds: Any, common: Dataset) -> None:
    """What `_object` says over what highdicom said, but for what belongs to the instance."""
    for element in common:
        if element.keyword not in ("SOPInstanceUID", "SOPClassUID", "Modality"):
            ds[element.tag] = element


def _refer(ds: Dataset, images: Sequence[Instance], study_uid: str) -> None:
    """The Common Instance Reference module: what is referred to, by series, in this study and in others."""
    studies: dict[str, dict[str, list[Instance]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        studies[image.study_uid][image.series_uid].append(image)
    listed = {
        uid: [_series(series_uid, series) for series_uid, series in found.items()] for uid, found in studies.items()
    }
    if study_uid in listed:
        ds.ReferencedSeriesSequence = listed.pop(study_uid)
    if listed:
        ds.StudiesContainingOtherReferencedInstancesSequence = [_other_study(*item) for item in listed.items()]


def _series(series_uid: str, images: Sequence[Instance]) -> Dataset:
    item = Dataset()
    item.ReferencedInstanceSequence = [_reference(image) for image in images]
    item.SeriesInstanceUID = series_uid
    return item


def _other_study(study_uid: str, series: list[Dataset]) -> Dataset:
    item = Dataset()
    item.ReferencedSeriesSequence = series
    item.StudyInstanceUID = study_uid
    return item


def _reference(image: Instance, frames: tuple[int, ...] = ()) -> Dataset:
    """A reference to an image, and to frames of it (from 1) if it has several."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.sop_class_uid
    item.ReferencedSOPInstanceUID = image.sop_instance_uid
    if frames and image.frames > 1:
        item.ReferencedFrameNumber = list(frames)
    return item


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
