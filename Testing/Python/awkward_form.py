"""The form of an awkward input: a phantom patient's files, what is made of them, how it is used, and the right outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.dicom import read_angiogram

# How an input is used: as the CTA, the DSA, a mask of the CTA, landmarks, start of a registration, item of a roadmap.
Door = Literal["cta", "dsa", "cta_mask", "landmarks", "pose", "item"]
# Read as if nothing were odd, the same with a note that says what was odd, or refused in one sentence.
Outcome = Literal["ok", "said", "refused"]

# What every file made here holds of its patient, and no message may.
NAME, PATIENT_ID, BIRTH_DATE = "SECRET^HOLDER", "ID77889911", "19610203"
FREE_TEXT = "Call the ward on floor nine before anybody reads these images"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Plain:
    """A phantom patient's folder, and every `step`-th voxel of its CTA; arrays are (i, j, k), affines lead to RAS mm."""

    folder: Path
    step: int = 1

    @cached_property
    def _image(self) -> nib.Nifti1Image:
        return nib.load(self.folder / "cta.nii.gz")

    @cached_property
    def hu(self) -> np.ndarray:
        """CT numbers, int16."""
        n = self.step
        return np.ascontiguousarray(np.asarray(self._image.dataobj)[::n, ::n, ::n]).astype(np.int16)

    @property
    def affine(self) -> np.ndarray:
        return np.asarray(self._image.affine @ np.diag([self.step] * 3 + [1.0]))

    @property
    def step_mm(self) -> float:
        """Between slices."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    @cached_property
    def arteries(self) -> np.ndarray:
        """Bool, on the whole grid of the CTA."""
        return np.asarray(nib.load(self.folder / "arteries.nii.gz").dataobj) > 0

    @property
    def arteries_affine(self) -> np.ndarray:
        return np.asarray(self._image.affine)

    @property
    def truth(self) -> Path:
        return self.folder / "truth.tfm"

    @cached_property
    def cta_to_carm(self) -> np.ndarray:
        """The true pose (4, 4), RAS mm, as the phantom's own record has it."""
        return np.array(json.loads((self.folder / "truth.json").read_text(encoding="utf-8"))["ctaToCarm"])

    @cached_property
    def carm(self) -> CArm:
        """Of the DSA, as its file has it."""
        return read_angiogram(self.folder / "dsa.dcm").carm

    @cached_property
    def points_mm(self) -> np.ndarray:
        """Six points in the arteries that the run shows (6, 3), RAS mm, to a hundredth."""
        every = np.argwhere(self.arteries)[:: max(1, int(self.arteries.sum()) // 600)]
        points = np.round(every @ self.arteries_affine[:3, :3].T + self.arteries_affine[:3, 3], 2)
        seen = points[self.carm.contains(self.carm.project(points, self.cta_to_carm))]
        return np.asarray(seen[:: max(1, len(seen) // 6)][:6])

    @cached_property
    def pixels(self) -> np.ndarray:
        """Where they are seen (6, 2): column, row, to a hundredth."""
        return np.round(self.carm.project(self.points_mm, self.cta_to_carm), 2)

    @property
    def on_dsa_mm(self) -> np.ndarray:
        """The same on the DSA as 3D Slicer loads it (6, 3), RAS mm."""
        row_mm, column_mm = self.carm.pixel_spacing_mm
        return np.c_[self.pixels * (-column_mm, -row_mm), np.zeros(len(self.pixels))]

    def run(self) -> FileDataset:
        """The DSA, with a patient's name and free text in its header."""
        return identified(pydicom.dcmread(self.folder / "dsa.dcm"))


@dataclass(frozen=True)
class Made:
    """What a maker has written.

    Attributes
    ----------
    typed
        What a person types, within the case's folder; empty for the only file, or the folder where there are several.
    shows
        Voxels and affine that the input shows, where it is not the plain CTA.
    """

    typed: tuple[str, ...] = ()
    shows: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Awkward:
    """One case.

    Attributes
    ----------
    says
        A regular expression that a note or the refusal fits; for `ok` it is empty.
    off
        Largest distance of a voxel from its place, in voxels, where rounding was put right.
    alike
        The same within what interpolation and an own subtraction change.
    pose
        A registration with it must give the right pose.
    """

    name: str
    door: Door
    outcome: Outcome
    says: str
    make: Callable[[Plain, Path], Made | None]
    off: float = 0.02
    alike: bool = False
    pose: bool = True

    def write(self, plain: Plain, folder: Path) -> tuple[tuple[str, ...], Made]:
        """Make it in a folder, which is made; the paths to type, which begin with the folder as given."""
        folder.mkdir(parents=True)
        made = self.make(plain, folder) or Made()
        files = sorted(path.name for path in folder.iterdir())
        names = made.typed or (tuple(files) if len(files) == 1 else ("",))
        return tuple(f"{folder}/{name}" if name else str(folder) for name in names), made


def kinds() -> tuple[list[Awkward], Callable[..., Callable[..., Callable[[Plain, Path], Made | None]]]]:
    """An empty list, and the decorator that adds a maker to it, which gives the case its name."""
    cases: list[Awkward] = []

    def case(door: Door, outcome: Outcome, says: str = "", off: float = 0.02, alike: bool = False, pose: bool = True):
        def keep(make):
            cases.append(Awkward(make.__name__, door, outcome, says, make, off, alike, pose))
            return make

        return keep

    return cases, case


# -- writing -------------------------------------------------------------------------------------------


def identified(ds: FileDataset) -> FileDataset:
    """With a patient's identity and free text."""
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = NAME, PATIENT_ID, BIRTH_DATE
    ds.StudyDescription = ds.ImageComments = ds.InstitutionName = ds.Manufacturer = FREE_TEXT
    return ds


def save_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header["descrip"] = FREE_TEXT
    nib.save(image, path)


def new_dataset(
    sop_class: str, modality: str, study: str, series: str, syntax: str = ExplicitVRLittleEndian
) -> Dataset:
    """An object of a patient, without an image."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, generate_uid(), modality
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    return identified(ds)


def without_preamble(path: Path) -> None:
    """Take the 128 bytes and DICM from a file."""
    path.write_bytes(path.read_bytes()[132:])
