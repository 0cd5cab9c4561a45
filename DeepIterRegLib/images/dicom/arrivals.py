"""A file that has just arrived: which run it is, of which patient, and whether it is whole; or why it is none, as data."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import struct
import unicodedata
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import quoting_nothing
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.images.dicom.dicomdir import is_dicomdir
from DeepIterRegLib.images.dicom.kinds import Kind, kind_of
from DeepIterRegLib.images.dicom.open_file import DAMAGE, NotDicom, PixelBytes, open_before_pixels
from DeepIterRegLib.images.dicom.run_files import check_xa, open_run
from DeepIterRegLib.images.dicom.tags import text_of, value_of, whole_of
from DeepIterRegLib.images.dicom.times import moment_of

_PATIENT = ("PatientID", "PatientName", "PatientBirthDate")
_TIMES = ("Acquisition", "Content", "Series")  # the first that a file has: when it was made, written, begun
_NUMBERS = ("AcquisitionNumber", "InstanceNumber", "SeriesNumber")  # a run's own number, before that of its place
_ASKED = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "NumberOfFrames", "StudyDate", "AcquisitionDateTime"),
    *_PATIENT,
    *_NUMBERS,
    *(f"{what}{part}" for what in _TIMES for part in ("Date", "Time")),
)
_LARGEST_NUMBER = 99_999  # more digits may be a patient's
_ID_DIGITS = 16  # of a hash: 64 bits, in which no two runs of a session meet
_DICOM_START = 132  # bytes before which no file of DICOM can be told from another
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)  # of compressed pixels (PS3.5, A.4)
_ITEM_HEAD = 8  # bytes: a tag and a length
_PIECE = 1 << 20
_FILES_ASKED = 20  # of a folder: lists and notes may come before the first image


class Reason(Enum):
    """Why a file is no run that can be taken; its value are the words of a page or a log."""

    CUT = "not whole"
    NOT_RUN = "no angiography run"
    NOT_DICOM = "no DICOM"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True)
class Arrival:
    """A run whose file is whole: as many bytes of pixels are there as its header says.

    Attributes
    ----------
    path
    run_id
        A hash of the object's UID and the session's salt.
    patient_id
        A hash of who the patient is and the session's salt; empty where the file does not say it.
    acquired
        When, as the device's clock has it; None where the file does not say it. For order and for differences: a date of an
        examination is not to be shown.
    number
        Of the run as the device counts; None where the file has none, or one so long that it may be a patient's.
    frames
        How many images.
    """

    path: Path
    run_id: str
    patient_id: str
    acquired: datetime.datetime | None
    number: int | None
    frames: int

    @property
    def order(self) -> tuple[datetime.datetime, int, str]:
        """To sort by: time, number, name; those without a time come last."""
        last = self.acquired or datetime.datetime.max
        return last, -1 if self.number is None else self.number, str(self.path)


@dataclass(frozen=True)
class Refusal:
    """A file that is no run that can be taken.

    Attributes
    ----------
    path
    reason
    words
        Whole sentences that quote nothing of the file.
    kind
        What it is, of DICOM that is no run; else None.
    there, expected
        Bytes of a file that is not whole, and as many as it must have at least; None where its header does not say it.
    """

    path: Path
    reason: Reason
    words: str
    kind: Kind | None = None
    there: int | None = None
    expected: int | None = None


class _Cut(Exception):
    """A file ends too early; `expected` is how many bytes it must have at least."""

    def __init__(self, expected: int | None = None) -> None:
        self.expected = expected
        super().__init__()


@quoting_nothing()
def look_at(path: Path, salt: str) -> Arrival | Refusal:
    """What a file is; it is only read.

    Parameters
    ----------
    path
        Of a file that may still grow, go, or be anything.
    salt
        The session's own, from which nobody else's hashes follow: `secrets.token_hex()`.
    """
    try:
        size = path.stat().st_size
        if is_dicomdir(path):
            return Refusal(path, Reason.NOT_RUN, f"{name_of(path)} is a list of files, not a run.", Kind.OTHER)
        if size < _DICOM_START:
            raise _Cut
        return _looked_at(path, salt)
    except NotDicom as error:
        return Refusal(path, Reason.NOT_DICOM, str(error))
    except _Cut as cut:
        return _cut(path, cut.expected)
    except InputError as error:
        return Refusal(path, Reason.UNREADABLE, " ".join(error.problems))
    except OSError as error:
        return Refusal(
            path, Reason.UNREADABLE, f"{name_of(path)} cannot be read: {error.strerror or 'no reason is given'}."
        )


def run_id_of(uid: str, salt: str) -> str:
    """The `run_id` of the object with this UID: 16 hexadecimal digits."""
    return _hashed(salt, "run", uid.strip("\0 "))


def patient_of(path: Path, salt: str) -> str:
    """The `patient_id` of a DICOM file, or of the first in a folder; empty where none says whose it is, as in NIfTI."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    for file in files[:_FILES_ASKED]:
        try:
            with quoting_nothing():
                dataset, _ = open_before_pixels(file, _PATIENT)
                if found := _patient_id(dataset, salt):
                    return found
        except (NotDicom, *DAMAGE):
            continue
    return ""


