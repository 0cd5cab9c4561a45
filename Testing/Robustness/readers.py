"""What each row of the table reads, as commands do: the arrays that came of it, and what was said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import seeds  # noqa: F401  it finds the library

from DeepIterRegLib.common.errors import InputError


@dataclass(frozen=True)
class Read:
    """What came of an input.

    Attributes
    ----------
    arrays
        Pixels or voxels, in an order that does not depend on damage; empty of what has none.
    said
        Notes, and what `info` writes.
    """

    arrays: tuple[np.ndarray, ...]
    notes: tuple[str, ...]
    said: str = ""


def run(path: Path) -> Read:
    """A DSA as `register` reads it, up to its vessels."""
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    angiogram = read_angiogram(path)
    with suppress(InputError):  # no vessels in it: a refusal like others
        segment_dsa(angiogram)
    return Read((angiogram.frames,), angiogram.notes, info(path))


def picture(path: Path) -> Read:
    from xa_files import TYPED

    from DeepIterRegLib.images.dicom import read_angiogram

    angiogram = read_angiogram(path, TYPED)
    return Read((angiogram.frames,), angiogram.notes, info(path))


def tomogram(path: Path) -> Read:
    """A CTA as `register` reads it, up to its head."""
    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.files import load_volume

    volume = load_volume(path)
    with suppress(InputError):
        prepare_cta(volume)
    return Read((volume.voxels,), volume.notes, info(path))


def mask(path: Path) -> Read:
    """Every label of a mask; those that look like pictures as masks of a DSA."""
    from DeepIterRegLib.images.dicom.image_files import IMAGE_SUFFIXES
    from DeepIterRegLib.images.labels import read_labelled
    from DeepIterRegLib.images.masks import read_image_mask

    if path.suffix in IMAGE_SUFFIXES:
        return Read((read_image_mask(path),), (), info(path))
    found = read_labelled(path)
    return Read(tuple(found.union([segment]).voxels for segment in found.segments), found.notes, info(path))


def pose(path: Path) -> Read:
    from DeepIterRegLib.geometry.pose_files import read_pose

    return Read((read_pose(path),), (), info(path))


def matrix(path: Path) -> Read:
    from DeepIterRegLib.common.user_input import matrix_file
    from DeepIterRegLib.geometry import CArm

    found = matrix_file(path, "projection_matrix")
    with suppress(InputError):
        CArm.from_projection_matrix(found, rows=100, columns=100, sid_mm=1000.0)
    return Read((found,), (), info(path))


def points(path: Path) -> Read:
    """Landmarks as the start of a registration takes them, and as an item that is drawn."""
    from xa_files import carm

    from DeepIterRegLib.geometry.landmarks import pose_from_landmarks
    from DeepIterRegLib.registration.landmarks import read_landmarks
    from DeepIterRegLib.results.roadmap.files import read_markups

    if path.suffix == ".csv":
        found = read_landmarks(path)
    else:
        _drawn(read_markups(path))
        whole = path.with_name("whole" + "".join(path.suffixes))
        if not whole.exists():
            shutil.copyfile(path, whole)
        found = read_landmarks(path, whole)
    with suppress(InputError):
        placed = found.on(carm())
        pose_from_landmarks(placed.points_cta_mm, placed.pixels, carm())
    return Read((found.points_cta_mm,), (), info(path))


def table(path: Path) -> Read:
    from DeepIterRegLib.cases.table import missing_paths, read_cases

    cases = read_cases(path)
    missing_paths(cases)
    return Read((), tuple(problem for case in cases for problem in case.problems), info(path))


def model(path: Path) -> Read:
    from DeepIterRegLib.results.roadmap.files import parse_item, things_of

    things = things_of([parse_item(str(path))])
    _drawn(things)
    return Read((), tuple(thing.name for thing in things), info(path))


def _drawn(things: Any) -> None:
    """As `project --item` does."""
    from xa_files import carm

    from DeepIterRegLib.results.roadmap.draw import layer

    layer(things, carm(), np.eye(4))


def result(path: Path) -> Read:
    from DeepIterRegLib.results.report.outputs import carm_of_view, read_registration

    found = read_registration(path)
    carm_of_view(found, 0)
    found.to_json_dict()
    return Read((found.cta_to_carm,), (), "")


def film(path: Path) -> Read:
    """A film as `export --to gif` makes it, whatever run it is."""
    from DeepIterRegLib.common.progress import Progress
    from DeepIterRegLib.results.export.files import ExportJob, export_result

    made = path.with_name("made.gif")
    said = export_result(ExportJob(path, "gif", path / "dsa.dcm", check=False), made, Progress())
    return Read((), tuple(said), "")


def session(path: Path) -> Read:
    """What a session goes on from, what its runs make of one another, and the pose that waits."""
    from DeepIterRegLib.cases.handed import read_handed, waiting
    from DeepIterRegLib.cases.session_folder import kept_runs, open_session
    from DeepIterRegLib.cases.session_rows import row_of
    from DeepIterRegLib.registration.session import by_hand, fitted

    open_session(path)
    kept = kept_runs(path)
    rows = [row_of(one, 0) for one in kept]
    fitted([one.run for one in kept], np.zeros(3))
    for handed, _ in waiting(path):
        given = read_handed(handed)
        for one in kept:
            json.dumps(by_hand(one.run, given.cta_to_carm, given.carm).registration.to_json_dict(), allow_nan=False)
    return Read((), tuple(words for row in rows for words in row.words), "")


def ask_info(number: int) -> None:
    """Whether `info` reads the input of this number too."""
    ASKED["info"] = number % 4 == 0


def info(path: Path) -> str:
    """What `info` says; a refusal is one of its answers."""
    from DeepIterRegLib.cases.describe import describe_file

    if not ASKED["info"]:
        return ""
    try:
        found: Any = describe_file(path)
    except InputError as error:
        found = error.problems
    return str(found)


# `info` reads everything anew: it is asked of every fourth input.
ASKED = {"info": True}
READERS: dict[str, Callable[[Path], Read]] = {
    "DSA run": run,
    "CT": tomogram,
    "NIfTI, NRRD, MHA": tomogram,
    "PNG, TIFF, JPEG, BMP": picture,
    "Masks": mask,
    "zip and DICOMDIR": tomogram,
    "Poses": pose,
    "Matrix files": matrix,
    "Landmarks": points,
    "Tables of cases": table,
    "Models and centrelines": model,
    "registration.json": result,
    "Films": film,
    "Sessions": session,
}
# Of 1,000 inputs: where most can go wrong most is tried, where one takes a second less.
SHARES = {
    "DSA run": 200,
    "CT": 60,
    "NIfTI, NRRD, MHA": 200,
    "PNG, TIFF, JPEG, BMP": 170,
    "Masks": 140,
    "zip and DICOMDIR": 20,
    "Poses": 40,
    "Matrix files": 20,
    "Landmarks": 50,
    "Tables of cases": 20,
    "Models and centrelines": 20,
    "registration.json": 20,
    "Films": 20,
    "Sessions": 20,
}
IMAGES = tuple(name for name, read in READERS.items() if read in (run, tomogram, picture, mask))
