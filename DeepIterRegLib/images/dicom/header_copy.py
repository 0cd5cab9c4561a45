"""The part of a header that registration needs, as text without identity: it stays with the images when the file does not."""

from __future__ import annotations

import json
import re

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.images.dicom.header import Header, functional_groups
from DeepIterRegLib.images.dicom.pixels import is_lossy
from DeepIterRegLib.images.dicom.safe_words import SUBTRACTION_WORDS, coded, uid_name
from DeepIterRegLib.images.dicom.tags import elements_of, number_of, numbers_of, parts_of, value_of, whole_of
from DeepIterRegLib.images.dicom.times import stamped_times
from DeepIterRegLib.images.dicom.vendors import copy_private_values

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_SHADES = tuple(
    name.format(kind)
    for kind in ("Shutter", "Collimator")
    for name in (
        "{}Shape",
        "{}LeftVerticalEdge",
        "{}RightVerticalEdge",
        "{}UpperHorizontalEdge",
        "{}LowerHorizontalEdge",
        "CenterOfCircular{}",
        "RadiusOfCircular{}",
        "VerticesOfThePolygonal{}",
    )
)
# Every tag that this package reads, but for dates, identity and pixels. Nothing else leaves the file.
COPIED = frozenset(
    (
        *_GROUPS,
        *_SHADES,
        *("Modality", "SOPClassUID", "ImageType", "DerivationCodeSequence", "CodeValue", "LossyImageCompression"),
        *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
        *("ModalityLUTSequence", "PixelIntensityRelationshipLUTSequence", "LUTDescriptor", "LUTData", "LUTFunction"),
        *(
            "PixelIntensityRelationship",
            "PixelIntensityRelationshipSign",
            "PresentationLUTShape",
            "FramePixelDataPropertiesSequence",
        ),
        *("MaskSubtractionSequence", "MaskOperation", "MaskFrameNumbers", "MaskSubPixelShift"),
        *("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate", "ShutterOverlayGroup"),
        *("PositionerMotion", "PositionerPrimaryAngle", "PositionerSecondaryAngle"),
        *("PositionerPrimaryAngleIncrement", "PositionerSecondaryAngleIncrement"),
        *("PositionerIsocenterPrimaryAngle", "PositionerIsocenterSecondaryAngle"),
        *("DistanceSourceToDetector", "DistanceSourceToPatient", "DistanceSourceToIsocenter"),
        *("EstimatedRadiographicMagnificationFactor", "ImagerPixelSpacing", "PixelSpacing"),
        *("PixelSpacingCalibrationType", "ObjectPixelSpacingInCenterOfBeam"),
        *("TableMotion", "TableVerticalIncrement", "TableLateralIncrement", "TableLongitudinalIncrement"),
        *("PatientOrientation", "PatientPosition", "FieldOfViewRotation", "FieldOfViewHorizontalFlip"),
        *("FieldOfViewOrigin", "FieldOfViewDimensions", "FieldOfViewDimensionsInFloat", "IntensifierSize"),
        *("DetectorElementSpacing", "DetectorActiveDimensions", "DetectorActiveOrigin"),
        *("PositionOfIsocenterProjection", "FieldOfViewShape", "DetectorBinning"),
    )
)


@quoting_nothing()
def copy_header(header: Header) -> str:
    """JSON of the `COPIED` tags. Dates of frames become the milliseconds between them."""
    copy = _copy_of(header.dataset)
    if is_lossy(header):
        copy.LossyImageCompression = "01"
    group = header.number("ShutterOverlayGroup")
    if group:
        for element in elements_of(header.dataset.group_dataset(int(group))):
            if _says_what_it_should(element, header.dataset):
                copy.add(element)
    copy_private_values(header.dataset, copy)
    frames = whole_of(header.dataset, "NumberOfFrames", 1, 2**31, 1)
    times_s = stamped_times(header, frames) if frames > 1 else None
    if times_s is not None:
        copy.FrameTimeVector = [0.0, *(float(f"{step:.6g}") for step in np.diff(times_s) * 1000)]
    return json.dumps(copy.to_json_dict(suppress_invalid_tags=True), separators=(",", ":"))


