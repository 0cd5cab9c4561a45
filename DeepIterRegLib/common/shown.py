"""What may be shown of a path, of text that is not ours, or of an exception: nothing that may name a patient.

Whoever writes, prints or raises something takes what came from outside through here. Known words name nobody; what is not
known stays out, and is told in other words.
"""

from __future__ import annotations

import math
import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import wraps
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar

LARGEST = 100_000
MOST = 16  # printable characters of a text from outside
_DIGITS = 4  # in all: a fifth could be that of a birth date or a number of a patient
_NEARLY = 0.8  # of `difflib`: a slip of the keyboard, not another word
_THICKNESS = re.compile(r"\d(\.\d{1,3})?(mm)?")
# What series of a head's CT are called in the archives of English, German, French, Spanish and Italian hospitals.
_SERIES = """
angio angiography angiographie angiografia arch arterial arterielle art arterie average ax axial bolus bone brain carotid carotis
carotids cerebral cervical circle col contrast contraste control cor coronal cow crane cranial craneo cranio cranium cta ct cct ctp
delay delayed dynamic early enhanced fine fl first head helical iv kopf hals kontrast late lung mip mm mpr mra mr native nativ nc neck
no noncontrast non nonenhanced of os osseux parenchyma perfusion phase plain portal post pre raw recon reformat sag sagittal scan
schaedel schädel second sharp sinus skull slab smooth soft spc spiral stand standard stroke subtracted sub tete tête thick thin third
thorax tof topogram scout localizer localiser tissue tronc troncs tsa tsao unenhanced venous veineux venoes venös vessel vessels
volume vrt w weich willis with without wo xa rotational 3d 3dra dyna dynact vaso
"""
# Of vessels and of points on them.
_ANATOMY = """
a1 a2 aca acom anterior arteries artery basilar ba bifurcation branch cavernous clot confluence cortical deep distal dural external eca
frontal ica ima inferior internal jugular l left lica lateral m1 m2 m3 mca medial middle origin p1 p2 pca pcom posterior proximal r right
rica siphon straight superficial superior sylvian t terminus tip top torcula transverse trunk vein veins vertebral vert va
"""
# Of files, and what this program calls its own.
_FILES = """
absent analysis anonymous answers ap arrival author auto background bad bare best big bmp broken calibration carm case cases
ckpt config copy cpu csv cuda curve curves cut damaged data dcm deepiterreg demo dicom dicomdir dsa dsas empty error export f
false fcsv fid fids fiducials file files fixed folder frame frames full gif gpu gz h5 half hdf5 hdr html id ids im ima image
images img in inf init initial input inputs item items jpeg jpg json key label labelmap labels landmarks large last lat layer
legacy line list lps map markups mask masks mat matrix maybe md mesh metrics mha mhd minip model models moved moving mp4 mrb mrk
mrml name names nan network new nhdr nii no none not notes npz nrrd obj old one other out output overlay overlays p paired part
pat patient pdf phantom ply png point points pose poses probability project projection projections ranks ranks1 ranks2 ras read
reader readers reference registration report reports result results roadmap run runs safetensors sample score second seg segment
segmentation segmentations segments series set settings sheet short side slice slices small some start stl study subject
subtraction summary swc table tables tar test text tfm third tif tiff time to toml top train training transform transforms true
truth tsv two txt unnamed us vesselness view views volumes vtk vtp weights whole work wrong x y yes z zip
"""
_KNOWN = frozenset((_SERIES + _ANATOMY + _FILES).split())
_OF_SERIES = frozenset(_SERIES.split())

P = ParamSpec("P")
T = TypeVar("T")

# -- words -----------------------------------------------------------------------------------------------


def names_nobody(text: str) -> bool:
    """Whether a text is made of known words, single letters and at most four digits (zeros in front do not count)."""
    digits = 0
    for chunk in re.findall(r"[^\W_]+", text):
        if chunk.lower() in _KNOWN:
            continue
        for piece in re.findall(r"\d+|[A-ZÄÖÜ]+(?![a-zäöü])|[^\W\d_]?[^\W\d_A-ZÄÖÜ]*", chunk):
            if piece.isdigit():
                digits += len(piece.lstrip("0"))
            elif len(piece) > 1 and piece.lower() not in _KNOWN:
                return False
    return digits <= _DIGITS


def short(text: str) -> str:
    """The printable characters of a text, at most `MOST`."""
    plain = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return plain if len(plain) <= MOST else plain[: MOST - 3] + "..."


def quoted(text: str, near: Iterable[str] = ()) -> str:
    """A text that a person typed, or that stands in a table: in quotes if it names nobody or is nearly one of `near`."""
    if names_nobody(text) or get_close_matches(text, list(near), 1, _NEARLY):
        return f'"{short(text)}"'
    letters = len(text.strip())
    return f"a text of {letters} letters"


def number_words(value: float, form: str = "g") -> str:
    """A number of a header for a message; from `LARGEST` on, where dates and patients' numbers begin, only that it is so large."""
    if math.isnan(value):
        return "not a number"
    return format(value, form) if abs(value) < LARGEST else f"beyond {LARGEST:,}"


def label_of(text: str) -> str:
    """The name of a segment, point or thing from a file, where it names nobody; else empty."""
    return short(text) if names_nobody(text) else ""


def known_words(text: str, names: frozenset[str]) -> str:
    """The words of a series' description that name nobody, at most `MOST` characters; empty if there are none.

    A term that is also one of the patient's `names` is left out.
    """
    words: list[str] = []
    for word in re.split(r"[\s,;:/_()\[\]+\-^]+", text):
        plain = word.lower().strip(".")
        if (plain in _OF_SERIES or _THICKNESS.fullmatch(plain)) and plain not in names:
            if len(" ".join([*words, word])) > MOST:
                break
            words.append(word)
    return " ".join(words)


# -- paths -----------------------------------------------------------------------------------------------

_ROLE: ContextVar[str] = ContextVar("role", default="")


@contextmanager
def called(role: str) -> Iterator[None]:
    """Within, a file whose name may not be shown is called `<role>`: the id of the option that it was given for."""
    before = _ROLE.set(role)
    try:
        yield
    finally:
        _ROLE.reset(before)


def calling(role: str, function: Callable[P, T]) -> Callable[P, T]:
    """The function, `called(role)` while it works."""

    @wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with called(role):
            return function(*args, **kwargs)

    return within


def name_of(path: str | PurePath, role: str = "") -> str:
    """A file or folder for output: its name as typed, without its folders, where it names nobody; else `<role>`.

    Parameters
    ----------
    path
    role
        What the file is for; without it what `called` says, else file or folder.
    """
    name = PurePath(path).name or "."
    if name in (".", "..") or names_nobody(name):
        return name
    return f"<{role or _ROLE.get() or ('folder' if os.path.isdir(path) else 'file')}>"


def place_of(folder: str | PurePath, *names: str, role: str = "out") -> str:
    """Where an output lies, for whoever asked for it: the folder's name and what follows."""
    return "/".join((name_of(folder, role), *names))


# -- exceptions ------------------------------------------------------------------------------------------

_PACKAGE = str(Path(__file__).resolve().parents[1])
_OTHERS = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib"))


def fault_words(error: BaseException) -> str:
    """The kind of an exception and the last line that it went through outside of other packages; its own text may quote a file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_PACKAGE) or not frame.filename.startswith(_OTHERS)]
    ours: Sequence[Any] = own or frames
    where = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}{where}"
