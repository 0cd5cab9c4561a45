"""`slicer.dicomDatabase`: a ctkDICOMDatabase as PythonQt shows it, by what ctkDICOMDatabase.h and ctkDICOMIndexer.cpp of CTK say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIGNALS = (
    "databaseChanged()",
    "patientAdded(int,QString,QString,QString)",
    "studyAdded(QString)",
    "seriesAdded(QString)",
    "instanceAdded(QString)",
    "opened()",
    "closed()",
)


class ctkDICOMDatabase:
    """Lists are tuples, what is not known is an empty text, arguments are texts without names.

    Its signals are there and silent: what Slicer imports or receives is written by the indexer's own database object.
    """

    def __init__(self) -> None:
        self.__dict__["_files"] = {}  # by instance: file, series, study, patient, modality
        self.__dict__["_open"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"ctkDICOMDatabase has no settable attribute {name!r}")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"ctkDICOMDatabase has no attribute {name!r} (or the stand-in lacks it)")

    @property
    def isOpen(self) -> bool:
        return bool(self.__dict__["_open"])

    def closeDatabase(self) -> None:
        self.__dict__["_open"] = False

    def connect(self, signal: str, slot: Any) -> bool:
        if signal not in SIGNALS:
            raise AttributeError(f"signal {signal!r} does not exist on ctkDICOMDatabase")
        return True

    def patients(self) -> tuple[str, ...]:
        return self._some(3)

    def studiesForPatient(self, patient: str, /) -> tuple[str, ...]:
        return self._some(2, 3, patient)

    def seriesForStudy(self, study: str, /) -> tuple[str, ...]:
        return self._some(1, 2, study)

    def instancesForSeries(self, series: str, hits: int = -1, /) -> tuple[str, ...]:
        _text(series)
        found = tuple(uid for uid, held in self.__dict__["_files"].items() if held[1] == series)
        return found if hits < 0 else found[:hits]

    def fileForInstance(self, uid: str, /) -> str:
        _text(uid)
        held = self.__dict__["_files"].get(uid)
        return "" if held is None else str(held[0])

    def seriesForFile(self, path: str, /) -> str:
        _text(path)
        return next((held[1] for held in self.__dict__["_files"].values() if str(held[0]) == path), "")

    def studyForSeries(self, series: str, /) -> str:
        return next(iter(self._some(2, 1, series)), "")

    def patientForStudy(self, study: str, /) -> str:
        return next(iter(self._some(3, 2, study)), "")

    def fieldForSeries(self, field: str, series: str, /) -> str:
        if _text(field) != "Modality":
            raise NotImplementedError(f"{field} is more than the stand-in knows")
        return next(iter(self._some(4, 1, series)), "")

    def importFile(self, path: Path) -> str:
        """Of the stand-in: what *Add DICOM Data* or the listener does with a file; its instance."""
        import pydicom

        found = pydicom.dcmread(path, stop_before_pixels=True)
        who = f"{found.get('PatientID', '')}|{found.get('PatientName', '')}|{found.get('PatientBirthDate', '')}"
        numbers = self.__dict__.setdefault("_patients", {})
        patient = numbers.setdefault(who, str(1 + len(numbers)))
        uid = str(found.SOPInstanceUID)
        held = (path, str(found.SeriesInstanceUID), str(found.StudyInstanceUID), patient, str(found.Modality))
        self.__dict__["_files"][uid] = held
        return uid

    def _some(self, wanted: int, key: int | None = None, value: str = "") -> tuple[str, ...]:
        _text(value)
        files = self.__dict__["_files"].values()
        return tuple(dict.fromkeys(held[wanted] for held in files if key is None or held[key] == value))


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"ctkDICOMDatabase wants a text, not {type(value).__name__}")
    return value