def copied_header(text: str) -> Header:
    """Inverse of `copy_header`.

    Raises
    ------
    InputError
        The text is not what `copy_header` writes.
    """
    try:
        dataset = Dataset.from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            "The DICOM values stored with the angiogram cannot be read any more; load the XA file again."
        ) from None
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    return Header(dataset, functional_groups(dataset))


def stored_from_itk(values: np.ndarray, header: Header) -> np.ndarray:
    """Stored values (t, row, column) from what ITK's DICOM reader, and so Slicer, made of them.

    It applies slope and intercept and turns MONOCHROME1 into MONOCHROME2.
    """
    slope, intercept = header.number("RescaleSlope") or 1.0, header.number("RescaleIntercept") or 0.0
    if header.items("ModalityLUTSequence"):
        slope, intercept = 1.0, 0.0
    inverted = header.text("PhotometricInterpretation") == "MONOCHROME1"
    if (slope, intercept) == (1.0, 0.0) and not inverted:
        return values
    stored = np.rint((values.astype(np.float64) - intercept) / slope).astype(np.int32)
    if inverted:
        bits = int(header.number("BitsStored") or 16)
        lowest_and_highest = -1 if header.number("PixelRepresentation") == 1 else (1 << bits) - 1
        stored = lowest_and_highest - stored
    return stored


def _copy_of(dataset: Dataset) -> Dataset:
    copy = Dataset()
    for element in elements_of(dataset):
        if element.keyword not in COPIED:
            continue
        if element.VR == "SQ":
            items = [_copy_of_macros(item) if element.keyword in _GROUPS else _copy_of(item) for item in element.value]
            copy.add_new(element.tag, "SQ", items)
        elif element.keyword == "ImageType":
            copy.add_new(element.tag, "CS", [_image_type_part(part) for part in parts_of(element.value)])
        elif _says_what_it_should(element, dataset):
            copy.add(element)
    return copy


def _copy_of_macros(dataset: Dataset) -> Dataset:
    """Functional groups nest values in macros, whose own names do not matter."""
    copy = _copy_of(dataset)
    for element in elements_of(dataset):
        if element.VR == "SQ" and element.tag not in copy:
            items = [item for item in map(_copy_of_macros, element.value) if len(item)]
            if items:
                copy.add_new(element.tag, "SQ", items)
    return copy


_WORDS = ("CS", "SH", "LO", "ST", "LT", "UT", "AE", "UC", "UR")
_ANOTHER = "OTHER"  # in place of a part of ImageType that no list has
_LARGEST = 1e6  # no value of the geometry, of times or of grey is larger; dates and numbers of patients are


def _says_what_it_should(element: DataElement, dataset: Dataset) -> bool:
    """Whether a value is what its keyword is for: a damaged length, or a writer's mistake, may put anything there."""
    if element.VR in ("OB", "OW", "UN"):
        return _is_as_long_as_told(element, dataset)
    parts = parts_of(element.value)
    if element.VR == "UI":
        return all(uid_name(part) != "unknown" for part in parts)
    if element.VR in _WORDS:
        return all(coded(part) != "unreadable" for part in parts)
    return all(part in (None, "") or abs(number_of(part)) < _LARGEST for part in parts)


def _image_type_part(part: object) -> str:
    """A part of ImageType if a list has it, else what it says of subtraction."""
    text = str(part or "").strip().upper()
    if coded(text) != "unreadable":
        return text
    said = [word for word in re.split(r"[_ ]", text) if word in SUBTRACTION_WORDS]
    return " ".join(said)[:16] or _ANOTHER


def _is_as_long_as_told(element: DataElement, dataset: Dataset) -> bool:
    """Of a look-up table or a shutter's bits: a longer one has swallowed what followed it."""
    if not isinstance(element.value, bytes):
        return False
    if element.keyword == "LUTData":
        count = (numbers_of(value_of(dataset, "LUTDescriptor")) or (0.0,))[0] or 65536
        return len(element.value) in (count, 2 * count)
    sides = [dataset.get((element.tag.group, at)) for at in (0x0010, 0x0011)]
    if not all(side is not None and isinstance(side.value, int) for side in sides):
        return False
    wanted = -(-sides[0].value * sides[1].value // 8)
    return len(element.value) in (wanted, wanted + 1)
