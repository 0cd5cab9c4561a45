"""Words of a header that may be shown: coded values against their lists, codes of kernels, makers; free text is never quoted.

A damaged length lets a value swallow what follows it, a name for instance; what is in these lists names nobody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.uid import UID, UID_dictionary

from DeepIterRegLib.common.shown import MOST, names_nobody, number_words
from DeepIterRegLib.images.dicom.tags import texts_of, value_of

_IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName")
# Defined terms of the coded values that messages show (the standard, part 3), by the keyword that has them.
_TERMS = {
    "Modality": "AR AU BI CR CT DG DOC DX ECG EPS ES FID GM HC HD IO IVUS KO LS MG MR NM OAM OCT OP OPT OT PLAN PR PT PX REG RESP RF RG "
    "RTDOSE RTIMAGE RTPLAN RTRECORD RTSTRUCT RWV SEG SM SMR SR SRF STAIN TG US VA XA XC",
    "PhotometricInterpretation": "MONOCHROME1 MONOCHROME2 PALETTE_COLOR RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_420 YBR_ICT YBR_RCT HSV "
    "ARGB CMYK XYB",
    "PresentationLUTShape": "IDENTITY INVERSE LIN_OD",
    "PixelIntensityRelationship": "LIN LOG DISP",
    "PositionerMotion": "STATIC DYNAMIC",
    "PatientPosition": "HFS HFP HFDR HFDL FFS FFP FFDR FFDL LFP LFS RFP RFS AFDR AFDL PFDR PFDL SITTING",
    "MaskOperation": "NONE AVG_SUB TID REV_TID",
    "ImageType": "ORIGINAL DERIVED PRIMARY SECONDARY SINGLE_PLANE SINGLE_A SINGLE_B BIPLANE_A BIPLANE_B AXIAL LOCALIZER SUBTRACTED "
    "SUBTRACTION SUBTRACT SUB DSA MIXED",
    "PixelSpacingCalibrationType": "GEOMETRY FIDUCIAL",
    "LossyImageCompression": "00 01",
    "FieldOfViewShape": "RECTANGLE ROUND HEXAGONAL",
    "FieldOfViewHorizontalFlip": "YES NO",
    "ShutterShape": "RECTANGULAR CIRCULAR POLYGONAL BITMAP",
    "LUTFunction": "TO_LOG TO_LINEAR",
    "OverlayType": "G R",
    "CodeValue": "113062",
}
SUBTRACTION_WORDS = frozenset(("SUBTRACTED", "SUBTRACTION", "SUBTRACT", "SUB", "DSA"))  # in ImageType, with others
_CODES = frozenset(code for codes in _TERMS.values() for code in codes.split())
_DIRECTIONS = re.compile(
    r"(?!.*([RL]).*[RL])(?!.*([AP]).*[AP])(?!.*([HF]).*[HF])[RLAPHF]{1,3}"
)  # of PatientOrientation
_NUMBER = re.compile(r"[+-]?\d{1,5}(\.\d{1,9})?")
# Siemens (H30s, Br40d), Canon (FC03), Philips (B, UB), GE by name.
_KERNEL = re.compile(r"[A-Z][a-z]?\d{2}[a-z]?|FC\d{2}|[A-Z]|[BUY][A-D]|\d")
_KERNEL_WORDS = """
standard soft std bone boneplus detail edge lung chest sharp smooth head brain plus body hd ultra medium qr br hr
"""
_KERNELS = frozenset(_KERNEL_WORDS.split())
# Of angiography suites and CT scanners, and this program's phantoms.
_MAKERS = (
    "Siemens",
    "Philips",
    "GE",
    "Canon",
    "Toshiba",
    "Shimadzu",
    "Ziehm",
    "Hitachi",
    "Fujifilm",
    "Neusoft",
    "United Imaging",
    "DeepIterReg",
)


def coded(value: object) -> str:
    """A coded value (VR CS) or a number for a message, against the list of what the standard defines; else only that it is none.

    Of several parts each is looked at.
    """
    text = str(value if value is not None else "").strip().upper()
    if not text:
        return "empty"
    parts = [part.strip() for part in text.split("\\")]
    return "\\".join(parts) if all(map(_is_code, parts)) else "unreadable"


def _is_code(part: str) -> bool:
    return part.replace(" ", "_") in _CODES or bool(_NUMBER.fullmatch(part) or _DIRECTIONS.fullmatch(part))


def codes_of(parts: Iterable[str]) -> list[str]:
    """Those of several parts that are codes."""
    return [part for part in parts if part and _is_code(part)]


def whole_number(value: object) -> str:
    """A whole number of a header for a message, up to five digits; else only that it is none."""
    try:
        number = float(str(value))
    except ValueError:
        return "no number"
    if not math.isfinite(number) or number != int(number):
        return "no number"
    return number_words(number, ".0f")


def uid_name(value: object) -> str:
    """What the standard calls a UID (of a class, of a transfer syntax); a UID that it does not have is not shown."""
    text = str(value or "").strip("\0 ")
    return str(UID(text).name) if text in UID_dictionary else "unknown"


def maker(text: str) -> str | None:
    """A manufacturer (free text) by a name that is known; `another` if it is none of these, None if nothing is said."""
    if not text.strip():
        return None
    return next((name for name in _MAKERS if re.search(rf"\b{name}\b", text, re.IGNORECASE)), "another")


def kernel_words(text: str, names: frozenset[str]) -> str:
    """A convolution kernel for messages; empty if it is no code of the makers, or holds one of the patient's `names`."""
    text = text.strip()
    parts = [part for part in re.split(r"[/\\ _+-]", text) if part]
    if not all(_KERNEL.fullmatch(part) or part.lower() in _KERNELS or names_nobody(part) for part in parts):
        return ""
    return "" if len(text) > MOST or any(len(name) > 2 and name in text.lower() for name in names) else text


def names_of(dataset: Dataset) -> frozenset[str]:
    """What a file says of who its patient is, in parts, lower case: names, numbers, the birth date and its parts."""
    found: set[str] = set()
    for keyword in _IDENTITY:
        text = "\\".join(texts_of(value_of(dataset, keyword))).lower()
        found |= {part for part in re.split(r"[^\w]+|_", text) if part}
        if keyword == "PatientBirthDate" and len(text) == 8:
            found |= {text[:4], text[2:4], text[4:6], text[6:], text[6:].lstrip("0"), text[4:6].lstrip("0")}
    return frozenset(found)
