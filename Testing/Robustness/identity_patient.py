"""A patient whose identity cannot be overlooked: in every header, in the names of files and of folders; and what finds it again."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Python")]

NAME, PATIENT_ID, BIRTH = "MUSTERGEHEIM^ERIKAXYZ", "PID7351924XQ", "19570813"
ACCESSION, INSTITUTION, PHYSICIAN = "ACC4182736K", "KLINIKUM WALDSTERNHEIDE", "OBERDOKTOR^QUIRINUS"
STUDY = "GEHEIMSCHLAGANFALL"
OF_HEADER = (NAME, PATIENT_ID, BIRTH, ACCESSION, INSTITUTION, PHYSICIAN, STUDY)
FOLDER = "Akte_Mustergeheim_Erikaxyz_19570813"
STEM = "Mustergeheim_Erikaxyz"
# What is looked for, in small letters: in files and long texts each whole, in messages every piece of five letters too.
SECRETS = (
    *("mustergeheim", "erikaxyz", "7351924", "19570813", "1957-08-13", "13.08.1957", "4182736"),
    *("waldstern", "oberdoktor", "quirinus", "geheimschlag"),
)
_PIECE = 5
_PIECES = {secret[n : n + _PIECE] for secret in SECRETS for n in range(len(secret) - _PIECE + 1)}
# By chance, or since these are words of ours.
_OURS = {"1957-", "957-0", "3.08.", ".08.1", "08.19", "8.195", ".1957", "13.08"}
_ENCODED = re.compile(rb"[A-Za-z0-9+/]{64,}={0,2}")


def said(text: str) -> list[str]:
    """Pieces of the identity in what was printed or raised."""
    low = text.lower()
    return sorted(piece for piece in _PIECES - _OURS if piece in low)


def held(path: Path) -> list[str]:
    """The identity in a file's bytes, unpacked as far as they are packed."""
    return sorted({secret for data in _layers(path.read_bytes()) for secret in _in_bytes(data)})


def _in_bytes(data: bytes) -> Iterator[str]:
    low = data.lower()
    for secret in SECRETS:
        if secret.encode() in low or secret.encode("utf-16-le") in low:
            yield secret


def _layers(data: bytes) -> Iterator[bytes]:
    """The bytes; those within gzip and zip; long runs of base64 decoded (pictures in pages, binary values in JSON)."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield from _layers(gzip.decompress(data))
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for name in packed.namelist():
                yield name.encode()
                yield from _layers(packed.read(name))
    for found in _ENCODED.finditer(data):
        try:
            yield base64.b64decode(found.group() + b"==", validate=False)
        except ValueError:
            continue


# -- files -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatientFiles:
    """What lies in the patient's folder; every name but those of the headers' tags is the patient's.

    Attributes
    ----------
    folder
    cta, dsa, mask, truth
        NIfTI, XA, vessels, pose; of the head to be registered, or small ones that are only read.
    slices
        Folder of a CT.
    """

    folder: Path
    cta: Path
    dsa: Path
    mask: Path
    truth: Path
    slices: Path


def identify(ds: object) -> None:
    """Put the identity into a dataset."""
    for keyword, value in {
        "PatientName": NAME,
        "PatientID": PATIENT_ID,
        "PatientBirthDate": BIRTH,
        "AccessionNumber": ACCESSION,
        "InstitutionName": INSTITUTION,
        "InstitutionalDepartmentName": INSTITUTION,
        "ReferringPhysicianName": PHYSICIAN,
        "OperatorsName": PHYSICIAN,
        "StudyDescription": STUDY,
        "SeriesDescription": f"{STUDY} {NAME}",
        "ProtocolName": STUDY,
        "StationName": INSTITUTION[:16],
        "Manufacturer": INSTITUTION,
        "ImageComments": f"{NAME} {BIRTH}",
    }.items():
        setattr(ds, keyword, value)


def make_small(folder: Path) -> PatientFiles:
    """Files that are read in milliseconds, in `folder` made anew."""
    from ct_files import write_slices
    from xa_files import written

    from DeepIterRegLib.geometry.pose_files import write_tfm

    shutil.rmtree(folder, ignore_errors=True)
    home = folder / FOLDER
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    dsa = written(home / f"{STEM}_DSA.dcm", identify)
    hu = rng.normal(0, 30, (6, 16, 16)).round().astype(np.int16)
    write_slices(home / f"CT {STEM}", hu, 3, STUDY, change=lambda ds, k: identify(ds), prefix=STEM)
    cta, mask = home / f"{STEM}_CTA.nii.gz", home / f"{STEM}_Maske.nii.gz"
    save_nifti(cta, rng.normal(0, 30, (20, 20, 20)).round().astype(np.int16))
    save_nifti(mask, (rng.random((20, 20, 20)) > 0.7).astype(np.uint8))
    write_tfm(home / f"{STEM}_Lage.tfm", np.eye(4))
    return PatientFiles(home, cta, dsa, mask, home / f"{STEM}_Lage.tfm", home / f"CT {STEM}")


def make_whole(source: Path, folder: Path) -> PatientFiles:
    """The files of a phantom (`write_patient`) as this patient's, in `folder` made anew; its CT has no slices."""
    import nibabel
    import pydicom

    small = make_small(folder)
    ds = pydicom.dcmread(source / "dsa.dcm")
    identify(ds)
    ds.save_as(small.dsa)
    for name, path in (("cta.nii.gz", small.cta), ("arteries.nii.gz", small.mask)):
        image = nibabel.load(source / name)
        save_nifti(path, np.asarray(image.dataobj), image.affine)
    shutil.copy(source / "truth.tfm", small.truth)
    return small


