"""What a DICOM file is, by its class and modality: the one table that tells a run from a CT, a report from a picture."""

from __future__ import annotations

from enum import Enum

from pydicom.dataset import Dataset

from DeepIterRegLib.images.dicom.tags import text_of, uid_of


class Kind(Enum):
    """What a DICOM file is; its value are the words of messages."""

    RUN = "an angiography run"
    BIPLANE_RUN = "a run of the retired bi-plane class, which mixes two views"
    FLUOROSCOPY = "radiofluoroscopy"
    CT = "a slice of a CT"
    ENHANCED_CT = "an enhanced CT, all slices in one file"
    ROTATIONAL_VOLUME = "a 3D volume of a rotational run (X-Ray 3D Angiographic)"
    MR = "an MR image"
    SEGMENTATION = "a segmentation"
    PICTURE = "a screenshot (Secondary Capture)"
    RADIOGRAPH = "a plain radiograph"
    ULTRASOUND = "an ultrasound image"
    VIDEO = "a video"
    REPORT = "a report or another object without an image"
    OTHER = "of another kind"


_CLASS = "1.2.840.10008.5.1.4.1.1."
# The standard, part 4, table B.5-1. Retired classes are read where archives still hold them.
_BY_CLASS = {
    "12.1": Kind.RUN,  # X-Ray Angiographic Image Storage
    "12.1.1": Kind.RUN,  # Enhanced XA
    "12.2": Kind.FLUOROSCOPY,
    "12.2.1": Kind.FLUOROSCOPY,
    "12.3": Kind.BIPLANE_RUN,
    "2": Kind.CT,
    "2.1": Kind.ENHANCED_CT,
    "2.2": Kind.ENHANCED_CT,  # Legacy Converted Enhanced CT
    "13.1.1": Kind.ROTATIONAL_VOLUME,
    "4": Kind.MR,
    "4.1": Kind.MR,
    "4.3": Kind.MR,
    "4.4": Kind.MR,
    "66.4": Kind.SEGMENTATION,
    "66.7": Kind.SEGMENTATION,
    "7": Kind.PICTURE,
    "7.1": Kind.PICTURE,
    "7.2": Kind.PICTURE,
    "7.3": Kind.PICTURE,
    "7.4": Kind.PICTURE,
    "1": Kind.RADIOGRAPH,
    "1.1": Kind.RADIOGRAPH,
    "1.1.1": Kind.RADIOGRAPH,
    "6.1": Kind.ULTRASOUND,
    "3.1": Kind.ULTRASOUND,
    "77.1.1.1": Kind.VIDEO,
    "77.1.2.1": Kind.VIDEO,
    "77.1.4.1": Kind.VIDEO,
}
# Archives and converters write runs under these classes too; the modality then tells.
_RUNS_AT_TIMES = (Kind.FLUOROSCOPY, Kind.PICTURE)
_REPORTS = ("88.", "104.", "11.", "66.1", "66.2", "66.3", "66.5", "481.")
# Where a file names no class that is known here.
_BY_MODALITY = {
    "XA": Kind.RUN,
    "RF": Kind.FLUOROSCOPY,
    "CT": Kind.CT,
    "MR": Kind.MR,
    "SEG": Kind.SEGMENTATION,
    "US": Kind.ULTRASOUND,
    "DX": Kind.RADIOGRAPH,
    "CR": Kind.RADIOGRAPH,
    "SR": Kind.REPORT,
    "PR": Kind.REPORT,
    "KO": Kind.REPORT,
    "OT": Kind.OTHER,
}


def class_name(dataset: Dataset) -> str:
    """The standard's name of the class; empty of any other."""
    uid = uid_of(text_of(dataset, "SOPClassUID"))
    return str(uid.name) if uid.name != uid else ""


def may_hold_run(uid: str) -> bool:
    """Whether objects of a class are runs, or are where their modality says so; of a class that is not known, it may."""
    number = uid.removeprefix(_CLASS)
    if number.startswith(_REPORTS) and number != uid:
        return False
    return _BY_CLASS.get(number, Kind.RUN) in (Kind.RUN, *_RUNS_AT_TIMES)


def kind_of(dataset: Dataset) -> Kind:
    """By the class; by the modality where the class is absent or private."""
    modality = text_of(dataset, "Modality").upper()
    uid = text_of(dataset, "SOPClassUID")
    if uid.startswith(_CLASS):
        number = uid.removeprefix(_CLASS)
        if modality == "XA" and _BY_CLASS.get(number) in _RUNS_AT_TIMES:
            return Kind.RUN
        if number in _BY_CLASS:
            return _BY_CLASS[number]
        if number.startswith(_REPORTS):
            return Kind.REPORT
    return _BY_MODALITY.get(modality, Kind.OTHER)
