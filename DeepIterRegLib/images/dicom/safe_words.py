"""Words of a header that may be shown: free text is never quoted, as it may name the patient; what is in this list names nobody."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from DeepIterRegLib.images.dicom.tags import texts_of, value_of

_MOST = 16  # printable characters
_KERNEL = re.compile(r"[A-Za-z0-9_.+\-/ ]{1,16}")
_NUMBER = re.compile(r"\d(\.\d{1,3})?(mm)?")
_IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName")
# What series of a head's CT are called in the archives of English, German, French, Spanish and Italian hospitals.
_TERMS = """
angio angiography angiographie angiografia arch arterial arterielle art arterie average ax axial bolus bone brain carotid carotis
carotids cerebral cervical circle col contrast contraste control cor coronal cow crane cranial craneo cranio cranium cta ct cct ctp
delay delayed dynamic early enhanced fine fl first head helical iv kopf hals kontrast late lung mip mm mpr mra mr native nativ nc neck
no noncontrast non nonenhanced of os osseux parenchyma perfusion phase plain portal post pre raw recon reformat sag sagittal scan
schaedel schädel second sharp sinus skull slab smooth soft spc spiral stand standard stroke subtracted sub tete tête thick thin third
thorax tof topogram scout localizer localiser tissue tronc troncs tsa tsao unenhanced venous veineux venoes venös vessel vessels
volume vrt w weich willis with without wo xa rotational 3d 3dra dyna dynact vaso
"""
_KNOWN = frozenset(_TERMS.split())
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


def maker(text: str) -> str | None:
    """A manufacturer (free text) by a name that is known; `another` if it is none of these, None if nothing is said."""
    if not text.strip():
        return None
    return next((name for name in _MAKERS if re.search(rf"\b{name}\b", text, re.IGNORECASE)), "another")


def known_words(text: str, names: frozenset[str]) -> str:
    """The words of a free text that name nobody, at most 16 characters: terms of the field, thicknesses; empty if there are none.

    A term that is also one of the patient's `names` is left out.
    """
    words: list[str] = []
    for word in re.split(r"[\s,;:/_()\[\]+\-^]+", text):
        plain = word.lower().strip(".")
        if (plain in _KNOWN or _NUMBER.fullmatch(plain)) and plain not in names:
            if len(" ".join([*words, word])) > _MOST:
                break
            words.append(word)
    return " ".join(words)


def kernel_words(text: str, names: frozenset[str]) -> str:
    """A convolution kernel for messages; empty if it is no code, or holds one of the patient's `names`."""
    text = text.strip()
    if not _KERNEL.fullmatch(text) or any(len(name) > 2 and name in text.lower() for name in names):
        return ""
    return text


def names_of(dataset: Dataset) -> frozenset[str]:
    """What a file says of who its patient is, in parts, lower case: names, numbers, the birth date and its parts."""
    found: set[str] = set()
    for keyword in _IDENTITY:
        text = "\\".join(texts_of(value_of(dataset, keyword))).lower()
        found |= {part for part in re.split(r"[^\w]+|_", text) if part}
        if keyword == "PatientBirthDate" and len(text) == 8:
            found |= {text[:4], text[2:4], text[4:6], text[6:], text[6:].lstrip("0"), text[4:6].lstrip("0")}
    return frozenset(found)