def save_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Voxels (i, j, k) with the identity in every free field of the header."""
    import nibabel

    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    for field, size in (("descrip", 80), ("aux_file", 24), ("intent_name", 16), ("db_name", 18)):
        image.header[field] = f"{NAME} {BIRTH} {PATIENT_ID}"[:size].encode()
    nibabel.save(image, path)


def make_others(patient: PatientFiles) -> list[Path]:
    """Files of every other kind that is read, whole or damaged, with the identity in names, texts and labels."""
    import SimpleITK as sitk
    from PIL import Image

    home, made = patient.folder, []

    def new(ending: str, content: str | bytes) -> None:
        path = home / f"{STEM}_{len(made)}{ending}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        made.append(path)

    text = " ".join(OF_HEADER)
    whole = {path.suffix: path.read_bytes() for path in (patient.cta, patient.dsa, patient.truth)}
    for ending in (
        ".nii.gz",
        ".nii",
        ".nrrd",
        ".nhdr",
        ".mha",
        ".mhd",
        ".dcm",
        ".png",
        ".tif",
        ".jpg",
        ".csv",
        ".json",
    ):
        new(ending, text)
        new(ending, b"")
    for ending in (
        ".tfm",
        ".h5",
        ".mat",
        ".mrk.json",
        ".fcsv",
        ".stl",
        ".ply",
        ".obj",
        ".vtk",
        ".vtp",
        ".swc",
        ".toml",
    ):
        new(ending, text)
    new(".safetensors", text)
    new(".zip", text)
    for part in (0.3, 0.9):
        for suffix, content in whole.items():
            new({".gz": ".nii.gz"}.get(suffix, suffix), content[: int(len(content) * part)])
    new(".mrk.json", json.dumps({"markups": [{"name": text, "controlPoints": [{"label": NAME, "position": None}]}]}))
    new(".csv", f"{NAME},{PATIENT_ID},{BIRTH}\n{PHYSICIAN},=1+1,\n")
    # Names of cases are the person's own.
    new(".csv", f"name,cta,dsa,sid\np1,{patient.cta},{patient.dsa},{STUDY}\np2,{STUDY},{NAME},1\n{NAME},a,b,1\n")
    new(".csv", f"name,x,y,z,column,row\n{NAME},{BIRTH},{STUDY},1,2,3\n")
    new(".csv", f"patient,method,folder\n{NAME},{STUDY},{patient.folder}\n{NAME},{STUDY},{STEM}\n")
    new(".toml", f'[training]\nheads = "{patient.cta}"\n{STUDY} = 1\n[{STEM}]\na = 1\n')
    new(".toml", f'[training]\npatient = "{patient.cta}\n')
    new(".txt", f"1 2 3 {NAME}\n")
    for ending in (".nrrd", ".mha"):
        image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16))
        for key in ("patient", "Segment0_ID", "Segment0_Name"):
            image.SetMetaData(key, text)
        path = home / f"{STEM}_{len(made)}{ending}"
        sitk.WriteImage(image, str(path))
        made.append(path)
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3], labels[3] = 1, 2
    image = sitk.GetImageFromArray(labels)
    for n, name in enumerate((NAME, f"{STUDY} {BIRTH}")):
        image.SetMetaData(f"Segment{n}_ID", f"Segment_{n}")
        image.SetMetaData(f"Segment{n}_Name", name)
        image.SetMetaData(f"Segment{n}_LabelValue", str(n + 1))
    made.append(home / f"{STEM}_{len(made)}.seg.nrrd")
    sitk.WriteImage(image, str(made[-1]))
    made.append(home / f"{STEM}_{len(made)}.jpg")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64)).astype(np.uint8)).save(made[-1])
    data = bytearray(made[-1].read_bytes())
    data[300:330] = NAME.encode() + b"123456789"
    made[-1].write_bytes(bytes(data))
    return made
