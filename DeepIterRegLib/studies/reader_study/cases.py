"""What a study is made of: registrations of many patients by several methods, from a table or from folders."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.common.shown import called_by, name_of
from DeepIterRegLib.common.tables import read_table
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.studies.reader_study.ranks import EQUAL

COLUMNS = ("patient", "method", "folder")
RESULT, PROJECTION, OVERLAY = "registration.json", "projection.nii.gz", "overlay.png"
_SAME_MM = 1e-3  # of distances in files, which are written to more digits


@dataclass(frozen=True)
class PatientCase:
    """A patient's registrations.

    Attributes
    ----------
    patient
        As the author calls the patient; stays with the author.
    folders
        Method to a folder that `deepiterreg register` has written; at least two.
    dsa
        File of the angiogram, so that its frames can be shown; None: the folders' finished overlays are shown.
    """

    patient: str
    folders: dict[str, Path]
    dsa: Path | None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every two methods."""
        return list(itertools.combinations(self.folders, 2))

    def carm(self) -> CArm:
        """The view that was registered."""
        return _carm(next(iter(self.folders.values())))


def read_cases(source: Path) -> list[PatientCase]:
    """Cases of a CSV file with the columns `COLUMNS`, and `dsa` if wanted; paths are absolute, or relative to the file.

    A folder instead of a file: PATIENT/METHOD/registration.json under it, and PATIENT/dsa.dcm if there is one.

    Raises
    ------
    InputError
        Everything wrong, each problem with its line.
    """
    rows, problems = _rows_of_folder(source) if source.is_dir() else _rows_of_table(source)
    folders: dict[str, dict[str, Path]] = defaultdict(dict)
    dsas: dict[str, Path] = {}
    for at, patient, method, folder, dsa in rows:
        if method == EQUAL:
            problems.append(f'{at}: "{EQUAL}" cannot name a method; it stands for no preference.')
        if method in folders[patient]:
            problems.append(f"{at}: method {called_by(method)} of patient {called_by(patient)} stands there already.")
        if dsa and dsas.setdefault(patient, dsa) != dsa:
            problems.append(
                f"{at}: patient {called_by(patient)} has another dsa above; give runs of one patient different names."
            )
        needed = [RESULT, PROJECTION] if dsa else [RESULT, OVERLAY, PROJECTION]
        missing = [name for name in needed if not (folder / name).is_file()]
        if missing:
            problems.append(
                f"{at}: folder {name_of(folder)} has no {', '.join(missing)}: the folder of a registration is needed."
            )
        if dsa and not dsa.is_file():
            problems.append(f"{at}: dsa {name_of(dsa)} does not exist.")
        folders[patient][method] = folder
    for patient, methods in folders.items():
        if len(methods) < 2:
            problems.append(
                f"Patient {called_by(patient)} has one method, {called_by(next(iter(methods)))}; a comparison needs two: add a row."
            )
    if not problems:
        problems = [p for patient, methods in folders.items() for p in _view_problems(patient, methods)]
    if problems:
        raise InputError(problems)
    return [PatientCase(patient, methods, dsas.get(patient)) for patient, methods in folders.items()]


ResultRow = tuple[str, str, str, Path, Path | None]  # where it stands, patient, method, folder, dsa


def _rows_of_table(table: Path) -> tuple[list[ResultRow], list[str]]:
    rows, problems = read_table(table, COLUMNS)
    found: list[ResultRow] = []
    beside = table.absolute().parent
    for row in rows:
        at = f"{name_of(table)} line {row.line}"
        empty = [name for name in COLUMNS if not row[name]]
        if empty:
            problems.append(f"{at}: {', '.join(empty)} is empty.")
            continue
        dsa = beside / row["dsa"] if row["dsa"] else None
        found.append((at, row["patient"], row["method"], beside / row["folder"], dsa))
    return found, problems


def _rows_of_folder(folder: Path) -> tuple[list[ResultRow], list[str]]:
    found: list[ResultRow] = []
    for result in sorted(folder.glob(f"*/*/{RESULT}")):
        method, patient = result.parent, result.parent.parent
        dsa = patient / "dsa.dcm"
        at = f"{name_of(patient)}/{name_of(method)}"
        found.append((at, patient.name, method.name, method, dsa if dsa.is_file() else None))
    problems = (
        [] if found else [f"Folder {name_of(folder)} has no PATIENT/METHOD/{RESULT}: give a table or such a folder."]
    )
    return found, problems


def _view_problems(patient: str, methods: dict[str, Path]) -> list[str]:
    """Registrations of one patient that are not of one view; files that say nothing."""
    views: dict[str, CArm] = {}
    problems: list[str] = []
    for method, folder in methods.items():
        try:
            views[method] = _carm(folder)
        except InputError as error:
            told = " ".join(error.problems)
            problems.append(
                f"Patient {called_by(patient)}, method {called_by(method)}: {RESULT} cannot be read ({told.rstrip('.')})."
            )
    for (first, one), (method, other) in itertools.pairwise(views.items()):
        if not _same_view(one, other):
            problems.append(
                f"Patient {called_by(patient)}: {called_by(first)} and {called_by(method)} are not of one view; give runs different names."
            )
    return problems


def _carm(folder: Path) -> CArm:
    tree = read_json(folder / RESULT, "it is damaged, or no result of a registration")
    try:
        return CArm.from_dict(tree["carm"])
    except InputError:
        raise
    except MALFORMED:
        raise InputError("it holds no C-arm") from None


def _same_view(one: CArm, other: CArm) -> bool:
    return (
        (one.rows, one.columns) == (other.rows, other.columns)
        and math.isclose(one.sid_mm, other.sid_mm, abs_tol=_SAME_MM)
        and math.dist(one.source_mm, other.source_mm) < _SAME_MM
    )
