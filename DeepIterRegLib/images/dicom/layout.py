"""How a file's pixels are laid out, every number of it checked, and whether as many bytes are there."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.dicom.safe_words import coded, whole_number
from DeepIterRegLib.images.dicom.tags import parts_of, syntax_of, tag_name, text_of, value_of, whole_of

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")
MOST_VALUES = 2**30  # of one object: no run and no scan has more, a damaged header may
# Lowest and highest, and what an absent one stands for; None where it must be there.
_NUMBERS: dict[str, tuple[int, int, int | None]] = {
    "Rows": (1, 65535, None),
    "Columns": (1, 65535, None),
    "BitsAllocated": (1, 64, None),
    "NumberOfFrames": (1, 2**31, 1),
    "PixelRepresentation": (0, 1, 0),
}
_VIDEO = "1.2.840.10008.1.2.4.10"  # MPEG-2, MPEG-4, H.264 and HEVC: .100 to .109
_FILM = (
    "it is a film for viewing, whose grey values are no longer the detector's; export the run from the angiography workstation "
    "again, uncompressed or with lossless JPEG."
)


@dataclass(frozen=True)
class Layout:
    """Sizes and types of a file's pixels.

    Attributes
    ----------
    rows, columns, frames
    allocated, stored, high_bit
        Bits.
    signed
    photometric
        MONOCHROME1 or MONOCHROME2.
    keyword
        Of the element that holds them.
    syntax
        Of transfer.
    """

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    keyword: str
    syntax: UID

    @property
    def frame_bytes(self) -> int:
        return (self.rows * self.columns * self.allocated + 7) // 8

    @property
    def total_bytes(self) -> int:
        """Of all frames, uncompressed."""
        return (self.rows * self.columns * self.frames * self.allocated + 7) // 8

    @property
    def compressed(self) -> bool:
        return self.syntax.is_encapsulated

    @property
    def words(self) -> str:
        """What the header says of the size, for messages."""
        return (
            f"{tag_name('Rows')} {self.rows} x {tag_name('Columns')} {self.columns} x {tag_name('NumberOfFrames')} "
            f"{whole_number(self.frames)} x {tag_name('BitsAllocated')} {self.allocated} bits"
        )


def layout_of(dataset: Dataset) -> Layout:
    """The layout of a grey image.

    Raises
    ------
    InputError
        Colour, no frames, no pixels, no decoder, or a number that cannot be: all of them at once.
    """
    problems = [*_colours(dataset), *_absent_pixels(dataset)]
    found: dict[str, int] = {}
    for keyword, (low, high, usual) in _NUMBERS.items():
        empty = value_of(dataset, keyword) in (None, 0)
        if empty and usual is None:
            problems.append(f"{tag_name(keyword)} is absent or 0; the pixels cannot be laid out.")
            continue
        if empty and keyword == "NumberOfFrames":  # 0 is told already
            continue
        try:
            found[keyword] = whole_of(dataset, keyword, low, high, usual)
        except InputError as error:
            problems += error.problems
    stored = high_bit = 0
    if "BitsAllocated" in found:
        try:
            _, stored, high_bit = bits_of(dataset)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return Layout(
        found["Rows"],
        found["Columns"],
        found.get("NumberOfFrames", 1),
        found["BitsAllocated"],
        stored,
        high_bit,
        found["PixelRepresentation"] == 1,
        text_of(dataset, "PhotometricInterpretation") or GREY[1],
        next(keyword for keyword in PIXEL_KEYWORDS if keyword in dataset),
        _decodable(dataset),
    )


def _colours(dataset: Dataset) -> list[str]:
    samples = parts_of(value_of(dataset, "SamplesPerPixel")) or [1]
    photometric = text_of(dataset, "PhotometricInterpretation") or GREY[1]
    if samples == [1] and photometric in GREY:
        return []
    count = samples[0] if isinstance(samples[0], int) and len(samples) == 1 else "an unreadable number of"
    return [
        f"The image is in colour ({tag_name('PhotometricInterpretation')} {coded(photometric)}, {count} samples per pixel): "
        "a screenshot or report, not a run; give the original XA file."
    ]


def _absent_pixels(dataset: Dataset) -> list[str]:
    if value_of(dataset, "NumberOfFrames") == 0:
        return [f"{tag_name('NumberOfFrames')} is 0: the file holds no frames."]
    if not any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        return [
            f"The file has no {tag_name('PixelData')}: a header alone, or cut short; give the file with its images."
        ]
    return []


def bits_of(dataset: Dataset) -> tuple[int, int, int]:
    """Bits allocated and stored, and the highest of them.

    Raises
    ------
    InputError
        Numbers that cannot be.
    """
    allocated = whole_of(dataset, "BitsAllocated", 1, 64)
    if allocated not in (1, 8, 16, 32, 64):
        raise InputError(
            f"{tag_name('BitsAllocated')} is {allocated}; 1, 8, 16, 32 or 64 are read. Copy the file again, or export it anew."
        )
    stored = whole_of(dataset, "BitsStored", 1, allocated, allocated)
    return allocated, stored, whole_of(dataset, "HighBit", stored - 1, allocated - 1, stored - 1)


def readable_syntaxes() -> tuple[str, ...]:
    """The transfer syntaxes of images that can be decoded here."""
    return tuple(str(syntax) for syntax in AllTransferSyntaxes if _decoder_state(syntax)[0])


def _decoder_state(syntax: UID) -> tuple[bool, list[str]]:
    """Whether there is a decoder, and the packages that it lacks."""
    try:
        decoder = get_decoder(syntax)
        return decoder.is_available, list(decoder.missing_dependencies)
    except (NotImplementedError, ValueError):
        return False, []


def _decodable(dataset: Dataset) -> UID:
    """The transfer syntax, if there is a decoder for it."""
    syntax = syntax_of(dataset)
    standard = not syntax.is_private and syntax.is_transfer_syntax
    name = f"{syntax.name} ({syntax})" if standard else "that the file names, which is none of the standard's"
    if str(syntax).startswith(_VIDEO):
        raise InputError(f"There is no decoder for the transfer syntax {name}: {_FILM}")
    available, missing = _decoder_state(syntax)
    if not available:
        remedy = "install python-gdcm" if missing else "convert the file to one without compression"
        raise InputError(f"There is no decoder for the transfer syntax {name}; {remedy}.")
    return syntax
