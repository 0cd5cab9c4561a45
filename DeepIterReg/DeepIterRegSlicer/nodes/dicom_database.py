"""Runs of the CTA's patient in Slicer's DICOM database, put into the folder that a session looks through.

The database is asked, as its signals tell of nothing that Slicer imports or receives: the indexer (ctkDICOMIndexer) writes through a
database object of its own, in a thread of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.user_input import exists, is_file, is_folder
from DeepIterRegSlicer.words import _

Node = Any
_MODALITIES = ("XA", "RF")


class DatabaseRuns:
    """What of the database has been taken.

    :param cta: node whose patient's runs are wanted; those of patients that come into the database later are handed on too, as one
        person may stand there twice: who they are of is told by their files.
    :raises InputError: no database, or the CTA was not loaded from it.
    """

    def __init__(self, cta: Node) -> None:
        database = getattr(slicer, "dicomDatabase", None)
        if database is None or not database.isOpen:
            raise InputError(
                _(
                    "Slicer's DICOM database is not open: open the module DICOM once, or let the runs come from a folder."
                )
            )
        self._patient = _patientOf(database, cta)
        if not self._patient:
            raise InputError(
                _(
                    "The CTA was not loaded from Slicer's DICOM database, so its patient is not known there: load it with "
                    "Add DICOM Data, or let the runs come from a folder."
                )
            )
        self._others = set(database.patients()) - {self._patient}
        self._taken: set[str] = set()

    def take(self, folder: Path) -> None:
        """Put the runs that are new into a folder; one that cannot be copied now is tried again."""
        database = getattr(slicer, "dicomDatabase", None)
        if database is None or not database.isOpen or not is_folder(folder):
            return
        for uid in [uid for uid in self._instances(database) if uid not in self._taken]:
            source = Path(database.fileForInstance(uid) or "")
            if is_file(source) and _put(source, folder / _nameOf(uid)):
                self._taken.add(uid)

    def _instances(self, database: Any) -> Iterator[str]:
        for patient in database.patients():
            if patient in self._others:
                continue
            for study in database.studiesForPatient(patient):
                for series in database.seriesForStudy(study):
                    if database.fieldForSeries("Modality", series) in _MODALITIES:
                        yield from database.instancesForSeries(series)


def _patientOf(database: Any, cta: Node) -> str:
    """The database's own number of the patient; empty where the CTA is none of its."""
    for uid in (cta.GetAttribute("DICOM.instanceUIDs") or "").split()[:1]:
        series = database.seriesForFile(database.fileForInstance(uid) or "")
        study = database.studyForSeries(series) if series else ""
        return str(database.patientForStudy(study)) if study else ""
    return ""


def _nameOf(uid: str) -> str:
    # Not the UID: it is told in no name of a file.
    return hashlib.sha256(uid.encode()).hexdigest()[:16] + ".dcm"


def _put(source: Path, target: Path) -> bool:
    """The file under another name first, as it is taken when it is whole; a second name of the same file where the disk has those."""
    if exists(target):
        return True
    partial = target.with_suffix(".part")
    try:
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError:
        return False
    return True
