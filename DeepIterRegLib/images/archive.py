"""A .zip as a folder, for as long as it is read: what it would take is known before anything is taken."""

from __future__ import annotations

import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.scratch import temporary_folder
from DeepIterRegLib.common.shown import name_of

MOST_BYTES = 8 * 2**30  # unpacked: a whole study of CT and runs is smaller
MOST_RATIO = 100  # unpacked over packed: images shrink to a third or a tenth, made-up archives to a thousandth
_SMALL_BYTES = 64 * 2**20  # of which any ratio may be
MOST_FILES = 50_000
# What unpacking raises at damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
)


def is_zip(path: Path) -> bool:
    """By what it is, whatever its name says."""
    return path.is_file() and zipfile.is_zipfile(path)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the files of a .zip, gone afterwards.

    Names that are absolute or lead upwards, links and files hidden by a dot are left out, so that nothing is written elsewhere.

    Raises
    ------
    InputError
        No .zip, damaged, with a password, or one that would take more than `MOST_BYTES`, `MOST_FILES` or `MOST_RATIO`.
    """
    with temporary_folder() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [one for one in archive.infolist() if _wanted(one)]
                _refuse_too_much(path, members)
                for member in members:
                    target = folder / Path(*PurePosixPath(member.filename).parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file, 2**20)
        except InputError:
            raise
        except (OSError, *_DAMAGE) as error:
            # Of packed data an OSError has no number: bz2 raises one.
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(
                    f"{name_of(path)} cannot be unpacked into the temporary folder (is the disk full?); unpack it and give the folder."
                ) from None
            raise InputError(
                f"{name_of(path)} is damaged, or packed in a way that cannot be read; copy it again, or unpack it and give the folder."
            ) from None
        yield folder


def _wanted(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if member.is_dir() or not parts or member.filename.startswith(("/", "\\")) or ":" in parts[0]:
        return False
    link = stat.S_ISLNK(member.external_attr >> 16)
    return not link and not any(part == ".." or part.startswith(".") or part == "__MACOSX" for part in parts)


def _refuse_too_much(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if any(member.flag_bits & 1 for member in members):
        raise InputError(f"{name_of(path)} is locked with a password; unpack it and give the folder.")
    if len(members) > MOST_FILES:
        raise InputError(
            f"{name_of(path)} holds {len(members)} files, more than {MOST_FILES}; unpack the CTA's series alone."
        )
    total, packed = sum(m.file_size for m in members), max(1, sum(m.compress_size for m in members))
    if total > MOST_BYTES:
        raise InputError(
            f"{name_of(path)} would take {total / 2**30:.1f} GB unpacked, more than {MOST_BYTES / 2**30:.0f} GB; "
            "unpack the CTA's series alone."
        )
    if total > _SMALL_BYTES and total > MOST_RATIO * packed:
        raise InputError(
            f"{name_of(path)} would grow to {total / packed:.0f} times its size ({total / 2**20:.0f} MB), "
            "which no images do; unpack it if you trust it."
        )