def _looked_at(path: Path, salt: str) -> Arrival | Refusal:
    """What a file of some length is.

    Raises
    ------
    NotDicom, InputError, OSError, _Cut
    """
    with path.open("rb"):  # whether it may be read at all: readers of DICOM tell a locked file and a damaged one alike
        pass
    dataset, pixels = open_before_pixels(path, _ASKED)
    kind = kind_of(dataset)
    if kind is not Kind.RUN:
        # A class alone tells no run from a picture: the modality, which every image has, stands behind it.
        if pixels is None and not text_of(dataset, "Modality"):
            raise _Cut
        return _no_run(path, dataset, kind)
    _check_length(path, dataset, pixels)
    open_run(path).check_decodable()
    try:
        return Arrival(
            path,
            run_id_of(text_of(dataset, "SOPInstanceUID") or _content_digest(path), salt),
            _patient_id(dataset, salt),
            _acquired(dataset),
            _number(dataset),
            whole_of(dataset, "NumberOfFrames", 0, 2**31, 1) or 1,
        )
    except DAMAGE as error:
        if isinstance(error, (InputError, OSError)):
            raise
        raise InputError(f"{name_of(path)} is damaged and cannot be read as DICOM; copy it again.") from None


def _no_run(path: Path, dataset: FileDataset, kind: Kind) -> Refusal:
    try:
        check_xa(dataset, path)
    except InputError as error:
        return Refusal(path, Reason.NOT_RUN, " ".join(error.problems), kind)
    raise AssertionError("a run is no refusal")


def _cut(path: Path, expected: int | None) -> Refusal:
    try:
        there = path.stat().st_size
    except OSError:
        there = 0
    known = expected is not None and expected > there
    words = (
        f"{name_of(path)} is not whole: {there:,} of {expected:,} bytes are there."
        if known
        else f"{name_of(path)} is not whole: {there:,} bytes are there, and its images are not all among them."
    )
    return Refusal(path, Reason.CUT, words, None, there, expected if known else None)


# -- is it whole? --------------------------------------------------------------------------------------


def _check_length(path: Path, dataset: FileDataset, pixels: PixelBytes | None) -> None:
    """Raise _Cut if a file ends before its pixels do, by the lengths that it says itself."""
    if pixels is None:
        if _is_deflated(dataset):  # it was whole, or it could not have been opened
            return
        raise _Cut
    if pixels.length is not None:
        if pixels.present < pixels.length:
            raise _Cut(pixels.offset + pixels.length)
        return
    with path.open("rb") as file:
        _check_fragments(file, pixels.offset)


def _is_deflated(dataset: FileDataset) -> bool:
    return bool(dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _check_fragments(file: BinaryIO, at: int) -> None:
    """Raise _Cut if compressed pixels have no end; they say their lengths piece by piece."""
    size = file.seek(0, 2)
    while True:
        file.seek(at)
        head = file.read(_ITEM_HEAD)
        if len(head) < _ITEM_HEAD:
            raise _Cut(at + _ITEM_HEAD)
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == _END:
            return
        if not any(head):  # where a copy made room for the whole file first, zeros stand for what is still to come
            raise _Cut
        if (group, element) != _ITEM:  # damaged: the reader of frames says how
            return
        at += _ITEM_HEAD + length
        if at > size:
            raise _Cut(at)


# -- who, when -----------------------------------------------------------------------------------------


def _hashed(salt: str, what: str, *values: str) -> str:
    """A keyed hash of texts; their lengths are in it, so that no two lists are one."""
    told = "".join(f"{len(value)}:{value}" for value in (what, *values))
    return hmac.new(salt.encode(), told.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:_ID_DIGITS]


def _patient_id(dataset: FileDataset, salt: str) -> str:
    """By number, name and birth date, as devices write them: in other letters, with other separators, in other encodings."""
    number, name, born = (str(value_of(dataset, keyword) or "") for keyword in _PATIENT)
    # Of a name in several scripts the first counts: not every device writes the others.
    values = (_letters(number), _letters(name.split("=")[0]), "".join(re.findall(r"\d", born)))
    return _hashed(salt, "patient", *values) if any(values) else ""


def _letters(text: str) -> str:
    """The words of a text without case, accents' ways of writing, and what stands between them."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", plain.replace("_", " ")))


def _acquired(dataset: FileDataset) -> datetime.datetime | None:
    found = _moment(text_of(dataset, "AcquisitionDateTime"))
    for what in _TIMES:
        if found is not None:
            return found
        date = text_of(dataset, f"{what}Date") or text_of(dataset, "StudyDate")
        time = text_of(dataset, f"{what}Time")
        found = _moment(date + time) if date and time else None
    return found


def _moment(text: str) -> datetime.datetime | None:
    """A date and time in digits, down to the second; what is less exact gets zeros."""
    digits, point, fraction = re.sub(r"[-+]\d{4}$", "", text.replace(":", "")).partition(".")
    return moment_of(digits.ljust(len("YYYYMMDDHHMMSS"), "0") + point + fraction) if len(digits) > 8 else None


def _number(dataset: FileDataset) -> int | None:
    for keyword in _NUMBERS:
        try:
            return whole_of(dataset, keyword, 0, _LARGEST_NUMBER)
        except InputError:
            continue
    return None


def _content_digest(path: Path) -> str:
    """In place of a UID that a file lacks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
